"""Searches that need no search: the training loss replaced by a quadratic function of some of the weights."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.fragility.flip_cost import (
    FlipTerms,
    HeadFisher,
    HeadInverse,
    accumulate_fisher,
    find_head,
    head_pass,
    head_terms,
)
from segconf_lite.fragility.tangent import (
    DECODER,
    ChosenWeights,
    choose_weights,
    diagonal_fisher,
    tangent_terms,
)

__all__ = ["FittedSearch", "HeadSearch", "SearchMaps", "TangentSearch"]


class SearchMaps(NamedTuple):
    """What a search says of a batch; all (B, H, W)."""

    labels: Tensor  # int64, as the network has them
    flip_cost: Tensor  # nats a training pixel, low = fragile
    uncertainty: Tensor  # in [0, 1], up = worse


class FittedSearch(Protocol):
    """A search that knows a network and its training cases."""

    def maps(self, images: Tensor, budget: float) -> SearchMaps:
        """Of a batch on the device of the network, which is frozen and in eval mode."""


@dataclasses.dataclass(frozen=True)
class HeadSearch:
    """Closed form over the weights of the last layer, see `segconf_lite.fragility.flip_cost`.

    Attributes:
        head: name of the last layer, a 1x1 convolution.
        damping: of the Fisher matrix, as a share of the mean of its diagonal.
        gradient: False takes the trained weights for the optimum, as Laplace approximations do. The cost
            is then the smallest mean Kullback-Leibler divergence, over training pixels, of the altered
            network's answers from the network's own: the loss less its tangent is just that for a softmax.
            True measures the cross-entropy itself. Networks trained with another loss beside it (ours:
            Dice), with augmentation, or not to the end are far from its optimum, and most of the cost is
            then negative.
    """

    head: str = "head"
    damping: float = 1e-6
    gradient: bool = False

    def fit(self, unet: nn.Module, cohort: Cohort, *, batch_size: int) -> FittedSearch:
        """Curvature over all training pixels, one pass."""
        head = find_head(unet, self.head)
        like, fisher = next(unet.parameters()), None
        for start in range(0, len(cohort), batch_size):
            images, labels = (
                torch.from_numpy(values[start : start + batch_size].copy()).to(like.device)
                for values in (cohort.images, cohort.labels)
            )
            features, logits = head_pass(unet, head, images.to(like.dtype))
            fisher = accumulate_fisher(features, logits, labels, fisher)
        assert isinstance(fisher, HeadFisher)  # a cohort has cases
        if not self.gradient:
            fisher = fisher._replace(gradient=torch.zeros_like(fisher.gradient))
        return FittedHead(unet, head, fisher.inverse(head.out_channels, damping=self.damping))


@dataclasses.dataclass(frozen=True)
class TangentSearch:
    """The network linearised in the weights of some modules, see `segconf_lite.fragility.tangent`.

    Attributes:
        modules: their names; ``("",)`` is the whole network.
        n_draws: forward-mode passes for each batch.
        n_slices: training slices for the diagonal of the Fisher matrix.
        damping: of that diagonal, as a share of its mean.
        seed: of the draws.
    """

    modules: tuple[str, ...] = DECODER
    n_draws: int = 16
    n_slices: int = 96
    damping: float = 1e-3
    seed: int = 0

    def fit(self, unet: nn.Module, cohort: Cohort, *, batch_size: int) -> FittedSearch:
        """Curvature on `n_slices` training cases; they go one by one, whatever the batch size."""
        chosen = choose_weights(unet, self.modules)
        generator = torch.Generator().manual_seed(self.seed)
        fisher = diagonal_fisher(chosen, cohort, n_slices=self.n_slices, generator=generator)
        total = sum(float(value.sum()) for value in fisher.values())
        added = self.damping * total / sum(value.numel() for value in fisher.values())
        spread = {name: (value + added).rsqrt() for name, value in fisher.items()}
        return FittedTangent(chosen, spread, self)


@dataclasses.dataclass(frozen=True)
class FittedHead:
    """A network whose last layer's curvature is known."""

    unet: nn.Module
    head: nn.Conv2d
    inverse: HeadInverse

    def maps(self, images: Tensor, budget: float) -> SearchMaps:
        """See `FittedSearch`."""
        return _maps(head_terms(*head_pass(self.unet, self.head, images), self.inverse), budget)


@dataclasses.dataclass(frozen=True)
class FittedTangent:
    """A network whose curvature in some modules is known."""

    chosen: ChosenWeights
    spread: dict[str, Tensor]
    options: TangentSearch

    def maps(self, images: Tensor, budget: float) -> SearchMaps:
        """See `FittedSearch`."""
        generator = torch.Generator().manual_seed(self.options.seed)
        terms = tangent_terms(
            self.chosen, self.spread, images, n_draws=self.options.n_draws, generator=generator
        )
        return _maps(terms, budget)


def _maps(terms: FlipTerms, budget: float) -> SearchMaps:
    labels = terms.margin.isinf().max(dim=1).indices  # the own class has an infinite margin
    return SearchMaps(labels, terms.cost().amin(dim=1), terms.adversarial_probability(budget))
