"""Many methods on the same cohorts: average ranks, Friedman's test, Nemenyi's critical difference.

A **block** is what all methods were measured on alike, for example one seed on one scanner. Within a block
the methods are ranked, 1 for the best; ties share their mean rank. Ranks forget by how much a method is
better, so that one hard scanner does not decide alone. Source: Demšar, "Statistical comparisons of
classifiers over multiple data sets", JMLR 7:1, 2006, section 3.2. The tests take blocks for independent.
Scanners of one seed share a network and are not, so with seeds times scanners as blocks the tests are too
sure of themselves; `mean_ranks_within` makes one block of each seed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from segconf_lite import check
from segconf_lite.arrays import to_numpy


class RankComparison(NamedTuple):
    """Average ranks of methods, and whether they differ more than by chance.

    Attributes:
        average_ranks: (n_methods,) mean rank over blocks, in [1, n_methods], lower is better.
        n_blocks: Number of blocks.
        chi_squared: Friedman's statistic, without a correction for ties.
        f_statistic: That of Iman and Davenport; infinite if all blocks rank alike.
        p_value: Of `f_statistic`, for "all methods are the same", in [0, 1].
        critical_difference: Two average ranks differ if they are at least so far apart (Nemenyi).

    Example:
        >>> compare_ranks([[1, 2, 3], [1, 3, 2], [1, 2, 3]]).average_ranks.round(2).tolist()
        [1.0, 2.33, 2.67]
    """

    average_ranks: np.ndarray
    n_blocks: int
    chi_squared: float
    f_statistic: float
    p_value: float
    critical_difference: float


def block_ranks(values: Any, *, higher_is_better: bool = False) -> np.ndarray:
    """Rank of each method within each block, 1 for the best; ties share their mean rank.

    Args:
        values: (n_blocks, n_methods), numpy or torch, finite, in any unit.
        higher_is_better: Whether a high value is good, as an AUROC, or bad, as an eAURC.

    Returns:
        (n_blocks, n_methods) ranks in [1, n_methods].

    Raises:
        ValueError: If a value is not finite, or there are fewer than two methods.

    Example:
        >>> block_ranks([[0.1, 0.3, 0.3]]).tolist()
        [[1.0, 2.5, 2.5]]
    """
    table = check.finite("values", check.array("values", values, "n_blocks n_methods", dtype=np.float64))
    check.integer("number of methods", table.shape[1], low=2)
    check.one_of("higher_is_better", higher_is_better, (True, False))
    return stats.rankdata(-table if higher_is_better else table, axis=1)


def mean_ranks_within(values: Any, blocks: Any, *, higher_is_better: bool = False) -> np.ndarray:
    """Ranks averaged within larger blocks, for example over the scanners of each seed.

    What comes back is ranked again by `compare_ranks`, so that each larger block, and not each of its rows,
    counts as one observation.

    Args:
        values: (n_rows, n_methods), numpy or torch, finite.
        blocks: (n_rows,) the larger block of each row, text or integers.
        higher_is_better: Whether a high value is good.

    Returns:
        (n_blocks, n_methods) mean ranks, lower is better, in the order of the sorted names of the blocks.

    Raises:
        ValueError: As `block_ranks`, or if lengths differ.

    Example:
        >>> mean_ranks_within([[1, 2], [2, 1], [1, 2]], blocks=[11, 11, 12]).tolist()
        [[1.5, 1.5], [1.0, 2.0]]
    """
    ranks = block_ranks(values, higher_is_better=higher_is_better)
    names, block_of = np.unique(check.names("blocks", blocks), return_inverse=True)
    check.same_length(values=ranks, blocks=block_of)
    return np.stack([ranks[block_of == k].mean(axis=0) for k in range(len(names))])


def compare_ranks(values: Any, *, higher_is_better: bool = False, level: float = 0.95) -> RankComparison:
    r"""Friedman's test over blocks, and the critical difference of the average ranks.

    .. math:: \chi^2_F = \frac{12 N}{k (k + 1)} \Big[\sum_j R_j^2 - \frac{k (k + 1)^2}{4}\Big], \qquad
              F_F = \frac{(N - 1) \chi^2_F}{N (k - 1) - \chi^2_F}

    with N blocks, k methods and average ranks R; F has k - 1 and (k - 1)(N - 1) degrees of freedom. As in the
    source, ties are not corrected for, which makes the test a little too careful.

    Args:
        values: (n_blocks, n_methods), numpy or torch, finite, in any unit.
        higher_is_better: Whether a high value is good.
        level: 1 minus the allowed probability of calling any two equal methods different, in (0, 1).

    Returns:
        Average ranks and tests.

    Raises:
        ValueError: As `block_ranks`, or if there are fewer than two blocks.

    Example:
        >>> found = compare_ranks([[1, 2, 3], [1, 3, 2], [1, 2, 3]])
        >>> round(found.chi_squared, 2), round(found.p_value, 3)
        (4.67, 0.049)
    """
    ranks = block_ranks(values, higher_is_better=higher_is_better)
    n, k = ranks.shape
    check.integer("number of blocks", n, low=2, fix="one block does not show how blocks differ")
    average = ranks.mean(axis=0)
    chi = 12 * n / (k * (k + 1)) * (float((average**2).sum()) - k * (k + 1) ** 2 / 4)
    left = n * (k - 1) - chi
    f = (n - 1) * chi / left if left > 1e-9 else math.inf
    p = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    return RankComparison(average, n, chi, f, p, critical_difference(k, n, level=level))


def critical_difference(n_methods: int, n_blocks: int, *, level: float = 0.95) -> float:
    r"""Nemenyi's smallest difference of two average ranks that is not due to chance.

    .. math:: CD = q \sqrt{\frac{k (k + 1)}{6 N}}

    where q is the quantile of the studentised range of k methods, with infinite degrees of freedom, over the
    root of 2. All pairs are compared at once, so it grows with the number of methods.

    Args:
        n_methods: Number k of methods, >= 2.
        n_blocks: Number N of independent blocks, >= 1.
        level: 1 minus the allowed probability of any false difference, in (0, 1).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    k, n = check.integer("n_methods", n_methods, low=2), check.integer("n_blocks", n_blocks, low=1)
    level = check.number("level", level, low=0, high=1, open_low=True, open_high=True)
    q = float(stats.studentized_range.ppf(level, k, np.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * n))


def pareto_front(*losses: Any) -> np.ndarray:
    """Which methods no other method beats: none is as good in everything and better in something.

    Args:
        *losses: (n_methods,) each, lower is better, for example passes and eAURC.

    Returns:
        (n_methods,) bool.

    Raises:
        ValueError: If nothing is given, lengths differ, or a value is not finite.

    Example:
        >>> pareto_front([1, 1, 15], [0.02, 0.05, 0.01]).tolist()
        [True, False, True]
    """
    if not losses:
        raise check.refuse("losses", "one column or more", "none")
    columns = [
        check.finite("losses", check.array("losses", to_numpy(c), "n_methods", dtype=float)) for c in losses
    ]
    check.same_length(**{f"losses {k}": column for k, column in enumerate(columns)})
    table = np.stack(columns, axis=1)  # (n_methods, n_losses)
    as_good = (table[:, None] <= table[None]).all(axis=2)  # [a, b]: a is as good as b in everything
    better = (table[:, None] < table[None]).any(axis=2)
    return np.logical_not((as_good & better).any(axis=0))
