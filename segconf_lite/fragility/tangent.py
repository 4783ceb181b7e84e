r"""Flip costs over more than the last layer: the network linearised in some of its weights.

As in `segconf_lite.fragility.head`, with the Jacobian J of a pixel's logits in place of the features. A
Fisher matrix of 175,000 weights fits no memory, so its diagonal H stands for it, and :math:`J H^{-1} J^T` is
the variance of the tangent's logits under random weights drawn from N(0, H^-1): one forward-mode pass per
draw serves all pixels. Neglected correlations make the costs too low, by orders of magnitude: use them to
rank pixels, not as nats. "Linearised Laplace" without the likelihood (Immer, Korzepa & Bauer, AISTATS 2021;
Daxberger et al., NeurIPS 2021).

Shape letters: B cases, C classes, H rows, W columns, P pairs of classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.fragility.head import FittedSearch, FlipTerms, SearchMaps
from segconf_lite.models.batches import checked_logits
from segconf_lite.models.explained import explained
from segconf_lite.models.outputs import picked
from segconf_lite.models.taps import check_open
from segconf_lite.models.unet import UNet

LARGEST_SEED = 2**63 - 1  # of a torch.Generator
DECODER = ("decoder", "penultimate", "head")  # modules of our UNet behind the bottleneck


class ChosenWeights(NamedTuple):
    """A network as a function of some of its weights; the others and the buffers stay as they are.

    Example:
        >>> chosen = choose_weights(UNet(n_classes=2, channels=(4, 8)), ("head",))
        >>> weights, logits = chosen.with_gradient(torch.zeros(1, 1, 8, 8))
        >>> logits.shape, logits.requires_grad
        (torch.Size([1, 2, 8, 8]), True)
    """

    weights: dict[str, Tensor]  # name -> values, no gradient history
    prepare: Callable[[Tensor], Any]  # images -> what does not depend on the chosen weights
    logits: Callable[[Mapping[str, Tensor], Any], Tensor]  # weights, prepared images -> (B, C, H, W)

    def with_gradient(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """A copy of the weights, and logits (B, C, H, W) whose gradient flows back to it.

        Args:
            images: (B, channels, H, W) on the device of the network.

        Raises:
            ValueError: If the output is no logits, or has no gradient: a search would find nothing, and the
                network would look robust.
        """
        with torch.no_grad():
            prepared = self.prepare(images)
        with torch.enable_grad():
            weights = {name: value.clone().requires_grad_() for name, value in self.weights.items()}
            logits = checked_logits(self.logits(weights, prepared), images)
        if not logits.requires_grad:
            expected, fix = "differentiable in its weights", "remove no_grad, detach and numpy from it"
            raise check.refuse("the network's output", expected, "logits without gradient", fix)
        return weights, logits


def module_names(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Names of modules, checked to be one or more pieces of text.

    Args:
        modules: Names as in ``network.named_modules()``; ``("",)`` is the whole network.

    Raises:
        ValueError: If it is a single text, empty, or holds anything but text.

    Example:
        >>> module_names(["head"])
        ('head',)
    """
    if not isinstance(modules, tuple | list) or not modules or not all(isinstance(m, str) for m in modules):
        raise check.refuse("modules", "one or more names", repr(modules), 'e.g. modules=("head",)')
    return tuple(modules)


def choose_weights(model: nn.Module, modules: tuple[str, ...]) -> ChosenWeights:
    """A network as a function of the weights of some modules.

    If the weights are all in the decoder of our `UNet`, the encoder runs once for each image.

    Args:
        model: Network from images to logits. It is not changed.
        modules: Names of modules; ``("",)`` is the whole network.

    Returns:
        The weights, and the function in two parts.

    Raises:
        ValueError: If a module has no weights or is not there.

    Example:
        >>> seeded = torch.manual_seed(0)
        >>> chosen = choose_weights(UNet(n_classes=2, channels=(4, 8)), ("head",))
        >>> {name: tuple(values.shape) for name, values in chosen.weights.items()}
        {'head.weight': (2, 4, 1, 1), 'head.bias': (2,)}
        >>> chosen.logits(chosen.weights, chosen.prepare(torch.zeros(1, 1, 8, 8))).shape
        torch.Size([1, 2, 8, 8])
    """
    for name, part in model.named_modules():
        check_open(model, name)
        if isinstance(part, nn.DataParallel):
            got = "a DataParallel, whose weights cannot be replaced"
            raise check.refuse("the network", "a plain module", got, "pass network.module")
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    chosen: dict[str, Tensor] = {}
    for module in module_names(modules):
        prefix = f"{module}." if module else ""
        inside = {name: value for name, value in parameters.items() if name.startswith(prefix)}
        if not inside:
            parts = list(dict(model.named_children()))
            raise ValueError(f"the model has no weights in a module {module!r}; its parts: {parts}")
        chosen |= inside
    if any(value.is_floating_point() and value.dtype.itemsize < 4 for value in parameters.values()):
        got, fix = "half precision, in which small steps vanish", "pass copy.deepcopy(network).float()"
        raise check.refuse("the network's weights", "float32 for a search", got, fix)
    fixed = {name: v for name, v in parameters.items() if name not in chosen} | dict(model.named_buffers())
    if isinstance(model, UNet) and all(name.split(".")[0] in DECODER for name in chosen):
        decoder = _Decoder(model)

        def decode(weights: Mapping[str, Tensor], encoded: Any) -> Tensor:
            state = {f"unet.{name}": value for name, value in (fixed | dict(weights)).items()}
            return functional_call(decoder, state, (encoded,))

        return ChosenWeights(chosen, model.encode, decode)

    def whole(weights: Mapping[str, Tensor], images: Any) -> Tensor:
        outputs = call_with(model, fixed | dict(weights), images.clone())  # it may work in place
        return cast(Tensor, picked(outputs, images))  # checked where the images are new

    return ChosenWeights(chosen, lambda images: images, whole)


def call_with(model: nn.Module, state: Mapping[str, Tensor], images: Tensor) -> Any:
    """What a network returns with other weights and buffers; its own stay as they are.

    Args:
        model: Any module of Python.
        state: Name -> value; names that are not there keep their own value.
        images: (B, channels, H, W) on the device of the network.

    Example:
        >>> layer = nn.Conv2d(1, 1, 1, bias=False)
        >>> float(call_with(layer, {"weight": torch.full((1, 1, 1, 1), 3.0)}, torch.ones(1, 1, 1, 1)))
        3.0
    """
    # A module that is registered twice would be replaced twice, and the second time not be given back.
    shared = len(list(model.modules())) < len(list(model.named_modules(remove_duplicate=False)))
    return functional_call(model, dict(state), (images,), tie_weights=not shared)


class _Decoder(nn.Module):
    """The part of our UNet behind its encoder; parameters keep their names."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, encoded: tuple[tuple[Tensor, ...], Tensor]) -> Tensor:
        return self.unet.decode(*encoded)


@dataclasses.dataclass(frozen=True)
class TangentSearch:
    """Flip costs of the network linearised in the weights of some modules; they rank pixels only.

    Attributes:
        modules: Names of these modules; ``("",)`` is the whole network.
        n_draws: Number of random directions, each one forward-mode pass per batch; the relative error of a
            leverage is about sqrt(2 / n_draws).
        n_slices: Number of training slices for the diagonal of the Fisher matrix.
        damping: Damping of that diagonal, as a fraction of its mean, > 0.
        seed: Seed of the random draws of slices, labels and directions.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.fragility import FragilityMap
        >>> from segconf_lite.models import UNet
        >>> cohort, unet = phantom.cohort(6, size=16), UNet(n_classes=4, channels=(4, 8)).eval()
        >>> search = TangentSearch(modules=("head",), n_draws=2, n_slices=2)
        >>> method = FragilityMap(search=search).fit(unet, cohort)
        >>> method.flip_cost(cohort.images[:2]).shape
        torch.Size([2, 16, 16])
    """

    modules: tuple[str, ...] = DECODER
    n_draws: int = 16
    n_slices: int = 96
    damping: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        self.__dict__.update(  # frozen for everyone else
            modules=module_names(self.modules),
            n_draws=check.integer("n_draws", self.n_draws, low=1),
            n_slices=check.integer("n_slices", self.n_slices, low=1),
            damping=check.number("damping", self.damping, low=0, open_low=True, fix="try damping=1e-3"),
            seed=check.integer("seed", self.seed, low=0, high=LARGEST_SEED),
        )

    def fit(self, unet: nn.Module, cohort: Cohort, *, batch_size: int) -> FittedSearch:
        """Measure the curvature of the loss on `n_slices` training cases.

        Args:
            unet: Network, in eval mode and without gradients (see `segconf_lite.models.splice.frozen`).
            cohort: Training cases.
            batch_size: Not read: cases go one by one.

        Returns:
            A function of images on the network's device and a budget that returns `SearchMaps`.

        Raises:
            ValueError: If a module has no weights, or the loss does not depend on them.

        Example:
            >>> from segconf_lite.cohorts import phantom
            >>> cohort, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
            >>> unet = UNet(n_classes=4, channels=(4, 8)).eval()
            >>> fitted = TangentSearch(modules=("head",), n_draws=2).fit(unet, cohort, batch_size=2)
            >>> maps = fitted(torch.from_numpy(cohort.images), 1e-3)
            >>> bool((maps.flip_cost >= 0).all())
            True
        """
        check.instance("unet", unet, nn.Module)
        check.instance("cohort", cohort, Cohort)
        check.integer("batch_size", batch_size, low=1)
        chosen = choose_weights(unet, self.modules)
        generator = torch.Generator().manual_seed(self.seed)
        with explained(unet, cohort.images):
            fisher = _diagonal_fisher(chosen, cohort, self.n_slices, generator)
        total = sum(float(value.sum()) for value in fisher.values())
        if not total > 0:
            got, fix = "none: the network is certain of every pixel", "use FragilityMap(search='head')"
            raise check.refuse("unet", "a network whose loss has curvature in these weights", got, fix)
        added = self.damping * total / sum(value.numel() for value in fisher.values())
        sd = {name: (value + added).rsqrt() for name, value in fisher.items()}
        return _FittedTangent(self, unet, sd)


@dataclasses.dataclass(frozen=True)
class _FittedTangent:
    """A `FittedSearch`."""

    search: TangentSearch
    unet: nn.Module
    sd: dict[str, Tensor]  # of each weight

    def __call__(self, images: Tensor, budget: float) -> SearchMaps:
        search, chosen = self.search, choose_weights(self.unet, self.search.modules)
        return _tangent_terms(chosen, self.sd, images, search.n_draws, search.seed).maps(budget)


@torch.enable_grad()
def _diagonal_fisher(
    chosen: ChosenWeights, cohort: Cohort, n_slices: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Diagonal of the Fisher matrix of the mean cross-entropy over pixels, in the chosen weights.

    One backward pass per slice: labels are drawn from the network's own probabilities, and each pixel's
    gradient gets a random sign. The expectation of the square of their sum is then the sum of squares,
    because mixed terms cancel.
    """
    total = {name: torch.zeros_like(value) for name, value in chosen.weights.items()}
    like, n_pixels = next(iter(total.values())), 0
    for index in torch.randperm(len(cohort), generator=generator)[:n_slices].tolist():
        image = torch.from_numpy(cohort.images[index : index + 1].copy()).to(like)
        weights, logits = chosen.with_gradient(image)  # (1, C, H, W)
        probabilities = logits.detach().softmax(dim=1).movedim(1, -1).flatten(0, -2)  # (H W, C)
        labels = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0].to(logits.device)
        sign = 2.0 * torch.randint(0, 2, labels.shape, generator=generator).to(logits) - 1
        rows = logits.movedim(1, -1).flatten(0, -2)  # (H W, C)
        losses = nn.functional.cross_entropy(rows, labels, reduction="none")
        slopes = torch.autograd.grad((sign * losses).sum(), list(weights.values()), materialize_grads=True)
        for name, slope in zip(weights, slopes, strict=True):
            total[name] += slope.square()
        n_pixels += len(labels)
    return {name: value / n_pixels for name, value in total.items()}


def _tangent_terms(
    chosen: ChosenWeights, sd: Mapping[str, Tensor], images: Tensor, n_draws: int, seed: int
) -> FlipTerms:
    """Margins and leverages of all pixels (B, C, H, W); the loss is taken to be at its optimum.

    The standard deviation of each weight is the root of the damped inverse Fisher diagonal. The random
    directions are the same for all images of the batch.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        prepared = chosen.prepare(images)
        logits = checked_logits(chosen.logits(chosen.weights, prepared), images)  # (B, C, H, W)
        first, second = torch.triu_indices(logits.shape[1], logits.shape[1], offset=1, device=logits.device)
        form = torch.zeros_like(logits[:, first])  # (B, P, H, W)
        for _ in range(n_draws):
            direction = {
                name: (value.cpu() * torch.randn(value.shape, generator=generator)).to(value)
                for name, value in sd.items()
            }
            moved = jvp(lambda w: chosen.logits(w, prepared), (chosen.weights,), (direction,))[1]
            form += (moved[:, first] - moved[:, second]).square()
    form = (form / n_draws).movedim(1, -1).clamp(min=torch.finfo(form.dtype).tiny)
    scores = logits.movedim(1, -1)  # (B, H, W, C)
    return FlipTerms.from_pairs(scores.max(dim=-1).indices, scores, form, 0.0)
