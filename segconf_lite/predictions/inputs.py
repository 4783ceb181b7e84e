"""Which images of a review lie far outside of what the network was trained on.

Images of different sizes are compared by properties of their middle slice, whatever is predicted on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.predictions.reader import images_in
from segconf_lite.readers import files
from segconf_lite.readers.geometry import in_plane, plane_of, spacing_in_plane
from segconf_lite.reports import compare_properties, input_properties

_FAR = 0.5  # widths of the training range beyond it from which a case is told about
_MOST_TRAINING = 100


def slice_properties(image: np.ndarray, spacing: tuple[float, ...] | None, *, raw: bool) -> pd.Series:
    """Properties of the middle slice of an image.

    Args:
        image: (S, H, W) intensities.
        spacing: Row and column spacing in mm, or None.
        raw: Whether intensities have a unit, as in CT; else the slice is z-scored.

    Example:
        >>> image = np.random.default_rng(0).normal(size=(3, 8, 8))
        >>> slice_properties(image, None, raw=False).index[:3].tolist()
        ['rows', 'columns', 'lowest']
    """
    middle = image[len(image) // 2].astype(np.float64)
    if not raw:
        middle = (middle - middle.mean()) / max(middle.std(), 1e-12)
    cohort = Cohort(
        images=middle[None, None],
        labels=np.zeros((1, *middle.shape), int),
        domains=np.array(["all"]),
        subjects=np.array(["one"]),
        spacing_mm=np.array(spacing or (1.0, 1.0)),
        class_names=("background", "any"),
    )
    found = input_properties(cohort).iloc[0]
    unknown = [] if raw else ["mean", "sd"]  # 0 and 1 by construction
    return found.drop(unknown if spacing else [*unknown, "row_spacing", "column_spacing"])


def training_properties(folder: Path | str, *, raw: bool, most_bytes: int) -> pd.DataFrame:
    """Properties of at most a hundred training images, evenly spread over their names.

    Args:
        folder: Folder of images, or with imagesTr; of several channels, the first is read.
        raw: As of `slice_properties`.
        most_bytes: Largest size of one file's values as float32.

    Raises:
        ValueError: If there is no image.

    Example:
        >>> training_properties("no/such/folder", raw=False, most_bytes=2**30)
        Traceback (most recent call last):
        ValueError: training must be a folder, got no/such/folder
    """
    root = Path(folder).expanduser()
    found = images_in(root / "imagesTr" if (root / "imagesTr").is_dir() else root, "training")
    if not found:
        raise check.refuse("training", "a folder of images, or with imagesTr", f"{root} with none")
    names = [name for name in found if name.endswith("_0000")] or list(found)
    names = names[:: math.ceil(len(names) / _MOST_TRAINING)]
    rows = []
    for name in names:
        stored = files.read(found[name], role="image", most_bytes=most_bytes)
        plane = plane_of(stored, "coarsest")
        spacing = spacing_in_plane(stored, plane)
        rows.append(slice_properties(in_plane(stored, plane)[0], spacing, raw=raw))
    return pd.DataFrame(rows).dropna(axis="columns")


def far_outside(
    new: Mapping[str, pd.Series], known: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """How the images compare with the training images, and what of each image lies far outside.

    Args:
        new: Case -> its `slice_properties`.
        known: Those of the training images.

    Returns:
        The table of `segconf_lite.reports.compare_properties`, its worst cases by name; and case -> sentences
        on properties beyond the range by more than half its width.

    Example:
        >>> known = pd.DataFrame({"noise": [1.0, 2.0]})
        >>> far_outside({"a": pd.Series({"noise": 3.0})}, known)[1]
        {'a': ['noise 3 is far outside of the training images (1 to 2)']}
    """
    images = pd.DataFrame(new).T.dropna(axis="columns")
    table = compare_properties(images, known)
    far: dict[str, list[str]] = {}
    for row in table.itertuples():
        width = row.source_high - row.source_low
        beyond = np.maximum(row.source_low - images[row.property], images[row.property] - row.source_high)
        limit = max(_FAR * width, 1e-5 * max(abs(row.source_low), abs(row.source_high), 1e-5))
        for name in images.index[beyond > limit] if row.n_outside else []:
            text = (
                f"{row.property} {images.loc[name, row.property]:.3g} is far outside of the training images"
            )
            far.setdefault(name, []).append(f"{text} ({row.source_low:.3g} to {row.source_high:.3g})")
    names = table["worst_case"].map(lambda k: "" if pd.isna(k) else images.index[int(k)])
    return table.assign(worst_case=names), far
