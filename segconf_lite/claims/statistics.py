"""The statistics that a claim may be about: each turns columns of the cases of one seed into one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

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


class Statistic(NamedTuple):
    """A statistic of the cases of one seed.

    Attributes:
        of: The function from columns, each (n_cases,), to a number.
        columns: The columns that it takes, in order; a claim's column that ends in ``" *"`` stands for
            `GAP_BINS` columns, numbered from 0.
        words: What it is, with the claim's columns by name in braces.
        smallest_effect: Smallest distance from a line that is of interest, in units of the statistic. One
            value for the whole ledger; a "holds" below it is shown as negligible.
        low: Lowest possible value.
        high: Highest possible value.
        spans: Whether it lies between the lowest and highest value of a case (1), or is a difference of two
            that do (2); 0 if it is neither.

    Example:
        >>> STATISTICS["rank_correlation"].columns
        ('risk', 'uncertainty')
    """

    of: Callable[..., float]
    columns: tuple[str, ...]
    words: str
    smallest_effect: float
    low: float = -math.inf
    high: float = math.inf
    spans: int = 0

    def possible(self, between: Sequence[float] | None) -> tuple[float, float]:
        """Lowest and highest value that it can have.

        Args:
            between: Lowest and highest value of a case, or None if they are unknown.

        Example:
            >>> STATISTICS["mean_difference"].possible([0, 1])
            (-1.0, 1.0)
        """
        if between is None or not self.spans:
            return self.low, self.high
        low, high = map(float, between)
        return (low, high) if self.spans == 1 else (low - high, high - low)


#: Name of a statistic, as the register of claims writes it -> the statistic.
STATISTICS: dict[str, Statistic] = {
    "mean": Statistic(lambda value: float(np.mean(value)), ("value",), "mean of {value}", 0.01, spans=1),
    "ratio_of_means": Statistic(
        lambda a, b: float(np.mean(a) / np.mean(b)),
        ("numerator", "denominator"),
        "mean of {numerator} divided by mean of {denominator}",
        0.05,
    ),
    "mean_difference": Statistic(
        lambda a, b: float(np.mean(a) - np.mean(b)),
        ("first", "second"),
        "mean of {first} minus mean of {second}",
        0.01,
        spans=2,
    ),
    "rank_correlation": Statistic(
        _rank, ("risk", "uncertainty"), "Spearman correlation of {risk} with {uncertainty}", 0.05, -1, 1
    ),
    "rank_correlation_difference": Statistic(
        lambda r, a, b: _rank(r, a) - _rank(r, b),
        ("risk", "first", "second"),
        "Spearman correlation of {risk} with {first} minus that with {second}",
        0.05,
        -2,
        2,
    ),
    "excess_aurc_difference": Statistic(
        lambda r, a, b: excess_aurc(r, a) - excess_aurc(r, b),
        ("risk", "first", "second"),
        "eAURC of {first} minus that of {second}, with {risk} as the risk",
        0.001,
        -1,
        1,
    ),
    "rank_correlation_of_means": Statistic(
        _rank_of_means,
        ("group", "first", "second"),
        "Spearman correlation, over the values of {group}, of the mean of {first} with that of {second}",
        0.1,
        -1,
        1,
    ),
    "explained_difference": Statistic(
        lambda outcome, a, b: variance_explained(outcome, a) - variance_explained(outcome, b),
        ("outcome", "first", "second"),
        "fraction of the variance of {outcome} explained by {first} minus that explained by {second}",
        0.02,
        -1,
        1,
    ),
    "pooled_ece_difference": Statistic(
        lambda *gaps: _pooled_ece(*gaps[:GAP_BINS]) - _pooled_ece(*gaps[GAP_BINS:]),
        ("first", "second"),
        "ECE of {first} minus that of {second}, pooled over pixels",
        0.005,
        -1,
        1,
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
    names = [columns[name] for name in STATISTICS[statistic].columns]
    return [n.replace("*", str(k)) for n in names for k in range(GAP_BINS if n.endswith(" *") else 1)]
