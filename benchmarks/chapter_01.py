"""Repeat the numbers of chapter 1 over seeds, into one tidy table.

    python benchmarks/chapter_01.py --profile lite --seeds 3
    python benchmarks/chapter_01.py --profile full --seeds 10      # wants a GPU

One row per seed, experiment and domain. ``phantom``: the network of scanner A on every scanner.
``cause``: scanner A with one cause of another. ``cord``: the spinal-cord cohort (left out, with
a message, where it is not on disk); a source site is always judged by a network that never saw
its subject.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from segconf_lite.cohorts import Cohort, gm_challenge, phantom
from segconf_lite.cohorts.appearance import appearance_distance
from segconf_lite.evaluation import case_table
from segconf_lite.models import UNet, fit_unet, predict_probabilities
from segconf_lite.models.device import pick_device
from segconf_lite.profiles import Profile, profile_named

SOURCE_SESSIONS = ["sub-9584", "sub-10062Ses1", "sub-10062Ses2"]


def judged(unet: UNet, cohort: Cohort, **labels: object) -> dict[str, object]:
    """One row: how well a network does on a cohort, and how sure it is where it fails."""
    cases = case_table(predict_probabilities(unet, cohort.images), cohort, empty="skip")
    failed = cases[cases["quality"] < 0.7]
    row = {
        **labels,
        "n_slices": len(cases),
        "n_subjects": cases["subject"].nunique(),
        "mean_dice": cases["quality"].mean(),
        "share_below_0.7": len(failed) / len(cases),
        "confidence_of_failures": failed["confidence"].mean(),
        "confidence_of_the_rest": cases.loc[cases["quality"] >= 0.7, "confidence"].mean(),
        "share_of_failures_above_0.9": (failed["confidence"] > 0.9).mean(),
    }
    if "grey matter" in cases:
        row["grey_matter_dice"] = cases["grey matter"].mean()
    return row


def phantom_rows(sizes: Profile, seed: int) -> Iterator[dict[str, object]]:
    """The network of scanner A on every scanner, and on A with one cause of each."""

    def make(scanner: str | phantom.Scanner, n_cases: int, first_subject: int = 1000) -> Cohort:
        return phantom.cohort(n_cases, scanner=scanner, size=sizes.size, seed=seed + first_subject)

    train = make("A", sizes.n_train, 0)
    start = time.perf_counter()
    unet = fit_unet(train, steps=sizes.steps, channels=sizes.channels, dropout=0.1, seed=10 * seed)
    seconds = time.perf_counter() - start
    a = phantom.SCANNERS["A"]
    for name, scanner in phantom.SCANNERS.items():
        cohort = make(name, sizes.n_test)
        distance = appearance_distance(cohort, train)
        yield judged(unet, cohort, experiment="phantom", domain=name, distance=distance, fit_seconds=seconds)
        for cause in phantom.CAUSES if name != "A" else ():
            mixed = make(a.with_cause(cause, scanner), sizes.n_test // 2)
            yield judged(unet, mixed, experiment="cause", domain=name, cause=cause)


def cord_rows(cord: Cohort, sizes: Profile, seed: int) -> Iterator[dict[str, object]]:
    """Every site of the spinal-cord cohort, source sites with their subject left out."""
    source = cord.where(session=SOURCE_SESSIONS)

    def fit(part: Cohort) -> UNet:
        return fit_unet(
            part,
            validation=part,
            steps=sizes.steps_real,
            channels=sizes.channels,
            batch_size=16,
            augmentation="mild",
            dropout=0.1,
            seed=10 * seed,
        )

    sites = [site for site in cord.domain_names if site not in source.domains]
    networks = {"both volunteers": (fit(source), sites)}
    for person in sorted(set(source.subjects)):
        others = [p for p in set(source.subjects) if p != person]
        unseen = [*source.where(subject=person).domain_names, *sites]
        networks[f"without {person}"] = (fit(source.where(subject=others)), unseen)
    for training, (unet, domains) in networks.items():
        training = training if training == "both volunteers" else "one volunteer"
        for site in domains:
            yield judged(unet, cord.where(domain=site), experiment="cord", domain=site, training=training)


def commit() -> str:
    """Short name of the commit measured, or 'unknown' outside a checkout."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --first-seed on")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="default: book/results/chapter_01_PROFILE.csv")
    parser.add_argument("--commit", default=None, help="name to record, where git cannot tell")
    arguments = parser.parse_args()
    sizes = profile_named(arguments.profile)
    place = pick_device("auto")
    device = torch.cuda.get_device_name() if place.type == "cuda" else str(place)
    try:
        cord = gm_challenge.cohort(size=sizes.size, spacing_mm=0.5 * 96 / sizes.size, group_by="site")
    except FileNotFoundError as reason:
        print(f"without the spinal-cord cohort: {reason}")
        cord = None
    rows: list[dict[str, object]] = []
    out = arguments.out or Path(f"book/results/chapter_01_{sizes.name}.csv")
    out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        start = time.perf_counter()
        found = [*phantom_rows(sizes, seed), *(cord_rows(cord, sizes, seed) if cord else ())]
        rows += [{"seed": seed, **row} for row in found]
        table = pd.DataFrame(rows).assign(
            profile=sizes.name, device=device, commit=arguments.commit or commit()
        )
        table.round(4).to_csv(out, index=False)  # after every seed: a run cut short keeps what it has
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    phantom_part = table[table["experiment"] != "cause"]
    print(
        phantom_part.groupby(["experiment", "domain"], sort=False)["mean_dice"]
        .agg(["mean", "min", "max"])
        .round(3)
    )
    print(f"written to {out}")


if __name__ == "__main__":
    main()
