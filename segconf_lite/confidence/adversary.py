r"""The adversary of confidence training: settings, one step against an image, and the replay of moved images.

Lennartz & Schultz, "Adversarial Perturbations Improve Generalization of Confidence Prediction in Medical
Image Segmentation" (MIDL 2025), and their work of 2026 with a second adversary. Which small change of an
image would make the predictor think the segmentation worse? A step against the gradient g of the predicted
quality,

.. math:: x' = x - \alpha g / (\lVert g \rVert^2 + \varepsilon),

lowers a linear prediction by alpha exactly, whatever the size of g.

Shape letters: B cases, n moved images, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from segconf_lite import check
from segconf_lite.arrays import to_numpy

BOUNDS = ("l2", "linf")
UNITS = ("quality", "length")
DIRECTIONS = ("gradient", "random", "none")
CONCENTRATION_DROP = math.log(2)  # intended fall of the logarithm of the concentration
HIGHEST_ALPHA = 100.0


class Limits(TypedDict, total=False):
    """What limits a step, as keyword arguments; none of them is needed.

    Attributes:
        bound: Longest step, in intensities; None for no limit.
        bound_norm: Norm of that limit, ``"l2"`` (the default) or ``"linf"``. Longer steps are shortened (L2)
            or clipped (L-infinity).
        value_range: Lowest and highest intensity that may result; None for no limit.

    Example:
        >>> zeros = torch.zeros(1, 1, 1, 2)
        >>> float(perturb(zeros, zeros + 1, alpha=5.0, bound=0.1, bound_norm="linf").images.min())
        -0.10000000149011612
    """

    bound: float | None
    bound_norm: str
    value_range: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Adversary:
    """Settings of the adversary of a quality predictor's training.

    Attributes:
        direction: ``"gradient"``; ``"random"``, noise of the same length instead, a control; or ``"none"``:
            the replayed images stay as they were.
        effect_size: Intended mean fall of the predicted quality, in (0, 1).
        alpha: First size of the step, >= 0, in units of predicted quality.
        gain: Gain of its controller, > 0.
        controlled: Which fall is brought to the effect size, the ``"predicted"`` or the ``"true"`` one.
        gradient_of: ``"mean"`` quality, or the mean of ``"all"`` class outputs.
        unit: Unit of the step, ``"quality"`` or ``"length"``, see `perturb`.
        warm_up: Training steps before the first perturbation, >= 0.
        bound: Longest step, in intensities; None for no limit.
        bound_norm: Norm of that limit, ``"l2"`` or ``"linf"``.
        value_range: Lowest and highest intensity that may result; None for no limit.
        replay_size: Number of perturbed images that are remembered; 0 for those of the step before only.
            Otherwise half of the replayed images are new and half are drawn from the memory.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> Adversary(effect_size=0.2).alpha
        0.3
    """

    direction: str = "gradient"
    effect_size: float = 0.1
    alpha: float = 0.3
    gain: float = 0.1
    controlled: str = "predicted"
    gradient_of: str = "mean"
    unit: str = "quality"
    warm_up: int = 20
    bound: float | None = None
    bound_norm: str = "l2"
    value_range: tuple[float, float] | None = None
    replay_size: int = 0

    def __post_init__(self) -> None:
        check.one_of("direction", self.direction, DIRECTIONS)
        check.one_of("controlled", self.controlled, ("predicted", "true"))
        check.one_of("gradient_of", self.gradient_of, ("mean", "all"))
        check.one_of("unit", self.unit, UNITS)
        vars(self).update(  # one spelling of a number, so that equal settings have equal addresses
            _checked_limits(self.bound, self.bound_norm, self.value_range),
            effect_size=_checked_effect_size(self.effect_size),
            alpha=check.number("alpha", self.alpha, low=0),
            gain=check.number("gain", self.gain, low=0, open_low=True),
            warm_up=check.integer("warm_up", self.warm_up, low=0),
            replay_size=check.integer("replay_size", self.replay_size, low=0),
        )

    @property
    def limits(self) -> Limits:
        """What limits a step, as `perturb` takes it."""
        return {"bound": self.bound, "bound_norm": self.bound_norm, "value_range": self.value_range}


class Perturbed(NamedTuple):
    """Images after a step, and what happened to each; `perturb` returns it on the CPU.

    Example:
        >>> flat = perturb(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), alpha=1.0)
        >>> float(flat.norm), bool(flat.vanished)
        (0.0, True)
    """

    images: Tensor  # (B, 1, H, W)
    norm: Tensor  # (B,) L2 length of the step, in intensities
    vanished: Tensor  # (B,) bool: the gradient was too small, and the image was left as it is


def perturb(
    images: Tensor,
    gradient: Tensor,
    *,
    alpha: float,
    unit: str = "quality",
    eps: float = 1e-8,
    **limits: Unpack[Limits],
) -> Perturbed:
    """One step against the gradient, image by image.

    Args:
        images: (B, 1, H, W), on any device; they are not changed.
        gradient: Gradient of the summed predicted quality with respect to the images, same shape.
        alpha: Size of the step, >= 0, in `unit`; 0 leaves the images bit for bit.
        unit: ``"quality"``: by how much the prediction falls to first order (2025); the weaker the gradient,
            the longer the step. ``"length"``: its L2 length in intensities (2026).
        eps: Number > 0 added to the squared norm; where the squared norm itself is below it, there is no
            step.
        **limits: `bound`, `bound_norm` and `value_range`, see `Limits`.

    Returns:
        `Perturbed` on the CPU.

    Raises:
        ValueError: If the shapes differ, or an argument is out of its range.

    Example:
        >>> image, gradient = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
        >>> perturb(image, gradient, alpha=0.4).images.flatten().tolist()
        [-0.10000000149011612, -0.10000000149011612, -0.10000000149011612, -0.10000000149011612]
    """
    check.image_batch(images, channels=None)
    check.image_batch(gradient, "gradient", channels=None)
    if images.shape != gradient.shape:
        raise check.refuse("gradient", f"of the images' shape {tuple(images.shape)}", tuple(gradient.shape))
    check.number("alpha", alpha, low=0)
    check.number("eps", eps, low=0, open_low=True)
    check.one_of("unit", unit, UNITS)
    limits, before, by = _checked_limits(**limits), images.detach(), gradient.detach().to(images.device)
    moved = step_against(before, by, alpha=alpha, unit=unit, eps=eps, **limits)
    return Perturbed(*(part.cpu() for part in moved))


def step_against(
    images: Tensor,
    gradient: Tensor,
    *,
    alpha: float,
    unit: str,
    eps: float = 1e-8,
    **limits: Unpack[Limits],
) -> Perturbed:
    """`perturb` without its checks, on the device of the images: a part of a training.

    Example:
        >>> ones = torch.ones(1, 1, 2, 2)
        >>> float(step_against(ones, ones, alpha=2.0, unit="length", bound=1.0).norm)
        1.0
    """
    squared = gradient.square().sum(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    vanished = squared < eps
    divisor = squared + eps if unit == "quality" else (squared + eps).sqrt()
    moved = _moved(images, torch.where(vanished, 0.0, -alpha * gradient / divisor), **limits)
    norm = (moved - images).square().sum(dim=(1, 2, 3)).sqrt()
    return Perturbed(moved, norm, vanished[:, 0, 0, 0])


def random_step(images: Tensor, norm: Tensor, generator: torch.Generator) -> Tensor:
    """Images plus noise of the given L2 lengths: the control for the direction of the gradient.

    Args:
        images: (B, 1, H, W).
        norm: (B,) lengths, >= 0, as `perturb` reports them.
        generator: Generator of the noise.

    Returns:
        (B, 1, H, W) on the CPU.

    Example:
        >>> image, length = torch.zeros(1, 1, 4, 4), torch.tensor([2.0])
        >>> moved = random_step(image, length, torch.Generator().manual_seed(0))
        >>> round(float(moved.square().sum().sqrt()), 4)
        2.0
    """
    return (images + _noise(images, norm, generator)).cpu()


def _noise(images: Tensor, norm: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of the given lengths, on the device of the images."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    length = noise.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return noise * (norm.to(images)[:, None, None, None] / length)


def _moved(
    images: Tensor,
    step: Tensor,
    bound: float | None = None,
    bound_norm: str = "l2",
    value_range: tuple[float, float] | None = None,
) -> Tensor:
    """Images after a step, which is shortened or clipped to its limits."""
    if bound is not None and bound_norm == "l2":
        length = step.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        step = step * (bound / length.clamp(min=bound))
    elif bound is not None:
        step = step.clamp(-bound, bound)
    return images + step if value_range is None else (images + step).clamp(*value_range)


def update_alpha(alpha: float, *, drop: float, effect_size: float, gain: float = 0.01) -> float:
    r"""The next step size, never below 0: down if the prediction fell too far, up if it fell too little.

    .. math:: \max(0, \alpha - \mathrm{gain} (\mathrm{drop} - \mathrm{effect\ size}))

    Args:
        alpha: Step size that was used.
        drop: Mean fall of the predicted quality under the perturbation.
        effect_size: Intended fall, in (0, 1).
        gain: Gain of the controller, > 0.

    Raises:
        ValueError: If effect_size or gain is out of its range, or the drop is not finite.

    Example:
        >>> round(update_alpha(0.3, drop=0.2, effect_size=0.1, gain=0.1), 3)
        0.29
    """
    _checked_effect_size(effect_size)
    check.number("gain", gain, low=0, open_low=True)
    check.number("drop", drop)
    return max(0.0, alpha - gain * (drop - effect_size))


class Replayed(NamedTuple):
    """Moved images with what was known of their originals.

    Example:
        >>> one, first = torch.ones(2), torch.zeros(2, dtype=torch.int64)
        >>> images, labels, spacing_mm = torch.zeros(2, 1, 4, 4), np.zeros((2, 4, 4)), np.ones((2, 2))
        >>> moved = Replayed(images, labels, spacing_mm, first, one, one, one > 0)
        >>> len(moved.then(moved.take(torch.tensor([0]))).images)
        3
    """

    images: Tensor  # (n, 1, H, W)
    labels: np.ndarray  # (n, H, W)
    spacing_mm: np.ndarray  # (n, 2)
    attack: Tensor  # (n,) integer, which of the attacks moved it
    attacked: Tensor  # (n,) what that attack lowers, before
    quality: Tensor  # (n,) true quality, before
    fresh: Tensor  # (n,) bool: moved in the step before

    def take(self, index: Tensor) -> Replayed:
        """Some of them."""
        parts: tuple[Tensor | np.ndarray, ...] = self
        chosen = to_numpy(index)
        return Replayed._make(part[index] if isinstance(part, Tensor) else part[chosen] for part in parts)

    def then(self, other: Replayed) -> Replayed:
        """These, and the other's behind them."""
        parts: tuple[Tensor | np.ndarray, ...] = self
        return Replayed._make(
            torch.cat([one, torch.as_tensor(two)]) if isinstance(one, Tensor) else np.concatenate([one, two])
            for one, two in zip(parts, other, strict=True)
        )


class Replay:
    """Moves images, remembers them, and controls the step size of each attack.

    Args:
        adversary: Settings.
        attacks: Names of what is attacked; images take turns.
        generator: Generator of the noise and of what is drawn from the memory.

    Example:
        >>> replay = Replay(Adversary(alpha=0.5), ["location"], torch.Generator())
        >>> image, gradient = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        >>> float(replay.move(image, gradient, torch.zeros(1, dtype=torch.int64)))
        -0.5
    """

    def __init__(self, adversary: Adversary, attacks: list[str], generator: torch.Generator) -> None:
        self.adversary, self.attacks, self.generator = adversary, attacks, generator
        self.alpha = dict.fromkeys(attacks, adversary.alpha)
        self.last: Replayed | None = None
        self.older: Replayed | None = None
        self.vanished = self.dropped = 0
        self._drops: list[tuple[float, float]] = []  # predicted and true fall of each image
        self._lengths: list[float] = []
        self.entries: list[dict[str, float]] = []

    def draw(self) -> Replayed | None:
        """The replayed half of the next batch; None before the first step."""
        if self.last is None or self.older is None:
            return self.last
        half = max(1, len(self.last.images) // 2)
        old = torch.randperm(len(self.older.images), generator=self.generator)[: len(self.last.images) - half]
        return self.last.take(torch.arange(half)).then(self.older.take(old))

    def move(self, images: Tensor, gradient: Tensor, attack: Tensor) -> Tensor:
        """Images after a step, each with the step size of its attack; counts gradients that vanished."""
        adversary, moved = self.adversary, images.clone()
        for number, name in enumerate(self.attacks):
            mine, alpha, limits = attack == number, self.alpha[name], adversary.limits
            stepped = step_against(images[mine], gradient[mine], alpha=alpha, unit=adversary.unit, **limits)
            self.vanished += int(stepped.vanished.sum())
            self._lengths += stepped.norm.tolist()
            moved[mine] = stepped.images
            if adversary.direction == "random":
                noise = _noise(images[mine], stepped.norm, self.generator)
                moved[mine] = _moved(images[mine], noise, **limits)
        return moved

    def remember(self, new: Replayed) -> None:
        """Keep moved images for the next draws; those that are no longer finite are dropped and counted."""
        sound = new.images.flatten(1).isfinite().all(dim=1)
        self.dropped += int((~sound).sum())
        if self.adversary.replay_size and self.last is not None:
            stale = self.last._replace(fresh=torch.zeros_like(self.last.fresh))
            older = stale if self.older is None else self.older.then(stale)
            start = max(0, len(older.images) - self.adversary.replay_size)
            self.older = older.take(torch.arange(start, len(older.images)))
        kept = new.take(sound.nonzero()[:, 0])
        self.last = kept if len(kept.images) else None

    def observe(self, before: Replayed, attacked: Tensor, quality: Tensor, *, control: bool) -> None:
        """Compare what the attacks lowered, and the true quality, with before; adjust each step size."""
        fall, true_fall = before.attacked - attacked, before.quality - quality  # (n,)
        for number, name in enumerate(self.attacks):
            mine = before.fresh & (before.attack == number) & true_fall.isfinite()
            if not mine.any():
                continue
            by_truth = self.adversary.controlled == "true" and name == "location"
            drop = float((true_fall if by_truth else fall)[mine].mean())
            if name == "location":
                self._drops += list(zip(fall[mine].tolist(), true_fall[mine].tolist(), strict=True))
            if control and math.isfinite(drop):
                effect_size = CONCENTRATION_DROP if name == "concentration" else self.adversary.effect_size
                alpha = update_alpha(
                    self.alpha[name], drop=drop, effect_size=effect_size, gain=self.adversary.gain
                )
                self.alpha[name] = min(alpha, HIGHEST_ALPHA)

    def close_entry(self) -> None:
        """Means since the last entry, kept with the history."""
        predicted, true = np.array(self._drops or [(0.0, 0.0)]).T
        entry = {
            "alpha": self.alpha["location"],
            "predicted_drop": predicted.mean(),
            "true_drop": true.mean(),
            "product_of_drops": (predicted * true).mean(),
            "squared_predicted_drop": (predicted**2).mean(),
            "length": np.mean(self._lengths or [0.0]),
            "vanished": self.vanished,
            "dropped": self.dropped,
        }
        if "concentration" in self.alpha:
            entry["alpha_concentration"] = self.alpha["concentration"]
        self.entries.append({name: float(value) for name, value in entry.items()})
        self._drops, self._lengths = [], []


def _checked_effect_size(effect_size: float) -> float:
    return check.number("effect_size", effect_size, low=0, high=1, open_low=True, open_high=True)


def _checked_limits(
    bound: float | None = None, bound_norm: str = "l2", value_range: tuple[float, float] | None = None
) -> Limits:
    check.one_of("bound_norm", bound_norm, BOUNDS)
    if bound is not None:
        bound = check.number("bound", bound, low=0, open_low=True)
    if value_range is not None:
        low, high = (check.number("value_range", end) for end in value_range)
        if low >= high:
            raise check.refuse("value_range", "a lower and a higher intensity", value_range)
        value_range = low, high
    return {"bound": bound, "bound_norm": bound_norm, "value_range": value_range}
