"""Monte-Carlo dropout: leave the dropout on, and ask again and again.

Gal & Ghahramani, "Dropout as a Bayesian approximation" (ICML 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.sampling import SampledUncertainty

__all__ = ["MCDropout"]


class MCDropout(SampledUncertainty):
    """The disagreement of one network with itself under dropout.

    Only dropout modules are switched on. Norms stay in eval mode: in train mode they would take the
    statistics of the batch at hand, and change their running ones for good.

    Args:
        n_samples: passes per case, >= 2.
        measure, seed, **aggregation: see `SampledUncertainty`. A mask is drawn per batch, so equal
            images in another order or batch size give other samples of the same law.

    Raises:
        ValueError: If ``n_samples < 2``; in `fit`, if the network has no dropout to switch on.
    """

    def __init__(self, *, n_samples: int = 15, **options: Any) -> None:
        super().__init__(**options)
        if n_samples < 2:
            raise ValueError(f"n_samples must be >= 2 (one answer cannot disagree), got {n_samples}")
        self.n_samples = self.n_passes = n_samples

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Keep the network, if it has dropout. Returns the method itself."""
        if not any(layer.p > 0 for layer in _dropout_layers(unet)):
            raise ValueError(
                "MCDropout needs a network with a dropout layer of p > 0, got one with none: every pass "
                "would be equal. Train with fit_unet(..., dropout=0.1), or use DeepEnsemble"
            )
        return super().fit(unet, source_cohort)

    def _views(self) -> Sequence[nn.Module]:
        return [_DropoutOn(self.unet)] * self.n_samples


class _DropoutOn(nn.Module):
    """A network whose dropout is active although the rest is in eval mode.

    The caller puts back all modes afterwards, see `segconf_lite.models.predict_probabilities`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        for layer in _dropout_layers(self.network):
            layer.train()
        return self.network(images)


def _dropout_layers(network: nn.Module) -> list[_DropoutNd]:
    return [module for module in network.modules() if isinstance(module, _DropoutNd)]
