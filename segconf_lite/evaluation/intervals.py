"""How sure a mean over cases is, when cases come in subjects.

Slices of one subject resemble each other, so an interval over slices is far too narrow; whole
subjects are drawn again instead (cluster bootstrap; Field & Welsh, J R Stat Soc B 69:369, 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from segconf_lite.arrays import to_numpy

__all__ = ["Interval", "bootstrap_interval", "mean_interval", "nested_bootstrap_interval"]


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
    numbers, names = to_numpy(values, dtype=np.float64), to_numpy(subjects)
    if numbers.ndim != 1 or numbers.shape != names.shape:
        raise ValueError(
            f"values and subjects must share one shape (n_cases,), got {numbers.shape} and {names.shape}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    defined = np.isfinite(numbers)
    if not defined.any():
        raise ValueError(f"no finite value among {len(numbers)} cases; nothing to average")
    owner = _owners(names[defined])
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
    at_once: Callable[[np.ndarray], np.ndarray] | None = None,
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
        at_once: the same statistic for all draws together, where that is quicker: from how often each case is
            drawn, (n_resamples, n_cases) whole numbers, to (n_resamples,) values.

    Returns:
        The statistic of all cases, and its interval; ends NaN with fewer than two subjects.

    Raises:
        ValueError: If shapes differ, subjects mix text and numbers, or ``level`` is not in (0, 1).
    """
    names, columns = to_numpy(subjects), [to_numpy(array) for array in arrays]
    if names.ndim != 1 or any(column.shape != names.shape for column in columns):
        raise ValueError(
            f"subjects and arrays must share one shape (n_cases,), got {names.shape} and "
            f"{[column.shape for column in columns]}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    estimate = float(statistic(*columns))
    owner = _owners(names)
    cases_of = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    n_subjects = len(cases_of)
    if n_subjects < 2:
        return Interval(estimate, float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).integers(n_subjects, size=(n_resamples, n_subjects))
    if at_once is not None:
        times = np.stack([np.bincount(draw, minlength=n_subjects) for draw in drawn])
        found = at_once(times[:, owner])
    else:
        picked = (np.concatenate([cases_of[k] for k in draw]) for draw in drawn)
        found = np.array([statistic(*(column[cases] for column in columns)) for cases in picked])
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


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
    repeat, person = to_numpy(seeds), _owners(subjects)
    table = np.stack([to_numpy(array, dtype=np.float64) for array in arrays])  # (n_arrays, n_cases)
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


def _owners(subjects: Any) -> np.ndarray:
    """(n_cases,) number of the subject of each case, in the order of their names."""
    try:
        return np.unique(to_numpy(subjects), return_inverse=True)[1]
    except TypeError:
        raise ValueError(
            "the names of subjects mix text with numbers or nothing, so it is open whether '1' and 1 are one "
            "person; make all of them text, e.g. with .astype(str)"
        ) from None
