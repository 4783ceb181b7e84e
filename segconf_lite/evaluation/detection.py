"""Whether an uncertainty tells foreign cases from familiar ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from segconf_lite.arrays import to_numpy

__all__ = ["auroc", "detection_rate", "detection_threshold"]


def detection_threshold(familiar_uncertainty: Any, *, pass_rate: float = 0.95) -> float:
    """The lowest threshold that lets at least the given share of familiar cases pass.

    Args:
        familiar_uncertainty: (n_cases,) of an in-domain validation set, higher = trusted less.
        pass_rate: share that must not be flagged, above 0 and at most 1.

    Returns:
        One of the given uncertainties; a case is flagged if it lies *above* it. With few cases
        the steps are coarse: of 6, the share passed is 1, not 0.95.
    """
    values = _checked("familiar_uncertainty", familiar_uncertainty)
    if not 0 < pass_rate <= 1:
        raise ValueError(f"pass_rate must lie above 0 and at most at 1, got {pass_rate}")
    return float(np.quantile(values, pass_rate, method="inverted_cdf"))


def detection_rate(familiar_uncertainty: Any, target_uncertainty: Any, *, pass_rate: float = 0.95) -> float:
    """Share of a target domain flagged at the threshold that passes 95 % of an in-domain set.

    Args:
        familiar_uncertainty: (n_cases,) of an in-domain validation set.
        target_uncertainty: (m_cases,) of the domain in question.
        pass_rate: share of the familiar cases that must pass.

    Returns:
        In [0, 1]; higher = more of the domain is flagged. Whether that is good depends on whether
        its cases are bad.

    Raises:
        ValueError: If an array is empty or not finite, or the rate is out of range.
    """
    threshold = detection_threshold(familiar_uncertainty, pass_rate=pass_rate)
    return float((_checked("target_uncertainty", target_uncertainty) > threshold).mean())


def auroc(familiar_uncertainty: Any, target_uncertainty: Any) -> float:
    """Probability that a target case is more uncertain than a familiar one; ties count half.

    Args:
        familiar_uncertainty: (n_cases,) in-domain.
        target_uncertainty: (m_cases,) of the domain in question.

    Returns:
        In [0, 1]; 0.5 = cannot tell them apart. The area under the ROC curve (Hanley & McNeil 1982).

    Raises:
        ValueError: If an array is empty or not finite.
    """
    familiar = _checked("familiar_uncertainty", familiar_uncertainty)
    target = _checked("target_uncertainty", target_uncertainty)
    return float(stats.mannwhitneyu(target, familiar).statistic / (target.size * familiar.size))


def _checked(name: str, values: Any) -> np.ndarray:
    array = to_numpy(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be non-empty (n_cases,), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has {np.count_nonzero(~np.isfinite(array))} non-finite values; drop them")
    return array
