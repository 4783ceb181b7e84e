"""How often does a failed segmentation break the topology of the heart?

The myocardium of a short-axis slice is one ring. `ring_defects` counts what differs from that, from the
predicted labels alone. For each seed, the lite network of chapter 2 segments 60 slices of 10 new subjects of
each scanner. A slice fails if its Dice is below 0.7.

What was expected, written down before the first run:

1. The true myocardium is a ring in at least 99 % of the slices.
2. On A, at most 5 % of the slices that do not fail break the topology.
3. On D and F, more than half of the slices that fail break it.

    python benchmarks/topology.py --seeds 21,22,23     # writes the table, 12 s per seed with stored networks
"""

from pathlib import Path

import numpy as np
import over_seeds
import pandas as pd

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import ring_defects, soft_dice_confidence
from segconf_lite.evaluation import case_table, excess_aurc
from segconf_lite.models import fit_unet, fitted, predict_probabilities

TABLE = Path(__file__).parents[1] / "book/results/chapter_10_topology.csv"
N_SLICES, FAILED, WALL = 60, 0.7, 2


def measured(sizes, seed, _):
    """One row per scanner."""
    train = phantom.cohort(sizes.n_train, scanner="A", size=sizes.size, seed=seed)
    training = {"steps": sizes.steps, "channels": sizes.channels, "dropout": 0.1, "seed": 10 * seed}
    network = fitted(fit_unet, train, **training)
    for scanner in "ABCDEF":
        cohort = phantom.cohort(N_SLICES, scanner=scanner, size=sizes.size, seed=seed + 1000)
        chances = predict_probabilities(network, cohort.images)
        dice = case_table(chances, cohort, empty="skip")["quality"].to_numpy()
        broken = ring_defects(chances.argmax(dim=1), wall=WALL)
        failed = dice < FAILED
        quality = np.asarray(soft_dice_confidence(chances))
        yield {
            "scanner": scanner,
            "n": len(dice),
            "failed": failed.sum(),
            "kept": (~failed).sum(),
            "failed_and_broken": (failed & (broken > 0)).sum(),
            "kept_and_broken": (~failed & (broken > 0)).sum(),
            "true_broken": (ring_defects(cohort.labels, wall=WALL) > 0).sum(),
            "eaurc_defects": excess_aurc(1 - dice, broken),
            "eaurc_soft_dice": excess_aurc(1 - dice, 1 - quality),
        }


def fractions(table):
    """Fraction of failures that break the topology, and of the other slices, with intervals over seeds."""
    rows = []
    for scanner, part in table.groupby("scanner"):
        row = {"scanner": scanner, "slices": part["n"].sum(), "failures": part["failed"].sum()}
        of = {"broken of failures": ("failed_and_broken", part["failed"])}
        of["broken of the others"] = ("kept_and_broken", part["kept"])
        for name, (count, total) in of.items():
            some = part[total > 0]
            values = (some[count] / total[total > 0]).to_numpy()
            if len(some):
                row[name] = values.mean()
            if len(some) > 1:
                ends = over_seeds.interval(some, values)
                row |= {f"{name}, low": ends.low, f"{name}, high": ends.high}
        rows.append(row | {"truth broken": part["true_broken"].sum()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    over_seeds.run(__doc__, TABLE, measured, fractions)
