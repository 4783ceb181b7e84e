"""Settings of a training, and the one loop that trains every network of this package."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor, nn
from tqdm import tqdm

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.batches import enough_memory
from segconf_lite.models.device import bf16_pays

Batch = TypeVar("Batch")
AUGMENTATIONS = (None, "mild", "nnunet", "strong")
PRECISIONS = ("auto", "fp32", "bf16")
COUNTS = ("steps", "batch_size", "patience")
VALIDATION_FRACTION = 0.15  # of the subjects, where no validation cohort is given
# Checks are counted per run and not per number of steps, because the one-cycle schedule ends with its best
# part, and a long run must not stop before it gets there.
CHECKS = 12


class Settings(TypedDict, total=False):
    """The fields of `Training` as keyword arguments, all optional."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    augmentation: str | None
    precision: str
    seed: int
    patience: int


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        steps: Largest number of optimiser steps, >= 1.
        batch_size: Cases per step, >= 1.
        learning_rate: Peak of the one-cycle schedule, > 0.
        weight_decay: Weight decay of AdamW, >= 0.
        augmentation: None, ``"mild"`` or ``"nnunet"`` (`segconf_lite.models.augment`); of quality predictors
            also ``"strong"`` (`segconf_lite.stress.corruptions.StrongCorruption`).
        precision: ``"fp32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16 where the hardware is faster with
            it.
        seed: Seed of the weights, the order of the batches, dropout, the augmentation and the split, >= 0.
        patience: Number of checks in a row without a lower validation loss after which the training stops,
            >= 1. A run has 12 checks.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> Training(steps=50).changed(seed=3).steps
        50
    """

    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    augmentation: str | None = None
    precision: str = "auto"
    seed: int = 0
    patience: int = 6

    def __post_init__(self) -> None:
        vars(self).update(  # one spelling of a number, so that equal trainings have equal addresses
            {name: check.integer(name, getattr(self, name), low=1) for name in COUNTS},
            seed=check.integer("seed", self.seed, low=0),
            learning_rate=check.number("learning_rate", self.learning_rate, low=0, open_low=True),
            weight_decay=check.number("weight_decay", self.weight_decay, low=0),
        )
        check.one_of("precision", self.precision, PRECISIONS)
        check.one_of("augmentation", self.augmentation, AUGMENTATIONS)

    def changed(self, **settings: Unpack[Settings]) -> Self:
        """A copy in which some fields have other values.

        Functions that take a training call ``Training.changed(training, ...)``, so that it is checked here.

        Raises:
            ValueError: If `self` is no `Training`, there is no such field, or a value is out of its range.
        """
        check.instance("training", self, Training)
        known = [field.name for field in dataclasses.fields(self)]
        for name in settings:
            if name not in known:
                raise check.refuse("a setting of a training", f"one of {known}", repr(name))
        return dataclasses.replace(self, **settings)

    def uses_bf16(self, device: torch.device) -> bool:
        """Whether the training computes in bfloat16 on this device."""
        return self.precision == "bf16" or (self.precision == "auto" and bf16_pays(device))


def as_settings(training: Training | Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of a training function, out of a whole `Training` or a dictionary of single arguments.

    Example:
        >>> as_settings({"steps": 3}), as_settings(None)
        ({'steps': 3}, {})
    """
    return {"training": training} if isinstance(training, Training) else dict(training or {})


def optimise(
    module: nn.Module,
    batches: Iterator[Batch],
    loss_on_batch: Callable[[Batch], Tensor],
    validation_loss: Callable[[], float],
    training: Training,
    *,
    checks: int = CHECKS,
    progress: bool | None = None,
) -> list[dict[str, float]]:
    """Train a module in place; afterwards it holds its best state and is in eval mode.

    The optimiser is AdamW with a one-cycle learning rate and gradients clipped to norm 1. The state with the
    lowest validation loss is kept. Parameters that require no gradient stay as they are.

    Args:
        module: The module; it is trained in train mode and validated in eval mode.
        batches: Endless iterator; each item is handed to `loss_on_batch`.
        loss_on_batch: Takes an item and returns a scalar loss with a gradient, lower is better.
        validation_loss: Returns the validation loss, lower is better; it is called without gradients.
        training: Steps, learning rate, weight decay and patience.
        checks: Number of validations in a whole run, evenly spaced; the last step is always validated.
        progress: Whether to show a bar; None shows one in a terminal unless ``SEGCONF_QUIET`` is set.

    Returns:
        The history, one dictionary per check: ``step``, ``train_loss`` (mean since the last check),
        ``validation_loss``, ``seconds`` since the start.

    Raises:
        BatchTooLargeError: If the memory is too small. The message names a smaller batch size.
        FloatingPointError: If a loss, a weight or a running statistic is NaN or infinite. It is found at the
            next check.

    Example:
        >>> import itertools
        >>> line = torch.nn.Linear(1, 1, bias=False)
        >>> loss = lambda x: (line(x) - 2 * x).square().mean()
        >>> one = torch.ones(1, 1)
        >>> training = Training(steps=100, learning_rate=0.1)
        >>> history = optimise(line, itertools.repeat(one), loss, lambda: float(loss(one)), training)
        >>> round(float(line.weight.detach()), 1)
        2.0
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    fused = True if all(p.is_cuda for p in parameters) else None  # one launch in place of dozens
    rate, steps = training.learning_rate, training.steps
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=training.weight_decay, fused=fused)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    check_every = math.ceil(steps / checks)
    history: list[dict[str, float]] = []
    best_state: dict[str, Tensor] = {}
    best_loss, best_step, recent, start = math.inf, 0, [], time.perf_counter()
    with tqdm(total=steps, disable=not wants_progress(progress), leave=False) as bar:
        for step in range(1, steps + 1):
            if not module.training:
                module.train()
            with enough_memory(training.batch_size, module, f"{step - 1} of {steps} steps"):
                loss = loss_on_batch(next(batches))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
            recent.append(loss.detach().clone())  # a CUDA graph writes its next loss to the same place
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            bar.update()
            if step % check_every and step != steps:
                continue
            # Reading a loss makes the host wait for the device, so those since the last check come together.
            losses = torch.stack(recent).tolist()
            for earlier, value in enumerate(losses, start=step - len(losses) + 1):
                _finite(value, earlier, rate)
            module.eval()
            with torch.no_grad():
                checked = _finite(float(validation_loss()), step, rate)
            mean, seconds = sum(losses) / len(losses), time.perf_counter() - start
            history.append({"step": step, "train_loss": mean, "validation_loss": checked, "seconds": seconds})
            bar.set_postfix(validation_loss=f"{checked:.3f}")
            recent = []
            if checked < best_loss:
                best_loss, best_step = checked, step
                best_state = {name: value.clone() for name, value in module.state_dict().items()}
            elif step - best_step >= training.patience * check_every:
                break
    for name, value in best_state.items():
        if not value.isfinite().all():
            raise FloatingPointError(f"{name} must stay finite; {_TOO_LARGE}")
    module.load_state_dict(best_state)
    module.eval()
    return history


def shuffled_batches(n_cases: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of case indices: every case comes once before any comes again.

    Args:
        n_cases: Number of cases.
        batch_size: Cases per batch; a batch that is larger than the cohort takes several rounds.
        generator: Generator of the order, on the CPU.

    Yields:
        (batch_size,) int64.

    Example:
        >>> batch = next(shuffled_batches(3, 3, torch.Generator().manual_seed(0)))
        >>> sorted(batch.tolist())
        [0, 1, 2]
    """
    queue = torch.empty(0, dtype=torch.int64)
    while True:
        while len(queue) < batch_size:
            queue = torch.cat([queue, torch.randperm(n_cases, generator=generator)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def train_and_validation(cohort: Cohort, validation: Cohort | None, seed: int) -> tuple[Cohort, Cohort]:
    """The cases to learn from, and those that choose the state to keep.

    Args:
        cohort: Training cases.
        validation: Cases of other subjects; None takes 15 % of the subjects off `cohort`.
        seed: Seed of that split.

    Raises:
        ValueError: If one is no cohort, the classes differ, or a single subject is to be split.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> parts = train_and_validation(phantom.cohort(12, size=16), None, seed=0)
        >>> [len(set(part.subjects)) for part in parts]
        [1, 1]
    """
    check.instance("cohort", cohort, Cohort)
    if validation is None:
        if len(set(cohort.subjects)) < 2:
            expected = "given for a cohort of one subject, because None holds out whole subjects and needs 2"
            fix = "pass validation=, a cohort of other subjects of the same scanner"
            raise check.refuse("validation", expected, "None", fix)
        first, second = cohort.split((1 - VALIDATION_FRACTION, VALIDATION_FRACTION), seed=seed)
        return first, second
    check.instance("validation", validation, Cohort)
    wanted, got = cohort.class_names, validation.class_names
    if got != wanted:
        raise check.refuse("validation", f"of the classes {wanted}", got, "remap one of them")
    return cohort, validation


def wants_progress(progress: bool | None) -> bool:
    """Whether a bar is shown: as asked, or where None, in a terminal unless ``SEGCONF_QUIET`` is set.

    Example:
        >>> wants_progress(False)
        False
    """
    quiet = os.environ.get("SEGCONF_QUIET", "0") not in ("", "0")
    terminal = sys.stderr is not None and sys.stderr.isatty()  # a program without a console has none
    return terminal and not quiet if progress is None else progress


_TOO_LARGE = "look for extreme intensities in the images, and z-score them"


def _finite(loss: float, step: int, learning_rate: float) -> float:
    if not math.isfinite(loss):
        fix = f"lower learning_rate (now {learning_rate:g}), or {_TOO_LARGE}"
        raise FloatingPointError(f"the loss must stay finite, got {loss} at step {step}; {fix}")
    return loss
