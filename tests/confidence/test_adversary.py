import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.confidence.adversary import Adversary, Replay, perturb, random_step, update_alpha


def batch(seed=0, n=4, side=6):
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.floats(0.01, 2), st.floats(0.01, 100))
def test_a_linear_prediction_falls_by_alpha_whatever_the_gradients_size(seed, alpha, scale):
    images, weight = batch(seed).double(), scale * batch(seed + 1000).double()
    moved = perturb(images, weight, alpha=alpha).images
    drop = ((images - moved) * weight).sum(dim=(1, 2, 3))
    assert drop.tolist() == pytest.approx([alpha] * 4, rel=1e-3)


def test_alpha_zero_changes_nothing_bit_for_bit():
    images = batch()
    found = perturb(images, batch(1), alpha=0.0)
    assert torch.equal(found.images, images)
    assert (found.norm == 0).all()


def test_images_do_not_affect_each_other():
    images, gradient = batch(), batch(1)
    together = perturb(images, gradient, alpha=0.5).images
    torch.testing.assert_close(together[2:3], perturb(images[2:3], gradient[2:3], alpha=0.5).images)


def test_a_vanished_gradient_is_counted_and_moves_nothing():
    gradient = batch(1)
    gradient[1] = 0
    gradient[2] *= 1e-9
    found = perturb(batch(), gradient, alpha=0.8)
    assert found.vanished.tolist() == [False, True, True, False]
    assert torch.equal(found.images[1:3], batch()[1:3])
    assert torch.isfinite(found.images).all()


def test_bounds_and_range():
    images, gradient = batch(), 0.01 * batch(1)  # a small gradient asks for a long step
    free = perturb(images, gradient, alpha=0.8)
    short = perturb(images, gradient, alpha=0.8, bound=0.5)
    assert free.norm.min() > 0.5
    assert short.norm.tolist() == pytest.approx([0.5] * 4, rel=1e-4)
    flat = perturb(images, gradient, alpha=0.8, bound=0.1, bound_norm="linf")
    assert (flat.images - images).abs().max() <= 0.1 + 1e-6
    inside = perturb(images, gradient, alpha=0.8, value_range=(-1.0, 1.0)).images
    assert inside.min() >= -1
    assert inside.max() <= 1


def test_noise_has_the_length_asked_for_and_follows_its_generator():
    images, norm = batch(), torch.tensor([0.0, 0.5, 1.0, 2.0])
    first, again = (random_step(images, norm, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first[0], images[0])
    assert (first - images).square().sum(dim=(1, 2, 3)).sqrt().tolist() == pytest.approx(
        norm.tolist(), rel=1e-4
    )


@pytest.mark.parametrize("direction", ["gradient", "random"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_noise_keeps_to_the_limits_of_the_step_that_it_controls(direction, norm):
    images, attack = batch(), torch.zeros(len(batch()), dtype=torch.int64)
    limits = {"bound": 0.2, "bound_norm": norm, "value_range": (-1, 1)}
    adversary = Adversary(direction=direction, alpha=50.0, unit="length", **limits)
    moved = Replay(adversary, ["location"], torch.Generator().manual_seed(0)).move(images, batch(1), attack)
    inside = images.abs() <= 1
    change = torch.where(inside, moved - images, 0).flatten(1)
    assert (change.norm(dim=1, p=math.inf if norm == "linf" else 2) <= 0.2001).all()
    assert moved.abs().max() == 1
    assert (change != 0).any(dim=1).all()


def test_noise_without_limits_is_the_plain_noise():
    images, attack = batch(), torch.zeros(len(batch()), dtype=torch.int64)
    replay = Replay(Adversary(direction="random"), ["location"], torch.Generator().manual_seed(0))
    norm = perturb(images, batch(1), alpha=0.3).norm
    plain = random_step(images, norm, torch.Generator().manual_seed(0))
    assert torch.equal(replay.move(images, batch(1), attack), plain)


def test_the_controller_finds_the_alpha_that_has_the_wanted_effect():
    alpha = 0.8
    for _ in range(3000):  # a predictor whose prediction falls by .4 alpha
        alpha = update_alpha(alpha, drop=0.4 * alpha, effect_size=0.1, gain=0.05)
    assert 0.4 * alpha == pytest.approx(0.1, abs=1e-3)
    assert update_alpha(0.001, drop=1.0, effect_size=0.1) == 0.0


def test_bad_use():
    for options, words in (
        ({"alpha": -1.0}, r"alpha must be a number >= 0, got -1\.0"),
        ({"alpha": 1.0, "bound": 0.0}, r"bound must be a number > 0, got 0\.0"),
        ({"alpha": 1.0, "bound_norm": "l1"}, "bound_norm must be one of"),
        ({"alpha": 1.0, "eps": 0.0}, r"eps must be a number > 0, got 0\.0"),
    ):
        with pytest.raises(ValueError, match=words):
            perturb(batch(), batch(1), **options)
    with pytest.raises(ValueError, match=r"gradient must be of the images' shape"):
        perturb(batch(), batch(1)[:2], alpha=1.0)
    for effect_size in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match=r"effect_size must be a number in \(0, 1\)"):
            update_alpha(0.8, drop=0.1, effect_size=effect_size)
    with pytest.raises(ValueError, match="drop must be a finite number, got nan"):
        update_alpha(0.8, drop=math.nan, effect_size=0.1)
