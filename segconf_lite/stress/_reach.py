"""Where an attack may go: at most eps from the image, within the bounds of grey values.

All of it in float64 on the CPU; shape letters: N cases, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Ball", "Bounds", "Images", "epsilon_per_image", "make_ball", "noise", "project", "to_images"]

UNITS, NORMS = ("sd", "range", "absolute"), ("linf", "l2")
Images = Tensor | np.ndarray
Bounds = tuple[float, float] | str | None


class Ball(NamedTuple):
    """Images and what surrounds each; the last three are (N, 1, 1, 1)."""

    norm: str
    images: Tensor  # (N, 1, H, W) float32
    eps: Tensor  # (N,) float64
    radius: Tensor  # float64: eps, or the L2 length that belongs to it
    low: Tensor  # float32, -inf for no bounds
    high: Tensor

    def part(self, cases: slice) -> Ball:
        """The same for some of the cases."""
        return Ball(self.norm, *(of_cases[cases] for of_cases in self[1:]))


def epsilon_per_image(images: Images, eps: float, *, unit: str | None = None) -> Tensor:
    """Size of the allowed change of each image in grey values, (N,) float64.

    Args:
        images: (N, 1, H, W).
        eps: >= 0, in `unit`.
        unit: ``"sd"``: share of the (population) standard deviation of each image, ``"range"``: share of its
            highest less its lowest grey value, ``"absolute"``: grey values.

    Raises:
        ValueError: If the unit is none of these, eps is negative or not finite, or images are not as above.
    """
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {UNITS}, got {unit!r}: without one, eps has no meaning")
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be finite and >= 0, got {eps}")
    grey = to_images(images).double().flatten(1)
    if unit == "absolute":
        return torch.full((len(grey),), float(eps), dtype=torch.float64)
    return eps * (grey.std(dim=1, correction=0) if unit == "sd" else grey.amax(dim=1) - grey.amin(dim=1))


def make_ball(images: Images, *, eps: float, unit: str | None, bounds: Bounds, norm: str) -> Ball:
    """Checked arguments of an attack, as `segconf_lite.stress.attacks` describes them.

    Raises:
        ValueError: If one is not as described there.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
    centre, sizes = to_images(images), epsilon_per_image(images, eps, unit=unit)
    radius = sizes * (math.sqrt(centre[0].numel()) if norm == "l2" else 1.0)
    return Ball(norm, centre, sizes, radius[:, None, None, None], *_limits(centre, bounds))


def project(ball: Ball, points: Tensor) -> Tensor:
    """(N, 1, H, W) float32: the points, moved into the ball and then into the bounds.

    float32 is rounded towards the image: of a sum rounded to nearest, the norm could pass the limit.
    """
    change = points.double() - ball.images
    if ball.norm == "linf":
        change = change.clamp(-ball.radius, ball.radius)
    else:
        change = change * (ball.radius / _length(change)).clamp(max=1.0)
    exact = ball.images + change
    near = exact.float()
    too_far = (near.double() - ball.images).abs() > change.abs()
    near = torch.where(too_far, torch.nextafter(near, ball.images), near)
    return near.clamp(ball.low, ball.high)  # nearer to the image, which lies within


def direction(ball: Ball, gradient: Tensor) -> Tensor:
    """(N, 1, H, W) float64: as far up the gradient as the ball reaches; 0 where the gradient is 0."""
    if ball.norm == "linf":
        return ball.radius * gradient.double().sign()
    largest = gradient.double().abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-300)
    scaled = gradient.double() / largest  # squares of a vanishing gradient would be 0
    return ball.radius * (scaled / _length(scaled))


def noise(ball: Ball, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W) float64: changes in random directions, as long as the norm allows."""
    shape = ball.images.shape
    drawn = torch.randn(shape, generator=generator, device=generator.device).cpu()
    return direction(ball, torch.where(drawn < 0, -1.0, 1.0) if ball.norm == "linf" else drawn)


def to_images(images: Images) -> Tensor:
    """(N, 1, H, W) float32 on the CPU, not shared with what was given.

    Raises:
        ValueError: If the shape is another, or a value is not finite.
    """
    tensor = native(images).detach().to("cpu", torch.float32, copy=True)
    if tensor.ndim != 4 or tensor.shape[1] != 1 or tensor.numel() == 0:
        raise ValueError(f"expected non-empty images (N, 1, H, W), got {tuple(tensor.shape)}")
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).flatten(1).any(dim=1).sum())
        raise ValueError(f"{bad} of {len(tensor)} images hold values that are not finite; mask or fill them")
    return tensor.contiguous()


def native(values: Images) -> Tensor:
    """A tensor of what may be an array that torch refuses: mirrored, read-only, or of another byte order."""
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _length(change: Tensor) -> Tensor:
    return change.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-300)


def _limits(images: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    high = images.amax(dim=(1, 2, 3), keepdim=True)
    if isinstance(bounds, str) and bounds == "image":
        return low, high
    if bounds is None:
        return torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(f'bounds must be None, "image" or (low, high) with low < high, got {bounds!r}')
    least, most = (torch.full_like(low, float(value)) for value in bounds)
    outside = int(((low < least) | (high > most)).sum())
    if outside:
        raise ValueError(
            f"{outside} of {len(images)} images leave the bounds {tuple(bounds)}: grey values go from "
            f'{low.min():.6g} to {high.max():.6g}; give the range of these images, "image", or None'
        )
    return least, most
