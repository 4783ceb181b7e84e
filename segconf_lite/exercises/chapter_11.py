"""Checks of the exercises of chapter 11: people rather than slices."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from scipy import stats

from segconf_lite.exercises.answers import Function, NotYetError, _call, _compare, _number, _numbers, _trial

_SPREAD, _HALF_WIDTH = 0.1, 0.05  # of the means of people, and of the interval that is asked for
_REPEATS, _MOST_COVERED = 500, 0.5


def check_interval_over_people(interval: Function) -> None:
    """Check a function that computes a mean over people with its 95 % t interval.

    Args:
        interval: Function of the values (N,) and the person (N,) of each slice that returns the mean of the
            people's means and both ends of its interval.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_interval_over_people(lambda values, people: (values.mean(), 0, 1))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the estimate is the mean over slices...
    """
    values = np.array([0.9, 0.8, 0.85, 0.95, 0.4, 0.5, 0.7])
    people = np.array(["a", "a", "a", "a", "b", "b", "c"])
    got = _numbers(_call(interval, values.copy(), people.copy()))
    means = np.array([values[people == person].mean() for person in "abc"])
    if got.shape == (3,) and np.isclose(got[0], values.mean()):
        raise NotYetError("the estimate is the mean over slices: a person with many slices counts more")

    def ends(n: int, quantile: float, spread: float) -> np.ndarray:
        return means.mean() + np.array([0, -1, 1]) * quantile * spread / np.sqrt(n)

    t, s = float(stats.t.ppf(0.975, 2)), float(means.std(ddof=1))
    wrong = {
        "you divided by the number of slices: there are three people": ends(7, t, s),
        "the degrees of freedom are those of the slices": ends(3, float(stats.t.ppf(0.975, 6)), s),
        "1.96 is the quantile of a normal distribution, right for very many people": ends(3, 1.96, s),
        "with three people the standard deviation needs `ddof=1`": ends(3, t, float(means.std())),
        "that is the interval of a person: divide by the root of the number of people": ends(1, t, s),
        "both ends of a 95 % interval leave out 2.5 %: take the quantile at 0.975": ends(
            3, float(stats.t.ppf(0.95, 2)), s
        ),
    }
    right = ends(3, t, s)
    _compare(got, right, wrong, tolerance=1e-4)
    print(f"Right: {right[0]:.2f}, from {right[1]:.2f} to {right[2]:.2f}. Three people say very little.")


def check_training(training: Function) -> None:
    """Check a function that says which slices may train a network, if one site is left out.

    Args:
        training: Function of the site (N,) and the person (N,) of each slice, and of the name of the site.

    Raises:
        NotYetError: If the function is not right; the message says who leaks.

    Example:
        >>> check_training(lambda sites, people, left_out: sites != left_out)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: a person who is tested also trains...
    """
    sites = np.array(["A", "A", "A", "B", "B", "C", "C"])
    people = np.array(["p", "p", "q", "q", "r", "s", "r"])
    tested = people[sites == "A"]
    right = ~np.isin(people, tested)
    wrong = {
        "a person who is tested also trains: q was scanned at both sites": sites != "A",
        "these are the slices that must not train: negate it": ~right,
        "that is the test: the slices of the site that is left out": sites == "A",
        "nobody is left out": np.ones(7, bool),
        "one person of the site still trains: there are two": people != "p",
        "people who were scanned elsewhere, too, may train: r was never at A": np.isin(people, ["s"]),
    }
    _trial(training, (sites, people, "A"), right, wrong)
    print("Right: neither the site nor anybody who was scanned there takes part in training.")


def check_people(people: int) -> None:
    """Check the smallest number of people whose mean has an interval that is narrow enough.

    Args:
        people: Number of people.

    Raises:
        NotYetError: If the interval is too wide, or fewer people would do.

    Example:
        >>> check_people(16)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: with 16 people, the half width is 0.053...
    """
    number = _number(people)
    if number != int(number) or number < 2:
        raise NotYetError("give an integer of 2 or more: one person has no standard deviation")

    def half(n: float) -> float:
        return float(stats.t.ppf(0.975, n - 1)) * _SPREAD / n**0.5

    if half(number) > _HALF_WIDTH:
        raise NotYetError(f"with {number:.0f} people, the half width is {half(number):.3f}, still too wide")
    if number > 2 and half(number - 1) <= _HALF_WIDTH:
        raise NotYetError(f"{number:.0f} people are enough, but fewer would do")
    print(f"Right: {number:.0f} people. To halve the width again takes about four times as many.")


@functools.cache
def _covered(n_people: int, n_slices: int, between: float, within: float) -> tuple[float, float]:
    """Fractions of repeats in which the t interval over slices, and that over people, contain the truth."""
    rng = np.random.default_rng(0)
    people = rng.normal(0, between, (_REPEATS, n_people, 1))
    slices = people + rng.normal(0, within, (_REPEATS, n_people, n_slices))

    def held(values: np.ndarray) -> float:
        n = values.shape[1]
        half = stats.t.ppf(0.975, n - 1) * values.std(axis=1, ddof=1) / n**0.5
        return float((np.abs(values.mean(axis=1)) <= half).mean())

    return held(slices.reshape(_REPEATS, -1)), held(slices.mean(axis=2))


def check_study(study: Sequence[float]) -> None:
    """Check a study in which the interval over slices misses the true mean more often than not.

    Args:
        study: Number of people (5 to 200), slices per person (2 to 40), standard deviation between people
            (>= 0) and between the slices of one person (> 0).

    Raises:
        NotYetError: If the study is not allowed, or the interval over slices does better.

    Example:
        >>> check_study((10, 5, 0, 0.1))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: people do not differ in this study...
    """
    numbers = _numbers(study)
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        raise NotYetError("give four numbers: people, slices per person, and two standard deviations")
    people, slices, between, within = numbers.tolist()
    if people not in range(5, 201) or slices not in range(2, 41):
        raise NotYetError("give 5 to 200 people and 2 to 40 slices per person")
    if between < 0 or within <= 0:
        raise NotYetError(
            "a standard deviation is not negative, and slices of one person differ at least a bit"
        )
    if between == 0:
        raise NotYetError("people do not differ in this study, so a slice is as good as a person")
    by_slices, by_people = _covered(int(people), int(slices), between, within)
    if by_slices >= _MOST_COVERED:
        raise NotYetError(
            f"the interval over slices still contains the mean in {by_slices:.0%} of the repeats"
        )
    print(
        f"Right: the interval over slices contains the true mean in {by_slices:.0%} of the repeats, and the "
        f"interval over people in {by_people:.0%}."
    )
