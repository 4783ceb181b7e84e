"""Soft Dice confidence and the published pooling beside what chapters 2 and 3 use, over seeds.

    python benchmarks/chapter_02.py                       # seeds 11 to 15, about 5 minutes on one core
    python benchmarks/chapter_02.py --members 4           # beside an ensemble, about 15 minutes

``chapter_02_soft_dice.csv`` has one row per seed, scanner, method and statistic: ``eAURC x 1000`` (lower is
better), ``absolute error`` of the predicted quality, and for the pooled Mahalanobis distance ``flagged``, the
fraction of cases above the 95th percentile of familiar cases. The networks are those of the chapters.
``--summary`` prints means over the stored seeds with t intervals, and differences from foreground entropy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import over_seeds
import pandas as pd

from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import DeepEnsemble, PooledMahalanobis
from segconf_lite.confidence.baselines import one_pass_columns, sampled_columns
from segconf_lite.evaluation import case_table, detection_rate, excess_aurc
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import Profile

TABLE = Path(__file__).parents[1] / "book/results/chapter_02_soft_dice.csv"
ORDERED = ["soft Dice", "entropy, foreground", "entropy, image", "small prediction"]
ENSEMBLE = ["networks: agreement, strict", "networks: entropy"]
REFERENCE = "entropy, foreground"


def measured(sizes: Profile, seed: int, asked: argparse.Namespace) -> over_seeds.Rows:
    """The rows of one seed."""

    def make(scanner: str, n_cases: int, first_subject: int) -> Cohort:
        return phantom.cohort(n_cases, scanner=scanner, size=sizes.size, seed=seed + first_subject)

    train, familiar = make("A", sizes.n_train, 0), make("A", sizes.n_test, 2000)
    training = {"steps": sizes.steps, "channels": sizes.channels, "dropout": 0.1, "seed": 10 * seed}
    unet = fitted(fit_unet, train, **training)
    ensemble = {}
    if asked.members:
        ensemble["networks"] = DeepEnsemble(n_members=asked.members, training=training).fit(unet, train)
    ordered = [*ORDERED, *(ENSEMBLE if ensemble else [])]
    poolings = ("channels_and_space", "published")
    distances = {pooling: PooledMahalanobis(pooling=pooling).fit(unet, train) for pooling in poolings}
    home = {pooling: method.uncertainty(familiar.images) for pooling, method in distances.items()}
    for scanner in phantom.SCANNERS:
        cohort = make(scanner, sizes.n_test, 1000)
        probabilities = predict_probabilities(unet, cohort.images)
        quality = case_table(probabilities, cohort, empty="skip")["quality"].to_numpy()
        columns = one_pass_columns(probabilities) | sampled_columns(ensemble, cohort.images)
        kept = np.isfinite(quality)
        found = {
            (name, "eAURC x 1000"): 1000 * excess_aurc(1 - quality[kept], columns[name][kept])
            for name in ordered
        }
        for name in {"soft Dice", "networks: agreement, strict"} & {*ordered}:
            found[name, "absolute error"] = np.abs(1 - columns[name] - quality)[kept].mean()
        for pooling, method in distances.items():
            flagged = detection_rate(home[pooling], method.uncertainty(cohort.images))
            found[f"distance, {pooling}", "flagged"] = flagged
        for (method_name, statistic), value in found.items():
            yield {"scanner": scanner, "method": method_name, "statistic": statistic, "value": value}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with a 95 % t interval, and for the orders the difference from the reference."""
    rows = []
    for (statistic, scanner, method), part in table.groupby(["statistic", "scanner", "method"], sort=False):
        mean = over_seeds.interval(part, part["value"])
        row = {"statistic": statistic, "scanner": scanner, "method": method, "mean": mean.estimate}
        row |= {"low": mean.low, "high": mean.high, "seeds": part["seed"].nunique()}
        if statistic == "eAURC x 1000" and method != REFERENCE:
            other = table.query("statistic == @statistic and scanner == @scanner and method == @REFERENCE")
            gap = part["value"].to_numpy() - other["value"].to_numpy()
            apart = over_seeds.interval(part, gap)
            row |= {"minus reference": apart.estimate, "from": apart.low, "to": apart.high}
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    members = {"type": int, "default": 0, "help": "networks of the ensemble (0: none)"}
    over_seeds.run(__doc__, TABLE, measured, summary, members=members)
