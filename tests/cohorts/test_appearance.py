"""Laws of the appearance distance."""

import numpy as np
import pytest

from segconf_lite.cohorts import phantom
from segconf_lite.cohorts.appearance import appearance_distance, appearance_features


def test_identical_cohorts_are_at_distance_zero_and_order_does_not_matter():
    cohort = phantom.cohort(12, size=32)
    assert appearance_distance(cohort, cohort) == 0
    assert appearance_distance(cohort.take(np.arange(12)[::-1]), cohort) == pytest.approx(0, abs=1e-9)


def test_noise_moves_pictures_further_the_stronger_it_is():
    source = phantom.cohort(30, size=48)
    distances = [
        appearance_distance(phantom.cohort(30, size=48, scanner=phantom.Scanner(noise=n)), source)
        for n in (0.05, 0.1, 0.2)
    ]
    assert distances == sorted(distances)


def test_white_noise_has_a_flat_spectrum():
    noise = np.random.default_rng(0).normal(size=(50, 1, 48, 48)).astype(np.float32)
    spectrum = appearance_features(noise)[:, 17:].mean(axis=0)
    assert np.ptp(spectrum) < 0.1


def test_far_scanner_looks_further_than_the_near_one():
    """E was chosen to look foreign, F to look familiar (chapter 1)."""
    source = phantom.cohort(60, size=96)
    far, near = (appearance_distance(phantom.cohort(60, scanner=s, seed=1), source) for s in "EF")
    assert far > 2 * near


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="one image size"):
        appearance_distance(phantom.cohort(6, size=32), phantom.cohort(6, size=48))
