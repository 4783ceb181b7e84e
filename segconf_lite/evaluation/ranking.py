"""How well an uncertainty ranks cases: risk-coverage curves, correlations, detection of other scanners.

**Risk-coverage curve** (selective prediction): keep the k most trusted cases, hand the others to a person,
and look at the mean risk of those that are kept, for every k. Cases with equal uncertainty cannot be told
apart, so they share their mean risk; the order in which they were stored never matters.

**Correlation**: whether uncertainty and risk rise together. **Detection**: whether the uncertainty of
out-of-distribution cases exceeds a threshold that was set on in-distribution cases.

In all functions a higher uncertainty means that a case is trusted less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.bootstrap import Interval, bootstrap_interval, bootstrap_settings, unit_scale


def risk_coverage(risk: Any, uncertainty: Any) -> pd.DataFrame:
    """Mean risk of the k most trusted cases, for every k.

    Args:
        risk: (n_cases,) loss per case, lower is better; for example 1 - Dice.
        uncertainty: (n_cases,) ranks the cases, in any unit.

    Returns:
        n_cases rows: coverage (k / n), selective_risk (mean risk of the k kept cases) and
        generalised_risk (their sum over n: the fraction of all risk that passes unseen; Traub et al.,
        NeurIPS 2024).

    Raises:
        ValueError: If lengths differ, there is no case, or a value is not finite.

    Example:
        >>> risk_coverage(risk=[0.1, 0.5], uncertainty=[1, 2])[["coverage", "selective_risk"]]
           coverage  selective_risk
        0       0.5             0.1
        1       1.0             0.3
    """
    ranked, exponent = _ranked(risk, uncertainty)
    n_kept = np.arange(1, len(ranked) + 1)
    kept_risk = ranked.cumsum()
    return pd.DataFrame(
        {
            "coverage": n_kept / len(ranked),
            "selective_risk": np.ldexp(kept_risk / n_kept, exponent),
            "generalised_risk": np.ldexp(kept_risk / len(ranked), exponent),
        }
    )


def aurc(risk: Any, uncertainty: Any) -> float:
    r"""Area under the risk-coverage curve: the mean over k of the mean risk of the k most trusted cases.

    .. math:: \text{AURC} = \frac{1}{n} \sum_{k=1}^{n} \frac{1}{k} \sum_{i=1}^{k} r_{(i)}

    Here :math:`r_{(i)}` is the risk of the i-th most trusted case (Geifman & El-Yaniv, NeurIPS 2017), with
    the mean risk of its tie in place of its own. Arguments and errors as in `risk_coverage`.

    Returns:
        The area in the unit of `risk`, lower is better; a constant uncertainty gives the mean risk.

    Example:
        >>> round(aurc(risk=[0.1, 0.5], uncertainty=[1, 2]), 3)
        0.2
    """
    ranked, exponent = _ranked(risk, uncertainty)
    return float(np.ldexp(_mean_of_prefix_means(ranked), exponent))


def excess_aurc(risk: Any, uncertainty: Any) -> float:
    """AURC minus the AURC of the best possible order (eAURC).

    Arguments and errors as in `risk_coverage`.

    Returns:
        In the unit of `risk`, >= 0, lower is better; 0 if the uncertainty ranks the cases by their risk. A
        constant uncertainty gives the mean risk minus the AURC of the best order.

    Example:
        >>> excess_aurc(risk=[0.1, 0.5], uncertainty=[1, 2])
        0.0
        >>> round(excess_aurc(risk=[0.1, 0.5], uncertainty=[2, 1]), 3)
        0.2
    """
    return _excess(*_checked(risk, uncertainty))


def excess_aurc_interval(
    risk: Any, uncertainty: Any, subjects: Any, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """`excess_aurc` with a bootstrap interval over subjects.

    Args:
        risk: (n_cases,) loss per case, lower is better.
        uncertainty: (n_cases,) ranks the cases, in any unit.
        subjects: (n_cases,) the subject of each case.
        level: Nominal coverage of the interval, in (0, 1).
        n_resamples: Number of bootstrap resamples.
        seed: Seed of the random draw of subjects.

    Returns:
        Estimate and interval, see `bootstrap_interval`.

    Raises:
        ValueError: As `risk_coverage` and `bootstrap_interval`.

    Example:
        >>> excess_aurc_interval([0.1, 0.2, 0.5], [1, 2, 3], subjects=["a", "b", "c"])
        Interval(estimate=0.0, low=0.0, high=0.0)
    """
    columns = _checked(risk, uncertainty)
    return bootstrap_interval(_excess, subjects, *columns, level=level, n_resamples=n_resamples, seed=seed)


def augrc(risk: Any, uncertainty: Any) -> float:
    """Area under the generalised risk-coverage curve: risk that passes unseen, over all coverages.

    Traub et al., "Overcoming common flaws in the evaluation of selective classification systems", NeurIPS
    2024; here as a mean over k, with ties shared. Arguments and errors as in `risk_coverage`.

    Returns:
        In the unit of `risk`, lower is better; a constant uncertainty gives about half the mean risk.

    Example:
        >>> round(augrc(risk=[0.1, 0.5], uncertainty=[1, 2]), 3)
        0.175
    """
    ranked, exponent = _ranked(risk, uncertainty)
    return float(np.ldexp(ranked.cumsum().mean() / len(ranked), exponent))


def risk_at_coverage(risk: Any, uncertainty: Any, coverage: float) -> float:
    """Mean risk when a fraction of the cases, the most trusted ones, is kept.

    Args:
        risk: (n_cases,) loss per case, lower is better.
        uncertainty: (n_cases,) ranks the cases, in any unit.
        coverage: Fraction of cases to keep, in (0, 1]. The number of cases is rounded up, so at least one
            case is kept.

    Raises:
        ValueError: As `risk_coverage`, or if the coverage is out of range.

    Example:
        >>> round(risk_at_coverage(risk=[0.1, 0.5, 0.9], uncertainty=[1, 2, 3], coverage=0.5), 3)
        0.3
    """
    coverage = check.number("coverage", coverage, low=0, high=1, open_low=True)
    ranked, exponent = _ranked(risk, uncertainty)
    n_kept = max(1, int(np.ceil(coverage * len(ranked) - 1e-9)))  # 0.07 * 100 is 7.000000000000001
    return float(np.ldexp(ranked[:n_kept].mean(), exponent))


def rank_correlation(
    risk: Any,
    uncertainty: Any,
    *,
    subjects: Any = None,
    domains: Any = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Spearman's correlation of uncertainty and risk.

    Args:
        risk: (n_cases,) loss per case, for example 1 - Dice.
        uncertainty: (n_cases,) in any unit; only its order counts.
        subjects: (n_cases,) the subject of each case, resampled for the interval; None gives no interval.
        domains: (n_cases,) the domain of each case, for the *partial* correlation: ranks are compared
            within each domain only, so that "the other scanner is worse" does not count. None pools all.
        level: Nominal coverage of the interval, in (0, 1).
        n_resamples: Number of bootstrap resamples.
        seed: Seed of the random draw. Equal seeds resample equal subjects, so that methods are paired.

    Returns:
        Estimate in [-1, 1], 1 = riskier cases always have the higher uncertainty; and its interval.

    Raises:
        ValueError: If lengths differ, a value is not finite, or one side is constant (within every domain,
            if domains are given), so that no correlation is defined.

    Example:
        >>> rank_correlation(risk=[0.1, 0.2, 0.9], uncertainty=[1, 2, 3]).estimate
        1.0
    """
    return _correlation(_spearman, risk, uncertainty, subjects, domains, level, n_resamples, seed)


def linear_correlation(
    risk: Any,
    uncertainty: Any,
    *,
    subjects: Any = None,
    domains: Any = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Pearson's correlation of uncertainty and risk.

    It serves the comparison with papers that used it, because one extreme case can dominate it. Arguments,
    returns and errors as in `rank_correlation`.

    Example:
        >>> round(linear_correlation(risk=[0.1, 0.2, 0.9], uncertainty=[1, 2, 3]).estimate, 3)
        0.918
    """
    return _correlation(_pearson, risk, uncertainty, subjects, domains, level, n_resamples, seed)


def rank_correlation_difference(
    risk: Any,
    first_uncertainty: Any,
    second_uncertainty: Any,
    *,
    subjects: Any,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Spearman's correlation of a first uncertainty minus that of a second one, on the same resamples.

    Two methods judge the same cases, so their errors move together: the interval of the difference is far
    narrower than the two intervals suggest. Arguments and errors as in `rank_correlation`.

    Example:
        >>> risk, good, bad = [0.1, 0.2, 0.9], [1, 2, 3], [3, 2, 1]
        >>> rank_correlation_difference(risk, good, bad, subjects=["a", "b", "c"]).estimate
        2.0
    """
    risks, first = _varying(risk, first_uncertainty, "first_uncertainty")
    _, second = _varying(risk, second_uncertainty, "second_uncertainty")
    _of_equal_length(risks, subjects)

    def difference(r: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        return _spearman(r, a) - _spearman(r, b)

    def differences(counts: np.ndarray) -> np.ndarray:
        return _resampled_spearman(risks, first, counts) - _resampled_spearman(risks, second, counts)

    columns = (risks, first, second)
    return bootstrap_interval(
        difference, subjects, *columns, level=level, n_resamples=n_resamples, seed=seed, at_once=differences
    )


def variance_explained(outcome: Any, factor_levels: Any) -> float:
    """Fraction of an outcome's variance that lies between the levels of a factor (eta squared).

    Sum of squares between the group means over the total sum of squares, every row counted once. It rises
    with the number of levels by chance alone: its mean over shuffled rows is (levels - 1) / (rows - 1).

    Args:
        outcome: (n_rows,) finite, any unit.
        factor_levels: (n_rows,) the level of each row, text or numbers, none missing.

    Returns:
        Fraction in [0, 1]; NaN if the outcome never varies.

    Raises:
        ValueError: If lengths differ, an outcome is not finite, or a level is missing.

    Example:
        >>> variance_explained(outcome=[0, 2, 2, 4], factor_levels=["x", "x", "y", "y"])
        0.5
    """
    values = _case_values("outcome", outcome)
    levels = to_numpy(factor_levels)
    if levels.dtype.kind in "iuf":
        levels = _case_values("factor_levels", levels)
    else:
        levels = check.names("factor_levels", factor_levels)
    check.same_length(outcome=values, factor_levels=levels)
    if values.min() == values.max():
        return float("nan")
    values, _ = unit_scale(values)
    codes, _ = pd.factorize(levels)
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    return min(float(np.var(means[codes]) / np.var(values)), 1.0)


def detection_threshold(in_distribution_uncertainty: Any, *, pass_rate: float = 0.95) -> float:
    """The lowest threshold that at least a stated fraction of the in-distribution cases does not exceed.

    Args:
        in_distribution_uncertainty: (n_cases,) of an in-distribution validation set.
        pass_rate: Fraction of these cases that must not be flagged, in (0, 1].

    Returns:
        One of the uncertainties; a case is flagged if its uncertainty *exceeds* the threshold. With few
        cases the steps are coarse: of 6 cases all pass, not 95 %.

    Raises:
        ValueError: If there is no case, a value is not finite, or the rate is out of range.

    Example:
        >>> detection_threshold([1, 2, 3, 4], pass_rate=0.75)
        3.0
    """
    values = _case_values("in_distribution_uncertainty", in_distribution_uncertainty)
    pass_rate = check.number("pass_rate", pass_rate, low=0, high=1, open_low=True)
    return float(np.quantile(values, pass_rate, method="inverted_cdf"))


def detection_rate(
    in_distribution_uncertainty: Any, target_uncertainty: Any, *, pass_rate: float = 0.95
) -> float:
    """Fraction of a target domain that exceeds the threshold set on in-distribution cases.

    Args:
        in_distribution_uncertainty: (n_cases,) of an in-distribution validation set.
        target_uncertainty: (m_cases,) of the target domain.
        pass_rate: Fraction of the in-distribution cases that must not be flagged, in (0, 1].

    Returns:
        In [0, 1]; higher = more of the domain is flagged. Whether that is good depends on whether its
        cases are bad.

    Raises:
        ValueError: If there is no case, a value is not finite, or the rate is out of range.

    Example:
        >>> detection_rate([1, 2, 3, 4], [3, 5, 6, 7], pass_rate=0.75)
        0.75
    """
    threshold = detection_threshold(in_distribution_uncertainty, pass_rate=pass_rate)
    return float((_case_values("target_uncertainty", target_uncertainty) > threshold).mean())


def auroc(in_distribution_uncertainty: Any, target_uncertainty: Any) -> float:
    """Area under the ROC curve: probability that a target case is the more uncertain one of a pair.

    Args:
        in_distribution_uncertainty: (n_cases,) of in-distribution cases.
        target_uncertainty: (m_cases,) of the target domain.

    Returns:
        In [0, 1]; 0.5 = the two cannot be told apart; ties count half (Hanley & McNeil 1982).

    Raises:
        ValueError: If there is no case, or a value is not finite.

    Example:
        >>> auroc([0, 1], [1, 2])
        0.875
    """
    known = _case_values("in_distribution_uncertainty", in_distribution_uncertainty)
    target = _case_values("target_uncertainty", target_uncertainty)
    return float(stats.mannwhitneyu(target, known).statistic / (target.size * known.size))


def compare_methods(
    cases: pd.DataFrame, methods: Sequence[str], *, statistic: str, by: str = "domain"
) -> pd.DataFrame:
    """How well each method ranks the cases of each group, with intervals over subjects.

    Args:
        cases: One row per case: ``risk``, ``subject``, the column `by`, and one column of uncertainty per
            method. Cases whose risk is NaN are left out; n_cases tells how many remain.
        methods: The columns to compare.
        statistic: ``"rank_correlation"`` (higher is better), ``"linear_correlation"`` (higher), or
            ``"excess_aurc"`` (lower).
        by: The column whose values form the groups, none of them missing.

    Returns:
        One row per group and method: the column `by`, method, estimate, low, high, n_cases, n_subjects.
        NaN where a method gives all cases of a group one value, so that no correlation is defined, and
        where a group has no case with a risk. The resamples are the same for all methods of a group.

    Raises:
        ValueError: If the statistic is unknown, a column or a name is missing, or an uncertainty is not
            finite.

    Example:
        >>> cases = pd.DataFrame({"domain": "A", "subject": [1, 2, 3], "risk": [0.1, 0.5, 0.9]})
        >>> cases["entropy"] = [0.2, 0.1, 0.3]
        >>> compare_methods(cases, ["entropy"], statistic="rank_correlation")[["method", "estimate"]]
            method  estimate
        0  entropy       0.5
    """
    compute = _INTERVALS[check.one_of("statistic", statistic, _INTERVALS)]
    listed = check.names("methods", methods, unique=True).tolist()
    check.names("by", [by, "method", *Interval._fields, "n_cases", "n_subjects"], unique=True)
    check.columns(cases, ["risk", "subject", by, *listed], "cases")
    subjects = check.names("cases['subject']", cases["subject"])
    risk = check.array("risk", cases["risk"], "n_cases", dtype=np.float64)
    check.finite("risk", risk, missing=True)
    codes, groups = pd.factorize(cases[by])
    if (codes < 0).any():
        raise check.refuse(f"cases[{by!r}]", "named for every case", f"{(codes < 0).sum()} missing")
    rows = []
    for code, group in enumerate(groups):
        inside = (codes == code) & ~np.isnan(risk)
        counts = {"n_cases": int(inside.sum()), "n_subjects": len(set(subjects[inside]))}
        for method in listed:
            interval = _UNKNOWN
            if inside.any():
                values = _case_values(method, cases[method][inside])
                constant = values.min() == values.max() or risk[inside].min() == risk[inside].max()
                if statistic == "excess_aurc" or not constant:
                    interval = compute(risk[inside], values, subjects=cases["subject"][inside])
            rows.append({by: group, "method": method, **interval._asdict(), **counts})
    return pd.DataFrame(rows)


_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))
_INTERVALS: dict[str, Callable[..., Interval]] = {
    "rank_correlation": rank_correlation,
    "linear_correlation": linear_correlation,
    "excess_aurc": excess_aurc_interval,
}


def _case_values(name: str, values: Any) -> np.ndarray:
    """(n_cases,) finite float64."""
    fix = "leave these cases out; an empty reference gives a NaN Dice, see the empty policy"
    return check.finite(name, check.array(name, values, "n_cases", dtype=np.float64), fix=fix)


def _checked(risk: Any, uncertainty: Any, name: str = "uncertainty") -> tuple[np.ndarray, np.ndarray]:
    risks, order = _case_values("risk", risk), _case_values(name, uncertainty)
    check.same_length(**{"risk": risks, name: order})
    return risks, order


def _of_equal_length(risks: np.ndarray, subjects: Any) -> None:
    if hasattr(subjects, "__len__") and getattr(subjects, "ndim", 1) == 1:
        check.same_length(risk=risks, subjects=subjects)


def _varying(risk: Any, uncertainty: Any, called: str = "uncertainty") -> tuple[np.ndarray, np.ndarray]:
    """Risk and uncertainty of which a correlation is defined."""
    risks, order = _checked(risk, uncertainty, called)
    for name, values in (("risk", risks), (called, order)):
        if values.min() == values.max():
            got = f"one value for all {len(values)} cases"
            raise check.refuse(name, "different between cases", got, "no correlation is defined")
    return risks, order


# -- risk and coverage --------------------------------------------------------------------------------------


def _ranked(risk: Any, uncertainty: Any) -> tuple[np.ndarray, int]:
    """(n,) scaled risks from most to least trusted, ties averaged; and the exponent of their scale."""
    risks, order = _checked(risk, uncertainty)
    scaled, exponent = unit_scale(risks)
    return _tie_averaged(scaled, order), exponent


def _excess(risks: np.ndarray, order: np.ndarray) -> float:
    scaled, exponent = unit_scale(risks)
    best = _mean_of_prefix_means(np.sort(scaled))
    excess = _mean_of_prefix_means(_tie_averaged(scaled, order)) - best
    return float(np.ldexp(max(excess, 0.0), exponent))  # rounding may give -1e-17


def _tie_averaged(risks: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,) risks from most to least trusted, each replaced by the mean of its tie."""
    _, group, size = np.unique(order, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(group, weights=risks) / size, size)


def _mean_of_prefix_means(risks: np.ndarray) -> float:
    return float((risks.cumsum() / np.arange(1, risks.size + 1)).mean())


# -- correlation --------------------------------------------------------------------------------------------


def _correlation(
    correlate: Callable[[np.ndarray, np.ndarray], float],
    risk: Any,
    uncertainty: Any,
    subjects: Any,
    domains: Any,
    level: float,
    n_resamples: int,
    seed: int,
) -> Interval:
    level, n_resamples, seed = bootstrap_settings(level, n_resamples, seed)
    risks, order = _varying(risk, uncertainty)
    columns, statistic, at_once = [risks, order], correlate, None
    if domains is not None:
        names = check.names("domains", domains, length=len(risks))
        columns.append(np.unique(names, return_inverse=True)[1])
        statistic = partial(_within, correlate)
    elif correlate is _spearman:
        at_once = partial(_resampled_spearman, risks, order)
    estimate = statistic(*columns)
    if np.isnan(estimate):
        raise check.refuse(
            "risk and uncertainty", "different between cases of a domain", "constants", "leave domains out"
        )
    if subjects is None:
        return Interval(estimate, float("nan"), float("nan"))
    _of_equal_length(risks, subjects)
    return bootstrap_interval(
        statistic, subjects, *columns, level=level, n_resamples=n_resamples, seed=seed, at_once=at_once
    )


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """In [-1, 1]; NaN if one side is constant, as a resample may be."""
    a, b = (_centred(unit_scale(x)[0]) for x in (a, b))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else float("nan")


def _centred(values: np.ndarray) -> np.ndarray:
    """Minus the mean; exactly 0 for a constant, whose mean may be one rounding off."""
    return values - (values[0] if values.min() == values.max() else values.mean())


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return _pearson(stats.rankdata(a), stats.rankdata(b))


def _within(
    correlate: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray, groups: np.ndarray
) -> float:
    """Correlation after the mean of each group is subtracted (ranks are taken within each group)."""
    if correlate is _pearson:
        a, b = unit_scale(a)[0], unit_scale(b)[0]
    left, right = np.zeros(len(a)), np.zeros(len(b))
    for group in np.unique(groups):
        cases = groups == group
        for values, centred in ((a[cases], left), (b[cases], right)):
            centred[cases] = _centred(values if correlate is _pearson else stats.rankdata(values))
    return _pearson(left, right)


def _resampled_spearman(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n_resamples,) `_spearman` of each resample; counts (n_resamples, n), how often a case is in it."""
    statistics = []
    for part in np.array_split(counts, max(1, counts.size // 1_000_000)):  # bounds the memory
        left, right = (_resampled_ranks(values, part) for values in (a, b))
        scale = np.sqrt((part * left * left).sum(axis=1) * (part * right * right).sum(axis=1))
        with np.errstate(invalid="ignore"):  # 0 / 0: a resample may hold one value only
            statistics.append((part * left * right).sum(axis=1) / scale)
    return np.concatenate(statistics).clip(-1, 1)


def _resampled_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n_resamples, n) rank of each case among those drawn, minus the mean rank."""
    by_value = np.argsort(values, kind="stable")
    _, first, group = np.unique(values[by_value], return_index=True, return_inverse=True)
    size = np.add.reduceat(counts[:, by_value], first, axis=1)  # of each tie in each resample
    middle = size.cumsum(axis=1) - (size - 1) / 2 - (size.sum(axis=1, keepdims=True) + 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, by_value] = middle[:, group]
    return ranks
