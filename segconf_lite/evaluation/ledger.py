"""Where claims and their outcomes lie on disk: tables of cases, provenance, one JSON a claim.

``save_cases`` is what a notebook of a sweep calls; ``gather`` joins the seeds of a chapter into
one table; ``settle`` judges every claim that the tables allow, and reports verdicts that changed.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite import resources
from segconf_lite.evaluation.claims import Claim, Verdict, judge, read_claims, seed_estimates

__all__ = [
    "as_record",
    "gather",
    "overview",
    "provenance",
    "read_record",
    "save_cases",
    "settle",
    "stored_table",
    "table_path",
]

_VERSIONS = ("segconf-lite", "torch", "monai", "numpy", "scipy", "pandas")
_DIGITS = 5  # of every number in a stored table; verdicts are judged on what is stored


def provenance(*, profile: str, seed: int) -> dict[str, Any]:
    """What a result was measured with: commit, profile, seed, device, precision, versions, day (UTC)."""
    import torch

    device = torch.cuda.get_device_name() if _on_a_card() else _processor()
    return {
        "commit": _commit(),
        "profile": profile,
        "seed": seed,
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{n: _version(n) for n in _VERSIONS}},
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def save_cases(table: pd.DataFrame, path: str | Path, *, profile: str, seed: int) -> Path:
    """Write a chapter's table of cases as CSV, and its provenance beside it as JSON.

    Args:
        table: one row a case, with ``subject`` and whatever the chapter's claims name.
        path: the CSV to write; its folder is made.
        profile, seed: of the run; they become columns.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target.with_suffix(".json"), provenance(profile=profile, seed=seed))
    columns = table.assign(profile=profile, seed=seed)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    columns.to_csv(temporary, index=False, float_format=f"%.{_DIGITS}g")
    temporary.replace(target)  # last: a table that is there is whole
    return target


def table_path(results: str | Path, chapter: int, profile: str) -> Path:
    """Where the cases of all seeds of a chapter lie."""
    return Path(results) / f"chapter_{chapter:02d}_{profile}_cases.csv"


def stored_table(name: str) -> pd.DataFrame:
    """A table of results that is stored with the book, in a checkout or inside the installed package.

    Args:
        name: Its file name in ``book/results``, e.g. ``"chapter_02_lite_cases.csv"``.

    Raises:
        FileNotFoundError: If there is no such table. The message names those that are there.
    """
    return pd.read_csv(resources.table_file(name), low_memory=False)


def gather(runs: list[Path], target: str | Path) -> Path:
    """Join tables of single seeds, with the provenance of each, into one.

    Raises:
        ValueError: If a seed comes twice, or there is nothing to join.
    """
    tables = [pd.read_csv(path) for path in sorted(runs)]
    seeds = [int(seed) for table in tables for seed in table["seed"].unique()]
    if not tables or len(set(seeds)) != len(seeds):
        raise ValueError(f"expected one table a seed, got seeds {seeds}")
    origin = [json.loads(path.with_suffix(".json").read_text("utf-8")) for path in sorted(runs)]
    whole = pd.concat(tables, ignore_index=True).sort_values("seed", kind="stable")
    out = Path(target)
    out.parent.mkdir(parents=True, exist_ok=True)
    whole.to_csv(out, index=False, float_format=f"%.{_DIGITS}g")
    _write(out.with_suffix(".json"), {"runs": sorted(origin, key=lambda run: run["seed"])})
    return out


def as_record(verdict: Verdict, samples: pd.DataFrame, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a verdict: what was found, on what, with what; numbers rounded as the tables are."""
    claim = verdict.claim
    rounded = lambda value: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value  # noqa: E731
    return {
        "id": claim.id,
        "verdict": verdict.verdict,
        "groups": {
            name: {key: rounded(value) for key, value in group.items()}
            for name, group in verdict.groups.items()
        },
        "by_seed": {
            name: {str(seed): rounded(value) for seed, value in by_seed.items()}
            for name, by_seed in seed_estimates(claim, samples).items()
        },
        "seeds": verdict.seeds,
        "n_subjects": verdict.n_subjects,
        "n_cases": verdict.n_cases,
        "registered_as": claim.digest(),
        "runs": origin["runs"],
    }


def settle(
    results: str | Path, *, profile: str, claims: Mapping[str, Claim] | None = None, accept: bool = False
) -> list[str]:
    """Judge all claims whose table is there, and write one JSON each under ``results/claims``.

    A verdict that differs from the stored one is not overwritten unless `accept`.

    Returns:
        One line per changed verdict; empty if none changed.
    """
    changed, known = [], claims or read_claims()
    for claim in known.values():
        path = table_path(results, claim.chapter, profile)
        if not path.is_file():
            continue
        samples = pd.read_csv(path, low_memory=False)
        origin = json.loads(path.with_suffix(".json").read_text("utf-8"))
        record = as_record(judge(claim.id, samples, claims=known), samples, origin)
        old = read_record(results, claim.id, profile)
        if old and old["verdict"] != record["verdict"]:
            changed.append(_difference(claim.id, old, record))
            if not accept:
                continue
        _write(_record_path(results, claim.id, profile), record)
    return changed


def read_record(results: str | Path, claim_id: str, profile: str) -> dict[str, Any] | None:
    """The stored outcome of a claim, or None if it was never judged."""
    path = _record_path(results, claim_id, profile)
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def overview(results: str | Path | None = None, *, claims: Mapping[str, Claim] | None = None) -> pd.DataFrame:
    """Every registered claim and its verdict in each profile; "not run" where a claim was never judged.

    Args:
        results: Folder of the stored results. The default is that of the book, in a checkout or inside the
            installed package.
        claims: The register of claims. The default is that of the book.
    """
    rows, results = [], results or resources.results_folder()
    for claim in (claims or read_claims()).values():
        for profile in ("lite", "full"):
            record = read_record(results, claim.id, profile)
            if record is None and profile == "full":
                continue
            groups = record["groups"] if record else {"": {"estimate": None, "low": None, "high": None}}
            outcome = "not run" if record is None else record["verdict"]
            if record and record["registered_as"] != claim.digest():
                outcome = "changed since its run"
            for name, group in groups.items():
                rows.append({
                    "id": claim.id, "chapter": claim.chapter, "profile": profile, "verdict": outcome,
                    "group": name, "group_verdict": group.get("verdict", ""), "estimate": group["estimate"],
                    "low": group["low"], "high": group["high"],
                    "seeds": len(record["seeds"]) if record else 0,
                })  # fmt: skip
    return pd.DataFrame(rows)


def _record_path(results: str | Path, claim_id: str, profile: str) -> Path:
    return Path(results) / "claims" / f"{claim_id}.{profile}.json"


def _difference(claim_id: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    lines = [f"{claim_id}: {old['verdict']} -> {new['verdict']}"]
    for name in sorted(set(old["groups"]) | set(new["groups"])):
        before, after = (record["groups"].get(name) for record in (old, new))
        if before != after:
            lines += [f"  - {name}: {before}", f"  + {name}: {after}"]
    return "\n".join(lines)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    temporary.replace(path)


def _processor() -> str:
    """The CPU's name with family and model where Linux tells them: rounding, and so training, differs
    between models, and virtual machines give several of them one name.
    """
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        told = ""
    pairs = [line.partition(":") for line in told.split("\n\n")[0].splitlines()]
    said = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in said:
        return platform.processor() or platform.machine()
    return f"{said['model name']} (family {said.get('cpu family', '?')}, model {said.get('model', '?')})"


def _on_a_card() -> bool:
    """Whether networks are trained on CUDA here; ``SEGCONF_DEVICE=cpu`` leaves a card unused."""
    import torch

    return torch.cuda.is_available() and not os.environ.get("SEGCONF_DEVICE", "cuda").startswith("cpu")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"  # a checkout can be used without being installed


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
