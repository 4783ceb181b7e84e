"""Training of a quality network beside a frozen segmentation network, with or without an adversary.

Lennartz & Schultz (MIDL 2025). Each batch has a clean half and a replayed half. The replayed half are the
clean images of the step before, moved by the adversary, or by noise of the same length, or not at all. The
frozen network segments them again, and their true quality against the unchanged reference is the target.
Every kind sees equally many images a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.adversary import perturb, random_step, update_alpha
from segconf_lite.confidence.predictor_inputs import TARGETS, FeatureReader, masked_loss, quality_targets
from segconf_lite.models.device import bf16_pays, isolated_random_state
from segconf_lite.models.fit import VALIDATION_SHARE, optimise, shuffled_batches
from segconf_lite.models.quality_network import QualityNetwork
from segconf_lite.models.splice import frozen

__all__ = ["fit_quality_network"]


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
    random_direction: bool = False,
    effect_size: float = 0.1,
    alpha: float = 0.8,
    gain: float = 0.01,
    warm_up: int = 20,
    bound: float | None = None,
    steps: int = 300,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-3,
    seed: int = 0,
    precision: str = "auto",
    progress: bool | None = None,
) -> QualityNetwork:
    """A network that predicts how good a finished network's answers are, in eval mode.

    The segmentation network is frozen and in eval mode while it learns, and left as it was found.

    Args:
        unet: maps images to logits.
        cohort: cases with their reference.
        modules, probabilities: what is read, see `FeatureReader`.
        target: ``"dice"``, or ``"surface_dice"`` at `tolerance_mm`.
        validation: cases that choose the state to keep; None takes 15 % of the subjects off `cohort`.
        adversarial: False leaves the replayed half as it was.
        random_direction: move it by noise of the adversary's length instead: a control.
        effect_size: wanted mean fall of the predicted quality, in (0, 1).
        alpha, gain: first size of the step and gain of its controller, see `update_alpha`.
        warm_up: steps before the first perturbation.
        bound: longest L2 length of a step in grey values, None for none.
        steps, batch_size, learning_rate, weight_decay, seed, precision, progress: see `fit_unet`; half of
            a batch is clean.

    Returns:
        The network; outputs are the mean quality, then one per foreground class. ``history`` as of
        `fit_unet`; each entry also has ``alpha``, ``predicted_drop`` and ``true_drop`` (means since the
        last entry, of the replayed half against its clean originals) and ``vanished``, the number of images
        without a gradient.

    Raises:
        ValueError: If an argument is out of its range, or no case has a defined quality.
    """
    _check(target, tolerance_mm, effect_size, batch_size)
    if validation is None:
        cohort, validation = cohort.split((1 - VALIDATION_SHARE, VALIDATION_SHARE), seed=seed)
    place = next(unet.parameters()).device
    use_bf16 = precision == "bf16" or (precision == "auto" and bf16_pays(place))
    with frozen(unet), isolated_random_state(seed, place):
        judge = _Judge(
            FeatureReader(unet, modules, probabilities=probabilities), target, tolerance_mm, use_bf16
        )
        held_out = [judge(validation, part) for part in torch.arange(len(validation)).split(64)]
        shapes = [tuple(level.shape[1:]) for level in held_out[0][0]]
        network = QualityNetwork(shapes=shapes, n_outputs=len(cohort.class_names)).to(place)
        loop = _Loop(
            network, judge, cohort, effect_size=effect_size, alpha=alpha, gain=gain, warm_up=warm_up,
            bound=bound, kind="none" if not adversarial else "noise" if random_direction else "adversary",
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

        def validation_loss() -> float:
            losses = [(masked_loss(network(levels), wanted), len(wanted)) for levels, wanted in held_out]
            loop.close_entry()
            return sum(float(loss) * n for loss, n in losses) / len(validation)

        history = optimise(
            network,
            shuffled_batches(len(cohort), batch_size // 2, torch.Generator().manual_seed(seed)),
            loop,
            validation_loss,
            steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, progress=progress,
        )  # fmt: skip
    network.history = [{**row, **entry} for row, entry in zip(history, loop.entries, strict=True)]
    return network


class _Judge:
    """Levels and true qualities of some images of a cohort, as the frozen network segments them."""

    def __init__(self, read: FeatureReader, target: str, tolerance_mm: float | None, use_bf16: bool) -> None:
        self.read, self.target, self.tolerance_mm, self.use_bf16 = read, target, tolerance_mm, use_bf16
        self.device = next(read.unet.parameters()).device

    def __call__(
        self, cohort: Cohort, index: Tensor, images: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Without gradients, unless the images ask for them; `images` stand in for those of the cohort."""
        chosen = index.numpy()
        given = torch.from_numpy(cohort.images[chosen]).to(self.device) if images is None else images
        with (
            torch.set_grad_enabled(given.requires_grad),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.use_bf16),
        ):
            levels, logits = self.read(given)
        wanted = quality_targets(
            logits.detach().max(dim=1).indices.cpu().numpy(), cohort.labels[chosen],
            n_classes=logits.shape[1], target=self.target, tolerance_mm=self.tolerance_mm,
            spacing_mm=cohort.spacing_mm[chosen],
        )  # fmt: skip
        return [level.float() for level in levels], wanted.to(self.device)


class _Loop:
    """One training step: clean half, replayed half, and the next perturbation."""

    def __init__(
        self, network: QualityNetwork, judge: _Judge, cohort: Cohort, *, kind: str, effect_size: float,
        alpha: float, gain: float, warm_up: int, bound: float | None, generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.network, self.judge, self.cohort, self.kind = network, judge, cohort, kind
        self.effect_size, self.alpha, self.gain = effect_size, alpha, gain
        self.warm_up, self.bound, self.generator = warm_up, bound, generator
        self.step = self.vanished = self.dropped = 0
        self.replay: tuple[Tensor, Tensor, Tensor, Tensor] | None = None  # index, images, predicted, true
        self.drops: list[tuple[float, float]] = []
        self.entries: list[dict[str, float]] = []

    def __call__(self, index: Tensor) -> Tensor:
        self.step += 1
        attacks = self.kind != "none" and self.step > self.warm_up
        images = torch.from_numpy(self.cohort.images[index.numpy()]).to(self.judge.device)
        levels, wanted = self.judge(self.cohort, index, images.requires_grad_(attacks))
        old = self.replay or (index, images.detach(), None, None)
        old_levels, old_wanted = self.judge(self.cohort, old[0], old[1])
        both = [torch.cat([a.detach(), b]) for a, b in zip(levels, old_levels, strict=True)]
        predicted = self.network(both)
        clean, replayed = predicted.detach()[:, 0].split([len(index), len(old[0])])
        if old[2] is not None and self.kind != "none":
            self._control(old[2] - replayed, old[3] - old_wanted[:, 0], attacks)
        moved = self._move(images, levels) if attacks else images.detach()
        sound = moved.flatten(1).isfinite().all(dim=1)
        self.dropped += int((~sound).sum())
        kept = sound.nonzero()[:, 0]
        self.replay = (index[kept.cpu()], moved[kept], clean[kept], wanted[kept, 0]) if len(kept) else None
        return masked_loss(predicted, torch.cat([wanted, old_wanted]))

    def _control(self, predicted_drop: Tensor, true_drop: Tensor, attacks: bool) -> None:
        drop = float(predicted_drop.mean())
        self.drops.append((drop, float(true_drop.nanmean())))
        if attacks:
            self.alpha = update_alpha(self.alpha, drop=drop, effect_size=self.effect_size, gain=self.gain)

    def _move(self, images: Tensor, levels: list[Tensor]) -> Tensor:
        told = self.network(levels)[:, 0].sum()
        gradient = torch.autograd.grad(told, images)[0]
        found = perturb(images.detach(), gradient, alpha=self.alpha, bound=self.bound)
        self.vanished += int(found.vanished.sum())
        if self.kind == "adversary":
            return found.images
        return random_step(images.detach(), found.norm, self.generator)

    def close_entry(self) -> None:
        """Means since the last entry, kept with the history."""
        predicted, true = np.nanmean(self.drops, axis=0) if self.drops else (0.0, 0.0)
        self.entries.append({
            "alpha": self.alpha, "predicted_drop": float(predicted), "true_drop": float(true),
            "vanished": float(self.vanished), "dropped": float(self.dropped),
        })  # fmt: skip
        self.drops = []


def _check(target: str, tolerance_mm: float | None, effect_size: float, batch_size: int) -> None:
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, got {target!r}")
    if (target == "surface_dice") != (tolerance_mm is not None):
        raise ValueError("tolerance_mm goes with target='surface_dice', and only with it")
    if not 0 < effect_size < 1:
        raise ValueError(f"effect_size must lie in (0, 1), got {effect_size}")
    if batch_size < 2:
        raise ValueError(f"batch_size must be >= 2, half of it is clean; got {batch_size}")
