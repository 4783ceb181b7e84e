"""Fragility maps: how little would it take to flip this pixel?

A pixel is fragile if a model that explains the training data almost as well would label it differently. Its
flip cost is the smallest rise of the mean training loss, in nats per pixel, at which its label flips; low =
fragile. The idea is that of QUAM (Schweighofer et al., NeurIPS 2023) and QUAM-SM (2025), which search such
models one by one; the closed form of the last layer needs no search. Shape letters: S samples, B cases,
C classes, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.pixels import PixelUncertainty
from segconf_lite.fragility.decomposition import Decomposition, decompose
from segconf_lite.fragility.head import FittedSearch, HeadSearch, SearchMaps
from segconf_lite.fragility.mask_search import (
    MaskAdversaries,
    MaskSearch,
    PenaltySet,
    penalty_set,
    search_masks,
)
from segconf_lite.fragility.pixel_search import PixelSearch, search_pixels
from segconf_lite.fragility.tangent import TangentSearch
from segconf_lite.models.batches import in_batches, joined
from segconf_lite.models.device import check_same_device, device_of, frozen
from segconf_lite.models.unet import predict_probabilities

Result = TypeVar("Result")
Search = HeadSearch | TangentSearch | PixelSearch | MaskSearch
SEARCHES = {"head": HeadSearch, "decoder": TangentSearch, "pixel": PixelSearch, "mask": MaskSearch}
# Nats. At these, about one pixel in a hundred of a U-Net's own cases is fragile; for masks, the budget binds.
BUDGETS = {HeadSearch: 1e-4, TangentSearch: 1e-8, PixelSearch: 1e-3, MaskSearch: 5e-3}


class FragilityMap(PixelUncertainty):
    """Fragility of each pixel: how little the training loss must rise for another label.

    The map lies in [0, 1], up = worse. For ``"head"`` and ``"decoder"`` it is the highest probability that a
    rival class gets, against the pixel's predicted class, from a model within the budget; for ``"pixel"`` it
    is budget / (budget + flip cost). Both are above one half exactly where the flip cost is below the budget.
    For ``"mask"`` it is the entropy of the mixture of models found, divided by log C.

    Args:
        search: ``"head"``: closed form over the last layer, one pass. ``"decoder"``: the network linearised
            in its decoder, for ranking only. ``"pixel"``: a search for each pixel, minutes for a small image;
            `polish` the network first. ``"mask"``: one search for each of some target masks. Or a
            `HeadSearch`, `TangentSearch`, `PixelSearch` or `MaskSearch` with settings of its own.
        budget: Allowed rise of the mean training loss, in nats per pixel, > 0. None takes 1e-4 for
            ``"head"``, 1e-8 for ``"decoder"``, 1e-3 for ``"pixel"``, 5e-3 for ``"mask"``: the costs of
            different searches lie on different scales.
        aggregation: Aggregation to one number per case, as in `PixelUncertainty`.
        region: Region of that aggregation; by default along the predicted boundary.
        band_px: Half-width of the boundary band in pixels.
        batch_size: Cases per pass; bounds the memory.

    Raises:
        ValueError: If the search is unknown, the budget is not > 0, or another argument is out of range.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = FragilityMap(budget=0.01).fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> method.fragile(cohort.images).shape
        torch.Size([2, 16, 16])
    """

    def __init__(
        self,
        *,
        search: str | Search = "head",
        budget: float | None = None,
        aggregation: str = "mean",
        region: str = "boundary",
        band_px: int = 2,
        batch_size: int = 16,
    ) -> None:
        super().__init__(aggregation=aggregation, region=region, band_px=band_px, batch_size=batch_size)
        kind = SEARCHES.get(search, type(None)) if isinstance(search, str) else type(search)
        if kind not in BUDGETS:
            raise check.refuse("search", f"one of {tuple(SEARCHES)} or settings of one", repr(search))
        self.search: Search = kind() if isinstance(search, str) else search
        fix = "it is a rise of the mean training loss in nats"
        budget = BUDGETS[kind] if budget is None else budget
        self.budget = check.number("budget", budget, low=0, open_low=True, fix=fix)
        self._fitted: FittedSearch | None = None
        self._penalty: PenaltySet | None = None
        self._fitted_on = torch.device("cpu")

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Measure on the source cohort what holds the weights in place. Returns the method itself.

        Args:
            unet: The evaluated network. It is not changed.
            source_cohort: Training cases of the network.

        Raises:
            ValueError: If the network has no 1x1 convolution, or no module, of the name searched, or a label
                is not among its classes.
        """
        check.instance("source_cohort", source_cohort, Cohort)
        self._fitted_on, search = device_of(unet), self.search
        self._unet = self._penalty = self._fitted = None  # a fit that fails leaves nothing half done
        with frozen(unet):
            if isinstance(search, MaskSearch):
                n_images, seed = search.n_penalty, search.seed
                self._penalty = penalty_set(unet, source_cohort, n_images=n_images, seed=seed)
            elif isinstance(search, PixelSearch):
                self._fitted = _FittedPixels(unet, source_cohort, search)
            else:
                self._fitted = search.fit(unet, source_cohort, batch_size=self.batch_size)
        return super().fit(unet, source_cohort)

    def flip_cost(self, images: Tensor | np.ndarray) -> Tensor:
        """Flip cost in nats per training pixel, (B, H, W), low = fragile; infinite if a search found no flip.

        Args:
            images: (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If the method is not fitted, or the images are not finite or of another shape.
        """
        return joined(maps.flip_cost.cpu() for maps in self._search_maps(images))

    def fragile(self, images: Tensor | np.ndarray) -> Tensor:
        """Whether the flip cost is within the budget, (B, H, W) bool; ``images`` as in `flip_cost`."""
        return self.flip_cost(images) <= self.budget

    def decompose(self, images: Tensor | np.ndarray, *, setting: str = "a") -> Decomposition:
        """Total, aleatoric and epistemic uncertainty of the models found, (B, H, W) each, in nats.

        Args:
            images: (B, channels, H, W), numpy or torch.
            setting: ``"a"`` or ``"b"``, see `segconf_lite.fragility.decompose`.

        Raises:
            ValueError: If the search is not ``"mask"``: the others look for one model, not for a mixture.
        """
        if self._penalty is None:
            raise ValueError('decompose needs FragilityMap(search="mask"), fitted: only it keeps many models')
        parts = [
            decompose(result.probabilities[:, None], weights=result.weights, setting=setting, reference=q)
            for batch in self._batched(lambda batch, budget: list(self._mask_searches(batch, budget)), images)
            for result, q in batch
        ]
        return Decomposition(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        for maps in self._search_maps(images):
            yield maps.uncertainty.cpu(), maps.labels.cpu()

    def _search_maps(self, images: Tensor | np.ndarray) -> Iterator[SearchMaps]:
        check.fitted(self, self._unet)
        yield from self._batched(self._fitted or self._mask_maps, images)

    def _batched(
        self, compute: Callable[[Tensor, float], Result], images: Tensor | np.ndarray
    ) -> Iterator[Result]:
        check_same_device(self.unet, **{"fitted search": self._fitted_on})
        images, size = check.image_batch(images, channels=None), self.batch_size
        with frozen(self.unet):
            yield from in_batches(lambda x: compute(x, self.budget), images, self.unet, batch_size=size)

    def _mask_searches(self, images: Tensor, budget: float) -> Iterator[tuple[MaskAdversaries, Tensor]]:
        """The models found for each image, and the class probabilities (1, C, H, W) of the network itself."""
        assert isinstance(self.search, MaskSearch)
        assert self._penalty is not None
        for image, q in zip(images, predict_probabilities(self.unet, images), strict=True):
            yield search_masks(self.unet, image, self._penalty, self.search, budget=budget), q[None]

    def _mask_maps(self, images: Tensor, budget: float) -> SearchMaps:
        columns = []
        for result, q in self._mask_searches(images, budget):
            labels = q.max(dim=1).indices  # (1, H, W)
            flipped = result.probabilities.max(dim=1).indices != labels  # (S, H, W)
            rises = result.rises[:, None, None].clamp(min=0)  # (S, 1, 1)
            cost = torch.where(flipped, rises, math.inf).amin(dim=0, keepdim=True)
            total = decompose(result.probabilities[:, None], weights=result.weights).total
            columns.append((labels, cost, total / math.log(q.shape[1])))
        return SearchMaps(*(torch.cat(column) for column in zip(*columns, strict=True)))


@dataclasses.dataclass(frozen=True)
class _FittedPixels:
    """A `FittedSearch`."""

    unet: nn.Module
    cohort: Cohort
    options: PixelSearch

    def __call__(self, images: Tensor, budget: float) -> SearchMaps:
        every = to_numpy(torch.ones_like(images[:, 0], dtype=torch.bool).nonzero())  # (B H W, 3)
        labels = predict_probabilities(self.unet, images).max(dim=1).indices
        cost = search_pixels(self.unet, images, every, self.cohort, self.options).cost.reshape(labels.shape)
        return SearchMaps(labels, cost, budget / (budget + cost.clamp(min=0)))
