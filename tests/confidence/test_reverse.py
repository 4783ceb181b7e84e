"""Laws of reverse classification accuracy, on hearts of the phantom with known labels."""

import dataclasses

import numpy as np
import pytest

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import reverse_classification_accuracy, soft_dice_confidence
from segconf_lite.confidence.reverse import features

KNOWN = phantom.cohort(6, size=48, seed=1)
CASES = phantom.cohort(6, size=48).take(np.array([1, 3]))


def quality(labels, *, references=KNOWN, n_trees=10, seed=0):
    options = {"n_trees": n_trees, "seed": seed}
    return reverse_classification_accuracy(CASES.images, labels, references, **options)


def test_a_right_segmentation_scores_high_and_wrong_ones_lower():
    right = quality(CASES.labels)
    assert right.shape == (2,)
    assert (right > 0.6).all()
    for wrong in (np.roll(CASES.labels, 6, axis=2), np.where(CASES.labels == 2, 0, CASES.labels)):
        assert (quality(wrong) < right - 0.1).all()


def test_it_sees_a_confident_mistake_that_the_probabilities_do_not_show():
    wrong = np.roll(CASES.labels, 6, axis=2)
    certain = np.moveaxis(np.eye(4)[wrong], -1, 1)
    assert (soft_dice_confidence(certain) == 1).all()
    assert (quality(wrong) < 0.6).all()


def test_a_case_that_is_a_reference_scores_nearly_perfectly():
    assert (quality(CASES.labels, references=CASES) > 0.9).all()


def test_more_references_never_lower_it():
    few = quality(CASES.labels, references=KNOWN.take(np.arange(3)))
    assert (quality(CASES.labels) >= few).all()


def test_a_prediction_without_foreground_scores_zero_and_others_stay_as_they_are():
    labels = CASES.labels.copy()
    labels[0] = 0
    assert quality(labels).tolist() == [0.0, quality(CASES.labels)[1]]


def test_equal_seeds_give_equal_numbers():
    assert quality(CASES.labels, seed=3).tolist() == quality(CASES.labels, seed=3).tolist()


def test_the_features_of_a_case_do_not_depend_on_the_others():
    assert np.array_equal(features(CASES.images)[: 48 * 48], features(CASES.images[:1]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="references must be a Cohort, got ndarray"):
        quality(CASES.labels, references=KNOWN.images)
    with pytest.raises(ValueError, match=r"of the references' size \(32, 32\)"):
        quality(CASES.labels, references=phantom.cohort(2, size=32))
    with pytest.raises(ValueError, match="labels must be in"):
        quality(CASES.labels + 9)
    with pytest.raises(ValueError, match=r"n_trees must be an integer in \[1, 10000\], got 0"):
        quality(CASES.labels, n_trees=0)
    with pytest.raises(ValueError, match=r"n_trees must be an integer in .*; more trees take minutes"):
        quality(CASES.labels, n_trees=10**30)
    empty = dataclasses.replace(KNOWN, labels=np.zeros_like(KNOWN.labels))
    with pytest.raises(ValueError, match="references must be cases with foreground"):
        quality(CASES.labels, references=empty)


def test_numbers_of_numpy_are_numbers():
    few, size = phantom.cohort(1, size=32), phantom.cohort(2, size=32, seed=1)
    one, other = (
        reverse_classification_accuracy(few.images, few.labels, size, n_trees=n, seed=n)
        for n in (3, np.array(3))
    )
    assert np.array_equal(one, other)
