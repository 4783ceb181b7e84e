"""Attacks: the small change of an image that spoils its segmentation most, and random noise of equal size.

All know the true labels, and what they find is a lower bound of what is possible.

Shape letters: N cases, C classes, H rows, W columns, T steps. The arguments that all attacks share:

- network: maps (N, 1, H, W) to logits (N, C, H, W), in eval mode meanwhile. Modes, gradient flags, ``.grad``
  and torch's random state are as before afterwards.
- images: (N, 1, H, W), finite, numpy or torch; labels: (N, H, W) integers 0 to C - 1, background 0.
- eps, unit: see `epsilon_per_image`. norm ``"linf"``: no pixel changes by more than eps. ``"l2"``: the root
  mean square change over the pixels is at most eps, so the L2 length at most eps * sqrt(H * W): one kind of
  eps in both. float32 is rounded towards the image, so that the limit is never passed.
- bounds: of grey values, None for none, (low, high), or ``"image"``: lowest and highest of each image.
- loss: what is raised, in each case on its own: ``"cross_entropy"``, mean over its pixels, or ``"dice"``: 1 -
  soft Dice, mean over foreground classes, 1 added above and below, so that absent classes count too.
- ignore: (N, H, W) bool, True = not part of the loss; labels there are not looked at.
- batch_size: cases per pass; bounds the memory, does not change the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segconf_lite.stress._ascent import LOSSES, climb, losses_and_gradients
from segconf_lite.stress._reach import Bounds, Images, epsilon_per_image, make_ball, noise, project, to_images

__all__ = [
    "Attacked", "apgd", "case_loss", "epsilon_per_image", "fgsm", "loss_gradient", "pgd", "random_noise",
    "segpgd", "worst_of",
]  # fmt: skip


class Attacked(NamedTuple):
    """What an attack came to: for each case, the image of highest loss among all it visited."""

    images: Tensor  # (N, 1, H, W) float32, CPU
    loss: Tensor  # (T + 1, N) highest loss so far, the clean image first: never falls; (0, N) for noise
    eps: Tensor  # (N,) float64, in grey values


def fgsm(
    network: nn.Module, images: Images, labels: Images, *, eps: float,
    unit: str | None = None, bounds: Bounds,
    loss: str = "cross_entropy", ignore: Images | None = None, batch_size: int = 32,
) -> Attacked:  # fmt: skip
    """One step of eps along the sign of the gradient (Goodfellow et al., ICLR 2015); L-infinity.

    Where the step lowers the loss, the clean image is kept. Arguments: see the module.
    """
    ball = make_ball(images, eps=eps, unit=unit, bounds=bounds, norm="linf")
    reached = climb(network, ball, labels, ignore, batch_size, loss=loss, steps=1, share=1.0)
    return Attacked(*reached, ball.eps)


def pgd(
    network: nn.Module, images: Images, labels: Images, *, eps: float,
    unit: str | None = None, bounds: Bounds,
    norm: str = "linf", steps: int = 20, step_share: float = 0.25, loss: str = "cross_entropy",
    random_start: bool = False, generator: torch.Generator | None = None,
    ignore: Images | None = None, batch_size: int = 32,
) -> Attacked:  # fmt: skip
    """Steps along the gradient, each followed by a projection (Madry et al., ICLR 2018).

    The first rows of the loss of a long run are those of a short one of equal seed: more steps never do
    worse. (Not so for `segpgd` and `apgd`, whose schedules depend on T.)

    Args:
        network, images, labels, eps, unit, bounds, norm, ignore, batch_size: see the module.
        loss: see the module, or ``"segpgd"``: see `segpgd`.
        steps: T >= 1.
        step_share: length of a step, as a share of eps, > 0.
        random_start: from a random point: uniform in the box (linf), or a random direction and a length
            uniform up to the limit (l2). `generator` draws it, and is required then.

    Raises:
        ValueError: If an argument is not as above, or images lie outside the bounds.
    """
    if not (math.isfinite(step_share) and step_share > 0):
        raise ValueError(f"step_share must be finite and > 0, got {step_share}")
    ball, start = make_ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm), None
    if random_start:
        if generator is None:
            raise ValueError("random_start needs a generator, e.g. torch.Generator().manual_seed(0)")
        shape = ball.images.shape if norm == "linf" else ball.radius.shape
        reach = torch.rand(shape, generator=generator, device=generator.device).cpu()
        start = project(ball, ball.images + reach * noise(ball, generator))
    reached = climb(
        network, ball, labels, ignore, batch_size, loss=loss, steps=steps, share=step_share, start=start
    )
    return Attacked(*reached, ball.eps)


def segpgd(
    network: nn.Module, images: Images, labels: Images, *, eps: float,
    unit: str | None = None, bounds: Bounds,
    norm: str = "linf", steps: int = 20, step_share: float = 0.25, ignore: Images | None = None,
    batch_size: int = 32,
) -> Attacked:  # fmt: skip
    """`pgd` on the pixels that are still right, and little by little on all (Gu et al., ECCV 2022).

    Step t follows the gradient of (1 - lambda) CE over right + lambda CE over wrong pixels, with lambda = (t
    - 1) / 2T. The best image and `loss` go by plain cross-entropy. Arguments: see `pgd`.
    """
    return pgd(
        network, images, labels, eps=eps, unit=unit, bounds=bounds, norm=norm, steps=steps,
        step_share=step_share, loss="segpgd", ignore=ignore, batch_size=batch_size,
    )  # fmt: skip


def apgd(
    network: nn.Module, images: Images, labels: Images, *, eps: float,
    unit: str | None = None, bounds: Bounds,
    norm: str = "linf", steps: int = 20, loss: str = "cross_entropy", ignore: Images | None = None,
    batch_size: int = 32,
) -> Attacked:  # fmt: skip
    """Steps of 2 eps with momentum .75, halved case by case where they stop paying (Croce & Hein, ICML 2020).

    Their algorithm 1, from the clean image instead of a random point. Arguments: see the module and `pgd`.
    """
    ball = make_ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm)
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
    reached = climb(
        network, ball, labels, ignore, batch_size, loss=loss, steps=steps, share=2.0, adaptive=True
    )
    return Attacked(*reached, ball.eps)


def random_noise(
    images: Images,
    *,
    eps: float,
    unit: str | None = None,
    bounds: Bounds,
    norm: str,
    generator: torch.Generator,
) -> Attacked:
    """The control: plus or minus eps in every pixel (linf), or a Gaussian direction of the full length (l2).

    Of exactly that norm, but for what the bounds cut off. Arguments: see the module; `loss` has no rows.
    """
    ball = make_ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm)
    moved = project(ball, ball.images + noise(ball, generator))
    return Attacked(moved, torch.empty(0, len(moved)), ball.eps)


def worst_of(
    network: nn.Module, images: Images, labels: Images, attempts: Sequence[Attacked], *,
    by: str = "hard_dice", ignore: Images | None = None, batch_size: int = 32,
) -> Tensor:  # fmt: skip
    """Images (N, 1, H, W): for each case the attempt that spoils it most, or the clean image if none does.

    Args:
        network, images, labels, ignore, batch_size: see the module.
        attempts: results on these images; of equally bad ones the first counts, the clean image before all.
        by: a measure of `case_loss`.
    """
    clean = to_images(images)
    if any(attempt.images.shape != clean.shape for attempt in attempts):
        raise ValueError(f"attempts must be on these images, {tuple(clean.shape)}; one has another shape")
    tried = torch.stack([clean, *(attempt.images for attempt in attempts)])  # (attempts + 1, N, 1, H, W)
    losses = [case_loss(network, i, labels, measure=by, ignore=ignore, batch_size=batch_size) for i in tried]
    return tried[torch.stack(losses).argmax(dim=0), torch.arange(len(clean))]


def case_loss(
    network: nn.Module, images: Images, labels: Images, *, measure: str = "cross_entropy",
    ignore: Images | None = None, batch_size: int = 32,
) -> Tensor:  # fmt: skip
    """Loss of each case, (N,) float32, lower is better.

    Args:
        network, images, labels, ignore, batch_size: see the module.
        measure: a loss of the module, or ``"hard_dice"``: 1 - Dice of the labels, mean over foreground
            classes, 0 for a class neither there nor predicted; or ``"pixel_error"``: share of wrong pixels.
    """
    inputs = to_images(images)
    return losses_and_gradients(network, inputs, labels, ignore, batch_size, measure=measure, wanted=False)[0]


def loss_gradient(
    network: nn.Module, images: Images, labels: Images, *, loss: str = "cross_entropy",
    ignore: Images | None = None, batch_size: int = 32,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Loss of each case, (N,), and its gradient by the image, (N, 1, H, W). Arguments: see the module."""
    inputs = to_images(images)
    return losses_and_gradients(network, inputs, labels, ignore, batch_size, measure=loss, wanted=True)
