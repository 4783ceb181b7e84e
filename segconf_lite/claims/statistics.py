"""The statistics that a claim may be about: each turns columns of the cases of one seed into one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from segconf_lite.evaluation import excess_aurc, rank_correlation, variance_explained

GAP_BINS = 5  # number of confidence bins of a pooled calibration error


def _rank(risk: np.ndarray, uncertainty: np.ndarray) -> float:
    """Spearman correlation; 0 where one side is constant, because a constant uncertainty ranks nothing."""
    if np.ptp(risk) == 0 or np.ptp(uncertainty) == 0:
        return 0.0
    return rank_correlation(risk, uncertainty).estimate


def _pooled_ece(*gaps: np.ndarray) -> float:
    """ECE over all cases, from each case's sum of (accuracy - confidence) per bin, over its pixels."""
    return float(np.abs(np.mean(gaps, axis=1)).sum())


def _rank_of_means(group: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Spearman over groups, e.g. networks, of the mean of one column with the mean of another."""
    _, group_of_case = np.unique(group, return_inverse=True)
    counts = np.bincount(group_of_case)
    return _rank(np.bincount(group_of_case, second) / counts, np.bincount(group_of_case, first) / counts)


# name -> (statistic of the cases of one seed, the columns it takes, in order); a claim's column that
# ends in " *" stands for `GAP_BINS` columns, numbered from 0
STATISTICS: dict[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "mean": (lambda value: float(np.mean(value)), ("value",)),
    "ratio_of_means": (lambda a, b: float(np.mean(a) / np.mean(b)), ("numerator", "denominator")),
    "mean_difference": (lambda a, b: float(np.mean(a) - np.mean(b)), ("first", "second")),
    "rank_correlation": (_rank, ("risk", "uncertainty")),
    "rank_correlation_difference": (lambda r, a, b: _rank(r, a) - _rank(r, b), ("risk", "first", "second")),
    "excess_aurc_difference": (
        lambda r, a, b: excess_aurc(r, a) - excess_aurc(r, b),
        ("risk", "first", "second"),
    ),
    "rank_correlation_of_means": (_rank_of_means, ("group", "first", "second")),
    "explained_difference": (
        lambda outcome, a, b: variance_explained(outcome, a) - variance_explained(outcome, b),
        ("outcome", "first", "second"),
    ),
    "pooled_ece_difference": (
        lambda *gaps: _pooled_ece(*gaps[:GAP_BINS]) - _pooled_ece(*gaps[GAP_BINS:]),
        ("first", "second"),
    ),
}


def columns_of(statistic: str, columns: Mapping[str, str]) -> list[str]:
    """The columns of a table of cases that a statistic takes, in its order, with stars expanded.

    Args:
        statistic: A key of `STATISTICS`.
        columns: Name of each argument of the statistic -> column of the table of cases.

    Example:
        >>> columns_of("mean_difference", {"first": "dropout", "second": "entropy"})
        ['dropout', 'entropy']
    """
    names = [columns[name] for name in STATISTICS[statistic][1]]
    return [n.replace("*", str(k)) for n in names for k in range(GAP_BINS if n.endswith(" *") else 1)]
