"""What all checks share: how an answer is called, read and compared, and what a wrong one raises."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.claims import ledger
from segconf_lite.evaluation import repeated_estimate

Function = Callable[..., Any]


class NotYetError(AssertionError):
    """An answer that is not right yet; the message says why."""

    __module__ = "segconf_lite.exercises"  # the address under which readers know it

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"Not yet: {self}"]


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


def _number(value: Any) -> float:
    """One finite number."""
    numbers = _numbers(value)
    if numbers.size != 1 or not np.isfinite(numbers).all():
        raise NotYetError(f"one number is asked for, and the answer is {value!r:.60}")
    return float(numbers.item())


@functools.cache
def _stored(chapter: int) -> pd.DataFrame:
    """The stored slices of the phantom of all runs of a chapter; not to be changed."""
    cases = ledger.stored_cases(chapter)
    return cases[cases["cohort"] == "phantom"]


def _over_runs(values: Any, *, digits: int = 2) -> str:
    """Mean and 95 % t interval over stored runs, one value a run, for what a check prints."""
    runs = np.asarray(values, dtype=float)
    each = np.arange(len(runs))
    seen = repeated_estimate(np.mean, each, each, runs).interval()
    mean, low, high = (f"{v:.{digits}f}" for v in (seen.estimate, seen.low, seen.high))
    return f"{mean} [{low}, {high}] over {len(runs)} stored runs"


def _trial(function: Function, arguments: tuple[Any, ...], right: Any, wrong: Mapping[str, Any]) -> None:
    """Try a function once, and name its mistake if it is a known one, of whatever shape."""
    got = _numbers(_call(function, *copy.deepcopy(arguments)))
    for why, values in wrong.items():
        if got.shape == np.shape(values) and np.allclose(got, values):
            raise NotYetError(why)
    _compare(got, right, {})
