"""What each part of adversarial confidence training brings: variants over networks, one tidy table.

    python benchmarks/chapter_04.py --profile lite --seeds 0 1 2   # about 40 minutes on two cores

One row per seed and variant, in ``book/results/chapter_04_variants.csv``: "eAURC on X" (times 1000) and "MAE
on X" for every scanner, the fit's seconds, and what the training log says of its last quarter. The networks
are the first of chapter 2 for each seed. ``chapter_04_surface.csv``: the same for some variants where the
quality is the surface Dice at 3 mm, beside the agreement of two dropout answers in that measure.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.claims import ledger
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import (
    Adversary,
    BetaQualityPredictor,
    MCDropout,
    QualityPredictor,
    ScoreAgreement,
)
from segconf_lite.confidence.predictor import PUBLISHED_TRAINING
from segconf_lite.evaluation import case_table, excess_aurc, surface_dice_per_case
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import Profile, profile_named

ARMS: dict[str, dict[str, Any]] = {
    "plain": {"adversarial": False},
    "noise": {"direction": "random"},
    "adversary": {},
}
LEVELS: dict[str, dict[str, Any]] = {
    "one level": {"modules": ("penultimate",), "probabilities": False},
    "three levels": {},
}
PUBLISHED: dict[str, Any] = {**LEVELS["one level"], "augmentation": None}
VARIANTS: dict[str, dict[str, Any]] = {
    f"{arm}, {images}, {levels}": {**ARMS[arm], "augmentation": images, **LEVELS[levels]}
    for images in ("mild", "strong")
    for levels in LEVELS
    for arm in ARMS
} | {
    "plain, as it is, one level": {**PUBLISHED, "adversarial": False},
    "noise, as it is, one level": {**PUBLISHED, "direction": "random"},
    "adversary, as it is, one level": PUBLISHED,
    "first alpha .8, gain .01 (as published)": {**PUBLISHED, "alpha": 0.8, "gain": 0.01},
    "effect size .05": {**PUBLISHED, "effect_size": 0.05},
    "effect size .2": {**PUBLISHED, "effect_size": 0.2},
    "controlled by the true drop": {**PUBLISHED, "controlled": "true"},
    "gradient of all classes": {**PUBLISHED, "gradient_of": "all"},
    "replay from the last 128": {**PUBLISHED, "replay_size": 128},
    "steps of equal length": {**PUBLISHED, "unit": "length", "alpha": 5.0, "gain": 10.0},
    "steps of at most 12": {**PUBLISHED, "bound": 12.0},
    "three times the steps": {**PUBLISHED, "steps": 3},
    "plain, three times the steps": {**PUBLISHED, "adversarial": False, "steps": 3},
    "noise of length 22, mild, one level": {
        **LEVELS["one level"],
        "augmentation": "mild",
        "direction": "random",
        "unit": "length",
        "alpha": 22.0,
        "gain": 1e-9,
    },
    "Beta, plain": {"adversarial": False, "head": "beta"},
    "Beta, adversary": {"head": "beta"},
}
READ = ("modules", "probabilities", "target", "tolerance_mm")
SURFACE: dict[str, Any] = {"target": "surface_dice", "tolerance_mm": 3.0}
ON_SURFACES = ("plain, mild, one level", "adversary, mild, one level", "Beta, adversary")


def network(sizes: Profile, seed: int, train: Cohort) -> nn.Module:
    """The first network of chapters 2 to 4 for a seed."""
    steps = sizes.steps
    return fitted(fit_unet, train, steps=steps, channels=sizes.channels, dropout=0.1, seed=10 * seed)


def row(
    unet: nn.Module,
    train: Cohort,
    tests: dict[str, tuple[Cohort, np.ndarray]],
    options: dict[str, Any],
    *,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """Train one variant and see how it orders the cases of every scanner."""
    options = dict(options)
    kind = BetaQualityPredictor if options.pop("head", "point") == "beta" else QualityPredictor
    read = {k: options.pop(k) for k in READ if k in options}
    training = PUBLISHED_TRAINING.changed(
        steps=steps * options.pop("steps", 1), seed=seed, augmentation=options.pop("augmentation", "strong")
    )
    adversary = Adversary(**options) if options.pop("adversarial", True) else None
    method = kind(**read, adversary=adversary, training=training)
    start = time.perf_counter()
    method.fit(unet, train)
    found: dict[str, Any] = {"seconds": time.perf_counter() - start}
    for scanner, (cohort, quality) in tests.items():
        uncertainty, ok = to_numpy(method.uncertainty(cohort.images)), np.isfinite(quality)
        found[f"eAURC on {scanner}"] = 1000 * excess_aurc(1 - quality[ok], uncertainty[ok])
        error = np.abs(np.clip(1 - uncertainty, 0, 1) - quality)
        found[f"MAE on {scanner}"] = float(error[ok].mean())
        if isinstance(method, BetaQualityPredictor):
            low, high = method.interval(cohort.images)
            inside = (quality >= to_numpy(low) - 1e-6) & (quality <= to_numpy(high) + 1e-6)
            found[f"90 % interval holds on {scanner}"] = float(inside[ok].mean())
    assert method.network is not None
    late = pd.DataFrame(method.network.history).tail(3).mean()
    names = ("alpha", "length", "predicted_drop", "true_drop", "vanished", "dropped")
    return found | {name: late[name] for name in names}


def agreement_row(
    unet: nn.Module, train: Cohort, tests: dict[str, tuple[Cohort, np.ndarray]]
) -> dict[str, Any]:
    """The rival on surfaces: agreement of two dropout answers."""
    asked = {"quality": "surface_dice", "tolerance_mm": SURFACE["tolerance_mm"]}
    method = ScoreAgreement(MCDropout(n_samples=2), **asked).fit(unet, train)
    found = {}
    for scanner, (cohort, quality) in tests.items():
        uncertainty, ok = to_numpy(method.uncertainty(cohort.images)), np.isfinite(quality)
        found[f"eAURC on {scanner}"] = 1000 * excess_aurc(1 - quality[ok], uncertainty[ok])
    return found


def qualities(answer: Tensor, cohort: Cohort, surface: bool) -> np.ndarray:
    """(N,) Dice, or surface Dice, of each answer."""
    if not surface:
        return case_table(answer, cohort, empty="skip")["quality"].to_numpy()
    labels = to_numpy(answer.max(dim=1).indices)
    return surface_dice_per_case(
        labels,
        cohort.labels,
        n_classes=answer.shape[1],
        empty="skip",
        tolerance_mm=SURFACE["tolerance_mm"],
        spacing_mm=cohort.spacing_mm,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="rows of others stay")
    parser.add_argument("--surface", action="store_true", help="the table of surface Dice")
    parser.add_argument("--only", default="", help="variants whose name holds this")
    asked = parser.parse_args()
    sizes = profile_named(asked.profile)
    chosen = {n: VARIANTS[n] | SURFACE for n in ON_SURFACES} if asked.surface else VARIANTS
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        train = phantom.cohort(sizes.n_train, size=sizes.size, seed=seed)
        unet, tests = network(sizes, seed, train), {}
        for scanner in phantom.SCANNERS:
            cohort = phantom.cohort(sizes.n_test, scanner=scanner, size=sizes.size, seed=seed + 1000)
            answer = predict_probabilities(unet, cohort.images)
            tests[scanner] = cohort, qualities(answer, cohort, asked.surface)
        origin = ledger.provenance(profile=sizes.name, seed=seed)
        kept = {name: origin[name] for name in ("profile", "seed", "commit", "device", "day")}
        for variant, options in chosen.items():
            if asked.only not in variant:
                continue
            found = row(unet, train, tests, options, steps=sizes.steps, seed=10 * seed)
            rows.append({"variant": variant, **found, **kept})
            print(seed, variant, {k: round(v, 3) for k, v in found.items() if "eAURC" in k}, flush=True)
        if asked.surface:
            rows.append({"variant": "agreement of 2", **agreement_row(unet, train, tests), **kept})
    suffix = "" if sizes.name == "lite" else f"_{sizes.name}"
    what = "surface" if asked.surface else "variants"
    out = Path(__file__).parents[1] / "book" / "results" / f"chapter_04_{what}{suffix}.csv"
    table = pd.DataFrame(rows)
    if out.exists():
        stored = pd.read_csv(out)
        table = pd.concat([stored, table]).drop_duplicates(["seed", "variant"], keep="last")
    table.sort_values("seed", kind="stable").to_csv(out, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
