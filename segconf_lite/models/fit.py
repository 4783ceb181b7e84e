"""The one training loop, and the training of a U-Net with it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from tqdm import tqdm

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.augment import make_augmentation
from segconf_lite.models.case_reader import case_reader
from segconf_lite.models.device import bf16_pays, isolated_random_state, pick_device
from segconf_lite.models.unet import UNet

__all__ = ["fit_unet", "optimise", "shuffled_batches"]

PRECISIONS = ("auto", "fp32", "bf16")
VALIDATION_SHARE = 0.15  # of the subjects, where no validation cohort is given
# Looks at the validation loss in a run. A share of the run, not a number of steps: the one-cycle
# schedule ends with its best part, and a long run must not stop before it gets there.
CHECKS = 12


def fit_unet(
    cohort: Cohort,
    *,
    validation: Cohort | None = None,
    channels: tuple[int, ...] = (16, 32, 64, 96),
    norm: str = "batch",
    skips: bool = True,
    dropout: float = 0.0,
    steps: int = 300,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
    augmentation: str | None = None,
    seed: int = 0,
    precision: str = "auto",
    device: str = "auto",
    patience: int = 6,
    progress: bool | None = None,
) -> UNet:
    """A U-Net trained on one cohort, in eval mode, on the device it was trained on.

    Dice + cross-entropy (Dice over the foreground classes of the whole batch, which keeps a class
    that a slice lacks from pulling), AdamW, one-cycle learning rate, gradients clipped to norm 1.
    The state with the lowest in-domain validation loss is kept. The global random state of
    torch is the same before and after; equal seeds give equal networks on one CPU.

    Args:
        cohort: training cases; each image normally z-scored, H and W divisible by ``2**levels``.
        validation: in-domain cases that choose the state to keep; None takes 15 % of the
            subjects off the cohort, ``cohort.split((0.85, 0.15), seed=seed)``.
        channels: features per level, see `UNet`.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, see `UNet`.
        skips: False for no skip connections, see `UNet`.
        dropout: probability in [0, 1) around the bottleneck, see `UNet`.
        steps: most optimiser steps, >= 1.
        batch_size: cases per step.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        augmentation: None, ``"mild"`` or ``"nnunet"``, see `segconf_lite.models.augment`.
        seed: of the weights, the batch order, dropout, the augmentation and the split.
        precision: ``"fp32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16 where it pays.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        patience: checks (there are 12 in a run) in a row without a lower validation loss before it stops.
        progress: show a bar; None shows one in a terminal unless ``SEGCONF_QUIET`` is set.

    Returns:
        The network. ``unet.history`` has one dict per check: ``step``, ``train_loss`` (mean
        since the last check), ``validation_loss``, ``seconds`` since the start.

    Raises:
        ValueError: If an argument is out of its range, the validation cohort has other classes,
            or there is a single subject and no validation cohort.
        FloatingPointError: If the loss is no longer finite.
    """
    _check(steps, batch_size, precision)
    augment = make_augmentation(augmentation, seed)
    train, held_out = _train_and_validation(cohort, validation, seed)
    place = pick_device(device)
    use_bf16 = precision == "bf16" or (precision == "auto" and bf16_pays(place))
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    read_train, read_held = case_reader(train, "cpu" if augment else place), case_reader(held_out, place)
    with isolated_random_state(seed, place):
        unet = UNet(
            n_classes=len(cohort.class_names), channels=channels, norm=norm, skips=skips, dropout=dropout
        ).to(place)

        def loss_on(images: Tensor, labels: Tensor) -> Tensor:
            with torch.autocast(place.type, dtype=torch.bfloat16, enabled=use_bf16):
                logits = unet(images)
            return loss_of(logits.float(), labels.to(place)[:, None])

        def loss_on_batch(index: Tensor) -> Tensor:
            return loss_on(*(augment(*read_train(index)) if augment else read_train(index)))

        def validation_loss() -> float:
            parts = torch.arange(len(held_out)).split(64)
            return sum(len(part) * float(loss_on(*read_held(part))) for part in parts) / len(held_out)

        unet.history = optimise(
            unet,
            shuffled_batches(len(train), batch_size, torch.Generator().manual_seed(seed)),
            loss_on_batch,
            validation_loss,
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            patience=patience,
            progress=progress,
        )
    return unet


def optimise(
    module: nn.Module,
    batches: Iterator[Any],
    loss_on_batch: Callable[[Any], Tensor],
    validation_loss: Callable[[], float],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 1e-2,
    patience: int = 6,
    checks: int = CHECKS,
    progress: bool | None = None,
) -> list[dict[str, float]]:
    """Train `module` in place; afterwards it holds its best state and is in eval mode.

    Whatever is trained in this package is trained here. Parameters of `module` that require no
    gradient stay as they are.

    Args:
        module: trained in train mode, validated in eval mode.
        batches: endless; each item is handed to `loss_on_batch`.
        loss_on_batch: item -> scalar loss with a gradient, lower is better.
        validation_loss: () -> loss, lower is better; called without gradients.
        steps: most optimiser steps, >= 1.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        patience: checks in a row without a lower validation loss before it stops.
        checks: validations in a whole run, evenly spaced; the last step is always validated.
        progress: as in `fit_unet`.

    Returns:
        The history, one dict per check, see `fit_unet`.

    Raises:
        FloatingPointError: If a loss is NaN or infinite; found at the next check, told with its own step.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    fused = True if all(p.is_cuda for p in parameters) else None  # one launch in place of dozens
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    check_every = math.ceil(steps / checks)
    history: list[dict[str, float]] = []
    best_state: dict[str, Tensor] = {}
    best_loss, best_step, recent, start = math.inf, 0, [], time.perf_counter()
    with tqdm(total=steps, disable=not _wants_progress(progress), leave=False) as bar:
        for step in range(1, steps + 1):
            if not module.training:
                module.train()
            loss = loss_on_batch(next(batches))
            recent.append(loss.detach().clone())  # a CUDA graph writes its next loss to the same place
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            bar.update()
            if step % check_every and step != steps:
                continue
            # Reading a loss makes the host wait for the device, so those since the last check come together.
            losses = torch.stack(recent).tolist()
            for back, value in enumerate(losses, start=step - len(losses) + 1):
                _finite(value, back, learning_rate)
            module.eval()
            with torch.no_grad():
                checked = _finite(float(validation_loss()), step, learning_rate)
            history.append({
                "step": step, "train_loss": sum(losses) / len(losses), "validation_loss": checked,
                "seconds": time.perf_counter() - start,
            })  # fmt: skip
            bar.set_postfix(validation_loss=f"{checked:.3f}")
            recent = []
            if checked < best_loss:
                best_loss, best_step = checked, step
                best_state = {name: value.clone() for name, value in module.state_dict().items()}
            elif step - best_step >= patience * check_every:
                break
    module.load_state_dict(best_state)
    module.eval()
    return history


def shuffled_batches(n_cases: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless (batch_size,) int64 case indices: every case once before any comes again."""
    queue = torch.empty(0, dtype=torch.int64)
    while True:
        while len(queue) < batch_size:  # small cohorts: several rounds in one batch
            queue = torch.cat([queue, torch.randperm(n_cases, generator=generator)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def _finite(loss: float, step: int, learning_rate: float) -> float:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss must stay finite, got {loss} at step {step}; lower learning_rate "
            f"(now {learning_rate:g}), or look for extreme grey values in the images"
        )
    return loss


def _wants_progress(progress: bool | None) -> bool:
    quiet = os.environ.get("SEGCONF_QUIET", "0") not in ("", "0")
    return sys.stderr.isatty() and not quiet if progress is None else progress


def _train_and_validation(cohort: Cohort, validation: Cohort | None, seed: int) -> tuple[Cohort, Cohort]:
    if validation is None:
        if len(set(cohort.subjects)) < 2:
            raise ValueError(
                "validation=None holds out whole subjects and needs at least 2, got 1; "
                "pass validation=, a cohort of other subjects of the same scanner"
            )
        return cohort.split((1 - VALIDATION_SHARE, VALIDATION_SHARE), seed=seed)  # type: ignore[return-value]
    if validation.class_names != cohort.class_names:
        raise ValueError(
            f"cohort and validation must share their classes, got {cohort.class_names} "
            f"and {validation.class_names}; remap one of them"
        )
    return cohort, validation


def _check(steps: int, batch_size: int, precision: str) -> None:
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
