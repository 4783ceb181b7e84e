"""Bright balls in noise, of a size that can be chosen, and random crops around them.

After Kamath et al., "How do 3D image segmentation networks behave across the context versus foreground
ratio trade-off?" (Med-NeurIPS workshop 2022), whose generator this is, in two dimensions and in three.
Shape letters: N, B cases, D slices, H rows, W columns, w the side of a window.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segconf_lite.cohorts.cohort import Cohort

__all__ = ["ball_cohort", "ball_volumes", "crop_around"]


def ball_cohort(
    n_cases: int, *, radius_px: tuple[int, int] = (25, 34), size: int = 96, seed: int = 0
) -> Cohort:
    """One bright disc per picture, in noise that never hides it.

    ``maximum(disc * U(0.5, 1), noise)`` with noise U(0, 0.8) drawn per pixel, rescaled to [0, 1]; then
    the disc is set to 1. Nothing but the size of the object, and so the share of foreground, is hard
    here: a threshold just below 1 solves it. The default radii fill 0.21 to 0.39 of the picture, radii
    5 to 47 fill 0.009 to 0.75.

    Pictures stay in [0, 1] as in the paper. A z-score would tell the size of the disc, the one thing that
    is varied, by the grey value of the ground: a network would be given per picture what the experiment
    asks of its norm layers.

    Args:
        n_cases: number of pictures, >= 1.
        radius_px: smallest and largest radius, both included; integers, drawn uniformly. The
            centre is a pixel, uniform where the disc is fully inside.
        size: H = W in pixels, > 2 * largest radius.
        seed: >= 0. Equal arguments give equal bytes; case i does not depend on n_cases.

    Returns:
        Cohort; label 1 is the disc, one subject per picture, spacing 1 mm, domain ``"radius <a>-<b>"``.

    Raises:
        ValueError: If an argument is out of its range or the disc does not fit.
    """
    images, labels = _balls(n_cases, radius_px, size, seed, axes=2)
    return Cohort(
        images=images,
        labels=labels,
        domains=np.repeat(f"radius {radius_px[0]}-{radius_px[1]}", n_cases),
        subjects=np.array([f"ball-{seed}-{case}" for case in range(n_cases)]),
        spacing_mm=np.ones((n_cases, 2)),
        class_names=("background", "ball"),
    )


def ball_volumes(
    n_cases: int, *, radius_px: tuple[int, int] = (25, 34), size: int = 96, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The same in three dimensions, as in the paper: a ball in a cube of noise.

    The default radii fill 0.074 to 0.186 of the volume, radii 5 to 47 fill 0.0006 to 0.49.

    Args:
        n_cases, radius_px, size, seed: as in `ball_cohort`; D = H = W = size. A case of size 96
            takes 11 MB.

    Returns:
        Volumes (N, 1, D, H, W) float32 in [0, 1] and labels (N, D, H, W) int64, 1 in the ball.

    Raises:
        ValueError: If an argument is out of its range or the ball does not fit.
    """
    return _balls(n_cases, radius_px, size, seed, axes=3)


def crop_around(
    images: Tensor,
    labels: Tensor,
    window: int,
    *,
    generator: torch.Generator,
    foreground_share: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """One random square (or cubic) crop of each case, centred on foreground with a given probability.

    What MONAI's `RandCropByPosNegLabel` does, for a whole batch at once: a random foreground pixel, or
    else a random background pixel, becomes the centre, and a window that would stick out is moved inside.
    A case without foreground (or background) is cropped around what it has.

    Args:
        images: (B, 1, H, W) or (B, 1, D, H, W), any dtype and device.
        labels: (B, H, W) or (B, D, H, W) integers on the same device, > 0 is foreground.
        window: side w in pixels, from 1 to the shortest side of the images.
        generator: of the device of `images`; the source of all chance.
        foreground_share: probability of a foreground centre, in [0, 1].

    Returns:
        Crops (B, 1, w, w) of the images and (B, w, w) of the labels, at the same places; with a third w
        for volumes.

    Raises:
        ValueError: If shapes do not match or an argument is out of its range.
    """
    size = labels.shape[1:]
    if images.ndim not in (4, 5) or images.shape != (len(labels), 1, *size) or labels.numel() == 0:
        raise ValueError(
            "images must be non-empty (B, 1, H, W) and labels (B, H, W), or both with a D before H, got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if not 1 <= window <= min(size):
        raise ValueError(f"window must be in 1 .. {min(size)}, the image's side, got {window}")
    if not 0 <= foreground_share <= 1:
        raise ValueError(f"foreground_share must be in [0, 1], got {foreground_share}")
    place = labels.device
    wanted = torch.rand(len(labels), generator=generator, device=place) < foreground_share
    foreground = labels.flatten(1) > 0  # (B, H * W)
    eligible = foreground == wanted[:, None]
    eligible |= ~eligible.any(dim=1, keepdim=True)  # nothing of that kind: any pixel
    centre = _draw_one(eligible, generator)  # (B,) place in a flattened image
    # Indices, not slices, and plain numbers: slices need the corners on the host, and would wait for a card.
    cut: list[Tensor] = []
    for axis in reversed(range(len(size))):
        corner = (centre % size[axis] - window // 2).clamp(0, size[axis] - window)
        along = corner[:, None] + torch.arange(window, device=place)  # (B, w)
        cut.insert(0, along.view(-1, *[window if other == axis else 1 for other in range(len(size))]))
        centre = centre // size[axis]
    cut.insert(0, torch.arange(len(labels), device=place).view(-1, *[1] * len(size)))
    return images[:, 0][tuple(cut)][:, None], labels[tuple(cut)]


def _draw_one(eligible: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) position of one true value in each row, all equally likely."""
    if (
        eligible.shape[1] < 2**24
    ):  # what torch.multinomial does with one draw, without the waits of its checks
        times = torch.empty(eligible.shape, device=eligible.device).exponential_(generator=generator)
        return (eligible / times).argmax(dim=1)
    places = [row.nonzero()[:, 0] for row in eligible]
    return torch.stack(
        [of[torch.randint(len(of), (), generator=generator, device=of.device)] for of in places]
    )


def _balls(
    n_cases: int, radius_px: tuple[int, int], size: int, seed: int, *, axes: int
) -> tuple[np.ndarray, np.ndarray]:
    smallest, largest = radius_px
    if n_cases < 1 or seed < 0:
        raise ValueError(f"n_cases must be >= 1 and seed >= 0, got {n_cases} and {seed}")
    if not 1 <= smallest <= largest or any(r != int(r) for r in radius_px):
        raise ValueError(
            f"radius_px must be whole numbers (smallest, largest), 1 <= smallest, got {radius_px}"
        )
    if 2 * largest + 1 > size:
        raise ValueError(
            f"a ball of radius {largest} px needs a size of at least {2 * largest + 1}, got {size}; "
            f"enlarge size or take radii up to {(size - 1) // 2}"
        )
    images = np.empty((n_cases, 1, *[size] * axes), dtype=np.float32)
    labels = np.empty((n_cases, *[size] * axes), dtype=np.int64)
    for case in range(n_cases):
        rng = np.random.default_rng([seed, axes, case])
        radius = int(rng.integers(smallest, largest + 1))
        centre = rng.integers(radius, size - radius, axes)
        distances = np.ogrid[tuple(slice(-c, size - c) for c in centre)]
        ball = np.asarray(sum(d**2 for d in distances) <= radius**2)
        picture = np.maximum(ball * rng.uniform(0.5, 1), rng.uniform(0, 0.8, ball.shape))
        picture = (picture - picture.min()) / np.ptp(picture)
        picture[ball] = 1.0
        images[case, 0], labels[case] = picture, ball
    return images, labels
