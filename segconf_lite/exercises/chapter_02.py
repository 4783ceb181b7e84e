"""Checks of the exercises of chapter 2."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.evaluation import excess_aurc
from segconf_lite.exercises.answers import (
    Function,
    NotYetError,
    _call,
    _compare,
    _number,
    _numbers,
    _over_runs,
    _stored,
)


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


def check_pass_rate(pass_rate: Any) -> None:
    """Check the pass rate at which a threshold flags at most a quarter of the good slices of scanner B.

    The threshold is the quantile of the foreground entropy of the slices on A, in each of the stored runs.

    Args:
        pass_rate: Fraction of the slices on A that are not flagged, a multiple of 0.01.

    Raises:
        NotYetError: If more are flagged, or a lower pass rate would do.

    Example:
        >>> check_pass_rate(0.95)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: this still flags 0... of the good slices of B
    """
    rate = _number(pass_rate)
    if not 0.5 <= rate <= 0.99 or abs(100 * rate - round(100 * rate)) > 1e-9:
        raise NotYetError(f"expected a fraction from 0.50 to 0.99, in steps of 0.01, got {rate:g}")
    cases = _stored(2)

    def flagged(at: float, domain: str, failed: int) -> np.ndarray:
        shares = []
        for _, run in cases.groupby("seed"):
            limit = run.loc[run["domain"] == "A", "entropy, foreground"].quantile(at)
            part = run[(run["domain"] == domain) & (run["failed"] == failed)]
            shares.append((part["entropy, foreground"] > limit).mean())
        return np.array(shares)

    good = flagged(rate, "B", 0)
    if good.mean() > 0.25:
        raise NotYetError(f"this still flags {_over_runs(good)} of the good slices of B")
    if flagged(rate - 0.01, "B", 0).mean() <= 0.25:
        raise NotYetError("a lower pass rate would do: go down in steps of 0.01")
    failures = _over_runs(flagged(rate, "D", 1)), _over_runs(flagged(rate, "D", 0))
    print(
        f"Right: {_over_runs(good)} of the good slices of B are flagged; on D, {failures[0]} of the "
        f"failures are, and {failures[1]} of the good slices."
    )


_RIVALS = ["entropy, image", "entropy, foreground", "entropy, boundary", "probability, foreground"]
_RIVALS += ["small prediction"]


@functools.cache
def _stored_harm() -> tuple[list[pd.DataFrame], dict[str, float]]:
    """The slices on D and F of each stored run, and the mean eAURC × 1000 of each rival."""
    cases = _stored(2).query("domain in ['D', 'F']")
    parts = [part for _, part in cases.groupby(["seed", "domain"])]
    return parts, {name: _area(parts, [part[name] for part in parts]) for name in _RIVALS}


def _area(parts: list[pd.DataFrame], uncertainties: list[Any]) -> float:
    pairs = zip(parts, uncertainties, strict=True)
    return 1000 * float(np.mean([excess_aurc(part["risk"], told) for part, told in pairs]))


def check_uncertainty(uncertainty: Function) -> None:
    """Rank an aggregation that the reader invents among five known ones, and check that it leads.

    The leaderboard is the eAURC × 1000 (lower is better), mean over the scanners D and F of the stored runs.

    Args:
        uncertainty: Function of a table with one row per slice. Its columns are the five known aggregations.
            It returns one number per row, high where the risk is high.

    Raises:
        NotYetError: If a known aggregation has a lower eAURC; the message has the leaderboard.

    Example:
        >>> check_uncertainty(lambda slices: slices["entropy, image"])
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: this is the column 'entropy, image': combine it with another one
    """
    parts, board = _stored_harm()
    told = [_numbers(_call(uncertainty, part[_RIVALS].copy())) for part in parts]
    if any(numbers.shape != (len(part),) for numbers, part in zip(told, parts, strict=True)):
        raise NotYetError("return one number per row of the table")
    if not all(np.isfinite(numbers).all() for numbers in told):
        raise NotYetError("some numbers are not finite: a slice in which nothing is found has the size 0")
    if all(len(np.unique(numbers)) == 1 for numbers in told):
        raise NotYetError("all slices have the same uncertainty, so they are not ranked")
    mine = _area(parts, told)
    for name, area in board.items():
        if np.isclose(area, mine, rtol=1e-9):
            raise NotYetError(f"this is the column {name!r}: combine it with another one")
    ranked = sorted({**board, "yours": mine}.items(), key=lambda entry: entry[1])
    shown = ", ".join(f"{place}. {name} {area:.1f}" for place, (name, area) in enumerate(ranked, 1))
    if ranked[0][0] != "yours":
        raise NotYetError(f"others are ahead, with the lower eAURC × 1000: {shown}")
    print(f"Right: yours leads in eAURC × 1000 on D and F over {len(parts) // 2} runs: {shown}.")
