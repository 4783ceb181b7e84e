import numpy as np
import pytest
import torch
from scipy import stats

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import phantom
from segconf_lite.fragility import FragilityMap, check_closed_form


@pytest.fixture(scope="module")
def setting(unet, train):
    images = phantom.cohort(2, size=32, seed=9).images
    with torch.no_grad():
        best = unet(images).topk(2, dim=1).values
    lead = to_numpy(best[:, 0] - best[:, 1])
    order = np.argsort(lead, axis=None)[np.linspace(2, 900, 12).astype(int)]
    return unet, train, images, np.stack(np.unravel_index(order, lead.shape), axis=1)


def test_close_where_costs_are_small_and_in_the_same_order_everywhere(setting):
    closed, exact = check_closed_form(*setting, n_training=4000)
    assert (exact > 0).all()
    assert stats.spearmanr(closed, exact).statistic > 0.9
    small = exact < 1e-4
    assert small.sum() >= 3
    np.testing.assert_allclose(closed[small], exact[small], rtol=0.25)


def test_closed_form_is_that_of_the_map(setting):
    unet, train, images, pixels = setting
    closed, _ = check_closed_form(unet, train, images, pixels[:2], n_training=24 * 32 * 32)
    cost = FragilityMap().fit(unet, train).flip_cost(images).numpy()[tuple(pixels[:2].T)]
    np.testing.assert_allclose(closed, cost, rtol=1e-2)
