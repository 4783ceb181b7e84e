"""Distance between the appearances of two sets of images, from the images alone.

No network is involved, so the distance cannot know which differences matter to one. That it does not follow
the quality of a segmentation is the point of chapter 1.
"""

from __future__ import annotations

import numpy as np

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort

_LEVELS = np.linspace(0.02, 0.98, 17)  # of the quantiles
_RING_PX = 3  # width of a ring of the power spectrum


def appearance_features(images: np.ndarray) -> np.ndarray:
    """Features of the appearance of a slice: its intensities and its detail.

    Args:
        images: (N, 1, H, W) finite intensities, at least 4 pixels a side.

    Returns:
        (N, F) float64: 17 quantiles of the intensities, then the logarithm of the mean Fourier
        magnitude in rings from coarse to fine.

    Raises:
        ValueError: If the images are not as above, or their transform is beyond float64.

    Example:
        >>> appearance_features(np.ones((2, 1, 8, 8))).shape
        (2, 18)
    """
    slices = to_numpy(check.image_batch(images), np.float64)[:, 0]
    height, width = slices.shape[1:]
    check.integer("shortest side of images", min(height, width), low=4, fix="take larger images")
    quantiles = np.quantile(slices.reshape(len(slices), -1), _LEVELS, axis=1).T
    with np.errstate(over="ignore", invalid="ignore"):
        magnitude = np.abs(np.fft.fft2(slices))
    waves = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width) * width)
    rings = np.arange(1, min(height, width) // 2, _RING_PX)
    spectrum = [magnitude[:, (waves >= r) & (waves < r + _RING_PX)].mean(axis=1) for r in rings]
    features = np.concatenate([quantiles, np.log(np.stack(spectrum, axis=1) + 1e-6)], axis=1)
    return check.finite("features of images", features, fix="scale the intensities")


def appearance_distance(cohort: Cohort, source: Cohort) -> float:
    """Distance of the images of a cohort from those of the source, in standard deviations of the source.

    Root mean square, over features, of the shift of the mean in units of the source's standard
    deviation between slices. A held-out part of the source gives about 0.2 with 60 slices.

    Args:
        cohort: The images to be compared.
        source: The reference images, at least two slices of the same size.

    Returns:
        Distance >= 0; larger means that the images look less like those of the source.

    Raises:
        ValueError: If the image sizes differ, or the source has a single slice.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> source, other = (phantom.cohort(12, scanner=name, size=32) for name in "AD")
        >>> round(appearance_distance(other, source), 1)
        1.5
    """
    for name, value in (("cohort", cohort), ("source", source)):
        if not isinstance(value, Cohort):
            raise check.refuse(name, "a Cohort", type(value).__name__)
    check.integer("number of slices of source", len(source), low=2, fix="one slice has no standard deviation")
    if cohort.images.shape[1:] != source.images.shape[1:]:
        got = f"{cohort.images.shape[1:]} and {source.images.shape[1:]}"
        raise check.refuse("cohort and source", "of one image size", got, "make both with the same size=")
    features, reference = appearance_features(cohort.images), appearance_features(source.images)
    shift = features.mean(axis=0) - reference.mean(axis=0)
    return float(np.sqrt(np.mean((shift / np.maximum(reference.std(axis=0), 1e-9)) ** 2)))
