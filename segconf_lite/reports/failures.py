"""Where a segmentation fails: a mean hides its tail, and a pooled tail hides its group."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.evaluation.crossed import check_columns
from segconf_lite.evaluation.intervals import Interval, mean_interval

__all__ = ["FailureReport", "failure_report"]

_TERTILES = ("small", "middle", "large")


@dataclasses.dataclass(frozen=True)
class FailureReport:
    """What `failure_report` found.

    Attributes:
        summary: one row for all cases, then one per stratum; its columns are listed there.
        worst: the rows of the worst cases, worst first; their index is that of the table given, so that
            ``cohort.take(report.worst.index)`` draws them (for a table in the cohort's order).
        undefined: cases without a defined quality, which nothing else counts; >= 0.
        threshold: quality below which a case failed.
        size_edges: the two sizes that part small from middle from large, or None. A case on an edge belongs
            to the smaller side.
    """

    summary: pd.DataFrame
    worst: pd.DataFrame
    undefined: int
    threshold: float
    size_edges: tuple[float, float] | None = None


def failure_report(
    cases: pd.DataFrame,
    *,
    quality: str = "quality",
    threshold: float = 0.5,
    by: Sequence[str] = ("domain",),
    sizes: str | None = None,
    subject: str = "subject",
    n_worst: int = 8,
    n_resamples: int = 2000,
    seed: int = 0,
) -> FailureReport:
    """How often and where a segmentation fails, over all cases and within groups.

    Args:
        cases: one row a case, as from `segconf_lite.evaluation.case_table`. Cases with NaN quality are
            counted as undefined and otherwise left out.
        quality: column of the quality, higher is better.
        threshold: a case fails if its quality lies below (not at) it, in the unit of the quality. There is
            no right one: say which you took, and look at more than one.
        by: columns whose values form strata, each by itself. Columns of your own work too.
        sizes: column of the *reference* size (pixels, mm^2, ...), finite, if tertiles of it shall be strata;
            the edges are its 1/3 and 2/3 quantiles over cases of defined quality. Dice punishes the same
            border error harder in a small object, so a tail of small cases is partly the metric's doing.
        subject: column of the person of each case, whom the intervals draw.
        n_worst: how many of the worst cases to list, >= 0.
        n_resamples: bootstrap draws.
        seed: equal seeds give equal intervals.

    Returns:
        The report. Columns of its summary: kind (``"all"``, the column in `by`, or the column in `sizes`),
        stratum, n_cases and n_subjects (of defined quality), n_undefined, mean, median and p05 (5th
        percentile, linear interpolation) of the quality, share_below (cases below the threshold, in [0, 1],
        lower is better) and the ends low and high of its 95 % bootstrap interval over subjects, NaN with
        fewer than two of them. Where no case or every case lies below, every draw says the same; the far end
        is then the exact binomial limit for the share of *subjects* with such a case,
        ``1 - 0.025 ** (1 / n_subjects)`` (Clopper & Pearson, Biometrika 26:404, 1934): no failure among five
        subjects still allows a share of 0.52.

    Raises:
        ValueError: If a column is missing, no quality is defined, or a number is out of range.
    """
    by = [by] if isinstance(by, str) else list(by)
    _check(cases, quality, (subject, *by, *(() if sizes is None else (sizes,))), n_worst, n_resamples)
    if cases[subject].isna().any():
        raise ValueError(
            f"{int(cases[subject].isna().sum())} cases have no {subject}; name one for each, since intervals "
            "are over persons"
        )
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be finite, got {threshold}")
    defined = cases[quality].notna().to_numpy()
    edges = None if sizes is None else _tertile_edges(cases[sizes].to_numpy(np.float64), defined)
    rows = []
    for kind, stratum, inside in _strata(cases, by, sizes, edges):
        part = cases[inside & defined]
        row = {"kind": kind, "stratum": stratum, "n_cases": len(part), "n_subjects": part[subject].nunique()}
        row["n_undefined"] = int((inside & ~defined).sum())
        rows.append(row | _tail(part[quality], part[subject], threshold, n_resamples, seed))
    return FailureReport(
        summary=pd.DataFrame(rows),
        worst=cases[defined].sort_values(quality, kind="stable").head(n_worst),
        undefined=int((~defined).sum()),
        threshold=threshold,
        size_edges=edges,
    )


def _check(
    cases: pd.DataFrame, quality: str, others: tuple[str, ...], n_worst: int, n_resamples: int
) -> None:
    check_columns(cases, (quality, *others))
    if cases[quality].notna().sum() == 0:
        raise ValueError(f"no case of {len(cases)} has a defined {quality}; nothing to report")
    n_infinite = int(np.isinf(cases[quality].to_numpy(np.float64)).sum())
    if n_infinite:
        raise ValueError(
            f"{quality} must be finite or NaN, got {n_infinite} infinite values; distances are infinite "
            "where nothing was predicted, and up is bad: give a quality such as Dice"
        )
    if n_worst < 0:
        raise ValueError(f"n_worst must be >= 0, got {n_worst}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be >= 1, got {n_resamples}")


def _tertile_edges(size: np.ndarray, defined: np.ndarray) -> tuple[float, float]:
    if not np.isfinite(size).all():
        raise ValueError(
            f"sizes must be finite, got {np.count_nonzero(~np.isfinite(size))} that are not; an empty "
            "reference has size 0"
        )
    low, high = np.quantile(size[defined], [1 / 3, 2 / 3])
    return float(low), float(high)


def _strata(
    cases: pd.DataFrame, by: Sequence[str], sizes: str | None, edges: tuple[float, float] | None
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, name, (n_cases,) bool) of each stratum that holds a case."""
    yield "all", "all", np.ones(len(cases), dtype=bool)
    for column in by:
        codes, names = pd.factorize(cases[column], use_na_sentinel=False)
        for code, name in enumerate(names):
            yield column, str(name), codes == code
    if sizes is not None and edges is not None:
        tertile = np.searchsorted(edges, cases[sizes].to_numpy(np.float64), side="left")
        for code, name in enumerate(_TERTILES):
            if (tertile == code).any():
                yield sizes, name, tertile == code


def _tail(
    quality: pd.Series, subjects: pd.Series, threshold: float, n_resamples: int, seed: int
) -> dict[str, Any]:
    if quality.empty:
        return dict.fromkeys(("mean", "median", "p05", "share_below", "low", "high"), float("nan"))
    below = (quality < threshold).to_numpy(np.float64)
    share = mean_interval(below, subjects.to_numpy(), n_resamples=n_resamples, seed=seed)
    n_subjects = subjects.nunique()
    if n_subjects > 1 and share.estimate in (0, 1):
        reach = 1 - 0.025 ** (1 / n_subjects)
        share = Interval(0.0, 0.0, reach) if share.estimate == 0 else Interval(1.0, 1 - reach, 1.0)
    middle = {"mean": float(quality.mean()), "median": float(quality.median())}
    tail = {"p05": float(quality.quantile(0.05)), "share_below": share.estimate}
    return middle | tail | {"low": share.low, "high": share.high}
