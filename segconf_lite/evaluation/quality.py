"""How good a segmentation is, case by case, with an explicit policy for absent classes.

Overlap (Dice, IoU), and distances between boundaries (surface Dice, Hausdorff distance, mean surface
distance). The policy ``empty`` says what counts for a class that is absent:

=========  ==========  ==========================================================  ========================
reference  prediction  overlap, surface Dice: ``"skip"`` / ``"one"`` / ``"zero"``  distances in mm
=========  ==========  ==========================================================  ========================
present    present     value / value / value                                       value / value / value
present    absent      0 / 0 / 0                                                   inf / inf / inf
absent     present     0 / 0 / 0                                                   inf / inf / inf
absent     absent      left out (NaN) / 1 / 0                                      left out (NaN) / 0 / inf
=========  ==========  ==========================================================  ========================

The geometry of boundaries is that of MONAI: the boundary of a class is its pixels that have a pixel of
another kind beside them, and distances go from pixel centre to pixel centre, in millimetres.

Slices or volumes: labels are (N, H, W) with two spacings, or (N, D, H, W) with three. Volumes of different
sizes are measured one at a time.

Shape letters: N cases, S and T segmentations of a case, C classes, D slices of a volume, H rows, W columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort

if TYPE_CHECKING:
    from torch import Tensor

_EMPTY = {"skip": np.nan, "one": 1.0, "zero": 0.0}
_EMPTY_MM = {"skip": np.nan, "one": 0.0, "zero": np.inf}


def dice_per_class(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    r"""Dice coefficient of each foreground class of each case (Dice 1945).

    .. math:: D = \frac{2 |P \cap R|}{|P| + |R|}

    Args:
        prediction: (N, H, W) or (N, D, H, W) integer labels, 0 is background; numpy or torch.
        reference: Labels of the reference, of the same shape.
        n_classes: Number of classes C, background included, >= 2.
        empty: What counts for a class that neither side has: ``"skip"`` leaves it out of the mean,
            ``"one"`` calls it perfect, ``"zero"`` a failure. It is required, because papers differ.

    Returns:
        (N, C - 1) float64 in [0, 1], higher is better; NaN where ``"skip"`` leaves a class out.

    Raises:
        ValueError: If shapes differ, labels are out of range, or the policy is unknown.

    Example:
        >>> prediction, reference = np.array([[[1, 1, 0, 2]]]), np.array([[[1, 0, 0, 2]]])
        >>> dice_per_class(prediction, reference, n_classes=3, empty="skip").round(2)
        array([[0.67, 1.  ]])
    """
    from monai.metrics import compute_dice

    masks = _foreground_pair(prediction, reference, n_classes, empty)
    dice = to_numpy(compute_dice(*masks, include_background=True, ignore_empty=False)).astype(np.float64)
    dice[~_present(masks[0] | masks[1])] = _EMPTY[empty]
    return dice


def dice_per_case(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean Dice coefficient over the foreground classes of each case.

    Arguments and errors as in `dice_per_class`.

    Returns:
        (N,) float64 in [0, 1], higher is better; NaN only with ``"skip"``, for a case in which both sides
        are all background.

    Example:
        >>> prediction, reference = np.array([[[1, 1, 0, 2]]]), np.array([[[1, 0, 0, 2]]])
        >>> dice_per_case(prediction, reference, n_classes=3, empty="skip").round(2)
        array([0.83])
    """
    return mean_of_defined(dice_per_class(prediction, reference, n_classes=n_classes, empty=empty))


def iou_per_class(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    r"""Intersection over union of each foreground class of each case (Jaccard 1912).

    .. math:: J = \frac{|P \cap R|}{|P \cup R|} = \frac{D}{2 - D}

    Arguments, returns and errors as in `dice_per_class`.

    Example:
        >>> prediction, reference = np.array([[[1, 1, 0]]]), np.array([[[1, 0, 0]]])
        >>> iou_per_class(prediction, reference, n_classes=2, empty="skip").round(2)
        array([[0.5]])
    """
    dice = dice_per_class(prediction, reference, n_classes=n_classes, empty=empty)
    return dice / (2 - dice)


def iou_per_case(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean intersection over union of the foreground classes of each case.

    Arguments, returns and errors as in `dice_per_case`.

    Example:
        >>> prediction, reference = np.array([[[1, 1, 0]]]), np.array([[[1, 0, 0]]])
        >>> iou_per_case(prediction, reference, n_classes=2, empty="skip").round(2)
        array([0.5])
    """
    return mean_of_defined(iou_per_class(prediction, reference, n_classes=n_classes, empty=empty))


def pairwise_dice(first: Any, second: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean foreground Dice of every segmentation in one set with every one in another.

    One matrix product per case replaces S * T comparisons.

    Args:
        first: (N, S, H, W) integer labels; S segmentations of each case.
        second: (N, T, H, W) labels.
        n_classes: Number of classes C, background included, >= 2.
        empty: Policy for a class that both of a pair lack, see the table of this module.

    Returns:
        (N, S, T) float64 in [0, 1]; NaN only with ``"skip"``, where both of a pair are all background.

    Raises:
        ValueError: As `dice_per_class`.

    Example:
        >>> one, two = np.array([[[[1, 1, 0]]]]), np.array([[[[1, 1, 0]], [[0, 1, 1]]]])
        >>> pairwise_dice(one, two, n_classes=2, empty="skip")
        array([[[1. , 0.5]]])
    """
    n_classes = check.integer("n_classes", n_classes, low=2, high=65_536)
    check.one_of("empty", empty, _EMPTY)
    one = check.label_map("first", first, n_classes=n_classes, shape="N S H W")
    other = check.label_map("second", second, n_classes=n_classes, shape="N T H W")
    if one.shape[:1] + one.shape[2:] != other.shape[:1] + other.shape[2:]:
        expected = "(N, S, H, W) and (N, T, H, W), equal in N, H and W"
        raise check.refuse("first and second", expected, f"{one.shape} and {other.shape}")
    shape = (len(one), one.shape[1], other.shape[1])
    dice = np.full((*shape, n_classes - 1), _EMPTY[empty])
    for case, (a, b) in enumerate(zip(one, other, strict=True)):
        for k in range(1, n_classes):
            # (S, H * W) and (T, H * W); float32 counts exactly up to 16 million pixels
            in_a, in_b = ((x == k).reshape(len(x), -1).astype(np.float32) for x in (a, b))
            total = in_a.sum(axis=1)[:, None] + in_b.sum(axis=1)[None]
            np.divide(2 * (in_a @ in_b.T), total, out=dice[case, :, :, k - 1], where=total > 0)
    return mean_of_defined(dice.reshape(-1, n_classes - 1)).reshape(shape)


def surface_dice_per_class(
    prediction: Any, reference: Any, *, n_classes: int, tolerance_mm: float, spacing_mm: Any, empty: str
) -> np.ndarray:
    r"""Fraction of both boundaries that lies within a tolerance of the other (Nikolov et al., 2021).

    .. math:: \frac{|\{p \in \partial P : d(p, \partial R) \le \tau\}|
              + |\{r \in \partial R : d(r, \partial P) \le \tau\}|}{|\partial P| + |\partial R|}

    Args:
        prediction: (N, H, W) or (N, D, H, W) integer labels, 0 is background; numpy or torch.
        reference: Labels of the reference, of the same shape.
        n_classes: Number of classes C, background included, >= 2.
        tolerance_mm: Distance that still counts as right, >= 0 mm.
        spacing_mm: Row and column spacing in mm, (2,) for all cases or (N, 2), > 0; of volumes slice, row
            and column spacing, (3,) or (N, 3).
        empty: Policy for a class that neither side has, see the table of this module.

    Returns:
        (N, C - 1) float64 in [0, 1], higher is better. The length of a boundary is its number of pixels,
        as in MONAI's default and the MIDL 2025 code.

    Raises:
        ValueError: If shapes differ, labels are out of range, the policy is unknown, or tolerance or
            spacing is not as above.

    Example:
        >>> labels = np.zeros((1, 6, 6), int)
        >>> labels[0, 2:4, 2:4] = 1
        >>> moved = np.roll(labels, 1, axis=1)
        >>> options = {"n_classes": 2, "spacing_mm": (1, 1), "empty": "skip"}
        >>> surface_dice_per_class(moved, labels, tolerance_mm=0.5, **options)
        array([[0.5]])
    """
    from monai.metrics import compute_surface_dice

    tolerance = check.number("tolerance_mm", tolerance_mm, low=0)
    masks = _foreground_pair(prediction, reference, n_classes, empty)
    measure = partial(compute_surface_dice, class_thresholds=[tolerance] * masks[0].shape[1])
    return _between_boundaries(measure, masks, spacing_mm, both_absent=_EMPTY[empty], one_absent=0.0)


def surface_dice_per_case(
    prediction: Any, reference: Any, *, n_classes: int, tolerance_mm: float, spacing_mm: Any, empty: str
) -> np.ndarray:
    """Mean surface Dice over the foreground classes of each case.

    Arguments and errors as in `surface_dice_per_class`.

    Returns:
        (N,) float64 in [0, 1], higher is better; NaN as in `dice_per_case`.

    Example:
        >>> labels = np.zeros((1, 6, 6), int)
        >>> labels[0, 2:4, 2:4] = 1
        >>> moved = np.roll(labels, 1, axis=1)
        >>> options = {"n_classes": 2, "spacing_mm": (1, 1), "empty": "skip"}
        >>> surface_dice_per_case(moved, labels, tolerance_mm=1, **options)
        array([1.])
    """
    per_class = surface_dice_per_class(
        prediction,
        reference,
        n_classes=n_classes,
        tolerance_mm=tolerance_mm,
        spacing_mm=spacing_mm,
        empty=empty,
    )
    return mean_of_defined(per_class)


def hausdorff95_per_class(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """95th percentile of the boundary distances of each class, the worse of both directions.

    The percentile replaces the maximum of Huttenlocher et al. (1993), so that one stray pixel does not
    decide. Arguments and errors as in `surface_dice_per_class`.

    Returns:
        (N, C - 1) in mm, lower is better; infinite where one side lacks the class.

    Example:
        >>> labels = np.zeros((1, 6, 6), int)
        >>> labels[0, 2:4, 2:4] = 1
        >>> moved = np.roll(labels, 1, axis=1)
        >>> hausdorff95_per_class(moved, labels, n_classes=2, spacing_mm=(1.5, 1), empty="skip")
        array([[1.5]])
    """
    from monai.metrics import compute_hausdorff_distance

    masks = _foreground_pair(prediction, reference, n_classes, empty)
    measure = partial(compute_hausdorff_distance, percentile=95)
    return _between_boundaries(measure, masks, spacing_mm, both_absent=_EMPTY_MM[empty], one_absent=np.inf)


def hausdorff95_per_case(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """Mean of `hausdorff95_per_class` over the foreground classes of each case.

    Arguments and errors as in `surface_dice_per_class`.

    Returns:
        (N,) in mm, lower is better; infinite if one side lacks a class, NaN as in `dice_per_case`.

    Example:
        >>> labels = np.zeros((1, 6, 6), int)
        >>> labels[0, 2:4, 2:4] = 1
        >>> hausdorff95_per_case(0 * labels, labels, n_classes=2, spacing_mm=(1, 1), empty="skip")
        array([inf])
    """
    per_class = hausdorff95_per_class(
        prediction, reference, n_classes=n_classes, spacing_mm=spacing_mm, empty=empty
    )
    return mean_of_defined(per_class)


def mean_surface_distance_per_class(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """Mean distance from each boundary pixel of one side to the other boundary, over both sides.

    Arguments and errors as in `surface_dice_per_class`.

    Returns:
        (N, C - 1) in mm, lower is better; infinite where one side lacks the class.

    Example:
        >>> labels = np.zeros((1, 6, 6), int)
        >>> labels[0, 2:4, 2:4] = 1
        >>> moved = np.roll(labels, 1, axis=1)
        >>> mean_surface_distance_per_class(moved, labels, n_classes=2, spacing_mm=(1, 1), empty="skip")
        array([[0.5]])
    """
    from monai.metrics import compute_average_surface_distance

    masks = _foreground_pair(prediction, reference, n_classes, empty)
    measure = partial(compute_average_surface_distance, symmetric=True)
    return _between_boundaries(measure, masks, spacing_mm, both_absent=_EMPTY_MM[empty], one_absent=np.inf)


def mean_surface_distance_per_case(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """Mean of `mean_surface_distance_per_class` over the foreground classes of each case.

    Arguments and errors as in `surface_dice_per_class`.

    Returns:
        (N,) in mm, lower is better; infinite if one side lacks a class, NaN as in `dice_per_case`.

    Example:
        >>> labels = np.zeros((1, 6, 6), int)
        >>> labels[0, 2:4, 2:4] = 1
        >>> moved = np.roll(labels, 1, axis=1)
        >>> mean_surface_distance_per_case(moved, labels, n_classes=2, spacing_mm=(1, 1), empty="skip")
        array([0.5])
    """
    per_class = mean_surface_distance_per_class(
        prediction, reference, n_classes=n_classes, spacing_mm=spacing_mm, empty=empty
    )
    return mean_of_defined(per_class)


def case_table(probabilities: Any, cohort: Cohort, *, empty: str) -> pd.DataFrame:
    """Quality of each case beside the network's own confidence: the table from which every chapter starts.

    Args:
        probabilities: (N, C, H, W) class probabilities, summing to 1 over C; numpy or torch.
        cohort: The N cases with their reference. No class may be called like a column below.
        empty: Policy for classes absent on both sides, see `dice_per_class`.

    Returns:
        One row per case: domain, session, subject, quality (mean foreground Dice in [0, 1], higher is
        better), confidence (mean over the predicted foreground of the maximum softmax probability, higher
        = surer; NaN where no foreground is predicted), and one column per foreground class, named as the
        class, with its Dice.

    Raises:
        ValueError: If the probabilities do not fit the cohort, or are none (logits, say), or a class is
            called like a column.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> cohort = phantom.cohort(2, size=32)
        >>> perfect = np.moveaxis(np.eye(4)[cohort.labels], -1, 1)
        >>> case_table(perfect, cohort, empty="skip")[["domain", "quality", "confidence"]]
          domain  quality  confidence
        0      A      1.0         1.0
        1      A      1.0         1.0
    """
    if not isinstance(cohort, Cohort):
        raise check.refuse("cohort", "a Cohort", type(cohort).__name__, "see segconf_lite.cohorts.Cohort")
    values = check.probabilities(probabilities)
    n_classes = len(cohort.class_names)
    expected = (len(cohort), n_classes, *cohort.labels.shape[1:])
    if values.shape != expected:
        raise check.refuse("probabilities", f"(N, C, H, W) = {expected}", values.shape)
    own_columns = ["domain", "session", "subject", "quality", "confidence"]
    check.names("class names and columns", [*own_columns, *cohort.class_names[1:]], unique=True)
    predicted, maximum = values.argmax(axis=1), values.max(axis=1)
    foreground = predicted > 0
    n_foreground = foreground.sum(axis=(1, 2))
    total = np.where(foreground, maximum, 0).sum(axis=(1, 2))
    confidence = np.where(n_foreground > 0, total / np.maximum(n_foreground, 1), np.nan)
    per_class = dice_per_class(predicted, cohort.labels, n_classes=n_classes, empty=empty)
    columns = [cohort.domains, cohort.sessions, cohort.subjects, mean_of_defined(per_class), confidence]
    names = [*own_columns, *cohort.class_names[1:]]
    return pd.DataFrame(dict(zip(names, [*columns, *per_class.T], strict=True)))


def mean_of_defined(per_class: np.ndarray) -> np.ndarray:
    """Mean over the classes of each case, with NaN left out.

    Args:
        per_class: (N, C - 1) values; NaN where a class is not defined.

    Returns:
        (N,) means; NaN where no class is defined.

    Example:
        >>> mean_of_defined(np.array([[0.5, np.nan], [np.nan, np.nan]]))
        array([0.5, nan])
    """
    defined = ~np.isnan(per_class)
    n_defined = defined.sum(axis=1)
    total = np.where(defined, per_class, 0).sum(axis=1)
    return np.where(n_defined > 0, total / np.maximum(n_defined, 1), np.nan)


def _foreground_pair(prediction: Any, reference: Any, n_classes: int, empty: str) -> tuple[Tensor, Tensor]:
    """Two (N, C - 1, [D,] H, W) boolean tensors, one channel per foreground class."""
    import torch

    n_classes = check.integer("n_classes", n_classes, low=2, high=65_536)
    check.one_of("empty", empty, _EMPTY)
    is_volume = getattr(prediction, "ndim", 3) == 4
    if is_volume and getattr(reference, "ndim", 3) != 4:
        fix = "probabilities (N, C, H, W) become labels with .argmax(1)"
        raise check.refuse("prediction", "labels (N, H, W)", tuple(prediction.shape), fix)
    axes = "N D H W" if is_volume else "N H W"
    predicted = check.label_map("prediction", prediction, n_classes=n_classes, shape=axes)
    expected = check.label_map("reference", reference, n_classes=n_classes, shape=predicted.shape)
    classes = np.arange(1, n_classes).reshape(-1, *[1] * (predicted.ndim - 1))
    one, other = (torch.from_numpy(labels[:, None] == classes) for labels in (predicted, expected))
    return one, other


def _present(masks: Tensor) -> np.ndarray:
    """(N, C - 1) whether a class has a pixel."""
    return to_numpy(masks.flatten(2).any(dim=2))


def _between_boundaries(
    measure: Callable[..., Any],
    masks: tuple[Tensor, Tensor],
    spacing_mm: Any,
    both_absent: float,
    one_absent: float,
) -> np.ndarray:
    """(N, C - 1) of a measure of MONAI, with the policy for absent classes."""
    spacing = check.spacing(spacing_mm, length=len(masks[0]), axes=masks[0].ndim - 2)
    with warnings.catch_warnings():  # MONAI warns of each absent class, which the policy settles
        warnings.simplefilter("ignore")
        values = measure(*masks, include_background=True, spacing=spacing.tolist())
    per_class = to_numpy(values).astype(np.float64)
    first, second = (_present(mask) for mask in masks)
    per_class[first != second] = one_absent  # MONAI's percentile of infinities is NaN
    per_class[~first & ~second] = both_absent
    return per_class
