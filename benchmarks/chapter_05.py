"""Chapter 5 measured beyond its notebook: the closed form against a solver, and what searches cost.

    python benchmarks/chapter_05.py --convex    # about 3 minutes: book/results/chapter_05_convex.csv
    python benchmarks/chapter_05.py --speed     # about 5 minutes: book/results/chapter_05_speed.csv

``--convex``: flip costs over the last layer of 24 pixels on scanners A and D each, for two networks of
chapter 2, by the closed form and by a convex solver. ``--speed``: seconds of a map by each search, on the
U-Net of chapter 2 at 96 x 96, and how many times faster a map in closed form is than a search of every pixel
over all weights (extrapolated from a stratified sample).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import pandas as pd
import torch
from speed import median_seconds

from segconf_lite.arrays import to_numpy
from segconf_lite.claims import ledger
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.fragility import (
    FragilityMap,
    MaskSearch,
    PixelSearch,
    WeightNoise,
    check_closed_form,
    penalty_set,
    search_masks,
    search_pixels,
    stratified_pixels,
)
from segconf_lite.models import UNet, fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import profile_named

RESULTS = Path(__file__).parents[1] / "book" / "results"


def network(seed: int) -> tuple[UNet, Cohort]:
    """The first network of chapter 2 and its training cases."""
    sizes = profile_named("lite")
    train = phantom.cohort(sizes.n_train, scanner="A", size=sizes.size, seed=seed)
    steps = sizes.steps
    unet = fitted(fit_unet, train, steps=steps, channels=sizes.channels, dropout=0.1, seed=10 * seed)
    return unet, train


def convex_rows() -> pd.DataFrame:
    parts = []
    for seed in (0, 1):
        unet, train = network(seed)
        for scanner in "AD":
            cohort = phantom.cohort(30, scanner=scanner, seed=seed + 1000)
            labels = to_numpy(predict_probabilities(unet, cohort.images).argmax(dim=1))
            pixels = stratified_pixels(labels, n_each=6, seed=seed)
            where = pixels[["case", "row", "column"]].to_numpy()
            closed, exact = check_closed_form(unet, train, cohort.images, where, n_training=24000)
            parts.append(pixels.assign(seed=seed, domain=scanner, closed=closed, exact=exact))
    return pd.concat(parts, ignore_index=True)


def speed_rows() -> pd.DataFrame:
    unet, train = network(0)
    cohort = phantom.cohort(16, scanner="B", seed=1000)
    images = cohort.images
    rows: list[tuple[str, float, str]] = []
    start = time.perf_counter()
    head = FragilityMap().fit(unet, train)
    rows.append(("last layer: one pass over 480 training slices", time.perf_counter() - start, "s"))
    passes, maps = [], []
    device_images = torch.from_numpy(images)
    with torch.no_grad():
        for _ in range(9):  # in turn
            passes.append(median_seconds(lambda: unet(device_images), 1))
            maps.append(median_seconds(lambda: head.flip_cost(images), 1))
    a_map = statistics.median(maps) / len(images)
    rows.append(("one pass of the U-Net", 1000 * statistics.median(passes) / len(images), "ms a slice"))
    rows.append(("flip-cost map, last layer", 1000 * a_map, "ms a slice"))
    rows.append(("flip-cost map, last layer", statistics.median(maps) / statistics.median(passes), "passes"))
    start = time.perf_counter()
    decoder = FragilityMap(search="decoder").fit(unet, train)
    rows.append(("decoder: diagonal of the Fisher matrix", time.perf_counter() - start, "s"))
    spent = median_seconds(lambda: decoder.flip_cost(images), 2) / len(images)
    rows.append(("flip-cost map, decoder, 16 draws", 1000 * spent, "ms a slice"))
    penalty = penalty_set(unet, train, n_images=16, seed=0)
    for name, options in {
        "two targets, 13 samples": MaskSearch(targets=("dilated", "eroded")),
        "six targets, 37 samples": MaskSearch(),
        "as published, 12 samples": MaskSearch.published(),
    }.items():
        spent = median_seconds(lambda o=options: search_masks(unet, images[0], penalty, o, budget=5e-3), 1)  # type: ignore[misc]
        rows.append((f"mask search, {name}", spent, "s an image"))
    start = time.perf_counter()
    WeightNoise(budget=2e-3).fit(unet, train)
    rows.append(("weight noise: its scale", time.perf_counter() - start, "s"))
    labels = to_numpy(predict_probabilities(unet, images).argmax(dim=1))
    where = stratified_pixels(labels, n_each=2, seed=0)[["case", "row", "column"]].to_numpy()
    search = PixelSearch(steps=25, n_penalty=12)
    start = time.perf_counter()
    search_pixels(unet, images, where, train, search)
    a_pixel = (time.perf_counter() - start) / len(where)
    rows.append(("pixel search, all weights, 25 steps, 12 slices", a_pixel, "s a pixel"))
    whole = a_pixel * images[0, 0].size
    rows.append(("the same for all pixels of a slice, extrapolated", whole / 3600, "h a slice"))
    rows.append(("closed form, times faster than that", whole / a_map, ""))
    table = pd.DataFrame(rows, columns=["what", "value", "unit"])
    return table.assign(threads=torch.get_num_threads(), torch=torch.__version__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--convex", action="store_true")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    for name, wanted, measure in (
        ("convex", asked.convex, convex_rows),
        ("speed", asked.speed, speed_rows),
    ):
        if wanted:
            table = measure().assign(commit=ledger.provenance(profile="lite", seed=0)["commit"])
            table.to_csv(RESULTS / f"chapter_05_{name}.csv", index=False, float_format="%.4g")
            print(table.to_string())


if __name__ == "__main__":
    main()
