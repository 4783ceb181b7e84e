"""Bring a network to the optimum of the loss by which other networks are compared with it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.batches import network_input
from segconf_lite.models.device import device_of

__all__ = ["as_tensors", "polish"]


def polish(unet: nn.Module, penalty: Cohort, *, steps: int = 100, prior_sd: float = 1.0) -> nn.Module:
    """A copy of the network, trained on to the optimum of the loss that `search_pixels` measures.

    The network as trained minimises another loss (with Dice, with augmentation, stopped early), so that many
    changes would cost less than nothing. In eval mode, on the whole penalty set in each step, by L-BFGS with
    a line search: the loss never rises, where Adam at a rate high enough to arrive diverged on one network of
    five. Few training cases are then known by heart, and others get worse.

    Args:
        unet: left as it is.
        penalty: training cases, few enough for one batch.
        steps: of L-BFGS, >= 1; each is about one pass back and forth.
        prior_sd: of the Gaussian prior on every weight, as in `PixelSearch`.
    """
    network = copy.deepcopy(unet).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.eval().requires_grad_(True)
    images, labels = as_tensors(network, penalty)
    precision = 1 / (prior_sd**2 * labels.numel())
    optimiser = torch.optim.LBFGS(
        network.parameters(), max_iter=steps, history_size=20, tolerance_grad=1e-7, tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        prior = sum(weight.square().sum() for weight in network.parameters())
        loss = nn.functional.cross_entropy(network(images.clone()), labels) + 0.5 * precision * prior
        loss.backward()
        return loss

    optimiser.step(closure)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.requires_grad_(False)


def as_tensors(network: nn.Module, cohort: Cohort) -> tuple[Tensor, Tensor]:
    """Images and labels, copied, on the device of the network."""
    labels = torch.from_numpy(cohort.labels.copy()).to(device_of(network))
    return network_input(cohort.images, network), labels
