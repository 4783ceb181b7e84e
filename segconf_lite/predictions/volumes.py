"""From pixels to volumes and people: uncertainty, quality and distances of stored predictions.

A slice on which nothing is predicted is not uncertain: in most volumes the organ ends somewhere, and such a
slice is right. It therefore has no uncertainty (NaN), and neither has a volume on which nothing is predicted
at all, because no probability can tell a right empty prediction from a missed organ. Shape letters: M
members, C classes, S slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

from segconf_lite import check
from segconf_lite.confidence import pixels
from segconf_lite.confidence.agreement import pairwise_agreement
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.confidence.sampling import summarise_samples
from segconf_lite.evaluation import quality
from segconf_lite.predictions.cases import PredictedCase

RULES = ("mean", "weighted", "worst")
_REGIONS = ("image", "foreground")  # a boundary band would cross from slice to slice
_SIZE = "small prediction"


def volume_uncertainty(case: PredictedCase) -> dict[str, float]:
    """Uncertainties of a volume as a whole, higher = trust less; names as in the tables of the book.

    Args:
        case: The case.

    Returns:
        Those of `segconf_lite.confidence.baselines.one_pass_columns` over all voxels, of the mean over
        members. With several members also ``"ensemble: entropy"`` and ``"ensemble: mutual information"``, a
        mean over the predicted foreground, and ``"ensemble: agreement"``, 1 minus the mean Dice of pairs of
        members where two empty classes agree, and ``", strict"``, where they do not. Where nothing is
        predicted, all that look at the foreground are NaN.

    Example:
        >>> sure = np.zeros((1, 2, 2, 2, 2), np.float32)
        >>> sure[:, 0] = 1
        >>> case = PredictedCase("a", "a", "all", sure, np.zeros((2, 2, 2), int), None)
        >>> {name: value + 0.0 for name, value in volume_uncertainty(case).items() if value == value}
        {'entropy, image': 0.0, 'small prediction': 0.0}
    """
    found = one_pass_columns(case.as_one(case.probabilities), regions=_REGIONS)
    columns = {name: float(value[0]) for name, value in found.items()}
    if len(case.samples) > 1:
        samples = torch.from_numpy(np.stack([case.as_one(each) for each in case.samples]))
        summary, classes = summarise_samples(samples), samples.max(dim=2).indices  # (M, 1, S * H, W)
        labels = summary.mean_probability.max(dim=1).indices
        for name, values in (
            ("entropy", summary.entropy),
            ("mutual information", summary.mutual_information),
        ):
            of_case = pixels.aggregate(values, labels, aggregation="mean", region="foreground", band_px=1)
            columns[f"ensemble: {name}"] = float(of_case[0])
        for name, empty in (("agreement", "one"), ("agreement, strict", "zero")):
            agreed = pairwise_agreement(classes.movedim(0, 1), n_classes=samples.shape[2], empty=empty)
            columns[f"ensemble: {name}"] = 1 - float(agreed[0])
    if not case.labels.any():
        columns |= dict.fromkeys(set(columns) - {"entropy, image", _SIZE}, float("nan"))
    return columns


def slice_table(case: PredictedCase) -> pd.DataFrame:
    """Uncertainties of each slice, higher = trust less.

    Args:
        case: The case.

    Returns:
        One row per slice: slice, predicted (number of voxels of the predicted foreground), and the columns of
        `segconf_lite.confidence.baselines.one_pass_columns`, NaN on slices on which nothing is predicted.

    Example:
        >>> half = np.full((1, 2, 2, 2, 2), 0.5, np.float32)
        >>> labels = np.array([[[0, 1], [0, 0]], [[0, 0], [0, 0]]])
        >>> slice_table(PredictedCase("a", "a", "all", half, labels, None))[["predicted", "entropy, image"]]
           predicted  entropy, image
        0          1             1.0
        1          0             NaN
    """
    table = pd.DataFrame(one_pass_columns(case.slices)).astype(np.float64)
    predicted = np.count_nonzero(case.labels, axis=(1, 2))
    table[predicted == 0] = np.nan
    return pd.concat(
        [pd.DataFrame({"slice": np.arange(len(table)), "predicted": predicted}), table], axis="columns"
    )


def pooled_uncertainty(uncertainty: Any, groups: Any, *, rule: str, sizes: Any = None) -> pd.Series:
    """One uncertainty per group: of the slices of a volume, or of the volumes of a person.

    Args:
        uncertainty: (n_cases,) higher = worse; NaN where nothing is predicted, which is left out.
        groups: (n_cases,) the volume of each slice, or the person of each volume.
        rule: ``"mean"``; ``"weighted"``, the mean with `sizes` as weights, which of a mean over the predicted
            foreground gives that of the whole volume; or ``"worst"``, the highest.
        sizes: (n_cases,) finite weights >= 0, such as numbers of predicted voxels, for ``"weighted"``.

    Returns:
        One value per group, in the order of first appearance; NaN if nothing is predicted in all of it.

    Raises:
        ValueError: If lengths differ, a value is infinite, the rule is unknown, or sizes are missing.

    Example:
        >>> pooled_uncertainty([0.2, np.nan, 0.4], ["a", "a", "b"], rule="worst").to_dict()
        {'a': 0.2, 'b': 0.4}
    """
    check.one_of("rule", rule, RULES)
    values = check.array("uncertainty", uncertainty, "n_cases", dtype=np.float64)
    check.finite("uncertainty", values, missing=True)
    names = check.names("groups", groups, length=len(values))
    if (rule == "weighted") != (sizes is not None):
        raise check.refuse(
            "sizes", "given with rule='weighted', and only then", "none" if sizes is None else ""
        )
    weights = np.ones(len(values))
    if sizes is not None:
        weights = check.finite("sizes", check.array("sizes", sizes, str(len(values)), dtype=np.float64))
        if weights.min() < 0:
            raise check.refuse("sizes", ">= 0", weights.min())
    weights = np.where(np.isnan(values), 0, weights)
    table = pd.DataFrame({"value": values, "total": values * weights, "weight": weights})
    grouped = table.groupby(names, sort=False)
    if rule == "worst":
        return grouped["value"].max()
    sums = grouped[["total", "weight"]].sum()
    return (sums["total"] / sums["weight"].where(sums["weight"] > 0)).rename("value")


def volume_quality(case: PredictedCase, *, empty: str, tolerance_mm: float | None = None) -> dict[str, float]:
    """Dice and boundary distances of a volume in three dimensions, means over the foreground classes.

    Args:
        case: A case with a reference.
        empty: What counts for a class that neither side has, see `segconf_lite.evaluation.quality`.
        tolerance_mm: Tolerance of the surface Dice; None leaves it out. It needs a spacing.

    Returns:
        quality (Dice, higher is better); and where the spacing is known hausdorff95_mm and
        surface_distance_mm (lower is better, infinite where one side lacks a class) and surface_dice.

    Raises:
        ValueError: If there is no reference, or a tolerance and no spacing.

    Example:
        >>> labels = np.zeros((3, 4, 4), int)
        >>> labels[1, 1:3, 1:3] = 1
        >>> samples = np.stack([1 - labels, labels]).astype(np.float32)[None]
        >>> case = PredictedCase("a", "a", "all", samples, labels, (3.0, 1.0, 1.0), reference=labels)
        >>> volume_quality(case, empty="skip")
        {'quality': 1.0, 'hausdorff95_mm': 0.0, 'surface_distance_mm': 0.0}
    """
    if case.reference is None:
        raise check.refuse(f"reference of {case.name}", "there", "none", "name the folder with references=")
    box = _box((case.labels > 0) | (case.reference > 0))
    pair = case.labels[box][None], case.reference[box][None]
    options: dict[str, Any] = {"n_classes": case.samples.shape[1], "empty": empty}
    found = {"quality": quality.dice_per_case(*pair, **options)}
    if case.spacing_mm is None:
        if tolerance_mm is not None:
            fix = "distances in mm need files that state it (NIfTI)"
            raise check.refuse(f"spacing of {case.name}", "known where mm matter", "none", fix)
        return {"quality": float(found["quality"][0])}
    options["spacing_mm"] = case.spacing_mm
    found["hausdorff95_mm"] = quality.hausdorff95_per_case(*pair, **options)
    found["surface_distance_mm"] = quality.mean_surface_distance_per_case(*pair, **options)
    if tolerance_mm is not None:
        found["surface_dice"] = quality.surface_dice_per_case(*pair, tolerance_mm=tolerance_mm, **options)
    return {name: float(value[0]) for name, value in found.items()}


def volume_table(
    predictions: Iterable[PredictedCase], *, empty: str = "skip", tolerance_mm: float | None = None
) -> pd.DataFrame:
    """One row per volume: whose it is, how much is predicted, how uncertain, and how good where known.

    Args:
        predictions: Of `from_predictions`, or any cases; each is read once.
        empty: See `volume_quality`.
        tolerance_mm: See `volume_quality`.

    Returns:
        case, subject, domain, predicted_voxels, predicted_ml (NaN without spacing), absent (numbers of the
        foreground classes that are not predicted), the columns of `volume_uncertainty`, and those of
        `volume_quality`, NaN without a reference.

    Example:
        >>> half = np.full((1, 2, 2, 2, 2), 0.5, np.float32)
        >>> case = PredictedCase("a", "a", "all", half, np.ones((2, 2, 2), int), (1.0, 1.0, 1.0))
        >>> volume_table([case])[["case", "predicted_ml", "soft Dice"]].round(3)
          case  predicted_ml  soft Dice
        0    a         0.008        1.0
    """
    return pd.DataFrame([volume_row(case, empty=empty, tolerance_mm=tolerance_mm) for case in predictions])


def volume_row(case: PredictedCase, *, empty: str, tolerance_mm: float | None) -> dict[str, object]:
    """The row of one case, see `volume_table`.

    Args:
        case: A case of stored predictions.
        empty: What a class is worth that is absent on both sides, see `quality.dice_per_class`.
        tolerance_mm: Tolerance of the surface Dice in millimetres; None leaves it out.

    Example:
        >>> halves = np.full((1, 2, 1, 2, 2), 0.5, np.float32)
        >>> case = PredictedCase("a", "p", "all", halves, np.zeros((1, 2, 2), int), (1.0, 1.0, 1.0))
        >>> int(volume_row(case, empty="skip", tolerance_mm=None)["predicted_voxels"])
        0
    """
    n_voxels = np.count_nonzero(case.labels)
    ml = n_voxels * np.prod(case.spacing_mm) / 1000 if case.spacing_mm else float("nan")
    absent = sorted(set(range(1, case.samples.shape[1])) - set(np.unique(case.labels).tolist()))
    row: dict[str, object] = {"case": case.name, "subject": case.subject, "domain": case.domain}
    row |= {"predicted_voxels": n_voxels, "predicted_ml": float(ml), "absent": " ".join(map(str, absent))}
    row |= volume_uncertainty(case)
    if case.reference is not None:
        row |= volume_quality(case, empty=empty, tolerance_mm=tolerance_mm)
    return row


def _box(inside: np.ndarray) -> tuple[slice, ...]:
    """The smallest box with a margin of one voxel: beyond it lies no overlap and no boundary."""
    found = []
    for axis in range(inside.ndim):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        places = np.flatnonzero(inside.any(axis=others))
        found.append(slice(max(0, places[0] - 1), places[-1] + 2) if len(places) else slice(None))
    return tuple(found)
