"""How little would the training loss have to rise for the last layer to label a pixel otherwise?

The last layer of a segmentation network is a softmax regression on the features before it, and its training
loss is convex in the layer's weights. To second order around the trained weights, the smallest rise of the
mean loss at which a pixel changes from class k to class r has a closed form. With the features f of the pixel
(a 1 appended for the bias), the margin m between the two logits, v = (e_k - e_r) f, and the gradient g and
Fisher matrix H of the mean training loss:

    cost = max(0, m - v'H^-1 g)^2 / (2 v'H^-1 v) - g'H^-1 g / 2,

the smallest over rivals r. Times the number of training pixels it is z^2 / 2 of a last-layer Laplace
approximation (Kristiadi, Hein & Hennig, ICML 2020). Shape letters: B cases, C classes, D features and a 1,
H rows, W columns, N pixels, P pairs of classes.
"""

from __future__ import annotations

import difflib
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segconf_lite.models.device import in_double_precision

__all__ = [
    "FlipTerms", "HeadFisher", "HeadInverse", "accumulate_fisher", "find_head", "head_pass", "head_terms",
    "pairs_of_classes",
]  # fmt: skip

WORST_CONDITION = 1e10  # of the damped Fisher matrix, in double precision
SMALLEST = 1e-9  # mean diagonal, in nats: a network that is sure of every pixel has no curvature at all


class FlipTerms(NamedTuple):
    """What a quadratic model of the loss says of every pixel and class.

    The entries of a pixel's own class are infinite margin and leverage 1: no budget buys what it has.
    """

    margin: Tensor  # (B, C, H, W) lead of the own class over each, at the optimum of the loss
    leverage: Tensor  # (B, C, H, W) > 0: square of the margin that one half nat of mean loss moves
    polish: float  # what the loss would fall, in nats, from the trained weights to that optimum

    def cost(self) -> Tensor:
        """(B, C, H, W) rise of the mean training loss, in nats, at which a pixel becomes that class.

        Low = fragile. May be negative, by at most ``polish``: the trained weights are not quite an optimum,
        and for some pixels the way there crosses their border.
        """
        return self.margin.clamp(min=0).square() / (2 * self.leverage) - self.polish

    def adversarial_probability(self, budget: float) -> Tensor:
        """(B, H, W) highest chance of a rival against the own class that `budget` nats of loss buy.

        Above one half exactly where the flip cost is below the budget; never falls as the budget grows.
        """
        reach = (2 * (budget + self.polish) * self.leverage).sqrt()
        return (reach - self.margin).amax(dim=1).sigmoid()


class HeadInverse(NamedTuple):
    """What `head_terms` needs of a Fisher matrix."""

    factors: Tensor  # (D, P, D): v'H^-1 v = |f @ factors|^2 for each pair of classes
    towards: Tensor  # (C, D): H^-1 g
    polish: float


class HeadFisher(NamedTuple):
    """Curvature and gradient of the mean training loss in the weights of the last layer."""

    matrix: Tensor  # (C D, C D) double
    gradient: Tensor  # (C D,) double
    n_pixels: int

    def inverse(self, n_classes: int, *, damping: float = 1e-6) -> HeadInverse:
        """Inverse, damped by that share of the mean of the diagonal.

        Adding a constant to the weights of all classes changes nothing, so the matrix itself is singular.

        Raises:
            ValueError: If the damping is not > 0.
        """
        if not damping > 0:
            raise ValueError(f"damping must be > 0 (the Fisher matrix itself is singular), got {damping}")
        size, width = len(self.matrix), len(self.matrix) // n_classes
        scale = self.matrix.diagonal().mean().clamp(min=SMALLEST)
        damped = self.matrix + damping * scale * torch.eye(size).to(self.matrix)
        smallest, largest = torch.linalg.eigvalsh(damped)[[0, -1]].tolist()
        if smallest <= largest / WORST_CONDITION:
            warnings.warn(
                f"the Fisher matrix of the last layer is close to singular (eigenvalues {smallest:.1e} to "
                f"{largest:.1e}): flip costs lean on the damping, now {damping:g}",
                stacklevel=2,
            )
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        blocks = inverse.reshape(n_classes, width, n_classes, width)
        first, second = pairs_of_classes(n_classes)
        forms = torch.stack([
            blocks[k, :, k] + blocks[r, :, r] - blocks[k, :, r] - blocks[r, :, k]
            for k, r in zip(first, second, strict=True)
        ])  # fmt: skip
        towards = inverse @ self.gradient
        polish = 0.5 * float(self.gradient @ towards)
        return HeadInverse(
            torch.linalg.cholesky(forms).movedim(0, 1), towards.reshape(n_classes, width), polish
        )


def pairs_of_classes(n_classes: int) -> tuple[list[int], list[int]]:
    """First and second class of each of the C (C - 1) / 2 pairs."""
    first, second = torch.triu_indices(n_classes, n_classes, offset=1).tolist()
    return first, second


def find_head(model: nn.Module, name: str = "head") -> nn.Conv2d:
    """The last layer, a 1x1 convolution.

    Raises:
        ValueError: If there is no module of that name (near ones are listed), or it is something else.
    """
    known = dict(model.named_modules())
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or list(known)[-5:]
        raise ValueError(f"the model has no module {name!r}; near names: {near}")
    head = known[name]
    if not isinstance(head, nn.Conv2d) or head.kernel_size != (1, 1) or head.groups != 1:
        raise ValueError(
            f"module {name!r} must be a 1x1 Conv2d with one group, got {head}; name the last layer with head="
        )
    return head


def head_pass(model: nn.Module, head: nn.Conv2d, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the last layer reads, (B, D, H, W) with ones appended, and the logits (B, C, H, W)."""
    read: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    try:
        logits = model(images.clone())  # a model may work in place on its input
    finally:
        handle.remove()
    if not read:
        raise ValueError("the last layer was not called in the model's forward pass; name another with head=")
    return torch.cat([read[-1], torch.ones_like(read[-1][:, :1])], dim=1), logits


def accumulate_fisher(
    features: Tensor, logits: Tensor, labels: Tensor, so_far: HeadFisher | None = None
) -> HeadFisher:
    """Mean Fisher matrix and gradient over all pixels seen, of the cross-entropy.

    Args:
        features, logits: as `head_pass` gives them.
        labels: (B, H, W) int64.
        so_far: of the batches before.
    """
    # Double: eigenvalues span eight decades, and rounding must not make one of them negative.
    rows = in_double_precision(features.movedim(1, -1).flatten(0, -2))  # (N, D)
    chances = in_double_precision(logits.movedim(1, -1).flatten(0, -2)).softmax(dim=1)  # (N, C)
    (n_pixels, n_classes), width = chances.shape, rows.shape[1]
    spread = (chances[:, :, None] * rows[:, None]).flatten(1)  # (N, C D)
    matrix, own = -spread.T @ spread, spread.T @ rows
    for k in range(n_classes):
        block = slice(k * width, (k + 1) * width)
        matrix[block, block] += own[block]
    wanted = nn.functional.one_hot(labels.flatten().to(chances.device), n_classes).to(chances)
    gradient = ((chances - wanted).T @ rows).flatten()
    if so_far is not None:
        matrix += so_far.n_pixels * so_far.matrix
        gradient += so_far.n_pixels * so_far.gradient
        n_pixels += so_far.n_pixels
    return HeadFisher(matrix / n_pixels, gradient / n_pixels, n_pixels)


def head_terms(features: Tensor, logits: Tensor, inverse: HeadInverse) -> FlipTerms:
    """Margins and leverages of pixels, in the precision of their logits.

    Args:
        features, logits: of the pixels in question, as `head_pass` gives them.
        inverse: of the Fisher matrix of the training pixels.
    """
    n_classes = logits.shape[1]
    rows, given = features.movedim(1, -1), logits.movedim(1, -1)  # (B, H, W, D) and (B, H, W, C)
    factors, towards = inverse.factors.to(given), inverse.towards.to(given)
    moved = given - rows @ towards.T
    form = (rows @ factors.flatten(1)).unflatten(-1, factors.shape[1:]).square().sum(dim=-1)  # (B, H, W, P)
    return terms_of_pairs(given.max(dim=-1).indices, moved, form, inverse.polish, n_classes)


def terms_of_pairs(label: Tensor, logits: Tensor, form: Tensor, polish: float, n_classes: int) -> FlipTerms:
    """From leverages of pairs of classes (B, H, W, P) to those of each class against the own one."""
    first, second = pairs_of_classes(n_classes)
    table = torch.zeros(n_classes, n_classes, dtype=torch.int64, device=label.device)
    table[first, second] = table[second, first] = torch.arange(len(first), device=label.device)
    own = label[..., None]
    margin = (logits.gather(-1, own) - logits).scatter(-1, own, float("inf"))
    leverage = form.gather(-1, table[label]).scatter(-1, own, 1.0)
    return FlipTerms(margin.movedim(-1, 1), leverage.movedim(-1, 1), polish)
