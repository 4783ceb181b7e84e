"""Level-set segmentation without training: Chan-Vese, and region-scalable fitting for uneven shading.

Both follow one intensity per pixel, and so take images of a single channel.

Shape letters: N cases, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.segmentation import chan_vese

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.stress.inputs import MOST, Images

# Settings of the local fitting, for images scaled to [0, 1]; these and the defaults were chosen on ellipses
# under exp(b * field) with noise of standard deviation 0.05. Weight 1 on 8 bits, as in the paper, would be
# 65025 here, with a length term of 0.001 of that: made for clean images, it follows the noise.
_TIME_STEP = 0.1
_DATA_WEIGHT = 1000.0
_SMOOTHEST = 1e6
_DISTANCE_WEIGHT = 1.0  # their mu: keeps |gradient of phi| near 1 without starting afresh


def chan_vese_labels(
    images: Images, *, steps: int = 500, smoothness: float = 0.25, tolerance: float = 1e-3
) -> np.ndarray:
    """Chan-Vese segmentation into object and background by two constant intensities (IEEE TIP 2001).

    This is `skimage.segmentation.chan_vese` from its checkerboard start. It fits one mean inside and one
    outside, so shading as strong as the contrast breaks it.

    Which region is the object is decided without the reference: the one that does not hold the majority
    of the image's border; at a tie the smaller one. A constant image has no object.

    Args:
        images: Images (N, 1, H, W), finite, on any scale, with H and W >= 3.
        steps: Largest number of iterations, >= 1; about 0.05 s for 64 x 64 pixels.
        smoothness: Weight mu of the contour's length, for intensities scaled to [0, 1], in (0, 1e6].
        tolerance: The iteration stops where the level set changes less, > 0.

    Returns:
        Labels (N, H, W) int64, 1 in the object.

    Raises:
        ValueError: If the images are invalid or an argument is out of its range.

    Example:
        >>> image = np.zeros((1, 1, 8, 8))
        >>> image[0, 0, 2:6, 2:6] = 1  # a square of 16 pixels
        >>> int(chan_vese_labels(image).sum())
        16
    """
    scaled = _scaled(images)
    settings = {
        "max_num_iter": check.integer("steps", steps, low=1, high=MOST),
        "mu": check.number("smoothness", smoothness, low=0, high=_SMOOTHEST, open_low=True),
        "tol": check.number("tolerance", tolerance, low=0, open_low=True),
    }
    return _object(np.stack([chan_vese(image, **settings) for image in scaled]), scaled)


def local_fitting_labels(
    images: Images, *, sigma_px: float = 3.0, steps: int = 100, smoothness: float = 0.02
) -> np.ndarray:
    """Region-scalable fitting: object and background by two intensities that vary over the image.

    Li, Kao, Gore & Ding, "Minimization of region-scalable fitting energy" (IEEE TIP 2008): at each pixel
    a Gaussian window of sigma_px is fitted by one mean inside the contour and one outside, so slow shading
    drops out. The price is many local minima. The start is a disc in the middle, half the image's side
    across, and an object that does not touch it is lost; and the iteration is stopped early, because a longer
    one grows contours out of noise.

    Which region is the object is decided as in `chan_vese_labels`.

    Args:
        images: Images (N, 1, H, W), finite, on any scale, with H and W >= 3.
        sigma_px: Standard deviation of the window in pixels, from 0.1 to ten times the larger side of the
            images; a larger window sees further and withstands less shading.
        steps: Number of iterations, >= 1; 100 take about 0.05 s for 64 x 64 pixels.
        smoothness: Weight nu of the contour's length relative to the data, for intensities scaled to [0, 1],
            in [0, 1e6] (0.001 in the paper, on 8 bits with little noise).

    Returns:
        Labels (N, H, W) int64, 1 in the object.

    Raises:
        ValueError: If the images are invalid or an argument is out of its range.

    Example:
        >>> image = np.zeros((1, 1, 8, 8))
        >>> image[0, 0, 2:6, 2:6] = 1  # a square of 16 pixels
        >>> int(local_fitting_labels(image).sum())
        16
    """
    scaled = _scaled(images)
    sigma_px = check.number("sigma_px", sigma_px, low=0.1, high=10 * max(scaled.shape[1:]))
    steps = check.integer("steps", steps, low=1, high=MOST)
    smoothness = check.number("smoothness", smoothness, low=0, high=_SMOOTHEST)
    height, width = scaled.shape[1:]
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot((rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5)
    level = np.where(distance < 0.25, 2.0, -2.0) + np.zeros_like(scaled)  # (N, H, W), > 0 inside

    def local(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, sigma_px, sigma_px))

    local_mean = local(scaled)
    for _ in range(steps):
        inside = 0.5 + np.arctan(level) / np.pi  # smoothed step function, epsilon = 1
        weight, total = local(inside), local(inside * scaled)
        f1, f2 = total / (weight + 1e-8), (local_mean - total) / (1 - weight + 1e-8)
        # e1 - e2 in the paper; the squared image cancels, since the windows sum to 1.
        misfit = local(f1**2 - f2**2) - 2 * scaled * local(f1 - f2)
        curvature, laplacian = _curvature(level)
        near_contour = 1 / (np.pi * (1 + level**2))
        force = _DATA_WEIGHT * near_contour * (smoothness * curvature - misfit)
        level = level + _TIME_STEP * (force + _DISTANCE_WEIGHT * (laplacian - curvature))
    return _object(level > 0, scaled)


def _curvature(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divergence of the unit normal, and the Laplacian, of each (H, W) level set."""
    down, right = np.gradient(level, axis=(1, 2))
    steepness = np.sqrt(down**2 + right**2 + 1e-10)
    curvature = np.gradient(down / steepness, axis=1) + np.gradient(right / steepness, axis=2)
    return curvature, np.gradient(down, axis=1) + np.gradient(right, axis=2)


def _scaled(images: Images) -> np.ndarray:
    """Images (N, H, W) float64, each scaled to [0, 1]; a constant image to 0."""
    if getattr(images, "ndim", 0) == 4 and images.shape[1] > 1:
        fix = "choose a channel, e.g. images[:, :1]"
        raise check.refuse("images", "(N, 1, H, W), of a single channel", tuple(images.shape), fix)
    intensities = to_numpy(check.image_batch(images), dtype=np.float64)[:, 0]
    if min(intensities.shape[1:]) < 3:
        raise check.refuse("images", "(N, 1, H, W) with H and W >= 3", images.shape)
    lowest = intensities.min(axis=(1, 2), keepdims=True)
    with np.errstate(over="ignore"):
        span = np.ptp(intensities, axis=(1, 2), keepdims=True)
    check.finite("the range of the images", span, fix="scale them down")
    return (intensities - lowest) / np.where(span > 0, span, 1)


def _object(regions: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Labels (N, H, W) int64: of each region and its complement, the one with less of the border."""
    border = np.ones(regions.shape[1:], dtype=bool)
    border[1:-1, 1:-1] = False
    on_border = regions[:, border].mean(axis=1)
    size = regions.mean(axis=(1, 2))
    swap = (on_border > 0.5) | ((on_border == 0.5) & (size > 0.5))
    labels = (regions != swap[:, None, None]) & (np.ptp(scaled, axis=(1, 2)) > 0)[:, None, None]
    return labels.astype(np.int64)
