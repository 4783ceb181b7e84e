"""Time what users wait for, and write benchmarks/speed.csv.

    python benchmarks/speed.py

Every figure is the median of several runs on this machine; the file records the machine's threads.
"""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench.common import peak_megabytes

from segconf_lite.cohorts import Cohort, gm_challenge, phantom
from segconf_lite.confidence import Adversary, QualityPredictor, SegmentationDistortion, predictor_training
from segconf_lite.confidence.predictor import THREE_LEVELS
from segconf_lite.confidence.predictor_training import fit_quality_network
from segconf_lite.evaluation import (
    excess_aurc_interval,
    expected_calibration_error,
    pairwise_dice,
    surface_dice_per_case,
)
from segconf_lite.models import UNet, fit_autoencoder, fit_unet, predict_probabilities
from segconf_lite.models.splice import TapSplice


def median_seconds(act: Callable[[], object], repeats: int = 5) -> float:
    act()  # warm-up
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def process_seconds(program: str) -> float:
    return median_seconds(lambda: subprocess.run([sys.executable, "-c", program], check=True), 7)


def peak_mb(n_cases: int) -> float:
    """Peak memory of making a phantom cohort, above what was held before."""
    tracemalloc.start()
    phantom.cohort(n_cases)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def step_seconds(train: Cohort, precision: str) -> float:
    """One training step, without what a run costs before its first."""

    def run(steps: int) -> float:
        return median_seconds(lambda: fit_unet(train, steps=steps, precision=precision, progress=False), 3)

    return (run(24) - run(4)) / 20


def evaluation_rows() -> list[tuple[str, float, str]]:
    """What judging costs: orders, borders, pixels."""
    rng = np.random.default_rng(0)
    risk, order, subjects = rng.random(2000), rng.random(2000), np.arange(2000) // 10
    labels = phantom.cohort(200).labels
    shifted = np.roll(labels, 1, axis=1)
    options = {"n_classes": 4, "empty": "skip"}
    chances = rng.random((1000, 4, 96, 96), dtype=np.float32)
    chances /= chances.sum(axis=1, keepdims=True)
    truth = rng.integers(0, 4, (1000, 96, 96))
    stack = np.stack([labels[:50]] * 15, axis=1)
    timed = {
        "eAURC, 2,000 cases, 1,000 bootstrap draws": lambda: excess_aurc_interval(risk, order, subjects),
        "surface Dice, 200 slices, 3 classes": lambda: surface_dice_per_case(
            labels, shifted, tolerance_mm=1.5, spacing_mm=(1.5, 1.5), **options
        ),
        "ECE, 1,000 slices, 4 classes": lambda: expected_calibration_error(chances, truth),
        "Dice of all pairs of 15 answers, 50 slices": lambda: pairwise_dice(stack, stack, **options),
    }
    rows = [(what, median_seconds(act, 3), "s") for what, act in timed.items()]
    tracemalloc.start()
    expected_calibration_error(chances, truth)
    rows.append(("ECE, 1,000 slices, memory above the input", tracemalloc.get_traced_memory()[1] / 1e6, "MB"))
    tracemalloc.stop()
    return rows


def distortion_rows() -> list[tuple[str, float, str]]:
    """Segmentation distortion against one pass of the network, at batch 32, in one run."""
    cohort = phantom.cohort(96)
    images = torch.from_numpy(cohort.images[:32])
    unet = UNet(n_classes=4).eval()
    start = time.perf_counter()
    coder = fit_autoencoder(unet, phantom.cohort(480), steps=200, progress=False)
    rows = [("autoencoder, 480 slices, 200 steps", time.perf_counter() - start, "s")]
    cut = SegmentationDistortion(autoencoder=coder).fit(unet, cohort)
    tapped = SegmentationDistortion(autoencoder=coder).fit(unet, cohort)
    tapped._opened = TapSplice(unet, "bottleneck")

    def one_pass() -> None:
        with torch.no_grad():
            unet(images)

    acts = {
        "pass": one_pass,
        "cut": lambda: cut.uncertainty(images),
        "taps": lambda: tapped.uncertainty(images),
    }
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(15):  # in turn, so that whatever slows the machine slows all of them
        for name, act in acts.items():
            start = time.perf_counter()
            act()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    rows.append(("one pass, batch 32, 96x96", median["pass"], "s"))
    rows.append(("distortion, decoder cut open", median["cut"] / median["pass"], "passes"))
    rows.append(("distortion, through taps", median["taps"] / median["pass"], "passes"))
    for name, act in acts.items():
        rows.append((f"peak memory of tensors: {name}", peak_megabytes(act), "MB"))
    return rows


def predictor_rows() -> list[tuple[str, float, str]]:
    """What predicted quality costs: its training, a step with and without adversary, and one answer."""
    train, unet = phantom.cohort(480), UNet(n_classes=4).eval()
    rows = []
    start = time.perf_counter()
    options = {"adversary": None, "progress": False}
    network = fit_quality_network(unet, train, steps=200, **options)  # type: ignore[arg-type]
    rows.append(("plain predictor, 480 slices, 200 steps", time.perf_counter() - start, "s"))
    kept, predictor_training.CACHE_BYTES = predictor_training.CACHE_BYTES, 0
    kinds = {"plain": options, "adversary": {"adversary": Adversary(warm_up=0), "progress": False}}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(6):  # in turn
        for name, chosen in kinds.items():
            spent = []
            for steps in (3, 23):
                start = time.perf_counter()
                fit_quality_network(unet, train, steps=steps, **chosen)  # type: ignore[arg-type]
                spent.append(time.perf_counter() - start)
            seconds[name].append((spent[1] - spent[0]) / 20)
    predictor_training.CACHE_BYTES = kept
    plain, attacked = (statistics.median(seconds[name][1:]) for name in kinds)
    rows.append(("plain predictor's step, 32 images, nothing cached", plain, "s"))
    rows.append(("adversarial step, 32 images", attacked / plain, "plain steps"))
    images = torch.from_numpy(train.images[:32])
    full = fit_quality_network(
        unet,
        train,
        modules=THREE_LEVELS,
        probabilities=True,
        steps=2,
        **options,  # type: ignore[arg-type]
    )
    methods = {
        "one level": QualityPredictor(network=network, modules=["penultimate"], probabilities=False).fit(
            unet, train
        ),
        "three levels": QualityPredictor(network=full).fit(unet, train),
    }
    acts: dict[str, Callable[[], object]] = {"pass": lambda: predict_probabilities(unet, images)}
    acts |= {name: lambda m=method: m.uncertainty(images) for name, method in methods.items()}  # type: ignore[misc]
    spent_by: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(17):
        for name, act in acts.items():
            start = time.perf_counter()
            act()
            spent_by[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[2:]) for name, values in spent_by.items()}
    return rows + [(f"predicted quality, {n}", median[n] / median["pass"], "passes") for n in methods]


def main() -> None:
    rows: list[tuple[str, float, str]] = []
    seconds = median_seconds(lambda: phantom.cohort(480))
    rows.append(("phantom, 96x96", 480 / seconds, "slices a second"))
    rows.append(("phantom, peak memory of 240 slices", peak_mb(240), "MB"))
    rows.append(("phantom, peak memory of 960 slices", peak_mb(960), "MB"))
    rows.append(
        (
            "import segconf_lite, above bare Python",
            process_seconds("import segconf_lite") - process_seconds("pass"),
            "s",
        )
    )
    train = phantom.cohort(96)
    for precision in ("bf16", "fp32"):
        rows.append((f"training step, batch 32, 96x96, {precision}", step_seconds(train, precision), "s"))
    unet = UNet(n_classes=4)
    seconds = median_seconds(lambda: predict_probabilities(unet, train.images))
    rows.append(("inference, 96x96, fp32", 1000 * seconds / len(train), "ms a slice"))
    rows += evaluation_rows()
    rows += distortion_rows()
    rows += predictor_rows()
    try:
        rows.append(("spinal-cord cohort, load and crop", median_seconds(gm_challenge.cohort, 3), "s"))
    except FileNotFoundError as reason:
        print(f"left out: {reason}")
    out = Path(__file__).with_name("speed.csv")
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "value", "unit", "threads", "torch"])
        for what, value, unit in rows:
            print(f"{what:<45}{value:>10.3g} {unit}")
            writer.writerow([what, f"{value:.3g}", unit, torch.get_num_threads(), torch.__version__])


if __name__ == "__main__":
    main()
