"""Fragility maps: how little would it take to flip this pixel?

A pixel is fragile if a model that explains the training data almost as well would label it otherwise. Its
flip cost is the smallest rise of the mean training loss, in nats a pixel, at which its label flips; low =
fragile. The idea is that of QUAM (Schweighofer et al., NeurIPS 2023) and QUAM-SM (2025), which search such
models one by one; the closed form of the last layer needs no search. Shape letters: B cases, C classes,
H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.pixels import PixelUncertainty
from segconf_lite.fragility.decomposition import Decomposition, decompose
from segconf_lite.fragility.mask_search import (
    MaskAdversaries,
    MaskSearch,
    PenaltySet,
    penalty_set,
    search_masks,
)
from segconf_lite.fragility.pixel_search import PixelSearch, search_pixels
from segconf_lite.fragility.quadratic_search import FittedSearch, HeadSearch, SearchMaps, TangentSearch
from segconf_lite.models.batches import in_batches, joined, network_input
from segconf_lite.models.device import check_same_device, device_of
from segconf_lite.models.splice import frozen
from segconf_lite.models.unet import predict_probabilities

__all__ = ["FragilityMap"]

SEARCHES = {"head": HeadSearch, "decoder": TangentSearch, "pixel": PixelSearch, "mask": MaskSearch}
# Nats. At these, about one pixel in a hundred of a U-Net's own cases is fragile; for masks, the budget binds.
BUDGETS = {HeadSearch: 1e-4, TangentSearch: 1e-8, PixelSearch: 1e-3, MaskSearch: 5e-3}
Search = HeadSearch | TangentSearch | PixelSearch | MaskSearch


class FragilityMap(PixelUncertainty):
    """How little the training loss must rise for each pixel to be labelled otherwise.

    The map lies in [0, 1], up = worse. For ``"head"`` and ``"decoder"`` it is the highest chance that a rival
    class gets, against the pixel's own, from a model within the budget; for ``"pixel"`` it is
    budget / (budget + flip cost). Both are above one half exactly where the flip cost is below the budget.
    For ``"mask"`` it is the entropy of the mixture of models found, divided by log C.

    Args:
        search: ``"head"``: closed form over the last layer, one pass. ``"decoder"``: the tangent of the
            decoder, an order only. ``"pixel"``: a search for each pixel, minutes for a small image; `polish`
            the network first. ``"mask"``: one search for each of some target masks. Or a `HeadSearch`,
            `TangentSearch`, `PixelSearch` or `MaskSearch` with options of its own.
        budget: rise of the mean training loss allowed, nats a pixel, > 0. None takes 1e-4 for ``"head"``,
            1e-8 for ``"decoder"``, 1e-3 for ``"pixel"``, 5e-3 for ``"mask"``: the costs of different
            searches lie on different scales.
        **aggregation: arguments of `PixelUncertainty`; by default the mean along the predicted boundary.

    Raises:
        ValueError: If the search is unknown or the budget is not > 0.
    """

    def __init__(
        self, *, search: str | Search = "head", budget: float | None = None, **aggregation: Any
    ) -> None:
        options: dict[str, Any] = {"region": "boundary", "batch_size": 16} | aggregation
        super().__init__(**options)
        if isinstance(search, str) and search not in SEARCHES:
            raise ValueError(f"search must be one of {tuple(SEARCHES)} or its options, got {search!r}")
        self.search: Search = SEARCHES[search]() if isinstance(search, str) else search  # type: ignore[assignment]
        self.budget = BUDGETS[type(self.search)] if budget is None else budget
        if not (math.isfinite(self.budget) and self.budget > 0):
            raise ValueError(f"budget must be > 0 nats of mean training loss, got {self.budget}")
        self._fitted: FittedSearch | None = None
        self._fitted_on = torch.device("cpu")

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Learn what holds the weights in place from the source cohort. Returns the method itself.

        Raises:
            ValueError: If the network has no 1x1 convolution, or no module, of the name searched.
        """
        super().fit(unet, source_cohort)
        self._fitted_on = device_of(unet)
        with frozen(unet):
            if isinstance(self.search, MaskSearch):
                options = {"n_images": self.search.n_penalty, "seed": self.search.seed}
                self._fitted = _FittedMasks(unet, penalty_set(unet, source_cohort, **options), self.search)
            elif isinstance(self.search, PixelSearch):
                self._fitted = _FittedPixels(unet, source_cohort, self.search)
            else:
                self._fitted = self.search.fit(unet, source_cohort, batch_size=self.batch_size)
        return self

    def flip_cost(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, H, W) nats a training pixel, low = fragile; infinite where a search found no flip.

        Args:
            images: (B, 1, H, W), numpy or torch.
        """
        return joined(maps.flip_cost.cpu() for maps in self._batched(images))

    def fragile(self, images: Tensor | np.ndarray) -> Tensor:
        """(B, H, W) bool: where the flip cost is within the budget."""
        return self.flip_cost(images) <= self.budget

    def decompose(self, images: Tensor | np.ndarray, *, setting: str = "a") -> Decomposition:
        """Total, aleatoric and epistemic uncertainty of the models found, (B, H, W) each, in nats.

        Raises:
            ValueError: If the search is not ``"mask"``: the others look for one model, not for a mixture.
        """
        if not isinstance(self._fitted, _FittedMasks):
            raise ValueError('decompose needs FragilityMap(search="mask"), fitted: only it keeps many models')
        parts = []
        for _, batch in self._batches(images):
            for found, own in self._fitted.search(network_input(batch, self.unet), self.budget):
                given = found.probabilities[:, None], found.weights
                parts.append(decompose(given[0], weights=given[1], setting=setting, reference=own[None]))
        return Decomposition(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        for maps in self._batched(images):
            yield maps.uncertainty.cpu(), maps.labels.cpu()

    def _batched(self, images: Tensor | np.ndarray) -> Iterator[SearchMaps]:
        list(self._batches(images[:1]))  # checks the shape
        if self._fitted is None:
            raise ValueError("FragilityMap is not fitted: call .fit(unet, source_cohort) first")
        fitted = self._fitted
        check_same_device(self.unet, **{"fitted search": self._fitted_on})
        with frozen(self.unet):
            yield from in_batches(
                lambda batch: fitted.maps(batch, self.budget), images, self.unet, batch_size=self.batch_size
            )


@dataclasses.dataclass(frozen=True)
class _FittedMasks:
    unet: nn.Module
    penalty: PenaltySet
    options: MaskSearch

    def search(self, images: Tensor, budget: float) -> Iterator[tuple[MaskAdversaries, Tensor]]:
        """For each image what was found, and the (C, H, W) class probabilities of the network itself."""
        own = predict_probabilities(self.unet, images)
        for image, answer in zip(images, own, strict=True):
            yield search_masks(self.unet, image, self.penalty, self.options, budget=budget), answer

    def maps(self, images: Tensor, budget: float) -> SearchMaps:
        columns = []
        for found, own in self.search(images, budget):
            labels = own.argmax(dim=0)
            differs = found.probabilities.argmax(dim=1) != labels  # (S, H, W)
            rises = found.rises[:, None, None].clamp(min=0).expand(differs.shape)
            cost = torch.where(differs, rises, math.inf).amin(dim=0)
            total = decompose(found.probabilities[:, None], weights=found.weights).total[0]
            columns.append((labels, cost, total / math.log(len(own))))
        return SearchMaps(*(torch.stack(column) for column in zip(*columns, strict=True)))


@dataclasses.dataclass(frozen=True)
class _FittedPixels:
    unet: nn.Module
    cohort: Cohort
    options: PixelSearch

    def maps(self, images: Tensor, budget: float) -> SearchMaps:
        where = to_numpy(torch.ones_like(images[:, 0], dtype=torch.bool).nonzero())
        found = search_pixels(self.unet, images, where, self.cohort, self.options)
        labels = predict_probabilities(self.unet, images).argmax(dim=1)
        cost = found.cost.reshape(labels.shape)
        return SearchMaps(labels, cost, budget / (budget + cost.clamp(min=0)))
