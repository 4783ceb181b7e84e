"""Search the weights for the cheapest network that labels one pixel otherwise.

The cost of a network is its log posterior: the mean cross-entropy on a fixed penalty set, plus a Gaussian
prior on its weights. The search stays on networks where the pixel has just flipped: each step moves against
the gradient of the cost (Adam), and then back to that surface along the gradient of the margin. So every
network it visits is a valid answer, and the best one an upper bound of the flip cost. A search over more
weights may start where one over fewer ended; then its bound is never higher. The task is that of QUAM
(Schweighofer et al., NeurIPS 2023), for one pixel.

Shape letters: n pixels, B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.fragility.optimum import as_tensors
from segconf_lite.fragility.tangent import ChosenWeights, choose_weights
from segconf_lite.models.batches import network_input
from segconf_lite.models.splice import frozen

__all__ = ["PixelFlips", "PixelSearch", "search_pixels"]

Stack = dict[str, Tensor]  # name -> (n, *shape of the weight): one network a pixel
OVERSHOOT = 0.01  # logits: how far beyond the tie a search aims, so that rounding does not undo the flip
COPIES = 4.0  # tensors of the size of all activations that one gradient holds at once, measured


class PixelFlips(NamedTuple):
    """What a search found for n pixels."""

    cost: Tensor  # (n,) rise of the penalised loss in nats a pixel; infinite if the pixel never flipped
    data_cost: Tensor  # (n,) its part from the penalty set, without the prior
    history: Tensor  # (steps, n) the lowest cost so far
    weights: Stack  # of the best network; of the first one where nothing flipped


@dataclasses.dataclass(frozen=True)
class PixelSearch:
    """How to search.

    Attributes:
        modules: whose weights may move; ``("",)`` is the whole network.
        steps: of the search, each one gradient of the penalty set.
        learning_rate: of Adam, falling linearly to 0.
        prior_sd: standard deviation of the Gaussian prior on every weight; the loss of the whole penalty
            set counts as many observations as it has pixels.
        n_penalty: slices of the penalty set, drawn from the training cases by `seed`; all if there are fewer.
        memory_mib: the search holds no more than this at once, by taking fewer pixels and fewer slices.
    """

    modules: tuple[str, ...] = ("",)
    steps: int = 60
    learning_rate: float = 5e-4
    prior_sd: float = 1.0
    n_penalty: int = 48
    memory_mib: float = 1024.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "prior_sd", "n_penalty", "memory_mib"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be > 0, got {value}")


def search_pixels(
    unet: nn.Module, images: Tensor | np.ndarray, pixels: Tensor | np.ndarray, penalty: Cohort,
    search: PixelSearch | None = None, *, start: Mapping[str, Tensor] | None = None,
) -> PixelFlips:  # fmt: skip
    """Flip costs of some pixels, by search.

    Args:
        unet: at the optimum of the loss on the penalty set, see `polish`. It is not changed.
        images: (B, 1, H, W), numpy or torch.
        pixels: (n, 3) case, row and column of each pixel.
        penalty: the training cases that hold the network back; ``n_penalty`` of them, used in every step.
        search: what may move, and how.
        start: ``weights`` of a search over fewer modules, for the same pixels.

    Returns:
        `PixelFlips` on the CPU.

    Raises:
        ValueError: If a pixel lies outside, a module has no weights, or a single slice of a single network
            needs more than ``memory_mib``.
    """
    options = search or PixelSearch()
    where = to_numpy(pixels)
    if where.ndim != 2 or where.shape[1] != 3 or len(where) == 0:
        raise ValueError(f"pixels must be (n, 3) case, row, column with n >= 1, got {where.shape}")
    limits = np.array([len(images), *images.shape[-2:]])
    if (where < 0).any() or (where >= limits).any():
        raise ValueError(f"pixels must lie within {limits.tolist()}, got up to {where.max(axis=0).tolist()}")
    if options.n_penalty < len(penalty):
        drawn = np.random.default_rng(options.seed).choice(len(penalty), options.n_penalty, replace=False)
        penalty = penalty.take(np.sort(drawn))
    with frozen(unet):
        task = _Task(unet, images, penalty, options)
        parts = []
        for first in range(0, len(where), task.n_members):
            chunk = slice(first, first + task.n_members)
            given = None if start is None else {name: value[chunk] for name, value in start.items()}
            parts.append(_on_cpu(task.search(where[chunk], given)))
    weights = {name: torch.cat([part.weights[name] for part in parts]) for name in parts[0].weights}
    cost, data_cost = (torch.cat([getattr(part, name) for part in parts]) for name in ("cost", "data_cost"))
    return PixelFlips(cost, data_cost, torch.cat([part.history for part in parts], dim=1), weights)


def _on_cpu(found: PixelFlips) -> PixelFlips:
    weights = {name: value.cpu() for name, value in found.weights.items()}
    return PixelFlips(found.cost.cpu(), found.data_cost.cpu(), found.history.cpu(), weights)


class _Task:
    """One network, one penalty set; searches for some pixels at a time."""

    def __init__(
        self, unet: nn.Module, images: Tensor | np.ndarray, penalty: Cohort, options: PixelSearch
    ) -> None:
        self.options, self.chosen = options, choose_weights(unet, options.modules)
        self.inputs = network_input(images, unet)
        given, self.labels = as_tensors(unet, penalty)
        self.precision = 1 / (options.prior_sd**2 * self.labels.numel())
        self.n_members, n_slices = _fit_memory(unet, self.chosen, given, options.memory_mib)
        with torch.no_grad():
            self.parts = [
                (self.chosen.prepare(given[index]), self.labels[index])
                for index in torch.arange(len(given)).split(n_slices)
            ]

    def search(self, where: np.ndarray, start: Mapping[str, Tensor] | None) -> PixelFlips:
        case, row, column = torch.from_numpy(where.copy()).to(self.inputs.device).T
        inputs = self.inputs[case]
        n, options = len(where), self.options
        # Contiguous: with the strides of an expanded channels-last 1x1 kernel, the gradient of a convolution
        # under torch.func.vmap was wrong (torch 2.13).
        at_rest = {
            name: value.expand(n, *value.shape).clone(memory_format=torch.contiguous_format)
            for name, value in self.chosen.weights.items()
        }
        with torch.no_grad():
            logits = self.chosen.logits(self.chosen.weights, self.chosen.prepare(inputs))
            told = logits[torch.arange(n), :, row, column]  # (n, C)
        own, rival = nn.functional.one_hot(told.topk(2, dim=1).indices, told.shape[1]).to(inputs).unbind(1)
        at = nn.functional.one_hot(row * inputs.shape[-1] + column, inputs[0, 0].numel()).to(inputs)
        weights = at_rest | {k: v.to(at_rest[k]) for k, v in (start or {}).items() if k in at_rest}
        lowest = self._loss(at_rest)[0]
        lowest_data = lowest - self._prior(at_rest)
        best = torch.full((n,), math.inf).to(inputs)
        best_data, best_weights, history = best.clone(), dict(weights), []
        mean: Stack = {k: torch.zeros_like(v) for k, v in weights.items()}
        square: Stack = dict(mean)
        for step in range(1, options.steps + 1):
            loss, slope = self._loss(weights)
            margin, towards = self._margin(weights, inputs, at, own - rival)
            better = (margin <= 0) & (loss - lowest < best)
            best = torch.where(better, loss - lowest, best)
            best_data = torch.where(better, loss - self._prior(weights) - lowest_data, best_data)
            best_weights = {k: torch.where(_wide(better, v), v, best_weights[k]) for k, v in weights.items()}
            history.append(best)
            # In the plain metric: in that of the Fisher diagonal, flat directions are trusted so far that the
            # network leaves its tangent (measured).
            steepness = _dot(towards, towards).clamp(min=1e-30)
            share = _dot(slope, towards) / steepness
            within = {k: g - _wide(share, g) * towards[k] for k, g in slope.items()}  # 0 at the optimum
            move = {k: torch.zeros_like(v) for k, v in weights.items()}
            if step > 1:  # at the start the gradient is rounding noise, which Adam would blow up
                mean = {k: 0.9 * mean[k] + 0.1 * g for k, g in within.items()}
                square = {k: 0.99 * square[k] + 0.01 * g.square() for k, g in within.items()}
                rate = options.learning_rate * (1 - (step - 1) / options.steps) / (1 - 0.9 ** (step - 1))
                root = math.sqrt(1 - 0.99 ** (step - 1))
                move = {k: rate * mean[k] / (square[k].sqrt() / root + 1e-8) for k in weights}
            back = (margin + OVERSHOOT - _dot(towards, move)) / steepness
            weights = {k: v - move[k] - _wide(back, v) * towards[k] for k, v in weights.items()}
        return PixelFlips(best, best_data, torch.stack(history), best_weights)

    def _prior(self, weights: Stack) -> Tensor:
        return 0.5 * self.precision * sum((v.square().flatten(1).sum(dim=1) for v in weights.values()), 0.0)  # type: ignore[return-value]

    def _loss(self, weights: Stack) -> tuple[Tensor, Stack]:
        """(n,) penalised loss and its gradient, summed over parts of the penalty set."""
        total = self._prior(weights)
        slope = {name: self.precision * value for name, value in weights.items()}
        for prepared, labels in self.parts:

            def share(w: Stack, prepared: object = prepared, labels: Tensor = labels) -> Tensor:
                logits = self.chosen.logits(w, prepared)
                return nn.functional.cross_entropy(logits, labels, reduction="sum") / self.labels.numel()

            gradient, value = vmap(grad_and_value(share))(weights)
            total = total + value
            slope = {name: slope[name] + gradient[name] for name in slope}
        return total, slope

    def _margin(self, weights: Stack, inputs: Tensor, at: Tensor, between: Tensor) -> tuple[Tensor, Stack]:
        """(n,) lead of the own class over its rival in each network's own pixel, and its gradient.

        ``at`` (n, H W) is 1 in the pixel, ``between`` (n, C) 1 and -1 at the two classes.
        """

        def lead(w: Stack, image: Tensor, here: Tensor, pair: Tensor) -> Tensor:
            logits = self.chosen.logits(w, self.chosen.prepare(image[None]))[0].flatten(1)
            return pair @ (logits @ here)

        slope, margin = vmap(grad_and_value(lead))(weights, inputs, at, between)
        return margin, slope


def _fit_memory(unet: nn.Module, chosen: ChosenWeights, images: Tensor, memory_mib: float) -> tuple[int, int]:
    """How many networks at once, and how many slices of the penalty set at once, the memory allows."""
    sizes: list[int] = []
    handles = [
        module.register_forward_hook(lambda m, i, o: sizes.append(o.numel()))
        for module in unet.modules()
        if not list(module.children())
    ]
    try:
        with torch.no_grad():
            unet(images[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    bytes_each = images.element_size()
    a_slice = COPIES * sum(sizes) * bytes_each
    a_network = 10 * sum(v.numel() for v in chosen.weights.values()) * bytes_each  # weights, moments, slopes
    free = memory_mib * 2**20
    if a_network + a_slice > free:
        raise ValueError(
            f"memory_mib={memory_mib:g} is too little: one network on one slice takes "
            f"{(a_network + a_slice) / 2**20:.0f} MiB; raise it, or search fewer modules"
        )
    n_slices = min(len(images), max(1, int((free - a_network) / a_slice)))
    return max(1, int(free / (a_network + n_slices * a_slice))), n_slices


def _dot(first: Stack, second: Stack) -> Tensor:
    return sum(((first[k] * second[k]).flatten(1).sum(dim=1) for k in first), 0.0)  # type: ignore[return-value]


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
