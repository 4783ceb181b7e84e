r"""Flip costs over the last layer: in closed form, and by a convex solver as a check.

The last layer of a segmentation network is a softmax regression on the features before it, and its training
loss is convex in the layer's weights. To second order around the trained weights, the smallest rise of the
mean loss at which a pixel changes from class k to class r has a closed form. With the features f of the pixel
(a 1 appended for the bias), the margin m between the two logits, v = (e_k - e_r) f, and the gradient g and
Fisher matrix H of the mean training loss:

.. math:: \mathrm{cost} = \frac{\max(0, m - v^T H^{-1} g)^2}{2 v^T H^{-1} v} - \frac{g^T H^{-1} g}{2},

the smallest over rival classes r. Times the number of training pixels it is z^2 / 2 of a last-layer Laplace
approximation (Kristiadi, Hein & Hennig, ICML 2020). Shape letters: B cases, C classes, D features and a 1,
H rows, W columns, N pixels, P pairs of classes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import torch
from scipy import optimize, special
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.batches import checked_logits, in_batches, network_input
from segconf_lite.models.device import frozen, in_double_precision
from segconf_lite.models.explained import explained
from segconf_lite.models.taps import Taps

WORST_CONDITION = 1e10  # of the damped Fisher matrix, in double precision
SMALLEST = 1e-9  # mean diagonal, in nats: a network that is sure of every pixel has no curvature at all


class SearchMaps(NamedTuple):
    """What a search finds in a batch of images; all (B, H, W).

    Example:
        >>> SearchMaps(torch.tensor(1), torch.tensor(0.3), torch.tensor(0.25)).flip_cost
        tensor(0.3000)
    """

    labels: Tensor  # int64, predicted by the network itself
    flip_cost: Tensor  # nats per training pixel, low = fragile
    uncertainty: Tensor  # in [0, 1], up = worse


# A search that knows a network and its training cases: images on the network's device, budget -> maps. The
# network is frozen and in eval mode.
FittedSearch = Callable[[Tensor, float], SearchMaps]


class FlipTerms(NamedTuple):
    """Margin and leverage of every pixel and class under a quadratic model of the training loss.

    The entries of a pixel's predicted class are infinite margin and leverage 1.

    Example:
        A pixel of class 0 with margin 2 over class 1:

        >>> inf = float("inf")
        >>> terms = FlipTerms(torch.tensor([[inf, 2.0]]), torch.tensor([[1.0, 4.0]]), 0.0)
        >>> terms.cost()
        tensor([[   inf, 0.5000]])
    """

    margin: Tensor  # (B, C, H, W) lead of the predicted class over each, at the optimum of the loss
    leverage: Tensor  # (B, C, H, W) > 0: square of the margin that half a nat of mean loss moves
    excess_loss: float  # loss of the trained weights above that of the optimum, in nats

    @classmethod
    def from_pairs(cls, labels: Tensor, logits: Tensor, form: Tensor, excess_loss: float) -> Self:
        """Terms of each class against the predicted one, from those of all pairs of classes.

        Args:
            labels: (B, H, W) predicted classes.
            logits: (B, H, W, C) at the optimum of the loss.
            form: (B, H, W, P) leverage of each pair, in the order of ``torch.triu_indices(C, C, offset=1)``.
            excess_loss: Loss of the trained weights above that of the optimum, in nats.

        Example:
            >>> logits = torch.tensor([[[[3.0, 1.0]]]])  # (1, 1, 1, 2)
            >>> labels, form = torch.tensor([[[0]]]), torch.tensor([[[[4.0]]]])
            >>> FlipTerms.from_pairs(labels, logits, form, 0.0).cost()[0, 1].item()
            0.5
        """
        n_classes = logits.shape[-1]
        first, second = torch.triu_indices(n_classes, n_classes, offset=1, device=labels.device)
        pair_of = torch.zeros(n_classes, n_classes, dtype=torch.int64, device=labels.device)
        pair_of[first, second] = pair_of[second, first] = torch.arange(len(first), device=labels.device)
        predicted = labels[..., None]  # (B, H, W, 1)
        margin = (logits.gather(-1, predicted) - logits).scatter(-1, predicted, float("inf"))
        leverage = form.gather(-1, pair_of[labels]).scatter(-1, predicted, 1.0)
        return cls(margin.movedim(-1, 1), leverage.movedim(-1, 1), excess_loss)

    def cost(self) -> Tensor:
        """Rise of the mean training loss in nats, (B, C, H, W), at which a pixel becomes that class.

        Low = fragile. May be negative, by at most ``excess_loss``: the trained weights are not quite an
        optimum, and for some pixels the way there crosses their decision boundary.
        """
        return self.margin.clamp(min=0).square() / (2 * self.leverage) - self.excess_loss

    def adversarial_probability(self, budget: float) -> Tensor:
        """Highest probability of a rival against the predicted class, (B, H, W), within a budget.

        Above one half exactly where the flip cost is below the budget; never falls as the budget grows.

        Args:
            budget: Allowed rise of the mean training loss, in nats, >= 0.

        Raises:
            ValueError: If the budget is negative or not finite.
        """
        budget = check.number("budget", budget, low=0)
        reach = (2 * (budget + self.excess_loss) * self.leverage).sqrt()
        return (reach - self.margin).amax(dim=1).sigmoid()

    def maps(self, budget: float) -> SearchMaps:
        """Labels, flip costs and adversarial probabilities; for the budget see `adversarial_probability`."""
        labels = self.margin.isinf().max(dim=1).indices  # the predicted class has an infinite margin
        return SearchMaps(labels, self.cost().amin(dim=1), self.adversarial_probability(budget))


@dataclasses.dataclass(frozen=True)
class HeadSearch:
    """Flip costs in closed form over the weights of the last layer.

    Attributes:
        head: Name of the last layer, a 1x1 convolution that returns the logits.
        damping: Damping of the Fisher matrix, as a fraction of the mean of its diagonal, > 0.
        gradient: False takes the trained weights for the optimum, as Laplace approximations do. The cost
            is then the smallest mean Kullback-Leibler divergence, over training pixels, of the altered
            network's prediction from the network's own: for a softmax, the loss less its tangent is just
            that. True measures the cross-entropy itself. Networks trained with another loss beside it
            (ours: Dice), with augmentation, or not to the end are far from its optimum, and most of the cost
            is then negative.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.fragility import FragilityMap
        >>> from segconf_lite.models import UNet
        >>> cohort, unet = phantom.cohort(6, size=16), UNet(n_classes=4, channels=(4, 8)).eval()
        >>> method = FragilityMap(search=HeadSearch(damping=1e-3)).fit(unet, cohort)
        >>> method.flip_cost(cohort.images[:2]).shape
        torch.Size([2, 16, 16])
    """

    head: str = "head"
    damping: float = 1e-6
    gradient: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.head, str):
            raise check.refuse("head", "the name of a module", repr(self.head))
        check.one_of("gradient", self.gradient, (True, False))
        fix = "the Fisher matrix itself is singular, try damping=1e-6"
        damping = check.number("damping", self.damping, low=0, open_low=True, fix=fix)
        self.__dict__["damping"] = damping  # frozen for everyone else

    def fit(self, unet: nn.Module, cohort: Cohort, *, batch_size: int) -> FittedSearch:
        """Measure the curvature of the loss over all training pixels, in one pass.

        Args:
            unet: Network, in eval mode and without gradients (see `segconf_lite.models.splice.frozen`).
            cohort: Training cases.
            batch_size: Cases per pass; bounds the memory.

        Returns:
            A function of images on the network's device and a budget that returns `SearchMaps`.

        Raises:
            ValueError: If there is no such layer, or a label is not among its classes.

        Example:
            >>> from segconf_lite.cohorts import phantom
            >>> from segconf_lite.models import UNet
            >>> cohort, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
            >>> with torch.no_grad():
            ...     unet = UNet(n_classes=4, channels=(4, 8)).eval()
            ...     fitted = HeadSearch().fit(unet, cohort, batch_size=2)
            ...     maps = fitted(torch.from_numpy(cohort.images), 0.01)
            >>> round(float((maps.flip_cost < 0.01).float().mean()), 1)  # fraction of fragile pixels
            1.0
        """
        check.instance("cohort", cohort, Cohort)
        head = _find_head(unet, self.head)
        batch_size = min(check.integer("batch_size", batch_size, low=1), len(cohort))
        labels = check.label_map("labels of the cohort", cohort.labels, n_classes=head.out_channels)
        targets = torch.from_numpy(labels.copy()).split(batch_size)
        passes = in_batches(
            lambda batch: _head_pass(unet, head, batch), cohort.images, unet, batch_size=batch_size
        )
        fisher = None
        for (features, logits), target in zip(passes, targets, strict=True):
            fisher = _accumulate_fisher(features, logits, target, fisher)
        assert fisher is not None  # a cohort has cases
        if not self.gradient:
            fisher = fisher._replace(gradient=torch.zeros_like(fisher.gradient))
        inverse = fisher.inverse(head.out_channels, damping=self.damping)
        return _FittedHead(unet, head, inverse)


class ConvexCheck(NamedTuple):
    """Flip costs of n pixels over the last layer, in nats per training pixel.

    Example:
        >>> ConvexCheck(closed=np.array([0.2]), exact=np.array([0.25])).exact
        array([0.25])
    """

    closed: np.ndarray  # (n,) in closed form
    exact: np.ndarray  # (n,) by the solver; NaN where it found no flip


def check_closed_form(
    unet: nn.Module,
    train: Cohort,
    images: Tensor | np.ndarray,
    pixels: Tensor | np.ndarray,
    *,
    n_training: int = 12000,
    seed: int = 0,
) -> ConvexCheck:
    """Flip costs in closed form, and by sequential quadratic programming on the loss itself.

    The loss is the mean Kullback-Leibler divergence, over training pixels, of the altered predictions from
    the network's own, as in `HeadSearch` without its gradient; convex in the weights of the last layer. Both
    costs are for the rival class that the closed form finds cheapest.

    Args:
        unet: Network with a 1x1 convolution named ``head``. It is not changed.
        train: Training cases.
        images: (B, channels, H, W), numpy or torch.
        pixels: (n, 3) case, row and column of each pixel.
        n_training: Number of training pixels, drawn evenly from all cases; the solver passes over them many
            times.
        seed: Seed of the random draw of training pixels.

    Returns:
        Both costs of each pixel.

    Raises:
        ValueError: If an argument is out of its range, or there is no such layer.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> train, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> unet = UNet(n_classes=4, channels=(4, 8)).eval()
        >>> costs = check_closed_form(unet, train, train.images, [[0, 8, 8]], n_training=100)
        >>> bool(abs(costs.closed / costs.exact - 1) < 0.2)
        True
    """
    check.instance("train", train, Cohort)
    n_training = check.integer("n_training", n_training, low=1)
    rng = np.random.default_rng(check.integer("seed", seed, low=0))
    case, row, column = torch.from_numpy(pixel_index(pixels, check.image_batch(images, channels=None))).T
    head = _find_head(unet, "head")
    with frozen(unet), explained(unet, train.images), explained(unet, images):
        n_each, parts = -(-n_training // len(train)), []
        for image in train.images:
            features, logits = _head_pass(unet, head, network_input(image[None], unet))
            some = torch.from_numpy(rng.permutation(logits[0, 0].numel())[:n_each])
            parts.append([v[0].flatten(1).T.cpu()[some].double() for v in (features, logits)])
        # (N, D) features and (N, C) logits of training pixels, then of the n pixels to be flipped
        rows, row_logits = (torch.cat(values)[:n_training] for values in zip(*parts, strict=True))
        both = _head_pass(unet, head, network_input(images, unet))
        vectors, scores = (v.cpu()[case, :, row, column].double() for v in both)
    fisher = _accumulate_fisher(_as_image(rows), _as_image(row_logits), row_logits.argmax(dim=1)[None, None])
    inverse = fisher._replace(gradient=0 * fisher.gradient).inverse(head.out_channels)
    closed, rivals = _head_terms(_as_image(vectors), _as_image(scores), inverse).cost()[0, :, 0].min(dim=0)
    training = to_numpy(rows), to_numpy(row_logits)
    each = zip(to_numpy(vectors), to_numpy(scores), to_numpy(rivals), strict=True)
    exact = [_solve(*training, vector, score, rival) for vector, score, rival in each]
    return ConvexCheck(to_numpy(closed), np.array(exact))


def pixel_index(pixels: Tensor | np.ndarray, images: Tensor | np.ndarray) -> np.ndarray:
    """Case, row and column of some pixels of a batch of images, checked.

    Args:
        pixels: (n, 3) integers, n >= 1.
        images: (B, channels, H, W), in which they must lie.

    Returns:
        (n, 3) int64.

    Raises:
        ValueError: If the shape is another, or a pixel lies outside.

    Example:
        >>> pixel_index([[0, 3, 5]], np.zeros((1, 1, 8, 8)))
        array([[0, 3, 5]])
    """
    index, limits = check.label_map("pixels", pixels, shape="n 3"), (len(images), *images.shape[2:])
    if (index >= limits).any():
        expected = f"case, row, column below {limits}"
        raise check.refuse("pixels", expected, f"up to {tuple(index.max(axis=0).tolist())}")
    return index


class _HeadInverse(NamedTuple):
    """What `_head_terms` needs of a Fisher matrix."""

    factors: Tensor  # (D, P, D): v'H^-1 v = |f @ factors|^2 for each pair of classes
    newton_step: Tensor  # (C, D): H^-1 g
    excess_loss: float


@dataclasses.dataclass(frozen=True)
class _FittedHead:
    """A `FittedSearch`."""

    unet: nn.Module
    head: nn.Conv2d
    inverse: _HeadInverse

    def __call__(self, images: Tensor, budget: float) -> SearchMaps:
        return _head_terms(*_head_pass(self.unet, self.head, images), self.inverse).maps(budget)


class _HeadFisher(NamedTuple):
    """Curvature and gradient of the mean training loss in the weights of the last layer."""

    matrix: Tensor  # (C D, C D) double
    gradient: Tensor  # (C D,) double
    n_pixels: int

    def inverse(self, n_classes: int, *, damping: float = 1e-6) -> _HeadInverse:
        """Inverse of the matrix, damped by that fraction of the mean of its diagonal.

        Adding a constant to the weights of all classes changes nothing, so the matrix itself is singular.
        """
        size, width = len(self.matrix), len(self.matrix) // n_classes
        scale = self.matrix.diagonal().mean().clamp(min=SMALLEST)
        damped = self.matrix + damping * scale * torch.eye(size).to(self.matrix)
        try:
            smallest, largest = torch.linalg.eigvalsh(damped)[[0, -1]].tolist()
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))  # (C D, C D)
            blocks = inverse.reshape(n_classes, width, n_classes, width)
            first, second = torch.triu_indices(n_classes, n_classes, offset=1).tolist()
            forms = [
                blocks[k, :, k] + blocks[r, :, r] - blocks[k, :, r] - blocks[r, :, k]  # (D, D)
                for k, r in zip(first, second, strict=True)
            ]
            factors = torch.linalg.cholesky(torch.stack(forms))  # (P, D, D)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            expected, fix = "large enough for a positive definite Fisher matrix", "try damping=1e-6"
            raise check.refuse("damping", expected, f"{damping:g}", fix) from None
        if smallest <= largest / WORST_CONDITION:
            warnings.warn(
                f"the Fisher matrix of the last layer is close to singular (eigenvalues {smallest:.1e} to "
                f"{largest:.1e}): flip costs depend on the damping, now {damping:g}",
                stacklevel=2,
            )
        step = inverse @ self.gradient
        excess_loss = 0.5 * float(self.gradient @ step)
        return _HeadInverse(factors.movedim(0, 1), step.reshape(n_classes, width), excess_loss)


def _find_head(network: nn.Module, name: str = "head") -> nn.Conv2d:
    Taps(network, head=name)  # is there such a module?
    head = network.get_submodule(name)
    if not isinstance(head, nn.Conv2d) or head.kernel_size != (1, 1) or head.groups != 1:
        fix = "name the last layer with HeadSearch(head=...)"
        raise check.refuse(f"module {name!r}", "a 1x1 Conv2d with one group", head, fix)
    return head


def _head_pass(network: nn.Module, head: nn.Conv2d, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the last layer reads, (B, D, H, W) with ones appended, and the logits (B, C, H, W)."""
    read: list[tuple[Tensor, Tensor]] = []
    handle = head.register_forward_hook(lambda module, inputs, output: read.append((inputs[0], output)))
    try:
        # A network may work in place on its input.
        logits = checked_logits(network(images.clone()), images, network)
    finally:
        handle.remove()
    returned = read[-1][1].to(logits) if read else logits[:0]
    if returned.shape != logits.shape or not (returned is logits or torch.allclose(returned, logits)):
        raise ValueError("the logits are not what the last layer returned; name it with HeadSearch(head=...)")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    features = read[-1][0].to(dtype)
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1), logits.to(dtype)


def _accumulate_fisher(
    features: Tensor, logits: Tensor, labels: Tensor, so_far: _HeadFisher | None = None
) -> _HeadFisher:
    """Mean Fisher matrix and gradient of the cross-entropy, over these pixels and those of `so_far`.

    Features and logits are those of `_head_pass`; labels are (B, H, W) int64.
    """
    # Double: eigenvalues span eight decades, and rounding must not make one of them negative.
    rows = in_double_precision(features.movedim(1, -1).flatten(0, -2))  # (N, D)
    probabilities = in_double_precision(logits.movedim(1, -1).flatten(0, -2)).softmax(dim=1)  # (N, C)
    (n_pixels, n_classes), width = probabilities.shape, rows.shape[1]
    weighted = (probabilities[:, :, None] * rows[:, None]).flatten(1)  # (N, C D)
    matrix, diagonal = -weighted.T @ weighted, weighted.T @ rows  # (C D, C D) and (C D, D)
    for k in range(n_classes):
        block = slice(k * width, (k + 1) * width)
        matrix[block, block] += diagonal[block]
    target = nn.functional.one_hot(labels.flatten().to(probabilities.device), n_classes).to(probabilities)
    gradient = ((probabilities - target).T @ rows).flatten()  # (C D,)
    if so_far is not None:
        matrix += so_far.n_pixels * so_far.matrix
        gradient += so_far.n_pixels * so_far.gradient
        n_pixels += so_far.n_pixels
    return _HeadFisher(matrix / n_pixels, gradient / n_pixels, n_pixels)


def _head_terms(features: Tensor, logits: Tensor, inverse: _HeadInverse) -> FlipTerms:
    """Margins and leverages of pixels, in the precision of their logits; arguments as from `_head_pass`."""
    rows, scores = features.movedim(1, -1), logits.movedim(1, -1)  # (B, H, W, D) and (B, H, W, C)
    factors, step = inverse.factors.to(scores), inverse.newton_step.to(scores)
    at_optimum = scores - rows @ step.T
    # Case by case: what lies between is as large as P D images, and stays in the processor's cache.
    each = ((case @ factors.flatten(1)).unflatten(-1, factors.shape[1:]) for case in rows)
    form = torch.stack([products.square_().sum(dim=-1) for products in each])  # (B, H, W, P)
    return FlipTerms.from_pairs(scores.max(dim=-1).indices, at_optimum, form, inverse.excess_loss)


def _as_image(rows: Tensor) -> Tensor:
    """(1, D, 1, N) from (N, D)."""
    return rows.T[None, :, None]


def _solve(rows: np.ndarray, logits: np.ndarray, vector: np.ndarray, scores: np.ndarray, rival: int) -> float:
    """Least mean divergence over the changes of the weights at which the rival class wins."""
    shape = logits.shape[1], rows.shape[1]  # (C, D)
    probabilities, offset = special.softmax(logits, axis=1), special.logsumexp(logits, axis=1)
    direction, predicted = np.zeros(shape), scores.argmax()
    direction[predicted], direction[rival] = vector, -vector

    def divergence(flat: np.ndarray) -> tuple[float, np.ndarray]:
        change = rows @ flat.reshape(shape).T  # (N, C) of the logits
        after = logits + change
        rise = special.logsumexp(after, axis=1) - offset - (probabilities * change).sum(axis=1)
        slope = (special.softmax(after, axis=1) - probabilities).T @ rows / len(rows)
        return float(rise.mean()), slope.ravel()

    bound = scores[rival] - scores[predicted]
    plane = optimize.LinearConstraint(direction.ravel()[None], -np.inf, bound)
    start, options = np.zeros(direction.size), {"maxiter": 200, "ftol": 1e-12}
    best = optimize.minimize(divergence, start, jac=True, method="SLSQP", constraints=plane, options=options)
    flipped = direction.ravel() @ best.x <= bound + 1e-6 * (1 + abs(bound))
    return float(best.fun) if flipped else np.nan
