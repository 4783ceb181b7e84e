"""Stand-ins for the commands of Slurm on one computer, as far as Snakemake's plugin for Slurm uses them.

    python benchmarks/slurm_stand_in.py install FOLDER    # then: export PATH="FOLDER/bin:$PATH"

There is no queue: `sbatch` starts a job at once, in the background. It wants a time limit and a memory limit,
as many clusters do, and refuses every option that it does not know. A job over its time is stopped; memory is
not watched. `sacct` and `squeue` say the state of each job, `scancel` stops it. `benchmarks/executors.py`
uses these commands where there is no cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

CONFIGURATION = "MaxArraySize = 1001\nMinJobAge = 300 sec"


def install(folder: Path) -> Path:
    """Write the commands into a folder; what is to be put first on PATH."""
    bin_folder, jobs = folder / "bin", folder / "jobs"
    bin_folder.mkdir(parents=True)
    jobs.mkdir()
    for name in sorted({*ACTS} - {"job"}):
        call = shlex.join([sys.executable, str(Path(__file__).resolve()), name, str(jobs)])
        path = bin_folder / name
        path.write_text(f'#!/bin/sh\nexec {call} "$@"\n', "utf-8")
        path.chmod(0o755)
    return bin_folder


def sbatch(jobs: Path, given: list[str]) -> None:
    """Start a job in the background, and print its number."""
    parser = argparse.ArgumentParser(prog="sbatch", allow_abbrev=False)
    for name in ("--job-name", "--output", "--wrap", "-D"):
        parser.add_argument(name, required=True)
    for name in ("--mem", "-t"):
        parser.add_argument(name, required=True, type=int)
    for name in ("--export", "--comment", "-p", "-A", "--ntasks", "--cpus-per-task"):
        parser.add_argument(name)
    parser.add_argument("--parsable", action="store_true")
    options = parser.parse_args(given)
    number = 1
    while not _made(jobs / str(number)):
        number += 1
    folder = jobs / str(number)
    (folder / "name").write_text(options.job_name, "utf-8")
    _say(folder, "PENDING")
    call = [sys.executable, str(Path(__file__).resolve()), "job", str(jobs), str(number), str(options.t)]
    with Path(options.output.replace("%j", str(number))).open("wb") as log:
        started = subprocess.Popen(
            [*call, options.wrap],
            cwd=options.D,
            env={**os.environ, "SLURM_JOB_ID": str(number)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(started.pid), "utf-8")
    print(number)


def job(jobs: Path, given: list[str]) -> None:
    """Run a job to its end, or to its limit of time, and write its state."""
    number, minutes, script = given
    folder = jobs / number
    _say(folder, "RUNNING")
    process = subprocess.Popen(["/bin/sh", "-c", script])
    try:
        _say(folder, "FAILED" if process.wait(60 * int(minutes)) else "COMPLETED")
    except subprocess.TimeoutExpired:
        _say(folder, "TIMEOUT")
        os.killpg(0, signal.SIGTERM)


def srun(jobs: Path, given: list[str]) -> None:
    """Become the command after the options."""
    first = next(k for k, word in enumerate(given) if not word.startswith("-"))
    os.execvp(given[first], given[first:])


def sacct(jobs: Path, given: list[str]) -> None:
    """Print number and state of the jobs of a name. There are no accounts and no reasons of failures."""
    parser = argparse.ArgumentParser(prog="sacct")
    parser.add_argument("--name")
    name = parser.parse_known_args(given)[0].name
    for folder in sorted(jobs.iterdir(), key=lambda path: int(path.name)):
        submitted = (folder / "state").is_file()  # written after the name
        if submitted and name and (folder / "name").read_text("utf-8") == name:
            print(f"{folder.name}|{(folder / 'state').read_text('utf-8')}")


def scancel(jobs: Path, given: list[str]) -> None:
    """Stop jobs."""
    for number in given:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((jobs / number / "pid").read_text("utf-8")), signal.SIGTERM)
        _say(jobs / number, "CANCELLED")


def sinfo(jobs: Path, given: list[str]) -> None:
    """Print the partitions; the default one has an asterisk."""
    print("PARTITION\nmain*")


def scontrol(jobs: Path, given: list[str]) -> None:
    """Print what the plugin reads of the configuration."""
    print(CONFIGURATION)


def _made(folder: Path) -> bool:
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        return True
    return False


def _say(folder: Path, state: str) -> None:
    part = folder / f"state.{os.getpid()}"
    part.write_text(state, "utf-8")
    part.replace(folder / "state")


ACTS = {
    "sbatch": sbatch,
    "job": job,
    "srun": srun,
    "sacct": sacct,
    "squeue": sacct,
    "scancel": scancel,
    "sinfo": sinfo,
    "scontrol": scontrol,
}


def main() -> None:
    command, folder, *given = sys.argv[1:]
    if command == "install":
        print(install(Path(folder)))
    else:
        ACTS[command](Path(folder), given)


if __name__ == "__main__":
    main()
