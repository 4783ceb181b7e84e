"""The rule by which a claim is judged from a table of cases.

The claim holds if the 95 % interval of its statistic, a t interval over the seeds' own estimates, lies on the
claimed side of the threshold. Where the subjects are the same people in every seed, they count as a second
source of variance; with a single person the verdict is "undecided", whatever the numbers.
A claim about several groups, e.g. scanners, holds if it holds in each (an intersection-union test), and
fails if it fails in one at the level of that many tests (Bonferroni).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.claims.registry import Claim, read_claims
from segconf_lite.claims.statistics import STATISTICS, columns_of
from segconf_lite.evaluation import Estimate, Interval, repeated_estimate

LEVEL = 0.95
FEWEST_PEOPLE = 2  # one person does not show how people differ


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Outcome of a claim.

    Attributes:
        claim: The claim.
        verdict: ``"holds"``, ``"fails"`` or ``"undecided"`` (the interval crosses the threshold).
        groups: Group -> estimate, low, high, p_holds, p_fails, people, verdict; one group "all" unless the
            claim has `each`. `p_holds` and `p_fails` are the one-sided p-values for the claim and for its
            contrary; `people` is the number of different subjects.
        p_holds: One-sided p-value for the claim as a whole: the largest of its groups.
        p_fails: That for its contrary: the smallest of its groups times their number, at most 1.
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
    p_holds: float
    p_fails: float
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
        The verdict, with a 95 % interval per group.

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
    check.instance("claims", known, Mapping)
    check.instance("claim_id", claim_id, str)
    if claim_id not in known:
        raise ValueError(f"claim {claim_id!r} is not registered; register it first. Known: {sorted(known)}")
    claim = known[claim_id]
    cases = _cases(claim, samples)
    seeds = sorted(int(seed) for seed in cases["seed"].unique())
    if len(seeds) < claim.seeds:
        raise ValueError(f"claim {claim.id} is registered for {claim.seeds} seeds, got {len(seeds)}: {seeds}")
    groups = {name: _judge_group(claim, name, part, len(seeds)) for name, part in _groups(claim, cases)}
    p_holds = max(group["p_holds"] for group in groups.values())
    p_fails = min(1.0, len(groups) * min(group["p_fails"] for group in groups.values()))
    everywhere = all(group["verdict"] == "holds" for group in groups.values())
    overall = "holds" if everywhere else "fails" if p_fails < (1 - LEVEL) / 2 else "undecided"
    n_subjects = len(cases[["seed", "subject"]].drop_duplicates())
    return Verdict(claim, overall, groups, p_holds, p_fails, seeds, n_subjects, len(cases))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number (Holm, Scand J Stat 6:65, 1979).

    The k-th smallest of n is multiplied by n + 1 - k, and made at least as large as the one before it. If all
    that are at most 0.05 are called true, the probability that any of them is a false call is at most 0.05.

    Args:
        p_values: (n,) in [0, 1].

    Returns:
        (n,) adjusted values in [0, 1], in the same order.

    Raises:
        ValueError: If a value is not in [0, 1], or they have no order.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    check.array("p_values", p_values, "n_tests", empty=True)
    p = np.array([check.between(f"p_values[{k}]", value) for k, value in enumerate(p_values)])
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


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
    check.instance("claim", claim, Claim)
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
    shared = claim.subjects == "shared"
    people = len(cases[["subject"] if shared else ["seed", "subject"]].drop_duplicates())
    columns = (cases["seed"], cases["subject"], *_arguments(claim, cases))
    # One person says nothing about people: then the interval is over seeds alone, and decides nothing.
    try:
        found = repeated_estimate(_statistic(claim), *columns, shared=shared and people > 1)
    except ValueError as error:
        raise ValueError(f"claim {claim.id}: {claim.statistic} of {name}: {error}") from None
    interval = found.interval(LEVEL)
    p_holds, p_fails, verdict = *_p_values(claim, found), _side(claim, interval)
    if verdict == "fails" and p_fails >= (1 - LEVEL) / 2:  # an equivalence can fail on two sides
        verdict = "undecided"
    if shared and people < FEWEST_PEOPLE:
        p_holds, p_fails, verdict = 1.0, 1.0, "undecided"
    sizes = {"p_holds": p_holds, "p_fails": p_fails, "people": people}
    numbers = dict(zip(("estimate", "low", "high"), interval, strict=True))
    return {**numbers, **sizes, "verdict": verdict}


def _groups(claim: Claim, cases: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if claim.each is None:
        return [("all", cases)]
    # Whole numbers are floats in a table where some rows have none; a group keeps its name.
    names = lambda name: f"{name:g}" if isinstance(name, float) else str(name)  # noqa: E731
    return [(names(name), part) for name, part in cases.groupby(claim.each)]


def _arguments(claim: Claim, cases: pd.DataFrame) -> list[np.ndarray]:
    """The columns of the statistic; with `within`, its number (n_cases,) comes last."""
    arguments = [cases[name].to_numpy(float) for name in columns_of(claim.statistic, claim.columns)]
    return arguments if claim.within is None else [*arguments, pd.factorize(cases[claim.within])[0]]


def _statistic(claim: Claim) -> Callable[..., float]:
    """Of the columns of `_arguments`; with `within`, averaged over the values of the last one."""
    statistic = STATISTICS[claim.statistic].of
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


def _p_values(claim: Claim, found: Estimate) -> tuple[float, float]:
    """One-sided p-values for the claim and for its contrary."""
    above, below = found.p_above, Estimate(-found.mean, *found[1:]).p_above
    if claim.direction == "equivalent":
        low, high = claim.threshold - float(claim.margin or 0), claim.threshold + float(claim.margin or 0)
        return max(above(low), below(-high)), min(1.0, 2 * min(above(high), below(-low)))
    p_values = above(claim.threshold), below(-claim.threshold)
    return p_values if claim.direction == "greater" else p_values[::-1]
