"""Peak memory of every method's `fit` and `uncertainty`, above the data: 2,000 slices of 256x256.

Each measurement is a process of its own. It makes the slices (twelve simulated hearts, repeated with noise,
each six slices another subject) and a network, resets the peak of its resident memory, and reads it after
`fit` and again after `uncertainty` of all slices. The network is our `UNet` with random weights, because
memory does not depend on what was learned, and trainings take two steps, because it does not depend on their
number either. Its 3x3 convolutions act on each channel by itself, where a method allows that: activations
keep their sizes, and a pass takes a fraction of its time. Linux only.

    python benchmarks/memory.py --slices 128 256 512            # every method, writes book/results/memory.csv
    python benchmarks/memory.py --slices 2000 --only Distortion

New rows replace those of the same method and size. Where a method was not run at 2,000 slices, its figure
there is the straight line through at least three sizes from 128 on; the column `how` says which it is. A
batch holds 64 slices, and from one batch to two the memory makes a step that no line must follow.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "book/results/memory.csv"
N_SLICES, SIZE, LIMIT_MIB, TWO_BATCHES = 2000, 256, 3 * 1024, 128
KEY = ["method", "part", "slices", "how"]
SHORT = {"steps": 2, "progress": False}
OPENED = ("SegmentationDistortion", "LatentMahalanobis")  # they cut the U-Net open, which must be ours then


def methods():
    """Name -> a method with its default settings, but for the steps of its training."""
    from segconf_lite import confidence
    from segconf_lite.fragility import FragilityMap, MaskSearch, WeightNoise
    from segconf_lite.models import Training

    learned = Training(steps=2, learning_rate=2e-3, weight_decay=1e-3)
    return {
        "PredictiveEntropy": confidence.PredictiveEntropy,
        "MaximumProbability": confidence.MaximumProbability,
        "ProbabilityMargin": confidence.ProbabilityMargin,
        "SoftDiceConfidence": confidence.SoftDiceConfidence,
        "MCDropout": confidence.MCDropout,
        "DeepEnsemble": lambda: confidence.DeepEnsemble(training=SHORT),
        "TestTimeAugmentation": confidence.TestTimeAugmentation,
        "ScoreAgreement": lambda: confidence.ScoreAgreement(confidence.TestTimeAugmentation()),
        "PooledMahalanobis": confidence.PooledMahalanobis,
        "LatentMahalanobis": lambda: confidence.LatentMahalanobis(training=SHORT),
        "SegmentationDistortion": lambda: confidence.SegmentationDistortion(training=SHORT),
        "QualityPredictor": lambda: confidence.QualityPredictor(training=learned),
        "QualityPredictor, no adversary": lambda: confidence.QualityPredictor(
            training=learned, adversary=None
        ),
        "BetaQualityPredictor": lambda: confidence.BetaQualityPredictor(training=learned),
        "FragilityMap, head": FragilityMap,
        "FragilityMap, decoder": lambda: FragilityMap(search="decoder"),
        "FragilityMap, mask": lambda: FragilityMap(search=MaskSearch(steps=2)),
        "WeightNoise": lambda: WeightNoise(budget=1e-3),
    }


def make_cohort(n_slices):
    """Slices of scanner A: twelve, repeated with noise, so that they cost little to make."""
    from segconf_lite.cohorts import Cohort, phantom

    few, rng = phantom.cohort(12, size=SIZE), np.random.default_rng(0)
    index = np.arange(n_slices) % len(few)
    images = few.images[index]
    for image in images:
        image += 0.05 * rng.standard_normal(image.shape, np.float32)
    return Cohort(
        images=images,
        labels=few.labels[index],
        domains=few.domains[index],
        subjects=np.array([f"subject {number // 6}" for number in range(n_slices)]),
        sessions=np.array([f"session {number // 6}" for number in range(n_slices)]),
        spacing_mm=few.spacing_mm[index],
        class_names=few.class_names,
    )


def make_network(kind):
    """Our U-Net with dropout, in eval mode; "depthwise" replaces its 3x3 convolutions."""
    import torch
    from torch import nn

    from segconf_lite.models import UNet

    torch.manual_seed(0)
    network = UNet(n_classes=4, dropout=0.1)
    for module in list(network.modules()) if kind == "depthwise" else []:
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):
                groups = math.gcd(child.in_channels, child.out_channels)
                options = {"padding": child.padding, "groups": groups, "bias": child.bias is not None}
                setattr(module, name, nn.Conv2d(child.in_channels, child.out_channels, 3, **options))
    return network.eval()


def memory_mib(field):
    """A line of this process's status: VmRSS, what it holds, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(method, n_slices):
    """Peak MiB above the data and seconds of `fit` and of `uncertainty`, as rows; runs in a fresh process."""
    kind = "full" if method in OPENED else "depthwise"
    build, cohort, network = methods()[method], make_cohort(n_slices), make_network(kind)
    rows, fitted, start_mib = [], build(), memory_mib("VmRSS")
    for part in ("fit", "uncertainty"):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak is what is held now
        start = time.perf_counter()
        if part == "fit":
            fitted.fit(network, cohort)
        else:
            found = fitted.uncertainty(cohort.images)
            assert len(found) == n_slices
        rows.append(
            {
                "method": method,
                "part": part,
                "network": kind,
                "slices": n_slices,
                "how": "measured",
                "peak_mib": round(memory_mib("VmHWM") - start_mib),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    return rows


def in_a_process(method, n_slices):
    """Rows of `measure`, with where they were measured."""
    command = [sys.executable, __file__, "--one", json.dumps([method, n_slices])]
    with tempfile.TemporaryDirectory() as folder:  # no training is read from the user's store
        environment = {**os.environ, "SEGCONF_HOME": folder, "SEGCONF_DEVICE": "cpu"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{method}, {n_slices} slices: {done.stderr[-600:]}", flush=True)
        return []
    import torch

    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    rows = json.loads(done.stdout.splitlines()[-1])
    here = {"commit": commit, "machine": _machine(), "threads": torch.get_num_threads()}
    for row in rows:
        row |= {**here, "torch": torch.__version__}
        print(*(row[name] for name in ("method", "part", "slices", "peak_mib", "seconds")), flush=True)
    return rows


def _machine():
    """The processor and the memory of this machine."""
    models = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if "model name" in line]
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {total:.0f} GiB"


def with_lines(table):
    """The measured rows, and a straight line to 2,000 slices where none was measured there."""
    rows = table[table["how"] == "measured"]
    lines = []
    for _, group in rows.groupby(KEY[:2], sort=False):
        group = group[group["slices"] >= TWO_BATCHES]
        if len(group) > 2 and group["slices"].max() < N_SLICES:
            slope, start = np.polyfit(group["slices"], group["peak_mib"], 1)
            last, sizes = group.iloc[-1].to_dict(), ", ".join(map(str, sorted(group["slices"])))
            peak = max(round(start + slope * N_SLICES), int(group["peak_mib"].max()))
            lines.append(
                last
                | {
                    "slices": N_SLICES,
                    "how": f"line through {sizes}",
                    "peak_mib": peak,
                    "seconds": float("nan"),
                }
            )
    return pd.concat([rows, pd.DataFrame(lines)]) if lines else rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--only", nargs="+", default=[""], help="methods whose name holds one of these texts")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    for method in methods():
        for n_slices in options.slices:
            if any(text in method for text in options.only):
                rows = pd.DataFrame(in_a_process(method, n_slices))
                known = [pd.read_csv(TABLE)] if TABLE.exists() else []
                table = pd.concat([*known, rows]).drop_duplicates(KEY, keep="last")
                table = with_lines(table).sort_values(KEY[:3])
                TABLE.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    whole = table[table["slices"] == N_SLICES]
    print(whole.sort_values("peak_mib")[[*KEY, "peak_mib"]].to_string(index=False))
    print(
        f"above {LIMIT_MIB} MiB: {sorted(set(whole.loc[whole['peak_mib'] > LIMIT_MIB, 'method'])) or 'none'}"
    )


if __name__ == "__main__":
    main()
