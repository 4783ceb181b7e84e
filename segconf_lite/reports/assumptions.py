"""What a network silently assumes of its input, and which cases of another cohort break it.

A network was only ever right on pictures like those it was trained on, and takes any other without a word.
The questions here need the pictures alone: no network, no reference. That nothing is outside does not mean
that the network works, and what lies outside need not hurt it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from segconf_lite.cohorts.cohort import Cohort

__all__ = ["check_input_assumptions", "input_properties"]

# property -> unit; "grey" is the unit of the images, standard deviations of the slice if z-scored
_UNITS = {
    "rows": "pixels", "columns": "pixels", "row_spacing": "mm", "column_spacing": "mm", "lowest": "grey",
    "highest": "grey", "mean": "grey", "sd": "grey", "contrast": "grey", "sharpness": "1 / pixel",
    "noise": "grey",
}  # fmt: skip
_LAPLACIAN = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)  # blind to ramps; norm 6
_TO_SD = 1.4826  # median absolute value of a normal variable to its standard deviation
_ROUNDING = 1e-5  # of a property's size; less is float32 at work


def input_properties(cohort: Cohort) -> pd.DataFrame:
    """What a network meets in each case, apart from the anatomy.

    Args:
        cohort: N cases of at least 3 x 3 pixels; the reference is not looked at.

    Returns:
        One row a case, in order:

        - rows, columns: pixels; row_spacing, column_spacing: mm.
        - lowest, highest, mean, sd: of the grey values, in the unit of the images. Of z-scored slices mean
          and sd are 0 and 1 by construction and say nothing about the scanner.
        - contrast: 95th minus 5th percentile of the grey values.
        - sharpness: mean length of the grey-value gradient (central differences) over the contrast, per
          pixel; falls with blur, rises with noise and with detail. 0 without contrast.
        - noise: standard deviation of white noise that would explain the median absolute response to the
          mask of Immerkaer (CVIU 64:300, 1996), which ramps do not reach; the median in place of his mean
          holds edges off. Interpolated or denoised pictures score low, and 0 if most of the slice is flat.

    Raises:
        ValueError: If a slice has fewer than 3 rows or columns.
    """
    height, width = cohort.images.shape[2:]
    if min(height, width) < 3:
        raise ValueError(f"slices must be at least 3 x 3 pixels, got {height} x {width}")
    size = pd.DataFrame(
        {"rows": height, "columns": width, "row_spacing": cohort.spacing_mm[:, 0],
         "column_spacing": cohort.spacing_mm[:, 1]}
    )  # fmt: skip
    return size.join(pd.DataFrame([_grey_properties(image) for image in cohort.images[:, 0]]))


def _grey_properties(image: np.ndarray) -> dict[str, float]:
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
    cohort: Cohort, source: Cohort, *, coverage: float = 1.0, share: float = 0.05
) -> pd.DataFrame:
    """Which properties of a cohort's pictures lie outside what the training cohort held, and how far.

    A new case of the source itself falls outside the full range of n independent source cases with
    probability 2 / (n + 1), per property; `share` should lie above that.

    Args:
        cohort: cases that a network shall be used on. Their reference is not looked at.
        source: cases that it was trained on.
        coverage: central share of source cases that makes the range, in (0, 1]: 1 is lowest to highest, so
            that the source lies inside itself; 0.98 is the 1st to the 99th percentile, for a source with
            odd cases in it.
        share: of cases outside, in [0, 1), up to which a property still passes as ``"few outside"``.

    Returns:
        One row per property of `input_properties`, and last class_names: property, unit, source_low and
        source_high, n_outside, share_outside, farthest (the value farthest outside; NaN if none is),
        distance (how far that is outside, >= 0, in widths of the source's range), worst_case (position of
        that case in the cohort, <NA> if none is outside) and verdict. A source range without width (one
        spacing, say) cannot measure: distance then counts in multiples of the source's own value, or of 1
        where that is 0. Verdicts: ``"inside"``, ``"few outside"``, ``"OUTSIDE"``, ``"one value in both"``
        (of grey values: set by the preparation, tells nothing), ``"OUTSIDE: source has one value"``; for
        the names ``"same"`` or ``"DIFFERENT: ..."``, which makes every case count as outside, at no
        distance (NaN).

    Raises:
        ValueError: If coverage or share is out of range, or slices are smaller than 3 x 3 pixels.
    """
    if not 0 < coverage <= 1 or not 0 <= share < 1:
        raise ValueError(f"coverage must lie in (0, 1] and share in [0, 1), got {coverage} and {share}")
    new, known = input_properties(cohort), input_properties(source)
    rows = [
        {"property": name, "unit": unit, **_compare(new[name].to_numpy(), known[name].to_numpy(),
                                                    _scale(known, name), coverage, share)}
        for name, unit in _UNITS.items()
    ]  # fmt: skip
    same = cohort.class_names == source.class_names
    rows.append(
        {"property": "class_names", "unit": "", "source_low": np.nan, "source_high": np.nan,
         "n_outside": 0 if same else len(cohort), "share_outside": 0.0 if same else 1.0, "farthest": np.nan,
         "distance": 0.0 if same else np.nan, "worst_case": None, "verdict": "same" if same else
         f"DIFFERENT: {', '.join(cohort.class_names)} in place of {', '.join(source.class_names)}"}
    )  # fmt: skip
    return pd.DataFrame(rows).astype({"worst_case": "Int64"})


def _scale(known: pd.DataFrame, name: str) -> float:
    """What counts as large for a property: z-scored means are 0 but for rounding of values around 1."""
    return float(known["sd" if _UNITS[name] == "grey" else name].median())


def _compare(
    new: np.ndarray, known: np.ndarray, scale: float, coverage: float, share: float
) -> dict[str, float | int | str | None]:
    low, high = np.quantile(known, [(1 - coverage) / 2, (1 + coverage) / 2])
    rounding = _ROUNDING * max(scale, abs(low), abs(high))
    beyond = np.maximum(low - new, new - high)  # (n_cases,) > 0 outside
    n_outside, worst = int((beyond > rounding).sum()), int(beyond.argmax())
    constant = high - low <= rounding
    # a value that is 0 but for rounding cannot measure either
    own_value = abs(low) if abs(low) > rounding else 1.0
    if n_outside == 0:
        verdict = "one value in both" if constant else "inside"
    elif constant:
        verdict = "OUTSIDE: source has one value"
    else:
        verdict = "OUTSIDE" if n_outside > share * len(new) else "few outside"
    return {
        "source_low": float(low),
        "source_high": float(high),
        "n_outside": n_outside,
        "share_outside": n_outside / len(new),
        "farthest": float(new[worst]) if n_outside else float("nan"),
        "distance": float(beyond[worst] / (own_value if constant else high - low)) if n_outside else 0.0,
        "worst_case": worst if n_outside else None,
        "verdict": verdict,
    }
