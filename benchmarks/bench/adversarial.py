"""What an adversarial training step costs, in steps without an adversary.

    python benchmarks/bench/adversarial.py

The time of a step is the difference between trainings of 3 and of 3 + n steps, so that what a training
costs before its first step does not count. Features of the network are computed in every step, not cached.
"""

from __future__ import annotations

import statistics

from common import Row, main, seconds_of

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import Adversary, predictor_training
from segconf_lite.confidence.predictor_training import fit_quality_network
from segconf_lite.models import UNet

STEPS = 10
KINDS = {"plain step": None, "adversarial step": Adversary(warm_up=0)}


def measure(small: bool, runs: int) -> list[Row]:
    unet, rows = UNet(n_classes=4).eval(), []
    kept, predictor_training.CACHE_BYTES = predictor_training.CACHE_BYTES, 0
    for batch, side in ((8, 64),) if small else ((8, 64), (32, 96), (8, 192)):
        train = phantom.cohort(64, size=side)

        def fit(adversary: Adversary | None, steps: int, batch: int = batch, train: object = train) -> None:
            options = {"steps": steps, "batch_size": batch, "progress": False}
            fit_quality_network(unet, train, adversary=adversary, **options)

        acts = {
            (name, steps): lambda adversary=adversary, steps=steps: fit(adversary, steps)
            for name, adversary in KINDS.items()
            for steps in (3, 3 + STEPS)
        }
        spent = seconds_of(acts, runs)
        steps = {
            name: [(b - a) / STEPS for a, b in zip(spent[name, 3], spent[name, 3 + STEPS], strict=True)]
            for name in KINDS
        }
        for name in KINDS:
            ratio = statistics.median(steps[name]) / statistics.median(steps["plain step"])
            size, n = f"{batch} x {side} x {side}", batch * side**2
            rows.append(Row(name, size, n, statistics.median(steps[name]), ratio))
    predictor_training.CACHE_BYTES = kept
    return rows


if __name__ == "__main__":
    main("What does an adversary cost, in plain training steps?", measure)
