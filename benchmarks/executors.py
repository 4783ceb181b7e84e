"""Does the sweep of claims gain from a second worker, and from a cluster? Are the tables the same?

    pip install snakemake-executor-plugin-slurm
    pip install snakemake-executor-plugin-kubernetes snakemake-storage-plugin-fs
    python benchmarks/executors.py    # some 15 minutes on two cores; nothing else should run meanwhile

Chapter 1 on the phantom alone, with eight seeds that are not stored, in temporary clones of the committed
state, each with an empty store of networks. Four runs with one worker, the same four with two, then the other
four in the same clone. All eight go through Snakemake's plugin for Slurm as well, at once, with the stand-ins
of `slurm_stand_in.py` in place of a cluster. Kubernetes is a dry run only. ``book/results/executors.csv``
gets a row for each. If other programs took more than 5 % of the busy time of the cores, that is said.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import slurm_stand_in

from segconf_lite.claims import runs

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "book/results/executors.csv"
COLUMNS = ("what", "workers", "jobs", "seconds", "ratio", "equal", "commit", "device", "day")
CHAPTER, SEEDS = 1, tuple(range(41, 49))
STORED = 21  # a seed of the same chapter whose table is in the repository
OWN = ("SEGCONF_DATA", "OMP_NUM_THREADS", "PYTHONPATH")  # of the caller, not of the sweep
SLURM = ("--executor", "slurm", "--slurm-init-seconds-before-status-checks", "5")
KUBERNETES = ("--dry-run", "--executor", "kubernetes", "--default-storage-provider", "fs")


class Sweep(NamedTuple):
    """What a call of Snakemake took, and said."""

    seconds: float  # until Snakemake ended
    until_last: float  # until the last table was written
    said: str


def clone(folder: Path) -> Path:
    """The committed state, in a folder that will also hold the store of networks."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    return checkout


def tables(checkout: Path, seeds: Iterable[int]) -> dict[int, Path]:
    """Where the runs of the seeds leave their tables."""
    return {seed: runs.run_path(checkout / "book/results", CHAPTER, seed) for seed in seeds}


def sweep(checkout: Path, seeds: Iterable[int], *options: str, first: Path | None = None) -> Sweep:
    """Call Snakemake for some seeds of the chapter; `first` is a folder to be put first on PATH."""
    wanted = list(seeds)
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    environment |= {"SEGCONF_HOME": str(checkout.parent / "home"), "PYTHONPATH": str(checkout)}
    environment["PATH"] = os.pathsep.join(filter(None, [first and str(first), environment.get("PATH")]))
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--keep-going"]
    command += ["--rerun-triggers", "mtime", *options, "--config", f"only={{{CHAPTER}: {wanted}}}"]
    start = time.time()
    done = subprocess.run(
        command, cwd=checkout, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    seconds = time.time() - start
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    made = [path.stat().st_mtime for path in tables(checkout, wanted).values() if path.is_file()]
    return Sweep(seconds, max(made, default=start) - start, done.stdout)


def are_equal(some: Mapping[int, Path], others: Mapping[int, Path]) -> bool:
    """Whether the tables of the same seeds have the same CSV text, to the byte."""
    return all(gzip.decompress(some[k].read_bytes()) == gzip.decompress(others[k].read_bytes()) for k in some)


def busy_seconds() -> tuple[float, float]:
    """Seconds that the cores were busy since the computer started, and those of finished child processes."""
    fields = [int(word) for word in Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:9]]
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    every = sum(fields) - fields[3] - fields[4]  # less idle, and idle while waiting for a disk
    return every / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def local(folder: Path) -> tuple[list[dict[str, object]], Path, float]:
    """One worker against two; the clone that has all tables, and the seconds of two workers for all seeds."""
    half, before = SEEDS[: len(SEEDS) // 2], busy_seconds()
    one, two = clone(folder / "one"), clone(folder / "two")
    alone = sweep(one, half, "--cores", "1").seconds
    print(f"one worker: {alone:.0f} s", flush=True)
    pair = sweep(two, half, "--cores", "2").seconds
    print(f"two workers: {pair:.0f} s", flush=True)
    same = are_equal(tables(one, half), tables(two, half))
    finished = {path: path.stat().st_mtime_ns for path in tables(two, half).values()}
    whole = pair + sweep(two, SEEDS, "--cores", "2").seconds
    if any(path.stat().st_mtime_ns != written for path, written in finished.items()):
        raise SystemExit("the second call made finished tables again")
    every, own = (now - then for now, then in zip(busy_seconds(), before, strict=True))
    what = "local" if own > 0.95 * every else "local, beside other work"
    print(f"of {every:.0f} busy seconds of the cores, {own:.0f} were the sweep's", flush=True)
    found = [
        {"what": what, "workers": 1, "jobs": len(half), "seconds": alone},
        {"what": what, "workers": 2, "jobs": len(half), "seconds": pair}
        | {"ratio": alone / pair, "equal": same},
        {"what": what, "workers": 2, "jobs": len(SEEDS), "seconds": whole},  # in two calls
    ]
    return found, two, whole


def simulated_slurm(folder: Path, reference: Path, seconds: float) -> list[dict[str, object]]:
    """All runs at once through the plugin for Slurm; the ratio is two local workers' seconds to these."""
    checkout, commands = clone(folder / "slurm"), slurm_stand_in.install(folder / "stand-ins")
    n_jobs = len(SEEDS)
    taken = sweep(checkout, SEEDS, *SLURM, "--jobs", str(n_jobs), first=commands)
    same = are_equal(tables(checkout, SEEDS), tables(reference, SEEDS))
    ended = [path.read_text("utf-8") for path in sorted((folder / "stand-ins/jobs").glob("*/state"))]
    if ended != ["COMPLETED"] * n_jobs:
        raise SystemExit(f"expected {n_jobs} completed jobs, got {ended}")
    about = {"workers": n_jobs, "jobs": n_jobs, "equal": same}
    return [
        {"what": f"simulated Slurm, until {end}", "seconds": value, "ratio": seconds / value, **about}
        for end, value in (("the last table", taken.until_last), ("Snakemake ends", taken.seconds))
    ]


def kubernetes(folder: Path) -> list[dict[str, object]]:
    """How many runs a dry run would start, asked for the missing ones and one that is stored."""
    checkout, shared = clone(folder / "kubernetes"), folder / "shared"
    shared.mkdir()
    options = (*KUBERNETES, "--default-storage-prefix", str(shared), "--jobs", str(len(SEEDS)))
    said = sweep(checkout, [STORED, *SEEDS], *options).said
    listed = len(re.findall(r"^ +output: ", said, flags=re.MULTILINE))
    return [{"what": "Kubernetes, dry run", "workers": len(SEEDS), "jobs": listed}]


def has(*plugins: str) -> bool:
    """Whether plugins of Snakemake are installed."""
    missing = [name for name in plugins if importlib.util.find_spec(f"snakemake_{name}") is None]
    if missing:
        print("left out, not installed:", *missing)
    return not missing


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found, reference, seconds = local(folder)
        with contextlib.chdir(reference):  # the commit is that of the clone
            origin = runs.provenance(profile="lite", seed=0)
        if has("executor_plugin_slurm"):
            found += simulated_slurm(folder, reference, seconds)
        if has("executor_plugin_kubernetes", "storage_plugin_fs"):
            found += kubernetes(folder)
    about = {key: origin[key] for key in ("commit", "device", "day")}
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in found:
            rounded = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(rounded | about)
            print(rounded)


if __name__ == "__main__":
    main()
