"""Where claims and their outcomes lie on disk: tables of cases with their provenance, and one JSON per claim.

`save_cases` is what a notebook of a sweep calls. `settle` joins the runs of all seeds of a chapter, judges
every claim that the tables allow, and reports what differs from what is stored. Nothing that is stored is
replaced unless the caller accepts it, and every file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite import check, resources
from segconf_lite.claims.judge import Verdict, holm, judge, seed_estimates
from segconf_lite.claims.registry import Claim, read_claims
from segconf_lite.claims.statistics import STATISTICS

PROFILES = ("lite", "full")
_VERSIONS = ("segconf-lite", "torch", "monai", "numpy", "scipy", "pandas")
_DIGITS = 5  # of every number in a stored table; verdicts are judged on what is stored
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


def provenance(*, profile: str, seed: int) -> dict[str, Any]:
    """What a result was measured with: commit, profile, seed, device, threads, versions, day (UTC).

    Args:
        profile: Profile of the run, ``"lite"`` or ``"full"``.
        seed: Seed of the run.

    Example:
        >>> list(provenance(profile="lite", seed=11))
        ['commit', 'profile', 'seed', 'device', 'threads', 'versions', 'day']
    """
    import torch

    on_card = torch.cuda.is_available() and not os.environ.get("SEGCONF_DEVICE", "cuda").startswith("cpu")
    return {
        "commit": _git("describe", "--always", "--dirty") or "unknown",
        "profile": check.one_of("profile", profile, PROFILES),
        "seed": check.integer("seed", seed, low=0),
        "device": torch.cuda.get_device_name() if on_card else _processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{n: _version(n) for n in _VERSIONS}},
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def commit_hash() -> str:
    """The full hash of the commit that is checked out in the current folder; "0" outside of a checkout.

    Example:
        >>> int(commit_hash(), 16) >= 0
        True
    """
    return _git("rev-parse", "HEAD") or "0"


def save_cases(table: pd.DataFrame, path: str | Path, *, profile: str, seed: int) -> Path:
    """Write a chapter's table of cases as CSV, and its provenance beside it as JSON.

    Args:
        table: One row per case, with ``subject`` and the columns that the chapter's claims name.
        path: The CSV file to write; its folder is made.
        profile: Profile of the run; it becomes a column.
        seed: Seed of the run; it becomes a column.

    Returns:
        The path of the CSV file.

    Raises:
        ValueError: If the table has no rows or no subjects, or two columns of one name.

    Example:
        >>> import tempfile
        >>> cases = pd.DataFrame({"subject": ["a", "b"], "dice": [0.9, 0.8]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(save_cases(cases, f"{folder}/cases.csv", profile="lite", seed=11).read_text())
        subject,dice,profile,seed
        a,0.9,lite,11
        b,0.8,lite,11
    """
    check.columns(table, ["subject"])
    check.names("names of the columns", [str(column) for column in table.columns], unique=True)
    columns = table.assign(profile=profile, seed=check.integer("seed", seed, low=0))
    return _store(Path(path), _as_csv(columns), provenance(profile=profile, seed=seed))


def table_path(results: str | Path, chapter: int, profile: str) -> Path:
    """Where the cases of all seeds of a chapter lie.

    Args:
        results: Folder of the stored results.
        chapter: Number of the chapter.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Example:
        >>> table_path("results", 2, "lite").name
        'chapter_02_lite_cases.csv'
    """
    return Path(results) / f"chapter_{chapter:02d}_{profile}_cases.csv"


def stored_table(name: str) -> pd.DataFrame:
    """A table of results that is stored with the book, in a checkout or inside the installed package.

    Args:
        name: Its file name in ``book/results``, e.g. ``"chapter_02_lite_cases.csv"``.

    Raises:
        FileNotFoundError: If there is no such table. The message names those that are there.
        ValueError: If the file is damaged.

    Example:
        >>> len(stored_table("chapter_02_lite_cases.csv"))
        4030
    """
    path = resources.table_file(name)
    with _naming(path):
        return pd.read_csv(path, low_memory=False)


def gather(runs: Iterable[Path], target: str | Path) -> Path:
    """Join the tables of single seeds into one, and their provenance into one JSON beside it.

    Args:
        runs: The tables that `save_cases` wrote, one per seed.
        target: The CSV file to write; its folder is made. It appears only when it is whole.

    Returns:
        The path of the joined table.

    Raises:
        ValueError: If a seed comes twice, a table is damaged, or there is nothing to join.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cases = pd.DataFrame({"subject": ["a"], "dice": [0.9]})
        ...     runs = [save_cases(cases, f"{folder}/{n}.csv", profile="lite", seed=n) for n in (12, 11)]
        ...     print(gather(runs, f"{folder}/all.csv").read_text())
        subject,dice,profile,seed
        a,0.9,lite,11
        a,0.9,lite,12
    """
    return _store(Path(target), *_joined(runs))


def as_record(verdict: Verdict, samples: pd.DataFrame, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The stored form of a verdict: outcome, size and provenance, with numbers rounded as in the tables.

    Args:
        verdict: The verdict.
        samples: The table of cases on which it was judged.
        origin: Provenance of the table, with one entry per run.

    Example:
        >>> record = read_record(resources.results_folder(), "near-but-harmful", "lite")
        >>> record["verdict"], list(record["groups"]), record["n_cases"]
        ('holds', ['all'], 600)
    """
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
    runs: str | Path | None = None,
    accept: bool = False,
) -> list[str]:
    """Judge all claims whose table is there; what was never stored is stored.

    Args:
        results: Folder of the stored tables, with one JSON per claim under ``claims``.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.
        claims: The register; by default that of the book.
        runs: Folder of finished runs, ``PROFILE/chapter_NN/seed_N.csv``; a chapter's runs take the place of
            its stored table. None judges the stored tables.
        accept: Whether stored tables and records that differ are replaced.

    Returns:
        One entry per claim whose outcome differs from the stored one (by more than rounding), and one per
        table; empty if all agree.

    Raises:
        ValueError: If a table, its provenance or a record is damaged, or a claim cannot be judged.

    Example:
        >>> settle("a_folder_without_tables", profile="lite")
        []
    """
    check.one_of("profile", profile, PROFILES)
    known, changed = read_claims() if claims is None else claims, []
    for chapter in sorted({claim.chapter for claim in known.values()}):
        path = table_path(results, chapter, profile)
        stored = _text(path) if path.is_file() else None
        finished = sorted(Path(runs, profile).glob(f"chapter_{chapter:02d}/seed_*.csv")) if runs else []
        if finished:
            text, origin = _joined(finished)
        elif stored is not None:
            text, origin = stored, _json(path.with_suffix(".json"))
        else:
            continue
        samples = _table(text, origin, path)
        is_other = stored is not None and stored != text
        for claim in (claim for claim in known.values() if claim.chapter == chapter):
            record = as_record(judge(claim.id, samples, claims=known), samples, origin)
            old = read_record(results, claim.id, profile)
            if old is not None and not _agree(old, record):
                changed.append(_difference(claim.id, old, record))
            if accept or (old is None and not is_other):
                resources.write_whole(_record_path(results, claim.id, profile), _as_json(record))
        if is_other:
            changed.append(f"{path.name}: the finished runs give another table than the stored one")
        if finished and (accept or stored is None):
            _store(path, text, origin)
    return changed


def read_record(results: str | Path, claim_id: str, profile: str) -> dict[str, Any] | None:
    """The stored outcome of a claim, or None if it was never judged.

    Args:
        results: Folder of the stored results.
        claim_id: Id of the claim.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If the file is damaged.

    Example:
        >>> read_record(resources.results_folder(), "near-but-harmful", "lite")["seeds"]
        [11, 12, 13, 14, 15]
    """
    path = _record_path(results, claim_id, profile)
    if not path.is_file():
        return None
    record = _json(path)
    with _naming(path):
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
        [['holds', 5, False]]
    """
    rows, results = [], results or resources.results_folder()
    for claim in (read_claims() if claims is None else claims).values():
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


def _joined(runs: Iterable[Path]) -> tuple[str, dict[str, Any]]:
    """The joined table as CSV, and its provenance."""
    paths = sorted(runs)
    origin = [_json(path.with_suffix(".json")) for path in paths]
    tables = [_table(_text(path), {"runs": [run]}, path) for path, run in zip(paths, origin, strict=True)]
    seeds = [int(table["seed"].iloc[0]) for table in tables]
    if not tables or len(set(seeds)) != len(seeds):
        raise check.refuse("runs", "one table per seed", f"seeds {seeds}")
    whole = pd.concat(tables, ignore_index=True).sort_values("seed", kind="stable")
    return _as_csv(whole), {"runs": sorted(origin, key=lambda run: run["seed"])}


def _table(text: str, origin: Any, path: Path) -> pd.DataFrame:
    """The cases, if the table is whole and has the seeds of its provenance."""
    with _naming(path):
        table = pd.read_csv(io.StringIO(text), low_memory=False)
        expected = sorted(run["seed"] for run in origin["runs"])
        if sorted(table["seed"].unique()) != expected or not text.endswith("\n"):
            raise ValueError(f"its end is cut off, or its seeds are not {expected}")
        return table


def _json(path: Path) -> Any:
    with _naming(path):
        return json.loads(path.read_text("utf-8"))


def _text(path: Path) -> str:
    with _naming(path):
        return path.read_text("utf-8")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Names the file that cannot be read."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # whatever the readers of JSON, CSV and gzip raise
        fix = "restore it from git, or delete it and run `make claims` again"
        raise check.refuse(
            str(path), "a file that `make claims` wrote", f"a damaged one: {error}", fix
        ) from None


def _as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format=f"%.{_DIGITS}g", lineterminator="\n")


def _as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _store(path: Path, text: str, origin: Mapping[str, Any]) -> Path:
    resources.write_whole(path.with_suffix(".json"), _as_json(origin))
    return resources.write_whole(path, text)  # last: a table that is there has its provenance


def _record_path(results: str | Path, claim_id: str, profile: str) -> Path:
    return Path(results) / "claims" / f"{claim_id}.{profile}.json"


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


def _processor() -> str:
    """Name, family and model of the CPU, where Linux tells them.

    Rounding, and so training, differs between models, and virtual machines give several of them one name.
    """
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        entries = {key.strip(): value.strip() for key, _, value in pairs}
        if "model name" in entries:
            family, model = entries.get("cpu family", "?"), entries.get("model", "?")
            return f"{entries['model name']} (family {family}, model {model})"
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"  # a checkout can be used without being installed


def _git(*arguments: str) -> str:
    """What git answers in the current folder; empty without git or outside of a repository."""
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if answer.returncode else answer.stdout.strip()
