"""Training of a quality network beside a frozen segmentation network, with or without an adversary.

Lennartz & Schultz (MIDL 2025). Each batch has a clean half and a replayed half. The replayed half are the
clean images of the step before, moved by the adversary, or by noise of the same length, or not at all. The
frozen network segments them again, and their true quality against the unchanged reference is the target.
Every kind sees equally many images a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.adversarial_replay import Adversary, Replay, Replayed
from segconf_lite.confidence.predictor_inputs import TARGETS, FeatureReader, quality_targets
from segconf_lite.confidence.quality_heads import HEADS, Head
from segconf_lite.models.device import bf16_pays, device_of, isolated_random_state
from segconf_lite.models.fit import VALIDATION_SHARE, optimise, shuffled_batches
from segconf_lite.models.quality_network import QualityNetwork
from segconf_lite.models.splice import frozen
from segconf_lite.stress.corruptions import AUGMENTATIONS, make_any_augmentation

__all__ = ["fit_quality_network"]

CACHE_BYTES = 2_000_000_000  # activations of a plain training that are kept in memory


def fit_quality_network(
    unet: nn.Module,
    cohort: Cohort,
    *,
    modules: Sequence[str] = ("penultimate",),
    probabilities: bool = False,
    target: str = "dice",
    tolerance_mm: float | None = None,
    validation: Cohort | None = None,
    adversarial: bool = True,
    augmentation: str | None = None,
    head: str = "point",
    steps: int = 200,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-3,
    seed: int = 0,
    precision: str = "auto",
    progress: bool | None = None,
    **adversary: Any,
) -> QualityNetwork:
    """A network that predicts how good a finished network's answers are, in eval mode.

    The segmentation network is frozen and in eval mode while it learns, and left as it was found.

    Args:
        unet: maps images to logits.
        cohort: cases with their reference.
        modules, probabilities: what is read, see `FeatureReader`.
        target: ``"dice"``, or ``"surface_dice"`` at `tolerance_mm`.
        validation: cases that choose the state to keep; None takes 15 % of the subjects off `cohort`.
        adversarial: False leaves the replayed half as it was (``direction="none"``).
        augmentation: of the clean half: None, ``"mild"`` (see `segconf_lite.models.augment`), or
            ``"strong"``: three quarters of the images pass `StrongCorruption`.
        head: ``"point"``, or ``"beta"``: mean and concentration, see `segconf_lite.confidence.quality_heads`.
        steps, batch_size, learning_rate, weight_decay, seed, precision, progress: see `fit_unet`; half of
            a batch is clean.
        adversary: the fields of `Adversary`.

    Returns:
        The network. ``history`` as of `fit_unet`; each entry also has ``alpha``, ``predicted_drop`` and
        ``true_drop`` (means since the last entry, of the replayed half against its clean originals),
        ``vanished``, the number of images without a gradient, and ``dropped``, of those not finite.

    Raises:
        ValueError: If an argument is out of its range, or no case has a defined quality.
    """
    options = Adversary(**adversary) if adversarial else Adversary(**{**adversary, "direction": "none"})
    _check(target, tolerance_mm, augmentation, head, batch_size)
    if validation is None:
        cohort, validation = cohort.split((1 - VALIDATION_SHARE, VALIDATION_SHARE), seed=seed)
    place = device_of(unet)
    use_bf16 = precision == "bf16" or (precision == "auto" and bf16_pays(place))
    with frozen(unet), isolated_random_state(seed, place):
        judge = _Judge(
            FeatureReader(unet, modules, probabilities=probabilities), target, tolerance_mm, use_bf16
        )
        held_out = list(_judged(judge, validation, batch_size // 2))
        if not any(bool(wanted.isfinite().any()) for _, wanted in held_out):
            raise ValueError("no case of the validation part has a defined quality; is there any foreground?")
        kind, n_qualities = HEADS[head], len(cohort.class_names)
        shapes = [tuple(level.shape[1:]) for level in held_out[0][0]]
        network = QualityNetwork(shapes=shapes, n_outputs=kind.n_numbers(n_qualities)).to(place)
        generator = torch.Generator().manual_seed(seed)
        replay = Replay(options, list(kind.attacked(gradient_of=options.gradient_of)), generator)
        loop = _Loop(network, judge, cohort, kind, replay, make_any_augmentation(augmentation, seed), steps)
        if options.direction == "none" and augmentation is None:
            loop.cache(batch_size // 2)

        def validation_loss() -> float:
            replay.close_entry()
            parts = (
                (kind.loss(network(levels), wanted, progress=1.0), len(wanted)) for levels, wanted in held_out
            )
            return sum(float(loss) * n for loss, n in parts) / len(validation)

        history = optimise(
            network,
            shuffled_batches(len(cohort), batch_size // 2, torch.Generator().manual_seed(seed)),
            loop,
            validation_loss,
            steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, progress=progress,
        )  # fmt: skip
    network.history = [{**row, **entry} for row, entry in zip(history, replay.entries, strict=True)]
    return network


class _Batch(NamedTuple):
    """Images with their reference."""

    images: Tensor
    labels: np.ndarray
    spacing_mm: np.ndarray


class _Judge:
    """Levels and true qualities of images, as the frozen network segments them."""

    def __init__(self, read: FeatureReader, target: str, tolerance_mm: float | None, use_bf16: bool) -> None:
        self.read, self.target, self.tolerance_mm, self.use_bf16 = read, target, tolerance_mm, use_bf16
        self.device = device_of(read.unet)

    def __call__(
        self, images: Tensor, labels: np.ndarray, spacing_mm: np.ndarray
    ) -> tuple[list[Tensor], Tensor]:
        """Without gradients, unless the images ask for them."""
        with (
            torch.set_grad_enabled(images.requires_grad),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.use_bf16),
        ):
            levels, logits = self.read(images)
        wanted = quality_targets(
            to_numpy(logits.max(dim=1).indices), labels, n_classes=logits.shape[1],
            target=self.target, tolerance_mm=self.tolerance_mm, spacing_mm=spacing_mm,
        )  # fmt: skip
        return [level.float() for level in levels], wanted.to(self.device)


class _Loop:
    """One training step: clean half, replayed half, and the next perturbation."""

    def __init__(
        self, network: QualityNetwork, judge: _Judge, cohort: Cohort, head: Head, replay: Replay,
        augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None, steps: int,
    ) -> None:  # fmt: skip
        self.network, self.judge, self.cohort, self.head = network, judge, cohort, head
        self.replay, self.augment, self.steps, self.step = replay, augment, steps, 0
        self.attacks = head.attacked(gradient_of=replay.options.gradient_of)
        self._cached: tuple[list[Tensor], Tensor] | None = None
        self._last_index: Tensor | None = None
        self._unmoved: tuple[list[Tensor], Tensor] | None = None  # judged by a step that moved nothing

    def cache(self, batch_size: int) -> None:
        """Judge the whole cohort once, where that fits into memory; every step then only reads it."""
        levels, wanted = next(_judged(self.judge, self.cohort, batch_size))
        n_bytes = sum(level.nbytes for level in levels) / len(wanted) * len(self.cohort)
        if n_bytes <= CACHE_BYTES:
            found = list(_judged(self.judge, self.cohort, batch_size))
            levels = [torch.cat(level) for level in zip(*(levels for levels, _ in found), strict=True)]
            self._cached = levels, torch.cat([wanted for _, wanted in found])

    def __call__(self, index: Tensor) -> Tensor:
        self.step += 1
        if self._cached is not None:
            both = torch.cat([index, index if self._last_index is None else self._last_index])
            self._last_index = index
            levels, wanted = [level[both] for level in self._cached[0]], self._cached[1][both]
            return self.head.loss(self.network(levels), wanted, progress=self.step / self.steps)
        options = self.replay.options
        attacks = options.direction != "none" and self.step > options.warm_up
        batch = self._clean(index)
        images = batch.images.requires_grad_(attacks)
        levels, wanted = self.judge(images, batch.labels, batch.spacing_mm)
        judged = [level.detach() for level in levels], wanted
        old, known = self.replay.draw(), self._unmoved
        self._unmoved = None if attacks or options.replay_size else judged
        if old is None:
            known = judged  # the first step: the clean half twice
        elif known is None or len(known[1]) != len(old.images):
            known = self.judge(*old[:3])
        old_levels, old_wanted = known
        # The attack needs the network's gradient down to its inputs, the weights' update does not need
        # the segmentation network's: so the graph is cut here, and both use one pass of the quality network.
        leaves = [level.detach().requires_grad_(attacks) for level in judged[0]]
        raw = self.network([torch.cat(pair) for pair in zip(leaves, old_levels, strict=True)])
        clean, replayed = raw[: len(index)], raw[len(index) :]
        attack = torch.arange(len(index), device=raw.device) % len(self.attacks)
        before = self._attacked(clean, attack)
        if old is not None:
            after = self._attacked(replayed.detach(), old.attack)
            self.replay.observe(old, after, old_wanted[:, 0], control=attacks)
        moved = images.detach()
        if attacks:
            to_levels = torch.autograd.grad(before.sum(), leaves, retain_graph=True, allow_unused=True)
            used = [(level, g) for level, g in zip(levels, to_levels, strict=True) if g is not None]
            gradient = torch.autograd.grad([level for level, _ in used], images, [g for _, g in used])[0]
            moved = self.replay.move(moved, gradient, attack)
        self.replay.remember(Replayed(
            moved, batch.labels, batch.spacing_mm, attack, before.detach(), wanted[:, 0],
            torch.ones_like(attack, dtype=torch.bool),
        ))  # fmt: skip
        return self.head.loss(raw, torch.cat([wanted, old_wanted]), progress=self.step / self.steps)

    def _clean(self, index: Tensor) -> _Batch:
        batch = _batch(self.cohort, index)
        if self.augment is not None:
            images, labels = self.augment(batch.images, torch.from_numpy(batch.labels))
            batch = batch._replace(images=images, labels=to_numpy(labels))
        return batch._replace(images=batch.images.to(self.judge.device))

    def _attacked(self, raw: Tensor, attack: Tensor) -> Tensor:
        """(B,) what each case's own attack wants to lower."""
        return torch.stack([quantity(raw) for quantity in self.attacks.values()]).gather(0, attack[None])[0]


def _batch(cohort: Cohort, index: Tensor) -> _Batch:
    chosen = to_numpy(index)
    return _Batch(torch.from_numpy(cohort.images[chosen]), cohort.labels[chosen], cohort.spacing_mm[chosen])


def _judged(judge: _Judge, cohort: Cohort, batch_size: int) -> Any:
    """Levels and qualities of a whole cohort, part by part, without gradients."""
    for index in torch.arange(len(cohort)).split(batch_size):
        batch = _batch(cohort, index)
        yield judge(batch.images.to(judge.device), batch.labels, batch.spacing_mm)


def _check(
    target: str, tolerance_mm: float | None, augmentation: str | None, head: str, batch_size: int
) -> None:
    choices = {"target": (target, TARGETS), "augmentation": (augmentation, AUGMENTATIONS)}
    for name, (value, allowed) in {**choices, "head": (head, tuple(HEADS))}.items():
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    if (target == "surface_dice") != (tolerance_mm is not None):
        raise ValueError("tolerance_mm goes with target='surface_dice', and only with it")
    if batch_size < 2:
        raise ValueError(f"batch_size must be >= 2, half of it is clean; got {batch_size}")
