import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.arrays import to_numpy
from segconf_lite.confidence import LatentMahalanobis, SegmentationDistortion
from segconf_lite.confidence.distortion import distortion_columns
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.device import pick_device
from segconf_lite.models.splice import TapSplice
from segconf_lite.models.taps import Taps

SMALL = {"code": 4, "width": 4, "depth": 1}
TRAINING = {**SMALL, "steps": 3, "batch_size": 4, "precision": "fp32", "progress": False}


class Perturbation(nn.Module):
    """Adds a fixed pattern of a stated size, in place of an autoencoder."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, activation):
        pattern = torch.randn(activation.shape[1:], generator=torch.Generator().manual_seed(0))
        return activation + self.size * pattern.to(activation)


def coder_for(shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ActivationAutoencoder(shape=shape, **SMALL).eval().to(pick_device())


def softmax_numpy(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_equation_4_in_plain_numpy(make_unet, cohort):
    unet, coder = make_unet(), coder_for((8, 4, 4))
    with torch.no_grad():
        skips, activation = unet.encode(cohort.images)
        plain = softmax_numpy(to_numpy(unet.decode(skips, activation), np.float64))
        altered = softmax_numpy(to_numpy(unet.decode(skips, coder(activation)), np.float64))
    n_cases, n_classes, height, width = plain.shape
    expected, per_class = np.zeros(n_cases), np.zeros((n_cases, n_classes))
    for k in range(n_cases):
        for c in range(n_classes):
            for row in range(height):
                for column in range(width):
                    change = (plain[k, c, row, column] - altered[k, c, row, column]) ** 2
                    expected[k] += change / (n_classes * height * width)
                    per_class[k, c] += change / (height * width)
    method = SegmentationDistortion(autoencoder=coder).fit(unet, cohort)
    assert method.uncertainty(cohort.images).numpy() == pytest.approx(expected, abs=1e-5, rel=1e-4)
    assert method.uncertainty_per_class(cohort.images).numpy() == pytest.approx(per_class, abs=1e-5)
    found = method.uncertainty_map(cohort.images).mean(dim=(1, 2)).numpy()
    assert found == pytest.approx(expected, abs=1e-5)
    assert expected.max() > 1e-3  # the comparison is not one of zeros


def test_latent_distance_in_plain_numpy(make_unet, cohort):
    from sklearn.covariance import ledoit_wolf

    unet, coder = make_unet(), coder_for((8, 4, 4))
    source = dataclasses.replace(
        cohort,
        images=np.random.default_rng(1).normal(size=(40, 1, 16, 16)).astype(np.float32),
        labels=np.zeros((40, 16, 16), np.int64),
        domains=np.repeat("A", 40),
        subjects=np.arange(40).astype(str),
        spacing_mm=np.ones((40, 2)),
        sessions=None,
    )
    with torch.no_grad():
        codes, test = (to_numpy(coder.encode(unet.encode(c.images)[1]), np.float64) for c in (source, cohort))
    inverse = np.linalg.inv(ledoit_wolf(codes)[0])
    expected = [np.sqrt((x - codes.mean(0)) @ inverse @ (x - codes.mean(0))) for x in test]
    method = LatentMahalanobis(autoencoder=coder).fit(unet, source)
    assert method.uncertainty(cohort.images).numpy() == pytest.approx(expected, rel=1e-5)
    squared = LatentMahalanobis(autoencoder=coder, squared=True).fit(unet, source)
    assert squared.uncertainty(cohort.images).numpy() == pytest.approx(np.square(expected), rel=1e-4)


def test_an_identity_gives_zero_and_a_larger_change_more(make_unet, cohort):
    unet = make_unet()
    mean = {
        size: float(
            SegmentationDistortion(autoencoder=Perturbation(size))
            .fit(unet, cohort)
            .uncertainty(cohort.images)
            .mean()
        )
        for size in (0.0, 0.1, 0.3, 1.0, 3.0)
    }
    assert mean[0.0] < 1e-12
    assert list(mean.values()) == sorted(mean.values())
    assert mean[3.0] > 10 * mean[0.1]
    exact = SegmentationDistortion(autoencoder=nn.Identity()).fit(unet, cohort)
    assert exact.uncertainty(cohort.images).max() == 0
    plain, altered = exact.both_probabilities(cohort.images)
    assert torch.equal(plain, altered)


def test_both_ways_through_the_network_give_the_same_number(make_unet, cohort):
    unet, coder = make_unet(), coder_for((8, 4, 4))
    cut = SegmentationDistortion(autoencoder=coder).fit(unet, cohort)
    tapped = SegmentationDistortion(autoencoder=coder).fit(unet, cohort)
    tapped._opened = TapSplice(unet, "bottleneck")
    torch.testing.assert_close(
        cut.uncertainty(cohort.images), tapped.uncertainty(cohort.images), atol=1e-6, rtol=0
    )
    assert tapped.uncertainty(cohort.images).max() > 1e-3


def test_order_and_batches_do_not_matter(make_unet, cohort):
    method = SegmentationDistortion(autoencoder=coder_for((8, 4, 4)), batch_size=2).fit(make_unet(), cohort)
    plain = method.uncertainty(cohort.images)
    turned = method.uncertainty(cohort.images[::-1].copy())
    torch.testing.assert_close(turned.flip(0), plain, atol=1e-7, rtol=1e-5)
    method.batch_size = 64
    torch.testing.assert_close(method.uncertainty(cohort.images), plain, atol=1e-7, rtol=1e-5)


def test_bounds(make_unet, cohort):
    method = SegmentationDistortion(autoencoder=Perturbation(100.0)).fit(make_unet(), cohort)
    maps = method.uncertainty_map(cohort.images)
    assert (maps >= 0).all()
    assert (maps <= 2 / 3).all()  # two of three classes change by 1
    assert (method.uncertainty_per_class(cohort.images) <= 1).all()


@pytest.mark.filterwarnings("ignore:.*training vectors")
def test_monai_networks_work_unchanged(monai_networks, large_cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    for network, name in monai_networks:
        distortion = SegmentationDistortion(module=name, training=TRAINING).fit(network, large_cohort)
        found = distortion.uncertainty(large_cohort.images)
        assert torch.isfinite(found).all()
        assert found.max() > 0
        latent = LatentMahalanobis(module=name, autoencoder=distortion.autoencoder).fit(network, large_cohort)
        assert torch.isfinite(latent.uncertainty(large_cohort.images)).all()
        network.eval()
        with torch.no_grad(), Taps(network, here=name) as taps:
            plain = network(torch.from_numpy(large_cohort.images)).softmax(1)
            with taps.replacing(here=distortion.autoencoder):
                altered = network(torch.from_numpy(large_cohort.images)).softmax(1)
        torch.testing.assert_close(found, (plain - altered).square().mean((1, 2, 3)), atol=1e-6, rtol=1e-4)


def test_a_second_fit_learns_another_autoencoder_and_a_given_one_is_kept(
    make_unet, cohort, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    method = SegmentationDistortion(training=TRAINING)
    first = method.fit(make_unet(0), cohort).autoencoder
    second = method.fit(make_unet(1), cohort).autoencoder
    assert not torch.equal(first.to_code.weight, second.to_code.weight)
    given = SegmentationDistortion(autoencoder=first)
    assert given.fit(make_unet(1), cohort).autoencoder is first


def test_bad_use(make_unet, cohort):
    with pytest.raises(ValueError, match=r"SegmentationDistortion is not fitted: call \.fit"):
        SegmentationDistortion().uncertainty(cohort.images)
    with pytest.raises(ValueError, match=r"LatentMahalanobis is not fitted: call \.fit"):
        LatentMahalanobis().uncertainty(cohort.images)
    with pytest.raises(ValueError, match=r"no module 'botleneck'; near names: \['bottleneck'"):
        SegmentationDistortion(module="botleneck").fit(make_unet(), cohort)
    method = SegmentationDistortion(autoencoder=coder_for((8, 4, 4))).fit(make_unet(), cohort)
    with pytest.raises(ValueError, match=r"\(8, 4, 4\), got \(6, 8, 2, 2\); crop or pad the images"):
        method.uncertainty(cohort.images[..., :8, :8])
    with pytest.raises(ValueError, match="region must be one of"):
        SegmentationDistortion(region="heart")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="6 training vectors for 8 numbers"):
            LatentMahalanobis(
                autoencoder=ActivationAutoencoder(shape=(8, 4, 4), code=8, width=4).to(pick_device())
            ).fit(make_unet(), cohort)


def test_columns_of_a_known_change():
    plain = torch.zeros(3, 2, 4, 4)
    plain[:, 0] = 1
    plain[0, :, :2, :2] = torch.tensor([0.0, 1.0])[:, None, None]  # four pixels of foreground
    altered = plain.clone()
    altered[0, :, 0, :2] = torch.tensor([1.0, 0.0])[:, None]  # two of them are lost
    altered[1, :, 0, 0] = torch.tensor([0.0, 1.0])  # one is found where there was none
    found = distortion_columns(plain, altered)
    assert found["distortion"] == pytest.approx([2 / 16, 1 / 16, 0])
    assert found["distortion, foreground"] == pytest.approx([2 / 4, 1, 1])  # no foreground: the highest
    assert found["distortion, Dice"] == pytest.approx([1 - 4 / 6, 1, 0])
    with pytest.raises(ValueError, match="plain and altered must be of one shape"):
        distortion_columns(plain, altered[:2])
    with pytest.raises(ValueError, match="altered must be a numpy array or a dense tensor"):
        distortion_columns(plain, altered.tolist())
    with pytest.raises(ValueError, match=r"plain must be in \[0, 1\] with sum 1"):
        distortion_columns(3 * plain, altered)
