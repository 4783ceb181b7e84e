"""The code of chapters 4 and 5, once, in small: with ``--pretend-device``, as it runs on a GPU.

A notebook in a process of its own would not see the pretended device, so the cells are run here, one by one.
"""

import ast
import dataclasses
from pathlib import Path

import jupytext
import pytest

from segconf_lite import profiles

ROOT = Path(__file__).parents[1]
SMALL = {
    "04": {"n_train": 24, "n_test": 12, "n_steps": 10, "n_members": 1, "n_answers": 3},
    "05": {
        "n_train": 48,
        "n_test": 12,
        "n_steps": 10,
        "n_members": 1,
        "n_penalty": 2,
        "n_models": 2,
        "search_steps": 2,
        "n_annotated": 6,
        "noise_budget": 1e-1,
    },
}


def code_cells(path, changes):
    """Source of each code cell; the parameters cell is followed by the changes."""
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
            yield "\n".join(lines)
            if "parameters" in cell.metadata.get("tags", []):
                yield "\n".join(f"{name} = {value!r}" for name, value in changes.items())


def run(source, names, title):
    """As IPython does: the last expression of a cell is its value, and is rendered."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, title, "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), title, "eval"), names)
        for render in ("to_json", "_repr_html_"):
            if hasattr(value, render):
                getattr(value, render)()
                break


@pytest.mark.parametrize("chapter", SMALL)
@pytest.mark.filterwarnings("ignore")
def test_every_code_cell_runs(chapter, tmp_path, monkeypatch):
    (path,) = (ROOT / "notebooks").glob(f"{chapter}_*.py")
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path))  # the phantom alone
    monkeypatch.setenv("SEGCONF_QUIET", "1")
    monkeypatch.setattr(profiles, "LITE", dataclasses.replace(profiles.LITE, size=48, channels=(4, 6, 8, 8)))
    monkeypatch.chdir(ROOT / "notebooks")
    names = {"__name__": "__main__", "display": lambda *_: None}
    for number, source in enumerate(code_cells(path, SMALL[chapter])):
        run(source, names, f"{path.name}, cell {number}")
    assert names["as_in_book"] is False
