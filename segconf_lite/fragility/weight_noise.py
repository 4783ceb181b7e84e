"""Gaussian weight noise: the baseline that a search for other models must beat.

Noise on the weights, as large as a budget of training loss permits, does not depend on the evaluated image.
If its map is as good as that of adversarial models (QUAM, Schweighofer et al., NeurIPS 2023; QUAM-SM) at the
same budget, the search itself adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, Unpack, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.sampling import SampledUncertainty, SamplingOptions
from segconf_lite.fragility.mask_search import PenaltySet, penalty_set
from segconf_lite.fragility.tangent import call_with
from segconf_lite.models.device import check_same_device
from segconf_lite.models.unet import predict_probabilities

TOLERANCE = 0.05  # of the budget, in the search for the scale
SCALES = (1e-5, 10.0)  # noise relative to a tensor's own size: from none to nothing but noise


class WeightNoise(SampledUncertainty):
    """Disagreement of copies of one network with Gaussian noise on their weights.

    Each tensor of weights gets noise whose standard deviation is ``scale`` times its root mean square;
    running statistics of norms stay. `fit` chooses the scale at which the training loss rises by the budget,
    in the mean over the copies. Afterwards ``scale`` is that scale, and ``rises``, (n_samples,), are the
    rises of the loss of each copy, in nats per pixel.

    Args:
        budget: Mean rise of the training loss, in nats per pixel, > 0; met within 5 %.
        n_samples: Number of copies, >= 2.
        n_penalty: Number of training cases on which the rise is measured, see `penalty_set`.
        **options: Arguments of `SampledUncertainty`. Its seed draws noise and penalty set.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, rng = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = WeightNoise(budget=0.02, n_samples=2, n_penalty=2, precision="fp32")
        >>> method.fit(UNet(n_classes=4, channels=(4, 8)), cohort).rises.mean().round(decimals=2)
        tensor(0.0200)
    """

    def __init__(
        self, *, budget: float, n_samples: int = 10, n_penalty: int = 16, **options: Unpack[SamplingOptions]
    ) -> None:
        super().__init__(**options)
        fix = "try half of the training loss, in nats per pixel"
        self.budget = check.number("budget", budget, low=0, open_low=True, fix=fix)
        self.n_penalty = check.integer("n_penalty", n_penalty, low=1)
        fix = "a single prediction cannot disagree"
        self.n_samples = self.n_passes = check.integer("n_samples", n_samples, low=2, fix=fix)
        self._members: list[_NoisyNetwork] = []

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Find the scale of the noise by bisection. Returns the method itself.

        Args:
            unet: The evaluated network. It is not changed.
            source_cohort: Training cases of the network.

        Raises:
            ValueError: If no noise reaches the budget.
        """
        check.instance("source_cohort", source_cohort, Cohort)
        penalty = penalty_set(unet, source_cohort, n_images=self.n_penalty, seed=self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        noises = [_noise(unet, generator) for _ in range(self.n_samples)]
        low, high = SCALES
        for _ in range(30):  # halving the logarithm: the rise grows over many powers of ten
            self.scale = (low * high) ** 0.5
            self._members = [_NoisyNetwork(unet, noise, self.scale) for noise in noises]
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


class _NoisyNetwork(nn.Module):
    """A network with noise on its weights, which leaves the network itself unchanged."""

    def __init__(self, network: nn.Module, noise: Mapping[str, Tensor], scale: float) -> None:
        super().__init__()
        self.network = network
        self.weights = {
            name: (value + scale * noise[name]).detach() for name, value in network.named_parameters()
        }

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, call_with(self.network, self.weights, images))


def _noise(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Gaussian noise for each tensor, its standard deviation the tensor's root mean square."""
    return {
        name: torch.randn(value.shape, generator=generator).to(value) * value.detach().square().mean().sqrt()
        for name, value in network.named_parameters()
    }


def _rise(network: nn.Module, penalty: PenaltySet) -> float:
    probabilities = predict_probabilities(network, penalty.images)
    loss = functional.nll_loss(probabilities.clamp(min=1e-30).log(), penalty.labels)
    return float(loss) - penalty.reference_loss
