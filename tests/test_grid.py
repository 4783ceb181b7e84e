"""`segconf sweep`: the grid, names of files, resuming, failing, joining. And `make params`: its settings."""

import importlib.util
import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from segconf_lite import cli, grid, parameters

ROOT = Path(__file__).parents[1]
NOTEBOOK = """# %% tags=["parameters"]
profile = "lite"  # @param ["lite", "full"]
seed = 0  # @param {type:"integer", min:0}
effect_size = 0.1  # @param {type:"number", min:0.01, max:0.5}
note = ""  # @param {type:"string"}
cases_out = ""  # @param {type:"string"}

# %%
from pathlib import Path
if effect_size == 0.3 and seed == 1:
    raise RuntimeError("too large")
Path(cases_out).with_suffix(".json").write_text('{"device": "cpu"}')
Path(cases_out).write_text(f"subject,note,x,seed\\na,own,{effect_size},{seed}\\nb,own,0.33333,{seed}\\n")
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    folder = tmp_path / "with space, it's"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "01_tiny.py"
    path.write_text(NOTEBOOK, "utf-8")
    return path


def combinations(notebook, *asked):
    return grid.combinations(parameters.read(notebook), asked, where="01")


def test_the_grid_is_the_product_with_typed_values(notebook):
    found = combinations(notebook, ("effect_size", "1e-1,0.2,0.10"), ("seed", "010,1"))
    assert found == [{"effect_size": e, "seed": s} for e in (0.1, 0.2) for s in (10, 1)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([("effect_size", "0.1,0.9")], r"effect_size of 01: expected 0\.01 to 0\.5, got 0\.9"),
        ([("effect_size", "0.1,,0.2")], r"effect_size: expected a number \(0\.01 to 0\.5\), got ''"),
        ([("seed", "0"), ("seed", "1")], "expected each parameter once, got seed twice"),
        ([("sead", "0")], r"01 has no parameter sead; .*did you mean seed\?"),
        ([("cases_out", "x.csv")], "a sweep names its tables itself"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(notebook, asked, message):
    with pytest.raises(ValueError, match=message):
        combinations(notebook, *asked)


def test_two_settings_never_share_a_name_and_order_does_not_matter():
    long = "x" * 200
    pairs = [
        {"note": "a b"},
        {"note": "a/b"},
        {"note": f"{long}1"},
        {"note": f"{long}2"},
        {"n": 1},
        {"n": "1"},
    ]
    assert len({grid.label(p, p).lower() for p in pairs}) == len(pairs)
    assert all(len(grid.label(p, p)) < 120 for p in pairs)
    assert grid.digest({"a": 1, "b": 2}) == grid.digest({"b": 2, "a": 1})


def test_two_chapters_share_a_folder_and_no_file(notebook, monkeypatch):
    other = notebook.with_name("02_tiny.py")
    other.write_text(NOTEBOOK, "utf-8")
    asked = []
    monkeypatch.setattr(grid, "_run_missing", lambda path, runs, folder, jobs: asked.extend(runs))
    for path in (notebook, other):
        assert grid.sweep(path, [("seed", "0,1"), ("note", "ä" * 90)], folder="out").failed == 2
    assert len(set(asked)) == 4
    assert all(name.isascii() and len(name) < 120 for name in asked)


def test_a_chapter_without_a_table_of_cases_says_so(notebook, capsys):
    notebook.write_text(NOTEBOOK.replace('cases_out = ""  # @param {type:"string"}\n', ""), "utf-8")
    assert cli.main(["sweep", str(notebook), "-p", "seed", "0,1"]) == 2
    assert "01_tiny writes no table of cases" in capsys.readouterr().err
    notebook.write_text(NOTEBOOK, "utf-8")
    with pytest.raises(ValueError, match="jobs must be an integer >= 1, got 0"):
        grid.sweep(notebook, [("seed", "0")], folder="out", jobs=0)


def test_without_snakemake_the_reader_is_told(notebook, monkeypatch):
    monkeypatch.setattr(grid.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="a sweep needs Snakemake"):
        grid.sweep(notebook, [("seed", "0")], folder="out")


def stored(folder, name, seed, **columns):
    pd.DataFrame({"subject": ["a"], "seed": seed, **columns}).to_csv(folder / f"{name}.csv", index=False)
    (folder / f"{name}.json").write_text(json.dumps({"seed": seed, "device": "cpu"}))


def test_tables_are_joined_with_a_column_for_each_parameter(tmp_path):
    stored(tmp_path, "one", 0, x=0.123450, norm="own")
    stored(tmp_path, "two", 1, y=2)
    runs = {"one": {"seed": 0, "norm": "linf"}, "two": {"seed": 1, "norm": "l2"}}
    path = grid.join(runs, tmp_path, "joined.csv")
    table = pd.read_csv(path, dtype=str)
    assert list(table["seed"]) == ["0", "1"]
    assert table.loc[0, ["norm", "norm (parameter)", "x"]].tolist() == ["own", "linf", "0.12345"]
    assert table.loc[1, "norm"] == "l2"
    assert pd.isna(table.loc[1, "x"])
    origin = json.loads(path.with_suffix(".json").read_text())["runs"]
    assert [run["parameters"] for run in origin] == list(runs.values())
    assert origin[0]["device"] == "cpu"


def test_a_damaged_table_is_named(tmp_path):
    stored(tmp_path, "one", 0)
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(ValueError, match=r"one\.csv must be a table with its JSON.*delete it"):
        grid.join({"one": {"seed": 0}}, tmp_path, "joined.csv")
    assert not (tmp_path / "joined.csv").exists()


def test_a_sweep_runs_leaves_out_what_fails_and_goes_on_where_it_stopped(notebook, capsys):
    pytest.importorskip("snakemake")
    asked = [
        "sweep",
        str(notebook),
        "-p",
        "effect_size",
        "0.1,0.3",
        "-p",
        "seed",
        "1",
        "-p",
        "note",
        "$(x) 'y'",
    ]
    assert cli.main(asked) == 1
    said = capsys.readouterr().out
    assert said.count("\ndone ") + said.startswith("done ") == 1
    assert "RuntimeError: too large" in said
    folder = notebook.parent / "_build/sweeps/01_tiny"
    (finished,) = list(folder.glob("effect_size=*.csv"))
    stamp = finished.stat().st_mtime_ns

    notebook.write_text(NOTEBOOK.replace("effect_size == 0.3", "effect_size == 0.4"), "utf-8")
    assert cli.main(asked) == 0
    said = capsys.readouterr().out
    assert said.startswith("there ")
    assert finished.stat().st_mtime_ns == stamp
    joined = pd.read_csv(said.split("-> ")[1].strip())
    assert list(joined["effect_size"]) == [0.1, 0.1, 0.3, 0.3]
    assert set(joined["note"]) == {"own"}
    assert set(joined["note (parameter)"]) == {"$(x) 'y'"}


# -- make params --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("params", ROOT / "benchmarks" / "params.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("source", sorted(ROOT.glob("notebooks/[0-9]*.py")), ids=lambda path: path.stem)
def test_every_parameter_is_turned_in_two_settings(program, source):
    settings, declared = program.SETTINGS[source.stem[:2]], parameters.read(source)
    assert len(settings) == 2
    turned = set()
    for values in settings:
        parameters.check(declared, values, where=source.stem)
        assert [name for name, value in values.items() if value == declared[name].default] == []
        turned |= set(values)
    assert turned == set(declared) - {"profile", "seed", "cases_out"}


def executed(path, *texts, alt="Described as it is at the book's settings; here n = 1. A curve."):
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [nbformat.v4.new_output("stream", text=f"{text}\n") for text in texts]
    figure = {"application/vnd.plotly.v1+json": {"layout": {"meta": {"alt": alt}}}}
    cell.outputs.append(nbformat.v4.new_output("display_data", data=figure))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_a_run_that_is_not_honest_about_its_settings_is_found(program, tmp_path):
    path, note = tmp_path / "x.ipynb", "Other settings than the book's: n = 1 (in the book: 0)."
    assert program.faults(executed(path, note), {"n": 1}) == "ok"
    assert "expected one line" in program.faults(executed(path, "hello"), {"n": 1})
    assert "facts of the book" in program.faults(executed(path, note, "A beats B: True"), {"n": 1})
    assert "text alternatives" in program.faults(executed(path, note, alt="A curve."), {"n": 1})


def test_one_quick_chapter_runs_at_another_setting(program, tmp_path):
    seconds, said = program.run("90", program.SETTINGS["90"][0], tmp_path, "90_1")
    assert (seconds > 0, said) == (True, "ok")
