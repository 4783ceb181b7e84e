"""Run the unit tests and the series on this machine's graphics card, and write down what happened.

    python benchmarks/gpu.py                                   # nine minutes; call it again and it goes on
    python benchmarks/gpu.py --profiles lite --only 90,01 --jobs 1

It needs the packages of the extras "notebooks" and "test", but no internet connection. The package itself
need not be installed: a checkout is enough. Without a graphics card it runs everything on the CPU, and the
column "device" names it. The table is `book/results/gpu_series.csv`: one row per notebook and profile, one
for the unit tests and one for `benchmarks/training_step.py`. What passed or failed before, with the same
code, device, torch and seed, is not run again (`--again` repeats what failed); what the time limit stopped
is run again at the next call. Rows of other devices are kept. Tables of cases of `full` runs go to
`--cases`, gzipped, each under 2 MB.

| column | meaning |
|---|---|
| status | passed; failed, with the error; stopped (at the time limit); not run, with the reason |
| seconds | of the whole run, start of the kernel and trainings included |
| trained | networks that were stored meanwhile, by whatever notebook was running; 0: all were read |
| peak_gpu_mib | most memory that torch took from the card |
| peak_gpu_needed_mib | most of it that tensors filled |
| peak_cpu_mib | most resident memory of the kernel; of a run that was stopped, up to its last finished cell |
| above_15_gb | whether peak_gpu_mib is above 15 GB: then a T4 is too small |
| facts_true, facts_false | lines of the `# FACTS` cells; of the unit tests, passed and failed ones |
| which_false | those lines, or those tests |
| code | SHA-256 of the package and the notebook, 10 digits; `commit` does not tell changed files apart |
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # a checkout that is not installed will do

from series_runs import Job, Table, keep_cases, run_all  # noqa: E402

NEEDS = ("torch", "monai", "papermill", "ipykernel", "jupytext", "plotly", "nibabel")
TORCH = ((2, 9), (2, 13))  # first and last minor version that this script is meant for
PROFILES = ("lite", "full")
FIRST = ("02", "07", "01", "90")  # as in the Makefile: networks that others need are trained first
UNIT_TESTS = ("models", "confidence", "fragility", "stress")
EXECUTE = """import json, sys
from segconf_lite.notebook import execute
execute(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 fine so far, 1 something failed in this call, 2 something is missing."""
    asked = read_arguments(arguments)
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f'missing: {", ".join(missing)}; pip install -c constraints.txt ".[notebooks,test]"',
            file=sys.stderr,
        )
        return 2
    if importlib.util.find_spec("ipywidgets") is None:
        print("ipywidgets is missing: notebooks with live controls will fail, and their rows will say so")
    deadline = time.monotonic() + 60 * asked.minutes
    about = look_around(asked)
    jobs = every_job(asked, about["device"])
    wanted = [job for job in jobs if is_wanted(job, asked)]
    table = Table(asked.results / "gpu_series.csv", about)
    waiting = [job for job in wanted if not table.has_finished(job, again=asked.again)]
    waiting.sort(key=lambda job: turn_of(job, table.was_stopped(job)))
    print(f"{len(waiting)} of {len(wanted)} runs to do", flush=True)
    table.write(jobs, wanted)
    n_failed = 0
    for job, row in run_all(waiting, deadline, asked.jobs, about["threads"]):
        table.take(job, row)
        table.write(jobs, wanted)
        n_failed += str(row["status"]).startswith("failed")
        if job.profile == "full" and row["status"] == "passed":
            keep_cases(job, asked.cases)
    left = sum(not table.has_finished(job) for job in wanted)
    print(f"{table.path}: " + (f"{left} of {len(wanted)} runs are left, call again" if left else "complete"))
    return int(n_failed > 0)


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    shape, results = argparse.RawDescriptionHelpFormatter, ROOT / "book" / "results"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    at_once = max(1, min(8, (os.cpu_count() or 1) // 2))
    parser.add_argument("--minutes", type=float, default=9, help="time limit of this call (default 9)")
    parser.add_argument("--jobs", type=int, default=at_once, help=f"notebooks at a time (here {at_once})")
    parser.add_argument("--profiles", default="lite,full", help="lite, full, or both (default)")
    parser.add_argument(
        "--only", default="", help="numbers of notebooks, e.g. 90,01; nothing else is run then"
    )
    parser.add_argument("--no-tests", action="store_true", help="leave the unit tests out")
    parser.add_argument("--again", action="store_true", help="repeat what failed")
    parser.add_argument("--seed", type=int, default=0, help="of all notebooks (default 0)")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="folder of the series")
    parser.add_argument("--results", type=Path, default=results, help="folder of the table")
    parser.add_argument("--cases", type=Path, help="folder for tables of cases (default: that of the table)")
    parser.add_argument("--build", type=Path, default=ROOT / "_build" / "gpu", help="for executed notebooks")
    asked = parser.parse_args(arguments)
    asked.profiles, asked.only = ([x for x in text.split(",") if x] for text in (asked.profiles, asked.only))
    asked.cases = asked.cases or asked.results
    if not set(asked.profiles) <= set(PROFILES) or asked.jobs < 1 or asked.minutes < 0 or asked.seed < 0:
        parser.error(
            "--profiles are out of lite,full; --jobs is at least 1; --minutes and --seed are at least 0"
        )
    return asked


def look_around(asked: argparse.Namespace) -> dict[str, str]:
    """What holds for every row of this call. The card is described on the way."""
    import torch

    from segconf_lite.claims.ledger import provenance
    from segconf_lite.models.device import bf16_pays, pick_device

    origin = provenance(profile="lite", seed=asked.seed)
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        capability = f"{card.major}.{card.minor}"
        mib = f"{card.total_memory / 2**20:.0f} MiB"
        print(f"card: {card.name}, {mib}, capability {capability}, driver {driver()}")
    else:
        print(f"There is no card that torch can use. The processor is measured: {origin['device']}")
    bf16 = "yes" if bf16_pays(pick_device("auto")) else "no"
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // asked.jobs))
    print(f"torch {torch.__version__}, bf16 pays: {bf16}, {asked.jobs} at a time, {threads} threads each")
    if not TORCH[0] <= tuple(int(part) for part in torch.__version__.split(".")[:2]) <= TORCH[1]:
        print("This script is meant for torch 2.9 to 2.13; it goes on with this one")
    return {
        "device": origin["device"],
        "torch": torch.__version__,
        "python": origin["versions"]["python"],
        "package": origin["versions"]["segconf-lite"],
        "commit": commit(),
        "seed": str(asked.seed),
        "jobs": str(asked.jobs),
        "threads": threads,
        "day": origin["day"],
    }


def driver() -> str:
    tool, what = shutil.which("nvidia-smi"), ("--query-gpu=driver_version", "--format=csv,noheader")
    told = subprocess.run([tool, *what], capture_output=True, text=True, check=False).stdout if tool else ""
    return (told.split() or ["unknown"])[0]


def commit() -> str:
    """Of the checkout; "dirty" where package or notebooks were changed (the table itself does not count)."""

    def git(*words: str) -> str:
        if shutil.which("git") is None:
            return ""
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    name = git("rev-parse", "--short", "HEAD") or "unknown"
    return name + ("-dirty" if git("status", "--porcelain", "segconf_lite", "notebooks") else "")


def digest(paths: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:10]


def every_job(asked: argparse.Namespace, device: str) -> list[Job]:
    """Unit tests, training steps, then every notebook in each profile: the rows of the table."""
    from segconf_lite.notebook import parameters_of

    folder = asked.build / re.sub(r"\W+", "_", device).strip("_")
    package = sorted((ROOT / "segconf_lite").rglob("*.py"))
    rooms = [ROOT / "tests" / room for room in UNIT_TESTS]
    tested = [*package, *(path for room in rooms for path in sorted(room.rglob("*.py")))]
    side_by_side = importlib.util.find_spec("xdist") is not None and asked.jobs > 1
    workers = ("-n", str(asked.jobs), "--dist", "loadfile") if side_by_side else ()
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *map(str, rooms))
    steps = ROOT / "benchmarks" / "training_step.py"
    measure = (sys.executable, str(steps), "--out", str(asked.results / "gpu_steps.csv"))
    jobs = [
        Job("tests", "", digest(tested), pytest, folder / "tests.ipynb"),
        Job("training_step", "", digest([*package, steps]), measure, folder / "training_step.ipynb"),
    ]
    ranks = {number: rank for rank, number in enumerate(FIRST)}
    paths = sorted(
        asked.notebooks.glob("[0-9]*.py"), key=lambda p: (ranks.get(p.stem[:2], len(ranks)), p.stem)
    )
    for profile in PROFILES:
        for path in paths:
            out = folder / profile / f"{path.stem}.ipynb"
            given = {"profile": profile, "seed": asked.seed}
            given |= {"cases_out": str(out.with_suffix(".csv").resolve())} if profile == "full" else {}
            declared = parameters_of(path)
            given = {name: value for name, value in given.items() if name in declared}
            command = (sys.executable, "-c", EXECUTE, str(path), str(out), json.dumps(given))
            jobs.append(Job(path.stem, profile, digest([*package, path]), command, out))
    return jobs


def is_wanted(job: Job, asked: argparse.Namespace) -> bool:
    if job.profile:
        chosen = not asked.only or any(job.notebook.startswith(number) for number in asked.only)
        return chosen and job.profile in asked.profiles
    return not asked.only and not (asked.no_tests and job.notebook == "tests")


def turn_of(job: Job, was_stopped: bool) -> float:
    """Tests, then lite, then full. What was too long for one call must not hold up the next.

    So within a profile it comes last, and the tests come after everything.
    """
    turn = PROFILES.index(job.profile) if job.profile else -1
    return turn + (0.5 if job.profile else len(PROFILES) + 1) * was_stopped


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started with "&", children would ignore it
    sys.exit(main())
