"""Run the smallest size of every benchmark again, and fail where a ratio has become 25 % worse than recorded.

    python benchmarks/bench/check.py            # make bench-check
    python benchmarks/bench/check.py --all      # make bench: all sizes, and the records are replaced

A ratio is compared, not a time, because both of its parts are measured in the same run: another machine or
a busy one changes it little. What is worse once is measured a second time, and fails only if it is worse
again. Ratios below 0.1 of their reference, and acts below a millisecond, are too short to be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT

QUESTIONS = ("passes", "adversarial", "searches", "metrics", "start", "report")
ALLOWED = 1.25
LEAST_SECONDS, LEAST_RATIO = 1e-3, 0.1
NO_COST = ("floor of a pass",)  # it rises when the pass becomes quicker


def worse(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Acts whose ratio has grown by more than is allowed, at sizes that both have."""
    now = {(row["what"], row["size"]): row for row in found["rows"]}
    lines = []
    for row in recorded["rows"]:
        new = now.get((row["what"], row["size"]))
        if (
            new is None
            or row["seconds"] < LEAST_SECONDS
            or row["ratio"] < LEAST_RATIO
            or row["what"] in NO_COST
        ):
            continue
        if new["ratio"] > ALLOWED * row["ratio"]:
            lines.append(f"{row['what']} at {row['size']}: {row['ratio']:.3g} -> {new['ratio']:.3g}")
    return lines


def run(question: str, folder: Path, *options: str) -> dict[str, Any]:
    """The record of a run of one benchmark."""
    command = [
        sys.executable,
        str(Path(__file__).with_name(f"{question}.py")),
        "--out",
        str(folder),
        *options,
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return json.loads((folder / f"{question}.json").read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="all sizes; replace the records")
    parser.add_argument("--question", choices=QUESTIONS, action="append", help="only this one")
    chosen, failed = parser.parse_args(), []
    for question in chosen.question or QUESTIONS:
        if chosen.all:
            run(question, RESULTS)
            continue
        path = RESULTS / f"{question}.json"
        if not path.is_file():
            print(f"{question}: nothing is recorded yet; make bench records it")
            continue
        recorded = json.loads(path.read_text("utf-8"))
        with tempfile.TemporaryDirectory() as name:
            lines = worse(recorded, run(question, Path(name), "--small"))
            if lines:
                again = {
                    line.partition(": ")[0] for line in worse(recorded, run(question, Path(name), "--small"))
                }
                lines = [line for line in lines if line.partition(": ")[0] in again]
        failed += [f"{question}: {line}" for line in lines]
    if failed:
        sys.exit("worse by more than 25 %:\n  " + "\n  ".join(failed))


if __name__ == "__main__":
    main()
