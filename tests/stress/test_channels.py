"""Images of several channels: what must hold of attacks, windows, crops, certificates and corruptions."""

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.arrays import to_numpy
from segconf_lite.models import UNet, fit_network, predict_probabilities
from segconf_lite.models.device import pick_device
from segconf_lite.stress import attacks, corruptions, level_sets, masking, smoothing, windows

CHANNELS = pytest.mark.parametrize("n_channels", [2, 3])
SIZES = [("sd", None), ("range", "image"), ("absolute", (-9.0, 9.0))]
CLIMBS = [(attacks.fgsm, {}), (attacks.segpgd, {"steps": 2})]
CLIMBS += [
    (attack, {"steps": 2, "norm": norm}) for attack in (attacks.pgd, attacks.apgd) for norm in attacks.NORMS
]


def seeded():
    return torch.Generator().manual_seed(0)


def network_of(first):
    """A small network with the weights (6, channels, 3, 3) in its first layer."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1))
    network[0].weight = nn.Parameter(first.clone())
    return network.eval().to(pick_device())


@pytest.fixture
def one():
    """A network of one channel, images of 6 x 8 pixels, labels."""
    images = torch.randn(2, 1, 6, 8, generator=seeded())
    labels = torch.randint(0, 3, (2, 6, 8), generator=seeded())
    return network_of(torch.randn(6, 1, 3, 3, generator=seeded())), images, labels


def copied(one, n_channels):
    """A network that averages its channels, and images whose channels are all alike."""
    network, images, labels = one
    first = network[0].weight.detach().cpu().repeat(1, n_channels, 1, 1) / n_channels
    return network_of(first), images.repeat(1, n_channels, 1, 1), labels


def turned(n_channels, shift):
    """Channels of different scales, turned round by a number of places in images and network alike."""
    images = (
        torch.randn(2, n_channels, 6, 8, generator=seeded()) * torch.arange(1, n_channels + 1)[:, None, None]
    )
    first = torch.randn(6, n_channels, 3, 3, generator=seeded())
    labels = torch.randint(0, 3, (2, 6, 8), generator=seeded())
    return network_of(first.roll(shift, dims=1)), images.roll(shift, dims=1), labels


@CHANNELS
@pytest.mark.parametrize(("unit", "bounds"), SIZES)
def test_attacks_on_equal_channels_are_the_attack_on_one(one, n_channels, unit, bounds):
    for attack, options in CLIMBS:
        size = {"eps": 0.3, "unit": unit, "bounds": bounds, **options}
        single, several = attack(*one, **size), attack(*copied(one, n_channels), **size)
        expected = single.images.expand(-1, n_channels, -1, -1)
        torch.testing.assert_close(several.images, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(several.loss, single.loss, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(several.eps, single.eps)


@CHANNELS
def test_attacks_turn_with_the_channels(n_channels):
    size = {"eps": 0.3, "unit": "sd", "bounds": "image"}
    for attack, options in CLIMBS:
        plain, other = (attack(*turned(n_channels, shift), **size, **options).images for shift in (0, 1))
        torch.testing.assert_close(other, plain.roll(1, dims=1), atol=1e-4, rtol=1e-4)


@CHANNELS
def test_norms_and_bounds_are_kept_over_all_channels(n_channels):
    network, images, labels = turned(n_channels, 0)
    for bounds in (None, "image"):
        size = {"eps": 0.5, "unit": "absolute", "bounds": bounds}
        sharp = attacks.pgd(network, images, labels, steps=3, **size).images
        smooth = attacks.pgd(network, images, labels, steps=3, norm="l2", **size).images
        noise = attacks.random_noise(images, norm="l2", generator=seeded(), **size).images
        assert ((sharp - images).abs() <= 0.5).all()
        for moved in (smooth, noise):
            root_mean_square = (moved - images).double().square().mean(dim=(1, 2, 3)).sqrt()
            assert (root_mean_square <= 0.5).all()
            assert (root_mean_square > 0.2).all()
    reached = attacks.pgd(network, images, labels, random_start=True, generator=seeded(), loss="dice", **size)
    for moved in (sharp, smooth, noise, reached.images):
        assert (moved.flatten(1).amax(dim=1) <= images.flatten(1).amax(dim=1)).all()
        assert moved.shape == images.shape


@CHANNELS
def test_losses_and_reports_of_equal_channels_are_those_of_one(one, n_channels):
    several = copied(one, n_channels)
    for measure in ("cross_entropy", "dice", "hard_dice", "pixel_error"):
        losses = [attacks.case_loss(*case, measure=measure) for case in (one, several)]
        torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    (_, slope), (_, slopes) = attacks.loss_gradient(*one), attacks.loss_gradient(*several)
    torch.testing.assert_close(slopes.sum(dim=1, keepdim=True), slope, atol=1e-5, rtol=1e-4)
    attempts = [attacks.fgsm(*several, eps=eps, unit="sd", bounds=None) for eps in (0.1, 0.5)]
    assert attacks.worst_of(*several, attempts).shape == several[1].shape
    options = {"eps": 0.2, "unit": "sd", "bounds": None, "steps": (1, 2)}
    reports = [masking.masking_report(*case, **options, generator=seeded()) for case in (one, several)]
    climbed = ~reports[0]["attack"].eq("random noise")  # its channels are drawn one by one
    np.testing.assert_allclose(*(report["loss"][climbed] for report in reports), atol=1e-4)
    rounding = [masking.QuantisedInput(case[0], levels=5, low=-2, high=2) for case in (one, several)]
    pairs = zip(rounding, (one, several), strict=True)
    found = [attacks.case_loss(network, *case[1:]) for network, case in pairs]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


@CHANNELS
def test_windows_of_equal_channels_are_those_of_one(one, n_channels):
    network, images, _ = copied(one, n_channels)
    for window, blending in ((4, "constant"), ((3, 5), "gaussian")):
        options = {"window": window, "overlap": 0.5, "blending": blending}
        expected = windows.window_probabilities(one[0], one[1], **options)
        found = windows.window_probabilities(network, images, **options)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with pytest.warns(UserWarning, match="padded with zeros"):
        assert windows.window_probabilities(network, images, window=9).shape == (2, 3, 6, 8)


def test_windows_of_volumes_have_channels_too():
    network = nn.Conv3d(2, 2, 1).to(pick_device())
    volumes = torch.randn(1, 2, 4, 5, 6, generator=seeded())
    found = windows.window_probabilities(network, volumes, window=4)
    whole = network(volumes.to(pick_device())).softmax(dim=1).cpu()
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sides", [(6, 8), (4, 6, 8)])
def test_crops_of_all_channels_lie_at_one_place(sides):
    labels = torch.randint(0, 2, (5, *sides), generator=seeded())
    images = torch.stack([labels, 10 + labels, torch.arange(labels.numel()).view(labels.shape)], dim=1)
    crops, cut = windows.crop_around(images, labels, 3, generator=seeded())
    assert crops.shape == (5, 3, *(3,) * len(sides))
    assert torch.equal(crops[:, 0], cut)
    assert torch.equal(crops[:, 1], cut + 10)
    for channel in range(3):
        alone, _ = windows.crop_around(images[:, [channel]], labels, 3, generator=seeded())
        assert torch.equal(crops[:, [channel]], alone)
    with pytest.raises(ValueError, match=r"images and labels must be non-empty \(B, channels, H, W\) and"):
        windows.crop_around(images[:, :0], labels, 3, generator=seeded())


def test_a_network_learns_from_crops_and_attacks_of_colours(cohort):
    colours = np.concatenate([cohort.images, 2 * cohort.images, -cohort.images], axis=1)
    coloured = type(cohort)(**{**vars(cohort), "images": colours})

    def prepare(network, images, labels, generator):
        images, labels = windows.crop_around(images, labels, 8, generator=generator)
        size = {"eps": 0.1, "unit": "sd", "bounds": None, "steps": 1}
        return attacks.pgd(network, images, labels, **size).images, labels

    def build():
        return UNet(n_classes=3, in_channels=3, channels=(4, 6))

    network = fit_network(build, coloured, prepare=prepare, validation=coloured, steps=2, progress=False)
    assert predict_probabilities(network, colours).shape == (6, 3, 16, 16)


class Threshold(nn.Module):
    """Class 1 where the first channel is above 0."""

    def forward(self, images):
        return torch.cat([-images[:, :1], images[:, :1]], dim=1)


def test_a_certificate_counts_pixels_and_not_intensities():
    images = torch.zeros(1, 3, 6, 8)
    images[:, 0, :, :4], images[:, 0, :, 4:] = 5.0, -5.0
    options = {"sigma": 0.5, "generator": seeded(), "n_choose": 2, "alpha": 0.001, "tau": 0.75}
    found = smoothing.certified_segmentation(Threshold(), images, n_samples=38, **options)
    assert torch.equal(found.labels[0], (images[0, 0] > 0).long())
    with pytest.raises(ValueError, match="n_samples must be >= 38 for 48 pixels, got 37"):
        smoothing.certified_segmentation(Threshold(), images, n_samples=37, **options)


def test_a_network_of_other_channels_is_refused_with_what_helps(one):
    network, images, labels = one
    colours, size = images.repeat(1, 3, 1, 1), {"eps": 0.1, "unit": "sd", "bounds": None}
    calls = [
        lambda: windows.window_probabilities(network, colours, window=4),
        lambda: attacks.pgd(network, colours, labels, **size),
        lambda: attacks.apgd(network, colours, labels, **size),
        lambda: attacks.case_loss(network, colours, labels),
        lambda: attacks.loss_gradient(network, colours, labels),
        lambda: smoothing.certified_segmentation(network, colours, sigma=1.0, generator=seeded()),
        lambda: masking.masking_report(network, colours, labels, generator=seeded(), **size),
    ]
    message = (
        r"the network must be one that takes images \(1, 3, .* got RuntimeError.*adapt\(network, channels="
    )
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


@CHANNELS
@pytest.mark.parametrize("name", corruptions.LADDERS)
@pytest.mark.parametrize("standardise", [False, True])
def test_channels_are_corrupted_alike_each_in_its_own_range(one, name, n_channels, standardise):
    images = torch.cat([one[1], 3 * one[1] - 1, one[1].flip(0)], dim=1)[:, :n_channels]
    options = {"standardise": standardise}
    generators = [seeded() for _ in range(3)]
    found = corruptions.corrupt(images, name, 3, generator=generators[0], **options)
    single = corruptions.corrupt(one[1], name, 3, generator=generators[1], **options)
    assert torch.equal(single, corruptions.corrupt(one[1], name, 3, generator=generators[2], **options))
    assert torch.equal(found[:, :1], single)
    torch.testing.assert_close(found[:, 1:2], 3 * single - 1, atol=1e-4, rtol=1e-4)
    states = [generator.get_state() for generator in generators]
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[1], states[2])
    back = corruptions.corrupt(images.flip(1), name, 3, generator=seeded(), **options)
    assert torch.equal(back.flip(1), found)
    assert torch.equal(found, corruptions.corrupt(to_numpy(images), name, 3, **options))


def test_a_wrong_corruption_of_channels_is_refused(one):
    for arguments, message in (
        ((one[1], "fog", 1), "name must be one of"),
        ((one[1], "blur", 6), r"severity must be an integer in \[0, 5\]"),
        ((one[1][0], "blur", 1), "images must be non-empty"),
    ):
        with pytest.raises(ValueError, match=message):
            corruptions.corrupt(*arguments)
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator"):
        corruptions.corrupt(one[1], "blur", 1, generator=3)


def test_level_sets_say_that_a_channel_has_to_be_chosen(one):
    colours = one[1].repeat(1, 3, 1, 1)
    for segment in (level_sets.chan_vese_labels, level_sets.local_fitting_labels):
        with pytest.raises(ValueError, match=r"of a single channel, got \(2, 3, 6, 8\); choose a channel"):
            segment(colours)
        assert segment(colours[:, :1], steps=2).shape == (2, 6, 8)
