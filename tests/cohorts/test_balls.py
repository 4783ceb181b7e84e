import numpy as np
import pytest

from segconf_lite.cohorts.balls import ball_cohort, ball_volumes


def test_equal_arguments_give_equal_bytes_and_cases_do_not_depend_on_their_number():
    cohort = ball_cohort(4, seed=3)
    assert cohort.fingerprint() == ball_cohort(4, seed=3).fingerprint()
    assert cohort.fingerprint() == ball_cohort(6, seed=3).take(np.arange(4)).fingerprint()
    assert cohort.fingerprint() != ball_cohort(4, seed=4).fingerprint()


@pytest.mark.parametrize("radius", [1, 5, 13])
def test_radius_area_and_place(radius):
    cohort = ball_cohort(5, radius_px=(radius, radius), size=40)
    assert cohort.labels.sum(axis=(1, 2)) == pytest.approx(np.pi * radius**2, rel=2 / radius)
    for labels in cohort.labels:
        for axis in (0, 1):
            extent = np.flatnonzero(labels.any(axis=axis))
            assert len(extent) == 2 * radius + 1  # fully inside: nothing is cut off


def test_every_radius_of_the_closed_range_occurs_and_no_other():
    cohort = ball_cohort(60, radius_px=(2, 5), size=16)
    found = (cohort.labels.any(axis=1).sum(axis=1) - 1) // 2
    assert set(found) == {2, 3, 4, 5}


def test_default_ratios_are_those_of_the_paper_in_two_dimensions():
    ratio = ball_cohort(60).labels.mean(axis=(1, 2))
    assert 0.20 < ratio.min() < 0.25
    assert 0.35 < ratio.max() < 0.40
    extreme = [ball_cohort(1, radius_px=(r, r)).labels.mean() for r in (5, 47)]
    np.testing.assert_allclose(extreme, [0.009, 0.75], rtol=0.03)


def test_ratios_are_those_of_the_paper_in_three():
    ratios = [ball_volumes(1, radius_px=(r, r))[1].mean() for r in (25, 34)]
    np.testing.assert_allclose(ratios, [0.074, 0.186], rtol=0.01)
    volumes, labels = ball_volumes(2, radius_px=(3, 5), size=16)
    assert volumes.shape == (2, 1, 16, 16, 16)
    assert (volumes.dtype, labels.dtype) == (np.float32, np.int64)
    assert (volumes[:, 0][labels == 1] == 1).all()


def test_pictures_are_noise_in_the_unit_range_with_a_ball_of_one():
    cohort = ball_cohort(8)
    images, ball = cohort.images[:, 0], cohort.labels == 1
    assert images.min() == 0
    assert images.max() == 1
    assert (images[ball] == 1).all()
    assert (images[~ball] == 1).sum() <= len(cohort)  # at most the one pixel that the rescaling put there
    for image, inside in zip(images, ball, strict=True):
        noise = image[~inside] / image[~inside].max()
        np.testing.assert_allclose(np.quantile(noise, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"radius_px": (5, 48)}, "size must be at least 97 for a radius of 48 px, got 96; .*up to 47"),
        ({"radius_px": (9, 5)}, "largest of radius_px must be an integer >= 9"),
        ({"radius_px": (0, 5)}, "smallest of radius_px must be an integer >= 1"),
        ({"n_cases": 0}, r"n_cases must be an integer in \[1, 1e\+06\], got 0"),
        ({"n_cases": 1.5}, r"n_cases must be an integer in \[1, 1e\+06\], got 1.5"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": None}, "seed must be an integer >= 0, got None"),
        ({"radius_px": (True, 5)}, "smallest of radius_px must be an integer"),
        ({"n_cases": 10**30}, r"n_cases must be an integer in"),
        ({"radius_px": (2.5, 5)}, "smallest of radius_px must be an integer"),
        ({"radius_px": 5}, r"radius_px must be non-empty \(2,\)"),
    ],
)
@pytest.mark.parametrize("make", [ball_cohort, ball_volumes])
def test_wrong_arguments_are_named(make, changed, message):
    with pytest.raises(ValueError, match=message):
        make(**({"n_cases": 1} | changed))
