"""What the executed notebooks say of themselves must be true; `make test` runs this after the series."""

from pathlib import Path

import pytest

from segconf_lite import notebook

ROOT = Path(__file__).parents[1]
EXECUTED = sorted((ROOT / "_build/executed").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_facts_hold(path):
    facts = notebook.facts(path)
    assert facts, "no cell that begins with # FACTS printed a fact"
    assert not [statement for statement, true in facts if not true]


@pytest.mark.skipif(not EXECUTED, reason="nothing is executed yet: make run")
def test_the_whole_series_was_executed():
    assert [path.stem for path in EXECUTED] == sorted(p.stem for p in ROOT.glob("notebooks/[0-9]*.py"))
