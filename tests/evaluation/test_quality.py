"""Laws of Dice with an explicit empty policy, of the interval, and of the case table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from segconf_lite.cohorts import phantom
from segconf_lite.evaluation import case_table, dice_per_case, dice_per_class, mean_interval

MASKS = st_numpy.arrays(np.int64, (3, 4, 4), elements=st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.sampled_from(["skip", "one", "zero"]))
def test_dice_is_the_formula_symmetric_and_bounded(a, b, empty):
    dice = dice_per_class(a, b, n_classes=3, empty=empty)
    np.testing.assert_array_equal(dice, dice_per_class(b, a, n_classes=3, empty=empty))
    for case in range(3):
        for label in (1, 2):
            p, r = a[case] == label, b[case] == label
            if p.sum() + r.sum():
                assert dice[case, label - 1] == pytest.approx(2 * (p & r).sum() / (p.sum() + r.sum()))
            else:
                expected = {"skip": np.nan, "one": 1.0, "zero": 0.0}[empty]
                np.testing.assert_equal(dice[case, label - 1], expected)


@pytest.mark.parametrize(
    ("empty", "expected"), [("skip", [1, 0, 0, np.nan]), ("one", [1, 0, 0, 1]), ("zero", [1, 0, 0, 0])]
)
def test_the_four_empty_combinations(empty, expected):
    full, none = np.ones((1, 2, 2), int), np.zeros((1, 2, 2), int)
    pairs = [(full, full), (full, none), (none, full), (none, none)]
    got = [dice_per_case(p, r, n_classes=2, empty=empty)[0] for p, r in pairs]
    np.testing.assert_equal(got, [float(e) for e in expected])


def test_torch_and_numpy_agree_and_perfect_is_one():
    labels = phantom.cohort(6, size=32).labels
    assert (dice_per_case(torch.from_numpy(labels), labels, n_classes=4, empty="skip") == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"empty": "ignore"}, r"empty must be one of \['skip', 'one', 'zero'\]"),
        ({"n_classes": 1}, r"labels must lie in 0\.\.0"),
        ({"prediction": np.zeros((2, 4, 4), int)}, "must share one shape"),
        ({"prediction": np.zeros((1, 3, 4, 4))}, r"\.argmax\(1\)"),
        ({"prediction": np.full((1, 4, 4), 9)}, r"got 9\.\.9"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    good = {
        "prediction": np.zeros((1, 4, 4), int),
        "reference": np.zeros((1, 4, 4), int),
        "n_classes": 3,
        "empty": "skip",
    }
    with pytest.raises(ValueError, match=message):
        dice_per_case(**{**good, **arguments})


def test_interval_of_a_constant_is_a_point_and_one_subject_has_none():
    assert mean_interval([0.5] * 6, list("aabbcc")) == (0.5, 0.5, 0.5)
    one = mean_interval([0.2, 0.4], ["a", "a"])
    assert one.estimate == pytest.approx(0.3)
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_interval_counts_subjects_not_slices():
    """Copying every slice ten times is no new information."""
    rng = np.random.default_rng(0)
    values, subjects = rng.normal(size=20), np.arange(20)
    once, often = mean_interval(values, subjects), mean_interval(values.repeat(10), subjects.repeat(10))
    assert often == pytest.approx(once)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        subject_means = rng.normal(size=25)
        values = subject_means.repeat(4) + 0.1 * rng.normal(size=100)
        interval = mean_interval(values, np.arange(25).repeat(4), n_resamples=400, seed=trial)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_leaves_undefined_cases_out_and_refuses_nonsense():
    assert mean_interval([1.0, np.nan, 3.0], ["a", "b", "c"]).estimate == 2.0
    for values, subjects, options, message in (
        ([1.0], ["a", "b"], {}, "share one shape"),
        ([np.nan], ["a"], {}, "no finite value among 1 cases"),
        ([1.0], ["a"], {"level": 1.0}, "level must lie between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_interval(values, subjects, **options)


def test_case_table_of_a_perfect_and_of_a_silent_network():
    cohort = phantom.cohort(6, size=32)
    sure = np.eye(4, dtype=np.float32)[cohort.labels].transpose(0, 3, 1, 2)
    table = case_table(sure, cohort, empty="skip")
    assert (table["quality"] == 1).all()
    assert (table["confidence"] == 1).all()
    nothing = np.zeros_like(sure)
    nothing[:, 0] = 1
    table = case_table(torch.from_numpy(nothing), cohort, empty="skip")
    assert (table["quality"] == 0).all()
    assert table["confidence"].isna().all()
    with pytest.raises(ValueError, match=r"probabilities must be \(N, C, H, W\)"):
        case_table(sure[:, :3], cohort, empty="skip")
