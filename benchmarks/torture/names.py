"""Hostile names: HTML and worse as class, subject, domain, file and claim names, in all that is shown.

    python benchmarks/torture/names.py    # a minute

A page, a widget or a figure may show a name, but a browser must not obey it: a page with a hostile name
must have the same elements, handlers and targets as one with a plain name. A name may also be refused with
a ValueError.
"""

from __future__ import annotations

import argparse
import html.parser
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import ROOT, Counts

from segconf_lite.predictions import from_predictions, review_predictions, write_page
from segconf_lite.show.widgets import picture_slider

EVIL = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "</td></table><iframe srcdoc=x>",
    "</script><script>alert(4)</script>",
    "[a](javascript:alert(3))",
    "&lt;script&gt;",
    "{{7*7}} `$(id)`",
    "a\u202eb | c",
)


class Elements(html.parser.HTMLParser):
    """The elements, handlers and targets that a browser would find in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count what could run."""
        seen = [tag] if tag in ("script", "iframe", "object", "embed") else []
        seen += [name for name, _ in attrs if name.startswith("on") or name == "srcdoc"]
        seen += [
            "target" for name, value in attrs if "javascript:" in (value or "") and name in ("href", "src")
        ]
        for what in seen:
            self.found[what] = self.found.get(what, 0) + 1


def elements(page: str) -> dict[str, int]:
    """What could run in a page, with its number."""
    parser = Elements()
    parser.feed(page)
    return parser.found


def report(name: str, folder: Path) -> str:
    """The report on stored predictions whose classes, files, subjects and domain have this name."""
    for k in range(3):
        scores = np.random.default_rng(k).random((3, 2, 9, 9), dtype=np.float32)
        path = folder / f"{name.replace('/', '_')}{k}.npz"
        np.savez(path, probabilities=scores / scores.sum(axis=0))
    labels = {0: "background", 1: name, 2: "b"}
    found = from_predictions(
        folder, labels=labels, domain=lambda _: name, subject=lambda case: f"{case}{name}"
    )
    write_page(review_predictions(found), folder / "page.html", title=name)
    return (folder / "page.html").read_text("utf-8")


def claims(name: str, folder: Path) -> str:
    """The page of the claims, with a claim of this sentence, source and column."""
    sys.path.append(str(ROOT / "book"))
    from ledger_page import ledger_markdown

    claim = {"id": "a-claim", "sentence": f"It {name}", "source": name, "chapter": 1, "statistic": "mean"}
    claim |= {"columns": {"value": name}, "direction": "greater", "seeds": 2, "registered": "2026-01-01"}
    (folder / "claims.yml").write_text(json.dumps([claim]))
    (folder / "results" / "claims").mkdir(parents=True)
    return ledger_markdown(folder)


def figure(name: str, folder: Path) -> str:
    """The page of a figure with a slider whose classes, captions and steps have this name."""
    frames = [np.zeros((3, 3, 3), np.uint8)] * 2
    texts = {"steps": [name, "2"], "control": name, "class_names": ["background", name], "alt": name}
    found = picture_slider(frames, [name, "b"], height=300, **texts)
    return found.to_html(include_plotlyjs=False)


def widget(name: str, folder: Path) -> str:
    """The HTML of a widget whose caption is this name."""
    from segconf_lite.show.widgets import live_picture

    drawn = np.zeros((3, 3, 3), np.uint8)
    box = live_picture(lambda _: (drawn, name), {"case": ["1", name]})
    parts, texts = [box], []
    while parts:
        part = parts.pop()
        parts += getattr(part, "children", ())
        texts += [part.value] if type(part).__name__ in ("HTML", "HTMLMath") else []
    return "".join(texts)


PARTS: dict[str, Callable[[str, Path], str]] = {
    "report on predictions": report,
    "page of the claims": claims,
    "figure with a slider": figure,
    "widget": widget,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="store_true", help="write the counts to book/results/torture.csv")
    chosen, counts = parser.parse_args(), Counts("names", 0)
    for part, build in PARTS.items():
        with tempfile.TemporaryDirectory() as folder:
            plain = elements(build("name", Path(folder)))
        for name in EVIL:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = elements(build(name, Path(folder)))
                except ValueError:
                    found = plain  # refused
            counts.add(
                part, None if found == plain else f"obeyed: {found} of {name!r}, {plain} of a plain name"
            )
    raise SystemExit(counts.report(store=chosen.store) > 0)


if __name__ == "__main__":
    main()
