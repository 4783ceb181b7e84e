"""What tests of the programs beside the chapters share."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def program(request):
    """The module of ``benchmarks`` that a test file names as `PROGRAM`."""
    if not BENCHMARKS.exists():
        pytest.skip("no checkout")
    name = request.module.PROGRAM
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look there
        spec.loader.exec_module(module)
    return module
