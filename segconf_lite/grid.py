"""`segconf sweep`: one chapter at all combinations of some parameters, and their tables of cases joined.

Snakemake runs the combinations, so a run that is done is not repeated, and one that fails leaves the others.
A run's files are named by a digest of *all* its parameters, defaults included: two settings never share a
file, and a chapter whose defaults have changed runs again. Delete a table to have it made again.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.util
import io
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import filelock

from segconf_lite import check, parameters, resources

_RULES = Path(__file__).with_name("sweep.smk")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a sweep: the joined table, and the state of each run.

    Attributes:
        table: The joined table, None if no run has finished.
        lines: One line for each run.
        failed: How many runs have no table.

    Example:
        >>> Outcome(None, ("FAILED seed=0: no log",), failed=1).failed
        1
    """

    table: Path | None
    lines: tuple[str, ...]
    failed: int


def combinations(
    declared: Mapping[str, parameters.Parameter], pairs: Sequence[tuple[str, str]], *, where: str
) -> list[dict[str, object]]:
    """All combinations of some values of parameters, checked.

    Args:
        declared: The notebook's parameters.
        pairs: Name and values, separated by commas, e.g. ``("seed", "0,1")``.
        where: Name of the notebook, for messages.

    Returns:
        One dictionary for each combination; the last parameter changes fastest.

    Raises:
        ValueError: If a name comes twice or is unknown, or a value or a combination is not allowed.

    Example:
        >>> declared = {name: parameters.Parameter(name, 0, "0") for name in ("seed", "depth")}
        >>> combinations(declared, [("seed", "0,1"), ("depth", "3")], where="chapter 1")
        [{'seed': 0, 'depth': 3}, {'seed': 1, 'depth': 3}]
    """
    axes: dict[str, list[str]] = {}
    for name, text in pairs:
        if name in axes:
            raise ValueError(f"expected each parameter once, got {name} twice; give its values as one list")
        if name == "cases_out":
            raise ValueError("a sweep names its tables itself, got cases_out; choose their folder by --out")
        axes[name] = text.split(",")
    settings = []
    for texts in itertools.product(*axes.values()):
        values = parameters.typed(declared, zip(axes, texts, strict=True), where=where)
        settings += [] if values in settings else [values]
    return settings


def digest(values: object) -> str:
    """Twelve hexadecimal digits that stand for these values, whatever the order of their names.

    Args:
        values: Anything that JSON can hold.

    Example:
        >>> digest({"seed": 0, "depth": 3}) == digest({"depth": 3, "seed": 0})
        True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def label(values: Mapping[str, object], key: object) -> str:
    """A file name that people can read, made unique by the digest of `key`.

    Args:
        values: Values of the parameters by name, for people.
        key: All that tells this run from others.

    Example:
        >>> label({"seed": 0, "note": "a b"}, 1)
        'seed=0_note=a-b__6b86b273ff34'
    """
    text = "_".join(f"{name}={value}" for name, value in values.items())
    return f"{re.sub(r'[^A-Za-z0-9_=.-]', '-', text)[:80]}__{digest(key)}"


def sweep(
    notebook: str | Path, pairs: Sequence[tuple[str, str]], *, folder: str | Path, jobs: int = 2
) -> Outcome:
    """Run a notebook at all combinations that have no table yet, and join all tables of this sweep.

    Args:
        notebook: The notebook; it writes its table of cases to the parameter `cases_out`.
        pairs: Name and values of each parameter, separated by commas, e.g. ``("seed", "0,1")``.
        folder: Where tables, logs and executed notebooks go.
        jobs: Number of notebooks at a time, at least 1, each on one thread.

    Raises:
        ValueError: If the notebook has no table of cases, or an argument is not allowed; nothing has run.
        RuntimeError: If Snakemake is not installed.

    Example:
        >>> sweep(parameters.notebook_source("90_which_eaurc"), [("seed", "0,1")], folder="out", jobs=0)
        Traceback (most recent call last):
        ValueError: jobs must be an integer >= 1, got 0
    """
    notebook, folder = Path(notebook).resolve(), Path(folder).resolve()
    declared = parameters.read(notebook)
    check.integer("jobs", jobs, low=1)
    if "cases_out" not in declared:
        raise ValueError(
            f"{notebook.stem} writes no table of cases (it has no parameter cases_out), so a sweep has "
            f"nothing to join; run it once per setting: segconf run {notebook.stem} -p NAME VALUE"
        )
    defaults = {name: p.default for name, p in declared.items() if name != "cases_out"}
    settings = combinations(declared, pairs, where=notebook.name)
    runs = {label(values, [notebook.stem, defaults | values]): values for values in settings}
    before = {name for name in runs if (folder / f"{name}.csv").is_file()} - _interrupted(folder)
    if len(before) < len(runs):
        _run_missing(notebook, runs, folder, jobs)
    done = {name: values for name, values in runs.items() if (folder / f"{name}.csv").is_file()}
    lines = [_line(name, folder, name in before, name in done) for name in runs]
    table = join(done, folder, f"joined__{digest(sorted(runs))}.csv") if done else None
    return Outcome(table, tuple(lines), len(runs) - len(done))


def join(runs: Mapping[str, Mapping[str, object]], folder: Path, name: str) -> Path:
    r"""One table of the tables of several runs, with a column for each parameter, and their provenance.

    Args:
        runs: Values of the parameters, by the name of the run's table without its ending.
        folder: Where the tables lie.
        name: Name of the joined table.

    Returns:
        Path of the joined table; a JSON of the same name holds the provenance.

    Raises:
        ValueError: If a table or its provenance is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     for seed in (0, 1):
        ...         table = resources.write_whole(f"{name}/run_{seed}.csv", f"dice\n0.{seed}\n")
        ...         origin = resources.write_whole(f"{name}/run_{seed}.json", "{}")
        ...     runs = {"run_0": {"seed": 0}, "run_1": {"seed": 1}}
        ...     print(join(runs, Path(name), "joined.csv").read_text())
        seed,dice
        0,0.0
        1,0.1
    """
    import pandas as pd

    tables, origin = [], []
    for run, values in runs.items():
        try:
            # Numbers are copied as they are written; nothing is rounded again.
            text = (folder / f"{run}.csv").read_text("utf-8")
            table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
            record = dict(json.loads((folder / f"{run}.json").read_text("utf-8")))
            if record.pop("sha256", found := hashlib.sha256(text.encode()).hexdigest()) != found:
                raise ValueError("another table than the one whose SHA-256 its JSON holds")
        except (ValueError, TypeError) as error:
            fix = "delete it, so that it is made again"
            raise check.refuse(f"{folder / run}.csv", "a table with its JSON", error, fix) from None
        # A chapter's own column keeps its name; seed and profile are in it as they were set.
        own = {name for name in values if name in table and set(table[name]) != {_text(values[name])}}
        columns = {f"{name} (parameter)" if name in own else name: _text(v) for name, v in values.items()}
        table = table.assign(**columns)
        tables.append(table[[*columns, *(c for c in table if c not in columns)]])
        origin.append({"parameters": dict(values), "table": f"{run}.csv", **record})
    provenance = json.dumps({"runs": origin}, indent=1) + "\n"
    path = resources.write_whole((folder / name).with_suffix(".json"), provenance).with_suffix(".csv")
    whole = pd.concat(tables, ignore_index=True)
    return resources.write_whole(path, whole.to_csv(index=False, lineterminator="\n"))


def _run_missing(notebook: Path, runs: Mapping[str, Mapping[str, object]], folder: Path, jobs: int) -> None:
    if importlib.util.find_spec("snakemake") is None:
        raise RuntimeError('a sweep needs Snakemake; install it: pip install "segconf-lite[sweep]"')
    arguments = {
        run: [text for name, value in values.items() for text in ("-p", name, _text(value))]
        for run, values in runs.items()
    }
    config = folder / f"sweep__{digest(sorted(runs))}.json"  # a file: no shell reads what was typed
    resources.write_whole(config, json.dumps({"notebook": str(notebook), "runs": arguments}, indent=1))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(_RULES), "--configfile", str(config)]
    command += ["--directory", str(folder), "--cores", str(jobs), "--keep-going", "--rerun-triggers", "mtime"]
    command += ["--nolock", "--rerun-incomplete"]  # Snakemake's own lock outlives a killed sweep
    # Two networks training on two cores with two threads each would be far slower than one after the other.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "SEGCONF_QUIET": "1"}
    with filelock.FileLock(folder / ".sweep.lock"):  # of two sweeps in one folder, the second one waits
        subprocess.run([*command, "--quiet", "all"], env=alone, check=False)


def _interrupted(folder: Path) -> set[str]:
    """Runs that a killed sweep was at; Snakemake marks them by files whose names are in base 64."""
    marked = folder / ".snakemake" / "incomplete"
    names = ("".join(mark.relative_to(marked).parts) for mark in marked.rglob("*") if mark.is_file())
    texts = (base64.urlsafe_b64decode(name.replace("@", "")).decode(errors="replace") for name in names)
    return {text.removesuffix(".csv") for text in texts}


def _line(run: str, folder: Path, before: bool, done: bool) -> str:
    if done:
        return f"{'there' if before else 'done':<7}{run}"
    log = folder / f"{run}.log"
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    why = next((line for line in lines if "Error" in line or "segconf run:" in line), "no log")
    return f"FAILED {run}: {why} (see {log})"


def _text(value: object) -> str:
    """A value as `segconf run -p` reads it back."""
    return value if isinstance(value, str) else json.dumps(value)
