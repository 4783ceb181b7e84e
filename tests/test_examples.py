"""The examples in the docstrings run and print what they say; every public function has one."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "segconf_lite").rglob("*.py") if not path.stem.startswith("_"))
# Rooms whose public functions do not all have an example yet.
NOT_YET: set[str] = set()

every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: ".".join(path.relative_to(ROOT / "segconf_lite").with_suffix("").parts)
)


@every_module
def test_examples_print_what_they_say(path):
    if ">>>" not in path.read_text("utf-8"):
        return
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=options).failed == 0


@every_module
def test_every_public_function_has_an_example_with_a_result(path):
    """Of a class, one of its public methods or the class itself has it: a bare constructor shows nothing."""
    room = path.relative_to(ROOT / "segconf_lite").parts[0].removesuffix(".py")
    if room in NOT_YET:
        return
    missing = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            parts = [node, *(n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n is not node)]
            texts = [ast.get_docstring(part) or "" for part in parts]
            examples = [e for text in texts for e in doctest.DocTestParser().get_examples(text)]
            shapes = {"Protocol", "TypedDict"}  # forms for the type checker: nothing to run
            bases = {ast.unparse(base) for base in getattr(node, "bases", [])}
            is_error = isinstance(node, ast.ClassDef) and node.name.endswith("Error")
            if not is_error and not bases & shapes and not any(example.want for example in examples):
                missing.append(node.name)
    assert not missing
