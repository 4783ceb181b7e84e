"""From class probabilities to an uncertainty per pixel, and from pixels to one number per case.

Arguments may lie on any device; results are on the CPU. Shape letters: B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.batches import as_tensor, check_network, joined
from segconf_lite.models.device import device_of
from segconf_lite.saving import Savable

AGGREGATIONS = ("mean", "l2")
REGIONS = ("image", "foreground", "boundary")
PIXELS_AT_ONCE = 64 * 128**2  # of one channel; fifteen predictions of them are held at a time


class PixelOptions(TypedDict, total=False):
    """Arguments of `PixelUncertainty`, for the methods that pass them on.

    Example:
        >>> sorted(PixelOptions.__annotations__)
        ['aggregation', 'band_px', 'batch_size', 'region']
    """

    aggregation: str
    region: str
    band_px: int
    batch_size: int


def entropy(probabilities: Tensor) -> Tensor:
    r"""Shannon entropy over the classes, divided by its maximum, log C.

    .. math:: H = -\frac{1}{\log C} \sum_c p_c \log p_c

    Args:
        probabilities: Class probabilities (..., C, H, W), C >= 2, each pixel summing to 1 over C.

    Returns:
        (..., H, W) in [0, 1]; 0 = one class is certain, 1 = all are equally likely.

    Raises:
        ValueError: If they are no probabilities.

    Example:
        >>> entropy(torch.tensor([[[0.5, 1.0]], [[0.5, 0.0]]])).tolist()
        [[1.0, -0.0]]
    """
    values = checked_probabilities(probabilities)
    # xlogy has 0 log 0 = 0, as the entropy needs it; a plain product gives NaN there.
    return -torch.xlogy(values, values).sum(dim=-3) / math.log(values.shape[-3])


def max_probability_uncertainty(probabilities: Tensor) -> Tensor:
    r"""1 minus the maximum softmax probability (Hendrycks & Gimpel, ICLR 2017).

    .. math:: u = 1 - \max_c p_c

    Args:
        probabilities: Class probabilities (..., C, H, W), C >= 2, each pixel summing to 1 over C.

    Returns:
        (..., H, W) in [0, 1 - 1/C], higher = more uncertain.

    Raises:
        ValueError: If they are no probabilities.

    Example:
        >>> max_probability_uncertainty(torch.tensor([[[0.5, 1.0]], [[0.5, 0.0]]]))
        tensor([[0.5000, 0.0000]])
    """
    return 1 - checked_probabilities(probabilities).amax(dim=-3)


def margin_uncertainty(probabilities: Tensor) -> Tensor:
    r"""1 minus the margin between the most probable class and the second.

    .. math:: u = 1 - (p_{(1)} - p_{(2)})

    Args:
        probabilities: Class probabilities (..., C, H, W), C >= 2, each pixel summing to 1 over C.

    Returns:
        (..., H, W) in [0, 1]; 1 = a tie.

    Raises:
        ValueError: If they are no probabilities.

    Example:
        >>> margin_uncertainty(torch.tensor([[[0.75, 1.0]], [[0.25, 0.0]]]))
        tensor([[0.5000, 0.0000]])
    """
    best_two = checked_probabilities(probabilities).topk(2, dim=-3).values
    return 1 - (best_two.select(-3, 0) - best_two.select(-3, 1))


def aggregate(
    uncertainty_map: Tensor, labels: Tensor, *, aggregation: str, region: str, band_px: int
) -> Tensor:
    """One number per case from a map. Papers differ in this step, so each part has a name.

    Args:
        uncertainty_map: Uncertainty (B, H, W) in [0, 1], higher = worse.
        labels: Predicted segmentation (B, H, W), 0 is background; it defines the regions.
        aggregation: ``"mean"`` over the pixels of the region, or ``"l2"``, the root of the sum of
            squares, which grows with the size of the uncertain area.
        region: ``"image"``, the predicted ``"foreground"``, or the ``"boundary"`` band: pixels with a
            pixel of another predicted class at most `band_px` rows and columns away.
        band_px: Half-width of the boundary band in pixels, >= 1.

    Returns:
        (B,). A case whose region is empty, because no foreground is predicted, gets the highest value
        possible (1, or the root of H * W): every slice of our cohorts shows foreground, so an empty
        prediction is a failure. Where empty predictions can be right, use the whole image.

    Raises:
        ValueError: If an argument is not among its choices, a value is not finite, or the shapes differ.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1], [0, 0, 0]]])
        >>> values = torch.tensor([[[0.1, 0.5, 0.3], [0.0, 0.0, 0.0]]])
        >>> aggregate(values, labels, aggregation="mean", region="foreground", band_px=1)
        tensor([0.4000])
    """
    _check_choices(aggregation, region, band_px)
    check.finite("uncertainty_map", check.array("uncertainty_map", uncertainty_map, "B H W"))
    values = as_tensor("uncertainty_map", uncertainty_map, wide=True).cpu()
    labels = as_tensor("labels", check.label_map("labels", labels, shape=tuple(values.shape)))
    inside = _region(labels, region, band_px)
    n_inside = inside.sum(dim=(1, 2))
    values = torch.where(inside, values, 0)
    if aggregation == "l2":
        return torch.where(n_inside > 0, values.square().sum(dim=(1, 2)).sqrt(), math.sqrt(inside[0].numel()))
    return torch.where(n_inside > 0, values.sum(dim=(1, 2)) / n_inside.clamp(min=1), 1.0)


class OfNetwork(Savable):
    """Base of the methods that keep the network as it is and learn nothing from the cohort.

    Args:
        batch_size: Cases per pass; it bounds the memory.

    Example:
        >>> OfNetwork(batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size must be an integer >= 1, got 0
    """

    n_passes = 1

    def __init__(self, *, batch_size: int = 64) -> None:
        self.batch_size = check.integer("batch_size", batch_size, low=1)
        self._unet: nn.Module | None = None

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Keep the network; nothing is learned from the cohort. Returns the method itself.

        Args:
            unet: Network from images (B, channels, H, W) to logits (B, C, H, W).
            source_cohort: The cases that the network was trained on.

        Raises:
            ValueError: As `check_fit_arguments`.
        """
        check_fit_arguments(unet, source_cohort)
        self._unet = unet
        return self

    @property
    def unet(self) -> nn.Module:
        """The evaluated network.

        Raises:
            ValueError: If the method is not fitted yet.
        """
        check.fitted(self, self._unet)
        assert self._unet is not None
        return self._unet


class PixelUncertainty(OfNetwork):
    """Base of the methods with a map of uncertainty, which is aggregated to one number per case.

    Args:
        aggregation: ``"mean"`` or ``"l2"``, see `aggregate`.
        region: ``"image"``, ``"foreground"`` (as predicted) or ``"boundary"``.
        band_px: Half-width of the boundary band in pixels.
        batch_size: Cases per pass, at most; it bounds the memory. Of images larger than 128 x 128 pixels,
            fewer are taken at a time.

    Raises:
        ValueError: If an argument is not among its choices.

    Example:
        >>> PixelUncertainty(region="foreground").uncertainty(np.zeros((1, 1, 8, 8)))
        Traceback (most recent call last):
        ValueError: PixelUncertainty is not fitted: call .fit(network, source_cohort) first
    """

    def __init__(
        self, *, aggregation: str = "mean", region: str = "image", band_px: int = 2, batch_size: int = 64
    ) -> None:
        super().__init__(batch_size=batch_size)
        _check_choices(aggregation, region, band_px)
        self.aggregation, self.region, self.band_px = aggregation, region, band_px

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32, higher = trust less.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If the method is not fitted, or an image or a logit is not finite.
        """
        options = {"aggregation": self.aggregation, "region": self.region}
        return joined(
            aggregate(values, labels, **options, band_px=self.band_px)
            for values, labels in self._maps(images)
        )

    def uncertainty_map(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, H, W) float32, higher = worse; `images` and errors as in `uncertainty`."""
        return joined(values for values, _ in self._maps(images))

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Uncertainty and predicted labels, both (b, H, W), batch by batch."""
        check.fitted(self, self._unet)
        raise NotImplementedError

    def _batches(self, images: Tensor | np.ndarray) -> Iterator[tuple[int, Tensor | np.ndarray]]:
        """Index of the first case, and the images, of one batch after another."""
        check.image_batch(images, channels=None)
        size = min(self.batch_size, max(1, PIXELS_AT_ONCE // math.prod(images.shape[2:])))
        for start in range(0, len(images), size):
            yield start, images[start : start + size]


def check_fit_arguments(unet: nn.Module, source_cohort: Cohort) -> None:
    """Refuse what no method that learns from a cohort can be fitted to.

    Args:
        unet: The evaluated network.
        source_cohort: The cases that the network was trained on.

    Raises:
        ValueError: If the cohort is no `Cohort`, or the network is no module on one device that returns
            logits of the cohort's classes; it is tried on the first case.

    Example:
        >>> check_fit_arguments(nn.Conv2d(1, 2, 1), None)
        Traceback (most recent call last):
        ValueError: source_cohort must be a Cohort, got NoneType
    """
    device_of(unet)
    if not isinstance(source_cohort, Cohort):
        raise check.refuse("source_cohort", "a Cohort", type(source_cohort).__name__)
    check_network(unet, source_cohort.images, n_classes=len(source_cohort.class_names))


def _check_choices(aggregation: str, region: str, band_px: int) -> None:
    check.one_of("aggregation", aggregation, AGGREGATIONS)
    check.one_of("region", region, REGIONS)
    check.integer("band_px", band_px, low=1)


def checked_probabilities(probabilities: Tensor | np.ndarray) -> Tensor:
    """Probabilities (..., C, H, W) on the CPU, in float32 or wider.

    Args:
        probabilities: Numbers in [0, 1] that sum to 1 over C.

    Raises:
        ValueError: If they are no probabilities.

    Example:
        >>> checked_probabilities(np.full((1, 2, 1, 1), 0.5, dtype=np.float16)).dtype
        torch.float32
    """
    values = as_tensor("probabilities", probabilities).cpu()
    shape = tuple(values.shape)
    flat = values.reshape(math.prod(shape[:-3]), *shape[-3:]) if len(shape) > 2 else values
    check.probabilities(flat)
    return as_tensor("probabilities", values, wide=True)


def _region(labels: Tensor, region: str, band_px: int) -> Tensor:
    """Pixels (B, H, W) that count."""
    if region == "image":
        return torch.ones_like(labels, dtype=torch.bool)
    if region == "foreground":
        return labels > 0
    # The lowest and the highest label of the window differ exactly where another class is that near.
    as_image, reach = labels[:, None].float(), min(band_px, max(labels.shape[1:]))
    return (_window_maximum(as_image, reach) != -_window_maximum(-as_image, reach))[:, 0]


def _window_maximum(values: Tensor, reach: int) -> Tensor:
    return torch.nn.functional.max_pool2d(values, 2 * reach + 1, stride=1, padding=reach)
