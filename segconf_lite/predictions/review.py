"""Which stored predictions a person should look at first, and why.

The order is that of one uncertainty per volume: by default the one that `segconf_lite.reports.choose` advises
among those that the stored predictions allow, from the comparison of methods of chapter 10. A volume on which
nothing is predicted has no uncertainty, and comes first.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.evaluation import (
    Interval,
    excess_aurc_interval,
    quality_lower_bound,
    repeated_estimate,
    risk_coverage,
    smallest_calibration_size,
)
from segconf_lite.predictions.cases import PredictedCase
from segconf_lite.predictions.inputs import far_outside, slice_properties, training_properties
from segconf_lite.predictions.reader import Predictions
from segconf_lite.predictions.thumbnails import thumbnail
from segconf_lite.predictions.volumes import pooled_uncertainty, volume_row
from segconf_lite.reports import choose, failure_report, seed_means

_SOFT = "soft Dice"
#: Column -> what it is, where the short name of the book's tables would mislead.
SHOWN = {
    _SOFT: "1 − soft Dice confidence",
    "probability, foreground": "1 − maximum probability, foreground",
    "small prediction": "minus the size of the prediction",
    "ensemble: agreement": "1 − agreement of members",
    "ensemble: agreement, strict": "1 − agreement of members, strict",
}
_TENTH = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Review:
    """What `review_predictions` found; `write_page` prints it.

    Attributes:
        cases: The table of `volume_table`, most uncertain first, with rank (1 is to be looked at first),
            reasons (text), subject_worst (the highest uncertainty of the person), and lower_bound of the
            Dice of cases without a reference (NaN where nothing can be promised).
        score: The column of `cases` that gives the order.
        evidence: Column -> mean eAURC on the phantom of chapter 10, over seeds, with its interval.
        pictures: Case -> picture of its prediction.
        worst: Cases with the lowest Dice -> pictures of prediction and reference.
        curve: Risk-coverage curve of the labelled cases, or None.
        excess: Their eAURC with an interval over people, or None.
        groups: One row per domain.
        inputs: Table of `segconf_lite.reports.compare_properties`, or None.
        class_names: Names of the classes.
        level: Level of the lower bounds.
        notes: What else a reader must know, as sentences.

    Example:
        >>> Review.__dataclass_fields__["score"].type
        'str'
    """

    cases: pd.DataFrame
    score: str
    evidence: dict[str, Interval]
    pictures: dict[str, str]
    worst: dict[str, tuple[str, str]]
    curve: pd.DataFrame | None
    excess: Interval | None
    groups: pd.DataFrame
    inputs: pd.DataFrame | None
    class_names: tuple[str, ...]
    level: float
    notes: tuple[str, ...]


def review_predictions(
    predictions: Predictions,
    *,
    score: str | None = None,
    training: Path | str | None = None,
    level: float = 0.9,
    empty: str = "skip",
    n_worst: int = 8,
) -> Review:
    """Rank stored predictions for a person to look at, with the reasons.

    Args:
        predictions: Of `from_predictions`.
        score: Column of `volume_table` that gives the order; None takes the advised one.
        training: Folder of training images (or with imagesTr), with which the images are compared; of several
            channels, the first alone.
        level: Level of the conformal lower bound of the Dice, in (0, 1).
        empty: What counts for a class that neither side has, see `volume_quality`.
        n_worst: Number of labelled cases with the lowest Dice that are shown beside their reference.

    Returns:
        The review.

    Raises:
        ValueError: If an argument is out of range, `training` comes without images, or no case can be used.

    Example:
        >>> import tempfile
        >>> from segconf_lite.predictions import from_predictions
        >>> folder, p = Path(tempfile.mkdtemp()), np.full((2, 3, 9, 9), 0.5, np.float32)
        >>> np.savez(folder / "unsure.npz", probabilities=p)
        >>> p[:, :, 2:6, 2:6] = [[[[0.1]]], [[[0.9]]]]
        >>> np.savez(folder / "surer.npz", probabilities=p)
        >>> review_predictions(from_predictions(folder)).cases[["rank", "case"]].values.tolist()
        [[1, 'unsure'], [2, 'surer']]
    """
    level = check.number("level", level, low=0, high=1, open_low=True, open_high=True)
    n_worst = check.integer("n_worst", n_worst, low=0)
    if training is not None and not any(case.image for case in predictions.cases):
        raise check.refuse("training", "given together with images", "no image", "add images=, --images")
    rows, pictures, properties = [], {}, {}
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # of skipped cases, which the page counts
        for case in predictions:
            rows.append(volume_row(case, empty=empty, tolerance_mm=None) | {"notes": "; ".join(case.notes)})
            pictures[case.name] = thumbnail(case, case.labels)
            if training is not None and case.image is not None:
                spacing = case.spacing_mm[1:] if case.spacing_mm else None
                properties[case.name] = slice_properties(case.image, spacing, raw=predictions.is_ct)
    if not rows:
        raise check.refuse(
            "predictions", "readable for one case at least", "; ".join(predictions.skipped.values())
        )
    cases = pd.DataFrame(rows)
    evidence = _evidence([name for name in cases if cases[name].dtype.kind == "f"])
    measures = [name for name in cases if name in evidence or name.startswith("ensemble: ")]
    chosen = check.one_of("score", next(iter(evidence)) if score is None else score, measures)
    inputs, outside = None, dict[str, list[str]]()
    if training is not None:
        known = training_properties(training, raw=predictions.is_ct, most_bytes=predictions.most_bytes)
        inputs, outside = far_outside(properties, known)
    cases = cases.sort_values(chosen, ascending=False, na_position="first", kind="stable")
    cases = cases.reset_index(drop=True)
    cases.insert(0, "rank", np.arange(1, len(cases) + 1))
    others = [name for name in measures if name != chosen]
    cases["reasons"] = _reasons(cases, others, outside, predictions.class_names)
    worst_of = pooled_uncertainty(cases[chosen], cases["subject"], rule="worst")
    cases["subject_worst"] = cases["subject"].map(worst_of)
    notes = _notes(predictions, cases)
    if "quality" not in cases:
        cases["quality"] = np.nan
    cases["lower_bound"], told = _bounds(cases, level)
    labelled = cases.dropna(subset="quality")
    curve = excess = None
    if len(labelled) > 1:
        risk, highest = 1 - labelled["quality"], cases[chosen].max()
        order = labelled[chosen].fillna(1.0 if np.isnan(highest) else highest + 1)  # nothing predicted: first
        curve, excess = risk_coverage(risk, order), excess_aurc_interval(risk, order, labelled["subject"])
    worst = labelled.nsmallest(n_worst, "quality")["case"]
    return Review(
        cases=cases,
        score=chosen,
        evidence=evidence,
        pictures=pictures,
        worst={name: _pair(predictions.read(name)) for name in worst},
        curve=curve,
        excess=excess,
        groups=_groups(cases, chosen),
        inputs=inputs,
        class_names=predictions.class_names,
        level=level,
        notes=(*notes, *told),
    )


def _pair(case: PredictedCase) -> tuple[str, str]:
    assert case.reference is not None
    around = (case.labels > 0) | (case.reference > 0)
    return thumbnail(case, case.labels, around=around), thumbnail(case, case.reference, around=around)


def _evidence(names: list[str]) -> dict[str, Interval]:
    """Mean eAURC over seeds of the columns that chapter 10 compares, the advised one first.

    All of them come from predictions that exist already, so that none is cheaper than another.
    """
    values = seed_means("ranking")
    values = values[[name for name in names if name in values]]
    free = pd.DataFrame({"labels": False, "networks": 1, "passes": 1}, index=list(values))
    best, seeds = choose(values, free)[0], np.arange(len(values))
    found = {
        name: repeated_estimate(np.mean, seeds, seeds, values[name].to_numpy()).interval() for name in values
    }
    return {best: found[best]} | dict(sorted(found.items(), key=lambda item: item[1].estimate))


def _reasons(
    cases: pd.DataFrame, others: list[str], outside: dict[str, list[str]], class_names: tuple[str, ...]
) -> list[str]:
    """Why each case deserves a look, in words."""
    reasons: list[list[str]] = [[] for _ in range(len(cases))]
    for k, (voxels, absent, note) in enumerate(
        zip(cases["predicted_voxels"], cases["absent"], cases["notes"], strict=True)
    ):
        names = ", ".join(class_names[int(number)] for number in absent.split())
        if not voxels:
            reasons[k].append("nothing is predicted: right if nothing is there, else a complete failure")
        elif names:
            reasons[k].append(f"not predicted: {names}")
        if note:
            reasons[k].append(note)
        reasons[k] += outside.get(cases["case"][k], [])
    n_high = math.ceil(len(cases) / _TENTH)
    for name in others if len(cases) >= _TENTH else []:
        ranks = cases[name].rank(ascending=False, method="min")
        what = name if name == "small prediction" else f"high {SHOWN.get(name, name)}"
        for k in np.flatnonzero(ranks <= n_high).tolist():
            reasons[k].append(f"{what} (number {ranks[k]:.0f} of {len(cases)})")
    return ["; ".join(each) for each in reasons]


def _notes(predictions: Predictions, cases: pd.DataFrame) -> list[str]:
    """What was left out, and what is odd."""
    notes = []
    if predictions.skipped:
        told = "; ".join(predictions.skipped.values())
        notes.append(
            f"{len(predictions.skipped)} of {len(predictions)} cases are left out as damaged: {told}."
        )
    n_other = int(cases["notes"].str.contains("stored segmentation differs").sum())
    if n_other:
        notes.append(
            f"In {n_other} of {len(cases)} cases the stored segmentation differs from the most probable "
            "class, for example after post-processing. With one member, volumes and Dice are of the stored "
            "one, and uncertainties are of the probabilities."
        )
    images = [case.image for case in predictions.cases if case.image is not None]
    if 0 < len(images) < len(predictions):
        notes.append(f"{len(images)} of {len(predictions)} cases have an image.")
    seconds = [path.name.replace("_0000.", "_0001.") for path in images]  # as nnU-Net names channels
    if any(
        path.name != name and path.with_name(name).is_file()
        for path, name in zip(images, seconds, strict=True)
    ):
        notes.append("Of images with several channels, the first alone is shown and compared.")
    if cases["predicted_ml"].isna().any():
        notes.append(
            "Where no file states a spacing, volumes are in voxels and distances in mm are left out."
        )
    return notes


def _bounds(cases: pd.DataFrame, level: float) -> tuple[np.ndarray, list[str]]:
    """Conformal lower bounds of the Dice of cases without a reference, and what they rest on."""
    bounds = np.full(len(cases), np.nan)
    defined = cases[_SOFT].notna().to_numpy()
    is_new = cases["quality"].isna().to_numpy() & defined
    order = np.random.default_rng(0).permutation(len(cases))
    old = cases.iloc[order][(defined & cases["quality"].notna().to_numpy())[order]].drop_duplicates("subject")
    if not len(old) or not is_new.any():
        return bounds, []
    if len(old) < smallest_calibration_size(level):
        need = f"needs labelled cases of {smallest_calibration_size(level)} people"
        return bounds, [f"A lower bound of the Dice at level {level:g} {need}; there are {len(old)}."]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new = 1 - cases.loc[is_new, _SOFT]
        bounds[is_new] = quality_lower_bound(1 - old[_SOFT], old["quality"], new, level=level).bound
    told = (
        f"The lower bounds of the Dice rest on {len(old)} labelled cases, one per person (drawn with seed 0)."
    )
    return bounds, [told, *(str(each.message) for each in caught)]


def _groups(cases: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row per domain: how many cases, how many among the first tenth, and how good where known."""
    first = cases["rank"] <= math.ceil(len(cases) / _TENTH)
    grouped = cases.assign(first=first).groupby("domain", sort=True)
    table = grouped.agg(cases=("case", "size"), people=("subject", "nunique"), first=("first", "sum"))
    table[f"median {SHOWN.get(score, score)}"] = grouped[score].median()
    if cases["quality"].notna().any():
        found = failure_report(cases, by="domain", n_worst=0).summary
        found = found[found["kind"] == "domain"].set_index("stratum")
        kept = {
            "n_cases": "labelled",
            "mean": "mean Dice",
            "p05": "5th percentile",
            "share_below": "below 0.5",
        }
        table = table.join(found[[*kept, "low", "high"]].rename(columns=kept))
    return table.rename(columns={"first": "in the first tenth"}).reset_index()
