"""Checks of the exercises in the chapters: they say what is wrong with an answer, not only that it is wrong.

Each check takes the reader's function or numbers, tries them on small cases, and compares the result with the
right one and with those of common mistakes. A right answer prints what it has shown. A wrong one raises
`NotYetError`, which Jupyter shows as one sentence, and which nbgrader counts as a failed test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Function = Callable[..., Any]


class NotYetError(AssertionError):
    """An answer that is not right yet; the message says why."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"Not yet: {self}"]


def check_dice(dice: Function) -> None:
    """Check a function that computes the Dice of two masks, ``2 |P ∩ R| / (|P| + |R|)``.

    Args:
        dice: Function of a predicted and of a reference mask, boolean arrays of one shape.

    Raises:
        NotYetError: If the function is not right. The message says what it computes instead, if known.

    Example:
        >>> check_dice(lambda p, r: (p & r).sum() / (p | r).sum())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you divided by the union: that is the Jaccard index...
        >>> check_dice(lambda p, r: 2 * (p & r).sum() / (p.sum() + r.sum()))
        Right: two masks of 4 and of 6 pixels that share 3 have a Dice of 0.60.
    """
    p = np.zeros((4, 5), bool)
    r = p.copy()
    p[0, :4] = r[0, 1:4] = r[1, :3] = True
    both, union = (p & r).sum(), (p | r).sum()
    wrong = {
        "you divided by the union: that is the Jaccard index. Dice divides by the sum of both areas": both
        / union,
        "the factor 2 is missing, so a perfect prediction would have 0.5": both / (p.sum() + r.sum()),
        "you divided by the area of the reference alone: that is the sensitivity": both / r.sum(),
        "you divided by the area of the prediction alone: that is the precision": both / p.sum(),
        "you counted background pixels, too: that is the fraction of right pixels": (p == r).mean(),
    }
    _compare(_call(dice, p, r), 2 * both / (p.sum() + r.sum()), wrong)
    _compare(_call(dice, p, ~p), 0.0, {})
    print("Right: two masks of 4 and of 6 pixels that share 3 have a Dice of 0.60.")


def check_resample(resample: Function) -> None:
    """Check a function that draws the cases of one bootstrap sample by whole subjects.

    Args:
        resample: Function of the subject of each case, an array (N,), and of a numpy generator. It returns
            the numbers of the drawn cases: all cases of each drawn subject, twice if it is drawn twice.

    Raises:
        NotYetError: If the function is not right; the message says what it draws instead.

    Example:
        >>> check_resample(lambda subjects, rng: rng.integers(len(subjects), size=len(subjects)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you drew single cases...
    """
    subjects = np.repeat(np.array(["a", "b", "c", "d", "e", "f"]), [3, 1, 2, 4, 2, 3])
    people = np.unique(subjects)
    samples = []
    for seed in range(20):
        drawn = _numbers(_call(resample, subjects, np.random.default_rng(seed)))
        if drawn.ndim != 1 or set(drawn.tolist()) - set(range(len(subjects))):
            raise NotYetError("return the numbers of the drawn cases: integers from 0 to N − 1, in one array")
        times = np.bincount(drawn.astype(int), minlength=len(subjects))
        if any(len(set(times[subjects == one])) > 1 for one in people):
            raise NotYetError("you drew single cases, so a subject can come without some of its cases")
        samples.append(tuple(times[subjects == one][0] for one in people))
    drawn_people = [sum(sample) for sample in samples]
    if set(samples) == {(1,) * len(people)}:
        raise NotYetError("every subject comes exactly once in every sample: draw with replacement")
    if max(map(max, samples)) == 1:
        raise NotYetError("a subject that is drawn twice comes only once: take its cases twice")
    if set(drawn_people) != {len(people)}:
        raise NotYetError(f"you drew {drawn_people[0]} subjects of {len(people)}: draw as many as there are")
    if len(set(samples)) == 1:
        raise NotYetError("every sample is the same: draw with the generator that is handed over")
    print(f"Right: {len(set(samples))} different samples of 6 subjects, each with all of its cases.")


def check_entropy(entropy: Function) -> None:
    """Check a function that computes the entropy of each pixel, −Σ p log p / log C.

    Args:
        entropy: Function of the probabilities (C, H, W) that returns the entropy (H, W), from 0 to 1.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_entropy(lambda p: -(p * np.log(p)).sum(axis=0) / np.log(len(p)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: a pixel with a probability of exactly 0 gives nan...
    """
    p = np.array([[[0.7, 0.25]], [[0.2, 0.25]], [[0.05, 0.25]], [[0.05, 0.25]]])
    plain = -(p * np.log(p)).sum(axis=0)
    wrong = {
        "divide by log C: with 4 classes that are equally likely the entropy must be 1": plain,
        "that is the entropy in bits: divide by log C, so that the largest value is 1": plain / np.log(2),
        "the sign is missing: log p is negative, and the entropy is not": -plain / np.log(4),
        "you divided by C; the largest entropy of C classes is log C": plain / 4,
        "that is 1 minus the highest probability, another measure of uncertainty": 1 - p.max(axis=0),
    }
    _compare(_call(entropy, p), plain / np.log(4), wrong)
    with np.errstate(all="ignore"):
        sure = np.asarray(_call(entropy, np.array([[[1.0]], [[0.0]]])), dtype=float)
    if np.isnan(sure).any():
        raise NotYetError(
            "a pixel with a probability of exactly 0 gives nan: 0 · log 0 counts as 0, so clip p"
        )
    _compare(sure, np.zeros((1, 1)), {}, tolerance=1e-3)
    print("Right: 1 where all classes are equally likely, 0 where one class has all of the probability.")


def check_selective_risk(selective_risk: Function) -> None:
    """Check a function that computes the risk-coverage curve.

    Args:
        selective_risk: Function of the risk (N,) and the uncertainty (N,) of the cases. Its value k is the
            mean risk of the k + 1 most trusted cases.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_selective_risk(lambda risk, uncertainty: risk.cumsum() / np.arange(1, len(risk) + 1))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you did not sort...
    """
    risk, uncertainty = np.array([0.2, 0.8, 0.1, 0.5]), np.array([3.0, 2.0, 4.0, 1.0])
    counts = np.arange(1, 5)
    order = np.argsort(uncertainty)
    best, reverse = np.sort(risk).cumsum() / counts, risk[order[::-1]].cumsum() / counts
    wrong = {
        "you began with the most uncertain case: the most trusted one comes first": reverse,
        "you sorted by the risk itself: that is the best ranking, which nobody knows": best,
        "you summed the risks: divide each sum by its number of cases": risk[order].cumsum(),
        "you divided every sum by N: divide it by the number of cases that are kept": risk[order].cumsum()
        / 4,
        "you did not sort: the curve must not depend on the order of the file": risk.cumsum() / counts,
    }
    _compare(_call(selective_risk, risk, uncertainty), risk[order].cumsum() / counts, wrong)
    print(
        "Right: the risks in the order of trust are 0.5, 0.8, 0.2, 0.1; their means 0.50, 0.65, 0.50, 0.40."
    )


def check_misleading_numbers(true: np.ndarray, predicted: np.ndarray) -> None:
    """Check predictions that rank the cases perfectly and are far from the truth.

    Args:
        true: The true Dice of the cases, (N,).
        predicted: The predictions of the reader, (N,), each in [0, 1].

    Raises:
        NotYetError: If the predictions do not rank perfectly, or are off by 0.3 or less on average.

    Example:
        >>> check_misleading_numbers(np.array([0.9, 0.5]), np.array([0.9, 0.5]))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the ranking is perfect, but the mean absolute error is only 0...
    """
    told, true = _numbers(predicted), np.asarray(true, dtype=float)
    if told.shape != true.shape:
        raise NotYetError(
            f"expected {len(true)} predictions, one per case, got an array of shape {told.shape}"
        )
    if told.min() < 0 or told.max() > 1:
        raise NotYetError("a Dice lies between 0 and 1, so a prediction outside cannot be meant")
    if len(set(told.tolist())) < len(told):
        raise NotYetError("some predictions are equal, so they do not rank these cases")
    if (np.argsort(told) != np.argsort(true)).any():
        raise NotYetError("the ranking is not perfect: the predictions must have the order of the true Dice")
    error = np.abs(told - true).mean()
    if error <= 0.3:
        raise NotYetError(
            f"the ranking is perfect, but the mean absolute error is only {error:.2f}, not above 0.3"
        )
    print(f"Right: a perfect ranking, an eAURC of 0, and a mean absolute error of {error:.2f}.")


def check_distance(distance: Function) -> None:
    """Check a function that computes the Mahalanobis distance, √((z − μ)ᵀ Σ⁻¹ (z − μ)).

    Args:
        distance: Function of a vector z (D,), the mean μ (D,) and the covariance Σ (D, D).

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_distance(lambda z, mean, covariance: np.linalg.norm(z - mean))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is the Euclidean distance...
    """
    z, mean, covariance = np.array([3.0, 2.0]), np.array([1.0, 0.5]), np.array([[4.0, 1.0], [1.0, 0.5]])
    step = z - mean
    squared = step @ np.linalg.solve(covariance, step)
    alone = np.sqrt((step**2 / np.diag(covariance)).sum())
    wrong = {
        "that is the Euclidean distance: the covariance is not used": np.linalg.norm(step),
        "the root is missing: that is the squared distance": squared,
        "you multiplied by the covariance: multiply by its inverse": np.sqrt(step @ covariance @ step),
        "you used the variances alone: the correlation of the directions counts, too": alone,
        "the mean is not subtracted": np.sqrt(z @ np.linalg.solve(covariance, z)),
    }
    _compare(_call(distance, z, mean, covariance), np.sqrt(squared), wrong)
    print(f"Right: {np.sqrt(squared):.2f} standard deviations, where the Euclidean distance is 2.50.")


def check_threshold(threshold: Function) -> None:
    """Check a function that sets the threshold of a detector so that 95 % of a new person's slices pass.

    Args:
        threshold: Function of the distances of the slices that were used to fit, and of those of a person who
            was left out, both (N,).

    Raises:
        NotYetError: If the threshold is another one; the message says which.

    Example:
        >>> check_threshold(lambda used, left_out: np.quantile(used, 0.95))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the slices that were used to fit lie near by construction...
    """
    rng = np.random.default_rng(0)
    used, left_out = rng.gamma(9, 1, 100), rng.gamma(30, 1, 40)
    both = np.concatenate([used, left_out])
    wrong = {
        "the slices that were used to fit lie near by construction; let the left-out person set it": used,
        "both groups together still contain the slices that were used to fit": both,
    }
    quantiles = {why: np.quantile(values, 0.95) for why, values in wrong.items()}
    quantiles["that lets 5 % pass: a slice passes if its distance is below"] = np.quantile(left_out, 0.05)
    quantiles["the largest distance lets all slices pass, and one slice decides it"] = left_out.max()
    got = _call(threshold, used, left_out)
    _compare(got, np.quantile(left_out, 0.95), quantiles)
    flagged = (used > np.quantile(used, 0.95)).mean(), (left_out > np.quantile(used, 0.95)).mean()
    print(f"Right: the other threshold would flag {flagged[1]:.0%} of the slices of this healthy person.")


def check_step(step: Function) -> None:
    """Check a function that makes one step of the adversary, x − α g / ‖g‖².

    Args:
        step: Function of the image x (H, W), the gradient g (H, W) of the predicted Dice, and the fall α.

    Raises:
        NotYetError: If the function is not right; the message says what it does instead.

    Example:
        >>> check_step(lambda x, g, alpha: x + alpha * g / (g**2).sum())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you went along the gradient, so the prediction rises...
    """
    x, g, alpha = np.array([[0.2, -1.0], [0.4, 1.5]]), np.array([[3.0, 0.0], [0.0, 4.0]]), 0.5
    wrong = {
        "you went along the gradient, so the prediction rises: go against it": x + alpha * g / 25,
        "you divided by ‖g‖: then the step has the length α. Divide by ‖g‖²": x - alpha * g / 5,
        "you did not divide by ‖g‖²: then the prediction falls by α ‖g‖²": x - alpha * g,
        "you kept the signs of the gradient only: that is the step of FGSM": x - alpha * np.sign(g),
        "that is the change alone: add it to the image": -alpha * g / 25,
    }
    _compare(_call(step, x.copy(), g.copy(), alpha), x - alpha * g / 25, wrong)
    print("Right: a linear prediction falls by 0.50, and the step has the length α / ‖g‖ = 0.10.")


def check_noise(noise: Function) -> None:
    """Check a function that draws a random change as long as a given one: the control of an adversary.

    Args:
        noise: Function of a change (H, W) and of a numpy generator. It returns a change of the same shape and
            length (root of the sum of squares) in a random direction.

    Raises:
        NotYetError: If the length differs, or the direction is not random; the message says which.

    Example:
        >>> check_noise(lambda change, rng: rng.normal(size=change.shape))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: its length is ... and the change has the length 2.00...
    """
    change = np.zeros((32, 32))
    change[10:14, 10:14] = 0.5
    first, second = (_numbers(_call(noise, change.copy(), np.random.default_rng(seed))) for seed in (0, 1))
    if first.shape != change.shape:
        raise NotYetError(f"expected a change of shape {change.shape}, got {first.shape}")
    if np.allclose(first, second):
        raise NotYetError(
            "two generators give the same change: draw it with the generator that is handed over"
        )
    if not np.isclose(np.linalg.norm(first), 2.0):
        length = np.linalg.norm(first)
        raise NotYetError(
            f"its length is {length:.2f}, and the change has the length 2.00: scale what you draw"
        )
    if not first[change == 0].any():
        raise NotYetError(
            "it changes only the pixels that the adversary changed, so it is no random direction"
        )
    if first.mean() > 0.01:
        raise NotYetError(
            "all pixels become brighter: draw numbers of both signs, for example from a normal law"
        )
    print("Right: as long as the change of the adversary, and in another direction each time.")


def _call(function: Function, *arguments: Any) -> Any:
    if not callable(function):
        raise NotYetError("the blank is still there: define the function above, and run its cell")
    try:
        result = function(*arguments)
    except Exception as error:  # whatever the reader's function raises
        raise NotYetError(f"the function stopped with {type(error).__name__}: {error}") from None
    if result is None or result is ...:
        raise NotYetError("the function returns nothing: fill the blank, and do not forget `return`")
    return result


def _numbers(values: Any) -> np.ndarray:
    if values is None or values is ...:
        raise NotYetError("the blank is still there: fill it in, and run its cell")
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise NotYetError(f"expected numbers, got {values!r:.60}") from None
    if numbers.size == 0:
        raise NotYetError("expected numbers, got none")
    return numbers


def _compare(got: Any, right: Any, wrong: Mapping[str, Any], *, tolerance: float = 1e-6) -> None:
    """Raise with the reason why a result is another one, if it is that of a known mistake."""
    numbers = _numbers(got)
    if numbers.shape != np.shape(right):
        raise NotYetError(f"expected a result of shape {np.shape(right)}, got {numbers.shape}")
    if np.allclose(numbers, right, atol=tolerance):
        return
    for why, values in wrong.items():
        if np.allclose(numbers, values, atol=tolerance):
            raise NotYetError(why)
    with np.printoptions(precision=3, suppress=True):
        raise NotYetError(f"expected {np.asarray(right)}, got {numbers}")
