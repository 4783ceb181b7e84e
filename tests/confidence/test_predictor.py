import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import BetaQualityPredictor, QualityPredictor
from segconf_lite.confidence.adversary import Adversary, Replay, Replayed, perturb
from segconf_lite.confidence.heads import BetaHead, PointHead
from segconf_lite.confidence.predictor_training import FeatureReader, fit_quality_network, quality_targets
from segconf_lite.confidence.quality_network import QualityNetwork
from segconf_lite.evaluation import dice_per_case
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.training import Training
from segconf_lite.models.unet import predict_probabilities

QUICK = Training(steps=6, batch_size=8, learning_rate=2e-3, weight_decay=1e-3, precision="fp32")
ADVERSARY = Adversary(warm_up=2, alpha=0.8, gain=0.01)
FIELDS = {field.name for field in dataclasses.fields(Adversary)}


def train(unet, cohort, *, adversarial=True, **options):
    """A quick training; settings of the adversary and of the training by their names."""
    adversary = {name: options.pop(name) for name in FIELDS & set(options)}
    chosen = dataclasses.replace(ADVERSARY, **adversary) if adversarial else None
    return fit_quality_network(unet, cohort, adversary=chosen, training=QUICK, progress=False, **options)


@pytest.fixture(scope="module")
def trained():
    cohort = phantom.cohort(36, size=32, seed=0)
    return fit_unet(cohort, steps=60, channels=(4, 6, 8), seed=0, progress=False), cohort


def state_of(unet):
    return (
        {name: value.clone() for name, value in unet.state_dict().items()},
        [module.training for module in unet.modules()],
        [parameter.requires_grad for parameter in unet.parameters()],
        torch.get_rng_state(),
    )


def same_weights(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# -- the network --------------------------------------------------------------------------------------------


def test_size_follows_the_activations_and_neighbours_do_not_matter():
    shapes = [(8, 24, 24), (16, 48, 40), (4, 5, 5)]
    network = QualityNetwork(shapes=shapes, n_outputs=4).eval()
    levels = [
        torch.randn(3, *shape, generator=torch.Generator().manual_seed(k)) for k, shape in enumerate(shapes)
    ]
    assert network(levels).shape == (3, 4)
    alone = network([level[1:2] for level in levels])
    torch.testing.assert_close(network(levels)[1:2], alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(
        ValueError, match=r"activations must be of the shapes .* got \[\(8, 24, 24\)\]; crop or pad"
    ):
        network(levels[:1])
    with pytest.raises(ValueError, match=r"shapes must be non-empty \(n_activations, 3\), got \(0,\)"):
        QualityNetwork(shapes=[], n_outputs=4)


def test_it_is_small_at_the_size_of_the_book():
    shapes = [(16, 96, 96), (32, 48, 48), (96, 12, 12), (4, 96, 96)]
    assert sum(p.numel() for p in QualityNetwork(shapes=shapes, n_outputs=4).parameters()) < 500_000


# -- targets and loss ---------------------------------------------------------------------------------------


def test_targets_are_the_dice_and_absent_classes_are_left_out():
    reference = np.zeros((2, 8, 8), np.int64)
    reference[0, :4] = 1
    labels = np.zeros_like(reference)
    labels[0, :2], labels[1, 0, 0] = 1, 2
    options = {"n_classes": 3, "target": "dice", "tolerance_mm": None, "spacing_mm": np.ones((2, 2))}
    wanted = quality_targets(labels, reference, **options)
    assert wanted[0].tolist() == pytest.approx([2 / 3, 2 / 3, np.nan], nan_ok=True)
    assert wanted[1].tolist() == pytest.approx([0, np.nan, 0], nan_ok=True)
    nothing = quality_targets(np.zeros_like(labels), np.zeros_like(labels), **options)
    assert nothing.isnan().all()
    mean = dice_per_case(labels, reference, n_classes=3, empty="skip")
    assert wanted[:, 0].tolist() == pytest.approx(mean.tolist())


def test_undefined_targets_do_not_count_and_give_no_gradient():
    predicted = torch.zeros(2, 2, requires_grad=True)
    wanted = torch.tensor([[1.0, float("nan")], [0.5, float("nan")]])
    loss = PointHead().loss(predicted, wanted, progress=0.0)
    assert loss.item() == pytest.approx((1 + 0.25) / 2)
    loss.backward()
    assert predicted.grad[:, 1].abs().sum() == 0
    assert PointHead().loss(predicted, torch.full((2, 2), float("nan")), progress=0.0).item() == 0


# -- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"adversarial": False}, {}, {"direction": "random"}])
def test_the_network_in_question_is_left_alone_bit_for_bit(trained, kind):
    unet, cohort = trained
    unet.train()
    before = state_of(unet)
    network = train(unet, cohort, **kind)
    after = state_of(unet)
    unet.eval()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:3] == after[1:3]
    assert torch.equal(before[3], after[3])
    assert not any(module._forward_hooks for module in unet.modules())
    assert not network.training


def test_equal_seeds_give_equal_predictors(trained):
    first, again = (train(*trained, seed=1) for _ in range(2))
    assert same_weights(first, again)


def test_a_step_of_length_zero_is_the_plain_predictor_bit_for_bit(trained):
    plain = train(*trained, adversarial=False)
    still = train(*trained, alpha=0.0, gain=1e-12)
    moved = train(*trained)
    assert same_weights(plain, still)
    losses = [[row["train_loss"] for row in network.history] for network in (plain, still, moved)]
    assert losses[0] == losses[1]
    assert losses[0][-1] != losses[2][-1]


def test_the_adversary_lowers_the_prediction_and_reports_what_it_did(trained):
    network = train(*trained, steps=36, alpha=0.3, learning_rate=1e-3)
    last = network.history[-1]
    assert {"alpha", "predicted_drop", "true_drop", "vanished", "dropped", "validation_loss"} <= set(last)
    assert np.mean([row["predicted_drop"] for row in network.history[1:]]) > 0.02
    assert last["alpha"] != 0.3
    assert last["dropped"] == 0


def test_a_broken_image_leaves_the_replay_and_training_goes_on(trained, monkeypatch):
    from segconf_lite.confidence import adversary

    real = adversary.step_against

    def broken(images, gradient, **options):
        found = real(images, gradient, **options)
        found.images[0] = float("nan")
        return found

    monkeypatch.setattr(adversary, "step_against", broken)
    network = train(*trained)
    assert network.history[-1]["dropped"] == 4  # one of each attacked batch
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_it_learns_to_order_cases(trained):
    unet, cohort = trained
    network = train(unet, cohort, adversarial=False, steps=120, batch_size=16)
    method = QualityPredictor(network=network, modules=("penultimate",), probabilities=False).fit(
        unet, cohort
    )
    labels = predict_probabilities(unet, cohort.images).argmax(dim=1).numpy()
    quality = dice_per_case(labels, cohort.labels, n_classes=4, empty="skip")
    assert stats.spearmanr(method.predicted_quality(cohort.images), quality).statistic > 0.5


# -- the method ---------------------------------------------------------------------------------------------


def test_interface_and_store(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    unet, cohort = trained
    method = QualityPredictor(modules=("bottleneck", "penultimate"), adversary=ADVERSARY, training=QUICK)
    assert method.fit(unet, cohort) is method
    uncertainty = method.uncertainty(cohort.images)
    assert uncertainty.shape == (36,)
    quality = method.predicted_quality(cohort.images)
    assert ((quality >= 0) & (quality <= 1)).all()
    torch.testing.assert_close(quality, (1 - uncertainty).clamp(0, 1))
    assert method.predicted_quality_per_class(cohort.images).shape == (36, 3)
    torch.testing.assert_close(method.uncertainty(cohort.images[3:4]), uncertainty[3:4], atol=1e-5, rtol=1e-4)
    again = QualityPredictor(modules=("bottleneck", "penultimate"), adversary=ADVERSARY, training=QUICK)
    assert torch.equal(again.fit(unet, cohort).uncertainty(cohort.images), uncertainty)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_each_setting_has_its_own_place_in_the_store(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    for adversary, training in (
        (ADVERSARY, QUICK),
        (dataclasses.replace(ADVERSARY, effect_size=0.2), QUICK),
        (None, QUICK),
        (ADVERSARY, QUICK.changed(augmentation="mild")),
        (ADVERSARY, QUICK),
    ):
        QualityPredictor.published(adversary=adversary, training=training).fit(*trained)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


def test_the_reference_has_no_say_in_what_is_reported(trained):
    unet, cohort = trained
    network = train(unet, cohort)
    method = QualityPredictor(network=network, modules=("penultimate",), probabilities=False).fit(
        unet, cohort
    )
    assert torch.equal(method.uncertainty(cohort.images), method.uncertainty(torch.from_numpy(cohort.images)))


def test_monai_networks_work_unchanged(trained):
    from monai.networks.nets import BasicUNet

    _, cohort = trained
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=4, features=(4, 4, 8, 8, 16, 4))
    found = train(network, cohort, modules=("upcat_1",))
    method = QualityPredictor(network=found, modules=("upcat_1",), probabilities=False).fit(network, cohort)
    assert torch.isfinite(method.uncertainty(cohort.images)).all()


def test_bad_use(trained):
    unet, cohort = trained
    with pytest.raises(ValueError, match=r"QualityPredictor is not fitted: call \.fit"):
        QualityPredictor().uncertainty(cohort.images)
    with pytest.raises(
        ValueError, match=r"training must be a Training, got dict; e\.g\. Training\(steps=200"
    ):
        QualityPredictor(training={"steps": 3})
    with pytest.raises(ValueError, match="adversary must be an Adversary or None, got bool"):
        QualityPredictor(adversary=True)
    with pytest.raises(ValueError, match="at least one module, or probabilities=True"):
        FeatureReader(unet, [], probabilities=False)
    with pytest.raises(ValueError, match=r"no module 'penultimat'; near names: \['penultimate'"):
        QualityPredictor(modules=("penultimat",)).fit(unet, cohort)
    for options, words in (
        ({"target": "iou"}, "target must be one of"),
        ({"target": "surface_dice"}, "tolerance_mm goes with"),
        ({"effect_size": 1.5}, r"effect_size must be a number in \(0, 1\), got 1\.5"),
        ({"batch_size": 1}, "batch_size must be an integer >= 2, got 1; half of it"),
        ({"augmentation": "wild"}, "augmentation must be one of"),
        ({"head": "gamma"}, "head must be one of"),
        ({"direction": "up"}, "direction must be one of"),
        ({"unit": "mm"}, "unit must be one of"),
        ({"value_range": (1, 1)}, "value_range must be a lower and a higher intensity"),
        ({"gain": 0.0}, "gain must be a number > 0, got 0.0"),
        ({"bound": 0}, "bound must be a number > 0, got 0"),
        ({"replay_size": -1}, "replay_size must be an integer >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=words):
            train(unet, cohort, **options)


def test_the_adversary_can_be_asked_for_its_images_afterwards(trained):
    unet, cohort = trained
    network = train(unet, cohort)
    method = QualityPredictor(network=network, modules=("penultimate",), probabilities=False).fit(
        unet, cohort
    )
    unet.zero_grad(set_to_none=True)
    found = method.perturbed(cohort.images, alpha=0.01)
    drop = method.uncertainty(found.images) - method.uncertainty(cohort.images)
    assert drop.median().item() == pytest.approx(0.01, rel=0.25)  # to first order assert not
    any(parameter.grad is not None for parameter in unet.parameters())
    assert torch.equal(method.perturbed(cohort.images, alpha=0.0).images, torch.from_numpy(cohort.images))


# -- what the adversary may be told -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": "strong"},
        {"augmentation": "mild"},
        {"replay_size": 16},
        {"gradient_of": "all"},
        {"controlled": "true"},
        {"unit": "length", "alpha": 3.0, "gain": 5.0},
        {"bound": 2.0},
        {"bound": 0.1, "bound_norm": "linf"},
        {"value_range": (-2.0, 4.0)},
        {"head": "beta"},
        {"target": "surface_dice", "tolerance_mm": 3.0},
    ],
)
def test_every_choice_trains_and_does_something_else(trained, options):
    usual = train(*trained)
    network = train(*trained, **options)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert usual.history[-1]["train_loss"] != network.history[-1]["train_loss"]
    bound = options.get("bound", np.inf) * (32 if "bound_norm" in options else 1)
    assert 0 < network.history[-1]["length"] <= bound + 1e-3


def test_beta_predictor_tells_a_distribution(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    unet, cohort = trained
    method = BetaQualityPredictor(
        adversary=dataclasses.replace(ADVERSARY, alpha=0.3),
        training=QUICK.changed(augmentation="strong"),
        modules=("bottleneck", "penultimate"),
    )
    method.fit(unet, cohort)
    assert "alpha_concentration" in method.network.history[-1]
    quality, concentration = method.predicted_quality(cohort.images), method.concentration(cohort.images)
    low, high = method.interval(cohort.images, level=0.8)
    assert (low < high).all()
    expected = stats.beta.cdf(0.8, quality * concentration, (1 - quality) * concentration)
    assert method.probability_below(cohort.images, 0.8).numpy() == pytest.approx(expected, abs=1e-5)
    share = stats.beta.cdf(high, quality * concentration, (1 - quality) * concentration)
    assert share == pytest.approx(np.full(36, 0.9), abs=1e-4)
    assert method.predicted_quality_per_class(cohort.images).shape == (36, 3)


def test_the_second_adversary_lowers_the_concentration():
    """Against the published code, whose step raises it (derived: the step is minus alpha times gradient)."""
    raw = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    lowered = BetaHead().attacked(gradient_of="mean")["concentration"]
    gradient = torch.autograd.grad(lowered(raw).sum(), raw)[0]
    images = raw.detach()[:, None, None, :]
    moved = perturb(images, gradient[:, None, None, :], alpha=0.05).images[:, 0, 0]
    drop = lowered(raw.detach()) - lowered(moved)
    assert drop.tolist() == pytest.approx([0.05] * 4, rel=0.1)


def test_alpha_finds_the_wanted_effect_on_a_problem_that_stands_still():
    """The whole loop's controller, on a linear prediction: the gradient never changes."""
    weight = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    replay = Replay(Adversary(effect_size=0.2, alpha=0.9, gain=0.2), ["location"], torch.Generator())
    images, attack = torch.zeros(8, 1, 6, 6), torch.zeros(8, dtype=torch.int64)
    predict = lambda x: 0.5 * (x * weight).sum(dim=(1, 2, 3))  # noqa: E731
    ones = torch.ones(8)
    for _ in range(200):
        moved = replay.move(images, weight, attack)
        new = Replayed(
            moved, np.zeros((8, 6, 6)), np.ones((8, 2)), attack, predict(images), ones, ones.bool()
        )
        replay.remember(new)
        replay.observe(replay.draw(), predict(moved), ones, control=True)
    replay.close_entry()
    assert replay.alpha["location"] == pytest.approx(0.4, rel=1e-3)  # half of alpha arrives
    assert replay.entries[-1]["true_drop"] == 0.0


def test_the_memory_is_bounded_and_half_of_what_is_replayed_is_new():
    replay = Replay(Adversary(replay_size=10), ["location"], torch.Generator().manual_seed(0))
    for k in range(5):
        images = torch.full((8, 1, 2, 2), float(k))
        some = torch.zeros(8)
        replay.remember(
            Replayed(images, np.zeros((8, 2, 2)), np.ones((8, 2)), some.long(), some, some, some == 0)
        )
    drawn = replay.draw()
    assert len(drawn.images) == 8
    assert len(replay.older.images) == 10
    assert drawn.fresh.tolist() == [True] * 4 + [False] * 4
    assert (drawn.images[:4] == 4).all()
    assert set(drawn.images[4:, 0, 0, 0].tolist()) <= {2.0, 3.0}


def test_no_defined_quality_is_told(trained):
    class Nothing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.penultimate = torch.nn.Conv2d(1, 4, 1)

        def forward(self, images):
            return 0 * self.penultimate(images) + torch.tensor([9.0, 0, 0, 0])[:, None, None]

    empty = dataclasses.replace(trained[1], labels=np.zeros_like(trained[1].labels))
    with pytest.raises(ValueError, match="has a defined quality"):
        train(Nothing(), empty)
