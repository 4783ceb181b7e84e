"""SIGKILL at random moments of work on the store and on stored results; the next run must put all right.

    python benchmarks/torture/kill.py --n 500    # about an hour

After each kill the same work is done again without one. It must complete, its results must be those of an
undisturbed run to the last byte, nothing that was complete may be trained or run again, and no unfinished
file may stay. Parts: training of three networks into the store; packing and unpacking the store; judging
claims; a sweep of three runs of a notebook (one try in twenty, because each takes many seconds).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from common import Counts, hidden_files, home, python, silent

from segconf_lite import artefacts, classroom, resources
from segconf_lite.claims import ledger, runs
from segconf_lite.claims.registry import read_claims
from segconf_lite.cohorts import phantom
from segconf_lite.models import UNet, fit_unet
from segconf_lite.models.store import artefact_path, fitted_each, store_folder

SEEDS = (0, 1, 2)
CLAIMS = 6
NOTEBOOK = """# %% tags=["parameters"]
profile = "lite"  # @param ["lite", "full"]
seed = 0  # @param {type:"integer", min:0}
cases_out = ""  # @param {type:"string"}

# %%
import time
from pathlib import Path
Path(cases_out).with_suffix(".json").write_text('{"device": "cpu"}')
with open(cases_out, "w") as file:  # not whole at once, as a reader's own notebook may write
    file.write("subject,x\\n")
    file.flush()
    time.sleep(0.5)
    file.write(f"a,{seed}\\n")
with open(Path(cases_out).parent / "ran.txt", "a") as file:
    file.write(f"{seed}\\n")
"""
SWEEP = "from segconf_lite import grid; grid.sweep('01_tiny.py', [('seed', '0,1,2')], folder='out', jobs=2)"


def fit(cohort: object, *, seed: int = 0) -> UNet:
    """A short training, noted in a file when it begins."""
    with (Path(os.environ["SEGCONF_HOME"]) / "trained.txt").open("a") as file:
        file.write(f"{seed}\n")
    return fit_unet(cohort, steps=12, seed=seed, channels=(8, 16), progress=False)


def in_a_child(act: Callable[[], object], kill_after: float | None = None) -> tuple[bool, float]:
    """Run in a forked process, perhaps killed; whether it ended well, and its seconds."""
    start, child = time.monotonic(), os.fork()
    if not child:
        code = 1
        with silent(), contextlib.suppress(BaseException):
            act()
            code = 0
        os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0, time.monotonic() - start


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    """SHA-256 of the files that anybody may see; of networks, of their weights."""
    found = {}
    for path in sorted(folder.rglob(pattern)):
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock":
            content = path.read_bytes()
            if path.suffix == ".safetensors":
                content = artefacts.checksum(artefacts.restored(content, path.stem).state_dict(), "").encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def training(rng: random.Random, tries: Iterable[int], counts: Counts) -> None:
    cohort = phantom.cohort(24, size=16)
    act = lambda: fitted_each(fit, cohort, seeds=SEEDS)  # noqa: E731
    artefact_path(fit, cohort)  # loads here what every child needs
    with home():
        ok, _ = in_a_child(act)
        expected = digests(store_folder())
    with home():
        whole = in_a_child(act)[1]
    if not ok:
        return counts.add("training into the store", "fails without a kill")
    for _ in tries:
        with home() as folder:
            in_a_child(act, rng.uniform(0, whole))
            before = digests(store_folder())
            (folder / "trained.txt").unlink(missing_ok=True)
            ok, _ = in_a_child(act)
            again = (folder / "trained.txt").read_text().split() if (folder / "trained.txt").exists() else []
            after, left = digests(store_folder()), hidden_files(folder)
            failure = None
            if not ok or after != expected:
                failure = f"the next run differs: {len(after)} networks"
            elif len(again) != len(SEEDS) - len(before):
                failure = f"trained again: {again} with {len(before)} complete"
            elif left:
                failure = f"leftovers: {left}"
            counts.add("training into the store", failure)


def packing(rng: random.Random, tries: Iterable[int], counts: Counts) -> None:
    with home() as here, tempfile.TemporaryDirectory() as name:
        shelf = Path(name) / "class.zip"
        cohort = phantom.cohort(12, size=16)
        in_a_child(lambda: [fitted_each(fit_large, cohort, seeds=range(6)), classroom.pack(shelf)])
        names, expected = sorted(digests(here / "store", "*.safetensors")), shelf.read_bytes()
        whole = in_a_child(lambda: classroom.pack(shelf))[1]
        for k in tries:
            if k % 2:
                in_a_child(lambda: classroom.pack(shelf), rng.uniform(0, whole))
                half = shelf.read_bytes() != expected
                ok, _ = in_a_child(lambda: classroom.pack(shelf))
                left = hidden_files(shelf.parent)
                failure = "half an archive" if half else None if ok and not left else f"leftovers: {left}"
                counts.add("packing the store", failure)
                continue
            with home() as folder:
                in_a_child(lambda: classroom.unpack(shelf), rng.uniform(0, whole))
                there = digests(folder / "store")  # raises where a file is not whole
                ok, _ = in_a_child(lambda: classroom.unpack(shelf))
                same = ok and sorted(digests(folder / "store")) == names and set(there) <= set(names)
                left = hidden_files(folder)
                failure = None if same and not left else f"leftovers: {left}" if same else "not unpacked"
                counts.add("unpacking into the store", failure)


def fit_large(cohort: object, *, seed: int = 0) -> UNet:
    """A network of some megabytes, so that writing it takes time."""
    return fit_unet(cohort, steps=1, seed=seed, channels=(32, 64, 128), progress=False)


def judging(rng: random.Random, tries: Iterable[int], counts: Counts) -> None:
    stored, every = resources.results_folder(), read_claims()
    table, name_of = (
        runs.table_path(stored, 2, "lite"),
        [k for k, claim in every.items() if claim.judged_on == 2],
    )
    claims = {claim_id: every[claim_id] for claim_id in name_of[:CLAIMS]}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        base.mkdir()
        for path in (table, table.with_suffix(".json")):
            shutil.copy(path, base)
        act = lambda to: ledger.settle(to, profile="lite", claims=claims, accept=True)  # noqa: E731
        shutil.copytree(base, undisturbed := Path(name) / "undisturbed")
        ok, whole = in_a_child(lambda: act(undisturbed))
        expected = digests(undisturbed)
        if not ok or len(expected) <= len(digests(base)):
            return counts.add("judging claims", "fails without a kill")
        for _ in tries:
            shutil.copytree(base, here := Path(name) / "here")
            in_a_child(lambda: act(here), rng.uniform(0, whole))
            half = [k for k, v in digests(here).items() if expected.get(k) != v]
            ok, _ = in_a_child(lambda: act(here))
            left, same = hidden_files(here), digests(here) == expected
            failure = f"half a record: {half}" if half else None
            failure = failure or (None if ok and same else "the next run differs")
            counts.add("judging claims", failure or (f"leftovers: {left}" if left else None))
            shutil.rmtree(here)


def sweeping(rng: random.Random, tries: Iterable[int], counts: Counts) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "01_tiny.py").write_text(NOTEBOOK, "utf-8")
        out, whole = Path(name) / "out", None
        for _ in itertools.chain([-1], tries):
            shutil.rmtree(out, ignore_errors=True)
            before: set[str] = set()
            if whole is not None:
                killed = python(SWEEP, cwd=Path(name))
                time.sleep(rng.uniform(0.2 * whole, whole))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(killed.pid, signal.SIGKILL)
                killed.wait()
                time.sleep(1.5)  # kernels notice that nobody talks to them any more
                before = {p.name for p in out.glob("seed=*.csv") if p.read_text().count("\n") == 2}
                before -= interrupted(out)
                (out / "ran.txt").unlink(missing_ok=True)
            start = time.monotonic()
            ok = python(SWEEP, cwd=Path(name)).wait() == 0
            whole = whole or time.monotonic() - start
            table = next(iter(out.glob("joined__*.csv")), None)
            text = table.read_text() if table else ""
            again = (out / "ran.txt").read_text().split() if (out / "ran.txt").exists() else []
            expected = text == "seed,subject,x\n0,a,0\n1,a,1\n2,a,2\n"
            failure = None if ok and expected else f"the next run differs: {text!r}"
            if len(again) > len(SEEDS) - len(before):
                failure = failure or f"run again: {again} with {sorted(before)} complete"
            left = hidden_files(out)
            counts.add("sweep", failure or (f"leftovers: {left}" if left else None))


def interrupted(folder: Path) -> set[str]:
    """Tables that Snakemake had not yet taken as complete."""
    from segconf_lite import grid

    return {f"{name}.csv" for name in grid._interrupted(folder)}


def limited(n: int, minutes: float) -> Iterator[int]:
    """0 .. n - 1, fewer if the time is over before."""
    end = time.monotonic() + 60 * minutes
    yield from itertools.takewhile(lambda _: time.monotonic() < end, range(n))


FRACTIONS = {"training": 0.45, "packing": 0.3, "judging": 0.2, "sweeping": 0.05}
PARTS = {"training": training, "packing": packing, "judging": judging, "sweeping": sweeping}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=500, help="number of kills")
    parser.add_argument("--minutes", type=float, default=1e9, help="of all parts together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--store", action="store_true", help="write the counts to book/results/torture.csv")
    chosen = parser.parse_args()
    failures = 0
    for name in chosen.part or PARTS:
        counts = Counts("kill", chosen.seed)
        n = chosen.n if chosen.part else max(1, round(chosen.n * FRACTIONS[name]))
        minutes = chosen.minutes / len(chosen.part or PARTS)
        PARTS[name](random.Random(chosen.seed), limited(n, minutes), counts)
        failures += counts.report(store=chosen.store)
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
