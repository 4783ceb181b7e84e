"""Do uncertainty maps follow annotators better than the shape of the prediction alone does? Over seeds.

    python benchmarks/annotators.py --seeds 21,22,23      # about 50 seconds per seed on one core

As in chapter 5: a network learns slices that were each drawn by one of several annotators; new slices have
the true annotation entropy. ``chapter_05_geometry.csv`` has one row per seed, scanner, map and region: the
mean over slices of Pearson's correlation and of the soft Dice of the two maps (`map_agreement`), within 6 mm
of a true border and over the whole image, as in the evaluation of QUAM-SM. ``--summary`` prints means over
the stored seeds with t intervals, and each map's difference from ``1 / distance``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import over_seeds
import pandas as pd

import segconf_lite.evaluation as ev
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import phantom
from segconf_lite.confidence import MCDropout, TestTimeAugmentation, pixels
from segconf_lite.fragility import FragilityMap, geometry_ring
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import Profile

TABLE = Path(__file__).parents[1] / "book/results/chapter_05_geometry.csv"
REFERENCE, N_SLICES = "1 / distance", 24
MEASURES = {"correlation": "pearson", "soft_dice": "soft_dice"}


def measured(sizes: Profile, seed: int, _: argparse.Namespace) -> over_seeds.Rows:
    """The rows of one seed."""
    given: dict[str, Any] = {"annotators": phantom.Annotators(), "size": sizes.size}
    crowd, _ = phantom.annotated_cohort(sizes.n_train, seed=seed, scanner="A", **given)
    usual = ~np.char.endswith(crowd.subjects, "hypertrophic")
    train = dataclasses.replace(phantom.one_rater_each(crowd.take(usual), seed=seed), raters=None)
    training = {"steps": sizes.steps, "channels": sizes.channels, "dropout": 0.1}
    unet = fitted(fit_unet, train, seed=10 * seed, **training)
    methods = {
        "dropout, entropy": MCDropout().fit(unet, train),
        "test time, entropy": TestTimeAugmentation().fit(unet, train),
        "last layer": FragilityMap().fit(unet, train),
    }
    for scanner in ("A", "D"):
        cohort, chances = phantom.annotated_cohort(180, seed=seed + 1000, scanner=scanner, **given)
        chosen = np.flatnonzero(~np.char.endswith(cohort.subjects, "hypertrophic"))[:N_SLICES]
        truth, cohort = phantom.annotation_entropy(chances[chosen]), cohort.take(chosen)
        answer = predict_probabilities(unet, cohort.images)
        labels = to_numpy(answer.argmax(dim=1))
        maps = {
            "entropy": to_numpy(pixels.entropy(answer)),
            "ring": to_numpy(geometry_ring(labels, n_classes=4)),
        }
        maps |= {name: to_numpy(m.uncertainty_map(cohort.images)) for name, m in methods.items()}
        maps |= ev.geometric_maps(labels, n_classes=4)
        near = {"band_mm": 6.0, "reference": cohort.labels, "spacing_mm": cohort.spacing_mm}
        for (name, values), (region, how) in (
            (m, r) for m in maps.items() for r in (("band", near), ("image", {}))
        ):
            agreement = {
                column: np.nanmean(ev.map_agreement(values.clip(0, 1), truth, measure=measure, **how))
                for column, measure in MEASURES.items()
            }
            yield {"scanner": scanner, "region": region, "map": name, **agreement}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds, and difference from the best map without a model, each with a 95 % t interval."""
    rows = []
    for (scanner, region, name), part in table.groupby(["scanner", "region", "map"], sort=False):
        other = table.query("scanner == @scanner and region == @region and map == @REFERENCE")
        row = {"scanner": scanner, "region": region, "map": name, "seeds": part["seed"].nunique()}
        gap = part["correlation"].to_numpy() - other["correlation"].to_numpy()
        for start, values in (("", part["correlation"]), ("minus reference ", gap)):
            interval = over_seeds.interval(part, values)
            row |= {f"{start}{end}": value for end, value in interval._asdict().items()}
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    over_seeds.run(__doc__, TABLE, measured, summary)
