"""A heart is measured twice, and its cavity seems larger or smaller: a true change, or the scanner?

    python benchmarks/follow_up.py --seed 21 --out book/results/runs/follow_up/seed_21.csv.gz

`make claims` does this for each seed. The network of chapter 10 segments 20 hearts of six slices on scanner A
(first visit). The second visit is one of three:

* *scanner*: the same heart, unchanged, on scanner D or F;
* *true*: scanner A again, but the radius of the cavity of the left ventricle is multiplied by a factor (the
  thickness of the wall stays), such that the *predicted* volume changes as much as on D or F;
* *true, on E*: the same with scanner E, which looks far from A and does little harm.

The volume is the number of pixels of the cavity over the six slices. A heart counts if its predicted volume
changes by at least 5 %, and if neither true change differs from this by more than 2 % of the first volume.
So the predicted volume cannot tell the visits apart; which confidence can? The uncertainty of a visit is the
mean over its slices.

Columns, one row per heart and scanner: ``change: scanner``, ``change: true``, ``change: true, on E``,
relative changes of the predicted volume; and ``AUROC: NAME`` and ``AUROC, on E: NAME``, the fraction of the
true changes of the same seed and scanner with a smaller rise of this uncertainty from the first visit to the
second (half, where it is equal). Its mean over the hearts is the AUROC.
"""

import itertools

import numpy as np
import pandas as pd
from reverse import main, network_and_cases

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.phantom.anatomy import FIELD_OF_VIEW_MM, draw
from segconf_lite.cohorts.phantom.phantom import slice_streams
from segconf_lite.cohorts.phantom.scanner import SCANNERS, acquire
from segconf_lite.cohorts.phantom.subjects import SLICES_PER_SUBJECT, draw_subjects
from segconf_lite.confidence import PooledMahalanobis
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.models import predict_probabilities
from segconf_lite.profiles import LITE

N_HEARTS, CAVITY = 20, 3
FACTORS = (0.7, 0.85, 1.0, 1.15, 1.3)
LEAST_CHANGE, LARGEST_DIFFERENCE = 0.05, 0.02


def visit(seed, factors, scanner, day):
    """Images (6 n, 1, H, W) of n hearts, each with its factor of the cavity, on one day."""
    hearts = range(len(factors))
    diseases, shapes = draw_subjects([np.random.default_rng([seed, k, 0]) for k in hearts])
    grown = (np.repeat(factors, SLICES_PER_SUBJECT) - 1) * shapes.endo
    shapes.endo = shapes.endo + grown
    shapes.rv_u = shapes.rv_u - grown  # the right ventricle lies on the septum, which moves
    anatomy = draw(shapes, LITE.size)
    streams = slice_streams(seed, hearts, 1, day)
    spacing = FIELD_OF_VIEW_MM / LITE.size
    images = acquire(anatomy.fractions, SCANNERS[scanner], 1.0, streams, spacing)
    return images[:, None], [f"s{seed}-{k:04d}-{d}" for k, d in zip(hearts, diseases, strict=True)]


class Reader:
    """The network and the distance, as they look at the slices of a visit."""

    def __init__(self, train, network):
        self.network, self.distance = network, PooledMahalanobis().fit(network, train)

    def volume(self, images):
        """(n,) predicted pixels of the cavity per heart, and the probabilities."""
        probabilities = predict_probabilities(self.network, images)
        cavity = to_numpy(probabilities.argmax(dim=1) == CAVITY).sum(axis=(1, 2))
        return per_heart(cavity).sum(axis=1), probabilities

    def all(self, images):
        """Volumes, and a table of the mean uncertainty of each heart."""
        volume, probabilities = self.volume(images)
        columns = one_pass_columns(probabilities)
        columns["distance"] = to_numpy(self.distance.uncertainty(images))
        return volume, pd.DataFrame({name: per_heart(v).mean(axis=1) for name, v in columns.items()})


def per_heart(values):
    """(n, 6) of (6 n,)."""
    return np.asarray(values, float).reshape(-1, SLICES_PER_SUBJECT)


def measured(seed, scanners="DF", n_hearts=N_HEARTS):
    """The hearts of one seed."""
    train, network, _ = network_and_cases(seed, scanners="A")
    read, hearts = Reader(train, network), seed + 3000
    usual = np.ones(n_hearts)
    images, subjects = visit(hearts, usual, "A", 0)
    before, at_first = read.all(images)
    possible = {}  # scanner -> relative changes (factors, hearts), made to rise with the factor
    for there in "AE":
        volumes = [read.volume(visit(hearts, f * usual, there, 1)[0])[0] for f in FACTORS]
        possible[there] = np.maximum.accumulate(np.array(volumes) / before - 1)
    parts = []
    for scanner in scanners:
        volume, artefact = read.all(visit(hearts, usual, scanner, 1)[0])
        part = pd.DataFrame({"subject": subjects, "domain": scanner, "change: scanner": volume / before - 1})
        goal, changes = part["change: scanner"], {}
        kept = (goal.abs() >= LEAST_CHANGE).to_numpy()
        for there, suffix in (("A", ""), ("E", ", on E")):
            factors = [np.interp(g, p, FACTORS) for g, p in zip(goal, possible[there].T, strict=True)]
            volume, changes[suffix] = read.all(visit(hearts, np.array(factors), there, 1)[0])
            part[f"change: true{suffix}"] = volume / before - 1
            near = (part[f"change: true{suffix}"] - goal).abs() <= LARGEST_DIFFERENCE
            kept = kept & near.to_numpy()
        for suffix, name in itertools.product(changes, at_first):
            rise, other = ((u[name] - at_first[name]).to_numpy()[kept] for u in (artefact, changes[suffix]))
            above = (rise[:, None] > other) + (rise[:, None] == other) / 2
            part.loc[kept, f"AUROC{suffix}: {name}"] = above.mean(axis=1)
        parts.append(part[kept].assign(hearts=n_hearts))
    return pd.concat(parts, ignore_index=True).assign(cohort="follow-up")


if __name__ == "__main__":
    main(measured, __doc__)
