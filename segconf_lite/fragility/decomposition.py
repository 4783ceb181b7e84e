"""Posterior weights of several models, and the decomposition of their uncertainty into two parts.

Schweighofer et al., "Quantification of Uncertainty with Adversarial Models" (QUAM, NeurIPS 2023), and its
use for segmentation, QUAM-SM. Shape letters: S samples (the predictions of S models), B cases, C classes,
H rows, W columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segconf_lite import check

# Inside logarithms only: a class of probability 0 costs at most -log(1e-8) = 18.4 nats, not infinitely many.
SMALLEST = 1e-8
# Largest distance of a sum of probabilities or weights from 1, so that those in bfloat16 are accepted.
SUM_TOLERANCE = 5e-3


class Decomposition(NamedTuple):
    """Total = aleatoric + epistemic uncertainty; each (B, H, W) in nats, higher = more uncertain.

    Example:
        >>> Decomposition(*torch.tensor([0.7, 0.5, 0.2])).epistemic
        tensor(0.2000)
    """

    total: Tensor
    aleatoric: Tensor  # the uncertainty within each prediction
    epistemic: Tensor  # the disagreement between predictions, >= 0


def posterior_weights(rises: Tensor | np.ndarray, *, temperature: float) -> Tensor:
    r"""Weight of each model in a mixture: softmax over S of -rise / temperature.

    .. math:: w_s = \exp(-r_s / T) / \sum_t \exp(-r_t / T)

    Args:
        rises: (S,) or (S, B) rise of each model's training loss above that of the reference. Models with the
            highest loss get the lowest weight.
        temperature: Temperature T in the unit of the rises, > 0. If it is high, all models weigh nearly the
            same; if it is low, only the best one counts.

    Returns:
        Weights of the same shape, summing to 1 over S.

    Raises:
        ValueError: If the temperature is not positive and finite, or a rise is not finite.

    Example:
        >>> posterior_weights(torch.tensor([0.0, 1.0]), temperature=1.0)
        tensor([0.7311, 0.2689])
    """
    fix = "it has the unit of the rises: try the rise at which a model should weigh e times less"
    temperature = check.number("temperature", temperature, low=0, open_low=True, fix=fix)
    values = _per_sample("rises", rises)
    scores = -values / temperature
    if not scores.isfinite().all():  # a tiny temperature: compared with the best model nothing overflows
        scores = ((values.amin(dim=0) - values).double() / temperature).to(values.dtype)
    return scores.softmax(dim=0)


def effective_sample_size(weights: Tensor | np.ndarray) -> Tensor:
    r"""Effective sample size of weighted samples (Kish), :math:`1 / \sum_s w_s^2`.

    Args:
        weights: (S,) or (S, B), >= 0, summing to 1 over S.

    Returns:
        () or (B,) in [1, S]; S = all samples weigh the same, 1 = a single one counts.

    Raises:
        ValueError: If the weights are not as above.

    Example:
        >>> effective_sample_size(torch.tensor([0.5, 0.5, 0.0]))
        tensor(2.)
    """
    return 1 / _checked_weights(weights).square().sum(dim=0)


def decompose(
    samples: Tensor | np.ndarray,
    *,
    weights: Tensor | np.ndarray | None = None,
    reference: Tensor | np.ndarray | None = None,
    setting: str = "a",
) -> Decomposition:
    r"""Decomposition of the uncertainty of several predictions into aleatoric and epistemic parts.

    With weights w and sampled probabilities p, setting (a) takes the samples for all there is:

    .. math:: H\Big[\sum_s w_s p_s\Big] = \sum_s w_s H[p_s] + I,

    total = aleatoric + epistemic; the mutual information I is at most log S. Setting (b) takes one prediction
    q, the reference, for the model in use:

    .. math:: \sum_s w_s CE(q, p_s) = H[q] + \sum_s w_s KL(q \| p_s).

    In (a) a search for other models also changes the aleatoric part, in (b) it cannot. Logarithms are taken
    of probabilities clamped to >= 1e-8.

    Args:
        samples: (S, B, C, H, W) class probabilities.
        weights: (S,) or (S, B), >= 0, summing to 1 over S; None weighs all samples equally.
        reference: (B, C, H, W) class probabilities of the model in use; needed in (b), not read in (a).
        setting: ``"a"`` or ``"b"``.

    Returns:
        Three maps on the CPU in float32, or in float64 if the samples are; computed in double precision.

    Raises:
        ValueError: If a shape, a probability, the weights or the setting is not as above.

    Example:
        Two predictions that are certain of different classes: all of the uncertainty, log 2, is epistemic.

        >>> samples = torch.eye(2)[:, None, :, None, None]  # (2, 1, 2, 1, 1)
        >>> [round(float(part), 3) for part in decompose(samples)]
        [0.693, 0.0, 0.693]
    """
    check.one_of("setting", setting, ("a", "b"))
    stack = check.array("samples", samples, "S B C H W")
    dtype, p = torch.float64 if stack.dtype == np.float64 else torch.float32, _probabilities("samples", stack)
    n_samples, n_cases = p.shape[:2]
    # The equal weights are rounded as the samples are, and divided by their sum in double precision.
    w = torch.full((n_samples,), 1 / n_samples, dtype=dtype) if weights is None else _checked_weights(weights)
    if len(w) != n_samples or w.shape[1:] not in ((), (n_cases,)):
        expected = f"({n_samples},) or ({n_samples}, {n_cases})"
        raise check.refuse("weights", expected, tuple(w.shape), "see posterior_weights")
    w = w.double().reshape(n_samples, -1, 1, 1)
    w = w / w.sum(dim=0)  # to the last digit, or equal samples would seem to disagree

    if setting == "a":
        mean = (w[..., None] * p).sum(dim=0)  # (B, C, H, W)
        total, aleatoric = _cross_entropy(mean, mean), (w * _cross_entropy(p, p)).sum(dim=0)  # (B, H, W)
        epistemic = (total - aleatoric).clamp(min=0)  # rounding may give -1e-16
    else:
        array = None if reference is None else check.array("reference", reference, "B C H W")
        if array is None or array.shape != p.shape[1:]:
            got, fix = None if array is None else array.shape, "setting 'a' needs none"
            raise check.refuse("reference", f"of shape {tuple(p.shape[1:])} in setting 'b'", got, fix)
        q = _probabilities("reference", array)
        total, aleatoric = (w * _cross_entropy(q, p)).sum(dim=0), _cross_entropy(q, q)
        divergence = q * (q.clamp(min=SMALLEST).log() - p.clamp(min=SMALLEST).log())
        # Clamped probabilities sum to more than 1, by up to C * 1e-8.
        epistemic = (w * divergence.sum(dim=-3)).sum(dim=0).clamp(min=0)
    return Decomposition(total.to(dtype), aleatoric.to(dtype), epistemic.to(dtype))


def _cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """(..., H, W) cross-entropy of q under p in nats; of p with itself, its entropy."""
    return -torch.xlogy(p, q.clamp(min=SMALLEST)).sum(dim=-3)


def _probabilities(name: str, values: np.ndarray) -> Tensor:
    """(..., C, H, W) checked probabilities in double precision."""
    flat = check.probabilities(values.reshape(-1, *values.shape[-3:]), name, tolerance=SUM_TOLERANCE)
    return torch.from_numpy(flat.astype(np.float64)).reshape(values.shape)


def _per_sample(name: str, values: Tensor | np.ndarray) -> Tensor:
    """(S,) or (S, B) checked finite numbers in float32 or float64, on the CPU."""
    array = check.finite(name, check.array(name, values, "S B" if np.ndim(values) == 2 else "S"))
    narrow = array.dtype in (np.float16, np.float32)
    return torch.from_numpy(array.astype(np.float32 if narrow else np.float64))


def _checked_weights(weights: Tensor | np.ndarray) -> Tensor:
    values = _per_sample("weights", weights)
    sums = values.sum(dim=0)
    if (values < 0).any() or ((sums - 1).abs() > SUM_TOLERANCE).any():
        fix = "see posterior_weights"
        raise check.refuse("weights", ">= 0 with sum 1 over S", f"sums {sums.tolist()}", fix)
    return values
