"""benchmarks/gpu.py: a time limit, a table with every notebook, and going on where it stopped."""

import csv
import gzip
import importlib.util
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NOTEBOOK = """# %% tags=["parameters"]
profile = "lite"
seed = 0
cases_out = ""

# %%
{body}
"""
# Stands for papermill: writes what a kernel would have said, in a hundredth of the time.
STAND_IN = """import json, sys, time
from pathlib import Path
source, out, given = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
text, half = source.read_text(), out.with_suffix(".failed.ipynb")
said = {"output_type": "stream", "name": "stdout", "text": "seen: True\\nodd: False\\n"}
error = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "by 0", "traceback": []}
def write(path, *outputs):
    cell = {"cell_type": "code", "source": "# FACTS\\n", "outputs": list(outputs), "metadata": {}}
    cell |= {"execution_count": 1, "id": "a"}
    whole = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole))
if "sleep" in text:
    try:
        source.with_suffix(".started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        write(half, said)
        raise
if "raise" in text:
    write(half, said, error)
    sys.exit(1)
if given.get("cases_out"):
    Path(given["cases_out"]).write_text("dice\\n0.5\\n")
write(out, said)
"""


@pytest.fixture(scope="module")
def gpu():
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("gpu_script", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.fixture
def runs(gpu):
    return sys.modules["series_runs"]


@pytest.fixture
def run(gpu, tmp_path, monkeypatch):
    """Notebooks by number -> the exit code and the rows, by notebook and profile."""
    monkeypatch.setattr(gpu, "EXECUTE", STAND_IN)
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))

    def run(notebooks, *arguments, jobs=1, minutes=1):
        for name, body in notebooks.items():
            (tmp_path / f"{name}.py").write_text(NOTEBOOK.format(body=body), "utf-8")
        places = ("--notebooks", tmp_path, "--results", tmp_path / "results", "--build", tmp_path / "build")
        numbers = ",".join(name[:2] for name in notebooks)
        given = ("--only", numbers, "--jobs", jobs, "--minutes", minutes)
        code = gpu.main([str(part) for part in (*places, *given, *arguments)])
        with (tmp_path / "results" / "gpu_series.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return code, {(row["notebook"], row["profile"]): row for row in rows}

    return run


def test_every_notebook_and_profile_has_a_row_and_facts_are_read(run, tmp_path, gpu):
    code, rows = run({"11_one": "", "12_two": ""})
    assert code == 0
    assert set(rows) == {(n, p) for n in ("11_one", "12_two") for p in ("lite", "full")} | {
        ("tests", ""),
        ("training_step", ""),
    }
    row = rows["11_one", "full"]
    assert (row["status"], row["facts_true"], row["facts_false"], row["which_false"]) == (
        "passed",
        "1",
        "1",
        "odd",
    )
    assert float(row["seconds"]) > 0
    assert all(
        row[name] for name in ("device", "torch", "python", "package", "commit", "code", "seed", "day")
    )
    assert rows["tests", ""]["status"] == "not run: not asked for"
    kept = sorted(path.name for path in (tmp_path / "results").glob("*.gz"))
    assert kept == ["gpu_11_full_cases.csv.gz", "gpu_12_full_cases.csv.gz"]
    assert gzip.decompress((tmp_path / "results" / kept[0]).read_bytes()) == b"dice\n0.5\n"


def test_what_finished_is_not_run_again_until_its_code_changes(run, capsys):
    run({"11_one": "", "12_two": "raise"}, "--profiles", "lite")
    capsys.readouterr()
    code, rows = run({"11_one": "", "12_two": "raise"}, "--profiles", "lite")
    assert "0 of 2 runs to do" in capsys.readouterr().out
    assert code == 0  # nothing failed in this call
    assert rows["12_two", "lite"]["status"] == "failed: ZeroDivisionError: by 0"
    code, rows = run({"11_one": "", "12_two": ""}, "--profiles", "lite")
    assert "1 of 2 runs to do" in capsys.readouterr().out
    assert rows["12_two", "lite"]["status"] == "passed"


def test_a_failing_notebook_leaves_the_others_and_can_be_repeated(run, capsys):
    code, rows = run({"11_one": "raise", "12_two": ""}, "--profiles", "lite", jobs=2)
    assert code == 1
    assert [rows[name, "lite"]["status"][:6] for name in ("11_one", "12_two")] == ["failed", "passed"]
    assert rows["11_one", "lite"]["facts_true"] == "1"  # of the half-run copy
    capsys.readouterr()
    run({"11_one": "raise", "12_two": ""}, "--profiles", "lite", "--again")
    assert "1 of 2 runs to do" in capsys.readouterr().out


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def interrupts(request):
    """As a shell starts commands; those in the background ignore Ctrl-C, and so would what they start."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_the_limit_stops_what_runs_keeps_its_half_and_starts_nothing_more(run, runs, tmp_path, monkeypatch):
    started = tmp_path / "11_one.started"  # the limit comes when the first notebook is at work
    clock = SimpleNamespace(
        monotonic=lambda: float("inf") if started.exists() else time.monotonic(), sleep=time.sleep
    )
    monkeypatch.setattr(runs, "time", clock)
    code, rows = run({"11_one": "sleep", "12_two": ""}, "--profiles", "lite")
    assert code == 0
    assert rows["11_one", "lite"]["status"] == "stopped: time limit"
    assert rows["11_one", "lite"]["facts_true"] == "1"
    assert rows["12_two", "lite"]["status"] == "not run: the time limit came first"
    assert rows["12_two", "full"]["status"] == "not run: not asked for"
    assert len(list(tmp_path.rglob("11_one.stopped.ipynb"))) == 1
    monkeypatch.setattr(runs, "time", time)
    code, rows = run({"11_one": "", "12_two": ""}, "--profiles", "lite")
    assert [rows[name, "lite"]["status"] for name in ("11_one", "12_two")] == ["passed", "passed"]


def test_what_the_limit_stopped_lets_others_go_first(gpu, runs):
    kinds = [("", True), ("lite", True), ("full", True), ("", False), ("lite", False), ("full", False)]
    jobs = [(runs.Job("x", profile, "", (), Path("x")), stopped) for profile, stopped in kinds]
    found = [(job.profile, stopped) for job, stopped in sorted(jobs, key=lambda pair: gpu.turn_of(*pair))]
    assert found == [
        ("", False),
        ("lite", False),
        ("lite", True),
        ("full", False),
        ("full", True),
        ("", True),
    ]


def test_rows_of_another_device_stay(run, tmp_path):
    run({"11_one": ""}, "--profiles", "lite")
    table = tmp_path / "results" / "gpu_series.csv"
    lines = table.read_text("utf-8").splitlines()
    device = next(csv.DictReader(lines))["device"]
    table.write_text("\n".join(line.replace(device, "a T4") for line in lines), "utf-8")
    run({"11_one": ""}, "--profiles", "lite")
    with table.open(newline="") as file:
        found = [row["device"] for row in csv.DictReader(file) if row["status"] == "passed"]
    assert sorted(found) == sorted(["a T4", device])


def test_it_says_that_there_is_no_card(run, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run({"11_one": ""}, minutes=0)
    assert "There is no card that torch can use. The processor is measured" in capsys.readouterr().out


def test_a_package_that_is_missing_is_named(gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "NEEDS", ("torch", "not_there_at_all"))
    assert gpu.main([]) == 2
    assert "missing: not_there_at_all" in capsys.readouterr().err


def test_peak_memory_of_a_card_is_held_against_a_t4(runs, tmp_path):
    path = tmp_path / "peak.json"
    for mib, above in ((14_000, False), (14_500, True)):  # 15 GB are 14,305 MiB
        path.write_text(f'{{"cpu": 900.4, "gpu": {mib}, "gpu_needed": 100}}')
        row = runs._memory(path)
        assert (row["peak_gpu_mib"], row["above_15_gb"], row["peak_cpu_mib"]) == (str(mib), above, "900")
    assert runs._memory(tmp_path / "none.json") == {}


def test_what_pytest_says_is_read(runs):
    names = "FAILED tests/models/test_a.py::test_b - x\nERROR tests/models/test_c.py::test_d\n"
    log = f"..F\n{names}1 failed, 2 passed, 1 error in 0.50s\n"
    facts, why = runs._of_pytest(log)
    assert [true for _, true in facts] == [True, True, False, False]
    assert facts[2][0] == "tests/models/test_a.py::test_b"
    assert why == "1 failed, 2 passed, 1 error in 0.50s"
