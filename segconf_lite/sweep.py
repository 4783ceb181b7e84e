"""What `segconf claims` does: list the ledger, settle it from finished runs, recompute one claim."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite import notebook, resources
from segconf_lite.cohorts import download
from segconf_lite.evaluation import claims as register
from segconf_lite.evaluation import ledger

__all__ = [
    "FIRST_SEED", "commit_hash", "compare_seed", "recompute", "seeds_of_chapters", "settle_runs", "slowness",
    "table",
]  # fmt: skip

# Claims were worded with the results of seed 0 (and, in chapter 1, 1 and 2) in sight, so these are not used.
FIRST_SEED = 11
_STEP_SECONDS = 0.18  # of `slowness`, forward and back, where the notebooks' headers were timed
_DATA_OF = {
    "cord": "gm_challenge",
    "retina": "retina_chase_hrf",
}  # column "cohort" of a table of cases -> data set


def seeds_of_chapters() -> dict[int, list[int]]:
    """Chapter -> the seeds that its claims need."""
    needed: dict[int, int] = {}
    for claim in register.read_claims().values():
        needed[claim.chapter] = max(claim.seeds, needed.get(claim.chapter, 0))
    return {chapter: list(range(FIRST_SEED, FIRST_SEED + n)) for chapter, n in sorted(needed.items())}


def table() -> str:
    """The ledger as text: one line a claim, and one per group where there are several."""
    lines = []
    for (name, profile), rows in ledger.overview().groupby(["id", "profile"], sort=False):
        first = rows.iloc[0]
        lines.append(f"{first['verdict']:<22}{name}  (chapter {first['chapter']}, {profile}, "
                     f"{first['seeds']} seeds)")  # fmt: skip
        for row in rows.itertuples():
            if first["seeds"]:
                where = "" if row.group == "all" else f"{row.group}: "
                lines.append(f"{'':<24}{where}{row.estimate:.3g} [{row.low:.3g}, {row.high:.3g}] "
                             f"{row.group_verdict if len(rows) > 1 else ''}".rstrip())  # fmt: skip
    return "\n".join(lines)


def settle_runs(runs: str | Path, *, profile: str, accept: bool = False) -> list[str]:
    """Join the finished runs of each chapter, judge, and return changed verdicts, see `ledger.settle`.

    Raises:
        ValueError: If the results are those inside the installed package, which must stay as they are.
    """
    results = resources.results_folder()
    if resources.is_installed(results):
        raise ValueError(
            f"expected to work in a checkout, where verdicts are stored in book/results, got {Path.cwd()}; "
            "clone the project and call this in the clone"
        )
    for chapter in seeds_of_chapters():
        found = sorted((Path(runs) / profile).glob(f"chapter_{chapter:02d}/seed_*.csv"))
        if found:
            ledger.gather(found, ledger.table_path(results, chapter, profile))
    return ledger.settle(results, profile=profile, accept=accept)


def commit_hash() -> str:
    """The hash of the commit checked out; "0" outside a checkout."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "0"


def slowness(repeats: int = 2) -> float:
    """How much slower a training step is here than where the notebooks' times were measured; 1 = as quick."""
    import torch

    from segconf_lite.models.device import bf16_pays, pick_device
    from segconf_lite.models.unet import UNet

    place, seconds = pick_device("auto"), []
    unet, images = UNet(n_classes=4).to(place), torch.zeros(32, 1, 96, 96, device=place)
    for _ in range(1 + repeats):
        start = time.perf_counter()
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=bf16_pays(place)):
            loss = unet(images).square().mean()
        loss.backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]) / _STEP_SECONDS  # the first one compiles


def recompute(choice: str, *, profile: str = "lite", minutes: float | None = None) -> list[str]:
    """Train and measure one claim again for one of its seeds, and compare with what is stored.

    Args:
        choice: a hexadecimal number, such as a commit's hash, that picks claim and seed.
        profile: of the stored run.
        minutes: pick among the chapters whose stated time, times `slowness`, is no longer (the quickest,
            if all are); None picks among all.

    Returns:
        Lines that say what was compared.

    Raises:
        ValueError: If nothing is stored, or a number does not agree, see `compare_seed`.
    """
    results = resources.results_folder()
    known, judged = register.read_claims(), {}
    for name in known:
        record = ledger.read_record(results, name, profile)
        if record is not None:
            judged[name] = record
    judged = {name: record for name, record in judged.items() if _measurable(known[name])}
    if not judged:
        raise ValueError(
            f"no claim has a stored {profile} outcome in {results} and its data here; run `make claims` first"
        )
    folder_of_notebooks = results.parents[1] / "notebooks"
    if minutes is not None:
        quick = _quick_chapters({known[name].chapter for name in judged}, folder_of_notebooks, minutes)
        judged = {name: record for name, record in judged.items() if known[name].chapter in quick}
    number = int(choice, 16)
    name = sorted(judged)[number % len(judged)]
    seeds = judged[name]["seeds"]
    seed = seeds[number // len(judged) % len(seeds)]
    chapter = f"{known[name].chapter:02d}"
    path = notebook.find_notebook(chapter, folder_of_notebooks)
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.csv"
        there = next(run for run in judged[name]["runs"] if run["seed"] == seed)
        here = ledger.provenance(profile=profile, seed=seed)
        asked = {"SEGCONF_HOME": folder}  # empty: from scratch
        if _machine(there) == _machine({**here, "threads": there["threads"]}):
            asked["OMP_NUM_THREADS"] = str(there["threads"])  # the sums in training depend on it
        with notebook.environment(asked):
            given = {"profile": profile, "seed": seed, "cases_out": str(cases)}
            notebook.execute(path, Path(folder) / "run.ipynb", given)
        found = register.seed_estimates(known[name], pd.read_csv(cases))
        here = json.loads(cases.with_suffix(".json").read_text("utf-8"))
    return [f"{name}, seed {seed}:", *compare_seed(judged[name], found, here)]


def _quick_chapters(chapters: set[int], folder: Path, minutes: float) -> set[int]:
    stated = {c: notebook.stated_minutes(notebook.find_notebook(f"{c:02d}", folder)) or 0 for c in chapters}
    limit = max(minutes / slowness(), min(stated.values()))
    return {chapter for chapter, needed in stated.items() if needed <= limit}


def _measurable(claim: register.Claim) -> bool:
    """Whether the cohorts that a claim names are on this computer."""
    for name in claim.cases.get("cohort", []):
        if name in _DATA_OF:
            try:
                download.find(_DATA_OF[name])
            except FileNotFoundError:
                return False
    return True


def compare_seed(
    record: Mapping[str, Any], found: Mapping[str, Mapping[int, float]], here: Mapping[str, Any]
) -> list[str]:
    """Compare statistics of one seed with the stored ones.

    On the same processor, threads and torch the numbers must agree to 0.001. Elsewhere rounding differs
    and training goes another way, like another seed: then they must lie among those of the stored seeds,
    or outside by at most three times the distance between the lowest and the highest of them (which
    counts as at least 0.05). With each stored seed held against the others, none of 270 lay further out,
    two lay beyond twice the distance, and ten beyond once.

    Raises:
        ValueError: If a number does not agree.
    """
    seed = int(here["seed"])
    there = next(run for run in record["runs"] if run["seed"] == seed)
    same = _machine(there) == _machine(here)
    lines = []
    for group, by_seed in found.items():
        stored = record["by_seed"][group]
        value, expected = by_seed[seed], stored[str(seed)]
        span = 3 * max(max(stored.values()) - min(stored.values()), 0.05)
        low, high = (
            (expected - 1e-3, expected + 1e-3) if same
            else (min(stored.values()) - span, max(stored.values()) + span)
        )  # fmt: skip
        if not low <= value <= high:
            raise ValueError(
                f"{record['id']}, {group}, seed {seed}: expected {expected:.4g} (allowed {low:.4g} to "
                f"{high:.4g}), got {value:.4g}; if the change is meant, run `make claims` again"
            )
        lines.append(f"  {group}: {value:.4g}, stored {expected:.4g} (allowed {low:.4g} to {high:.4g})")
    return lines


def _machine(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two runs must share to give the same numbers."""
    return run["device"], run["threads"], run["versions"]["torch"]
