"""Training of a quality network beside a frozen segmentation network, with or without an adversary.

Lennartz & Schultz (MIDL 2025). Each batch has a clean half and a replayed half. The replayed half are the
clean images of the step before, moved by the adversary, or by noise of the same length, or not at all. The
frozen network segments them again, and their true quality against the unchanged reference is the target.
Every kind of training sees equally many images per step.

Shape letters: B cases, C classes, F features, H rows, W columns, K outputs (the mean quality, then one per
foreground class).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.adversary import Adversary, Replay, Replayed
from segconf_lite.confidence.heads import HEADS, Head
from segconf_lite.confidence.quality_network import QualityNetwork
from segconf_lite.evaluation import dice_per_class, surface_dice_per_class
from segconf_lite.models.device import device_of, frozen, isolated_random_state
from segconf_lite.models.outputs import logits_in
from segconf_lite.models.taps import Taps
from segconf_lite.models.training import Settings, Training, optimise, shuffled_batches, train_and_validation
from segconf_lite.stress.corruptions import AUGMENTATIONS, make_any_augmentation

TARGETS = ("dice", "surface_dice")
CACHE_BYTES = 2_000_000_000  # activations of a plain training that are kept in memory


class FeatureReader:
    """What a quality network reads of a segmentation network, in one pass of it.

    Args:
        unet: Network that maps (B, 1, H, W) to logits (B, C, H, W).
        modules: Names of modules whose (B, F, h, w) outputs are read.
        probabilities: Whether the class probabilities are read, too.

    Raises:
        ValueError: If there is nothing to read, or no module of that name.

    Example:
        >>> from segconf_lite.models.unet import UNet
        >>> read = FeatureReader(UNet(n_classes=2, channels=(4, 8)), ["bottleneck"], probabilities=True)
        >>> levels, logits = read(torch.zeros(1, 1, 8, 8))
        >>> [tuple(level.shape) for level in levels]
        [(1, 8, 4, 4), (1, 2, 8, 8)]
    """

    def __init__(self, unet: nn.Module, modules: Sequence[str], *, probabilities: bool) -> None:
        if not modules and not probabilities:
            raise check.refuse("modules", "at least one module, or probabilities=True", "neither")
        self.unet, self.probabilities = unet, probabilities
        self.taps = {f"level{k}": name for k, name in enumerate(modules)}
        if self.taps:
            Taps(unet, **self.taps)  # are there such modules?

    def __call__(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The activations, and the logits; gradients reach the images if they ask for them."""
        if not self.taps:
            logits = logits_in(self.unet(images.clone()), images)  # a network may work in place on its input
            return [logits.softmax(dim=1)], logits
        with Taps(self.unet, **self.taps) as taps:
            logits = logits_in(self.unet(images.clone()), images)
            levels = [taps[name] for name in self.taps]
        return ([*levels, logits.softmax(dim=1)] if self.probabilities else levels), logits


def quality_targets(
    labels: np.ndarray,
    reference: np.ndarray,
    *,
    n_classes: int,
    target: str,
    tolerance_mm: float | None,
    spacing_mm: np.ndarray,
) -> Tensor:
    """Qualities to learn: their mean first, then one per foreground class; NaN where undefined.

    A class that is absent in both is undefined; one that is absent on one side has quality 0.

    Args:
        labels: (B, H, W) predicted labels.
        reference: (B, H, W) reference labels.
        n_classes: Number of classes, background included.
        target: ``"dice"`` or ``"surface_dice"``.
        tolerance_mm: Tolerance of surface Dice.
        spacing_mm: (B, 2) spacing of the pixels.

    Returns:
        (B, K) float32.

    Example:
        >>> one = np.array([[[0, 1]]])
        >>> options = {"target": "dice", "tolerance_mm": None, "spacing_mm": np.ones((1, 2))}
        >>> quality_targets(one, one, n_classes=3, **options).tolist()
        [[1.0, 1.0, nan]]
    """
    if target == "dice" or tolerance_mm is None:
        per_class = dice_per_class(labels, reference, n_classes=n_classes, empty="skip")
    else:
        per_class = surface_dice_per_class(
            labels,
            reference,
            n_classes=n_classes,
            empty="skip",
            tolerance_mm=tolerance_mm,
            spacing_mm=spacing_mm,
        )
    defined = np.isfinite(per_class)
    total = np.where(defined, per_class, 0).sum(axis=1)
    mean = np.where(defined.any(axis=1), total / np.maximum(defined.sum(axis=1), 1), np.nan)
    return torch.from_numpy(np.column_stack([mean, per_class]).astype(np.float32))


def fit_quality_network(
    unet: nn.Module,
    cohort: Cohort,
    *,
    modules: Sequence[str] = ("penultimate",),
    probabilities: bool = False,
    target: str = "dice",
    tolerance_mm: float | None = None,
    validation: Cohort | None = None,
    adversary: Adversary | None = Adversary(),  # noqa: B008  (frozen)
    head: str = "point",
    training: Training = Training(steps=200, learning_rate=2e-3, weight_decay=1e-3),  # noqa: B008  (frozen)
    progress: bool | None = None,
    **settings: Unpack[Settings],
) -> QualityNetwork:
    """A network that predicts how good a finished network's segmentations are, in eval mode.

    The segmentation network is frozen and in eval mode while it learns, and left as it was found.

    Args:
        unet: Network that maps images to logits.
        cohort: Cases with their reference.
        modules: Modules that are read, see `FeatureReader`.
        probabilities: Whether the class probabilities are read.
        target: ``"dice"``, or ``"surface_dice"`` at `tolerance_mm`.
        tolerance_mm: Tolerance of surface Dice.
        validation: Cases that choose the state to keep; None takes 15 % of the subjects off `cohort`.
        adversary: Settings of the adversary; None leaves the replayed half as it was (``direction="none"``).
        head: ``"point"``, or ``"beta"``: mean and concentration, see `segconf_lite.confidence.heads`.
        training: Steps, batch size, learning rate, precision, seed and so on. Half of a batch is clean. The
            augmentation changes the clean half: None, ``"mild"``, or ``"strong"`` (three quarters of the
            images pass `StrongCorruption`).
        progress: Whether to show a bar; None shows one in a terminal unless ``SEGCONF_QUIET`` is set.
        **settings: Single fields of `Training` that replace those of `training`.

    Returns:
        The network. Each entry of its ``history`` also has ``alpha``, ``predicted_drop`` and ``true_drop``
        (means since the last entry, of the replayed half against its clean originals), ``vanished``, the
        number of images without a gradient, and ``dropped``, of those that were not finite.

    Raises:
        ValueError: If an argument is out of its range, or no case has a defined quality.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models.unet import UNet
        >>> cohort = phantom.cohort(12, size=16)
        >>> unet = UNet(n_classes=len(cohort.class_names), channels=(4, 8))
        >>> network = fit_quality_network(unet, cohort, adversary=None, steps=1)
        >>> network.history[-1]["vanished"]
        0.0
    """
    training = Training.changed(training, **settings)
    if adversary is None:
        adversary = Adversary(direction="none")
    check.one_of("target", target, TARGETS)
    check.one_of("head", head, tuple(HEADS))
    check.one_of("augmentation", training.augmentation, AUGMENTATIONS)
    half = check.integer("batch_size", training.batch_size, low=2, fix="half of it is clean") // 2
    if (target == "surface_dice") != (tolerance_mm is not None):
        raise ValueError("tolerance_mm goes with target='surface_dice', and only with it")
    cohort, held_out_cohort = train_and_validation(cohort, validation, training.seed)
    device = device_of(unet)
    with frozen(unet), isolated_random_state(training.seed, device):
        read = FeatureReader(unet, modules, probabilities=probabilities)
        judge = _Judge(read, target, tolerance_mm, training.uses_bf16(device))
        held_out = list(_judged(judge, held_out_cohort, half))
        if not any(bool(qualities.isfinite().any()) for _, qualities in held_out):
            raise ValueError("no case of the validation part has a defined quality; is there any foreground?")
        kind = HEADS[head]
        shapes = [tuple(level.shape[1:]) for level in held_out[0][0]]
        n_outputs = kind.n_numbers(len(cohort.class_names))
        network = QualityNetwork(shapes=shapes, n_outputs=n_outputs).to(device)
        generator = torch.Generator().manual_seed(training.seed)
        replay = Replay(adversary, list(kind.attacked(gradient_of=adversary.gradient_of)), generator)
        augment = make_any_augmentation(training.augmentation, training.seed)
        loop = _Loop(network, judge, cohort, kind, replay, augment, training.steps)
        if adversary.direction == "none" and augment is None:
            loop.cache(half)

        def validation_loss() -> float:
            replay.close_entry()
            losses = [
                len(qualities) * float(kind.loss(network(levels), qualities, progress=1.0))
                for levels, qualities in held_out
            ]
            return sum(losses) / len(held_out_cohort)

        batches = shuffled_batches(len(cohort), half, torch.Generator().manual_seed(training.seed))
        history = optimise(network, batches, loop, validation_loss, training, progress=progress)
    network.history = [{**row, **entry} for row, entry in zip(history, replay.entries, strict=True)]
    return network


class _Batch(NamedTuple):
    """Images with their reference."""

    images: Tensor  # (B, 1, H, W)
    labels: np.ndarray  # (B, H, W)
    spacing_mm: np.ndarray  # (B, 2)


class _Judged(NamedTuple):
    """What the frozen network makes of images, and how good that is."""

    levels: list[Tensor]  # (B, F, h, w) each
    qualities: Tensor  # (B, K), NaN where undefined


class _Judge:
    """Activations and true qualities of images, as the frozen network segments them."""

    def __init__(self, read: FeatureReader, target: str, tolerance_mm: float | None, use_bf16: bool) -> None:
        self.read, self.target, self.tolerance_mm, self.use_bf16 = read, target, tolerance_mm, use_bf16
        self.device = device_of(read.unet)

    def __call__(self, images: Tensor, labels: np.ndarray, spacing_mm: np.ndarray) -> _Judged:
        """Without gradients, unless the images ask for them."""
        with (
            torch.set_grad_enabled(images.requires_grad),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.use_bf16),
        ):
            levels, logits = self.read(images)
        qualities = quality_targets(
            to_numpy(logits.max(dim=1).indices),
            labels,
            n_classes=logits.shape[1],
            target=self.target,
            tolerance_mm=self.tolerance_mm,
            spacing_mm=spacing_mm,
        )
        return _Judged([level.float() for level in levels], qualities.to(self.device))


@dataclasses.dataclass
class _Loop:
    """One training step: clean half, replayed half, and the next perturbation."""

    network: QualityNetwork
    judge: _Judge
    cohort: Cohort
    head: Head
    replay: Replay
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    steps: int
    step: int = 0
    cached: _Judged | None = None  # of the whole cohort
    last_index: Tensor | None = None
    unmoved: _Judged | None = None  # of a step that moved nothing

    def cache(self, batch_size: int) -> None:
        """Judge the whole cohort once, where that fits into memory; every step then only reads it."""
        first = next(_judged(self.judge, self.cohort, batch_size))
        n_bytes = sum(level.nbytes for level in first.levels) / len(first.qualities) * len(self.cohort)
        if n_bytes <= CACHE_BYTES:
            parts = list(_judged(self.judge, self.cohort, batch_size))
            levels = [torch.cat(level) for level in zip(*(part.levels for part in parts), strict=True)]
            self.cached = _Judged(levels, torch.cat([part.qualities for part in parts]))

    def __call__(self, index: Tensor) -> Tensor:
        self.step += 1
        if self.cached is not None:
            return self._loss_from_cache(self.cached, index)
        adversary = self.replay.adversary
        attacks = adversary.direction != "none" and self.step > adversary.warm_up
        batch = self._clean(index)
        images = batch.images.requires_grad_(attacks)
        clean = self.judge(images, batch.labels, batch.spacing_mm)
        old = self.replay.draw()
        replayed = self._replayed_half(old, clean, attacks)
        # The attack needs the quality network's gradient down to its inputs; the update of the weights does
        # not need the segmentation network's. So the graph is cut here, and both use one pass.
        leaves = [level.detach().requires_grad_(attacks) for level in clean.levels]
        raw = self.network([torch.cat(pair) for pair in zip(leaves, replayed.levels, strict=True)])
        raw_clean, raw_replayed = raw[: len(index)], raw[len(index) :]  # (B, n) and (n replayed, n)
        attack = torch.arange(len(index), device=raw.device) % len(self.replay.attacks)
        before = self._attacked(raw_clean, attack)
        if old is not None:
            after = self._attacked(raw_replayed.detach(), old.attack)
            self.replay.observe(old, after, replayed.qualities[:, 0], control=attacks)
        moved = images.detach()
        if attacks:
            gradient = _gradient_at_images(before, leaves, clean.levels, images)
            moved = self.replay.move(moved, gradient, attack)
        self.replay.remember(
            Replayed(
                images=moved,
                labels=batch.labels,
                spacing_mm=batch.spacing_mm,
                attack=attack,
                attacked=before.detach(),
                quality=clean.qualities[:, 0],
                fresh=torch.ones_like(attack, dtype=torch.bool),
            )
        )
        return self._loss(raw, torch.cat([clean.qualities, replayed.qualities]))

    def _loss_from_cache(self, cached: _Judged, index: Tensor) -> Tensor:
        both = torch.cat([index, index if self.last_index is None else self.last_index])
        self.last_index = index
        return self._loss(self.network([level[both] for level in cached.levels]), cached.qualities[both])

    def _loss(self, raw: Tensor, qualities: Tensor) -> Tensor:
        return self.head.loss(raw, qualities, progress=self.step / self.steps)

    def _clean(self, index: Tensor) -> _Batch:
        batch = _batch(self.cohort, index)
        if self.augment is not None:
            images, labels = self.augment(batch.images, torch.from_numpy(batch.labels))
            batch = batch._replace(images=images, labels=to_numpy(labels))
        return batch._replace(images=batch.images.to(self.judge.device))

    def _replayed_half(self, old: Replayed | None, clean: _Judged, attacks: bool) -> _Judged:
        """The moved images of the step before, judged again; images that nothing moved are known already."""
        known = self.unmoved
        now = _Judged([level.detach() for level in clean.levels], clean.qualities)
        self.unmoved = None if attacks or self.replay.adversary.replay_size else now
        if old is None:
            return now  # the first step: the clean half twice
        if known is None or len(known.qualities) != len(old.images):
            return self.judge(old.images, old.labels, old.spacing_mm)
        return known

    def _attacked(self, raw: Tensor, attack: Tensor) -> Tensor:
        """(B,) what each case's own attack lowers."""
        attacks = self.head.attacked(gradient_of=self.replay.adversary.gradient_of)
        return torch.stack([quantity(raw) for quantity in attacks.values()]).gather(0, attack[None])[0]


def _gradient_at_images(
    attacked: Tensor, leaves: list[Tensor], levels: list[Tensor], images: Tensor
) -> Tensor:
    """Gradient of the attacked quantities with respect to the images, through the activations."""
    to_levels = torch.autograd.grad(attacked.sum(), leaves, retain_graph=True, allow_unused=True)
    used = [(level, g) for level, g in zip(levels, to_levels, strict=True) if g is not None]
    return torch.autograd.grad([level for level, _ in used], images, [g for _, g in used])[0]


def _batch(cohort: Cohort, index: Tensor) -> _Batch:
    chosen = to_numpy(index)
    return _Batch(torch.from_numpy(cohort.images[chosen]), cohort.labels[chosen], cohort.spacing_mm[chosen])


def _judged(judge: _Judge, cohort: Cohort, batch_size: int) -> Iterator[_Judged]:
    """Activations and qualities of a whole cohort, part by part, without gradients."""
    for index in torch.arange(len(cohort)).split(batch_size):
        batch = _batch(cohort, index)
        yield judge(batch.images.to(judge.device), batch.labels, batch.spacing_mm)
