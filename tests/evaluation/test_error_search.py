import numpy as np
import pytest

from segconf_lite.evaluation import boundary_distance_px, errors_found


def test_a_perfect_map_finds_all_and_a_reversed_one_none():
    rng = np.random.default_rng(0)
    wrong = rng.random((3, 10, 10)) < 0.05
    found = errors_found(wrong + 0.01 * rng.random(wrong.shape), wrong, share=wrong.mean() + 1e-9)
    np.testing.assert_array_equal(found, wrong.sum(axis=(1, 2)))
    assert errors_found(~wrong + 0.01 * rng.random(wrong.shape), wrong, share=0.5).sum() == 0


def test_ties_count_in_proportion():
    wrong = np.zeros((1, 10, 10), bool)
    wrong[0, :2] = True
    np.testing.assert_allclose(errors_found(np.zeros((1, 10, 10)), wrong, share=0.25), 5.0)


def test_any_increasing_transform_gives_the_same():
    rng = np.random.default_rng(1)
    values, wrong = rng.random((2, 8, 8)), rng.random((2, 8, 8)) < 0.2
    plain, bent = (errors_found(v, wrong, share=0.1) for v in (values, np.exp(3 * values)))
    np.testing.assert_array_equal(plain, bent)


def test_only_the_pixels_asked_for_count():
    wrong, where = np.ones((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    where[0, 0] = True
    values = np.arange(16.0).reshape(1, 4, 4)  # the highest lie elsewhere
    np.testing.assert_array_equal(errors_found(values, wrong, share=0.5, where=where), [2])
    assert errors_found(values, wrong, share=0.5, where=~where & where).tolist() == [0]


def test_distance_is_counted_in_pixels_from_either_side():
    labels = np.zeros((2, 5, 6), int)
    labels[0, :, 3:] = 2
    distance = boundary_distance_px(labels)
    np.testing.assert_array_equal(distance[0, 0], [3, 2, 1, 1, 2, 3])
    assert np.isinf(distance[1]).all()


def test_bad_use():
    values, wrong = np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool)
    with pytest.raises(ValueError, match="maps must share one shape"):
        errors_found(values, wrong[0], share=0.1)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\), got 5"):
        errors_found(values, wrong, share=5)
    with pytest.raises(ValueError, match="must be finite; for infinite flip costs"):
        errors_found(values + np.inf, wrong, share=0.5)
    with pytest.raises(ValueError, match=r"labels must be \(N, H, W\)"):
        boundary_distance_px(wrong[0])
