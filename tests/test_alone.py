"""The package as a reader installs it: from a wheel, in an empty folder, without a checkout or data.

One quick chapter runs here. ``make alone`` sets ``ALONE`` and runs every chapter of the series in this way.
"""

import ast
import fnmatch
import gzip
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest
from packaging.utils import canonicalize_name

from segconf_lite.claims import report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
ALL = bool(os.environ.get("ALONE"))
NOT_COPIED = shutil.ignore_patterns(".*", "_build", "build", "*.egg-info", "__pycache__")
LARGEST = 2_000_000  # bytes of a file in the wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_COPIED)
    build("sdist", folder / "checkout", folder)
    (source,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(source, folder)
    build("wheel", folder / source.name.removesuffix(".tar.gz"), folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def site(wheel):
    """The installed wheel: unpacked, which is how pip installs it."""
    shutil.unpack_archive(wheel, wheel.parent / "site", "zip")
    return wheel.parent / "site"


def build(what, source, target):
    code = f"from setuptools import build_meta; build_meta.build_{what}({str(target)!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def python(site, tmp_path):
    """Run Python in an empty folder with the installed wheel; return what it printed."""

    def python(*arguments, expect=0):
        environment = {k: v for k, v in os.environ.items() if k != "SEGCONF_DATA"}
        environment["PYTHONPATH"] = str(site)  # before the editable install of this checkout
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    return python


def segconf(python, *arguments, **options):
    return python("-m", "segconf_lite.cli", *arguments, **options)


def named_tables(source):
    """The tables that a chapter asks for; ``*`` stands where a name is put together while it runs."""
    tree = ast.parse(source.read_text("utf-8"))
    constants = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            constants.setdefault(ast.unparse(node.targets[0]), []).append(node.value.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("stored_table"):
            (name,) = node.args
            if isinstance(name, ast.Constant):
                yield name.value
            elif isinstance(name, ast.JoinedStr):
                yield "".join(or_star(part).value for part in name.values)
            else:
                yield from constants[ast.unparse(name)]


def or_star(part):
    return part if isinstance(part, ast.Constant) else ast.Constant("*")


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_the_wheel_has_every_table_that_a_chapter_names(site, source):
    there = [path.name.removesuffix(".gz") for path in (site / "segconf_lite/_series/book/results").iterdir()]
    missing = [name for name in named_tables(source) if not fnmatch.filter(there, name)]
    assert not missing


def test_names_of_tables_are_found_however_they_are_written(tmp_path):
    named = {name for source in CHAPTERS for name in named_tables(source)}
    assert {"chapter_01_*.csv", "chapter_06_published_falls.csv"} <= named
    put_together = tmp_path / "cell.py"
    put_together.write_text('stored_table(f"chapter_{chapter:02d}_lite_cases.csv")')
    assert set(named_tables(put_together)) == {"chapter_*_lite_cases.csv"}


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_no_chapter_reads_a_file_by_a_path_of_the_checkout(source):
    strings = [
        node.value
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Constant)
    ]
    assert not [text for text in strings if isinstance(text, str) and text.startswith(("../", "book/"))]


def test_tables_and_claims_in_the_wheel_are_those_of_the_checkout(site):
    inside = site / "segconf_lite/_series/book"
    for path in [RESULTS.parent / "claims.yml", *RESULTS.rglob("*.csv"), *RESULTS.rglob("*.json")]:
        copy = inside / path.relative_to(RESULTS.parent)
        if path.suffix == ".csv":
            assert gzip.decompress(copy.with_name(f"{copy.name}.gz").read_bytes()) == path.read_bytes()
        else:
            assert copy.read_bytes() == path.read_bytes()


def test_files_in_the_wheel_are_small(site):
    assert not [path.name for path in site.rglob("*") if path.stat().st_size > LARGEST]


def test_claims_are_listed_and_not_judged_where_nothing_can_be_stored(python):
    assert segconf(python, "claims").strip() == report.table()  # of this checkout
    assert "expected to work in a checkout" in segconf(python, "claims", "judge", expect=1)


def test_the_package_says_where_notebooks_come_from_and_copies_them(python, tmp_path):
    said = segconf(python, "run", "77", expect=2)
    assert "there: 00_first_look" in said
    assert "`segconf notebooks FOLDER` copies them" in said
    segconf(python, "notebooks", "series")
    for source in CHAPTERS:
        for path in (source, source.with_suffix(".ipynb")):
            assert (tmp_path / "series" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("source", CHAPTERS if ALL else CHAPTERS[-1:], ids=lambda path: path.stem)
def test_chapter_runs_alone(python, site, tmp_path, source):
    inside = site / "segconf_lite/_series/notebooks" / source.name
    with inside.open("a", encoding="utf-8") as notebook:
        notebook.write("\n# %%\nimport segconf_lite\n\nprint(segconf_lite.__file__)\n")
    segconf(python, "run", source.name[:2])  # by papermill
    assert [path.name for path in tmp_path.iterdir()] == ["_build"]
    executed = nbformat.read(tmp_path / f"_build/executed/{source.stem}.ipynb", as_version=4)
    (output,) = executed.cells[-1].outputs
    assert output.text.strip() == str(site / "segconf_lite/__init__.py")


@pytest.mark.skipif(not ALL, reason="asks a package index: make alone")
def test_pip_changes_nothing_on_colab(wheel, tmp_path):
    """What Colab has is pretended: a name and a version each, in an environment that is otherwise empty."""
    venv.create(tmp_path / "colab", with_pip=True)
    python = tmp_path / "colab" / ("Scripts" if os.name == "nt" else "bin") / "python"
    (packages,) = tmp_path.glob("colab/**/site-packages")
    lines = (ROOT / "tests/colab_frozen.txt").read_text("utf-8").splitlines()
    frozen = dict(line.split("==") for line in lines if "==" in line)
    for name, version in frozen.items():
        there = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        there.mkdir()
        (there / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (there / "INSTALLER").write_text("pip")
    command = [python, "-m", "pip", "install", "--dry-run", "--report", tmp_path / "report.json", wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution found" in done.stderr or "Connection" in done.stderr:
        pytest.skip(f"no package index can be asked: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    new = {canonicalize_name(item["metadata"]["name"]) for item in report["install"]}
    assert {"segconf-lite", "monai"} <= new
    assert not new & set(map(canonicalize_name, frozen))
