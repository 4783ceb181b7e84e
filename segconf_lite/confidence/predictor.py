"""Direct prediction of a segmentation's quality, trained with an adversary that asks where it could be wrong.

Lennartz & Schultz, "Adversarial Perturbations Improve Generalization of Confidence Prediction in Medical
Image Segmentation" (MIDL 2025), and their work of 2026, in which a Beta distribution is predicted.

Shape letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.adversary import Adversary, Limits, Perturbed, perturb
from segconf_lite.confidence.heads import HEADS, BetaHead, beta_interval, probability_below
from segconf_lite.confidence.pixels import check_fit_arguments
from segconf_lite.confidence.predictor_training import TARGETS, FeatureReader, fit_quality_network
from segconf_lite.confidence.quality_network import QualityNetwork
from segconf_lite.models.batches import in_batches, joined, network_input
from segconf_lite.models.device import check_same_device, frozen
from segconf_lite.models.explained import explained
from segconf_lite.models.store import fitted
from segconf_lite.models.training import Training
from segconf_lite.saving import Savable

THREE_LEVELS = ("bottleneck", "decoder.0", "penultimate")
PUBLISHED_TRAINING = Training(steps=200, learning_rate=2e-3, weight_decay=1e-3)
TRAINING = PUBLISHED_TRAINING.changed(augmentation="strong")


class QualityPredictor(Savable):
    """Predicted mean quality of a case over its foreground classes, from the network's own activations.

    The reported quality is an output of its own, learned from the mean over the classes that are there; the
    reference has no say at test time. The defaults are what did best in chapter 4, `published` has the inputs
    of the method of 2025.

    Args:
        adversary: Settings of the adversary; None trains without one.
        target: Quality that is predicted, ``"dice"`` or ``"surface_dice"``.
        tolerance_mm: Tolerance of surface Dice in millimetres.
        modules: Names of the modules that are read; the default needs our own `UNet`.
        probabilities: Whether the class probabilities are read, too.
        training: Steps, learning rate, augmentation, seed and so on.
        validation: Cases that choose the state to keep; None takes 15 % of the subjects off the source
            cohort.
        network: A trained quality network with these modules, instead of training.
        batch_size: Cases per pass in prediction, >= 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models.unet import UNet
        >>> cohort = phantom.cohort(12, size=16)
        >>> unet = UNet(n_classes=len(cohort.class_names), channels=(4, 8))
        >>> training = Training(steps=2, batch_size=8)
        >>> method = QualityPredictor(training=training, modules=["bottleneck"]).fit(unet, cohort)
        >>> method.predicted_quality(cohort.images[:3]).shape
        torch.Size([3])
    """

    n_passes = 1
    head = "point"

    def __init__(
        self,
        *,
        adversary: Adversary | None = Adversary(),  # noqa: B008  (frozen)
        target: str = "dice",
        tolerance_mm: float | None = None,
        modules: Sequence[str] = THREE_LEVELS,
        probabilities: bool = True,
        training: Training = TRAINING,
        validation: Cohort | None = None,
        network: QualityNetwork | None = None,
        batch_size: int = 64,
    ) -> None:
        if not (adversary is None or isinstance(adversary, Adversary)):
            raise check.refuse("adversary", "an Adversary or None", type(adversary).__name__)
        if not isinstance(training, Training):
            got, fix = type(training).__name__, "e.g. Training(steps=200, learning_rate=2e-3)"
            raise check.refuse("training", "a Training", got, fix)
        if validation is not None:
            check.instance("validation", validation, Cohort)
        if network is not None:
            check.instance("network", network, QualityNetwork)
        self.adversary, self.training = adversary, training
        self.target, self.tolerance_mm = check.one_of("target", target, TARGETS), tolerance_mm
        self.modules = check.names("modules", modules).tolist()
        self.probabilities = check.one_of("probabilities", probabilities, (True, False))
        self.validation, self.batch_size = validation, check.integer("batch_size", batch_size, low=1)
        self.network, self._trained = network, network
        self._read: FeatureReader | None = None

    @classmethod
    def published(
        cls,
        *,
        adversary: Adversary | None = Adversary(),  # noqa: B008  (frozen)
        training: Training = PUBLISHED_TRAINING,
        validation: Cohort | None = None,
    ) -> Self:
        """The paper's input, the penultimate activation alone, without augmentation.

        The paper's code augments the images in both arms, with the adversary and without (rotation, scaling,
        blur, brightness, contrast, gamma, mirroring): pass ``training=Training(augmentation=...)`` for that.

        Args:
            adversary: Settings of the adversary; None trains without one.
            training: Steps, learning rate, seed and so on.
            validation: Cases that choose the state to keep.
        """
        return cls(
            adversary=adversary,
            training=training,
            validation=validation,
            modules=("penultimate",),
            probabilities=False,
        )

    @property
    def unet(self) -> nn.Module:
        """The evaluated network.

        Raises:
            ValueError: If the method is not fitted to a network yet.
        """
        return self._fitted()[0].unet

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train the predictor (or read it from the store) on the source cohort.

        Returns:
            The method itself.

        Raises:
            ValueError: If the network has no such module, or an argument of the training is refused.
        """
        check_fit_arguments(unet, source_cohort)
        self._read = FeatureReader(unet, self.modules, probabilities=self.probabilities)
        self.network = self._trained
        if self.network is None:
            self.network = fitted(
                fit_quality_network,
                unet,
                source_cohort,
                modules=self.modules,
                probabilities=self.probabilities,
                target=self.target,
                tolerance_mm=self.tolerance_mm,
                validation=self.validation,
                adversary=self.adversary,
                head=self.head,
                training=self.training,
            )
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

    def perturbed(
        self,
        images: Tensor | np.ndarray,
        *,
        alpha: float,
        unit: str = "quality",
        **limits: Unpack[Limits],
    ) -> Perturbed:
        """The adversary's step against this predictor: images in which it would predict a lower quality.

        Args:
            images: (B, channels, H, W).
            alpha: Size of the step, see `perturb`.
            unit: ``"quality"`` or ``"length"``.
            **limits: `bound`, `bound_norm` and `value_range`, see `segconf_lite.confidence.adversary.Limits`.

        Returns:
            What `perturb` returns, on the CPU.
        """
        read, network = self._fitted()
        inputs = network_input(check.image_batch(images, channels=None), read.unet).requires_grad_()
        with frozen(read.unet), frozen(network), torch.enable_grad(), explained(read.unet, inputs.detach()):
            predicted = HEADS[self.head].mean(network([level.float() for level in read(inputs)[0]]))[:, 0]
            gradient = torch.autograd.grad(predicted.sum(), inputs)[0]
        return perturb(inputs, gradient, alpha=alpha, unit=unit, **limits)

    def _fitted(self) -> tuple[FeatureReader, QualityNetwork]:
        read = check.fitted(self, self._read)
        network = check.fitted(self, self.network)
        check_same_device(read.unet, predictor=network)
        return read, network

    def _qualities(self, images: Tensor | np.ndarray) -> Tensor:
        return HEADS[self.head].mean(self._numbers(images))

    def _numbers(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, n) what the quality network gives, on the CPU."""
        read, network = self._fitted()
        check.image_batch(images, channels=None)

        def numbers(batch: Tensor) -> Tensor:
            return network([level.float() for level in read(batch)[0]]).cpu()

        with frozen(read.unet), frozen(network), torch.no_grad():
            return joined(in_batches(numbers, images, read.unet, batch_size=self.batch_size))


class BetaQualityPredictor(QualityPredictor):
    """A quality predictor that predicts a Beta distribution: how good, and how sure of that.

    Differences from the published code of 2026:

    - a small network, trained for as many steps as the point predictor;
    - a concentration in (0.5, 500), without a prior; there it has no upper bound, and a log-normal prior;
    - a damping of the likelihood that falls linearly over the first 70 % of the training; there it stays for
      70 of 400 epochs, and then falls over 20;
    - an adversary that acts in full after a warm-up of 20 steps; there it is absent for 40 epochs, and grows
      for 30;
    - a step in units of quality, and a controller on the predicted fall; there it is a step of a given
      length, and a controller on the true fall;
    - a second adversary that lowers the concentration; there it raises it.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models.unet import UNet
        >>> cohort = phantom.cohort(12, size=16)
        >>> unet = UNet(n_classes=len(cohort.class_names), channels=(4, 8))
        >>> training = Training(steps=2, batch_size=8)
        >>> method = BetaQualityPredictor(training=training, modules=["bottleneck"]).fit(unet, cohort)
        >>> low, high = method.interval(cohort.images[:3])
        >>> bool((low < high).all())
        True
    """

    head = "beta"

    def concentration(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) in (0.5, 500), of the mean quality; higher = surer of the prediction."""
        return self._mean_and_concentration(images)[1]

    def interval(self, images: Tensor | np.ndarray, *, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends (B,) and (B,) of the central interval that holds the quality with probability `level`."""
        return beta_interval(*self._mean_and_concentration(images), level=level)

    def probability_below(self, images: Tensor | np.ndarray, threshold: float = 0.8) -> Tensor:
        """(B,) in [0, 1], probability that the quality lies below the threshold; higher = trust less."""
        return probability_below(*self._mean_and_concentration(images), threshold)

    def _mean_and_concentration(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        numbers, head = self._numbers(images), BetaHead()
        return head.mean(numbers)[:, 0], head.concentration(numbers)[:, 0]
