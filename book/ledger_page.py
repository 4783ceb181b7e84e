"""The page "What held up": the register of claims and their stored outcomes as Markdown.

Texts of the register and of tables are shown as they are written: HTML in them is escaped.
"""

import html
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite.claims import Claim, ledger, read_claims, report

RECORDS = "https://github.com/segconf-lite/segconf_lite/blob/main/book/results/claims"


def filled(page: str, book: Path) -> str:
    """The page with its marks replaced by the table of verdicts and that of the intervals' coverage."""
    parts = {
        "<!-- ledger -->": ledger_markdown(book),
        "<!-- coverage -->": coverage_markdown(book / "results/interval_coverage.csv"),
        "<!-- published -->": published_markdown(book / "results/published_false_claims.csv"),
    }
    for mark, text in parts.items():
        page = page.replace(mark, text)
    return page


def coverage_markdown(path: Path) -> str:
    """Coverage of each kind of interval, as `benchmarks/coverage.py` found it, for 4 people and more."""
    lines = ["| interval | values | seeds | people | lowest | mean |", "|---|---|---|---|---|---|"]
    for row in pd.read_csv(path).query("people >= 4").itertuples():
        people = f"{row.people} {row.subjects}"
        numbers = f"{row.lowest:.3f} | {row.mean:.3f}"
        lines.append(f"| {row.method} | {row.distribution} | {row.seeds} | {people} | {numbers} |")
    return "\n".join(lines)


def published_markdown(path: Path) -> str:
    """Probability that an order in a source paper is false, as `benchmarks/false_claims.py` found it."""
    table = pd.read_csv(path)
    keys = ["paper", "method", "rival", "where"]
    wide = table.pivot_table(index=keys, columns="correlation", values="probability", sort=False)
    unsure = int((wide[0.5] > 0.05).sum())
    lines = [f"At a correlation of 0.5, {unsure} of these {len(wide)} comparisons exceed 5 %.", ""]
    lines += ["| paper | said to be better | than | where | " + " | ".join(f"r = {r:g}" for r in wide) + " |"]
    lines += ["|" + "---|" * (len(keys) + wide.shape[1])]
    for names, values in zip(wide.index, wide.to_numpy(), strict=True):
        told = ["< 0.1 %" if value < 1e-3 else f"{100 * value:.1f} %" for value in values]
        lines.append("| " + " | ".join([*names, *told]) + " |")
    return "\n".join(lines)


def ledger_markdown(book: Path) -> str:
    """The table of verdicts, and a section per claim."""
    claims = read_claims(book / "claims.yml")
    shown = ledger.overview(book / "results", claims=claims)
    parts = [_summary(claims, shown)]
    for chapter in sorted({claim.chapter for claim in claims.values()}):
        parts.append(f"## Chapter {chapter}")
        mine = [claim for claim in claims.values() if claim.chapter == chapter]
        parts += [_section(c, shown[shown["id"] == c.id], _before(book, c)) for c in mine]
    return "\n\n".join(parts)


def _summary(claims: dict[str, Claim], shown: pd.DataFrame) -> str:
    own = sum("expected by the authors" in claim.source for claim in claims.values())
    told = report.counts(shown.drop_duplicates("id")["verdict"])
    lines = [
        f"Of {len(claims)} claims, {told}. Of their sources, {own} are, at least in part, what we expected.",
        "",
        "A claim about several groups, such as scanners, has a mark for each: ● holds, ○ undecided, × fails. "
        "*Holm* says whether the verdict also stands when the number of claims is taken into account. "
        "*Contrary* is the probability, under a flat prior, that the truth lies on the other side.",
        "",
        "| verdict | groups | Holm | contrary | claim |",
        "|---|---|---|---|---|",
    ]
    for (name, profile), rows in shown.groupby(["id", "profile"], sort=False):
        first = rows.iloc[0]
        sentence = f"[{_plain(claims[str(name)].words)}](#{name})"
        sentence += "" if profile == "lite" else f" ({profile} profile)"
        decided = first["verdict"] in ("holds", "fails")
        verdict = f"**{first['verdict']}**" + (", negligible" if first["negligible"] else "")
        stands = ("stands" if first["p_holm"] <= 0.05 else "does not") if decided else ""
        contrary = (
            ("< 0.1 %" if first["wrong"] < 1e-3 else f"{100 * first['wrong']:.1f} %") if decided else ""
        )
        lines.append(f"| {verdict} | {report.strip(rows)} | {stands} | {contrary} | {sentence} |")
    return "\n".join(lines)


def _before(book: Path, claim: Claim) -> str:
    """What came out on the earlier seeds, where the claim was judged on those as well."""
    record = ledger.read_record(book / "results", claim.id, "lite", earlier=True)
    if record is None:
        return ""
    return f"On the seeds {record['seeds'][0]} to {record['seeds'][-1]} before: {record['verdict']}."


def _section(claim: Claim, shown: pd.DataFrame, before: str) -> str:
    people = {"drawn": "drawn anew for each seed", "shared": "the same people in every seed"}[claim.subjects]
    text = f"Source: {claim.source}. Registered {claim.registered}. Statistic: {report.statement(claim)}."
    lines = [f"({claim.id})=", f"### {_plain(claim.words)}", "", f"{_plain(text)} Subjects: {people}.", ""]
    lines += [f"Registered sentence: {_plain(claim.sentence)}", ""] if claim.display else []
    for profile, rows in shown.groupby("profile", sort=False):
        first = rows.iloc[0]
        stored = f"; [stored record]({RECORDS}/{claim.id}.{profile}.json)" if first["seeds"] else ""
        lines.append(
            f"**{_plain(report.summary(rows))}** ({profile} profile, {first['seeds']} seeds{stored})"
        )
        if first["seeds"]:
            lines += ["", "| | estimate | 95 % interval | people | verdict |", "|---|---|---|---|---|"]
            lines += [_row(row) for row in rows.itertuples()]
        lines.append("")
    return "\n".join([*lines, before]) if before else "\n".join(lines)


def _row(row: Any) -> str:
    name = "all cases" if row.group == "all" else _plain(row.group)
    numbers = f"{row.estimate:.3g} | {row.low:.3g} to {row.high:.3g} | {row.people}"
    return f"| {name} | {numbers} | {row.group_verdict} |"


def _plain(text: str) -> str:
    """Text without HTML and without the bar that ends a cell of a table."""
    return html.escape(text, quote=False).replace("|", "&#124;")
