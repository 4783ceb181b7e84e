"""Segmentation by level sets, without training: one that believes in flat regions, one that does not.

Shape letters: N cases, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.segmentation import chan_vese

from segconf_lite.arrays import to_numpy

__all__ = ["chan_vese_labels", "local_fitting_labels"]

# Of the local fitting, on pictures scaled to [0, 1]; these and the defaults were chosen on ellipses under
# exp(b * field) with noise of deviation 0.05. Weight 1 on 8 bits, as in the paper, would be 65025 here, with
# a length term of 0.001 of that: made for clean pictures, it follows the noise.
_TIME_STEP = 0.1
_DATA_WEIGHT = 1000.0
_DISTANCE_WEIGHT = 1.0  # their mu: keeps |gradient of phi| near 1 without starting afresh


def chan_vese_labels(
    images: np.ndarray, *, steps: int = 500, smoothness: float = 0.25, tolerance: float = 1e-3
) -> np.ndarray:
    """Object and ground by two constant grey values (Chan & Vese, IEEE TIP 2001).

    `skimage.segmentation.chan_vese` from its checkerboard start. One mean inside and one outside: a
    shading as strong as the contrast breaks it.

    Which region is the object is settled without the reference: the one that does not hold the majority
    of the picture's border; at a tie the smaller one. A constant picture has no object.

    Args:
        images: (N, 1, H, W) finite grey values, any scale.
        steps: most iterations, >= 1; about 0.05 s for 64 x 64 pixels.
        smoothness: weight mu > 0 of the contour's length, on grey values scaled to [0, 1].
        tolerance: stops where the level set changes less, > 0.

    Returns:
        (N, H, W) int64, 1 in the object.

    Raises:
        ValueError: If images are not as above or an argument is out of its range.
    """
    pictures = _pictures(images)
    _check(steps=steps, smoothness=smoothness, tolerance=tolerance)
    settings: dict[str, Any] = {"mu": smoothness, "tol": tolerance, "max_num_iter": steps}
    return _object(np.stack([chan_vese(picture, **settings) for picture in pictures]), pictures)


def local_fitting_labels(
    images: np.ndarray, *, sigma_px: float = 3.0, steps: int = 100, smoothness: float = 0.02
) -> np.ndarray:
    """Object and ground by two grey values that may differ from place to place.

    Li, Kao, Gore & Ding, "Minimization of region-scalable fitting energy" (IEEE TIP 2008): at each pixel
    a Gaussian window of sigma_px is fitted by one mean inside the contour and one outside, so slow shading
    drops out. The price: many local minima. The start is a disc in the middle, half the picture's side
    across, and an object that does not touch it is lost; and the iteration is stopped early, as a longer one
    grows contours out of noise.

    Which region is the object: as in `chan_vese_labels`.

    Args:
        images: (N, 1, H, W) finite grey values, any scale.
        sigma_px: of the window, > 0; larger sees further and stands less shading.
        steps: iterations, >= 1; 100 take about 0.05 s for 64 x 64 pixels.
        smoothness: weight nu >= 0 of the contour's length relative to the data, on grey values scaled to
            [0, 1] (0.001 in the paper, on 8 bits with little noise).

    Returns:
        (N, H, W) int64, 1 in the object.

    Raises:
        ValueError: If images are not as above or an argument is out of its range.
    """
    pictures = _pictures(images)
    _check(sigma_px=sigma_px, steps=steps)
    if not 0 <= smoothness < math.inf:
        raise ValueError(f"smoothness must be >= 0, got {smoothness}")
    height, width = pictures.shape[1:]
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot((rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5)
    level = np.where(distance < 0.25, 2.0, -2.0) + np.zeros_like(pictures)  # (N, H, W), > 0 inside

    def local(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, sigma_px, sigma_px))

    local_mean = local(pictures)
    for _ in range(int(steps)):
        inside = 0.5 + np.arctan(level) / np.pi  # smoothed step function, epsilon = 1
        share, part = local(inside), local(inside * pictures)
        f1, f2 = part / (share + 1e-8), (local_mean - part) / (1 - share + 1e-8)
        # e1 - e2 in the paper; the squared picture cancels, since the windows sum to 1.
        misfit = local(f1**2 - f2**2) - 2 * pictures * local(f1 - f2)
        curvature, laplacian = _curvature(level)
        near_contour = 1 / (np.pi * (1 + level**2))
        force = _DATA_WEIGHT * near_contour * (smoothness * curvature - misfit)
        level = level + _TIME_STEP * (force + _DISTANCE_WEIGHT * (laplacian - curvature))
    return _object(level > 0, pictures)


def _curvature(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divergence of the unit normal, and the Laplacian, of each (H, W) level set."""
    down, right = np.gradient(level, axis=(1, 2))
    steepness = np.sqrt(down**2 + right**2 + 1e-10)
    curvature = np.gradient(down / steepness, axis=1) + np.gradient(right / steepness, axis=2)
    return curvature, np.gradient(down, axis=1) + np.gradient(right, axis=2)


def _pictures(images: np.ndarray) -> np.ndarray:
    """(N, H, W) float64, each scaled to [0, 1]; a constant picture to 0."""
    images = to_numpy(images, dtype=np.float64)
    if images.ndim != 4 or images.shape[1] != 1 or 0 in images.shape or min(images.shape[2:]) < 3:
        raise ValueError(f"images must be non-empty (N, 1, H, W), H and W >= 3, got {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError(
            "images must be finite, got NaN or infinite grey values; replace or drop those cases"
        )
    pictures = images[:, 0]
    lowest = pictures.min(axis=(1, 2), keepdims=True)
    span = np.ptp(pictures, axis=(1, 2), keepdims=True)
    return (pictures - lowest) / np.where(span > 0, span, 1)


def _object(regions: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """(N, H, W) int64: of each region and its complement, the one with less of the border."""
    border = np.ones(regions.shape[1:], dtype=bool)
    border[1:-1, 1:-1] = False
    on_border = regions[:, border].mean(axis=1)
    size = regions.mean(axis=(1, 2))
    swap = (on_border > 0.5) | ((on_border == 0.5) & (size > 0.5))
    found = (regions != swap[:, None, None]) & (np.ptp(pictures, axis=(1, 2)) > 0)[:, None, None]
    return found.astype(np.int64)


def _check(**values: float) -> None:
    for name, value in values.items():
        least = 1 if name == "steps" else 0
        if not (math.isfinite(value) and value >= least and value > 0) or (least and value != int(value)):
            raise ValueError(f"{name} must be {'a whole number >= 1' if least else '> 0'}, got {value}")
