"""What scripts that repeat a measurement over seeds share: arguments, provenance, intervals."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.claims import ledger
from segconf_lite.evaluation import repeated_estimate
from segconf_lite.profiles import Profile, profile_named

Rows = Iterator[dict[str, Any]]


def run(
    description: str | None,
    table: Path,
    measured: Callable[[Profile, int, argparse.Namespace], Rows],
    summary: Callable[[pd.DataFrame], pd.DataFrame],
    **options: dict[str, Any],
) -> None:
    """Measure each seed, store the rows with their provenance at once, and print the summary.

    Args:
        description: Text of ``--help``.
        table: The CSV file to write.
        measured: The rows of one seed, from profile, seed and arguments.
        summary: What is printed of the stored table.
        **options: Further arguments of the command, with those of `argparse`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--seeds", default="11,12,13,14,15", help="numbers, separated by commas")
    parser.add_argument("--summary", action="store_true", help="only print what is stored")
    for name, how in options.items():
        parser.add_argument(f"--{name}", **how)
    asked = parser.parse_args()
    if not asked.summary:
        sizes, rows = profile_named(asked.profile), []
        seeds = [int(seed) for seed in asked.seeds.split(",")]
        origin = ledger.provenance(profile=sizes.name, seed=seeds[0])  # before the table changes the checkout
        for seed in seeds:
            kept = {name: origin[name] for name in ("profile", "commit", "device", "day")}
            rows += [{**row, "seed": seed, **kept} for row in measured(sizes, seed, asked)]
            pd.DataFrame(rows).to_csv(table, index=False, float_format="%.5g", lineterminator="\n")
    print(summary(pd.read_csv(table)).round(3).to_string(index=False))


def interval(part: pd.DataFrame, values: Any) -> Any:
    """Mean over seeds with its 95 % t interval."""
    everybody = np.zeros(len(part))  # one subject: seeds are the only source of variance
    return repeated_estimate(np.mean, part["seed"], everybody, values).interval()
