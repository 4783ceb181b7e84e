import pytest
import torch
from torch import nn

from segconf_lite.models.device import frozen
from segconf_lite.models.splice import DecoderSplice, TapSplice, splice, weights_fingerprint
from segconf_lite.models.unet import UNet


def network(skips=True, norm="batch", channels=(4, 6, 8)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(n_classes=3, channels=channels, skips=skips, norm=norm, dropout=0.2)
        for parameter in unet.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        for module in unet.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return unet.eval()


def images(n=5, side=16):
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("skips", [True, False])
def test_both_ways_give_the_networks_own_logits_and_the_same_altered_ones(skips, norm):
    unet = network(skips, norm)
    assert isinstance(splice(unet), DecoderSplice)
    assert isinstance(splice(unet, "encoder.1"), TapSplice)
    found = []
    with torch.no_grad():
        for opened in (DecoderSplice(unet), TapSplice(unet, "bottleneck")):
            logits, activation, rest = opened.read(images())
            torch.testing.assert_close(logits, unet(images()), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(opened.logits(activation, rest), logits, atol=1e-4, rtol=1e-4)
            found.append(opened.logits(1.3 * activation + 0.2, opened.rest(images())))
        altered = unet.decode(unet.encode(images())[0], 1.3 * unet.encode(images())[1] + 0.2)
    torch.testing.assert_close(found[0], altered, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], altered, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [DecoderSplice, TapSplice])
def test_gradients_reach_the_activation_and_no_weight(kind):
    unet = network()
    opened = kind(unet) if kind is DecoderSplice else kind(unet, "bottleneck")
    with frozen(unet):
        with torch.no_grad():
            _, activation, rest = opened.read(images())
        activation = activation.clone().requires_grad_()
        opened.logits(activation, rest).square().mean().backward()
    assert activation.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_frozen_puts_modes_and_gradients_back_also_after_an_exception():
    unet = network().train()
    unet.bottleneck.eval()
    unet.head.weight.requires_grad_(False)
    modes, wants = [m.training for m in unet.modules()], [p.requires_grad for p in unet.parameters()]
    inside = []

    def look_and_fail(module, given):
        inside.extend([m.training for m in unet.modules()] + [p.requires_grad for p in unet.parameters()])
        raise RuntimeError("stop")

    unet.register_forward_pre_hook(look_and_fail)
    with pytest.raises(RuntimeError, match="stop"), frozen(unet):
        unet(images())
    assert inside
    assert not any(inside)
    assert [m.training for m in unet.modules()] == modes
    assert [p.requires_grad for p in unet.parameters()] == wants


def test_a_wrong_module_is_named():
    with pytest.raises(ValueError, match=r"no module 'bottlneck'; near names: \['bottleneck'"):
        splice(network(), "bottlneck")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    with pytest.raises(
        ValueError, match=r"output of module '1' must be \(N, F, h, w\), got \(5, 3\); choose"
    ):
        TapSplice(flat, "1").read(images())


def test_the_fingerprint_follows_the_weights():
    first, second = network(), network()
    assert weights_fingerprint(first) == weights_fingerprint(second)
    second.head.bias.data[0] += 1e-3
    assert weights_fingerprint(first) != weights_fingerprint(second)


def test_with_and_without_gradients_the_logits_are_the_same():
    unet = network()
    opened = DecoderSplice(unet)
    with frozen(unet):
        activation, rest = (part.detach() for part in unet.encode(images())[1:]), opened.rest(images())
        activation = next(activation)
        with_graph = opened.logits(activation, [share.detach() for share in rest])
        with torch.no_grad():
            kept = activation.clone()
            without = opened.logits(activation, rest)
    torch.testing.assert_close(with_graph, without, atol=1e-4, rtol=1e-4)
    assert torch.equal(kept, activation)  # nothing of the caller's is overwritten


def test_in_train_mode_the_statistics_of_the_batch_count(monkeypatch):
    unet = network().train()
    for module in unet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    opened = DecoderSplice(unet)
    with torch.no_grad():
        logits = opened.read(images())[0]
        torch.testing.assert_close(logits, unet(images()), atol=1e-4, rtol=1e-4)


def test_a_replaced_activation_that_overflows_is_refused():
    opened = TapSplice(network(), "bottleneck")
    with torch.no_grad():
        _, activation, rest = opened.read(images())
        activation[4, 0, 0, 0] = torch.inf
        with pytest.raises(ValueError, match=r"network's output must be finite, .* \(first: case 4\)"):
            opened.logits(activation, rest)


def test_the_logits_are_found_among_several_outputs():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return {"out": self.features(x)}

    opened = splice(pair := Pair(), "features")
    logits, activation, rest = opened.read(images())
    assert torch.equal(logits, pair(images())["out"])
    assert torch.equal(opened.logits(activation, rest), logits)
