"""Training of any network: equal seeds, what is prepared, what is stored."""

import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.models import predict_probabilities
from segconf_lite.models.network_training import fit_network, stored_segmenter
from segconf_lite.models.segmenter import Segmenter

SMALL = {"kind": "unet", "n_classes": 4, "channels": (4, 6, 8)}


@pytest.fixture(scope="module")
def hearts():
    return phantom.cohort(12, size=32)


def build():
    return Segmenter(**SMALL)


def test_equal_seeds_give_equal_networks_and_the_random_state_stays(hearts, assert_repeats):
    before = torch.get_rng_state()
    first, again, other = (fit_network(build, hearts, steps=4, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert_repeats(first.values(), again.values())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_it_learns(hearts):
    network = fit_network(build, hearts, validation=hearts, steps=120, learning_rate=2e-2)
    losses = [check["validation_loss"] for check in network.history]
    assert min(losses) < 0.7 * losses[0]
    right = predict_probabilities(network, hearts.images).argmax(1).numpy() == hearts.labels
    assert right.mean() > (hearts.labels == 0).mean() + 0.02  # better than to find nothing
    assert not network.training


def test_batches_are_prepared_with_the_network_and_a_generator_that_starts_anew_at_each_check(hearts):
    draws = {True: [], False: []}

    def prepare(network, images, labels, generator):
        draws[network.training].append(torch.rand((), generator=generator).item())
        return images[..., :16, :16], labels[..., :16, :16]

    fit_network(build, hearts, prepare=prepare, validation=hearts, steps=5, seed=3)
    assert len(set(draws[True])) == 5
    assert len(draws[False]) == 5  # a check at each of so few steps
    assert len(set(draws[False])) == 1


def test_stored_networks_come_back_and_differ_by_their_preparation(hearts, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    calls = []

    def negative(network, images, labels, generator):
        calls.append(1)
        return -images, labels

    plain = stored_segmenter(hearts, SMALL, steps=3)
    turned = stored_segmenter(hearts, SMALL, prepare=negative, prepared="negative", steps=3)
    n_calls = len(calls)
    again = stored_segmenter(hearts, SMALL, prepare=negative, prepared="negative", steps=3)
    assert len(calls) == n_calls > 0
    weights = [network.state_dict()["network.head.weight"] for network in (plain, turned, again)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_a_preparation_needs_words(hearts):
    with pytest.raises(ValueError, match="prepare and prepared go together"):
        stored_segmenter(hearts, SMALL, prepare=lambda n, i, y, g: (i, y))
    with pytest.raises(ValueError, match="prepare and prepared go together"):
        stored_segmenter(hearts, SMALL, prepared="nothing at all")
    with pytest.raises(ValueError, match="steps must be >= 1"):
        fit_network(build, hearts, steps=0)
