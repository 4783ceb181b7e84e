"""How sure the orders in the source papers' own tables are: probability that "A is better than B" is false.

Where a table prints mean and standard deviation over runs or images, the formula of Christodoulou et al.
(2025, arXiv 2505.04720) gives this probability, see `segconf_lite.evaluation.false_outperformance`. No table
prints how alike the two methods fare from case to case, so the result is given for several correlations.

    python benchmarks/false_claims.py

writes `book/results/published_false_claims.csv`.
"""

import itertools
from pathlib import Path

import pandas as pd

from segconf_lite.evaluation import false_outperformance

RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"
CORRELATIONS = (0.0, 0.5, 0.9)

# Lennartz et al. 2023, Spearman correlation of the score with 1 - Dice on Calgary-Campinas-359: mean and
# standard deviation over 10 runs, from the per-run values of the authors' notebook `figure3.ipynb`.
SITES = ("GE 1.5 T", "GE 3 T", "Philips 1.5 T", "Philips 3 T", "Siemens 1.5 T")
DISTORTION = {
    "distortion": ((0.70, 0.07), (0.73, 0.12), (0.77, 0.16), (0.64, 0.23), (0.79, 0.05)),
    "entropy": ((0.60, 0.07), (0.65, 0.09), (0.64, 0.12), (0.44, 0.23), (0.79, 0.07)),
    "ensemble": ((0.58, 0.13), (0.61, 0.12), (0.74, 0.04), (0.47, 0.23), (0.77, 0.07)),
}

# QUAM-SM, table 1: Pearson correlation of a map with the raters' reference map. The paper does not say over
# what the standard deviation is taken; images are assumed. REFUGE has 400 test images. For QUBIQ, 55 is the
# number of all images of the task, more than can be in its test part, so its probabilities are too small.
KINDS = ("epistemic", "aleatoric", "total")
FRAGILITY = {
    ("REFUGE", 400): {
        "QUAM-SM": ((0.73, 0.09), (0.80, 0.08), (0.79, 0.07)),
        "ensemble": ((0.41, 0.10), (0.62, 0.09), (0.57, 0.11)),
        "dropout": ((0.52, 0.12), (0.62, 0.10), (0.59, 0.11)),
        "test-time augmentation": ((0.41, 0.11), (0.62, 0.10), (0.59, 0.11)),
    },
    ("QUBIQ", 55): {
        "QUAM-SM": ((0.44, 0.13), (0.62, 0.14), (0.58, 0.13)),
        "ensemble": ((0.17, 0.08), (0.44, 0.12), (0.39, 0.12)),
        "dropout": ((0.29, 0.14), (0.33, 0.10), (0.34, 0.11)),
        "test-time augmentation": ((0.37, 0.13), (0.60, 0.11), (0.57, 0.10)),
    },
}


def rows_of(paper, method, printed, places, n):
    """One row per rival, place of the table and correlation."""
    for rival, (k, place) in itertools.product(
        [name for name in printed if name != method], enumerate(places)
    ):
        (mean, sd), (rival_mean, rival_sd) = printed[method][k], printed[rival][k]
        for r in CORRELATIONS:
            how = {"sd": sd, "rival_sd": rival_sd, "n": n, "correlation": r}
            wrong = float(f"{false_outperformance(mean, rival_mean, **how):.3g}")
            names = {"paper": paper, "method": method, "rival": rival, "where": place}
            yield {**names, "mean": mean, "rival_mean": rival_mean, **how, "probability": wrong}


def main():
    rows = [*rows_of("Segmentation Distortion 2023", "distortion", DISTORTION, SITES, 10)]
    for (cohort, n), printed in FRAGILITY.items():
        rows += rows_of("QUAM-SM", "QUAM-SM", printed, [f"{cohort}, {kind}" for kind in KINDS], n)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "published_false_claims.csv", index=False)
    shown = table.pivot_table(index=["paper", "rival", "where"], columns="correlation", values="probability")
    print(shown.round(3).to_string())


if __name__ == "__main__":
    main()
