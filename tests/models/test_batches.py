"""Images on their way into a network: copied, moved, batch by batch; what to do when memory ends."""

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.arrays import to_numpy
from segconf_lite.models import predict_probabilities
from segconf_lite.models.batches import BatchTooLargeError, in_batches, joined, network_input


class TwoClasses(nn.Module):
    """Logits are the image and its negative; `limit` cases fit into memory; the input is spoiled in place."""

    def __init__(self, limit=100, error=None):
        super().__init__()
        self.one, self.limit, self.error = nn.Parameter(torch.ones(())), limit, error

    def forward(self, x):
        if len(x) > self.limit:
            raise self.error
        logits = torch.cat([x, -x], dim=1) * self.one
        x.zero_()
        return logits


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(7, 1, 4, 6)).astype(np.float32)


def variants(images):
    tensor = torch.from_numpy(images.copy())
    return {
        "numpy": images,
        "float64": images.astype(np.float64),
        "another byte order": images.astype(">f4"),
        "flipped": images[:, :, ::-1].copy()[:, :, ::-1],
        "read-only": np.broadcast_to(images, images.shape),
        "torch": tensor,
        "double": tensor.double(),
        "gradient": tensor.clone().requires_grad_(),
        "channels last": tensor.expand(7, 1, 4, 6).contiguous(memory_format=torch.channels_last),
    }


def test_every_kind_of_input_gives_the_same_tensor_in_memory_of_its_own(images):
    network = TwoClasses()
    for name, given in variants(images).items():
        before = to_numpy(given).copy()
        ready = network_input(given, network)
        assert ready.dtype == torch.float32, name
        assert torch.equal(ready.detach().cpu(), torch.from_numpy(images)), name
        ready.detach().zero_()
        assert np.array_equal(to_numpy(given), before), name


def test_a_gradient_flows_through_and_half_precision_is_met(images):
    given = torch.from_numpy(images).requires_grad_()
    network_input(given, TwoClasses().half()).float().sum().backward()
    assert torch.equal(given.grad, torch.ones_like(given))
    assert network_input(images, TwoClasses().half()).dtype == torch.float16
    assert network_input(images, nn.Identity()).dtype == torch.float32


def test_a_network_that_works_in_place_reaches_nobody_elses_memory(images):
    expected = predict_probabilities(TwoClasses(), images)
    for name, given in variants(images).items():
        before = to_numpy(given).copy()
        assert torch.equal(predict_probabilities(TwoClasses(), given), expected), name
        assert np.array_equal(to_numpy(given), before), name


def test_batches_in_order_and_the_last_one_short(images):
    sizes = list(in_batches(len, images, TwoClasses(), batch_size=3))
    assert sizes == [3, 3, 1]
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        list(in_batches(len, images, TwoClasses(), batch_size=0))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
        MemoryError(),
    ],
)
def test_out_of_memory_names_a_smaller_batch_and_keeps_what_was_done(images, error):
    class Growing(TwoClasses):  # the third batch is too large
        def forward(self, x):
            self.limit -= 3
            return super().forward(x)

    with pytest.raises(
        BatchTooLargeError, match=r"batch_size=3 .*memory of .*6 of 7 cases.*e\.g\. to 1"
    ) as caught:
        predict_probabilities(Growing(limit=9, error=error), images, batch_size=3)
    whole = predict_probabilities(TwoClasses(), images, batch_size=3)
    assert torch.equal(caught.value.computed, whole[:6])
    with pytest.raises(BatchTooLargeError, match="0 of 7") as caught:
        predict_probabilities(TwoClasses(limit=0, error=error), images, batch_size=3)
    assert caught.value.computed is None


def test_another_error_stays_what_it_is(images):
    with pytest.raises(RuntimeError, match="broken"):
        predict_probabilities(TwoClasses(limit=0, error=RuntimeError("broken")), images)


def test_joined_is_cat():
    assert joined(torch.ones(k) for k in (1, 2)).tolist() == [1.0] * 3
