"""What an uncertainty costs, in passes of the network and in memory.

    python benchmarks/bench/passes.py

Every method is fitted in a few steps (what it has learned does not change its cost), and then asked for the
uncertainty of a batch. The reference is one forward pass of the same network on the same batch without
gradient. The floor is the time that the multiplications and additions of this pass would take at the speed
of a large matrix product on the same machine: what lies between it and 1 is memory, not arithmetic.
"""

from __future__ import annotations

import torch
from common import Act, Row, main, rows_of, seconds_of
from torch.utils.flop_counter import FlopCounterMode

from segconf_lite import confidence
from segconf_lite.cohorts import phantom
from segconf_lite.fragility import FragilityMap, HeadSearch, TangentSearch
from segconf_lite.models import Training, UNet

PASS, FLOOR = "one pass", "floor of a pass"
QUICK = {"steps": 2, "batch_size": 4}
METHODS = {
    "maximum softmax probability": lambda: confidence.MaximumProbability(),
    "entropy": lambda: confidence.PredictiveEntropy(),
    "soft Dice confidence": lambda: confidence.SoftDiceConfidence(),
    "pooled Mahalanobis": lambda: confidence.PooledMahalanobis(),
    "latent Mahalanobis": lambda: confidence.LatentMahalanobis(training=QUICK),
    "segmentation distortion": lambda: confidence.SegmentationDistortion(training=QUICK),
    "quality predictor": lambda: confidence.QualityPredictor(adversary=None, training=Training(**QUICK)),
    "last-layer fragility": lambda: FragilityMap(search=HeadSearch()),
    "MC dropout, 15 samples": lambda: confidence.MCDropout(n_samples=15),
    "test-time augmentation": lambda: confidence.TestTimeAugmentation(),
    "decoder tangent, 16 draws": lambda: FragilityMap(search=TangentSearch(n_slices=8)),
}
SIZES = ((8, 64), (1, 96), (8, 96), (32, 96), (8, 192), (8, 256))  # slices and side in pixels


def operations_per_second(runs: int) -> float:
    """Of a product of two 1024 x 1024 matrices in single precision, at its quickest."""
    a = torch.rand(1024, 1024)
    return 2 * 1024**3 / min(seconds_of({"product": lambda: a @ a}, 5 * runs)["product"])


def floor_of(unet: UNet, images: torch.Tensor, passed: Row, speed: float) -> Row:
    """The row of the floor, from the operations of a pass and that of the measured pass."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        unet(images)
    seconds = counter.get_total_flops() / speed
    return passed._replace(
        what=FLOOR, seconds=seconds, ratio=seconds / passed.seconds, megabytes=float("nan")
    )


def measure(small: bool, runs: int) -> list[Row]:
    rows, speed = [], operations_per_second(runs)
    for batch, side in SIZES[:1] if small else SIZES:
        train = phantom.cohort(24, size=side)
        images = torch.from_numpy(phantom.cohort(batch, size=side, seed=1).images)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            unet = UNet(n_classes=4, dropout=0.1).eval()

        def one_pass(unet: UNet = unet, images: torch.Tensor = images) -> None:
            with torch.no_grad():
                unet(images)

        acts: dict[str, Act] = {PASS: one_pass}
        for name, make in METHODS.items():
            fitted = make().fit(unet, train)
            acts[name] = lambda fitted=fitted, images=images: fitted.uncertainty(images)  # type: ignore[misc]
        size = f"{batch} x {side} x {side}"
        found = rows_of(acts, size=size, n=batch * side**2, runs=runs, reference=PASS, memory=True)
        rows += [*found, floor_of(unet, images, found[0], speed)]
    return rows


if __name__ == "__main__":
    main("What does an uncertainty cost, in passes?", measure)
