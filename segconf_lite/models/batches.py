"""Images on their way into a network: copied, moved to its device, batch after batch.

A network may work in place on its input (``x.sub_(mean)``), so it never gets the caller's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.models.device import device_of

__all__ = ["BatchTooLargeError", "in_batches", "joined", "network_input"]

Result = TypeVar("Result")


class BatchTooLargeError(RuntimeError):
    """The memory of the device is too small for a batch.

    Attributes:
        computed: Results of the batches before it, (n, ...), where `joined` was collecting them; else None.
    """

    computed: Tensor | None = None


def network_input(images: Tensor | np.ndarray, network: nn.Module) -> Tensor:
    """A copy of images on the device and in the floating type of a network.

    Args:
        images: (N, ...) numpy or torch, on any device, of any stride and byte order.
        network: Says where to and in which type; float32 on the CPU if it has no parameters.

    Returns:
        A tensor of the same shape that shares no memory with `images`. A gradient flows back through it.

    Raises:
        ValueError: If parts of the network lie on different devices.
    """
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    if not isinstance(images, Tensor):  # torch refuses flipped arrays and other byte orders
        array = np.asarray(images)
        images = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
        return images.to(device=device_of(network), dtype=dtype)
    return images.to(device=device_of(network), dtype=dtype, copy=True)


def in_batches(
    compute: Callable[[Tensor], Result], images: Tensor | np.ndarray, network: nn.Module, *, batch_size: int
) -> Iterator[Result]:
    """Results of `compute` on one batch of images after another.

    Args:
        compute: Takes a batch as `network_input` makes it.
        images: (N, ...) numpy or torch.
        network: The network that the batches are for.
        batch_size: Cases per batch, >= 1; it bounds the memory.

    Yields:
        What `compute` returns, batch by batch; nothing is kept, so that the memory stays bounded.

    Raises:
        ValueError: If the batch size is below 1.
        BatchTooLargeError: If the memory is too small. The message names a smaller batch size.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    for start in range(0, len(images), batch_size):
        try:
            result = compute(network_input(images[start : start + batch_size], network))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise BatchTooLargeError(
                f"batch_size={batch_size} does not fit into the memory of {device_of(network)} ({start} of "
                f"{len(images)} cases were done before); "
                + (
                    f"lower it, e.g. to {batch_size // 2}"
                    if batch_size > 1
                    else "one case is too large: use smaller images, a smaller network, or the CPU"
                )
            ) from error
        yield result


def joined(parts: Iterable[Tensor]) -> Tensor:
    """All batches in one tensor, (N, ...) from (b, ...).

    Raises:
        BatchTooLargeError: As raised by a batch; its attribute `computed` then holds those before it.
    """
    done: list[Tensor] = []
    try:
        done.extend(parts)
    except BatchTooLargeError as error:
        error.computed = torch.cat(done) if done else None
        raise
    return torch.cat(done)


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has a class for it on a GPU, and only a text on a CPU."""
    words = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        w in str(error).lower() for w in words
    )
