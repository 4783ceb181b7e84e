"""What the network's own probabilities say, in one pass: entropy, winning probability, margin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence import pixels
from segconf_lite.models.batches import joined
from segconf_lite.models.unet import predict_probabilities

__all__ = ["MaximumProbability", "PixelUncertainty", "PredictiveEntropy", "ProbabilityMargin"]


class PixelUncertainty:
    """A map of uncertainty, and its aggregation to one number per case.

    Args:
        aggregation: ``"mean"`` or ``"l2"``, see `segconf_lite.confidence.pixels.aggregate`.
        region: ``"image"``, ``"foreground"`` (as predicted) or ``"boundary"``.
        band_px: half-width of the boundary band in pixels.
        batch_size: cases per pass; bounds the memory.

    Raises:
        ValueError: If an argument is not among its choices.
    """

    n_passes = 1

    def __init__(
        self, *, aggregation: str = "mean", region: str = "image", band_px: int = 2, batch_size: int = 64
    ) -> None:
        pixels.check_aggregation(aggregation, region, band_px)
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.aggregation, self.region, self.band_px = aggregation, region, band_px
        self.batch_size = batch_size
        self._unet: nn.Module | None = None

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Keep the network; nothing is learned from the cohort. Returns the method itself."""
        self._unet = unet
        return self

    @property
    def unet(self) -> nn.Module:
        """The network in question.

        Raises:
            ValueError: If the method is not fitted yet.
        """
        if self._unet is None:
            raise ValueError(f"{type(self).__name__} is not fitted: call .fit(unet, source_cohort) first")
        return self._unet

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32, higher = trust less.

        Args:
            images: (B, 1, H, W), numpy or torch.
        """
        return joined(
            pixels.aggregate(
                values, labels, aggregation=self.aggregation, region=self.region, band_px=self.band_px
            )
            for values, labels in self._maps(images)
        )

    def uncertainty_map(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, H, W) float32, higher = worse; ``images`` as in `uncertainty`."""
        return joined(values for values, _ in self._maps(images))

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Uncertainty and predicted labels, both (b, H, W), batch by batch."""
        raise NotImplementedError

    def _batches(self, images: Tensor | np.ndarray) -> Iterator[tuple[int, Tensor | np.ndarray]]:
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"images must be non-empty (B, 1, H, W), got {tuple(images.shape)}")
        for start in range(0, len(images), self.batch_size):
            yield start, images[start : start + self.batch_size]


class _OnePass(PixelUncertainty):
    """The uncertainty of each pixel's probabilities, by the measure of the subclass."""

    _measure: Callable[[Tensor], Tensor]

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        for _, batch in self._batches(images):
            probabilities = predict_probabilities(self.unet, batch, batch_size=self.batch_size)
            yield type(self)._measure(probabilities), probabilities.argmax(dim=1)


class PredictiveEntropy(_OnePass):
    """Entropy of the class probabilities, in [0, 1] per pixel; arguments of `PixelUncertainty`.

    The published aggregations differ: a mean over all pixels, an L2 norm, a mean over the
    predicted foreground. The result depends on the choice, so it is named and never guessed.
    """

    _measure = staticmethod(pixels.entropy)


class MaximumProbability(_OnePass):
    """1 minus the winning probability, per pixel; arguments of `PixelUncertainty`."""

    _measure = staticmethod(pixels.max_probability_uncertainty)


class ProbabilityMargin(_OnePass):
    """1 minus the lead of the winner over the second, per pixel; arguments of `PixelUncertainty`."""

    _measure = staticmethod(pixels.margin_uncertainty)
