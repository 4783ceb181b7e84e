"""Other models that the training cases allow, and that would have drawn another mask.

QUAM-SM, after Schweighofer et al., "Quantification of Uncertainty with Adversarial Models" (QUAM, NeurIPS
2023): move all weights until the network answers with another mask, say the predicted one dilated, while
the loss on training cases may rise by no more than a budget. The published code knows no such bound, searches
in train mode, where dropout and batch statistics change answers too, and leaves the network itself out of the
mixture. Shape letters: N penalty images, S samples, C classes, H rows, W columns.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.fragility.decomposition import effective_sample_size, posterior_weights
from segconf_lite.fragility.ring import dilate, erode
from segconf_lite.models.batches import network_input
from segconf_lite.models.device import device_of, isolated_random_state
from segconf_lite.models.splice import frozen
from segconf_lite.models.unet import predict_probabilities

__all__ = ["MaskAdversaries", "MaskSearch", "PenaltySet", "penalty_set", "search_masks"]

TARGETS = ("dilated", "eroded", "classes")
PUBLISHED_BATCH = 4  # penalty images a step


@dataclasses.dataclass(frozen=True)
class MaskSearch:
    """How to search: by default corrected, with `published` as the published code does.

    Attributes:
        steps: of Adam per target, >= 1; every step is a model that may enter the mixture.
        learning_rate: of Adam, >= 0; about how far every weight moves in a step.
        multiplier: weight of the penalty, >= 0: one number, or a tuple of one for each step.
        reach_px: by how many pixels masks are dilated and eroded, >= 1.
        targets: any of ``"dilated"``, ``"eroded"``, and ``"classes"``: for each class, an image full of it.
        n_penalty: images in the penalty set, see `penalty_set`.
        temperature: of the weights in the mixture, in nats per pixel, > 0, see `posterior_weights`.
        seed: of `penalty_set`, and of what is random in the published search.
        as_published: the search of the published code, see `published`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    steps: int = 6
    learning_rate: float = 5e-5
    multiplier: float | tuple[float, ...] = 100.0
    reach_px: int = 3
    targets: tuple[str, ...] = TARGETS
    n_penalty: int = 16
    temperature: float = 0.005
    seed: int = 0
    as_published: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.targets if name not in TARGETS]
        if unknown or not self.targets:
            raise ValueError(f"targets must be one or more of {TARGETS}, got {self.targets!r}")
        lowest = {"steps": 1, "reach_px": 1, "n_penalty": 1, "learning_rate": 0}
        for name, bound in lowest.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} must be >= {bound}, got {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be finite and > 0 nats per pixel, got {self.temperature}")
        if len(self.multipliers) != self.steps or min(self.multipliers) < 0:
            raise ValueError(f"multiplier must be >= 0, one or {self.steps} (steps), got {self.multiplier}")

    @property
    def multipliers(self) -> tuple[float, ...]:
        """The weight of the penalty at each step."""
        return self.multiplier if isinstance(self.multiplier, tuple) else (self.multiplier,) * self.steps

    @classmethod
    def published(cls) -> Self:
        """The schedule of the published code: two targets, six steps each, and twelve samples.

        Objective CE(answer, target) + c (L - L0) with neither hinge nor budget, train mode, four other
        penalty images at each step, the network itself not in the mixture, and T = 1, at which samples weigh
        nearly alike. Not taken over: random augmentation of the penalty images.
        """
        return cls(
            steps=6, learning_rate=5e-4, multiplier=(1.0, 33.0, 67.0, 99.0, 133.0, 167.0),
            targets=("dilated", "eroded"), n_penalty=6 * PUBLISHED_BATCH, temperature=1.0, as_published=True,
        )  # fmt: skip


class PenaltySet(NamedTuple):
    """Training cases that must not be forgotten, and what the network's loss on them is."""

    images: Tensor  # (N, 1, H, W), on the CPU as the rest
    labels: Tensor  # (N, H, W) int64
    reference_loss: float  # mean cross-entropy in nats per pixel, eval mode


class MaskAdversaries(NamedTuple):
    """What the visited models say about one image. S = targets x steps, and 1 for the network itself."""

    probabilities: Tensor  # (S, C, H, W)
    rises: Tensor  # (S,) loss on the whole penalty set above the network's own, nats per pixel
    weights: Tensor  # (S,) in the mixture, summing to 1; 0 for those over the budget
    target: list[str]  # (S,) "reference" (first), "dilated", "eroded", "class 0", ...
    effective_sample_size: float  # in [1, S]


def penalty_set(unet: nn.Module, cohort: Cohort, *, n_images: int = 16, seed: int = 0) -> PenaltySet:
    """Some cases of the source cohort, drawn once, with the network's loss on them.

    Args:
        unet: the network in question; left as it is.
        cohort: what it learned from.
        n_images: N, cases drawn without replacement.
        seed: of the draw.

    Raises:
        ValueError: If n_images is not in 1 .. number of cases.
    """
    if not 1 <= n_images <= len(cohort):
        raise ValueError(f"n_images must be in 1 .. {len(cohort)} (cases of the cohort), got {n_images}")
    chosen = np.sort(np.random.default_rng(seed).choice(len(cohort), n_images, replace=False))
    images, labels = (torch.from_numpy(part[chosen]) for part in (cohort.images, cohort.labels))
    with frozen(unet), torch.no_grad():
        loss = functional.cross_entropy(unet(network_input(images, unet)), labels.to(device_of(unet)))
    return PenaltySet(images, labels, float(loss))


def search_masks(
    unet: nn.Module, image: Tensor | np.ndarray, penalty: PenaltySet, options: MaskSearch, *, budget: float
) -> MaskAdversaries:
    """Models that answer one image otherwise although they do the training cases nearly as well.

    For each target mask t, from the network's weights on, Adam lowers the mean over pixels of CE(f(x), t),
    plus c relu(L - L0 - budget), L being the loss on the whole penalty set, in eval mode. Every step's model
    is recorded; one over the budget gets weight 0, as it is not adversarial in QUAM's sense. A target
    equal to the prediction (an empty one, eroded) is not searched: its samples repeat the network's answer
    at weight 0, so that S is the same for all images.

    With ``options.as_published`` (see `MaskSearch.published`) the budget is not read, every sample counts,
    weights follow the losses of the steps' batches, and rises are measured in train mode, as the answers are.

    Args:
        unet: the network in question. Weights, buffers, modes and torch's random state stay as they are.
        image: (1, H, W), numpy or torch.
        penalty: of `penalty_set`, from the same network.
        options: see `MaskSearch`.
        budget: gamma, by how much the training loss may rise, nats per pixel, > 0.

    Returns:
        S samples on the CPU: the network itself (unless as published), then step by step for each target.

    Raises:
        ValueError: If the budget is not positive, or the image is not (1, H, W).
        FloatingPointError: If a search diverges.
    """
    expected = tuple(penalty.images.shape[1:])
    if not budget > 0:
        raise ValueError(f"budget must be > 0 nats per pixel, got {budget}; try half of the training loss")
    if tuple(image.shape) != expected:
        raise ValueError(f"image must be one case {expected}, got {tuple(image.shape)}; take images[k]")
    own = predict_probabilities(unet, image[None])[0]
    case, predicted = network_input(image[None], unet), own.argmax(dim=0)
    known = penalty._replace(
        images=network_input(penalty.images, unet), labels=penalty.labels.to(device_of(unet))
    )
    walk = _walk_as_published if options.as_published else _walk
    visits = [] if options.as_published else [_Visit(own, 0.0, 0.0)]
    names, counts = ["reference"] * len(visits), [True] * len(visits)
    with isolated_random_state(options.seed, case.device), torch.enable_grad():
        for name, target in _targets(predicted, len(own), options):
            names += [name] * options.steps
            if not options.as_published and target.equal(predicted):
                visits += [_Visit(own, 0.0, 0.0)] * options.steps
                counts += [False] * options.steps
                continue
            visits += walk(unet, case, target[None].to(case.device), known, options, budget)
            counts += [options.as_published or visit.rise <= budget for visit in visits[-options.steps :]]
    answers, rises, losses = zip(*visits, strict=True)
    weights = torch.zeros(len(visits))
    weights[counts] = posterior_weights(torch.tensor(losses)[counts], temperature=options.temperature)
    n_effective = float(effective_sample_size(weights))
    return MaskAdversaries(torch.stack(answers), torch.tensor(rises), weights, names, n_effective)


class _Visit(NamedTuple):  # a model on the way
    probabilities: Tensor
    rise: float
    loss: float  # decides the weight


def _targets(predicted: Tensor, n_classes: int, options: MaskSearch) -> Iterator[tuple[str, Tensor]]:
    for kind in options.targets:
        if kind == "classes":
            yield from ((f"class {k}", torch.full_like(predicted, k)) for k in range(n_classes))
        else:
            change = dilate if kind == "dilated" else erode
            yield kind, change(predicted[None], options.reach_px)[0]


def _walk(
    unet: nn.Module, case: Tensor, target: Tensor, penalty: PenaltySet, options: MaskSearch, budget: float
) -> Iterator[_Visit]:
    network = copy.deepcopy(unet).eval().requires_grad_(True)
    adam = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    cases = torch.cat([case, penalty.images])  # in eval mode nothing passes from one case to another
    for step in range(options.steps + 1):  # one pass more than steps: a step is judged by the next pass
        searching = step < options.steps
        with torch.set_grad_enabled(searching):
            logits = network(cases.clone())  # it may work in place on its input
            rise = functional.cross_entropy(logits[1:], penalty.labels) - penalty.reference_loss
        if step:
            yield _visit(logits[0], rise, rise)
        if searching:
            over = options.multipliers[step] * functional.relu(rise - budget)
            _step(adam, functional.cross_entropy(logits[:1], target) + over)


def _walk_as_published(
    unet: nn.Module, case: Tensor, target: Tensor, penalty: PenaltySet, options: MaskSearch, budget: float
) -> Iterator[_Visit]:
    network = copy.deepcopy(unet).train().requires_grad_(True)
    adam = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    batches = torch.randperm(len(penalty.images)).split(PUBLISHED_BATCH)
    for step, multiplier in enumerate(options.multipliers):
        batch = batches[step % len(batches)].to(case.device)
        penalty_loss = functional.cross_entropy(network(penalty.images[batch]), penalty.labels[batch])
        _step(adam, functional.cross_entropy(network(case.clone()), target) + multiplier * penalty_loss)
        with torch.no_grad():
            loss = functional.cross_entropy(network(penalty.images.clone()), penalty.labels)
            yield _visit(network(case.clone())[0], loss - penalty.reference_loss, penalty_loss)


def _step(adam: torch.optim.Adam, objective: Tensor) -> None:
    adam.zero_grad()
    objective.backward()
    adam.step()


def _visit(logits: Tensor, rise: Tensor, loss: Tensor) -> _Visit:
    if not (torch.isfinite(rise) and torch.isfinite(logits).all()):
        raise FloatingPointError(f"the search diverged (rise {rise.item()}); lower learning_rate")
    return _Visit(logits.detach().float().softmax(dim=0).cpu(), rise.item(), loss.item())
