import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.stress.corruptions import StrongCorruption, ghost


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(phantom.cohort(8, size=48).images)


def test_equal_seeds_give_equal_images_and_others_do_not(images):
    first, again, other = (StrongCorruption(seed)(images) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()
    assert first.shape == images.shape
    assert first.dtype == torch.float32


def test_mean_and_deviation_stay_and_pictures_change_much(images):
    spoiled = StrongCorruption(0, probability=1.0)(images)
    torch.testing.assert_close(spoiled.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(spoiled.std(dim=(1, 2, 3)), images.std(dim=(1, 2, 3)), atol=1e-4, rtol=0)
    assert (spoiled - images).square().mean(dim=(1, 2, 3)).sqrt().min() > 0.2  # grey values have deviation 1


def test_probability_zero_is_the_identity_bit_for_bit(images):
    assert torch.equal(StrongCorruption(0, probability=0)(images), images)
    assert torch.equal(ghost(images, strength=0.0, period=4), images)


def test_ghosts_of_a_point_lie_along_its_column_where_the_period_puts_them():
    image = torch.zeros(32, 32)
    image[8, 5] = 1.0
    found = ghost(image, strength=0.2, period=4)
    expected = torch.special.bessel_j1(torch.tensor(0.2))  # first-order sideband of a phase modulation
    assert found[16, 5].item() == pytest.approx(expected.item(), rel=3e-3)  # the third wraps around onto it
    assert found[:, :5].abs().max() < 1e-6
    assert found.square().sum().item() == pytest.approx(1.0, rel=1e-5)  # a phase error moves energy only


def test_the_images_given_are_not_changed(images):
    kept = images.clone()
    StrongCorruption(0)(images)
    assert torch.equal(images, kept)


def test_bad_use():
    for options in ({"probability": 2}, {"share": -1}):
        with pytest.raises(ValueError, match=r"probability and share must lie in \[0, 1\]"):
            StrongCorruption(0, **options)


def test_a_share_of_the_images_is_spoiled_and_the_others_are_left_bit_for_bit(images):
    many = images.repeat(8, 1, 1, 1)
    changed = (StrongCorruption(0, probability=1, share=0.75)(many) != many).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.75, abs=0.15)
