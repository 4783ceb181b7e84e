"""How the Dice falls as one setting of scanner A is changed: the table behind an exercise of chapter 1.

    python benchmarks/exercises.py

Writes ``book/results/chapter_01_knobs.csv``. One row per setting, value and network: the mean Dice of 60
slices of ten hearts, and how far the images moved (root mean square over pixels, in standard deviations of
the image). The networks are the five of chapter 2, which learned the same hearts from different random
numbers.
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
    "gamma": [0.4, 0.55, 0.7, 1.4, 1.8, 2.5],
    "ghost": [0.2, 0.4, 0.6, 0.8, 1.0, 1.2],
    "noise": [0.08, 0.12, 0.16, 0.2, 0.25, 0.3],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "book/results/chapter_01_knobs.csv")
    out = parser.parse_args().out
    sizes, a = profile_named("lite"), phantom.SCANNERS["A"]

    def make(scanner: phantom.Scanner, n_cases: int, seed: int) -> Cohort:
        return phantom.cohort(n_cases, scanner=scanner, size=sizes.size, seed=seed)

    settings = {"steps": sizes.steps, "channels": sizes.channels, "dropout": 0.1}
    networks = fitted_each(fit_unet, make(a, sizes.n_train, 0), seeds=range(5), **settings)
    plain, rows = make(a, 60, 1000), []
    steps = [(knob, value) for knob, values in VALUES.items() for value in [getattr(a, knob), *values]]
    for knob, value in steps:
        changed = make(dataclasses.replace(a, name="custom", **{knob: value}), 60, 1000)
        moved = np.sqrt(np.mean((changed.images - plain.images) ** 2))
        for seed, unet in enumerate(networks):
            dice = case_table(predict_probabilities(unet, changed.images), changed, empty="skip")["quality"]
            rows.append({"knob": knob, "value": value, "network": seed, "dice": dice.mean(), "moved": moved})
        print(knob, value, f"{np.mean([row['dice'] for row in rows[-5:]]):.3f}", f"{moved:.3f}", flush=True)
    facts = ledger.provenance(profile="lite", seed=0)
    table = pd.DataFrame(rows).round(4)
    table.assign(**{k: facts[k] for k in ("profile", "commit", "device", "day")}).to_csv(out, index=False)


if __name__ == "__main__":
    main()
