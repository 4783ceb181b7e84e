"""Reject by the probability of a bad segmentation, or by a threshold on one number?

    python benchmarks/risk_control.py --seed 21 --out book/results/runs/risk_control/seed_21.csv.gz
    python benchmarks/risk_control.py --summary    # recalls per rule and scanner, from the stored seeds

`make claims` does the first for each seed. The public code of the Beta predictor's authors rejects a
segmentation when its predicted distribution gives a Dice below 0.8 a probability above 0.05. It sets the
other methods' thresholds on validation cases, such that 95 % of those with a Dice below 0.8 are rejected. On
the phantom, hardly any slice of scanner A is that bad. So the validation cases are new slices of A, each
under four draws of the strong corruptions that the Beta predictor is trained with: no other scanner is used.

Rules, columns ``rejected: NAME`` (1 or 0): *Beta*, by the probability; *Beta, mean*, *soft Dice*, and
*entropy, foreground*, by thresholds. ``wrong: NAME`` is 1 where a good case is rejected or a bad one is not.
One row per test slice of chapter 10, with ``risk`` (1 - Dice), ``sd: Beta``, the standard deviation of the
predicted distribution, and ``error: Beta``, the distance of its mean to the true Dice. ``cohort`` is ``bad``
where the Dice is below 0.8, and ``good`` elsewhere; ``bad in validation`` counts the bad validation cases.
"""

import dataclasses
import sys

import numpy as np
import pandas as pd
import torch
from over_seeds import interval
from reverse import main, network_and_cases

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.claims import runs
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import Adversary, BetaQualityPredictor
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.evaluation import case_table
from segconf_lite.models import Training, predict_probabilities
from segconf_lite.profiles import LITE
from segconf_lite.stress.corruptions import make_any_augmentation

BAD_BELOW, MOST_RISK, RECALL, N_DRAWS = 0.8, 0.05, 0.95, 4  # Dice; the rest are fractions and a number
BY_THRESHOLD = ("Beta, mean", "soft Dice", "entropy, foreground")
RULES = ("Beta", *BY_THRESHOLD)


def corrupted(cohort, seed, n_draws=N_DRAWS):
    """The cases under strong corruptions, in several draws one after another."""
    draws = []
    for k in range(n_draws):
        images, labels = torch.from_numpy(cohort.images), torch.from_numpy(cohort.labels)
        images, labels = make_any_augmentation("strong", seed + k)(images, labels)
        draws.append(dataclasses.replace(cohort, images=to_numpy(images), labels=to_numpy(labels)))
    return Cohort.concatenate(draws)


def threshold(uncertainty, bad):
    """The highest limit above or at which at least 95 % of the bad cases lie; NaN without a bad case.

    A case is rejected if its uncertainty is not below the limit.
    """
    of_bad = np.sort(check.finite("uncertainty", np.asarray(uncertainty, float))[np.asarray(bad, bool)])
    missed = int(np.floor((1 - RECALL) * len(of_bad) + 1e-9))
    return of_bad[missed] if len(of_bad) else np.nan


def read(network, beta, cohort):
    """Quality and uncertainties of each case."""
    probabilities = predict_probabilities(network, cohort.images)
    cases = case_table(probabilities, cohort, empty="skip")
    columns = one_pass_columns(probabilities)
    columns["Beta, mean"] = to_numpy(beta.uncertainty(cohort.images))
    return cases.assign(risk=1 - cases["quality"], **{name: columns[name] for name in BY_THRESHOLD})


def rejected(cases, validation, probability_below):
    """Name of the rule -> (n,) of 0 and 1."""
    bad = validation["quality"] < BAD_BELOW
    limits = {name: threshold(validation[name], bad) for name in BY_THRESHOLD}
    found = {"Beta": np.asarray(probability_below) > MOST_RISK}
    found |= {name: cases[name].to_numpy() >= limit for name, limit in limits.items()}
    bad = (cases["quality"] < BAD_BELOW).to_numpy()
    columns = {f"rejected: {name}": values.astype(int) for name, values in found.items()}
    return columns | {f"wrong: {name}": (values != bad).astype(int) for name, values in found.items()}


def measured(seed):
    """The cases of one seed."""
    train, network, test = network_and_cases(seed)
    training = Training(
        steps=LITE.steps, learning_rate=2e-3, weight_decay=1e-3, seed=10 * seed, augmentation="strong"
    )
    beta = BetaQualityPredictor(adversary=Adversary(), training=training).fit(network, train)
    familiar = phantom.cohort(LITE.n_test, scanner="A", size=LITE.size, seed=seed + 2000)
    validation = read(network, beta, corrupted(familiar, 1000 * seed))
    cases = read(network, beta, test)
    cases = cases.assign(
        **rejected(cases, validation, to_numpy(beta.probability_below(test.images, BAD_BELOW)))
    )
    mean, concentration = 1 - cases["Beta, mean"], to_numpy(beta.concentration(test.images))
    cases["sd: Beta"] = np.sqrt(mean * (1 - mean) / (1 + concentration))
    cases["error: Beta"] = (cases["Beta, mean"] - cases["risk"]).abs()
    cases["cohort"] = np.where(cases["quality"] < BAD_BELOW, "bad", "good")
    cases["bad in validation"] = int((validation["quality"] < BAD_BELOW).sum())
    return cases.drop(columns=["session", *train.class_names[1:]])


def summary():
    """Fraction rejected of the bad and kept of the good cases, over seeds with t intervals."""
    cases, rows = runs.stored_cases("risk_control"), []
    for (scanner, kind), part in cases.groupby(["domain", "cohort"]):
        row = {"scanner": scanner, "cases": kind, "n": len(part), "seeds": part["seed"].nunique()}
        for rule in RULES if part["seed"].nunique() > 1 else ():
            mean, low, high = interval(part, part[f"rejected: {rule}"])
            row[rule] = f"{mean:.2f} [{low:.2f}, {high:.2f}]"
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if "--summary" in sys.argv:
        print(summary().to_string(index=False))
    else:
        main(measured, __doc__)
