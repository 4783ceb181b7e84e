import numpy as np
import pytest
import torch

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import phantom
from segconf_lite.confidence import FragilityMap
from segconf_lite.fragility import HeadSearch, MaskSearch, PixelSearch, TangentSearch
from segconf_lite.models.unet import UNet

SEARCHES = {
    "head": HeadSearch(),
    "head, with gradient": HeadSearch(gradient=True),
    "decoder": TangentSearch(n_draws=4, n_slices=8),
    "mask": MaskSearch(steps=2, n_penalty=4, learning_rate=1e-3),
}


@pytest.fixture(scope="module")
def images():
    return phantom.cohort(3, size=32, seed=9, scanner="D").images


@pytest.mark.parametrize("name", SEARCHES)
def test_maps_have_their_range_and_the_network_is_untouched(name, unet, train, images):
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    random_state, training = torch.get_rng_state(), unet.training
    method = FragilityMap(search=SEARCHES[name], budget=1e-2).fit(unet, train)
    values, cost = method.uncertainty_map(images), method.flip_cost(images)
    assert values.shape == cost.shape == (3, 32, 32)
    assert 0 <= values.min() <= values.max() <= 1
    assert values.std() > 0.01
    assert not cost.isnan().any()
    per_case = method.uncertainty(images)
    assert per_case.shape == (3,)
    assert per_case.isfinite().all()
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
    assert all(weight.requires_grad for weight in unet.parameters())
    assert torch.equal(random_state, torch.get_rng_state())
    assert unet.training == training


@pytest.mark.parametrize("name", ["head", "head, with gradient", "decoder"])
def test_a_larger_budget_never_shrinks_the_fragile_set(name, unet, train, images):
    before, fragile = 0, torch.zeros(3, 32, 32, dtype=torch.bool)
    for budget in (1e-8, 1e-6, 1e-4, 1e-2, 1):
        method = FragilityMap(search=SEARCHES[name], budget=budget).fit(unet, train)
        values, now = method.uncertainty_map(images), method.fragile(images)
        assert (values >= before - 1e-6).all()
        assert (now | ~fragile).all()
        assert ((values > 0.5) == now).float().mean() > 0.999  # equal but for rounding at the line itself
        before, fragile = values, now
    assert fragile.float().mean() > 0.5


def test_order_of_training_cases_and_size_of_batches_do_not_matter(unet, train, images):
    shuffled = train.take(np.random.default_rng(0).permutation(24))
    costs = [
        FragilityMap(batch_size=size).fit(unet, cohort).flip_cost(images)
        for size, cohort in ((16, train), (5, shuffled))
    ]
    torch.testing.assert_close(costs[0], costs[1], rtol=1e-2, atol=1e-7)


def test_sure_pixels_cost_more_than_doubtful_ones(unet, train, images):
    cost = FragilityMap().fit(unet, train).flip_cost(images).numpy().ravel()
    with torch.no_grad():
        best = unet.eval()(images).topk(2, dim=1).values
    lead = to_numpy(best[:, 0] - best[:, 1]).ravel()
    assert np.corrcoef(np.argsort(np.argsort(cost)), np.argsort(np.argsort(lead)))[0, 1] > 0.5


def test_search_of_every_pixel_on_a_small_image(unet, train, images):
    search = PixelSearch(modules=("head",), steps=15, n_penalty=4, learning_rate=2e-2)
    method = FragilityMap(search=search, budget=1e-3).fit(unet, train)
    small = images[:1, :, 8:16, 8:16]
    cost, values = method.flip_cost(small), method.uncertainty_map(small)
    assert cost.shape == (1, 8, 8)
    assert cost.isfinite().float().mean() > 0.5
    torch.testing.assert_close(values, 1e-3 / (1e-3 + cost.clamp(min=0)))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_network_in_train_mode_is_asked_in_eval_mode_and_stays_as_it_is(name, unet, train, images):
    method = FragilityMap(search=SEARCHES[name], budget=1e-2).fit(unet, train)
    ask = [method.flip_cost, method.uncertainty_map] + [method.decompose] * (name == "mask")
    expected = [torch.stack(list(found)) for found in (act(images) for act in ask)]
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    unet.train()
    try:
        answers = [torch.stack(list(act(images))) for act in ask]
        modes = {module.training for module in unet.modules()}
    finally:
        unet.eval()
    assert modes == {True}
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
    assert all(map(torch.equal, answers, expected))


@pytest.mark.parametrize("setting", ["a", "b"])
def test_parts_of_the_mixture_sum(setting, unet, train, images):
    method = FragilityMap(search=SEARCHES["mask"], budget=1e-2).fit(unet, train)
    parts = method.decompose(images, setting=setting)
    torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic, atol=1e-6, rtol=0)
    if setting == "a":
        torch.testing.assert_close(parts.total / np.log(4), method.uncertainty_map(images))


def test_an_empty_answer_gives_no_nan(train):
    unet = UNet(n_classes=4, channels=(4, 6, 8)).eval()
    with torch.no_grad():
        unet.head.bias[:] = torch.tensor([50.0, 0, 0, 0])
    for search in (SEARCHES["head"], SEARCHES["mask"]):
        method = FragilityMap(search=search, budget=1e-3).fit(unet, train)
        assert method.uncertainty_map(train.images[:2]).isfinite().all()
        torch.testing.assert_close(method.uncertainty(train.images[:2]), torch.ones(2))  # nothing found


def test_bad_use(unet, train, images):
    with pytest.raises(ValueError, match=r"search must be one of .*'mask'.*got 'voxel'"):
        FragilityMap(search="voxel")
    for budget in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=r"budget must be a (finite )?number > 0, got .*nats"):
            FragilityMap(budget=budget)
    with pytest.raises(ValueError, match="not fitted"):
        FragilityMap().flip_cost(images)
    with pytest.raises(ValueError, match="must be a 1x1 Conv2d"):
        FragilityMap(search=HeadSearch(head="penultimate")).fit(unet, train)
    with pytest.raises(ValueError, match='decompose needs FragilityMap\\(search="mask"\\)'):
        FragilityMap().fit(unet, train).decompose(images)
