"""Adversarial attacks: the small change of an image that raises the segmentation loss most, and random noise.

All of them know the true labels, and the loss that they reach is a lower bound of what is possible.

Shape letters: N cases, C classes, H rows, W columns, T steps. The arguments that all attacks share:

- network: Network that maps (N, channels, H, W) to logits (N, C, H, W), in eval mode meanwhile. Modes,
  gradient flags, ``.grad`` and torch's random state are as before afterwards. Its loss must be finite and
  differentiable by the images: a network whose gradient is cut off is refused, because every attack would
  return the clean images.
- images: Images (N, channels, H, W), finite, numpy or torch, with as many channels as the network takes. An
  attack may change every channel, and eps is one size for all of them. Channels on different scales should
  therefore be brought to one scale first, for example by a z-score of each.
- labels: True labels (N, H, W), integers 0 to C - 1, background 0.
- eps, unit: Size of the allowed change and its unit, see `epsilon_per_image`.
- norm: ``"linf"``: no intensity changes by more than eps. ``"l2"``: the root mean square change over all
  intensities is at most eps, so the L2 length is at most eps * sqrt(channels * H * W), and eps means the same
  kind of size in both. float32 is rounded towards the image, so that the limit is never passed.
- bounds: Bounds of the intensities: None for none, (low, high), or ``"image"``, the lowest and the highest
  intensity of each image in any of its channels.
- loss: Loss that is raised, in each case on its own: ``"cross_entropy"``, the mean over its pixels, or
  ``"dice"``: 1 - soft Dice, the mean over foreground classes, with 1 added to numerator and denominator, so
  that absent classes count too.
- ignore: Pixels (N, H, W) bool, True = not part of the loss; the labels there may be anything. None for none.
- batch_size: Cases per pass; it bounds the memory and does not change the result.

Every attack raises ``ValueError`` if an argument is invalid, if images lie outside the bounds, or if logits,
loss or gradient are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.stress.ascent import MEASURES, Ball, Task, climb, evaluate
from segconf_lite.stress.inputs import LARGEST, Images, checked_generator, to_images

UNITS, NORMS = ("sd", "range", "absolute"), ("linf", "l2")
Bounds = tuple[float, float] | str | None


class Attacked(NamedTuple):
    """Result of an attack: for each case, the image of highest loss among all that the attack visited.

    Attributes:
        images: The attacked images, (N, channels, H, W) float32 on the CPU.
        loss: Highest loss so far, (T + 1, N), the clean image first; it never falls. (0, N) for noise.
        eps: Size of the allowed change, (N,) float64, in intensities.

    Example:
        >>> noise = random_noise(torch.ones(1, 1, 2, 2), eps=0.5, unit="absolute", bounds=None,
        ...                      norm="linf", generator=torch.Generator().manual_seed(0))
        >>> noise.eps
        tensor([0.5000], dtype=torch.float64)
    """

    images: Tensor
    loss: Tensor
    eps: Tensor


def epsilon_per_image(images: Images, eps: float, *, unit: str | None = None) -> Tensor:
    """Largest allowed change of each image in its own intensities, (N,) float64.

    Args:
        images: Images (N, channels, H, W), numpy or torch.
        eps: Size of the change in `unit`, >= 0.
        unit: ``"sd"`` takes eps as a fraction of the (population) standard deviation of each image over all
            of its channels, ``"range"`` as a fraction of its highest minus its lowest intensity in any
            channel, ``"absolute"`` as intensities. It has to be given: without a unit, eps has no meaning.

    Raises:
        ValueError: If the unit is none of these, eps is negative or not finite, or the images are invalid.

    Example:
        >>> import numpy as np
        >>> epsilon_per_image(np.array([[[[0.0, 4.0]]]]), 0.5, unit="sd")
        tensor([1.], dtype=torch.float64)
    """
    check.one_of("unit", unit, UNITS)
    eps = check.number("eps", eps, low=0, high=LARGEST)
    flat = to_images(images, channels=None).double().flatten(1)  # (N, channels * H * W)
    if unit == "absolute":
        return torch.full((len(flat),), eps, dtype=torch.float64)
    return eps * (flat.std(dim=1, correction=0) if unit == "sd" else flat.amax(dim=1) - flat.amin(dim=1))


def fgsm(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    eps: float,
    unit: str | None = None,
    bounds: Bounds,
    loss: str = "cross_entropy",
    ignore: Images | None = None,
    batch_size: int = 32,
) -> Attacked:
    """Fast gradient sign method: one L-infinity step of eps (Goodfellow et al., ICLR 2015).

    Where the step lowers the loss, the clean image is kept. The module explains the arguments.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)  # bright is class 1
        >>> images, labels = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> fgsm(network, images, labels, eps=0.25, unit="absolute", bounds=None).images.unique()
        tensor([0.7500])
    """
    ball = _ball(images, eps=eps, unit=unit, bounds=bounds, norm="linf")
    task = Task.of(network, ball.images, labels, ignore, batch_size)
    return Attacked(*climb(task, ball, loss=loss, steps=1, step_fraction=1.0), ball.eps)


def pgd(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    eps: float,
    unit: str | None = None,
    bounds: Bounds,
    norm: str = "linf",
    steps: int = 20,
    step_fraction: float = 0.25,
    loss: str = "cross_entropy",
    random_start: bool = False,
    generator: torch.Generator | None = None,
    ignore: Images | None = None,
    batch_size: int = 32,
) -> Attacked:
    """Projected gradient descent: steps, each projected back into the ball (Madry et al., ICLR 2018).

    The first rows of the loss of a long run are those of a short one with an equal seed: more steps never do
    worse. (This is not so for `segpgd` and `apgd`, whose schedules depend on T.)

    Args:
        network, images, labels, eps, unit, bounds, norm, ignore, batch_size: The module explains them.
        loss: A loss of the module, or ``"segpgd"``, see `segpgd`.
        steps: Number of steps T, >= 1.
        step_fraction: Length of a step as a fraction of eps, > 0.
        random_start: Whether to start from a random point instead of the clean image: uniform in the box
            (linf), or a random direction and a length uniform up to the limit (l2).
        generator: Random generator of the start; required for a random start, and not used otherwise.

    Raises:
        ValueError: If an argument is invalid, images lie outside the bounds, or logits, loss or gradient are
            not finite.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)  # bright is class 1
        >>> images, labels = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> attacked = pgd(network, images, labels, eps=0.5, unit="absolute", bounds=None, steps=2)
        >>> attacked.loss.T.round(decimals=2)  # one column per step, the clean image first
        tensor([[0.3100, 0.3500, 0.3900]])
    """
    ball, start = _ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm), None
    task = Task.of(network, ball.images, labels, ignore, batch_size)
    if check.one_of("random_start", random_start, (False, True)):
        generator = _generator(generator)
        shape = ball.images.shape if norm == "linf" else ball.radius.shape
        reach = torch.rand(shape, generator=generator, device=generator.device).cpu()
        start = ball.project(ball.images + reach * ball.noise(generator))
    reached = climb(task, ball, loss=loss, steps=steps, step_fraction=step_fraction, start=start)
    return Attacked(*reached, ball.eps)


def segpgd(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    eps: float,
    unit: str | None = None,
    bounds: Bounds,
    norm: str = "linf",
    steps: int = 20,
    step_fraction: float = 0.25,
    ignore: Images | None = None,
    batch_size: int = 32,
) -> Attacked:
    r"""SegPGD: `pgd` on the pixels that are still right, and little by little on all (Gu et al., ECCV 2022).

    Step t follows the gradient of the mean over pixels of

    .. math:: (1 - \lambda_t)\,[\text{right}]\,CE + \lambda_t\,[\text{wrong}]\,CE, \quad
        \lambda_t = (t - 1) / 2T.

    The returned image and `loss` go by plain cross-entropy. The module and `pgd` explain the arguments.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # above 0 is class 1
        >>> images = torch.tensor([[[[1.0, -1.0]]]])  # right, wrong
        >>> labels = torch.ones(1, 1, 2, dtype=torch.long)
        >>> segpgd(network, images, labels, eps=0.5, unit="absolute", bounds=None, steps=1).images
        tensor([[[[ 0.8750, -1.0000]]]])
    """
    ball = _ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm)
    task = Task.of(network, ball.images, labels, ignore, batch_size)
    reached = climb(task, ball, loss="segpgd", steps=steps, step_fraction=step_fraction)
    return Attacked(*reached, ball.eps)


def apgd(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    eps: float,
    unit: str | None = None,
    bounds: Bounds,
    norm: str = "linf",
    steps: int = 20,
    loss: str = "cross_entropy",
    ignore: Images | None = None,
    batch_size: int = 32,
) -> Attacked:
    """Auto-PGD: steps of 2 eps with momentum, halved per case where progress stops (Croce & Hein, ICML 2020).

    Their algorithm 1 with momentum 0.75, from the clean image instead of a random point. The module and `pgd`
    explain the arguments.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)  # bright is class 1
        >>> images, labels = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> apgd(network, images, labels, eps=0.5, unit="absolute", bounds=(0.6, 1.0)).images.unique()
        tensor([0.6000])
    """
    ball = _ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm)
    task = Task.of(network, ball.images, labels, ignore, batch_size)
    reached = climb(task, ball, loss=loss, steps=steps, step_fraction=2.0, adaptive=True)
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
    """Random noise as a control: plus or minus eps in every intensity (linf), or a Gaussian direction (l2).

    The change has exactly the largest allowed norm, unless the bounds cut some of it off. The `loss` has no
    rows. The module explains the arguments; `generator` is the random generator of the noise.

    Example:
        >>> noise = random_noise(torch.zeros(1, 1, 1, 4), eps=0.5, unit="absolute", bounds=(-0.1, 1.0),
        ...                      norm="linf", generator=torch.Generator().manual_seed(0))
        >>> noise.images.unique()
        tensor([-0.1000,  0.5000])
    """
    ball = _ball(images, eps=eps, unit=unit, bounds=bounds, norm=norm)
    attacked = ball.project(ball.images + ball.noise(_generator(generator)))
    return Attacked(attacked, torch.empty(0, len(attacked)), ball.eps)


def worst_of(
    network: nn.Module,
    images: Images,
    labels: Images,
    attempts: Sequence[Attacked],
    *,
    by: str = "hard_dice",
    ignore: Images | None = None,
    batch_size: int = 32,
) -> Tensor:
    """For each case the attacked image that is worst, or the clean one if none is worse, (N, channels, H, W).

    Args:
        network, images, labels, ignore, batch_size: The module explains them.
        attempts: Results of attacks on these images. Of equally bad ones the first counts, the clean image
            before all.
        by: Measure of `case_loss` that says what is worst.

    Raises:
        ValueError: If an argument is invalid, or an attempt has another shape than the images.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # above 0 is class 1
        >>> images, labels = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> size = {"unit": "absolute", "bounds": None}
        >>> attempts = [fgsm(network, images, labels, eps=eps, **size) for eps in (0.5, 1.5)]
        >>> worst_of(network, images, labels, attempts).unique()
        tensor([-0.5000])
    """
    clean = to_images(images, channels=None)
    check.one_of("by", by, MEASURES)
    if not isinstance(attempts, Sequence):
        raise check.refuse("attempts", "a list of results of attacks", type(attempts).__name__)
    for index, attempt in enumerate(attempts):
        if not isinstance(attempt, Attacked) or attempt.images.shape != clean.shape:
            got = getattr(getattr(attempt, "images", None), "shape", type(attempt).__name__)
            raise check.refuse(f"attempts[{index}]", f"Attacked, on images {tuple(clean.shape)}", got)
    # (attempts + 1, N, channels, H, W)
    candidates = torch.stack([clean, *(attempt.images for attempt in attempts)])
    task = Task.of(network, clean, labels, ignore, batch_size)
    losses = torch.stack([evaluate(task, moved, by)[0] for moved in candidates])  # (attempts + 1, N)
    return candidates[losses.argmax(dim=0), torch.arange(len(clean))]


def case_loss(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    measure: str = "cross_entropy",
    ignore: Images | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Loss of each case, (N,) float32, lower is better.

    Args:
        network, images, labels, ignore, batch_size: The module explains them.
        measure: A loss of the module, or ``"hard_dice"``: 1 - Dice of the predicted labels, mean over
            foreground classes, 0 for a class that is neither true nor predicted; or ``"pixel_error"``: the
            fraction of wrong pixels.

    Raises:
        ValueError: If an argument is invalid, or logits or loss are not finite.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # above 0 is class 1
        >>> images, labels = torch.tensor([[[[1.0, 1.0, 1.0, -1.0]]]]), torch.ones(1, 1, 4, dtype=torch.long)
        >>> case_loss(network, images, labels, measure="pixel_error")
        tensor([0.2500])
    """
    inputs = to_images(images, channels=None)
    return evaluate(Task.of(network, inputs, labels, ignore, batch_size), inputs, measure)[0]


def loss_gradient(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    loss: str = "cross_entropy",
    ignore: Images | None = None,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """Loss of each case, (N,), and its gradient by the image, (N, channels, H, W).

    The module explains the arguments.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-0.5, 0.5]).reshape(2, 1, 1, 1)  # bright is class 1
        >>> labels = torch.ones(1, 1, 2, dtype=torch.long)
        >>> loss_gradient(network, torch.zeros(1, 1, 1, 2), labels)
        (tensor([0.6931]), tensor([[[[-0.2500, -0.2500]]]]))
    """
    inputs = to_images(images, channels=None)
    return evaluate(Task.of(network, inputs, labels, ignore, batch_size), inputs, loss, gradient=True)


def _generator(generator: torch.Generator | None) -> torch.Generator:
    fix = "a random attack needs one, e.g. torch.Generator().manual_seed(0)"
    return checked_generator(generator, fix)


def _ball(images: Images, *, eps: float, unit: str | None, bounds: Bounds, norm: str) -> Ball:
    check.one_of("norm", norm, NORMS)
    clean, sizes = to_images(images, channels=None), epsilon_per_image(images, eps, unit=unit)
    radius = sizes * (math.sqrt(clean[0].numel()) if norm == "l2" else 1.0)
    return Ball(norm, clean, sizes, radius[:, None, None, None], *_limits(clean, bounds))


def _limits(images: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Lowest and highest allowed intensity of each image, (N, 1, 1, 1) each."""
    low, high = (extreme(images, dim=(1, 2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
    if isinstance(bounds, str) and bounds == "image":
        return low, high
    least, most = (-math.inf, math.inf) if bounds is None else _pair(bounds)
    outside = int(((low < least) | (high > most)).sum())
    if outside:
        got = f"{outside} of {len(images)} outside, with intensities {low.min():.6g} to {high.max():.6g}"
        fix = 'give the range of these images, "image", or None'
        raise check.refuse("images", f"within the bounds {(least, most)}", got, fix)
    return torch.full_like(low, least), torch.full_like(high, most)


def _pair(bounds: Bounds) -> tuple[float, float]:
    if isinstance(bounds, tuple | list) and len(bounds) == 2 and all(isinstance(b, Real) for b in bounds):
        least, most = map(float, bounds)
        if least < most:
            return least, most
    raise check.refuse("bounds", 'None, "image" or (low, high) with low < high', repr(bounds))
