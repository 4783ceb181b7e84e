"""The adversary of confidence training, as plain functions: a perturbation, and a controller of its size.

Lennartz & Schultz, "Adversarial Perturbations Improve Generalization of Confidence Prediction in Medical
Image Segmentation" (MIDL 2025). Which small change of an image would make the predictor think the
segmentation worse? A step against the gradient g of the predicted quality, x' = x - alpha g / (||g||² +
eps), lowers a linear prediction by alpha exactly, whatever the size of g. Shape letters: B cases, H rows, W
columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Perturbed", "noise_of_length", "perturb", "random_step", "step_against", "update_alpha"]

BOUNDS = ("l2", "linf")
UNITS = ("quality", "length")


class Perturbed(NamedTuple):
    """Images after a step, and what happened to each; as `perturb` returns it, on the CPU."""

    images: Tensor  # (B, 1, H, W)
    norm: Tensor  # (B,) L2 length of the step, in grey values
    vanished: Tensor  # (B,) bool: the gradient was too small, and the image was left as it is


def perturb(
    images: Tensor,
    gradient: Tensor,
    *,
    alpha: float,
    unit: str = "quality",
    eps: float = 1e-8,
    bound: float | None = None,
    bound_norm: str = "l2",
    value_range: tuple[float, float] | None = None,
) -> Perturbed:
    """One step against the gradient, image by image.

    Args:
        images: (B, 1, H, W), on any device; they are not changed.
        gradient: of the summed predicted quality with respect to them, same shape.
        alpha: size of the step, >= 0, in `unit`; 0 leaves the images bit for bit.
        unit: ``"quality"``: by how much the prediction falls to first order (2025); the weaker the gradient,
            the longer the step. ``"length"``: its L2 length in grey values (2026).
        eps: added to the squared norm; where the squared norm itself is below it, there is no step.
        bound: longest step, in grey values; None for none.
        bound_norm: of which norm, ``"l2"`` or ``"linf"``. Longer steps are shortened (L2) or clipped
            (L-infinity).
        value_range: lowest and highest grey value that may result; None for none.

    Returns:
        `Perturbed` on the CPU.

    Raises:
        ValueError: If the shapes differ, or an argument is out of its range.
    """
    if images.shape != gradient.shape or images.ndim != 4:
        raise ValueError(
            f"expected images and gradient of one shape (B, 1, H, W), got {tuple(images.shape)} and "
            f"{tuple(gradient.shape)}"
        )
    if alpha < 0 or eps <= 0 or (bound is not None and bound <= 0):
        raise ValueError(f"expected alpha >= 0, eps > 0 and bound > 0, got {alpha}, {eps}, {bound}")
    for name, value, allowed in (("bound_norm", bound_norm, BOUNDS), ("unit", unit, UNITS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    moved = step_against(
        images.detach(),
        gradient.detach().to(images.device),
        alpha=alpha,
        unit=unit,
        eps=eps,
        bound=bound,
        bound_norm=bound_norm,
        value_range=value_range,
    )
    return Perturbed(*(part.cpu() for part in moved))


def step_against(
    images: Tensor,
    gradient: Tensor,
    *,
    alpha: float,
    unit: str,
    eps: float = 1e-8,
    bound: float | None,
    bound_norm: str,
    value_range: tuple[float, float] | None,
) -> Perturbed:
    """`perturb` without its checks, on the device of the images: a part of a training."""
    squared = gradient.square().sum(dim=(1, 2, 3), keepdim=True)
    vanished = squared < eps
    divisor = squared + eps if unit == "quality" else (squared + eps).sqrt()
    step = torch.where(vanished, 0.0, -alpha * gradient / divisor)
    if bound is not None and bound_norm == "l2":
        length = step.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        step = step * (bound / length.clamp(min=bound))
    elif bound is not None:
        step = step.clamp(-bound, bound)
    moved = images + step
    if value_range is not None:
        moved = moved.clamp(*value_range)
    norm = (moved - images).square().sum(dim=(1, 2, 3)).sqrt()
    return Perturbed(moved, norm, vanished[:, 0, 0, 0])


def random_step(images: Tensor, norm: Tensor, generator: torch.Generator) -> Tensor:
    """Images plus noise of the given L2 lengths: the control for the direction of the gradient.

    Args:
        images: (B, 1, H, W).
        norm: (B,) lengths, >= 0, as `perturb` reports them.
        generator: of the noise.

    Returns:
        (B, 1, H, W) on the CPU.
    """
    return noise_of_length(images, norm, generator).cpu()


def noise_of_length(images: Tensor, norm: Tensor, generator: torch.Generator) -> Tensor:
    """`random_step` on the device of the images: a part of a training."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    length = noise.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return images + noise * (norm.to(images)[:, None, None, None] / length)


def update_alpha(alpha: float, *, drop: float, effect_size: float, gain: float = 0.01) -> float:
    """The next alpha, never below 0: down if the prediction fell by more than wanted, up if by less.

    Args:
        alpha: the one that was used.
        drop: mean fall of the predicted quality under the perturbation.
        effect_size: the fall that is wanted, in (0, 1).
        gain: of the controller, > 0.

    Raises:
        ValueError: If effect_size or gain is out of its range, or the drop is not finite.
    """
    if not 0 < effect_size < 1 or gain <= 0:
        raise ValueError(f"expected 0 < effect_size < 1 and gain > 0, got {effect_size} and {gain}")
    if drop != drop or abs(drop) == float("inf"):
        raise ValueError(f"the drop must be finite, got {drop}")
    return max(0.0, alpha - gain * (drop - effect_size))
