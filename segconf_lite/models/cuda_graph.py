"""Training steps as CUDA graphs: the card records a computation once and then repeats it."""

from __future__ import annotations

import warnings
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["as_cuda_graph"]


def as_cuda_graph(compute: nn.Module, example: tuple[Tensor, ...]) -> nn.Module:
    """The same computation and its gradient, as a CUDA graph.

    A small network's step is hundreds of short computations, and the host takes longer to ask for them one by
    one than the card takes to do them. A graph asks for all of them at once. Python code inside `compute`
    runs now and never again, so nothing in it may depend on values.

    Args:
        compute: Takes tensors shaped as `example`, on a card, and returns a tensor that has a gradient. Its
            parameters stay where they are, so an optimiser can go on with them. It is changed: use what is
            returned. What it returns later lies in the same memory each time, so keep a copy.
        example: Arguments of one call.

    Returns:
        The graph; or `compute` as it was, with a warning, where it cannot be made into one, or where the
        graph does not give the loss and the gradient of the plain computation (with dropout, for example).
        Parameters and buffers have the values from before.
    """
    before = [buffer.clone() for buffer in compute.buffers()]
    # Later arguments are copied into these. Other images than the example's, or a graph that never reads its
    # arguments would agree with it.
    own = tuple(part.flip(-1) if part.is_floating_point() else part.clone() for part in example)
    wanted = _loss_and_gradients(compute, example)
    fast: nn.Module = compute
    try:
        fast = cast(nn.Module, torch.cuda.make_graphed_callables(compute, own, allow_unused_input=True))
        if not _agree(_loss_and_gradients(fast, example), wanted):
            raise RuntimeError(
                "its loss or gradient differs from that of the plain computation by more than 2 %"
            )
    except (RuntimeError, AssertionError) as error:  # what it asks of a module, it asserts
        warnings.warn(f"the training goes on without a CUDA graph, slower: {error}", stacklevel=2)
        fast = compute
        vars(compute).pop("forward", None)  # a graph replaces it on the module itself
    with torch.no_grad():  # making it computes a few times, which moves the averages of batch norms
        for buffer, value in zip(compute.buffers(), before, strict=True):
            buffer.copy_(value)
    return fast


def _loss_and_gradients(compute: nn.Module, example: tuple[Tensor, ...]) -> list[Tensor]:
    loss = compute(*example)
    wanted = [parameter for parameter in compute.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [part.detach().clone() for part in (loss, *found) if part is not None]


def _agree(first: list[Tensor], second: list[Tensor]) -> bool:
    """Up to the order of sums, which is not fixed on a card."""
    return len(first) == len(second) and all(
        float((one - other).norm()) <= 0.02 * float(other.norm()) + 1e-6
        for one, other in zip(first, second, strict=True)
    )
