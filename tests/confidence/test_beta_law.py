import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segconf_lite.confidence.adversary import perturb
from segconf_lite.confidence.heads import (
    beta_interval,
    beta_nll,
    bounded_concentration,
    probability_below,
)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.5, 500), st.floats(0.01, 0.99))
def test_it_is_scipys_beta(mean, concentration, target):
    m, k, y = (torch.tensor([value], dtype=torch.float64) for value in (mean, concentration, target))
    law = stats.beta(mean * concentration, (1 - mean) * concentration)
    assert beta_nll(m, k, y).item() == pytest.approx(-law.logpdf(target), rel=1e-6, abs=1e-6)
    assert probability_below(m, k, target).item() == pytest.approx(law.cdf(target), abs=1e-6)
    low, high = beta_interval(m, k, level=0.9)
    assert [low.item(), high.item()] == pytest.approx(law.ppf([0.05, 0.95]).tolist(), abs=1e-6)


def test_targets_at_the_ends_stay_finite_and_undefined_ones_do_not_count():
    mean = torch.full((4,), 0.5, requires_grad=True)
    wanted = torch.tensor([0.0, 1.0, 0.5, float("nan")])
    terms = beta_nll(mean, torch.full((4,), 300.0), wanted)
    assert torch.isfinite(terms).all()
    assert terms[3] == 0
    terms.sum().backward()
    assert torch.isfinite(mean.grad).all()
    assert mean.grad[3] == 0


def test_the_likelihood_is_best_at_the_truth():
    truth = stats.beta(0.8 * 20, 0.2 * 20).rvs(4000, random_state=0)
    target = torch.from_numpy(truth)
    cost = {
        (m, k): beta_nll(torch.full_like(target, m), torch.full_like(target, k), target).mean().item()
        for m in (0.7, 0.8, 0.9)
        for k in (5.0, 20.0, 80.0)
    }
    assert min(cost, key=cost.get) == (0.8, 20.0)
    low, high = beta_interval(torch.tensor(0.8), torch.tensor(20.0), level=0.9)
    assert np.mean((truth >= low.item()) & (truth <= high.item())) == pytest.approx(0.9, abs=0.02)


def test_damping_weighs_sure_cases_less_and_leaves_unit_concentration_alone():
    mean, target = torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.6])
    concentration = torch.tensor([1.0, 100.0])
    plain, damped = (beta_nll(mean, concentration, target, damping=d) for d in (0.0, 1.0))
    assert damped[0] == plain[0]
    assert damped[1].item() == pytest.approx(plain[1].item() / 100)


def test_concentration_is_bounded_and_rises():
    found = bounded_concentration(torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4]))
    assert found.tolist() == sorted(found.tolist())
    assert found[0] == pytest.approx(0.5)
    assert found[-1] == pytest.approx(500, rel=1e-4)


def test_the_concentration_adversary_makes_the_predictor_less_sure():
    # the sign: a step against the gradient of log concentration must lower it, not raise it
    weight = 0.1 * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def log_concentration(x):
        return bounded_concentration((x * weight).sum(dim=(1, 2, 3))).log()

    before = log_concentration(images)
    gradient = torch.autograd.grad(before.sum(), images)[0]
    after = log_concentration(perturb(images.detach(), gradient, alpha=0.05).images)
    assert (after < before).all()
    assert (before - after).tolist() == pytest.approx([0.05] * 3, rel=0.1)


def test_bad_use():
    one = torch.tensor([0.5])
    with pytest.raises(ValueError, match="mean, concentration and target must be of one shape"):
        beta_nll(one, one, torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"margin must be a number in \(0, 0\.5\)"):
        beta_nll(one, one, one, margin=0.0)
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\], got 2"):
        probability_below(one, one, 2.0)
    with pytest.raises(ValueError, match=r"level must be a number in \(0, 1\), got 1"):
        beta_interval(one, one, level=1.0)
