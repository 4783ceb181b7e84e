"""Norm balls, and gradient ascent on the loss within them: many images at once, each case on its own.

This is the core of `segconf_lite.stress.attacks`. A `Ball` says where an attack may go, a `Task` what it
attacks; `climb` and `evaluate` do the work. Projections are computed in float64 on the CPU.

Shape letters: N cases, C classes, H rows, W columns, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.models.batches import checked_logits, enough_memory, network_input
from segconf_lite.models.device import device_of, frozen, kept_random_state
from segconf_lite.models.explained import explained
from segconf_lite.stress.inputs import LARGEST, MOST, Images, of_type

LOSSES = ("cross_entropy", "dice")
MEASURES = (*LOSSES, "hard_dice", "pixel_error")
_TINY = 1e-300  # keeps a division by the length of a change of 0 defined


class Ball(NamedTuple):
    """All images within a norm ball around each clean image and within bounds of the intensities.

    Attributes:
        norm: ``"linf"`` or ``"l2"``.
        images: The clean images, (N, channels, H, W) float32.
        eps: Size of the allowed change, (N,) float64.
        radius: The same as a length in the norm, (N, 1, 1, 1) float64: eps, or for "l2" eps times the root of
            the number of intensities, channels * H * W.
        low, high: Bounds of the intensities, (N, 1, 1, 1) float32; infinite where there are none.

    Example:
        >>> images, eps = torch.zeros(1, 1, 1, 2), torch.full((1,), 0.5)
        >>> radius, low, high = (torch.full((1, 1, 1, 1), value) for value in (0.5, -0.25, 1.0))
        >>> Ball("linf", images, eps, radius, low, high).project(torch.tensor([[[[-3.0, 3.0]]]]))
        tensor([[[[-0.2500,  0.5000]]]])
    """

    norm: str
    images: Tensor
    eps: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor

    def part(self, cases: slice) -> Ball:
        """The same for some of the cases."""
        return Ball(self.norm, *(values[cases] for values in self[1:]))

    def project(self, points: Tensor) -> Tensor:
        """Points (N, channels, H, W), moved into the ball and then into the bounds, float32.

        float32 is rounded towards the clean image: with rounding to nearest, the norm could pass the limit.
        """
        change = points.double() - self.images
        if self.norm == "linf":
            change = change.clamp(-self.radius, self.radius)
        else:
            change = change * (self.radius / _length(change)).clamp(max=1.0)
        near = (self.images + change).float()
        too_far = (near.double() - self.images).abs() > change.abs()
        near = torch.where(too_far, torch.nextafter(near, self.images), near)
        return near.clamp(self.low, self.high)  # nearer to the clean image, which lies within

    def direction(self, gradient: Tensor) -> Tensor:
        """Change (N, channels, H, W) float64 of the ball's radius along the gradient; 0 where that is 0."""
        if self.norm == "linf":
            return self.radius * gradient.double().sign()
        largest = gradient.double().abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=_TINY)
        scaled = gradient.double() / largest  # squares of a vanishing gradient would be 0
        return self.radius * (scaled / _length(scaled))

    def noise(self, generator: torch.Generator) -> Tensor:
        """Change (N, channels, H, W) float64 of the ball's radius in a random direction."""
        shape = self.images.shape
        normal = torch.randn(shape, generator=generator, device=generator.device).cpu()
        return self.direction(torch.where(normal < 0, -1.0, 1.0) if self.norm == "linf" else normal)


class Task(NamedTuple):
    """A network and the labels to which its predictions are compared.

    Attributes:
        network: Network that maps (N, channels, H, W) to logits (N, C, H, W).
        labels: True labels, (N, H, W) int64, 0 where ignored.
        counted: Pixels that belong to the loss, (N, H, W) bool.
        batch_size: Cases per pass through the network.

    Example:
        >>> images, labels = torch.zeros(3, 1, 8, 8), torch.ones(3, 8, 8, dtype=torch.long)
        >>> task = Task.of(nn.Conv2d(1, 2, 1), images, labels, ignore=None, batch_size=2)
        >>> [len(labels[cases]) for cases in task.batches()]
        [2, 1]
    """

    network: nn.Module
    labels: Tensor
    counted: Tensor
    batch_size: int

    @classmethod
    def of(
        cls, network: nn.Module, images: Images, labels: Images, ignore: Images | None, batch_size: int
    ) -> Task:
        """The task that belongs to the arguments of an attack, see `segconf_lite.stress.attacks`.

        Args:
            network: Network that maps (N, channels, H, W) to logits (N, C, H, W).
            images: Valid images (N, channels, H, W), see `to_images`.
            labels: Labels (N, H, W), integers >= 0 where not ignored.
            ignore: Pixels (N, H, W) bool that do not belong to the loss; None for none.
            batch_size: Cases per pass, >= 1.

        Raises:
            ValueError: If an argument is invalid, or all pixels of a case are ignored.
        """
        of_type("network", network, nn.Module)
        shape = (len(images), *images.shape[2:])
        left_out = np.zeros(shape, dtype=bool)
        if ignore is not None:
            left_out = check.array("ignore", ignore, " ".join(map(str, shape)))
            if left_out.dtype != bool:
                raise check.refuse("ignore", "bool", left_out.dtype, "True = not part of the loss")
            if left_out.all(axis=(1, 2)).any():
                raise check.refuse("ignore", "False somewhere in each case", "a case with all pixels ignored")
        known = check.array("labels", labels, " ".join(map(str, shape)))
        known = check.label_map("labels", np.where(left_out, 0, known), shape=shape)
        batch_size = check.integer("batch_size", batch_size, low=1)
        return cls(network, torch.from_numpy(known), torch.from_numpy(~left_out), batch_size)

    def batches(self) -> Iterator[slice]:
        """Which cases pass through the network together."""
        return (slice(i, i + self.batch_size) for i in range(0, len(self.labels), self.batch_size))


class _Visit(NamedTuple):
    """Images of a batch that the ascent has reached."""

    images: Tensor  # (N, channels, H, W)
    loss: Tensor  # (N,)
    gradient: Tensor  # as the images, of the loss; 0 where none was computed

    def where(self, chosen: Tensor, other: _Visit) -> _Visit:
        """This visit in the cases of chosen (N,), the other one elsewhere."""
        cases = chosen[:, None, None, None]
        return _Visit(
            torch.where(cases, self.images, other.images),
            torch.where(chosen, self.loss, other.loss),
            torch.where(cases, self.gradient, other.gradient),
        )


_Look = Callable[[Tensor, int], _Visit]  # images, number of the step; after step T there is no gradient


def climb(
    task: Task,
    ball: Ball,
    *,
    loss: str,
    steps: int,
    step_fraction: float,
    start: Tensor | None = None,
    adaptive: bool = False,
) -> tuple[Tensor, Tensor]:
    """Images of highest loss among all visited, (N, channels, H, W), and the highest loss so far, (T + 1, N).

    Args:
        task: Network and labels.
        ball: Where the images may go.
        loss: One of `LOSSES`, or ``"segpgd"`` unless `adaptive`.
        steps: Number of steps T, >= 1.
        step_fraction: Length of a step as a fraction of the ball's radius, > 0.
        start: Images (N, channels, H, W) in the ball to start from; None for the clean images.
        adaptive: Auto-PGD: steps have momentum, and `step_fraction` is the length of the first steps only.

    Raises:
        ValueError: If an argument is invalid, if the logits, the loss or its gradient are not finite, or if
            the loss does not depend on the images.
        BatchTooLargeError: If the memory is too small. The message names a smaller batch size.

    Example:
        >>> images, labels = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> radius, infinite = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), torch.inf)
        >>> ball = Ball("linf", images, radius.flatten(), radius, -infinite, infinite)
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)  # bright is class 1
        >>> task = Task.of(network, images, labels, ignore=None, batch_size=1)
        >>> images, losses = climb(task, ball, loss="cross_entropy", steps=2, step_fraction=0.5)
        >>> images.unique(), losses.T.round(decimals=2)
        (tensor([0.5000]), tensor([[0.3100, 0.3900, 0.4700]]))
    """
    check.one_of("loss", loss, LOSSES if adaptive else (*LOSSES, "segpgd"))
    steps = check.integer("steps", steps, low=1, high=MOST)
    step_fraction = check.number("step_fraction", step_fraction, low=0, high=LARGEST, open_low=True)
    measure = "cross_entropy" if loss == "segpgd" else loss
    parts = []
    with frozen(task.network), kept_random_state(device_of(task.network)):
        for cases in task.batches():

            def look(images: Tensor, step: int, cases: slice = cases) -> _Visit:
                ahead = step < steps  # after the last step there is nowhere to go
                wrong_weight = segpgd_weight(step + 1, steps) if ahead and loss == "segpgd" else None
                return _visit(task, cases, images, measure, ahead, wrong_weight)

            first = None if start is None else start[cases]
            parts.append(_climb(look, ball.part(cases), first, steps, step_fraction, adaptive))
    return torch.cat([images for images, _ in parts]), torch.cat([path for _, path in parts], dim=1)


def evaluate(task: Task, images: Tensor, measure: str, *, gradient: bool = False) -> tuple[Tensor, Tensor]:
    """Measure of each case (N,), and its gradient (N, channels, H, W), which is 0 unless `gradient`.

    Args:
        task: Network and labels.
        images: Images (N, channels, H, W) as `to_images` makes them.
        measure: One of `MEASURES`; of `LOSSES` for a gradient.
        gradient: Whether to compute the gradient.

    Raises:
        ValueError: As `climb` does.

    Example:
        >>> images, labels = torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> network = nn.Conv2d(1, 2, 1, bias=False)  # equal logits where the image is 0
        >>> task = Task.of(network, images, labels, ignore=None, batch_size=1)
        >>> evaluate(task, images, "cross_entropy")[0]
        tensor([0.6931])
    """
    check.one_of("loss" if gradient else "measure", measure, LOSSES if gradient else MEASURES)
    with frozen(task.network), kept_random_state(device_of(task.network)):
        visits = [_visit(task, cases, images[cases], measure, gradient) for cases in task.batches()]
    return torch.cat([visit.loss for visit in visits]), torch.cat([visit.gradient for visit in visits])


def segpgd_weight(step: int, steps: int) -> float:
    r"""Weight of the wrong pixels in one step of SegPGD, :math:`\lambda_t = (t - 1) / 2T`.

    Args:
        step: Number t of the step, 1 to T.
        steps: Number of steps T, >= 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [segpgd_weight(step, 4) for step in (1, 2, 3, 4)]
        [0.0, 0.125, 0.25, 0.375]
    """
    steps = check.integer("steps", steps, low=1, high=MOST)
    return (check.integer("step", step, low=1, high=steps) - 1) / (2 * steps)


def checkpoints(steps: int) -> list[int]:
    r"""Steps after which Auto-PGD may halve its step length.

    They are :math:`\lceil p_j T \rceil` with :math:`p_0 = 0`, :math:`p_1 = 0.22` and
    :math:`p_{j+1} = p_j + \max(p_j - p_{j-1} - 0.03,\ 0.06)`.

    Args:
        steps: Number of steps T, >= 1.

    Raises:
        ValueError: If it is no integer >= 1.

    Example:
        >>> checkpoints(50)
        [0, 11, 21, 29, 35, 40, 44, 47, 50]
    """
    steps, fractions = check.integer("steps", steps, low=1, high=MOST), [0.0, 0.22]
    while fractions[-1] < 1:
        fractions.append(fractions[-1] + max(fractions[-1] - fractions[-2] - 0.03, 0.06))
    rounded = (math.ceil(round(fraction * steps, 9)) for fraction in fractions)  # 0.22 * 50 is 11, not 12
    return sorted({step for step in rounded if step <= steps})


def _climb(
    look: _Look, ball: Ball, start: Tensor | None, steps: int, step_fraction: float, adaptive: bool
) -> tuple[Tensor, Tensor]:
    best = current = look(ball.images if start is None else start, 0)
    if start is not None:  # the clean image counts from the outset; the start is part of row 1
        clean = look(ball.images, steps)
        best = current.where(current.loss > clean.loss, clean)
    path = [best.loss if start is None else clean.loss]
    previous, checks = current.images, checkpoints(steps) if adaptive else []
    length = torch.full_like(ball.radius, step_fraction)  # (N, 1, 1, 1)
    rises = torch.zeros_like(current.loss)  # (N,) steps since the last checkpoint that raised the loss
    halved, best_then = torch.zeros_like(rises, dtype=torch.bool), path[0]
    for step in range(1, steps + 1):
        here, loss_before = current.images, current.loss
        proposal = ball.project(here + length * ball.direction(current.gradient))
        if adaptive and step > 1:  # momentum
            proposal = ball.project(here + 0.75 * (proposal - here) + 0.25 * (here - previous))
        previous, current = here, look(proposal, step)
        best = current.where(current.loss > best.loss, best)
        path.append(best.loss)
        rises = rises + (current.loss > loss_before)
        if step in checks[1:]:
            period = step - checks[checks.index(step) - 1]
            stuck = (rises < 0.75 * period) | (~halved & (best.loss == best_then))
            current = best.where(stuck, current)
            length = torch.where(stuck[:, None, None, None], length / 2, length)
            rises, halved, best_then = torch.zeros_like(rises), stuck, best.loss
    return best.images, torch.stack(path)


def _visit(
    task: Task,
    cases: slice,
    images: Tensor,
    measure: str,
    with_gradient: bool,
    wrong_weight: float | None = None,
) -> _Visit:
    """Measure of each case; with its gradient, or that of SegPGD's loss if there is a weight."""
    if with_gradient and torch.is_inference_mode_enabled():
        raise ValueError("an attack needs gradients; call it outside torch.inference_mode()")
    inputs = images.detach().requires_grad_(with_gradient)
    gradient = torch.zeros_like(images)
    try:
        memory = enough_memory(task.batch_size, task.network, f"{cases.start} cases")
        with memory, torch.set_grad_enabled(with_gradient):
            value, climbed = _losses(task, cases, inputs, measure, wrong_weight)
            if with_gradient:
                gradient = _gradient(climbed, inputs)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("grad", "backward", "derivative")):
            with explained(task.network, images):
                raise
        raise _no_gradient(f"{type(error).__name__}: {error}") from error
    return _Visit(images, value.detach().cpu(), gradient)


def _losses(
    task: Task, cases: slice, inputs: Tensor, measure: str, wrong_weight: float | None
) -> tuple[Tensor, Tensor]:
    """Measure (N,) and the loss (N,) that is climbed, on the network's device."""
    prepared = network_input(inputs, task.network)
    logits = checked_logits(task.network(prepared), inputs).float()  # (N, C, H, W)
    labels, counted = task.labels[cases], task.counted[cases]
    n_classes = logits.shape[1]
    if labels.max() >= n_classes:
        fix = "pass pixels without a class as `ignore`"
        raise check.refuse("labels", f"in 0..{n_classes - 1}, the network's classes", int(labels.max()), fix)
    labels, counted = labels.to(logits.device), counted.to(logits.device)
    value = climbed = _measure(logits, labels, counted, measure)
    if wrong_weight is not None:
        weight = torch.where(logits.argmax(dim=1) != labels, wrong_weight, 1 - wrong_weight)
        climbed = _mean(weight * F.cross_entropy(logits, labels, reduction="none"), counted)
    _check_finite(value, "the loss")
    return value, climbed


def _gradient(loss: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (N, channels, H, W) of the loss of each case; no case has a part in another's."""
    gradient = None
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss.sum(), inputs, allow_unused=True)
    if gradient is None:
        raise _no_gradient("a loss that does not depend on the images")
    _check_finite(gradient, "the gradient of the loss")
    return gradient


def _no_gradient(got: str) -> ValueError:
    """An attack would return the clean images, and the network would look robust."""
    fix = "look for no_grad, inference_mode, detach or numpy in its forward, or attack a surrogate"
    return check.refuse("network", "differentiable by its images", got, fix)


def _check_finite(values: Tensor, name: str) -> None:
    """NaN compares as false everywhere: an attack would stand still, and the network would look robust."""
    bad = ~torch.isfinite(values.detach()).reshape(len(values), -1).all(dim=1)
    if bad.any():
        got = f"NaN or infinity for {int(bad.sum())} of {len(values)} images"
        raise check.refuse(name, "finite", got, "look for a root or a logarithm at 0, or for an overflow")


def _measure(logits: Tensor, labels: Tensor, counted: Tensor, measure: str) -> Tensor:
    """Measure of each case, (N,)."""
    if measure == "cross_entropy":
        return _mean(F.cross_entropy(logits, labels, reduction="none"), counted)
    if measure == "pixel_error":
        return _mean((logits.argmax(dim=1) != labels).float(), counted)
    hard = measure == "hard_dice"
    n_classes, inside = logits.shape[1], counted[:, None].float()  # (N, 1, H, W)
    truth = F.one_hot(labels, n_classes).movedim(-1, 1) * inside  # (N, C, H, W)
    predicted = F.one_hot(logits.argmax(dim=1), n_classes).movedim(-1, 1) if hard else logits.softmax(dim=1)
    added = 0.0 if hard else 1.0
    overlap = 2 * (predicted * truth).sum(dim=(2, 3)) + added  # (N, C)
    total = (predicted * inside).sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + added
    dice = torch.where(total == 0, 1.0, overlap / total)  # 0 / 0: neither true nor predicted
    return 1 - dice[:, 1:].mean(dim=1)


def _mean(of_pixels: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, of_pixels, 0.0).sum(dim=(1, 2)) / counted.sum(dim=(1, 2))


def _length(change: Tensor) -> Tensor:
    return change.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=_TINY)
