"""Run the series of two checkouts side by side, from nothing, and compare the seconds of each notebook.

    git worktree add ../before 436ba51
    python benchmarks/side_by_side.py ../before            # about 50 minutes on two cores

Each notebook runs at the same time in both checkouts, each on one core of its own, with one thread; the cores
are swapped from notebook to notebook. Both use the packages of this environment, a store of networks that
starts empty, and no real cohorts. Nothing else should run meanwhile. The table goes to
``book/results/series_side_by_side.csv``: seconds of both, and their ratio (below 1: this one is quicker).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from segconf_lite.claims import runs

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("02", "07", "01", "03", "04", "05", "06", "08", "90")  # networks that others need are trained first
OUT = ROOT / "book/results/series_side_by_side.csv"


def start(checkout: Path, notebook: str, core: int, home: Path) -> subprocess.Popen[bytes]:
    """One notebook of one checkout on one core."""
    variables = {k: v for k, v in os.environ.items() if k != "SEGCONF_DATA"}
    variables |= {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "SEGCONF_HOME": str(home / "store")}
    log = (home / f"{notebook}.log").open("wb")
    command = [
        sys.executable,
        "-m",
        "segconf_lite.cli",
        "run",
        notebook,
        "--out",
        str(home / f"{notebook}.ipynb"),
    ]
    pinned = ["taskset", "--cpu-list", str(core), *command]
    return subprocess.Popen(pinned, cwd=checkout, env=variables, stdout=log, stderr=log)


def both(checkouts: dict[str, Path], notebook: str, swap: bool, homes: dict[str, Path]) -> dict[str, float]:
    """Seconds of a notebook in each checkout, run at the same time."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    cores = cores[::-1] if swap else cores
    begin, seconds = time.perf_counter(), {}
    running = {
        name: start(path, notebook, core, homes[name])
        for (name, path), core in zip(checkouts.items(), cores, strict=True)
    }
    while len(seconds) < len(running):
        for name, process in running.items():
            if name not in seconds and process.poll() is not None:
                if process.returncode:
                    raise RuntimeError(f"{notebook} failed in {checkouts[name]}, see {homes[name]}")
                seconds[name] = time.perf_counter() - begin
        time.sleep(0.1)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--only", default=",".join(ORDER), help="notebooks, separated by commas")
    asked = parser.parse_args()
    checkouts = {"before": asked.before.resolve(), "now": ROOT}
    commits = {
        name: subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=path, text=True).strip()
        for name, path in checkouts.items()
    }
    folder = Path(tempfile.mkdtemp(prefix="side_by_side_"))
    homes = {name: folder / name for name in checkouts}
    for home in homes.values():
        home.mkdir()
    device, rows = runs.provenance(profile="lite", seed=0)["device"], []
    for k, notebook in enumerate(asked.only.split(",")):
        seconds = both(checkouts, notebook, k % 2 == 1, homes)
        ratio = seconds["now"] / seconds["before"]
        rows.append(
            {
                "notebook": notebook,
                **seconds,
                "ratio": ratio,
                **{f"commit {n}": c for n, c in commits.items()},
            }
        )
        print(rows[-1], flush=True)
        table = pd.DataFrame(rows).assign(device=device)
        table.to_csv(OUT, index=False, float_format="%.4g", lineterminator="\n")
    total = pd.DataFrame(rows)[["before", "now"]].sum()
    seconds = " and ".join(f"{total[name]:.0f} s {name}" for name in checkouts)
    print(f"whole series: {seconds}, ratio {total['now'] / total['before']:.2f}")


if __name__ == "__main__":
    main()
