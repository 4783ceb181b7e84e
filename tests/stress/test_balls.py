import numpy as np
import pytest
import torch

from segconf_lite.stress import balls
from segconf_lite.stress.balls import ball_cohort, ball_volumes, crop_around


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_equal_arguments_give_equal_bytes_and_cases_do_not_depend_on_their_number():
    cohort = ball_cohort(4, seed=3)
    assert cohort.fingerprint() == ball_cohort(4, seed=3).fingerprint()
    assert cohort.fingerprint() == ball_cohort(6, seed=3).take(np.arange(4)).fingerprint()
    assert cohort.fingerprint() != ball_cohort(4, seed=4).fingerprint()


@pytest.mark.parametrize("radius", [1, 5, 13])
def test_radius_area_and_place(radius):
    cohort = ball_cohort(5, radius_px=(radius, radius), size=40)
    assert cohort.labels.sum(axis=(1, 2)) == pytest.approx(np.pi * radius**2, rel=2 / radius)
    for labels in cohort.labels:
        for axis in (0, 1):
            extent = np.flatnonzero(labels.any(axis=axis))
            assert len(extent) == 2 * radius + 1  # fully inside: nothing is cut off


def test_every_radius_of_the_closed_range_occurs_and_no_other():
    cohort = ball_cohort(60, radius_px=(2, 5), size=16)
    found = (cohort.labels.any(axis=1).sum(axis=1) - 1) // 2
    assert set(found) == {2, 3, 4, 5}


def test_default_ratios_are_those_of_the_paper_in_two_dimensions():
    ratio = ball_cohort(60).labels.mean(axis=(1, 2))
    assert 0.20 < ratio.min() < 0.25
    assert 0.35 < ratio.max() < 0.40
    extreme = [ball_cohort(1, radius_px=(r, r)).labels.mean() for r in (5, 47)]
    np.testing.assert_allclose(extreme, [0.009, 0.75], rtol=0.03)


def test_ratios_are_those_of_the_paper_in_three():
    ratios = [ball_volumes(1, radius_px=(r, r))[1].mean() for r in (25, 34)]
    np.testing.assert_allclose(ratios, [0.074, 0.186], rtol=0.01)
    volumes, labels = ball_volumes(2, radius_px=(3, 5), size=16)
    assert volumes.shape == (2, 1, 16, 16, 16)
    assert (volumes.dtype, labels.dtype) == (np.float32, np.int64)
    assert (volumes[:, 0][labels == 1] == 1).all()


def test_pictures_are_noise_in_the_unit_range_with_a_ball_of_one():
    cohort = ball_cohort(8)
    images, ball = cohort.images[:, 0], cohort.labels == 1
    assert images.min() == 0
    assert images.max() == 1
    assert (images[ball] == 1).all()
    assert (images[~ball] == 1).sum() <= len(cohort)  # at most the one pixel that the rescaling put there
    for image, inside in zip(images, ball, strict=True):
        noise = image[~inside] / image[~inside].max()
        np.testing.assert_allclose(np.quantile(noise, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"radius_px": (5, 48)}, "radius 48 px needs a size of at least 97, got 96; .*up to 47"),
        ({"radius_px": (9, 5)}, "smallest"),
        ({"radius_px": (0, 5)}, "smallest"),
        ({"n_cases": 0}, "n_cases must be >= 1"),
        ({"seed": -1}, "seed >= 0"),
    ],
)
@pytest.mark.parametrize("make", [ball_cohort, ball_volumes])
def test_wrong_arguments_are_named(make, changed, message):
    with pytest.raises(ValueError, match=message):
        make(**({"n_cases": 1} | changed))


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
    centred = crop_around(images, labels, 3, generator=generator(), foreground_share=share)[1][:, 1, 1]
    assert centred.float().mean().item() == pytest.approx(share, abs=0.12 if share == 0.5 else 0)


def test_centres_near_the_border_are_moved_inside_and_a_whole_picture_is_the_identity(numbered):
    images, labels = numbered
    rows, columns = places(crop_around(images, labels, 9, generator=generator(), foreground_share=1)[0])
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
    assert torch.equal(balls._draw_one(eligible, ours), expected)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_a_case_with_one_class_only_is_cropped_all_the_same(numbered):
    images, labels = numbered
    for flat in (torch.zeros_like(labels), torch.ones_like(labels)):
        crops, cut = crop_around(images, flat, 4, generator=generator())
        assert len(torch.unique(torch.stack(places(crops)), dim=1)[0]) > 50
        assert torch.equal(cut, flat[:, :4, :4])


@pytest.mark.parametrize(
    ("window", "share", "message"),
    [(13, 0.5, r"window must be in 1 \.\. 12, .* got 13"), (0, 0.5, "window"), (4, 1.5, "foreground_share")],
)
def test_crops_refuse_wrong_arguments(numbered, window, share, message):
    with pytest.raises(ValueError, match=message):
        crop_around(*numbered, window, generator=generator(), foreground_share=share)


def test_crops_refuse_shapes_that_do_not_match(numbered):
    with pytest.raises(ValueError, match=r"labels .B, H, W., or both with a D before H, got"):
        crop_around(numbered[0], numbered[1][:1], 4, generator=generator())


def test_crops_of_volumes_lie_at_the_same_place_and_inside():
    volumes, labels = (torch.from_numpy(part) for part in ball_volumes(20, radius_px=(2, 3), size=12))
    numbers = torch.arange(volumes.numel()).reshape(volumes.shape)
    crops, cut = crop_around(numbers, labels, 5, generator=generator(), foreground_share=1)
    assert crops.shape == (20, 1, 5, 5, 5)
    assert cut.shape == (20, 5, 5, 5)
    torch.testing.assert_close(labels.flatten()[crops[:, 0]], cut)
    assert cut.flatten(1).any(dim=1).all()
    for axis in (2, 3, 4):  # contiguous: neighbours in a crop are neighbours in the volume
        step = crops.diff(dim=axis)
        assert (step == 12 ** (4 - axis)).all()
    whole, _ = crop_around(numbers, labels, 12, generator=generator())
    assert torch.equal(whole, numbers)
    with pytest.raises(ValueError, match=r"window must be in 1 \.\. 12"):
        crop_around(numbers, labels, 13, generator=generator())


def test_large_volumes_are_cropped_around_the_object_too():
    labels = torch.zeros(1, 260, 260, 260, dtype=torch.uint8)  # above 2^24 voxels
    labels[0, 100, 200, 30] = 1
    _, cut = crop_around(labels[:, None], labels, 3, generator=generator(), foreground_share=1)
    assert cut[0, 1, 1, 1] == 1
