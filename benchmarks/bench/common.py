"""What the benchmarks share: medians of acts that take turns, slopes, peak memory, the record of a run."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from segconf_lite.claims.runs import provenance

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "book" / "results" / "bench"
Act = Callable[[], object]


class Row(NamedTuple):
    """One measured thing at one size."""

    what: str
    size: str  # in words, e.g. "32 x 96 x 96"
    n: float  # the size as a number, for the slope
    seconds: float  # median of the runs
    ratio: float = math.nan  # to the reference of the same run; the guard compares it
    megabytes: float = math.nan  # of tensors, above what was held before


def seconds_of(acts: Mapping[str, Act], runs: int) -> dict[str, list[float]]:
    """Seconds of each act in each run; acts take turns, so that what slows the machine slows all of them."""
    spent: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(runs + 1):
        for name, act in acts.items():
            start = time.perf_counter()
            act()
            if turn:  # the first turn is a warm-up
                spent[name].append(time.perf_counter() - start)
    return spent


def rows_of(
    acts: Mapping[str, Act], *, size: str, n: float, runs: int, reference: str, memory: bool = False
) -> list[Row]:
    """A row per act; its ratio is the median over runs of its time by that of the reference in that run."""
    spent = seconds_of(acts, runs)
    rows = []
    for name, seconds in spent.items():
        ratios = [own / other for own, other in zip(seconds, spent[reference], strict=True)]
        peak = peak_megabytes(acts[name]) if memory else math.nan
        rows.append(Row(name, size, n, statistics.median(seconds), statistics.median(ratios), peak))
    return rows


def peak_megabytes(act: Act) -> float:
    """Highest sum of tensors that were made and not yet freed."""
    with torch.profiler.profile(profile_memory=True, record_shapes=False) as profiler:
        act()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


def slopes(rows: Sequence[Row]) -> dict[str, float]:
    """Exponent with which the time of each act grows with the size: 1 is linear."""
    found = {}
    for what in dict.fromkeys(row.what for row in rows):
        points = sorted({row.n: row.seconds for row in rows if row.what == what}.items())
        if len(points) > 2:
            x, y = zip(*((math.log(n), math.log(seconds)) for n, seconds in points), strict=True)
            found[what] = statistics.linear_regression(x, y).slope
    return found


def record(question: str, rows: Sequence[Row], runs: int) -> dict[str, Any]:
    """What is stored of a run."""
    origin = provenance(profile="lite", seed=0)
    about = {key: origin[key] for key in ("commit", "device", "threads", "versions", "day")}
    listed = [
        {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row._asdict().items() if v == v}
        for row in rows
    ]
    growth = {name: round(slope, 2) for name, slope in slopes(rows).items()}
    return {"question": question, **about, "runs": runs, "rows": listed, "slopes": growth}


def show(found: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"\n{found['question']}  ({found['commit']}, {found['device']}, {found['threads']} threads)")
    for row in found["rows"]:
        ratio, peak = (f"{row[k]:>9.3g}" if k in row else " " * 9 for k in ("ratio", "megabytes"))
        print(f"  {row['what']:<44} {row['size']:<20} {row['seconds']:>10.4g} s {ratio} times {peak} MB")
    for name, slope in found["slopes"].items():
        print(f"  {name:<44} grows with exponent {slope}")


def main(question: str, measure: Callable[[bool, int], list[Row]]) -> None:
    """The command line of a benchmark: ``--small`` for the smallest sizes, ``--out`` for another folder."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--small", action="store_true", help="the smallest size only")
    parser.add_argument("--runs", type=int, default=5, help="number of runs, of which the median counts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    chosen = parser.parse_args()
    found = record(question, measure(chosen.small, chosen.runs), chosen.runs)
    show(found)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
