"""The rule by which a claim is judged from a table of cases.

Seeds are resampled with replacement, and within each resampled seed its subjects; the claim holds if the
95 % interval of its statistic lies on the claimed side of the threshold.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.claims.registry import Claim, read_claims
from segconf_lite.claims.statistics import STATISTICS, columns_of
from segconf_lite.evaluation import Interval, nested_bootstrap_interval

N_RESAMPLES = 500


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Outcome of a claim.

    Attributes:
        claim: The claim.
        verdict: ``"holds"``, ``"fails"`` or ``"undecided"`` (the interval crosses the threshold).
        groups: Group -> estimate, low, high, verdict; one group "all" unless the claim has `each`.
        seeds: The seeds used.
        n_subjects: Number of subjects, summed over seeds.
        n_cases: Number of cases with finite values, summed over seeds.

    Example:
        >>> cases = pd.DataFrame({"seed": [1, 1, 2, 2], "subject": list("abab"), "dice": [0.9, 0.8] * 2})
        >>> columns = {"value": "dice"}
        >>> claim = Claim("good", "Dice is high.", "us", 1, "mean", columns, "greater", 2, "2026-01-01")
        >>> verdict = judge(claim.id, cases, claims={claim.id: claim})
        >>> verdict.verdict, verdict.seeds, verdict.n_cases
        ('holds', [1, 2], 4)
    """

    claim: Claim
    verdict: str
    groups: dict[str, dict[str, Any]]
    seeds: list[int]
    n_subjects: int
    n_cases: int


def judge(claim_id: str, samples: pd.DataFrame, *, claims: Mapping[str, Claim] | None = None) -> Verdict:
    """Decide a registered claim from a table of cases.

    Args:
        claim_id: Id in the register; a claim that is not registered is not judged.
        samples: One row per case, with ``seed``, ``subject``, and the columns that the claim names. Cases in
            which a value is NaN, e.g. slices without a defined quality, are left out; infinity is refused.
        claims: The register; by default that of the book.

    Returns:
        The verdict, with a 95 % interval per group over seeds and over subjects within seeds. With few seeds
        the interval is optimistic: five seeds do not tell how networks in general behave.

    Raises:
        ValueError: If the claim is not registered, the table has fewer seeds than registered, a column is
            missing or has no usable values, or no case is left.

    Example:
        >>> cases = pd.DataFrame({"seed": [1, 1, 2, 2], "subject": list("abab"), "dice": [0.9, 0.8] * 2})
        >>> columns = {"value": "dice"}
        >>> claim = Claim("good", "Dice is high.", "us", 1, "mean", columns, "greater", 2, "2026-01-01")
        >>> round(judge("good", cases, claims={"good": claim}).groups["all"]["estimate"], 2)
        0.85
    """
    known = read_claims() if claims is None else claims
    if claim_id not in known:
        raise ValueError(f"claim {claim_id!r} is not registered; register it first. Known: {sorted(known)}")
    claim = known[claim_id]
    cases = _cases(claim, samples)
    seeds = sorted(int(seed) for seed in cases["seed"].unique())
    if len(seeds) < claim.seeds:
        raise ValueError(f"claim {claim.id} is registered for {claim.seeds} seeds, got {len(seeds)}: {seeds}")
    groups = {name: _judge_group(claim, name, part, len(seeds)) for name, part in _groups(claim, cases)}
    verdicts = {group["verdict"] for group in groups.values()}
    overall = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    n_subjects = len(cases[["seed", "subject"]].drop_duplicates())
    return Verdict(claim, overall, groups, seeds, n_subjects, len(cases))


def seed_estimates(claim: Claim, samples: pd.DataFrame) -> dict[str, dict[int, float]]:
    """The claim's statistic on the cases of each seed alone, without interval or verdict.

    Args:
        claim: The claim.
        samples: One row per case, as for `judge`.

    Returns:
        Group -> seed -> value.

    Raises:
        ValueError: As `judge`, except that any number of seeds will do.

    Example:
        >>> cases = pd.DataFrame({"seed": [1, 1, 2], "subject": list("aba"), "dice": [0.5, 0.75, 1.0]})
        >>> columns = {"value": "dice"}
        >>> claim = Claim("good", "Dice is high.", "us", 1, "mean", columns, "greater", 2, "2026-01-01")
        >>> seed_estimates(claim, cases)
        {'all': {1: 0.625, 2: 1.0}}
    """
    cases = _cases(claim, samples)
    return {
        name: {int(seed): _statistic(claim)(*_arguments(claim, one)) for seed, one in part.groupby("seed")}
        for name, part in _groups(claim, cases)
    }


def _cases(claim: Claim, samples: pd.DataFrame) -> pd.DataFrame:
    """The cases that count, with every column checked that the verdict depends on."""
    where = f"claim {claim.id}: column "
    values = columns_of(claim.statistic, claim.columns)
    splits = [column for column in (claim.each, claim.within) if column]
    check.columns(samples, ["seed", "subject", *values, *claim.cases, *splits], f"table for claim {claim.id}")
    for column, allowed in claim.cases.items():
        samples = samples[samples[column].isin(allowed)]
    usable = np.ones(len(samples), bool)
    for column in values:
        numbers = check.array(where + column, samples[column], "n_cases", dtype=np.float64, empty=True)
        usable &= ~np.isnan(check.finite(where + column, numbers, missing=True))
    samples = samples[usable]
    if samples.empty:
        raise ValueError(f"claim {claim.id}: no case is left with {dict(claim.cases)} and defined values")
    check.label_map(where + "seed", samples["seed"], shape="n_cases")
    check.names(where + "subject", samples["subject"])
    for column in splits:
        if samples[column].isna().any():
            fix = "leave such cases out of the table"
            raise check.refuse(where + column, "a value for every case", "missing values", fix)
    return samples


def _judge_group(claim: Claim, name: str, cases: pd.DataFrame, n_seeds: int) -> dict[str, Any]:
    if cases["seed"].nunique() < n_seeds:
        raise ValueError(f"claim {claim.id}: {name} lacks cases in some seeds; run them again")
    columns = (cases["seed"], cases["subject"], *_arguments(claim, cases))
    interval = nested_bootstrap_interval(_statistic(claim), *columns, n_resamples=N_RESAMPLES)
    if not all(math.isfinite(value) for value in interval):
        raise check.refuse(f"claim {claim.id}: {claim.statistic} of {name}", "finite", f"{tuple(interval)}")
    return {**interval._asdict(), "verdict": _side(claim, interval)}


def _groups(claim: Claim, cases: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if claim.each is None:
        return [("all", cases)]
    return [(str(name), part) for name, part in cases.groupby(claim.each)]


def _arguments(claim: Claim, cases: pd.DataFrame) -> list[np.ndarray]:
    """The columns of the statistic; with `within`, its number (n_cases,) comes last."""
    arguments = [cases[name].to_numpy(float) for name in columns_of(claim.statistic, claim.columns)]
    return arguments if claim.within is None else [*arguments, pd.factorize(cases[claim.within])[0]]


def _statistic(claim: Claim) -> Callable[..., float]:
    """Of the columns of `_arguments`; with `within`, averaged over the values of the last one."""
    statistic = STATISTICS[claim.statistic][0]
    if claim.within is None:
        return statistic

    def averaged(*columns: np.ndarray) -> float:
        *values, part = columns
        return float(np.mean([statistic(*(v[part == k] for v in values)) for k in np.unique(part)]))

    return averaged


def _side(claim: Claim, interval: Interval) -> str:
    low, high = interval.low - claim.threshold, interval.high - claim.threshold
    if claim.direction == "equivalent":
        margin = float(claim.margin or 0.0)
        outside = low > margin or high < -margin
        return "holds" if -margin < low and high < margin else "fails" if outside else "undecided"
    if claim.direction == "less":
        low, high = -high, -low
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"
