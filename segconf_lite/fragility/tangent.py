"""Flip costs through more than the last layer: the network replaced by its tangent in some of its weights.

As in `flip_cost`, with the Jacobian J of a pixel's logits in the place of the features. A Fisher matrix of
175,000 weights fits no memory, so its diagonal stands for it, and J'H^-1 J is the variance of the tangent's
answer under random weights drawn from N(0, H^-1): one forward-mode pass a draw serves all pixels. Neglected
correlations make the costs too low, by orders of magnitude: read them as an order, not in nats. "Linearised
Laplace" without the likelihood (Immer, Korzepa & Bauer, AISTATS 2021; Daxberger et al., NeurIPS 2021).

Shape letters: B cases, C classes, H rows, W columns, P pairs of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.fragility.flip_cost import FlipTerms, pairs_of_classes, terms_of_pairs
from segconf_lite.models.unet import UNet

__all__ = ["DECODER", "ChosenWeights", "choose_weights", "diagonal_fisher", "tangent_terms"]

DECODER = ("decoder", "penultimate", "head")  # modules of our UNet behind the bottleneck


class ChosenWeights(NamedTuple):
    """A network as a function of some of its weights; the others and the buffers stay as they are."""

    weights: dict[str, Tensor]  # name -> values, no gradient history
    prepare: Callable[[Tensor], Any]  # images -> what does not depend on the chosen weights
    logits: Callable[[Mapping[str, Tensor], Any], Tensor]  # weights, prepared -> (B, C, H, W)


class _Decoder(nn.Module):
    """The part of our UNet behind its encoder, as a module of its own; parameters keep their names."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, encoded: tuple[tuple[Tensor, ...], Tensor]) -> Tensor:
        return self.unet.decode(*encoded)


def choose_weights(model: nn.Module, modules: tuple[str, ...]) -> ChosenWeights:
    """Open a network at the weights of the named modules; ``("",)`` is all of them.

    If the weights are all in the decoder of our `UNet`, the encoder runs once for each image.

    Raises:
        ValueError: If a module has no weights or is not there.
    """
    named = {name: value.detach() for name, value in model.named_parameters()}
    chosen: dict[str, Tensor] = {}
    for module in modules:
        found = {name: v for name, v in named.items() if name.startswith(f"{module}." if module else "")}
        if not found:
            parts = list(dict(model.named_children()))
            raise ValueError(f"the model has no weights in a module {module!r}; its parts: {parts}")
        chosen |= found
    fixed = {name: v for name, v in named.items() if name not in chosen} | dict(model.named_buffers())
    if isinstance(model, UNet) and all(name.split(".")[0] in DECODER for name in chosen):
        decoder = _Decoder(model)

        def decode(weights: Mapping[str, Tensor], encoded: Any) -> Tensor:
            state = {f"unet.{name}": value for name, value in (fixed | dict(weights)).items()}
            return functional_call(decoder, state, (encoded,))

        return ChosenWeights(chosen, model.encode, decode)

    def whole(weights: Mapping[str, Tensor], images: Any) -> Tensor:
        return functional_call(model, fixed | dict(weights), (images.clone(),))  # it may work in place

    return ChosenWeights(chosen, lambda images: images, whole)


def diagonal_fisher(
    chosen: ChosenWeights, cohort: Cohort, *, n_slices: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Diagonal of the Fisher matrix of the mean cross-entropy over pixels, in the chosen weights.

    One backward pass a slice: labels are drawn from the network's own answer, and each pixel's gradient gets
    a random sign. The square of the sum is then the sum of squares on average, since mixed terms cancel.

    Args:
        cohort: the training cases.
        n_slices: how many of them, drawn without replacement.
        generator: which slices, labels and signs.
    """
    total = {name: torch.zeros_like(value) for name, value in chosen.weights.items()}
    n_pixels = 0
    for index in torch.randperm(len(cohort), generator=generator)[:n_slices].tolist():
        image = torch.from_numpy(cohort.images[index : index + 1]).to(next(iter(total.values())))
        weights = {name: value.clone().requires_grad_() for name, value in chosen.weights.items()}
        with torch.no_grad():
            prepared = chosen.prepare(image)
        logits = chosen.logits(weights, prepared)
        chances = logits.detach().softmax(dim=1).movedim(1, -1).flatten(0, -2)
        drawn = torch.multinomial(chances.cpu(), 1, generator=generator)[:, 0].to(logits.device)
        sign = 2.0 * torch.randint(0, 2, drawn.shape, generator=generator).to(logits) - 1
        losses = nn.functional.cross_entropy(logits.movedim(1, -1).flatten(0, -2), drawn, reduction="none")
        slopes = torch.autograd.grad((sign * losses).sum(), list(weights.values()))
        for name, slope in zip(weights, slopes, strict=True):
            total[name] += slope.square()
        n_pixels += len(drawn)
    return {name: value / n_pixels for name, value in total.items()}


def tangent_terms(
    chosen: ChosenWeights, spread: Mapping[str, Tensor], images: Tensor, *, n_draws: int,
    generator: torch.Generator,
) -> FlipTerms:  # fmt: skip
    """Margins and leverages of all pixels of a batch; the loss is taken to be at its optimum.

    Args:
        spread: standard deviation of each weight, the root of the damped inverse Fisher diagonal.
        images: (B, 1, H, W).
        n_draws: random directions; the relative error of a leverage is about sqrt(2 / n_draws).
        generator: of the directions; equal ones for all images of the batch.
    """
    with torch.no_grad():
        prepared = chosen.prepare(images)
        logits = chosen.logits(chosen.weights, prepared)
        first, second = pairs_of_classes(logits.shape[1])
        form = torch.zeros_like(logits[:, first])
        for direction in _directions(spread, n_draws, generator):
            moved = jvp(lambda w: chosen.logits(w, prepared), (chosen.weights,), (direction,))[1]
            form += (moved[:, first] - moved[:, second]).square()
    form = (form / n_draws).movedim(1, -1).clamp(min=torch.finfo(form.dtype).tiny)
    given = logits.movedim(1, -1)
    return terms_of_pairs(given.max(dim=-1).indices, given, form, 0.0, logits.shape[1])


def _directions(
    spread: Mapping[str, Tensor], n_draws: int, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    for _ in range(n_draws):
        yield {
            name: (value.cpu() * torch.randn(value.shape, generator=generator)).to(value)
            for name, value in spread.items()
        }
