"""Estimates over repeats: the mean of a statistic over training seeds, with a t interval.

A seed stands for everything that a repeat draws anew: network, method, and usually cohort. Then the seeds'
own estimates are independent, and Student's t over them covers as it says, also for a handful of seeds,
whereas a bootstrap over five seeds covers 83 to 93 % in place of 95 %. Where the same people are seen in
every seed, as in a small real cohort, the people count as a second source of variance.
`benchmarks/coverage.py` simulates both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from segconf_lite import check
from segconf_lite.evaluation.bootstrap import Interval, one_number

_MOST_CASES = 10**12  # no table is about more, and integers beyond 64 bits have no distribution


class Estimate(NamedTuple):
    """A mean over seeds with its standard error, both in the unit of the statistic.

    Attributes:
        mean: Mean over seeds.
        standard_error: Of that mean, >= 0; NaN for a single seed.
        degrees_of_freedom: Of Student's t, the number of seeds (or, if fewer, of shared subjects) minus 1.

    Example:
        >>> Estimate(0.8, standard_error=0.01, degrees_of_freedom=4).interval().low
        0.772...
    """

    mean: float
    standard_error: float
    degrees_of_freedom: int

    def interval(self, level: float = 0.95) -> Interval:
        """Mean ± t · standard error.

        Args:
            level: Coverage of the interval, in (0, 1).

        Example:
            >>> [round(end, 3) for end in Estimate(0.8, 0.01, 4).interval(level=0.9)]
            [0.8, 0.779, 0.821]
        """
        level = check.number("level", level, low=0, high=1, open_low=True, open_high=True)
        half = float(stats.t.ppf((1 + level) / 2, max(1, self.degrees_of_freedom))) * self.standard_error
        return Interval(self.mean, self.mean - half, self.mean + half)

    def p_above(self, line: float) -> float:
        """One-sided p-value for "the expected value lies above `line`", in [0, 1]; small speaks for it.

        It is also the probability, under a flat prior, that the expected value does *not* lie above.

        Args:
            line: In the unit of the statistic.

        Example:
            >>> Estimate(0.8, standard_error=0.01, degrees_of_freedom=4).p_above(0.77)
            0.01...
        """
        excess = self.mean - check.number("line", line)
        if self.standard_error == 0:  # all seeds gave one value
            return 0.0 if excess > 0 else 1.0
        return float(stats.t.sf(excess / self.standard_error, max(1, self.degrees_of_freedom)))


def repeated_estimate(
    statistic: Callable[..., float], seeds: Any, subjects: Any, *arrays: Any, shared: bool = False
) -> Estimate:
    """A statistic averaged over training seeds, with a standard error.

    With subjects that each seed draws anew, the squared standard error is s²/S, where s² is the variance of
    the estimates of the S seeds; how people differ is part of it. With subjects that are the same in every
    seed, the jackknife variance over subjects is added: (P-1)/P · Σ (m₋ₚ - m̄)², where m₋ₚ is the mean over
    seeds without subject p of P. What is left of single cases is then counted twice, and the interval has
    min(S, P) - 1 degrees of freedom, both to the wide side.

    Args:
        statistic: A function from arrays of the cases of one seed, each (n,), to a number.
        seeds: (n_cases,) the training seed of each case.
        subjects: (n_cases,) the subject of each case, text or integers, none missing.
        *arrays: (n_cases,) numbers, the arguments of the statistic; they are passed as float64.
        shared: Whether equal names in two seeds are the same person. Otherwise `subjects` is not looked at.

    Returns:
        Mean over seeds and its standard error, which is NaN for a single seed, and with `shared` for a
        single subject.

    Raises:
        ValueError: If lengths differ, a seed or subject has no name, the statistic is no function, or its
            value for a seed is no finite number.

    Example:
        >>> found = repeated_estimate(np.mean, [0, 0, 1, 1], list("abab"), [1, 2, 3, 4])
        >>> found.mean, found.standard_error, found.degrees_of_freedom
        (2.5, 1.0, 1)
    """
    check.function("statistic", statistic)
    check.one_of("shared", shared, (True, False))
    seed_of, person_of = (
        np.unique(check.names(name, values), return_inverse=True)[1]
        for name, values in (("seeds", seeds), ("subjects", subjects))
    )
    columns = [check.array("arrays", column, "n_cases", dtype=np.float64) for column in arrays]
    check.same_length(seeds=seed_of, subjects=person_of, **{f"array {k}": c for k, c in enumerate(columns)})

    def by_seed(kept: np.ndarray) -> np.ndarray:
        of_seed = (kept & (seed_of == seed) for seed in range(seed_of.max() + 1))
        return np.array([one_number(statistic(*(c[rows] for c in columns))) for rows in of_seed], float)

    everyone = np.ones(len(seed_of), bool)
    estimates = by_seed(everyone)
    check.finite("the statistic of each seed", estimates)
    n = len(estimates)
    variance = float(estimates.var(ddof=1)) / n if n > 1 else math.nan
    if shared:
        people = person_of.max() + 1
        without = [by_seed(person_of != p).mean() for p in range(people)] if people > 1 else [math.nan]
        variance += (people - 1) * float(np.var(without))
        n = min(n, people)
    return Estimate(float(estimates.mean()), math.sqrt(variance), n - 1)


def false_outperformance(
    mean: float, rival_mean: float, *, sd: float, rival_sd: float, n: int, correlation: float
) -> float:
    """Probability that "this method has the higher mean" is false, from what a paper's table prints.

    t_{n-1}(√n · (rival_mean - mean) / √(sd² + rival_sd² - 2 · sd · rival_sd · correlation)), the probability,
    under a flat prior, that the expected difference is not positive (Christodoulou et al. 2025, "False
    promises in medical imaging AI?", arXiv 2505.04720, for scores such as the Dice). With paired values at
    hand it equals `Estimate.p_above` of their differences.

    Args:
        mean: Of the method that is said to be better, over `n` independent cases or runs; higher is better.
        rival_mean: Of the other method, on the same cases or runs.
        sd: Standard deviation of the method over cases or runs, not the standard error of its mean; >= 0.
        rival_sd: That of the other method.
        n: Number of cases or runs, 2 .. 10¹².
        correlation: Between the two methods over cases or runs, in [-1, 1]; few tables print it.

    Returns:
        In [0, 1]; small is good for the claim, 0.5 means that the means are equal.

    Raises:
        ValueError: If an argument lies outside its range, or if the difference has no spread at all.

    Example:
        >>> round(false_outperformance(0.82, 0.80, sd=0.1, rival_sd=0.1, n=50, correlation=0.5), 3)
        0.082
    """
    mean, rival_mean = check.number("mean", mean), check.number("rival_mean", rival_mean)
    sd, rival_sd = check.number("sd", sd, low=0), check.number("rival_sd", rival_sd, low=0)
    n = check.integer("n", n, low=2, high=_MOST_CASES, fix="it is the number of cases or runs of the table")
    r = check.number("correlation", correlation, low=-1, high=1)
    variance = sd**2 + rival_sd**2 - 2 * sd * rival_sd * r
    if variance <= 1e-12 * (sd**2 + rival_sd**2):
        raise ValueError(
            f"sd={sd:g}, rival_sd={rival_sd:g}, correlation={r:g} leave no spread of the difference; "
            "expected a positive one. Give a correlation below 1."
        )
    return Estimate(mean - rival_mean, math.sqrt(variance / n), n - 1).p_above(0.0)
