"""Where the tables of cases lie: one per chapter and seed, each with its provenance beside it.

`save_cases` is what a notebook of a sweep calls. Claims are judged on the `SEEDS` of a chapter once all of
them are there, and until then on the joined table of the earlier seeds 11 to 16. Every file appears whole or
not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import io
import json
import os
import platform
import reprlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite import check, resources

PROFILES = ("lite", "full")
#: The seeds on which claims are judged. Claims were worded with the results of seed 0 in sight, and some with
#: those of 1, 2 and 11 to 16; nobody had looked at these when the claims were registered.
SEEDS = tuple(range(21, 31))
#: Runs beside those of the chapters, made by the program of that name in ``benchmarks`` -> their seeds.
SEEDS_OF: dict[str, tuple[int, ...]] = {
    "lidc": SEEDS[:5],
    "reverse": SEEDS[:3],
    "follow_up": SEEDS[:3],
    "labelling": SEEDS[:3],
    "risk_control": SEEDS[:5],
    "augmented": SEEDS[:5],
}
_VERSIONS = ("segconf-lite", "torch", "monai", "numpy", "scipy", "pandas")
_LAST_CHAPTER = 99  # names of files have two digits
_DIGITS = 5  # of every number in a stored table; verdicts are judged on what is stored
_LARGEST = 200_000_000  # bytes of a table; a small compressed file may hold far more


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
        ValueError: If the table has no rows or no subjects, or two columns of one name, or another argument
            is not as above.

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
    origin = provenance(profile=profile, seed=seed)
    columns = table.assign(profile=origin["profile"], seed=origin["seed"])
    return _store(_path("path", path), _as_csv(columns), origin)


def seeds_of(chapter: int | str) -> tuple[int, ...]:
    """The seeds on which the claims of a chapter, or of runs beside the chapters, are judged.

    Args:
        chapter: Number of the chapter, or a key of `SEEDS_OF`.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> seeds_of(2) == SEEDS, seeds_of("lidc")
        (True, (21, 22, 23, 24, 25))
    """
    return SEEDS_OF.get(_folder_name(chapter), SEEDS)


def run_path(results: str | Path, chapter: int | str, seed: int, profile: str = "lite") -> Path:
    """Where the cases of one seed of a chapter lie.

    Args:
        results: Folder of the stored results.
        chapter: Number of the chapter, or a key of `SEEDS_OF`.
        seed: The seed.
        profile: Profile of the run, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> run_path("results", 2, 21).as_posix()
        'results/runs/chapter_02/seed_21.csv.gz'
    """
    folder = "runs" if check.one_of("profile", profile, PROFILES) == "lite" else f"runs_{profile}"
    name = f"seed_{check.integer('seed', seed, low=0):02d}.csv.gz"
    return _path("results", results) / folder / _folder_name(chapter) / name


def table_path(results: str | Path, chapter: int, profile: str) -> Path:
    """Where the cases of all seeds of a chapter lie.

    Args:
        results: Folder of the stored results.
        chapter: Number of the chapter.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> table_path("results", 2, "lite").name
        'chapter_02_lite_cases.csv'
    """
    name = _folder_name(check.integer("chapter", chapter, low=0, high=_LAST_CHAPTER))
    return _path("results", results) / f"{name}_{check.one_of('profile', profile, PROFILES)}_cases.csv"


def record_path(results: str | Path, claim_id: str, profile: str) -> Path:
    """Where the record of a claim's verdict lies.

    Args:
        results: Folder of the stored results.
        claim_id: Id of the claim.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> record_path("results", "near-but-harmful", "lite").as_posix()
        'results/claims/near-but-harmful.lite.json'
    """
    check.instance("claim_id", claim_id, str)
    name = f"{claim_id}.{check.one_of('profile', profile, PROFILES)}.json"
    return _path("results", results) / "claims" / name


def judged_cases(
    results: str | Path, chapter: int | str, profile: str
) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """The cases on which the claims of a chapter are judged, and their provenance.

    Args:
        results: Folder of the stored results.
        chapter: Number of the chapter, or a key of `SEEDS_OF`.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Returns:
        The cases of all `seeds_of` the chapter, if every one of them is there. Otherwise the joined table of
        earlier seeds, so that nobody can stop when the result pleases. None if there is neither.

    Raises:
        ValueError: If a table or its provenance is damaged, or an argument is not as above.

    Example:
        >>> cases, origin = judged_cases(resources.results_folder(), 2, "lite")
        >>> sorted(cases["seed"].unique()) == [run["seed"] for run in origin["runs"]]
        True
    """
    runs = [run_path(results, chapter, seed, profile) for seed in seeds_of(chapter)]
    if all(path.is_file() for path in runs):
        text, origin = _joined(runs)
        return _table(text, origin, runs[0].parent), origin
    if isinstance(chapter, str):
        return None
    plain = table_path(results, chapter, profile)
    for path in (plain, plain.with_name(f"{plain.name}.gz")):  # the second in a wheel
        if path.is_file():
            origin = read_json(_origin_path(path))
            return _table(_text(path), origin, path), origin
    return None


def stored_cases(chapter: int | str, *, profile: str = "lite") -> pd.DataFrame:
    """The cases on which the claims of a chapter are judged, as stored with the book.

    Args:
        chapter: Number of the chapter, or a key of `SEEDS_OF`.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If there is no such chapter or profile.
        FileNotFoundError: If the chapter has none.

    Example:
        >>> sorted(stored_cases(1)["cohort"].unique())
        ['cord', 'phantom']
    """
    judged = judged_cases(resources.results_folder(), chapter, profile)
    if judged is None:
        raise FileNotFoundError(f"expected stored cases of {chapter!r} in profile {profile}, got none")
    return judged[0]


def stored_table(name: str) -> pd.DataFrame:
    """A table of results that is stored with the book, in a checkout or inside the installed package.

    Args:
        name: Its file name in ``book/results``, e.g. ``"chapter_02_lite_cases.csv"``.

    Raises:
        FileNotFoundError: If there is no such table. The message names those that are there.
        ValueError: If the file is damaged, or the name is no text.

    Example:
        >>> len(stored_table("chapter_02_lite_cases.csv"))
        4030
    """
    check.instance("name", name, str)
    path = resources.table_file(name)
    with naming(path):
        return pd.read_csv(path, low_memory=False)


def _path(name: str, value: str | Path) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        fix = "give it as text or as a pathlib.Path; '.' is the current folder"
        raise check.refuse(name, "a path", reprlib.repr(value), fix)
    return Path(value)


def _folder_name(chapter: int | str) -> str:
    """The folder of the runs of a chapter, or of runs beside the chapters."""
    if isinstance(chapter, str):
        return check.one_of("chapter", chapter, SEEDS_OF)
    return f"chapter_{check.integer('chapter', chapter, low=0, high=_LAST_CHAPTER):02d}"


def _joined(runs: Iterable[Path]) -> tuple[str, dict[str, Any]]:
    """The joined table as CSV, and its provenance."""
    paths = sorted(runs)
    origin = [read_json(_origin_path(path)) for path in paths]
    tables = [_table(_text(path), {"runs": [run]}, path) for path, run in zip(paths, origin, strict=True)]
    seeds = [int(table["seed"].iloc[0]) for table in tables]
    if not tables or len(set(seeds)) != len(seeds):
        raise check.refuse("runs", "one table per seed", f"seeds {seeds}")
    whole = pd.concat(tables, ignore_index=True).sort_values("seed", kind="stable")
    return _as_csv(whole), {"runs": sorted(origin, key=lambda run: run["seed"])}


def _table(text: str, origin: Any, path: Path) -> pd.DataFrame:
    """The cases, if the table is whole and has the seeds of its provenance."""
    with naming(path):
        table = pd.read_csv(io.StringIO(text), low_memory=False)
        expected = sorted(run["seed"] for run in origin["runs"])
        if sorted(table["seed"].unique()) != expected or not text.endswith("\n"):
            raise ValueError(f"its end is cut off, or its seeds are not {expected}")
        if origin.get("sha256", (found := _sha256(text))) != found:
            raise ValueError("its SHA-256 is not that of its JSON")
        return table


def read_json(path: Path) -> Any:
    """The content of a JSON file; a ValueError names a damaged one.

    Example:
        >>> read_json(run_path(resources.results_folder(), 0, 0))
        Traceback (most recent call last):
        FileNotFoundError: ...
    """
    with naming(path):
        return json.loads(path.read_text("utf-8"))


def as_json(content: Mapping[str, Any]) -> str:
    r"""The form in which provenance and records are stored.

    Example:
        >>> as_json({"seed": 21})
        '{\n "seed": 21\n}\n'
    """
    check.instance("content", content, Mapping)
    return json.dumps(content, indent=1) + "\n"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what is wrong with the content of a file into a ValueError that names it.

    Args:
        path: The file.

    Example:
        >>> with naming(Path("cases.csv")):
        ...     int("three")
        Traceback (most recent call last):
        ValueError: cases.csv must be a file that `make claims` wrote, got a damaged one: ...
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise
        raise _damaged(path, error) from None
    except Exception as error:  # whatever the readers of JSON, CSV and gzip raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    fix = "restore it from git, or delete it and run `make claims` again"
    return check.refuse(str(path), "a file that `make claims` wrote", f"a damaged one: {error}", fix)


def _text(path: Path) -> str:
    with naming(path):
        if path.suffix != ".gz":
            return path.read_text("utf-8")
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it holds more than {_LARGEST:,} bytes")
        return content.decode()


def _origin_path(path: Path) -> Path:
    """The provenance beside a table, compressed or not."""
    return path.with_name(path.name.removesuffix(".gz")).with_suffix(".json")


def _as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format=f"%.{_DIGITS}g", lineterminator="\n")


def _store(path: Path, text: str, origin: Mapping[str, Any]) -> Path:
    packed = path.suffix == ".gz"  # such a file has a checksum of its own
    content = gzip.compress(text.encode(), mtime=0) if packed else text
    origin = {**origin} if packed else {**origin, "sha256": _sha256(text)}
    resources.write_whole(_origin_path(path), as_json(origin))
    return resources.write_whole(path, content)  # last: a table that is there has its provenance


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
