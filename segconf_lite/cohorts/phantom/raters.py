"""Who drew the contour: raters that differ by habit and by hand.

A rater moves every border by a habit of their own (drawing tight or generous) and by a smooth
random error that changes from slice to slice. Borders that are hard to see, towards the apex,
wander more. The reference is the border that the phantom was painted with.
"""

from __future__ import annotations

import numpy as np

from segconf_lite.cohorts.phantom.scanner import smooth_field

__all__ = ["draw_labels", "reference_labels"]


def reference_labels(inside_mm: np.ndarray) -> np.ndarray:
    """(n, H, W) int64 labels of the (n, 3, H, W) signed distances to RV, epicardium, endocardium.

    1 right ventricle, 2 myocardium, 3 left ventricle; papillary muscles and trabeculae count as
    blood pool, as in the ACDC cohort (Bernard et al., IEEE TMI 37:2514, 2018).
    """
    rv, epi, endo = inside_mm[:, 0], inside_mm[:, 1], inside_mm[:, 2]
    labels = np.where(rv > 0, 1, 0)
    labels = np.where(epi > 0, 2, labels)
    return np.where(endo > 0, 3, labels).astype(np.int64)


def draw_labels(
    inside_mm: np.ndarray, level: np.ndarray, habits_mm: np.ndarray, rngs: list[np.random.Generator]
) -> np.ndarray:
    """Labels of every rater.

    Args:
        inside_mm: (n, 3, H, W) signed distances to the borders, millimetres.
        level: (n,) 0 at the base to 1 at the apex.
        habits_mm: (R, 3) how far outside each border each rater draws, millimetres.
        rngs: one generator per slice.

    Returns:
        (n, R, H, W) int64.
    """
    n, _, height, width = inside_mm.shape
    hand_mm = (0.6 + 0.6 * level)[:, None, None].astype(np.float32)
    drawn = []
    for habit in habits_mm:
        wander = [hand_mm * smooth_field(7, (n, height, width), rngs) for _ in range(3)]
        moved = inside_mm + np.stack(wander, axis=1) + habit[None, :, None, None].astype(np.float32)
        drawn.append(reference_labels(moved))
    return np.stack(drawn, axis=1)
