"""Whether uncertainty and risk rise together, case by case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.intervals import Interval, bootstrap_interval

__all__ = ["linear_correlation", "rank_correlation", "rank_correlation_difference", "variance_explained"]


def rank_correlation(
    risk: Any, uncertainty: Any, *, subjects: Any = None, domains: Any = None,
    level: float = 0.95, n_resamples: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Spearman's correlation of uncertainty and risk.

    Args:
        risk: (n_cases,) loss per case, e.g. 1 - Dice.
        uncertainty: (n_cases,) higher = trusted less; any scale, only its order counts.
        subjects: (n_cases,) for the interval, which draws whole subjects; None = no interval.
        domains: (n_cases,) if given, the *partial* correlation: ranks are compared within each
            domain only, so that "the far scanner is worse" does not count.
        level: probability the interval aims at.
        n_resamples: bootstrap draws.
        seed: equal seeds draw equal subjects, so differences between methods are paired.

    Returns:
        Estimate in [-1, 1], 1 = riskier cases always have the higher uncertainty; and its ends.

    Raises:
        ValueError: If shapes differ, a value is not finite, or one side is constant (then no
            correlation is defined).
    """
    return _interval(_spearman, risk, uncertainty, subjects, domains, level, n_resamples, seed)


def linear_correlation(
    risk: Any, uncertainty: Any, *, subjects: Any = None, domains: Any = None,
    level: float = 0.95, n_resamples: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Pearson's correlation; arguments, returns and errors as in `rank_correlation`.

    For comparison with papers that used it: one extreme case can carry it.
    """
    return _interval(_pearson, risk, uncertainty, subjects, domains, level, n_resamples, seed)


def rank_correlation_difference(
    risk: Any, first_uncertainty: Any, second_uncertainty: Any, *, subjects: Any,
    level: float = 0.95, n_resamples: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Spearman of the first method minus that of the second, on the same draws of subjects.

    Two methods judge the same cases, so their errors move together: the interval of the
    difference is far narrower than the two intervals suggest. Errors as in `rank_correlation`.
    """
    risks, first = _checked(risk, first_uncertainty)
    _, second = _checked(risk, second_uncertainty)
    difference = lambda r, a, b: _spearman(r, a) - _spearman(r, b)  # noqa: E731
    together = lambda n: _drawn_spearman(risks, first, n) - _drawn_spearman(risks, second, n)  # noqa: E731
    return bootstrap_interval(
        difference, subjects, risks, first, second, level=level, n_resamples=n_resamples, seed=seed,
        at_once=together,
    )  # fmt: skip


def _interval(
    correlate: Callable[..., float], risk: Any, uncertainty: Any, subjects: Any, domains: Any,
    level: float, n_resamples: int, seed: int,
) -> Interval:  # fmt: skip
    risks, order = _checked(risk, uncertainty)
    columns = [risks, order]
    statistic = correlate
    if domains is not None:
        groups = np.unique(to_numpy(domains), return_inverse=True)[1]
        if groups.shape != risks.shape:
            raise ValueError(f"domains must have shape {risks.shape}, got {groups.shape}")
        columns.append(groups)
        statistic = lambda r, u, g: _within(correlate, r, u, g)  # noqa: E731
    if subjects is None:
        return Interval(float(statistic(*columns)), float("nan"), float("nan"))
    together = (lambda counts: _drawn_spearman(risks, order, counts)) if statistic is _spearman else None
    return bootstrap_interval(
        statistic, subjects, *columns, level=level, n_resamples=n_resamples, seed=seed, at_once=together
    )


def _checked(risk: Any, uncertainty: Any) -> tuple[np.ndarray, np.ndarray]:
    risks, order = to_numpy(risk, dtype=np.float64), to_numpy(uncertainty, dtype=np.float64)
    if risks.ndim != 1 or risks.shape != order.shape or risks.size < 2:
        raise ValueError(
            "risk and uncertainty must share one shape (n_cases,) of at least 2 cases, got "
            f"{risks.shape} and {order.shape}"
        )
    for name, values in (("risk", risks), ("uncertainty", order)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} has {np.count_nonzero(~np.isfinite(values))} non-finite values; drop them"
            )
        if np.ptp(values) == 0:
            raise ValueError(f"{name} is the same for all {values.size} cases: no correlation is defined")
    return risks, order


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")  # a draw may hold one value only


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return _pearson(stats.rankdata(a), stats.rankdata(b))


def _drawn_spearman(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(draws,) `_spearman` of each draw; counts (draws, n), how often each case is in it."""
    found = []
    for part in np.array_split(counts, max(1, counts.size // 1_000_000)):  # bounds the memory
        left, right = (_drawn_ranks(values, part) for values in (a, b))
        scale = np.sqrt((part * left * left).sum(axis=1) * (part * right * right).sum(axis=1))
        with np.errstate(invalid="ignore"):  # 0 / 0: a draw may hold one value only
            found.append((part * left * right).sum(axis=1) / scale)
    return np.concatenate(found)


def _drawn_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(draws, n) rank of each case among those drawn, less the mean rank."""
    by_value = np.argsort(values, kind="stable")
    _, first, group = np.unique(values[by_value], return_index=True, return_inverse=True)
    size = np.add.reduceat(counts[:, by_value], first, axis=1)  # of each tie in each draw
    middle = size.cumsum(axis=1) - (size - 1) / 2 - (size.sum(axis=1, keepdims=True) + 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, by_value] = middle[:, group]
    return ranks


def _within(correlate: Callable[..., float], a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> float:
    """Correlation after the mean of each group is taken off (ranks are taken within each)."""
    rank = stats.rankdata if correlate is _spearman else np.asarray
    left, right = np.zeros(len(a)), np.zeros(len(b))
    for group in np.unique(groups):
        cases = groups == group
        left[cases], right[cases] = (_centred(rank(x[cases])) for x in (a, b))
    return _pearson(left, right)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def variance_explained(outcome: Any, factor_levels: Any) -> float:
    """Share of an outcome's variance that lies between the levels of a factor (eta squared).

    Sum of squares between the group means over the total sum of squares, every row counted once. It rises
    with the number of levels by chance alone: its mean over shuffled rows is (levels - 1) / (rows - 1).

    Args:
        outcome: (n_rows,) finite, any unit.
        factor_levels: (n_rows,) the level of each row; numbers count as names.

    Returns:
        Share in [0, 1]; NaN if the outcome never varies.

    Raises:
        ValueError: If shapes differ or an outcome is not finite.
    """
    values, levels = to_numpy(outcome, dtype=np.float64), to_numpy(factor_levels)
    if values.ndim != 1 or values.shape != levels.shape or values.size == 0:
        raise ValueError(
            "outcome and factor_levels must share one non-empty shape (n_rows,), "
            f"got {values.shape} and {levels.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"outcome must be finite, got {np.count_nonzero(~np.isfinite(values))} values that are not"
        )
    codes, _ = pd.factorize(levels, use_na_sentinel=False)
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    return float(np.var(means[codes]) / np.var(values)) if np.ptp(values) else float("nan")
