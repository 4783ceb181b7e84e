"""Does a map lead a proofreader to the errors?"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from segconf_lite.arrays import to_numpy

__all__ = ["boundary_distance_px", "errors_found"]


def errors_found(uncertainty_map: Any, wrong: Any, *, share: float, where: Any = None) -> np.ndarray:
    """How many wrong pixels lie among the most uncertain pixels of all cases together.

    Pixels that tie at the threshold count in proportion, as if drawn at random.

    Args:
        uncertainty_map: (N, H, W), higher = worse; only the order counts.
        wrong: (N, H, W) bool, pixels whose label is wrong.
        share: of all pixels that are looked at, in (0, 1).
        where: (N, H, W) bool, if only these pixels are looked at; the share is of them, too.

    Returns:
        (N,) wrong pixels found in each case, >= 0; divide sums by sums to get the share of errors found.

    Raises:
        ValueError: If shapes differ, a number is not finite, or the share is not in (0, 1).
    """
    values, errors = to_numpy(uncertainty_map, np.float64), to_numpy(wrong, bool)
    looked = np.ones(values.shape, bool) if where is None else to_numpy(where, bool)
    if values.ndim != 3 or not values.shape == errors.shape == looked.shape:
        raise ValueError(
            f"maps must share one shape (N, H, W), got {values.shape}, {errors.shape}, {looked.shape}"
        )
    if not 0 < share < 1:
        raise ValueError(f"share must lie in (0, 1), got {share}")
    if not np.isfinite(values[looked]).all():
        raise ValueError("uncertainty_map must be finite; for infinite flip costs use 1 / (1 + cost)")
    n_looked = int(share * looked.sum())
    if n_looked == 0:
        return np.zeros(len(values))
    threshold = np.partition(values[looked], -n_looked)[-n_looked]
    above, level = looked & (values > threshold), looked & (values == threshold)
    part = (n_looked - above.sum()) / level.sum()
    return (errors & above).sum(axis=(1, 2)) + part * (errors & level).sum(axis=(1, 2))


def boundary_distance_px(labels: Any) -> np.ndarray:
    """Distance of each pixel's centre to that of the nearest pixel with another label.

    Args:
        labels: (N, H, W) whole numbers.

    Returns:
        (N, H, W) in pixels, >= 1; infinite in a case with one label.

    Raises:
        ValueError: If labels are not (N, H, W).
    """
    drawn = to_numpy(labels)
    if drawn.ndim != 3:
        raise ValueError(f"labels must be (N, H, W), got {drawn.shape}")
    distance = np.full(drawn.shape, np.inf)
    for case, found in enumerate(drawn):
        present = np.unique(found)
        for value in present if len(present) > 1 else ():
            inside = found == value
            distance[case][inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance
