"""What the executed notebooks say of themselves must be true; `make test` runs this after the series."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
EXECUTED = sorted((ROOT / "_build/executed").glob("[0-9]*.ipynb"))


def lines_of_facts(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.source.startswith("# FACTS\n")]
    assert cells, "no cell begins with # FACTS"
    texts = [o.text for c in cells for o in c.outputs if o.output_type == "stream" and o.name == "stdout"]
    return "".join(texts).splitlines()


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_facts_hold(path):
    lines = lines_of_facts(path)
    assert [line for line in lines if line.endswith((": True", ": False"))], f"no fact among {lines}"
    assert not [line for line in lines if line.endswith(": False")]


@pytest.mark.skipif(not EXECUTED, reason="nothing is executed yet: make run")
def test_the_whole_series_was_executed():
    assert [path.stem for path in EXECUTED] == sorted(p.stem for p in ROOT.glob("notebooks/[0-9]*.py"))
