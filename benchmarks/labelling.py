"""Which slices of a new scanner are worth labelling: the most uncertain ones, or any?

    python benchmarks/labelling.py --seed 21 --out book/results/runs/labelling/seed_21.csv.gz
    python benchmarks/labelling.py --summary    # gains over random choice, from the stored seeds

`make claims` does the first for each seed. The network of chapter 10 (scanner A) meets 240 unlabelled slices
of 40 hearts on scanner D or F, of which 12 (5 %) can be labelled. They are chosen

* *random*: at random, in four draws;
* by the highest uncertainty of one pass (names of chapter 10), or the distance of the activations from A;
* *soft Dice, one per subject*: by the soft Dice confidence, with at most one of the six slices of a heart;
* *lowest Dice*: by the true Dice, which nobody knows before labelling: the limit of "choose the worst".

Ties are broken at random. For each choice, training goes on from the same weights for 30 steps, as long as in
chapter 8. Half of each batch of 16 are chosen slices and half are training slices of A, so each of the 12 is
seen 20 times and has 40 times the weight of a slice of A. *No new labels* is trained as long on A alone, and
*as it is* not at all. The state after the last step is kept: to choose a state by its loss on slices of A, as
`fit_network` does, would favour networks that learned little of the new scanner. Steps, seed and learning
rate are the same for every choice; none was tuned.

Columns, one row per test slice (20 hearts of nobody in the training or the pool) and labelled scanner
``domain``: ``Dice: NAME``, of the network after this choice; ``Dice: random`` is the mean over the draws.
``cohort`` is ``labelling`` where the test slice is of the labelled scanner, and ``labelling, on A``, the
same hearts on A, which shows what the network forgets.
"""

import copy
import dataclasses
import sys

import numpy as np
import pandas as pd
import torch
from monai.losses.dice import DiceCELoss
from over_seeds import interval
from reverse import main, network_and_cases

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.claims import runs
from segconf_lite.cohorts import phantom
from segconf_lite.confidence import PooledMahalanobis
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.evaluation import case_table
from segconf_lite.models import Training, predict_probabilities
from segconf_lite.models.case_reader import case_reader
from segconf_lite.models.device import device_of, isolated_random_state
from segconf_lite.models.training import optimise, shuffled_batches
from segconf_lite.profiles import LITE

RANDOM, WORST, ONE_EACH = "random", "lowest Dice", ", one per subject"
CONFIDENCES = ("entropy, image", "entropy, foreground", "soft Dice", "small prediction", "distance")
METHODS = (RANDOM, *CONFIDENCES, "soft Dice" + ONE_EACH, WORST)
BEFORE, CONTROL = "as it is", "no new labels"
TRAINING = Training(steps=30, batch_size=16, learning_rate=1e-3)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the experiment.

    Attributes:
        n_pool: Number of unlabelled slices of the new scanner.
        fraction: Fraction of them that is labelled.
        n_draws: Number of random choices.
        n_new: Number of chosen slices in each batch.
        training: How the training goes on.
    """

    n_pool: int = 240
    fraction: float = 0.05
    n_draws: int = 4
    n_new: int = 8
    training: Training = TRAINING


def uncertainties(network, train, pool):
    """Name -> (n,) of the pool's slices, higher = label first; the last one looks at the labels."""
    probabilities = predict_probabilities(network, pool.images)
    columns = one_pass_columns(probabilities)
    columns["distance"] = to_numpy(PooledMahalanobis().fit(network, train).uncertainty(pool.images))
    columns[WORST] = 1 - case_table(probabilities, pool, empty="skip")["quality"].to_numpy()
    return {name: columns[name] for name in (*CONFIDENCES, WORST)}


def chosen(method, n, values, subjects, generator):
    """Indices (n,) of the slices to label, ascending.

    Args:
        method: One of `METHODS`.
        n: Number of slices to choose.
        values: Uncertainties of the pool, see `uncertainties`; a random choice does not look at them.
        subjects: (n_pool,) names of the subjects.
        generator: Generator of the random choice and of the order of ties.

    Raises:
        ValueError: If there is no such method, the pool has fewer than `n` slices or, with one per subject,
            fewer subjects, or a value is not finite.
    """
    check.one_of("method", method, METHODS)
    n = check.integer("n", n, low=1, high=len(subjects), fix="choose fewer slices than the pool has")
    order = generator.permutation(len(subjects))
    if method != RANDOM:
        column = check.finite(method, np.asarray(values[method.removesuffix(ONE_EACH)], float))
        order = order[np.argsort(-column[order], kind="stable")]
    if method.endswith(ONE_EACH):
        order = order[np.sort(np.unique(np.asarray(subjects)[order], return_index=True)[1])]
        check.integer("n", n, high=len(order), fix="with one slice per subject, choose as many as subjects")
    return np.sort(order[:n])


def choices(values, subjects, settings, seed):
    """Name -> indices of the pool, of equal number for all."""
    n = round(settings.fraction * len(subjects))
    names = {f"{RANDOM}, draw {k + 1}": RANDOM for k in range(settings.n_draws)}
    names |= {method: method for method in METHODS if method != RANDOM}
    generators = (np.random.default_rng([seed, k]) for k in range(len(names)))
    return {
        name: chosen(method, n, values, subjects, generator)
        for (name, method), generator in zip(names.items(), generators, strict=True)
    }


def trained_on(network, train, new, settings, seed):
    """A copy of the network, trained further on the source's slices and the new ones (None: without any)."""
    training, parts = settings.training.changed(seed=seed), [(train, settings.training.batch_size)]
    if new is not None:
        parts = [(train, training.batch_size - settings.n_new), (new, settings.n_new)]
    network, here = copy.deepcopy(network), device_of(network)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    read = [case_reader(cohort, here) for cohort, _ in parts]
    orders = [shuffled_batches(len(c), n, torch.Generator().manual_seed(seed)) for c, n in parts]

    def loss_on(indices):
        cases = [one(index) for one, index in zip(read, indices, strict=True)]
        images, labels = (torch.cat(kind).to(here) for kind in zip(*cases, strict=True))
        with torch.autocast(here.type, dtype=torch.bfloat16, enabled=training.uses_bf16(here)):
            logits = network(images)
        return loss(logits.float(), labels[:, None])

    with isolated_random_state(seed, here):  # one check, after the last step: its state is kept
        optimise(network, zip(*orders, strict=True), loss_on, lambda: 0.0, training, checks=1)
    return network


def labelled(network, control, train, pool, tests, settings, seed):
    """Dice of each test slice after each choice from the pool.

    Args:
        network: The network before.
        control: The network trained on without new labels.
        train: Its training slices.
        pool: The slices that can be labelled.
        tests: Name of the cohort -> test slices.
        settings: Sizes of the experiment.
        seed: Seed of the choices and of the training.

    Raises:
        ValueError: If a test subject is in the pool or the training slices.
    """
    known = {*pool.subjects, *train.subjects}
    for name, test in tests.items():
        if shared := known & set(test.subjects):
            raise check.refuse(f"{name}: test subjects", "not in the pool or the training", sorted(shared))
    tables = {name: pd.DataFrame({"subject": test.subjects}) for name, test in tests.items()}

    def measure(name, one):
        for cohort, table in tables.items():
            probabilities = predict_probabilities(one, tests[cohort].images)
            quality = case_table(probabilities, tests[cohort], empty="skip")["quality"]
            table[f"Dice: {name}"] = quality.to_numpy()

    measure(BEFORE, network)
    measure(CONTROL, control)
    for name, index in choices(uncertainties(network, train, pool), pool.subjects, settings, seed).items():
        measure(name, trained_on(network, train, pool.take(index), settings, seed))
    for table in tables.values():
        table[f"Dice: {RANDOM}"] = table.filter(like=f"{RANDOM}, draw").mean(axis=1)
    return pd.concat([table.assign(cohort=name) for name, table in tables.items()], ignore_index=True)


def measured(seed, scanners="DF", settings=Settings()):
    """The test slices of one seed."""
    train, network, home = network_and_cases(seed, scanners="A")
    control = trained_on(network, train, None, settings, seed)
    parts = []
    for scanner in scanners:
        pool = phantom.cohort(settings.n_pool, scanner=scanner, size=LITE.size, seed=seed + 5000)
        test = phantom.cohort(len(home), scanner=scanner, size=LITE.size, seed=seed + 1000)
        tests = {"labelling": test, "labelling, on A": home}
        parts.append(labelled(network, control, train, pool, tests, settings, seed).assign(domain=scanner))
    return pd.concat(parts, ignore_index=True)


def summary(cases):
    """Mean Dice after each choice, and its gain over random choice with a 95 % t interval over seeds."""
    rows = []
    for (cohort, scanner), part in cases.groupby(["cohort", "domain"]):
        for column in part.filter(like="Dice: "):
            ends = interval(part, part[column] - part[f"Dice: {RANDOM}"])
            rows.append({"cohort": cohort, "scanner": scanner, "chosen by": column.removeprefix("Dice: "),
                         "seeds": part["seed"].nunique(), "Dice": part[column].mean(),
                         "gain": ends.estimate, "low": ends.low, "high": ends.high})  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if sys.argv[1:] == ["--summary"]:
        print(summary(runs.stored_cases("labelling")).round(3).to_string(index=False))
    else:
        main(measured, __doc__)
