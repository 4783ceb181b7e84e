"""What the readers of cardiac data sets share: one order of labels, and a check that the files follow it.

ACDC stores 1 right ventricle, 2 myocardium, 3 left ventricle; M&Ms and M&Ms-2 store 1 left ventricle, 2
myocardium, 3 right ventricle. Both are mapped to the order of the simulated hearts of this package.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort

#: Names of the classes in their order, which is that of ``cohorts.phantom``.
CLASS_NAMES = ("background", "right ventricle", "myocardium", "left ventricle")
#: Settings of the readers: short axes are oblique, so that they are read as they are stored.
DEFAULTS = {"plane": "stored", "size": 192, "spacing_mm": 1.25}
_RIGHT, _MUSCLE, _LEFT = 1, 2, 3


def enclosed(labels: np.ndarray, cavity: int) -> float:
    """Fraction of the pixels around a cavity that are myocardium.

    Args:
        labels: (n, H, W) classes of the slices of one heart, in the order of `CLASS_NAMES`.
        cavity: The class of the cavity.

    Returns:
        In [0, 1], over all slices; NaN if the cavity is on none of them.

    Example:
        >>> ring = np.array([[[0, 2, 2, 2, 0], [1, 2, 3, 2, 0], [0, 2, 2, 2, 0]]])
        >>> enclosed(ring, 3), enclosed(ring, 1)
        (1.0, 0.3333333333333333)
    """
    inside = labels == cavity
    cross = ndimage.generate_binary_structure(2, 1)[None]  # within a slice
    around = ndimage.binary_dilation(inside, cross) & ~inside
    return float((labels[around] == _MUSCLE).mean()) if around.any() else float("nan")


def checked(cohort: Cohort) -> Cohort:
    """The cohort, if in every heart the left ventricle lies inside the myocardium and the right one does not.

    Swapped label values (the two conventions differ in 1 and 3) give no error anywhere else: a network learns
    them, and the mean Dice over classes looks normal. Of the pixels around the left ventricle, at least half
    must be myocardium, and more of them than around the right ventricle.

    Args:
        cohort: Hearts in the order of `CLASS_NAMES`; a session is one heart at one phase.

    Raises:
        ValueError: Naming the sessions that fail.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> len(checked(phantom.cohort(4, size=48)))
        4
    """
    wrong = []
    sessions = np.asarray(cohort.sessions)
    for session in dict.fromkeys(sessions.tolist()):
        labels = cohort.labels[sessions == session]
        left, right = enclosed(labels, _LEFT), enclosed(labels, _RIGHT)
        if left < 0.5 or left <= right:  # a missing cavity is NaN, and passes
            wrong.append(f"{session} (left {left:.2f}, right {right:.2f})")
    if wrong:
        got = f"{len(wrong)} hearts with less myocardium around it: {', '.join(wrong[:5])}"
        fix = "their label values are swapped, or the slices are cut too tight: look at them"
        raise check.refuse("the left ventricle", "inside the myocardium", got, fix)
    return cohort
