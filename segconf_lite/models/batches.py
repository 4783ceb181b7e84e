"""Images on their way into a network: copied, moved to its device, batch after batch.

A network may work in place on its input (``x.sub_(mean)``), so it never gets the caller's own memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.models.device import device_of, kept_random_state

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


def checked_logits(outputs: Any, images: Tensor | np.ndarray, network: nn.Module | None = None) -> Tensor:
    """What a network returned, if these are logits; every output of a network passes through here.

    A softmax over a single channel gives probability 1 everywhere, one over the wrong axis mixes cases, and
    NaN has no largest class. All of these would look like certain predictions.

    Args:
        outputs: What the network returned for `images`.
        images: Images (N, channels, H, W) as the network took them; volumes have an axis more.
        network: The network. If it is there, the message names the layer whose output is not finite first,
            for which the network runs once more.

    Returns:
        `outputs` itself, (N, C, H, W) with C >= 2, so that it keeps device, type and gradient.

    Raises:
        ValueError: If it is not one dense tensor of finite floating-point numbers of that shape.

    Example:
        >>> checked_logits(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
        >>> checked_logits(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
        Traceback (most recent call last):
        ValueError: the network's output must be logits (2, C, 8, 8) with C >= 2, got (2, 1, 8, 8);
        a single sigmoid channel z becomes torch.cat([-z / 2, z / 2], dim=1)
    """
    name, cases, sides = "the network's output", len(images), tuple(images.shape[2:])
    told = f"logits ({', '.join(map(str, (cases, 'C', *sides)))}) with C >= 2"
    if not isinstance(outputs, Tensor) or outputs.layout != torch.strided or outputs.is_meta:
        got = f"{outputs.layout} on {outputs.device}" if isinstance(outputs, Tensor) else _content(outputs)
        raise check.refuse(
            name, f"one dense tensor of {told}", got, "wrap the network in a module that returns them alone"
        )
    if outputs.ndim != 2 + len(sides) or outputs.shape[0] != cases or outputs.shape[1] < 2:
        fix = "wrap the network in a module that returns one tensor with the classes on axis 1"
        if tuple(outputs.shape) == (cases, 1, *sides):
            fix = "a single sigmoid channel z becomes torch.cat([-z / 2, z / 2], dim=1)"
        raise check.refuse(name, told, tuple(outputs.shape), fix)
    if tuple(outputs.shape[2:]) != sides:
        fix = "resize the logits to the size of the images, or pad the images to a size that it keeps"
        raise check.refuse(name, told, tuple(outputs.shape), fix)
    if not outputs.is_floating_point():
        raise check.refuse(name, f"floating-point {told}", outputs.dtype, "return them before the argmax")
    good = outputs.detach().isfinite().flatten(1).all(dim=1)
    if not good.all():
        layer = None if network is None else _first_layer_not_finite(network, images)
        raise NonFiniteLogitsError((~good).nonzero()[:, 0].tolist(), layer)
    return outputs


class NonFiniteLogitsError(ValueError):
    """The logits of some cases are NaN or infinite.

    Attributes:
        cases: Indices of these cases.
        layer: Name of the module whose output was the first that is not finite; None if unknown.
    """

    def __init__(self, cases: list[int], layer: str | None = None) -> None:
        self.cases, self.layer = cases, layer
        where = f"NaN or infinity in {len(cases)} cases (first: case {cases[0]})"
        where += f", first in the output of module {layer!r}" if layer else ""
        fix = (
            "images or weights are too large for this network (scale images as in training, use fp32), or "
            "its training diverged"
        )
        super().__init__(str(check.refuse("the network's output", "finite", where, fix)))


@contextlib.contextmanager
def cases_from(start: int) -> Iterator[None]:
    """Inside, case 0 is case `start` of the caller: a `NonFiniteLogitsError` is raised with his indices."""
    try:
        yield
    except NonFiniteLogitsError as error:
        raise NonFiniteLogitsError([case + start for case in error.cases], error.layer) from error


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
    check.integer("batch_size", batch_size, low=1)
    for start in range(0, len(images), batch_size):
        try:
            with cases_from(start):
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


def _content(outputs: Any) -> str:
    kind = type(outputs).__name__
    if isinstance(outputs, dict):
        return f"a {kind} with keys {list(outputs)}"
    return f"a {kind} of {len(outputs)}" if isinstance(outputs, tuple | list) else f"a {kind}"


def _first_layer_not_finite(network: nn.Module, images: Tensor | np.ndarray) -> str | None:
    """Name of the innermost module whose output is the first to hold NaN or infinity, by one more pass."""
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return look

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(kept_random_state(device_of(network)))
        stack.enter_context(contextlib.suppress(Exception))  # the first failure is the one to report
        for name, module in network.named_modules():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        network(network_input(images, network))
    return found[0] if found and found[0] else None


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has a class for it on a GPU, and only a text on a CPU."""
    words = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        w in str(error).lower() for w in words
    )
