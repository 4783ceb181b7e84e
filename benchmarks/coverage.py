"""How often do 95 % intervals hold the truth? A simulation of repeats, judged as the ledger judges them.

A value is a seed's effect plus a person's effect plus the rest, each normal, or skewed (a gamma distribution
of shape 2). Seeds are networks; people are drawn anew for each seed, or shared by all seeds. For a mean:

- ``t over seeds``: what the ledger uses where people are drawn anew;
- ``nested bootstrap``: what it used before, percentiles over seeds and over people within seeds;
- ``seeds and people``: what the ledger uses where people are shared (`repeated_estimate`).

    python benchmarks/coverage.py                      # about 2 min on one core, writes the table
    python benchmarks/coverage.py --simulations 200    # a quick look
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from segconf_lite.evaluation import repeated_estimate

TABLE = Path(__file__).parents[1] / "book/results/interval_coverage.csv"
# Fractions of the variance that lie between seeds and between people; the rest lies between single values.
SHARES = [
    (0, 0),
    (0.5, 0),
    (0, 0.5),
    (0.3, 0.3),
    (0.1, 0.6),
    (0.6, 0.1),
    (0.2, 0.8),
    (0.8, 0.2),
    (0.45, 0.45),
]
SEEDS, PEOPLE, PEOPLE_DRAWN, LEVEL = (3, 5, 6, 10), (2, 3, 4, 5, 6, 10, 20), 20, 0.95


def draw(shape, kind, rng):
    """Independent numbers with mean 0 and variance 1."""
    return rng.normal(size=shape) if kind == "normal" else (rng.gamma(2, size=shape) - 2) / np.sqrt(2)


def t_covers(mean, variance, degrees):
    """(n,) whether mean ± t · standard error holds 0."""
    return np.abs(mean) <= stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(variance)


def shared(n, seeds, people, of_seed, of_person, kind, rng):
    """Fraction of n simulations whose interval holds the truth, people being the same in every seed."""
    rest = max(0.0, 1 - of_seed - of_person)
    values = np.sqrt(of_seed) * draw((n, seeds, 1), kind, rng)
    values = values + np.sqrt(of_person) * draw((n, 1, people), kind, rng)
    values = values + np.sqrt(rest) * draw((n, seeds, people), kind, rng)
    # For a mean, the jackknife over people is the variance of the people's means over their number.
    variance = values.mean(2).var(1, ddof=1) / seeds + values.mean(1).var(1, ddof=1) / people
    names = np.repeat(np.arange(seeds), people), np.tile(np.arange(people), seeds)
    package = repeated_estimate(np.mean, *names, values[0].ravel(), shared=True)
    np.testing.assert_allclose(package.standard_error, np.sqrt(variance[0]), atol=1e-9)  # the same formula
    return t_covers(values.mean((1, 2)), variance, min(seeds, people) - 1).mean()


def drawn(n, seeds, between, kind, rng, n_resamples=500):
    """The same for people drawn anew: for t over seeds, and for the nested bootstrap.

    `between` is the fraction of the variance of a seed's mean that lies between seeds.
    """
    of_seed = np.sqrt(between) * draw((n, seeds, 1), kind, rng)
    of_person = np.sqrt((1 - between) * PEOPLE_DRAWN) * draw((n, seeds, PEOPLE_DRAWN), kind, rng)
    values = of_seed + of_person
    means = values.mean(2)
    by_t = t_covers(means.mean(1), means.var(1, ddof=1) / seeds, seeds - 1)
    resampled = np.zeros((n_resamples, n))
    every = np.arange(n)[:, None, None]
    for k in range(n_resamples):
        seed = rng.integers(seeds, size=(n, seeds, 1))
        resampled[k] = values[every, seed, rng.integers(PEOPLE_DRAWN, size=values.shape)].mean((1, 2))
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return by_t.mean(), ((low <= 0) & (high >= 0)).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    rng, rows, n = np.random.default_rng(0), [], options.simulations
    for kind, seeds in itertools.product(("normal", "skewed"), SEEDS):
        found = [
            drawn(max(n // 4, 50), seeds, between, kind, rng) for between in (0, 0.25, 0.5, 0.75, 0.9, 1)
        ]
        for method, values in zip(("t over seeds", "nested bootstrap"), np.transpose(found), strict=True):
            rows.append(
                (method, kind, seeds, PEOPLE_DRAWN, "drawn", values.min(), values.mean(), max(n // 4, 50))
            )
        for people in PEOPLE:
            values = np.array([shared(n, seeds, people, *part, kind, rng) for part in SHARES])
            rows.append(("seeds and people", kind, seeds, people, "shared", values.min(), values.mean(), n))
    columns = ["method", "distribution", "seeds", "people", "subjects", "lowest", "mean", "simulations"]
    table = pd.DataFrame(rows, columns=columns).round(3)
    print(table.to_string(index=False))
    table.to_csv(options.out, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
