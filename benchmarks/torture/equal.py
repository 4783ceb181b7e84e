"""Determinism: equal bytes at equal threads, and how far threads and precisions move a result.

    python benchmarks/torture/equal.py    # two minutes

A training, a distortion, a predicted quality, a fragility and a phantom are computed in new processes:
three times with one thread, and once each with two threads and with training in bfloat16. The first three
must have equal bytes. For the others the largest difference is printed; the tolerances are those that the
tests of the book allow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from common import ROOT, Counts

CODE = """
import hashlib, json, sys
import numpy as np, torch
from segconf_lite import confidence
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import phantom
from segconf_lite.fragility import FragilityMap
from segconf_lite.models import Training, fit_unet
train, test = phantom.cohort(24, size=32), phantom.cohort(6, size=32, seed=1)
quick = {"steps": 12, "batch_size": 8}
unet = fit_unet(train, precision=sys.argv[1], progress=False, channels=(8, 16), **quick)
methods = {
    "distortion": confidence.SegmentationDistortion(training=quick),
    "predicted quality": confidence.QualityPredictor(adversary=None, training=Training(**quick)),
    "Mahalanobis": confidence.PooledMahalanobis(),
    "dropout": confidence.MCDropout(n_samples=3),
    "fragility": FragilityMap(),
}
weights = to_numpy(torch.cat([p.flatten() for p in unet.parameters()]))
found = {"phantom": test.images, "weights": weights}
unet_d = fit_unet(train, progress=False, channels=(8, 16), dropout=0.1, precision=sys.argv[1], **quick)
for name, method in methods.items():
    network = unet_d if name == "dropout" else unet
    found[name] = to_numpy(method.fit(network, train).uncertainty(test.images))
np.savez(sys.argv[2], **found)
"""
LIMITS = {  # part -> largest relative difference to one thread in single precision: two threads, bfloat16
    "phantom": (0.0, 0.0),
    "weights": (1e-4, 0.05),
    "distortion": (1e-3, 1.0),
    "predicted quality": (1e-3, 1.0),
    "Mahalanobis": (1e-3, 1.0),
    "dropout": (1e-2, 1.0),
    "fragility": (1e-2, 1.0),
}


def results(threads: int, precision: str) -> dict[str, np.ndarray]:
    """The results of a new process."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        variables |= {"SEGCONF_HOME": folder}
        command = [sys.executable, "-c", CODE, precision, f"{folder}/found.npz"]
        subprocess.run(command, check=True, env=variables)
        with np.load(f"{folder}/found.npz") as file:
            return {name: file[name] for name in file}


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(abs(first - second).max() / max(abs(first).max(), 1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="store_true", help="write the counts to book/results/torture.csv")
    parser.add_argument("--repeats", type=int, default=3, help="number of equal processes")
    chosen, counts = parser.parse_args(), Counts("equal", 0)
    first = results(1, "fp32")
    for _ in range(chosen.repeats - 1):
        again = results(1, "fp32")
        for name, value in first.items():
            same = value.tobytes() == again[name].tobytes()
            counts.add("equal threads", None if same else f"other bytes: {name}")
    for column, (what, other) in enumerate({"two threads": (2, "fp32"), "bfloat16": (1, "bf16")}.items()):
        moved = {name: difference(first[name], value) for name, value in results(*other).items()}
        print(what, json.dumps({name: float(f"{size:.2g}") for name, size in moved.items()}))
        for name, size in moved.items():
            far = size > LIMITS[name][column]
            counts.add(what, f"too far: {name} by {size:.2g}" if far else None)
    raise SystemExit(counts.report(store=chosen.store) > 0)


if __name__ == "__main__":
    main()
