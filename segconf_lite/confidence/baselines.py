"""Baselines: what the probabilities of one pass say, and all baselines at once as columns of a table.

Columns are uncertainties, (B,), higher = trust less; their names are the rows of the book's tables. Shape
letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.confidence import pixels
from segconf_lite.confidence.agreement import pairwise_agreement
from segconf_lite.confidence.pixels import PixelUncertainty
from segconf_lite.confidence.sampling import SampledUncertainty
from segconf_lite.models.batches import as_tensor, cases_from
from segconf_lite.models.unet import predict_probabilities


class _OnePass(PixelUncertainty):
    """The uncertainty of each pixel's probabilities, by the measure of the subclass."""

    _measure: Callable[[Tensor], Tensor]

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        unet = self.unet
        for start, batch in self._batches(images):
            with cases_from(start):
                probabilities = predict_probabilities(unet, batch, batch_size=self.batch_size)
            yield type(self)._measure(probabilities), probabilities.max(dim=1).indices


class PredictiveEntropy(_OnePass):
    """Entropy of the class probabilities, in [0, 1] per pixel; see `pixels.entropy`.

    The published aggregations differ: a mean over all pixels, an L2 norm, a mean over the predicted
    foreground. The result depends on the choice, so each has a name.

    Args:
        aggregation, region, band_px, batch_size: The arguments of `PixelUncertainty`.

    Example:
        >>> import torch
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = PredictiveEntropy().fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> method.uncertainty(cohort.images).round(decimals=2)
        tensor([0.9900, 0.9900])
    """

    _measure = staticmethod(pixels.entropy)


class MaximumProbability(_OnePass):
    """1 minus the maximum softmax probability, per pixel; see `pixels.max_probability_uncertainty`.

    Args:
        aggregation, region, band_px, batch_size: The arguments of `PixelUncertainty`.

    Example:
        >>> import torch
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = MaximumProbability().fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> method.uncertainty_map(cohort.images).shape
        torch.Size([2, 16, 16])
    """

    _measure = staticmethod(pixels.max_probability_uncertainty)


class ProbabilityMargin(_OnePass):
    """1 minus the margin between the two most probable classes, per pixel; see `pixels.margin_uncertainty`.

    Args:
        aggregation, region, band_px, batch_size: The arguments of `PixelUncertainty`.

    Example:
        >>> import torch
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = ProbabilityMargin(region="boundary").fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> method.uncertainty(cohort.images).shape
        torch.Size([2])
    """

    _measure = staticmethod(pixels.margin_uncertainty)


def soft_dice_confidence(probabilities: Tensor | np.ndarray) -> Tensor:
    r"""Dice between the probabilities and their own prediction, per case.

    .. math:: \frac{1}{C - 1} \sum_{c \ge 1} \frac{2 \sum_i p_{ci} m_{ci}}{\sum_i p_{ci} + \sum_i m_{ci}}

    with the probability p of class c at pixel i, and m = 1 where c is predicted. A class that is not
    predicted anywhere counts 0. It estimates the Dice that would be expected if the probabilities were right
    (Borges et al., arXiv 2402.10665); its level is not calibrated.

    Args:
        probabilities: Class probabilities (B, C, H, W), C >= 2, background first.

    Returns:
        (B,) float32 on the CPU, in [0, 1], higher = better.

    Raises:
        ValueError: If they are no probabilities, or there is one class only.

    Example:
        >>> soft_dice_confidence(np.array([[[[0.1, 0.4]], [[0.9, 0.6]]]]))
        tensor([0.8571])
    """
    values = pixels.checked_probabilities(probabilities)
    check.array("probabilities", values, "B C H W")
    labels = values.max(dim=1).indices  # argmax itself is ten times slower
    predicted = torch.nn.functional.one_hot(labels, values.shape[1]).movedim(-1, 1)[:, 1:]
    overlap = 2 * (values[:, 1:] * predicted).sum(dim=(2, 3))
    total = values[:, 1:].sum(dim=(2, 3)) + predicted.sum(dim=(2, 3))
    return (overlap / total.clamp(min=torch.finfo(values.dtype).tiny)).mean(dim=1).float()


class SoftDiceConfidence(pixels.OfNetwork):
    """1 minus the `soft_dice_confidence` of the network's prediction: one pass, no training.

    Args:
        batch_size: Cases per pass; it bounds the memory.

    Example:
        >>> import torch
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = SoftDiceConfidence().fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> (method.uncertainty(cohort.images) + method.predicted_quality(cohort.images)).tolist()
        [1.0, 1.0]
    """

    def predicted_quality(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 in [0, 1], higher = better: the soft Dice confidence, whose level is not calibrated.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If the method is not fitted, or an image or a logit is not finite.
        """
        return soft_dice_confidence(predict_probabilities(self.unet, images, batch_size=self.batch_size))

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 in [0, 1], higher = trust less; `images` and errors as in `predicted_quality`."""
        return 1 - self.predicted_quality(images)


def one_pass_columns(
    probabilities: Tensor | np.ndarray, *, band_px: int = 2, regions: Sequence[str] = pixels.REGIONS
) -> dict[str, np.ndarray]:
    """Uncertainties from one pass of the network.

    Args:
        probabilities: Class probabilities (B, C, H, W), as `segconf_lite.models.predict_probabilities`
            returns them.
        band_px: Half-width of the boundary band in pixels.
        regions: Regions over which the entropy is averaged.

    Returns:
        Mean entropy over each of the regions (the image, the predicted foreground and the boundary band); the
        mean of 1 minus the maximum softmax probability over the foreground; 1 minus the
        `soft_dice_confidence`; and ``"small prediction"``, minus the predicted fraction of foreground, which
        uses no probability and is the control for all of them.

    Raises:
        ValueError: If they are no probabilities.

    Example:
        >>> columns = one_pass_columns(np.full((1, 2, 4, 4), 0.5))
        >>> for name, column in columns.items():
        ...     print(f"{name}: {column[0]:.1f}")
        entropy, image: 1.0
        entropy, foreground: 1.0
        entropy, boundary: 1.0
        probability, foreground: 1.0
        soft Dice: 1.0
        small prediction: -0.0
    """
    check.array("probabilities", probabilities, "B C H W")
    values = as_tensor("probabilities", probabilities).cpu()
    entropy, labels = pixels.entropy(values), values.max(dim=1).indices
    maps = {f"entropy, {region}": (entropy, region) for region in regions}
    maps["probability, foreground"] = pixels.max_probability_uncertainty(values), "foreground"
    columns = {
        name: to_numpy(pixels.aggregate(each, labels, aggregation="mean", region=region, band_px=band_px))
        for name, (each, region) in maps.items()
    }
    columns["soft Dice"] = to_numpy(1 - soft_dice_confidence(values))
    return {**columns, "small prediction": to_numpy(-(labels > 0).float().mean(dim=(1, 2)))}


def sampled_columns(
    samplers: Mapping[str, SampledUncertainty], images: Tensor | np.ndarray
) -> dict[str, np.ndarray]:
    """Uncertainties from several predictions per case, of each fitted sampler.

    Args:
        samplers: Name -> fitted `MCDropout`, `DeepEnsemble` or `TestTimeAugmentation`.
        images: Images (B, channels, H, W).

    Returns:
        For each name: ``"NAME: entropy"`` of the mean prediction over its foreground; ``"NAME: agreement"``,
        1 minus the mean Dice of pairs of predictions, where two empty ones agree; ``"NAME: agreement,
        strict"``, where they do not; and ``"NAME, 2 answers: agreement"`` of the first two.

    Raises:
        ValueError: If a sampler is not fitted, or an image is not finite.

    Example:
        >>> import torch
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.confidence import TestTimeAugmentation
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> sampler = TestTimeAugmentation(precision="fp32").fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> list(sampled_columns({"tta": sampler}, cohort.images))
        ['tta: entropy', 'tta: agreement', 'tta: agreement, strict', 'tta, 2 answers: agreement']
    """
    if not isinstance(samplers, Mapping):
        raise check.refuse("samplers", "a dictionary name -> fitted sampler", type(samplers).__name__)
    columns = {}
    for name, sampler in samplers.items():
        if not isinstance(sampler, SampledUncertainty):
            raise check.refuse(f"samplers[{name!r}]", "a fitted sampler", type(sampler).__name__)
        summary, labels = sampler.predictions(images)
        mean_labels, n_classes = (
            summary.mean_probability.max(dim=1).indices,
            summary.mean_probability.shape[1],
        )
        entropy = pixels.aggregate(
            summary.entropy, mean_labels, aggregation="mean", region="foreground", band_px=1
        )
        columns[f"{name}: entropy"] = to_numpy(entropy)
        for suffix, empty, part in (
            (": agreement", "one", labels),
            (": agreement, strict", "zero", labels),
            (", 2 answers: agreement", "one", labels[:, :2]),
        ):
            columns[name + suffix] = 1 - pairwise_agreement(part, n_classes=n_classes, empty=empty)
    return columns
