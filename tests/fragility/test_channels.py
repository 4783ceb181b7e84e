"""Images of several channels: searches turn with them, and networks of other channels are refused."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite import fragility
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence import QualityPredictor
from segconf_lite.confidence.adversary import Adversary
from segconf_lite.confidence.quality_network import QualityNetwork
from segconf_lite.fragility.head import check_closed_form
from segconf_lite.models import Training
from segconf_lite.models.device import pick_device

SPOTS = np.array([[0, 3, 11], [2, 7, 1]])
MASKS = fragility.MaskSearch(steps=1, n_penalty=2, targets=("dilated",))
TANGENT = fragility.TangentSearch(modules=("head",), n_draws=2, n_slices=2)
PIXELS = fragility.PixelSearch(modules=("",), steps=2, n_penalty=2)


class Network(nn.Module):
    """A small network that is not ours; its channels are turned round by a number of places."""

    def __init__(self, n_channels, shift=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.body = nn.Conv2d(n_channels, 6, 3, padding=1)
            self.bottleneck, self.head = nn.Tanh(), nn.Conv2d(6, 3, 1)
        self.body.weight = nn.Parameter(self.body.weight.detach().roll(shift, dims=1))
        self.eval().to(pick_device())

    def forward(self, images):
        return self.head(self.bottleneck(self.body(images)))


def cohort_of(n_channels, shift=0):
    """Eight images of 8 x 12 pixels, whose channels have different scales."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, n_channels, 8, 12)) * np.arange(1, n_channels + 1)[:, None, None]
    return Cohort(
        images=np.roll(images, shift, axis=1),
        labels=rng.integers(0, 3, (8, 8, 12)),
        domains=["A"] * 8,
        subjects=list("aabbccdd"),
        spacing_mm=(2.0, 1.0),
        class_names=("background", "one", "two"),
    )


@pytest.mark.parametrize("n_channels", [2, 3])
def test_searches_turn_with_the_channels(n_channels):
    found = []
    for shift in (0, 1):
        network, cohort = Network(n_channels, shift), cohort_of(n_channels, shift)
        images = cohort.images[:3]
        maps = [
            fragility.FragilityMap(search=search, budget=0.01).fit(network, cohort).uncertainty_map(images)
            for search in ("head", TANGENT, MASKS)
        ]
        costs = fragility.search_pixels(network, images, SPOTS, cohort, PIXELS).history[-1]
        closed = check_closed_form(network, cohort, images, SPOTS, n_training=40).closed
        found.append([*maps, costs, torch.from_numpy(closed)])
    for plain, turned in zip(*found, strict=True):
        torch.testing.assert_close(turned, plain, atol=1e-4, rtol=1e-3)
    assert found[0][0].shape == (3, 8, 12)


@pytest.mark.parametrize("n_channels", [2, 3])
def test_the_adversary_turns_with_the_channels(n_channels, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))  # trained here, and not read from the store
    adversary = Adversary(warm_up=1, replay_size=4)
    training = Training(steps=4, batch_size=4, precision="fp32")
    found = []
    for shift in (0, 1):
        network, cohort = Network(n_channels, shift), cohort_of(n_channels, shift)
        method = QualityPredictor(modules=["bottleneck"], adversary=adversary, training=training)
        method.fit(network, cohort)
        moved = method.perturbed(cohort.images[:3], alpha=0.5, unit="length").images
        assert moved.shape == (3, n_channels, 8, 12)
        found.append((method.uncertainty(cohort.images), moved.roll(-shift, dims=1)))
    for plain, turned in zip(*found, strict=True):
        torch.testing.assert_close(turned, plain, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("taken", "given"), [(1, 3), (3, 2)])
def test_a_network_of_other_channels_is_refused_with_what_helps(taken, given):
    network, known, other = Network(taken), cohort_of(taken), cohort_of(given)
    images, some = other.images[:3], dataclasses.replace(PIXELS, modules=("head",))
    calls = [
        lambda: fragility.penalty_set(network, other, n_images=2),
        lambda: fragility.search_pixels(network, images, SPOTS, known, some),
        lambda: fragility.search_pixels(network, images, SPOTS, other, some),
        lambda: check_closed_form(network, known, images, SPOTS),
        lambda: check_closed_form(network, other, images, SPOTS),
    ]
    for search in ("head", TANGENT, MASKS, some):
        method = fragility.FragilityMap(search=search)
        calls += [lambda method=method: method.fit(network, other)]
        calls += [lambda method=method: method.fit(network, known).uncertainty(images)]
    quality = QualityNetwork(shapes=[(6, 8, 12), (3, 8, 12)], n_outputs=3).eval().to(pick_device())
    predictor = QualityPredictor(modules=["bottleneck"], network=quality).fit(network, known)
    calls += [lambda: predictor.uncertainty(images), lambda: predictor.perturbed(images, alpha=0.1)]
    noise = fragility.WeightNoise(budget=0.1, n_samples=2, n_penalty=2)
    calls += [lambda: noise.fit(network, other)]
    message = (
        rf"the network must be one that takes images \(1, {given}, 8, 12\), got RuntimeError.*adapt\(network"
    )
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
    penalty = fragility.penalty_set(network, known, n_images=2)
    message = rf"image must be one case \({taken}, 8, 12\), got \({given}, 8, 12\)"
    with pytest.raises(ValueError, match=message):
        fragility.search_masks(network, images[0], penalty, MASKS, budget=0.1)
