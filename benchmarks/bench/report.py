"""What a report on stored predictions costs: 100, 500 and 2,000 cases of 64 x 64 with probabilities.

    python benchmarks/bench/report.py

The reference is reading the same files with numpy. The report is what ``segconf review`` writes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from common import Row, main, rows_of

from segconf_lite.predictions import from_predictions, review_predictions


def write(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(n):
        scores = rng.random((3, 1, 64, 64), dtype=np.float32)  # classes, slices, rows, columns
        np.savez(folder / f"case_{k:05}.npz", probabilities=scores / scores.sum(axis=0))


def read(folder: Path) -> None:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            _ = file["probabilities"]


def measure(small: bool, runs: int) -> list[Row]:
    rows = []
    for n in (20,) if small else (100, 500, 2_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, n)

            def report(folder: Path = folder) -> None:
                review_predictions(from_predictions(folder))

            acts = {"reading the files": lambda folder=folder: read(folder), "report": report}
            rows += rows_of(acts, size=f"{n:,} cases", n=n, runs=runs, reference="reading the files")
    return rows


if __name__ == "__main__":
    main("What does a report cost?", measure)
