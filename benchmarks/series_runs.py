"""Runs that a time limit may end, and the table of what came of them; `benchmarks/gpu.py` uses both."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["COLUMNS", "Job", "Table", "keep_cases", "run_all"]

COLUMNS = (
    "notebook",
    "profile",
    "status",
    "seconds",
    "trained",
    "peak_gpu_mib",
    "peak_gpu_needed_mib",
    "peak_cpu_mib",
    "above_15_gb",
    "facts_true",
    "facts_false",
    "which_false",
    "device",
    "torch",
    "python",
    "package",
    "commit",
    "code",
    "seed",
    "jobs",
    "threads",
    "day",
)
ROW_OF = ("notebook", "profile", "device")  # a table holds one row for each of these
SAME_RUN = ("device", "torch", "seed", "code")
FINISHED = ("passed", "failed")
GRACE_SECONDS = 20  # for a notebook to put its half-run copy down, and for pytest to sum up
T4_BYTES = 15e9
CASES_BYTES = 2_000_000
NAMES = 20  # so many failed tests are named


@dataclass(frozen=True)
class Job:
    """One row of the table: what is started, and where it leaves its trace."""

    notebook: str
    profile: str
    code: str
    command: tuple[str, ...]
    out: Path  # the executed notebook; log, peak memory and table of cases lie beside it

    def beside(self, ending: str) -> Path:
        return self.out.with_suffix(ending)


def run_all(
    waiting: Sequence[Job], deadline: float, at_once: int, threads: str
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Each job with its row, as they end. Nothing starts after the deadline, and what then runs is stopped.

    The deadline is one of `time.monotonic`. Tests and timings run alone, notebooks `at_once` at a time.
    However this is left, no process stays behind.
    """
    queue, running = list(waiting), {}
    try:
        while queue or running:
            late = time.monotonic() >= deadline
            while queue and not late and _may_start(queue[0], running, at_once):
                job = queue.pop(0)
                running[job] = (_start(job, threads), time.monotonic(), _n_stored())
                print(f"{job.notebook} {job.profile}: running", flush=True)
            if late:
                queue = []
                _stop([process for process, _, _ in running.values()])
            for job, (process, start, stored) in list(running.items()):
                if process.poll() is not None:
                    del running[job]
                    seconds = time.monotonic() - start
                    yield job, _row(job, process.returncode, seconds, _n_stored() - stored, stopped=late)
            time.sleep(0.05)
    finally:
        _stop([process for process, _, _ in running.values()])


class Table:
    """`gpu_series.csv`: read, brought up to date row by row, written whole."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self.path, self._about = path, about
        self._rows: dict[tuple[str, ...], dict[str, str]] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = {tuple(row[name] for name in ROW_OF): row for row in csv.DictReader(file)}

    def has_finished(self, job: Job, *, again: bool = False) -> bool:
        """Whether this code has passed or failed on this device before; with `again`, whether it passed."""
        row, now = self._rows.get(self._key(job), {}), {**self._about, "code": job.code}
        finished = row.get("status", "").startswith("passed" if again else FINISHED)
        return finished and all(row[name] == now[name] for name in SAME_RUN)

    def was_stopped(self, job: Job) -> bool:
        """Whether the time limit ended it at its last try."""
        return self._rows.get(self._key(job), {}).get("status", "").startswith("stopped")

    def take(self, job: Job, measured: dict[str, Any]) -> None:
        said = {name: str(value) for name, value in measured.items()}
        told = {"notebook": job.notebook, "profile": job.profile, "code": job.code, **self._about, **said}
        self._rows[self._key(job)] = {name: told.get(name, "") for name in COLUMNS}

    def write(self, jobs: Sequence[Job], asked: Sequence[Job]) -> None:
        """Every job has a row afterwards; what never ran says why."""
        for job in jobs:
            row = self._rows.get(self._key(job), {"status": "not run"})
            if row["status"].startswith("not run"):
                why = "the time limit came first" if job in asked else "not asked for"
                self.take(job, {"status": f"not run: {why}"})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(self._rows.values(), key=_order))
        part.replace(self.path)

    def _key(self, job: Job) -> tuple[str, ...]:
        return job.notebook, job.profile, self._about["device"]


def keep_cases(job: Job, folder: Path) -> None:
    """Keep a run's table of cases, gzipped (equal tables give equal bytes), unless it is too large."""
    if not job.beside(".csv").is_file():
        return
    content = gzip.compress(job.beside(".csv").read_bytes(), mtime=0)
    target = folder / f"gpu_{job.notebook[:2]}_{job.profile}_cases.csv.gz"
    if len(content) > CASES_BYTES:
        print(f"{target.name} is left out: {len(content)} bytes, at most {CASES_BYTES} are kept")
        return
    folder.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _may_start(job: Job, running: dict[Job, Any], at_once: int) -> bool:
    alone = not job.profile or any(not other.profile for other in running)
    return not running if alone else len(running) < at_once


def _start(job: Job, threads: str) -> subprocess.Popen[bytes]:
    job.out.parent.mkdir(parents=True, exist_ok=True)
    for ending in (".peak.json", ".failed.ipynb", ".stopped.ipynb", ".ipynb", ".csv"):
        job.beside(ending).unlink(missing_ok=True)  # what is found afterwards is of this run
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    extra = {
        "PYTHONPATH": path,  # a checkout that is not installed will do
        "PYTHONSTARTUP": str(Path(__file__).with_name("kernel_memory.py")),
        "SEGCONF_PEAK_FILE": str(job.beside(".peak.json")),
        "OMP_NUM_THREADS": threads,
    }
    with job.beside(".log").open("wb") as log:
        return subprocess.Popen(
            job.command,
            stdout=log,
            stderr=log,
            env={**os.environ, **extra},
            cwd=root,
            start_new_session=True,  # Ctrl-C reaches it through `_stop` alone
            preexec_fn=_listen_to_interrupts if os.name == "posix" else None,
        )


def _listen_to_interrupts() -> None:
    """A shell starts background commands with interrupts ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """As Ctrl-C would, so that partial results are put down; who does not end is killed."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGINT) if os.name == "posix" else process.terminate()
    for process in alive:
        try:
            process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _row(job: Job, code: int, seconds: float, trained: int, *, stopped: bool) -> dict[str, Any]:
    status = "passed" if code == 0 else "stopped: time limit" if stopped else "failed"
    partial = job.beside(".failed.ipynb")
    for left in job.out.parent.glob(f".{job.out.stem}.*.running.ipynb"):
        left.replace(partial)  # killed: it could not tidy up itself
    log = job.beside(".log").read_text("utf-8", errors="replace")
    facts, why = (
        _of_pytest(log) if job.notebook == "tests" else _of_notebook(job.out if code == 0 else partial)
    )
    if status == "failed":
        status = f"failed: {why or (log.strip().splitlines() or ['no word'])[-1][:160]}"
    if stopped and partial.is_file():
        partial.replace(job.beside(".stopped.ipynb"))
    print(f"{job.notebook} {job.profile}: {status}, {seconds:.0f} s", flush=True)
    false = [statement for statement, true in facts if not true]
    row = {"status": status, "seconds": f"{seconds:.1f}", **_memory(job.beside(".peak.json"))}
    if facts:
        row |= {"facts_true": len(facts) - len(false), "facts_false": len(false)}
        row["which_false"] = "; ".join(false[:NAMES]) + (
            f"; {len(false) - NAMES} more" if len(false) > NAMES else ""
        )
    return row | ({"trained": trained} if job.profile else {})


def _memory(path: Path) -> dict[str, Any]:
    try:
        peak = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    row: dict[str, Any] = {"peak_cpu_mib": f"{peak['cpu']:.0f}"}
    if "gpu" in peak:
        row |= {"peak_gpu_mib": f"{peak['gpu']:.0f}", "peak_gpu_needed_mib": f"{peak['gpu_needed']:.0f}"}
        row["above_15_gb"] = peak["gpu"] * 2**20 > T4_BYTES
    return row


def _of_notebook(path: Path) -> tuple[list[tuple[str, bool]], str]:
    """Facts, and the error if a cell raised one."""
    if not path.is_file():
        return [], ""
    import nbformat

    from segconf_lite.notebook import facts

    outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
    errors = [f"{o.ename}: {o.evalue}".splitlines()[0][:160] for o in outputs if o.output_type == "error"]
    return facts(path), errors[0] if errors else ""


def _of_pytest(log: str) -> tuple[list[tuple[str, bool]], str]:
    """Tests as facts: those that passed are counted, those that failed are named."""
    names = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, flags=re.MULTILINE)
    totals = re.findall(r"^=*\s*((?:\d+ \w+(?:, )?)+ in [\d.]+s)", log, flags=re.MULTILINE)
    passed = re.search(r"(\d+) passed", totals[-1]) if totals else None
    facts = [("", True)] * int(passed[1] if passed else 0) + [(name, False) for name in names]
    return facts, totals[-1] if totals else ""


def _n_stored() -> int:
    from segconf_lite.models.store import store_folder

    with contextlib.suppress(OSError):
        return sum(1 for _ in store_folder().glob("*.safetensors"))
    return 0


def _order(row: dict[str, str]) -> tuple[str, ...]:
    return row["device"], {"": "0", "lite": "1", "full": "2"}[row["profile"]], row["notebook"]
