"""What the numbers of a quality network mean: a quality, or the Beta distribution of one.

Shape letters: B cases, K outputs (the mean quality, then one per foreground class).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from segconf_lite.confidence.beta_law import beta_nll, bounded_concentration
from segconf_lite.confidence.predictor_inputs import masked_loss

__all__ = ["HEADS", "BetaHead", "Head", "PointHead"]

CLASS_WEIGHT = 0.1  # of one class beside the mean, in the likelihood (Lennartz & Schultz 2026)
DAMPED_SHARE = 0.7  # of the training; afterwards the plain likelihood


class Head(Protocol):
    """How a quality network's numbers are read."""

    def n_numbers(self, n_qualities: int) -> int:
        """How many the network must give for K qualities."""

    def mean(self, raw: Tensor) -> Tensor:
        """(B, K) predicted qualities."""

    def loss(self, raw: Tensor, wanted: Tensor, *, progress: float) -> Tensor:
        """Scalar, lower is better; `wanted` (B, K) with NaN where undefined, progress in [0, 1]."""

    def attacked(self, *, gradient_of: str) -> dict[str, Callable[[Tensor], Tensor]]:
        """What an adversary may lower, by name: raw numbers -> (B,)."""


class PointHead:
    """K qualities, mean squared error, as published in 2025."""

    def n_numbers(self, n_qualities: int) -> int:
        """K."""
        return n_qualities

    def mean(self, raw: Tensor) -> Tensor:
        """The numbers themselves."""
        return raw

    def loss(self, raw: Tensor, wanted: Tensor, *, progress: float) -> Tensor:
        """Mean squared error over the defined qualities; progress does not matter."""
        return masked_loss(raw, wanted)

    def attacked(self, *, gradient_of: str) -> dict[str, Callable[[Tensor], Tensor]]:
        """The mean quality, or with ``"all"`` the mean of the classes' own outputs."""
        if gradient_of == "all":
            return {"location": lambda raw: raw[:, 1:].mean(dim=1)}
        return {"location": lambda raw: raw[:, 0]}


class BetaHead:
    """Means, then concentrations, of K Beta distributions; likelihood, as published in 2026.

    Differences: the concentration is bounded, targets keep a margin from 0 and 1, and undefined classes do
    not count, since one class that is absent would otherwise outweigh a whole batch.
    """

    def n_numbers(self, n_qualities: int) -> int:
        """2 K."""
        return 2 * n_qualities

    def mean(self, raw: Tensor) -> Tensor:
        """In (0, 1)."""
        return raw.chunk(2, dim=1)[0].sigmoid()

    def concentration(self, raw: Tensor) -> Tensor:
        """(B, K), see `bounded_concentration`."""
        return bounded_concentration(raw.chunk(2, dim=1)[1])

    def loss(self, raw: Tensor, wanted: Tensor, *, progress: float) -> Tensor:
        """Mean negative log-likelihood of the mean quality, plus a tenth of that of each class."""
        damping = max(0.0, 1 - progress / DAMPED_SHARE)
        terms = beta_nll(self.mean(raw), self.concentration(raw), wanted, damping=damping)
        per_output = terms.sum(dim=0) / wanted.isfinite().sum(dim=0).clamp(min=1)
        return per_output[0] + CLASS_WEIGHT * per_output[1:].sum()

    def attacked(self, *, gradient_of: str) -> dict[str, Callable[[Tensor], Tensor]]:
        """The mean quality, and the logarithm of its concentration: where is it less sure than it seems?

        Both are *lowered*. (The published code raises the concentration while its controller waits for a
        fall, so that its step only ever grows.)
        """
        means = PointHead().attacked(gradient_of=gradient_of)["location"]
        return {
            "location": lambda raw: means(self.mean(raw)),
            "concentration": lambda raw: self.concentration(raw)[:, 0].log(),
        }


HEADS: dict[str, Head] = {"point": PointHead(), "beta": BetaHead()}
