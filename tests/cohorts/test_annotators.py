"""Laws of the panel: what it draws, and the probabilities that it is drawn from."""

import numpy as np
import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.cohorts.phantom import annotators as module

ALIKE = {"habit_mm": 0, "ambiguity": 0, "omission": 0}  # one person with one hand


def annotated(n_cases=6, *, size=32, scanner="A", seed=0, panel_seed=0, **panel):
    annotators = phantom.Annotators(seed=panel_seed, **panel)
    return phantom.annotated_cohort(n_cases, annotators=annotators, size=size, scanner=scanner, seed=seed)


def distances(n_cases=6, size=32):
    block = next(phantom.phantom.blocks(n_cases, size=size, seed=0))
    return block.anatomy.inside_mm[:n_cases], block.shapes.level[:n_cases]


def assert_shares_fit(share, probability, n):
    """Deviations in binomial standard errors; panels of unlike raters spread no wider than that.

    The pixels of a slice go together (omission takes them all at once), so the mean square, 1 on average
    over panels, is up to 2 for one panel. Probabilities wrong by .05 make it 6.
    """
    deviation = (share - probability) / np.sqrt(np.maximum(probability * (1 - probability), 1 / n) / n)
    assert np.abs(deviation).max() < 6
    unsure = (probability > 0.1) & (probability < 0.9)
    assert unsure.sum() > 100
    assert (deviation[unsure] ** 2).mean() < 2.5


@pytest.mark.parametrize(
    "panel", [ALIKE, {"habit_mm": 2.0, "hand_mm": 1.5, "ambiguity": 2.0, "omission": 0.8}]
)
def test_probability_is_the_share_of_very_many_raters(panel):
    cohort, probability = annotated(6, scanner="D", n_raters=600, **panel)
    share = (cohort.raters[:, :, None] == np.arange(4)[:, None, None]).mean(axis=1)  # (N, C, H, W)
    assert_shares_fit(share, probability, 600)


def test_habit_of_one_rater_moves_drawing_and_probability_alike():
    """Over a large panel a wrong sign would average out; here are many hands of one rater."""
    inside_mm, level = distances()
    habit, sigma_mm = np.tile([[3.0, 1.0, -2.0]], (400, 1)), np.full_like(inside_mm, 1.5)
    rngs = [np.random.default_rng(k) for k in range(len(level))]
    drawn = module._segment(inside_mm, sigma_mm, 0.3 + 0 * level, habit, rngs)
    probability = module._class_probability(inside_mm, sigma_mm, 0.3 + 0 * level, habit)
    assert_shares_fit((drawn[:, :, None] == np.arange(4)[:, None, None]).mean(axis=1), probability, 400)


@pytest.mark.parametrize("size", [16, 32, 97])
def test_field_is_standard_normal_at_every_pixel(size):
    weights = module._unit_weights(size).astype(float)
    np.testing.assert_allclose((weights**2).sum(axis=1), 1, atol=1e-6)
    assert (weights[:-1] * weights[1:]).sum(axis=1).min() > 0.8  # and smooth


def test_probabilities_are_probabilities():
    _, probability = annotated(12, n_raters=3, habit_mm=3, hand_mm=2, omission=0.9)
    assert probability.dtype == np.float32
    assert probability.min() >= 0
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)


def test_steady_hands_without_habits_draw_the_reference():
    cohort, probability = annotated(12, n_raters=2, hand_mm=0.001, **ALIKE)
    inside_mm, _ = distances(12)
    off_border = (np.abs(inside_mm) > 0.02).all(axis=1)
    assert off_border.mean() > 0.95
    one_hot = np.moveaxis(np.eye(4)[cohort.labels], -1, 1)
    np.testing.assert_array_equal((probability == one_hot).all(axis=1) | ~off_border, True)
    np.testing.assert_array_equal((cohort.raters == cohort.labels[:, None]).all(axis=1) | ~off_border, True)


def test_generous_raters_draw_larger():
    generous = next(s for s in range(99) if (phantom.Annotators(1, 1.0, seed=s).habits_mm > 0.5).all())
    panel = {"n_raters": 1, "habit_mm": 4, "hand_mm": 0.01, "omission": 0}
    cohort, probability = annotated(12, panel_seed=generous, **panel)
    assert (cohort.raters[:, 0] > 0).sum() > 1.1 * (cohort.labels > 0).sum()
    assert (probability.argmax(axis=1) == cohort.raters[:, 0]).mean() > 0.99


def test_larger_hands_have_broader_bands_of_disagreement():
    width = []
    for hand_mm in (0.3, 1.0, 3.0):
        _, probability = annotated(hand_mm=hand_mm, size=48, **ALIKE)
        width.append((phantom.annotation_entropy(probability) > 0.1).sum())
    assert width[2] > 1.5 * width[1] > 2 * width[0]


def test_habits_have_the_stated_deviation_and_belong_to_the_number():
    many = phantom.Annotators(n_raters=2000, habit_mm=2.0).habits_mm
    np.testing.assert_allclose(many.std(axis=0), 2.0, rtol=0.05)
    np.testing.assert_array_equal(many[:3], phantom.Annotators(n_raters=3, habit_mm=2.0).habits_mm)
    np.testing.assert_allclose(many, 2 * phantom.Annotators(n_raters=2000, habit_mm=1.0).habits_mm)


def test_rater_is_the_same_in_panels_of_any_number():
    few, _ = annotated(n_raters=2, omission=0.9, scanner="D")
    many, _ = annotated(n_raters=4, omission=0.9, scanner="D")
    np.testing.assert_array_equal(few.raters, many.raters[:, :2])


def test_raters_see_an_edge_where_there_is_one():
    """A disc whose left half is bright; the right half is as dark as what surrounds it."""
    size, radius_mm = 96, 40.0
    axis = (np.arange(size) + 0.5) * 192 / size - 96
    inside = radius_mm - np.hypot(axis[None, :], axis[:, None])
    image = np.where((inside > 0) & (axis[None, :] < 0), 3.0, 0.0).astype(np.float32)[None]
    inside_mm = np.tile(inside.astype(np.float32), (1, 3, 1, 1))
    base, middle, apex = (module._border_visibility(image, inside_mm, np.array([k])) for k in (0, 0.5, 1))
    border = np.abs(inside) < 3
    clear, faint = border & (axis[None, :] < -25), border & (axis[None, :] > 25)
    assert (base[:, :, clear] == 1).all()
    assert (base[:, :, faint] < 0.01).all()
    np.testing.assert_allclose(middle, base * 7 / 8, rtol=1e-6)
    np.testing.assert_allclose(apex, base / 2)
    _assert_ambiguity_acts_on(faint, clear, inside_mm, base)


def _assert_ambiguity_acts_on(faint, clear, inside_mm, visibility):
    entropy = {}
    for ambiguity in (0.0, 2.0):
        panel = phantom.Annotators(ambiguity=ambiguity, omission=0)
        sigma_mm, omitted = module._difficulty(panel, inside_mm, np.zeros(1), visibility)
        probability = module._class_probability(inside_mm, sigma_mm, omitted, np.zeros((1, 3)))
        entropy[ambiguity] = phantom.annotation_entropy(probability)[0]
    assert entropy[2.0][faint].mean() > 1.3 * entropy[0.0][faint].mean()
    np.testing.assert_array_equal(entropy[2.0][clear], entropy[0.0][clear])


def test_ambiguity_costs_more_agreement_on_a_scanner_that_shows_less():
    blind = phantom.Scanner("blind", noise=5)
    growth = {}
    for name, scanner in {"good": "A", "blind": blind}.items():
        none, some = (
            phantom.annotation_entropy(annotated(12, scanner=scanner, **{**ALIKE, "ambiguity": a})[1]).mean()
            for a in (0.0, 1.0)
        )
        growth[name] = some / none
    assert 1 <= growth["good"] < growth["blind"]


def test_omission_turns_right_ventricle_into_background_and_nothing_else():
    (_, kept), (cohort, left_out) = (annotated(scanner="D", omission=o, n_raters=9) for o in (0, 0.99))
    np.testing.assert_array_equal(kept[:, 2:], left_out[:, 2:])
    np.testing.assert_allclose(kept[:, :2].sum(axis=1), left_out[:, :2].sum(axis=1), atol=1e-6)
    assert (left_out[:, 1] <= kept[:, 1]).all()
    in_rv = cohort.labels == 1
    change = left_out[:, 0] - kept[:, 0]
    assert change[in_rv].mean() > 0.2
    inside_mm, _ = distances()
    assert np.abs(change[inside_mm.max(axis=1) < -30]).max() < 1e-6  # far from the heart
    without = ~(cohort.raters == 1).any(axis=(2, 3))
    assert 0 < without.sum() < without.size


@pytest.mark.parametrize("scanner", ["B", "F"])
def test_everything_but_the_raters_is_the_plain_cohort(scanner):
    cohort, _ = annotated(7, scanner=scanner, seed=3)
    plain = phantom.cohort(7, scanner=scanner, size=32, seed=3)
    for field in ("images", "labels", "subjects", "domains", "spacing_mm"):
        np.testing.assert_array_equal(getattr(cohort, field), getattr(plain, field))
    assert cohort.raters.shape == (7, 7, 32, 32)


def test_smaller_cohort_is_the_start_of_a_larger_one_and_all_is_reproducible():
    (small, p_small), (large, p_large) = annotated(5, n_raters=2), annotated(50, n_raters=2)
    np.testing.assert_array_equal(small.raters, large.raters[:5])
    np.testing.assert_array_equal(p_small, p_large[:5])
    again, p_again = annotated(5, n_raters=2)
    assert small.fingerprint() == again.fingerprint()
    np.testing.assert_array_equal(p_small, p_again)
    chosen = [phantom.one_rater_each(c, seed=4).labels[:5] for c in (small, large)]
    np.testing.assert_array_equal(*chosen)


def test_numpy_and_torch_integers_are_seeds():
    panel = phantom.Annotators(n_raters=np.int8(2), seed=torch.tensor(1))
    cohort, _ = phantom.annotated_cohort(2, annotators=panel, size=np.int64(16), seed=torch.tensor(3))
    assert cohort.fingerprint() == annotated(2, n_raters=2, panel_seed=1, size=16, seed=3)[0].fingerprint()


def test_hands_differ_between_slices_panels_and_cohorts():
    cohort, _ = annotated(12, n_raters=1)
    drawn = (cohort.raters[:, 0] != cohort.labels).reshape(12, -1)
    assert len(np.unique(drawn, axis=0)) == 12
    one, other = (annotated(2, seed=0, panel_seed=s, habit_mm=0)[0].raters for s in (0, 1))
    assert not np.array_equal(one, other)
    # hearts of two seeds differ anyway; who leaves the ventricle out is told by the stream alone
    blind = {"scanner": phantom.Scanner("blind", noise=5), "omission": 0.6, "n_raters": 20}
    leaves_out = [~(annotated(seed=s, **blind)[0].raters == 1).any(axis=(2, 3)) for s in (0, 1)]
    assert (leaves_out[0] == leaves_out[1]).mean() < 0.7


def test_entropy_is_that_of_known_answers():
    even, sure = np.full((1, 4, 2, 2), 0.25, np.float32), np.zeros((1, 4, 2, 2), np.float32)
    sure[:, 2] = 1
    np.testing.assert_allclose(phantom.annotation_entropy(even), 1, rtol=1e-6)
    np.testing.assert_array_equal(phantom.annotation_entropy(sure), 0)


def test_one_rater_each_takes_every_rater_for_some_slices():
    cohort, _ = annotated(48, n_raters=3, habit_mm=3)
    single = phantom.one_rater_each(cohort, seed=0)
    agrees = (single.labels[:, None] == cohort.raters).all(axis=(2, 3))  # (N, R)
    assert agrees.any(axis=1).all()
    assert (agrees.sum(axis=0) >= 5).all()
    np.testing.assert_array_equal(single.images, cohort.images)
    assert not np.array_equal(single.labels, phantom.one_rater_each(cohort, seed=1).labels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_raters": 0}, r"n_raters must be an integer in \[1, 1e\+06\], got 0"),
        ({"n_raters": 2.5}, r"n_raters must be an integer in \[1, 1e\+06\], got 2.5"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"habit_mm": -1}, r"habit_mm must be a number in \[0, 100\], got -1; it is in millimetres"),
        ({"hand_mm": 0}, r"hand_mm must be a number in \[0\.001, 100\], got 0; .* never trembles"),
        ({"hand_mm": float("nan")}, "hand_mm must be a finite number in .*, got nan"),
        ({"ambiguity": -0.1}, r"ambiguity must be a number in \[0, 100\], got -0.1; 0 is no effect"),
        ({"omission": 20}, r"omission must be a number in \[0, 0\.999\], got 20; it is a probability"),
    ],
)
def test_impossible_panels_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        phantom.Annotators(**values)


def test_bad_arguments_say_what_was_expected():
    with pytest.raises(ValueError, match="annotators must be a panel, got int; pass phantom"):
        phantom.annotated_cohort(2, annotators=7, size=32)
    with pytest.raises(ValueError, match=r"n_cases must be an integer in \[1, 1e\+06\]"):
        annotated(0)
    with pytest.raises(ValueError, match="cohort must be a Cohort with raters, got none; make it with"):
        phantom.one_rater_each(phantom.cohort(1, size=32), seed=0)
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got None"):
        phantom.one_rater_each(annotated(1)[0], seed=None)
    with pytest.raises(ValueError, match="cohort must be a Cohort with raters, got NoneType"):
        phantom.one_rater_each(None, seed=0)


@pytest.mark.parametrize("bad", [np.full((1, 4, 2, 2), np.nan), np.ones((1, 4, 2, 2)), np.ones((1, 1, 2, 2))])
def test_entropy_is_that_of_probabilities_only(bad):
    with pytest.raises(ValueError, match="true_probability must be "):
        phantom.annotation_entropy(bad)
