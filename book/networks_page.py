"""The page "Your own network": what `benchmarks/networks.py` found, as Markdown."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def with_networks(page: str, path: Path) -> str:
    """The page with its mark replaced by the table, one row per network that was there."""
    table = pd.read_csv(path)
    skipped = table.loc[table["outcome"] == "skipped", "network"].unique()
    tried = table[~table["network"].isin(skipped)]
    counts = tried["outcome"].str.partition(":")[0].value_counts()
    summary = (
        f"Of {len(tried)} pairs of {tried['network'].nunique()} networks and {table['method'].nunique()} "
        f"methods, {counts['works']} work and {counts['refuses']} are refused. Not installed, and so not "
        f"tried: {', '.join(skipped) or 'none'}. `DeepEnsemble` without members asks for them beside every "
        "network but our own `UNet`, and is left out of the table."
    )
    lines = ["| network | works with | says what to write instead |", "|---|---|---|"]
    for name, rows in tried[tried["method"] != "DeepEnsemble"].groupby("network", sort=False):
        works = rows["outcome"] == "works"
        first = "all" if works.all() else "none" if not works.any() else _listed(rows.loc[works, "method"])
        if works.sum() > (~works).sum() > 0:
            first = f"all but {_listed(rows.loc[~works, 'method'])}"
        lines.append(f"| {name} | {first} | {_remedies(rows[~works])} |")
    return page.replace("<!-- networks -->", "\n".join([summary, "", *lines]))


def _remedies(rows: pd.DataFrame) -> str:
    """What the refusals of one network propose, each once, with the methods that say it."""
    said: dict[str, list[str]] = {}
    for outcome, method in zip(rows["outcome"], rows["method"], strict=True):
        said.setdefault(outcome.removeprefix("refuses: ").rpartition("; ")[2], []).append(method)
    parts = []
    for words, methods in sorted(said.items(), key=lambda item: len(item[1])):
        who = (
            ""
            if len(methods) == len(rows)
            else "the others: "
            if len(methods) > 5
            else f"{_listed(methods)}: "
        )
        parts.append(f"{who}`{words}`".replace("|", "\\|"))
    return "<br>".join(parts)


def _listed(methods: Iterable[str]) -> str:
    return ", ".join(method.replace(", ", " (", 1) + ")" * (", " in method) for method in methods)
