"""What a training step costs, what determinism costs, and whether equal seeds give equal bytes.

    python benchmarks/training_step.py --out book/results/gpu_steps.csv

On a card or, where there is none, on the processor; a quick look on either. Rows of other devices stay.

* **Networks**: the lite U-Net of the series (batches of 32), and the sixteen small networks of the
  foreground study in chapter 7, `full`, each with the windows that it learns from. Milliseconds per step
  are a difference of two trainings that are checked equally often, so that start and validation drop out.
* **Ways**: `eager`; `graphs`, CUDA graphs as `fit_network` takes them on a card; `deterministic`, with
  `torch.use_deterministic_algorithms`, where operations without a deterministic form only warn, and are
  named.
* **Equal bytes**: two trainings with one seed, and where they differ, the largest difference of weights and
  losses.
* **Work on the host**: launches, copies and waits per step on a card, operations on a processor, as torch's
  profiler counts them.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import os
import re
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only so
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402

from segconf_lite.claims.runs import provenance  # noqa: E402
from segconf_lite.cohorts import phantom  # noqa: E402
from segconf_lite.cohorts.balls import ball_cohort  # noqa: E402
from segconf_lite.models import fit  # noqa: E402
from segconf_lite.models.fit import fit_network, fit_unet  # noqa: E402
from segconf_lite.models.segmenter import KINDS, SEGMENTER_NORMS, Segmenter  # noqa: E402
from segconf_lite.models.training import CHECKS  # noqa: E402
from segconf_lite.stress.windows import crop_around  # noqa: E402

COLUMNS = ("what", "network", "way", "value", "unit", "device", "torch", "threads", "commit", "day")
STUDY_STEPS = 1500  # of each of the sixteen networks, notebooks/07 in full
Train = Callable[[int], nn.Module]  # number of steps -> the trained network


def lite_unet() -> Train:
    cohort = phantom.cohort(96)
    return lambda steps: fit_unet(cohort, steps=steps, progress=False)


def foreground(kind: str, norm: str, window: int) -> Train:
    train, held = ball_cohort(140, seed=1000), ball_cohort(32, seed=2000)

    def crop(network: nn.Module, images: Any, labels: Any, generator: torch.Generator) -> Any:
        return crop_around(images, labels, window, generator=generator)

    def build() -> Segmenter:
        return Segmenter(kind=kind, norm=norm, size=window, n_classes=2, channels=(16, 32, 64))

    how: dict[str, Any] = {"prepare": crop, "on_device": True, "validation": held, "progress": False}
    return lambda steps: fit_network(build, train, steps=steps, batch_size=8 if window == 32 else 4, **how)


@contextlib.contextmanager
def way_of(name: str) -> Iterator[None]:
    before = fit.CUDA_GRAPHS, torch.are_deterministic_algorithms_enabled()
    fit.CUDA_GRAPHS = name == "graphs"
    torch.use_deterministic_algorithms(name == "deterministic", warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # finds faults, decides no result, costs time
    try:
        yield
    finally:
        fit.CUDA_GRAPHS = before[0]
        torch.use_deterministic_algorithms(before[1])


def seconds_per_step(train: Train, more: int) -> float:
    """From the medians between two checks, with one step between them and with 1 + `more`.

    A check comes at equal cost in both, and the making of a graph falls before the first.
    """

    def between_checks(steps: int) -> float:
        seconds = [check["seconds"] for check in train(CHECKS * steps).history]
        return statistics.median(later - earlier for earlier, later in itertools.pairwise(seconds))

    return (between_checks(1 + more) - between_checks(1)) / more


def per_step(train: Train) -> Counter[str]:
    """Events per step by name, from torch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    found = []
    for steps in (CHECKS, 2 * CHECKS):
        with torch.profiler.profile(activities=activities) as profiler:
            train(steps)
        found.append(Counter({event.key: event.count for event in profiler.key_averages()}))
    return Counter({name: round((n - found[0][name]) / CHECKS) for name, n in found[1].items()})


def differences(first: nn.Module, second: nn.Module) -> tuple[bool, float, float]:
    """Whether the bytes are equal, and the largest differences of weights and of validation losses."""
    pairs = list(zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    equal = all(torch.equal(a, b) for a, b in pairs)
    weights = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    losses = zip(first.history, second.history, strict=False)  # type: ignore[call-overload]
    return equal, weights, max(abs(a["validation_loss"] - b["validation_loss"]) for a, b in losses)


def measure() -> Iterator[tuple[str, str, str, Any, str]]:
    on_card = torch.cuda.is_available()
    more = 20 if on_card else 2
    unet, ways = lite_unet(), ("eager", "deterministic")
    cost = {}
    for way in ways:
        with way_of(way), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            cost[way] = seconds_per_step(unet, more)
            equal, weights, losses = differences(unet(CHECKS * more), unet(CHECKS * more))
        yield "training step", "lite U-Net", way, 1000 * cost[way], "ms"
        yield "equal seeds, equal bytes", "lite U-Net", way, equal, ""
        yield "equal seeds, largest difference of weights", "lite U-Net", way, weights, ""
        yield "equal seeds, largest difference of validation losses", "lite U-Net", way, losses, ""
        named = {
            m[1] for w in said if (m := re.match(r"(\w+) does not have a deterministic", str(w.message)))
        }
        if way == "deterministic":
            yield "operations without a deterministic form", "lite U-Net", way, " ".join(sorted(named)), ""
    yield "deterministic / eager", "lite U-Net", "", cost["deterministic"] / cost["eager"], "times"
    total: Counter[str] = Counter()
    ways = ("eager", "graphs") if on_card else ("eager",)
    for kind, norm, window in itertools.product(KINDS, SEGMENTER_NORMS, (32, 96)):
        name, train = f"{kind}, {norm}, {window} px", foreground(kind, norm, window)
        for way in ways:
            with way_of(way):
                seconds = seconds_per_step(train, more)
                yield "training step", name, way, 1000 * seconds, "ms"
                total[way] += seconds * STUDY_STEPS  # type: ignore[assignment]
                if window == 32 and norm == "batch":
                    yield from counted(per_step(train), name, way)
    for way in ways:
        yield (
            "16 networks, 1,500 steps each (steps measured, times 1,500)",
            "foreground study",
            way,
            total[way],
            "s",
        )


def counted(events: Counter[str], name: str, way: str) -> Iterator[tuple[str, str, str, Any, str]]:
    runtime = {
        "launches": r"cu(da)?Launch\w*|cudaGraphLaunch",
        "copies": r"cudaMemcpy\w*",
        "waits": r"cuda\w*Synchronize",
    }
    groups = runtime if torch.cuda.is_available() else {"operations": r"aten::\w+"}
    for what, pattern in groups.items():
        n = sum(count for event, count in events.items() if re.fullmatch(pattern, event))
        yield f"{what} per step", name, way, n, ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "book" / "results" / "gpu_steps.csv")
    out = parser.parse_args().out
    origin = provenance(profile="lite", seed=0)
    about = {name: str(origin[name]) for name in ("device", "threads", "commit", "day")}
    about["torch"] = torch.__version__
    kept: list[dict[str, str]] = []
    if out.is_file():
        with out.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if row["device"] != about["device"]]
    for what, network, way, value, unit in measure():
        value = f"{value:.4g}" if isinstance(value, float) else str(value)
        kept.append({"what": what, "network": network, "way": way, "value": value, "unit": unit, **about})
        print(f"{what:<60} {network:<28} {way:<14} {value} {unit}", flush=True)
        with out.open("w", newline="", encoding="utf-8") as file:  # each time: a time limit may end this
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)


if __name__ == "__main__":
    main()
