import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.arrays import to_numpy
from segconf_lite.confidence import LatentMahalanobis, PooledMahalanobis
from segconf_lite.confidence.distance import GaussianFit, fit_gaussian, pool_activations


def vectors(seed, n=200, d=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def test_distance_in_plain_numpy():
    from sklearn.covariance import ledoit_wolf

    train, test = vectors(0), vectors(1, n=7)
    covariance = ledoit_wolf(train)[0]
    expected = [np.sqrt((x - train.mean(0)) @ np.linalg.inv(covariance) @ (x - train.mean(0))) for x in test]
    assert fit_gaussian(train).distance(test) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [3, 6, 12, 40])
def test_few_vectors_of_many_numbers_have_the_distance_of_the_full_matrix(n):
    from sklearn.covariance import LedoitWolf

    train, test = vectors(0, n=n, d=12), 3 * vectors(1, n=7, d=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit_gaussian(train)
    precision = LedoitWolf().fit(train).precision_
    for x, distance in zip(test, found.distance(test), strict=True):
        assert distance == pytest.approx(np.sqrt((x - train.mean(0)) @ precision @ (x - train.mean(0))))
    assert len(found.directions) <= min(n, 12)
    assert found.rest == pytest.approx(LedoitWolf().fit(train).shrinkage_ * train.var(axis=0).mean())


def test_ten_thousand_numbers_need_no_square_matrix():
    train = np.random.default_rng(0).normal(size=(40, 10_000))
    with pytest.warns(UserWarning, match="40 training vectors for 10000 numbers"):
        found = fit_gaussian(train)
    assert sum(np.size(part) for part in found) < 42 * 10_000
    near, far = found.distance(np.stack([train.mean(axis=0), train[0] + 1]))
    assert near == pytest.approx(0, abs=1e-6)
    assert far > 50


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_units_do_not_matter_and_the_mean_is_nearest(seed):
    train, test = vectors(seed), vectors(seed + 1, n=6)
    plain = fit_gaussian(train).distance(test)
    for unit in (1e-6, 1e6):
        assert fit_gaussian(train * unit).distance(test * unit) == pytest.approx(plain, rel=1e-6)
    assert (plain >= 0).all()
    assert fit_gaussian(train).distance(train.mean(axis=0)[None]) == pytest.approx([0], abs=1e-9)


def test_few_vectors_and_constant_numbers_stay_finite_and_warn():
    train = vectors(0, n=4, d=5)
    train[:, 2] = 7.0
    with pytest.warns(
        UserWarning, match="4 training vectors for 5 numbers: the covariance rests on shrinkage"
    ):
        found = fit_gaussian(train)
    assert np.isfinite(found.distance(vectors(1, n=3))).all()
    with pytest.raises(ValueError, match=r"vectors must be \(n, D\) with n >= 2, got \(1, 5\)"):
        fit_gaussian(train[:1])
    with pytest.raises(ValueError, match="all alike"):
        fit_gaussian(np.ones((5, 3)))


def test_published_pooling_is_once_more():
    activation = torch.randn(3, 96, 12, 12, generator=torch.Generator().manual_seed(0))
    once = pool_activations(activation)  # 13,824 numbers, so pooled once
    more = pool_activations(activation, pooling="published")
    assert (once.shape[1], more.shape[1]) == (1728, 216)
    again = torch.nn.functional.avg_pool3d(once.reshape(3, 1, 48, 6, 6), 2).flatten(1)
    torch.testing.assert_close(more, again)
    assert pool_activations(activation[:, :8, :4, :4], pooling="published").shape == (
        3,
        16,
    )  # few are pooled, too
    assert pool_activations(activation[:, :1, :1, :1], pooling="published").shape == (3, 1)


def test_pooling_keeps_the_mean_and_stays_below_the_ceiling():
    activation = torch.randn(3, 96, 24, 24, generator=torch.Generator().manual_seed(0))
    both = pool_activations(activation)
    assert both.shape == (3, 48 * 12 * 12)
    assert both.mean(1).tolist() == pytest.approx(activation.mean((1, 2, 3)).tolist(), abs=1e-5)
    assert pool_activations(activation, pooling="space").shape == (3, 96 * 6 * 6)
    small = torch.randn(2, 4, 3, 3)
    assert torch.equal(pool_activations(small), small.flatten(1))
    with pytest.raises(ValueError, match=r"pooling must be one of .*got 'max'"):
        pool_activations(activation, pooling="max")


def fitted(unet, cohort, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # six slices
        return PooledMahalanobis(**options).fit(unet, cohort)


def test_it_tells_strange_images_from_familiar_ones(make_unet, cohort):
    unet = make_unet()
    method = fitted(unet, cohort)
    near, far = method.uncertainty(cohort.images), method.uncertainty(8 * cohort.images + 5)
    assert near.shape == (6,)
    assert far.min() > near.max()
    torch.testing.assert_close(fitted(unet, cohort, squared=True).uncertainty(cohort.images), near**2)
    torch.testing.assert_close(method.uncertainty(cohort.images[2:3]), near[2:3])  # no effect of the batch


def test_the_network_is_left_alone_and_any_module_will_do(make_unet, cohort):
    unet = make_unet().train()
    state = torch.get_rng_state()
    method = fitted(unet, cohort, module="encoder.0", pooling="space")
    method.uncertainty(cohort.images)
    assert unet.training
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_hooks for m in unet.modules())


def test_monai_networks_work_unchanged(monai_networks, large_cohort):
    for network, name in monai_networks:
        assert torch.isfinite(
            fitted(network, large_cohort, module=name).uncertainty(large_cohort.images)
        ).all()


def test_bad_use(make_unet, cohort):
    with pytest.raises(ValueError, match=r"not fitted: call \.fit"):
        PooledMahalanobis().uncertainty(cohort.images)
    method = fitted(make_unet(), cohort)
    with pytest.raises(
        ValueError,
        match=r"activations must be of the shape of those in fit, \(8, 4, 4\), got \(8, 2, 2\); crop",
    ):
        method.uncertainty(cohort.images[..., :8, :8])
    with pytest.raises(ValueError, match=r"no module 'botleneck'; near names: \['bottleneck'"):
        PooledMahalanobis(module="botleneck").fit(make_unet(), cohort)


def test_channels_kept_apart_beyond_the_ceiling_are_refused():
    many = torch.zeros(1, 10_001, 2, 2)
    with pytest.raises(ValueError, match="activation must be one of at most 10000 channels, got 10001; use"):
        pool_activations(many, pooling="space")
    assert pool_activations(many).shape == (1, 5000)


def test_activations_and_vectors_that_are_not_finite_are_refused():
    activation = torch.zeros(3, 2, 4, 4)
    activation[2, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"activation must be finite, .* \(first: case 2\)"):
        pool_activations(activation)
    train = vectors(0)
    gaussian = fit_gaussian(train)
    train[7, 1] = np.nan
    for call in (fit_gaussian, gaussian.distance):
        with pytest.raises(ValueError, match=r"vectors must be finite, .* \(first: case 7\)"):
            call(train)
    with pytest.raises(ValueError, match=r"vectors must be non-empty \(n, 5\), got \(2, 4\)"):
        gaussian.distance(np.zeros((2, 4)))


def test_a_distance_too_long_for_float32_is_refused_not_infinite():
    method = PooledMahalanobis(squared=True)
    method._fit = GaussianFit(np.zeros(4), np.eye(4), np.ones(4))
    far = np.full((2, 1, 2, 2), 1e-3)
    far[1] = 1e30
    with pytest.raises(ValueError, match=r"distance in float32 must be finite, .* \(first: case 1\)"):
        method.uncertainty_of_features(far)


def test_stored_activations_give_the_distances_of_the_network(make_unet, cohort):
    unet = make_unet().eval()
    with torch.no_grad():
        features = unet.encode(cohort.images)[1]
    method = fitted(unet, cohort)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = PooledMahalanobis().fit_features(to_numpy(features))
    expected = method.uncertainty(cohort.images)
    torch.testing.assert_close(stored.uncertainty_of_features(features), expected)
    torch.testing.assert_close(method.uncertainty_of_features(features.cpu().double()), expected)
    with pytest.raises(ValueError, match=r"activations must be of the shape of those in fit"):
        stored.uncertainty_of_features(features[..., :2])
    with pytest.raises(ValueError, match="not fitted"):
        stored.uncertainty(cohort.images)  # there is no network
    with pytest.raises(ValueError, match="autoencoder must be a fitted one for fit_features"):
        LatentMahalanobis().fit_features(features)


@pytest.mark.parametrize("size", [1e160, 1e200, 1e-160])
def test_numbers_whose_squares_leave_float64_are_refused(size):
    with pytest.raises(
        ValueError, match=r"vectors must be (of a standard deviation|different from each other)"
    ):
        fit_gaussian(vectors(0) * size)
    with pytest.raises(ValueError, match=r"distance must be finite, .*; scale the vectors"):
        fit_gaussian(vectors(0)).distance(np.full((2, 5), 1e200))
