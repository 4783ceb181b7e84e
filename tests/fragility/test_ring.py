import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from segconf_lite.fragility.mask_search import _dilate, _erode, geometry_ring

SQUARE = np.ones((3, 3))


def blob(seed=0, size=24):
    """(2, H, W) labels in 0 .. 3, smooth, some touching the edge of the image."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(2, 4, size, size)), (0, 0, 3, 3))
    fields[:, 0] += 0.03
    return torch.from_numpy(fields.argmax(axis=1))


@pytest.mark.parametrize("reach", [1, 3])
def test_foreground_grows_and_shrinks_as_in_scipy(reach):
    labels = blob()
    for k, foreground in enumerate((labels > 0).numpy()):
        grown = ndimage.binary_dilation(foreground, SQUARE, iterations=reach)
        shrunk = ndimage.binary_erosion(foreground, SQUARE, iterations=reach)  # beyond the edge: background
        assert np.array_equal((_dilate(labels, reach)[k] > 0).numpy(), grown)
        assert np.array_equal((_erode(labels, reach)[k] > 0).numpy(), shrunk)


def test_no_class_takes_from_another():
    labels = blob()
    grown, shrunk = _dilate(labels, 3), _erode(labels, 3)
    assert grown[labels > 0].equal(labels[labels > 0])
    assert shrunk[shrunk > 0].equal(labels[shrunk > 0])


def test_a_pixel_takes_the_class_that_comes_first_and_of_two_the_higher():
    row = torch.zeros(1, 1, 9, dtype=torch.int64)
    row[0, 0, 1], row[0, 0, 7] = 2, 1
    assert _dilate(row, 3).tolist() == [[[2, 2, 2, 2, 2, 1, 1, 1, 1]]]  # the fourth: a tie, 2 is higher
    assert _dilate(row, 2).tolist() == [[[2, 2, 2, 2, 0, 1, 1, 1, 1]]]


def test_the_edge_of_the_image_counts_as_background():
    full = torch.ones(1, 9, 9, dtype=torch.int64)
    assert _erode(full, 3).sum() == 9
    assert _dilate(full, 3).equal(full)


def test_the_ring_is_where_the_three_masks_differ():
    labels = blob()
    ring = geometry_ring(labels, n_classes=4)
    differ = (_dilate(labels, 3) != labels) | (_erode(labels, 3) != labels)
    third = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3) / math.log(4)
    assert ring.dtype == torch.float32
    assert ring == pytest.approx(torch.where(differ, third, 0.0), abs=1e-6)


def test_no_ring_without_foreground_nor_deep_inside():
    assert not geometry_ring(torch.zeros(2, 8, 8, dtype=torch.int64), n_classes=2).any()
    inside = geometry_ring(torch.ones(1, 9, 9, dtype=torch.int64), n_classes=2)[:, 3:-3, 3:-3]
    assert not inside.any()


def test_the_ring_turns_with_the_image():
    labels = blob()
    ring = geometry_ring(labels, n_classes=4)
    assert geometry_ring(labels.flip(1), n_classes=4).equal(ring.flip(1))
    assert geometry_ring(labels.transpose(1, 2), n_classes=4).equal(ring.transpose(1, 2))


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (torch.zeros(4, 4, dtype=torch.int64), {}, r"labels must be non-empty \(B, H, W\), got \(4, 4\)"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), {"reach_px": 0}, "reach_px must be an integer >= 1, got 0"),
        (torch.full((1, 4, 4), 2), {}, r"labels must be in 0\.\.1 \(2 classes\)"),
        (
            torch.zeros(1, 4, 4, dtype=torch.int64),
            {"n_classes": 1},
            r"n_classes must be an integer in \[2, 10000\], got 1; count",
        ),
    ],
)
def test_what_does_not_fit_is_refused(labels, options, words):
    with pytest.raises(ValueError, match=words):
        geometry_ring(labels, **{"n_classes": 2, **options})
