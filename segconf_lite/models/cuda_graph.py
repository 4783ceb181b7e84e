"""Training steps as CUDA graphs: the graphics card records a computation once and then repeats it."""

from __future__ import annotations

import warnings
from typing import cast

import torch
from torch import Tensor, nn


def as_cuda_graph(compute: nn.Module, example: tuple[Tensor, ...]) -> nn.Module:
    """The same computation and its gradient, as a CUDA graph.

    A small network's step is hundreds of short computations, and launching them one by one takes the host
    longer than the card needs to compute them. A graph launches all of them at once. Python code inside
    `compute` runs now and never again, so nothing in it may depend on values.

    Args:
        compute: Module on a card that maps tensors shaped as `example` to a scalar loss. Its parameters stay
            where they are, so that an optimiser can go on with them. It is changed: use the result. What the
            result returns later lies in the same memory each time, so keep a copy.
        example: Arguments of one call.

    Returns:
        The graph; or `compute` as it was, with a warning, where it cannot be made into one, or where the
        graph does not give the loss and the gradient of the plain computation (with dropout, for example).
        Parameters and buffers have the values from before.

    Example:
        >>> class Loss(nn.Linear):
        ...     def forward(self, x):
        ...         return super().forward(x).square().mean()
        >>> with warnings.catch_warnings():  # without a card it stays as it was
        ...     warnings.simplefilter("ignore")
        ...     fast = as_cuda_graph(Loss(2, 1), (torch.ones(1, 2),))
        >>> fast(torch.ones(1, 2)).shape
        torch.Size([])
    """
    before = [buffer.clone() for buffer in compute.buffers()]
    # Later arguments are copied into these. They differ from the example's images, because otherwise a graph
    # that never reads its arguments would agree with the plain computation.
    inputs = tuple(part.flip(-1) if part.is_floating_point() else part.clone() for part in example)
    expected = _loss_and_gradients(compute, example)
    fast: nn.Module = compute
    try:
        fast = cast(nn.Module, torch.cuda.make_graphed_callables(compute, inputs, allow_unused_input=True))
        if not _agree(_loss_and_gradients(fast, example), expected):
            raise RuntimeError("its loss or gradient differs from the plain computation's by more than 2 %")
    except (RuntimeError, AssertionError) as error:  # it asserts what it requires of a module
        warnings.warn(f"the training goes on without a CUDA graph, slower: {error}", stacklevel=2)
        fast = compute
        vars(compute).pop("forward", None)  # a graph replaces it on the module itself
    with torch.no_grad():  # making it computes a few times, which moves the averages of batch norms
        for buffer, value in zip(compute.buffers(), before, strict=True):
            buffer.copy_(value)
    return fast


def _loss_and_gradients(compute: nn.Module, example: tuple[Tensor, ...]) -> list[Tensor]:
    loss = compute(*example)
    trained = [parameter for parameter in compute.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    return [part.detach().clone() for part in (loss, *gradients) if part is not None]


def _agree(first: list[Tensor], second: list[Tensor]) -> bool:
    """Up to the order of sums, which is not fixed on a card."""
    return len(first) == len(second) and all(
        float((one - other).norm()) <= 0.02 * float(other.norm()) + 1e-6
        for one, other in zip(first, second, strict=True)
    )
