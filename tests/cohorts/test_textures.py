import itertools
import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from segconf_lite.cohorts.textures import (
    BANDS,
    TEXTURES,
    _band_rows,
    null_cohort,
    texture_cohort,
    texture_divergence,
)


def crops_are_in(cohort, labels_value, texture, rows):
    """Whether each picture's pixels on one side occur, up to scale and shift, in these rows of a sheet."""
    sheet = getattr(data, texture)().astype(float)[slice(*rows)]
    size = cohort.images.shape[-1]
    views = np.lib.stride_tricks.sliding_window_view(sheet, (size, size))
    found = []
    for image, labels in zip(cohort.images[:, 0].astype(float), cohort.labels, strict=True):
        side = np.argwhere(labels == labels_value)
        few = side[np.linspace(0, len(side) - 1, 40).astype(int)]  # 40 pixels identify a crop
        values = image[few[:, 0], few[:, 1]]
        at = views[..., few[:, 0], few[:, 1]]  # (places, places, 40)
        at, values = at - at.mean(-1, keepdims=True), values - values.mean()
        correlation = (at @ values) / np.sqrt((at**2).sum(-1) * (values**2).sum())
        found.append(correlation.max() > 0.9999)
    return np.array(found)


def test_equal_arguments_give_equal_bytes_also_in_another_process():
    make = "from segconf_lite.cohorts.textures import texture_cohort as t; c = t(2, alpha=0.3, seed=4)"
    code = f"{make}; print(c.fingerprint())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cohort = texture_cohort(2, alpha=0.3, seed=4)
    assert cohort.fingerprint() == other.stdout.strip()
    assert cohort.fingerprint() != texture_cohort(2, alpha=0.3, seed=5).fingerprint()


def test_masks_are_paired_across_alpha_direction_and_number_of_cases():
    first = texture_cohort(3, seed=1)
    for other in (
        texture_cohort(3, alpha=0.8, seed=1),
        texture_cohort(3, alpha=0.5, direction="background", seed=1),
        texture_cohort(5, seed=1).take(np.arange(3)),
        null_cohort(3, seed=1),
    ):
        np.testing.assert_array_equal(first.labels, other.labels)
        np.testing.assert_array_equal(first.subjects, other.subjects)


def unscaled(cohort, reference, side):
    """A picture put back on the scale of another, from the side that both have in common."""
    pictures = []
    for image, like, labels in zip(cohort.images[:, 0], reference.images[:, 0], cohort.labels, strict=True):
        x, y = (a[labels == side].astype(float) for a in (image, like))
        slope, shift = np.polyfit(x, y, 1)
        np.testing.assert_allclose(slope * x + shift, y, atol=1e-5)  # the same crop, only scaled
        pictures.append(slope * image.astype(float) + shift)
    return np.array(pictures)


@pytest.mark.parametrize(("direction", "kept"), [("foreground", 0), ("background", 1)])
def test_one_side_is_blended_linearly_in_alpha_and_the_other_is_kept(direction, kept):
    pure = texture_cohort(2, alpha=0, direction=direction)
    near, far = (
        unscaled(texture_cohort(2, alpha=alpha, direction=direction), pure, kept) for alpha in (0.25, 0.75)
    )
    blended = pure.labels != kept
    start = pure.images[:, 0].astype(float)
    np.testing.assert_allclose((far - start)[blended], 3 * (near - start)[blended], atol=1e-4)
    assert np.abs(near - start)[blended].mean() > 0.1


def test_alpha_zero_is_the_textures_themselves_from_the_band_of_the_part():
    cohort = texture_cohort(2, alpha=0, part="test", size=48)
    assert crops_are_in(cohort, 1, "brick", _band_rows("test")).all()
    assert crops_are_in(cohort, 0, "grass", _band_rows("test")).all()
    assert not crops_are_in(cohort, 0, "grass", _band_rows("train")).any()
    both = texture_cohort(2, alpha=0, direction="background", part="test", size=48)
    np.testing.assert_array_equal(cohort.images, both.images)


def test_bands_share_no_row():
    rows = [set(range(*_band_rows(part))) for part in BANDS]
    for one, other in itertools.combinations(rows, 2):
        assert not one & other
        assert min(abs(a - b) for a in (min(one), max(one)) for b in (min(other), max(other))) > 10


@pytest.mark.parametrize("part", BANDS)
def test_objects_are_smooth_blobs_of_10_to_36_percent_inside_the_picture(part):
    cohort = texture_cohort(30, part=part, seed=2)
    share = cohort.labels.mean(axis=(1, 2))
    assert share.min() > 0.095
    assert share.max() < 0.365
    assert np.ptp(share) > 0.15
    assert not cohort.labels[:, [0, -1], :].any()
    assert not cohort.labels[:, :, [0, -1]].any()


def test_cohort_is_as_documented():
    cohort = texture_cohort(2, alpha=0.25, direction="background", part="validation", seed=7)
    assert cohort.images.shape == (2, 1, 64, 64)
    assert cohort.domain_names == ("background 0.25",)
    assert cohort.subjects.tolist() == ["texture-7-0-validation", "texture-7-1-validation"]
    assert cohort.class_names == ("background", "object")
    np.testing.assert_allclose(cohort.images.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(cohort.images.std(axis=(1, 2, 3)), 1, atol=1e-5)


@pytest.mark.parametrize("direction", ["foreground", "background"])
def test_divergence_falls_with_alpha_to_that_of_equal_textures(direction):
    def divergence(alpha):
        cohort = texture_cohort(12, alpha=alpha, direction=direction, part="test")
        return texture_divergence(cohort.images, cohort.labels)

    pure, half, most, least = (divergence(alpha) for alpha in (0, 0.5, 0.8, 0.999))
    null = null_cohort(12, direction=direction, part="test")
    floor = texture_divergence(null.images, null.labels)
    assert pure.mean() > half.mean() > most.mean() > 0.9 * floor.mean()
    assert pure.mean() > 2 * floor.mean()
    np.testing.assert_allclose(least, floor, atol=0.05)  # alpha to 1 is the null cohort, case by case
    assert floor.min() > 0


def test_divergence_does_not_see_brightness_or_contrast_and_has_a_known_answer():
    cohort = texture_cohort(2)
    plain = texture_divergence(cohort.images, cohort.labels)
    np.testing.assert_allclose(texture_divergence(7 * cohort.images - 3, cohort.labels), plain, atol=1e-6)
    flat = np.zeros((1, 1, 16, 16))  # one pattern everywhere: histograms differ by the added halves only
    labels = np.zeros((1, 16, 16), dtype=int)
    labels[:, 4:12, 4:12] = 1
    (p, rest_p), (q, rest_q) = ((np.array([n + 0.5, 0.5]) / (n + 13)) for n in (64, 192))
    expected = p * np.log2(p / q) + 25 * rest_p * np.log2(rest_p / rest_q)
    np.testing.assert_allclose(texture_divergence(flat, labels), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alpha": 1.0}, r"alpha must be a number in \[0, 1\), got 1\.0; .*null_cohort"),
        ({"alpha": -0.1}, "alpha"),
        ({"direction": "up"}, "direction must be one of .*'up'"),
        ({"pair": ("brick", "brick")}, "pair must be different from each other"),
        ({"pair": ("brick", "sand")}, "pair must be one of .*, got 'sand'"),
        ({"pair": "brick"}, "pair must be a list of names"),
        ({"part": "all"}, "part must be one of"),
        ({"size": 96, "part": "validation"}, r"size must be an integer in \[16, 82\], got 96; .*validation"),
        ({"n_cases": 0}, r"n_cases must be an integer in \[1, 1e\+06\], got 0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 0.5}, "seed must be an integer >= 0, got 0.5"),
        ({"alpha": float("nan")}, "alpha must be a finite number"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        texture_cohort(**({"n_cases": 2} | changed))


def test_divergence_needs_both_sides():
    cohort = texture_cohort(2)
    with pytest.raises(ValueError, match=r"inside and outside in every case, got cases \[1\] with only one"):
        texture_divergence(cohort.images, cohort.labels * np.array([1, 0])[:, None, None])
    with pytest.raises(ValueError, match=r"images must be non-empty \(N, 1, H, W\), got"):
        texture_divergence(cohort.images[:, 0], cohort.labels)


def test_every_texture_is_there_without_a_download():
    for name in TEXTURES:
        assert getattr(data, name)().shape == (512, 512)


def test_divergence_does_not_depend_on_the_number_type():
    labels = np.zeros((1, 24, 24), dtype=int)
    labels[:, 8:16, 8:16] = 1
    levels = np.random.default_rng(0).integers(-125, 125, (1, 1, 24, 24))
    expected = texture_divergence(levels.astype(np.float64), labels)
    for images in (levels.astype(np.int8), (levels * 250).astype(np.int16), levels * 1e-16):
        np.testing.assert_allclose(texture_divergence(images, labels), expected, atol=1e-12)
    with pytest.raises(ValueError, match="images must be finite"):
        texture_divergence(np.where(levels > 0, np.nan, levels), labels)


def test_divergence_of_intensities_beyond_any_range_is_refused():
    images, labels = np.zeros((1, 1, 32, 32)), np.zeros((1, 32, 32), int)
    images[..., 0, 0], images[..., 1, 1], labels[0, :16] = 1e308, -1e308, 1
    with pytest.raises(ValueError, match="range of the intensities must be finite"):
        texture_divergence(images, labels)
