"""`segconf sweep`: one chapter at all combinations of some parameters, and their tables of cases joined.

Snakemake runs the combinations, so a run that is done is not repeated, and one that fails leaves the others.
A run's files are named by a digest of *all* its parameters, defaults included: two settings never share a
file, and a chapter whose defaults have changed runs again. Delete a table to have it made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segconf_lite import parameters

__all__ = ["Outcome", "combinations", "digest", "join", "label", "sweep"]

_RULES = Path(__file__).with_name("sweep.smk")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a sweep: the joined table, and the state of each run.

    Attributes:
        table: The joined table, None if no run has finished.
        lines: One line for each run.
        failed: How many runs have no table.
    """

    table: Path | None
    lines: tuple[str, ...]
    failed: int


def combinations(
    declared: Mapping[str, parameters.Parameter], asked: Sequence[tuple[str, str]], *, where: str
) -> list[dict[str, Any]]:
    """All combinations of the values asked for, checked.

    Args:
        declared: The notebook's parameters.
        asked: Name and values, separated by commas, e.g. ``("seed", "0,1")``.
        where: Name of the notebook, for messages.

    Returns:
        One dictionary for each combination; the last parameter changes fastest.

    Raises:
        ValueError: If a name comes twice or is unknown, or a value or a combination is not allowed.
    """
    axes: dict[str, list[Any]] = {}
    for name, text in asked:
        if name in axes:
            raise ValueError(f"expected each parameter once, got {name} twice; give its values as one list")
        if name == "cases_out":
            raise ValueError("a sweep names its tables itself, got cases_out; choose their folder by --out")
        if name not in declared:
            parameters.check(declared, {name: text}, where=where)
        values = [parameters.value_of(part, declared[name]) for part in text.split(",")]
        axes[name] = list(dict.fromkeys(values))
    found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    for combination in found:
        parameters.check(declared, combination, where=where)
    return found


def digest(values: Any) -> str:
    """Twelve hexadecimal digits that stand for these values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def label(pairs: Mapping[str, Any], key: Any) -> str:
    """A file name that people can read, made unique by the digest of `key`."""
    plain = re.sub(r"[^\w=.-]", "-", "_".join(f"{name}={value}" for name, value in pairs.items()))
    return f"{plain[:80]}__{digest(key)}"


def sweep(
    notebook: str | Path, asked: Sequence[tuple[str, str]], *, folder: str | Path, jobs: int = 2
) -> Outcome:
    """Run a notebook at all combinations that have no table yet, and join all tables of this sweep.

    Args:
        notebook: The notebook; it writes its table of cases to the parameter `cases_out`.
        asked: See `combinations`.
        folder: Where tables, logs and executed notebooks go.
        jobs: Notebooks at a time, at least 1, each on one thread.

    Raises:
        ValueError: If the notebook has no table of cases, or an argument is not allowed; nothing has run.
        RuntimeError: If Snakemake is not installed.
    """
    notebook, folder = Path(notebook).resolve(), Path(folder).resolve()
    declared = parameters.read(notebook)
    if "cases_out" not in declared:
        raise ValueError(
            f"{notebook.stem} writes no table of cases (it has no parameter cases_out), so a sweep has "
            f"nothing to join; run it once per setting: segconf run {notebook.stem} -p NAME VALUE"
        )
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    runs = {}
    for values in combinations(declared, asked, where=notebook.name):
        whole = {name: p.default for name, p in declared.items() if name != "cases_out"} | values
        runs[label(values, whole)] = values
    before = {name for name in runs if (folder / f"{name}.csv").is_file()}
    if len(before) < len(runs):
        _run_missing(notebook, runs, folder, jobs)
    done = {name: values for name, values in runs.items() if (folder / f"{name}.csv").is_file()}
    lines = [_line(name, folder, name in before, name in done) for name in runs]
    table = join(done, folder, f"joined__{digest(sorted(runs))}.csv") if done else None
    return Outcome(table, tuple(lines), len(runs) - len(done))


def join(runs: Mapping[str, Mapping[str, Any]], folder: Path, name: str) -> Path:
    """One table of the tables of several runs, with a column for each parameter, and their provenance.

    Args:
        runs: Values of the parameters, by the name of the run's table without its ending.
        folder: Where the tables lie.
        name: Name of the joined table.
    """
    import pandas as pd

    tables, origin = [], []
    for run, values in runs.items():
        # Numbers are copied as they are written; nothing is rounded again.
        table = pd.read_csv(folder / f"{run}.csv", dtype=str, keep_default_na=False)
        first = []
        for parameter, value in values.items():
            # A chapter's own column keeps its name; seed and profile are in it as they were asked for.
            text = [_text(value)] * len(table)
            column = (
                parameter
                if parameter not in table or list(table[parameter]) == text
                else f"{parameter} (parameter)"
            )
            table[column] = text
            first.append(column)
        tables.append(table[[*first, *(c for c in table if c not in first)]])
        record = json.loads((folder / f"{run}.json").read_text("utf-8"))
        origin.append({"parameters": dict(values), "table": f"{run}.csv", **record})
    path = folder / name
    pd.concat(tables, ignore_index=True).to_csv(path, index=False)
    path.with_suffix(".json").write_text(json.dumps({"runs": origin}, indent=1) + "\n", "utf-8")
    return path


def _run_missing(notebook: Path, runs: Mapping[str, Mapping[str, Any]], folder: Path, jobs: int) -> None:
    if importlib.util.find_spec("snakemake") is None:
        raise RuntimeError(
            'a sweep needs Snakemake, which is not installed; pip install "segconf-lite[sweep]"'
        )
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        run: [text for name, value in values.items() for text in ("-p", name, _text(value))]
        for run, values in runs.items()
    }
    config = folder / f"sweep__{digest(sorted(runs))}.json"  # a file: no shell reads what was typed
    config.write_text(json.dumps({"notebook": str(notebook), "runs": given}, indent=1), "utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(_RULES), "--configfile", str(config)]
    command += ["--directory", str(folder), "--cores", str(jobs), "--keep-going", "--rerun-triggers", "mtime"]
    # Two networks training on two cores with two threads each would be far slower than one after the other.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "SEGCONF_QUIET": "1"}
    subprocess.run([*command, "--quiet", "all"], env=alone, check=False)


def _line(run: str, folder: Path, before: bool, done: bool) -> str:
    if done:
        return f"{'there' if before else 'done':<7}{run}"
    log = folder / f"{run}.log"
    said = log.read_text("utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    why = next((line for line in said if "Error" in line or "segconf run:" in line), "no log")
    return f"FAILED {run}: {why} (see {log})"


def _text(value: Any) -> str:
    """A value as `segconf run -p` reads it back."""
    return value if isinstance(value, str) else json.dumps(value)
