import numpy as np
import pytest

from segconf_lite.evaluation import boundary_distance_px
from segconf_lite.fragility import stratified_pixels


def disc(size=48, radius=10):
    rows, columns = np.indices((size, size)) - size / 2
    return (np.hypot(rows, columns) <= radius).astype(int)[None].repeat(2, axis=0)


def test_every_stratum_has_its_number_and_lies_where_it_says():
    labels = disc()
    table = stratified_pixels(labels, n_each=7, seed=3)
    assert table["stratum"].value_counts().to_dict() == dict.fromkeys(
        ("boundary", "inside", "outside", "far"), 7
    )
    distance = boundary_distance_px(labels)
    for name, rows in table.groupby("stratum"):
        at = tuple(rows[["case", "row", "column"]].to_numpy().T)
        if name == "boundary":
            assert (distance[at] <= 2).all()
        else:
            assert (labels[at] == (name == "inside")).all()
            assert (distance[at] > 2).all()
            assert ((distance[at] > 8) == (name == "far")).all() or name == "inside"
    assert not table.duplicated(["case", "row", "column"]).any()
    assert table.equals(stratified_pixels(labels, n_each=7, seed=3))


def test_a_stratum_without_pixels_is_left_out():
    assert set(stratified_pixels(np.zeros((1, 8, 8), int), n_each=3)["stratum"]) == {"far"}


def test_bad_use():
    with pytest.raises(ValueError, match="n_each must be an integer >= 1, got 0"):
        stratified_pixels(disc(), n_each=0)
    with pytest.raises(ValueError, match=r"labels must be non-empty \(N, H, W\), got"):
        stratified_pixels(disc()[0], n_each=1)
