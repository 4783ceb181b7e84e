"""Deep ensembles: networks that learned the same cases from other random starts.

Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
ensembles" (NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.sampling import SampledUncertainty
from segconf_lite.models.device import device_of
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.store import fitted_each

__all__ = ["DeepEnsemble"]


class DeepEnsemble(SampledUncertainty):
    """The disagreement of networks with different seeds; the network in question is the first.

    Args:
        n_members: networks in all, >= 2; ``n_members - 1`` are trained in `fit`, through the
            store, so that a second call reads them.
        training: arguments of `fit_unet` for the further members. They should be those of the network
            in question. ``"seed"`` there, 0 by default, is the seed of that network: the further ones
            have the seeds after it.
        validation: passed on to `fit_unet`.
        members: finished networks beside the one in question, instead of training; then
            ``n_members`` and ``training`` are not used.
        measure, seed, **aggregation: see `SampledUncertainty`.

    Raises:
        ValueError: If there are fewer than two members.
    """

    def __init__(
        self,
        *,
        n_members: int = 5,
        training: Mapping[str, Any] | None = None,
        validation: Cohort | None = None,
        members: Sequence[nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.n_members = self.n_passes = n_members if members is None else 1 + len(members)
        if self.n_members < 2:
            raise ValueError(f"an ensemble needs at least 2 members, got {self.n_members}")
        self.training, self.validation = dict(training or {}), validation
        self._given = list(members or [])
        self._others = self._given

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train (or read) the further members on the source cohort. Returns the method itself."""
        self._others = list(self._given)
        training = dict(self.training)
        first_seed = training.pop("seed", 0)
        seeds = range(first_seed + 1 + len(self._others), first_seed + self.n_members)
        trained = fitted_each(fit_unet, source_cohort, seeds=seeds, validation=self.validation, **training)
        self._others += [member.to(device_of(unet)) for member in trained]
        return super().fit(unet, source_cohort)

    @property
    def members(self) -> list[nn.Module]:
        """All networks, the one in question first."""
        return [self.unet, *self._others]

    def _views(self) -> Sequence[nn.Module]:
        return self.members
