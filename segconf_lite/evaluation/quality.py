"""How good a segmentation is, case by case, with an explicit rule for absent classes.

| reference | prediction | ``empty="skip"`` | ``"one"`` | ``"zero"`` |
|-----------|------------|------------------|-----------|------------|
| present   | present    | Dice             | Dice      | Dice       |
| present   | absent     | 0                | 0         | 0          |
| absent    | present    | 0                | 0         | 0          |
| absent    | absent     | left out (NaN)   | 1         | 0          |

Shape letters: N cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["EMPTY_POLICIES", "dice_per_case", "dice_per_class", "mean_of_defined"]

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
    import torch
    from monai.metrics import compute_dice

    if empty not in EMPTY_POLICIES:
        raise ValueError(f"empty must be one of {list(EMPTY_POLICIES)}, got {empty!r}")
    predicted, expected = (_labels(x, n_classes) for x in (prediction, reference))
    if predicted.shape != expected.shape:
        raise ValueError(
            f"prediction and reference must share one shape (N, H, W), got {predicted.shape} "
            f"and {expected.shape}"
        )
    one_hot = [
        torch.from_numpy(x[:, None] == np.arange(1, n_classes)[:, None, None]) for x in (predicted, expected)
    ]
    dice = compute_dice(*one_hot, include_background=True, ignore_empty=False).numpy().astype(np.float64)
    both_absent = ~(one_hot[0] | one_hot[1]).flatten(2).any(dim=2).numpy()
    dice[both_absent] = EMPTY_POLICIES[empty]
    return dice


def mean_of_defined(per_class: np.ndarray) -> np.ndarray:
    """(N,) mean over the classes of (N, C - 1) values, NaN left out; NaN where all are."""
    defined = np.isfinite(per_class)
    n_defined = defined.sum(axis=1)
    total = np.where(defined, per_class, 0).sum(axis=1)
    return np.where(n_defined > 0, total / np.maximum(n_defined, 1), np.nan)


def _labels(values: Any, n_classes: int) -> np.ndarray:
    labels = np.asarray(values)
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
