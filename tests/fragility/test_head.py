import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import nn

from segconf_lite.cohorts import phantom
from segconf_lite.fragility.head import HeadSearch, _accumulate_fisher, _find_head, _head_pass, _head_terms
from segconf_lite.models.unet import UNet


def problem(n=400, width=3, n_classes=3, seed=0):
    """Pixels with features, labels drawn from a softmax, and weights at the optimum of the loss."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, width, generator=generator, dtype=torch.float64)
    rows = torch.cat([rows, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    truth = torch.randn(n_classes, width + 1, generator=generator, dtype=torch.float64)
    labels = torch.multinomial((rows @ truth.T).softmax(dim=1), 1, generator=generator)[:, 0]
    x, y = rows.numpy(), labels.numpy()
    found = optimize.minimize(loss, np.zeros(truth.numel()), args=(x, y), jac=slope, method="BFGS", tol=1e-9)
    return rows, labels, torch.from_numpy(found.x).reshape(truth.shape)


def chances_of(flat, x):
    logits = x @ flat.reshape(-1, x.shape[1]).T
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def loss(flat, x, y):
    return -np.log(chances_of(flat, x)[np.arange(len(y)), y]).mean()


def slope(flat, x, y):
    return ((chances_of(flat, x) - np.eye(len(flat) // x.shape[1])[y]).T @ x).ravel() / len(y)


def as_images(rows, logits, labels):
    return rows.T[None, :, None], logits.T[None, :, None], labels[None, None]


def fisher_of(rows, labels, weights):
    return _accumulate_fisher(*as_images(rows, rows @ weights.T, labels))


def costs(rows, weights, fisher):
    """(N, C) of each row."""
    images = as_images(rows, rows @ weights.T, rows[:, 0])[:2]
    return _head_terms(*images, fisher.inverse(len(weights), damping=1e-9)).cost()[0, :, 0].T


def test_matrix_and_gradient_are_the_derivatives_of_the_loss():
    rows, labels, weights = problem()
    away = weights + 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)).double()

    def total(flat):
        return nn.functional.cross_entropy(rows @ flat.reshape(weights.shape).T, labels)

    fisher = fisher_of(rows, labels, away)
    hessian = torch.autograd.functional.hessian(total, away.flatten())
    torch.testing.assert_close(fisher.matrix, hessian, atol=1e-10, rtol=1e-8)
    gradient = torch.autograd.functional.jacobian(total, away.flatten())
    torch.testing.assert_close(fisher.gradient, gradient, atol=1e-10, rtol=1e-8)


def test_batches_in_any_order_give_the_same():
    rows, labels, weights = problem()
    whole, parts = fisher_of(rows, labels, weights), None
    for index in torch.randperm(400, generator=torch.Generator().manual_seed(0)).split(150):
        parts = _accumulate_fisher(*as_images(rows[index], rows[index] @ weights.T, labels[index]), parts)
    torch.testing.assert_close(parts.matrix, whole.matrix)
    torch.testing.assert_close(parts.gradient, whole.gradient, atol=1e-12, rtol=1e-6)
    assert parts.n_pixels == 400


def test_two_classes_give_the_textbook_formula():
    rows, labels, weights = problem(n_classes=2)
    fisher = fisher_of(rows, labels, weights)
    cost = costs(rows, weights, fisher).amin(dim=1)
    difference = weights[0] - weights[1]
    margin = rows @ difference
    chance = margin.sigmoid()
    binary = rows.T @ ((chance * (1 - chance))[:, None] * rows) / len(rows)
    leverage = ((rows @ torch.linalg.inv(binary)) * rows).sum(dim=1)
    torch.testing.assert_close(cost, margin.square() / (2 * leverage), rtol=1e-4, atol=1e-9)


def test_times_the_pixels_it_is_the_laplace_z_squared_over_two():
    rows, labels, weights = problem(n_classes=2)
    fisher = fisher_of(rows, labels, weights)
    cost = costs(rows, weights, fisher).amin(dim=1)
    covariance = torch.linalg.pinv(len(rows) * fisher.matrix, rtol=1e-9)
    along = torch.cat([rows, -rows], dim=1)
    z = (along @ weights.flatten()) / ((along @ covariance) * along).sum(dim=1).sqrt()
    torch.testing.assert_close(len(rows) * cost, z.square() / 2, rtol=1e-4, atol=1e-7)


def test_it_agrees_with_a_convex_solver_on_the_true_loss():
    rows, labels, weights = problem()
    x, y, start = rows.numpy(), labels.numpy(), weights.numpy().ravel()
    fisher = fisher_of(rows, labels, weights)
    cost, rival = costs(rows, weights, fisher).min(dim=1)
    exact = []
    for k in range(50):
        own = int((x[k] @ weights.numpy().T).argmax())
        normal = np.zeros((3, x.shape[1]))
        normal[own], normal[int(rival[k])] = x[k], -x[k]
        plane = optimize.LinearConstraint(normal.ravel()[None], 0, 0)
        found = optimize.minimize(
            loss, start, args=(x, y), jac=slope, constraints=[plane], method="SLSQP", tol=1e-12
        )
        exact.append(found.fun - loss(start, x, y))
    exact, told = np.array(exact), cost[:50].numpy()
    assert stats.spearmanr(exact, told).statistic >= 0.99
    small = exact < 0.05
    assert small.sum() > 10
    ratio = told[small] / exact[small]
    assert 0.8 <= ratio.min() <= ratio.max() <= 1.25


def test_away_from_the_optimum_the_gradient_counts():
    rows, labels, weights = problem()
    away = weights + 0.02 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)).double()
    fisher = fisher_of(rows, labels, away)
    told = costs(rows, away, fisher).amin(dim=1)
    flat = [w.numpy().ravel() for w in (away, weights)]
    polish = np.diff([loss(w, rows.numpy(), labels.numpy()) for w in flat[::-1]]).item()
    exact = costs(rows, weights, fisher_of(rows, labels, weights)).amin(dim=1) - polish
    ignored = costs(rows, away, fisher._replace(gradient=0 * fisher.gradient)).amin(dim=1)
    assert (told - exact).abs().median() < 0.25 * (ignored - exact).abs().median()


def test_budget_buys_what_the_cost_says_and_never_less():
    rows, labels, weights = problem()
    fisher = fisher_of(rows, labels, weights)
    terms = _head_terms(*as_images(rows, rows @ weights.T, labels)[:2], fisher.inverse(3, damping=1e-9))
    cheapest, before = terms.cost().amin(dim=1), 0
    for budget in (1e-4, 1e-3, 1e-2):
        chance = terms.adversarial_probability(budget)
        torch.testing.assert_close(chance > 0.5, cheapest < budget)
        assert (chance >= before).all()
        before = chance


def test_on_a_network_it_is_one_pass_and_leaves_no_trace():
    cohort, unet = phantom.cohort(6, size=32), UNet(n_classes=4, channels=(4, 6, 8)).eval()
    head = _find_head(unet)
    with torch.no_grad():
        features, logits = _head_pass(unet, head, torch.from_numpy(cohort.images))
    assert features.shape == (6, 5, 32, 32)
    again = (
        torch.einsum("bdhw,cd->bchw", features[:, :-1], head.weight[:, :, 0, 0]) + head.bias[:, None, None]
    )
    torch.testing.assert_close(again, logits)
    assert not head._forward_hooks
    fisher = _accumulate_fisher(features, logits, torch.from_numpy(cohort.labels))
    cost = _head_terms(features, logits, fisher.inverse(4)).cost()
    assert cost.shape == logits.shape
    assert (cost.isinf() == (logits == logits.max(dim=1, keepdim=True).values)).all()


def test_bad_use():
    unet = UNet(n_classes=4, channels=(4, 6, 8))
    with pytest.raises(ValueError, match=r"no module 'heed'; near names: \['head'"):
        _find_head(unet, "heed")
    with pytest.raises(ValueError, match="must be a 1x1 Conv2d with one group"):
        _find_head(unet, "penultimate")
    rows, labels, weights = problem(n=50)
    fisher = fisher_of(rows, labels, weights)
    with pytest.raises(ValueError, match="damping must be a number > 0, got 0"):
        HeadSearch(damping=0)
    with pytest.raises(ValueError, match=r"damping must be large enough .* got 0; try"):
        fisher.inverse(3, damping=0)
    flat = fisher_of(torch.cat([rows, rows], dim=1), labels, torch.cat([weights, weights], dim=1) / 2)
    with pytest.warns(UserWarning, match="close to singular"):
        flat.inverse(3, damping=1e-12)
