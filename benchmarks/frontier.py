"""Can one pass rank as well as four networks? Methods of one pass against the networks' strict agreement.

    python benchmarks/frontier.py    # seconds; from the stored tables of chapter 10

writes ``book/results/frontier.csv``, one row per cohort and method of at most 1.1 passes:

- ``difference``, ``low``, ``high``: its eAURC minus that of the strict pairwise Dice of four networks, over
  the unseen scanners (on the cord: the sites), averaged, with a t interval over seeds;
- ``within_10_percent`` of ``scanners``: on how many, the training scanner included, its eAURC averaged over
  seeds exceeds that of the networks by no more than a tenth;
- ``reached`` of ``reachable``: on how many of the scanners where the networks' statement is off by at most
  0.05 Dice on average the method's is so as well; ``reached`` is empty for a method that states no Dice;
- ``seeds``: how many.

The aim is a difference of at most 0, within a tenth on all scanners but one, and every reachable error.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from segconf_lite.evaluation import Estimate

RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"
REFERENCE = "ensemble: agreement, strict"
CLOSE, NEAR_ENOUGH, MOST_PASSES = 1.1, 0.05, 1.1


def difference(values: pd.DataFrame, method: str) -> Estimate:
    """Method minus reference: mean over scanners within each seed, then over seeds."""
    pair = values.pivot_table(index=["seed", "scanner"], columns="method", values="value")
    by_seed = (pair[method] - pair[REFERENCE]).dropna().groupby("seed").mean()
    return Estimate(float(by_seed.mean()), float(stats.sem(by_seed)), len(by_seed) - 1)


def rows_of(table: pd.DataFrame, cohort: str, quick: list[str]) -> list[dict[str, object]]:
    """One row per method of one pass that was measured on the cohort."""
    here = table[table["cohort"] == cohort]
    ranking = here[here["question"] == "ranking"]
    unseen = ranking[ranking["scanner"] != "A"]
    means = ranking.pivot_table(index="scanner", columns="method", values="value")
    errors = here[here["question"] == "absolute error"]
    errors = errors.pivot_table(index="scanner", columns="method", values="value")
    reachable = errors.index[errors[REFERENCE] <= NEAR_ENOUGH]
    rows = []
    for method in [name for name in quick if name in means]:
        found = difference(unseen, method)
        _, low, high = found.interval()
        row = {"cohort": cohort, "method": method, "difference": found.mean, "low": low, "high": high}
        close = means[method] <= CLOSE * means[REFERENCE]
        row |= {"within_10_percent": int(close.sum()), "scanners": len(means)}
        stated = errors.loc[reachable, method] <= NEAR_ENOUGH if method in errors else None
        row |= {"reached": np.nan if stated is None else int(stated.sum()), "reachable": len(reachable)}
        rows.append({**row, "seeds": found.degrees_of_freedom + 1})
    return rows


def main() -> None:
    """Compute, store and print the table."""
    table = pd.read_csv(RESULTS / "chapter_10_head_to_head.csv")
    costs = pd.read_csv(RESULTS / "chapter_10_costs.csv")
    cheap = costs[(costs["passes"] <= MOST_PASSES) & (costs["networks"] == 1)]
    quick = [name for name in cheap["method"] if not name.startswith("map:")]
    cohorts = [name for name, part in table.groupby("cohort") if REFERENCE in set(part["method"])]
    found = pd.DataFrame([row for cohort in cohorts for row in rows_of(table, cohort, quick)])
    found = found.sort_values(["cohort", "difference"], ignore_index=True)
    found.to_csv(RESULTS / "frontier.csv", index=False, float_format="%.5g")
    print(found.round(4).to_string())


if __name__ == "__main__":
    main()
