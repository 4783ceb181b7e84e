"""A mark beside each sentence that relies on a verdict which does not survive the number of claims.

A claim is judged alone at 5 %. Among many claims some verdicts are wrong by chance, so the ledger also says
whether each stands after Holm's correction for all of them. A reader of a chapter sees that here: a dagger
after the link, and one note at the end of the page.
"""

import functools
import re

from evidence import LINK, RESULTS, resolve

from segconf_lite.claims import ledger

__all__ = ["dagger_note", "with_daggers"]

DECIDED = {"holds", "fails"}
DAGGER = '<a class="book-dagger" href="#alone" title="not after Holm\'s correction">†</a>'
NOTE = """<div id="alone"></div>

† Reached for this claim alone. If all claims that were judged are counted (Holm's correction), the
evidence is not enough: the column *Holm* of [What held up]({}claims.md).
"""


@functools.cache
def alone() -> dict[str, str]:
    """Claim -> its verdict, where that does not stand after Holm's correction."""
    table = ledger.overview(RESULTS).query("profile == 'lite' and p_holm > 0.05").drop_duplicates("id")
    return {row.id: row.verdict for row in table.itertuples() if row.verdict in DECIDED}


def with_daggers(text: str) -> str:
    """Markdown with a dagger after each link that names such a claim and relies on its verdict."""

    def marked(link: re.Match[str]) -> str:
        found = resolve(link[2])
        return link[0] + (DAGGER if alone().get(found.target[1:]) in found.relied_on else "")

    return LINK.sub(marked, text)


def dagger_note(text: str, up: str = "") -> str:
    """What the dagger means, for the end of a page that has one, else nothing; ``up`` leads to the book."""
    return NOTE.format(up) if DAGGER in text else ""
