"""The logits among what a network returns: a tensor, a tuple, a dictionary, or one tensor per resolution.

Shape letters: N cases, C classes, H rows, W columns; volumes have an axis D before H.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segconf_lite import check

NAMES = ("logits", "out")  # what libraries call the prediction, beside auxiliary ones
WRAP = "wrap the network in a module that returns one dense tensor with the classes on axis 1"


def named_outputs(outputs: object) -> dict[Any, object]:
    """What a network returned, by key or by index; nothing for a single tensor.

    Example:
        >>> list(named_outputs((torch.zeros(1), torch.zeros(2))))
        [0, 1]
    """
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, list | tuple) and not hasattr(outputs, "_fields"):
        return dict(enumerate(outputs))
    as_dict = getattr(outputs, "_asdict", lambda: getattr(outputs, "__dict__", {}))  # of a named tuple
    return {} if isinstance(outputs, Tensor) else dict(as_dict())


def picked(outputs: object, images: Tensor | np.ndarray) -> object:
    """The one tensor among a network's outputs that can be its logits; only shapes and names are read.

    It is the one called ``logits`` or ``out``, or else the only one of the images' size: of deep supervision,
    the one at full resolution.

    Args:
        outputs: What the network returned for `images`.
        images: Images (N, channels, H, W) as the network took them.

    Returns:
        That tensor, or `outputs` as they came if there is no such tensor, or more than one.

    Example:
        >>> deep = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)]
        >>> picked(deep, torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """
    fits = _of_the_images_size(outputs, images)
    found = [fits[name] for name in NAMES if name in fits] or list(fits.values())
    return found[0] if len(found) == 1 else outputs


def logits_in(outputs: object, images: Tensor | np.ndarray) -> Tensor:
    """Logits (N, C, H, W), C >= 2, found by `picked`.

    Args:
        outputs: What the network returned for `images`.
        images: Images (N, channels, H, W) as the network took them.

    Raises:
        ValueError: If they are no logits, with the call of `segconf_lite.models.adapt` that makes them such.

    Example:
        >>> logits_in({"out": torch.zeros(1, 2, 8, 8)}, torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
        >>> logits_in(torch.full((1, 2, 8, 8), 0.5), torch.zeros(1, 1, 8, 8))
        Traceback (most recent call last):
        ValueError: the network's output must be logits (1, C, 8, 8) with C >= 2, got probabilities, which sum
        to 1 over the classes; write adapt(network, output="probabilities")
    """
    found, cases, sides = picked(outputs, images), len(images), tuple(images.shape[2:])
    got, fix = _what_is_wrong(found, images)
    if fix or not isinstance(found, Tensor):
        expected = f"logits ({', '.join(map(str, (cases, 'C', *sides)))}) with C >= 2"
        raise check.refuse("the network's output", expected, got, fix)
    return found


def coarse_logits(outputs: object, images: Tensor | np.ndarray) -> Tensor | None:
    """Logits at a whole fraction of the images' resolution, such as a quarter in SegFormer.

    Args:
        outputs: What the network returned for `images`: one tensor, or several of which one is called
            ``logits`` or ``out``.
        images: Images (N, channels, H, W) as the network took them.

    Returns:
        (N, C, H/k, W/k) with C >= 2 and k >= 2, or None if there are none.

    Example:
        >>> coarse_logits({"logits": torch.zeros(1, 2, 4, 4)}, torch.zeros(1, 3, 16, 16)).shape
        torch.Size([1, 2, 4, 4])
    """
    parts, cases, sides = named_outputs(outputs), len(images), tuple(images.shape[2:])
    found = next((parts[name] for name in NAMES if name in parts), outputs)
    if (
        not isinstance(found, Tensor)
        or found.ndim != images.ndim
        or found.shape[1] < 2
        or len(found) != cases
    ):
        return None
    factors = {divmod(int(side), max(1, int(own))) for side, own in zip(sides, found.shape[2:], strict=True)}
    return found if len(factors) == 1 and min(factors)[0] > 1 and not min(factors)[1] else None


def are_probabilities(values: Tensor) -> bool:
    """Whether the first case of (N, C, ...) holds probabilities: in [0, 1], with sum 1 over the classes.

    A single channel (C = 1) need only lie in [0, 1], as after a sigmoid.

    Example:
        >>> are_probabilities(torch.tensor([[0.25, 0.75]])), are_probabilities(torch.tensor([[0.25, 2.0]]))
        (True, False)
    """
    first = values[0].detach()
    if first.min() < 0 or first.max() > 1:  # as nearly all logits; NaN passes
        return False
    tolerance = 1e-2 if values.dtype.itemsize < 4 else 1e-3
    return len(first) == 1 or bool((first.float().sum(dim=0) - 1).abs().max() < tolerance)


def _of_the_images_size(outputs: object, images: Tensor | np.ndarray) -> dict[Any, Tensor]:
    """The tensors (N, C, H, W) among several outputs; those of one channel count only if all are so."""
    cases, sides = len(images), tuple(images.shape[2:])
    fits = {
        name: part
        for name, part in named_outputs(outputs).items()
        if isinstance(part, Tensor) and (len(part), *part.shape[2:]) == (cases, *sides)
    }
    return {name: part for name, part in fits.items() if part.shape[1] > 1} or fits


def _what_is_wrong(outputs: object, images: Tensor | np.ndarray) -> tuple[str, str]:
    """What the outputs are instead of logits, and the remedy; an empty remedy if they are logits."""
    cases, sides = len(images), tuple(images.shape[2:])
    if (coarse := coarse_logits(outputs, images)) is not None:
        return f"{tuple(coarse.shape)}, a lower resolution", 'write adapt(network, output="upsampled")'
    if not isinstance(outputs, Tensor):
        parts, fits = named_outputs(outputs), _of_the_images_size(outputs, images)
        shapes = {k: tuple(getattr(part, "shape", ())) or type(part).__name__ for k, part in parts.items()}
        got = f"{type(outputs).__name__} of {shapes}" if parts else type(outputs).__name__
        return got, f"choose one, e.g. adapt(network, output={next(iter(fits))!r})" if fits else WRAP
    shape = tuple(outputs.shape)
    if outputs.layout != torch.strided or outputs.is_meta:
        return f"{outputs.layout} on {outputs.device}", WRAP
    if shape == (cases, 1, *sides):
        kind = "probabilities" if are_probabilities(outputs) else "sigmoid"
        return f"{shape}, a single channel", f'write adapt(network, output="{kind}") for two classes'
    if len(shape) == 3 + len(sides) and (shape[0], *shape[3:]) == (cases, *sides):
        return f"{shape}, several predictions", "write adapt(network, output=0) for the first of them"
    if len(shape) != 2 + len(sides) or shape[0] != cases or shape[1] < 2:
        return str(shape), WRAP
    if shape[2:] != sides:
        return str(shape), "resize the logits to the images, or pad the images to a size that is kept"
    if not outputs.is_floating_point():
        return str(outputs.dtype), "return them before the argmax"
    got = "probabilities, which sum to 1 over the classes"
    return got, 'write adapt(network, output="probabilities")' if are_probabilities(outputs) else ""
