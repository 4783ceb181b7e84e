"""How far two borders lie apart: surface Dice, Hausdorff distance, mean surface distance.

The geometry is MONAI's: a border is the pixels of a class that have a pixel of another kind beside
them, and distances go from pixel centre to pixel centre, in millimetres. What is added here is one
value per case and class, and the policy for absent classes (P prediction, R reference):

| R       | P       | surface Dice, ``skip`` / ``one`` / ``zero`` | distances, ``skip`` / ``one`` / ``zero`` |
|---------|---------|---------------------------------------------|------------------------------------------|
| present | present | value / value / value                       | value / value / value                    |
| present | absent  | 0 / 0 / 0                                   | infinite / infinite / infinite           |
| absent  | present | 0 / 0 / 0                                   | infinite / infinite / infinite           |
| absent  | absent  | NaN / 1 / 0                                 | NaN / 0 / infinite                       |

Shape letters: N cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.quality import EMPTY_POLICIES, check_pair, mean_of_defined, one_hot_foreground

__all__ = [
    "hausdorff95_per_case",
    "hausdorff95_per_class",
    "mean_surface_distance_per_case",
    "mean_surface_distance_per_class",
    "surface_dice_per_case",
    "surface_dice_per_class",
]

_EMPTY_DISTANCES_MM = {"skip": np.nan, "one": 0.0, "zero": np.inf}


def surface_dice_per_class(
    prediction: Any, reference: Any, *, n_classes: int, tolerance_mm: float, spacing_mm: Any, empty: str
) -> np.ndarray:
    """Share of both borders that lies within the tolerance of the other (Nikolov et al., 2021).

    Args:
        prediction: (N, H, W) whole-number labels, 0 is background; numpy or torch.
        reference: (N, H, W) labels of the reference.
        n_classes: number of classes C, background included, >= 2.
        tolerance_mm: distance that still counts as right, >= 0 mm.
        spacing_mm: row and column spacing in mm, (2,) for all cases or (N, 2), > 0.
        empty: policy for classes absent on both sides, see the table of this module.

    Returns:
        (N, C - 1) float64 in [0, 1], higher is better; border length is counted in pixels, as in
        MONAI's default and the MIDL 2025 code.

    Raises:
        ValueError: If shapes differ, labels are out of range, the policy is unknown, or tolerance
            or spacing is not as above.
    """
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"tolerance_mm must be finite and >= 0 mm, got {tolerance_mm}")
    from monai.metrics import compute_surface_dice

    def measure(predicted: Any, expected: Any, spacing: list) -> Any:
        return compute_surface_dice(
            predicted, expected, [tolerance_mm] * (n_classes - 1), include_background=True, spacing=spacing
        )

    return _per_class(prediction, reference, n_classes, spacing_mm, empty, measure, EMPTY_POLICIES, 0.0)


def hausdorff95_per_class(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """(N, C - 1) 95th percentile of the border distances, in mm, the worse of both directions.

    Lower is better. Arguments and errors as in `surface_dice_per_class`. Huttenlocher et al. (1993), with a
    percentile in place of the maximum so that one stray pixel does not decide.
    """
    from monai.metrics import compute_hausdorff_distance

    def measure(predicted: Any, expected: Any, spacing: list) -> Any:
        return compute_hausdorff_distance(
            predicted, expected, include_background=True, percentile=95, spacing=spacing
        )

    return _per_class(
        prediction, reference, n_classes, spacing_mm, empty, measure, _EMPTY_DISTANCES_MM, np.inf
    )


def mean_surface_distance_per_class(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """(N, C - 1) mean distance from each border pixel, of both sides, to the other border, in mm.

    Lower is better. Arguments and errors as in `surface_dice_per_class`.
    """
    from monai.metrics import compute_average_surface_distance

    def measure(predicted: Any, expected: Any, spacing: list) -> Any:
        return compute_average_surface_distance(
            predicted, expected, include_background=True, symmetric=True, spacing=spacing
        )

    return _per_class(
        prediction, reference, n_classes, spacing_mm, empty, measure, _EMPTY_DISTANCES_MM, np.inf
    )


def surface_dice_per_case(
    prediction: Any, reference: Any, *, n_classes: int, tolerance_mm: float, spacing_mm: Any, empty: str
) -> np.ndarray:
    """(N,) mean of `surface_dice_per_class` over the foreground classes; NaN as in `dice_per_case`."""
    return mean_of_defined(
        surface_dice_per_class(
            prediction, reference, n_classes=n_classes, tolerance_mm=tolerance_mm,
            spacing_mm=spacing_mm, empty=empty,
        )
    )  # fmt: skip


def hausdorff95_per_case(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """(N,) mean of `hausdorff95_per_class` in mm; infinite if one class is missing on one side."""
    return mean_of_defined(
        hausdorff95_per_class(
            prediction, reference, n_classes=n_classes, spacing_mm=spacing_mm, empty=empty
        )
    )  # fmt: skip


def mean_surface_distance_per_case(
    prediction: Any, reference: Any, *, n_classes: int, spacing_mm: Any, empty: str
) -> np.ndarray:
    """(N,) mean of `mean_surface_distance_per_class` in mm; infinite as in `hausdorff95_per_case`."""
    return mean_of_defined(
        mean_surface_distance_per_class(
            prediction, reference, n_classes=n_classes, spacing_mm=spacing_mm, empty=empty
        )
    )  # fmt: skip


def _per_class(
    prediction: Any, reference: Any, n_classes: int, spacing_mm: Any, empty: str,
    measure: Callable[..., Any], when_both_absent: dict[str, float], when_one_absent: float,
) -> np.ndarray:  # fmt: skip
    predicted, expected = check_pair(prediction, reference, n_classes=n_classes, empty=empty)
    spacing = _spacing(spacing_mm, len(predicted))
    masks = [one_hot_foreground(x, n_classes) for x in (predicted, expected)]
    with warnings.catch_warnings():  # MONAI warns of each absent class, which the policy settles
        warnings.simplefilter("ignore")
        found = np.array(measure(*masks, spacing.tolist()), dtype=np.float64)
    present = [to_numpy(mask.flatten(2).any(dim=2)) for mask in masks]
    found[present[0] != present[1]] = when_one_absent  # MONAI's percentile of infinities is NaN
    found[~present[0] & ~present[1]] = when_both_absent[empty]
    return found


def _spacing(spacing_mm: Any, n_cases: int) -> np.ndarray:
    spacing = to_numpy(spacing_mm, dtype=np.float64)
    if spacing.shape not in ((2,), (n_cases, 2)) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(
            f"spacing_mm must be (row, column) in mm, > 0, of shape (2,) or ({n_cases}, 2), "
            f"got {spacing.tolist() if spacing.size <= 4 else spacing.shape}; a cohort has it as .spacing_mm"
        )
    return np.broadcast_to(spacing, (n_cases, 2))
