"""Bring a network to the optimum of the loss by which other networks are compared with it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort

__all__ = ["as_tensors", "polish"]


def polish(
    unet: nn.Module, penalty: Cohort, *, steps: int = 200, learning_rate: float = 2e-3, prior_sd: float = 1.0
) -> nn.Module:
    """A copy of the network, trained on to the optimum of the loss that `search_pixels` measures.

    The network as trained minimises another loss (with Dice, with augmentation, stopped early), so that many
    changes would cost less than nothing. In eval mode, on the whole penalty set in each step.
    """
    network = copy.deepcopy(unet).eval().requires_grad_(True)
    images, labels = as_tensors(network, penalty)
    precision = 1 / (prior_sd**2 * labels.numel())
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    for _ in range(steps):
        prior = sum(weight.square().sum() for weight in network.parameters())
        loss = nn.functional.cross_entropy(network(images), labels) + 0.5 * precision * prior
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.requires_grad_(False)


def as_tensors(network: nn.Module, cohort: Cohort) -> tuple[Tensor, Tensor]:
    """Images and labels, copied, on the device of the network."""
    like = next(network.parameters())
    labels = torch.from_numpy(cohort.labels.copy()).to(like.device)
    return torch.from_numpy(cohort.images.copy()).to(like), labels
