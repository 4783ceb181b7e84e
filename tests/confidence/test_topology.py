"""Laws of the ring check: known shapes, the true hearts of the phantom, and one cut anywhere."""

import numpy as np
import pytest
from skimage.measure import euler_number

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import ring_defects


def test_true_walls_are_rings_and_one_cut_breaks_them():
    labels = phantom.cohort(12, size=96, seed=3).labels
    assert (ring_defects(labels, wall=2) == 0).all()
    cut = labels.copy()
    for case in cut:
        row = int(np.argwhere(case == 2)[:, 0].mean())
        right = np.flatnonzero(case[row] == 3).max()  # from the cavity to the right, through the wall
        case[row, right:] = 0
    assert (ring_defects(cut, wall=2) == 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_pieces_minus_holes_is_the_number_of_euler(seed):
    mask = np.random.default_rng(seed).random((9, 9)) < 0.6
    euler = euler_number(mask, connectivity=2)
    found = ring_defects(mask[None], wall=1)[0]
    # |p - 1| + |h - 1| with p - h = euler has the parity of euler, and is at least its size
    assert found >= abs(euler)
    assert (found - euler) % 2 == 0


def test_other_classes_flips_and_borders_do_not_matter():
    ring = np.pad(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]), 1)
    two = np.hstack([ring, ring])
    filled = np.where(ring == 0, 2, ring)  # what is inside may be another class
    assert ring_defects([ring, ring[::-1], filled], wall=1).tolist() == [0, 0, 0]
    assert ring_defects([ring[1:-1, 1:-1]], wall=1).tolist() == [0]  # a ring up to the edge of the image
    assert ring_defects([two], wall=1).tolist() == [2]  # two pieces, two holes
    assert ring_defects([np.ones((5, 5))], wall=1).tolist() == [1]  # no hole


def test_background_is_no_wall():
    with pytest.raises(ValueError, match="wall"):
        ring_defects(np.zeros((1, 3, 3)), wall=0)
