"""Time `segconf review` on stored predictions of 200 volumes, and write benchmarks/review.csv.

    python benchmarks/review.py [FOLDER]

The volumes are drawn: three nested ellipsoids in 10 slices of 256 x 216 pixels, four classes, as nnU-Net v2
writes cardiac predictions (probabilities in float32, compressed). Half of them have a reference. With FOLDER
the data and the page are kept there, to be looked at.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

N_CASES, N_TRAINING, SHAPE = 200, 40, (10, 256, 216)  # slices, rows, columns
AFFINE = np.diag([-1.4, -1.4, 8.0, 1.0])


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    nibabel.save(image, path)


def depth(shape: tuple[int, int, int], centre: np.ndarray, radius: float) -> np.ndarray:
    """Distance inwards from an ellipsoid, in pixels; negative outside."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    away = np.sqrt((6 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (1.15 * (x - centre[2])) ** 2)
    return (radius - away).astype(np.float32)


def case(rng: np.random.Generator, error: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, reference, and logits of a prediction with errors of about `error` pixels."""
    centre = np.array([4.5, 128 + rng.normal(0, 12), 108 + rng.normal(0, 12)])
    radii = rng.normal(30, 3) * np.array([1.0, 0.72, 0.5])
    reference = sum((depth(SHAPE, centre, radius) > 0).astype(np.uint8) for radius in radii)
    image = 100 + 60 * reference + rng.normal(0, 12, SHAPE)
    moved = centre + np.array([0, *rng.normal(0, error, 2)])
    levels = [depth(SHAPE, moved, radius + rng.normal(0, error)) for radius in radii]
    width = 0.6 + 0.5 * error * rng.uniform(0.5, 1.5)
    steps = [np.zeros(SHAPE, np.float32), *(np.clip(level / width, -12, 12) for level in levels)]
    return image.astype(np.float32), reference, np.cumsum(steps, axis=0)


def write(root: Path, *, n_cases: int = N_CASES) -> None:
    rng = np.random.default_rng(0)
    described = {"labels": {"background": 0, "right ventricle": 1, "muscle": 2, "left ventricle": 3}}
    described |= {"channel_names": {"0": "cineMRI"}, "file_ending": ".nii.gz"}
    (root / "predictions").mkdir(parents=True)
    (root / "predictions/dataset.json").write_text(json.dumps(described))
    for number in range(n_cases):
        name = f"site{'AB'[number % 2]}_{number // 2:03d}_{'ED' if number % 3 else 'ES'}"
        image, reference, logits = case(rng, error=rng.gamma(1.2, 1.5 + 1.5 * (number % 2)))
        chances = np.exp(logits - logits.max(axis=0))
        chances /= chances.sum(axis=0)
        if number == 7:  # a failure that no probability shows: nothing is found
            chances[:], chances[0] = 0, 1
        np.savez_compressed(root / f"predictions/{name}.npz", probabilities=chances)
        save(root / f"predictions/{name}.nii.gz", chances.argmax(axis=0).astype(np.uint8))
        noise = rng.normal(0, 35 * (number % 40 == 5), SHAPE).astype(np.float32)
        save(root / f"imagesTs/{name}_0000.nii.gz", image + noise)
        if number % 2 == 0 or number % 4 == 1:
            save(root / f"labelsTs/{name}.nii.gz", reference)
    for number in range(N_TRAINING):
        save(root / f"training/t{number:03d}_0000.nii.gz", case(rng, error=0.0)[0])


def main() -> None:
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        if not (root / "predictions").is_dir():
            write(root)
        words = [sys.executable, "-m", "segconf_lite.cli", "review", "--out", str(root / "review.html")]
        words += ["--domain", r"^(site\w)_"]
        for option, folder in (
            ("predictions", "predictions"),
            ("images", "imagesTs"),
            ("labels", "labelsTs"),
            ("training", "training"),
        ):
            words += [f"--{option}", str(root / folder)]
        before, started = os.times(), time.perf_counter()
        subprocess.run(words, check=True)
        wall, after = time.perf_counter() - started, os.times()
        processor = (
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        size = (root / "review.html").stat().st_size
    what = f"segconf review, {N_CASES} volumes of {' x '.join(map(str, SHAPE))}, 4 classes"
    rows = [
        (f"{what}, processor time", f"{processor:.1f}", "s"),
        ("the same, wall clock", f"{wall:.1f}", "s"),
        ("waiting processes on average, this one included", f"{os.getloadavg()[0]:.1f}", "processes"),
        ("processors", os.cpu_count(), ""),
        ("size of the page", f"{size / 1e6:.2f}", "MB"),
    ]
    with (here / "review.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("what", "value", "unit"), *rows])
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
