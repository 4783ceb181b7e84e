"""What a network silently assumes of its input, and which cases of another cohort violate it.

A network was only ever tested on images like those it was trained on, and accepts any other without a
warning. The questions here need the images alone: no network, no reference. That nothing is outside does not
mean that the network works, and what lies outside need not harm it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort

# "intensity" is the unit of the images: standard deviations of the slice if they are z-scored
_UNITS = (
    dict.fromkeys(("rows", "columns"), "pixels")
    | dict.fromkeys(("row_spacing", "column_spacing"), "mm")
    | dict.fromkeys(("lowest", "highest", "mean", "sd", "contrast"), "intensity")
    | {"sharpness": "1 / pixel", "noise": "intensity"}
)
_LAPLACIAN = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)  # blind to ramps; norm 6
_TO_SD = 1.4826  # median absolute value of a normal variable to its standard deviation
_ROUNDING = 1e-5  # of a property's size; less is rounding of float32
_CHANNEL = ", channel "  # between a property of the intensities and the number of its channel


def input_properties(cohort: Cohort) -> pd.DataFrame:
    """Properties of each image that a network meets, apart from the anatomy.

    Args:
        cohort: N cases of at least 3 x 3 pixels; the reference is not looked at.

    Returns:
        One row per case, in order. Of several channels, the properties of the intensities stand once per
        channel, with its number from 0 behind their names, for example ``"noise, channel 2"``:

        - rows, columns: pixels; row_spacing, column_spacing: mm.
        - lowest, highest, mean, sd (standard deviation): of the intensities, in the unit of the images. Of
          z-scored slices mean and sd are 0 and 1 by construction and say nothing about the scanner.
        - contrast: 95th minus 5th percentile of the intensities.
        - sharpness: mean length of the intensity gradient (central differences) over the contrast, per
          pixel; falls with blur, rises with noise and with detail. 0 without contrast.
        - noise: standard deviation of white noise that would explain the median absolute response to the
          mask of Immerkaer (CVIU 64:300, 1996), which is 0 for ramps; the median in place of his mean
          is robust to edges. Interpolated or denoised images have low values, and 0 if most of the slice is
          flat.

    Raises:
        ValueError: If a slice has fewer than 3 rows or columns.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> input_properties(phantom.cohort(2, size=32))[["rows", "row_spacing", "mean"]].round(2).abs()
           rows  row_spacing  mean
        0    32          6.0   0.0
        1    32          6.0   0.0
    """
    if not isinstance(cohort, Cohort):
        raise check.refuse("cohort", "a Cohort", type(cohort).__name__, "see segconf_lite.cohorts.Cohort")
    height, width = cohort.images.shape[2:]
    if min(height, width) < 3:
        raise check.refuse("images", "slices of at least 3 x 3 pixels", f"{height} x {width}")
    spacing = dict(zip(("row_spacing", "column_spacing"), cohort.spacing_mm.T, strict=True))
    table = pd.DataFrame({"rows": height, "columns": width, **spacing})
    n_channels = cohort.images.shape[1]
    for k in range(n_channels):
        found = pd.DataFrame([_intensity_properties(image) for image in cohort.images[:, k]])
        table = table.join(found if n_channels == 1 else found.add_suffix(f"{_CHANNEL}{k}"))
    return table


def _intensity_properties(image: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(image, [0.05, 0.95])
    contrast = float(high - low)
    gradient = float(np.hypot(*np.gradient(image)).mean())
    fine = ndimage.convolve(image, _LAPLACIAN)[1:-1, 1:-1]
    return {
        "lowest": float(image.min()),
        "highest": float(image.max()),
        "mean": float(image.mean(dtype=np.float64)),
        "sd": float(image.std(dtype=np.float64)),
        "contrast": contrast,
        "sharpness": gradient / contrast if contrast > 0 else 0.0,
        "noise": float(np.median(np.abs(fine))) * _TO_SD / 6,
    }


def check_input_assumptions(
    cohort: Cohort, source: Cohort, *, coverage: float = 1.0, tolerated: float = 0.05
) -> pd.DataFrame:
    """Which properties of a cohort's images lie outside the range of the training cohort, and how far.

    A new case of the source itself falls outside the full range of n independent source cases with
    probability 2 / (n + 1), per property; `tolerated` should lie above that.

    Args:
        cohort: Cases that a network is to be used on, of as many channels as those of the source. Their
            reference is not looked at.
        source: Cases that it was trained on.
        coverage: Central fraction of the source cases that makes the range, in (0, 1]: 1 is lowest to
            highest, so that the source lies inside itself; 0.98 is the 1st to the 99th percentile, for a
            source with outliers.
        tolerated: Fraction of cases outside, in [0, 1), up to which a property passes as ``"few outside"``.

    Returns:
        One row per property of `input_properties`, and last class_names: property, unit, source_low and
        source_high, n_outside, share_outside (the fraction of cases), farthest (the value farthest outside;
        NaN if none is), distance (how far that is outside, >= 0, in widths of the source's range),
        worst_case (position of that case in the cohort, <NA> if none is outside) and verdict. A source range
        without width (one spacing, say) is no unit: distance is then in multiples of the source's
        value, or of 1 where that is 0. Verdicts: ``"inside"``, ``"few outside"``, ``"OUTSIDE"``, ``"one
        value in both"`` (of intensities: set by the preparation, says nothing), ``"OUTSIDE: source has one
        value"``; for the names ``"same"`` or ``"DIFFERENT: ..."``, where every case counts as outside,
        at no distance (NaN).

    Raises:
        ValueError: If coverage or tolerated is out of range, slices are smaller than 3 x 3 pixels, or the
            cohorts differ in their number of channels.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> source, other = phantom.cohort(6, size=32), phantom.cohort(6, size=32, scanner="D")
        >>> checked = check_input_assumptions(other, source).set_index("property")
        >>> checked.loc["noise", "verdict"]
        'OUTSIDE'
    """
    new, known = input_properties(cohort), input_properties(source)
    numbers = [cases.images.shape[1] for cases in (cohort, source)]
    if numbers[0] != numbers[1]:
        fix = "pass the channels that the network was trained on, in their order"
        raise check.refuse("cohort", f"of the source's number of channels, {numbers[1]}", numbers[0], fix)
    table = compare_properties(new, known, coverage=coverage, tolerated=tolerated)
    same = cohort.class_names == source.class_names
    names = [", ".join(cases.class_names) for cases in (cohort, source)]
    row = {
        "property": "class_names",
        "unit": "",
        "n_outside": 0 if same else len(cohort),
        "share_outside": 0.0 if same else 1.0,
        "distance": 0.0 if same else np.nan,
        "verdict": "same" if same else f"DIFFERENT: {names[0]} in place of {names[1]}",
    }
    rows = [*table.astype({"worst_case": object}).to_dict("records"), row]
    return pd.DataFrame(rows).astype({"worst_case": "Int64"})


def compare_properties(
    new: pd.DataFrame, known: pd.DataFrame, *, coverage: float = 1.0, tolerated: float = 0.05
) -> pd.DataFrame:
    """Which properties lie outside the range of training images, from tables of `input_properties`.

    It is for images of different sizes, which no cohort holds together: the tables of one image each are
    joined first, and may leave out columns that nobody knows, such as a spacing.

    Args:
        new: One row per case that a network is to be used on.
        known: One row per training case.
        coverage: As of `check_input_assumptions`.
        tolerated: As of `check_input_assumptions`.

    Returns:
        The rows of `check_input_assumptions`, of the properties that both tables have.

    Raises:
        ValueError: If coverage or tolerated is out of range, or a table has no rows or no such property.

    Example:
        >>> new, known = pd.DataFrame({"rows": [64, 80]}), pd.DataFrame({"rows": [64, 64, 96]})
        >>> compare_properties(new, known)["verdict"].tolist()
        ['inside']
    """
    coverage = check.number("coverage", coverage, low=0, high=1, open_low=True)
    tolerated = check.number("tolerated", tolerated, low=0, high=1, open_high=True)
    for name, table in (("new", new), ("known", known)):
        check.columns(table, [], name)
    shared = [name for name in known if name in new and _unit_of(name)]
    shared.sort(key=lambda name: list(_UNITS).index(name.partition(_CHANNEL)[0]))  # stable: channels in order
    for name, table in (("new", new), ("known", known)):
        check.columns(table, shared or list(_UNITS), name)
    rows: list[dict[str, object]] = []
    for name in shared:
        # what counts as large: z-scored means are 0 but for rounding of values around 1
        sd = "".join(["sd", *name.partition(_CHANNEL)[1:]])  # of the same channel
        is_intensity = _unit_of(name) == "intensity" and sd in shared
        size = float(known[sd if is_intensity else name].median())
        compared = _compare(new[name].to_numpy(), known[name].to_numpy(), size, coverage, tolerated)
        rows.append({"property": name, "unit": _unit_of(name), **compared})
    return pd.DataFrame(rows).astype({"worst_case": "Int64"})


def _unit_of(name: object) -> str:
    """Unit of a property, of whatever channel; empty if it is none."""
    return _UNITS.get(str(name).partition(_CHANNEL)[0], "")


def _compare(
    new: np.ndarray, known: np.ndarray, size: float, coverage: float, tolerated: float
) -> dict[str, object]:
    low, high = np.quantile(known, [(1 - coverage) / 2, (1 + coverage) / 2])
    rounding = _ROUNDING * max(size, abs(low), abs(high))
    beyond = np.maximum(low - new, new - high)  # (n_cases,) > 0 outside
    n_outside, worst = int((beyond > rounding).sum()), int(beyond.argmax())
    constant = high - low <= rounding
    # a value that is 0 but for rounding is no unit either
    unit = (abs(low) if abs(low) > rounding else 1.0) if constant else high - low
    if n_outside == 0:
        verdict = "one value in both" if constant else "inside"
    elif constant:
        verdict = "OUTSIDE: source has one value"
    else:
        verdict = "OUTSIDE" if n_outside > tolerated * len(new) else "few outside"
    return {
        "source_low": float(low),
        "source_high": float(high),
        "n_outside": n_outside,
        "share_outside": n_outside / len(new),
        "farthest": float(new[worst]) if n_outside else float("nan"),
        "distance": float(beyond[worst] / unit) if n_outside else 0.0,
        "worst_case": worst if n_outside else None,
        "verdict": verdict,
    }
