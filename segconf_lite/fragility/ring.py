"""Masks grown and shrunk by a few pixels, and the map that this alone gives.

QUAM-SM searches for models that answer with the predicted mask dilated or eroded by 3 px. Whatever a model
does, such targets draw a ring around the prediction; `geometry_ring` is that ring without any model.
Labels may lie on any device; results are on the CPU. Shape letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segconf_lite.confidence import pixels

__all__ = ["dilate", "erode", "geometry_ring"]


def dilate(labels: Tensor, reach_px: int = 3) -> Tensor:
    """Every foreground class grows into the background around it.

    A 3 x 3 square, `reach_px` times, as published for one class. A background pixel takes the class that
    reaches it first; of two that come at once, the higher label. Borders between classes stay.

    Args:
        labels: (B, H, W) int64; 0 is background.
        reach_px: in pixels (rows and columns, so diagonals count one), >= 1.

    Returns:
        (B, H, W) int64. Without foreground, the labels as they are.

    Raises:
        ValueError: If labels are not (B, H, W), or the reach is below 1.
    """
    _check(labels, reach_px)
    labels = labels.cpu()
    for _ in range(reach_px):
        reached = functional.max_pool2d(labels[:, None].float(), 3, stride=1, padding=1)[:, 0].long()
        labels = torch.where(labels == 0, reached, labels)
    return labels


def erode(labels: Tensor, reach_px: int = 3) -> Tensor:
    """Foreground within `reach_px` of the background becomes background.

    The union of the classes is eroded, so borders between classes stay. What lies beyond the image counts as
    background, as published: foreground at the image's edge shrinks from there too. Arguments, result and
    errors as in `dilate`.
    """
    _check(labels, reach_px)
    labels = labels.cpu()
    background = functional.pad((labels == 0).float(), (reach_px,) * 4, value=1.0)
    near = functional.max_pool2d(background[:, None], 2 * reach_px + 1, stride=1)[:, 0] > 0
    return labels.masked_fill(near, 0)


def geometry_ring(labels: Tensor, *, n_classes: int, reach_px: int = 3) -> Tensor:
    """What a map owes to its targets alone: the entropy of three masks, dilated, eroded and as predicted.

    Args:
        labels: (B, H, W) int64 predicted classes in 0 .. n_classes - 1; 0 is background.
        n_classes: C, background included; >= 2.
        reach_px: as in `dilate`.

    Returns:
        (B, H, W) float32, higher = more uncertain, divided by log C as in `pixels.entropy`. Of three masks
        two always agree, so it is .637 / log C in the ring and 0 elsewhere.

    Raises:
        ValueError: If a label is out of range, or as in `dilate`.
    """
    _check(labels, reach_px)
    if n_classes < 2 or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels must lie in 0 .. n_classes - 1 with n_classes >= 2, got {int(labels.min())} .. "
            f"{int(labels.max())} with n_classes={n_classes}; count the background too"
        )
    labels = labels.cpu()
    masks = torch.stack([dilate(labels, reach_px), erode(labels, reach_px), labels])
    votes = functional.one_hot(masks, n_classes).float().mean(dim=0)  # (B, H, W, C)
    return pixels.entropy(votes.movedim(-1, 1))


def _check(labels: Tensor, reach_px: int) -> None:
    if labels.ndim != 3 or labels.numel() == 0:
        raise ValueError(f"labels must be non-empty (B, H, W), got {tuple(labels.shape)}; add labels[None]?")
    if reach_px < 1:
        raise ValueError(f"reach_px must be >= 1 pixel, got {reach_px}")
