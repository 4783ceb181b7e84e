"""Score agreement: how well several answers overlap with each other.

Roy et al., "Inherent brain segmentation quality control from fully ConvNet Monte Carlo sampling"
(MICCAI 2018), with Monte-Carlo dropout; Zenk et al. (Medical Image Analysis 101, 103392, 2025) found the
agreement of deep-ensemble members the best simple way to detect failures. The rival to beat.
"""

from __future__ import annotations

import itertools
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.sampling import SampledUncertainty
from segconf_lite.evaluation.quality import pairwise_dice, surface_dice_per_case

__all__ = ["ScoreAgreement"]


class ScoreAgreement:
    """Mean quality of each pair of answers, taken as a prediction of the true quality.

    Args:
        sampler: who answers: `MCDropout`, `DeepEnsemble` or `TestTimeAugmentation`.
        quality: ``"dice"`` or ``"surface_dice"``.
        tolerance_mm: of the surface Dice, required with it.
        spacing_mm: (row, column) spacing of the images for the surface Dice; by default that of
            the source cohort, which must then be the same for all its cases.
        empty: what a class counts that neither answer of a pair has: ``"one"`` (agreement, as in
            the MIDL 2025 code) or ``"zero"``. Answers that all find nothing agree perfectly under
            ``"one"``: silent failure is possible.

    Raises:
        ValueError: If an argument is not among its choices.
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
            raise ValueError(
                "sampler must be MCDropout, DeepEnsemble or TestTimeAugmentation, "
                f"got {type(sampler).__name__}"
            )
        if quality not in ("dice", "surface_dice"):
            raise ValueError(f"quality must be 'dice' or 'surface_dice', got {quality!r}")
        if (quality == "surface_dice") != (tolerance_mm is not None):
            raise ValueError(
                f"tolerance_mm goes with quality='surface_dice' and only with it, got {tolerance_mm}"
            )
        if empty not in ("one", "zero"):
            raise ValueError(f"empty must be 'one' or 'zero' (an agreement must exist), got {empty!r}")
        self.sampler, self.quality, self.empty = sampler, quality, empty
        self.tolerance_mm, self.spacing_mm = tolerance_mm, spacing_mm
        self.n_classes = 0

    @property
    def n_passes(self) -> int:
        """Passes of the network per case."""
        return self.sampler.n_passes

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Fit the sampler, and take class count and spacing from the cohort. Returns the method itself."""
        self.sampler.fit(unet, source_cohort)
        self.n_classes = len(source_cohort.class_names)
        if self.quality == "surface_dice" and self.spacing_mm is None:
            if np.ptp(source_cohort.spacing_mm, axis=0).any():
                raise ValueError(
                    "the spacing differs within the source cohort; pass spacing_mm=(row, column)"
                )
            row, column = source_cohort.spacing_mm[0].tolist()
            self.spacing_mm = (row, column)
        return self

    def predicted_quality(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 in [0, 1], higher = better: the mean over all pairs of answers."""
        return torch.from_numpy(self.agreement_of(self.sampler.answers(images)[1]).astype(np.float32))

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 in [0, 1], higher = trust less: 1 minus `predicted_quality`."""
        return 1 - self.predicted_quality(images)

    def agreement_of(self, labels: Any) -> np.ndarray:
        """(B,) agreement of finished answers, (B, S, H, W) whole-number labels."""
        if self.n_classes == 0:
            raise ValueError("ScoreAgreement is not fitted: call .fit(unet, source_cohort) first")
        answers = to_numpy(labels)
        first, second = np.array(list(itertools.combinations(range(answers.shape[1]), 2))).T
        if self.quality == "dice":
            matrix = pairwise_dice(answers, answers, n_classes=self.n_classes, empty=self.empty)
            return matrix[:, first, second].mean(axis=1)
        pairs = [
            surface_dice_per_case(
                answers[:, a], answers[:, b], n_classes=self.n_classes, empty=self.empty,
                tolerance_mm=self.tolerance_mm or 0.0, spacing_mm=self.spacing_mm,
            )
            for a, b in zip(first, second, strict=True)
        ]  # fmt: skip
        return np.mean(pairs, axis=0)
