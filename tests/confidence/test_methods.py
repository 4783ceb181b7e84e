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
    SoftDiceConfidence,
    TestTimeAugmentation,
    pixels,
)
from segconf_lite.confidence.predictor import QualityPredictor
from segconf_lite.confidence.sampling import summarise_samples
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.device import pick_device
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.training import Training
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
        "soft Dice": SoftDiceConfidence(),
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
    "entropy",
    "entropy, l2, boundary",
    "maximum",
    "margin",
    "dropout",
    "ensemble",
    "test time",
    "distance",
    "distance of codes",
    "distortion",
    "distortion, foreground",
    "agreement of dropout",
    "agreement of ensemble",
)
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
    with pytest.raises(ValueError, match=r"not fitted: call \.fit\(network, source_cohort\) first"):
        methods(make_unet)[name].uncertainty(cohort.images)


def test_no_images(make_unet, cohort):
    with pytest.raises(ValueError, match=r"images must be non-empty \(N, C, H, W\), got \(0, 1, 16, 16\)"):
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
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        MaximumProbability(batch_size=0)


# -- the border ---------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_not_finite_is_refused_and_never_trusted(name, value, make_unet, cohort):
    method = methods(make_unet)[name].fit(make_unet(), cohort)
    images = cohort.images.copy()
    images[4, 0, 7, 7] = value  # one pixel
    for question in ("uncertainty", "uncertainty_map", "predicted_quality"):
        if hasattr(method, question):
            with pytest.raises(
                ValueError, match=r"images must be finite, .* 1 cases \(first: case 4\); look"
            ):
                getattr(method, question)(images)


@every_method
def test_an_overflow_inside_the_network_is_refused(name, make_unet, cohort):
    unet = make_unet()
    method = methods(make_unet)[name].fit(unet, cohort)
    method.batch_size = 2
    images = cohort.images.copy()
    images[3] = 1e38
    with pytest.raises(ValueError, match=r"must be finite, got NaN or infinity in 1 cases \(first: case 3\)"):
        method.uncertainty(images)


@every_method
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 16, 16)), r"images must be non-empty \(N, C, H, W\), got \(2, 16, 16\)"),
        (np.zeros((2, 2, 16, 16)), r"images must be non-empty \(N, 1, H, W\), got \(2, 2, 16, 16\)"),
        ([[[[1.0]]]], "images must be a numpy array or a dense tensor of real numbers, got builtins.list"),
        (np.zeros((1, 1, 16, 16), complex), "images must be .* got numpy.ndarray of complex128"),
        (torch.zeros(1, 1, 16, 16).to_sparse(), "images must be a numpy array or a dense tensor"),
        (torch.zeros(1, 1, 16, 16, device="meta"), "images must be a numpy array or a dense tensor"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(name, images, message, make_unet, cohort):
    method = methods(make_unet)[name].fit(make_unet(), cohort)
    with pytest.raises(ValueError, match=message):
        method.uncertainty(images)


@every_method
def test_images_of_every_type_and_layout_give_the_same_uncertainty(name, make_unet, cohort):
    method = methods(make_unet)[name].fit(make_unet(), cohort)
    images = torch.from_numpy(cohort.images).mul(4).round()  # exact in every one of these types
    expected = method.uncertainty(images)
    array = images.numpy()
    for given in (
        images.double(),
        images.half(),
        images.bfloat16(),
        images.to(torch.int16),
        images.clone().requires_grad_(),
        images.to(memory_format=torch.channels_last),
        array.astype(">f4"),
        array[:, :, ::-1].copy()[:, :, ::-1],
    ):
        found = method.uncertainty(given)
        assert found.dtype == torch.float32
        assert not found.requires_grad
        torch.testing.assert_close(found, expected)


class _Head(torch.nn.Module):
    """Logits that a function makes of those of a convolution."""

    def __init__(self, change):
        super().__init__()
        self.bottleneck, self.change = torch.nn.Conv2d(1, 3, 3, padding=1), change

    def forward(self, images):
        return self.change(torch.nn.functional.dropout(self.bottleneck(images), 0.0))


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z[:, :1],
        lambda z: (z, z),
        lambda z: {"first": z, "second": z},
        lambda z: torch.stack([z, z], dim=1),
        lambda z: z[..., ::2, ::2],
        lambda z: z.argmax(dim=1, keepdim=True),
        lambda z: z * torch.inf,
    ],
    ids=["one channel", "tuple", "dict", "two heads", "half size", "labels", "infinite"],
)
def test_a_network_without_finite_logits_is_refused(change, cohort):
    network = _Head(change)
    twice = TestTimeAugmentation(transforms=("identity", "rotate_90"))
    for method in (
        PredictiveEntropy(),
        DeepEnsemble(members=[network]),
        twice,
        ScoreAgreement(twice),
        SegmentationDistortion(autoencoder=torch.nn.Identity()),
    ):
        with pytest.raises(ValueError, match=r"the network's output must be"):
            method.fit(network, cohort).uncertainty(cohort.images)


def test_members_must_predict_the_same_classes(make_unet, cohort):
    other = torch.nn.Conv2d(1, 5, 1)
    with pytest.raises(ValueError, match=r"the networks must be of one number of classes, got \[3, 5\]"):
        DeepEnsemble(members=[other]).fit(make_unet(), cohort).uncertainty(cohort.images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MCDropout(n_samples=2.0), "n_samples must be an integer >= 2, got 2.0"),
        (lambda: MCDropout(n_samples=True), "n_samples must be an integer >= 2, got True"),
        (lambda: MCDropout(seed=-1), "seed must be an integer >= 0, got -1"),
        (lambda: MCDropout(seed="1"), "seed must be an integer >= 0, got '1'"),
        (lambda: PredictiveEntropy(band_px=1.5), "band_px must be an integer >= 1, got 1.5"),
        (lambda: PooledMahalanobis(batch_size=0), "batch_size must be an integer >= 1, got 0"),
        (lambda: DeepEnsemble(members=["a"]), r"members\[0\] must be a Module, got str"),
        (
            lambda: DeepEnsemble(members=[torch.nn.Identity(), None]),
            r"members\[1\] must be a Module, got None",
        ),
        (
            lambda: DeepEnsemble(members=[torch.nn.Identity()], n_members="3"),
            "n_members must be an integer, got",
        ),
        (lambda: DeepEnsemble(members=[torch.nn.Identity()], n_members=True), "n_members must be an integer"),
        (lambda: SegmentationDistortion(module=3), "module must be the name of a module, got 3"),
        (lambda: SegmentationDistortion(module=["bottleneck"]), "module must be the name of a module"),
        (lambda: QualityPredictor(target=None), "target must be one of"),
        (lambda: QualityPredictor(modules=None), "modules must be a list of names"),
        (lambda: QualityPredictor(modules="bottleneck"), "modules must be a list of names"),
        (lambda: QualityPredictor(modules=["bottleneck", None]), "modules must be text"),
        (lambda: QualityPredictor(probabilities="no"), "probabilities must be one of"),
        (lambda: QualityPredictor(probabilities=None), "probabilities must be one of"),
        (lambda: QualityPredictor(network="text"), "network must be a QualityNetwork, got str"),
        (lambda: QualityPredictor(validation="text"), "validation must be a Cohort, got str"),
        (lambda: DeepEnsemble(members=torch.nn.Conv2d(1, 2, 1)), "members must be a list of networks, got"),
        (lambda: DeepEnsemble(training=["steps"]), "training must be a dictionary of arguments"),
        (lambda: TestTimeAugmentation(transforms="identity"), "transforms must be a list of names"),
        (lambda: TestTimeAugmentation(transforms=["identity"]), "transforms must be two or more of"),
        (lambda: SegmentationDistortion(autoencoder=3), r"must be a torch\.nn\.Module, got int"),
        (
            lambda: ScoreAgreement(MCDropout(), quality="surface_dice", tolerance_mm=np.nan),
            "tolerance_mm must be a finite number >= 0",
        ),
        (
            lambda: ScoreAgreement(MCDropout(), quality="surface_dice", tolerance_mm=1, spacing_mm=(0, 1)),
            "spacing_mm must be .* > 0 mm",
        ),
    ],
)
def test_arguments_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_of_numpy_are_seeds_and_counts(make_unet, cohort):
    unet = make_unet()
    plain = MCDropout(n_samples=3, seed=5, batch_size=4).fit(unet, cohort)
    other = MCDropout(n_samples=np.int64(3), seed=np.uint8(5), batch_size=torch.tensor(4)).fit(unet, cohort)
    assert torch.equal(plain.uncertainty(cohort.images), other.uncertainty(cohort.images))


@every_method
def test_fit_wants_a_network(name, make_unet, cohort):
    with pytest.raises(ValueError, match=r"the network must be a torch\.nn\.Module, got function"):
        methods(make_unet)[name].fit(lambda images: images, cohort)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("dist", "agreement"))])
def test_what_learns_from_a_cohort_wants_one(name, make_unet):
    with pytest.raises(ValueError, match="source_cohort must be a Cohort, got NoneType"):
        methods(make_unet)[name].fit(make_unet(), None)


# -- several predictions ------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"with a dropout layer of p > 0, got one without; .*dropout=0\.1"):
        MCDropout().fit(make_unet(dropout=0.0), cohort)
    with pytest.raises(
        ValueError, match="n_samples must be an integer >= 2, got 1; one prediction cannot disagree"
    ):
        MCDropout(n_samples=1)


def test_ensemble_of_copies_agrees_with_itself(make_unet, cohort):
    twin = DeepEnsemble(members=[make_unet()], measure="mutual_information").fit(make_unet(), cohort)
    assert twin.uncertainty(cohort.images).max() < 1e-6
    assert ScoreAgreement(twin).fit(make_unet(), cohort).predicted_quality(cohort.images).min() == 1


def test_ensemble_trains_its_members_once_through_the_store(tmp_path, monkeypatch, cohort):
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


def test_a_whole_training_names_the_members_seeds(tmp_path, monkeypatch, cohort):
    """The evaluated network has seed 5; it must not come again among the members."""
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    training = Training(steps=2, batch_size=4, seed=5, precision="fp32")
    unet = fit_unet(cohort, validation=cohort, training=training)
    whole = DeepEnsemble(n_members=3, training=training, validation=cohort).fit(unet, cohort)
    single = {"steps": 2, "batch_size": 4, "seed": 5, "precision": "fp32"}
    again = DeepEnsemble(n_members=3, training=single, validation=cohort).fit(unet, cohort)
    assert torch.equal(whole.uncertainty(cohort.images), again.uncertainty(cohort.images))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_small_ensembles():
    with pytest.raises(ValueError, match="n_members must be an integer >= 2, got 1"):
        DeepEnsemble(n_members=1)


class _Blur(torch.nn.Module):
    """A network that treats all directions alike, so that every turn must give the same answer."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 1, 3, 3) / 9)

    def forward(self, images):
        return torch.nn.functional.conv2d(images, self.weight, padding=1) * torch.tensor(
            [[[3.0]], [[-3.0]], [[0.0]]]
        )


def test_turns_and_flips_are_taken_back_exactly(cohort):
    method = TestTimeAugmentation(transforms=ALL_TURNS).fit(_Blur(), cohort)
    answers = next(method.samples(cohort.images))
    for answer in answers:
        torch.testing.assert_close(answer, answers[0])


def test_bad_transforms(make_unet, cohort):
    with pytest.raises(ValueError, match=r"two or more of \['identity'.*, got \['mirror'\]"):
        TestTimeAugmentation(transforms=["mirror"])
    turned = TestTimeAugmentation(transforms=("identity", "rotate_90")).fit(make_unet(), cohort)
    with pytest.raises(ValueError, match=r"images for quarter turns must be square, got \(16, 8\); leave"):
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


def test_labels_of_agreement_are_checked(make_unet, cohort):
    agreement = fitted_agreement(make_unet, cohort)
    for labels, message in (
        (np.zeros((2, 1, 4, 4), int), r"labels must be two or more predictions per case, got \(2, 1, 4, 4\)"),
        (np.full((2, 2, 4, 4), 3), r"labels must be in 0..2 \(3 classes\), got 3..3"),
        (np.full((2, 2, 4, 4), 0.5), "labels must be integers, got fractions"),
        (np.zeros((2, 4, 4), int), r"labels must be non-empty \(B, S, H, W\), got \(2, 4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            agreement.agreement_of(labels)


def test_bad_agreement(make_unet, cohort):
    sampler = MCDropout()
    for options, message in (
        ({"quality": "iou"}, r"quality must be one of \('dice', 'surface_dice'\), got 'iou'"),
        ({"quality": "surface_dice"}, "tolerance_mm must be a number with quality='surface_dice', and None"),
        ({"tolerance_mm": 1.0}, "tolerance_mm must be a number with quality='surface_dice', and None"),
        ({"empty": "skip"}, r"empty must be one of \('one', 'zero'\), got 'skip'"),
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
