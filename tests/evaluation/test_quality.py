"""Laws of Dice with an explicit empty policy, of the interval, and of the case table."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from segconf_lite.cohorts import phantom
from segconf_lite.evaluation import (
    case_table,
    dice_per_case,
    dice_per_class,
    iou_per_case,
    pairwise_dice,
    quality,
)

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
        ({"empty": "ignore"}, r"empty must be one of \('skip', 'one', 'zero'\), got 'ignore'"),
        ({"n_classes": 1}, r"n_classes must be an integer in \[2, 65536\], got 1"),
        (
            {"prediction": np.zeros((2, 4, 4), int)},
            r"reference must be of shape \(2, 4, 4\), got \(1, 4, 4\)",
        ),
        (
            {"prediction": np.zeros((1, 3, 4, 4))},
            r"prediction must be labels \(N, H, W\), got \(1, 3, 4, 4\); .*\.argmax\(1\)",
        ),
        ({"prediction": np.full((1, 4, 4), 9)}, r"prediction must be in 0\.\.2 \(3 classes\), got 9\.\.9"),
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
    with pytest.raises(
        ValueError, match=r"probabilities must be \(N, C, H, W\) = \(6, 4, 32, 32\), got \(6, 3, 32, 32\)"
    ):
        case_table(nothing[:, :3], cohort, empty="skip")


# -- distances between boundaries ---------------------------------------------------------------------

BOTH = {"n_classes": 2, "empty": "skip", "spacing_mm": (1.0, 1.0)}


def square(row=4, column=4, side=6, size=20):
    labels = np.zeros((1, size, size), dtype=np.int64)
    labels[0, row : row + side, column : column + side] = 1
    return labels


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_distances_of_a_shifted_square(shift):
    hausdorff = quality.hausdorff95_per_case(square(), square(row=4 + shift), **BOTH)
    assert hausdorff == pytest.approx([shift])
    mean = quality.mean_surface_distance_per_case(square(), square(row=4 + shift), **BOTH)
    assert 0 < mean[0] < shift


def test_tolerance_is_in_millimetres_and_spacing_has_a_direction():
    spacing = (2.0, 0.5)
    for axis, distance_mm in ((0, 2.0), (1, 0.5)):
        moved = np.roll(square(), 1, axis=1 + axis)
        options = {"n_classes": 2, "empty": "skip", "spacing_mm": spacing}
        for tolerance, all_right in ((distance_mm, True), (0.99 * distance_mm, False)):
            found = quality.surface_dice_per_case(square(), moved, tolerance_mm=tolerance, **options)
            assert bool(found[0] == 1) is all_right
        assert quality.hausdorff95_per_case(square(), moved, **options)[0] == pytest.approx(distance_mm)


def test_spacing_per_case_equals_case_by_case():
    prediction = np.concatenate([square(), square()])
    reference = np.concatenate([square(row=6), square(row=6)])
    both = quality.hausdorff95_per_case(
        prediction, reference, n_classes=2, empty="skip", spacing_mm=[(1.0, 1.0), (3.0, 1.0)]
    )
    assert both == pytest.approx([2, 6])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.floats(0, 4))
def test_bounds_symmetry_and_identity(seed, tolerance):
    rng = np.random.default_rng(seed)
    one, other = (rng.random((2, 12, 12)).round().astype(np.int64) for _ in range(2))
    options = {**BOTH, "tolerance_mm": tolerance}
    value = quality.surface_dice_per_case(one, other, **options)
    assert ((value >= 0) & (value <= 1)).all()
    assert value == pytest.approx(quality.surface_dice_per_case(other, one, **options))
    assert (quality.surface_dice_per_case(one, one, **options) == 1).all()
    assert (quality.hausdorff95_per_case(one, one, **BOTH) == 0).all()
    assert quality.hausdorff95_per_case(one, other, **BOTH) == pytest.approx(
        quality.hausdorff95_per_case(other, one, **BOTH)
    )


NOTHING = np.zeros((1, 20, 20), dtype=np.int64)
TABLE = {  # (prediction, reference): surface Dice, distance in mm; for skip, one, zero
    "missed": (NOTHING, square(), (0, 0, 0), (np.inf, np.inf, np.inf)),
    "invented": (square(), NOTHING, (0, 0, 0), (np.inf, np.inf, np.inf)),
    "rightly absent": (NOTHING, NOTHING, (np.nan, 1, 0), (np.nan, 0, np.inf)),
    "found": (square(), square(), (1, 1, 1), (0, 0, 0)),
}


@pytest.mark.parametrize("kind", TABLE)
def test_the_documented_table_of_absent_classes(kind):
    prediction, reference, dice, distance = TABLE[kind]
    for column, empty in enumerate(("skip", "one", "zero")):
        options = {"n_classes": 2, "empty": empty, "spacing_mm": (1.0, 1.0)}
        found = quality.surface_dice_per_case(prediction, reference, tolerance_mm=1, **options)
        np.testing.assert_equal(found, [float(dice[column])])
        for measure in (quality.hausdorff95_per_case, quality.mean_surface_distance_per_case):
            np.testing.assert_equal(measure(prediction, reference, **options), [float(distance[column])])


def test_one_missing_class_makes_the_mean_distance_infinite():
    reference = square()
    reference[0, 15:18, 15:18] = 2
    found = quality.hausdorff95_per_case(square(), reference, n_classes=3, empty="skip", spacing_mm=(1, 1))
    assert found[0] == np.inf


@pytest.mark.parametrize("spacing", [(1.0,), (0.0, 1.0), (np.nan, 1.0), np.ones((3, 2))])
def test_bad_spacing(spacing):
    with pytest.raises(ValueError, match=r"spacing_mm must be \(2,\) or \(1, 2\), finite and > 0 mm, got"):
        quality.hausdorff95_per_case(square(), square(), n_classes=2, empty="skip", spacing_mm=spacing)


def test_bad_tolerance():
    with pytest.raises(ValueError, match="tolerance_mm must be a number >= 0, got -1"):
        quality.surface_dice_per_case(square(), square(), tolerance_mm=-1, **BOTH)


# -- overlap beside Dice ------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.sampled_from(["skip", "one", "zero"]))
def test_iou_and_pairs_follow_from_dice(seed, empty):
    rng = np.random.default_rng(seed)
    stack = rng.integers(0, 3, (4, 3, 6, 6)) * (rng.random((4, 3, 1, 1)) > 0.3)  # some find nothing
    matrix = pairwise_dice(stack, stack[:, :2], n_classes=3, empty=empty)
    assert matrix.shape == (4, 3, 2)
    for s in range(3):
        for t in range(2):
            dice = dice_per_case(stack[:, s], stack[:, t], n_classes=3, empty=empty)
            np.testing.assert_allclose(matrix[:, s, t], dice)
    one, other = (stack[:, k] > 0 for k in (0, 1))
    iou = iou_per_case(one.astype(int), other.astype(int), n_classes=2, empty="zero")
    union = (one | other).sum(axis=(1, 2))
    np.testing.assert_allclose(iou, (one & other).sum(axis=(1, 2)) / np.maximum(union, 1))


def test_pairs_need_equal_cases():
    with pytest.raises(
        ValueError, match=r"\(N, S, H, W\) and \(N, T, H, W\), equal in N, H and W, got \(2, 1"
    ):
        pairwise_dice(np.zeros((2, 1, 4, 4), int), np.zeros((3, 1, 4, 4), int), n_classes=2, empty="one")


# -- names and types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quality", "confidence", "domain"])
def test_a_class_cannot_take_the_place_of_a_column(name):
    cohort = dataclasses.replace(phantom.cohort(2, size=32), class_names=("background", "a", name, "b"))
    chances = np.full((2, 4, 32, 32), 0.25)
    with pytest.raises(ValueError, match=rf"class names and columns must be different .* got \['{name}'\]"):
        case_table(chances, cohort, empty="skip")


def test_labels_and_probabilities_of_any_type_give_the_same_numbers():
    cohort = phantom.cohort(3, size=32)
    labels, moved = cohort.labels, np.roll(cohort.labels, 1, axis=2)
    expected = dice_per_class(moved, labels, n_classes=4, empty="one")
    for same in (
        moved.astype(np.uint8),
        moved.astype(">i4"),
        moved.astype(np.float64),
        torch.from_numpy(moved).bfloat16().requires_grad_(),
        np.asfortranarray(moved),
        moved.tolist(),
    ):
        np.testing.assert_array_equal(
            dice_per_class(same, labels, n_classes=np.int64(4), empty="one"), expected
        )
    half = torch.from_numpy(np.moveaxis(np.eye(4)[moved], -1, 1)).to(torch.bfloat16)
    channels_last = half.to(memory_format=torch.channels_last).requires_grad_()
    np.testing.assert_allclose(case_table(channels_last, cohort, empty="skip")["confidence"], 1)


@pytest.mark.parametrize("n_classes", [2.0, True, "3", None, 10**7])
def test_a_number_of_classes_is_an_integer(n_classes):
    labels = np.zeros((1, 4, 4), int)
    for measure in (dice_per_case, iou_per_case):
        with pytest.raises(ValueError, match=r"n_classes must be an integer in \[2, 65536\]"):
            measure(labels, labels, n_classes=n_classes, empty="one")


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, -1.0, 3.0])
def test_labels_that_are_no_classes_are_refused(bad):
    labels = np.zeros((1, 4, 4))
    spoiled = labels.copy()
    spoiled[0, 1, 1] = bad
    with pytest.raises(ValueError, match=r"(prediction|reference) must be in(tegers| 0\.\.2)"):
        dice_per_case(spoiled, labels, n_classes=3, empty="one")
    with pytest.raises(ValueError, match=r"second must be in(tegers| 0\.\.2)"):
        pairwise_dice(labels[:, None], spoiled[:, None], n_classes=3, empty="one")
