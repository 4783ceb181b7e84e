"""Search the weights for the cheapest network that labels one pixel differently.

The cost of a network is its log posterior: the mean cross-entropy on a fixed penalty set, plus a Gaussian
prior on its weights. The search stays on networks where the pixel has just flipped: each step moves against
the gradient of the cost (Adam), and then back to that surface along the gradient of the margin. So every
network it visits does flip the pixel, and the best one is an upper bound of the flip cost. A search over more
weights may start where one over fewer ended; then its bound is never higher. The task is that of QUAM
(Schweighofer et al., NeurIPS 2023), for one pixel.

Shape letters: n pixels, each with a separate network; B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.evaluation.raters import boundary_distance_px
from segconf_lite.fragility.head import pixel_index
from segconf_lite.fragility.tangent import ChosenWeights, choose_weights, module_names
from segconf_lite.models.batches import checked_logits, network_input
from segconf_lite.models.device import frozen
from segconf_lite.models.explained import explained

Stack = dict[str, Tensor]  # name -> (n, *shape of the weight): one network per pixel
OVERSHOOT = 0.01  # logits: how far beyond the tie a search aims, so that rounding does not undo the flip
COPIES = 4.0  # tensors of the size of all activations that one gradient holds at once, measured
# name -> (foreground, background, nearest and farthest distance to the predicted boundary in pixels)
STRATA = {
    "boundary": (True, True, 0.0, 2.0),
    "inside": (True, False, 2.0, np.inf),
    "outside": (False, True, 2.0, 8.0),
    "far": (False, True, 8.0, np.inf),
}


def stratified_pixels(labels: Tensor | np.ndarray, *, n_each: int, seed: int = 0) -> pd.DataFrame:
    """Stratified sample of pixels: of the boundary, the inside, the near and the far background.

    A simple random sample would be mostly far background; searches are too expensive for that.

    Args:
        labels: (N, H, W) predicted classes, 0 is background.
        n_each: Number of pixels per stratum, >= 1, drawn without replacement from all cases; fewer where a
            stratum has fewer.
        seed: Seed of the random draw.

    Returns:
        Columns stratum (a key of `STRATA`), case, row, column.

    Raises:
        ValueError: If labels are not (N, H, W) integers, or n_each < 1.

    Example:
        >>> labels = np.zeros((1, 16, 16), int)
        >>> labels[0, :4] = 1
        >>> stratified_pixels(labels, n_each=2)["stratum"].value_counts(sort=False).to_dict()
        {'boundary': 2, 'inside': 2, 'outside': 2, 'far': 2}
    """
    n_each = check.integer("n_each", n_each, low=1)
    rng = np.random.default_rng(check.integer("seed", seed, low=0))
    predicted = check.label_map("labels", labels)
    distance, parts = boundary_distance_px(predicted), []
    for name, (foreground, background, nearest, farthest) in STRATA.items():
        inside = (distance > nearest) & (distance <= farthest)
        inside &= ((predicted > 0) & foreground) | ((predicted == 0) & background)
        pixels = np.argwhere(inside)
        chosen = pixels[rng.choice(len(pixels), min(n_each, len(pixels)), replace=False)]
        parts.append(pd.DataFrame(chosen, columns=["case", "row", "column"]).assign(stratum=name))
    return pd.concat(parts, ignore_index=True)[["stratum", "case", "row", "column"]]


class PixelFlips(NamedTuple):
    """Result of a search for n pixels.

    Example:
        >>> never = torch.full((1,), math.inf)
        >>> PixelFlips(never, never, never[None], {}).cost
        tensor([inf])
    """

    cost: Tensor  # (n,) rise of the penalised loss in nats per pixel; infinite if the pixel never flipped
    data_cost: Tensor  # (n,) its part from the penalty set, without the prior
    history: Tensor  # (steps, n) the lowest cost so far
    weights: Stack  # of the best network; of the first one where nothing flipped


@dataclasses.dataclass(frozen=True)
class PixelSearch:
    """Settings of `search_pixels`.

    Attributes:
        modules: Names of the modules whose weights may move; ``("",)`` is the whole network.
        steps: Number of steps, each one gradient of the penalty set, >= 1.
        learning_rate: Learning rate of Adam, falling linearly to 0.
        prior_sd: Standard deviation of the Gaussian prior on every weight; the loss of the whole penalty
            set counts as many observations as it has pixels.
        n_penalty: Number of slices in the penalty set, drawn from the training cases; all if there are fewer.
        memory_mib: Largest memory in MiB that the search takes, by taking fewer pixels and fewer slices at
            once.
        seed: Seed of the random draw of the penalty set.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> PixelSearch(modules=("head",), steps=5).steps
        5
    """

    modules: tuple[str, ...] = ("",)
    steps: int = 60
    learning_rate: float = 5e-4
    prior_sd: float = 1.0
    n_penalty: int = 48
    memory_mib: float = 1024.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.__dict__.update(  # frozen for everyone else
            modules=module_names(self.modules),
            steps=check.integer("steps", self.steps, low=1),
            learning_rate=check.number("learning_rate", self.learning_rate, low=0, open_low=True),
            prior_sd=check.number("prior_sd", self.prior_sd, low=1e-100, high=1e100),  # its square is a float
            n_penalty=check.integer("n_penalty", self.n_penalty, low=1),
            memory_mib=check.number("memory_mib", self.memory_mib, low=0, open_low=True),
            seed=check.integer("seed", self.seed, low=0),
        )


def search_pixels(
    unet: nn.Module,
    images: Tensor | np.ndarray,
    pixels: Tensor | np.ndarray,
    penalty: Cohort,
    search: PixelSearch | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
) -> PixelFlips:
    """Upper bounds of the flip costs of some pixels, by search.

    Args:
        unet: Network at the optimum of the loss on the penalty set, see `polish`. It is not changed.
        images: (B, channels, H, W), numpy or torch.
        pixels: (n, 3) case, row and column of each pixel.
        penalty: Training cases on which the loss is measured; ``n_penalty`` of them, used in every step.
        search: Settings; None takes those of ``PixelSearch()``.
        start: ``weights`` of a search over fewer modules, for the same pixels.

    Returns:
        Costs, history and weights on the CPU.

    Raises:
        ValueError: If a pixel lies outside, a module has no weights, the output has no gradient, or a single
            slice of a single network needs more than ``memory_mib``.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> penalty, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> options = PixelSearch(modules=("head",), steps=3)
        >>> unet = UNet(n_classes=4, channels=(4, 8)).eval()
        >>> flips = search_pixels(unet, penalty.images, [[0, 8, 8]], penalty, options)
        >>> flips.history.shape, bool(flips.cost.isfinite().all())
        (torch.Size([3, 1]), True)
    """
    options = PixelSearch() if search is None else search
    if not isinstance(options, PixelSearch):
        raise check.refuse("search", "a PixelSearch or None", type(options).__name__)
    check.instance("penalty", penalty, Cohort)
    index = pixel_index(pixels, check.image_batch(images, channels=None))
    if options.n_penalty < len(penalty):
        rng = np.random.default_rng(options.seed)
        penalty = penalty.take(np.sort(rng.choice(len(penalty), options.n_penalty, replace=False)))
    with frozen(unet), explained(unet, penalty.images), explained(unet, images):
        task = _Task(unet, images, penalty, options)
        begin = _checked_start(start, task.chosen, len(index))
        parts = []
        for first in range(0, len(index), task.n_members):
            chunk = slice(first, first + task.n_members)
            parts.append(task.search(index[chunk], {name: value[chunk] for name, value in begin.items()}))
    cost, data_cost = (torch.cat([getattr(part, name) for part in parts]) for name in ("cost", "data_cost"))
    weights = {name: torch.cat([part.weights[name] for part in parts]) for name in parts[0].weights}
    return PixelFlips(cost, data_cost, torch.cat([part.history for part in parts], dim=1), weights)


class _Task:
    """One network, one penalty set; searches for some pixels at a time."""

    def __init__(
        self, unet: nn.Module, images: Tensor | np.ndarray, penalty: Cohort, options: PixelSearch
    ) -> None:
        self.options, self.chosen = options, choose_weights(unet, options.modules)
        self.inputs = network_input(images, unet)  # (B, channels, H, W)
        slices = network_input(penalty.images, unet)  # (N, channels, H, W)
        n_classes = self.chosen.with_gradient(slices[:2])[1].shape[1]
        labels = check.label_map("labels of the cohort", penalty.labels, n_classes=n_classes)
        self.labels = torch.from_numpy(labels.copy()).to(slices.device)
        self.precision = 1 / (options.prior_sd**2 * self.labels.numel())
        self.n_members, n_slices = _fit_memory(unet, self.chosen, slices, options.memory_mib)
        with torch.no_grad():
            self.parts = [
                (self.chosen.prepare(slices[index]), self.labels[index])
                for index in torch.arange(len(slices)).split(n_slices)
            ]

    def search(self, pixels: np.ndarray, start: Mapping[str, Tensor]) -> PixelFlips:
        """The cheapest flip that n networks find, one for each pixel (case, row, column)."""
        case, row, column = torch.from_numpy(pixels.copy()).to(self.inputs.device).T
        inputs, n = self.inputs[case], len(pixels)  # (n, channels, H, W)
        with torch.no_grad():
            logits = self.chosen.logits(self.chosen.weights, self.chosen.prepare(inputs))  # (n, C, H, W)
            scores = checked_logits(logits, inputs)[torch.arange(n), :, row, column]  # (n, C)
        best_two = nn.functional.one_hot(scores.topk(2, dim=1).indices, scores.shape[1]).to(inputs)
        between = best_two[:, 0] - best_two[:, 1]  # (n, C): 1 at the predicted class, -1 at the runner-up
        at = nn.functional.one_hot(row * inputs.shape[-1] + column, inputs[0, 0].numel()).to(inputs)

        # n copies of the network as it is. Contiguous: with the strides of an expanded channels-last 1x1
        # kernel, the gradient of a convolution under torch.func.vmap was wrong (torch 2.13).
        trained = {
            name: value.expand(n, *value.shape).clone(memory_format=torch.contiguous_format)
            for name, value in self.chosen.weights.items()
        }
        trained_loss = self._loss(trained)[0]  # (n,)
        if not trained_loss.isfinite().all():
            raise check.refuse("the loss on the penalty set", "finite", "NaN or infinity")
        trained_data_loss = trained_loss - self._prior(trained)

        weights = trained | {name: value.to(trained[name]) for name, value in start.items()}
        cost, best, history = torch.full((n,), math.inf).to(inputs), dict(weights), []
        data_cost, adam = cost.clone(), _Adam(weights, self.options)
        for _ in range(self.options.steps):
            loss, loss_slope = self._loss(weights)  # (n,), and for each weight as the weight
            margin, margin_slope = self._margin(weights, inputs, at, between)

            # The cheapest network so far whose pixel has flipped.
            better = (margin <= 0) & (loss - trained_loss < cost)  # (n,)
            cost = torch.where(better, loss - trained_loss, cost)
            data_cost = torch.where(better, loss - self._prior(weights) - trained_data_loss, data_cost)
            best = {k: torch.where(_like(v, better), v, best[k]) for k, v in weights.items()}
            history.append(cost)

            # The slope of the loss along the surface where the pixel just flips; 0 at the optimum. In the
            # plain metric: in that of the Fisher diagonal, flat directions are trusted so far that the
            # network leaves its tangent (measured).
            steepness = _dot(margin_slope, margin_slope).clamp(min=1e-30)  # (n,)
            part = _dot(loss_slope, margin_slope) / steepness  # (n,)
            along = {k: slope - _like(slope, part) * margin_slope[k] for k, slope in loss_slope.items()}
            move = adam.move(along)

            # After the move, back to that surface along the slope of the margin.
            back = (margin + OVERSHOOT - _dot(margin_slope, move)) / steepness  # (n,)
            weights = {k: v - move[k] - _like(v, back) * margin_slope[k] for k, v in weights.items()}
        best = {name: value.cpu() for name, value in best.items()}
        return PixelFlips(cost.cpu(), data_cost.cpu(), torch.stack(history).cpu(), best)

    def _prior(self, weights: Stack) -> Tensor:
        """(n,) negative log density of the Gaussian prior, per pixel of the penalty set."""
        return 0.5 * self.precision * _dot(weights, weights)

    def _loss(self, weights: Stack) -> tuple[Tensor, Stack]:
        """(n,) penalised loss and its gradient, summed over parts of the penalty set."""
        total = self._prior(weights)
        slope = {name: self.precision * value for name, value in weights.items()}
        for prepared, labels in self.parts:

            def part_of_loss(w: Stack, prepared: object = prepared, labels: Tensor = labels) -> Tensor:
                logits = self.chosen.logits(w, prepared)
                return nn.functional.cross_entropy(logits, labels, reduction="sum") / self.labels.numel()

            gradient, value = vmap(grad_and_value(part_of_loss))(weights)
            total = total + value
            slope = {name: slope[name] + gradient[name] for name in slope}
        return total, slope

    def _margin(self, weights: Stack, inputs: Tensor, at: Tensor, between: Tensor) -> tuple[Tensor, Stack]:
        """(n,) lead of the predicted class over the runner-up in each network's own pixel, and its gradient.

        ``at`` (n, H W) is 1 in the pixel, ``between`` (n, C) is 1 and -1 at the two classes.
        """

        def lead(w: Stack, image: Tensor, here: Tensor, pair: Tensor) -> Tensor:
            logits = self.chosen.logits(w, self.chosen.prepare(image[None]))[0].flatten(1)  # (C, H W)
            return pair @ (logits @ here)

        slope, margin = vmap(grad_and_value(lead))(weights, inputs, at, between)
        return margin, slope


class _Adam:
    """Adam on a stack of networks, at a rate that falls linearly to 0.

    The first step moves nothing: at the start, the slope is rounding noise, which Adam would blow up.
    """

    def __init__(self, weights: Stack, options: PixelSearch) -> None:
        self.options, self.step = options, -1
        self.mean = {name: torch.zeros_like(value) for name, value in weights.items()}
        self.square = dict(self.mean)

    def move(self, slope: Stack) -> Stack:
        """What to subtract from the weights."""
        self.step += 1
        if self.step == 0:
            return {name: torch.zeros_like(value) for name, value in slope.items()}
        self.mean = {k: 0.9 * self.mean[k] + 0.1 * g for k, g in slope.items()}
        self.square = {k: 0.99 * self.square[k] + 0.01 * g.square() for k, g in slope.items()}
        rate = self.options.learning_rate * (1 - self.step / self.options.steps) / (1 - 0.9**self.step)
        root = math.sqrt(1 - 0.99**self.step)
        return {k: rate * self.mean[k] / (self.square[k].sqrt() / root + 1e-8) for k in slope}


def _fit_memory(unet: nn.Module, chosen: ChosenWeights, images: Tensor, memory_mib: float) -> tuple[int, int]:
    """How many networks at once, and how many slices of the penalty set at once, the memory allows."""
    sizes: list[int] = []
    handles = [
        module.register_forward_hook(lambda m, i, o: sizes.append(o.numel() if isinstance(o, Tensor) else 0))
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


def _checked_start(start: Mapping[str, Tensor] | None, chosen: ChosenWeights, n: int) -> Stack:
    """Those weights of an earlier search for n pixels that move in this one, too."""
    if start is not None and not isinstance(start, Mapping):
        raise check.refuse("start", "the weights of a PixelFlips", type(start).__name__)
    begin = {name: value for name, value in (start or {}).items() if name in chosen.weights}
    for name, value in begin.items():
        expected = (n, *chosen.weights[name].shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != expected:
            got = getattr(value, "shape", type(value).__name__)
            raise check.refuse(f"start[{name!r}]", f"a tensor {expected} of the same pixels", got)
    return begin


def _dot(first: Stack, second: Stack) -> Tensor:
    """(n,) dot product of the weights of each network."""
    return functools.reduce(torch.add, ((first[k] * second[k]).flatten(1).sum(dim=1) for k in first))


def _like(values: Tensor, per_network: Tensor) -> Tensor:
    """One number per network, (n,), as (n, 1, ...) with as many axes as the values."""
    return per_network.view(-1, *[1] * (values.ndim - 1))
