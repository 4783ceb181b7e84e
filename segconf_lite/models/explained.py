"""Errors of networks that do not take the images, in words that say what helps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from segconf_lite.models.batches import BatchTooLargeError, check_network

_OF_A_NETWORK = (RuntimeError, TypeError, AttributeError, AssertionError, IndexError)


@contextlib.contextmanager
def explained(network: nn.Module, images: Tensor | np.ndarray) -> Iterator[None]:
    """Inside, a network that takes images of another size or number of channels is refused in plain words.

    The words are those of `check_network`. It is for passes that do not go through `in_batches`, and nothing
    runs unless there is an error.

    Args:
        network: The network that is run inside.
        images: The images (N, channels, H, W) that it is run on, or volumes with an axis more.

    Raises:
        ValueError: In place of the network's own error, if it does not take these images but would take
            others.

    Example:
        >>> network, colours = nn.Conv2d(1, 2, 1), np.zeros((4, 3, 8, 8), np.float32)
        >>> with explained(network, colours):
        ...     network(Tensor(colours))
        Traceback (most recent call last):
        ValueError: the network must be one that takes images (1, 3, 8, 8), got RuntimeError: ...; write
        adapt(network, channels=(0,))
    """
    try:
        yield
    except _OF_A_NETWORK as error:
        if not isinstance(error, BatchTooLargeError):
            check_network(network, images)
        raise
