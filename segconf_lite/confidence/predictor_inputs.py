"""What a quality predictor reads, what it is to learn, and how far off it is.

Shape letters: B cases, C classes, F features, H rows, W columns, K outputs (the mean quality, then one per
foreground class).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.evaluation.quality import dice_per_class, surface_dice_per_class
from segconf_lite.models.taps import Taps

__all__ = ["TARGETS", "FeatureReader", "masked_loss", "quality_targets"]

TARGETS = ("dice", "surface_dice")


class FeatureReader:
    """What a quality network reads of a segmentation network, in one pass of it.

    Args:
        unet: maps (B, 1, H, W) to logits (B, C, H, W).
        modules: names of modules whose (B, F, h, w) outputs are read.
        probabilities: also read the class probabilities.

    Raises:
        ValueError: If there is nothing to read, or no module of that name.
    """

    def __init__(self, unet: nn.Module, modules: Sequence[str], *, probabilities: bool) -> None:
        if not modules and not probabilities:
            raise ValueError("expected at least one module, or probabilities=True, got neither")
        self.unet, self.probabilities = unet, probabilities
        self.places = {f"level{k}": name for k, name in enumerate(modules)}
        if self.places:
            Taps(unet, **self.places)  # are there such modules?

    def __call__(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The activations, and the logits; gradients reach the images if they ask for them."""
        if not self.places:
            logits = self.unet(images.clone())  # a network may work in place on its input
            return [logits.softmax(dim=1)], logits
        with Taps(self.unet, **self.places) as taps:
            logits = self.unet(images.clone())
            found = [taps[name] for name in self.places]
        return ([*found, logits.softmax(dim=1)] if self.probabilities else found), logits


def quality_targets(
    labels: np.ndarray, reference: np.ndarray, *, n_classes: int, target: str, tolerance_mm: float | None,
    spacing_mm: np.ndarray,
) -> Tensor:  # fmt: skip
    """(B, K) float32 qualities to learn: their mean first, then one per foreground class; NaN where
    undefined.

    A class absent in both is undefined; one that is absent on one side has quality 0 (policy ``"skip"``).
    """
    options: dict[str, Any] = {"n_classes": n_classes, "empty": "skip"}
    if target == "dice" or tolerance_mm is None:
        per_class = dice_per_class(labels, reference, **options)
    else:
        per_class = surface_dice_per_class(
            labels, reference, tolerance_mm=tolerance_mm, spacing_mm=spacing_mm, **options
        )
    defined = np.isfinite(per_class)
    total = np.where(defined, per_class, 0).sum(axis=1)
    mean = np.where(defined.any(axis=1), total / np.maximum(defined.sum(axis=1), 1), np.nan)
    return torch.from_numpy(np.column_stack([mean, per_class]).astype(np.float32))


def masked_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error over the defined targets; 0 if there is none."""
    defined = wanted.isfinite()
    error = torch.where(defined, predicted - wanted.nan_to_num(), 0.0)
    return error.square().sum() / defined.sum().clamp(min=1)
