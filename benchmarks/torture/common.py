"""What the campaigns share: where they run, and the table of their counts."""

from __future__ import annotations

import contextlib
import csv
import datetime
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from segconf_lite.claims import runs
from segconf_lite.notebook import environment

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "book" / "results" / "torture.csv"
COLUMNS = ("campaign", "part", "tries", "failures", "what", "seed", "commit", "device", "torch", "day")


class Counts:
    """Tries and failures of each part of a campaign."""

    def __init__(self, campaign: str, seed: int) -> None:
        self.campaign, self.seed = campaign, seed
        self.tries: dict[str, int] = {}
        self.failures: dict[str, list[str]] = {}

    def add(self, part: str, failure: str | None = None, *, tries: int = 1) -> None:
        """Count a try, and what failed in it, if anything did."""
        self.tries[part] = self.tries.get(part, 0) + tries
        self.failures.setdefault(part, [])
        if failure:
            self.failures[part].append(failure)
            print(f"{self.campaign}, {part}: {failure}", flush=True)

    def report(self, *, store: bool) -> int:
        """Print the counts, write them into the table if asked, and return the number of failures."""
        here = Path.cwd()
        os.chdir(ROOT)  # the commit is that of the checkout
        origin = runs.provenance(profile="lite", seed=self.seed)
        os.chdir(here)
        about = {k: origin[k] for k in ("seed", "commit", "device")} | {"torch": torch.__version__}
        if _changed() <= {TABLE.relative_to(ROOT).as_posix()}:  # the table that this campaign writes
            about["commit"] = about["commit"].removesuffix("-dirty")
        about |= {"day": datetime.datetime.now(datetime.UTC).date().isoformat()}
        rows = []
        for part, tries in self.tries.items():
            found = self.failures[part]
            what = "; ".join(sorted({text.partition(":")[0] for text in found}))[:300]
            rows.append({"campaign": self.campaign, "part": part, "tries": tries, "failures": len(found)})
            rows[-1] |= {"what": what, **about}
            print(f"{self.campaign:<12} {part:<40} {tries:>7} tries {len(found):>5} failures  {what}")
        if store:
            done = {(row["campaign"], row["part"]) for row in rows}
            with contextlib.suppress(FileNotFoundError), TABLE.open(encoding="utf-8") as file:
                rows = [
                    row for row in csv.DictReader(file) if (row["campaign"], row["part"]) not in done
                ] + rows
            with TABLE.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        return sum(map(len, self.failures.values()))


def _changed() -> set[str]:
    """Tracked files that differ from the commit."""
    command = ["git", "diff", "HEAD", "--name-only"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split())


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """An empty user folder for the block."""
    with tempfile.TemporaryDirectory() as name, environment({"SEGCONF_HOME": name}):
        yield Path(name)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing that the block writes is seen."""
    sys.stdout.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with Path(os.devnull).open("w") as nothing:
        for number in (1, 2):
            os.dup2(nothing.fileno(), number)
        try:
            yield
        finally:
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


def hidden_files(folder: Path) -> list[str]:
    """Names of unfinished files in a folder and below."""
    return [p.name for p in folder.rglob(".*") if p.suffix == ".tmp" or p.name.endswith(".running.ipynb")]


def python(code: str, *, cwd: Path, **variables: str) -> subprocess.Popen[bytes]:
    """A Python process of its own session, which does nothing that is seen."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
