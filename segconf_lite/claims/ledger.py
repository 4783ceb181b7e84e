"""The outcomes of the claims, one JSON each.

`settle` judges every claim on the cases that `segconf_lite.claims.runs` holds, and reports what differs from
what is stored. Nothing that is stored is replaced unless the caller accepts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite import check, resources
from segconf_lite.claims.judge import Verdict, holm, judge, seed_estimates
from segconf_lite.claims.registry import Claim, read_claims
from segconf_lite.claims.runs import PROFILES as PROFILES
from segconf_lite.claims.runs import as_json, judged_cases, naming, read_json, record_path, seeds_of
from segconf_lite.claims.runs import provenance as provenance
from segconf_lite.claims.runs import save_cases as save_cases
from segconf_lite.claims.runs import stored_cases as stored_cases
from segconf_lite.claims.runs import stored_table as stored_table
from segconf_lite.claims.statistics import STATISTICS

# Claims that were registered later are judged on `seeds_of` only: earlier runs had been looked at by then.
_LAST_EARLY = "2026-11-26"
_DIGITS = 5  # of every number in a record
_NUMBERS = ("estimate", "low", "high", "p_holds", "p_fails")
_FIELDS = {
    "verdict": str,
    "groups": dict,
    "p_holds": float,
    "p_fails": float,
    "by_seed": dict,
    "seeds": list,
    "registered_as": str,
    "runs": list,
}


def as_record(verdict: Verdict, samples: pd.DataFrame, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The stored form of a verdict: outcome, size and provenance, with numbers rounded as in the tables.

    Args:
        verdict: The verdict.
        samples: The table of cases on which it was judged.
        origin: Provenance of the table, with one entry per run.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> record = read_record(resources.results_folder(), "near-but-harmful", "lite")
        >>> record["verdict"], list(record["groups"]), record["n_cases"]
        ('holds', ['all'], 1200)
    """
    check.instance("verdict", verdict, Verdict)
    check.instance("origin", origin, Mapping)
    by_seed = seed_estimates(verdict.claim, samples)
    return {
        "id": verdict.claim.id,
        "verdict": verdict.verdict,
        "groups": {name: _rounded(group) for name, group in verdict.groups.items()},
        "p_holds": float(f"{verdict.p_holds:.{_DIGITS}g}"),
        "p_fails": float(f"{verdict.p_fails:.{_DIGITS}g}"),
        "by_seed": {name: _rounded(values) for name, values in by_seed.items()},
        "seeds": verdict.seeds,
        "n_subjects": verdict.n_subjects,
        "n_cases": verdict.n_cases,
        "registered_as": verdict.claim.digest(),
        "runs": origin["runs"],
    }


def settle(
    results: str | Path,
    *,
    profile: str,
    claims: Mapping[str, Claim] | None = None,
    accept: bool = False,
) -> list[str]:
    """Judge all claims whose cases are there; what was never stored is stored.

    Args:
        results: Folder of the stored tables, with one JSON per claim under ``claims``.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.
        claims: The register; by default that of the book.
        accept: Whether stored records that differ are replaced. A record on other seeds is kept in
            ``claims/earlier``.

    Returns:
        One entry per claim whose outcome differs from the stored one by more than rounding.

    Raises:
        ValueError: If a table, its provenance or a record is damaged, a claim cannot be judged, or an
            argument is not as above.

    Example:
        >>> settle("a_folder_without_tables", profile="lite")
        []
    """
    check.one_of("profile", profile, PROFILES)
    check.one_of("accept", accept, (True, False))
    known, changed = read_claims() if claims is None else claims, []
    check.instance("claims", known, Mapping)
    for chapter in dict.fromkeys(claim.judged_on for claim in known.values()):
        judged = judged_cases(results, chapter, profile)
        if judged is None:
            continue
        samples, origin = judged
        is_early = sorted(samples["seed"].unique()) != list(seeds_of(chapter))
        for claim in (claim for claim in known.values() if claim.judged_on == chapter):
            if is_early and claim.registered > _LAST_EARLY:
                continue
            record = as_record(judge(claim.id, samples, claims=known), samples, origin)
            old, path = read_record(results, claim.id, profile), record_path(results, claim.id, profile)
            if old is not None and not _agree(old, record):
                changed.append(_difference(claim.id, old, record))
            if old is None or accept:
                if old is not None and old["seeds"] != record["seeds"]:
                    resources.write_whole(path.parent / "earlier" / path.name, as_json(old))
                resources.write_whole(path, as_json(record))
    return changed


def read_record(
    results: str | Path, claim_id: str, profile: str, *, earlier: bool = False
) -> dict[str, Any] | None:
    """The stored outcome of a claim, or None if it was never judged.

    Args:
        results: Folder of the stored results.
        claim_id: Id of the claim.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.
        earlier: Whether to read the outcome on the seeds before these, where the claim was judged twice.

    Raises:
        ValueError: If the file is damaged, or an argument is not as above.

    Example:
        >>> read_record(resources.results_folder(), "near-but-harmful", "lite")["seeds"]
        [21, 22, 23, 24, 25, 26, 27, 28, 29, 30]
    """
    check.one_of("earlier", earlier, (True, False))
    path = record_path(results, claim_id, profile)
    path = path.parent / "earlier" / path.name if earlier else path
    if not path.is_file():
        return None
    record = read_json(path)
    with naming(path):
        if not all(isinstance(record[key], kind) for key, kind in _FIELDS.items()):
            raise ValueError("it is not the record of a verdict")
        for group in record["groups"].values():
            group |= {key: float(group[key]) for key in _NUMBERS}
    return record


def overview(results: str | Path | None = None, *, claims: Mapping[str, Claim] | None = None) -> pd.DataFrame:
    """Every registered claim and its verdict in each profile; "not run" where a claim was never judged.

    Args:
        results: Folder of the stored results. The default is that of the book, in a checkout or inside the
            installed package.
        claims: The register of claims. The default is that of the book.

    Returns:
        One row per claim, profile and group, with the interval of the statistic and

        - ``p``: two-sided p-value of the claim, twice the smaller one of `p_holds` and `p_fails`;
        - ``p_holm``: the same, adjusted for all claims of the profile by Holm's method;
        - ``wrong``: probability, under a flat prior, that the statistic lies on the other side of the line
          than the verdict says; NaN where it is undecided;
        - ``negligible``: whether the claim holds by less than the smallest effect of interest.

    Example:
        >>> overview().query("id == 'near-but-harmful'")[["verdict", "seeds", "negligible"]].values.tolist()
        [['holds', 10, False]]
    """
    rows, results = [], results or resources.results_folder()
    known = read_claims() if claims is None else claims
    check.instance("claims", known, Mapping)
    for claim in known.values():
        for profile in PROFILES:
            record = read_record(results, claim.id, profile)
            if record is None and profile == "full":
                continue
            rows += _rows(claim, profile, record)
    table = pd.DataFrame(rows)
    once = table.drop_duplicates(["id", "profile"]).dropna(subset="p")
    adjusted = once.groupby("profile")["p"].transform(lambda p: pd.Series(holm(list(p)), p.index))
    holm_of = dict(zip(zip(once["id"], once["profile"], strict=True), adjusted, strict=True))
    table["p_holm"] = [holm_of.get(key, math.nan) for key in zip(table["id"], table["profile"], strict=True)]
    return table


def _rows(claim: Claim, profile: str, record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The rows of one claim in `overview`, one per group."""
    head = {"id": claim.id, "chapter": claim.chapter, "profile": profile, "verdict": "not run", "seeds": 0}
    head |= {"p": math.nan, "wrong": math.nan, "negligible": False}
    if record is None:
        empty = dict.fromkeys(_NUMBERS, math.nan)
        return [{**head, **empty, "group": "", "group_verdict": "", "people": 0}]
    verdict, both = record["verdict"], (record["p_holds"], record["p_fails"])
    if record["registered_as"] != claim.digest():
        verdict = "changed since its run"
    distances = [abs(group["estimate"] - claim.threshold) for group in record["groups"].values()]
    small = claim.direction != "equivalent" and min(distances) < STATISTICS[claim.statistic].smallest_effect
    head |= {
        "verdict": verdict,
        "seeds": len(record["seeds"]),
        "p": min(1.0, 2 * min(both)),
        "wrong": {"holds": both[0], "fails": both[1]}.get(verdict, math.nan),
        "negligible": verdict == "holds" and small,
    }
    return [
        {**head, **{key: group[key] for key in _NUMBERS}, "group": name, "people": group["people"]}
        | {"group_verdict": group["verdict"]}
        for name, group in record["groups"].items()
    ]


def _rounded(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(key): float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        for key, value in values.items()
    }


def _agree(old: Any, new: Any) -> bool:
    """Whether two records are equal but for rounding and for the provenance of their runs."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(_agree(old.get(key), new.get(key)) for key in {*old, *new} - {"runs"})
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-3, abs_tol=1e-6)
    return bool(old == new)


def _difference(claim_id: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    verdict = new["verdict"] if old["verdict"] == new["verdict"] else f"{old['verdict']} -> {new['verdict']}"
    edited = " (the claim was changed since its run)" if old["registered_as"] != new["registered_as"] else ""
    lines = [f"{claim_id}: {verdict}{edited}"]
    for name in sorted({*old["groups"], *new["groups"]}):
        before, after = (record["groups"].get(name) for record in (old, new))
        if not _agree(before, after):
            lines += [f"  - {name}: {before}", f"  + {name}: {after}"]
    return "\n".join(lines)
