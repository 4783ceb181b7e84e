"""What the numbers of a quality network mean: a quality, or the Beta distribution of one.

Quality lies in [0, 1], and so does its distribution: Beta(m k, (1 - m) k) has mean m and variance
m (1 - m) / (k + 1), where k is the concentration (Ferrari & Cribari-Neto, "Beta regression for modelling
rates and proportions", 2004). A large concentration k says "I know", a small one "anything is possible".

Shape letters: B cases, K outputs (the mean quality, then one per foreground class).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from segconf_lite import check
from segconf_lite.arrays import to_numpy

# Bounds of the concentration: flatter than uniform, and a standard deviation of a few hundredths.
LOWEST, HIGHEST = 0.5, 500.0
CLASS_WEIGHT = 0.1  # of one class beside the mean, in the likelihood (the follow-up of 2026, by its code)
DAMPED_FRACTION = 0.7  # of the training; afterwards the plain likelihood


class Head(Protocol):
    """How a quality network's numbers are read."""

    def n_numbers(self, n_qualities: int) -> int:
        """How many numbers the network must give for K qualities."""

    def mean(self, raw: Tensor) -> Tensor:
        """(B, K) predicted qualities."""

    def loss(self, raw: Tensor, target: Tensor, *, progress: float) -> Tensor:
        """Scalar, lower is better; `target` (B, K) with NaN where undefined, progress in [0, 1]."""

    def attacked(self, *, gradient_of: str) -> dict[str, Callable[[Tensor], Tensor]]:
        """What an adversary may lower, by name: raw numbers -> (B,)."""


class PointHead:
    """K qualities with mean squared error, as published in 2025.

    Example:
        >>> target = torch.tensor([[1.0, float("nan")]])
        >>> float(PointHead().loss(torch.tensor([[0.5, 0.9]]), target, progress=0.0))
        0.25
    """

    def n_numbers(self, n_qualities: int) -> int:
        """K."""
        return n_qualities

    def mean(self, raw: Tensor) -> Tensor:
        """The numbers themselves."""
        return raw

    def loss(self, raw: Tensor, target: Tensor, *, progress: float) -> Tensor:
        """Mean squared error over the defined qualities, 0 if there is none; progress does not matter."""
        defined = target.isfinite()
        error = torch.where(defined, raw - target.nan_to_num(), 0.0)
        return error.square().sum() / defined.sum().clamp(min=1)

    def attacked(self, *, gradient_of: str) -> dict[str, Callable[[Tensor], Tensor]]:
        """The mean quality, or with ``"all"`` the mean of the classes' own outputs."""
        if gradient_of == "all":
            return {"location": lambda raw: raw[:, 1:].mean(dim=1)}
        return {"location": lambda raw: raw[:, 0]}


class BetaHead:
    """Means, then concentrations, of K Beta distributions, with the likelihood published in 2026.

    Three things differ from the publication: the concentration is bounded, targets keep a margin from 0 and
    1, and undefined classes do not count, because one class that is absent would otherwise outweigh a whole
    batch.

    Example:
        >>> float(BetaHead().mean(torch.zeros(1, 2)))
        0.5
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

    def loss(self, raw: Tensor, target: Tensor, *, progress: float) -> Tensor:
        """Mean negative log-likelihood of the mean quality, plus a tenth of that of each class."""
        damping = max(0.0, 1 - progress / DAMPED_FRACTION)
        terms = beta_nll(self.mean(raw), self.concentration(raw), target, damping=damping)
        per_output = terms.sum(dim=0) / target.isfinite().sum(dim=0).clamp(min=1)
        return per_output[0] + CLASS_WEIGHT * per_output[1:].sum()

    def attacked(self, *, gradient_of: str) -> dict[str, Callable[[Tensor], Tensor]]:
        """The mean quality, and the logarithm of its concentration.

        Both are *lowered*. (The published code raises the concentration while its controller waits for a
        fall, so that its step only ever grows.)
        """
        means = PointHead().attacked(gradient_of=gradient_of)["location"]
        return {
            "location": lambda raw: means(self.mean(raw)),
            "concentration": lambda raw: self.concentration(raw)[:, 0].log(),
        }


HEADS: dict[str, Head] = {"point": PointHead(), "beta": BetaHead()}


def bounded_concentration(raw: Tensor) -> Tensor:
    """Concentration in (0.5, 500) from any number, rising with it, on a logarithmic scale.

    An unbounded one lets a few targets at 0 or 1 decide the whole training.

    Example:
        >>> round(float(bounded_concentration(torch.tensor(0.0))), 2)
        15.81
    """
    low, high = np.log(LOWEST), np.log(HIGHEST)
    return (low + (high - low) * raw.sigmoid()).exp()


def beta_nll(
    mean: Tensor, concentration: Tensor, target: Tensor, *, margin: float = 1e-3, damping: float = 0.0
) -> Tensor:
    r"""Negative log-likelihood of each target under a Beta distribution, in nats; lower is better.

    .. math:: -\log \mathrm{Beta}(t; m k, (1 - m) k)

    Args:
        mean: Means m in (0, 1).
        concentration: Concentrations k > 0, same shape.
        target: Targets t in [0, 1], same shape; NaN gives 0, so that undefined qualities do not count.
        margin: Distance from 0 and 1 that targets and means keep, in (0, 0.5); the density may be infinite
            there.
        damping: Exponent in [0, 1]. Each term is weighted by its concentration to the power of minus this,
            without
            gradient: 1 keeps sure cases from ruling the first steps, 0 is the likelihood (after Seitzer et
                al.
            2022).

    Returns:
        Tensor of the same shape; values may be negative.

    Raises:
        ValueError: If the shapes differ, or margin or damping is out of its range.

    Example:
        >>> half, two = torch.tensor([0.5]), torch.tensor([2.0])  # the uniform distribution
        >>> abs(round(float(beta_nll(half, two, torch.tensor([0.3]))), 4))
        0.0
    """
    if not mean.shape == concentration.shape == target.shape:
        got = f"{tuple(mean.shape)}, {tuple(concentration.shape)}, {tuple(target.shape)}"
        raise check.refuse("mean, concentration and target", "of one shape", got)
    check.number("margin", margin, low=0, high=0.5, open_low=True, open_high=True)
    check.between("damping", damping)
    defined = target.isfinite()
    inside = target.nan_to_num(0.5).clamp(margin, 1 - margin)
    first = mean.clamp(margin, 1 - margin) * concentration
    second = concentration - first
    log_beta = torch.lgamma(concentration) - torch.lgamma(first) - torch.lgamma(second)
    log_density = log_beta + (first - 1) * inside.log() + (second - 1) * torch.log1p(-inside)
    weight = concentration.detach() ** -damping
    return torch.where(defined, -weight * log_density, 0.0)


def probability_below(mean: Tensor, concentration: Tensor, threshold: float) -> Tensor:
    """Probability that the quality lies below a threshold, in [0, 1]; higher = trust less.

    Args:
        mean: Means in (0, 1).
        concentration: Concentrations > 0, same shape.
        threshold: Quality in [0, 1].

    Raises:
        ValueError: If the threshold is not in [0, 1].

    Example:
        >>> round(float(probability_below(torch.tensor(0.5), torch.tensor(2.0), 0.25)), 3)
        0.25
    """
    check.between("threshold", threshold)
    return torch.as_tensor(stats.beta.cdf(threshold, *_parameters(mean, concentration)))


def beta_interval(mean: Tensor, concentration: Tensor, *, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Ends of the central interval that holds the quality with a given probability.

    Args:
        mean: Means in (0, 1).
        concentration: Concentrations > 0, same shape.
        level: Probability in (0, 1).

    Raises:
        ValueError: If the level is not in (0, 1).

    Example:
        >>> low, high = beta_interval(torch.tensor(0.5), torch.tensor(2.0), level=0.8)
        >>> round(float(low), 3), round(float(high), 3)
        (0.1, 0.9)
    """
    check.number("level", level, low=0, high=1, open_low=True, open_high=True)
    first, second = _parameters(mean, concentration)
    tail = (1 - level) / 2
    low, high = (torch.as_tensor(stats.beta.ppf(q, first, second)) for q in (tail, 1 - tail))
    return low, high


def _parameters(mean: Tensor, concentration: Tensor) -> tuple[np.ndarray, np.ndarray]:
    m, k = (to_numpy(value, np.float64) for value in (mean, concentration))
    return m * k, (1 - m) * k
