import json
import re
from functools import partial

import numpy as np
import pytest
import torch

from segconf_lite.models.adapted import adapt
from segconf_lite.models.unet import UNet, predict_probabilities

SMALL = (4, 6, 8)  # two halvings


def images_of(n=2, size=16):
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_default_size_and_logit_shape():
    unet = UNet(n_classes=4)
    assert sum(p.numel() for p in unet.parameters()) == 386_260
    assert unet(images_of(size=24)).shape == (2, 4, 24, 24)
    assert unet.n_classes == 4


def test_encode_shapes_and_decode_give_forward():
    unet = UNet(n_classes=3, channels=SMALL).eval()
    skips, bottleneck = unet.encode(images_of())
    assert [tuple(s.shape) for s in skips] == [(2, 4, 16, 16), (2, 6, 8, 8)]
    assert bottleneck.shape == (2, 8, 4, 4)
    torch.testing.assert_close(unet.decode(skips, bottleneck), unet(images_of()), rtol=0, atol=0)


def test_oblong_images_and_more_channels():
    assert UNet(n_classes=2, in_channels=3, channels=SMALL)(torch.zeros(1, 3, 8, 20)).shape == (1, 2, 8, 20)


def test_numpy_of_any_layout_equals_torch():
    unet = UNet(n_classes=2, channels=SMALL).eval()
    array = images_of().numpy().astype(np.float64)
    array.setflags(write=False)
    flipped = array[:, :, ::-1]  # a negative stride, which torch itself refuses
    torch.testing.assert_close(unet(array), unet(images_of()), rtol=0, atol=0)
    torch.testing.assert_close(unet(flipped), unet(images_of().flip(2)), rtol=0, atol=0)


def test_documented_names_can_be_hooked():
    unet = UNet(n_classes=2, channels=(4, 6, 8, 10)).eval()
    shapes = {}
    for name in ("encoder.0", "encoder.2", "bottleneck", "decoder.0", "decoder.1", "penultimate", "head"):
        unet.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: shapes.__setitem__(name, (inputs[0], output))
        )
    unet(images_of())
    assert {name: tuple(output.shape[1:]) for name, (_, output) in shapes.items()} == {
        "encoder.0": (4, 16, 16),
        "encoder.2": (8, 4, 4),
        "bottleneck": (10, 2, 2),
        "decoder.0": (8, 4, 4),
        "decoder.1": (6, 8, 8),
        "penultimate": (4, 16, 16),
        "head": (2, 16, 16),
    }
    assert shapes["head"][0] is shapes["penultimate"][1]


def test_without_skips_only_the_bottleneck_decides():
    unet = UNet(n_classes=2, channels=SMALL, skips=False).eval()
    skips, bottleneck = unet.encode(images_of())
    assert skips == ()
    constant = torch.ones_like(bottleneck)
    other = unet(images_of() * 3)
    unet.bottleneck.register_forward_hook(lambda *_: constant)
    first, second = unet(images_of()), unet(images_of() * 3)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, other)
    n = {
        skips: sum(p.numel() for p in UNet(n_classes=2, skips=skips).parameters()) for skips in (True, False)
    }
    assert n[False] < n[True]


def test_with_skips_the_skips_decide_too():
    unet = UNet(n_classes=2, channels=SMALL).eval()
    skips, bottleneck = unet.encode(images_of())
    assert not torch.equal(unet.decode([s + 1 for s in skips], bottleneck), unet.decode(skips, bottleneck))


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("batch", torch.nn.BatchNorm2d), ("instance", torch.nn.InstanceNorm2d), ("group", torch.nn.GroupNorm)],
)
def test_norms(norm, kind):
    unet = UNet(n_classes=2, channels=SMALL, norm=norm)
    assert sum(isinstance(m, kind) for m in unet.modules()) == 10  # two in each of five blocks
    assert torch.isfinite(unet(images_of())).all()


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_slice_norms_do_not_mix_cases(norm):
    unet = UNet(n_classes=2, channels=SMALL, norm=norm).train()
    torch.testing.assert_close(unet(images_of(3))[:1], unet(images_of(3)[:1]), rtol=1e-4, atol=1e-5)


def test_dropout_sits_around_the_bottleneck_and_is_absent_at_zero():
    def places(unet):
        return sorted({n.split(".A")[0] for n, m in unet.named_modules() if isinstance(m, torch.nn.Dropout)})

    assert places(UNet(n_classes=2, channels=SMALL)) == []
    unet = UNet(n_classes=2, channels=SMALL, dropout=0.4)
    assert [name.rsplit(".", 3)[0] for name in places(unet)] == ["bottleneck", "decoder.0", "encoder.1"]
    assert not torch.equal(unet(images_of()), unet(images_of()))
    unet.eval()
    assert torch.equal(unet(images_of()), unet(images_of()))


def test_config_survives_json_and_rebuilds_the_network():
    unet = UNet(n_classes=3, channels=SMALL, norm="group", skips=False, dropout=0.1)
    twin = UNet(**json.loads(json.dumps(unet.config)))
    assert twin.config == unet.config
    twin.load_state_dict(unet.state_dict())
    assert torch.equal(twin.eval()(images_of()), unet.eval()(images_of()))


def test_history_is_not_in_the_state_dict():
    assert not [name for name in UNet(n_classes=2, channels=SMALL).state_dict() if "history" in name]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 16, 16), r"non-empty \(N, 1, H, W\), got \(2, 16, 16\).*images\[:, None\]"),
        ((2, 3, 16, 16), r"\(N, 1, H, W\), got \(2, 3, 16, 16\); write adapt\(network, channels=\(0,\)\)"),
        ((0, 1, 16, 16), "non-empty"),
        ((1, 1, 16, 18), r"divisible by 4 .*2 times.*got \(16, 18\).*e.g. to \(16, 20\)"),
    ],
)
def test_wrong_image_shapes(shape, message):
    with pytest.raises(ValueError, match=message):
        UNet(n_classes=2, channels=SMALL).encode(torch.zeros(shape))


@pytest.mark.parametrize(("given", "taken", "fix"), [(1, 3, (0, 0, 0)), (3, 1, (0,)), (2, 4, (0, 1, 0, 1))])
def test_the_remedy_for_another_number_of_channels_helps(given, taken, fix):
    unet, images = UNet(n_classes=2, channels=SMALL, in_channels=taken), np.zeros((2, given, 16, 16))
    for act in (unet, partial(predict_probabilities, unet)):
        with pytest.raises(ValueError, match=re.escape(f"; write adapt(network, channels={fix})") + "$"):
            act(images)
    assert predict_probabilities(adapt(unet, channels=fix), images).shape == (2, 2, 16, 16)


@pytest.mark.parametrize("skips", [True, False])
def test_wrong_number_of_skips(skips):
    unet = UNet(n_classes=2, channels=SMALL, skips=skips)
    _, bottleneck = unet.encode(images_of())
    with pytest.raises(ValueError, match=rf"skips must be {2 * skips} tensors, one per level, got 1"):
        unet.decode([bottleneck], bottleneck)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 1}, "n_classes must be an integer >= 2, got 1; the background counts as a class"),
        ({"n_classes": 2.5}, "n_classes must be an integer >= 2, got 2.5"),
        ({"n_classes": True}, "n_classes must be an integer >= 2, got True"),
        ({"in_channels": 0}, "in_channels must be an integer >= 1, got 0"),
        ({"in_channels": 10**30}, "in_channels must be an integer <= 65536, got 1.*0; no memory holds"),
        ({"n_classes": 10**30}, "n_classes must be an integer <= 65536, got 1.*0; no memory holds"),
        ({"channels": (8, 10**6)}, r"channels\[1\] must be an integer <= 65536, got 1000000"),
        ({"channels": (8,)}, r"channels must be two or more integers, one per level, got \(8,\)"),
        ({"channels": (8, 0)}, r"channels\[1\] must be an integer >= 1, got 0"),
        ({"channels": (8, True)}, r"channels\[1\] must be an integer >= 1, got True"),
        ({"channels": "48"}, "channels must be real numbers"),
        ({"norm": "layer"}, "norm must be one of .*got 'layer'"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(**{"n_classes": 2, **arguments})


def test_probabilities_are_float32_on_the_cpu_sum_to_one_and_ignore_batch_size():
    unet = UNet(n_classes=3, channels=SMALL)
    whole = predict_probabilities(unet, images_of(5).numpy())
    assert whole.shape == (5, 3, 16, 16)
    assert whole.dtype == torch.float32
    assert whole.device.type == "cpu"
    assert not whole.requires_grad
    torch.testing.assert_close(whole.sum(dim=1), torch.ones(5, 16, 16))
    torch.testing.assert_close(predict_probabilities(unet, images_of(5), batch_size=2), whole)


def test_on_a_cpu_sixteen_cases_are_asked_at_a_time_unless_told_otherwise():
    unet, asked = UNet(n_classes=3, channels=SMALL), []
    unet.register_forward_pre_hook(lambda module, inputs: asked.append(len(inputs[0])))
    by_default = predict_probabilities(unet, images_of(40))
    torch.testing.assert_close(predict_probabilities(unet, images_of(40), batch_size=64), by_default)
    assert asked == [16, 16, 8, 40]


def test_probabilities_of_any_module_with_logits():
    torch.testing.assert_close(
        predict_probabilities(torch.nn.Conv2d(1, 2, 1).double(), images_of()).sum(dim=1),
        torch.ones(2, 16, 16),
    )


@pytest.mark.parametrize("size", [16, 15])  # 15 is refused on the way
def test_each_mode_is_put_back(size):
    unet = UNet(n_classes=2, channels=SMALL, dropout=0.5).eval()
    unet.bottleneck.train()
    before = [m.training for m in unet.modules()]
    statistics = {name: value.clone() for name, value in unet.state_dict().items()}
    try:
        predict_probabilities(unet, images_of(size=size))
    except ValueError:
        assert size == 15
    assert [m.training for m in unet.modules()] == before
    assert all(torch.equal(value, statistics[name]) for name, value in unet.state_dict().items())


def test_wrong_prediction_arguments():
    unet = UNet(n_classes=2, channels=SMALL)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        predict_probabilities(unet, images_of(), batch_size=0)
    with pytest.raises(ValueError, match=r"non-empty \(N, C, H, W\), got \(0, 1, 16, 16\)"):
        predict_probabilities(unet, torch.zeros(0, 1, 16, 16))


def test_gradients_reach_the_upsampling_without_gaps():
    unet, arrived = UNet(n_classes=2, channels=SMALL), []
    unet.upsample.register_full_backward_hook(lambda module, inner, outer: arrived.append(outer[0]))
    unet(images_of()).square().sum().backward()
    assert len(arrived) == 2
    assert all(gradient.is_contiguous(memory_format=torch.channels_last) for gradient in arrived)


def test_numpy_integers_make_a_config_that_json_takes():
    unet = UNet(n_classes=np.int64(3), channels=np.array([4, 6]), dropout=np.float32(0))
    assert json.loads(json.dumps(unet.config)) == unet.config
    assert type(unet.n_classes) is int


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_refused_with_the_index_of_its_case(value):
    images = images_of(4)
    images[2, 0, 3, 3] = value
    unet = UNet(n_classes=2, channels=SMALL)
    for given in (images, images.numpy(), images.double(), images.bfloat16()):
        with pytest.raises(ValueError, match=r"images must be finite, .* 1 cases \(first: case 2\)"):
            predict_probabilities(unet, given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_images_of_every_type_and_layout_give_float32_probabilities(dtype):
    unet = UNet(n_classes=2, channels=SMALL)
    images = (4 * images_of()).round()  # exact in every one of these types
    expected = predict_probabilities(unet, images)
    for given in (
        images.to(dtype),
        images.to(memory_format=torch.channels_last),
        images.clone().requires_grad_(),
    ):
        found = predict_probabilities(unet, given)
        assert found.dtype == torch.float32
        assert not found.requires_grad
        torch.testing.assert_close(found, expected)
