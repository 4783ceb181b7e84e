"""Small tables of published results, which chapters 6 and 7 show to readers who do not have the large ones.

    SEGCONF_DATA=... python benchmarks/published.py    # seconds

``chapter_06_published_means.csv``: mean Dice by data set, network and level. ``..._falls.csv``: Dice lost
from unperturbed to hardest, with its interval over images and trainings. ``..._trainings.csv``: the same ends
for each training, and the most that one image changes over the five levels. ``..._blind.csv``: Dice on the
hardest GLaS images above that of an answer that never looks. ``chapter_07_published_means.csv``: mean Dice by
network, patch and place of the test volume against the range of the training patches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from segconf_lite.cohorts import published
from segconf_lite.evaluation import crossed_interval

RESULTS = Path(__file__).parents[1] / "book" / "results"


def level_means(table: pd.DataFrame) -> pd.DataFrame:
    return table.groupby(["dataset", "network", "level"], as_index=False)["dice"].mean()


def falls(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["dataset", "network", "seed", "image"]
    wide = table.pivot_table(index=keys, columns="level", values="dice").reset_index()
    rows = []
    for (dataset, network), part in wide.groupby(["dataset", "network"]):
        found = crossed_interval(part["unperturbed"] - part["hardest"], part["image"], part["seed"])
        rows.append({"dataset": dataset, "method": network, **found._asdict()})
    return pd.DataFrame(rows)


def trainings(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["dataset", "network", "seed"]
    wide = table.pivot_table(index=[*keys, "image"], columns="level", values="dice")
    ends = wide.groupby(keys)[["unperturbed", "hardest"]].mean()
    most = (wide.max(axis=1) - wide.min(axis=1)).groupby(keys).max()
    return ends.assign(most_changed=most).reset_index()


def above_blind(table: pd.DataFrame) -> pd.DataFrame:
    hardest = table[(table["dataset"] == "GLaS") & (table["level"] == "hardest")]
    is_blind = (hardest["network"] == "V-Net") & (hardest["seed"] == 1)  # the same Dice at every level
    blind = hardest[is_blind].set_index("image")["dice"]
    rows = []
    for network, part in hardest[~is_blind].groupby("network"):
        found = crossed_interval(part["dice"] - part["image"].map(blind), part["image"], part["seed"])
        rows.append({"dataset": "GLaS", "method": network, **found._asdict()})
    return pd.DataFrame(rows)


def range_means(table: pd.DataFrame) -> pd.DataFrame:
    ratio = table["test_volume_foreground_ratio"]
    outside = [ratio < table["train_ratio_min"], ratio > table["train_ratio_max"]]
    placed = table.assign(range=np.select(outside, ["below", "above"], "in"))
    return placed.groupby(["dataset", "network", "patch", "range"], as_index=False)["dice"].mean()


def main() -> None:
    skips, context = published.skip_connections(), published.context_foreground()
    for name, made in {
        "chapter_06_published_means": level_means(skips),
        "chapter_06_published_falls": falls(skips),
        "chapter_06_published_trainings": trainings(skips),
        "chapter_06_published_blind": above_blind(skips),
        "chapter_07_published_means": range_means(context),
    }.items():
        made.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
