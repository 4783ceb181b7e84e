"""The contract for devices: inputs from anywhere and never changed, results on the CPU.

On a machine without a GPU this is tried twice, plainly and with ``--pretend-device``.
"""

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite import confidence, fragility
from segconf_lite.arrays import to_numpy
from segconf_lite.confidence import pixels
from segconf_lite.confidence.adversary import perturb, random_step
from segconf_lite.confidence.baselines import one_pass_columns, sampled_columns
from segconf_lite.confidence.distortion import distortion_columns
from segconf_lite.confidence.heads import beta_interval, probability_below
from segconf_lite.fragility import check_closed_form
from segconf_lite.models import (
    ActivationAutoencoder,
    Training,
    fit_autoencoder,
    fit_unet,
    fitted,
    predict_probabilities,
)
from segconf_lite.models.device import device_of, pick_device
from segconf_lite.models.splice import splice
from segconf_lite.stress import attacks, masking, smoothing, windows

PLACES = sorted({"cpu", str(pick_device())})
QUICK = {"steps": 3, "batch_size": 4, "precision": "fp32", "progress": False}
BALL = {"eps": 0.1, "unit": "sd", "bounds": None}


@pytest.fixture(autouse=True)
def _store(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))


@pytest.fixture
def unet(make_unet):
    return make_unet()


def coded(unet):
    shape = tuple(unet.encode(np.zeros((1, 1, 16, 16), np.float32))[1].shape[1:])
    return ActivationAutoencoder(shape=shape, code=4, width=3, depth=1).eval().to(device_of(unet))


def methods(unet, cohort):
    """Every method of `confidence` and `fragility`, small."""
    few = {"precision": "fp32", "measure": "mutual_information"}
    sampler = confidence.TestTimeAugmentation(transforms=("identity", "brighter"))
    searched = {"steps": 2, "modules": ("head",), "n_penalty": 2}
    training = Training(steps=3, batch_size=4, precision="fp32")
    given = {
        "entropy": confidence.PredictiveEntropy(),
        "maximum": confidence.MaximumProbability(),
        "margin": confidence.ProbabilityMargin(),
        "dropout": confidence.MCDropout(n_samples=2, **few),
        "ensemble": confidence.DeepEnsemble(members=[unet], **few),
        "test time": confidence.TestTimeAugmentation(transforms=("identity", "darker"), **few),
        "agreement": confidence.ScoreAgreement(sampler),
        "distance": confidence.PooledMahalanobis(),
        "code distance": confidence.LatentMahalanobis(autoencoder=coded(unet)),
        "distortion": confidence.SegmentationDistortion(autoencoder=coded(unet)),
        "quality": confidence.QualityPredictor(training=training),
        "beta": confidence.BetaQualityPredictor(training=training),
        "last layer": fragility.FragilityMap(search="head"),
        "decoder": fragility.FragilityMap(search=fragility.TangentSearch(n_draws=2, n_slices=2)),
        "masks": fragility.FragilityMap(search=fragility.MaskSearch(steps=1, n_penalty=2)),
        "pixels": fragility.FragilityMap(search=fragility.PixelSearch(**searched)),
    }
    return {name: method.fit(unet, cohort) for name, method in given.items()}


def results_of(name, method, images):
    """Everything that a fitted method can be asked for, by the name of the question."""
    asked = [
        "uncertainty",
        "uncertainty_map",
        "predicted_quality",
        "predicted_quality_per_class",
        "flip_cost",
    ]
    asked += ["concentration", "interval", "probability_below", "both_probabilities", "uncertainty_per_class"]
    asked += ["predictions"]
    found = {each: getattr(method, each)(images) for each in asked if hasattr(method, each)}
    if hasattr(method, "perturbed"):
        found["perturbed"] = method.perturbed(images, alpha=0.1)
    if name == "masks":
        found["decompose"] = method.decompose(images)
    return found


def check_on_cpu(found, what):
    if isinstance(found, torch.Tensor):
        assert found.device.type == "cpu", f"{what} lies on {found.device}"
        to_numpy(found)
    elif isinstance(found, dict):
        for key, value in found.items():
            check_on_cpu(value, f"{what}, {key}")
    elif isinstance(found, list | tuple):
        for number, value in enumerate(found):
            check_on_cpu(value, f"{what}, part {number}")


@pytest.mark.parametrize("place", PLACES)
def test_methods_take_images_from_anywhere_and_answer_on_the_cpu(unet, cohort, place):
    unet.to(place)
    images = cohort.images[:1]
    for name, method in methods(unet, cohort).items():
        answers = []
        for given in (images, torch.from_numpy(images), torch.tensor(images, device=pick_device())):
            before = to_numpy(given).copy()
            found = results_of(name, method, given)
            check_on_cpu(found, name)
            assert np.array_equal(to_numpy(given), before), f"{name} changed its input"
            answers.append(to_numpy(found["uncertainty"]))
        assert answers[0] == pytest.approx(answers[1], abs=1e-6, nan_ok=True), name
        assert answers[0] == pytest.approx(answers[2], abs=1e-6, nan_ok=True), name


class InPlace(nn.Module):
    """A network that normalises its input in place, as some published ones do."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.features = nn.Conv2d(1, 4, 3, padding=1)
            self.bottleneck, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, images):
        images.mul_(2).sub_(images.mean(dim=(2, 3), keepdim=True))
        return self.head(self.bottleneck(self.features(images).relu()).relu())


def test_a_network_that_works_in_place_gives_the_same_answers_and_leaves_images_alone(cohort):
    network, images = InPlace().to(pick_device()), torch.from_numpy(cohort.images[:2])
    whole = methods_of_any_network(network, cohort)
    for name, method in whole.items():
        before = images.clone()
        of_torch = method(images)
        assert torch.equal(images, before), f"{name} changed the images"
        again, of_numpy = method(images), method(to_numpy(before))
        for one, other in ((of_torch, again), (of_torch, of_numpy)):
            assert to_numpy(one) == pytest.approx(to_numpy(other), abs=1e-6), name


def methods_of_any_network(network, cohort):
    labels = cohort.labels[:2]
    coder = ActivationAutoencoder(shape=(4, 16, 16), code=4, width=3, depth=1).eval().to(device_of(network))
    training = Training(steps=3, batch_size=4, precision="fp32")
    reading = {"modules": ("bottleneck",), "training": training}
    tangent = fragility.TangentSearch(modules=("head",), n_draws=2, n_slices=2)
    penalty = fragility.penalty_set(network, cohort, n_images=2)
    masks, search = (
        fragility.MaskSearch(steps=1, n_penalty=2),
        fragility.PixelSearch(steps=2, modules=("head",)),
    )
    twice = {"transforms": ("identity", "brighter"), "precision": "fp32"}
    few = {"members": [network], "precision": "fp32"}
    spots = np.array([[0, 3, 3], [1, 5, 5]])
    fitted = {
        "entropy": confidence.PredictiveEntropy(),
        "ensemble": confidence.DeepEnsemble(measure="mutual_information", **few),
        "test time": confidence.TestTimeAugmentation(measure="mutual_information", **twice),
        "distance": confidence.PooledMahalanobis(),
        "distortion": confidence.SegmentationDistortion(autoencoder=coder),
        "quality": confidence.QualityPredictor(**reading),
        "last layer": fragility.FragilityMap(search="head"),
        "tangent": fragility.FragilityMap(search=tangent),
        "masks": fragility.FragilityMap(search=masks),
    }
    calls = {name: method.fit(network, cohort).uncertainty for name, method in fitted.items()}
    return calls | {
        "probabilities": lambda x: predict_probabilities(network, x),
        "windows": lambda x: windows.window_probabilities(network, x, window=8, overlap=0.5),
        "pgd": lambda x: attacks.pgd(network, x, labels, steps=2, **BALL).images,
        "loss": lambda x: attacks.case_loss(network, x, labels),
        "search of masks": lambda x: fragility.search_masks(network, x[0], penalty, masks, budget=1.0).rises,
        "search of pixels": lambda x: fragility.search_pixels(network, x, spots, cohort, search).cost,
        "splice": lambda x: splice(network, "bottleneck").logits(*splice(network, "bottleneck").read(x)[1:]),
    }


def test_functions_of_tensors_answer_on_the_cpu(unet, cohort):
    place, generator = pick_device(), torch.Generator().manual_seed(0)
    images = torch.tensor(cohort.images[:2], device=place)
    answer = predict_probabilities(unet, images)
    there, labels = answer.to(place), answer.argmax(dim=1).to(place)
    ball = {"images": images, **BALL}
    aim = {"network": unet, "images": images, "labels": labels}
    penalty = fragility.penalty_set(unet, cohort, n_images=2)
    spots = np.array([[0, 3, 3], [1, 5, 5]])
    mean = torch.full((2,), 0.5, device=place)
    found = {
        "perturb": perturb(images, images, alpha=0.1),
        "random step": random_step(images, mean, generator),
        "entropy": pixels.entropy(there),
        "maximum": pixels.max_probability_uncertainty(there),
        "margin": pixels.margin_uncertainty(there),
        "aggregate": pixels.aggregate(
            pixels.entropy(there), labels, aggregation="mean", region="boundary", band_px=1
        ),
        "one pass": one_pass_columns(there),
        "samples": sampled_columns(
            {"tta": confidence.TestTimeAugmentation(precision="fp32").fit(unet, cohort)}, images
        ),
        "distortion": distortion_columns(there, there.flip(0)),
        "beta": beta_interval(mean, 10 * mean),
        "below": probability_below(mean, 10 * mean, 0.8),
        "ring": fragility.geometry_ring(labels, n_classes=3),
        "decompose": fragility.decompose(there[None], reference=there, setting="b"),
        "penalty set": penalty._asdict(),
        "masks": fragility.search_masks(
            unet, images[0], penalty, fragility.MaskSearch(steps=1), budget=1.0
        )._asdict(),
        "flips": fragility.search_pixels(
            unet, images, spots, cohort, fragility.PixelSearch(steps=2, modules=("head",))
        )._asdict(),
        "convex": check_closed_form(unet, cohort, images, spots, n_training=20)._asdict(),
        "windows": windows.window_probabilities(unet, images, window=8),
        "pgd": attacks.pgd(**aim, steps=1, **BALL)._asdict(),
        "apgd": attacks.apgd(**aim, steps=1, **BALL)._asdict(),
        "noise": attacks.random_noise(**ball, norm="l2", generator=generator)._asdict(),
        "gradient": attacks.loss_gradient(**aim),
        "certified": smoothing.certified_segmentation(
            unet, images[:1], sigma=0.1, generator=generator, n_samples=60, n_choose=2
        )._asdict(),
        "epsilon": attacks.epsilon_per_image(images, 0.1, unit="sd"),
    }
    for name, result in found.items():
        check_on_cpu(result, name)
    report = masking.masking_report(**aim, generator=generator, steps=(1,), **BALL)
    assert np.isfinite(report["loss"]).all()


def test_what_a_search_found_starts_a_wider_search(unet, cohort):
    """Weights come back on the CPU, and go to the device again."""
    spots, options = np.array([[0, 3, 3]]), {"steps": 2, "n_penalty": 2}
    first = fragility.search_pixels(
        unet, cohort.images, spots, cohort, fragility.PixelSearch(modules=("head",), **options)
    )
    second = fragility.search_pixels(
        unet, cohort.images, spots, cohort, fragility.PixelSearch(**options), start=first.weights
    )
    assert to_numpy(first.history)[:, 0].shape == (2,)
    assert float(second.history[0]) == pytest.approx(float(first.cost), rel=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_an_autoencoder_lies_where_its_network_lies_trained_or_read(cohort, place):
    unet = fit_unet(cohort, validation=cohort, steps=2, channels=(4, 6, 8), device=place, progress=False)
    for _ in range(2):  # the second one is read from the store
        coder = fitted(fit_autoencoder, unet, cohort, validation=cohort, code=4, width=3, depth=1, **QUICK)
        assert device_of(coder) == device_of(unet)
        activation = splice(unet).activation(cohort.images[:2])
        assert coder(activation).device == activation.device


@pytest.mark.skipif(len(PLACES) < 2, reason="one device only; run with --pretend-device or on a GPU")
def test_a_network_that_was_moved_after_fit_is_refused(unet, cohort):
    fitted = methods(unet, cohort)
    unet.to("cpu")
    parts = {"distortion": "autoencoder", "code distance": "autoencoder", "quality": "predictor"}
    parts |= dict.fromkeys(("last layer", "decoder", "pixels", "masks"), "fitted search")
    for name, part in parts.items():
        with pytest.raises(ValueError, match=rf"the {part} lies on .* and the network on cpu; move"):
            fitted[name].uncertainty(cohort.images)
    for name in ("entropy", "distance"):  # what they learned is on the CPU anyway
        assert fitted[name].uncertainty(cohort.images).device.type == "cpu"
