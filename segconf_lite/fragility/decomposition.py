"""How much each of several answers counts, and which part of their doubt is between them.

Schweighofer et al., "Quantification of Uncertainty with Adversarial Models" (QUAM, NeurIPS 2023), and its
use for segmentation, QUAM-SM. Shape letters: S samples (answers), B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Decomposition", "decompose", "effective_sample_size", "posterior_weights"]

SETTINGS = ("a", "b")
# Inside logarithms only: a class of probability 0 costs at most -log(1e-8) = 18.4 nats, not infinitely many.
SMALLEST = 1e-8


class Decomposition(NamedTuple):
    """Total = aleatoric + epistemic; each (B, H, W) in nats, higher = more uncertain."""

    total: Tensor
    aleatoric: Tensor  # the doubt that an answer itself has
    epistemic: Tensor  # the doubt between answers, >= 0


def posterior_weights(rises: Tensor, *, temperature: float) -> Tensor:
    """How much each model counts: softmax over S of -rise / temperature.

    Args:
        rises: (S,) or (S, B) by how much each model's training loss is above that of the reference; the
            models that learned worst weigh least.
        temperature: in the unit of the rises, > 0; high = all weigh alike, low = only the best counts.

    Returns:
        Weights of the same shape, summing to 1 over S.

    Raises:
        ValueError: If the temperature is not positive and finite, or a rise is not finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature must be finite and > 0, got {temperature}; it has the unit of the rises, "
            "so take about the rise at which a model should count e times less"
        )
    if not torch.isfinite(rises).all():
        raise ValueError(f"rises must be finite, got {rises.tolist()}; leave out models that diverged")
    return (-rises.cpu() / temperature).softmax(dim=0)


def effective_sample_size(weights: Tensor) -> Tensor:
    """1 / sum of squared weights: how many equal samples would vary as little.

    Args:
        weights: (S,) or (S, B), summing to 1 over S.

    Returns:
        () or (B,) in [1, S]; S = all count alike, 1 = a single one counts.
    """
    return 1 / weights.cpu().square().sum(dim=0)


def decompose(
    samples: Tensor, *, weights: Tensor | None = None, reference: Tensor | None = None, setting: str = "a"
) -> Decomposition:
    """The doubt of several answers, divided in two.

    Setting (a), the answers are all there is: total = entropy of the mean answer; aleatoric = mean of the
    answers' entropies; epistemic = the difference (mutual information, at most log S). Setting (b), one
    answer is the one in use: total = mean cross-entropy CE(reference, answer); aleatoric = entropy of
    the reference; epistemic = mean KL(reference || answer). In (a) a search for other answers also moves the
    aleatoric part, in (b) it cannot. Logarithms are taken of probabilities clamped to >= 1e-8.

    Args:
        samples: (S, B, C, H, W) class probabilities.
        weights: (S,) or (S, B), >= 0, summing to 1 over S; None = all alike.
        reference: (B, C, H, W) class probabilities of the model in use; needed in (b), not read in (a).
        setting: ``"a"`` or ``"b"``.

    Returns:
        Three maps on the CPU in the dtype of the samples, computed in double precision.

    Raises:
        ValueError: If a shape, the weights or the setting is not as above.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {SETTINGS}, got {setting!r}")
    if samples.ndim != 5 or len(samples) == 0:
        raise ValueError(f"samples must be non-empty (S, B, C, H, W), got {tuple(samples.shape)}")
    samples, weights = samples.cpu(), None if weights is None else weights.cpu()
    answers, weighted = samples.double(), _mean_over(samples, weights)
    if setting == "a":
        total, aleatoric = _cross_entropy(weighted(answers)), weighted(_cross_entropy(answers))
        epistemic = (total - aleatoric).clamp(min=0)  # rounding may give -1e-16
    else:
        if reference is None or reference.shape != samples.shape[1:]:
            raise ValueError(
                f"setting 'b' needs the reference answer of shape {tuple(samples.shape[1:])}, got "
                f"{None if reference is None else tuple(reference.shape)}; setting 'a' needs none"
            )
        own = reference.cpu().double()
        total, aleatoric = weighted(_cross_entropy(own, answers)), _cross_entropy(own)
        apart = own * (own.clamp(min=SMALLEST).log() - answers.clamp(min=SMALLEST).log())
        epistemic = weighted(apart.sum(dim=-3)).clamp(min=0)  # clamped sums exceed 1 by up to C * 1e-8
    return Decomposition(*(part.to(samples.dtype) for part in (total, aleatoric, epistemic)))


def _cross_entropy(true: Tensor, told: Tensor | None = None) -> Tensor:
    """(..., H, W) nats; of the first with itself, its entropy, if there is no second."""
    return -torch.xlogy(true, (true if told is None else told).clamp(min=SMALLEST)).sum(dim=-3)


def _mean_over(samples: Tensor, weights: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The weighted mean over S of (S, B, ...)."""
    n_samples, n_cases = samples.shape[:2]
    if weights is None:
        weights = samples.new_full((n_samples,), 1 / n_samples)
    fits = weights.shape in ((n_samples,), (n_samples, n_cases))
    if not (
        fits and (weights >= 0).all() and torch.allclose(weights.sum(dim=0), weights.new_ones(()), atol=1e-4)
    ):
        raise ValueError(
            f"weights must be ({n_samples},) or ({n_samples}, {n_cases}), >= 0 and sum to 1 over S, "
            f"got shape {tuple(weights.shape)} with sums {weights.sum(dim=0).tolist()}; see posterior_weights"
        )
    each = weights.double().reshape(n_samples, -1)
    each = each / each.sum(dim=0)  # to the last digit, or equal samples would seem to disagree
    return lambda values: (values * each.reshape(*each.shape, *[1] * (values.ndim - 2))).sum(dim=0)
