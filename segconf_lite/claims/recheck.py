"""Settle the ledger from finished runs, and measure one stored claim again."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite import check, notebook, resources
from segconf_lite.claims import ledger, runs
from segconf_lite.claims.judge import seed_estimates
from segconf_lite.claims.registry import Claim, read_claims
from segconf_lite.claims.statistics import STATISTICS
from segconf_lite.cohorts import download

# Value of the column "cohort" in a table of cases -> data set.
_DATA_OF = {"cord": "gm_challenge", "retina": "retina_chase_hrf", "lidc": "lidc_nodules"}


def seeds_of_chapters() -> dict[int | str, list[int]]:
    """The seeds that the claims of each chapter, and of runs beside the chapters, need.

    Example:
        >>> seeds_of_chapters()[2] == list(runs.SEEDS)
        True
    """
    needed = sorted({claim.judged_on for claim in read_claims().values()}, key=str)
    return {name: list(runs.seeds_of(name)) for name in needed}


def settle_runs(*, profile: str, accept: bool = False) -> list[str]:
    """Judge the finished runs of each chapter, and return what differs from what is stored.

    Args:
        profile: Profile of the runs, ``"lite"`` or ``"full"``.
        accept: Whether stored records that differ are replaced.

    Raises:
        RuntimeError: If the results are those inside the installed package, which must stay as they are.

    Example:
        >>> settle_runs(profile="full")
        []
    """
    results = resources.results_folder()
    if resources.is_installed(results):
        where = "in a checkout, where verdicts are stored in book/results"
        raise RuntimeError(f"expected to work {where}, got {Path.cwd()}; clone the project and work there")
    return ledger.settle(results, profile=profile, accept=accept)


def recompute(
    choice: str | None = None,
    *,
    claim_id: str | None = None,
    seed: int | None = None,
    profile: str = "lite",
    minutes: float | None = None,
) -> list[str]:
    """Train and measure one claim again from scratch, for one of its seeds, and compare with what is stored.

    The run measures the other claims of the same notebook as well, so those with this seed are compared, too.

    Claims whose stored seeds scatter over more than half of the statistic's range are not picked, because
    on another machine no number would contradict them. Nor are claims with runs of their own, which no
    notebook measures and whose minutes no header states; they can be named.

    Args:
        choice: A hexadecimal number that picks claim and seed; by default the hash of the commit.
        claim_id: Id of the claim, where it is not to be picked.
        seed: One of its stored seeds, where it is not to be picked.
        profile: Profile of the stored run, ``"lite"`` or ``"full"``.
        minutes: Pick among the chapters whose header states at most so many minutes from scratch. Headers
            are true of two CPU cores that multiply bf16; other machines take longer. None picks among all.

    Returns:
        Lines that say what was compared, first the claim that was picked.

    Raises:
        ValueError: If an argument is not as above, or no chapter is so quick.
        RuntimeError: If nothing is stored, or if numbers do not agree, see `compare_seed`; all are named.

    Example:
        >>> recompute("0", minutes=0.01)
        Traceback (most recent call last):
        ValueError: minutes must be at least 2, which the quickest chapter states, got 0.01
    """
    choice = runs.commit_hash() if choice is None else choice
    if not re.fullmatch("[0-9a-fA-F]+", choice):
        raise check.refuse("choice", "a hexadecimal number, e.g. 1f", repr(choice))
    limit = math.inf if minutes is None else check.number("minutes", minutes, low=0, open_low=True)
    results = resources.results_folder()
    notebooks = results.parents[1] / "notebooks"
    claims = read_claims()
    records = {name: ledger.read_record(results, name, profile) for name in claims}
    known = {name: r for name, r in records.items() if r is not None and _is_measurable(claims[name])}
    if claim_id is None:
        judged = {n: r for n, r in known.items() if claims[n].runs is None and _can_fail(claims[n], r)}
    else:
        judged = {name: r for name, r in known.items() if name == check.one_of("claim", claim_id, claims)}
    if not judged:
        missing = f"a stored {profile} outcome in {results} and its data here"
        raise RuntimeError(
            f"{claim_id or 'no claim'} {'lacks' if claim_id else 'has'} {missing}; run `make claims` first"
        )
    paths = {name: _program(claims[name], notebooks) for name in judged}
    stated = {path: notebook.stated_minutes(path) or math.inf for path in set(paths.values())}
    if min(stated.values()) > limit:
        expected = f"at least {min(stated.values()):g}, which the quickest chapter states"
        raise check.refuse("minutes", expected, minutes)
    quick = sorted(name for name in judged if stated[paths[name]] <= limit)
    number = int(choice, 16)
    name = quick[number % len(quick)]
    seeds = judged[name]["seeds"]
    picked = seeds[number // len(quick) % len(seeds)]
    seed = picked if seed is None else check.one_of("seed", check.integer("seed", seed), seeds)
    cases, here = _run_again(paths[name], profile, seed, _run_of(judged[name], seed))
    beside = [
        n for n, r in known.items() if seed in r["seeds"] and _program(claims[n], notebooks) == paths[name]
    ]
    lines, refused = [], []
    for each in sorted(beside, key=lambda other: other != name):  # the one that was picked comes first
        lines.append(f"{each}, seed {seed}:")
        try:
            lines += compare_seed(claims[each], known[each], seed_estimates(claims[each], cases), here)
        except RuntimeError as reason:
            refused.append(str(reason))
    if refused:
        raise RuntimeError("\n".join(refused))
    return lines


def compare_seed(
    claim: Claim,
    record: Mapping[str, Any],
    measured: Mapping[str, Mapping[int, float]],
    here: Mapping[str, Any],
) -> list[str]:
    """Compare the statistics of one seed with the stored ones.

    On the same processor, threads and torch the numbers must agree to 0.001. Elsewhere rounding differs
    and training goes another way, like another seed: then they must lie among those of the stored seeds,
    or outside by at most three times the distance between the lowest and the highest of them (which
    counts as at least 0.05). With each stored seed held against the others, none of 270 lay further out,
    two lay beyond twice the distance, and ten beyond once. What the statistic cannot be is never allowed.

    Args:
        claim: The claim.
        record: The stored record of the claim.
        measured: Group -> seed -> value, see `segconf_lite.claims.judge.seed_estimates`.
        here: Provenance of what was measured.

    Returns:
        One line per group.

    Raises:
        RuntimeError: If a number does not agree.

    Example:
        >>> run = {"seed": 11, "device": "CPU", "threads": 1, "versions": {"torch": "2.9"}}
        >>> record = {"id": "good", "runs": [run], "by_seed": {"all": {"11": 0.85}}}
        >>> columns = {"value": "dice"}
        >>> claim = Claim("good", "Dice is high.", "us", 1, "mean", columns, "greater", 2, "2026-01-01")
        >>> compare_seed(claim, record, {"all": {11: 0.8502}}, run)
        ['  all: 0.8502, stored 0.85 (allowed 0.849 to 0.851)']
    """
    seed = int(here["seed"])
    is_same_machine = _machine(_run_of(record, seed)) == _machine(here)
    lines = []
    for group, by_seed in measured.items():
        stored = record["by_seed"][group]
        value, expected = by_seed[seed], stored[str(seed)]
        low, high = expected - 1e-3, expected + 1e-3
        if not is_same_machine:
            low, high = _allowed(claim, stored)
        if not low <= value <= high:
            raise RuntimeError(
                f"{record['id']}, {group}, seed {seed}: expected {expected:.4g} (allowed {low:.4g} to "
                f"{high:.4g}), got {value:.4g}; if the change is meant, run `make claims ACCEPT=1`"
            )
        lines.append(f"  {group}: {value:.4g}, stored {expected:.4g} (allowed {low:.4g} to {high:.4g})")
    return lines


def _allowed(claim: Claim, stored: Mapping[str, float]) -> tuple[float, float]:
    """Lowest and highest value of a seed on another machine, see `compare_seed`."""
    (low, high), values = STATISTICS[claim.statistic].possible(claim.between), list(stored.values())
    span = 3 * max(max(values) - min(values), 0.05)
    return max(low, min(values) - span), min(high, max(values) + span)


def _can_fail(claim: Claim, record: Mapping[str, Any]) -> bool:
    """Whether at least half of what the statistic may be would be refused, in every group."""
    lowest, highest = STATISTICS[claim.statistic].possible(claim.between)
    windows = (_allowed(claim, stored) for stored in record["by_seed"].values())
    return all(high - low <= (highest - lowest) / 2 for low, high in windows)


def _run_again(
    path: Path, profile: str, seed: int, stored: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Table of cases and provenance of a new run from scratch, on the same machine with as many threads."""
    here = runs.provenance(profile=profile, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        variables = {"SEGCONF_HOME": folder}  # empty: from scratch
        if _machine(stored) == _machine({**here, "threads": stored["threads"]}):
            variables["OMP_NUM_THREADS"] = str(stored["threads"])  # the sums in training depend on it
        cases = Path(folder) / "cases.csv"
        with notebook.environment(variables):
            if path.parent.name == "benchmarks":
                command = [sys.executable, str(path), "--seed", str(seed), "--out", str(cases)]
                subprocess.run(command, check=True)
            else:
                parameters = {"profile": profile, "seed": seed, "cases_out": str(cases)}
                notebook.execute(path, Path(folder) / "run.ipynb", parameters)
        return pd.read_csv(cases), json.loads(cases.with_suffix(".json").read_text("utf-8"))


def _program(claim: Claim, notebooks: Path) -> Path:
    """The notebook, or the program in ``benchmarks``, that measures a claim."""
    if claim.runs:
        return notebooks.parent / "benchmarks" / f"{claim.runs}.py"
    return notebook.find_notebook(f"{claim.chapter:02d}", notebooks)


def _is_measurable(claim: Claim) -> bool:
    """Whether the data sets that a claim needs are on this computer."""
    try:
        for name in set(claim.cases.get("cohort", [])) & set(_DATA_OF):
            download.find(_DATA_OF[name])
    except FileNotFoundError:
        return False
    return True


def _run_of(record: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    return next(run for run in record["runs"] if run["seed"] == seed)


def _machine(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two runs must share to give the same numbers."""
    return run["device"], run["threads"], run["versions"]["torch"]
