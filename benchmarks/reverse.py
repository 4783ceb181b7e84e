"""Reverse classification accuracy beside the soft Dice confidence and the size of the prediction.

    python benchmarks/reverse.py --seed 21 --out book/results/runs/reverse/seed_21.csv.gz

`make claims` does this for each seed. One row per slice: the network of chapter 10 segments 24 slices of 20
hearts per scanner, every fifth of those of the chapter. The twelve references are training slices of scanner
A, each of another heart, from base to apex.

Columns: ``risk`` (1 - Dice); ``reverse``, 1 - `reverse_classification_accuracy`; the uncertainties of one
pass; ``error: NAME``, the distance of a stated Dice to the true one (``mean Dice of A`` states that of all
slices of scanner A); and ``cpu ms: NAME``, milliseconds of processor time per slice.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from segconf_lite.claims import runs
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import reverse_classification_accuracy
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.evaluation import case_table
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import LITE

N_REFERENCES, EVERY = 12, 5
STATING = ("reverse", "soft Dice", "mean Dice of A")


def network_and_cases(seed, scanners="ABCDEF"):
    """Training cases, network and test cases of chapter 10."""
    train = phantom.cohort(LITE.n_train, scanner="A", size=LITE.size, seed=seed)
    training = {"steps": LITE.steps, "channels": LITE.channels, "dropout": 0.1, "seed": 10 * seed}
    network = fitted(fit_unet, train, **training)
    test = [phantom.cohort(LITE.n_test, scanner=s, size=LITE.size, seed=seed + 1000) for s in scanners]
    return train, network, Cohort.concatenate(test)


def measured(seed):
    """The cases of one seed."""
    train, network, test = network_and_cases(seed)
    test = test.take(np.arange(0, len(test), EVERY))
    references = train.take(np.array([6 * k + k % 6 for k in range(N_REFERENCES)]))
    start = time.process_time()
    probabilities = predict_probabilities(network, test.images)
    passed = time.process_time()
    quality = reverse_classification_accuracy(test.images, probabilities.argmax(dim=1), references, seed=seed)
    reversed_at = time.process_time()
    cases = case_table(probabilities, test, empty="skip").assign(cohort="phantom", reverse=1 - quality)
    cases = cases.assign(risk=1 - cases["quality"], **one_pass_columns(probabilities))
    cases["mean Dice of A"] = cases.loc[cases["domain"] == "A", "risk"].mean()
    for name in STATING:
        cases[f"error: {name}"] = (cases[name] - cases["risk"]).abs()
    cases["cpu ms: network"] = 1000 * (passed - start) / len(cases)
    cases["cpu ms: reverse"] = 1000 * (reversed_at - passed) / len(cases)
    return cases.drop(columns=["session", *train.class_names[1:]])


def main(measure, text):
    """Measure one seed and store its cases."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runs.save_cases(measure(asked.seed), asked.out, profile="lite", seed=asked.seed)


if __name__ == "__main__":
    main(measured, __doc__)
