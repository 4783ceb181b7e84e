import time

import numpy as np
import pytest
import torch

from segconf_lite.stress.level_sets import chan_vese_labels, local_fitting_labels

METHODS = [chan_vese_labels, local_fitting_labels]


def ellipses(shading, n_cases=4, *, size=64, noise=0.05, seed=0, sign=1):
    """Bright (sign 1) ellipses under exp(shading * field): the field is a ramp of random direction."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    images, labels = [], []
    for _ in range(n_cases):
        centre, axes, turn = rng.uniform(-0.25, 0.25, 2), rng.uniform(0.3, 0.6, 2), rng.uniform(0, 2 * np.pi)
        inside = ((rows - centre[0]) / axes[0]) ** 2 + ((columns - centre[1]) / axes[1]) ** 2 < 1
        field = np.cos(turn) * columns + np.sin(turn) * rows
        grey = 0.6 + sign * np.where(inside, 0.2, -0.2)
        images.append(grey * np.exp(shading * field) + rng.normal(0, noise, inside.shape))
        labels.append(inside)
    return np.array(images)[:, None], np.array(labels)


def dice(found, labels):
    both = (found * labels).sum(axis=(1, 2))
    return 2 * both / (found.sum(axis=(1, 2)) + labels.sum(axis=(1, 2)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("segment", METHODS)
def test_flat_ellipse_is_found_bright_or_dark(segment, sign):
    images, labels = ellipses(0, 2, sign=sign)
    found = segment(images)
    assert dice(found, labels).min() > 0.95
    assert found.shape == (2, 64, 64)
    assert found.dtype == np.int64
    assert set(np.unique(found)) == {0, 1}


@pytest.mark.parametrize("shading", [0.4, 0.7, 1.0])
def test_local_fitting_sees_through_shading_and_chan_vese_does_not(shading):
    images, labels = ellipses(shading)
    locally, globally = (
        dice(segment(images), labels) for segment in (local_fitting_labels, chan_vese_labels)
    )
    assert globally.mean() < 0.75
    assert locally.mean() > 0.9
    assert (locally > globally).all()


@pytest.mark.parametrize("segment", METHODS)
def test_grey_scale_and_company_do_not_matter(segment):
    images, _ = ellipses(0.4, 2)
    found = segment(images, steps=20)
    np.testing.assert_array_equal(found, segment(500 * images - 70, steps=20))
    np.testing.assert_array_equal(found, segment(2.0**-60 * images, steps=20))
    np.testing.assert_array_equal(found[1:], segment(images[1:], steps=20))


def test_mirrored_picture_gives_the_mirrored_object():
    images, _ = ellipses(0.7, 2)
    np.testing.assert_array_equal(
        local_fitting_labels(images, steps=40)[..., ::-1], local_fitting_labels(images[..., ::-1], steps=40)
    )


@pytest.mark.parametrize("segment", METHODS)
def test_object_does_not_hold_most_of_the_border_and_a_flat_picture_has_none(segment):
    images, _ = ellipses(1.0, 3, noise=0.1, seed=5)
    found = segment(np.concatenate([images, np.full_like(images[:1], 3.0)]), steps=20)
    border = np.ones((64, 64), dtype=bool)
    border[1:-1, 1:-1] = False
    assert found[:, border].mean(axis=1).max() <= 0.5
    assert not found[-1].any()


def test_local_fitting_is_quick():
    images, _ = ellipses(0.5, 2)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        local_fitting_labels(images)
        seconds.append((time.process_time() - start) / 2)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("segment", METHODS)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8)), r"images must be non-empty .N, 1, H, W., got \(2, 8, 8\)"),
        (np.full((1, 1, 8, 8), np.nan), "must be finite"),
    ],
)
def test_wrong_images_are_refused(segment, images, message):
    with pytest.raises(ValueError, match=message):
        segment(images)


@pytest.mark.parametrize(
    ("segment", "changed", "message"),
    [
        (chan_vese_labels, {"steps": 0}, r"steps must be an integer in \[1, 1e\+06\], got 0"),
        (chan_vese_labels, {"smoothness": 0}, r"smoothness must be a number in \(0, 1e\+06\], got 0"),
        (chan_vese_labels, {"tolerance": -1}, "tolerance must be a number > 0, got -1"),
        (local_fitting_labels, {"sigma_px": 0}, r"sigma_px must be a number in \[0.1, 160\], got 0"),
        (local_fitting_labels, {"sigma_px": float("nan")}, "sigma_px must be a finite number .*got nan"),
        (local_fitting_labels, {"smoothness": float("nan")}, "smoothness must be a finite number .*got nan"),
        (local_fitting_labels, {"steps": 2.5}, r"steps must be an integer in \[1, 1e\+06\], got 2.5"),
        (
            local_fitting_labels,
            {"smoothness": -0.1},
            r"smoothness must be a number in \[0, 1e\+06\], got -0.1",
        ),
    ],
)
def test_wrong_arguments_are_named(segment, changed, message):
    with pytest.raises(ValueError, match=message):
        segment(ellipses(0, 1, size=16)[0], **changed)


@pytest.mark.parametrize("segment", METHODS)
def test_every_real_type_is_taken_and_the_edges_of_float64_are_told(segment):
    images = (100 * ellipses(0, 1, size=16)[0]).round()
    expected = segment(images, steps=5)
    for other in (images.astype(">f4"), images.astype(np.int16), torch.tensor(images).bfloat16()):
        np.testing.assert_array_equal(segment(other, steps=np.int64(5)), expected)
    huge = np.zeros((2, 1, 8, 8))
    huge[1, 0, 0, :2] = -1.7e308, 1.7e308
    with pytest.raises(
        ValueError, match=r"the range of the images must be finite, .*first: case 1.*scale them"
    ):
        segment(huge)
    with pytest.raises(ValueError, match=r"images must be .*H and W >= 3, got"):
        segment(np.zeros((1, 1, 2, 8)))


@pytest.mark.parametrize("smoothness", [1e6, 1e-300])
def test_extreme_settings_give_labels(smoothness):
    images, _ = ellipses(0.2, 1, size=16)
    for segment in METHODS:
        assert set(np.unique(segment(images, smoothness=smoothness, steps=30))) <= {0, 1}
    for sigma_px in (0.1, 160):
        assert set(np.unique(local_fitting_labels(images, sigma_px=sigma_px))) <= {0, 1}
