"""The one way from a tensor to an array.

The contract for devices, which the whole package keeps: networks and the tensors inside a computation live
on the network's device; inputs may be numpy arrays or tensors on any device and are never changed; what a
public function or method returns is on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["to_numpy"]


def to_numpy(values: object, dtype: DTypeLike | None = None) -> np.ndarray:
    """A numpy array with the values of a tensor on any device, of an array, or of anything that numpy reads.

    Args:
        values: A torch tensor (any device, any floating or integer type, with or without gradient), a numpy
            array, a pandas column, a list or a number.
        dtype: Type of the result; None keeps the type. bfloat16, which numpy lacks, becomes float32.

    Returns:
        The array. It shares the memory of a numpy array or of a CPU tensor of the same type, so treat it as
        read-only.

    Example:
        >>> import torch
        >>> to_numpy(torch.tensor([0.5, 2.0], dtype=torch.bfloat16, requires_grad=True))
        array([0.5, 2. ], dtype=float32)
    """
    if hasattr(values, "detach"):  # a tensor; recognised without importing torch, which takes seconds
        tensor = values.detach().cpu()
        values = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return np.asarray(values, dtype=dtype)
