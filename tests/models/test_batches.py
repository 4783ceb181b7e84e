"""Images on their way into a network: copied, moved, batch by batch; what to do when memory ends."""

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import phantom
from segconf_lite.models import Training, fit_network, predict_probabilities
from segconf_lite.models.batches import (
    BatchTooLargeError,
    as_tensor,
    checked_logits,
    in_batches,
    joined,
    network_input,
)
from segconf_lite.stress import attacks, windows


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
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
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


def test_attacks_windows_and_trainings_name_the_batch_size_too(images):
    network, labels = TwoClasses(limit=2, error=MemoryError()), np.zeros((7, 4, 6), int)
    labels[:, 1] = 1
    cohort = phantom.cohort(8, size=16)
    training = Training(steps=2, batch_size=3, precision="fp32")
    calls = [
        lambda: attacks.fgsm(network, images, labels, eps=0.1, unit="absolute", bounds=None, batch_size=3),
        lambda: windows.window_probabilities(network, images, window=2, batch_size=3),
        lambda: fit_network(lambda: network, cohort, training=training, validation=cohort),
    ]
    for call in calls:
        message = r"batch_size=3 does not fit into the memory of .*; lower it, e\.g\. to 1"
        with pytest.raises(BatchTooLargeError, match=message):
            call()


def test_another_error_stays_what_it_is(images):
    with pytest.raises(RuntimeError, match="broken"):
        predict_probabilities(TwoClasses(limit=0, error=RuntimeError("broken")), images)


def test_joined_is_cat():
    assert joined(torch.ones(k) for k in (1, 2)).tolist() == [1.0] * 3


class Returns(nn.Module):
    """A convolution whose logits a function spoils."""

    def __init__(self, change):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.change = nn.Conv2d(1, 3, 1), change

    def forward(self, images):
        return self.change(self.convolution(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z[:, :1] * 9 + 2, r"got \(5, 1, 8, 8\), a single channel; write .*output=\"sigmoid\""),
        (lambda z: z[:, :1].sigmoid(), r"a single channel; write adapt\(network, output=\"probabilities\"\)"),
        (lambda z: z.softmax(1), r"got probabilities, .*; write adapt\(network, output=\"probabilities\"\)"),
        (lambda z: (z, z), r"logits .*, got tuple of .*; choose one, e\.g\. adapt\(network, output=0\)"),
        (lambda z: {"low": z[..., ::2]}, r"got dict of \{'low': \(5, 3, 8, 4\)\}; wrap the network"),
        (lambda z: z.detach().numpy(), "got ndarray; wrap"),
        (
            lambda z: torch.stack([z, z], dim=1),
            r"got \(5, 2, 3, 8, 8\), several predictions; write .*output=0",
        ),
        (lambda z: z[:2], r"must be logits \(5, C, 8, 8\) with C >= 2, got \(2, 3, 8, 8\)"),
        (lambda z: {"logits": z[..., ::4, ::4]}, r"\(5, 3, 2, 2\), a lower .*; write .*output=\"upsampled\""),
        (lambda z: z[..., ::2], r"got \(5, 3, 8, 4\); resize the logits"),
        (lambda z: z.argmax(dim=1), r"got \(5, 8, 8\)"),
        (lambda z: z.long(), "must be logits .* got torch.int64; return them before the argmax"),
        (lambda z: z.to_sparse(), "got torch.sparse_coo on cpu"),
        (lambda z: z.to("meta"), "got torch.strided on meta"),
    ],
)
def test_what_is_no_logits_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        predict_probabilities(Returns(change), np.zeros((5, 1, 8, 8), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_with_the_index_of_the_case(value):
    def spoil(z):
        return z.masked_fill((z > 100).any(dim=(1, 2, 3), keepdim=True), value)

    images = np.zeros((5, 1, 8, 8), np.float32)
    network = Returns(spoil)
    network.convolution.weight.data.fill_(1)
    images[3, 0, 2, 2] = 1000
    for batch_size in (1, 2, 5):  # counted over all batches
        with pytest.raises(ValueError, match=r"NaN or infinity in 1 cases \(first: case 3\)"):
            predict_probabilities(network, images, batch_size=batch_size)


def test_the_layer_that_overflows_first_is_named_and_leaves_no_hook():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1))
    for module in network:
        module.weight.data.fill_(1e20)
    state = torch.get_rng_state()
    with pytest.raises(
        ValueError, match="first in the output of module '1'; images or weights are too large"
    ):
        predict_probabilities(network, np.ones((2, 1, 4, 4), np.float32))
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_checked_logits_are_returned_as_they_came():
    logits = torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    assert checked_logits(logits, np.zeros((2, 1, 4, 4))) is logits
    volumes = torch.zeros(1, 2, 3, 4, 5)
    assert checked_logits(volumes, torch.zeros(1, 1, 3, 4, 5)) is volumes


@pytest.mark.parametrize("buffer", ["running_var", "running_mean", "weight"])
def test_weights_of_a_diverged_training_are_refused(buffer):
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    getattr(network[1], buffer).data[1] = torch.inf
    with pytest.raises(ValueError, match=f"weights must be finite, got NaN or infinity in '1.{buffer}'"):
        predict_probabilities(network, np.ones((2, 1, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("images", "got"),
    [
        ([[1.0]], "got list"),
        (np.array(["a"]), "got ndarray <U1"),
        (np.ones(1, complex), "got ndarray complex128"),
        (np.ma.masked_array([1.0, 2.0], mask=[False, True]), "got MaskedArray float64"),
        (torch.ones(2).to_sparse(), "torch.float32 torch.sparse_coo"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.ones(2, dtype=torch.complex64), "torch.complex64"),
    ],
)
def test_what_is_no_dense_array_of_real_numbers_is_refused(images, got):
    with pytest.raises(ValueError, match=f"images must be a numpy array or a dense tensor .*{got}.*; pass"):
        network_input(images, TwoClasses())


@pytest.mark.parametrize(
    "dtype", [">f4", "<f8", "float16", "longdouble", "int16", "uint8", ">u2", "uint32", "bool"]
)
def test_arrays_of_every_real_type_become_tensors(dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    for array in (values, values[::-1, ::2], np.broadcast_to(values, (2, 2, 3))):
        assert to_numpy(network_input(array, TwoClasses())).tolist() == array.astype(float).tolist()
        assert to_numpy(as_tensor("values", array), np.float64).tolist() == array.astype(float).tolist()


def test_a_network_must_be_a_module():
    with pytest.raises(ValueError, match=r"the network must be a torch\.nn\.Module, got function; wrap"):
        predict_probabilities(lambda x: x, np.zeros((1, 1, 4, 4)))
