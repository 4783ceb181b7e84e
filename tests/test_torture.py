"""The campaigns of `make torture` in short, and the guard of `make bench-check`."""

import ast
import base64
import importlib
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from segconf_lite import grid

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NOTEBOOK = """# %% tags=["parameters"]
profile = "lite"
seed = 0
cases_out = ""

# %%
from pathlib import Path
Path(cases_out).with_suffix(".json").write_text('{"device": "cpu"}')
Path(cases_out).write_text(f"subject,x\\na,{seed}\\n")
"""


@pytest.fixture
def script(monkeypatch):
    """A script of a folder of benchmarks, with the `common` module of that folder."""

    def load(folder, name):
        monkeypatch.syspath_prepend(BENCHMARKS / folder)
        for module in ("common", name):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(name)

    yield load
    for module in ("common", "kill", "damage", "inputs", "names", "check", "mutation"):
        sys.modules.pop(module, None)


@pytest.mark.skipif(os.name != "posix", reason="kills forked processes")
def test_killed_runs_leave_nothing_that_the_next_one_would_trust():
    """In a process of its own: autograd does not survive a fork once it was used."""
    variables = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent), "OMP_NUM_THREADS": "1"}
    for part, n in (("training", 4), ("packing", 6)):
        command = [sys.executable, str(BENCHMARKS / "torture" / "kill.py"), "--part", part, "--n", str(n)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 failures" in done.stdout


def test_a_killed_sweep_goes_on_and_its_half_table_is_made_again(tmp_path):
    notebook, out = tmp_path / "01_tiny.py", tmp_path / "out"
    notebook.write_text(NOTEBOOK, "utf-8")
    declared = {"profile": "lite", "seed": 0}
    half, whole = (grid.label({"seed": k}, ["01_tiny", declared | {"seed": k}]) for k in (0, 1))
    marks, locks = out / ".snakemake" / "incomplete", out / ".snakemake" / "locks"
    marks.mkdir(parents=True)
    locks.mkdir()
    (out / f"{half}.csv").write_text("subject,x\n")
    (out / f"{whole}.csv").write_text("subject,x\nb,7\n")
    (out / f"{whole}.json").write_text("{}")
    (marks / base64.b64encode(f"{half}.csv".encode()).decode()).write_text('{"external_jobid": null}')
    for kind in ("input", "output"):
        (locks / f"0.{kind}.lock").write_text(str(out / f"{half}.csv"))
    outcome = grid.sweep(notebook, [("seed", "0,1")], folder=out, jobs=1)
    assert outcome.failed == 0, outcome.lines
    assert outcome.table.read_text() == "seed,subject,x\n0,a,0\n1,b,7\n"
    assert [line.split()[0] for line in outcome.lines] == ["done", "there"]


def test_a_changed_table_of_a_sweep_is_not_joined(tmp_path):
    (tmp_path / "run.csv").write_text("subject,x\na,1\n")
    (tmp_path / "run.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"run\.csv must be a table with its JSON, got another table"):
        grid.join({"run": {"seed": 0}}, tmp_path, "joined.csv")


def test_damaged_files_are_refused_or_mended(script, tmp_path):
    damage, rng = script("torture", "damage"), random.Random(1)
    counts = sys.modules["common"].Counts("damage", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        damage.campaign(tmp_path, 32, rng, counts)
    assert sum(counts.tries.values()) == 32
    assert not any(counts.failures.values()), counts.failures


def test_wrong_arguments_are_refused_by_name_and_equal_ones_give_equal_results(script):
    inputs = script("torture", "inputs")
    counts = sys.modules["common"].Counts("inputs", 0)
    calls = inputs.calls_of("segconf_lite.evaluation.ranking")
    assert len({call.name for call in calls}) > 10
    with inputs.limited():
        inputs.tried(calls, 150, random.Random(3), counts)
    assert sum(counts.tries.values()) == 150
    assert not any(counts.failures.values()), counts.failures


def test_the_generator_notices_what_it_looks_for(script):
    inputs = script("torture", "inputs")
    call = inputs.Call("segconf_lite.evaluation.ranking:aurc", {"risk": [0.1, 0.2], "uncertainty": [1, 2]})
    assert inputs.judged(call, "risk", "equal", "other", [0.9, 0.2], 0.1).startswith("silent")
    assert inputs.judged(call, "risk", "wrong", "object", [0.1, 0.2], 0.1) is None  # any array is allowed
    assert inputs.judged(call, "risk", "odd", "text", ["a", "b"], 0.1) is None
    call = inputs.Call("segconf_lite.evaluation.bootstrap:unit_scale", {"values": np.array([1.0, 2.0])})
    assert inputs.judged(call, "values", "wrong", "None for an array", None, None).startswith("unclear")
    assert inputs.judged(call, "values", "odd", "nothing", np.array([]), None).startswith("bare")


def test_names_are_shown_and_not_obeyed(script, tmp_path):
    names = script("torture", "names")
    for part, build in names.PARTS.items():
        pages = []
        for k, name in enumerate(("name", *names.EVIL[:3])):
            folder = tmp_path / part / str(k)
            folder.mkdir(parents=True)
            pages.append(names.elements(build(name, folder)))
        assert all(page == pages[0] for page in pages), (part, pages)
    assert names.elements("<p onclick=x><script>") == {"onclick": 1, "script": 1}


def test_the_guard_reports_a_ratio_that_is_a_quarter_worse(script):
    check = script("bench", "check")
    row = {"what": "a", "size": "s", "seconds": 1.0, "ratio": 2.0}
    assert check.worse({"rows": [row]}, {"rows": [{**row, "ratio": 2.4}]}) == []
    assert check.worse({"rows": [row]}, {"rows": [{**row, "ratio": 2.6}]}) == ["a at s: 2 -> 2.6"]
    assert check.worse({"rows": [{**row, "seconds": 1e-4}]}, {"rows": [{**row, "ratio": 9.0}]}) == []
    assert check.worse({"rows": [row]}, {"rows": []}) == []


def test_growth_and_ratios_are_what_they_are_said_to_be(script):
    script("bench", "check")
    common = sys.modules["common"]
    rows = [common.Row("square", str(n), n, 3e-6 * n**2) for n in (10, 100, 1000)]
    assert common.slopes(rows)["square"] == pytest.approx(2)
    acts = {"one": lambda: sum(range(20_000)), "ten": lambda: [sum(range(20_000)) for _ in range(10)]}
    first, second = common.rows_of(acts, size="s", n=1, runs=5, reference="one")
    assert first.ratio == 1
    assert second.ratio > 3


def test_mutants_differ_from_the_module_and_leave_messages_alone(script, monkeypatch, tmp_path):
    mutation = script(".", "mutation")
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    source = 'def f(a: int = 1):\n    if a < 2:\n        raise ValueError(f"{a + 1}")\n    return a * 3\n'
    (tmp_path / "module.py").write_text(source)
    found = mutation.mutants(tmp_path / "module.py")
    assert {m.after for m in found} >= {"a <= 2", "a / 3", "return None", "2", "4"}
    assert not any("a - 1" in m.source for m in found)
    assert len({m.source for m in found}) == len(found)
    assert all(ast.parse(m.source) and m.source != ast.unparse(ast.parse(source)) for m in found)
    assert mutation.interval(85, 100) == pytest.approx((0.767, 0.907), abs=0.001)
