"""Results that others published image by image: something to learn from without training a network.

Both tables hold more than their papers print, so that a printed mean can be taken apart again. The levels
and seeds of a network saw the same test images; see `segconf_lite.evaluation.crossed_interval` for intervals
that know it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from segconf_lite.cohorts import download

__all__ = ["LEVELS", "context_foreground", "skip_connections"]

LEVELS = ("easiest", "easier", "unperturbed", "harder", "hardest")
"""Levels of `skip_connections` as their authors order them; networks were trained on "unperturbed" only."""

_NAME = "published_results"
_SKIP_COLUMNS = (
    "dataset", "network", "level", "seed", "image", "dice", "hausdorff_px", "surface_dice_5px",
    "mean_surface_distance_px",
)  # fmt: skip
_CONTEXT_COLUMNS = (
    "dataset", "network", "patch", "run", "image", "dice", "hausdorff", "abs_volume_difference_ratio",
    "test_volume_foreground_ratio", "train_ratio_min", "train_ratio_max",
)  # fmt: skip


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
        - seed: 1 to 3, of the training.
        - image: file name. Images are not independent: heart and spleen are slices of few volumes, GLaS has
          four crops a slide, and the table does not say which belong together. Intervals over images are
          therefore too narrow.
        - dice: in [0, 1], higher is better.
        - hausdorff_px, mean_surface_distance_px: pixels, lower is better; infinite where nothing was
          predicted, which is where dice is 0 too. The authors put 256 * sqrt(2) there before they averaged.
        - surface_dice_5px: in [0, 1], higher is better; tolerance 5 pixels.

    Raises:
        FileNotFoundError: If the table is not on this computer; the message says how to make it.
        ValueError: If a column is missing, a level unknown, or a Dice not in [0, 1].
    """
    table = _read("skip_connections_per_image.csv.gz", _SKIP_COLUMNS)
    unknown = sorted(set(table["level"]) - set(LEVELS))
    if unknown:
        raise ValueError(
            f"level must be one of {list(LEVELS)}, got {unknown}; the repository calls them higher, high, "
            "in-domain, low and lower, in this order: rename them"
        )
    return table


def context_foreground() -> pd.DataFrame:
    """Three 3-D networks trained on patches of five sizes, so with five ranges of foreground share.

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
        - abs_volume_difference_ratio: |predicted - reference volume| / reference volume, >= 0, lower is
          better.
        - test_volume_foreground_ratio: share of foreground in the whole test volume, in [0, 1].
        - train_ratio_min, train_ratio_max: range of the share of foreground in the training *patches* of the
          same data set, network and patch size, in [0, 1]. Patch and volume shares are different things
          unless patch is 96, the size of a synthetic volume.

    Raises:
        FileNotFoundError: If the table is not on this computer; the message says how to make it.
        ValueError: If a column is missing, or a Dice not in [0, 1].
    """
    return _read("context_foreground_per_image.csv.gz", _CONTEXT_COLUMNS)


def _read(file_name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    path = Path(download.find(_NAME)) / file_name
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {path}, got no such file; make it by hand: {download.BY_HAND[_NAME]}"
        )
    table = pd.read_csv(path)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} lacks the columns {missing}; it has {list(table.columns)}. Expected {list(columns)}: "
            "rename them, or merge the published files again"
        )
    wrong = ~table["dice"].between(0, 1)  # also catches NaN
    if wrong.any():
        raise ValueError(
            f"dice must lie in [0, 1], got {table['dice'][wrong].iloc[0]} in row {wrong.idxmax()} of {path}; "
            "divide percentages by 100"
        )
    return table[list(columns)]
