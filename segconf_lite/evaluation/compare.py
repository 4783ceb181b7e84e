"""Several methods on the same cases, group by group: the table behind every comparison of the book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.evaluation.correlation import linear_correlation, rank_correlation
from segconf_lite.evaluation.intervals import Interval
from segconf_lite.evaluation.selective import excess_aurc_interval

__all__ = ["compare_methods"]

_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


def _rank(risk: Any, uncertainty: Any, subjects: Any) -> Interval:
    return rank_correlation(risk, uncertainty, subjects=subjects)


def _linear(risk: Any, uncertainty: Any, subjects: Any) -> Interval:
    return linear_correlation(risk, uncertainty, subjects=subjects)


_STATISTICS: dict[str, Callable[[Any, Any, Any], Interval]] = {
    "rank_correlation": _rank,
    "linear_correlation": _linear,
    "excess_aurc": excess_aurc_interval,
}


def compare_methods(
    cases: pd.DataFrame, methods: Sequence[str], *, statistic: str, by: str = "domain"
) -> pd.DataFrame:
    """How well each method orders the cases of each group, with intervals over subjects.

    Args:
        cases: one row a case: ``risk``, ``subject``, the column `by`, and one column of uncertainty
            per method, higher = trusted less. Cases whose risk is NaN are left out.
        methods: the columns to compare.
        statistic: ``"rank_correlation"`` (higher is better), ``"linear_correlation"`` (higher), or
            ``"excess_aurc"`` (lower), see `segconf_lite.evaluation`.
        by: what forms the groups.

    Returns:
        One row per group and method: the column `by`, method, estimate, low, high, n_cases, n_subjects.
        NaN where a method gives all cases of a group one value, so that no correlation is defined.
        The draws of subjects are the same for all methods of a group.

    Raises:
        ValueError: If the statistic is unknown, a column is missing, or an uncertainty is not finite.
    """
    if statistic not in _STATISTICS:
        raise ValueError(f"statistic must be one of {list(_STATISTICS)}, got {statistic!r}")
    missing = [name for name in ("risk", "subject", by, *methods) if name not in cases.columns]
    if missing:
        raise ValueError(f"the table lacks the columns {missing}; it has {list(cases.columns)}")
    rows = []
    for group, part in cases[cases["risk"].notna()].groupby(by, sort=False):
        for method in methods:
            risk, uncertainty, subject = (part[name].to_numpy() for name in ("risk", method, "subject"))
            flat = statistic != "excess_aurc" and (np.ptp(uncertainty) == 0 or np.ptp(risk) == 0)
            found = _UNKNOWN if flat else _STATISTICS[statistic](risk, uncertainty, subject)
            counts = {"n_cases": len(part), "n_subjects": part["subject"].nunique()}
            rows.append({by: group, "method": method, **found._asdict(), **counts})
    return pd.DataFrame(rows)
