"""Steps up a loss within a ball, for many images at once, each on its own.

Shape letters: N cases, C classes, H rows, W columns, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segconf_lite.models.batches import network_input
from segconf_lite.models.device import device_of, kept_random_state
from segconf_lite.models.splice import frozen
from segconf_lite.stress._reach import Ball, Images, direction, project
from segconf_lite.stress._reach import native as _native

__all__ = ["LOSSES", "MEASURES", "checkpoints", "climb", "losses_and_gradients", "segpgd_weight"]

LOSSES = ("cross_entropy", "dice")
MEASURES = (*LOSSES, "hard_dice", "pixel_error")
Look = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # image, number of the step -> loss (N,), gradient


def climb(
    network: nn.Module, ball: Ball, labels: Images, ignore: Images | None, batch_size: int, *,
    loss: str, steps: int, share: float, start: Tensor | None = None, adaptive: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Images (N, 1, H, W) of highest loss, and the highest loss so far, (T + 1, N).

    Args:
        network, labels, ignore, batch_size: see `segconf_lite.stress.attacks`.
        loss: see there, or ``"segpgd"``.
        ball: where to look.
        steps: T.
        share: length of a step, as a share of the ball's radius.
        start: (N, 1, H, W) in the ball; None for the clean images.
        adaptive: Auto-PGD: with momentum, and `share` is the first length only.
    """
    _check_choice("loss", loss, (*LOSSES, "segpgd"))
    if steps < 1 or steps != int(steps):
        raise ValueError(f"steps must be >= 1, got {steps}; a whole number")
    truth, kept = _check_labels(ball.images, labels, ignore, batch_size)
    parts = []
    with frozen(network), kept_random_state(device_of(network)):
        for first in range(0, len(truth), batch_size):
            cases = slice(first, first + batch_size)

            def look(images: Tensor, step: int, cases: slice = cases) -> tuple[Tensor, Tensor]:
                weight = segpgd_weight(step + 1, steps) if loss == "segpgd" else None
                measure = "cross_entropy" if loss == "segpgd" else loss
                return _look(network, images, truth[cases], kept[cases], measure, step < steps, weight)

            begin = None if start is None else start[cases]
            parts.append(_climb(look, ball.part(cases), begin, steps, share, adaptive))
    return torch.cat([images for images, _ in parts]), torch.cat([path for _, path in parts], dim=1)


def losses_and_gradients(
    network: nn.Module, images: Tensor, labels: Images, ignore: Images | None, batch_size: int, *,
    measure: str, wanted: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Measure of each case (N,), and its gradient (N, 1, H, W), which is 0 if not wanted."""
    _check_choice("loss" if wanted else "measure", measure, LOSSES if wanted else MEASURES)
    truth, kept = _check_labels(images, labels, ignore, batch_size)
    batches = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    with frozen(network), kept_random_state(device_of(network)):
        parts = [_look(network, images[b], truth[b], kept[b], measure, wanted) for b in batches]
    return torch.cat([value for value, _ in parts]), torch.cat([gradient for _, gradient in parts])


def segpgd_weight(step: int, steps: int) -> float:
    """Weight lambda of the wrong pixels in step 1 to T of SegPGD: from 0 towards a half."""
    return (step - 1) / (2 * steps)


def checkpoints(steps: int) -> list[int]:
    """Steps after which Auto-PGD looks back: ceil(p T), p = 0, .22, .41, ..., ever closer, to .06 apart."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    rounded = (math.ceil(round(share * steps, 9)) for share in shares)  # .22 * 50 is 11, not 12
    return sorted({check for check in rounded if check <= steps})


def _climb(
    look: Look, ball: Ball, start: Tensor | None, steps: int, share: float, adaptive: bool
) -> tuple[Tensor, Tensor]:
    here = ball.images if start is None else start
    value, gradient = look(here, 0)
    best, best_value, best_gradient = here, value, gradient
    path = [value]
    if start is not None:  # the clean image counts from the outset; the start is part of row 1
        path = [look(ball.images, steps)[0]]
        best, best_value = ball.images, path[0]
        best, best_value = _better(value > best_value, (here, value), (best, best_value))
    before, checks = here, checkpoints(steps) if adaptive else []
    length = torch.full_like(ball.radius, share)  # (N, 1, 1, 1)
    rises, halved, value_then = torch.zeros_like(value), torch.zeros_like(value, dtype=torch.bool), best_value
    for step in range(1, steps + 1):
        ahead = project(ball, here + length * direction(ball, gradient))
        if adaptive and step > 1:
            ahead = project(ball, here + 0.75 * (ahead - here) + 0.25 * (here - before))
        before, here, value_before = here, ahead, value
        value, gradient = look(here, step)
        best, best_value, best_gradient = _better(
            value > best_value, (here, value, gradient), (best, best_value, best_gradient)
        )
        path.append(best_value)
        rises = rises + (value > value_before)
        if step in checks[1:]:
            period = step - checks[checks.index(step) - 1]
            stuck = (rises < 0.75 * period) | (~halved & (best_value == value_then))
            here, value, gradient = _better(
                stuck, (best, best_value, best_gradient), (here, value, gradient)
            )  # fmt: skip
            length = torch.where(stuck[:, None, None, None], length / 2, length)
            rises, halved, value_then = torch.zeros_like(rises), stuck, best_value
    return best, torch.stack(path)


def _better(chosen: Tensor, these: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> list[Tensor]:
    """Case by case these, where chosen (N,), and the others elsewhere."""
    return [
        torch.where(chosen.reshape(-1, *[1] * (this.ndim - 1)), this, other)
        for this, other in zip(these, others, strict=True)
    ]


def _look(
    network: nn.Module, images: Tensor, labels: Tensor, kept: Tensor, measure: str, wanted: bool,
    wrong_weight: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Measure of each case, and the gradient of it, or of SegPGD's loss if a weight is given."""
    if wanted and torch.is_inference_mode_enabled():  # gradients are off there for good: no attack at all
        raise ValueError("an attack needs gradients; call it outside torch.inference_mode()")
    inputs = images.detach().requires_grad_(wanted)
    with torch.set_grad_enabled(wanted):
        logits = network(network_input(inputs, network)).float()
        expected = (len(images), *images.shape[2:])
        if logits.ndim != 4 or (len(logits), *logits.shape[2:]) != expected or logits.shape[1] < 2:
            raise ValueError(
                f"expected logits (N, C, H, W) with C >= 2 for images {tuple(images.shape)}, got "
                f"{tuple(logits.shape)}"
            )
        if labels.max() >= logits.shape[1]:
            raise ValueError(
                f"labels go up to {labels.max()}, but the network has classes 0 to {logits.shape[1] - 1}; "
                "pass pixels without a class as `ignore`"
            )
        _check_defined(logits, "answers NaN")
        labels, kept = labels.to(logits.device), kept.to(logits.device)
        value = climbed = _measure(logits, labels, kept, measure)
        if wrong_weight is not None:
            wrong = logits.argmax(dim=1) != labels
            weight = torch.where(wrong, wrong_weight, 1 - wrong_weight)
            climbed = _mean(weight * F.cross_entropy(logits, labels, reduction="none"), kept)
        gradient = None
        if climbed.requires_grad:  # the sum: no case has a share in another's gradient
            (gradient,) = torch.autograd.grad(climbed.sum(), inputs, allow_unused=True)
            if gradient is not None:
                _check_defined(gradient, "has NaN in its gradient (a root or a logarithm at 0, say)")
    return value.detach().cpu(), torch.zeros_like(images) if gradient is None else gradient


def _measure(logits: Tensor, labels: Tensor, kept: Tensor, measure: str) -> Tensor:
    if measure == "cross_entropy":
        return _mean(F.cross_entropy(logits, labels, reduction="none"), kept)
    if measure == "pixel_error":
        return _mean((logits.argmax(dim=1) != labels).float(), kept)
    hard = measure == "hard_dice"
    classes, inside = logits.shape[1], kept[:, None].float()
    truth = F.one_hot(labels, classes).movedim(-1, 1) * inside  # (N, C, H, W)
    found = F.one_hot(logits.argmax(dim=1), classes).movedim(-1, 1) if hard else logits.softmax(dim=1)
    added = 0.0 if hard else 1.0
    overlap = 2 * (found * truth).sum(dim=(2, 3)) + added
    total = (found * inside).sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + added
    dice = torch.where(total == 0, 1.0, overlap / total)  # 0 / 0: neither there nor found
    return 1 - dice[:, 1:].mean(dim=1)


def _check_defined(values: Tensor, what: str) -> None:
    """NaN compares as false everywhere: an attack would stand still, and the network would look robust."""
    lost = torch.isnan(values).flatten(1).any(dim=1)
    if lost.any():
        raise ValueError(
            f"the network {what} for {int(lost.sum())} of {len(values)} images, so no attack tells anything; "
            "look for NaN among its weights, or for what overflows on these images"
        )


def _mean(of_pixels: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, of_pixels, 0.0).sum(dim=(1, 2)) / kept.sum(dim=(1, 2))


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def _check_labels(
    images: Tensor, labels: Images, ignore: Images | None, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Labels (N, H, W) int64 with 0 where ignored, and the pixels that count, bool."""
    shape = (len(images), *images.shape[2:])
    truth = _native(labels).cpu()
    left_out = torch.zeros(shape, dtype=torch.bool) if ignore is None else _native(ignore).cpu()
    if tuple(truth.shape) != shape or truth.is_floating_point() or truth.dtype == torch.bool:
        raise ValueError(f"expected labels {shape} of integers, got {tuple(truth.shape)} {truth.dtype}")
    if tuple(left_out.shape) != shape or left_out.dtype != torch.bool:
        raise ValueError(f"expected ignore {shape} bool, got {tuple(left_out.shape)} {left_out.dtype}")
    if left_out.flatten(1).all(dim=1).any():
        raise ValueError("a case has all its pixels ignored and so no loss; leave it out")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    truth = truth.long().masked_fill(left_out, 0)
    if truth.min() < 0:
        raise ValueError(f"labels go down to {truth.min()}; pass pixels without a class as `ignore`")
    return truth, ~left_out
