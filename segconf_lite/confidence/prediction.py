"""Direct prediction of a segmentation's quality, with an adversary that asks where it could be wrong.

Lennartz & Schultz, "Adversarial Perturbations Improve Generalization of Confidence Prediction in Medical
Image Segmentation" (MIDL 2025), and their follow-up of 2026, in which a Beta distribution is predicted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.adversarial_replay import Replay
from segconf_lite.confidence.adversary import Perturbed, perturb
from segconf_lite.confidence.beta_law import beta_interval, probability_below
from segconf_lite.confidence.predictor_inputs import FeatureReader
from segconf_lite.confidence.predictor_training import fit_quality_network
from segconf_lite.confidence.quality_heads import HEADS, BetaHead
from segconf_lite.models.batches import in_batches, joined, network_input
from segconf_lite.models.device import check_same_device, device_of
from segconf_lite.models.quality_network import QualityNetwork
from segconf_lite.models.splice import frozen, weights_fingerprint
from segconf_lite.models.store import code_fingerprint, load_or_fit
from segconf_lite.stress.corruptions import StrongCorruption

__all__ = ["BetaQualityPredictor", "QualityPredictor"]

# One name of each module that decides what a training yields; their sources are part of its address.
_TRAINED_BY = (
    fit_quality_network, Replay, perturb, BetaHead, FeatureReader, beta_interval, QualityNetwork,
    StrongCorruption,
)  # fmt: skip
THREE_LEVELS = ("bottleneck", "decoder.0", "penultimate")


class QualityPredictor:
    """Predicted mean quality of a case over its foreground classes, from the network's own activations.

    The reported quality is an output of its own, learned from the mean over the classes that are there; the
    reference has no say at test time. The defaults are what did best in chapter 4, `published` is the method
    of 2025.

    Args:
        adversarial: train with the adversary.
        target: ``"dice"`` or ``"surface_dice"``.
        tolerance_mm: of surface Dice.
        effect_size: wanted fall of the prediction under the adversary, in (0, 1).
        augmentation: of the training images: None, ``"mild"`` or ``"strong"``.
        modules: names of the modules that are read; the default needs our own `UNet`.
        probabilities: also read the class probabilities.
        training: further arguments of `fit_quality_network`.
        validation: passed on to it.
        network: a trained one with these modules, instead of training.
        batch_size: cases per pass.
    """

    n_passes = 1
    _head = "point"

    def __init__(
        self,
        *,
        adversarial: bool = True,
        target: str = "dice",
        tolerance_mm: float | None = None,
        effect_size: float = 0.1,
        augmentation: str | None = "strong",
        modules: Sequence[str] = THREE_LEVELS,
        probabilities: bool = True,
        training: Mapping[str, Any] | None = None,
        validation: Cohort | None = None,
        network: QualityNetwork | None = None,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.modules, self.probabilities = list(modules), probabilities
        self.training: dict[str, Any] = {
            "adversarial": adversarial, "target": target, "tolerance_mm": tolerance_mm,
            "effect_size": effect_size, "augmentation": augmentation, **(training or {}), "head": self._head,
        }  # fmt: skip
        self.validation, self.batch_size = validation, batch_size
        self.network, self._given = network, network
        self._read: FeatureReader | None = None

    @classmethod
    def published(cls, **options: Any) -> Self:
        """As in the paper: the penultimate activation alone, images as they are; `options` may change it."""
        return cls(**{"augmentation": None, "modules": ("penultimate",), "probabilities": False, **options})

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train the predictor (or read it from the store) on the source cohort. Returns the method itself.

        Raises:
            ValueError: If the network has no such module, or an argument of the training is refused.
        """
        self._read = FeatureReader(unet, self.modules, probabilities=self.probabilities)
        self.network = self._given
        if self.network is None:
            options = {**self.training, "modules": self.modules, "probabilities": self.probabilities}
            code = code_fingerprint(*(sys.modules[part.__module__] for part in _TRAINED_BY))
            config = {**options, "network": weights_fingerprint(unet), "code": code}
            if self.validation is not None:
                config["validation"] = self.validation.fingerprint()
            fit = functools.partial(
                fit_quality_network, unet, source_cohort, validation=self.validation, **options
            )
            found = load_or_fit("quality", config, source_cohort, fit)
            assert isinstance(found, QualityNetwork)
            self.network = found.to(device_of(unet))
        return self

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32, 1 minus the predicted mean quality, higher = trust less; not confined to [0, 1].

        Raises:
            ValueError: If it is not fitted, or the images have another size than in `fit`.
        """
        return 1 - self._qualities(images)[:, 0]

    def predicted_quality(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) in [0, 1], higher = better: the prediction, cut off at both ends."""
        return self._qualities(images)[:, 0].clamp(0, 1)

    def predicted_quality_per_class(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, C - 1) in [0, 1]; means nothing for a class that is neither there nor predicted."""
        return self._qualities(images)[:, 1:].clamp(0, 1)

    def perturbed(self, images: Tensor | np.ndarray, *, alpha: float, **options: Any) -> Perturbed:
        """The adversary's step against this predictor: images in which it would predict a lower quality.

        Args:
            images: (B, 1, H, W).
            alpha: size of the step, see `perturb`.
            options: of `perturb`.

        Returns:
            What `perturb` returns, on the CPU.
        """
        read, network = self._fitted()
        given = network_input(images, read.unet).requires_grad_()
        with frozen(read.unet), frozen(network), torch.enable_grad():
            told = HEADS[self._head].mean(network([level.float() for level in read(given)[0]]))[:, 0]
            gradient = torch.autograd.grad(told.sum(), given)[0]
        return perturb(given, gradient, alpha=alpha, **options)

    def _fitted(self) -> tuple[FeatureReader, QualityNetwork]:
        if self._read is None or self.network is None:
            raise ValueError(f"{type(self).__name__} is not fitted: call .fit(unet, source_cohort) first")
        check_same_device(self._read.unet, predictor=self.network)
        return self._read, self.network

    def _qualities(self, images: Tensor | np.ndarray) -> Tensor:
        return HEADS[self._head].mean(self._numbers(images))

    def _numbers(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, n) what the quality network gives, on the CPU."""
        read, network = self._fitted()
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"images must be non-empty (B, 1, H, W), got {tuple(images.shape)}")

        def numbers(batch: Tensor) -> Tensor:
            return network([level.float() for level in read(batch)[0]]).cpu()

        with frozen(read.unet), torch.no_grad():
            return joined(in_batches(numbers, images, read.unet, batch_size=self.batch_size))


class BetaQualityPredictor(QualityPredictor):
    """The same, predicting a Beta distribution of the quality: how good, and how sure of that.

    Differences from the follow-up of 2026: a small network, one training phase of the length of the point
    predictor's, bounded concentration, and an adversary that lowers the concentration where the published
    code raises it.
    """

    _head = "beta"

    def concentration(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) in (0.5, 500), of the mean quality; higher = surer of the prediction."""
        return self._law(images)[1]

    def interval(self, images: Tensor | np.ndarray, *, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends (B,) and (B,) of the central interval that holds the quality with probability `level`."""
        return beta_interval(*self._law(images), level=level)

    def probability_below(self, images: Tensor | np.ndarray, threshold: float = 0.8) -> Tensor:
        """(B,) in [0, 1], probability that the quality lies below the threshold; higher = trust less."""
        return probability_below(*self._law(images), threshold)

    def _law(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        numbers, head = self._numbers(images), BetaHead()
        return head.mean(numbers)[:, 0], head.concentration(numbers)[:, 0]
