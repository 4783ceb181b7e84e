"""The simulation behind chapter 9, quickly: on synthetic cases the promises are kept, and broken."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segconf_lite.cohorts import phantom

PATH = Path(__file__).parents[2] / "benchmarks/guarantees.py"


@pytest.fixture(scope="module")
def simulation():
    if not PATH.exists():
        pytest.skip("no checkout")
    spec = importlib.util.spec_from_file_location("guarantees", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pool(n, shift, sd, seed):
    """Cases of one scanner whose predicted quality is too high by a shift; f0 tells the scanner."""
    rng = np.random.default_rng(seed)
    quality = rng.beta(8, 2, n)
    predicted = np.clip(quality + rng.normal(shift, sd, n), 0, 1)
    return pd.DataFrame({"predicted": predicted, "quality": quality, "f0": rng.normal(40 * shift, 1, n)})


def test_coverage_is_binomial_where_cases_are_exchangeable(simulation):
    rows = list(simulation.home(pool(900, 0.03, 0.05, 0), np.random.default_rng(1), 400))
    assert [row["verdict"] for row in rows] == ["kept"] * 4
    for row in rows:  # and over calibration sets it has the Beta distribution of the theorem
        assert row["set_low"] == pytest.approx(row["beta_low"], abs=0.04)
        assert row["set_high"] == pytest.approx(row["beta_high"], abs=0.04)


def test_margin_is_that_of_mapie(simulation):
    pytest.importorskip("mapie.regression", exc_type=ImportError)
    (row,) = simulation.mapie(pool(300, 0.03, 0.05, 0), np.random.default_rng(1), 5)
    assert row["verdict"] == "kept"


def test_known_weights_restore_what_a_changed_mixture_breaks(simulation):
    pools = {"A": pool(900, 0.0, 0.03, 0), "B": pool(900, 0.1, 0.08, 1)}
    found = simulation.mixtures(pools, np.random.default_rng(2), 100, 8, [(0.3, 1.0)])
    rows = {row["weights"]: row for row in found}
    assert rows["none"]["coverage"] < 0.8
    assert rows["known"]["verdict"] == "kept"
    assert rows["known"]["effective_size"] == pytest.approx(0.3 * 200, rel=0.05)


def test_slices_are_those_of_the_cohort(simulation):
    images, labels = simulation.slices("D", range(3, 6), 7, 32)
    cohort = phantom.cohort(36, scanner="D", size=32, seed=7)
    for image, label, subject in zip(images, labels, (3, 4, 5), strict=True):
        rows = slice(6 * subject, 6 * subject + 6)
        same = [np.allclose(image, other, atol=1e-5) for other in cohort.images[rows]]
        assert sum(same) == 1
        assert (cohort.labels[rows][np.argmax(same)] == label).all()
