"""How foreign a scanner's pictures look, asked of the pictures alone.

No network is involved, so the answer cannot know which differences matter to one. That it does
not follow the segmentation's quality is the point of chapter 1.
"""

from __future__ import annotations

import numpy as np

from segconf_lite.cohorts.cohort import Cohort

__all__ = ["appearance_distance", "appearance_features"]

_GREY_LEVELS = np.linspace(0.02, 0.98, 17)
_RING_PX = 3  # width of a ring of the power spectrum


def appearance_features(images: np.ndarray) -> np.ndarray:
    """What a slice looks like: its grey levels and its detail.

    Args:
        images: (N, 1, H, W) float.

    Returns:
        (N, F) float64: 17 quantiles of the grey values, then the logarithm of the mean Fourier
        magnitude in rings from coarse to fine.
    """
    slices = images[:, 0].astype(np.float64)
    height, width = slices.shape[1:]
    quantiles = np.quantile(slices.reshape(len(slices), -1), _GREY_LEVELS, axis=1).T
    magnitude = np.abs(np.fft.fft2(slices))
    waves = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width) * width)
    rings = np.arange(1, min(height, width) // 2, _RING_PX)
    spectrum = [magnitude[:, (waves >= r) & (waves < r + _RING_PX)].mean(axis=1) for r in rings]
    return np.concatenate([quantiles, np.log(np.stack(spectrum, axis=1) + 1e-6)], axis=1)


def appearance_distance(cohort: Cohort, source: Cohort) -> float:
    """How far the pictures of a cohort lie from those of the source, in source deviations.

    Root mean square, over features, of the shift of the mean in units of the source's standard
    deviation between slices. A held-out part of the source gives about 0.2 with 60 slices.

    Args:
        cohort: the pictures in question.
        source: the reference pictures, at least two slices of the same size.

    Returns:
        Distance >= 0; larger looks more foreign.

    Raises:
        ValueError: If the image sizes differ.
    """
    if cohort.images.shape[1:] != source.images.shape[1:]:
        raise ValueError(
            f"cohort and source must have one image size, got {cohort.images.shape[1:]} and "
            f"{source.images.shape[1:]}; make both with the same size="
        )
    features, reference = appearance_features(cohort.images), appearance_features(source.images)
    shift = features.mean(axis=0) - reference.mean(axis=0)
    return float(np.sqrt(np.mean((shift / np.maximum(reference.std(axis=0), 1e-9)) ** 2)))
