r"""What can be promised about a case: conformal bounds and thresholds, and tests of what they assume.

A conformal bound turns *any* prediction of the quality of a case into a number that the true quality
exceeds with a stated frequency, whatever the distribution, as long as the new case and the calibration cases
are *exchangeable*: every order of them is equally likely (Angelopoulos & Bates, Found Trends Mach Learn
16:494, 2023). The promise is an average over cases and over calibration sets; it says nothing about one kind
of case. Slices of one subject are not exchangeable with those of others, so calibrate with one slice per
subject. Nothing here knows a network: scores, masks and features come as arrays.

Shape letters: N calibration cases, M new cases, F features, T thresholds, H rows, W columns.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from segconf_lite import check

LEAST_EFFECTIVE = 50.0  # effective calibration cases below which weights promise nothing
VISIBLE = 1e-3  # p-value below which cases are visibly not exchangeable
_ROUNDING = 1e-9  # 0.9 * 10 may be a hair above 9
_ROUNDED = 1e-5  # distance from [0, 1] of a number that was computed in single precision
_LARGEST_LOG = 30.0  # of a density ratio, so that no weight is infinite


class DensityRatio(NamedTuple):
    """How much more likely each case is among new cases than among calibration cases.

    Attributes:
        calibration: (N,) weights > 0 of the calibration cases.
        new: (M,) weights > 0 of the new cases, on the same scale.
        effective_size: Number of equally weighted cases that carry as much information as the calibration
            cases with their weights, in [1, N]; higher is better.
        auroc: How well the features tell new cases from calibration cases, 0.5 = not at all, 1 = perfectly.

    Example:
        >>> DensityRatio(np.ones(3), np.ones(2), effective_size=3.0, auroc=0.5).new
        array([1., 1.])
    """

    calibration: np.ndarray
    new: np.ndarray
    effective_size: float
    auroc: float


class LowerBound(NamedTuple):
    """Lower bounds of the quality of new cases.

    Attributes:
        bound: (M,) in [0, 1]; the true quality lies at or above it with the level asked for. 0 promises
            nothing.
        margin: (M,) what was taken off the predicted quality; infinite where nothing can be promised.
        n_cases: (M,) calibration cases that the bound of each case rests on: all, those of its group, or the
            effective size of the weighted ones.

    Example:
        >>> LowerBound(np.array([0.7]), margin=np.array([0.2]), n_cases=np.array([99.0])).bound
        array([0.7])
    """

    bound: np.ndarray
    margin: np.ndarray
    n_cases: np.ndarray


class Martingale(NamedTuple):
    """Evidence against exchangeability after each new case.

    Attributes:
        p_values: (M,) conformal p-values in (0, 1]; independent and uniform if all cases are exchangeable.
        wealth: (M,) what a gambler who started with 1 and bet against exchangeability now has; >= 0. If all
            cases are exchangeable, the probability that it *ever* reaches c is at most 1 / c (Ville 1939).

    Example:
        >>> Martingale(np.array([0.1, 0.1]), wealth=np.array([1.2, 25.0])).first_above(20)
        2
    """

    p_values: np.ndarray
    wealth: np.ndarray

    def first_above(self, wealth: float) -> int | None:
        """Number of new cases after which the wealth first reached a value; None if it never did.

        Args:
            wealth: Threshold c, > 1. A test at level 1 / c refuses exchangeability there.
        """
        wealth = check.number("wealth", wealth, low=1, open_low=True)
        reached = np.flatnonzero(self.wealth >= wealth)
        return int(reached[0]) + 1 if len(reached) else None


def smallest_calibration_size(level: float) -> int:
    r"""Fewest calibration cases with which a conformal bound at a level can promise anything.

    .. math:: n = \lceil 1 / \alpha \rceil - 1, \quad \alpha = 1 - \text{level}

    Args:
        level: Level of the promise, in (0, 1).

    Raises:
        ValueError: If the level is not in (0, 1).

    Example:
        >>> smallest_calibration_size(0.9), smallest_calibration_size(0.95)
        (9, 19)
    """
    return math.ceil(1 / (1 - _open_unit("level", level)) - _ROUNDING) - 1


def conformal_quantile(scores: Any, *, level: float) -> float:
    r"""The value that the score of one more exchangeable case does not exceed, with a probability >= level.

    It is the k-th smallest of the n scores with

    .. math:: k = \lceil (n + 1) \cdot \text{level} \rceil,

    because the rank of the new score among all n + 1 is uniform (Vovk et al. 2005; Angelopoulos & Bates
    2023). Without ties the probability is k / (n + 1), at most 1 / (n + 1) above the level.

    Args:
        scores: (N,) finite scores of calibration cases, one per subject; any scale, higher = worse. For a
            bound on a quality: predicted minus true quality.
        level: Level of the promise, in (0, 1).

    Returns:
        The quantile, in the unit of the scores.

    Raises:
        ValueError: If there are fewer cases than `smallest_calibration_size`, or a score is not finite.

    Example:
        >>> conformal_quantile([0.3, 0.1, 0.2, 0.5, 0.4, 0.6, 0.9, 0.8, 0.7], level=0.8)
        0.8
    """
    found = _finite("scores", scores, "n_cases")
    _enough("scores", len(found), level)
    rank = max(1, math.ceil((len(found) + 1) * level - _ROUNDING))
    return float(np.partition(found, rank - 1)[rank - 1])


def weighted_quantile(scores: Any, weights: Any, new_weights: Any, *, level: float) -> np.ndarray:
    r"""Conformal quantile for new cases from another distribution, by weights of the cases.

    For a new case of weight w the smallest score s with

    .. math:: \sum_{i : s_i \le s} w_i \ge \text{level} \cdot \Big(w + \sum_i w_i\Big),

    as Tibshirani et al. (NeurIPS 2019) weigh the cases. With equal weights it is `conformal_quantile`.
    The promise holds if the weights are the ratio of the densities, new over calibration, and only the
    features have changed: cases with equal features must have scores of one distribution.

    Args:
        scores: (N,) finite scores of calibration cases, higher = worse.
        weights: (N,) finite weights >= 0 of these cases, not all 0.
        new_weights: (M,) finite weights >= 0 of the new cases, on the same scale.
        level: Level of the promise, in (0, 1).

    Returns:
        (M,) quantiles; infinite where the new case weighs so much that nothing can be promised.

    Raises:
        ValueError: If lengths differ, a value is not finite, or the weights are negative or all 0.

    Example:
        >>> weighted_quantile([0.1, 0.2, 0.3], [1, 1, 8], [1.0, 5.0], level=0.7)
        array([0.3, inf])
    """
    level = _open_unit("level", level)
    found = _finite("scores", scores, "n_cases")
    mass, new_mass = _weights("weights", weights), _weights("new_weights", new_weights)
    check.same_length(scores=found, weights=mass)
    if not mass.any():
        raise check.refuse("weights", "above 0 for at least one case", "0 for all")
    order = np.argsort(found, kind="stable")
    cumulated = np.cumsum(mass[order])
    needed = (level - _ROUNDING) * (cumulated[-1] + new_mass)
    return np.append(found[order], np.inf)[np.searchsorted(cumulated, needed)]


def effective_sample_size(weights: Any) -> float:
    r"""Number of equally weighted cases that would carry as much information (Kish 1965).

    .. math:: n_{\mathrm{eff}} = \Big(\sum_i w_i\Big)^2 / \sum_i w_i^2

    Args:
        weights: (N,) finite weights >= 0, not all 0.

    Returns:
        A number in [1, N]; N if all weights are equal.

    Raises:
        ValueError: If a weight is negative or not finite, or all are 0.

    Example:
        >>> effective_sample_size([1, 1, 0, 0]), effective_sample_size([2, 2])
        (2.0, 2.0)
    """
    mass = _weights("weights", weights)
    if not mass.any():
        raise check.refuse("weights", "above 0 for at least one case", "0 for all")
    mass = mass / mass.max()  # squares of tiny or huge weights would leave the floats
    return float(mass.sum() ** 2 / (mass**2).sum())


def density_ratio(calibration_features: Any, new_features: Any, *, penalty: float = 1.0) -> DensityRatio:
    r"""Weights of covariate shift from a classifier that tells new cases from calibration cases.

    With both kinds weighted to be equally many, the odds of the classifier are the ratio of the densities:

    .. math:: w(x) = \frac{p_{\mathrm{new}}(x)}{p_{\mathrm{cal}}(x)}
              = \frac{P(\mathrm{new} \mid x)}{P(\mathrm{cal} \mid x)}

    The classifier is a logistic regression on standardised features, so the logarithm of the ratio is linear
    in them. Many features tell nearly any two sets apart, and then no case counts but a few.

    Args:
        calibration_features: (N, F) finite features of the calibration cases.
        new_features: (M, F) features of the new cases, without labels.
        penalty: Strength of the squared penalty on the coefficients, > 0; more makes the weights more equal.

    Returns:
        Weights of both, the effective sample size of the calibration cases, and the AUROC of the classifier.

    Raises:
        ValueError: If the numbers of features differ, a value is not finite, or there are fewer than two
            cases of a kind.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> ratio = density_ratio(rng.normal(0, 1, (200, 1)), rng.normal(0.5, 1, (200, 1)))
        >>> 100 < ratio.effective_size < 200
        True
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    shape, fix = "n_cases n_features", "a single feature (N,) becomes (N, 1) with [:, None]"
    old = _finite("calibration_features", calibration_features, shape, fix)
    new = _finite("new_features", new_features, shape, fix)
    penalty = check.number("penalty", penalty, low=0, open_low=True)
    if old.shape[1] != new.shape[1]:
        expected, got = "of as many features as calibration_features", f"{new.shape[1]} and {old.shape[1]}"
        raise check.refuse("new_features", expected, got)
    check.integer("number of cases of each kind", min(len(old), len(new)), low=2)
    both, is_new = np.concatenate([old, new]), np.arange(len(old) + len(new)) >= len(old)
    scale = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(scale > 0, scale, 1)
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=1000).fit(both, is_new)
    log_odds = model.decision_function(both)
    weights = np.exp(np.clip(log_odds, -_LARGEST_LOG, _LARGEST_LOG))
    size = effective_sample_size(weights[~is_new])
    return DensityRatio(weights[~is_new], weights[is_new], size, float(roc_auc_score(is_new, log_odds)))


def quality_lower_bound(
    predicted: Any,
    quality: Any,
    new_predicted: Any,
    *,
    level: float,
    groups: Any = None,
    new_groups: Any = None,
    ratio: DensityRatio | None = None,
    least_effective: float = LEAST_EFFECTIVE,
) -> LowerBound:
    r"""Lower bound of the quality of each new case: predicted quality minus a conformal margin.

    .. math:: \text{bound}(x) = \hat q(x) - Q_{\text{level}}\{\hat q_i - q_i\}

    The margin is the conformal quantile of how much too good the predictions for the calibration cases were.
    There are three kinds. *Plain*: calibration and new cases are exchangeable. *Mondrian* (with `groups`):
    they are so within each group, e.g. a scanner, and each group has a margin of its own (Vovk et al. 2005).
    *Weighted* (with `ratio`): only the features have shifted (Tibshirani et al. 2019).

    Args:
        predicted: (N,) predicted quality of the calibration cases, in [0, 1], higher is better.
        quality: (N,) their true quality, in [0, 1]; one case per subject.
        new_predicted: (M,) predicted quality of the new cases, in [0, 1].
        level: Frequency with which the quality must not lie below the bound, in (0, 1).
        groups: (N,) group of each calibration case, e.g. its scanner, for the Mondrian bound.
        new_groups: (M,) group of each new case; needed with `groups`.
        ratio: Weights of both, see `density_ratio`, for the weighted bound.
        least_effective: Effective sample size below which weights are refused, > 0.

    Returns:
        The bounds, their margins, and how many calibration cases they rest on.

    Raises:
        ValueError: If there are too few calibration cases (of a group), a new group has none, the weights are
            degenerate, lengths differ, or a value is not in [0, 1].

    Warns:
        UserWarning: If the predicted qualities of new and calibration cases differ visibly (two-sample
            Kolmogorov-Smirnov test, p < 0.001), so that plain or Mondrian bounds promise nothing.

    Example:
        >>> predicted, quality = np.linspace(0.8, 0.9, 19), np.linspace(0.7, 0.88, 19)
        >>> quality_lower_bound(predicted, quality, [0.85], level=0.9).bound.round(3)
        array([0.754])
    """
    old, true, new = (
        _unit(name, values)
        for name, values in (("predicted", predicted), ("quality", quality), ("new_predicted", new_predicted))
    )
    check.same_length(predicted=old, quality=true)
    least_effective = check.number("least_effective", least_effective)
    scores = old - true
    if (groups is None) != (new_groups is None):
        raise check.refuse("groups and new_groups", "given together", "one of them")
    if ratio is not None:
        if groups is not None:
            raise check.refuse("groups and ratio", "given one at a time", "both")
        return _weighted_bound(scores, new, level, ratio, least_effective)
    of_old, of_new = np.zeros(len(old), int).astype(str), np.zeros(len(new), int).astype(str)
    if groups is not None:
        of_old = check.names("groups", groups, length=len(old))
        of_new = check.names("new_groups", new_groups, length=len(new))
        if absent := sorted(set(of_new) - set(of_old)):
            expected = f"groups of the calibration cases ({', '.join(sorted(set(of_old)))})"
            fix = f"label at least {smallest_calibration_size(level)} cases of each, or use no groups"
            raise check.refuse("new_groups", expected, ", ".join(absent), fix)
    margin, n_cases = np.empty(len(new)), np.empty(len(new))
    for group in dict.fromkeys(of_new.tolist()):
        mine, its = of_old == group, of_new == group
        name = "predicted" if groups is None else f"predicted of group {group}"
        _enough(name, int(mine.sum()), level)
        _warn_if_visible(name, old[mine], new[its])
        margin[its], n_cases[its] = conformal_quantile(scores[mine], level=level), mine.sum()
    return LowerBound(np.clip(new - margin, 0, 1), margin, n_cases)


def false_negative_rates(probability: Any, reference: Any, thresholds: Any) -> np.ndarray:
    r"""Fraction of the true pixels of a class that a mask misses, per case and threshold.

    The mask of threshold t has the pixels whose probability is at least t, so

    .. math:: \mathrm{FNR}(t) = |\{i \in R : p_i < t\}| / |R|,

    which never falls as t grows.

    Args:
        probability: (N, H, W) probability of one class, in [0, 1].
        reference: (N, H, W) true mask of the class: booleans, or labels 0 and 1.
        thresholds: (T,) in [0, 1].

    Returns:
        (N, T) in [0, 1], lower is better; NaN in the rows of cases that lack the class.

    Raises:
        ValueError: If shapes differ, a value is out of range, or no case has the class.

    Example:
        >>> probability, reference = np.array([[[0.9, 0.4, 0.2]]]), np.array([[[1, 1, 0]]])
        >>> false_negative_rates(probability, reference, [0.3, 0.5, 1.0])
        array([[0. , 0.5, 1. ]])
    """
    chances = _unit("probability", probability, "N H W")
    truth = check.label_map("reference", reference, n_classes=2, shape=chances.shape) > 0
    cuts = _unit("thresholds", thresholds, "n_thresholds")
    if not truth.any():
        fix = "a class that no calibration case has cannot be controlled; add cases that have it"
        raise check.refuse("reference", "above 0 in at least one case", "an empty mask in every case", fix)
    rates = np.full((len(chances), len(cuts)), np.nan)
    for case in np.flatnonzero(truth.any(axis=(1, 2))):
        inside = np.sort(chances[case][truth[case]])
        rates[case] = np.searchsorted(inside, cuts, side="left") / len(inside)
    return rates


def risk_controlling_threshold(losses: Any, thresholds: Any, *, risk: float) -> float:
    r"""The largest threshold at which the expected loss of one more exchangeable case is at most `risk`.

    Conformal risk control (Angelopoulos et al., ICLR 2024): the largest t with

    .. math:: \frac{1}{n + 1} \Big(1 + \sum_i L_i(t)\Big) \le \text{risk}

    for losses that never fall as t grows. With false-negative rates as losses, their mean is controlled. With
    ``losses > limit``, the fraction of *images* whose rate exceeds the limit is.

    Args:
        losses: (N, T) losses in [0, 1] of calibration cases, or booleans; each row non-decreasing from left
            to right. Rows that are NaN (the case lacks the class) are left out.
        thresholds: (T,) increasing thresholds.
        risk: Largest allowed expected loss, in (0, 1).

    Returns:
        The threshold.

    Raises:
        ValueError: If there are too few cases, no threshold keeps the risk, a loss falls as the threshold
            grows, no case has the class, or shapes differ.

    Example:
        >>> losses = np.tile([0.0, 0.05, 0.5], (19, 1))
        >>> risk_controlling_threshold(losses, [0.1, 0.5, 0.9], risk=0.1)
        0.5
    """
    risk = _open_unit("risk", risk)
    cuts = _finite("thresholds", thresholds, "n_thresholds")
    found = check.array("losses", losses, f"n_cases {len(cuts)}", dtype=np.float64)
    found = check.finite("losses", found, missing=True)
    found = found[~np.isnan(found).all(axis=1)]
    if not len(found):
        raise check.refuse("losses", "defined for at least one case", "NaN for all")
    _unit("losses", found, "n_cases n_thresholds")
    if (np.diff(cuts) <= 0).any() or (np.diff(found, axis=1) < 0).any():
        fix = "sort the thresholds; a loss that falls as they grow cannot be controlled in this way"
        raise check.refuse("thresholds and losses", "increasing and non-decreasing", "others", fix)
    level = check.number("1 - risk", 1 - risk, high=1, open_high=True, fix="allow a larger risk")  # rounded
    _enough("losses", len(found), level)
    expected = (found.sum(axis=0) + 1) / (len(found) + 1)
    kept = np.flatnonzero(expected <= risk + _ROUNDING)
    if not len(kept):
        fix = "allow a larger risk, lower thresholds, or add calibration cases"
        raise check.refuse("risk", f"at least {expected[0]:.3f} with these losses", f"{risk:g}", fix)
    return float(cuts[kept[-1]])


def exchangeability_martingale(
    calibration: Any, stream: Any, *, jump: float = 0.01, seed: int = 0
) -> Martingale:
    r"""Conformal test martingale: does a stream of new cases look like the calibration cases?

    Each new score gets the p-value of its rank among all scores before it, ties broken at random (Vovk et
    al., ICML 2003). Three gamblers bet on them by the factor :math:`1 + \epsilon (p - 1/2)` with
    :math:`\epsilon \in \{-1, 0, 1\}`; after each case a fraction `jump` of the money is shared out anew
    (Simple Jumper; Vovk et al., COPA 2021). No labels are needed if the score needs none. The test sees
    that scores have changed, not that the segmentations are worse.

    Args:
        calibration: (N,) finite scores of calibration cases, in any unit.
        stream: (M,) scores of new cases in the order of their arrival; independent, so one per subject.
        jump: Fraction of the wealth that changes hands, in (0, 1).
        seed: Seed of the random draw that breaks ties.

    Returns:
        p-values and wealth after each case.

    Raises:
        ValueError: If there are no cases, or a score is not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = exchangeability_martingale(rng.normal(0, 1, 100), rng.normal(3, 1, 40))
        >>> found.first_above(20) < 20
        True
    """
    before, after = _finite("calibration", calibration, "n_cases"), _finite("stream", stream, "n_cases")
    jump = check.number("jump", jump, low=0, high=1, open_low=True, open_high=True)
    rng = np.random.default_rng(check.integer("seed", seed, low=0))
    every, n = np.concatenate([before, after]), len(before)
    p_values, wealth = np.empty(len(after)), np.empty(len(after))
    money, epsilon = np.full(3, 1 / 3), np.array([-1.0, 0.0, 1.0])
    for t, score in enumerate(after):
        past = every[: n + t]
        rank = (past > score).sum() + (1 - rng.random()) * ((past == score).sum() + 1)
        p_values[t] = rank / (n + t + 1)
        money = ((1 - jump) * money + jump * money.mean()) * (1 + epsilon * (p_values[t] - 0.5))
        wealth[t] = money.sum()
    return Martingale(p_values, wealth)


def _weighted_bound(
    scores: np.ndarray, new: np.ndarray, level: float, ratio: DensityRatio, least_effective: float
) -> LowerBound:
    check.same_length(predicted=scores, **{"ratio.calibration": ratio.calibration})
    check.same_length(new_predicted=new, **{"ratio.new": ratio.new})
    size = effective_sample_size(ratio.calibration)
    if size < least_effective:
        expected = f"of an effective sample size of at least {least_effective:g}"
        fix = "these cases are too unlike the calibration cases to be promised anything: label some of them"
        raise check.refuse("ratio", expected, f"{size:.1f} of {len(scores)} cases", fix)
    margin = weighted_quantile(scores, ratio.calibration, ratio.new, level=level)
    return LowerBound(np.clip(new - margin, 0, 1), margin, np.full(len(new), size))


def _warn_if_visible(name: str, old: np.ndarray, new: np.ndarray) -> None:
    if len(new) > 1 and (p := float(stats.ks_2samp(old, new).pvalue)) < VISIBLE:
        warnings.warn(
            f"new_predicted differs visibly from {name} (two-sample Kolmogorov-Smirnov test, p = {p:.1g}): "
            "the cases are not exchangeable, so the bound promises nothing; calibrate on cases of this kind",
            stacklevel=3,
        )


def _enough(name: str, n: int, level: float) -> None:
    least = smallest_calibration_size(level)
    if n < least:
        fix = "add calibration cases or lower the level"
        raise check.refuse(name, f"at least ceil(1 / (1 - level)) - 1 = {least} cases", f"{n}", fix)


def _open_unit(name: str, value: float) -> float:
    return check.number(name, value, low=0, high=1, open_low=True, open_high=True)


def _finite(name: str, values: Any, shape: str, fix: str = "") -> np.ndarray:
    return check.finite(name, check.array(name, values, shape, dtype=np.float64, fix=fix))


def _unit(name: str, values: Any, shape: str = "n_cases") -> np.ndarray:
    fix = "leave out cases whose quality is not defined"
    found = check.finite(name, check.array(name, values, shape, dtype=np.float64), fix=fix)
    if found.min() < -_ROUNDED or found.max() > 1 + _ROUNDED:
        raise check.refuse(name, "in [0, 1]", f"{found.min():g} to {found.max():g}")
    return np.clip(found, 0, 1)


def _weights(name: str, values: Any) -> np.ndarray:
    found = _finite(name, values, "n_cases")
    if found.min() < 0:
        raise check.refuse(name, ">= 0", f"{found.min():g}")
    return found
