"""Laws of every method: the interface, the order of nothing, and the network left as it was."""

import copy

import numpy as np
import pytest
import torch

from segconf_lite import confidence
from segconf_lite.confidence import (
    DeepEnsemble,
    LatentMahalanobis,
    MaximumProbability,
    MCDropout,
    PooledMahalanobis,
    PredictiveEntropy,
    ProbabilityMargin,
    ScoreAgreement,
    SegmentationDistortion,
    TestTimeAugmentation,
    pixels,
)
from segconf_lite.confidence.sampling import summarise_samples
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.device import pick_device
from segconf_lite.models.unet import predict_probabilities

ALL_TURNS = ("identity", "flip_rows", "flip_columns", "rotate_90", "rotate_180", "rotate_270")


def methods(make_unet):
    others = [make_unet(seed) for seed in (1, 2)]
    coder = ActivationAutoencoder(shape=(8, 4, 4), code=3, width=4, depth=1).eval().to(pick_device())
    ensemble = DeepEnsemble(members=others)
    return {
        "entropy": PredictiveEntropy(),
        "entropy, l2, boundary": PredictiveEntropy(aggregation="l2", region="boundary"),
        "maximum": MaximumProbability(region="foreground"),
        "margin": ProbabilityMargin(),
        "dropout": MCDropout(n_samples=3, measure="mutual_information"),
        "ensemble": ensemble,
        "test time": TestTimeAugmentation(transforms=(*ALL_TURNS, "brighter"), measure="disagreement"),
        "distance": PooledMahalanobis(),
        "distance of codes": LatentMahalanobis(autoencoder=coder),
        "distortion": SegmentationDistortion(autoencoder=coder),
        "distortion, foreground": SegmentationDistortion(
            autoencoder=ActivationAutoencoder(shape=(4, 16, 16), code=3, width=4, depth=1)
            .eval()
            .to(pick_device()),
            module="encoder.0",
            region="foreground",
        ),
        "agreement of dropout": ScoreAgreement(MCDropout(n_samples=2)),
        "agreement of ensemble": ScoreAgreement(ensemble, quality="surface_dice", tolerance_mm=1.0),
    }


NAMES = (
    "entropy", "entropy, l2, boundary", "maximum", "margin", "dropout", "ensemble", "test time",
    "distance", "distance of codes", "distortion", "distortion, foreground", "agreement of dropout",
    "agreement of ensemble",
)  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:6 training vectors")  # six slices serve for laws
every_method = pytest.mark.parametrize("name", NAMES)


def state_of(unet):
    return {
        "modes": [module.training for module in unet.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules()],
        "gradients": [parameter.requires_grad for parameter in unet.parameters()],
        "tensors": copy.deepcopy(unet.state_dict()),
        "random": torch.get_rng_state(),
    }


@every_method
@pytest.mark.parametrize("training", [False, True])
def test_the_network_and_the_random_state_are_left_alone(name, training, make_unet, cohort):
    unet = make_unet().train(training)
    unet.encoder[0].eval()  # a mixture of modes must come back as it was
    method = methods(make_unet)[name]
    before = state_of(unet)
    method.fit(unet, cohort)
    method.uncertainty(cohort.images)
    after = state_of(unet)
    for part in ("modes", "hooks", "gradients"):
        assert before[part] == after[part]
    assert torch.equal(before["random"], after["random"])
    for key, value in before["tensors"].items():
        assert torch.equal(value, after["tensors"][key]), key


@every_method
def test_one_finite_number_a_case_and_a_map_where_there_is_one(name, make_unet, cohort):
    method = methods(make_unet)[name]
    assert method.fit(make_unet(), cohort) is method
    uncertainty = method.uncertainty(cohort.images)
    assert uncertainty.shape == (6,)
    assert uncertainty.dtype == torch.float32
    assert torch.isfinite(uncertainty).all()
    assert (uncertainty >= 0).all()
    assert torch.equal(method.uncertainty(torch.from_numpy(cohort.images)), uncertainty)  # also: repeatable
    assert method.n_passes >= 1
    if hasattr(method, "uncertainty_map"):
        maps = method.uncertainty_map(cohort.images)
        assert maps.shape == (6, 16, 16)
        assert ((maps >= -1e-6) & (maps <= 1 + 1e-6)).all()
    if hasattr(method, "predicted_quality"):
        quality = method.predicted_quality(cohort.images)
        torch.testing.assert_close(quality, 1 - uncertainty)
        assert ((quality >= 0) & (quality <= 1)).all()


@pytest.mark.parametrize("name", [n for n in NAMES if "dropout" not in n])
def test_a_case_does_not_depend_on_its_neighbours(name, make_unet, cohort):
    method = methods(make_unet)[name].fit(make_unet(), cohort)
    together, alone = method.uncertainty(cohort.images), method.uncertainty(cohort.images[2:3])
    torch.testing.assert_close(together[2:3], alone)


@every_method
def test_use_before_fit(name, make_unet, cohort):
    with pytest.raises(ValueError, match=r"not fitted: call \.fit\(unet, source_cohort\) first"):
        methods(make_unet)[name].uncertainty(cohort.images)


def test_no_images(make_unet, cohort):
    with pytest.raises(ValueError, match=r"images must be non-empty \(B, 1, H, W\), got \(0, 1, 16, 16\)"):
        PredictiveEntropy().fit(make_unet(), cohort).uncertainty(cohort.images[:0])


def test_one_pass_methods_agree_with_the_formulas(make_unet, cohort):
    unet = make_unet()
    probabilities = predict_probabilities(unet, cohort.images)
    method = PredictiveEntropy().fit(unet, cohort)
    torch.testing.assert_close(method.uncertainty_map(cohort.images), pixels.entropy(probabilities))
    torch.testing.assert_close(
        method.uncertainty(cohort.images), pixels.entropy(probabilities).mean(dim=(1, 2))
    )


def test_batches_do_not_change_a_result(make_unet, cohort):
    unet = make_unet()
    small, large = (MaximumProbability(batch_size=n).fit(unet, cohort) for n in (2, 64))
    torch.testing.assert_close(small.uncertainty(cohort.images), large.uncertainty(cohort.images))
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        MaximumProbability(batch_size=0)


# -- several answers ----------------------------------------------------------------------------------------


def test_entropy_splits_into_two_parts_and_equal_answers_have_nothing_between_them():
    answers = torch.randn(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=2)
    summary = summarise_samples(answers)
    torch.testing.assert_close(summary.entropy, summary.expected_entropy + summary.mutual_information)
    assert (summary.mutual_information >= 0).all()
    same = summarise_samples(answers[:1].expand(5, -1, -1, -1, -1))
    torch.testing.assert_close(same.mutual_information, torch.zeros(2, 4, 4))
    assert (same.disagreement == 0).all()


def test_two_sure_answers_that_differ():
    answers = torch.zeros(2, 1, 2, 1, 1)
    answers[0, 0, 0], answers[1, 0, 1] = 1, 1
    summary = summarise_samples(answers)
    assert summary.entropy.item() == pytest.approx(1)
    assert summary.expected_entropy.item() == 0
    assert summary.mutual_information.item() == pytest.approx(1)
    assert summary.disagreement.item() == pytest.approx(0.5)


def test_dropout_answers_differ_and_follow_the_seed(make_unet, cohort):
    unet = make_unet()
    first, again, other = (
        next(MCDropout(n_samples=3, seed=seed).fit(unet, cohort).samples(cohort.images)) for seed in (0, 0, 1)
    )
    assert first.shape == (3, 6, 3, 16, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_dropout_leaves_batch_norm_in_eval_mode(make_unet, cohort):
    unet = make_unet()
    norms = [m for m in unet.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen = []
    handles = [
        norm.register_forward_pre_hook(lambda module, _: seen.append(module.training)) for norm in norms
    ]
    MCDropout(n_samples=2).fit(unet, cohort).uncertainty(cohort.images)
    for handle in handles:
        handle.remove()
    assert seen
    assert not any(seen)


def test_dropout_needs_dropout(make_unet, cohort):
    with pytest.raises(ValueError, match=r"a dropout layer of p > 0, got one with none.*dropout=0\.1"):
        MCDropout().fit(make_unet(dropout=0.0), cohort)
    with pytest.raises(ValueError, match="n_samples must be >= 2"):
        MCDropout(n_samples=1)


def test_ensemble_of_copies_agrees_with_itself(make_unet, cohort):
    twin = DeepEnsemble(members=[make_unet()], measure="mutual_information").fit(make_unet(), cohort)
    assert twin.uncertainty(cohort.images).max() < 1e-6
    assert ScoreAgreement(twin).fit(make_unet(), cohort).predicted_quality(cohort.images).min() == 1


def test_ensemble_trains_its_members_once_through_the_store(tmp_path, monkeypatch, cohort):
    from segconf_lite.models import fit_unet

    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    training = {"channels": (4, 6), "steps": 2, "batch_size": 4, "seed": 5, "precision": "fp32"}
    unet = fit_unet(cohort, validation=cohort, **training)
    make = lambda: DeepEnsemble(n_members=3, training=training, validation=cohort)  # noqa: E731
    ensemble = make().fit(unet, cohort)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 2
    assert ensemble.members[0] is unet
    assert ensemble.n_passes == len(ensemble.members) == 3
    stamps = [path.stat().st_mtime_ns for path in files]
    again = make().fit(unet, cohort)
    assert [path.stat().st_mtime_ns for path in files] == stamps
    assert torch.equal(again.uncertainty(cohort.images), ensemble.uncertainty(cohort.images))
    ensemble.fit(unet, cohort)  # a second fit trains nothing more
    assert len(ensemble.members) == 3


def test_small_ensembles():
    with pytest.raises(ValueError, match="at least 2 members, got 1"):
        DeepEnsemble(n_members=1)


class _Blur(torch.nn.Module):
    """A network that treats all directions alike, so that every turn must give the same answer."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 1, 3, 3) / 9)

    def forward(self, images):
        return torch.nn.functional.conv2d(images, self.weight, padding=1) * torch.tensor([[[3.0]], [[-3.0]]])


def test_turns_and_flips_are_taken_back_exactly(cohort):
    method = TestTimeAugmentation(transforms=ALL_TURNS).fit(_Blur(), cohort)
    answers = next(method.samples(cohort.images))
    for answer in answers:
        torch.testing.assert_close(answer, answers[0])


def test_bad_transforms(make_unet, cohort):
    with pytest.raises(ValueError, match=r"two or more of \['identity'.*, got \['mirror'\]"):
        TestTimeAugmentation(transforms=["mirror"])
    turned = TestTimeAugmentation(transforms=("identity", "rotate_90")).fit(make_unet(), cohort)
    with pytest.raises(ValueError, match=r"quarter turns need square images, got \(16, 8\)"):
        turned.uncertainty(cohort.images[..., :8])
    with pytest.raises(ValueError, match=r"measure must be one of .*'disagreement'.*got 'variance'"):
        TestTimeAugmentation(measure="variance")


@pytest.mark.not_on_the_pretended_device(reason="it has no bfloat16 autocast")
def test_half_precision_orders_cases_alike(make_unet, cohort):
    from scipy import stats

    images = np.random.default_rng(0).normal(size=(40, 1, 16, 16)).astype(np.float32)
    images *= np.linspace(0.2, 3, 40, dtype=np.float32)[:, None, None, None]
    unet, found = make_unet(), {}
    for precision in ("fp32", "bf16"):
        found[precision] = DeepEnsemble(members=[make_unet(1)], precision=precision).fit(unet, cohort)
    exact, half = (method.uncertainty(images) for method in found.values())
    assert stats.spearmanr(exact, half).statistic > 0.99
    assert not torch.equal(exact, half)
    with pytest.raises(ValueError, match=r"precision must be one of .*'bf16'.*got 'fp16'"):
        MCDropout(precision="fp16")


# -- score agreement ----------------------------------------------------------------------------------------


def fitted_agreement(make_unet, cohort, **options):
    return ScoreAgreement(DeepEnsemble(members=[make_unet(1)]), **options).fit(make_unet(), cohort)


def test_agreement_of_known_answers(make_unet, cohort):
    answers = np.zeros((2, 3, 16, 16), dtype=np.int64)
    answers[0, :, 2:6, 2:6] = 1
    answers[0, 2] = np.roll(answers[0, 2], 2, axis=0)  # half of the square overlaps
    agreement = fitted_agreement(make_unet, cohort)
    # class two is absent everywhere and counts 1; class one: pairs 1, .5, .5; the second case finds nothing
    assert agreement.agreement_of(answers) == pytest.approx([(2 / 3 + 1) / 2, 1])
    strict = fitted_agreement(make_unet, cohort, empty="zero")
    assert strict.agreement_of(answers) == pytest.approx([(2 / 3) / 2, 0])


def test_surface_agreement_uses_the_spacing_of_the_cohort(make_unet, cohort):
    answers = np.zeros((1, 2, 16, 16), dtype=np.int64)
    answers[0, :, 4:10, 4:10] = 1
    for axis, expected in ((0, False), (1, True)):  # one pixel is 2 mm along rows, 1 mm along columns
        moved = answers.copy()
        moved[0, 1] = np.roll(moved[0, 1], 1, axis=axis)
        options = {"quality": "surface_dice", "tolerance_mm": 1.0}
        quality = fitted_agreement(make_unet, cohort, **options).agreement_of(moved)
        assert bool(quality[0] == 1) is expected


def test_bad_agreement(make_unet, cohort):
    sampler = MCDropout()
    for options, message in (
        ({"quality": "iou"}, "quality must be 'dice' or 'surface_dice', got 'iou'"),
        ({"quality": "surface_dice"}, "tolerance_mm goes with quality='surface_dice'"),
        ({"tolerance_mm": 1.0}, "tolerance_mm goes with quality='surface_dice'"),
        ({"empty": "skip"}, "empty must be 'one' or 'zero'"),
    ):
        with pytest.raises(ValueError, match=message):
            ScoreAgreement(sampler, **options)
    with pytest.raises(ValueError, match=r"sampler must be MCDropout.*got PredictiveEntropy"):
        ScoreAgreement(PredictiveEntropy())


def test_public_names_are_there():
    for name in confidence.__all__:
        assert callable(getattr(confidence, name))
    with pytest.raises(AttributeError, match=r"No segconf_lite\.confidence attribute Entropy"):
        confidence.Entropy  # noqa: B018
