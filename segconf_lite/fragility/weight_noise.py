"""Random other models that the training cases allow: what a search for other models must beat.

Noise on the weights, as large as a budget of training loss permits, asks no question about the image at
hand. If its map is as good as that of adversarial models (QUAM, Schweighofer et al., NeurIPS 2023; QUAM-SM)
at the same budget, the search itself adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.sampling import SampledUncertainty
from segconf_lite.fragility.mask_search import PenaltySet, penalty_set
from segconf_lite.models.device import check_same_device
from segconf_lite.models.unet import predict_probabilities

__all__ = ["WeightNoise"]

TOLERANCE = 0.05  # of the budget, in the search for the scale
SCALES = (1e-5, 10.0)  # noise relative to a tensor's own size: from none to nothing but noise


class WeightNoise(SampledUncertainty):
    """The disagreement of copies of one network whose weights are shaken.

    Each tensor of weights gets Gaussian noise of ``scale`` times its own root mean square; running statistics
    of norms stay. `fit` chooses the scale at which the training loss rises by the budget, in the mean over
    the copies. Afterwards ``scale`` is that scale, and ``rises``, (n_samples,), says what each copy costs.

    Args:
        budget: mean rise of the training loss, in nats per pixel, > 0; met within 5 %.
        n_samples: copies, >= 2.
        n_penalty: training cases on which the rise is measured, see `penalty_set`.
        measure, seed, **options: see `SampledUncertainty`. The seed draws noise and penalty set.

    Raises:
        ValueError: If an argument is out of its range; in `fit`, if no noise reaches the budget.
    """

    def __init__(self, *, budget: float, n_samples: int = 10, n_penalty: int = 16, **options: Any) -> None:
        super().__init__(**options)
        if not budget > 0:
            raise ValueError(
                f"budget must be > 0 nats per pixel, got {budget}; try half of the training loss"
            )
        if n_samples < 2:
            raise ValueError(f"n_samples must be >= 2 (one answer cannot disagree), got {n_samples}")
        self.budget, self.n_penalty = budget, n_penalty
        self.n_samples = self.n_passes = n_samples
        self._members: list[_Shaken] = []

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Find the scale of the noise. Returns the method itself."""
        penalty = penalty_set(unet, source_cohort, n_images=self.n_penalty, seed=self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        noises = [_noise(unet, generator) for _ in range(self.n_samples)]
        low, high = SCALES
        for _ in range(30):  # the scale, halved in its logarithm: the rise grows over many powers of ten
            self.scale = (low * high) ** 0.5
            self._members = [_Shaken(unet, noise, self.scale) for noise in noises]
            self.rises = torch.tensor([_rise(member, penalty) for member in self._members])
            excess = float(self.rises.mean()) / self.budget - 1
            if abs(excess) <= TOLERANCE:
                return super().fit(unet, source_cohort)
            low, high = (low, self.scale) if not excess < 0 else (self.scale, high)
        raise ValueError(
            f"no noise raises the training loss by {self.budget} nats per pixel: at {self.scale:.2g} times "
            f"the size of the weights it rises by {float(self.rises.mean()):.3g}; choose another budget"
        )

    def _views(self) -> Sequence[nn.Module]:
        for member in self._members[:1]:
            weight = next(iter(member.weights.values()))
            check_same_device(self.unet, **{"set of noisy weights": weight.device})
        return self._members


class _Shaken(nn.Module):
    """A network that computes with weights of its own; the network itself keeps what it has."""

    def __init__(self, network: nn.Module, noise: Mapping[str, Tensor], scale: float) -> None:
        super().__init__()
        self.network = network
        self.weights = {
            name: (value + scale * noise[name]).detach() for name, value in network.named_parameters()
        }

    def forward(self, images: Tensor) -> Tensor:
        return functional_call(self.network, self.weights, (images,))


def _noise(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """One direction: per tensor, Gaussian with the tensor's own root mean square."""
    return {
        name: torch.randn(value.shape, generator=generator).to(value) * value.detach().square().mean().sqrt()
        for name, value in network.named_parameters()
    }


def _rise(network: nn.Module, penalty: PenaltySet) -> float:
    told = predict_probabilities(network, penalty.images)
    loss = functional.nll_loss(told.clamp(min=1e-30).log(), penalty.labels)
    return float(loss) - penalty.reference_loss
