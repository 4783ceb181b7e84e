"""Laws of the phantom: physics, randomness, anatomy."""

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.cohorts.phantom import anatomy, scanner, subjects

CLEAN = phantom.Scanner(noise=0, bias=0, blur_mm=0, pixel_mm=0.1, clip_percentile=100)


def test_equal_arguments_give_equal_bytes_in_another_process():
    program = (
        "from segconf_lite.cohorts import phantom; "
        "print(phantom.cohort(7, scanner='B', size=32, seed=3, n_raters=2).fingerprint())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = phantom.cohort(7, scanner="B", size=32, seed=3, n_raters=2).fingerprint()
    assert other.stdout.strip() == here


def test_smaller_cohort_is_the_start_of_a_larger_one():
    small, large = phantom.cohort(5, size=32), phantom.cohort(60, size=32)
    np.testing.assert_array_equal(small.images, large.images[:5])
    assert list(small.subjects) == list(large.subjects[:5])


def test_seeds_change_anatomy_and_scanners_do_not():
    a, b, other = (phantom.cohort(12, size=32, **k) for k in ({}, {"scanner": "D"}, {"seed": 1}))
    np.testing.assert_array_equal(a.labels, b.labels)
    assert not np.array_equal(a.images, b.images)
    assert not np.array_equal(a.labels, other.labels)
    assert not set(a.subjects) & set(other.subjects)


def test_slices_are_standardised_and_every_class_and_disease_occurs():
    cohort = phantom.cohort(180, size=48)
    np.testing.assert_allclose(cohort.images.mean(axis=(1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(cohort.images.std(axis=(1, 2, 3)), 1, atol=1e-3)
    assert set(np.unique(cohort.labels)) == {0, 1, 2, 3}
    assert {name.rsplit("-", 1)[1] for name in cohort.subjects} == set(subjects.DISEASES)


def test_apex_is_smaller_than_base():
    labels = phantom.cohort(120, size=48).labels.reshape(20, subjects.SLICES_PER_SUBJECT, 48, 48)
    left = (labels == 3).sum(axis=(2, 3)).mean(axis=0)
    assert (np.diff(left) < 0).all()


def test_tissue_shares_sum_to_one_and_follow_the_labels():
    _, shapes = subjects.draw_subjects([np.random.default_rng(0)])
    drawn = anatomy.draw(shapes, 96)
    np.testing.assert_allclose(drawn.fractions.sum(axis=1), 1, atol=1e-5)
    assert drawn.fractions.min() >= 0
    labels = phantom.phantom.reference_labels(drawn.inside_mm)
    blood = drawn.fractions[:, scanner.TISSUES.index("blood")]
    assert blood[labels == 3].mean() > 0.7  # the rest is papillary muscle and trabeculae


def test_bssfp_signal_matches_the_small_and_the_ideal_flip_limits():
    nearly_zero = scanner.bssfp_signal(1.5, 1e-4, 3.2)
    assert np.abs(nearly_zero).max() < 1e-3
    # TR << T2 <= T1: the best flip angle has cos(a) = (T1/T2 - 1)/(T1/T2 + 1), signal PD/2 sqrt(T2/T1)
    t1, t2 = scanner.relaxation_ms(1.5)
    blood = scanner.TISSUES.index("blood")
    ratio = t1[blood] / t2[blood]
    best = np.rad2deg(np.arccos((ratio - 1) / (ratio + 1)))
    signal = scanner.bssfp_signal(1.5, best, 0.01)[blood]
    assert signal == pytest.approx(0.85 * 0.5 / np.sqrt(ratio), rel=1e-3)


def test_relaxation_times_are_the_published_ones_at_both_fields():
    for field_t, t1_heart, t2_blood in ((1.5, 1030, 290), (3.0, 1471, 275)):
        t1, t2 = scanner.relaxation_ms(field_t)
        assert t1[scanner.TISSUES.index("myocardium")] == pytest.approx(t1_heart)
        assert t2[scanner.TISSUES.index("blood")] == pytest.approx(t2_blood)


def _acquired(device, fractions=None, size=64):
    if fractions is None:
        fractions = np.zeros((2, len(scanner.TISSUES), size, size), np.float32)
        fractions[:, 0] = 1
        inside = slice(size // 4, -size // 4)
        fractions[:, 0, inside, inside], fractions[:, 5, inside, inside] = 0, 1
    rngs = [np.random.default_rng(k) for k in range(len(fractions))]
    return scanner.acquire(fractions, device, 0.0, rngs, 2.0)


def _air(device, size):
    """Complex image of nothing: noise alone."""
    rngs = [np.random.default_rng(k) for k in range(4)]
    return scanner._through_k_space(np.zeros((4, size, size), np.float32), [device] * 4, rngs, 192 / size)


def test_magnitude_noise_in_air_is_rayleigh():
    """The Rician law without signal: mean / standard deviation = sqrt(pi / (4 - pi))."""
    magnitude = np.abs(_air(dataclasses.replace(CLEAN, noise=0.05, pixel_mm=2.0), 96))
    assert magnitude.mean() / magnitude.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)


@pytest.mark.parametrize(("size", "pixel_mm"), [(96, 2.0), (96, 4.0), (192, 4.0)])
def test_noise_is_stated_per_acquired_pixel_whatever_the_grid(size, pixel_mm):
    image = _air(dataclasses.replace(CLEAN, noise=0.1, pixel_mm=pixel_mm), size)
    assert image.real.std() == pytest.approx(0.1, rel=0.05)


def test_truncated_k_space_rings_and_blur_calms_it():
    overshoot = {}
    for name, device in {
        "full": CLEAN,
        "coarse": dataclasses.replace(CLEAN, pixel_mm=4.0),
        "coarse and blurred": dataclasses.replace(CLEAN, pixel_mm=4.0, blur_mm=3.0),
    }.items():
        grey = _acquired(device)
        overshoot[name] = grey[:, 5:12, 30:34].std()  # air above the object
    assert overshoot["coarse"] > 3 * overshoot["full"]
    assert overshoot["coarse and blurred"] < overshoot["coarse"] / 2


def test_ghosts_appear_along_phase_encoding_only():
    still, ghosted = _acquired(CLEAN), _acquired(dataclasses.replace(CLEAN, ghost=0.8))
    above, beside = (slice(None), slice(0, 10), slice(24, 40)), (slice(None), slice(24, 40), slice(0, 10))
    assert ghosted[above].std() > 5 * still[above].std()
    assert ghosted[beside].std() < 0.1 * ghosted[above].std()


def test_partial_fourier_blurs_rows_not_columns():
    full = _acquired(dataclasses.replace(CLEAN, pixel_mm=2.0))
    partial = _acquired(dataclasses.replace(CLEAN, pixel_mm=2.0, partial_fourier=0.55))
    change = np.abs(partial - full)
    edge_in_row_direction = change[:, 14:18, 28:36].mean()
    edge_in_column_direction = change[:, 28:36, 14:18].mean()
    assert edge_in_row_direction > 2 * edge_in_column_direction


def test_coil_brightens_the_front():
    tissue = np.zeros((1, len(scanner.TISSUES), 64, 64), np.float32)
    tissue[:, scanner.TISSUES.index("muscle")] = 1
    grey = _acquired(dataclasses.replace(CLEAN, bias=2.0), tissue)[0]
    assert grey[:10].mean() > grey[-10:].mean() + 1


def test_one_cause_alone_changes_its_fields_alone():
    a, d = phantom.SCANNERS["A"], phantom.SCANNERS["D"]
    named = {field for fields in phantom.CAUSES.values() for field in fields}
    assert named == {field.name for field in dataclasses.fields(phantom.Scanner)} - {"name"}
    moved = a.with_cause("noise", d)
    assert (moved.noise, moved.gamma, moved.flip_deg) == (d.noise, a.gamma, a.flip_deg)
    everything = a
    for cause in phantom.CAUSES:
        everything = everything.with_cause(cause, d)
    assert dataclasses.replace(everything, name="D") == d


def test_jitter_scales_variation_within_the_scanner():
    """The same anatomy eight times: with jitter the scans differ more."""
    _, shapes = subjects.draw_subjects([np.random.default_rng(0)])
    fractions = anatomy.draw(shapes, 48).fractions[:1].repeat(8, axis=0)
    quiet = dataclasses.replace(CLEAN, bias=1.0)

    def spread(jitter):
        rngs = [np.random.default_rng(k) for k in range(8)]
        return scanner.acquire(fractions, quiet, jitter, rngs, 4.0).std(axis=0).mean()

    assert spread(0.0) < spread(1.0) < spread(4.0)


def test_raters_disagree_at_borders_only_and_are_the_same_people_in_any_number():
    cohort = phantom.cohort(12, size=96, n_raters=3)
    assert cohort.raters.shape == (12, 3, 96, 96)
    disagreement = (cohort.raters != cohort.labels[:, None]).mean()
    assert 0.001 < disagreement < 0.1
    two = phantom.cohort(12, size=96, n_raters=2)
    np.testing.assert_array_equal(two.raters[:, 0], cohort.raters[:, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scanner": "Z"}, r"scanner must be one of \('A', 'B', .*, got 'Z'"),
        ({"scanner": 3}, r"scanner must be one of .* or a phantom\.Scanner, got int"),
        ({"n_cases": 0}, r"n_cases must be an integer in \[1, 1e\+06\], got 0"),
        ({"n_cases": 2.5}, r"n_cases must be an integer in \[1, 1e\+06\], got 2.5"),
        ({"size": 8}, r"size must be an integer in \[16, 1024\], got 8"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"jitter": -1}, r"jitter must be a number in \[0, 10\], got -1"),
        ({"jitter": float("nan")}, "jitter must be a finite number"),
        ({"n_raters": True}, r"n_raters must be an integer in \[0, 1e\+06\], got True"),
    ],
)
def test_bad_arguments_say_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        phantom.cohort(**{"n_cases": 2, **arguments})


def test_bad_scanner_settings_are_refused():
    for field, value in (
        ("flip_deg", 0),
        ("tr_ms", -1),
        ("field_t", 30),
        ("gamma", 0),
        ("partial_fourier", 0.2),
        ("noise", float("nan")),
        ("ghost", "0.1"),
        ("bias", True),
        ("name", None),
    ):
        with pytest.raises(ValueError, match=f"{field} must"):
            phantom.Scanner(**{field: value})
    with pytest.raises(ValueError, match="cause must be one of"):
        phantom.SCANNERS["A"].with_cause("magic", phantom.SCANNERS["B"])
    with pytest.raises(ValueError, match=r"other must be a phantom\.Scanner, got str"):
        phantom.SCANNERS["A"].with_cause("noise", "B")


def test_content_differs_when_content_differs():
    prints = {hashlib.sha256(phantom.cohort(2, size=32, seed=s).images).hexdigest() for s in range(3)}
    assert len(prints) == 3


def test_numpy_and_torch_integers_are_counts_and_seeds():
    plain = phantom.cohort(2, size=16, seed=3, n_raters=1).fingerprint()
    arguments = {"size": np.int32(16), "seed": torch.tensor(3), "n_raters": np.uint8(1)}
    assert phantom.cohort(np.int64(2), **arguments).fingerprint() == plain
