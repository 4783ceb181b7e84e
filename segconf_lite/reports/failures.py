"""Where a segmentation fails: a mean hides its tail, and a pooled tail hides the group that fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.evaluation.bootstrap import Interval, mean_interval

_TERTILES = ("small", "middle", "large")


@dataclasses.dataclass(frozen=True)
class FailureReport:
    """The tables of `failure_report`.

    Attributes:
        summary: One row for all cases, then one per stratum; `failure_report` lists its columns.
        worst: The rows of the worst cases, worst first; they keep their index, so that
            ``cohort.take(report.worst.index)`` selects them (for a table in the cohort's order).
        undefined: Number of cases without a defined quality, which nothing else counts.
        threshold: Quality below which a case failed.
        size_edges: The two sizes that divide small from middle from large, or None. A case on an edge
            belongs to the smaller side.

    Example:
        >>> cases = pd.DataFrame({"quality": [0.9, 0.2], "domain": "A", "subject": [1, 2]})
        >>> failure_report(cases, n_worst=1).worst.index.tolist()
        [1]
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
    by: str | Sequence[str] = ("domain",),
    sizes: str | None = None,
    subject: str = "subject",
    n_worst: int = 8,
    n_resamples: int = 2000,
    seed: int = 0,
) -> FailureReport:
    """How often and where a segmentation fails, over all cases and within groups.

    Args:
        cases: One row per case, as from `segconf_lite.evaluation.case_table`. Cases with NaN quality are
            counted as undefined and otherwise left out.
        quality: Column of the quality, higher is better; finite or NaN.
        threshold: A case fails if its quality lies below (not at) it, in the unit of the quality. There is
            no right one: say which you took, and look at more than one.
        by: Columns whose values form strata, each column by itself. Cases without a value form the
            stratum ``"nan"``.
        sizes: Column of the *reference* size (pixels, mm^2, ...), finite, if tertiles of it are to be
            strata; the edges are its 1/3 and 2/3 quantiles over cases of defined quality. Dice penalises the
            same boundary error more in a small object, so a tail of small cases is partly the metric's doing.
        subject: Column of the person of each case, none missing, resampled for the intervals.
        n_worst: Number of the worst cases to list, >= 0.
        n_resamples: Number of bootstrap resamples.
        seed: Seed of the random draw of subjects.

    Returns:
        The report. Columns of its summary: kind (``"all"``, the column in `by`, or the column in `sizes`),
        stratum, n_cases and n_subjects (of defined quality), n_undefined, mean, median and p05 (5th
        percentile, linear interpolation) of the quality, share_below (fraction of cases below the
        threshold, lower is better) and the ends low and high of its 95 % bootstrap interval over subjects,
        NaN with fewer than two of them. Where no case or every case lies below, all resamples agree; the far
        end is then the exact binomial limit for the fraction of *subjects* with such a case,
        ``1 - 0.025 ** (1 / n_subjects)`` (Clopper & Pearson, Biometrika 26:404, 1934): no failure among five
        subjects is still compatible with a fraction of 0.52.

    Raises:
        ValueError: If a column or a subject's name is missing, no quality is defined or one is infinite, or
            a number is out of range.

    Example:
        >>> cases = pd.DataFrame({"quality": [0.9, 0.8, 0.2], "domain": list("AAD"), "subject": [1, 2, 3]})
        >>> failure_report(cases).summary[["stratum", "n_cases", "mean", "share_below"]].round(2)
          stratum  n_cases  mean  share_below
        0     all        3  0.63         0.33
        1       A        2  0.85         0.00
        2       D        1  0.20         1.00
    """
    by = [by] if isinstance(by, str) else check.names("by", by).tolist()
    columns = [quality, subject] if sizes is None else [quality, subject, sizes]
    check.names("quality, subject and sizes", columns)
    check.columns(cases, [*columns, *by], "cases")
    subjects = check.names(subject, cases[subject])
    threshold = check.number("threshold", threshold)
    n_worst = check.integer("n_worst", n_worst, low=0)
    values = check.array(quality, cases[quality], "n_cases", dtype=np.float64)
    fix = "distances are infinite where nothing was predicted: take a quality such as Dice"
    check.finite(quality, values, missing=True, fix=fix)
    defined = ~np.isnan(values)
    if not defined.any():
        raise check.refuse(quality, "defined for one case at least", f"NaN in all {len(cases)} cases")
    edges = None
    if sizes is not None:
        size = check.array(sizes, cases[sizes], "n_cases", dtype=np.float64)
        check.finite(sizes, size, fix="an empty reference has size 0")
        low, high = np.quantile(size[defined], [1 / 3, 2 / 3])
        edges = float(low), float(high)
    rows = []
    for kind, stratum, inside in _strata(cases, by, sizes, edges):
        part = inside & defined
        row = {"kind": kind, "stratum": stratum, "n_cases": int(part.sum())}
        row |= {"n_subjects": len(set(subjects[part])), "n_undefined": int((inside & ~defined).sum())}
        rows.append(row | _tail(pd.Series(values[part]), cases[subject][part], threshold, n_resamples, seed))
    worst = cases[defined].iloc[np.argsort(values[defined], kind="stable")[:n_worst]]
    return FailureReport(pd.DataFrame(rows), worst, int((~defined).sum()), threshold, edges)


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
) -> dict[str, float]:
    if quality.empty:
        return dict.fromkeys(("mean", "median", "p05", "share_below", "low", "high"), float("nan"))
    below = (quality < threshold).to_numpy(np.float64)
    interval = mean_interval(below, subjects.to_numpy(), n_resamples=n_resamples, seed=seed)
    n_subjects = subjects.nunique()
    if n_subjects > 1 and interval.estimate in (0, 1):
        limit = 1 - 0.025 ** (1 / n_subjects)
        interval = Interval(0.0, 0.0, limit) if interval.estimate == 0 else Interval(1.0, 1 - limit, 1.0)
    return {
        "mean": float(quality.mean()),
        "median": float(quality.median()),
        "p05": float(quality.quantile(0.05)),
        "share_below": interval.estimate,
        "low": interval.low,
        "high": interval.high,
    }
