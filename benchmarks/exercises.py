"""How the Dice falls as one setting of scanner A is changed: the table behind an exercise of chapter 1.

    python benchmarks/exercises.py

Writes ``book/results/chapter_01_knobs.csv``. One row per setting and value: the mean Dice of 60 slices of
ten hearts and of five networks, and how far the images moved (root mean square over pixels, in standard
deviations of the image). The networks are those of chapter 2: they learned the same hearts from different
random numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from segconf_lite.claims import ledger
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.evaluation import case_table
from segconf_lite.models import fit_unet, fitted_each, predict_probabilities
from segconf_lite.profiles import profile_named

ROOT = Path(__file__).parents[1]
VALUES = {
    "bias": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0],
    "blur_mm": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "fat_signal": [0.8, 0.6, 0.4, 0.3, 0.2, 0.0],
    "flip_deg": [10.0, 20.0, 30.0, 40.0, 75.0, 90.0],
    "noise": [0.1, 0.15, 0.2, 0.3],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "book/results/chapter_01_knobs.csv")
    parser.add_argument("--knobs", nargs="+", default=list(VALUES), help="settings to change")
    arguments = parser.parse_args()
    sizes, a = profile_named("lite"), phantom.SCANNERS["A"]

    def make(scanner: phantom.Scanner, n_cases: int, seed: int) -> Cohort:
        return phantom.cohort(n_cases, scanner=scanner, size=sizes.size, seed=seed)

    settings = {"steps": sizes.steps, "channels": sizes.channels, "dropout": 0.1}
    networks = fitted_each(fit_unet, make(a, sizes.n_train, 0), seeds=range(5), **settings)
    plain, rows = make(a, 60, 1000), []
    facts = {k: v for k, v in ledger.provenance(profile="lite", seed=0).items() if isinstance(v, str)}
    for knob, value in [(k, v) for k in arguments.knobs for v in [getattr(a, k), *VALUES[k]]]:
        changed = make(dataclasses.replace(a, name="custom", **{knob: value}), 60, 1000)
        moved = np.sqrt(np.mean((changed.images - plain.images) ** 2))
        told = [predict_probabilities(unet, changed.images) for unet in networks]
        dice = np.mean([case_table(p, changed, empty="skip")["quality"].mean() for p in told])
        rows.append({"knob": knob, "value": value, "dice": dice, "moved": moved, **facts})
        pd.DataFrame(rows).round(3).to_csv(arguments.out, index=False)  # a run cut short keeps what it has
        print(knob, value, f"{dice:.3f} {moved:.3f}", flush=True)


if __name__ == "__main__":
    main()
