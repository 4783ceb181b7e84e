"""Training of any network: equal seeds, what is prepared, what is stored."""

import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.models import case_reader, fit, fitted, predict_probabilities
from segconf_lite.models.fit import fit_network
from segconf_lite.models.segmenter import Segmenter

SMALL = {"kind": "unet", "n_classes": 4, "channels": (4, 6, 8)}


@pytest.fixture(scope="module")
def hearts():
    return phantom.cohort(12, size=32)


def build():
    return Segmenter(**SMALL)


def test_the_unet_of_the_book_is_one_of_these_networks(hearts):
    options = {"steps": 3, "batch_size": 4, "precision": "fp32", "augmentation": "mild", "device": "cpu"}
    one = fit.fit_unet(hearts, channels=(4, 8), **options)
    other = fit_network(lambda: fit.UNet(n_classes=4, channels=(4, 8)), hearts, **options)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_equal_seeds_give_equal_networks_and_the_random_state_stays(hearts, assert_repeats):
    before = torch.get_rng_state()
    first, again, other = (fit_network(build, hearts, steps=4, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert_repeats(first.values(), again.values())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def make_graphed(compute, example, **options):
    """As torch's on a card: computes three times while it is made, then answers in one place for ever."""
    plain, memory = compute.forward, []
    for _ in range(3):
        compute(*example)

    def forward(*given):
        loss = plain(*given)
        memory[:] = memory or [loss.detach().clone()]
        memory[0].copy_(loss.detach())
        loss.data = memory[0]
        return loss

    compute.forward = forward
    return compute


def test_a_cuda_graph_changes_nothing_but_the_time(hearts, monkeypatch):
    def one_crop_is_smaller(network, images, labels, generator):
        side = 32 if torch.rand((), generator=generator) < 0.7 else 16
        return images[..., :side, :side], labels[..., :side, :side]

    given = {"steps": 26, "batch_size": 4, "prepare": one_crop_is_smaller, "seed": 1, "device": "cpu"}
    plain = fit_network(build, hearts, **given)
    made = []
    monkeypatch.setattr(fit, "_may_use_graphs", lambda place: True)
    monkeypatch.setattr(
        "torch.cuda.make_graphed_callables", lambda *a, **k: made.append(1) or make_graphed(*a, **k)
    )
    fast = fit_network(build, hearts, **given)
    assert made == [1]
    assert all(torch.equal(value, fast.state_dict()[name]) for name, value in plain.state_dict().items())
    assert [check["train_loss"] for check in fast.history] == [check["train_loss"] for check in plain.history]


def test_where_no_graph_can_be_made_the_training_goes_on_with_a_warning(hearts, monkeypatch):
    def refuse(compute, example, **options):
        compute(*example)
        raise RuntimeError("operation not permitted when stream is capturing")

    plain = fit_network(build, hearts, steps=3, device="cpu")
    monkeypatch.setattr(fit, "_may_use_graphs", lambda place: True)
    monkeypatch.setattr("torch.cuda.make_graphed_callables", refuse)
    with pytest.warns(UserWarning, match="goes on without a CUDA graph, slower: operation not permitted"):
        slow = fit_network(build, hearts, steps=3, device="cpu")
    assert all(torch.equal(value, slow.state_dict()[name]) for name, value in plain.state_dict().items())


def test_a_graph_that_computes_something_else_is_not_used(hearts, monkeypatch):
    def wrong(compute, example, **options):
        plain = compute.forward
        compute.forward = lambda *given: 1.5 * plain(*given)
        return compute

    plain = fit_network(build, hearts, steps=3, device="cpu")
    monkeypatch.setattr(fit, "_may_use_graphs", lambda place: True)
    monkeypatch.setattr("torch.cuda.make_graphed_callables", wrong)
    with pytest.warns(UserWarning, match="without a CUDA graph, slower: its loss or gradient differs"):
        slow = fit_network(build, hearts, steps=3, device="cpu")
    assert all(torch.equal(value, slow.state_dict()[name]) for name, value in plain.state_dict().items())


def test_on_a_cpu_it_is_the_same_where_batches_are_prepared(hearts):
    def darker(network, images, labels, generator):
        return images - torch.rand(images.shape, generator=generator), labels

    given = {"prepare": darker, "steps": 3, "device": "cpu"}
    first, second = (fit_network(build, hearts, on_device=there, **given) for there in (False, True))
    assert all(torch.equal(v, second.state_dict()[n]) for n, v in first.state_dict().items())


def test_a_card_keeps_the_cohort_unless_it_is_too_large(hearts, monkeypatch):
    index = torch.tensor([5, 2])
    images, labels = case_reader.case_reader(hearts, "cpu")(index)
    assert torch.equal(images, torch.from_numpy(hearts.images[[5, 2]]))
    assert torch.equal(labels, torch.from_numpy(hearts.labels[[5, 2]]))
    images += 1
    assert not torch.equal(images, torch.from_numpy(hearts.images[[5, 2]]))
    there = case_reader.case_reader(hearts, "meta")(index)  # a device without values, but not the CPU
    assert [(part.device.type, part.shape) for part in there] == [("meta", p.shape) for p in (images, labels)]
    monkeypatch.setattr(case_reader, "RESIDENT_BYTES", hearts.images.nbytes)
    assert case_reader.case_reader(hearts, "meta")(index)[0].device.type == "cpu"


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


def negative(network, images, labels, generator):
    return -images, labels


def doubled(network, images, labels, generator):
    return 2 * images, labels


def test_stored_networks_come_back_and_differ_by_their_preparation(hearts, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    networks = [fitted(fit_network, build, hearts, prepare=p, steps=3) for p in (None, negative, doubled)]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    again = fitted(fit_network, build, hearts, prepare=negative, steps=3)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    weights = [network.state_dict()["network.head.weight"] for network in (*networks, again)]
    assert torch.equal(weights[1], weights[3])
    assert not any(torch.equal(weights[1], other) for other in (weights[0], weights[2]))


def test_bad_settings_are_refused_before_anything_is_built(hearts):
    def never():
        raise AssertionError("built")

    with pytest.raises(ValueError, match=r"steps must be an integer >= 1, got 0"):
        fit_network(never, hearts, steps=0)
