"""What a network returns, found or adapted: known answers, and refusals that say what to write."""

import dataclasses
import types

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import PredictiveEntropy
from segconf_lite.models import UNet, adapt, predict_probabilities, probe
from segconf_lite.models.batches import check_network
from segconf_lite.models.outputs import picked
from segconf_lite.models.taps import check_open

IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Returns(nn.Module):
    """A 1x1 convolution whose logits a function changes."""

    def __init__(self, change=lambda z: z, classes=3, channels=1):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.change = nn.Conv2d(channels, classes, 1), change
        nn.init.normal_(self.convolution.weight)

    def forward(self, images):
        return self.change(self.convolution(images))


def test_the_output_at_full_resolution_is_picked():
    full, low = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4)
    for outputs in ((full, low), [low, full], {"a": low, "b": full}, (full, 0.5, full[:, :1])):
        assert picked(outputs, IMAGES) is full
    assert picked({"aux": full + 1, "out": full}, IMAGES) is full  # the name decides between two of a size
    both = (full, full + 1)
    assert picked(both, IMAGES) is both


@pytest.mark.parametrize("sides", [(8, 8), (7, 5)])
def test_probabilities_become_logits_of_the_same_probabilities(sides):
    images = IMAGES[..., : sides[0], : sides[1]]
    expected = predict_probabilities(Returns(), images)
    softmax = adapt(Returns(lambda z: z.softmax(dim=1)), "probabilities", pad_to=4)
    torch.testing.assert_close(predict_probabilities(softmax, images), expected)


def test_one_channel_becomes_two_classes():
    z = Returns(classes=1)(IMAGES)
    expected = torch.cat([1 - z.sigmoid(), z.sigmoid()], dim=1)
    for change, output in ((lambda z: z, "sigmoid"), (torch.sigmoid, "probabilities")):
        found = predict_probabilities(adapt(Returns(change, classes=1), output), IMAGES)
        torch.testing.assert_close(found, expected.detach())


def test_certain_probabilities_stay_finite_and_certain():
    one_hot = adapt(
        Returns(lambda z: nn.functional.one_hot(z.argmax(1), 3).movedim(-1, 1).float()), "probabilities"
    )
    assert predict_probabilities(one_hot, IMAGES).round(decimals=6).unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("normalise", ["zscore", "range", (2.0, 3.0), ([2.0, 1.0, 0.0], [3.0, 1.0, 2.0])])
def test_images_are_normalised(normalise):
    images = torch.cat([IMAGES, IMAGES * 2 + 1, IMAGES - 3], dim=1)
    flat = images.flatten(2)[..., None]  # (N, C, H W, 1)
    first, second = flat.mean(2, keepdim=True), flat.std(2, keepdim=True, correction=0)
    if normalise == "range":
        first, second = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True) - flat.amin(2, keepdim=True)
    elif isinstance(normalise, tuple):
        first, second = (torch.tensor(part).reshape(1, -1, 1, 1) for part in normalise)
    network = Returns(channels=3)
    found = adapt(network, normalise=normalise)(images)
    torch.testing.assert_close(found, network((images - first) / second))


def test_channels_are_chosen_and_repeated():
    network = Returns(channels=3)
    assert torch.equal(adapt(network, channels=(0, 0, 0))(IMAGES), network(IMAGES.repeat(1, 3, 1, 1)))
    colours = torch.cat([IMAGES, 2 * IMAGES, 3 * IMAGES], dim=1)
    assert torch.equal(adapt(network, channels=(2, 1, 0))(colours), network(colours.flip(1)))
    with pytest.raises(ValueError, match="channels must be below the 1 of the images, got"):
        adapt(network, channels=(0, 1, 2))(IMAGES)


def test_a_key_or_an_index_is_taken_and_may_be_adapted_again():
    network = Returns(lambda z: {"first": z, "second": z.softmax(dim=1)})
    expected = predict_probabilities(adapt(network, "first"), IMAGES)
    again = adapt(adapt(network, "second"), "probabilities")
    torch.testing.assert_close(predict_probabilities(again, IMAGES), expected)
    with pytest.raises(
        ValueError, match=r"output must be 'third', which the network must return, got \['first'"
    ):
        adapt(network, "third")(IMAGES)


@pytest.mark.parametrize(
    ("network", "output", "message"),
    [
        (Returns(), "probabilities", r'got other values; write adapt\(network, output="logits"\)'),
        (Returns(classes=1), "probabilities", r'got other values; write adapt\(network, output="sigmoid"\)'),
        (Returns(), "sigmoid", "a single channel, got .*; classes that overlap are no single segmentation"),
        (Returns(torch.sigmoid, classes=1), "sigmoid", r'applied already: write .*output="probabilities"'),
        (
            Returns(lambda z: (z, z)),
            "sigmoid",
            r"got tuple of .*; choose one, e\.g\. adapt\(network, output=0\)",
        ),
        (Returns(classes=1), "auto", r'a single channel; write adapt\(network, output="sigmoid"\)'),
    ],
)
def test_what_is_not_as_it_was_called_is_refused(network, output, message):
    with pytest.raises(ValueError, match=message):
        adapt(network, output)(IMAGES * 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": 1.5}, r"output must be one of \('auto'.*key or index"),
        ({"normalise": "minmax"}, "normalise must be one of"),
        ({"normalise": (0, 0)}, r"standard deviation > 0"),
        ({"pad_to": 0}, "pad_to must be an integer >= 1"),
        ({"channels": [-1]}, "channels must be an integer >= 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        adapt(Returns(), **arguments)


def test_a_network_is_tried_and_what_helps_is_found():
    halving = nn.Sequential(nn.Conv2d(3, 2, 2, stride=2), nn.Upsample(scale_factor=2))
    with pytest.raises(ValueError, match=r"write adapt\(network, channels=\(0, 0, 0\), pad_to=2\)"):
        check_network(halving, np.zeros((4, 1, 7, 7)))
    check_network(adapt(halving, channels=(0, 0, 0), pad_to=2), np.zeros((4, 1, 7, 7)))
    with pytest.raises(ValueError, match=r"write adapt\(network, channels=\(0,\)\)"):
        predict_probabilities(Returns(), np.zeros((4, 3, 8, 8)))
    with pytest.raises(ValueError, match="of the cohort's 4 classes, got 3"):
        check_network(Returns(), IMAGES, n_classes=4)


@pytest.mark.not_on_the_pretended_device(reason="it cannot trace a network")
def test_compiled_modules_are_refused():
    inner = torch.jit.trace(nn.Conv2d(1, 3, 1), IMAGES)
    network = nn.Sequential(inner, nn.ReLU())
    check_open(network, "1")
    for closed, name in ((inner, ""), (network, "0"), (network, "0.weight")):
        with pytest.raises(ValueError, match="cannot be read or replaced; pass the network that it was made"):
            check_open(closed, name)


def test_a_probe_finds_the_modules_of_a_network_and_leaves_it_as_it_was():
    from monai.networks.nets import UNet as MonaiUNet

    network = MonaiUNet(2, 3, 4, channels=(4, 8, 12), strides=(2, 2), num_res_units=1, dropout=0.1).train()
    found = probe(network, (16, 24), channels=3)
    assert found.named("bottleneck") == "model.1.submodule.1.submodule"  # not the skip connection around it
    row = found.modules.set_index("module").loc["model.1.submodule.1.submodule"]
    assert row[["features", "rows", "columns"]].tolist() == [12, 4, 6]
    assert (found.n_classes, found.has_dropout) == (4, True)
    assert "SegmentationDistortion(module='model.1.submodule.1.submodule')" in str(found)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    "size",
    [
        None,
        8.5,
        np.inf,
        np.datetime64("2026-01-01"),
        True,
        (8,),
        (8, 8, 8),
        10**30,
        [8, "8"],
        np.ones(2, int),
    ],
)
def test_a_probe_names_a_wrong_size(size):
    with pytest.raises(ValueError, match=r"^size must be an integer"):
        probe(UNet(n_classes=2, channels=(4, 8)), size)


def test_a_probe_takes_numbers_of_numpy_and_torch_and_names_a_wrong_role():
    unet = UNet(n_classes=2, channels=(4, 8))
    for size in (np.int64(8), np.array(8), torch.tensor(8), [8, np.int32(8)]):
        assert probe(unet, size).modules.equals(probe(unet, 8).modules)
    for role in (None, 3, ["head"], "heads"):
        with pytest.raises(ValueError, match="role must be one of"):
            probe(unet, 8).named(role)


@pytest.mark.not_on_the_pretended_device(reason="it cannot trace a network")
def test_a_probe_of_an_adapted_network_names_modules_as_the_methods_find_them():
    found = probe(adapt(UNet(n_classes=2, channels=(4, 8)), pad_to=2), 15)
    assert found.named("bottleneck") == "network.bottleneck"
    assert found.closed_form is False  # the logits are cropped, so they are not what the head returns
    with pytest.raises(ValueError, match="made of Python modules"):
        probe(torch.jit.trace(Returns(), IMAGES), 8)


class Quarter(nn.Module):
    """Logits at a quarter of the resolution in an object, as SegFormer of Hugging Face returns them."""

    def forward(self, images):
        brightness = nn.functional.avg_pool2d(images, 4)
        return types.SimpleNamespace(loss=None, logits=torch.cat([-brightness, brightness], dim=1))


def test_logits_of_a_quarter_of_the_resolution_are_upsampled_on_request():
    rows = torch.arange(32.0)[None, None, :, None].expand(2, 1, 32, 32).contiguous()
    with pytest.raises(ValueError, match=r'a lower resolution; write adapt\(network, output="upsampled"\)'):
        adapt(Quarter())(rows)
    logits = adapt(Quarter(), "upsampled")(rows)
    assert logits.shape == (2, 2, 32, 32)
    assert torch.allclose(logits[:, 1, 2:-2], rows[:, 0, 2:-2])  # linear, without an offset of half a pixel
    assert adapt(Quarter(), "upsampled", pad_to=4)(rows[..., :30]).shape == (2, 2, 32, 30)
    full = nn.Conv2d(1, 2, 1)
    assert torch.equal(adapt(full, "upsampled")(rows), full(rows))


def test_a_method_says_how_to_upsample_and_then_works():
    cohort = phantom.cohort(4, size=32)
    cohort = dataclasses.replace(
        cohort, labels=(cohort.labels > 0) * 1, class_names=("background", "foreground")
    )
    with pytest.raises(ValueError, match='output="upsampled"'):
        PredictiveEntropy().fit(Quarter(), cohort)
    method = PredictiveEntropy().fit(adapt(Quarter(), "upsampled"), cohort)
    assert method.uncertainty(cohort.images).shape == (4,)
