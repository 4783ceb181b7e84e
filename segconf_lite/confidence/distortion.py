"""Segmentation distortion: how far the segmentation moves if an activation is made ordinary.

Lennartz & Schultz, "Segmentation Distortion: Quantifying Segmentation Uncertainty under Domain Shift via the
Effects of Anomalous Activations" (UNSURE 2023), equation 4. An autoencoder that knows only the training
scanner's activations gives back what is ordinary in a foreign one. Where that changes the segmentation, the
anomaly matters. Shape letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence import pixels
from segconf_lite.confidence.entropy import PixelUncertainty
from segconf_lite.evaluation.quality import dice_per_case
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.autoencoder_training import fit_autoencoder
from segconf_lite.models.device import check_same_device
from segconf_lite.models.splice import Splice, frozen, splice
from segconf_lite.models.store import fitted

__all__ = ["SegmentationDistortion", "distortion_columns"]


class SegmentationDistortion(PixelUncertainty):
    """Mean over pixels and classes of [P(c | U(I)) - P(c | U with r(x))]², equation 4 as it stands.

    Our `UNet` runs its encoder once and its decoder twice; any other model runs twice. `fit` learns the
    autoencoder r from the source cohort.

    Args:
        module: name of the module whose output x is replaced; ``"bottleneck"`` of our `UNet`.
        autoencoder: a fitted one of that module; None fits one in `fit`, through the store.
        training: arguments of `fit_autoencoder` for that.
        validation: passed on to `fit_autoencoder`.
        region: ``"image"`` is equation 4; ``"foreground"`` takes the mean over the pixels that are
            foreground in the unaltered segmentation, so that large structures do not count more.
        band_px, batch_size: see `PixelUncertainty`.
    """

    n_passes = 2

    def __init__(
        self, *, module: str = "bottleneck", autoencoder: ActivationAutoencoder | None = None,
        training: Mapping[str, Any] | None = None, validation: Cohort | None = None,
        region: str = "image", band_px: int = 2, batch_size: int = 32,
    ) -> None:  # fmt: skip
        super().__init__(aggregation="mean", region=region, band_px=band_px, batch_size=batch_size)
        self.module, self.autoencoder, self._given = module, autoencoder, autoencoder
        self.training, self.validation = dict(training or {}), validation
        self._opened: Splice | None = None

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Learn the autoencoder, if none was given, from the source cohort. Returns the method itself.

        Raises:
            ValueError: If the network has no such module, or its output is not (B, F, h, w).
        """
        self._opened = splice(unet, self.module)
        self.autoencoder = self._given
        if self.autoencoder is None:
            self.autoencoder = fitted(
                fit_autoencoder,
                unet,
                source_cohort,
                validation=self.validation,
                module=self.module,
                **self.training,
            )
        return super().fit(unet, source_cohort)

    def both_answers(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """The network's probabilities, and those with the activation replaced; (B, C, H, W) each.

        Raises:
            ValueError: If it is not fitted, or the activations have another shape than in `fit`.
        """
        pairs = list(self._pairs(images))
        plain, altered = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return plain, altered

    def uncertainty_per_class(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, C) mean over pixels of the squared difference, per class; its mean over C is equation 4."""
        return torch.cat([(p - q).square().mean(dim=(2, 3)) for p, q in self._pairs(images)])

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        for plain, altered in self._pairs(images):
            yield (plain - altered).square().mean(dim=1), plain.max(dim=1).indices

    def _pairs(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        unet, opened, coder = self.unet, self._opened, self.autoencoder
        assert opened is not None  # fit sets both before the network
        assert coder is not None
        check_same_device(unet, autoencoder=coder)
        with frozen(unet), torch.no_grad():
            for _, batch in self._batches(images):
                logits, activation, rest = opened.read(batch)
                altered = opened.logits(coder(activation), rest)
                yield logits.float().softmax(dim=1).cpu(), altered.float().softmax(dim=1).cpu()


def distortion_columns(plain: Tensor, altered: Tensor) -> dict[str, np.ndarray]:
    """Three numbers per case out of one and the same pair of answers; all up = worse.

    Args:
        plain, altered: (B, C, H, W) probabilities, see `SegmentationDistortion.both_answers`.

    Returns:
        ``"distortion"``, equation 4; ``"distortion, foreground"``, its mean over the predicted foreground
        only; ``"distortion, Dice"``, 1 minus the mean Dice of the two segmentations, where a class in
        neither counts as agreement. The last two do not grow with the size of what is shown.

    Raises:
        ValueError: If the shapes differ.
    """
    if plain.shape != altered.shape or plain.ndim != 4:
        raise ValueError(
            f"expected two equal shapes (B, C, H, W), got {tuple(plain.shape)}, {tuple(altered.shape)}"
        )
    maps = (plain - altered).square().mean(dim=1)
    before, after = (answer.max(dim=1).indices for answer in (plain, altered))
    means = {
        region: to_numpy(pixels.aggregate(maps, before, aggregation="mean", region=region, band_px=1))
        for region in ("image", "foreground")
    }
    dice = dice_per_case(after, before, n_classes=plain.shape[1], empty="one")
    return {
        "distortion": means["image"],
        "distortion, foreground": means["foreground"],
        "distortion, Dice": 1 - dice,
    }
