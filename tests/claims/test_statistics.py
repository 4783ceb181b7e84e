"""Statistics that only claims use."""

import numpy as np
import pytest

from segconf_lite.claims import STATISTICS


def test_rank_of_means_looks_at_groups_not_at_rows():
    group = np.repeat([3.0, 1.0, 2.0], 4)
    first = np.array([1, 1, 1, 5, 0, 0, 0, 4, 2, 2, 2, 6], float)  # means 2, 1, 3
    second = np.array([0, 0, 0, 4, 3, 3, 3, 3, -1, -1, -1, -1], float)  # means 1, 3, -1
    statistic = STATISTICS["rank_correlation_of_means"][0]
    assert statistic(group, first, second) == pytest.approx(-1)
    assert statistic(group, first, first) == pytest.approx(1)
    order = np.random.default_rng(0).permutation(12)
    assert statistic(group[order], first[order], second[order]) == pytest.approx(-1)


def test_explained_difference_on_a_known_table():
    a, b = np.array([0, 0, 1, 1.0]), np.array([0, 1, 0, 1.0])
    statistic = STATISTICS["explained_difference"][0]
    assert statistic(3 * a, a, b) == pytest.approx(1)
    assert statistic(3 * b, a, b) == pytest.approx(-1)
    assert statistic(2 * a + b, a, b) == pytest.approx(0.8 - 0.2)
