"""segconf_lite.parameters: declared in the chapter, listed, checked, said where they are not the book's."""

import json
import re

import pytest

from segconf_lite import cli, parameters
from segconf_lite.parameters import Parameter
from segconf_lite.show import pictures

CELL = """# Scanner of the
# training cases.
source_scanner = "A"  # @param ["A", "B", "C"]
# Scanners beside it.
unseen_scanners = ""  # @param {type:"string", letters:"ABC", also:""}
# Wanted fall.
effect_size = 0.1  # @param {type:"number", min:0.01, max:1e2, unit:"nats"}
# Training cases (0: as the profile says).
n_train = 0  # @param {type:"integer", min:24, max:960, also:0}
# Severity.
severity = 3  # @param [1, 2, 3] {type:"raw"}
blur = True  # whether images are blurred
speed = 1.0  # @param {type:"number", min:0}
radius_min = 2  # @param {type:"integer"}
radius_max = 5  # @param {type:"integer"}
seed = 0  # @param {type:"integer", min:0}
cases_out = ""  # @param {type:"string"}
"""


@pytest.fixture
def chapter(tmp_path):
    path = tmp_path / "04_try.py"
    path.write_text(
        f'# %% [markdown]\n# Words\n\n# %% tags=["parameters"]\n{CELL}\n# %%\nprint(1)\n', "utf-8"
    )
    return path


@pytest.fixture
def declared(chapter):
    return parameters.read(chapter)


@pytest.fixture
def running(chapter, monkeypatch):
    """Runs the cell with some values changed, and then what stands right after it."""
    monkeypatch.setattr(parameters, "notebook_source", lambda name: chapter)
    monkeypatch.setattr(parameters, "_note", "")

    def run(**changed):
        variables = {}
        exec(CELL, variables)
        return parameters.checked("04_try", {**variables, **changed})

    return run


def test_a_declaration_is_read(declared):
    assert declared["source_scanner"] == Parameter(
        "source_scanner", "A", "'A'", "Scanner of the training cases.", choices=("A", "B", "C"), declared=True
    )
    assert declared["effect_size"] == Parameter(
        "effect_size", 0.1, "0.1", "Wanted fall.", "nats", low=0.01, high=100.0, declared=True
    )
    assert declared["blur"] == Parameter("blur", True, "True", "whether images are blurred")
    assert declared["severity"].choices == (1, 2, 3)


def test_py_and_ipynb_declare_the_same(chapter, declared, tmp_path):
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": CELL.splitlines(keepends=True)},
        {"cell_type": "code", "metadata": {}, "source": "seed = 9"},
    ]
    twin = tmp_path / "04_try.ipynb"
    twin.write_text(json.dumps({"cells": cells}), "utf-8")
    assert parameters.read(twin) == declared


@pytest.mark.parametrize("form", ["[1, 2", '{type:"integer", min:}', "slider", '{type:"integer"} [1]'])
def test_a_broken_declaration_is_named(tmp_path, form):
    path = tmp_path / "01.py"
    path.write_text(f'# %% tags=["parameters"]\nseed = 0  # @param {form}\n', "utf-8")
    with pytest.raises(ValueError, match="parameter seed: expected @param"):
        parameters.read(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"effect": 1},
            r"04 has no parameter effect; it has: source_scanner='A', .*did you mean effect_size\?",
        ),
        (
            {"source_scanner": "G"},
            r"source_scanner of 04: expected one of A, B, C, got 'G'; .* default is 'A'",
        ),
        ({"effect_size": 0.001}, r"effect_size of 04: expected 0\.01 to 100 nats, got 0\.001"),
        ({"effect_size": float("nan")}, "got nan"),
        ({"speed": float("inf")}, "speed of 04: expected at least 0, got inf"),
        (
            {"effect_size": "0.1"},
            r"effect_size of 04 is float \(default 0\.1\), got str '0\.1'; expected 0\.01",
        ),
        ({"n_train": 12}, "n_train of 04: expected 0, or 24 to 960, got 12"),
        ({"n_train": 24.0}, "n_train of 04 is int"),
        ({"seed": -1}, "seed of 04: expected at least 0, got -1"),
        ({"seed": True}, "seed of 04 is int .* got bool True"),
        ({"seed": None}, "seed of 04 is int .* got NoneType None"),
        ({"severity": 4}, "severity of 04: expected one of 1, 2, 3, got 4"),
        ({"unseen_scanners": "BB"}, "expected '', or letters out of ABC, each once, got 'BB'"),
        ({"unseen_scanners": "AB"}, "not seen, got 'AB' with source_scanner 'A'; choose others"),
        ({"radius_min": 6}, "radius_min and radius_max of 04: .* no larger, got 6 and 5"),
    ],
)
def test_what_is_not_allowed_is_refused(declared, changed, message):
    with pytest.raises(ValueError, match=message):
        parameters.check(declared, changed, where="04")


def test_what_is_allowed_passes(declared):
    for n_train in (0, 24, 960):
        parameters.check(
            declared, {"n_train": n_train, "effect_size": 1, "unseen_scanners": "CB", "blur": False}
        )
    parameters.check(declared, {"source_scanner": "B", "unseen_scanners": "AC", "radius_min": 5})


def test_as_in_the_book_nothing_is_said(running, capsys):
    assert running(seed=7, cases_out="x.csv") is True
    assert capsys.readouterr().out == ""
    assert pictures.described("a curve", min_width=3) == {"alt": "a curve", "min_width": 3}


def test_other_settings_are_said_once_and_in_every_alternative_text(running, capsys):
    assert running(effect_size=0.2, source_scanner="B") is False
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "source_scanner = 'B' (in the book: 'A'), effect_size = 0.2 (in the book: 0.1)" in said
    assert "speak of the book's settings" in said
    assert pictures.described("a curve")["alt"].endswith("effect_size = 0.2 (in the book: 0.1). a curve")
    assert running() is True  # back to the book, in the same kernel
    assert parameters.alt_note() == ""


def test_a_value_typed_into_the_cell_is_checked(running):
    with pytest.raises(ValueError, match=r"effect_size of 04_try: expected 0\.01 to 100 nats, got 5000"):
        running(effect_size=5000)


def test_without_the_parameters_cell_the_reader_is_told_to_run_it(running):
    with pytest.raises(ValueError, match=r"expected the parameter source_scanner.*run the parameters cell"):
        parameters.checked("04_try", {})


def test_a_chapter_without_source_is_named():
    with pytest.raises(FileNotFoundError, match="source of chapter 99_none"):
        parameters.notebook_source("99_none")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "010", 10),
        ("seed", "+3", 3),
        ("effect_size", "1e-2", 0.01),
        ("effect_size", "2", 2.0),
        ("blur", "False", False),
        ("source_scanner", "010", "010"),
        ("cases_out", "it's #1", "it's #1"),
        ("cases_out", "", ""),
    ],
)
def test_typed_values_have_the_type_of_the_default(declared, name, text, value):
    found = parameters.value_of(text, declared[name])
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("seed", text)
            for text in ("1:30", "1.0", "", "1e3", "0x10", "1_0", "2026-01-31", "[1,", "٣", "9" * 5000)
        ),
        *(("effect_size", text) for text in ("x", "", "nan", "inf", "1_0.5", "1:30", "1e", "0.1 0.2")),
        *(("blur", text) for text in ("1", "yes", "on", "")),
    ],
)
def test_typed_values_of_another_type_are_refused(declared, name, text):
    with pytest.raises(ValueError, match=rf"parameter {name}: expected .*, got '{re.escape(text)}'"):
        parameters.value_of(text, declared[name])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),
        ("1:30", "1:30"),
        ("1e-5", 1e-5),
        ("2026-01-31", "2026-01-31"),
        ("", ""),
        ("*.gz", "*.gz"),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("true", True),
        ("NaN", "NaN"),
        ("7", 7),
    ],
)
def test_a_value_of_no_declared_type_is_json_or_text(text, value):
    for parameter in (Parameter("size", "2 * 3", "2 * 3", literal=False), Parameter("size", None, "None")):
        found = parameters.value_of(text, parameter)
        assert (found, type(found)) == (value, type(value))


def test_broken_json_is_refused():
    with pytest.raises(ValueError, match=r"parameter size: expected JSON, got '\[1, 2'"):
        parameters.value_of("[1, 2", Parameter("size", None, "None"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", '# %% tags=["parameters"]\nseed = (\n'),
        ("a.py", '# %% tags=["parameters"]\nseed = "\n'),
        ("a.py", '# %% tags=["parameters"]\nx = ' + "(" * 5000 + "\n"),
        ("a.ipynb", "{}"),
        ("a.ipynb", "[]"),
        ("a.ipynb", ""),
        ("a.ipynb", '{"cells": [{"metadata": 3}]}'),
        ("a.ipynb", "[" * 10**5),
        ("a.ipynb", '{"cells": [{"metadata": {"tags": ["parameters"]}}]}'),
    ],
)
def test_a_damaged_notebook_is_one_clear_message(tmp_path, name, text, capsys):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"expected (Python in the parameters cell of|a notebook in JSON, got)"
    ):
        parameters.read(path)
    assert cli.main(["run", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_listing_is_aligned_and_complete(declared):
    lines = parameters.listing(declared).splitlines()
    at = lines[0].index("allowed"), lines[0].index("meaning")
    row = next(line for line in lines if line.startswith("  effect_size"))
    assert row[at[0] :].startswith("0.01 to 100 nats")
    assert row[at[1] :] == "Wanted fall."
    assert all(len(line) <= 110 for line in lines)
    assert [name for name in declared if f"  {name} " not in parameters.listing(declared)] == []


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_help_of_a_chapter_lists_its_parameters(chapter, command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, str(chapter), "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "usage: segconf" in said
    assert "parameters of 04_try:" in said
    assert "Scanner of the training cases." in said


def test_help_without_a_chapter_and_of_a_missing_one(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "--help"])
    assert caught.value.code == 0
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "none.py", "--help"])
    assert caught.value.code == 2
    assert "no such file" in capsys.readouterr().err
