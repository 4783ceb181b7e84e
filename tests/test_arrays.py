"""`to_numpy`, and the rule that nothing else turns a tensor into an array."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from segconf_lite.arrays import to_numpy

ROOT = Path(__file__).parents[1]
FOLDERS = ("segconf_lite", "notebooks", "benchmarks", "book", "workflow")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, 2.0]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor([1.0, 2.0], dtype=torch.float16),
        torch.tensor([1, 2]),
        pd.Series([1, 2], index=["a", "b"]),
        [1, 2],
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_values_and_type(values):
    array = to_numpy(values, np.float64)
    assert type(array) is np.ndarray
    assert array.dtype == np.float64
    assert array.tolist() == [1.0, 2.0]


def test_the_type_is_kept_unless_asked_and_bfloat16_becomes_float32():
    for dtype in (torch.float32, torch.float64, torch.int64, torch.bool):
        assert torch.from_numpy(to_numpy(torch.zeros(2, dtype=dtype))).dtype == dtype
    assert to_numpy(torch.zeros(2, dtype=torch.bfloat16)).dtype == np.float32


def test_nothing_is_copied_without_need():
    tensor, array = torch.zeros(3), np.zeros(3)
    assert np.shares_memory(to_numpy(tensor), tensor.numpy())
    assert to_numpy(array) is array


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_this_helper_calls_numpy_on_a_tensor(path):
    if path == ROOT / "segconf_lite" / "arrays.py":
        return
    lines = path.read_text("utf-8").splitlines()
    calls = [line.strip() for line in lines if re.search(r"\.numpy\(|np\.asarray\([^)]*\.cpu\(\)", line)]
    assert not calls, f"use segconf_lite.arrays.to_numpy, which takes tensors on any device: {calls}"
