"""How sure a mean over cases is, when cases come in subjects.

Slices of one subject resemble each other, so an interval over slices is far too narrow; whole
subjects are drawn again instead (cluster bootstrap; Field & Welsh, J R Stat Soc B 69:369, 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Interval", "bootstrap_interval", "drawn_counts", "mean_interval", "nested_bootstrap_interval"]


class Interval(NamedTuple):
    """An estimate and the ends of its bootstrap interval (NaN where it cannot be had)."""

    estimate: float
    low: float
    high: float


def mean_interval(
    values: Any, subjects: Any, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over cases with a percentile bootstrap interval over subjects.

    Args:
        values: (n_cases,) one number per case; NaN cases (no defined quality) are left out.
        subjects: (n_cases,) the subject of each case.
        level: probability the interval aims at, between 0 and 1.
        n_resamples: bootstrap draws.
        seed: equal seeds give equal intervals.

    Returns:
        Mean and interval, in the unit of ``values``. With fewer than two subjects nothing can
        be said about the spread: the ends are NaN.

    Raises:
        ValueError: If shapes differ, no value is defined, or ``level`` is not in (0, 1).
    """
    numbers, names = np.asarray(values, dtype=np.float64), np.asarray(subjects)
    if numbers.ndim != 1 or numbers.shape != names.shape:
        raise ValueError(
            f"values and subjects must share one shape (n_cases,), got {numbers.shape} and {names.shape}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    defined = np.isfinite(numbers)
    if not defined.any():
        raise ValueError(f"no finite value among {len(numbers)} cases; nothing to average")
    _, owner = np.unique(names[defined], return_inverse=True)
    sums, counts = np.bincount(owner, weights=numbers[defined]), np.bincount(owner)
    estimate = float(sums.sum() / counts.sum())
    if len(counts) < 2:
        return Interval(estimate, float("nan"), float("nan"))
    draws = np.random.default_rng(seed).integers(len(counts), size=(n_resamples, len(counts)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def bootstrap_interval(
    statistic: Callable[..., float],
    subjects: Any,
    *arrays: Any,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Any statistic of cases with a percentile bootstrap interval over subjects.

    Args:
        statistic: from arrays of cases, each (n,), to a number; NaN where a draw leaves it
            undefined, and such draws are left out of the interval.
        subjects: (n_cases,) the subject of each case.
        *arrays: (n_cases,) what the statistic takes.
        level: probability the interval aims at, between 0 and 1.
        n_resamples: bootstrap draws.
        seed: equal seeds give equal intervals, and paired draws to statistics of the same cases.

    Returns:
        The statistic of all cases, and its interval; ends NaN with fewer than two subjects.

    Raises:
        ValueError: If shapes differ, or ``level`` is not in (0, 1).
    """
    names, columns = np.asarray(subjects), [np.asarray(array) for array in arrays]
    if names.ndim != 1 or any(column.shape != names.shape for column in columns):
        raise ValueError(
            f"subjects and arrays must share one shape (n_cases,), got {names.shape} and "
            f"{[column.shape for column in columns]}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    estimate = float(statistic(*columns))
    _, owner = np.unique(names, return_inverse=True)
    cases_of = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    if len(cases_of) < 2:
        return Interval(estimate, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    found = np.empty(n_resamples)
    for draw in range(n_resamples):
        cases = np.concatenate([cases_of[k] for k in rng.integers(len(cases_of), size=len(cases_of))])
        found[draw] = statistic(*(column[cases] for column in columns))
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def drawn_counts(subjects: Any, *, n_resamples: int, seed: int = 0) -> np.ndarray:
    """How often each case stands in each draw of `bootstrap_interval`, for statistics that take weights.

    Returns:
        (n_resamples, n_cases) int64 >= 0; equal arguments give the draws of `bootstrap_interval`.
    """
    _, owner = np.unique(np.asarray(subjects), return_inverse=True)
    n_subjects = int(owner.max()) + 1
    drawn = np.random.default_rng(seed).integers(n_subjects, size=(n_resamples, n_subjects))
    flat = (drawn + n_subjects * np.arange(n_resamples)[:, None]).ravel()
    times = np.bincount(flat, minlength=n_resamples * n_subjects).reshape(n_resamples, n_subjects)
    return times[:, owner]


def nested_bootstrap_interval(
    statistic: Callable[..., float],
    seeds: Any,
    subjects: Any,
    *arrays: Any,
    level: float = 0.95,
    n_resamples: int = 500,
    random_seed: int = 0,
) -> Interval:
    """A statistic, averaged over repeats with other seeds, with an interval over seeds and subjects.

    Seeds are drawn with replacement, and within each drawn seed its subjects, so that the interval
    holds both how networks differ and how people do. A percentile interval over a handful of seeds
    is too narrow: it cannot show what networks that were never trained would have done.

    Args:
        statistic: from arrays of the cases of one seed, each (n,), to a number.
        seeds: (n_cases,) the repeat of each case.
        subjects: (n_cases,) the subject of each case; equal names in two seeds count as two.
        *arrays: (n_cases,) what the statistic takes.
        level: probability the interval aims at, between 0 and 1.
        n_resamples: bootstrap draws.
        random_seed: equal seeds give equal intervals.

    Returns:
        Mean over the seeds of the statistic of all their cases, and its interval.

    Raises:
        ValueError: If ``level`` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    repeat, person = np.asarray(seeds), np.asarray(subjects)
    table = np.stack([np.asarray(array, dtype=np.float64) for array in arrays])  # (n_arrays, n_cases)
    people, estimates = [], []
    for seed in np.unique(repeat):
        inside = np.flatnonzero(repeat == seed)
        people.append([table[:, inside[person[inside] == name]] for name in np.unique(person[inside])])
        estimates.append(statistic(*table[:, inside]))
    rng, draws = np.random.default_rng(random_seed), np.empty(n_resamples)
    for k in range(n_resamples):
        values = []
        for seed in rng.integers(len(people), size=len(people)):
            chosen = rng.integers(len(people[seed]), size=len(people[seed]))
            values.append(statistic(*np.concatenate([people[seed][s] for s in chosen], axis=1)))
        draws[k] = np.mean(values)
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(estimates)), float(low), float(high))
