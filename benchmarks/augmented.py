"""Chapter 3 with and without augmentation of the training images: what changes for distortion and distance?

    python benchmarks/augmented.py --seed 21 --out book/results/runs/augmented/seed_21.csv.gz
    python benchmarks/augmented.py --summary    # what augmentation changes, from the stored seeds

`make claims` does the first for each seed. Lennartz & Schultz (2023) train their U-Net on hearts (ACDC,
tested on M&Ms) with augmentation and on brains (CC-359) without, and what is flagged differs between the
two. Here the U-Net of chapter 3 is trained twice on the same slices of scanner A, with the same seed and
steps: as in the chapter, without augmentation, and with ``augmentation="nnunet"``
(`NnUNetLikeAugmentation`). This follows the list of nnU-Net's second trainer, which the source used for
hearts, in its changes and ranges, but for these points:

* scale and gamma are drawn from one range each, where nnU-Net draws from below and above 1 equally often;
* blur has the probability 0.1 and low resolution 0.125, where the list has 0.2 and 0.25 per case and half
  of that per channel: with one channel, the probabilities are multiplied;
* the noise has a standard deviation of up to 0.1, which is how nnU-Net uses what it calls a variance;
* images are mirrored together with rotation and scale, linearly interpolated, and not at the end; pixels
  from outside repeat the edge.

Elastic deformation is off in both. ``"mild"``, the other augmentation of the package, does not change
contrast or resolution. Other than in the source, probably, the autoencoder learns from slices without
augmentation in both arms, because `fit_autoencoder` takes none; so do both distances, as published.
Augmented slices are harder to learn, and the steps are the same, so the second network may be further from
convergence; its Dice on A shows by how much.

Columns, one row per test slice: ``risk`` (1 - Dice) and ``quality`` (Dice); NAME, an uncertainty, one of
`METHODS`; ``flagged: NAME``, 1 where it exceeds the threshold that 95 % of the slices of other hearts on A
do not exceed; and ``eAURC: NAME``, the part of this slice in the eAURC of its scanner, so that the mean
over the slices of a scanner is the eAURC. The same with ``, augmented`` at the end is of the second
network.
"""

import sys
import warnings

import numpy as np
import pandas as pd
from over_seeds import interval
from reverse import main

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.claims import runs
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import PooledMahalanobis, SegmentationDistortion
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.confidence.distortion import distortion_columns
from segconf_lite.evaluation import case_table, detection_threshold
from segconf_lite.models import fit_unet, fitted
from segconf_lite.profiles import LITE

DISTANCES = {"distance": "channels_and_space", "distance, published pooling": "published"}
METHODS = ("distortion", "distortion, Dice", *DISTANCES, "entropy, foreground", "soft Dice")
ARMS = {"": None, ", augmented": "nnunet"}  # end of the columns -> augmentation
PASS_RATE = 0.95


def unet_of(train, augmentation, seed, sizes):
    """The network of chapter 3; without augmentation it has the address of the chapter's in the store."""
    training = {"steps": sizes.steps, "channels": sizes.channels, "dropout": 0.1, "seed": 10 * seed}
    changed = {} if augmentation is None else {"augmentation": augmentation}
    return fitted(fit_unet, train, **training, **changed)


def fit_methods(network, train, seed, sizes):
    """Name -> fitted method: the distortion with its autoencoder, and the two distances."""
    distortion = SegmentationDistortion(training={"steps": sizes.steps, "seed": 10 * seed})
    methods = {"distortion": distortion.fit(network, train)}
    with warnings.catch_warnings():  # of fewer slices than numbers, which chapter 3 discusses
        warnings.filterwarnings("ignore", message=".*training vectors")
        for name, pooling in DISTANCES.items():
            methods[name] = PooledMahalanobis(pooling=pooling).fit(network, train)
    return methods


def uncertainties(methods, cohort):
    """Risk, Dice and uncertainties of each case of a cohort."""
    plain, altered = methods["distortion"].both_probabilities(cohort.images)
    table = case_table(plain, cohort, empty="skip")[["domain", "subject", "quality"]]
    columns = one_pass_columns(plain) | distortion_columns(plain, altered)
    columns |= {name: to_numpy(methods[name].uncertainty(cohort.images)) for name in DISTANCES}
    return table.assign(risk=1 - table["quality"], **{name: columns[name] for name in METHODS})


def flags(home, values):
    """(n,) of 0 and 1: which values exceed the threshold that `PASS_RATE` of those at home do not exceed."""
    return (np.asarray(values) > detection_threshold(home, pass_rate=PASS_RATE)).astype(int)


def excess_parts(risk, uncertainty):
    r"""(n,) parts of the cases in the eAURC; their mean is `segconf_lite.evaluation.excess_aurc`.

    The case of rank i is among the k most trusted for each k >= i, so AURC is the mean of
    :math:`r_{(i)} \sum_{k=i}^{n} 1/k`. Cases of a tie share their weights.

    Args:
        risk: (n,) risk of each case.
        uncertainty: (n,) uncertainty of each case, higher = trusted less.

    Raises:
        ValueError: If a value is not finite.
    """
    risk = check.finite("risk", np.asarray(risk, float))
    uncertainty = check.finite("uncertainty", np.asarray(uncertainty, float))
    check.same_length(risk=risk, uncertainty=uncertainty)
    weights = (1 / np.arange(len(risk), 0, -1)).cumsum()[::-1]

    def shared(values):
        _, tie, size = np.unique(values, return_inverse=True, return_counts=True)
        return (np.bincount(np.sort(tie), weights) / size)[tie]

    return risk * (shared(uncertainty) - shared(risk))


def arm(methods, familiar, test):
    """The columns of one network.

    Args:
        methods: Its methods, see `fit_methods`.
        familiar: Slices of scanner A that set the thresholds.
        test: Test slices of all scanners.

    Raises:
        ValueError: If a test subject sets a threshold, too.
    """
    if shared := set(familiar.subjects) & set(test.subjects):
        raise check.refuse("test subjects", "other subjects than those of the thresholds", sorted(shared))
    home, cases = uncertainties(methods, familiar), uncertainties(methods, test)
    for name in METHODS:
        cases[f"flagged: {name}"] = flags(home[name], cases[name])
        for _, part in cases.groupby("domain"):
            cases.loc[part.index, f"eAURC: {name}"] = excess_parts(part["risk"], part[name])
    return cases


def measured(seed, sizes=LITE, scanners="ABCDEF"):
    """The cases of one seed; hearts and networks are those of chapter 3."""

    def make(scanner, n_cases, first_subject):
        return phantom.cohort(n_cases, scanner=scanner, size=sizes.size, seed=seed + first_subject)

    train, familiar = make("A", sizes.n_train, 0), make("A", sizes.n_test, 2000)
    test = Cohort.concatenate([make(scanner, sizes.n_test, 1000) for scanner in scanners])
    parts = []
    for ending, augmentation in ARMS.items():
        network = unet_of(train, augmentation, seed, sizes)
        cases = arm(fit_methods(network, train, seed, sizes), familiar, test)
        parts.append(cases.set_index(["domain", "subject"]).add_suffix(ending))
    keys = parts[0].index.to_frame(index=False)  # slices of a subject share a key, so rows go by position
    tables = [part.reset_index(drop=True) for part in parts]
    return pd.concat([keys, *tables], axis=1).assign(cohort="phantom")


def summary(cases):
    """Mean of each column that is compared, without and with augmentation, and the difference over seeds."""
    names = ["quality", *(f"{kind}: {name}" for kind in ("flagged", "eAURC") for name in METHODS)]
    rows = []
    for scanner, part in cases.groupby("domain"):
        for name in names:
            changed = part[f"{name}, augmented"]
            ends = interval(part, changed - part[name])
            rows.append({"scanner": scanner, "column": name, "without": part[name].mean(),
                         "with": changed.mean(), "low": ends.low, "high": ends.high})  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if sys.argv[1:] == ["--summary"]:
        print(summary(runs.stored_cases("augmented")).round(3).to_string(index=False))
    else:
        main(measured, __doc__)
