"""Laws of the comparison of many methods: known answers, permutations, ties, messages."""

import numpy as np
import pytest
import torch
from scipy import stats

from segconf_lite.evaluation import (
    block_ranks,
    compare_ranks,
    critical_difference,
    mean_ranks_within,
    pareto_front,
)

# Demšar 2006, table 6: AUC of C4.5 with four settings on 14 data sets. The paper ranked unrounded values:
# in the row of 0.9751, two are printed as 0.975 and have the ranks 2 and 3.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_the_example_of_demsar():
    found = compare_ranks(DEMSAR, higher_is_better=True)
    assert found.average_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.chi_squared == pytest.approx(9.28, abs=0.01)
    assert found.f_statistic == pytest.approx(3.69, abs=0.01)
    assert stats.f.sf(2.85, 3, 39) == pytest.approx(0.05, abs=1e-3)  # the printed critical value
    assert found.p_value < 0.05
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    at_ten = critical_difference(4, 14, level=0.9)
    assert at_ten == pytest.approx(1.12, abs=0.005)


@pytest.mark.parametrize(
    ("n_methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)]
)
def test_critical_values_are_those_of_the_printed_table(n_methods, q):
    expected = q * np.sqrt(n_methods * (n_methods + 1) / 60)
    assert critical_difference(n_methods, 10) == pytest.approx(expected, abs=2e-3)


def test_without_ties_it_is_the_test_of_scipy():
    values = np.random.default_rng(0).normal(size=(9, 5))
    expected = stats.friedmanchisquare(*values.T)
    assert compare_ranks(values).chi_squared == pytest.approx(expected.statistic)


def test_the_order_of_blocks_and_methods_does_not_matter():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(8, 6)).round(1)
    found, mixed = compare_ranks(values), rng.permutation(6)
    again = compare_ranks(values[rng.permutation(8)][:, mixed])
    assert again.average_ranks == pytest.approx(found.average_ranks[mixed])
    assert again[1:] == pytest.approx(found[1:])


def test_only_the_order_within_a_block_counts_and_direction_mirrors_it():
    values = np.random.default_rng(2).normal(size=(7, 4))
    found = compare_ranks(values)
    grown = compare_ranks(np.exp(values) * np.arange(1, 8)[:, None])
    assert grown.average_ranks == pytest.approx(found.average_ranks)
    up = block_ranks(values, higher_is_better=True)
    assert up == pytest.approx(5 - block_ranks(values))
    assert compare_ranks(-torch.as_tensor(values), higher_is_better=True)[1:] == pytest.approx(found[1:])


def test_ties_share_their_rank_and_every_block_has_one_sum():
    values = np.random.default_rng(3).integers(0, 3, size=(20, 5))
    assert block_ranks(values).sum(axis=1) == pytest.approx(np.full(20, 15.0))
    nothing = compare_ranks(np.ones((4, 3)))
    assert nothing.average_ranks.tolist() == [2, 2, 2]
    assert (nothing.chi_squared, nothing.f_statistic, nothing.p_value) == (0, 0, 1)


def test_blocks_that_agree_entirely_leave_no_doubt():
    found = compare_ranks(np.tile([3.0, 1.0, 2.0], (5, 1)))
    assert found.f_statistic == np.inf
    assert found.p_value == 0


def test_false_alarms_are_as_rare_as_they_should_be():
    rng = np.random.default_rng(4)
    limit = critical_difference(6, 10)
    spans = [np.ptp(block_ranks(rng.normal(size=(10, 6))).mean(axis=0)) for _ in range(1000)]
    assert np.mean(np.array(spans) >= limit) < 0.07


def test_rows_that_are_copies_are_one_block():
    values = np.random.default_rng(5).normal(size=(6, 4))
    copied, blocks = np.repeat(values, 5, axis=0), np.repeat(np.arange(6), 5)
    assert mean_ranks_within(copied, blocks) == pytest.approx(block_ranks(values))
    once = compare_ranks(mean_ranks_within(copied, blocks))
    assert once.critical_difference == pytest.approx(compare_ranks(values).critical_difference)
    assert compare_ranks(copied).critical_difference < once.critical_difference


def test_the_front_holds_what_nobody_beats():
    passes, loss = np.array([1, 1, 2, 15, 15]), np.array([3.0, 3.0, 4.0, 1.0, 2.0])
    assert pareto_front(passes, loss).tolist() == [True, True, False, True, False]
    assert pareto_front(loss).tolist() == [False, False, False, True, False]
    for k in range(20):
        table = np.random.default_rng(k).integers(0, 5, size=(8, 3))
        front = pareto_front(*table.T)
        beaten = [any((o <= r).all() and (o < r).any() for o in table) for r in table]
        assert front.tolist() == [not b for b in beaten]


def test_messages():
    with pytest.raises(ValueError, match="values must be finite"):
        compare_ranks([[1, np.nan], [1, 2]])
    with pytest.raises(ValueError, match="number of methods must be an integer >= 2, got 1"):
        compare_ranks([[1], [2]])
    with pytest.raises(
        ValueError, match="number of blocks must be an integer >= 2, got 1; one block does not"
    ):
        compare_ranks([[1, 2]])
    with pytest.raises(ValueError, match="values must be"):
        block_ranks([1, 2, 3])
    with pytest.raises(ValueError, match=r"values 2.*blocks 3|one length"):
        mean_ranks_within([[1, 2], [2, 1]], ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"level must be .*got 95"):
        critical_difference(4, 14, level=95)
    with pytest.raises(ValueError, match="n_blocks must be an integer >= 1"):
        critical_difference(4, 0)
    with pytest.raises(ValueError, match="losses must be one column or more, got none"):
        pareto_front()
