import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from torch import nn

from segconf_lite.models.unet import predict_probabilities
from segconf_lite.stress import windows
from segconf_lite.stress.windows import (
    crop_around,
    foreground_ratio,
    window_probabilities,
    window_starts,
)


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
        ({"window": 0}, r"window must be an integer in \[1, 1e\+06\], got 0"),
        ({"window": (4, -1)}, r"window must be an integer in \[1, 1e\+06\], got -1"),
        ({"window": (4, 4, 4)}, "window must be a side in pixels, or one for each of 2 axes"),
        ({"overlap": 1.0}, r"overlap must be a number in .0, 1\), got 1.0"),
        ({"overlap": -0.1}, "overlap"),
        ({"blending": "max"}, "blending must be one of .*'max'"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"images": torch.zeros(4, 8, 8)}, "must be non-empty .N, C, H, W."),
        ({"network": nn.Conv2d(1, 2, 3)}, r"output must be logits .*got \(9, 2, 2, 2\)"),
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
    with pytest.raises(ValueError, match=r"window must be an integer in \[1, 1e\+06\], got 4\.5"):
        window_starts(12, window)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x, r"output must be logits \(9, C, 4, 4\) with C >= 2, got \(9, 1, 4, 4\)"),
        (lambda x: torch.stack([torch.cat([x, -x], 1)] * 2, 1), "output must be logits"),
        (lambda x: {"logits": x}, r"got \(9, 1, 4, 4\), a single channel"),
        (lambda x: torch.cat([x, x / 0], 1), "output must be finite"),
        (
            lambda x: torch.cat([x, -x], 1).argmax(1, keepdim=True).repeat(1, 2, 1, 1),
            r"got torch\.int64; return them before the argmax",
        ),
    ],
)
def test_what_is_no_finite_logits_of_two_classes_is_refused(answer, message):
    class Answer(nn.Module):
        def forward(self, windows):
            return answer(windows)

    with pytest.raises(ValueError, match=message):
        window_probabilities(Answer(), torch.ones(1, 1, 8, 8), window=4)


def test_a_network_may_work_in_place_on_its_windows():
    class InPlace(nn.Module):
        def forward(self, windows):
            windows.mul_(2)
            return torch.cat([windows, -windows], dim=1)

    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = images.clone()
    found = window_probabilities(InPlace(), images, window=4, overlap=0.5)
    torch.testing.assert_close(found, torch.cat([2 * images, -2 * images], dim=1).softmax(dim=1))
    assert torch.equal(images, kept)


def test_images_and_labels_are_checked_before_anything_runs(pixelwise):
    images = torch.zeros(2, 1, 8, 8)
    images[1, 0, 3, 3] = torch.nan
    for bad, message in (
        (images, r"images must be finite, got NaN or infinity in 1 cases \(first: case 1\)"),
        (images.tolist(), "images must be a numpy array or a dense tensor"),
        (torch.zeros(2, 0, 8, 8), r"images must be non-empty \(N, C, H, W\)"),
        (torch.zeros(2, 0, 8, 8, 8), r"images must be non-empty \(N, C, D, H, W\)"),
    ):
        with pytest.raises(ValueError, match=message):
            window_probabilities(pixelwise, bad, window=4)
    for labels, message in (
        (np.full((1, 4, 4), 0.5), "labels must be integers, got fractions"),
        (np.full((1, 4, 4), np.nan), "labels must be integers, got fractions, NaN"),
        (np.full((1, 4, 4), -1), "labels must be integers >= 0, got -1"),
        (np.full((1, 4, 4), "a"), "labels must be real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            foreground_ratio(labels)
    assert foreground_ratio(torch.ones(1, 4, 4, dtype=torch.bfloat16)).tolist() == [1.0]


# Random crops.


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def numbered():
    """200 images whose pixels number themselves, with one small object each."""
    images = torch.arange(200 * 12 * 16.0).reshape(200, 1, 12, 16)
    labels = torch.zeros(200, 12, 16, dtype=torch.long)
    labels[:, 2:4, 10:13] = 1
    return images, labels


def corners(crops):
    corner = crops[:, 0, 0, 0].long() % (12 * 16)
    return corner // 16, corner % 16


def test_crops_of_images_and_labels_lie_at_the_same_place(numbered):
    images, labels = numbered
    crops, cut = crop_around(images, labels, 5, generator=seeded())
    assert crops.shape == (200, 1, 5, 5)
    for case, (row, column) in enumerate(zip(*corners(crops), strict=True)):
        torch.testing.assert_close(crops[case], images[case, :, row : row + 5, column : column + 5])
        torch.testing.assert_close(cut[case], labels[case, row : row + 5, column : column + 5])
    assert torch.equal(crops, crop_around(images, labels, 5, generator=seeded())[0])


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_fraction_of_crops_centred_on_foreground(numbered, fraction):
    _, cut = crop_around(*numbered, 3, generator=seeded(), foreground_fraction=fraction)
    tolerance = 0.12 if fraction == 0.5 else 0
    assert cut[:, 1, 1].float().mean().item() == pytest.approx(fraction, abs=tolerance)


def test_centres_near_the_border_are_moved_inside_and_a_whole_image_is_the_identity(numbered):
    images, labels = numbered
    rows, columns = corners(crop_around(images, labels, 9, generator=seeded(), foreground_fraction=1)[0])
    assert (rows == 0).all()  # centres in rows 2 and 3 would start at -2 and -1
    assert set(columns.tolist()) == {6, 7}  # 10 - 4, and 11 - 4 and 12 - 4 held back by the border
    square = images[:, :, :, :12], labels[:, :, :12]
    for whole, crop in zip(square, crop_around(*square, 12, generator=seeded()), strict=True):
        assert torch.equal(whole, crop)


def test_centres_are_those_of_torchs_multinomial(numbered):
    """Stored networks learned from crops drawn by it."""
    eligible = numbered[1].flatten(1) > 0
    ours, theirs = seeded(), seeded()
    expected = torch.multinomial(eligible.float(), 1, generator=theirs)[:, 0]
    assert torch.equal(windows._draw_one(eligible, ours), expected)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_a_case_with_one_class_only_is_cropped_all_the_same(numbered):
    images, labels = numbered
    for flat in (torch.zeros_like(labels), torch.ones_like(labels)):
        crops, cut = crop_around(images, flat, 4, generator=seeded())
        assert len(torch.unique(torch.stack(corners(crops)), dim=1)[0]) > 50
        assert torch.equal(cut, flat[:, :4, :4])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": 13}, r"window must be an integer in \[1, 12\], got 13; it must fit"),
        ({"window": 0}, r"window must be an integer in \[1, 12\], got 0"),
        ({"window": 4.0}, "window must be an integer"),
        ({"foreground_fraction": 1.5}, r"foreground_fraction must be a number in \[0, 1\], got 1.5"),
        ({"labels": torch.zeros(1, 12, 16, dtype=torch.long)}, r"must be non-empty \(B, channels, H, W\)"),
        ({"labels": torch.zeros(200, 12, 16)}, "labels must be integers, got torch.float32"),
        ({"labels": np.zeros((200, 12, 16), int)}, "labels must be a torch.Tensor, got ndarray"),
        ({"images": torch.zeros(200, 1, 12, 16).to_sparse()}, "images must be a dense tensor"),
        ({"generator": np.random.default_rng(0)}, "generator must be a torch.Generator"),
    ],
)
def test_crops_refuse_wrong_arguments(numbered, changed, message):
    images, labels = numbered
    arguments = {"images": images, "labels": labels, "window": 4, "generator": seeded()} | changed
    with pytest.raises(ValueError, match=message):
        crop_around(**arguments)


def test_crops_of_volumes_lie_at_the_same_place_and_inside():
    labels = torch.zeros(20, 12, 12, 12, dtype=torch.long)
    labels[:, 2:7, 4:9, 5:10] = 1
    numbers = torch.arange(labels.numel()).reshape(20, 1, 12, 12, 12)
    crops, cut = crop_around(numbers, labels, 5, generator=seeded(), foreground_fraction=1)
    assert crops.shape == (20, 1, 5, 5, 5)
    torch.testing.assert_close(labels.flatten()[crops[:, 0]], cut)
    assert cut.flatten(1).any(dim=1).all()
    for axis in (2, 3, 4):  # contiguous: neighbours in a crop are neighbours in the volume
        assert (crops.diff(dim=axis) == 12 ** (4 - axis)).all()
    whole, _ = crop_around(numbers, labels, 12, generator=seeded())
    assert torch.equal(whole, numbers)


def test_large_volumes_are_cropped_around_the_object_too():
    labels = torch.zeros(1, 260, 260, 260, dtype=torch.uint8)  # above 2^24 voxels
    labels[0, 100, 200, 30] = 1
    _, cut = crop_around(labels[:, None], labels, 3, generator=seeded(), foreground_fraction=1)
    assert cut[0, 1, 1, 1] == 1
