"""The ledger of claims: said first, then measured, then judged by a rule fixed beforehand.

A claim stands in ``book/claims.yml`` before anything is run for it. It names one statistic of cases, the
side of a threshold on which it should lie, and how many seeds it takes. `judge` draws seeds, and within
each drawn seed subjects, with replacement, and looks where the interval of the statistic lies.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite import resources
from segconf_lite.evaluation.bootstrap import Interval, nested_bootstrap_interval
from segconf_lite.evaluation.statistics import STATISTICS, columns_of

__all__ = ["STATISTICS", "Claim", "Verdict", "judge", "read_claims", "seed_estimates"]

DIRECTIONS = ("greater", "less", "equivalent")
N_RESAMPLES = 500


@dataclasses.dataclass(frozen=True)
class Claim:
    """One registered statement.

    Attributes:
        id: short name, lower case, ``-`` between words.
        sentence: the claim in words.
        source: the paper and table it is from, or who expected it and why.
        chapter: the notebook that measures it.
        statistic: a key of `STATISTICS`.
        columns: what each argument of the statistic is called in the table of cases.
        direction: ``"greater"`` or ``"less"`` than `threshold`, or ``"equivalent"``: within `margin` of it.
        seeds: fewest seeds on which it may be judged.
        registered: the day, ISO.
        cases: column -> allowed values; only these cases count.
        each: a column whose every value is judged alone; the claim holds only if it holds for each.
        within: a column, e.g. the network; the statistic is taken within each of its values, then averaged.
        threshold, margin: in units of the statistic.

    Raises:
        ValueError: If a field is not as above.
    """

    id: str
    sentence: str
    source: str
    chapter: int
    statistic: str
    columns: Mapping[str, str]
    direction: str
    seeds: int
    registered: str
    cases: Mapping[str, list[Any]] = dataclasses.field(default_factory=dict)
    each: str | None = None
    within: str | None = None
    threshold: float = 0.0
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ValueError(
                f"claim {self.id}: statistic must be one of {list(STATISTICS)}, got {self.statistic!r}"
            )
        expected = STATISTICS[self.statistic][1]
        if set(self.columns) != set(expected):
            raise ValueError(
                f"claim {self.id}: {self.statistic} takes columns {list(expected)}, got {list(self.columns)}"
            )
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"claim {self.id}: direction must be one of {DIRECTIONS}, got {self.direction!r}"
            )
        if (self.direction == "equivalent") != (self.margin is not None):
            raise ValueError(f"claim {self.id}: margin goes with 'equivalent', and only with it")
        if self.seeds < 2:
            raise ValueError(f"claim {self.id}: needs at least 2 seeds, got {self.seeds}")

    def digest(self) -> str:
        """12 hex digits of what decides the verdict: a claim changed after its run is found by it."""
        silent = ["sentence", "source", "chapter", *(["within"] if self.within is None else [])]
        fixed = {k: v for k, v in dataclasses.asdict(self).items() if k not in silent}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes:
        verdict: ``"holds"``, ``"fails"`` or ``"undecided"`` (the interval crosses the line).
        groups: group -> estimate, low, high, verdict; one group "all" unless the claim has `each`.
        seeds: the seeds used.
        n_subjects, n_cases: over all seeds.
    """

    claim: Claim
    verdict: str
    groups: dict[str, dict[str, Any]]
    seeds: list[int]
    n_subjects: int
    n_cases: int


def read_claims(path: str | Path | None = None) -> dict[str, Claim]:
    """All registered claims by id.

    Raises:
        ValueError: If an entry is not a claim, or an id comes twice.
        FileNotFoundError: If there is no registry.
    """
    import yaml

    found = {}
    source = Path(path) if path else resources.claims_registry()
    for entry in yaml.safe_load(source.read_text("utf-8")):
        try:
            claim = Claim(**{**entry, "registered": str(entry.get("registered", ""))})
        except TypeError as error:
            raise ValueError(f"{source}: {entry.get('id', entry)} is not a claim: {error}") from error
        if claim.id in found:
            raise ValueError(f"{source}: claim {claim.id} is registered twice")
        found[claim.id] = claim
    return found


def judge(claim_id: str, samples: pd.DataFrame, *, claims: Mapping[str, Claim] | None = None) -> Verdict:
    """Decide a registered claim from a table of cases.

    Args:
        claim_id: its id in the registry; what is not registered is not judged.
        samples: one row a case: ``seed``, ``subject``, and the columns that the claim names.
        claims: the registry; by default `read_claims`.

    Returns:
        The verdict, with a 95 % interval per group, drawn over seeds and over subjects within seeds.
        With few seeds it is optimistic: five seeds do not tell how networks in general behave.

    Raises:
        ValueError: If the claim is not registered, the table has fewer seeds than registered, a
            column is missing, or no case is left.
    """
    known = read_claims() if claims is None else claims
    if claim_id not in known:
        raise ValueError(f"claim {claim_id!r} is not registered; register it first. Known: {sorted(known)}")
    claim = known[claim_id]
    cases = _cases(claim, samples)
    seeds = sorted(int(seed) for seed in cases["seed"].unique())
    if len(seeds) < claim.seeds:
        raise ValueError(f"claim {claim.id} is registered for {claim.seeds} seeds, got {len(seeds)}: {seeds}")
    groups = {}
    for name, part in _groups(claim, cases):
        if part["seed"].nunique() < len(seeds):
            raise ValueError(f"claim {claim.id}: {name} lacks cases in some seeds; run them again")
        interval = nested_bootstrap_interval(
            _statistic(claim), part["seed"], part["subject"], *_arguments(claim, part),
            n_resamples=N_RESAMPLES,
        )  # fmt: skip
        groups[name] = {**interval._asdict(), "verdict": _side(claim, interval)}
    verdicts = {group["verdict"] for group in groups.values()}
    overall = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    n_subjects = len(cases[["seed", "subject"]].drop_duplicates())
    return Verdict(claim, overall, groups, seeds, n_subjects, len(cases))


def seed_estimates(claim: Claim, samples: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Group -> seed -> the claim's statistic on that seed's cases, without interval or verdict."""
    cases = _cases(claim, samples)
    return {
        name: {int(seed): _statistic(claim)(*_arguments(claim, one)) for seed, one in part.groupby("seed")}
        for name, part in _groups(claim, cases)
    }


def _cases(claim: Claim, samples: pd.DataFrame) -> pd.DataFrame:
    needed = [
        "seed",
        "subject",
        *columns_of(claim.statistic, claim.columns),
        *claim.cases,
        *(column for column in (claim.each, claim.within) if column),
    ]
    missing = sorted(set(needed) - set(samples.columns))
    if missing:
        raise ValueError(f"claim {claim.id} needs columns {missing}; the table has {list(samples.columns)}")
    for column, allowed in claim.cases.items():
        samples = samples[samples[column].isin(allowed)]
    values = samples[columns_of(claim.statistic, claim.columns)].to_numpy(float)
    samples = samples[np.isfinite(values).all(axis=1)]  # e.g. a slice in which no quality is defined
    if samples.empty:
        raise ValueError(f"claim {claim.id}: no case is left with {dict(claim.cases)} and finite values")
    return samples


def _groups(claim: Claim, cases: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return (
        [("all", cases)] if claim.each is None else [(str(k), part) for k, part in cases.groupby(claim.each)]
    )


def _arguments(claim: Claim, cases: pd.DataFrame) -> list[np.ndarray]:
    arguments = [cases[name].to_numpy(float) for name in columns_of(claim.statistic, claim.columns)]
    return arguments if claim.within is None else [*arguments, pd.factorize(cases[claim.within])[0]]


def _statistic(claim: Claim) -> Callable[..., float]:
    """Of the columns of `_arguments`; the last of them says what is averaged over."""
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
