import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.evaluation.calibration import (
    CalibrationCounter,
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_table,
)


def drawn(seed, *, n_cases=12, n_classes=3, sharpness=2.0, size=16):
    """Probabilities, and labels drawn from them: calibrated by construction."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(n_cases, n_classes, size, size)).astype(np.float32)
    chances = apply_temperature(logits, 1.0)
    labels = (
        (rng.random((n_cases, 1, size, size)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=n_classes - 1)
    )
    return logits, chances, labels


def one_hot(labels, n_classes):
    return np.moveaxis(np.eye(n_classes, dtype=np.float32)[labels], -1, 1)


def test_two_bins_by_hand():
    confidence = np.array([0.6, 0.6, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    right = np.array([1, 0, 0, 1, 1, 1, 1, 1, 1, 0])
    chances, labels = np.stack([confidence, 1 - confidence], axis=1), 1 - right
    expected = 0.3 * (0.6 - 1 / 3) + 0.7 * (0.9 - 6 / 7)
    assert expected_calibration_error(chances, labels, n_bins=5) == pytest.approx(expected)
    bins = reliability_table(chances, labels, n_bins=5)
    assert bins[["bin_low", "bin_high"]].to_numpy() == pytest.approx(
        np.array([[0.4, 0.6], [0.8, 1.0]]), abs=1e-6
    )
    assert bins["accuracy"].to_list() == pytest.approx([1 / 3, 6 / 7])
    assert bins["share"].to_list() == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("class_wise", [False, True])
def test_calibrated_by_construction_is_near_zero_and_oversure_is_not(binning, class_wise):
    logits, chances, labels = drawn(0, n_cases=60)
    options = {"binning": binning, "class_wise": class_wise}
    assert expected_calibration_error(chances, labels, **options) < 0.02
    assert expected_calibration_error(apply_temperature(logits, 0.3), labels, **options) > 0.08


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["width", "mass"]), st.booleans(), st.integers(1, 30))
def test_bounds_and_order_and_batches_do_not_matter(seed, binning, class_wise, n_bins):
    _, chances, _ = drawn(seed, size=6)
    labels = np.random.default_rng(seed).integers(0, 3, (12, 6, 6))
    options = {"binning": binning, "class_wise": class_wise, "n_bins": n_bins}
    whole = expected_calibration_error(chances, labels, **options)
    assert 0 <= whole <= 1
    order = np.random.default_rng(seed).permutation(12)
    assert expected_calibration_error(chances[order], labels[order], **options) == pytest.approx(whole)
    counter = CalibrationCounter(n_bins=n_bins, class_wise=class_wise)
    for part in (slice(0, 1), slice(1, 7), slice(7, 12)):
        counter.update(chances[part], labels[part])
    assert counter.error(binning=binning) == pytest.approx(whole)
    assert counter.table(binning=binning).groupby("class_index")["share"].sum().to_numpy() == pytest.approx(1)


def test_equal_mass_bins_hold_equal_shares_and_ties_stay_together():
    _, chances, labels = drawn(1, n_cases=40)
    shares = reliability_table(chances, labels, n_bins=10, binning="mass")["share"]
    assert shares.to_numpy() == pytest.approx(np.full(10, 0.1), abs=0.01)
    sure = one_hot(labels, 3)
    assert len(reliability_table(sure, labels, n_bins=10, binning="mass")) == 1


def test_right_and_sure_is_perfect_and_wrong_and_sure_is_the_worst():
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 5))
    right, wrong = one_hot(labels, 3), one_hot((labels + 1) % 3, 3)
    assert expected_calibration_error(right, labels) == 0
    assert expected_calibration_error(wrong, labels) == 1
    assert brier_score(right, labels) == pytest.approx(np.zeros(4))
    assert brier_score(wrong, labels) == pytest.approx(np.full(4, 2))
    assert negative_log_likelihood(right, labels) == pytest.approx(np.zeros(4))
    assert negative_log_likelihood(wrong, labels) == pytest.approx(np.full(4, -np.log(1e-12)))


def test_no_knowledge():
    labels = np.zeros((2, 3, 3), int)
    even = np.full((2, 4, 3, 3), 0.25)
    assert brier_score(even, labels) == pytest.approx([0.75, 0.75])
    assert negative_log_likelihood(even, labels) == pytest.approx(np.log([4, 4]))


def test_the_mean_brier_of_calibrated_cases_is_what_they_expect():
    _, chances, labels = drawn(2, n_cases=80)
    assert brier_score(chances, labels).mean() == pytest.approx(
        1 - np.square(chances).sum(1).mean(), abs=0.01
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(temperature):
    logits, _, labels = drawn(3, n_cases=60)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.04)


def test_temperature_keeps_the_winner_and_log_probabilities_serve_as_logits():
    logits, chances, labels = drawn(4)
    for temperature in (0.1, 1, 10):
        scaled = apply_temperature(logits, temperature)
        assert (scaled.argmax(1) == logits.argmax(1)).all()
        np.testing.assert_allclose(apply_temperature(np.log(chances), temperature), scaled, atol=1e-5)
        np.testing.assert_allclose(apply_temperature(logits - 500, temperature), scaled, atol=1e-4)
    np.testing.assert_allclose(apply_temperature(logits, 1.0), chances)
    with np.errstate(divide="ignore"):
        assert np.isfinite(fit_temperature(np.log(one_hot(labels, 3)), labels))


def test_memory_does_not_grow_with_the_cases():
    chances = np.broadcast_to(np.float32(0.25), (4000, 4, 48, 48))  # no memory of its own
    labels = np.broadcast_to(np.int64(1), (4000, 48, 48))
    peaks = []
    for n in (400, 4000):
        tracemalloc.start()
        expected_calibration_error(chances[:n], labels[:n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 50e6


LABELS = np.zeros((2, 3, 3), int)
EVEN = np.full((2, 2, 3, 3), 0.5)


@pytest.mark.parametrize("measure", [expected_calibration_error, brier_score, negative_log_likelihood])
def test_bad_probabilities(measure):
    with pytest.raises(
        ValueError, match=r"probabilities must be in \[0, 1\] .*, got -3\.\.0\.5; apply softmax"
    ):
        measure(np.where(np.arange(3) == 0, -3, EVEN), LABELS)
    with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\] .*, got 2\.\.2; apply softmax"):
        measure(4 * EVEN, LABELS)
    with pytest.raises(
        ValueError, match=r"probabilities must be finite, got NaN or infinity in 2 cases \(first: case 0\)"
    ):
        measure(EVEN * np.nan, LABELS)
    with pytest.raises(ValueError, match=r"with sum 1 over the classes, got 0\.4\.\.0\.4"):
        measure(0.8 * EVEN, LABELS)
    with pytest.raises(ValueError, match=r"labels must be of shape \(2, 3, 3\), got \(1, 3, 3\)"):
        measure(EVEN, LABELS[:1])
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.1 \(2 classes\), got 2\.\.2"):
        measure(EVEN, LABELS + 2)
    with pytest.raises(
        ValueError, match=r"probabilities must be non-empty \(N, C, pixels, pixels\), got \(0, 2, 3, 3\)"
    ):
        measure(EVEN[:0], LABELS[:0])


def test_bad_settings():
    with pytest.raises(ValueError, match=r"n_bins must be an integer in \[1, 65536\], got 0"):
        CalibrationCounter(n_bins=0)
    with pytest.raises(ValueError, match=r"binning must be one of .*'mass'.*got 'equal'"):
        expected_calibration_error(EVEN, LABELS, binning="equal")
    with pytest.raises(ValueError, match="nothing was counted yet"):
        CalibrationCounter().error()
    with pytest.raises(ValueError, match="temperature must be a number > 0, got 0"):
        apply_temperature(EVEN, 0)
    with pytest.raises(
        ValueError, match=r"logits must be below infinity, .* in 2 cases \(first: case 0\); look for cases"
    ):
        fit_temperature(EVEN * np.nan, LABELS)


def test_overflown_logits_are_refused_and_the_logarithm_of_zero_is_not():
    logits, _, labels = drawn(5, n_cases=40)
    for bad in (np.inf, np.nan):
        spoiled = logits.copy()
        spoiled[35, 1, 2, 2] = bad
        for call in (lambda s: fit_temperature(s, labels), lambda s: apply_temperature(s, 1.0)):
            with pytest.raises(ValueError, match=r"nothing finite in 1 cases \(first: case 35\)"):
                call(spoiled)
    never = logits.copy()
    never[0, 1] = -np.inf
    assert (apply_temperature(never, 2.0)[0, 1] == 0).all()
    with pytest.raises(ValueError, match=r"logits must be below infinity, .* \(first: case 0\)"):
        apply_temperature(np.full((1, 2, 2, 2), -np.inf), 1.0)
    with pytest.raises(ValueError, match=r"logits must be \(N, C, \.\.\.\) with C >= 2"):
        apply_temperature(np.zeros((1, 1, 2, 2)), 1.0)


def test_unsigned_and_half_logits_and_huge_ones():
    logits = np.array([[[0.0, 1.0], [2.0, 0.0]]])
    expected = apply_temperature(logits, 1.0)
    for same in (logits.astype(np.uint8), logits.astype(np.float16), logits.tolist()):
        np.testing.assert_allclose(apply_temperature(same, 1.0), expected, rtol=1e-6)
    np.testing.assert_array_equal(apply_temperature([[1.7e308, -1.7e308]], 1.0), [[1, 0]])


def test_a_bad_case_of_a_later_batch_is_found():
    chances = np.full((40, 2, 2, 2), 0.5)
    chances[37] = 0.7
    with pytest.raises(ValueError, match=r"probabilities\[32:\] must be in \[0, 1\] with sum 1"):
        brier_score(chances, np.zeros((40, 2, 2), int))
    counter = CalibrationCounter(class_wise=True).update(EVEN, LABELS)
    with pytest.raises(ValueError, match="probabilities must be of 2 classes, as before, got 3"):
        counter.update(np.full((2, 3, 3, 3), 1 / 3), LABELS)
