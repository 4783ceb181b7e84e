"""The sweep of claims asks for the runs that are missing, here and on a cluster; stand-ins for Slurm."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segconf_lite.claims import runs

ROOT = Path(__file__).parents[1]
STAND_IN = ROOT / "benchmarks" / "slurm_stand_in.py"
STORED, MISSING = (21, 22), (41, 42, 43)
PLUGIN = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="needs: pip install snakemake-executor-plugin-slurm",
)


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns(".snakemake"))
    for seed in STORED:
        path = runs.run_path(tmp_path / "book/results", 1, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def dry_run(project, *options, only):
    """What a dry run says, and the tables that it would make."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--dry-run", *options]
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, "--rerun-triggers", "mtime", "--config", f"only={only}"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said, sorted(re.findall(r"^ +output: (.*)$", said, flags=re.MULTILINE))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--cores", "8"), id="local"),
        pytest.param(("--executor", "slurm", "--jobs", "8"), id="slurm", marks=PLUGIN),
    ],
)
def test_a_sweep_lists_the_runs_that_are_asked_for_and_not_stored(project, options):
    pytest.importorskip("snakemake")
    said, tables = dry_run(project, *options, only={1: [*STORED, *MISSING], "lidc": [21]})
    results = project.resolve() / "book/results"
    expected = [(1, seed) for seed in MISSING] + [("lidc", 21)]
    assert tables == sorted(str(runs.run_path(results, *run)) for run in expected)
    assert said.count("runtime=240, mem_mb=8000") == len(
        expected
    )  # a cluster may refuse a job without limits
    assert dry_run(project, *options, only={1: list(STORED)})[1] == []


@pytest.fixture
def slurm(tmp_path):
    """A function that calls a stand-in, and what it answers."""
    subprocess.run([sys.executable, STAND_IN, "install", tmp_path / "slurm"], check=True, capture_output=True)

    def call(command, *options):
        done = subprocess.run([tmp_path / "slurm/bin" / command, *options], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else done.stderr

    return call


def submitted(slurm, folder, script, *limits):
    where = ("--output", f"{folder}/%j.log", "-D", str(folder))
    return slurm("sbatch", "--parsable", "--job-name", "a name", *where, *limits, "--wrap", script)


def states_at_the_end(slurm):
    for _ in range(100):
        states = dict(line.split("|") for line in slurm("sacct", "--name", "a name").splitlines())
        if not {"PENDING", "RUNNING"} & set(states.values()):
            return states
        time.sleep(0.1)
    raise AssertionError(states)


def test_stand_ins_for_slurm_run_jobs_and_say_how_they_ended(slurm, tmp_path):
    limits = ("-t", "1", "--mem", "100")
    assert submitted(slurm, tmp_path, "srun -n1 pwd; echo $SLURM_JOB_ID", *limits) == "1"
    assert submitted(slurm, tmp_path, "exit 3", *limits) == "2"
    assert submitted(slurm, tmp_path, "sleep 60", *limits) == "3"
    assert submitted(slurm, tmp_path, "sleep 60", "-t", "0", "--mem", "100") == "4"
    assert slurm("scancel", "3") == ""
    states = {"1": "COMPLETED", "2": "FAILED", "3": "CANCELLED", "4": "TIMEOUT"}
    assert states_at_the_end(slurm) == states
    assert (tmp_path / "1.log").read_text().split()[-1] == "1"
    assert slurm("sacct", "--name", "another") == ""


def test_stand_ins_for_slurm_refuse_what_they_do_not_know(slurm, tmp_path):
    assert "required: --mem, -t" in submitted(slurm, tmp_path, "true")
    unknown = ("-t", "1", "--mem", "100", "--qos", "fast")
    assert "unrecognized arguments: --qos fast" in submitted(slurm, tmp_path, "true", *unknown)
    assert slurm("sacct", "--name", "a name") == ""
