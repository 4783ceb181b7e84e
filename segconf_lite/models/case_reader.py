"""Read the cases of a training batch, from the memory of the graphics card if the cohort fits there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort

# Largest cohort that a card keeps; the largest of the series, 960 slices of 192 x 192, has 0.4e9 bytes.
RESIDENT_BYTES = 2_000_000_000


def case_reader(cohort: Cohort, device: torch.device | str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function from indices of cases, on the CPU, to new tensors of their images and labels.

    A graphics card keeps the whole cohort, because a copy to it in every step makes the host wait.

    Args:
        cohort: The cases. Its arrays may be read-only; they stay as they are.
        device: Device of the training. The cases of a cohort of more than 2 GB stay on the CPU.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> images, labels = case_reader(phantom.cohort(3, size=16), "cpu")(torch.tensor([2, 0]))
        >>> images.shape, labels.shape
        (torch.Size([2, 1, 16, 16]), torch.Size([2, 16, 16]))
    """
    if torch.device(device).type == "cpu" or cohort.images.nbytes + cohort.labels.nbytes > RESIDENT_BYTES:

        def read(index: Tensor) -> tuple[Tensor, Tensor]:
            chosen = to_numpy(index)
            return torch.from_numpy(cohort.images[chosen]), torch.from_numpy(cohort.labels[chosen])

        return read
    images, labels = (torch.tensor(array, device=device) for array in (cohort.images, cohort.labels))

    def read_on_device(index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(device, non_blocking=True)
        return images[index], labels[index]

    return read_on_device
