"""Score agreement: the overlap between several predictions of one case.

Roy et al., "Inherent brain segmentation quality control from fully ConvNet Monte Carlo sampling"
(MICCAI 2018), with Monte-Carlo dropout; Zenk et al. (Medical Image Analysis 101, 103392, 2025) found the
agreement of deep-ensemble members the best simple way to detect failures: the strongest baseline.
Shape letters: S predictions of one case, B cases, H rows, W columns.
"""

from __future__ import annotations

import itertools
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.pixels import check_fit_arguments
from segconf_lite.confidence.sampling import SampledUncertainty
from segconf_lite.evaluation.quality import pairwise_dice, surface_dice_per_case
from segconf_lite.saving import Savable

QUALITIES = ("dice", "surface_dice")
EMPTY = ("one", "zero")


def pairwise_agreement(
    labels: Tensor | np.ndarray,
    *,
    n_classes: int,
    empty: str,
    tolerance_mm: float | None = None,
    spacing_mm: tuple[float, float] | None = None,
) -> np.ndarray:
    r"""Mean quality over all pairs of predictions of a case.

    .. math:: a = \frac{2}{S (S - 1)} \sum_{s < t} \mathrm{quality}(y_s, y_t)

    Args:
        labels: Predictions (B, S, H, W), integer labels, S >= 2.
        n_classes: Number of classes, background included.
        empty: What a class counts that neither prediction of a pair has: ``"one"`` or ``"zero"``.
        tolerance_mm: Tolerance of the surface Dice in mm; None takes the Dice.
        spacing_mm: Row and column spacing of the images in mm, for the surface Dice.

    Returns:
        (B,) float64 in [0, 1], higher = better.

    Raises:
        ValueError: If there is one prediction, or a label is out of range.

    Example:
        >>> labels = np.array([[[[0, 1, 1]], [[0, 1, 0]]]])  # one case, two predictions of three pixels
        >>> pairwise_agreement(labels, n_classes=2, empty="one").round(2)
        array([0.67])
    """
    check.one_of("empty", empty, EMPTY)
    n_classes = check.integer("n_classes", n_classes, low=2)
    predictions = check.label_map("labels", labels, n_classes=n_classes, shape="B S H W")
    if predictions.shape[1] < 2:
        raise check.refuse("labels", "two or more predictions per case", predictions.shape)
    pairs = list(itertools.combinations(range(predictions.shape[1]), 2))
    if tolerance_mm is None:
        matrix = pairwise_dice(predictions, predictions, n_classes=n_classes, empty=empty)  # (B, S, S)
        first, second = np.array(pairs).T
        return matrix[:, first, second].mean(axis=1)
    options: dict[str, Any] = {"tolerance_mm": tolerance_mm, "spacing_mm": spacing_mm}
    columns = [
        surface_dice_per_case(
            predictions[:, a], predictions[:, b], n_classes=n_classes, empty=empty, **options
        )
        for a, b in pairs
    ]
    return np.mean(columns, axis=0)


class ScoreAgreement(Savable):
    """Mean quality of each pair of predictions, taken as a prediction of the true quality.

    Args:
        sampler: Source of the predictions: `MCDropout`, `DeepEnsemble` or `TestTimeAugmentation`.
        quality: ``"dice"`` or ``"surface_dice"``.
        tolerance_mm: Tolerance of the surface Dice in mm, required with it.
        spacing_mm: Row and column spacing of the images in mm, for the surface Dice; by default that of
            the source cohort, which must then be the same for all its cases.
        empty: What a class counts that neither prediction of a pair has: ``"one"`` (agreement, as in
            the MIDL 2025 code) or ``"zero"``. Predictions that are all empty agree perfectly under
            ``"one"``: silent failure is possible.

    Raises:
        ValueError: If an argument is not among its choices.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.confidence import TestTimeAugmentation
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = ScoreAgreement(TestTimeAugmentation()).fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> quality = method.predicted_quality(cohort.images)
        >>> quality.shape, bool(((quality >= 0) & (quality <= 1)).all())
        (torch.Size([2]), True)
    """

    def __init__(
        self,
        sampler: SampledUncertainty,
        *,
        quality: str = "dice",
        tolerance_mm: float | None = None,
        spacing_mm: tuple[float, float] | None = None,
        empty: str = "one",
    ) -> None:
        if not isinstance(sampler, SampledUncertainty):
            expected = "MCDropout, DeepEnsemble or TestTimeAugmentation"
            raise check.refuse("sampler", expected, type(sampler).__name__)
        self.sampler = sampler
        self.quality = check.one_of("quality", quality, QUALITIES)
        self.empty = check.one_of("empty", empty, EMPTY)
        if (quality == "surface_dice") != (tolerance_mm is not None):
            expected = "a number with quality='surface_dice', and None with 'dice'"
            raise check.refuse("tolerance_mm", expected, tolerance_mm)
        if tolerance_mm is not None:
            tolerance_mm = check.number("tolerance_mm", tolerance_mm, low=0)
        self.tolerance_mm, self.spacing_mm = tolerance_mm, None
        if spacing_mm is not None:
            self.spacing_mm = _pair(check.spacing(spacing_mm, length=1))
        self.n_classes: int | None = None

    @property
    def n_passes(self) -> int:
        """Number of passes of the network per case."""
        return self.sampler.n_passes

    @property
    def unet(self) -> nn.Module:
        """The evaluated network.

        Raises:
            ValueError: If the method is not fitted to a network yet.
        """
        check.fitted(self, self.n_classes)
        return self.sampler.unet

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Fit the sampler, and take class count and spacing from the cohort. Returns the method itself.

        Args:
            unet: Network from images (B, channels, H, W) to logits (B, C, H, W).
            source_cohort: The cases that the network was trained on.
        """
        check_fit_arguments(unet, source_cohort)
        self.sampler.fit(unet, source_cohort)
        self.n_classes = len(source_cohort.class_names)
        if self.quality == "surface_dice" and self.spacing_mm is None:
            if np.ptp(source_cohort.spacing_mm, axis=0).any():
                fix = "pass spacing_mm=(row, column)"
                raise check.refuse("spacing_mm", "equal in all cases of the source cohort", "several", fix)
            self.spacing_mm = _pair(source_cohort.spacing_mm)
        return self

    def predicted_quality(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 in [0, 1], higher = better: the mean over all pairs of predictions.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If the method is not fitted, or an image or a logit is not finite.
        """
        check.fitted(self, self.n_classes)
        return torch.from_numpy(self.agreement_of(self.sampler.predictions(images)[1]).astype(np.float32))

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 in [0, 1], higher = trust less: 1 minus `predicted_quality`."""
        return 1 - self.predicted_quality(images)

    def agreement_of(self, labels: Tensor | np.ndarray) -> np.ndarray:
        """(B,) agreement of finished predictions, see `pairwise_agreement`.

        Args:
            labels: Predictions (B, S, H, W), integer labels.
        """
        check.fitted(self, self.n_classes)
        return pairwise_agreement(
            labels,
            n_classes=self.n_classes or 0,
            empty=self.empty,
            tolerance_mm=self.tolerance_mm,
            spacing_mm=self.spacing_mm,
        )


def _pair(spacing_mm: np.ndarray) -> tuple[float, float]:
    row, column = spacing_mm[0].tolist()
    return row, column
