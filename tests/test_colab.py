"""The first cell of a chapter: what it installs on Colab, what it says there, and what it leaves alone."""

import re
import sys
import tomllib
import types
import warnings
from importlib import metadata
from pathlib import Path

import jupytext
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from retarget import retarget, rewrite

from segconf_lite import __version__, colab

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
REPOSITORY = yaml.safe_load((ROOT / "book/_config.yml").read_text("utf-8"))["repository"]["url"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FROZEN = dict(
    line.split("==")
    for line in (ROOT / "tests/colab_frozen.txt").read_text("utf-8").splitlines()
    if "==" in line
)
FROZEN = {canonicalize_name(name): version for name, version in FROZEN.items()}
FIRST_CELL = f"""import sys

if "google.colab" in sys.modules:  # elsewhere nothing is installed
    %pip install -q "segconf-lite @ git+{REPOSITORY}@v{__version__}"
    pass

from segconf_lite import colab

colab.welcome("{__version__}")"""


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_first_cell_follows_from_repository_and_version(source):
    first = next(cell for cell in jupytext.read(source).cells if cell.cell_type == "code")
    assert first.source == FIRST_CELL, "run `make retarget` and `make notebooks`"


@pytest.mark.parametrize("name", ["CITATION.cff", "book/intro.md"])
def test_links_lead_to_the_repository_of_the_configuration(name):
    found = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", (ROOT / name).read_text("utf-8"))
    assert set(found) == {REPOSITORY}, "run `make retarget`"


def test_retarget_writes_repository_and_version():
    badge = "https://colab.research.google.com/github/old/book/blob/main/notebooks/01_a.ipynb"
    lines = ['%pip install "x @ git+https://github.com/old/book@v0.1.0"', 'colab.welcome("0.1.0")', badge]
    assert rewrite("\n".join(lines), "old/book", "new/pages", "0.2.0").splitlines() == [
        '%pip install "x @ git+https://github.com/new/pages@v0.2.0"',
        'colab.welcome("0.2.0")',
        badge.replace("old/book", "new/pages"),
    ]
    assert rewrite(r"\"colab.welcome(\"0.1.0\")\"", "a/b", "a/b", "0.2.0") == r"\"colab.welcome(\"0.2.0\")\""
    with pytest.raises(ValueError, match="expected a repository as organisation/name, got 'pages'"):
        retarget("pages")


# -- what is said -------------------------------------------------------------------------------------------


@pytest.fixture
def on_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


def test_elsewhere_nothing_is_said(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colab.welcome(__version__)
    assert capsys.readouterr().out == ""


def test_elsewhere_another_version_is_a_warning():
    with pytest.warns(UserWarning, match=r"written for segconf_lite 9\.9, but .* `segconf notebooks FOLDER`"):
        colab.welcome("9.9")


def test_on_colab_another_version_stops_with_the_remedy(on_colab):
    with pytest.raises(RuntimeError, match=r"9\.9, but .* is loaded\. Choose Runtime > Restart session"):
        colab.welcome("9.9")


def test_on_colab_the_device_is_named(on_colab, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    colab.welcome(__version__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    colab.welcome(__version__)
    assert capsys.readouterr().out.splitlines() == [
        "No GPU: this runs on the CPU; to change that: Runtime > Change runtime type",
        "CUDA: Tesla T4",
    ]


# -- what is left alone -------------------------------------------------------------------------------------


def needed(lines):
    """Every requirement that pip would follow from these lines, with who asks; no network is needed."""
    todo = [("segconf-lite", line) for line in lines]
    done = set()
    while todo:
        who, line = todo.pop()
        requirement = Requirement(line)
        if line in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(line)
        yield who, requirement
        name = canonicalize_name(requirement.name)
        if name not in FROZEN:  # what is there already brings nothing new
            todo += [(name, more) for more in metadata.requires(name) or []]


def test_pip_would_change_nothing_that_colab_has():
    found = list(needed(PROJECT["dependencies"]))
    assert {"monai", "scikit-image", "pooch"} <= {who for who, _ in found}
    refused = [
        f"{who} wants {requirement}, Colab has {FROZEN[name]}"
        for who, requirement in found
        if (name := canonicalize_name(requirement.name)) in FROZEN
        and not requirement.specifier.contains(FROZEN[name])
    ]
    assert not refused


def test_the_widgets_of_colab_are_within_the_bounds_of_the_extra():
    for line in PROJECT["optional-dependencies"]["notebooks"]:
        requirement = Requirement(line)
        if requirement.name in FROZEN:
            assert requirement.specifier.contains(FROZEN[requirement.name])
