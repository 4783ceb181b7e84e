"""Direct prediction of a segmentation's quality, with an adversary that asks where it could be wrong.

Lennartz & Schultz, "Adversarial Perturbations Improve Generalization of Confidence Prediction in Medical
Image Segmentation" (MIDL 2025).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.predictor_inputs import FeatureReader
from segconf_lite.confidence.predictor_training import fit_quality_network
from segconf_lite.models.quality_network import QualityNetwork
from segconf_lite.models.splice import frozen, weights_fingerprint
from segconf_lite.models.store import load_or_fit

__all__ = ["QualityPredictor"]


class QualityPredictor:
    """Predicted mean quality of a case over its foreground classes, from the network's own activations.

    The reported quality is an output of its own, learned from the mean over the classes that are there; the
    reference has no say at test time.

    Args:
        adversarial: train with the adversary; False is the plain predictor.
        target: ``"dice"`` or ``"surface_dice"``.
        tolerance_mm: of surface Dice.
        effect_size: wanted fall of the prediction under the adversary, in (0, 1).
        modules: names of the modules that are read; ``("penultimate",)`` as published.
        probabilities: also read the class probabilities.
        training: further arguments of `fit_quality_network`.
        validation: passed on to it.
        network: a trained one with these modules, instead of training.
        batch_size: cases per pass.
    """

    n_passes = 1

    def __init__(
        self,
        *,
        adversarial: bool = True,
        target: str = "dice",
        tolerance_mm: float | None = None,
        effect_size: float = 0.1,
        modules: Sequence[str] = ("penultimate",),
        probabilities: bool = False,
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
            "effect_size": effect_size, **(training or {}),
        }  # fmt: skip
        self.validation, self.batch_size = validation, batch_size
        self.network, self._given = network, network
        self._read: FeatureReader | None = None

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train the predictor (or read it from the store) on the source cohort. Returns the method itself.

        Raises:
            ValueError: If the network has no such module, or an argument of the training is refused.
        """
        self._read = FeatureReader(unet, self.modules, probabilities=self.probabilities)
        self.network = self._given
        if self.network is None:
            options = {**self.training, "modules": self.modules, "probabilities": self.probabilities}
            config = {**options, "network": weights_fingerprint(unet)}
            if self.validation is not None:
                config["validation"] = self.validation.fingerprint()
            fit = functools.partial(
                fit_quality_network, unet, source_cohort, validation=self.validation, **options
            )
            found = load_or_fit("quality", config, source_cohort, fit)
            assert isinstance(found, QualityNetwork)
            self.network = found.to(next(unet.parameters()).device)
        return self

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32, 1 minus the predicted mean quality, higher = trust less; not confined to [0, 1].

        Raises:
            ValueError: If it is not fitted, or the images have another size than in `fit`.
        """
        return 1 - self._outputs(images)[:, 0]

    def predicted_quality(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) in [0, 1], higher = better: the prediction, cut off at both ends."""
        return self._outputs(images)[:, 0].clamp(0, 1)

    def predicted_quality_per_class(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, C - 1) in [0, 1]; means nothing for a class that is neither there nor predicted."""
        return self._outputs(images)[:, 1:].clamp(0, 1)

    def _outputs(self, images: Tensor | np.ndarray) -> Tensor:
        read, network = self._read, self.network
        if read is None or network is None:
            raise ValueError(f"{type(self).__name__} is not fitted: call .fit(unet, source_cohort) first")
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"images must be non-empty (B, 1, H, W), got {tuple(images.shape)}")
        like, parts = next(read.unet.parameters()), []
        with frozen(read.unet), torch.no_grad():
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                given = torch.tensor(batch) if isinstance(batch, np.ndarray) else batch
                levels, _ = read(given.to(device=like.device, dtype=like.dtype))
                parts.append(network([level.float() for level in levels]).cpu())
        return torch.cat(parts)
