"""The adversary's side of the training: which images are moved, how far, and what came of it.

Lennartz & Schultz (MIDL 2025), and their follow-up of 2026 with a second adversary.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from segconf_lite.arrays import to_numpy
from segconf_lite.confidence.adversary import (
    BOUNDS,
    UNITS,
    Perturbed,
    noise_of_length,
    step_against,
    update_alpha,
)

__all__ = ["Adversary", "Replay", "Replayed"]

DIRECTIONS = ("gradient", "random", "none")
CONCENTRATION_DROP = math.log(2)  # wanted fall of the logarithm of the concentration
HIGHEST_ALPHA = 100.0


@dataclasses.dataclass(frozen=True)
class Adversary:
    """What a user may choose of the adversary.

    Attributes:
        direction: ``"gradient"``; ``"random"``, noise of the same length instead, a control; or ``"none"``,
            the replayed images stay as they were.
        effect_size: wanted mean fall of the predicted quality, in (0, 1).
        alpha: first size of the step, >= 0, in units of predicted quality.
        gain: of its controller, > 0.
        controlled: which fall is brought to the effect size, the ``"predicted"`` or the ``"true"`` one.
        gradient_of: ``"mean"`` quality, or the mean of ``"all"`` class outputs.
        warm_up: steps before the first perturbation.
        bound, bound_norm, value_range: see `perturb`.
        replay_size: perturbed images that are remembered; 0 for those of the step before only. Otherwise
            half of the replayed images are new and half are drawn from the memory.

    Raises:
        ValueError: If a value is out of its range.
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
        choices = {
            "direction": DIRECTIONS, "controlled": ("predicted", "true"), "gradient_of": ("mean", "all"),
            "bound_norm": BOUNDS, "unit": UNITS,
        }  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if not 0 < self.effect_size < 1:
            raise ValueError(f"effect_size must lie in (0, 1), got {self.effect_size}")
        for name in ("alpha", "warm_up", "replay_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.gain <= 0 or (self.bound is not None and self.bound <= 0):
            raise ValueError(f"gain and bound must be > 0, got {self.gain} and {self.bound}")


class Replayed(NamedTuple):
    """Moved images with what was known of their originals; n images."""

    images: Tensor  # (n, 1, H, W)
    labels: np.ndarray  # (n, H, W)
    spacing_mm: np.ndarray  # (n, 2)
    attack: Tensor  # (n,) int, which of the attacks moved it
    attacked: Tensor  # (n,) what that attack lowers, before
    quality: Tensor  # (n,) true, before
    fresh: Tensor  # (n,) bool: moved in the step before

    def take(self, index: Tensor) -> Replayed:
        """Some of them."""
        chosen = to_numpy(index)
        return Replayed(
            self.images[index], self.labels[chosen], self.spacing_mm[chosen], self.attack[index],
            self.attacked[index], self.quality[index], self.fresh[index],
        )  # fmt: skip

    def then(self, other: Replayed) -> Replayed:
        """These, and the other's behind them."""
        pairs: Any = zip(self, other, strict=True)
        joined: Any = (np.concatenate(p) if isinstance(p[0], np.ndarray) else torch.cat(p) for p in pairs)
        return Replayed(*joined)


class Replay:
    """Moves images, remembers them, and keeps each attack's alpha.

    Args:
        options: see there.
        attacks: names of what is attacked; images take turns.
        generator: of noise and of what is drawn from the memory.
    """

    def __init__(self, options: Adversary, attacks: list[str], generator: torch.Generator) -> None:
        self.options, self.attacks, self.generator = options, attacks, generator
        self.alpha = dict.fromkeys(attacks, options.alpha)
        self.target = {
            name: CONCENTRATION_DROP if name == "concentration" else options.effect_size for name in attacks
        }
        self.last: Replayed | None = None
        self.older: Replayed | None = None
        self.vanished = self.dropped = 0
        self._log: list[tuple[float, float]] = []
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
        """Images after a step, each with the alpha of its attack; counts gradients that vanished."""
        options, moved = self.options, images.clone()
        for number, name in enumerate(self.attacks):
            own = attack == number
            found: Perturbed = step_against(
                images[own], gradient[own], alpha=self.alpha[name], unit=options.unit,
                bound=options.bound, bound_norm=options.bound_norm, value_range=options.value_range,
            )  # fmt: skip
            self.vanished += int(found.vanished.sum())
            self._lengths += found.norm.tolist()
            random = options.direction == "random"
            moved[own] = noise_of_length(images[own], found.norm, self.generator) if random else found.images
        return moved

    def remember(self, new: Replayed) -> None:
        """For the next draws; images that are no longer finite are dropped and counted."""
        sound = new.images.flatten(1).isfinite().all(dim=1)
        self.dropped += int((~sound).sum())
        if self.options.replay_size and self.last is not None:
            stale = self.last._replace(fresh=torch.zeros_like(self.last.fresh))
            older = stale if self.older is None else self.older.then(stale)
            start = max(0, len(older.images) - self.options.replay_size)
            self.older = older.take(torch.arange(start, len(older.images)))
        kept = new.take(sound.nonzero()[:, 0])
        self.last = kept if len(kept.images) else None

    def observe(self, was: Replayed, attacked: Tensor, quality: Tensor, *, control: bool) -> None:
        """Compare what the attacks lowered, and the true quality, with before; adjust each alpha."""
        fall, true_fall = was.attacked - attacked, was.quality - quality
        for number, name in enumerate(self.attacks):
            own = was.fresh & (was.attack == number) & true_fall.isfinite()
            if not own.any():
                continue
            by_truth = self.options.controlled == "true" and name == "location"
            drop = float((true_fall if by_truth else fall)[own].mean())
            if name == "location":
                self._log += list(zip(fall[own].tolist(), true_fall[own].tolist(), strict=True))
            if control and math.isfinite(drop):
                target, gain = self.target[name], self.options.gain
                found = update_alpha(self.alpha[name], drop=drop, effect_size=target, gain=gain)
                self.alpha[name] = min(found, HIGHEST_ALPHA)

    def close_entry(self) -> None:
        """Means since the last entry, kept with the history."""
        predicted, true = np.array(self._log or [(0.0, 0.0)]).T
        entry = {
            "alpha": self.alpha["location"], "predicted_drop": predicted.mean(), "true_drop": true.mean(),
            "product_of_drops": (predicted * true).mean(), "squared_predicted_drop": (predicted**2).mean(),
            "length": np.mean(self._lengths or [0.0]), "vanished": self.vanished, "dropped": self.dropped,
        }  # fmt: skip
        if "concentration" in self.alpha:
            entry["alpha_concentration"] = self.alpha["concentration"]
        self.entries.append({name: float(value) for name, value in entry.items()})
        self._log, self._lengths = [], []
