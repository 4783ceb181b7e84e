"""Does the sweep of claims gain from a second worker, and from a cluster? Are the tables the same?

    pip install snakemake-executor-plugin-slurm
    pip install snakemake-executor-plugin-kubernetes snakemake-storage-plugin-fs
    python benchmarks/executors.py    # some 15 minutes on two cores; nothing else should run meanwhile

Chapter 1 on the phantom alone, with eight seeds that are not stored, in temporary clones of the committed
state, each with an empty store of networks. All eight run with two local workers, and then at once through
Snakemake's plugin for Slurm, with the stand-ins of `slurm_stand_in.py` in place of a cluster. Four of them
run with one local worker and with two. Kubernetes is a dry run only. ``book/results/executors.csv`` gets a
row for each. If other programs took more than 5 % of the busy time of the cores, the rows of the workers say
so. With ``--steps 40`` each training takes 40 optimiser steps, not the book's 200, and the rows say that too.
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
from segconf_lite.notebook import find_notebook

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


def clone(folder: Path, steps: int) -> Path:
    """The committed state, in a folder that also gets the store; `steps` of training, 0 as in the book."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    notebook = find_notebook(f"{CHAPTER:02d}", checkout / "notebooks")
    source = notebook.read_text("utf-8")
    notebook.write_text(source.replace("\nn_steps = 0 ", f"\nn_steps = {steps} "), "utf-8")
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


def workers(folder: Path, steps: int) -> list[dict[str, object]]:
    """One local worker against two, for half of the seeds."""
    half, before = SEEDS[: len(SEEDS) // 2], busy_seconds()
    one, two = clone(folder / "one", steps), clone(folder / "two", steps)
    alone = sweep(one, half, "--cores", "1").seconds
    pair = sweep(two, half, "--cores", "2").seconds
    every, own = (now - then for now, then in zip(busy_seconds(), before, strict=True))
    print(f"of {every:.0f} busy seconds of the cores, {own:.0f} were the sweep's", flush=True)
    what = "workers" if own > 0.95 * every else "workers, beside other work"
    same = are_equal(tables(one, half), tables(two, half))
    return [
        {"what": what, "workers": 1, "jobs": len(half), "seconds": alone},
        {
            "what": what,
            "workers": 2,
            "jobs": len(half),
            "seconds": pair,
            "ratio": alone / pair,
            "equal": same,
        },
    ]


def slurm(folder: Path, steps: int) -> list[dict[str, object]]:
    """All seeds with two local workers, and at once through the plugin for Slurm."""
    here, there = clone(folder / "here", steps), clone(folder / "there", steps)
    commands = slurm_stand_in.install(folder / "stand-ins")
    n_jobs = len(SEEDS)
    plain = sweep(here, SEEDS, "--cores", "2").seconds
    print(f"two local workers: {plain:.0f} s", flush=True)
    taken = sweep(there, SEEDS, *SLURM, "--jobs", str(n_jobs), first=commands)
    ended = [path.read_text("utf-8") for path in sorted((folder / "stand-ins/jobs").glob("*/state"))]
    if ended != ["COMPLETED"] * n_jobs:
        raise SystemExit(f"expected {n_jobs} completed jobs, got {ended}")
    about = {"workers": n_jobs, "jobs": n_jobs, "equal": are_equal(tables(there, SEEDS), tables(here, SEEDS))}
    return [
        {"what": "slurm, local sweep", "workers": 2, "jobs": n_jobs, "seconds": plain},
        *(
            {"what": f"slurm, simulated, until {end}", "seconds": value, "ratio": plain / value, **about}
            for end, value in (("the last table", taken.until_last), ("Snakemake ends", taken.seconds))
        ),
    ]


def kubernetes(folder: Path, steps: int) -> list[dict[str, object]]:
    """How many runs a dry run would start, asked for the missing ones and one that is stored."""
    checkout, shared = clone(folder / "kubernetes", steps), folder / "shared"
    shared.mkdir()
    options = (*KUBERNETES, "--default-storage-prefix", str(shared), "--jobs", str(len(SEEDS)))
    said = sweep(checkout, [STORED, *SEEDS], *options).said
    listed = len(re.findall(r"^ +output: ", said, flags=re.MULTILINE))
    return [{"what": "kubernetes, dry run", "workers": len(SEEDS), "jobs": listed}]


def has(*plugins: str) -> bool:
    """Whether plugins of Snakemake are installed."""
    missing = [name for name in plugins if importlib.util.find_spec(f"snakemake_{name}") is None]
    if missing:
        print("left out, not installed:", *missing)
    return not missing


# Part -> what makes its rows, and the plugins that it needs. Names of its rows begin with that of the part.
PARTS = {
    "slurm": (slurm, ["executor_plugin_slurm"]),
    "workers": (workers, []),
    "kubernetes": (kubernetes, ["executor_plugin_kubernetes", "storage_plugin_fs"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; other rows are kept")
    parser.add_argument("--steps", type=int, default=0, help="of each training; 0: as in the book")
    chosen = parser.parse_args()
    with contextlib.chdir(ROOT):  # the commit is that of the checkout
        origin = runs.provenance(profile="lite", seed=0)
    about = {key: origin[key] for key in ("commit", "device", "day")}
    for part in chosen.part or PARTS:
        measure, needed = PARTS[part]
        if not has(*needed):
            continue
        with tempfile.TemporaryDirectory() as name:
            found = measure(Path(name), chosen.steps)
        rows = []
        if OUT.is_file():
            with OUT.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if not row["what"].startswith(part)]
        for row in found:
            rounded = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            if chosen.steps and "seconds" in row:
                rounded["what"] = f"{row['what']}, {chosen.steps} steps"
            rows.append(rounded | about)
            print(rounded, flush=True)
        with OUT.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
