import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from torch import nn

from segconf_lite.models.unet import predict_probabilities
from segconf_lite.stress.windows import foreground_ratio, window_probabilities, window_starts


class Position(nn.Module):
    """The probability of class 1 is a fixed picture of the window's size, whatever it sees."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, windows):
        p = self.picture.expand(len(windows), 1, *self.picture.shape)
        return torch.cat([1 - p, p], dim=1).log()


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, windows):
        self.seen.append(windows.clone())
        return torch.cat([windows, -windows], dim=1)


@pytest.fixture
def pixelwise():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(5, 3, 1)
    )


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
@pytest.mark.parametrize(("window", "overlap"), [(5, 0), (8, 0.25), ((4, 9), 0.6), (1, 0.9), ((17, 23), 0.5)])
def test_a_network_without_context_is_cut_without_a_trace(pixelwise, window, overlap, blending):
    images = torch.randn(3, 1, 17, 23, generator=torch.Generator().manual_seed(0))
    found = window_probabilities(pixelwise, images, window=window, overlap=overlap, blending=blending)
    torch.testing.assert_close(found, predict_probabilities(pixelwise, images), atol=1e-5, rtol=1e-5)
    assert found.dtype == torch.float32


def test_numpy_and_batches_change_nothing_and_modes_come_back(pixelwise):
    images = np.random.default_rng(0).normal(size=(2, 1, 12, 12))[:, :, ::-1]
    pixelwise.train()
    pixelwise[1].eval()
    pixelwise[4].bias.requires_grad_(False)
    one = window_probabilities(pixelwise, images, window=5, batch_size=1)
    torch.testing.assert_close(one, window_probabilities(pixelwise, images, window=5), atol=1e-6, rtol=0)
    assert [module.training for module in pixelwise] == [True, False, True, True, True]
    assert [p.requires_grad for p in pixelwise[4].parameters()] == [True, False]
    assert not one.requires_grad


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
def test_overlapping_windows_are_averaged_with_the_stated_weights(blending):
    picture = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    weights = compute_importance_map((6, 6), mode=blending) if blending == "gaussian" else torch.ones(6, 6)
    total, count = torch.zeros(9, 13), torch.zeros(9, 13)
    for r, c in window_starts((9, 13), 6, overlap=0.5):
        total[r : r + 6, c : c + 6] += weights * picture
        count[r : r + 6, c : c + 6] += weights
    found = window_probabilities(
        Position(picture), torch.zeros(1, 1, 9, 13), window=6, overlap=0.5, blending=blending
    )
    torch.testing.assert_close(found[0, 1], total / count)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 9, 13))


def test_gaussian_blending_trusts_the_centre_and_constant_all_alike():
    picture = torch.full((4, 4), 0.2)
    picture[:, 0] = 0.8  # wrong at the left border of each window
    found = {
        blending: window_probabilities(
            Position(picture), torch.zeros(1, 1, 4, 6), window=4, overlap=0.5, blending=blending
        )[0, 1]
        for blending in ("constant", "gaussian")
    }
    # Column 2: third of the first window, first of the second one. Distances to the centre .5 and 1.5 px.
    torch.testing.assert_close(found["constant"][:, 2], torch.full((4,), 0.5))
    weight = np.exp([-(0.5**2) / (2 * 0.5**2), -(1.5**2) / (2 * 0.5**2)])
    expected = (0.2 * weight[0] + 0.8 * weight[1]) / weight.sum()
    assert found["gaussian"][1, 2].item() == pytest.approx(expected, rel=1e-4)


@given(st.integers(1, 40), st.integers(1, 45), st.floats(0, 0.999))
@settings(max_examples=80, deadline=None)
def test_windows_cover_every_pixel_and_stay_inside(size, window, overlap):
    starts = np.unique(window_starts(size, window, overlap=overlap)[:, 0])
    covered = np.zeros(max(size, window), dtype=int)
    for start in starts:
        covered[start : start + window] += 1
    assert covered.min() >= 1
    assert starts.min() == 0
    assert starts.max() + window == max(size, window)


@pytest.mark.parametrize(("window", "overlap"), [(4, 0), (4, 0.25), ((3, 7), 0.9), (5, 0.5), (11, 0.25)])
def test_starts_are_those_that_monai_takes(window, overlap):
    network, image = Recorder(), torch.arange(11 * 14.0).reshape(1, 1, 11, 14)
    window_probabilities(network, image, window=window, overlap=overlap)
    corners = torch.cat(network.seen)[:, 0, 0, 0].long().numpy()
    expected = window_starts((11, 14), window, overlap=overlap)
    np.testing.assert_array_equal(corners, expected[:, 0] * 14 + expected[:, 1])


def test_an_image_smaller_than_the_window_is_padded_with_zeros_and_that_is_said():
    network, image = Recorder(), torch.ones(1, 1, 4, 6)
    with pytest.warns(UserWarning, match=r"window \(7, 5\) is larger than the images \(4, 6\).*\(7, 6\)"):
        found = window_probabilities(network, image, window=(7, 5))
    assert found.shape == (1, 2, 4, 6)
    seen = network.seen[0]
    assert seen[0].sum() == 4 * 5
    assert not seen[:, :, 0].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        window_probabilities(network, image, window=(4, 6))


def test_foreground_ratio_of_images_and_windows():
    labels = np.zeros((2, 6, 8), dtype=int)
    labels[0, :3, :4] = 2
    np.testing.assert_allclose(foreground_ratio(labels), [0.25, 0])
    np.testing.assert_allclose(
        foreground_ratio(labels, window=(3, 4), overlap=0), [[1, 0, 0, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_allclose(foreground_ratio(labels, window=8), [[12 / 64], [0]])
    mean = foreground_ratio(labels, window=(6, 1), overlap=0).mean(axis=1)
    np.testing.assert_allclose(mean, foreground_ratio(labels))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": 0}, "window must be an integer >= 1, got 0"),
        ({"window": (4, -1)}, "window must be an integer >= 1, got -1"),
        ({"window": (4, 4, 4)}, "window must be a side in pixels, or one for each of 2 axes"),
        ({"overlap": 1.0}, r"overlap must be a number in .0, 1\), got 1.0"),
        ({"overlap": -0.1}, "overlap"),
        ({"blending": "max"}, "blending must be one of .*'max'"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"images": torch.zeros(4, 8, 8)}, "must be non-empty .N, 1, H, W."),
        ({"network": nn.Conv2d(1, 2, 3)}, r"output must be logits .*got \(4, 2, 2, 2\)"),
        ({"network": torch.sigmoid}, "network must be a torch.Module"),
    ],
)
def test_wrong_arguments_are_named(pixelwise, changed, message):
    arguments = {"network": pixelwise, "images": torch.zeros(1, 1, 8, 8), "window": 4} | changed
    with pytest.raises(ValueError, match=message):
        window_probabilities(arguments.pop("network"), arguments.pop("images"), **arguments)


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
@pytest.mark.parametrize(("window", "overlap"), [(4, 0), ((3, 5, 4), 0.5)])
def test_volumes_without_context_are_cut_without_a_trace(window, overlap, blending):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 1), nn.ReLU(), nn.Conv3d(4, 2, 1))
    volumes = torch.randn(2, 1, 7, 9, 8, generator=torch.Generator().manual_seed(0))
    found = window_probabilities(network, volumes, window=window, overlap=overlap, blending=blending)
    with torch.no_grad():
        torch.testing.assert_close(found, network(volumes).softmax(dim=1), atol=1e-5, rtol=1e-5)


def test_ratios_and_starts_of_volumes():
    labels = np.zeros((1, 4, 4, 4), dtype=int)
    labels[0, :2, :2, :2] = 1
    np.testing.assert_allclose(foreground_ratio(labels), [1 / 8])
    np.testing.assert_allclose(foreground_ratio(labels, window=2, overlap=0), [[1] + 7 * [0]])
    np.testing.assert_allclose(foreground_ratio(labels, window=(2, 4, 4), overlap=0), [[1 / 4, 0]])
    assert window_starts((4, 4, 4), 2, overlap=0).tolist()[:3] == [[0, 0, 0], [0, 0, 2], [0, 2, 0]]
    with pytest.raises(ValueError, match=r"one for each of 3 axes, got \(2, 2\)"):
        foreground_ratio(labels, window=(2, 2))


def test_ratio_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"labels must be non-empty .N, H, W., got \(6, 8\)"):
        foreground_ratio(np.zeros((6, 8)))


def test_half_precision_keeps_sums_at_one(pixelwise):
    images = torch.randn(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    for blending in ("constant", "gaussian"):
        found = window_probabilities(pixelwise.bfloat16(), images, window=8, overlap=0.9, blending=blending)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 20, 20), atol=1e-5, rtol=0)


def test_a_network_that_draws_leaves_the_random_state_as_it_was():
    class Drawing(nn.Module):
        def forward(self, windows):
            torch.rand(3)
            return torch.cat([windows, -windows], dim=1)

    before = torch.get_rng_state()
    window_probabilities(Drawing(), torch.zeros(1, 1, 8, 8), window=4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("window", [4.5, (4, 4.5)])
def test_windows_are_whole_pixels(window):
    with pytest.raises(ValueError, match=r"window must be an integer >= 1, got 4\.5"):
        window_starts(12, window)
