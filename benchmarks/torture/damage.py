"""Files that others left damaged: cut, with one bit flipped, emptied, or with a folder in their place.

    python benchmarks/torture/damage.py --n 2000    # about 20 minutes

Every kind of file that the package writes or reads is damaged in a copy and read again. Allowed are the
result of the whole file, or a ValueError that names the file; the store may also train again with a
warning. A folder in the place of a file stands for a file that cannot be read, because an administrator may
read all files.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from common import Counts, home
from PIL import Image

from segconf_lite import artefacts, classroom, grid
from segconf_lite.arrays import to_numpy
from segconf_lite.claims import runs
from segconf_lite.cohorts import phantom
from segconf_lite.confidence import PooledMahalanobis, load
from segconf_lite.models import UNet, fit_unet
from segconf_lite.models.store import artefact_path, fitted, store_folder
from segconf_lite.readers import from_folder

Read = Callable[[Path], object]
KINDS = ("cut", "flipped", "emptied", "folder in its place")


def damage(path: Path, kind: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if kind == "folder in its place":
        path.unlink()
        path.mkdir()
        return
    if kind == "flipped":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes({"cut": content[: rng.randrange(len(content))], "emptied": b""}.get(kind, content))


def weights(network: object) -> str:
    return artefacts.checksum(network.state_dict(), "")  # type: ignore[attr-defined]


def fit(cohort: object, *, seed: int = 0) -> UNet:
    return fit_unet(cohort, steps=2, seed=seed, channels=(4, 8), progress=False)


def tables(folder: Path) -> None:
    cases = pd.DataFrame({"subject": [f"p{k}" for k in range(40)], "dice": np.linspace(0.1, 0.9, 40)})
    for seed in runs.SEEDS:
        runs.save_cases(cases, runs.run_path(folder, 2, seed), profile="lite", seed=seed)


def prepared(folder: Path) -> dict[str, tuple[Path, str, Read]]:
    """Part -> folder of whole files, pattern of those to damage, and what reads them from a copy."""
    cohort = phantom.cohort(12, size=16)
    with home() as store:
        network = fitted(fit, cohort)
        classroom.pack(folder / "archive" / "class.zip")
        shutil.copytree(store, folder / "store")
    stored = (folder / "store" / "store").glob("*.safetensors")
    name = next(stored).name

    def from_store(place: Path) -> object:
        with home() as own:
            shutil.rmtree(own)
            shutil.copytree(place, own)
            if not artefact_path(fit, cohort).name == name:
                raise AssertionError("another address")
            return weights(fitted(fit, cohort))

    def from_archive(place: Path) -> object:
        with home():
            classroom.unpack(place / "class.zip")
            return {path.name: path.read_bytes() for path in sorted(store_folder().glob("*.safetensors"))}

    method = PooledMahalanobis().fit(network, cohort)
    method.save(folder / "method")
    tables(folder / "runs")
    runs.save_cases(
        pd.DataFrame({"subject": ["a"], "x": [0.5]}), folder / "sweep/r.csv", profile="lite", seed=0
    )
    (folder / "joined").mkdir()
    for path in (
        table := runs.table_path(runs.resources.results_folder(), 9, "lite"),
        table.with_suffix(".json"),
    ):
        shutil.copy(path, folder / "joined")
    (folder / "records" / "claims").mkdir(parents=True)
    shutil.copy(
        runs.resources.results_folder() / "claims" / "near-but-harmful.lite.json",
        folder / "records" / "claims",
    )
    images(folder / "nifti", "nii.gz")
    images(folder / "png", "png")

    def cases(place: Path) -> object:
        found = from_folder(
            place / "table.csv", labels={0: "background", 1: "one"}, progress=False, normalise=None
        )
        return found.images.tobytes(), found.labels.tobytes(), found.subjects.tolist()

    def judged(chapter: int) -> Read:
        def read(place: Path) -> object:
            found = runs.judged_cases(place, chapter, "lite")
            return None if found is None else found[0].to_csv()

        return read

    return {
        "network in the store": (folder / "store", "*.safetensors", from_store),
        "archive of networks": (folder / "archive", "*.zip", from_archive),
        "saved method": (
            folder / "method",
            "*",
            lambda place: to_numpy(load(place, network).uncertainty(cohort.images)).tobytes(),
        ),
        "tables of cases, one per seed": (
            folder / "runs",
            "*.csv.gz",
            judged(2),
        ),
        "joined table of cases": (
            folder / "joined",
            "*.csv",
            judged(9),
        ),
        "table of a sweep": (
            folder / "sweep",
            "r.csv",
            lambda place: grid.join({"r": {"seed": 0}}, place, "joined.csv").read_bytes(),
        ),
        "images and labels, NIfTI": (folder / "nifti", "*.nii.gz", cases),
        "images and labels, PNG": (folder / "png", "*.png", cases),
    }


def images(folder: Path, ending: str) -> None:
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for k in range(2):
        image = rng.integers(0, 255, (24, 24), dtype=np.uint8)
        label = (image > 127).astype(np.uint8)
        for name, values in (("image", image), ("label", label)):
            path = folder / f"{name}_{k}.{ending}"
            if ending == "png":
                Image.fromarray(values).save(path)
            else:
                nibabel.save(nibabel.Nifti1Image(values[:, :, None], np.eye(4)), path)
        rows.append((f"image_{k}.{ending}", f"label_{k}.{ending}", f"p{k}"))
    spacing = {"spacing_mm": 1.0} if ending == "png" else {}
    pd.DataFrame(rows, columns=["image", "label", "subject"]).assign(**spacing).to_csv(
        folder / "table.csv", index=False
    )


def outcome(read: Read, place: Path, whole: object, target: Path) -> str | None:
    """What is wrong with the answer, or None."""
    try:
        found = read(place)
    except (ValueError, OSError) as error:
        case = target.stem.rpartition("_")[2].removesuffix(
            ".nii"
        )  # image and label of a case belong together
        clear = any(name in str(error) for name in (target.name, str(place), f"_{case}."))
        return None if clear else f"unclear {type(error).__name__}: {str(error)[:150]}"
    except Exception as error:
        return f"bare {type(error).__name__}: {str(error)[:150]}"
    if found is None and target.is_dir():  # no file there is as good as a run that was never made
        return None
    return None if found == whole else "trusted: another result without an error"


def campaign(folder: Path, n: int, rng: random.Random, counts: Counts, minutes: float = float("inf")) -> None:
    """Damage n files, fewer if the time is over before, and count what comes of it."""
    parts = prepared(folder)
    for part, (whole_files, pattern, read) in parts.items():
        place = folder / "copy"
        shutil.copytree(whole_files, place)
        whole = read(place)
        shutil.rmtree(place)
        start = time.monotonic()
        for k in range(max(len(KINDS), n // len(parts))):
            if time.monotonic() - start > 60 * minutes / len(parts):
                break
            kind = KINDS[k % len(KINDS)]
            shutil.copytree(whole_files, place)
            files = sorted(path for path in place.rglob(pattern) if path.is_file())
            damage(target := rng.choice(files), kind, rng)
            failure = outcome(read, place, whole, target)
            counts.add(part, failure and f"{failure} ({kind}, {target.name})")
            shutil.rmtree(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="number of damaged files")
    parser.add_argument("--minutes", type=float, default=1e9, help="of all parts together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="write the counts to book/results/torture.csv")
    chosen = parser.parse_args()
    counts = Counts("damage", chosen.seed)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        campaign(Path(name), chosen.n, random.Random(chosen.seed), counts, chosen.minutes)
    raise SystemExit(counts.report(store=chosen.store) > 0)


if __name__ == "__main__":
    main()
