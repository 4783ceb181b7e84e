import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from segconf_lite.cohorts import phantom
from segconf_lite.fragility.head import _find_head, _head_pass
from segconf_lite.fragility.optimum import polish
from segconf_lite.fragility.pixel_search import PixelSearch, _fit_memory, search_pixels
from segconf_lite.fragility.tangent import DECODER, choose_weights
from segconf_lite.models.unet import UNet


@pytest.fixture(scope="module")
def penalty():
    return phantom.cohort(6, size=24, seed=3)


@pytest.fixture(scope="module")
def network(penalty):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(n_classes=4, channels=(4, 6, 8)).eval()
    return polish(unet, penalty, steps=60)


@pytest.fixture(scope="module")
def pixels(network, penalty):
    """Pixels of the first slice, from near a tie to sure."""
    with torch.no_grad():
        best = network(penalty.images[:1])[0].topk(2, dim=0).values
    order = (best[0] - best[1]).flatten().argsort()
    chosen = order[torch.tensor([3, 20, 60, 150, 400])]
    return np.stack([0 * chosen, chosen // 24, chosen % 24], axis=1)


def test_polish_reaches_an_optimum_and_leaves_the_network_alone(penalty):
    unet = UNet(n_classes=4, channels=(4, 6, 8))
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    better = polish(unet, penalty, steps=40)
    losses = [
        nn.functional.cross_entropy(n.eval()(penalty.images), torch.from_numpy(penalty.labels)).item()
        for n in (unet, better)
    ]
    assert losses[1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def exact_head_costs(network, penalty, pixels):
    """By a convex solver on the same loss, weights of the last layer only."""
    head = _find_head(network)
    with torch.no_grad():
        features, _ = _head_pass(network, head, torch.from_numpy(penalty.images))
    x = features.movedim(1, -1).flatten(0, -2).double()
    y = torch.from_numpy(penalty.labels).flatten()
    at_rest = torch.cat([head.weight[:, :, 0, 0], head.bias[:, None]], dim=1).detach().double()

    def loss(flat):
        w = torch.from_numpy(flat).reshape(at_rest.shape).requires_grad_()
        value = nn.functional.cross_entropy(x @ w.T, y) + 0.5 / y.numel() * w.square().sum()
        value.backward()
        return value.item(), w.grad.numpy().ravel()

    flat, found = at_rest.numpy().ravel(), []
    for case, row, column in pixels:
        pixel = features[case, :, row, column].double()
        own, rival = (at_rest @ pixel).topk(2).indices.tolist()
        normal = torch.zeros_like(at_rest)
        normal[own], normal[rival] = pixel, -pixel
        plane = optimize.LinearConstraint(normal.numpy().ravel()[None], -np.inf, 0)
        best = optimize.minimize(loss, flat, jac=True, method="SLSQP", constraints=[plane], tol=1e-12)
        found.append(best.fun - loss(flat)[0])
    return np.array(found)


def test_on_the_last_layer_it_comes_close_to_the_convex_solver_from_above(network, penalty, pixels):
    search = PixelSearch(modules=("head",), steps=300, learning_rate=5e-2)
    found = search_pixels(network, penalty.images, pixels, penalty, search).cost.numpy()
    exact = exact_head_costs(network, penalty, pixels)
    assert (found >= exact - 1e-5).all()
    assert (found <= 1.05 * exact.clip(min=0) + 1e-3).all()


def test_more_freedom_never_costs_more_and_the_networks_found_do_flip(network, penalty, pixels):
    found, start = [], None
    for modules in (("head",), DECODER, ("",)):
        search = PixelSearch(modules=modules, steps=40, learning_rate=5e-3)
        flips = search_pixels(network, penalty.images, pixels, penalty, search, start=start)
        start = flips.weights
        found.append(flips.cost)
        assert (flips.history.diff(dim=0)[flips.history[:-1].isfinite()] <= 0).all()
        chosen = choose_weights(network, modules)
        with torch.no_grad():
            for k, (case, row, column) in enumerate(pixels):
                image = torch.from_numpy(penalty.images[case : case + 1])
                plain = network(image)[0, :, row, column].argmax()
                one = {name: value[k] for name, value in flips.weights.items()}
                assert chosen.logits(one, chosen.prepare(image))[0, :, row, column].argmax() != plain
    assert torch.stack(found).isfinite().all()
    assert (found[0] >= found[1] - 1e-6).all()
    assert (found[1] >= found[2] - 1e-6).all()
    assert (found[2] < 0.9 * found[0]).any()


def test_pieces_of_any_size_give_the_same_and_nothing_is_left_behind(network, penalty, pixels):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    costs = [
        search_pixels(network, penalty.images, pixels, penalty, PixelSearch(steps=4, memory_mib=memory)).cost
        for memory in (1, 5, 500)
    ]
    torch.testing.assert_close(costs[0], costs[2], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(costs[1], costs[2], rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


PROGRAM = """
import numpy as np, torch
from segconf_lite.cohorts import phantom
from segconf_lite.fragility.pixel_search import PixelSearch, search_pixels
from segconf_lite.models.unet import UNet
torch.set_num_threads(1)
penalty, unet = phantom.cohort(12, size=48), UNet(n_classes=4, channels=(8, 12)).eval()
pixels = np.array([[0, 20 + k, 30] for k in range(16)])
def peak(memory):
    search_pixels(unet, penalty.images, pixels, penalty, PixelSearch(steps=1, memory_mib=memory))
    status = open("/proc/self/status").read()  # not ru_maxrss, which a child inherits from a large parent
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
base = peak(10)
print(peak(60) - base + 10, peak(1500) - base + 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is there on Linux only")
def test_memory_stays_within_what_is_allowed():
    told = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True).stdout
    peaks = [float(value) for value in told.split()]
    assert peaks[0] <= 60
    assert peaks[1] > 120  # without a bound it would take this


def test_more_memory_takes_more_networks_at_once(network, penalty):
    chosen, slices = choose_weights(network, ("",)), torch.from_numpy(penalty.images)
    n_members, n_slices = np.transpose(
        [_fit_memory(network, chosen, slices, mib) for mib in (2, 10, 100, 1e4)]
    )
    assert (np.diff(n_members * n_slices) > 0).all()
    assert n_slices[-1] == len(slices)
    assert n_members[-1] / n_members[-2] == pytest.approx(100, rel=0.02)


def test_bad_use(network, penalty):
    with pytest.raises(ValueError, match=r"steps must be an integer >= 1, got 0"):
        PixelSearch(steps=0)
    with pytest.raises(ValueError, match=r"pixels must be non-empty \(n, 3\), got \(2, 2\)"):
        search_pixels(network, penalty.images, np.zeros((2, 2), int), penalty)
    with pytest.raises(ValueError, match=r"case, row, column below \(6, 24, 24\), got up to \(0, 24, 0\)"):
        search_pixels(network, penalty.images, np.array([[0, 24, 0]]), penalty)
    with pytest.raises(ValueError, match=r"memory_mib=0\.01 is too little"):
        search_pixels(network, penalty.images, np.array([[0, 1, 1]]), penalty, PixelSearch(memory_mib=0.01))
    with pytest.raises(ValueError, match=r"no weights in a module 'decoder\.9'"):
        search_pixels(
            network, penalty.images, np.array([[0, 1, 1]]), penalty, PixelSearch(modules=("decoder.9",))
        )
