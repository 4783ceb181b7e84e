"""Pixels for studies in which every pixel is dear: some of each kind, not mostly far background."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.raters import boundary_distance_px

__all__ = ["STRATA", "stratified_pixels"]

# name -> (foreground, background, nearest and farthest distance to the predicted boundary in pixels)
STRATA = {
    "boundary": (True, True, 0.0, 2.0),
    "inside": (True, False, 2.0, np.inf),
    "outside": (False, True, 2.0, 8.0),
    "far": (False, True, 8.0, np.inf),
}


def stratified_pixels(labels: Any, *, n_each: int, seed: int = 0) -> pd.DataFrame:
    """The same number of pixels from the boundary, the inside, the near and the far background.

    Args:
        labels: (N, H, W) predicted classes, 0 is background.
        n_each: pixels of each stratum, drawn without replacement from all cases; fewer where it has fewer.
        seed: of the draw.

    Returns:
        Columns stratum (a key of `STRATA`), case, row, column.

    Raises:
        ValueError: If labels are not (N, H, W), or n_each < 1.
    """
    if n_each < 1:
        raise ValueError(f"n_each must be >= 1 pixel, got {n_each}")
    drawn = to_numpy(labels)
    distance, rng = boundary_distance_px(drawn), np.random.default_rng(seed)
    parts = []
    for name, (foreground, background, nearest, farthest) in STRATA.items():
        fits = (distance > nearest) & (distance <= farthest)
        fits &= ((drawn > 0) & foreground) | ((drawn == 0) & background)
        found = np.argwhere(fits)
        chosen = found[rng.choice(len(found), min(n_each, len(found)), replace=False)]
        parts.append(pd.DataFrame(chosen, columns=["case", "row", "column"]).assign(stratum=name))
    return pd.concat(parts, ignore_index=True)[["stratum", "case", "row", "column"]]
