"""Published results, image by image: something to learn from without training a network.

Both tables hold more than their papers print, so that a printed mean can be taken apart again. The levels and
seeds of a network were tested on the same images; `segconf_lite.evaluation.crossed_interval` gives intervals
that take this into account.
"""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.cohorts import download

LEVELS = ("easiest", "easier", "unperturbed", "harder", "hardest")
"""Levels of `skip_connections` as their authors order them; networks were trained on "unperturbed" only."""

_NAME = "published_results"
# Columns that name a row, and for the others the largest value; all are >= 0, and distances may be infinite.
_SKIP_NAMES = ("dataset", "network", "level", "seed", "image")
_SKIP_LIMITS = {
    "dice": 1.0,
    "hausdorff_px": math.inf,
    "surface_dice_5px": 1.0,
    "mean_surface_distance_px": math.inf,
}
_CONTEXT_NAMES = ("dataset", "network", "patch", "run", "image")
_CONTEXT_LIMITS = {
    "dice": 1.0,
    "hausdorff": math.inf,
    "abs_volume_difference_ratio": math.inf,
    "test_volume_foreground_ratio": 1.0,
    "train_ratio_min": 1.0,
    "train_ratio_max": 1.0,
}


def skip_connections() -> pd.DataFrame:
    """Six 2-D networks on four data sets, test images at five levels of texture difficulty.

    Source: Kamath A. et al., "Do we really need that skip connection? Understanding its interplay with task
    complexity", MICCAI 2023; github.com/amithjkamath/to_skip_or_not at 42b0b28, ``results/``, Apache-2.0.
    Merged into one table, values unchanged but for rounding.

    Returns:
        One row per network, level, seed and test image (50670 rows in the published files):

        - dataset: BUSI (breast ultrasound, 147 images), GLaS (histology, 80), Heart (MR, 120) or Spleen
          (CT, 216); 256 x 256 pixels. Names of images are unique within a data set only.
        - network: U-Net, V-Net, NoSkipU-Net, NoSkipV-Net, AGU-Net (attention gates), U-Net++.
        - level: one of `LEVELS`, applied to test images. Harder and hardest add speckle of variance 0.1 and
          0.3; easier and easiest blur the *background* (Gaussian, 3 and 7 pixels), which takes the reference
          mask. The names say what the authors expected: "easiest" may well be the worst.
        - seed: 1 to 3, seed of the training.
        - image: file name. Images are not independent: heart and spleen are slices of few volumes, GLaS has
          four crops per slide, and the table does not say which belong together. Intervals over images are
          therefore too narrow.
        - dice: in [0, 1], higher is better.
        - hausdorff_px, mean_surface_distance_px: pixels, lower is better; infinite where nothing was
          predicted, which is where dice is 0 too. The authors put 256 * sqrt(2) there before they averaged.
        - surface_dice_5px: in [0, 1], higher is better; tolerance 5 pixels.

    Raises:
        FileNotFoundError: If the table is not on this computer; the message says how to make it.
        ValueError: If a column or a name is missing, a level is unknown, a value is out of its range, or two
            rows have the same names.

    Example:
        >>> try:  # the table is fetched by hand
        ...     n_levels = skip_connections()["level"].nunique()
        ... except FileNotFoundError:
        ...     n_levels = len(LEVELS)
        >>> n_levels
        5
    """
    table = _read("skip_connections_per_image.csv.gz", _SKIP_NAMES, _SKIP_LIMITS)
    unknown = sorted(set(table["level"]) - set(LEVELS))
    if unknown:
        fix = "the repository calls them higher, high, in-domain, low and lower, in this order: rename them"
        raise check.refuse("level", f"one of {list(LEVELS)}", unknown, fix)
    return table


def context_foreground() -> pd.DataFrame:
    """Three 3-D networks trained on patches of five sizes, so with five ranges of foreground fraction.

    Source: Kamath A. et al., "How do 3D image segmentation networks behave across the context versus
    foreground ratio trade-off?", Medical Imaging Meets NeurIPS 2022; github.com/amithjkamath/context_vs_fbr
    at 7e49948, ``results/``, MIT. Merged into one table, values unchanged but for rounding.

    Returns:
        One row per network, patch size, run and test volume (4950 rows in the published files):

        - dataset: synthetic (a ball in noise, 100 volumes) or spleen (CT, 10 volumes).
        - network: U-Net, Attention U-Net, UNETR. They differ in normalisation too: U-Net has batch, UNETR
          instance, Attention U-Net instance where it merges; the comparison is confounded by it.
        - patch: edge of the training patch, 32 to 96 voxels.
        - run: 1 to 3, repeats of the training.
        - image: name of the test volume, unique within a data set.
        - dice: in [0, 1], higher is better.
        - hausdorff: maximal surface distance, lower is better; voxels for synthetic, as published for spleen.
        - abs_volume_difference_ratio: absolute difference of predicted and reference volume, over the
          reference volume; >= 0, lower is better.
        - test_volume_foreground_ratio: fraction of foreground in the whole test volume, in [0, 1].
        - train_ratio_min, train_ratio_max: range of the fraction of foreground in the training *patches* of
          the same data set, network and patch size, in [0, 1]. Patch and volume fractions are different
          things unless patch is 96, the size of a synthetic volume.

    Raises:
        FileNotFoundError: If the table is not on this computer; the message says how to make it.
        ValueError: If a column or a name is missing, a value is out of its range, or two rows have the same
            names.

    Example:
        >>> try:  # the table is fetched by hand
        ...     networks = sorted(context_foreground()["network"].unique())
        ... except FileNotFoundError:
        ...     networks = ['Attention U-Net', 'U-Net', 'UNETR']
        >>> networks
        ['Attention U-Net', 'U-Net', 'UNETR']
    """
    return _read("context_foreground_per_image.csv.gz", _CONTEXT_NAMES, _CONTEXT_LIMITS)


def _read(file_name: str, names: tuple[str, ...], limits: dict[str, float]) -> pd.DataFrame:
    folder = download.find(_NAME)
    path = folder / file_name
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {path}, got no such file; make it by hand: {download.BY_HAND[_NAME]}"
        )
    content = download.read(_NAME, folder, path, unzip=True)
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError as error:  # every error of its parser is one
        raise download.damaged(path, "a table of comma-separated values", error) from error
    check.columns(table, (*names, *limits), name=str(path))
    for column in names:
        check.names(f"{column} of {path}", table[column].unique())
    for column, high in limits.items():
        values = check.array(f"{column} of {path}", table[column], "n_rows")
        wrong = np.flatnonzero(~((values >= 0) & (values <= high)))  # also catches NaN
        if len(wrong):
            got = f"{values[wrong[0]]} in row {wrong[0]} of {path}"
            fix = "divide percentages by 100" if high == 1 else ""
            raise check.refuse(column, f"in [0, {high:g}]", got, fix)
    if table.duplicated(list(names)).any():
        got = f"several for {table.loc[table.duplicated(list(names)), list(names)].iloc[0].tolist()}"
        raise check.refuse(str(path), f"one row per {', '.join(names)}", got, "merge the files again")
    return table[[*names, *limits]]
