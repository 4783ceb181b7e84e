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
from segconf_lite.models.device import isolated_random_state, pick_device
from segconf_lite.models.segmenter import Segmenter

__all__ = ["Prepare", "fit_network", "stored_segmenter"]

# (network, images (B, 1, H, W), labels (B, H, W), generator) -> images and labels to learn from
Prepare = Callable[[nn.Module, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def fit_network(
    build: Callable[[], nn.Module],
    cohort: Cohort,
    *,
    prepare: Prepare | None = None,
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
    draws = torch.Generator().manual_seed(seed)
    with isolated_random_state(seed, place):
        network = build().to(place)

        def loss_on(cases: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
            images, labels = cases if prepare is None else prepare(network, *cases, generator)
            return cast(Tensor, loss_of(network(images.to(place)).float(), labels.to(place)[:, None]))

        def validation_loss() -> float:
            parts, again = torch.arange(len(held_out)).split(64), torch.Generator().manual_seed(seed)
            losses = [len(part) * float(loss_on(fit._cases(held_out, part), again)) for part in parts]
            return sum(losses) / len(held_out)

        history = fit.optimise(
            network,
            fit.shuffled_batches(len(train), batch_size, torch.Generator().manual_seed(seed)),
            lambda index: loss_on(fit._cases(train, index), draws),
            validation_loss,
            steps=steps,
            learning_rate=learning_rate,
            progress=progress,
        )
    network.history = history  # type: ignore[assignment]
    return network


def stored_segmenter(
    cohort: Cohort,
    config: dict[str, Any],
    *,
    prepare: Prepare | None = None,
    prepared: str = "",
    validation: Cohort | None = None,
    **training: Any,
) -> Segmenter:
    """The stored `Segmenter` for these arguments, or a newly trained one: `load_or_fit` of `fit_network`.

    Args:
        cohort: training cases.
        config: arguments of `Segmenter`.
        prepare: see `fit_network`.
        prepared: what `prepare` does, in words and numbers: the part of the address that stands for it.
        validation: see `fit_network`.
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
    if validation is not None:
        address["validation"] = validation.fingerprint()
    make = lambda: Segmenter(**config)  # noqa: E731
    given: dict[str, Any] = {"prepare": prepare, "validation": validation, **training}
    fitted = store.load_or_fit("segmenter", address, cohort, lambda: fit_network(make, cohort, **given))
    return cast(Segmenter, fitted)
