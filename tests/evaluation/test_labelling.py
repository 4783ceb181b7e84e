"""benchmarks/labelling.py in miniature: what each choice must be, and the same terms for all of them."""

import dataclasses

import numpy as np
import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.models import Training, UNet

PROGRAM = "labelling"
SUBJECTS = np.repeat([f"heart {k}" for k in range(6)], 4)


@pytest.fixture(scope="module")
def values(program):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=24) for name in (*program.CONFIDENCES, program.WORST)}


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_chosen_slices_have_the_highest_values(program, values):
    for name in (*program.CONFIDENCES, program.WORST):
        index = program.chosen(name, 5, values, SUBJECTS, rng())
        left = np.delete(values[name], index)
        assert len(set(index)) == 5
        assert values[name][index].min() > left.max()


def test_ties_do_not_favour_the_first_slices(program):
    tied = {"soft Dice": np.ones(24)}
    picks = np.concatenate([program.chosen("soft Dice", 4, tied, SUBJECTS, rng(k)) for k in range(200)])
    assert picks.mean() == pytest.approx(11.5, abs=1)


def test_one_per_subject_is_the_best_of_each_subject(program, values):
    index = program.chosen("soft Dice, one per subject", 4, values, SUBJECTS, rng())
    best = values["soft Dice"].reshape(6, 4).max(axis=1)
    assert len(set(SUBJECTS[index])) == 4
    assert sorted(values["soft Dice"][index]) == sorted(best)[-4:]


def test_a_random_choice_depends_on_its_generator_only(program, values):
    first = program.chosen("random", 5, values, SUBJECTS, rng(1))
    assert (program.chosen("random", 5, {}, SUBJECTS[::-1], rng(1)) == first).all()
    assert (program.chosen("random", 5, values, SUBJECTS, rng(2)) != first).any()


def test_every_choice_has_the_same_budget(program, values):
    settings = program.Settings(fraction=0.25, n_draws=3)
    found = program.choices(values, SUBJECTS, settings, 4)
    assert {len(index) for index in found.values()} == {6}
    assert len(found) == 3 + len(program.METHODS) - 1
    again = program.choices(values, SUBJECTS, dataclasses.replace(settings, n_draws=1), 4)
    assert (again["random, draw 1"] == found["random, draw 1"]).all()


@pytest.mark.parametrize(
    ("method", "n", "message"),
    [
        ("random", 25, "n must be an integer in .1, 24., got 25; choose fewer slices than the pool has"),
        ("soft Dice", 0, "n must be an integer"),
        ("soft Dice, one per subject", 7, "one slice per subject"),
        ("entropie", 5, "method must be one of"),
    ],
)
def test_refusals(program, values, method, n, message):
    with pytest.raises(ValueError, match=message):
        program.chosen(method, n, values, SUBJECTS, rng())


@pytest.fixture(scope="module")
def miniature(program):
    train = phantom.cohort(24, size=16, seed=1)
    torch.manual_seed(0)
    network = UNet(n_classes=4, channels=(4, 8)).eval()
    training = Training(steps=2, batch_size=4, precision="fp32")
    settings = program.Settings(n_pool=24, fraction=0.125, n_draws=2, n_new=2, training=training)
    return network, train, settings


def test_training_goes_on_from_the_weights_and_repeats(program, miniature, assert_repeats):
    network, train, settings = miniature
    before = {name: value.clone() for name, value in network.state_dict().items()}
    new = phantom.cohort(3, scanner="D", size=16, seed=2)
    first, again, without = (
        program.trained_on(network, train, part, settings, 3) for part in (new, new, None)
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert_repeats(first.state_dict().values(), again.state_dict().values())
    weights = [next(one.parameters()).detach() for one in (network, first, without)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_from_pool_to_table(program, miniature):
    network, train, settings = miniature
    pool = phantom.cohort(24, scanner="D", size=16, seed=2)
    tests = {
        "labelling": phantom.cohort(6, scanner="D", size=16, seed=3),
        "labelling, on A": phantom.cohort(6, size=16, seed=3),
    }
    table = program.labelled(network, network, train, pool, tests, settings, 0)
    draws = table[["Dice: random, draw 1", "Dice: random, draw 2"]].mean(axis=1)
    assert np.allclose(table["Dice: random"], draws)
    assert (table["Dice: as it is"] == table["Dice: no new labels"]).all()  # the same network was passed
    assert len(table.filter(like="Dice: ").columns) == 2 + 2 + len(program.METHODS)
    assert table.groupby("cohort").size().to_dict() == dict.fromkeys(tests, 6)
    gains = program.summary(table.assign(domain="D", seed=1)).set_index(["cohort", "chosen by"])["gain"]
    assert gains["labelling", "random"] == 0
    with pytest.raises(ValueError, match="test subjects must be not in the pool"):
        program.labelled(network, network, train, pool, {"labelling": pool.take([0])}, settings, 0)
