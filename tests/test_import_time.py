"""The package itself stays light: torch takes 1.3 s to import and MONAI 5 s."""

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import segconf_lite

MOST_SECONDS = 0.1


def seconds(code, repeats=5):
    """Fastest of a few fresh interpreters; other work on the machine only ever adds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_is_quick():
    assert seconds("import segconf_lite") - seconds("pass") < MOST_SECONDS


@pytest.mark.parametrize("module", ["", ".cli", ".colab", ".notebook", ".resources"])
def test_import_brings_no_heavy_library(module):
    heavy = {"torch", "monai", "numpy", "pandas", "plotly", "jupytext", "papermill"}
    code = f"import sys, segconf_lite{module}; print(*sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_version_is_that_of_the_project():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert segconf_lite.__version__ == project["version"]


def test_unknown_room_is_named_with_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'metrics'; it has claims, cohorts"):
        segconf_lite.metrics  # noqa: B018


def test_rooms_are_listed():
    assert {"cohorts", "models", "evaluation"} <= set(dir(segconf_lite))


@pytest.mark.parametrize(
    "room",
    [
        "cohorts",
        "readers",
        "models",
        "confidence",
        "fragility",
        "evaluation",
        "show",
        "stress",
        "claims",
        "predictions",
    ],
)
def test_public_names_of_lazy_rooms_are_where_they_are_said_to_be(room):
    module = getattr(segconf_lite, room)
    stub = Path(module.__file__).with_suffix(".pyi").read_text("utf-8")
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert f'"{name}"' in stub
    with pytest.raises(AttributeError, match=f"No segconf_lite.{room} attribute metrics"):
        module.metrics  # noqa: B018


@pytest.mark.parametrize(
    "room", ["cohorts", "readers", "models", "confidence", "show", "stress", "predictions"]
)
def test_lazy_rooms_bring_no_heavy_library(room):
    code = f"import sys, segconf_lite.{room}; print(*sorted(set(sys.modules) & {{'torch', 'monai'}}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
