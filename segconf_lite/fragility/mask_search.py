"""Search for models that fit the training cases as well, but predict another mask; and its geometric control.

QUAM-SM, after Schweighofer et al., "Quantification of Uncertainty with Adversarial Models" (QUAM, NeurIPS
2023): move all weights until the network predicts another mask, for example the predicted one dilated, while
the loss on training cases may rise by no more than a budget. The published code knows no such bound, searches
in train mode, where dropout and batch statistics change predictions too, and leaves the network itself out of
the mixture. Whatever a model does, such targets differ from the prediction in a band around it:
`geometry_ring` is that band without any model.

Shape letters: N penalty images, S samples, B cases, C classes, H rows, W columns.
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

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence import pixels
from segconf_lite.fragility.decomposition import effective_sample_size, posterior_weights
from segconf_lite.fragility.tangent import LARGEST_SEED, choose_weights
from segconf_lite.models.batches import NonFiniteLogitsError, checked_logits, network_input
from segconf_lite.models.device import frozen, isolated_random_state
from segconf_lite.models.explained import explained
from segconf_lite.models.unet import predict_probabilities

TARGETS = ("dilated", "eroded", "classes")
MOST_STEPS = 10**6  # each keeps a prediction in memory
MOST_CLASSES = 10**4  # each takes memory as large as the labels
PUBLISHED_BATCH = 4  # penalty images per step


@dataclasses.dataclass(frozen=True)
class MaskSearch:
    """Settings of `search_masks`: by default corrected, with `published` as the published code has them.

    Attributes:
        steps: Number of steps of Adam per target, 1 .. 1,000,000; every step is a model that may enter the
            mixture.
        learning_rate: Learning rate of Adam, >= 0; about how far every weight moves in a step.
        multiplier: Weight of the penalty, >= 0: one number, or a tuple of one for each step.
        reach_px: Number of pixels by which masks are dilated and eroded, >= 1.
        targets: Any of ``"dilated"``, ``"eroded"``, and ``"classes"``: for each class, an image full of it.
        n_penalty: Number of images in the penalty set, >= 1, see `penalty_set`.
        temperature: Temperature of the weights in the mixture, in nats per pixel, > 0, see
            `segconf_lite.fragility.decomposition.posterior_weights`.
        seed: Seed of the random draw of the penalty set, and of what is random in the published search.
        as_published: Whether to search as the published code does, see `published`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> MaskSearch(steps=3, multiplier=(1.0, 10.0, 100.0)).multipliers
        (1.0, 10.0, 100.0)
        >>> MaskSearch(steps=3, multiplier=(1.0, 10.0))
        Traceback (most recent call last):
        ValueError: multiplier must be one number or 3 (steps), got 2
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
        targets = self.targets if isinstance(self.targets, tuple | list) else ()
        if not targets or not all(isinstance(name, str) and name in TARGETS for name in targets):
            raise check.refuse("targets", f"one or more of {TARGETS}", repr(self.targets))
        check.one_of("as_published", self.as_published, (True, False))
        fix = "its unit is nats per pixel"
        self.__dict__.update(  # frozen for everyone else
            steps=check.integer("steps", self.steps, low=1, high=MOST_STEPS),
            learning_rate=check.number("learning_rate", self.learning_rate, low=0),
            reach_px=check.integer("reach_px", self.reach_px, low=1),
            targets=tuple(targets),
            n_penalty=check.integer("n_penalty", self.n_penalty, low=1),
            temperature=check.number("temperature", self.temperature, low=0, open_low=True, fix=fix),
            seed=check.integer("seed", self.seed, low=0, high=LARGEST_SEED),
        )
        if len(self.multipliers) != self.steps:
            got = len(self.multipliers)
            raise check.refuse("multiplier", f"one number or {self.steps} (steps)", str(got))

    @property
    def multipliers(self) -> tuple[float, ...]:
        """The weight of the penalty at each step."""
        if isinstance(self.multiplier, tuple | list):
            return tuple(check.number("multiplier", value, low=0) for value in self.multiplier)
        return (check.number("multiplier", self.multiplier, low=0),) * self.steps

    @classmethod
    def published(cls) -> Self:
        """The schedule of the published code: two targets, six steps each, and twelve samples.

        Objective CE(prediction, target) + c (L - L0) with neither hinge nor budget, train mode, four other
        penalty images at each step, the network itself not in the mixture, and T = 1, at which samples weigh
        nearly the same. Not taken over: random augmentation of the penalty images.

        Example:
            >>> MaskSearch.published().multipliers
            (1.0, 33.0, 67.0, 99.0, 133.0, 167.0)
        """
        return cls(
            steps=6,
            learning_rate=5e-4,
            multiplier=(1.0, 33.0, 67.0, 99.0, 133.0, 167.0),
            targets=("dilated", "eroded"),
            n_penalty=6 * PUBLISHED_BATCH,
            temperature=1.0,
            as_published=True,
        )


class PenaltySet(NamedTuple):
    """Training cases that a model must not forget, and the network's loss on them.

    Example:
        >>> images, labels = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
        >>> PenaltySet(images, labels, reference_loss=0.25).reference_loss
        0.25
    """

    images: Tensor  # (N, channels, H, W), on the CPU as the rest
    labels: Tensor  # (N, H, W) int64
    reference_loss: float  # mean cross-entropy in nats per pixel, eval mode


class MaskAdversaries(NamedTuple):
    """Predictions of the visited models for one image. S = targets x steps, and 1 for the network itself.

    Example:
        >>> half = torch.full((1, 2, 1, 1), 0.5)
        >>> MaskAdversaries(half, torch.zeros(1), torch.ones(1), ["reference"], 1.0).target
        ['reference']
    """

    probabilities: Tensor  # (S, C, H, W)
    rises: Tensor  # (S,) loss on the whole penalty set above the network's own, nats per pixel
    weights: Tensor  # (S,) in the mixture, summing to 1; 0 for those over the budget
    target: list[str]  # (S,) "reference" (first), "dilated", "eroded", "class 0", ...
    effective_sample_size: float  # in [1, S]


def penalty_set(unet: nn.Module, cohort: Cohort, *, n_images: int = 16, seed: int = 0) -> PenaltySet:
    """Some cases of the source cohort, drawn once, with the network's loss on them.

    Args:
        unet: The evaluated network; left as it is.
        cohort: Training cases of the network.
        n_images: Number N of cases, drawn without replacement.
        seed: Seed of the random draw.

    Returns:
        Images, labels and loss, on the CPU.

    Raises:
        ValueError: If n_images is not in 1 .. number of cases, or a label is not among the network's classes.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> unet = UNet(n_classes=4, channels=(4, 8))
        >>> penalty_set(unet, phantom.cohort(3, size=16), n_images=2).images.shape
        torch.Size([2, 1, 16, 16])
    """
    check.instance("cohort", cohort, Cohort)
    n_images = check.integer("n_images", n_images, low=1, high=len(cohort), fix="it counts cases")
    rng = np.random.default_rng(check.integer("seed", seed, low=0))
    chosen = np.sort(rng.choice(len(cohort), n_images, replace=False))
    images = torch.from_numpy(cohort.images[chosen])
    with frozen(unet), torch.no_grad(), explained(unet, images):
        inputs = network_input(images, unet)
        logits = checked_logits(unet(inputs.clone()), inputs, unet)  # (N, C, H, W)
        known = check.label_map("labels of the cohort", cohort.labels[chosen], n_classes=logits.shape[1])
        labels = torch.from_numpy(known)
        loss = functional.cross_entropy(logits, labels.to(logits.device))
    return PenaltySet(images, labels, float(loss))


def search_masks(
    unet: nn.Module, image: Tensor | np.ndarray, penalty: PenaltySet, options: MaskSearch, *, budget: float
) -> MaskAdversaries:
    r"""Search for models that predict other masks of one image although they fit the training cases as well.

    For each target mask t, from the network's weights on, Adam minimises

    .. math:: CE(f(x), t) + c \max(0, L - L_0 - \gamma),

    the first term being a mean over pixels and L the loss on the whole penalty set, in eval mode. Every
    step's model is recorded; one over the budget gets weight 0, as it is not adversarial in QUAM's sense. A
    target equal to the prediction (an empty one, eroded) is not searched: its samples repeat the network's
    prediction at weight 0, so that S is the same for all images.

    With ``options.as_published`` (see `MaskSearch.published`) the budget is not read, every sample counts,
    weights follow the losses of the steps' batches, and rises are measured in train mode, as the predictions
    are.

    Args:
        unet: The evaluated network. Weights, buffers, modes and torch's random state stay as they are.
        image: (channels, H, W), numpy or torch; as the images of the penalty set.
        penalty: Penalty set of the same network, from `penalty_set`.
        options: Settings of the search.
        budget: Allowed rise gamma of the training loss, in nats per pixel, > 0; infinity sets no bound.

    Returns:
        S samples on the CPU: the network itself (unless as published), then step by step for each target.

    Raises:
        ValueError: If the budget is not positive, the image is not finite or not of the shape of those in
            the penalty set, the set does not fit, or the network has no weights or no gradient.
        FloatingPointError: If a search diverges.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> unet = UNet(n_classes=4, channels=(4, 8))
        >>> penalty = penalty_set(unet, cohort, n_images=2)
        >>> options = MaskSearch(steps=1, targets=("classes",))
        >>> search_masks(unet, cohort.images[0], penalty, options, budget=0.1).target
        ['reference', 'class 0', 'class 1', 'class 2', 'class 3']
    """
    if not (isinstance(budget, float) and budget == math.inf):
        fix = "try half of the training loss, in nats per pixel"
        budget = check.number("budget", budget, low=0, open_low=True, fix=fix)
    for name, value, kind in (("penalty", penalty, PenaltySet), ("options", options, MaskSearch)):
        if not isinstance(value, kind):
            raise check.refuse(name, f"a {kind.__name__}", type(value).__name__)
    expected = tuple(penalty.images.shape[1:])
    if tuple(getattr(image, "shape", ())) != expected:
        got = getattr(image, "shape", type(image).__name__)
        raise check.refuse("image", f"one case {expected}", got, "take images[k]")
    predicted = predict_probabilities(unet, check.image_batch(image[None], "image", channels=None))[
        0
    ]  # (C, H, W)
    check.label_map("penalty.labels", penalty.labels, n_classes=len(predicted))
    case = network_input(image[None], unet)
    with frozen(unet):
        choose_weights(unet, ("",)).with_gradient(case)  # refuses a network that no search could change
        with torch.no_grad():  # a network may keep its last features, and a graph cannot be copied
            unet(case.clone())
    images, labels = network_input(penalty.images, unet), penalty.labels.to(case.device)
    task = _Task(unet, case, predicted, penalty._replace(images=images, labels=labels), options, budget)
    with isolated_random_state(options.seed, case.device), torch.enable_grad():
        visits = list(task.published() if options.as_published else task.corrected())
    target, probabilities, rises, losses, counts = zip(*visits, strict=True)
    weights, counted = torch.zeros(len(visits)), torch.tensor(counts)
    weights[counted] = posterior_weights(torch.tensor(losses)[counted], temperature=options.temperature)
    stack, n_effective = torch.stack(probabilities), float(effective_sample_size(weights))
    return MaskAdversaries(stack, torch.tensor(rises), weights, list(target), n_effective)


class _Visit(NamedTuple):
    """A model on the way of a search."""

    target: str
    probabilities: Tensor  # (C, H, W)
    rise: float
    loss: float  # decides the weight in the mixture
    counts: bool  # whether it enters the mixture


class _Task(NamedTuple):
    """The network, one image, the penalty set on the network's device, and what is searched."""

    unet: nn.Module
    image: Tensor  # (1, channels, H, W)
    predicted: Tensor  # (C, H, W) probabilities of the network itself, on the CPU
    penalty: PenaltySet
    options: MaskSearch
    budget: float

    def targets(self) -> Iterator[tuple[str, Tensor]]:
        """Name and (1, H, W) labels of each target mask, on the network's device."""
        labels = self.predicted.argmax(dim=0)[None]
        for kind in self.options.targets:
            if kind == "classes":
                masks = {f"class {k}": torch.full_like(labels, k) for k in range(len(self.predicted))}
            else:
                masks = {kind: (_dilate if kind == "dilated" else _erode)(labels, self.options.reach_px)}
            yield from ((name, mask.to(self.image.device)) for name, mask in masks.items())

    def corrected(self) -> Iterator[_Visit]:
        """The network itself, and for each target a walk in eval mode with the hinge."""
        yield _Visit("reference", self.predicted, 0.0, 0.0, True)
        as_predicted = self.predicted.argmax(dim=0)[None].to(self.image.device)
        images, labels, reference_loss = self.penalty
        inputs = torch.cat([self.image, images])  # in eval mode cases do not affect each other
        for name, target in self.targets():
            if target.equal(as_predicted):
                yield from [_Visit(name, self.predicted, 0.0, 0.0, False)] * self.options.steps
                continue
            network, adam = self._copy(train=False)
            # A step is judged by the next pass, so there is one pass more than steps.
            for step, multiplier in enumerate([*self.options.multipliers, None]):
                with torch.set_grad_enabled(multiplier is not None):
                    logits = _logits(network, inputs)  # (1 + N, C, H, W)
                    rise = functional.cross_entropy(logits[1:], labels) - reference_loss
                if step:
                    yield self._visit(name, logits[0], rise, rise)
                if multiplier is not None:
                    hinge = multiplier * functional.relu(rise - self.budget)
                    _step(adam, functional.cross_entropy(logits[:1], target) + hinge)

    def published(self) -> Iterator[_Visit]:
        """For each target a walk in train mode; every step sees other penalty images."""
        images, labels, reference_loss = self.penalty
        for name, target in self.targets():
            network, adam = self._copy(train=True)
            batches = torch.randperm(len(images)).split(PUBLISHED_BATCH)
            for step, multiplier in enumerate(self.options.multipliers):
                batch = batches[step % len(batches)].to(self.image.device)
                loss = functional.cross_entropy(_logits(network, images[batch]), labels[batch])
                distance = functional.cross_entropy(_logits(network, self.image), target)
                _step(adam, distance + multiplier * loss)
                with torch.no_grad():
                    after = functional.cross_entropy(_logits(network, images), labels)
                    logits = _logits(network, self.image)
                yield self._visit(name, logits[0], after - reference_loss, loss)

    def _copy(self, *, train: bool) -> tuple[nn.Module, torch.optim.Adam]:
        network = copy.deepcopy(self.unet).train(train).requires_grad_(True)
        return network, torch.optim.Adam(network.parameters(), lr=self.options.learning_rate)

    def _visit(self, name: str, logits: Tensor, rise: Tensor, loss: Tensor) -> _Visit:
        if not rise.isfinite():
            raise FloatingPointError(f"the search diverged (rise {rise.item()}); lower learning_rate")
        probabilities = logits.detach().float().softmax(dim=0).cpu()
        counts = self.options.as_published or rise.item() <= self.budget
        return _Visit(name, probabilities, rise.item(), loss.item(), counts)


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    """Checked logits (N, C, H, W) of a network on its way."""
    try:
        return checked_logits(network(images.clone()), images)  # it may work in place on its input
    except NonFiniteLogitsError as error:
        raise FloatingPointError("the search diverged; lower learning_rate") from error


def _step(adam: torch.optim.Adam, objective: Tensor) -> None:
    adam.zero_grad()
    objective.backward()
    adam.step()


def geometry_ring(labels: Tensor | np.ndarray, *, n_classes: int, reach_px: int = 3) -> Tensor:
    """Entropy of three masks: dilated, eroded and as predicted; what a map owes to its targets alone.

    Args:
        labels: (B, H, W) predicted classes in 0 .. n_classes - 1; 0 is background.
        n_classes: Number C of classes, background included; 2 .. 10,000.
        reach_px: Number of pixels by which masks are dilated and eroded (rows and columns, so diagonals count
            one), >= 1.

    Returns:
        (B, H, W) float32, higher = more uncertain, divided by log C as in `pixels.entropy`. Of three masks
        two always agree, so it is 0.637 / log C in the band and 0 elsewhere.

    Raises:
        ValueError: If labels are not non-empty (B, H, W), one is out of range, or the reach is below 1.

    Example:
        >>> labels = np.zeros((1, 1, 5), int)
        >>> labels[0, 0, 0] = 1
        >>> (geometry_ring(labels, n_classes=2, reach_px=1) > 0).tolist()
        [[[True, True, False, False, False]]]
    """
    n_classes = check.integer(
        "n_classes", n_classes, low=2, high=MOST_CLASSES, fix="count the background too"
    )
    reach_px = check.integer("reach_px", reach_px, low=1)
    masks = torch.from_numpy(check.label_map("labels", labels, n_classes=n_classes, shape="B H W").copy())
    stack = torch.stack([_dilate(masks, reach_px), _erode(masks, reach_px), masks])  # (3, B, H, W)
    votes = functional.one_hot(stack, n_classes).float().mean(dim=0)  # (B, H, W, C)
    return pixels.entropy(votes.movedim(-1, 1))


def _dilate(labels: Tensor, reach_px: int) -> Tensor:
    """Every foreground class grows into the background around it; (B, H, W) int64, as the labels.

    A 3 x 3 square, `reach_px` times, as published for one class. A background pixel takes the class that
    reaches it first; of two that come at once, the higher label. Borders between classes stay.
    """
    for _ in range(min(reach_px, max(labels.shape[1:]))):
        reached = functional.max_pool2d(labels[:, None].float(), 3, stride=1, padding=1)[:, 0].long()
        labels = torch.where(labels == 0, reached, labels)
    return labels


def _erode(labels: Tensor, reach_px: int) -> Tensor:
    """Foreground within `reach_px` of the background becomes background; (B, H, W) int64, as the labels.

    The union of the classes is eroded, so borders between classes stay. What lies beyond the image counts as
    background, as published: foreground at the image's edge shrinks from there too.
    """
    reach_px = min(reach_px, max(labels.shape[1:]))
    background = functional.pad((labels == 0).float(), (reach_px,) * 4, value=1.0)
    near = functional.max_pool2d(background[:, None], 2 * reach_px + 1, stride=1)[:, 0] > 0
    return labels.masked_fill(near, 0)
