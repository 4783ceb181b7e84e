"""What every function of this room takes: images, networks, generators."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from segconf_lite import check
from segconf_lite.arrays import to_numpy

Images = Tensor | np.ndarray
LARGEST = float(torch.finfo(torch.float32).max)
MOST = 10**6  # of steps, samples, levels, pixels of a side: more is a slip of the keyboard
Kind = TypeVar("Kind")


def to_images(images: Images, *, channels: int | None = 1) -> Tensor:
    """A copy of images as (N, channels, H, W) float32 on the CPU.

    Args:
        images: Images (N, channels, H, W), numpy or torch.
        channels: Expected number of channels; None takes any.

    Raises:
        ValueError: If the shape is another, or a value is not finite in float32.

    Example:
        >>> to_images(np.ones((1, 1, 1, 2), dtype=">f8"))
        tensor([[[[1., 1.]]]])
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        copy = np.array(to_numpy(check.image_batch(images, channels=channels)), dtype=np.float32, order="C")
    check.finite("images", copy, fix="float32 ends at 3.4e38; scale them to standard deviation 1")
    return torch.from_numpy(copy)


def of_type(name: str, value: object, kind: type[Kind], fix: str = "") -> Kind:
    """An object of a class, as it came.

    Args:
        name: Name of the argument.
        value: Its value.
        kind: The class that it must have.
        fix: The likely remedy, for the message.

    Raises:
        ValueError: If it is of another class.

    Example:
        >>> of_type("labels", torch.ones(2), Tensor)
        tensor([1., 1.])
    """
    if not isinstance(value, kind):
        expected = f"a {kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise check.refuse(name, expected, type(value).__name__, fix)
    return value


def checked_generator(
    generator: torch.Generator | None, fix: str = "e.g. torch.Generator().manual_seed(0)"
) -> torch.Generator:
    """A random generator of torch, as it came; it is known by its methods, because devices bring their own.

    Args:
        generator: The generator.
        fix: The likely remedy, for the message.

    Raises:
        ValueError: If it is no generator of torch.

    Example:
        >>> checked_generator(torch.Generator().manual_seed(3)).initial_seed()
        3
    """
    known = all(hasattr(generator, name) for name in ("manual_seed", "get_state", "device"))
    if generator is None or not known:
        raise check.refuse("generator", "a torch.Generator", type(generator).__name__, fix)
    return generator
