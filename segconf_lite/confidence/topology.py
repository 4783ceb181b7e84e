"""Is a predicted wall one ring? A check that needs no further pass, no training and no threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from segconf_lite import check

_EIGHT = np.ones((3, 3), bool)  # pixels of the wall touch at corners, so those of a hole do not


def ring_defects(labels: Any, *, wall: int) -> np.ndarray:
    r"""By how many pieces and holes the predicted wall of each case differs from one ring.

    .. math:: |\text{pieces} - 1| + |\text{holes} - 1|

    A short-axis slice of the heart has one connected myocardium around one cavity. A prediction that breaks
    this is wrong somewhere, whatever its probabilities say; one that does not may still be wrong.

    Args:
        labels: (N, H, W) predicted labels, numpy or torch.
        wall: The class that should be a ring, > 0.

    Returns:
        (N,) integers >= 0, higher is worse: 0 for one ring, 2 for a case without any wall.

    Raises:
        ValueError: If labels are no label maps, or the class is the background.

    Example:
        >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
        >>> ring_defects([ring, np.eye(3), np.zeros((3, 3))], wall=1).tolist()
        [0, 1, 2]
    """
    wall = check.integer("wall", wall, low=1)
    masks = check.label_map("labels", labels) == wall
    defects = []
    for mask in masks:
        pieces = ndimage.label(mask, structure=_EIGHT)[1]
        holes = ndimage.label(~np.pad(mask, 1))[1] - 1  # without the outside
        defects.append(abs(pieces - 1) + abs(holes - 1))
    return np.array(defects, dtype=np.int64)
