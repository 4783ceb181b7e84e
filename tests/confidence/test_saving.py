"""A fitted method that was saved and loaded is the same method; anything else is refused."""

import dataclasses
import hashlib
import json
import pickle
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from segconf_lite import confidence, saving
from segconf_lite.confidence import (
    BetaQualityPredictor,
    DeepEnsemble,
    LatentMahalanobis,
    MaximumProbability,
    MCDropout,
    PooledMahalanobis,
    PredictiveEntropy,
    ProbabilityMargin,
    QualityPredictor,
    ScoreAgreement,
    SegmentationDistortion,
    SoftDiceConfidence,
    TestTimeAugmentation,
)
from segconf_lite.confidence.quality_network import QualityNetwork
from segconf_lite.fragility import FragilityMap, MaskSearch, PixelSearch, TangentSearch, WeightNoise
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.device import pick_device
from segconf_lite.models.unet import predict_probabilities
from segconf_lite.saving import load, load_weights

pytestmark = pytest.mark.filterwarnings("ignore:6 training vectors")  # six slices serve for laws


def coder(shape=(8, 4, 4)):
    torch.manual_seed(0)
    return ActivationAutoencoder(shape=shape, code=3, width=4, depth=1).eval().to(pick_device())


def judge(n_outputs):
    torch.manual_seed(0)
    return QualityNetwork(shapes=[(8, 4, 4)], n_outputs=n_outputs).eval().to(pick_device())


PREDICTOR = {"modules": ["bottleneck"], "probabilities": False}
METHODS = {
    "entropy": lambda _: PredictiveEntropy(aggregation="l2", region="boundary"),
    "maximum": lambda _: MaximumProbability(),
    "margin": lambda _: ProbabilityMargin(),
    "soft Dice": lambda _: SoftDiceConfidence(),
    "dropout": lambda _: MCDropout(n_samples=3, measure="mutual_information", seed=4),
    "ensemble": lambda unet: DeepEnsemble(members=[unet(1), unet(2)]),
    "test time": lambda _: TestTimeAugmentation(transforms=("identity", "flip_rows")),
    "agreement": lambda unet: ScoreAgreement(
        DeepEnsemble(members=[unet(1)]), quality="surface_dice", tolerance_mm=1.0
    ),
    "distance": lambda _: PooledMahalanobis(),
    "distance of codes": lambda _: LatentMahalanobis(autoencoder=coder()),
    "distortion": lambda _: SegmentationDistortion(autoencoder=coder()),
    "distortion, elsewhere": lambda _: SegmentationDistortion(
        autoencoder=coder((4, 16, 16)), module="encoder.0"
    ),
    "predictor": lambda _: QualityPredictor(network=judge(3), **PREDICTOR),
    "Beta predictor": lambda _: BetaQualityPredictor(network=judge(6), **PREDICTOR),
    "fragile head": lambda _: FragilityMap(budget=0.01),
    "fragile decoder": lambda _: FragilityMap(search=TangentSearch(n_draws=2, n_slices=2)),
    "fragile masks": lambda _: FragilityMap(search=MaskSearch(steps=1, targets=("dilated",), n_penalty=2)),
    "fragile pixels": lambda _: FragilityMap(
        search=PixelSearch(modules=("head",), steps=1, n_penalty=2), batch_size=1
    ),
    "weight noise": lambda _: WeightNoise(budget=0.05, n_samples=2, n_penalty=2),
}
HOLD_IMAGES = ("fragile masks", "fragile pixels")


@pytest.fixture
def saved(make_unet, cohort, tmp_path):
    """A saved method of one kind, its network, and its folder."""
    unet = make_unet()
    return unet, PooledMahalanobis().fit(unet, cohort).save(tmp_path / "saved")


@pytest.mark.parametrize("name", METHODS)
def test_a_loaded_method_computes_the_same_bits_without_a_cohort(name, make_unet, cohort, tmp_path):
    unet = make_unet()
    if name == "weight noise":  # the loss has to rise, so the network must be right
        labels = predict_probabilities(unet, cohort.images).argmax(dim=1).numpy()
        cohort = dataclasses.replace(cohort, labels=labels)
    method = METHODS[name](make_unet).fit(unet, cohort)
    images = {"fragile pixels": cohort.images[:1, :, :4, :4], "fragile masks": cohort.images[:1]}.get(
        name, cohort.images
    )
    before = method.uncertainty(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if name in HOLD_IMAGES:
            warnings.filterwarnings("ignore", message=r"FragilityMap needs training images, so they are in")
        folder = method.save(tmp_path / "saved")
    other = make_unet()  # the same weights in another place
    for loaded in (type(method).load(folder, other), load(folder, other)):
        assert type(loaded) is type(method)
        assert loaded.unet is other
        assert torch.equal(loaded.uncertainty(images), before)
    if name in HOLD_IMAGES:
        with pytest.warns(UserWarning, match="pass it on only to those who may see them"):
            method.save(tmp_path / "again")


def test_every_public_method_is_saved_here():
    kinds = {type(make(lambda seed: nn.Conv2d(1, 3, 1))) for make in METHODS.values()}
    public = [getattr(confidence, name) for name in confidence.__all__]
    assert {kind for kind in public if isinstance(kind, type) and hasattr(kind, "fit")} <= kinds


def test_a_trained_method_is_loaded_without_its_cohorts(make_unet, cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    from segconf_lite.models.training import Training

    training = Training(steps=2, batch_size=4)
    method = QualityPredictor(training=training, modules=["bottleneck"], validation=cohort)
    folder = method.fit(make_unet(), cohort).save(tmp_path / "saved")
    loaded = QualityPredictor.load(folder, make_unet())
    assert loaded.training == training
    assert loaded.adversary == method.adversary
    assert loaded.validation is None
    assert [row["step"] for row in loaded.network.history] == [row["step"] for row in method.network.history]
    assert torch.equal(loaded.uncertainty(cohort.images), method.uncertainty(cohort.images))


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_fitted_is_not_saved(name, make_unet, tmp_path):
    with pytest.raises(ValueError, match=r"is not fitted: call \.fit"):
        METHODS[name](make_unet).save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(saved, make_unet, cohort, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (saved[1], tmp_path / "file", tmp_path):
        with pytest.raises(ValueError, match=r"folder must be new or empty, got .*holds something"):
            PredictiveEntropy().fit(make_unet(), cohort).save(folder)
    (tmp_path / "empty").mkdir()
    PredictiveEntropy().fit(make_unet(), cohort).save(tmp_path / "empty")


def test_a_network_of_another_package_is_not_saved(make_unet, cohort, tmp_path):
    method = DeepEnsemble(members=[nn.Conv2d(1, 3, 1)]).fit(make_unet(), cohort)
    with pytest.raises(
        ValueError, match=r"_trained must be networks of this package .*got torch\.nn.*Conv2d"
    ):
        method.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_an_evaluated_network_of_another_package_may_be_used(cohort, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 1))
    method = PooledMahalanobis(module="1").fit(network, cohort)
    loaded = load(method.save(tmp_path / "saved"), network)
    assert torch.equal(loaded.uncertainty(cohort.images), method.uncertainty(cohort.images))


def test_another_network_class_or_version_is_refused(saved, make_unet, monkeypatch):
    unet, folder = saved
    with pytest.raises(ValueError, match=r"network must be the one of the fit .*got one with other weights"):
        load(folder, make_unet(1))
    with pytest.raises(
        ValueError, match=r"a LatentMahalanobis, got PooledMahalanobis; use PooledMahalanobis\.l"
    ):
        LatentMahalanobis.load(folder, unet)
    with pytest.raises(FileNotFoundError, match="there is no saved method in"):
        load(folder / "nothing", unet)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "_VERSION", "segconf_lite 9.0.0, format 1")
        with pytest.raises(
            ValueError, match=r"must be of segconf_lite 9\.0\.0, format 1, got .*fit it again"
        ):
            load(folder, unet)
    monkeypatch.setattr(saving, "device_of", lambda _: torch.device("cuda"))
    if pick_device().type == "cpu":
        with pytest.raises(ValueError, match="network must be on the CPU, as in the fit, got on cuda"):
            load(folder, unet)


def test_a_damaged_byte_is_refused_in_every_file(saved):
    unet, folder = saved
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for position in {0, len(content) - 1, *rng.integers(0, len(content), 20).tolist()}:
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"must be .*damaged or missing|must be a folder with"):
                load(folder, unet)
        path.write_bytes(content[:-2])
        with pytest.raises(ValueError, match="damaged or missing"):
            load(folder, unet)
        path.write_bytes(content)
    load(folder, unet)
    (folder / "arrays.safetensors").unlink()
    with pytest.raises(ValueError, match=r"arrays\.safetensors in .* must be as it was written"):
        load(folder, unet)


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "subprocess:Popen"])
def test_a_folder_cannot_name_code_of_others(saved, name):
    """Even one whose sums were made to fit."""
    unet, folder = saved
    record = json.loads((folder / "method.json").read_text())
    record["state"]["_shape"] = {"class": name, "fields": {}}
    content = json.dumps(record).encode()
    (folder / "method.json").write_bytes(content)
    lines = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if "json" not in line]
    (folder / "SHA256SUMS").write_text(
        "\n".join([*lines, f"{hashlib.sha256(content).hexdigest()}  method.json\n"])
    )
    with pytest.raises(ValueError, match=f"'{name}' is not a class of this package"):
        load(folder, unet)


# -- weights from elsewhere ---------------------------------------------------------------------------------


def on_the_cpu(network):
    return {name: value.cpu() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("form", ["safetensors", "plain", "nested", "parallel"])
def test_weights_of_a_checkpoint_arrive(make_unet, tmp_path, form):
    trained = make_unet(1)
    state, path = on_the_cpu(trained), tmp_path / "weights.pt"
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        path.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in state.items()}))
    elif form == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save(state if form == "plain" else {"epoch": 3, "state_dict": state}, path)
    network = make_unet(2).train()
    assert load_weights(network, path) is network
    assert not network.training
    assert all(torch.equal(on_the_cpu(network)[name], value) for name, value in state.items())


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was run",))


def test_a_checkpoint_with_more_than_weights_is_refused_and_says_why(make_unet, tmp_path):
    unet, path = make_unet(), tmp_path / "weights.pt"
    torch.save({"state_dict": on_the_cpu(unet), "more": Evil()}, path)
    with pytest.raises(ValueError, match=r"weights only, got Python objects.*run any code; .*torch\.save\("):
        load_weights(make_unet(1), path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"weights\.pt must be a file of weights only"):
        load_weights(make_unet(1), path)


def test_weights_that_do_not_fit_are_refused_and_change_nothing(make_unet, tmp_path):
    unet, path = make_unet(), tmp_path / "weights.pt"
    before = {name: value.clone() for name, value in on_the_cpu(unet).items()}
    for content, message in (
        (on_the_cpu(make_unet(n_classes=4)), r"2 differ, first: head\.bias \(4,\) for \(3,\), head\.weight"),
        ({"a": torch.ones(1)}, r"1; \d+ differ, first: a \(1,\) for none, "),
        ({name: value * float("nan") for name, value in before.items()}, "weights that are finite, got NaN"),
        ({"epoch": 3}, r"a state dictionary, alone or under one of .*got \['epoch'\]"),
        ([1, 2], "a state dictionary, alone or under one of .*got list"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load_weights(unet, path)
    for name in ("weights.pt", "weights.safetensors"):
        (tmp_path / name).write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match=f"{name} must be a "):
            load_weights(unet, tmp_path / name)
    assert all(torch.equal(on_the_cpu(unet)[name], value) for name, value in before.items())
