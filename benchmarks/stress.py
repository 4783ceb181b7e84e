"""What chapters 6 to 8 cost: ladders, attacks, and the two studies, of twelve networks each.

    python benchmarks/stress.py    # about 4 minutes: book/results/stress_speed.csv

Times of this machine, with nothing read from the store. Ladders: slices of 96 x 96 a second, at the severity
that takes longest. PGD: 20 steps on 32 such slices, on the usual U-Net. Studies: training of all twelve
networks of chapters 6 and 7, as those chapters train them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from speed import median_seconds

from segconf_lite.cohorts import phantom
from segconf_lite.cohorts.balls import ball_cohort
from segconf_lite.cohorts.textures import texture_cohort
from segconf_lite.models import UNet, fit_unet
from segconf_lite.models.fit import fit_network
from segconf_lite.models.segmenter import Segmenter
from segconf_lite.stress import attacks, corruptions
from segconf_lite.stress.windows import crop_around

RESULTS = Path(__file__).parents[1] / "book" / "results"


def rung_seconds(images: np.ndarray, name: str, severity: int) -> float:
    return median_seconds(lambda: corruptions.corrupt(images, name, severity), 3)


def ladder_rows() -> list[tuple[str, float, str]]:
    images = phantom.cohort(60, seed=1000).images
    rows = []
    for name in corruptions.LADDERS:
        spent = max(rung_seconds(images, name, severity) for severity in range(1, 6))
        rows.append((f"ladder: {name}", len(images) / spent, "slices a second"))
    return rows


def attack_rows() -> list[tuple[str, float, str]]:
    cohort = phantom.cohort(32, seed=1000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(n_classes=4).eval()
    attack = lambda: attacks.pgd(  # noqa: E731
        unet, cohort.images, cohort.labels, steps=20, eps=0.1, unit="sd", bounds=None
    )
    spent = median_seconds(attack, 2)
    with torch.no_grad():
        one = median_seconds(lambda: unet(cohort.images), 3)
    name = "PGD of 20 steps on 32 slices"
    return [(name, spent, "s"), (name, spent / one, "passes of the network")]


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def texture_study() -> None:
    for skips, channels in {True: (8, 16, 32, 48), False: (9, 18, 34, 51)}.items():
        for direction in ("foreground", "background"):
            learned = texture_cohort(80, direction=direction)
            held = texture_cohort(24, direction=direction, part="validation")
            for norm in ("batch", "instance", "group"):
                fit_unet(
                    learned,
                    validation=held,
                    steps=100,
                    batch_size=8,
                    norm=norm,
                    skips=skips,
                    channels=channels,
                    learning_rate=6e-3,
                    precision="fp32",
                )


def foreground_study() -> None:
    train, held = ball_cohort(70, seed=1000), ball_cohort(16, seed=2000)
    for window, steps, batch_size in ((32, 200, 8), (96, 160, 4)):
        for kind in ("unet", "attention", "unetr"):
            for norm in ("batch", "instance"):
                config = {"kind": kind, "norm": norm, "size": window, "channels": (8, 16, 32)}
                fit_network(
                    lambda c=config: Segmenter(n_classes=2, **c),  # type: ignore[misc]
                    train,
                    validation=held,
                    steps=steps,
                    batch_size=batch_size,
                    prepare=lambda n, x, y, g, w=window: crop_around(x, y, w, generator=g),  # type: ignore[misc]
                )


def main() -> None:
    rows = ladder_rows() + attack_rows()
    rows.append(("texture study, training of 12 networks", seconds(texture_study), "s"))
    rows.append(("foreground study, training of 12 networks", seconds(foreground_study), "s"))
    table = pd.DataFrame(rows, columns=["what", "value", "unit"]).assign(threads=torch.get_num_threads())
    table.to_csv(RESULTS / "stress_speed.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
