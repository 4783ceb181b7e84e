"""Several answers to one image, and what their disagreement says.

Shape letters: S samples (answers), B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.confidence import pixels
from segconf_lite.confidence.entropy import PixelUncertainty
from segconf_lite.models.device import bf16_pays, device_of, isolated_random_state
from segconf_lite.models.training import PRECISIONS
from segconf_lite.models.unet import predict_probabilities

__all__ = ["SampleSummary", "SampledUncertainty", "summarise_samples"]


class SampleSummary(NamedTuple):
    """What S answers say together; maps are (B, H, W), higher = more uncertain.

    Entropies are divided by log C. ``entropy`` = ``expected_entropy`` + ``mutual_information``:
    the doubt of the mean is the doubt inside each answer plus the doubt between them (Houlsby et al.,
    2011; Depeweg et al., ICML 2018).
    """

    mean_probability: Tensor  # (B, C, H, W)
    entropy: Tensor  # of the mean probability, in [0, 1]
    expected_entropy: Tensor  # mean over the answers of their own entropy, in [0, 1]
    mutual_information: Tensor  # the difference, in [0, 1]: what the answers disagree on
    disagreement: Tensor  # share of answers that do not name the most named class, in [0, 1)


MEASURES = SampleSummary._fields[1:]


def summarise_samples(samples: Tensor) -> SampleSummary:
    """Mean, entropies and disagreement of (S, B, C, H, W) class probabilities."""
    samples = samples.cpu()
    mean = samples.mean(dim=0)
    total, expected = pixels.entropy(mean), pixels.entropy(samples).mean(dim=0)
    named = samples.max(dim=2).indices  # (S, B, H, W); argmax itself is ten times slower here
    votes = torch.stack([(named == k).sum(dim=0) for k in range(samples.shape[2])])  # (C, B, H, W)
    disagreement = 1 - votes.amax(dim=0) / len(samples)
    information = (total - expected).clamp(min=0)  # rounding may give -1e-8
    return SampleSummary(mean, total, expected, information, disagreement)


class SampledUncertainty(PixelUncertainty):
    """Base of the methods that ask several times; they differ in whom they ask.

    Args:
        measure: which map: ``"entropy"`` of the mean, ``"expected_entropy"``,
            ``"mutual_information"`` or ``"disagreement"``.
        seed: of whatever is random in the answers; equal seeds give equal answers.
        precision: ``"auto"`` runs the passes in bf16 where the hardware makes that faster (about
            twice on a CPU), ``"fp32"`` and ``"bf16"`` force it. Each pass loses digits that the spread
            of the answers does not need: orders of cases agree to a Spearman of .99 (tested).
        **aggregation: arguments of `PixelUncertainty`. Regions follow the mean answer.
    """

    def __init__(
        self, *, measure: str = "entropy", seed: int = 0, precision: str = "auto", **aggregation: Any
    ) -> None:
        super().__init__(**aggregation)
        if measure not in MEASURES:
            raise ValueError(f"measure must be one of {MEASURES}, got {measure!r}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        self.measure, self.seed, self.precision = measure, seed, precision

    def samples(self, images: Tensor | np.ndarray) -> Iterator[Tensor]:
        """(S, b, C, H, W) class probabilities, batch by batch, so that memory stays bounded."""
        views, device = self._views(), device_of(self.unet)
        bf16 = self.precision == "bf16" or (self.precision == "auto" and bf16_pays(device))
        for start, batch in self._batches(images):
            seed = int(np.random.SeedSequence([self.seed, start]).generate_state(1)[0])
            with (
                isolated_random_state(seed, device),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
            ):
                answers = [predict_probabilities(view, batch, batch_size=len(batch)) for view in views]
            yield torch.stack(answers)

    def answers(self, images: Tensor | np.ndarray) -> tuple[SampleSummary, Tensor]:
        """All maps of all cases, and the (B, S, H, W) int64 segmentation of each answer, in one go."""
        batches = [(summarise_samples(batch), batch.max(dim=2).indices) for batch in self.samples(images)]
        summary = SampleSummary(
            *(torch.cat(parts) for parts in zip(*(part for part, _ in batches), strict=True))
        )
        return summary, torch.cat([labels for _, labels in batches], dim=1).transpose(0, 1)

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.samples(images):
            summary = summarise_samples(batch)
            yield getattr(summary, self.measure), summary.mean_probability.argmax(dim=1)

    def _views(self) -> Sequence[nn.Module]:
        """One module per answer, each from images to logits; run in eval mode, one after the other."""
        raise NotImplementedError
