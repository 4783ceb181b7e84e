import copy

import pytest
import torch
from torch import nn

from segconf_lite.cohorts import phantom
from segconf_lite.fragility.decomposition import decompose
from segconf_lite.fragility.weight_noise import WeightNoise
from segconf_lite.models.fit import fit_unet


class AlwaysBackground(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([2.0, 0, 0]))

    def forward(self, images):
        return self.bias[None, :, None, None].expand(len(images), -1, *images.shape[2:])


@pytest.fixture(scope="module")
def hearts():
    return phantom.cohort(24, size=32)


@pytest.fixture(scope="module")
def trained(hearts):
    return fit_unet(
        hearts,
        validation=hearts,
        channels=(4, 6, 8),
        steps=60,
        batch_size=16,
        learning_rate=1e-2,
        seed=2,
        precision="fp32",
        device="cpu",
        progress=False,
    )


@pytest.mark.parametrize("budget", [0.003, 0.1])
def test_noise_costs_the_budget(trained, hearts, budget):
    tensors, random_state = copy.deepcopy(trained.state_dict()), torch.get_rng_state()
    method = WeightNoise(budget=budget, n_samples=4, n_penalty=8, precision="fp32").fit(trained, hearts)
    assert method.rises.mean() == pytest.approx(budget, rel=0.1)
    assert method.rises.shape == (4,)
    samples = torch.cat(list(method.samples(hearts.images[:3])), dim=1)
    assert samples.shape == (4, 3, 4, 32, 32)
    assert decompose(samples).epistemic.mean() > 0
    assert torch.get_rng_state().equal(random_state)
    assert all(value.equal(tensors[name]) for name, value in trained.state_dict().items())


def test_noise_is_seeded_and_grows_with_the_budget(trained, hearts):
    options = {"n_samples": 3, "n_penalty": 8, "precision": "fp32", "measure": "mutual_information"}
    small, again, large = (
        WeightNoise(budget=budget, **options).fit(trained, hearts) for budget in (0.003, 0.003, 0.1)
    )
    assert small.scale == again.scale < large.scale
    maps = [method.uncertainty_map(hearts.images[:3]) for method in (small, again, large)]
    assert maps[0].equal(maps[1])
    assert maps[0].mean() < maps[2].mean()


def test_noise_without_a_budget_is_refused():
    with pytest.raises(ValueError, match=r"budget must be a number > 0, got 0\.0"):
        WeightNoise(budget=0.0)
    with pytest.raises(ValueError, match="n_samples must be an integer >= 2, got 1; a single prediction"):
        WeightNoise(budget=0.1, n_samples=1)
    with pytest.raises(ValueError, match="not fitted"):
        WeightNoise(budget=0.1).uncertainty(torch.zeros(1, 1, 16, 16))


def test_noise_that_cannot_reach_the_budget_is_refused(cohort):
    with pytest.raises(ValueError, match="no noise raises the training loss by 1000"):
        WeightNoise(budget=1000.0, n_samples=2, n_penalty=2).fit(AlwaysBackground(), cohort)
