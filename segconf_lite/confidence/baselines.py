"""All baselines at once, each network asked only once: the rivals of every later chapter.

Columns are uncertainties, (B,), higher = trust less; their names are the rows of the book's tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from segconf_lite.arrays import to_numpy
from segconf_lite.check import probabilities as check_probabilities
from segconf_lite.confidence import pixels
from segconf_lite.confidence.agreement import ScoreAgreement
from segconf_lite.confidence.sampling import SampledUncertainty

__all__ = ["one_pass_columns", "sampled_columns"]


def one_pass_columns(probabilities: Tensor | np.ndarray, *, band_px: int = 2) -> dict[str, np.ndarray]:
    """What one pass of the network says.

    Args:
        probabilities: (B, C, H, W), as `segconf_lite.models.predict_probabilities` gives them.
        band_px: half-width of the boundary band in pixels.

    Returns:
        Mean entropy over the image, the predicted foreground and the boundary band; the mean lack of
        winning probability over the foreground; and ``"small prediction"``, minus the predicted share of
        foreground, which knows nothing of doubt and is the control for all of them.

    Raises:
        ValueError: If they are no probabilities.
    """
    chances = torch.from_numpy(to_numpy(probabilities))
    check_probabilities(to_numpy(chances))
    found = chances.max(dim=1).indices
    asked = {f"entropy, {region}": (pixels.entropy(chances), region) for region in pixels.REGIONS}
    asked["probability, foreground"] = pixels.max_probability_uncertainty(chances), "foreground"
    columns = {
        name: to_numpy(pixels.aggregate(values, found, aggregation="mean", region=region, band_px=band_px))
        for name, (values, region) in asked.items()
    }
    return {**columns, "small prediction": to_numpy(-(found > 0).float().mean(dim=(1, 2)))}


def sampled_columns(
    samplers: Mapping[str, SampledUncertainty], images: Tensor | np.ndarray
) -> dict[str, np.ndarray]:
    """What several answers say, per fitted sampler.

    Args:
        samplers: name -> fitted `MCDropout`, `DeepEnsemble` or `TestTimeAugmentation`.
        images: (B, 1, H, W).

    Returns:
        For each name: ``"NAME: entropy"`` of the mean answer over its foreground; ``"NAME: agreement"``, 1
        minus the mean Dice of pairs of answers, where two empty answers agree; ``"NAME: agreement,
        strict"``, where they do not; and ``"NAME, 2 answers: agreement"`` of the first two.
    """
    columns = {}
    for name, sampler in samplers.items():
        told, labels = sampler.answers(images)
        mean_answer, n_classes = told.mean_probability.max(dim=1).indices, told.mean_probability.shape[1]
        entropy = pixels.aggregate(
            told.entropy, mean_answer, aggregation="mean", region="foreground", band_px=1
        )
        columns[f"{name}: entropy"] = to_numpy(entropy)
        for suffix, empty, part in (
            (": agreement", "one", labels),
            (": agreement, strict", "zero", labels),
            (", 2 answers: agreement", "one", labels[:, :2]),
        ):
            agreement = ScoreAgreement(sampler, empty=empty)
            agreement.n_classes = n_classes
            columns[name + suffix] = 1 - agreement.agreement_of(part)
    return columns
