import numpy as np
import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.fragility.head import _accumulate_fisher, _find_head, _head_pass
from segconf_lite.fragility.tangent import DECODER, _diagonal_fisher, _tangent_terms, choose_weights
from segconf_lite.models.unet import UNet


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(n_classes=4, channels=(4, 6, 8)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def cohort():
    return phantom.cohort(24, size=32)


def generator():
    return torch.Generator().manual_seed(0)


def test_cut_behind_the_encoder_it_is_the_same_network(network, cohort):
    images = torch.from_numpy(cohort.images[:3])
    for modules in (DECODER, ("",), ("encoder.1", "head")):
        chosen = choose_weights(network, modules)
        torch.testing.assert_close(chosen.logits(chosen.weights, chosen.prepare(images)), network(images))
        louder = {name: 2 * value for name, value in chosen.weights.items()}
        assert not torch.allclose(chosen.logits(louder, chosen.prepare(images)), network(images))


def test_diagonal_agrees_with_the_exact_one_of_the_last_layer(network, cohort):
    chosen = choose_weights(network, ("head",))
    rng = generator()
    drawn = [_diagonal_fisher(chosen, cohort, 24, rng) for _ in range(40)]
    found = torch.stack([d["head.weight"][:, :, 0, 0] for d in drawn]).mean(dim=0)
    features, logits = _head_pass(network, _find_head(network), torch.from_numpy(cohort.images))
    exact = _accumulate_fisher(features, logits, torch.from_numpy(cohort.labels)).matrix.diagonal()
    exact = exact.reshape(4, -1)[:, :-1].float()
    torch.testing.assert_close(found, exact, rtol=0.25, atol=0.01 * exact.max().item())
    assert abs(found.sum() / exact.sum() - 1) < 0.05


def test_leverage_on_the_last_layer_is_the_closed_form(network, cohort):
    chosen = choose_weights(network, ("head",))
    spread = {name: 0.5 + torch.rand(v.shape, generator=generator()) for name, v in chosen.weights.items()}
    images = torch.from_numpy(cohort.images[:2])
    terms = _tangent_terms(chosen, spread, images, n_draws=600, seed=0)
    features, logits = _head_pass(network, _find_head(network), images)
    variance = torch.cat([spread["head.weight"][:, :, 0, 0], spread["head.bias"][:, None]], dim=1).square()
    each = torch.einsum("bdhw,cd->bchw", features.square(), variance)
    own = logits.argmax(dim=1, keepdim=True)
    exact = (each + each.gather(1, own)).scatter(1, own, 1.0)
    ratio = terms.leverage / exact
    assert 0.75 < ratio.min() < ratio.max() < 1.3
    lead = (logits.gather(1, own) - logits).scatter(1, own, float("inf"))
    torch.testing.assert_close(terms.margin, lead)


def test_order_and_size_of_batches_do_not_matter(network, cohort):
    chosen = choose_weights(network, DECODER)
    spread = {name: torch.full_like(v, 0.1) for name, v in chosen.weights.items()}
    images = torch.from_numpy(cohort.images[:4])

    def cost(batch):
        return _tangent_terms(chosen, spread, batch, n_draws=4, seed=0).cost()

    torch.testing.assert_close(cost(images.flip(0)).flip(0), cost(images), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(cost(images[2:3]), cost(images)[2:3], rtol=1e-3, atol=1e-6)
    assert np.isinf(cost(images).numpy()).sum() == 4 * 32 * 32


def test_bad_use(network):
    with pytest.raises(ValueError, match="no weights in a module 'deocder'; its parts"):
        choose_weights(network, ("deocder",))
