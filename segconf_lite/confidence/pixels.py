"""From class probabilities to uncertainty per pixel, and from pixels to one number per case.

Arguments may lie on any device; results are on the CPU. Shape letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["aggregate", "check_aggregation", "entropy", "margin_uncertainty", "max_probability_uncertainty"]

AGGREGATIONS = ("mean", "l2")
REGIONS = ("image", "foreground", "boundary")


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy over the classes, divided by its maximum, log C.

    Args:
        probabilities: (..., C, H, W), summing to 1 over C.

    Returns:
        (..., H, W) in [0, 1]; 0 = one class is certain, 1 = all are equally likely.
    """
    probabilities = probabilities.cpu()
    # xlogy has 0 log 0 = 0, as the entropy wants it; a plain product gives NaN there.
    return -torch.xlogy(probabilities, probabilities).sum(dim=-3) / math.log(probabilities.shape[-3])


def max_probability_uncertainty(probabilities: Tensor) -> Tensor:
    """1 minus the winning probability (Hendrycks & Gimpel, ICLR 2017); (..., H, W) in [0, 1 - 1/C]."""
    return 1 - probabilities.cpu().amax(dim=-3)


def margin_uncertainty(probabilities: Tensor) -> Tensor:
    """1 minus the lead of the winning class over the second; (..., H, W) in [0, 1], 1 = a tie."""
    best_two = probabilities.cpu().topk(2, dim=-3).values
    return 1 - (best_two.select(-3, 0) - best_two.select(-3, 1))


def aggregate(
    uncertainty_map: Tensor, labels: Tensor, *, aggregation: str, region: str, band_px: int
) -> Tensor:
    """One number per case from a map. Papers differ in this step, so each part has a name.

    Args:
        uncertainty_map: (B, H, W) in [0, 1], higher = worse.
        labels: (B, H, W) the predicted segmentation, 0 is background; it defines the regions.
        aggregation: ``"mean"`` over the pixels of the region, or ``"l2"``, the root of the sum of
            squares, which grows with the size of the uncertain area.
        region: ``"image"``, the predicted ``"foreground"``, or the ``"boundary"``: pixels with a
            pixel of another predicted class at most `band_px` rows and columns away.
        band_px: half-width of the boundary band in pixels, >= 1.

    Returns:
        (B,). A case in which the region is empty, since no foreground is predicted, gets the highest
        value possible (1, or the root of H * W): the slices of our cohorts show what is asked for,
        so to find nothing is to fail. Where empty answers can be right, use the whole image.
    """
    uncertainty_map, labels = uncertainty_map.cpu(), labels.cpu()
    inside = _region(labels, region, band_px)
    n_inside = inside.sum(dim=(1, 2))
    values = torch.where(inside, uncertainty_map, 0)
    if aggregation == "l2":
        return torch.where(n_inside > 0, values.square().sum(dim=(1, 2)).sqrt(), math.sqrt(inside[0].numel()))
    return torch.where(n_inside > 0, values.sum(dim=(1, 2)) / n_inside.clamp(min=1), 1.0)


def check_aggregation(aggregation: str, region: str, band_px: int) -> None:
    """Refuse what `aggregate` does not know.

    Raises:
        ValueError: Naming the argument and its choices.
    """
    for name, value, choices in (
        ("aggregation", aggregation, AGGREGATIONS),
        ("region", region, REGIONS),
    ):
        if value not in choices:
            raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    if band_px < 1:
        raise ValueError(f"band_px must be >= 1 pixel, got {band_px}")


def _region(labels: Tensor, region: str, band_px: int) -> Tensor:
    if region == "image":
        return torch.ones_like(labels, dtype=torch.bool)
    if region == "foreground":
        return labels > 0
    # Lowest and highest label of the window differ exactly where another class is in reach.
    as_image = labels[:, None].float()
    return (_window_maximum(as_image, band_px) != -_window_maximum(-as_image, band_px))[:, 0]


def _window_maximum(values: Tensor, reach: int) -> Tensor:
    return torch.nn.functional.max_pool2d(values, 2 * reach + 1, stride=1, padding=reach)
