"""Training of any network, with whatever is done to its batches on the way.

`fit_unet` is the book's usual training. Here the architecture is the caller's, and so is a function that
prepares each batch: cuts windows, adds noise, attacks. Shape letters: B cases of a batch, H rows, W columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models import fit, segmenter, store
from segconf_lite.models.case_reader import case_reader
from segconf_lite.models.cuda_graph import as_cuda_graph
from segconf_lite.models.device import isolated_random_state, pick_device
from segconf_lite.models.segmenter import Segmenter

__all__ = ["Prepare", "fit_network", "stored_segmenter"]

CUDA_GRAPHS = False  # not before benchmarks/training_step.py has measured them on a card

# (network, images (B, 1, H, W), labels (B, H, W), generator) -> images and labels to learn from
Prepare = Callable[[nn.Module, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def fit_network(
    build: Callable[[], nn.Module],
    cohort: Cohort,
    *,
    prepare: Prepare | None = None,
    on_device: bool = False,
    validation: Cohort | None = None,
    steps: int = 200,
    batch_size: int = 8,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: str = "auto",
    progress: bool | None = None,
) -> nn.Module:
    """A network trained on one cohort in fp32, in eval mode; loss, schedule, choice of state as `fit_unet`.

    Args:
        build: makes the network; called with torch's random state at `seed`.
        cohort: training cases.
        prepare: changes each batch before the network sees it, validation batches too (with a generator that
            starts anew at each check, so that checks can be compared). None leaves batches as they are.
        on_device: Where `prepare` works. True: batch and generator are on the training's device, which spares
            a graphics card copies and waits; it draws other numbers there than on a CPU. False: on the CPU.
        validation: in-domain cases that choose the state to keep; None takes 15 % of the subjects off.
        steps: optimiser steps, >= 1.
        batch_size: cases per step, >= 1.
        learning_rate: peak of the one-cycle schedule.
        seed: of the weights, the batch order, what `prepare` draws, and the split.
        device: as in `fit_unet`.
        progress: as in `fit_unet`.

    Raises:
        ValueError: If an argument is out of its range.
        FloatingPointError: If the loss is no longer finite.
    """
    fit._check(steps, batch_size, "fp32")
    train, held_out = fit._train_and_validation(cohort, validation, seed)
    place = pick_device(device)
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    where = place if on_device else torch.device("cpu")
    read_train, read_held = (
        case_reader(part, place if prepare is None else where) for part in (train, held_out)
    )
    draws = torch.Generator(where).manual_seed(seed)
    with isolated_random_state(seed, place):
        network = build().to(place)
        loss_on = _LossOf(network, loss_of)
        graphs: dict[tuple[torch.Size, ...], nn.Module] = {}

        def ready(cases: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            if prepare is not None:
                cases = prepare(network, cases[0].to(where), cases[1].to(where), generator)
            return cases[0].to(place), cases[1].to(place)

        def training_loss(index: Tensor) -> Tensor:
            batch = ready(read_train(index), draws)
            if _may_use_graphs(place) and not graphs:  # of the first batch's shape; others go without
                graphs[tuple(part.shape for part in batch)] = as_cuda_graph(_LossOf(network, loss_of), batch)
            return cast(Tensor, graphs.get(tuple(part.shape for part in batch), loss_on)(*batch))

        def validation_loss() -> float:
            parts, again = torch.arange(len(held_out)).split(64), torch.Generator(where).manual_seed(seed)
            losses = [len(part) * float(loss_on(*ready(read_held(part), again))) for part in parts]
            return sum(losses) / len(held_out)

        history = fit.optimise(
            network,
            fit.shuffled_batches(len(train), batch_size, torch.Generator().manual_seed(seed)),
            training_loss,
            validation_loss,
            steps=steps,
            learning_rate=learning_rate,
            progress=progress,
        )
    network.history = history  # type: ignore[assignment]
    return network


class _LossOf(nn.Module):
    """Network and loss in one: a CUDA graph is made of a module."""

    def __init__(self, network: nn.Module, loss_of: nn.Module) -> None:
        super().__init__()
        self.network, self.loss_of = network, loss_of

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return cast(Tensor, self.loss_of(self.network(images).float(), labels[:, None]))


def _may_use_graphs(place: torch.device) -> bool:
    return CUDA_GRAPHS and place.type == "cuda" and place.index in (None, torch.cuda.current_device())


def stored_segmenter(
    cohort: Cohort,
    config: dict[str, Any],
    *,
    prepare: Prepare | None = None,
    prepared: str = "",
    on_device: bool = False,
    validation: Cohort | None = None,
    **training: Any,
) -> Segmenter:
    """The stored `Segmenter` for these arguments, or a newly trained one: `load_or_fit` of `fit_network`.

    Args:
        cohort: training cases.
        config: arguments of `Segmenter`.
        prepare: see `fit_network`.
        prepared: what `prepare` does, in words and numbers: the part of the address that stands for it.
        on_device, validation: see `fit_network`.
        **training: further arguments of `fit_network`, JSON-able.

    Raises:
        ValueError: If `prepare` is given without `prepared`: two preparations would share one address.
    """
    if (prepare is None) != (not prepared):
        raise ValueError(
            f"prepare and prepared go together, got prepared={prepared!r}; say what prepare does"
        )
    code = store.code_fingerprint(sys.modules[__name__], segmenter)
    address = {**config, **training, "prepared": prepared, "code": code}
    if on_device:  # a card draws other crops than the CPU
        address["on_device"] = True
    if validation is not None:
        address["validation"] = validation.fingerprint()
    make = lambda: Segmenter(**config)  # noqa: E731
    given: dict[str, Any] = {"prepare": prepare, "on_device": on_device, "validation": validation, **training}
    fitted = store.load_or_fit(
        "segmenter",
        address,
        cohort,
        lambda: fit_network(make, cohort, **given),
        device=training.get("device", "auto"),
    )
    return cast(Segmenter, fitted)
