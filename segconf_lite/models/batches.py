"""Images on their way into a network: copied, moved to its device, batch after batch.

A network may work in place on its input (``x.sub_(mean)``), so it never gets the caller's own memory.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.models.device import device_of, frozen, kept_random_state
from segconf_lite.models.outputs import logits_in, picked

Result = TypeVar("Result")
# PyTorch has a class of error for it on a GPU, and only a text on a CPU.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")


class BatchTooLargeError(RuntimeError):
    """The memory of the device is too small for a batch.

    Attributes:
        computed: Results of the batches before it, (n, ...), where `joined` was collecting them; else None.
    """

    computed: Tensor | None = None


def checked_size(name: str, value: object, *, low: int = 1, fix: str = "") -> int:
    """A number of channels, classes, pixels or blocks of a network, as an integer from `low` to 65536.

    Args:
        name: Name of the argument.
        value: Its value.
        low: Smallest allowed value.
        fix: The likely remedy where it is smaller, or no integer.

    Raises:
        ValueError: If it is no integer, or out of range.

    Example:
        >>> checked_size("in_channels", 10**6)
        Traceback (most recent call last):
        ValueError: in_channels must be an integer <= 65536, got 1000000; no memory holds a network of more
    """
    value = check.integer(name, value, low=low, fix=fix)
    return check.integer(name, value, high=65_536, fix="no memory holds a network of more")


def as_tensor(name: str, values: Tensor | np.ndarray, *, wide: bool = False) -> Tensor:
    """A dense tensor with the values of a numpy array or tensor, on its own device.

    Args:
        name: Name of the argument, for the message.
        values: Real numbers or booleans. An array may have any stride and byte order.
        wide: Whether integers and half precision become float32, so that sums keep their digits.

    Returns:
        The tensor itself, or one that shares memory with the array where torch can read it; do not change it.

    Raises:
        ValueError: If it is a list, a masked array, a sparse or meta tensor, or holds no real numbers.

    Example:
        >>> as_tensor("images", np.array([1, 2, 3], dtype=">i4")[::-1])
        tensor([3, 2, 1], dtype=torch.int32)
    """
    if isinstance(values, Tensor):
        good = values.layout == torch.strided and not values.is_meta and not values.is_complex()
    else:
        good = isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and not np.ma.isMA(values)
    if not good:
        parts = (type(values).__name__, *(getattr(values, a, "") for a in ("dtype", "layout", "device")))
        expected, got = "a numpy array or a dense tensor of real numbers", " ".join(map(str, parts)).rstrip()
        raise check.refuse(name, expected, got, "pass np.asarray(..., 'float32'); fill a masked array first")
    if isinstance(values, np.ndarray):
        native = values.astype(np.float64) if values.dtype.itemsize > 8 else values
        if not (native.flags.writeable and native.dtype.isnative and min(native.strides, default=0) >= 0):
            native = np.array(native, dtype=native.dtype.newbyteorder("="))
        values = torch.from_numpy(native)
    narrow = not values.is_floating_point() or values.dtype.itemsize < 4
    return values.float() if wide and narrow else values


def network_input(images: Tensor | np.ndarray, network: nn.Module, *, copy: bool = True) -> Tensor:
    """Images on the device and in the floating type of a network.

    Args:
        images: Images (N, ...) of any number of channels, numpy or torch, on any device, of any stride and
            byte order.
        network: The network; without parameters it takes float32 on the CPU.
        copy: Whether the result never shares memory with `images`. A network that is known not to work in
            place needs no copy.

    Returns:
        A tensor of the same shape. A gradient flows back through it.

    Raises:
        ValueError: If the images are no real numbers, or parts of the network lie on different devices.

    Example:
        >>> network_input(np.ones((1, 1, 2, 2)), nn.Conv2d(1, 2, 1)).dtype
        torch.float32
    """
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    device, dtype = (device_of(network) if copy else like.device), like.dtype
    if isinstance(images, np.ndarray):  # in C order: the order of sums in a network follows the strides
        copied = np.array(images, order="C", subok=True) if images.dtype.kind in "biuf" else images
        return as_tensor("images", copied).to(device=device, dtype=dtype)
    return as_tensor("images", images).to(device=device, dtype=dtype, copy=copy)


def checked_logits(outputs: object, images: Tensor | np.ndarray, network: nn.Module | None = None) -> Tensor:
    """What a network returned, if these are logits; every output of a network passes through here.

    A softmax over a single channel gives probability 1 everywhere, one over the wrong axis mixes cases, one
    over probabilities makes them all alike, and NaN has no largest class. All would look like predictions.

    Args:
        outputs: What the network returned for `images`: a tensor, or several of which one can be the logits,
            see `segconf_lite.models.outputs.picked`.
        images: Images (N, channels, H, W), any number of channels, as the network took them; volumes have an
            axis more.
        network: The network. If it is there, the message names the layer whose output is not finite first,
            for which the network runs once more.

    Returns:
        The logits, (N, C, H, W) with C >= 2, as they came, so that they keep device, type and gradient.

    Raises:
        ValueError: If there is not one dense tensor of finite floating-point numbers of that shape.

    Example:
        >>> checked_logits(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
        >>> checked_logits(torch.zeros(2, 1, 8, 8) + 3, torch.zeros(2, 1, 8, 8))
        Traceback (most recent call last):
        ValueError: the network's output must be logits (2, C, 8, 8) with C >= 2, got (2, 1, 8, 8), a single
        channel; write adapt(network, output="sigmoid") for two classes
    """
    logits = logits_in(outputs, images)
    good = logits.detach().isfinite().flatten(1).all(dim=1)
    if not good.all():
        layer = None if network is None else _first_layer_not_finite(network, images)
        raise NonFiniteLogitsError((~good).nonzero()[:, 0].tolist(), layer)
    return logits


def check_network(network: nn.Module, images: Tensor | np.ndarray, *, n_classes: int | None = None) -> None:
    """Refuse a network that does not turn these images into logits; it runs on the first of them.

    Args:
        network: Any module.
        images: Images (N, channels, H, W); the network must take that number of channels.
        n_classes: Number of classes C that the logits must have; None takes any.

    Raises:
        ValueError: If the network takes images of another size or number of channels only, or returns no
            logits of that many classes. The message names the call of `segconf_lite.models.adapt` that
            helps. Any other error of the network is raised as it is.

    Example:
        >>> check_network(nn.Conv2d(3, 2, 1), np.zeros((4, 1, 8, 8)))
        Traceback (most recent call last):
        ValueError: the network must be one that takes images (1, 1, 8, 8), got RuntimeError: ...; write
        adapt(network, channels=(0, 0, 0))
    """
    device = device_of(network)
    inputs = network_input(images[:1], network)
    with frozen(network), torch.no_grad(), kept_random_state(device), enough_memory(1, network, "no case"):
        result = _attempt(network, inputs)
        if isinstance(result, Exception) or not _keeps_size(result, inputs):
            fix, error = _what_would_run(network, inputs), result if isinstance(result, Exception) else None
            if fix:
                first_line = next(iter(str(error).strip().splitlines()), "")
                got = f"{type(error).__name__}: {first_line}" if error else "logits of another size"
                raise check.refuse(
                    "the network", f"one that takes images {tuple(inputs.shape)}", got, fix
                ) from error
            if error:
                raise error  # it is broken in a way that the network's own words say best
        found = checked_logits(result, inputs, network).shape[1]
    if n_classes is not None and found != n_classes:
        fix = "pass the cohort with the classes that the network was trained on, background first"
        raise check.refuse("the network's output", f"of the cohort's {n_classes} classes", found, fix)


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
        fix = "images or weights are too large for this network (scale images as in training, use fp32)"
        fix += ", or its training diverged"
        super().__init__(str(check.refuse("the network's output", "finite", where, fix)))


@contextlib.contextmanager
def cases_from(start: int) -> Iterator[None]:
    """Inside, case 0 is case `start` of a larger set, as which a `NonFiniteLogitsError` counts the cases.

    Args:
        start: Index of the first case.

    Example:
        >>> with cases_from(16):
        ...     checked_logits(torch.full((1, 2, 4, 4), torch.nan), torch.zeros(1, 1, 4, 4))
        Traceback (most recent call last):
        segconf_lite.models.batches.NonFiniteLogitsError: the network's output must be finite, got NaN or
        infinity in 1 cases (first: case 16); ...
    """
    try:
        yield
    except NonFiniteLogitsError as error:
        raise NonFiniteLogitsError([case + start for case in error.cases], error.layer) from error


def in_batches(
    compute: Callable[[Tensor], Result], images: Tensor | np.ndarray, network: nn.Module, *, batch_size: int
) -> Iterator[Result]:
    """Results of `compute`, for one batch of images after another.

    Args:
        compute: Function of a batch as `network_input` makes it.
        images: Images (N, ...) of as many channels as the network takes, numpy or torch.
        network: The network that the batches are for.
        batch_size: Cases per batch, >= 1; it bounds the memory.

    Yields:
        What `compute` returns, batch by batch; nothing is kept, so that the memory stays bounded.

    Raises:
        ValueError: If the batch size is below 1, or a weight of the network is not finite.
        BatchTooLargeError: If the memory is too small. The message names a smaller batch size.

    Example:
        >>> list(in_batches(len, np.zeros((5, 1, 4, 4)), nn.Conv2d(1, 2, 1), batch_size=2))
        [2, 2, 1]
    """
    batch_size = check.integer("batch_size", batch_size, low=1)
    _check_weights(network)
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        try:
            with enough_memory(batch_size, network, f"{start} of {len(images)} cases"), cases_from(start):
                result = compute(network_input(batch, network))
        except (RuntimeError, TypeError, AttributeError, AssertionError, IndexError) as error:
            if not isinstance(error, BatchTooLargeError):
                check_network(network, batch)  # says what helps, if the fault is the network's
            raise
        yield result


@contextlib.contextmanager
def enough_memory(batch_size: int, network: nn.Module, done: str) -> Iterator[None]:
    """Says which batch size to lower where the memory of the network's device is too small.

    Args:
        batch_size: Cases per batch, >= 1.
        network: The network.
        done: What was done before, for the message, e.g. ``"3 of 9 steps"``.

    Raises:
        BatchTooLargeError: In place of the error of torch. The message names a smaller batch size.

    Example:
        >>> with enough_memory(8, nn.Conv2d(1, 2, 1), "3 of 9 steps"):
        ...     raise MemoryError
        Traceback (most recent call last):
        segconf_lite.models.batches.BatchTooLargeError: batch_size=8 does not fit ... lower it, e.g. to 4
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error).lower() for text in _NO_MEMORY):
            raise
        here = f"batch_size={batch_size} does not fit into the memory of {device_of(network)}"
        fix = "one case is too large: use smaller images, a smaller network, or the CPU"
        fix = f"lower it, e.g. to {batch_size // 2}" if batch_size > 1 else fix
        raise BatchTooLargeError(f"{here} ({done} were done before); {fix}") from error


def joined(parts: Iterable[Tensor]) -> Tensor:
    """All batches in one tensor, (N, ...) from (b, ...).

    Args:
        parts: Results of the batches.

    Raises:
        BatchTooLargeError: As raised by a batch; its attribute `computed` then holds the results before it.

    Example:
        >>> joined([torch.zeros(2), torch.ones(1)])
        tensor([0., 0., 1.])
    """
    done: list[Tensor] = []
    try:
        done.extend(parts)
    except BatchTooLargeError as error:
        error.computed = torch.cat(done) if done else None
        raise
    return torch.cat(done)


def _attempt(network: nn.Module, inputs: Tensor) -> object:
    """What the network returns, or the error that it raises."""
    try:
        return network(inputs.clone())
    except Exception as error:
        if isinstance(error, MemoryError) or any(text in str(error).lower() for text in _NO_MEMORY):
            raise
        return error


def _keeps_size(result: object, inputs: Tensor) -> bool:
    found = picked(result, inputs)
    return isinstance(found, Tensor) and found.shape[-inputs.ndim + 2 :] == inputs.shape[2:]


def _what_would_run(network: nn.Module, inputs: Tensor) -> str:
    """The call of `adapt` with which the network takes one image; empty if none is found."""
    n_channels, sides = inputs.shape[1], inputs.shape[2:]
    for channels in dict.fromkeys((n_channels, 1, 3, 2, 4)):
        for multiple in (1, 2, 4, 8, 16, 32, 64):
            if multiple > 1 and not any(side % multiple for side in sides):
                continue  # of this size already
            tried = inputs.new_zeros(1, channels, *(-(-side // multiple) * multiple for side in sides))
            if _keeps_size(_attempt(network, tried), tried):
                chosen = tuple(index % n_channels for index in range(channels))
                arguments = [f"channels={chosen}"] if channels != n_channels else []
                arguments += [f"pad_to={multiple}"] if multiple > 1 else []
                return f"write adapt(network, {', '.join(arguments)})"
    return ""


def _first_layer_not_finite(network: nn.Module, images: Tensor | np.ndarray) -> str | None:
    """Name of the innermost module whose output is the first to hold NaN or infinity, by one more pass."""
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if not found and isinstance(output, Tensor) and not output.isfinite().all():
            found.append(name)

    with contextlib.ExitStack() as stack, torch.no_grad(), kept_random_state(device_of(network)):
        stack.enter_context(contextlib.suppress(Exception))  # the first failure is the one to report
        for name, module in network.named_modules():
            stack.callback(module.register_forward_hook(functools.partial(look, name)).remove)
        network(network_input(images, network))
    return found[0] or None if found else None


def _check_weights(network: nn.Module) -> None:
    """Refuse infinite weights: with an infinite running variance a network predicts the same everywhere."""
    buffers = {name: value for name, value in network.named_buffers() if "running_" in name}
    weights = dict(network.named_parameters()) | buffers
    # One sum per tensor finds NaN and infinity with a fifth of the operations of `isfinite`.
    sums = [value.detach().sum(dtype=torch.float32) for value in weights.values()]
    if sums and not torch.stack(sums).isfinite().all():
        bad = next((name for name, value in weights.items() if not value.isfinite().all()), None)
        if bad is not None:  # otherwise a sum of large weights overflowed
            fix = "its training diverged: scale the images and train it again"
            raise check.refuse("the network's weights", "finite", f"NaN or infinity in {bad!r}", fix)
