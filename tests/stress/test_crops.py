"""Laws of random crops: images and labels are cut at one position, around foreground as often as wanted."""

import numpy as np
import pytest
import torch

from segconf_lite.cohorts.balls import ball_volumes
from segconf_lite.stress import windows
from segconf_lite.stress.windows import crop_around


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def numbered():
    """200 pictures whose pixels number themselves, with one small object each."""
    images = torch.arange(200 * 12 * 16.0).reshape(200, 1, 12, 16)
    labels = torch.zeros(200, 12, 16, dtype=torch.long)
    labels[:, 2:4, 10:13] = 1
    return images, labels


def places(crops):
    corner = crops[:, 0, 0, 0].long() % (12 * 16)
    return corner // 16, corner % 16


def test_crops_of_images_and_labels_lie_at_the_same_place(numbered):
    images, labels = numbered
    crops, cut = crop_around(images, labels, 5, generator=generator())
    assert crops.shape == (200, 1, 5, 5)
    for case, (row, column) in enumerate(zip(*places(crops), strict=True)):
        torch.testing.assert_close(crops[case], images[case, :, row : row + 5, column : column + 5])
        torch.testing.assert_close(cut[case], labels[case, row : row + 5, column : column + 5])
    again, _ = crop_around(images, labels, 5, generator=generator())
    assert torch.equal(crops, again)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_crops_centred_on_foreground(numbered, share):
    images, labels = numbered
    centred = crop_around(images, labels, 3, generator=generator(), foreground_fraction=share)[1][:, 1, 1]
    assert centred.float().mean().item() == pytest.approx(share, abs=0.12 if share == 0.5 else 0)


def test_centres_near_the_border_are_moved_inside_and_a_whole_picture_is_the_identity(numbered):
    images, labels = numbered
    rows, columns = places(crop_around(images, labels, 9, generator=generator(), foreground_fraction=1)[0])
    assert (rows == 0).all()  # centres in rows 2 and 3 would start at -2 and -1
    assert set(columns.tolist()) == {6, 7}  # 10 - 4, and 11 - 4 and 12 - 4 held back by the border
    square = images[:, :, :, :12], labels[:, :, :12]
    for whole, crop in zip(square, crop_around(*square, 12, generator=generator()), strict=True):
        assert torch.equal(whole, crop)


def test_centres_are_those_of_torchs_multinomial(numbered):
    """Stored networks learned from crops drawn by it."""
    eligible = numbered[1].flatten(1) > 0
    ours, theirs = generator(), generator()
    expected = torch.multinomial(eligible.float(), 1, generator=theirs)[:, 0]
    assert torch.equal(windows._draw_one(eligible, ours), expected)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_a_case_with_one_class_only_is_cropped_all_the_same(numbered):
    images, labels = numbered
    for flat in (torch.zeros_like(labels), torch.ones_like(labels)):
        crops, cut = crop_around(images, flat, 4, generator=generator())
        assert len(torch.unique(torch.stack(places(crops)), dim=1)[0]) > 50
        assert torch.equal(cut, flat[:, :4, :4])


@pytest.mark.parametrize(
    ("window", "share", "message"),
    [
        (13, 0.5, r"window must be an integer in \[1, 12\], got 13"),
        (0, 0.5, "window"),
        (4, 1.5, "foreground_fraction"),
    ],
)
def test_crops_refuse_wrong_arguments(numbered, window, share, message):
    with pytest.raises(ValueError, match=message):
        crop_around(*numbered, window, generator=generator(), foreground_fraction=share)


def test_crops_refuse_shapes_that_do_not_match(numbered):
    with pytest.raises(ValueError, match=r"images and labels must be .*, or both with a D before H, got"):
        crop_around(numbered[0], numbered[1][:1], 4, generator=generator())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((2, 1, 8, 8))}, "images must be a torch.Tensor, got ndarray"),
        ({"labels": None}, "labels must be a torch.Tensor, got NoneType"),
        ({"generator": 3}, "generator must be a .*Generator, got int"),
    ],
)
def test_crops_are_made_of_tensors(numbered, changes, message):
    arguments = {"images": numbered[0], "labels": numbered[1], "window": 4, "generator": generator()}
    with pytest.raises(ValueError, match=message):
        crop_around(**{**arguments, **changes})


def test_crops_of_volumes_lie_at_the_same_place_and_inside():
    volumes, labels = (torch.from_numpy(part) for part in ball_volumes(20, radius_px=(2, 3), size=12))
    numbers = torch.arange(volumes.numel()).reshape(volumes.shape)
    crops, cut = crop_around(numbers, labels, 5, generator=generator(), foreground_fraction=1)
    assert crops.shape == (20, 1, 5, 5, 5)
    assert cut.shape == (20, 5, 5, 5)
    torch.testing.assert_close(labels.flatten()[crops[:, 0]], cut)
    assert cut.flatten(1).any(dim=1).all()
    for axis in (2, 3, 4):  # contiguous: neighbours in a crop are neighbours in the volume
        step = crops.diff(dim=axis)
        assert (step == 12 ** (4 - axis)).all()
    whole, _ = crop_around(numbers, labels, 12, generator=generator())
    assert torch.equal(whole, numbers)
    with pytest.raises(ValueError, match=r"window must be an integer in \[1, 12\], got 13"):
        crop_around(numbers, labels, 13, generator=generator())


def test_large_volumes_are_cropped_around_the_object_too():
    labels = torch.zeros(1, 260, 260, 260, dtype=torch.uint8)  # above 2^24 voxels
    labels[0, 100, 200, 30] = 1
    _, cut = crop_around(labels[:, None], labels, 3, generator=generator(), foreground_fraction=1)
    assert cut[0, 1, 1, 1] == 1
