"""segconf_lite.notebook: parameters are checked before anything runs, and failures leave a trace."""

import json
import re
import time
from pathlib import Path

import nbformat
import pytest

from segconf_lite import notebook, resources

HEADER = """# %% [markdown]
# # A notebook
# **Time:** about 0.5 min

# %% tags=["parameters"]
seed = 0
rate: float = 0.5
profile = "lite"
scale = 2 * 3

"""


@pytest.fixture
def write(tmp_path):
    def write(body="print(seed)", header=HEADER):
        path = tmp_path / "09_try.py"
        path.write_text(f"{header}# %%\n{body}\n", encoding="utf-8")
        return path

    return write


def test_parameters_are_read_in_order(write):
    assert notebook.parameters_of(write()) == {"seed": 0, "rate": 0.5, "profile": "lite", "scale": "2 * 3"}


def test_a_notebook_without_a_parameters_cell_is_refused(write):
    with pytest.raises(ValueError, match=r"one cell tagged 'parameters'.*got 0"):
        notebook.parameters_of(write(header=""))


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("**Time:** about 3 min on 2 cores", 3),
        ("Time: 90 s", 1.5),
        ("*Time estimate*: ~2.5 minutes", 2.5),
        ("Timeless, 3 min", None),
        ("no word about it", None),
    ],
)
def test_stated_time(write, text, minutes):
    assert notebook.stated_minutes(write(header=f"# %% [markdown]\n# {text}\n\n")) == minutes


def test_unknown_parameter_fails_before_running(write, tmp_path):
    out, trace = tmp_path / "out.ipynb", tmp_path / "has_run"
    path = write(f"open({str(trace)!r}, 'w').close()")
    with pytest.raises(
        ValueError, match=r"no parameter sead; it has: seed=0, rate=0\.5, profile='lite', scale="
    ):
        notebook.execute(path, out, {"sead": 1})
    assert not out.exists()
    assert not trace.exists()


@pytest.mark.parametrize("value", ["3", 0.5, True, [1]])
def test_value_of_another_type_is_refused(write, value):
    with pytest.raises(ValueError, match=r"parameter seed of 09_try.py is int \(default 0\), got"):
        notebook.check_parameters(write(), {"seed": value})


@pytest.mark.parametrize("parameters", [{"rate": 1}, {"scale": 7}, {"scale": "x"}, {"seed": None}, {}])
def test_fitting_values_are_accepted(write, parameters):
    notebook.check_parameters(write(), parameters)


def test_output_must_be_a_notebook(write, tmp_path):
    with pytest.raises(ValueError, match=r"out must be a file that ends in \.ipynb, got .*out\.html"):
        notebook.execute(write(), tmp_path / "out.html")


def test_success_then_failure(write, tmp_path):
    out = tmp_path / "done" / "out.ipynb"
    seconds = notebook.execute(write("print('seed is', seed)"), out, {"seed": 7})
    assert 0 < seconds < 120
    text = "".join(
        output.get("text", "")
        for cell in nbformat.read(out, as_version=4).cells
        for output in cell.get("outputs", [])
    )
    assert text == "seed is 7\n"
    good = out.read_bytes()

    with pytest.raises(notebook.NotebookFailedError, match="ZeroDivisionError: division by zero") as caught:
        notebook.execute(write("x = 1 / 0"), out)
    assert "x = 1 / 0" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert caught.value.partial == out.with_name("out.failed.ipynb")
    assert caught.value.partial.exists()
    assert out.read_bytes() == good, "a failure must leave the earlier result"
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.failed.ipynb", "out.ipynb"]

    notebook.execute(write("pass"), out)
    assert [path.name for path in out.parent.iterdir()] == ["out.ipynb"], "success clears the failed copy"


@pytest.mark.parametrize("installed", [False, True])
def test_the_kernel_works_beside_the_notebook_unless_it_is_one_of_the_package(
    write, tmp_path, monkeypatch, installed
):
    asked = {}

    def run(_, out, **given):
        asked.update(given)
        Path(out).touch()

    monkeypatch.setattr("papermill.execute_notebook", run)
    monkeypatch.setattr(notebook.resources, "is_installed", lambda _: installed)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    notebook.execute(write(), tmp_path / "out.ipynb")
    assert asked["cwd"] == str(tmp_path / "here" if installed else tmp_path)


def test_a_short_name_means_a_copy_here_before_a_notebook_of_the_package(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert notebook.find_notebook("01") == resources.notebooks_folder() / "01_domain_shift.py"
    (tmp_path / "01_mine.py").write_text("")
    assert notebook.find_notebook("01").resolve() == tmp_path / "01_mine.py"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_edited.py").write_text("")
    assert notebook.find_notebook("01").resolve() == tmp_path / "notebooks" / "01_edited.py"
    with pytest.raises(ValueError, match=r"there: 00_first_look.*`segconf notebooks FOLDER` copies them"):
        notebook.find_notebook("99")


def test_find_by_number_and_by_path(write, tmp_path):
    path = write()
    assert notebook.find_notebook("09", tmp_path) == path
    assert notebook.find_notebook(str(path)) == path


def test_find_says_what_is_there(write, tmp_path):
    write()
    with pytest.raises(ValueError, match=r"'12' fits no notebook .*there: 09_try"):
        notebook.find_notebook("12", tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        notebook.find_notebook("12_other.py", tmp_path)
    (tmp_path / "09_again.py").write_text("")
    with pytest.raises(ValueError, match="'09' fits 2 notebooks"):
        notebook.find_notebook("09", tmp_path)


@pytest.mark.parametrize(("quiet", "lines"), [("0", True), ("1", False)])
def test_how_far_a_run_is_is_said_in_a_line_at_a_time(tmp_path, monkeypatch, capsys, quiet, lines):
    monkeypatch.setenv("SEGCONF_QUIET", quiet)
    running = tmp_path / "running.ipynb"
    cells = [{"metadata": {"papermill": {"status": s}}} for s in ("completed", "running", "pending")]
    running.write_text("half-writ", "utf-8")
    with notebook.saying_how_far(running, "09_try", every_s=0.02):
        time.sleep(0.1)
        assert capsys.readouterr().err == "", "what is just being written is passed over"
        running.write_text(json.dumps({"cells": [*cells, {"metadata": {}}]}), "utf-8")
        time.sleep(0.5)
    said = capsys.readouterr().err
    assert bool(said) == lines
    assert all(re.fullmatch(r"09_try: 1 of 4 cells after \d+ s", line) for line in said.splitlines())


def test_a_run_says_how_far_it_is(write, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook.saying_how_far.__wrapped__, "__defaults__", (0.05,))
    notebook.execute(write("import time; time.sleep(1)"), tmp_path / "out.ipynb")
    assert "09_try: " in capsys.readouterr().err
