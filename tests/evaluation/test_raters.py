import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segconf_lite.evaluation.raters import (
    boundary_band,
    boundary_distance_px,
    errors_found,
    generalized_energy_distance,
    geometric_maps,
    map_agreement,
    rater_dice,
    rater_disagreement,
)


def raters(seed, n_raters=3, n_classes=3, n_cases=4):
    return np.random.default_rng(seed).integers(0, n_classes, (n_cases, n_raters, 6, 6))


def test_rater_dice_by_hand():
    drawn = np.zeros((1, 3, 4, 4), int)
    drawn[0, 0, 0], drawn[0, 1, 0], drawn[0, 2, :2] = 1, 1, 1
    assert rater_dice(drawn, n_classes=2, empty="skip") == pytest.approx([(1 + 2 / 3 + 2 / 3) / 3])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_rater_laws(seed):
    drawn = raters(seed)
    order = np.random.default_rng(seed).permutation(3)
    value = rater_dice(drawn, n_classes=3, empty="one")
    assert ((value >= 0) & (value <= 1)).all()
    assert rater_dice(drawn[:, order], n_classes=3, empty="one") == pytest.approx(value)
    for kind in ("entropy", "minority"):
        where = rater_disagreement(drawn, n_classes=3, kind=kind)
        assert ((where >= 0) & (where <= 1 + 1e-12)).all()
        assert (rater_disagreement(drawn[:, [0, 0]], n_classes=3, kind=kind) == 0).all()
    samples = raters(seed + 1, n_raters=5)
    distance = generalized_energy_distance(samples, drawn, n_classes=3, empty="one")
    assert (distance >= -1e-12).all()
    assert generalized_energy_distance(drawn, samples, n_classes=3, empty="one") == pytest.approx(distance)
    same = generalized_energy_distance(drawn, drawn[:, order], n_classes=3, empty="one")
    assert same == pytest.approx(np.zeros(4), abs=1e-12)


def test_energy_distance_by_hand():
    truth = np.zeros((1, 2, 2, 2), int)
    truth[0, 0, 0, 0], truth[0, 1, 0] = 1, 1  # IoU between the raters: 1/2
    said = truth[:, :1]
    # between: (0 + 1/2) / 2; within raters: (0 + 1/2 + 1/2 + 0) / 4; within one sample: 0
    found = generalized_energy_distance(said, truth, n_classes=2, empty="one")
    assert found == pytest.approx([2 * 0.25 - 0.25])


def test_nothing_drawn_by_anyone():
    nothing = np.zeros((1, 2, 4, 4), int)
    assert generalized_energy_distance(nothing, nothing, n_classes=2, empty="one") == [0]
    assert np.isnan(rater_dice(nothing, n_classes=2, empty="skip")).all()
    with pytest.raises(ValueError, match=r"empty must be one of \('one', 'zero'\), got 'skip'"):
        generalized_energy_distance(nothing, nothing, n_classes=2, empty="skip")


def test_disagreement_of_known_votes():
    votes = np.array([0, 0, 1, 2]).reshape(1, 4, 1, 1)
    entropy = (0.5 * np.log(2) + 0.5 * np.log(4)) / np.log(3)
    assert rater_disagreement(votes, n_classes=3)[0, 0, 0] == pytest.approx(entropy)
    assert rater_disagreement(votes, n_classes=3, kind="minority")[0, 0, 0] == pytest.approx(0.5)
    two = np.array([0, 1]).reshape(1, 2, 1, 1)
    assert rater_disagreement(two, n_classes=4)[0, 0, 0] == pytest.approx(1)  # two raters cannot differ more


# -- maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["pearson", "soft_dice"])
def test_equal_maps_score_exactly_one(measure):
    values = np.random.default_rng(0).random((3, 5, 5))
    assert map_agreement(values, values, measure=measure) == pytest.approx(np.ones(3), abs=1e-12)


def test_opposite_and_disjoint_maps():
    values = np.random.default_rng(0).random((1, 5, 5))
    assert map_agreement(values, 1 - values, measure="pearson") == pytest.approx([-1])
    left = np.zeros((1, 4, 4))
    left[..., :2] = 0.7
    assert map_agreement(left, left[..., ::-1], measure="soft_dice") == pytest.approx([0])
    half = np.where(left > 0, 0.35, 0)
    assert map_agreement(left, half, measure="soft_dice") == pytest.approx([2 * 0.5 / (1 + 0.25)])


def test_undefined_agreement_is_nan():
    flat, varied = np.zeros((1, 3, 3)), np.random.default_rng(0).random((1, 3, 3))
    assert np.isnan(map_agreement(flat, varied, measure="pearson")).all()
    assert np.isnan(map_agreement(flat, flat, measure="soft_dice")).all()
    assert map_agreement(flat, varied, measure="soft_dice") == [0]


def edge(axis):
    labels = np.zeros((1, 12, 12), int)
    labels[(slice(None), slice(6, None)) if axis == 0 else (slice(None), slice(None), slice(6, None))] = 1
    return labels


@pytest.mark.parametrize(("axis", "per_pixel"), [(0, 2.0), (1, 0.5)])
@pytest.mark.parametrize("n_pixels", [1, 2, 3])
def test_band_along_a_straight_edge(axis, per_pixel, n_pixels):
    spacing = (2.0, 0.5)
    band = boundary_band(edge(axis), band_mm=n_pixels * per_pixel, spacing_mm=spacing)
    expected = np.zeros(12, bool)
    expected[6 - n_pixels : 6 + n_pixels] = True
    assert (band[0].any(axis=1 - axis) == expected).all()
    narrower = boundary_band(edge(axis), band_mm=0.99 * per_pixel, spacing_mm=spacing)
    assert not narrower.any()


def test_band_of_one_class_is_empty_and_only_the_band_counts():
    assert not boundary_band(np.ones((1, 4, 4), int), band_mm=5, spacing_mm=(1, 1)).any()
    where = boundary_band(edge(0), band_mm=1, spacing_mm=(1, 1))
    rng = np.random.default_rng(0)
    inside = rng.random((1, 12, 12))
    outside = np.where(where, inside, rng.random((1, 12, 12)))
    options = {"band_mm": 1, "reference": edge(0), "spacing_mm": (1, 1)}
    assert map_agreement(inside, outside, measure="pearson", **options) == pytest.approx([1])
    assert map_agreement(inside, outside, measure="pearson")[0] < 0.6


# -- what is refused ----------------------------------------------------------------------------------------


def test_a_missing_rater():
    drawn = raters(0)
    drawn[2, 1] = -1
    message = (
        r"raters must be labels >= 0 from every rater, got label -1 .* in cases \[2\]; leave these cases"
    )
    for call in (
        lambda: rater_dice(drawn, n_classes=3, empty="one"),
        lambda: rater_disagreement(drawn, n_classes=3),
        lambda: generalized_energy_distance(raters(1), drawn, n_classes=3, empty="one"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    lacking = np.where(drawn < 0, np.nan, drawn)
    with pytest.raises(ValueError, match="raters must be integers, got fractions, NaN or infinity"):
        rater_dice(lacking, n_classes=3, empty="one")
    with pytest.raises(ValueError, match=r"raters must be \(N, R, H, W\) with R >= 2, got \(4, 1, 6, 6\)"):
        rater_dice(drawn[:, :1], n_classes=3, empty="one")


def test_bad_maps():
    good = np.full((1, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"measure must be one of .*got 'ncc'"):
        map_agreement(good, good, measure="ncc")
    with pytest.raises(ValueError, match=r"disagreement must be non-empty \(1, 4, 4\), got \(4, 4\)"):
        map_agreement(good, good[0], measure="pearson")
    with pytest.raises(ValueError, match=r"uncertainty_map must be in \[0, 1\], got 1\.5 to 1\.5; divide"):
        map_agreement(3 * good, good, measure="pearson")
    with pytest.raises(
        ValueError, match="reference and spacing_mm must be given with band_mm, got at least one None"
    ):
        map_agreement(good, good, measure="pearson", band_mm=1)
    with pytest.raises(ValueError, match=r"kind must be one of .*got 'variance'"):
        rater_disagreement(raters(0), n_classes=3, kind="variance")
    with pytest.raises(ValueError, match="band_mm must be a number > 0, got 0"):
        boundary_band(edge(0), band_mm=0, spacing_mm=(1, 1))
    with pytest.raises(ValueError, match=r"spacing_mm must be \(2,\) or \(1, 2\), finite and > 0 mm"):
        boundary_band(edge(0), band_mm=1, spacing_mm=(0, 1))


def test_raters_with_more_classes_than_the_network_are_refused():
    with pytest.raises(
        ValueError, match=r"raters must be in 0\.\.1 \(2 classes\), got 0\.\.2; .* remap them"
    ):
        rater_disagreement(raters(0), n_classes=2)


# -- errors and boundaries ---------------------------------------------------------------------


def test_a_perfect_map_finds_all_and_a_reversed_one_none():
    rng = np.random.default_rng(0)
    wrong = rng.random((3, 10, 10)) < 0.05
    found = errors_found(wrong + 0.01 * rng.random(wrong.shape), wrong, fraction=wrong.mean() + 1e-9)
    np.testing.assert_array_equal(found, wrong.sum(axis=(1, 2)))
    assert errors_found(~wrong + 0.01 * rng.random(wrong.shape), wrong, fraction=0.5).sum() == 0


def test_ties_count_in_proportion():
    wrong = np.zeros((1, 10, 10), bool)
    wrong[0, :2] = True
    np.testing.assert_allclose(errors_found(np.zeros((1, 10, 10)), wrong, fraction=0.25), 5.0)


def test_any_increasing_transform_gives_the_same():
    rng = np.random.default_rng(1)
    values, wrong = rng.random((2, 8, 8)), rng.random((2, 8, 8)) < 0.2
    plain, bent = (errors_found(v, wrong, fraction=0.1) for v in (values, np.exp(3 * values)))
    np.testing.assert_array_equal(plain, bent)


def test_only_the_pixels_asked_for_count():
    wrong, where = np.ones((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    where[0, 0] = True
    values = np.arange(16.0).reshape(1, 4, 4)  # the highest lie elsewhere
    np.testing.assert_array_equal(errors_found(values, wrong, fraction=0.5, where=where), [2])
    assert errors_found(values, wrong, fraction=0.5, where=~where & where).tolist() == [0]


def test_distance_is_counted_in_pixels_from_either_side():
    labels = np.zeros((2, 5, 6), int)
    labels[0, :, 3:] = 2
    distance = boundary_distance_px(labels)
    np.testing.assert_array_equal(distance[0, 0], [3, 2, 1, 1, 2, 3])
    assert np.isinf(distance[1]).all()


def test_bad_use_of_errors_found():
    values, wrong = np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool)
    with pytest.raises(ValueError, match=r"wrong must be of shape \(1, 2, 2\), got \(2, 2\)"):
        errors_found(values, wrong[0], fraction=0.1)
    with pytest.raises(ValueError, match=r"fraction must be a number in \(0, 1\), got 5"):
        errors_found(values, wrong, fraction=5)
    with pytest.raises(
        ValueError, match="uncertainty_map must be finite, got NaN or infinity; for infinite flip costs"
    ):
        errors_found(values + np.inf, wrong, fraction=0.5)
    with pytest.raises(ValueError, match=r"labels must be non-empty \(N, H, W\), got \(2, 2\)"):
        boundary_distance_px(wrong[0])


def test_labels_of_raters_and_masks_are_checked():
    good = raters(0)
    with pytest.raises(ValueError, match=r"samples must be in 0\.\.2 \(3 classes\), got 0\.\.9"):
        generalized_energy_distance(np.where(good == 1, 9, good), good, n_classes=3, empty="one")
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 0] = 255  # a file's "true"
    with pytest.raises(ValueError, match=r"wrong must be in 0\.\.1 \(2 classes\), got 0\.\.255"):
        errors_found(np.random.default_rng(0).random((1, 4, 4)), mask, fraction=0.5)
    with pytest.raises(ValueError, match=r"reference must be of shape \(1, 4, 4\), got \(2, 4, 4\)"):
        map_agreement(
            np.full((1, 4, 4), 0.5),
            np.full((1, 4, 4), 0.5),
            measure="pearson",
            band_mm=1,
            reference=np.zeros((2, 4, 4), int),
            spacing_mm=(1, 1),
        )


def test_agreement_of_tiny_maps_is_that_of_their_unit():
    one, other = np.random.default_rng(0).random((2, 1, 6, 6))
    expected = map_agreement(one, other, measure="pearson")
    np.testing.assert_allclose(map_agreement(one * 1e-200, other, measure="pearson"), expected)


def test_geometric_maps_know_the_shape_and_nothing_else():
    labels = np.zeros((2, 24, 24), int)
    labels[0, 8:16, 8:16] = 2
    labels[0, 8:12, 8:16] = 1
    maps = geometric_maps(labels, n_classes=3)
    assert list(maps) == ["1 / distance", "blurred mask, 1 px", "blurred mask, 1.5 px", "blurred mask, 2 px"]
    names = np.array([0, 2, 1])
    for name, values in maps.items():
        assert values.shape == labels.shape
        assert ((values >= 0) & (values <= 1)).all()
        assert (values[1] == 0).all()  # one label, no border
        assert values[0, 8, 10] > values[0, 6, 10] > values[0, 3, 10]
        np.testing.assert_allclose(geometric_maps(names[labels], n_classes=3)[name], values, atol=1e-12)
        np.testing.assert_allclose(
            geometric_maps(labels[:, ::-1], n_classes=3)[name], values[:, ::-1], atol=1e-12
        )
    np.testing.assert_array_equal(maps["1 / distance"][0], 1 / boundary_distance_px(labels)[0])
    wide, narrow = maps["blurred mask, 2 px"][0], maps["blurred mask, 1 px"][0]
    assert (wide > 0.01).sum() > (narrow > 0.01).sum()


def test_a_straight_border_blurs_as_the_normal_distribution():
    labels = np.repeat((np.arange(40) >= 20)[None, None], 5, axis=1).astype(int)
    inside = stats.norm.cdf((np.arange(40) - 19.5) / 2)
    expected = stats.entropy([inside, 1 - inside], base=2)
    found = geometric_maps(labels, n_classes=2, blurs_px=(2.0,))["blurred mask, 2 px"][0, 2]
    np.testing.assert_allclose(found, expected, atol=0.03)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((1, 4, 4), int), {"n_classes": 1}, r"n_classes must be an integer in \[2, 10000\], got 1"),
        (np.full((1, 4, 4), 3), {"n_classes": 3}, "labels must be"),
        (np.zeros((4, 4), int), {"n_classes": 2}, "labels must be"),
        (
            np.zeros((1, 4, 4), int),
            {"n_classes": 2, "blurs_px": (1, 0)},
            r"blurs_px\[1\] must be a number > 0",
        ),
    ],
)
def test_geometric_maps_of_bad_input(labels, options, message):
    with pytest.raises(ValueError, match=message):
        geometric_maps(labels, **options)


@pytest.mark.parametrize("blurs", [None, 1.0, "text", {1, 2}, [1.0, None]])
def test_blurs_that_are_no_list_of_numbers_are_refused(blurs):
    with pytest.raises(ValueError, match="blurs_px"):
        geometric_maps(np.zeros((1, 4, 4), int), n_classes=2, blurs_px=blurs)
