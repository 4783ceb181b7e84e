"""The first cell of a chapter: what it installs on Colab, what it says there, and what it leaves alone."""

import re
import subprocess
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
from retarget import WRITTEN, addresses, retarget, rewrite

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


@pytest.mark.parametrize("name", ["CITATION.cff", "README.md", "book/intro.md", "pyproject.toml"])
def test_links_lead_to_the_repository_of_the_configuration(name):
    found = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", (ROOT / name).read_text("utf-8"))
    assert set(found) == {REPOSITORY}, "run `make retarget`"


def test_the_version_is_cited_as_it_is():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("https://old.github.io/book/", "https://new.github.io/pages/"),
        (
            "    git clone https://github.com/old/book\n    cd book\n",
            "    git clone https://github.com/new/pages\n    cd pages\n",
        ),
        ("cff-version: 1.2.0\ntitle: x\nversion: 0.1.0\n", "cff-version: 1.2.0\ntitle: x\nversion: 0.2.0\n"),
        ("https://github.com/old/bookshelf", "https://github.com/old/bookshelf"),
        ("https://github.com/third/old/book", "https://github.com/third/old/book"),
        ("a book of old/book values", "a book of old/book values"),
    ],
)
def test_retarget_knows_an_address_from_what_only_looks_like_one(before, after):
    assert rewrite(before, "old/book", "new/pages", "0.2.0") == after


@pytest.fixture
def checkout(tmp_path):
    """A copy of every tracked file that names an address, in a repository of its own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix in WRITTEN | {".yaml", ".cfg", ".txt", "", ".smk"}:
            text = path.read_text("utf-8")
            if "github" in text and not name.startswith("tests/"):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text, "utf-8")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def texts(folder):
    """Name -> text of the files of a checkout."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in paths}


def test_one_command_moves_the_whole_book_and_back(checkout):
    before, here = texts(checkout), REPOSITORY.removeprefix("https://github.com/")
    changed = {str(path.relative_to(checkout)) for path in retarget("course-2027/trust.lab", root=checkout)}
    assert {"README.md", "CITATION.cff", "pyproject.toml", "book/intro.md", "book/_config.yml"} <= changed
    assert {f"notebooks/{source.stem}{end}" for source in SOURCES for end in (".py", ".ipynb")} <= changed
    assert [name for name, text in texts(checkout).items() if here in text] == []
    assert f"cd {here.split('/')[1]}" not in (checkout / "book/intro.md").read_text("utf-8")
    assert retarget(root=checkout) == []
    ours = (here, f"{here.split('/')[0]}.github.io", "trust.lab")
    for name, text in texts(checkout).items():  # addresses of others stay
        theirs = [
            [line for line in whole.splitlines() if "github" in line and not any(map(line.count, ours))]
            for whole in (before[name], text)
        ]
        assert theirs[0] == theirs[1], name
    retarget(here, root=checkout)
    assert texts(checkout) == before


def test_an_address_typed_into_the_configuration_is_written_everywhere(checkout):
    config = checkout / "book/_config.yml"
    config.write_text(
        config.read_text("utf-8").replace(REPOSITORY, "https://github.com/course/trust"), "utf-8"
    )
    retarget(root=checkout)
    assert addresses(checkout) == ("course/trust", "course/trust")
    assert "git+https://github.com/course/trust@v" in (checkout / "notebooks/01_domain_shift.py").read_text(
        "utf-8"
    )


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
