"""Training of a network to the optimum of the loss by which other networks are compared with it.

A small module that imports little: what it computes is stored under an address that hashes the code of all
that it imports.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.batches import checked_logits, network_input


def polish(unet: nn.Module, penalty: Cohort, *, steps: int = 100, prior_sd: float = 1.0) -> nn.Module:
    """A copy of the network, trained to the optimum of the loss that `search_pixels` measures.

    The network as trained minimises another loss (with Dice, with augmentation, stopped early), so that many
    changes would cost less than nothing. In eval mode, on the whole penalty set in each step, by L-BFGS with
    a line search: the loss never rises, where Adam at a rate high enough to arrive diverged on one network of
    five. The network then fits these few training cases almost perfectly, and others worse.

    Args:
        unet: Network; left as it is.
        penalty: Training cases, few enough for one batch.
        steps: Number of steps of L-BFGS, >= 1; each is about one forward and backward pass.
        prior_sd: Standard deviation of the Gaussian prior on every weight, as in `PixelSearch`.

    Returns:
        The copy, in eval mode and without gradients.

    Raises:
        ValueError: If an argument is out of its range, a label is not among the network's classes, or the
            network has no weights or no gradient.
        FloatingPointError: If the training diverges.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> penalty, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> unet, labels = UNet(n_classes=4, channels=(4, 8)).eval(), torch.from_numpy(penalty.labels)
        >>> better = polish(unet, penalty, steps=10)
        >>> before, after = (nn.functional.cross_entropy(n(penalty.images), labels) for n in (unet, better))
        >>> bool(after < 0.8 * before)
        True
    """
    check.instance("unet", unet, nn.Module)
    check.instance("penalty", penalty, Cohort)
    steps = check.integer("steps", steps, low=1)
    prior_sd = check.number("prior_sd", prior_sd, low=1e-100, high=1e100)  # its square is a float
    network = copy.deepcopy(unet).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.eval().requires_grad_(True)
    images = network_input(penalty.images, network)  # (N, 1, H, W)
    with torch.enable_grad():
        logits = checked_logits(network(images.clone()), images, network)
    if not logits.requires_grad:
        expected, fix = "differentiable in its weights", "remove no_grad, detach and numpy from it"
        raise check.refuse("the network's output", expected, "logits without gradient", fix)
    known = check.label_map("labels of the cohort", penalty.labels, n_classes=logits.shape[1])
    labels = torch.from_numpy(known.copy()).to(images.device)
    precision = 1 / (prior_sd**2 * labels.numel())
    optimiser = torch.optim.LBFGS(
        network.parameters(),
        max_iter=steps,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        prior = sum(weight.square().sum() for weight in network.parameters())
        loss = nn.functional.cross_entropy(network(images.clone()), labels) + 0.5 * precision * prior
        loss.backward()
        return loss

    optimiser.step(closure)
    if not all(weight.isfinite().all() for weight in network.parameters()):
        raise FloatingPointError("the training diverged to weights that are not finite; raise prior_sd")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.requires_grad_(False)
