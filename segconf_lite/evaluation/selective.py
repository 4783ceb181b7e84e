"""What is left when the least trusted cases are handed to a person: risk against coverage.

Cases are kept from most to least trusted. Cases with equal uncertainty cannot be told apart, so
they share their mean risk: the order in which they were stored never matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.intervals import Interval, bootstrap_interval

__all__ = ["augrc", "aurc", "excess_aurc", "excess_aurc_interval", "risk_at_coverage", "risk_coverage"]


def risk_coverage(risk: Any, uncertainty: Any) -> pd.DataFrame:
    """Mean risk of the k most trusted cases, for every k.

    Args:
        risk: (n_cases,) loss per case, lower is better; e.g. 1 - Dice.
        uncertainty: (n_cases,) orders the cases, higher = trusted less. Any scale.

    Returns:
        n_cases rows: coverage (k / n), selective_risk (mean over the k kept), generalised_risk
        (their sum over n: the share of all risk that passes unseen; Traub et al., NeurIPS 2024).

    Raises:
        ValueError: If shapes differ, nothing is there, or a value is not finite.
    """
    risks, order = _checked(risk, uncertainty)
    kept_risk = _tie_averaged(risks, order).cumsum()
    n_kept = np.arange(1, risks.size + 1)
    return pd.DataFrame(
        {
            "coverage": n_kept / risks.size,
            "selective_risk": kept_risk / n_kept,
            "generalised_risk": kept_risk / risks.size,
        }
    )


def aurc(risk: Any, uncertainty: Any) -> float:
    """Area under the risk-coverage curve: the mean over k of the mean risk of the k most trusted.

    Arguments and errors as in `risk_coverage`. Lower is better; a constant uncertainty gives the
    mean risk. Geifman & El-Yaniv, NeurIPS 2017, with ties shared.
    """
    risks, order = _checked(risk, uncertainty)
    return _mean_of_prefix_means(_tie_averaged(risks, order))


def excess_aurc(risk: Any, uncertainty: Any) -> float:
    """AURC in excess of that of the best possible order.

    Arguments and errors as in `risk_coverage`.

    Returns:
        In units of ``risk``; >= 0, and 0 if the uncertainty orders cases by their risk. A constant
        uncertainty gives the mean risk minus the best order's AURC.
    """
    risks, order = _checked(risk, uncertainty)
    best = _mean_of_prefix_means(np.sort(risks))
    return max(_mean_of_prefix_means(_tie_averaged(risks, order)) - best, 0.0)  # rounding may give -1e-17


def augrc(risk: Any, uncertainty: Any) -> float:
    """Area under the generalised risk-coverage curve: risk that passes unseen, over all coverages.

    Arguments and errors as in `risk_coverage`. Lower is better; a constant uncertainty gives about
    half the mean risk. Traub et al., "Overcoming common flaws in the evaluation of selective
    classification systems", NeurIPS 2024; here as a mean over k, with ties shared.
    """
    risks, order = _checked(risk, uncertainty)
    return float(_tie_averaged(risks, order).cumsum().mean() / risks.size)


def risk_at_coverage(risk: Any, uncertainty: Any, coverage: float) -> float:
    """Mean risk when the given share of cases, the most trusted, is kept.

    Args:
        risk, uncertainty: as in `risk_coverage`.
        coverage: share kept, above 0 and at most 1; the number of cases is rounded up.

    Raises:
        ValueError: As `risk_coverage`, or if the coverage is out of range.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie above 0 and at most at 1, got {coverage}")
    risks, order = _checked(risk, uncertainty)
    n_kept = int(np.ceil(coverage * risks.size - 1e-9))
    return float(_tie_averaged(risks, order)[:n_kept].mean())


def excess_aurc_interval(
    risk: Any, uncertainty: Any, subjects: Any, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """`excess_aurc` with a bootstrap interval over subjects; see `bootstrap_interval`."""
    risks, order = _checked(risk, uncertainty)
    return bootstrap_interval(
        excess_aurc, subjects, risks, order, level=level, n_resamples=n_resamples, seed=seed
    )


def _checked(risk: Any, uncertainty: Any) -> tuple[np.ndarray, np.ndarray]:
    risks, order = to_numpy(risk, dtype=np.float64), to_numpy(uncertainty, dtype=np.float64)
    if risks.ndim != 1 or risks.shape != order.shape or risks.size == 0:
        raise ValueError(
            "risk and uncertainty must share one non-empty shape (n_cases,), "
            f"got {risks.shape} and {order.shape}"
        )
    n_bad = [np.count_nonzero(~np.isfinite(x)) for x in (risks, order)]
    if any(n_bad):
        raise ValueError(
            f"risk has {n_bad[0]} and uncertainty {n_bad[1]} non-finite values; an empty reference "
            "gives a NaN Dice: leave those cases out, or define them with the empty policy"
        )
    return risks, order


def _tie_averaged(risks: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,) risks from most to least trusted, each replaced by the mean of its tie."""
    _, group, size = np.unique(order, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(group, weights=risks) / size, size)


def _mean_of_prefix_means(risks: np.ndarray) -> float:
    return float((risks.cumsum() / np.arange(1, risks.size + 1)).mean())
