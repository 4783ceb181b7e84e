"""Checks of the exercises in chapters 9 and 10; they work as those of `exercises` do."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.evaluation import (
    case_table,
    conformal_quantile,
    effective_sample_size,
    excess_aurc,
    weighted_quantile,
)
from segconf_lite.exercises.answers import Function, NotYetError, _call, _number, _numbers, _over_runs, _trial
from segconf_lite.exercises.chapters_06_to_08 import _of_rows
from segconf_lite.reports import recommend_method
from segconf_lite.reports.recommend import seed_means


def check_quantile(quantile: Function) -> None:
    """Check a function that computes the conformal margin of a level.

    Args:
        quantile: Function of the excess (N,) of the calibration cases and of the level. It returns the k-th
            smallest excess with k = ⌈(N + 1) level⌉, and infinity if there is none.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_quantile(lambda excess, level: np.quantile(excess, level))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is the quantile of the old cases...
    """
    excess = np.array([0.31, -0.2, 0.05, 0.12, 0.4, 0.0, 0.22, -0.1, 0.17, 0.9, 0.26, 0.08])
    ranked = np.sort(excess)  # of 12: k is 11, the plain quantile lies between two values
    wrong = {
        "that is the quantile of the old cases: the new case is one more, so use N + 1 places": np.quantile(
            excess, 0.8
        ),
        "you used N places: the new case is one more": ranked[9],
        "you took the case behind it: in Python, the k-th smallest has the index k − 1": ranked[11],
        "you did not sort the cases": excess[10],
        "those are sorted from the largest to the smallest": ranked[::-1][10],
        "that is k itself: return the k-th smallest excess": 11,
    }
    _trial(quantile, (excess, 0.8), ranked[10], wrong)
    none = "with 12 cases nothing can be promised at 95 %: k is 13, so the margin is infinite"
    _trial(quantile, (excess, 0.95), np.inf, {none: 0.9})
    print(
        "Right: with 12 cases, a level of 80 % needs the 11th smallest excess, and 95 % cannot be promised."
    )


def check_weighted(quantile: Function) -> None:
    """Check a function that computes the weighted conformal margin of one new case.

    Args:
        quantile: Function of the excess (N,) and the weights (N,) of the calibration cases, of the weight of
            the new case, and of the level. It returns the smallest excess at which the sum of the weights up
            to it reaches the level times the sum of all weights, the new one included; else infinity.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_weighted(lambda excess, weights, new, level: np.sort(excess)[-1])
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: expected 0.2, got 0.4
    """
    excess, weights = np.array([0.4, 0.1, 0.3, 0.2]), np.array([1.0, 3.0, 2.0, 4.0])
    wrong = {
        "the weight of the new case is missing in the sum of all weights": 0.1,
        "you did not sort: sum the weights from the smallest excess to the largest": 0.3,
    }
    _trial(quantile, (excess, weights, 4.0, 0.29), 0.2, wrong)
    plain = weighted_quantile(excess, np.ones(4), [1.0], level=0.6)[0]
    heavy = np.array([1.0, 1.0, 1.0, 9.0])
    _trial(
        quantile,
        (excess, heavy, 1.0, 0.6),
        0.2,
        {"the weights are not used: that is the margin of cases that count the same": plain},
    )
    none = "the new case outweighs the old ones, so nothing can be promised: return infinity"
    _trial(quantile, (excess, weights, 30.0, 0.8), np.inf, {none: 0.4})
    print("Right: a heavy new case raises the margin, and a very heavy one makes it infinite.")


def check_groups(margins: Function) -> None:
    """Check a function that gives each new case the conformal margin of its own group.

    Args:
        margins: Function of the excess (N,) and the group (N,) of the calibration cases, of the group (M,) of
            each new case, and of the level. It returns M margins.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_groups(lambda excess, groups, new, level: conformal_quantile(excess, level=level))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is one margin for all cases...
    """
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(["apex", "base"], [19, 29]))
    excess = rng.normal(np.where(groups == "base", 0.2, 0.05), 0.03)
    new = np.array(["base", "apex", "base"])
    own = {each: conformal_quantile(excess[groups == each], level=0.9) for each in ("apex", "base")}
    both = conformal_quantile(excess, level=0.9)
    swapped = np.array([own["apex"], own["base"], own["apex"]])
    wrong = {
        "that is one margin for all cases: return one per new case, from its own group": both,
        "all groups have one margin: at the base, the promise is then broken too often": np.full(3, both),
        "that is the largest margin of the groups: it is safe, and too wide for the others": np.full(
            3, own["base"]
        ),
        "each case has the margin of another group": swapped,
        "those are the margins of the groups: return one per new case": np.array([*own.values()]),
    }
    rows = "cohort == 'place' and part == 'base'"
    _trial(margins, (excess, groups, new, 0.9), [own[each] for each in new], wrong)
    print(
        f"Right: the margin is {own['apex']:.2f} at the apex and {own['base']:.2f} at the base; for both "
        f"together it would be {both:.2f}. In the chapter, where one margin is used for all slices, the "
        f"coverage of the two basal ones is {_of_rows(9, rows, 'covered')}."
    )


def check_harm(harm: Function) -> None:
    """Check a function that computes the expected harm of a review policy, per 100 cases, in reviews.

    Args:
        harm: Function of whether each case failed (N,), of whether it is reviewed (N,), and of the cost of a
            failure that nobody reviewed.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_harm(lambda failed, reviewed, cost: 100 * (cost * failed + reviewed).mean())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: a failure that was reviewed does no harm...
    """
    failed = np.array([True, True, True, False, False, False, False, False])
    reviewed = np.array([True, False, False, True, False, False, False, False])
    missed = failed & ~reviewed
    right = 100 * (10 * missed.mean() + reviewed.mean())
    wrong = {
        "a failure that was reviewed does no harm: count those that nobody reviewed": 100
        * (10 * failed.mean() + reviewed.mean()),
        "the reviews cost something, too: each costs 1": 1000 * missed.mean(),
        "reviewing a case that did not fail costs 1 as well": 100
        * (10 * missed.mean() + (failed & reviewed).mean()),
        "divide by the number of all cases, and multiply by 100": 10 * missed.sum() + reviewed.sum(),
        "that is the harm per case: multiply by 100": right / 100,
    }
    _trial(harm, (failed, reviewed, 10.0), right, wrong)
    print(
        f"Right: of 8 cases, 2 failures are missed and 2 cases reviewed: {right:.0f} reviews per 100 cases."
    )


def check_budgets(failed: np.ndarray, budgets: Any, costs: tuple[float, ...]) -> None:
    """Check the numbers of reviews with the least harm, one per cost of a missed failure.

    Args:
        failed: (N,) whether each case failed, the least trusted case first; they are reviewed in this order.
        budgets: The number of reviews for each cost.
        costs: Cost of a failure that nobody reviewed, in reviews.

    Raises:
        NotYetError: If another number of reviews does less harm; the message says how much.

    Example:
        >>> check_budgets(np.array([True, False, False]), [3], (10.0,))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: where a missed failure costs 10, 3 reviews do a harm of 3...
    """
    asked = _numbers(budgets)
    if asked.shape != (len(costs),):
        raise NotYetError(f"give {len(costs)} numbers of reviews, one for each cost of a missed failure")
    missed = failed.sum() - np.append(0, failed.cumsum())
    for number, cost in zip(asked, costs, strict=True):
        harm = cost * missed + np.arange(len(missed))
        if number not in range(len(harm)):
            raise NotYetError(f"a number of reviews is an integer from 0 to {len(failed)}, got {number:g}")
        if harm[int(number)] > harm.min():
            raise NotYetError(
                f"where a missed failure costs {cost:g}, {number:.0f} reviews do a harm of "
                f"{harm[int(number)]:g}, and the least is {harm.min():g}"
            )
    told = " and ".join(f"{n:.0f} where it costs {c:g}" for n, c in zip(asked, costs, strict=True))
    print(f"Right: the number of reviews with the least harm follows from the cost of a miss: {told}.")


def check_weights(
    excess: np.ndarray, new_excess: np.ndarray, weights: Any, *, level: float, limit: float, least: float
) -> None:
    """Score weights that break the promise of a weighted bound and look well behaved.

    Args:
        excess: (N,) excess of the calibration cases.
        new_excess: (M,) excess of the new cases, each of which has the weight 1.
        weights: (N,) weights of the calibration cases.
        level: Level of the promise.
        limit: Coverage below which the promise counts as broken.
        least: Effective sample size that has to be left.

    Raises:
        NotYetError: If the coverage is not below the limit, or too few effective cases are left.

    Example:
        >>> excess = np.arange(100.0)
        >>> check_weights(excess, excess, np.ones(100), level=0.9, limit=0.7, least=50)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the promise is not broken: the coverage is 0.91...
    """
    given = _numbers(weights)
    if given.shape != excess.shape or not (given >= 0).all() or not given.any():
        raise NotYetError(
            f"give one weight per calibration case, {len(excess)} in all, none of them negative"
        )
    size = effective_sample_size(given)
    margin = weighted_quantile(excess, given, np.ones(len(new_excess)), level=level)
    kept = (new_excess <= margin).mean()
    if kept >= limit:
        raise NotYetError(f"the promise is not broken: the coverage is {kept:.2f}, and not below {limit:g}")
    if size < least:
        raise NotYetError(
            f"the promise is broken (coverage {kept:.2f}), but only {size:.0f} effective cases are left, and "
            f"the package would refuse weights with fewer than {least:g}"
        )
    print(
        f"Right: a coverage of {kept:.2f} where {level:g} was promised, with {size:.0f} effective cases of "
        f"{len(excess)}. The effective size says nothing about whether weights are right."
    )


def check_eaurc(eaurc: Function) -> None:
    """Check a function that computes the eAURC, for uncertainties without ties.

    Args:
        eaurc: Function of the risk (N,) and the uncertainty (N,) of the cases.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_eaurc(lambda risk, uncertainty: risk.mean())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is the mean risk...
    """
    risk, uncertainty = np.array([0.2, 0.8, 0.1, 0.5, 0.05]), np.array([3.0, 2.0, 4.0, 1.0, 0.5])

    def area(scores: np.ndarray) -> float:
        return float((risk[np.argsort(scores)].cumsum() / np.arange(1, 6)).mean())

    right = excess_aurc(risk, uncertainty)
    wrong = {
        "that is the AURC: subtract that of the best possible order": area(uncertainty),
        "that is the mean risk, the AURC of a constant uncertainty": risk.mean(),
        "you subtracted the mean risk: subtract the AURC of the best order": area(uncertainty) - risk.mean(),
        "you began with the most uncertain case": area(-uncertainty) - area(risk),
        "the sign is reversed: the best order has the smaller area": -right,
        "you compared with the worst order": area(-risk) - area(uncertainty),
    }
    _trial(eaurc, (risk, uncertainty), right, wrong)
    _trial(eaurc, (risk, risk**2), 0.0, {})
    print(f"Right: {right:.3f} for these five cases, and 0 where the uncertainty has the order of the risk.")


def check_regret(regret: Function) -> None:
    """Check a function that computes the mean regret of advice.

    Args:
        regret: Function of the eAURC (B, M) of M methods in B blocks, and of the number (B,) of the method
            that was advised in each block.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_regret(lambda values, advised: (values.argmin(axis=1) != advised).mean())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is how often the advice was not the best...
    """
    values = np.array([[0.010, 0.012, 0.040], [0.020, 0.015, 0.030], [0.05, 0.09, 0.02]])
    advised = np.array([1, 1, 0])
    reached, best = values[np.arange(3), advised], values.min(axis=1)
    wrong = {
        "that is how often the advice was not the best: the regret says by how much": 2 / 3,
        "that is the value that was reached: subtract that of the best method of the block": reached.mean(),
        "you compared with the method that is best on average: each block has its own best": reached.mean()
        - values.mean(axis=0).min(),
        "those are the regrets of the blocks: return their mean": reached - best,
        "the sign is reversed: a regret is not negative": (best - reached).mean(),
        "all methods were advised in each block: take the column that was": values[:, advised].mean()
        - best.mean(),
        "you divided by the best value: a regret has the unit of the values": (reached / best - 1).mean(),
    }
    _trial(regret, (values, advised), (reached - best).mean(), wrong)
    print("Right: the advice was not the best in 2 of 3 blocks, by 0.011 on average.")


def check_rank_mean(rank_mean: Function) -> None:
    """Check a function that combines two uncertainties by the mean of their ranks.

    Args:
        rank_mean: Function of two uncertainties (N,) without ties. It returns (N,); rank 1 is the lowest.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_rank_mean(lambda first, second: (first + second) / 2)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is the mean of the values...
    """
    first, second = np.array([0.2, 0.9, 0.1, 0.4, 0.7]), np.array([300.0, 20.0, 500.0, 10.0, 900.0])
    one, two = rankdata(first), rankdata(second)
    orders = np.argsort(first), np.argsort(second)
    wrong = {
        "that is the mean of the values: the one with the larger unit decides alone": (first + second) / 2,
        "`argsort` gives the case at each place, and not the place of each case: apply it twice": sum(orders)
        / 2
        + 1,
        "`argsort` counts from 0 and gives the case at each place: apply it twice, and add 1": sum(orders)
        / 2,
        "ranks begin with 1, and those of NumPy with 0": (one + two) / 2 - 1,
        "that is the sum of the ranks: divide it by 2": one + two,
        "the ranks are reversed: the lowest uncertainty has rank 1": 6 - (one + two) / 2,
    }
    _trial(rank_mean, (first, second), (one + two) / 2, wrong)
    print(
        "Right: both uncertainties count the same, although one has values up to 0.9 and the other up to 900."
    )


@functools.cache
def advised(passes: int) -> str:
    """The method that the rule of chapter 10 advises to state the Dice, without labels and with one network.

    Args:
        passes: Passes of a network per case that one can afford, >= 1.

    Example:
        >>> advised(1)
        'soft Dice'
    """
    return recommend_method(want="number", passes=passes).method


def check_passes(passes: int) -> None:
    """Check the fewest passes with which the rule gives other advice for stating the Dice than with one.

    Args:
        passes: Passes of a network per case, without labels and with one network.

    Raises:
        NotYetError: If the advice is that of one pass, or fewer passes change it, too.

    Example:
        >>> check_passes(1)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: with 1, the rule advises soft Dice...
    """
    number = _number(passes)
    if number not in range(1, 16):
        raise NotYetError("give an integer from 1 to 15, as the parameters cell allows")
    before, now = advised(1), advised(int(number))
    if now == before:
        raise NotYetError(f"with {number:.0f}, the rule advises {now}, as it does with one pass")
    if advised(int(number) - 1) != before:
        raise NotYetError(f"with {number:.0f}, the advice is {now}, but fewer passes change it, too")
    errors = seed_means("absolute error")
    print(
        f"Right: {now} in place of {before}. On average, the Dice that they state is off by "
        f"{_over_runs(errors[now])}, and by {_over_runs(errors[before])}."
    )


@functools.cache
def segmented() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 4, 32, 32) and risk (N,) of 36 small hearts of scanner F, from a simple segmenter.

    The segmenter learns on scanner A. For each class it fits a normal distribution to five numbers of each
    pixel: its intensity, the mean intensity of two neighbourhoods, and its place. The risk is 1 − Dice.

    Example:
        >>> probabilities, risk = segmented()
        >>> probabilities.shape, bool(risk.min() >= 0)
        ((36, 4, 32, 32), True)
    """
    train, test = (
        phantom.cohort(n, scanner=s, size=32, seed=k) for n, s, k in ((60, "A", 0), (36, "F", 1000))
    )
    model = QuadraticDiscriminantAnalysis(reg_param=1e-3).fit(_pixels(train), train.labels.ravel())
    found = model.predict_proba(_pixels(test)).reshape(len(test), 32, 32, 4).transpose(0, 3, 1, 2)
    return found, 1 - case_table(found, test, empty="one")["quality"].to_numpy()


def check_aggregation(aggregation: Function) -> None:
    """Score an aggregation by the eAURC of the cases of `segmented`, and show its place among known ones.

    Args:
        aggregation: Function of the probabilities (C, H, W) of a case that returns its uncertainty, a number.

    Raises:
        NotYetError: If the result is no number per case, or if the size of the prediction ranks better.

    Example:
        >>> check_aggregation(lambda p: 0.0)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: all cases have the same uncertainty...
    """
    probabilities, risk = segmented()
    scores = np.array([_number_of(aggregation, p) for p in probabilities])
    if np.ptp(scores) == 0:
        raise NotYetError("all cases have the same uncertainty, so they are not ranked")
    board = {n: 1000 * excess_aurc(risk, u) for n, u in one_pass_columns(probabilities).items()}
    mine, null = 1000 * excess_aurc(risk, scores), board["small prediction"]
    if mine >= null:
        turned = 1000 * excess_aurc(risk, -scores)
        hint = "; with the other sign it does better: uncertainty is high where the case is bad"
        raise NotYetError(
            f"an eAURC × 1000 of {mine:.1f} is not below the {null:.1f} of the size of the prediction"
            + (hint if turned < null else "")
        )
    print(f"Right: rank {1 + sum(value < mine for value in board.values())} of {len(board) + 1}.")
    _show(board | {"my_aggregation": mine})


def _show(board: Mapping[str, float]) -> None:
    print("eAURC × 1000, lower is better:")
    for name in sorted(board, key=lambda each: board[each]):
        print(f"{board[name]:8.1f}  {name}")


def _number_of(aggregation: Function, p: np.ndarray) -> float:
    found = _numbers(_call(aggregation, p.copy()))
    if found.size != 1:
        raise NotYetError(f"one number per case is asked for, and the result has the shape {found.shape}")
    if not np.isfinite(found).all():
        raise NotYetError(
            "the uncertainty of a case is not finite: mind a case in which nothing is predicted"
        )
    return float(found.item())


def _pixels(cohort: Cohort) -> np.ndarray:
    """(N * H * W, 5) features of the pixels."""
    x = cohort.images[:, 0].astype(float)
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in x.shape[1:]), indexing="ij")
    near = [uniform_filter(x, (0, n, n)) for n in (3, 7)]
    columns = [x, *near, *(np.broadcast_to(axis, x.shape) for axis in place)]
    return np.stack(columns, axis=-1).reshape(-1, len(columns))
