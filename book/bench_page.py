"""The page "What it costs": tables of what the programs in `benchmarks` have stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import binomtest

__all__ = ["with_measurements"]

MARK = re.compile(r"<!-- measured: (\w+) -->")
WHOLE = "whole series"
MOST_SIZES = 4  # columns of a table that a telephone can show


class Target(NamedTuple):
    """A limit that was set before it was measured."""

    words: str
    question: str
    what: str
    size: str
    limit: float
    seconds: bool = False  # of the act itself, instead of its ratio to the reference


TARGETS = (
    Target("segmentation distortion, in passes", "passes", "segmentation distortion", "32 x 96 x 96", 1.35),
    Target("last-layer fragility, in passes", "passes", "last-layer fragility", "32 x 96 x 96", 1.15),
    Target("quality predictor, in passes", "passes", "quality predictor", "32 x 96 x 96", 1.05),
    Target("soft Dice confidence, in passes", "passes", "soft Dice confidence", "32 x 96 x 96", 1.02),
    Target("pooled Mahalanobis, in passes", "passes", "pooled Mahalanobis", "32 x 96 x 96", 1.05),
    Target("adversarial step, in plain steps", "adversarial", "adversarial step", "32 x 96 x 96", 1.6),
    Target("mask search, s per image", "searches", "mask search, an image", "96 x 96", 1, True),
    Target("decoder tangent, s per slice", "searches", "decoder tangent, a slice", "96 x 96", 0.04, True),
    Target(
        "pixel search, s per pixel", "searches", "pixel search, whole network, a pixel", "96 x 96", 1, True
    ),
)


def with_measurements(page: str, results: Path) -> str:
    """The page with each mark ``<!-- measured: NAME -->`` replaced by the table of that name.

    Args:
        page: Markdown.
        results: Folder of the stored results. Where one is missing, the page says so.

    Raises:
        ValueError: If a mark names no table.
    """

    def table(mark: re.Match[str]) -> str:
        if mark[1] in MAKERS:
            try:
                return MAKERS[mark[1]](results)
            except FileNotFoundError as error:
                return f"*Not measured yet: {Path(error.filename).name}.*"
        path = results / "bench" / f"{mark[1]}.json"
        if not path.is_file():
            raise ValueError(f"no measurements with the name {mark[1]!r}; there are {sorted(MAKERS)}")
        return _question(json.loads(path.read_text("utf-8")))

    return MARK.sub(table, page)


def _rows(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _digits(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    text = f"{value:.3g}" if value < 100 else f"{value:,.0f}"
    return f"{value:.6f}".rstrip("0") if "e" in text else text


def _question(record: Mapping[str, Any]) -> str:
    """Ratios to the reference, a column per size; of the reference itself, its time."""
    rows = pd.DataFrame(record["rows"])
    parts = []
    for kind in dict.fromkeys(rows["size"].map(_kind)):
        some = rows[rows["size"].map(_kind) == kind]
        sizes = list(dict.fromkeys(some.sort_values("n")["size"]))
        n_tables = -(-len(sizes) // MOST_SIZES)
        for shown in (sizes[k::n_tables] for k in range(n_tables)):
            lines = []
            for what, mine in some.groupby("what", sort=False):
                by_size = mine.set_index("size")
                cells = [_cell(by_size.loc[size]) if size in by_size.index else "" for size in shown]
                exponent = record["slopes"].get(what)
                lines.append([str(what), *cells, "" if exponent is None else f"{exponent:.2f}"])
            heads = [record["question"], *(size.replace("x", "×") for size in shown), "exponent"]
            parts.append(_rows(heads, lines))
    about = (
        f"Measured on {record['device']}, {record['threads']} threads, torch {record['versions']['torch']}, "
        f"commit {record['commit']}, {record['day']}; median of {record['runs']} runs."
    )
    return "\n\n".join([*parts, about])


def _kind(size: str) -> str:
    return re.sub(r"[\d,]+", "#", size)


def _cell(row: pd.Series) -> str:
    if row["ratio"] == 1:
        return f"*{_digits(1000 * row['seconds'])} ms*"
    return _digits(row["ratio"])


def _targets(results: Path) -> str:
    lines = []
    for target in TARGETS:
        record = json.loads((results / "bench" / f"{target.question}.json").read_text("utf-8"))
        row = next(r for r in record["rows"] if (r["what"], r["size"]) == (target.what, target.size))
        value = row["seconds" if target.seconds else "ratio"]
        met = "met" if value <= target.limit else "missed"
        lines.append([target.words, f"{target.limit:g}", _digits(value), met])
    return _rows(["what", "at most", "measured", ""], lines)


def _series(results: Path) -> str:
    table = pd.read_csv(results / "series.csv")
    wide = table.pivot_table("seconds", "notebook", "networks")
    wide = wide.loc[[*(name for name in wide.index if name != WHOLE), WHOLE]]
    lines = [[name, *(f"{row[k] / 60:.1f}" for k in ("trained", "stored"))] for name, row in wide.iterrows()]
    first = table.iloc[0]
    about = (
        f"Measured on {first['device']}, {first['jobs']} notebooks at a time with {first['threads']} thread "
        f"each, commit {first['commit']}, {first['day']}. The last row is the time on the clock."
    )
    return _rows(["notebook", "from scratch, min", "stored networks, min"], lines) + "\n\n" + about


def _memory(results: Path) -> str:
    table = pd.read_csv(results / "memory.csv")
    table = table[table["slices"] == 2000]
    lines = []
    for method, rows in table.groupby("method", sort=False):
        peaks = rows.set_index("part")["peak_mib"]
        cells = [f"{peaks[part]:,.0f}" if part in peaks else "" for part in ("fit", "uncertainty")]
        lines.append([str(method), *cells, "; ".join(rows["how"].unique())])
    first = table.iloc[0]
    about = f"Measured on {first['machine']}, {first['threads']} threads, torch {first['torch']}."
    return _rows(["method", "`fit`, MiB", "`uncertainty`, MiB", "how"], lines) + "\n\n" + about


def _torture(results: Path) -> str:
    table = pd.read_csv(results / "torture.csv")
    lines = [
        [row.campaign, row.part, f"{row.tries:,}", f"{row.failures:,}", row.commit, row.day]
        for row in table.itertuples()
    ]
    return _rows(["campaign", "part", "tries", "failures", "commit", "day"], lines)


def _mutation(results: Path) -> str:
    lines = []
    for path in sorted(results.glob("mutation_*.csv")):
        table = pd.read_csv(path)
        killed, n = int((table["outcome"] != "survived").sum()), len(table)
        low, high = binomtest(killed, n).proportion_ci(method="wilson")
        lines.append(
            [
                table["room"].iloc[0],
                str(n),
                str(killed),
                f"{100 * killed / n:.0f} % [{100 * low:.0f}, {100 * high:.0f}]",
            ]
        )
    if not lines:
        return "*Not measured yet: mutation.*"
    return _rows(["room", "faults", "detected", "fraction (Wilson, 95 %)"], lines)


MAKERS: dict[str, Callable[[Path], str]] = {
    "targets": _targets,
    "series": _series,
    "memory": _memory,
    "torture": _torture,
    "mutation": _mutation,
}
