"""Bright balls in noise, of a size that can be chosen.

After Kamath et al., "How do 3D image segmentation networks behave across the context versus foreground
ratio trade-off?" (Med-NeurIPS workshop 2022), whose generator this is, in two dimensions and in three.
Shape letters: N cases, D slices, H rows, W columns.
"""

from __future__ import annotations

import numpy as np

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort


def ball_cohort(
    n_cases: int, *, radius_px: tuple[int, int] = (25, 34), size: int = 96, seed: int = 0
) -> Cohort:
    """One bright disc per image, in noise that never hides it.

    ``maximum(disc * U(0.5, 1), noise)`` with noise U(0, 0.8) drawn per pixel, rescaled to [0, 1]; then
    the disc is set to 1. Nothing but the size of the object, and so the fraction of foreground, is hard
    here, because a threshold just below 1 solves the task. The default radii fill 0.21 to 0.39 of the image,
    radii 5 to 47 fill 0.009 to 0.75.

    Images stay in [0, 1] as in the paper. A z-score would tell the size of the disc, the one thing that is
    varied, by the intensity of the background: a network would be given per image what the experiment asks of
    its norm layers.

    Args:
        n_cases: Number of images, >= 1.
        radius_px: Smallest and largest radius, both included; integers, drawn uniformly. The centre is a
            pixel, uniform where the disc is fully inside.
        size: H = W in pixels, > 2 * largest radius.
        seed: Seed of the random discs, >= 0. Equal arguments give equal bytes; case i does not depend on
            n_cases.

    Returns:
        Cohort; label 1 is the disc, one subject per image, spacing 1 mm, domain ``"radius <a>-<b>"``.

    Raises:
        ValueError: If an argument is out of its range or the disc does not fit.

    Example:
        >>> ball_cohort(2, radius_px=(3, 5), size=16)
        Cohort(2 slices of 16x16 from 2 subjects; domains {radius 3-5: 2}; classes background, ball)
    """
    images, labels = _balls(n_cases, radius_px, size, seed, axes=2)
    n_cases, smallest, largest = len(images), *(int(radius) for radius in radius_px)
    return Cohort(
        images=images,
        labels=labels,
        domains=np.repeat(f"radius {smallest}-{largest}", n_cases),
        subjects=np.array([f"ball-{int(seed)}-{case}" for case in range(n_cases)]),
        spacing_mm=np.ones((n_cases, 2)),
        class_names=("background", "ball"),
    )


def ball_volumes(
    n_cases: int, *, radius_px: tuple[int, int] = (25, 34), size: int = 96, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A ball in a cube of noise, as in the paper: `ball_cohort` in three dimensions.

    The default radii fill 0.074 to 0.186 of the volume, radii 5 to 47 fill 0.0006 to 0.49.

    Args:
        n_cases: Number of volumes, >= 1.
        radius_px: Smallest and largest radius, both included.
        size: D = H = W in voxels, > 2 * largest radius. A case of size 96 takes 11 MB.
        seed: Seed of the random balls, >= 0.

    Returns:
        Volumes (N, 1, D, H, W) float32 in [0, 1] and labels (N, D, H, W) int64, 1 in the ball.

    Raises:
        ValueError: If an argument is out of its range or the ball does not fit.

    Example:
        >>> volumes, labels = ball_volumes(1, radius_px=(2, 2), size=8)
        >>> volumes.shape, labels.sum().item()
        ((1, 1, 8, 8, 8), 33)
    """
    return _balls(n_cases, radius_px, size, seed, axes=3)


def _balls(
    n_cases: int, radius_px: tuple[int, int], size: int, seed: int, *, axes: int
) -> tuple[np.ndarray, np.ndarray]:
    n_cases, seed = check.integer("n_cases", n_cases, low=1, high=10**6), check.integer("seed", seed, low=0)
    size = check.integer("size", size, low=3, high=4096)
    check.array("radius_px", radius_px, "2", fix="give the smallest and the largest radius")
    smallest = check.integer("smallest of radius_px", radius_px[0], low=1)
    largest = check.integer("largest of radius_px", radius_px[1], low=smallest)
    if 2 * largest + 1 > size:
        fix = f"enlarge size or take radii up to {(size - 1) // 2}"
        raise check.refuse("size", f"at least {2 * largest + 1} for a radius of {largest} px", size, fix)
    images = np.empty((n_cases, 1, *[size] * axes), dtype=np.float32)
    labels = np.empty((n_cases, *[size] * axes), dtype=np.int64)
    for case in range(n_cases):
        rng = np.random.default_rng([seed, axes, case])
        radius = int(rng.integers(smallest, largest + 1))
        centre = rng.integers(radius, size - radius, axes)
        distances = np.ogrid[tuple(slice(-c, size - c) for c in centre)]
        ball = np.asarray(sum(d**2 for d in distances) <= radius**2)
        image = np.maximum(ball * rng.uniform(0.5, 1), rng.uniform(0, 0.8, ball.shape))
        image = (image - image.min()) / np.ptp(image)
        image[ball] = 1.0
        images[case, 0], labels[case] = image, ball
    return images, labels
