import pytest
import torch
from torch import nn

from segconf_lite.models.taps import Taps
from segconf_lite.models.unet import UNet


@pytest.fixture
def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(n_classes=2, channels=(4, 6, 8)).eval()


IMAGES = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
hooks_of = lambda model: sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())  # noqa: E731


def test_reads_what_encode_gives_and_changes_nothing(unet):
    expected = unet(IMAGES)
    with Taps(unet, deep="bottleneck", last="penultimate") as taps:
        assert torch.equal(unet(IMAGES), expected)
        assert torch.equal(taps["deep"], unet.encode(IMAGES)[1])
        torch.testing.assert_close(unet.head(taps["last"]), expected)
    assert hooks_of(unet) == 0


def test_replacing_equals_decoding_an_altered_bottleneck(unet):
    skips, bottleneck = unet.encode(IMAGES)
    with Taps(unet, deep="bottleneck") as taps:
        with taps.replacing(deep=bottleneck + 1):
            altered = unet(IMAGES)
            assert torch.equal(taps["deep"], bottleneck)  # what the module gave itself
        with taps.replacing(deep=lambda features: features + 1):
            assert torch.equal(unet(IMAGES), altered)
        assert torch.equal(unet(IMAGES), unet.decode(skips, bottleneck))
    torch.testing.assert_close(altered, unet.decode(skips, bottleneck + 1))


def test_gradients_flow_through_a_replacement(unet):
    code = torch.zeros(2, 8, 4, 4, requires_grad=True)
    with Taps(unet, deep="bottleneck") as taps, taps.replacing(deep=code):
        unet(IMAGES).sum().backward()
    assert code.grad.abs().sum() > 0


def test_the_model_is_restored_after_an_exception_and_when_nested(unet):
    with pytest.raises(RuntimeError, match="midway"), Taps(unet, deep="bottleneck"):
        raise RuntimeError("midway")
    assert hooks_of(unet) == 0
    with Taps(unet, deep="bottleneck") as outer, outer.replacing(deep=torch.zeros_like):
        with Taps(unet, deep="bottleneck") as inner:
            unet(IMAGES)
            assert (inner["deep"] == 0).all()
        assert hooks_of(unet) == 1
        assert not (outer["deep"] == 0).all()
    assert hooks_of(unet) == 0


def test_any_model_will_do():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 1)))
    with Taps(model, middle="1.0") as taps:
        model(IMAGES)
        assert taps["middle"].shape == (2, 3, 16, 16)


def test_wrong_names(unet):
    with pytest.raises(ValueError, match=r"no module 'botleneck'; near names: \['bottleneck'"):
        Taps(unet, deep="botleneck")
    with pytest.raises(ValueError, match=r"taps must be at least one, .* got none"):
        Taps(unet)
    with Taps(unet, deep="bottleneck") as taps:
        with pytest.raises(ValueError, match=r"module 'bottleneck' \(tap 'deep'\) was not called"):
            taps["deep"]
        with pytest.raises(ValueError, match=r"no tap 'shallow'; there are \['deep'\]"):
            taps["shallow"]
        with (
            pytest.raises(ValueError, match=r"out of \['deep'\], got \['shallow'\]"),
            taps.replacing(shallow=IMAGES),
        ):
            pass
        with pytest.raises(ValueError, match="open already"), taps:
            pass
    with pytest.raises(ValueError, match="got closed taps"), taps.replacing(deep=IMAGES):
        pass


def test_wrong_shapes_and_outputs(unet):
    with (
        Taps(unet, deep="bottleneck") as taps,
        taps.replacing(deep=torch.zeros(1)),
        pytest.raises(ValueError, match=r"must be a tensor \(2, 8, 4, 4\), got \(1,\)"),
    ):
        unet(IMAGES)
    with (
        Taps(unet, deep="bottleneck") as taps,
        taps.replacing(deep=lambda features: [features]),
        pytest.raises(ValueError, match=r"must be a tensor \(2, 8, 4, 4\), got list"),
    ):
        unet(IMAGES)
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Module, got list"):
        Taps([unet], deep="bottleneck")
    assert hooks_of(unet) == 0

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = nn.Sequential(Pair())
    with (
        Taps(model, pair="0"),
        pytest.raises(ValueError, match="output of module '0' must be one tensor, got tuple; tap a module"),
    ):
        model(IMAGES)
