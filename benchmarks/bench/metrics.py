"""What judging costs: statistics over 200, 2,000 and 20,000 cases, and scores of 32, 128 and 512 slices.

    python benchmarks/bench/metrics.py

The reference is sorting the cases (for scores of slices, a sum over all pixels): no metric can be cheaper.
The exponent of growth is the number to look at; 1 is linear.
"""

from __future__ import annotations

import numpy as np
from common import Act, Row, main, rows_of

from segconf_lite import evaluation
from segconf_lite.cohorts import phantom


def statistics_of(n: int, runs: int) -> list[Row]:
    rng = np.random.default_rng(0)
    risk, order, subjects = rng.random(n), rng.random(n), np.arange(n) // 10
    few = {"n_resamples": 200}
    acts: dict[str, Act] = {
        "sorting the cases": lambda: [np.sort(order) for _ in range(100)],
        "eAURC": lambda: evaluation.excess_aurc(risk, order),
        "AUGRC": lambda: evaluation.augrc(risk, order),
        "AUROC": lambda: evaluation.auroc(risk > 0.5, order),
        "rank correlation": lambda: evaluation.rank_correlation(risk, order),
        "eAURC, 200 resamples": lambda: evaluation.excess_aurc_interval(risk, order, subjects, **few),
        "mean, 200 resamples": lambda: evaluation.mean_interval(risk, subjects, **few),
    }
    return rows_of(acts, size=f"{n:,} cases", n=n, runs=runs, reference="sorting the cases")


def scores_of(n: int, runs: int) -> list[Row]:
    labels = phantom.cohort(n, size=64).labels
    shifted = np.roll(labels, 1, axis=1)
    options = {"n_classes": 4, "empty": "skip"}
    in_mm = {**options, "spacing_mm": (1.5, 1.5)}
    acts: dict[str, Act] = {
        "sum over all pixels": lambda: [labels.sum() for _ in range(100)],
        "Dice": lambda: evaluation.dice_per_case(labels, shifted, **options),
        "surface Dice": lambda: evaluation.surface_dice_per_case(labels, shifted, tolerance_mm=1.5, **in_mm),
        "95 % Hausdorff distance": lambda: evaluation.hausdorff95_per_case(labels, shifted, **in_mm),
    }
    return rows_of(acts, size=f"{n} slices of 64 x 64", n=n, runs=runs, reference="sum over all pixels")


def measure(small: bool, runs: int) -> list[Row]:
    rows = [row for n in ((200,) if small else (200, 2_000, 20_000)) for row in statistics_of(n, runs)]
    return rows + [row for n in ((32,) if small else (32, 128, 512)) for row in scores_of(n, runs)]


if __name__ == "__main__":
    main("What does judging cost?", measure)
