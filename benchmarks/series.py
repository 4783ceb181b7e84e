"""Minutes of the series on the phantom alone: from scratch, and again with the stored networks.

    python benchmarks/series.py        # some 25 minutes on two cores; nothing else should run meanwhile

The notebooks of a clone of the committed state run as `make run` runs them, in the environment of this
checkout, with an empty store of networks and no real cohorts. Then the finished notebooks are deleted, the
store stays, and they run again. ``book/results/series.csv`` gets a row per notebook, and one for the whole
series by the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import nbformat

from segconf_lite.claims import runs

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "book/results/series.csv"
COLUMNS = ("networks", "notebook", "seconds", "jobs", "threads", "commit", "device", "torch", "day")
WHOLE = "whole series"
OWN = ("SEGCONF_DATA", "OMP_NUM_THREADS", "PYTHONPATH", "MAKEFLAGS")  # of the caller, not of the series


def clone(folder: Path) -> Path:
    """The committed state, with the environment of this checkout."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(checkout / name, (0, 0))  # older than the environment, which is not made again
    return checkout


def seconds_of(checkout: Path, jobs: int) -> dict[str, float]:
    """Run what is not finished; seconds of each notebook in its kernel, and of all by the clock."""
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    environment |= {"SEGCONF_HOME": str(checkout.parent / "home"), "PYTHONPATH": str(checkout)}
    start = time.monotonic()
    subprocess.run(["make", "run", f"JOBS={jobs}"], cwd=checkout, env=environment, check=True)
    whole = time.monotonic() - start
    finished = sorted((checkout / "_build/executed").glob("*.ipynb"))
    taken = {path.stem: nbformat.read(path, as_version=4).metadata.papermill.duration for path in finished}
    return taken | {WHOLE: whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="empty folder for the clone, which then stays")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    chosen, rows = parser.parse_args(), []
    with contextlib.nullcontext(chosen.keep) if chosen.keep else tempfile.TemporaryDirectory() as name:
        checkout = clone(Path(name).resolve())
        origin = runs.provenance(profile="lite", seed=0)
        about = {key: origin[key] for key in ("commit", "device", "day")}
        about |= {"torch": origin["versions"]["torch"], "jobs": chosen.jobs}
        about["threads"] = max(1, (os.cpu_count() or 1) // chosen.jobs)
        for networks in ("trained", "stored"):
            for notebook, seconds in seconds_of(checkout, chosen.jobs).items():
                rows.append(
                    {"networks": networks, "notebook": notebook, "seconds": f"{seconds:.1f}", **about}
                )
                print(*(rows[-1][key] for key in COLUMNS[:3]), flush=True)
            if networks == "trained":
                shutil.rmtree(checkout / "_build/executed")
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
