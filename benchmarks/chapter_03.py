"""What the methods of chapter 3 need, over seeds, into two tidy tables.

    python benchmarks/chapter_03.py --profile lite --seeds 3       # about 20 minutes on two cores

``chapter_03_distance.csv``: share of each scanner that pooled distance flags, by the number of slices of
scanner A that its covariance was fitted to. ``chapter_03_ablations.csv``: variants of the autoencoder, one
row per seed and variant; "SD on X" and "Dice on X" are Spearman's rank correlations with risk within scanner
X, of equation 4 and of 1 minus the Dice between the two segmentations. The networks are those of the chapter.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from segconf_lite.arrays import to_numpy
from segconf_lite.claims import ledger
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import PooledMahalanobis, SegmentationDistortion
from segconf_lite.confidence.distortion import distortion_columns
from segconf_lite.evaluation import case_table, detection_rate, dice_per_case, rank_correlation
from segconf_lite.models import fit_autoencoder, fit_unet, fitted
from segconf_lite.profiles import Profile, profile_named

VARIANTS: dict[str, dict[str, Any]] = {
    "as in this chapter": {},
    "segmentation half of the loss only": {"loss": "segmentation"},
    "reconstruction half only": {"loss": "reconstruction"},
    "code of 16 numbers": {"code": 16},
    "code of 128": {"code": 128},
    "denoising": {"variant": "denoising"},
    "variational": {"variant": "variational"},
    "three blocks a level, 64 features": {"depth": 3, "width": 64},
    "hooked one level up (encoder.2)": {"module": "encoder.2"},
    "hooked at the finest skip (encoder.0)": {"module": "encoder.0", "width": 16},
}


def make(sizes: Profile, seed: int, scanner: str, n_cases: int, first_subject: int) -> Cohort:
    return phantom.cohort(n_cases, scanner=scanner, size=sizes.size, seed=seed + first_subject)


def network(sizes: Profile, seed: int, train: Cohort) -> nn.Module:
    """The first network of chapters 2 and 3 for a seed."""
    steps = sizes.steps
    return fitted(fit_unet, train, steps=steps, channels=sizes.channels, dropout=0.1, seed=10 * seed)


def row(sizes: Profile, seed: int, unet: nn.Module, train: Cohort, options: dict[str, Any]) -> dict[str, Any]:
    """Train one variant and see what it gives on every scanner."""
    fixed: dict[str, Any] = {"steps": sizes.steps, "seed": 10 * seed, "progress": False}
    coder = fit_autoencoder(unet, train, **fixed, **options)
    found: dict[str, Any] = {
        "n_parameters": sum(p.numel() for p in coder.parameters()),
        "L_seg": coder.history[-1]["L_seg"],
        "L_mse": coder.history[-1]["L_mse"],
    }
    method = SegmentationDistortion(autoencoder=coder, module=options.get("module", "bottleneck"))
    method.fit(unet, train)
    for scanner in phantom.SCANNERS:
        cohort = make(sizes, seed, scanner, sizes.n_test, 1000)
        plain, altered = method.both_probabilities(cohort.images)
        quality = case_table(plain, cohort, empty="skip")["quality"]
        columns = distortion_columns(plain, altered)
        after = dice_per_case(
            to_numpy(altered.max(dim=1).indices), cohort.labels, n_classes=plain.shape[1], empty="skip"
        )
        found[f"change of Dice on {scanner}"] = float(pd.Series(after - quality).mean())
        for name, column in (("SD", "distortion"), ("Dice", "distortion, Dice")):
            found[f"{name} on {scanner}"] = rank_correlation(1 - quality, columns[column]).estimate
    return found


def distance_rows(sizes: Profile, seed: int, unet: nn.Module, familiar: Cohort) -> Iterator[dict[str, Any]]:
    """More and more slices for the covariance; the network stays."""
    many = make(sizes, seed, "A", 10 * sizes.n_train, 3000)
    tests = {name: make(sizes, seed, name, sizes.n_test, 1000) for name in phantom.SCANNERS}
    for factor in (1, 2.5, 5, 10):
        n_slices = round(factor * sizes.n_train)
        method = PooledMahalanobis().fit(unet, many.take(np.arange(n_slices)))
        home = method.uncertainty(familiar.images)
        flagged = {
            f"flagged on {name}": detection_rate(home, method.uncertainty(cohort.images))
            for name, cohort in tests.items()
        }
        yield {"n_slices": n_slices, **flagged}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("distance", "ablations"), help="write one of the tables")
    asked = parser.parse_args()
    sizes = profile_named(asked.profile)
    tables: dict[str, list[dict[str, Any]]] = {"distance": [], "ablations": []}
    for seed in range(asked.seeds):
        train = make(sizes, seed, "A", sizes.n_train, 0)
        unet = network(sizes, seed, train)
        origin = ledger.provenance(profile=sizes.name, seed=seed)
        kept = {name: origin[name] for name in ("profile", "seed", "commit", "device", "day")}
        if asked.only != "ablations":
            familiar = make(sizes, seed, "A", sizes.n_test, 2000)
            tables["distance"] += [{**found, **kept} for found in distance_rows(sizes, seed, unet, familiar)]
        if asked.only != "distance":
            for variant, options in VARIANTS.items():
                found = row(sizes, seed, unet, train, options)
                tables["ablations"].append({"variant": variant, **found, **kept})
                print(seed, variant, {k: round(v, 3) for k, v in found.items()})
    suffix = "" if sizes.name == "lite" else f"_{sizes.name}"
    results = Path(__file__).parents[1] / "book" / "results"
    for name, rows in tables.items():
        if rows:
            out = results / f"chapter_03_{name}{suffix}.csv"
            pd.DataFrame(rows).to_csv(out, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
