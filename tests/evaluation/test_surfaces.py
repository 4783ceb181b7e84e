import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.evaluation import surfaces
from segconf_lite.evaluation.quality import dice_per_case, iou_per_case, pairwise_dice

BOTH = {"n_classes": 2, "empty": "skip", "spacing_mm": (1.0, 1.0)}


def square(row=4, column=4, side=6, size=20):
    labels = np.zeros((1, size, size), dtype=np.int64)
    labels[0, row : row + side, column : column + side] = 1
    return labels


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_distances_of_a_shifted_square(shift):
    hausdorff = surfaces.hausdorff95_per_case(square(), square(row=4 + shift), **BOTH)
    assert hausdorff == pytest.approx([shift])
    mean = surfaces.mean_surface_distance_per_case(square(), square(row=4 + shift), **BOTH)
    assert 0 < mean[0] < shift


def test_tolerance_is_in_millimetres_and_spacing_has_a_direction():
    spacing = (2.0, 0.5)
    for axis, distance_mm in ((0, 2.0), (1, 0.5)):
        moved = np.roll(square(), 1, axis=1 + axis)
        options = {"n_classes": 2, "empty": "skip", "spacing_mm": spacing}
        for tolerance, all_right in ((distance_mm, True), (0.99 * distance_mm, False)):
            found = surfaces.surface_dice_per_case(square(), moved, tolerance_mm=tolerance, **options)
            assert bool(found[0] == 1) is all_right
        assert surfaces.hausdorff95_per_case(square(), moved, **options)[0] == pytest.approx(distance_mm)


def test_spacing_per_case_equals_case_by_case():
    prediction = np.concatenate([square(), square()])
    reference = np.concatenate([square(row=6), square(row=6)])
    both = surfaces.hausdorff95_per_case(
        prediction, reference, n_classes=2, empty="skip", spacing_mm=[(1.0, 1.0), (3.0, 1.0)]
    )
    assert both == pytest.approx([2, 6])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.floats(0, 4))
def test_bounds_symmetry_and_identity(seed, tolerance):
    rng = np.random.default_rng(seed)
    one, other = (rng.random((2, 12, 12)).round().astype(np.int64) for _ in range(2))
    options = {**BOTH, "tolerance_mm": tolerance}
    value = surfaces.surface_dice_per_case(one, other, **options)
    assert ((value >= 0) & (value <= 1)).all()
    assert value == pytest.approx(surfaces.surface_dice_per_case(other, one, **options))
    assert (surfaces.surface_dice_per_case(one, one, **options) == 1).all()
    assert (surfaces.hausdorff95_per_case(one, one, **BOTH) == 0).all()
    assert surfaces.hausdorff95_per_case(one, other, **BOTH) == pytest.approx(
        surfaces.hausdorff95_per_case(other, one, **BOTH)
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
        found = surfaces.surface_dice_per_case(prediction, reference, tolerance_mm=1, **options)
        np.testing.assert_equal(found, [float(dice[column])])
        for measure in (surfaces.hausdorff95_per_case, surfaces.mean_surface_distance_per_case):
            np.testing.assert_equal(measure(prediction, reference, **options), [float(distance[column])])


def test_one_missing_class_makes_the_mean_distance_infinite():
    reference = square()
    reference[0, 15:18, 15:18] = 2
    found = surfaces.hausdorff95_per_case(square(), reference, n_classes=3, empty="skip", spacing_mm=(1, 1))
    assert found[0] == np.inf


@pytest.mark.parametrize("spacing", [(1.0,), (0.0, 1.0), (np.nan, 1.0), np.ones((3, 2))])
def test_bad_spacing(spacing):
    with pytest.raises(ValueError, match=r"spacing_mm must be \(row, column\) in mm, > 0, of shape \(2,\)"):
        surfaces.hausdorff95_per_case(square(), square(), n_classes=2, empty="skip", spacing_mm=spacing)


def test_bad_tolerance():
    with pytest.raises(ValueError, match="tolerance_mm must be finite and >= 0 mm, got -1"):
        surfaces.surface_dice_per_case(square(), square(), tolerance_mm=-1, **BOTH)


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
    with pytest.raises(ValueError, match=r"\(N, S, H, W\) and \(N, T, H, W\), equal in N, H, W, got \(2, 1"):
        pairwise_dice(np.zeros((2, 1, 4, 4), int), np.zeros((3, 1, 4, 4), int), n_classes=2, empty="one")
