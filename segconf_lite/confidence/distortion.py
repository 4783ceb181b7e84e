"""Segmentation distortion: change of the segmentation when an activation is replaced by its reconstruction.

Lennartz & Schultz, "Segmentation Distortion: Quantifying Segmentation Uncertainty under Domain Shift via the
Effects of Anomalous Activations" (UNSURE 2023), equation 4. An autoencoder that was trained on the training
scanner's activations reconstructs what is normal in one of an unseen scanner. Where that changes the
segmentation, the anomaly matters. Shape letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence import pixels
from segconf_lite.confidence.pixels import PixelUncertainty, check_fit_arguments
from segconf_lite.evaluation.quality import dice_per_case
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.autoencoder_training import fit_autoencoder
from segconf_lite.models.batches import as_tensor, checked_logits, in_batches
from segconf_lite.models.device import check_same_device, device_of, frozen
from segconf_lite.models.splice import Splice, splice
from segconf_lite.models.store import fitted
from segconf_lite.models.training import Training, as_settings


class SegmentationDistortion(PixelUncertainty):
    r"""Mean squared change of the probabilities when an activation is reconstructed, equation 4 of the paper.

    .. math:: u = \frac{1}{C} \sum_c [P(c \mid U(I)) - P(c \mid U \circ r(x))]^2

    Here x is the activation of the image I in the network U, and r the autoencoder, which `fit` trains on the
    source cohort. Our `UNet` runs its encoder once and its decoder twice; any other model runs twice.

    Args:
        module: Name of the module whose output x is replaced; ``"bottleneck"`` of our `UNet`.
        autoencoder: A fitted autoencoder of that module; None fits one in `fit`, through the store.
        training: Arguments of `fit_autoencoder` for that.
        validation: Validation cohort for `fit_autoencoder`.
        region: ``"image"`` is equation 4; ``"foreground"`` takes the mean over the pixels that are
            foreground in the unaltered segmentation, so that large structures do not count more.
        band_px: Half-width of the boundary band in pixels.
        batch_size: Cases per pass; it bounds the memory.

    Raises:
        ValueError: If an argument is not among its choices.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> unet = UNet(n_classes=4, channels=(4, 8))
        >>> coder = ActivationAutoencoder(shape=(8, 8, 8), code=4, width=4, depth=1)
        >>> SegmentationDistortion(autoencoder=coder).fit(unet, cohort).uncertainty(cohort.images).shape
        torch.Size([2])
    """

    n_passes = 2

    def __init__(
        self,
        *,
        module: str = "bottleneck",
        autoencoder: ActivationAutoencoder | None = None,
        training: Training | Mapping[str, Any] | None = None,
        validation: Cohort | None = None,
        region: str = "image",
        band_px: int = 2,
        batch_size: int = 32,
    ) -> None:
        super().__init__(aggregation="mean", region=region, band_px=band_px, batch_size=batch_size)
        if not isinstance(module, str):
            raise check.refuse("module", "the name of a module", repr(module), "e.g. 'bottleneck'")
        if autoencoder is not None:
            device_of(autoencoder)  # refuses what is no module
        self.module, self.autoencoder, self._passed = module, autoencoder, autoencoder
        self.training, self.validation = as_settings(training), validation
        self._opened: Splice | None = None

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train the autoencoder on the source cohort, unless one was passed. Returns the method itself.

        Args:
            unet: Network from images (B, channels, H, W) to logits (B, C, H, W).
            source_cohort: The cases that the network was trained on.

        Raises:
            ValueError: If the network has no such module, or its output is not (B, F, h, w).
        """
        check_fit_arguments(unet, source_cohort)
        self._opened = splice(unet, self.module)
        self.autoencoder = self._passed
        if self.autoencoder is None:
            options: dict[str, Any] = {"validation": self.validation, "module": self.module, **self.training}
            self.autoencoder = fitted(fit_autoencoder, unet, source_cohort, **options)
        return super().fit(unet, source_cohort)

    def both_probabilities(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """Class probabilities without and with the activation replaced; (B, C, H, W) each.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If it is not fitted, an image or a logit is not finite, or the activations have
                another shape than in `fit`.
        """
        plain, altered = zip(*self._pairs(images), strict=True)
        return torch.cat(plain), torch.cat(altered)

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
        check.image_batch(images, channels=None)

        def pair(batch: Tensor) -> tuple[Tensor, Tensor]:
            logits, activation, rest = opened.read(batch)
            reconstruction = coder(activation.float())
            if reconstruction.shape != activation.shape:
                expected, got = tuple(activation.shape), tuple(reconstruction.shape)
                raise check.refuse("the autoencoder's output", f"{expected}, as the activation", got)
            altered = opened.logits(reconstruction, rest)
            both = checked_logits(logits, batch, unet), checked_logits(altered, batch)
            plain, changed = (part.float().softmax(dim=1).cpu() for part in both)
            return plain, changed

        with frozen(unet), frozen(coder), torch.no_grad():
            yield from in_batches(pair, images, unet, batch_size=self.batch_size)


def distortion_columns(plain: Tensor, altered: Tensor) -> dict[str, np.ndarray]:
    """Three uncertainties per case from one and the same pair of predictions; all up = worse.

    Args:
        plain: Class probabilities (B, C, H, W), see `SegmentationDistortion.both_probabilities`.
        altered: Class probabilities (B, C, H, W) with the activation replaced.

    Returns:
        ``"distortion"``, equation 4; ``"distortion, foreground"``, its mean over the predicted foreground
        only; ``"distortion, Dice"``, 1 minus the mean Dice of the two segmentations, where a class in
        neither counts as agreement. The last two do not grow with the size of what is shown.

    Raises:
        ValueError: If they are no probabilities, or the shapes differ.

    Example:
        >>> plain = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
        >>> {name: float(value[0]) for name, value in distortion_columns(plain, plain.flip(1)).items()}
        {'distortion': 1.0, 'distortion, foreground': 1.0, 'distortion, Dice': 1.0}
    """
    before, after = (as_tensor(n, p, wide=True).cpu() for n, p in (("plain", plain), ("altered", altered)))
    for name, values in (("plain", before), ("altered", after)):
        check.array(name, values, "B C H W")
        check.probabilities(values, name, tolerance=1e-2)
    if before.shape != after.shape:
        raise check.refuse("plain and altered", "of one shape", f"{before.shape} and {after.shape}")
    maps, labels = (before - after).square().mean(dim=1), before.max(dim=1).indices
    means = {
        region: to_numpy(pixels.aggregate(maps, labels, aggregation="mean", region=region, band_px=1))
        for region in ("image", "foreground")
    }
    dice = dice_per_case(after.max(dim=1).indices, labels, n_classes=before.shape[1], empty="one")
    return {
        "distortion": means["image"],
        "distortion, foreground": means["foreground"],
        "distortion, Dice": 1 - dice,
    }
