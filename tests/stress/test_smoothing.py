import math

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import nn

from segconf_lite.stress.smoothing import certified_segmentation, rejected


class Constant(nn.Module):
    """Class 1 wherever it looks."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 1.0, 0.5]))

    def forward(self, images):
        return self.bias[None, :, None, None].expand(len(images), 3, *images.shape[2:])


def threshold(at=0.0):
    """Each pixel on its own: class 1 above a grey value."""
    network = nn.Conv2d(1, 2, 1)
    network.weight.data = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    network.bias.data = torch.tensor([0.0, -at])
    return network


def certify(network, images, *, seed=0, sigma=0.5, **more):
    return certified_segmentation(
        network, images, sigma=sigma, generator=torch.Generator().manual_seed(seed), **more
    )


@pytest.fixture
def images():
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("correction", ["holm", "bonferroni"])
def test_constant_network_is_certified_everywhere(correction, images):
    found = certify(Constant(), images, correction=correction)
    assert found.labels.shape == (3, 16, 16)
    assert found.labels.dtype == torch.int64
    assert (found.labels == 1).all()
    expected = torch.full((3, 16, 16), 0.75**100, dtype=torch.float64)
    torch.testing.assert_close(found.p_values, expected, rtol=1e-9, atol=0)


def test_radius_is_that_of_the_paper(images):
    assert certify(Constant(), images, sigma=2.0).radius == pytest.approx(2 * 0.6744898)
    assert certify(Constant(), images, tau=0.5).radius == 0
    assert isinstance(certify(Constant(), images).radius, float)


def test_network_at_chance_abstains():
    found = certify(threshold(), torch.zeros(2, 1, 16, 16))
    assert (found.labels == -1).all()


def test_p_values_are_those_of_the_binomial_test(images):
    found = certify(threshold(), images, n_samples=60, tau=0.6)
    values = found.p_values.unique()
    known = {binomtest(k, 60, 0.6, alternative="greater").pvalue for k in range(61)}
    assert len(values) > 5
    assert all(min(abs(value - p) for p in known) < 1e-12 for value in values.tolist())


def test_holm_by_hand_and_never_behind_bonferroni():
    p = torch.tensor([[0.011, 0.6], [0.02, 0.024]], dtype=torch.float64)
    one = [[True, False], [False, False]]
    assert (
        rejected(p, alpha=0.05, correction="holm").tolist() == one
    )  # .02 > .05 / 3 keeps .024 < .05 / 2 too
    p[1, 0] = 0.015
    assert rejected(p, alpha=0.05, correction="holm").tolist() == [[True, False], [True, True]]
    assert rejected(p, alpha=0.05, correction="bonferroni").tolist() == one
    p = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 6
    holm, bonferroni = (rejected(p, alpha=0.05, correction=c) for c in ("holm", "bonferroni"))
    assert (holm | ~bonferroni).all()
    assert holm.sum() > bonferroni.sum()


def test_certified_labels_of_a_threshold_hold_in_the_worst_direction_and_in_random_ones(images):
    at = 0.2
    found = certify(threshold(at), images)
    sure = found.labels >= 0
    assert 0.2 < sure.float().mean() < 0.9
    # Under symmetric noise the smoothed network of a threshold is that threshold. The worst change of a label
    # spends all its length on that pixel, and still does not carry it across.
    smoothed = (images[:, 0] > at).long()
    assert torch.equal(found.labels[sure], smoothed[sure])
    assert ((images[:, 0] - at).abs()[sure] >= found.radius).all()
    for seed in range(5):
        change = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        change *= found.radius / change.flatten(1).norm(dim=1)[:, None, None, None]
        assert torch.equal((images + change > at)[:, 0].long()[sure], found.labels[sure])


def test_certified_is_almost_all_that_is_farther_from_the_threshold_than_needed(images):
    found = certify(threshold(), images, sigma=0.2, n_samples=400)
    far = images[:, 0].abs() > 0.2 * norm.ppf(0.95)  # p = .95 is well above tau = .75
    assert (found.labels[far] >= 0).float().mean() > 0.98


def test_same_again_in_batches_and_for_each_image_before_the_others(make_unet, images):
    unet = make_unet()
    found, again, in_sevens = (
        certify(unet, i, batch_size=b) for i, b in ((images, 64), (images, 64), (images, 7))
    )
    assert torch.equal(found.labels, again.labels)
    torch.testing.assert_close(found.p_values, in_sevens.p_values)
    assert torch.equal(certify(unet, images[:1].numpy()).labels, found.labels[:1])
    assert not torch.equal(certify(unet, images, seed=1).p_values, found.p_values)


def test_modes_and_random_state_stay(make_unet, images):
    unet = make_unet()
    unet.bottleneck.train()
    modes, state = [module.training for module in unet.modules()], torch.random.get_rng_state()
    certify(unet, images[:1])
    assert modes == [module.training for module in unet.modules()]
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, r"sigma must be a number in \(0, .*got 0"),
        ({"n_choose": 0}, r"n_choose must be an integer in \[1, 1e\+06\], got 0"),
        ({"alpha": 0.0}, r"alpha must be a number in \(0, 1\), got 0"),
        ({"tau": 0.4}, r"tau must be a number in \[0.5, 1\), got 0.4"),
        ({"correction": "none"}, "correction must be one of"),
        (
            {"n_samples": 20},
            "n_samples must be >= 44 for 256 pixels, got 20; with fewer no pixel can be certified",
        ),
    ],
)
def test_bad_use(change, message, images):
    with pytest.raises(ValueError, match=message):
        certify(Constant(), images, **change)


def test_fewest_samples_are_enough(images):
    needed = math.ceil(math.log(0.001 / 256) / math.log(0.75))
    assert needed == 44
    assert (certify(Constant(), images, n_samples=44).labels == 1).all()


def test_what_is_no_answer_is_not_certified(images):
    class Broken(nn.Module):
        def __init__(self, value, shape):
            super().__init__()
            self.value, self.shape = nn.Parameter(torch.tensor(value)), shape

        def forward(self, images):
            return self.value.expand(len(images), *self.shape)

    with pytest.raises(ValueError, match=r"must be finite, got NaN or infinity"):
        certify(Broken(float("nan"), (2, 16, 16)), images)
    for shape in ((2, 8, 8), (16, 16)):
        with pytest.raises(ValueError, match=r"output must be logits \(10, C, 16, 16\)"):
            certify(Broken(0.0, shape), images)
    with pytest.raises(ValueError, match="correction must be one of"):
        rejected(torch.tensor([0.01, 0.04]), alpha=0.05, correction="none")


def test_the_random_state_is_left_alone_and_a_network_without_parameters_is_taken():
    class Drawing(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images):
            torch.rand(3)
            return torch.cat([self.scale * images, -images], dim=1)

    given = {"sigma": 0.1, "generator": torch.Generator().manual_seed(0), "n_samples": 50}
    before = torch.get_rng_state()
    certified_segmentation(Drawing(), torch.ones(1, 1, 4, 4), **given)
    assert torch.equal(torch.get_rng_state(), before)

    class Sign(nn.Module):  # without parameters: it computes on the CPU
        def forward(self, images):
            return torch.cat([images, -images], dim=1)

    assert (certified_segmentation(Sign(), torch.ones(1, 1, 4, 4), **given).labels == 0).all()


def test_torchs_own_generator_gives_every_image_noise_of_its_own():
    network = nn.Conv2d(1, 2, 1)
    given = {"sigma": 1.0, "n_samples": 50, "tau": 0.75}
    seen = []
    network.register_forward_hook(lambda layer, inputs, made: seen.append(inputs[0].clone()))
    before = torch.get_rng_state()
    try:
        certified_segmentation(network, torch.zeros(2, 1, 4, 4), generator=torch.default_generator, **given)
    finally:
        torch.set_rng_state(before)
    first, second = torch.cat(seen).split(60)  # 10 copies to elect and 50 to test, of each image
    assert len(torch.unique(first[:, 0, 0, 0])) == 60
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": nn.Identity()}, r"output must be logits .* with C >= 2, got \(10, 1, 16, 16\)"),
        ({"network": None}, "network must be a torch.Module, got NoneType"),
        ({"generator": 0}, "generator must be a torch.Generator, got int"),
        ({"n_samples": 60.5}, r"n_samples must be an integer in \[1, 1e\+06\], got 60.5"),
        ({"n_choose": True}, r"n_choose must be an integer in \[1, 1e\+06\], got True"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"sigma": math.inf}, "sigma must be a finite number"),
        ({"images": torch.full((1, 1, 16, 16), torch.nan)}, "images must be finite"),
    ],
)
def test_more_bad_use(change, message, images):
    usual = {"network": Constant(), "images": images, "sigma": 0.5}
    usual["generator"] = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=message):
        certified_segmentation(**usual | change)


@pytest.mark.parametrize("p_values", [[0.1], torch.tensor([1.5]), torch.tensor([math.nan]), torch.empty(0)])
def test_p_values_are_probabilities(p_values):
    with pytest.raises(ValueError, match="p_values must be"):
        rejected(p_values, alpha=0.05, correction="holm")
