import numpy as np
import pytest
import torch

from segconf_lite.models.augment import AUGMENTATIONS, _warp, make_augmentation

NAMES = [name for name in AUGMENTATIONS if name]


def batch(n=16, height=32, width=32):
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(n, height, width, dtype=torch.int64)
    labels[:, 8:20, 10:18] = 1
    labels[:, 12:16, 12:16] = 3
    return labels[:, None] + 0.1 * torch.randn(n, 1, height, width, generator=generator), labels


@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_classes_stay(name):
    images, labels = make_augmentation(name, 0)(*batch(height=32, width=48))
    assert type(images) is torch.Tensor
    assert images.shape == (16, 1, 32, 48)
    assert images.dtype == torch.float32
    assert labels.shape == (16, 32, 48)
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) == {0, 1, 3}  # nearest neighbour: no class in between
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_global_random_states_are_untouched(name):
    images, labels = batch()
    copies = images.clone(), labels.clone()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make_augmentation(name, 0)(images, labels)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_sequences(name):
    first, second, other = (make_augmentation(name, seed) for seed in (3, 3, 4))
    for _ in range(2):
        a, b, c = (augment(*batch())[0] for augment in (first, second, other))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not torch.equal(a, first(*batch())[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_label_follows_the_image(name):
    images, labels = make_augmentation(name, 1)(*batch(64))
    inside = [
        image[0][label > 0].mean() - image[0][label == 0].mean()
        for image, label in zip(images, labels, strict=True)
    ]
    assert min(inside) > 0.5


def test_nnunet_leaves_some_cases_as_they_are_and_changes_the_rest():
    images, labels = batch(400)
    changed, moved = make_augmentation("nnunet", 0)(images, labels)
    same = [torch.equal(a, b) for a, b in zip(images, changed, strict=True)]
    still = np.mean([torch.equal(a, b) for a, b in zip(labels, moved, strict=True)])
    assert 0 < np.mean(same) < 0.15  # all changes off: .8 .8 .5 .5 .9 .9 .85 .85 .875 .9 .7 = 0.05
    assert 0.10 < still < 0.25  # no rotation, scale or mirroring: .16


def test_mild_stays_near_the_image():
    images, labels = batch(64)
    changed, moved = make_augmentation("mild", 0)(images, labels)
    overlap = 2 * ((labels > 0) & (moved > 0)).sum() / ((labels > 0).sum() + (moved > 0).sum())
    assert overlap > 0.85
    assert (changed - images).std() < 0.35


@pytest.mark.parametrize(
    ("angle", "scale", "mirror", "expected"),
    [
        (0, 1, (1, 1), lambda x: x),
        (0, 1, (-1, 1), lambda x: x.flip(-1)),
        (0, 1, (1, -1), lambda x: x.flip(-2)),
        (np.pi, 1, (1, 1), lambda x: x.flip(-1).flip(-2)),
    ],
)
def test_known_warps(angle, scale, mirror, expected):
    images, labels = batch(2, height=24, width=32)
    angles, scales = torch.full((2,), float(angle)), torch.full((2,), float(scale))
    moved, masks = _warp(images, labels, angles, scales, torch.tensor([mirror, mirror], dtype=torch.float32))
    torch.testing.assert_close(moved, expected(images), atol=1e-4, rtol=1e-4)
    assert torch.equal(masks, expected(labels))


def test_scale_enlarges_and_rotation_keeps_area_in_oblong_images():
    labels = torch.zeros(1, 32, 64, dtype=torch.int64)
    labels[:, 12:20, 24:40] = 1
    area = []
    for angle, scale in ((0.0, 1.0), (0.0, 1.4), (np.pi / 2, 1.0)):
        _, masks = _warp(
            labels[:, None].float(), labels, torch.tensor([angle]), torch.tensor([scale]), torch.ones(1, 2)
        )
        area.append(int(masks.sum()))
    assert area[1] > 1.6 * area[0]
    assert abs(area[2] - area[0]) < 0.15 * area[0]


def test_unknown_name():
    assert make_augmentation(None, 0) is None
    with pytest.raises(
        ValueError, match=r"augmentation must be one of \(None, 'mild', 'nnunet'\), got 'strong'"
    ):
        make_augmentation("strong", 0)


@pytest.mark.parametrize("name", NAMES)
def test_other_types_and_seeds_of_numpy_give_the_same_batch(name):
    images, labels = batch(4)
    expected = make_augmentation(name, 5)(images, labels)
    found = make_augmentation(name, np.int64(5))(images.double(), labels.to(torch.uint8))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_bad_batches_and_seeds(name):
    images, labels = batch(3)
    augment = make_augmentation(name, 0)
    with pytest.raises(ValueError, match=r"labels must be a tensor \(3, 32, 32\), got \(2, 32, 32\)"):
        augment(images, labels[:2])
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"images must be finite, .* \(first: case 1\)"):
        augment(images, labels)
    for seed in (1.5, True, -1):
        with pytest.raises(ValueError, match="seed must be an integer"):
            make_augmentation(name, seed)
