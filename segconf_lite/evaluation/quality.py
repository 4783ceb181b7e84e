"""How good a segmentation is, case by case, with an explicit rule for absent classes.

| reference | prediction | ``empty="skip"`` | ``"one"`` | ``"zero"`` |
|-----------|------------|------------------|-----------|------------|
| present   | present    | value            | value     | value      |
| present   | absent     | 0                | 0         | 0          |
| absent    | present    | 0                | 0         | 0          |
| absent    | absent     | left out (NaN)   | 1         | 0          |

The table holds for Dice and for IoU; `segconf_lite.evaluation.surfaces` has its own for distances.

Shape letters: N cases, S and T segmentations of a case, C classes, H rows, W columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from segconf_lite.arrays import to_numpy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "EMPTY_POLICIES", "check_pair", "check_probabilities", "dice_per_case", "dice_per_class",
    "iou_per_case", "iou_per_class", "mean_of_defined", "one_hot_foreground", "pairwise_dice",
]  # fmt: skip

EMPTY_POLICIES = {"skip": np.nan, "one": 1.0, "zero": 0.0}


def dice_per_case(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean Dice over the foreground classes of each case.

    Args:
        prediction: (N, H, W) whole-number labels, 0 is background; numpy or torch.
        reference: (N, H, W) labels of the reference.
        n_classes: number of classes C, background included, >= 2.
        empty: what a class counts that neither side has: ``"skip"`` leaves it out of the mean,
            ``"one"`` calls it perfect, ``"zero"`` a failure. Required, since papers differ.

    Returns:
        (N,) float64 in [0, 1], higher is better; NaN only with ``"skip"``, for a case in which
        both sides are all background.

    Raises:
        ValueError: If shapes differ, labels are out of range, or the policy is unknown.
    """
    return mean_of_defined(dice_per_class(prediction, reference, n_classes=n_classes, empty=empty))


def dice_per_class(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Dice of each foreground class of each case: ``2 |P and R| / (|P| + |R|)`` (Dice 1945).

    Arguments and errors as in `dice_per_case`.

    Returns:
        (N, C - 1) float64 in [0, 1]; NaN where ``empty="skip"`` leaves a class out.
    """
    from monai.metrics import compute_dice

    predicted, expected = check_pair(prediction, reference, n_classes=n_classes, empty=empty)
    masks = [one_hot_foreground(x, n_classes) for x in (predicted, expected)]
    dice = to_numpy(compute_dice(*masks, include_background=True, ignore_empty=False)).astype(np.float64)
    both_absent = ~to_numpy((masks[0] | masks[1]).flatten(2).any(dim=2))
    dice[both_absent] = EMPTY_POLICIES[empty]
    return dice


def iou_per_case(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """(N,) mean IoU over the foreground classes; arguments, range and errors as in `dice_per_case`."""
    return mean_of_defined(iou_per_class(prediction, reference, n_classes=n_classes, empty=empty))


def iou_per_class(prediction: Any, reference: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """(N, C - 1) intersection over union, ``|P and R| / |P or R|`` (Jaccard 1912), = D / (2 - D).

    Arguments and errors as in `dice_per_case`; NaN where ``empty="skip"`` leaves a class out.
    """
    dice = dice_per_class(prediction, reference, n_classes=n_classes, empty=empty)
    return dice / (2 - dice)


def pairwise_dice(first: Any, second: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean foreground Dice of every segmentation of one set with every one of another.

    One matrix product per case in place of S * T comparisons.

    Args:
        first: (N, S, H, W) whole-number labels; S segmentations of each case.
        second: (N, T, H, W) labels.
        n_classes: number of classes C, background included, >= 2.
        empty: policy for a class that both of a pair lack, see the table of this module.

    Returns:
        (N, S, T) float64 in [0, 1]; NaN only with ``"skip"``, where a pair is all background.

    Raises:
        ValueError: As `dice_per_case`.
    """
    one, other = to_numpy(first), to_numpy(second)
    if one.ndim != 4 or other.ndim != 4 or _but_second(one.shape) != _but_second(other.shape):
        raise ValueError(
            f"expected labels (N, S, H, W) and (N, T, H, W), equal in N, H, W, got {one.shape} "
            f"and {other.shape}"
        )
    _check_empty(empty)
    for stack in (one, other):
        _labels(stack.reshape(-1, *stack.shape[2:]), n_classes)
    shape = (len(one), one.shape[1], other.shape[1])
    found = np.full((*shape, n_classes - 1), EMPTY_POLICIES[empty])
    for case, (a, b) in enumerate(zip(one, other, strict=True)):
        for k in range(1, n_classes):
            # float32 counts exactly up to 16 million pixels
            in_a, in_b = ((x == k).reshape(len(x), -1).astype(np.float32) for x in (a, b))
            total = in_a.sum(axis=1)[:, None] + in_b.sum(axis=1)[None]
            np.divide(2 * (in_a @ in_b.T), total, out=found[case, :, :, k - 1], where=total > 0)
    return mean_of_defined(found.reshape(-1, n_classes - 1)).reshape(shape)


def mean_of_defined(per_class: np.ndarray) -> np.ndarray:
    """(N,) mean over the classes of (N, C - 1) values, NaN left out; NaN where all are."""
    defined = ~np.isnan(per_class)
    n_defined = defined.sum(axis=1)
    total = np.where(defined, per_class, 0).sum(axis=1)
    return np.where(n_defined > 0, total / np.maximum(n_defined, 1), np.nan)


def _but_second(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + shape[2:]


def check_pair(
    prediction: Any, reference: Any, *, n_classes: int, empty: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N, H, W) whole-number arrays.

    Raises:
        ValueError: As `dice_per_case`.
    """
    _check_empty(empty)
    predicted, expected = (_labels(x, n_classes) for x in (prediction, reference))
    if predicted.shape != expected.shape:
        raise ValueError(
            f"prediction and reference must share one shape (N, H, W), got {predicted.shape} "
            f"and {expected.shape}"
        )
    return predicted, expected


def check_probabilities(chances: np.ndarray) -> None:
    """Refuse what is not a probability of each class, (N, C, ...), before anyone counts with it.

    Raises:
        ValueError: If a value is negative, above 1 (logits?) or not finite, or a pixel does not sum to 1.
    """
    low, high = float(chances.min()), float(chances.max())
    if not (low >= 0 and high <= 1 + 1e-4):  # also catches NaN
        raise ValueError(
            f"probabilities must lie in [0, 1], got {low:.4g} to {high:.4g}; these look like logits: "
            "apply softmax over axis 1 first"
        )
    off = float(np.abs(chances.sum(axis=1) - 1).max())
    if off > 1e-3:
        raise ValueError(
            f"probabilities must sum to 1 over axis 1, got a pixel that is {off:.3g} off; pass all "
            "classes, background included"
        )


def one_hot_foreground(labels: np.ndarray, n_classes: int) -> Tensor:
    """(N, C - 1, H, W) boolean tensor, one channel per foreground class."""
    import torch

    return torch.from_numpy(labels[:, None] == np.arange(1, n_classes)[:, None, None])


def _check_empty(empty: str) -> None:
    if empty not in EMPTY_POLICIES:
        raise ValueError(f"empty must be one of {list(EMPTY_POLICIES)}, got {empty!r}")


def _labels(values: Any, n_classes: int) -> np.ndarray:
    labels = to_numpy(values)
    if labels.ndim != 3 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be non-empty whole numbers of shape (N, H, W), got {labels.dtype} "
            f"{labels.shape}; turn probabilities (N, C, H, W) into labels with .argmax(1)"
        )
    if n_classes < 2 or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels must lie in 0..{n_classes - 1} (n_classes={n_classes}, at least 2), "
            f"got {labels.min()}..{labels.max()}"
        )
    return labels
