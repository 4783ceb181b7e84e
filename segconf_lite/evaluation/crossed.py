"""How sure a mean is when its values share two crossed sources of chance, such as images and seeds.

The pigeonhole bootstrap (Owen, Ann Appl Stat 1:386, 2007); for one source see `intervals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.intervals import Interval

__all__ = ["check_columns", "cluster_interval", "crossed_interval", "draw_weights"]


def crossed_interval(
    values: Any, first: Any, second: Any, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Mean of values that share two crossed sources of chance, with its pigeonhole bootstrap interval.

    The names of `first` (images, say) and those of `second` (seeds) are drawn with replacement, each by
    itself; a value counts as often as the product of both counts (Owen 2007). Rows
    drawn singly would treat 216 images seen by 3 networks as 648 independent facts. The interval errs to the
    wide side: noise of single values counts up to three times. With a handful of names on one side it is
    rough, and cannot show what a fourth seed would have done. Give differences to compare paired conditions.

    Args:
        values: (n,) any unit; NaN values are left out.
        first: (n,) the first name of each value.
        second: (n,) the second name.
        level: probability the interval aims at, between 0 and 1.
        n_resamples: bootstrap draws.
        seed: equal seeds give equal intervals, and paired draws to values of the same names.

    Returns:
        Mean and interval, in the unit of ``values``. If one side has a single name, this is the one-way
        bootstrap over the other, `mean_interval`; if both have, the ends are NaN.

    Raises:
        ValueError: If shapes differ, no value is defined, or ``level`` is not in (0, 1).
    """
    nameless = [
        pd.isna(to_numpy(names, dtype=object)) for names in (first, second)
    ]  # a list would turn NaN to text
    numbers, sides = to_numpy(values, dtype=np.float64), [to_numpy(first), to_numpy(second)]
    if numbers.ndim != 1 or any(side.shape != numbers.shape for side in sides):
        raise ValueError(
            f"values, first and second must share one shape (n,), got {numbers.shape}, {sides[0].shape} and "
            f"{sides[1].shape}"
        )
    if np.isinf(numbers).any():
        raise ValueError("values must be finite or NaN (left out), got infinity; a mean of it says nothing")
    defined = ~np.isnan(numbers)
    if not defined.any():
        raise ValueError(f"no defined value among {len(numbers)}; nothing to average")
    if any(missing[defined].any() for missing in nameless):
        raise ValueError("a value has no name on one side; name one for each, since those are drawn")
    numbers, sides = numbers[defined], [side[defined] for side in sides]
    ids = [np.unique(side, return_inverse=True)[1] for side in sides]
    draws = (weights @ numbers / total for weights in draw_weights(ids, n_resamples, seed)
             if (total := weights.sum()) > 0)  # fmt: skip
    return _percentiles(float(numbers.mean()), draws, ids, level)


def cluster_interval(
    statistic: Callable[[pd.DataFrame], float],
    table: pd.DataFrame,
    *,
    clusters: Sequence[str],
    level: float = 0.95,
    n_resamples: int = 500,
    seed: int = 0,
) -> Interval:
    """Any statistic of a table, with a bootstrap interval over one cluster column or crossed ones.

    As `crossed_interval`, but rows are repeated instead of weighted, so any statistic will do (a rank
    correlation over networks, say); slower.

    Args:
        statistic: from a table like ``table`` to a number; NaN where a draw leaves it undefined.
        table: one row per value.
        clusters: one column or more, each drawn by itself.
        level: probability the interval aims at, between 0 and 1.
        n_resamples: bootstrap draws.
        seed: equal seeds give equal intervals.

    Returns:
        The statistic of the whole table and its interval; ends NaN if no column has two values.

    Raises:
        ValueError: If a column is missing, none is given, or ``level`` is not in (0, 1).
    """
    columns = [clusters] if isinstance(clusters, str) else list(clusters)
    if not columns:
        raise ValueError("clusters must name one column or more, got none")
    check_columns(table, columns)
    check_names(table, columns)
    if table.empty:
        raise ValueError("the table has no rows; nothing to draw from")
    ids, rows = (
        [pd.factorize(table[name], use_na_sentinel=False)[0] for name in columns],
        np.arange(len(table)),
    )
    drawn = (np.repeat(rows, weights) for weights in draw_weights(ids, n_resamples, seed))
    draws = (statistic(table.iloc[chosen]) for chosen in drawn if len(chosen))
    return _percentiles(float(statistic(table)), draws, ids, level)


def draw_weights(ids: list[np.ndarray], n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row counts in each draw: the product of the counts of its clusters.

    Args:
        ids: (n,) whole numbers 0, 1, ... per cluster column.
        n_resamples: bootstrap draws.
        seed: equal seeds give equal draws.

    Yields:
        (n,) whole numbers >= 0, one array a draw.
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be >= 1, got {n_resamples}")
    rng, sizes = np.random.default_rng(seed), [int(codes.max()) + 1 for codes in ids]
    # all draws of one column, then those of the next: the first column's are those of `mean_interval`
    chosen = [rng.integers(size, size=(n_resamples, size)) for size in sizes]
    for k in range(n_resamples):
        counts = [
            np.bincount(c[k], minlength=s)[codes] for c, s, codes in zip(chosen, sizes, ids, strict=True)
        ]
        yield np.prod(counts, axis=0)


def _percentiles(estimate: float, draws: Iterable[float], ids: list[np.ndarray], level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if max(codes.max() for codes in ids) == 0:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.nanquantile(np.fromiter(draws, float), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def check_names(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse rows that belong to no cluster: they would be drawn as if they were one.

    Raises:
        ValueError: If a name is missing.
    """
    for name in columns:
        n_missing = int(table[name].isna().sum())
        if n_missing:
            raise ValueError(f"{n_missing} rows have no {name}; name one for each, since {name}s are drawn")


def check_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        ValueError: If it does; the message lists the columns that it has.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(f"the table lacks the columns {missing}; it has {list(table.columns)}")
