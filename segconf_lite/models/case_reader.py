"""Read the cases of a training batch, from the card where the cohort fits there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort

__all__ = ["case_reader"]

RESIDENT_BYTES = 2_000_000_000  # of a cohort; the largest of the series, 960 slices of 192 x 192, has 0.4e9


def case_reader(cohort: Cohort, device: torch.device | str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function that gives images and labels of some cases, as new tensors, by their indices on the CPU.

    A graphics card keeps the whole cohort, because a copy to it in every step makes the host wait.

    Args:
        cohort: The cases. Its arrays may be read-only; they stay as they are.
        device: Where the cases are wanted. The cases of a cohort of more than 2 GB stay on the CPU.
    """
    if torch.device(device).type == "cpu" or cohort.images.nbytes + cohort.labels.nbytes > RESIDENT_BYTES:

        def read(index: Tensor) -> tuple[Tensor, Tensor]:
            chosen = to_numpy(index)
            return torch.from_numpy(cohort.images[chosen]), torch.from_numpy(cohort.labels[chosen])

        return read
    images, labels = (torch.tensor(array, device=device) for array in (cohort.images, cohort.labels))

    def read_there(index: Tensor) -> tuple[Tensor, Tensor]:
        there = index.to(device, non_blocking=True)
        return images[there], labels[there]

    return read_there
