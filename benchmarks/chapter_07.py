"""The foreground study of chapter 7 in three dimensions: balls in noise, as the paper had them.

    python benchmarks/chapter_07.py                    # about 50 minutes on one core
    python benchmarks/chapter_07.py --profile full     # on a GPU

``chapter_07_volumes.csv`` (``..._full.csv``): U-Nets without and with residual units, attention U-Net and
UNETR, each with batch and with instance norm, and the attention U-Net with the two mixed as published, learn
on windows of volumes of 96 voxels a side (radii 25 to 34) and are tested on balls of radii 5 to 47, window by
window. One row per network, seed and place of the test volume against the range of ratios of the training
*volumes*: mean Dice, and the share of the voxels outside the ball that is called ball. Everything but the
size of networks and the number of steps is the paper's; see `PLAN`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor

from segconf_lite.arrays import to_numpy
from segconf_lite.claims import ledger
from segconf_lite.cohorts.balls import ball_volumes
from segconf_lite.models.device import isolated_random_state, pick_device
from segconf_lite.models.segmenter import KINDS, SEGMENTER_NORMS, Segmenter
from segconf_lite.models.training import Training, optimise, shuffled_batches
from segconf_lite.stress.windows import crop_around, foreground_ratio, window_probabilities

RESULTS = Path(__file__).parents[1] / "book" / "results"
PLAN: dict[str, dict[str, Any]] = {
    "lite": {"windows": (32,), "channels": (8, 16, 32), "steps": 200, "batch": 6, "cases": (30, 4, 30)},
    "full": {
        "windows": (32, 64, 96),
        "channels": (16, 32, 64, 128),
        "steps": 2000,
        "batch": 8,
        "cases": (70, 30, 100),
    },
}
VARIANTS = [*itertools.product(KINDS, SEGMENTER_NORMS), ("attention", "mixed")]  # mixed: as published
Volumes = tuple[Tensor, Tensor]


def volumes(n_cases: int, seed: int, **options: Any) -> Volumes:
    images, labels = ball_volumes(n_cases, seed=seed, **options)
    return torch.from_numpy(images), torch.from_numpy(labels)


def train(
    config: dict[str, Any], known: Volumes, held: Volumes, window: int, plan: dict[str, Any], seed: int
) -> Segmenter:
    """As `segconf_lite.models.fit.fit_network` does with slices."""
    place = pick_device("auto")
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    draws = torch.Generator().manual_seed(seed)
    with isolated_random_state(seed, place):
        network = Segmenter(**config).to(place)

        def loss_on(cases: Volumes, generator: torch.Generator) -> Tensor:
            images, labels = crop_around(*cases, window, generator=generator)
            return loss_of(network(images.to(place)).float(), labels.to(place)[:, None])

        def validation_loss() -> float:
            again = torch.Generator().manual_seed(seed)
            return sum(float(loss_on(held, again)) for _ in range(4)) / 4

        optimise(
            network,
            shuffled_batches(len(known[0]), plan["batch"], torch.Generator().manual_seed(seed)),
            lambda index: loss_on((known[0][index], known[1][index]), draws),
            validation_loss,
            Training(steps=plan["steps"]),
            progress=False,
        )
    return network


def judge(network: Segmenter, test: Volumes, window: int, place: np.ndarray) -> pd.DataFrame:
    """Mean Dice and share of false voxels, by place; volume by volume, since probabilities are large."""
    dice, false = [], []
    for image, label in zip(*test, strict=True):
        found = window_probabilities(network, image[None], window=window, batch_size=16)[0].argmax(dim=0) > 0
        true = label > 0
        dice.append(float(2 * (found & true).sum() / (found.sum() + true.sum())))  # every volume has a ball
        false.append(float((found & ~true).sum() / (~true).sum()))
    cases = pd.DataFrame({"range": place, "dice": dice, "false_share": false})
    found_means = cases.groupby("range")[["dice", "false_share"]].mean()
    return found_means.assign(n_cases=cases["range"].value_counts()).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="lite", choices=tuple(PLAN))
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    plan, suffix = PLAN[asked.profile], "" if asked.profile == "lite" else f"_{asked.profile}"
    n_train, n_held, n_test = plan["cases"]
    rows = []
    for seed in range(asked.seeds):
        known, held = volumes(n_train, seed + 1000), volumes(n_held, seed + 2000)
        test = volumes(n_test, seed + 3000, radius_px=(5, 47))
        seen, ratio = foreground_ratio(to_numpy(known[1])), foreground_ratio(to_numpy(test[1]))
        place = np.select([ratio < seen.min(), ratio > seen.max()], ["below", "above"], "in")
        origin = ledger.provenance(profile=asked.profile, seed=seed)
        kept = {name: origin[name] for name in ("profile", "seed", "commit", "device", "threads", "day")}
        for window, (kind, norm) in itertools.product(plan["windows"], VARIANTS):
            config = {"kind": kind, "norm": norm, "size": window, "n_classes": 2}
            config |= {"channels": plan["channels"], "spatial_dims": 3}
            start = time.perf_counter()
            network = train(config, known, held, window, plan, seed)
            spent = time.perf_counter() - start
            n_weights = sum(p.numel() for p in network.parameters())
            found = judge(network, test, window, place)
            rows.append(found.assign(network=kind, norm=norm, window=window, weights=n_weights, **kept))
            print(
                seed, window, kind, norm, f"{spent:.0f} s, then {time.perf_counter() - start - spent:.0f} s"
            )
            print(found.round(3).to_string(index=False), flush=True)
            out = RESULTS / f"chapter_07_volumes{suffix}.csv"
            pd.concat(rows).to_csv(out, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
