"""Every notebook: .py (the truth) and .ipynb agree, and the .ipynb is as Colab and the book need it."""

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from segconf_lite import parameters
from segconf_lite.notebook import stated_minutes

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
MOST_LINES = 15  # of a cell that is folded; of one that the reader sees:
MOST_VISIBLE = 10
MOST_PARAMETERS = 20  # each is one line, with its meaning above
FOLDED = {"hide-input", "remove-input", "remove-cell"}

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def comparable(notebook):
    """Type, source and tags of every cell."""
    return [(c.cell_type, c.source.strip(), sorted(c.metadata.get("tags", []))) for c in notebook.cells]


def trees(cells):
    """Syntax trees of code cells, without their %-lines, which are no Python."""
    return [ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", c.source, flags=re.MULTILINE)) for c in cells]


def badge_link(source):
    """The Colab address that follows from the repository in book/_config.yml and the notebook's path."""
    repository = yaml.safe_load((ROOT / "book" / "_config.yml").read_text("utf-8"))["repository"]
    place = repository["url"].removeprefix("https://github.com/")
    return (
        f"https://colab.research.google.com/github/{place}/blob/{repository['branch']}"
        f"/notebooks/{source.stem}.ipynb"
    )


def test_there_are_notebooks_and_none_is_unpaired():
    assert SOURCES
    twins = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert twins == [path.stem for path in SOURCES], "run `make notebooks`, and delete what has no .py"


@every_notebook
def test_twins_have_the_same_cells(source):
    twin = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert comparable(jupytext.read(source)) == comparable(twin), "run `make notebooks`"


@every_notebook
def test_twin_has_no_outputs(source):
    for cell in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells:
        assert not cell.get("outputs"), "run `make notebooks`"
        assert cell.get("execution_count") is None, "run `make notebooks`"


@every_notebook
def test_parameters_are_declared_and_the_defaults_allowed(source):
    declared = parameters.read(source)  # raises unless exactly one cell is tagged
    parameters.check(declared, {name: p.default for name, p in declared.items()}, where=source.stem)
    for name, parameter in declared.items():
        assert parameter.declared, f"{name} has no # @param"
        assert parameter.literal, f"{name}: the default is no literal"
        assert parameter.meaning.endswith("."), f"{name}: say in a sentence above it what it means"
    assert len(set(declared) - {"profile", "seed", "cases_out"}) >= 4


@every_notebook
def test_parameters_are_checked_right_after_their_cell_and_never_rebound(source):
    cells = [c for c in jupytext.read(source).cells if c.cell_type == "code"]
    at = next(k for k, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))
    assert f'as_in_book = parameters.checked("{source.stem}", globals())' in cells[at + 1].source
    declared = set(parameters.read(source))
    for tree in trees(cells[at + 1 :]):
        names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
        bound = declared & {node.id for node in names if isinstance(node.ctx, ast.Store)}
        assert not bound, f"a cell binds {bound} anew; run twice, it would not find the reader's value"


@every_notebook
def test_every_parameter_is_used(source):
    cells = [c for c in jupytext.read(source).cells if c.cell_type == "code"]
    others = [c for c in cells if "parameters" not in c.metadata.get("tags", [])]
    used = {n.id for tree in trees(others) for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert not set(parameters.read(source)) - used


@every_notebook
def test_header_states_the_time(source):
    minutes = stated_minutes(source)
    assert minutes is not None, 'write e.g. "**Time:** about 3 min" into the first cells'
    assert 0 < minutes <= 30


@every_notebook
def test_colab_badge_follows_from_the_path(source):
    links = re.findall(r"https://colab\.research\.google\.com/github/[^)\s\"]+", source.read_text("utf-8"))
    assert set(links) == {badge_link(source)}


@every_notebook
def test_code_cells_are_short(source):
    for number, cell in enumerate(jupytext.read(source).cells):
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            if "parameters" in cell.metadata.get("tags", []):  # each has its meaning above it
                lines = [line for line in lines if not line.startswith("#")]
            else:
                lines = [line for line in lines if line.strip()]
            tags = {*cell.metadata.get("tags", [])}
            most = MOST_LINES if tags & FOLDED else MOST_VISIBLE
            most = MOST_PARAMETERS if "parameters" in tags else most
            assert len(lines) <= most, f"cell {number} has {len(lines)} lines; it starts with {lines[0]}"
