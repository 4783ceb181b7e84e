"""Lung nodules of four vendors: confidences beside failures and beside the disagreement of radiologists.

    python benchmarks/lidc.py --seed 21 --out book/results/runs/lidc/seed_21.csv.gz

`make claims` does this for each seed; the first call trains the networks of all seeds. One row per slice,
with its provenance beside the table. A U-Net and all that is fitted to it learn from 70 % of the GE patients,
drawn anew for each seed; the other GE patients and all patients of Siemens, Philips and Toshiba are the test.
The label is what at least two of the four radiologists segmented. The windows are drawn anew for each seed,
too.

Columns: ``risk`` (1 - Dice), ``failed`` (Dice below 0.5), ``rater disagreement`` (1 - mean Dice of the six
pairs of radiologists), the uncertainties by the names of the book, and for each map ``follows: MAP``, the
Spearman correlation with the entropy of the radiologists' segmentations over the pixels within 3 mm of the
label's border (0 for a constant map), and ``beyond distance: MAP``, the partial correlation given
1 / distance to the predicted border. The ensemble is the five networks of the five seeds, so it is shared
between seeds, and it has no values for GE, whose test patients its networks may have seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.claims import runs
from segconf_lite.cohorts import Cohort, lidc
from segconf_lite.confidence import (
    Adversary,
    BetaQualityPredictor,
    DeepEnsemble,
    MCDropout,
    PooledMahalanobis,
    QualityPredictor,
    pixels,
)
from segconf_lite.confidence.baselines import one_pass_columns, sampled_columns
from segconf_lite.evaluation import boundary_band, case_table, geometric_maps, rater_dice, rater_disagreement
from segconf_lite.fragility import FragilityMap
from segconf_lite.models import Training, fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import LITE

SIZE, STEPS, BATCH = 64, 600, 16
FAILED_BELOW = 0.5  # Dice
BAND_MM = 3.0
NULL = "1 / distance"


def learned(seed: int, steps: int) -> tuple[Cohort, Cohort, nn.Module]:
    """Training and test cases of GE, and the network of a seed."""
    train, rest = lidc.cohort(vendor="GE", size=SIZE, seed=seed).split([0.7, 0.3], seed=seed)
    options = {"steps": steps, "batch_size": BATCH, "augmentation": "mild", "seed": 10 * seed}
    unet = fitted(fit_unet, train, channels=LITE.channels, dropout=0.1, **options)
    return train, rest, unet


def predictors(seed: int, steps: int) -> dict[str, QualityPredictor]:
    """The predictors of chapter 4; all but "Beta" read the penultimate activation alone."""
    mild = Training(steps=steps, batch_size=BATCH, learning_rate=2e-3, weight_decay=1e-3, seed=10 * seed)
    mild = mild.changed(augmentation="mild")
    strong = mild.changed(augmentation="strong")
    return {
        "plain": QualityPredictor.published(adversary=None, training=mild),
        "adversary": QualityPredictor.published(adversary=Adversary(), training=mild),
        "strong corruptions": QualityPredictor.published(adversary=None, training=strong),
        "Beta": BetaQualityPredictor(adversary=Adversary(), training=strong),
    }


def followed(maps: dict[str, np.ndarray], cohort: Cohort) -> dict[str, np.ndarray]:
    """How each map (N, H, W) correlates with the disagreement, alone and beyond the distance."""
    truth = rater_disagreement(cohort.raters, n_classes=2)
    zone = boundary_band(cohort.labels, band_mm=BAND_MM, spacing_mm=cohort.spacing_mm)
    names = [f"follows: {name}" for name in maps] + [
        f"beyond distance: {name}" for name in maps if name != NULL
    ]
    found = {name: np.full(len(truth), np.nan) for name in names}
    for k in range(len(truth)):
        ranks = {name: stats.rankdata(values[k][zone[k]]) for name, values in maps.items()}
        goal = stats.rankdata(truth[k][zone[k]])
        if goal.size == 0 or np.ptp(goal) == 0:
            continue
        null = correlation(ranks[NULL], goal)
        for name, values in ranks.items():
            found[f"follows: {name}"][k] = follows = correlation(values, goal)
            alike = correlation(values, ranks[NULL])
            rest = np.sqrt((1 - null**2) * (1 - alike**2))
            if name != NULL:
                found[f"beyond distance: {name}"][k] = (follows - null * alike) / rest if rest > 1e-6 else 0.0
    return found


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson of two rows; 0 where one is constant, because it ranks nothing."""
    return 0.0 if np.ptp(first) == 0 or np.ptp(second) == 0 else float(np.corrcoef(first, second)[0, 1])


def drawn_maps(answer: Tensor, cohort: Cohort, last_layer: FragilityMap) -> dict[str, np.ndarray]:
    """The maps that are held against the radiologists; those of the shape alone come last."""
    shapes = geometric_maps(to_numpy(answer.argmax(dim=1)), n_classes=2)
    entropy, fragility = pixels.entropy(answer), last_layer.uncertainty_map(cohort.images)
    return {"entropy": to_numpy(entropy), "last layer": to_numpy(fragility), **shapes}


def measured(seed: int, *, vendors: list[str], steps: int = STEPS, others: list[int]) -> pd.DataFrame:
    """The cases of one seed.

    Args:
        seed: The seed.
        vendors: Unseen vendors to test beside the other patients of GE.
        steps: Steps of the U-Net; the predictors take a third of them.
        others: Seeds of the further networks of the ensemble.
    """
    train, rest, unet = learned(seed, steps)
    unseen = [lidc.cohort(vendor=name, size=SIZE, seed=seed) for name in vendors]
    test = Cohort.concatenate([rest, *unseen])
    answer = predict_probabilities(unet, test.images)
    cases = case_table(answer, test, empty="skip")
    cases["risk"] = 1 - cases["quality"]
    cases["failed"] = (cases["quality"] < FAILED_BELOW).astype(int)
    cases["rater disagreement"] = 1 - rater_dice(test.raters, n_classes=2, empty="skip")
    samplers = {"dropout": MCDropout(n_samples=8).fit(unet, train)}
    if others:
        members = [learned(other, steps)[2] for other in others]
        samplers["ensemble"] = DeepEnsemble(members=members).fit(unet, train)
    columns = one_pass_columns(answer) | sampled_columns(samplers, test.images)
    methods = {
        "distance, published pooling": PooledMahalanobis(pooling="published"),
        **predictors(seed, steps // 3),
    }
    for name, method in methods.items():
        columns[name] = to_numpy(method.fit(unet, train).uncertainty(test.images))
    columns |= followed(drawn_maps(answer, test, FragilityMap().fit(unet, train)), test)
    cases = cases.assign(cohort="lidc", **columns)
    cases.loc[cases["domain"] == "GE", [name for name in columns if name.startswith("ensemble")]] = np.nan
    return cases.drop(columns=["session", "nodule", "confidence"])


def main() -> None:
    """Measure one seed and store its cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the U-Net")
    parser.add_argument("--vendors", nargs="*", default=list(lidc.VENDORS[1:]), help="unseen ones to test")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    others = [seed for seed in runs.SEEDS_OF["lidc"] if seed != asked.seed]
    cases = measured(asked.seed, vendors=asked.vendors, steps=asked.steps, others=others)
    runs.save_cases(cases, asked.out, profile="lite", seed=asked.seed)


if __name__ == "__main__":
    main()
