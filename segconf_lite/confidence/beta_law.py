"""The Beta distribution of a predicted quality, by its mean and concentration.

Quality lies in [0, 1], so its distribution does: Beta(m k, (1 - m) k) has mean m and variance
m (1 - m) / (k + 1). Ferrari & Cribari-Neto, "Beta regression for modelling rates and proportions" (2004). A
large concentration k says "I know", a small one "anything is possible".
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from segconf_lite.arrays import to_numpy

__all__ = ["beta_interval", "beta_nll", "bounded_concentration", "probability_below"]

LOWEST, HIGHEST = 0.5, 500.0  # of the concentration: flatter than uniform, and a spread of a few hundredths


def bounded_concentration(raw: Tensor) -> Tensor:
    """Concentration in (0.5, 500) from any number, rising with it; on a logarithmic scale.

    An unbounded one lets a few targets at 0 or 1 decide the whole training.
    """
    low, high = np.log(LOWEST), np.log(HIGHEST)
    return (low + (high - low) * raw.sigmoid()).exp()


def beta_nll(
    mean: Tensor, concentration: Tensor, target: Tensor, *, margin: float = 1e-3, damping: float = 0.0
) -> Tensor:
    """Negative log-likelihood of each target, in nat; may be negative, lower is better.

    Args:
        mean: in (0, 1).
        concentration: > 0, same shape.
        target: in [0, 1], same shape; NaN gives 0, so that undefined qualities do not count.
        margin: targets, and means, are kept this far from 0 and 1, where the density may be infinite.
        damping: each term is weighted by its concentration to the power of minus this, without gradient: 1
            keeps sure cases from ruling the first steps, 0 is the likelihood (after Seitzer et al. 2022).

    Raises:
        ValueError: If the shapes differ, or margin or damping is out of its range.
    """
    if not mean.shape == concentration.shape == target.shape:
        raise ValueError(
            f"expected one shape, got {tuple(mean.shape)}, {tuple(concentration.shape)} and "
            f"{tuple(target.shape)}"
        )
    if not (0 < margin < 0.5 and 0 <= damping <= 1):
        raise ValueError(f"expected 0 < margin < 0.5 and 0 <= damping <= 1, got {margin} and {damping}")
    defined = target.isfinite()
    inside = target.nan_to_num(0.5).clamp(margin, 1 - margin)
    first = mean.clamp(margin, 1 - margin) * concentration
    second = concentration - first
    log_density = (
        torch.lgamma(concentration) - torch.lgamma(first) - torch.lgamma(second)
        + (first - 1) * inside.log() + (second - 1) * torch.log1p(-inside)
    )  # fmt: skip
    weight = concentration.detach() ** -damping
    return torch.where(defined, -weight * log_density, 0.0)


def probability_below(mean: Tensor, concentration: Tensor, threshold: float) -> Tensor:
    """Probability that the quality lies below the threshold, in [0, 1]; higher = trust less.

    Raises:
        ValueError: If the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    return torch.as_tensor(stats.beta.cdf(threshold, *_parameters(mean, concentration)))


def beta_interval(mean: Tensor, concentration: Tensor, *, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Ends of the central interval that holds the quality with probability `level`.

    Raises:
        ValueError: If the level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    first, second = _parameters(mean, concentration)
    tail = (1 - level) / 2
    low, high = (torch.as_tensor(stats.beta.ppf(q, first, second)) for q in (tail, 1 - tail))
    return low, high


def _parameters(mean: Tensor, concentration: Tensor) -> tuple[np.ndarray, np.ndarray]:
    m, k = (to_numpy(value, np.float64) for value in (mean, concentration))
    return m * k, (1 - m) * k
