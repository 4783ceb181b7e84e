"""Means over seeds: Student's t, with people as a second source of variance where seeds share them."""

import numpy as np
import pytest
from scipy import stats

from segconf_lite.evaluation import Estimate, false_outperformance, repeated_estimate


def cases(seeds=4, people=5, per=3, spread=(0.0, 0.0, 1.0), random_seed=0):
    """Seeds, people (the same in every seed), and values = seed + person + rest."""
    rng = np.random.default_rng(random_seed)
    of_seed, of_person, rest = (
        s * rng.normal(size=shape)
        for s, shape in zip(spread, [(seeds, 1, 1), (1, people, 1), (seeds, people, per)], strict=True)
    )
    values = of_seed + of_person + rest
    seed, person, _ = np.indices(values.shape)
    return seed.ravel(), person.ravel(), values.ravel()


def test_drawn_people_give_students_t_over_the_seeds():
    seed, person, values = cases()
    found = repeated_estimate(np.mean, seed, person, values)
    means = [values[seed == k].mean() for k in range(4)]
    expected = stats.ttest_1samp(means, 0.1)
    interval = expected.confidence_interval(0.95)
    assert found.interval()[1:] == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx(np.mean(means))
    assert found.degrees_of_freedom == 3
    two_sided = 2 * min(found.p_above(0.1), Estimate(-found.mean, *found[1:]).p_above(-0.1))
    assert two_sided == pytest.approx(expected.pvalue)
    other_names = repeated_estimate(np.mean, seed, np.zeros(len(seed), int), values)
    assert other_names == found  # how people differ is in the seeds' estimates


def test_shared_people_add_the_variance_of_their_means():
    seed, person, values = cases(seeds=6, people=5, per=1)
    found = repeated_estimate(np.mean, seed, person, values, shared=True)
    table = values.reshape(6, 5)
    variance = table.mean(1).var(ddof=1) / 6 + table.mean(0).var(ddof=1) / 5
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.degrees_of_freedom == 4
    few_seeds = repeated_estimate(np.mean, *cases(seeds=3, people=9), shared=True)
    assert few_seeds.degrees_of_freedom == 2


def test_shared_people_work_for_any_statistic():
    seed, person, values = cases(people=12)
    found = repeated_estimate(np.median, seed, person, values, shared=True)
    by_seed = np.array([np.median(values[seed == k]) for k in range(4)])
    without = [np.mean([np.median(values[(seed == k) & (person != p)]) for k in range(4)]) for p in range(12)]
    jackknife = 11 / 12 * np.sum((np.array(without) - np.mean(without)) ** 2)
    assert found.standard_error == pytest.approx(np.sqrt(by_seed.var(ddof=1) / 4 + jackknife))


@pytest.mark.parametrize(("seeds", "people"), [(3, 4), (5, 4), (6, 10), (10, 4)])
@pytest.mark.parametrize("spread", [(0.3, 0.9, 0.1), (0.9, 0.3, 0.1), (0.1, 0.1, 1.0)])
def test_coverage_with_shared_people(seeds, people, spread):
    held = 0
    for k in range(400):
        interval = repeated_estimate(
            np.mean, *cases(seeds, people, 1, spread, random_seed=k), shared=True
        ).interval()
        held += interval.low <= 0 <= interval.high
    assert held / 400 >= 0.93


def test_order_scale_and_shift_change_what_they_should():
    seed, person, values = cases()
    found = repeated_estimate(np.mean, seed, person, values, shared=True)
    mixed = np.random.default_rng(1).permutation(len(seed))
    again = repeated_estimate(np.mean, seed[mixed], person[mixed], values[mixed], shared=True)
    assert again == pytest.approx(found)
    moved = repeated_estimate(np.mean, seed, person, 1e6 * values + 3, shared=True)
    assert moved.mean == pytest.approx(1e6 * found.mean + 3)
    assert moved.standard_error == pytest.approx(1e6 * found.standard_error)


def test_equal_seeds_are_certain_and_one_seed_is_not():
    sure = repeated_estimate(np.mean, [0, 0, 1, 1], list("abab"), [1, 3, 1, 3])
    assert sure.interval() == (2, 2, 2)
    assert [sure.p_above(line) for line in (1.9, 2, 2.1)] == [0, 1, 1]
    alone = repeated_estimate(np.mean, [0, 0], list("ab"), [1, 3])
    assert alone.mean == 2
    assert np.isnan(alone.interval().low)
    assert np.isnan(repeated_estimate(np.mean, [0, 1], list("aa"), [1, 3], shared=True).standard_error)


def test_the_p_value_meets_the_interval():
    estimate = Estimate(0.3, 0.1, 4)
    low, high = estimate.interval(level=0.9)[1:]
    assert estimate.p_above(low) == pytest.approx(0.05)
    assert estimate.p_above(high) == pytest.approx(0.95)


def test_bad_use():
    with pytest.raises(ValueError, match="subjects must be text or integers, none missing"):
        repeated_estimate(np.mean, [0, 1], ["a", None], [1, 2])
    with pytest.raises(ValueError, match=r"seeds 3.*subjects 2|one length"):
        repeated_estimate(np.mean, [0, 1, 2], list("ab"), [1, 2])
    with pytest.raises(ValueError, match="the statistic of each seed must be finite"):
        repeated_estimate(lambda v: float(v[0]) / np.inf * np.inf, [0, 1], list("ab"), [1, 2])
    with pytest.raises(ValueError, match="level must be"):
        Estimate(0, 1, 3).interval(level=95)
    with pytest.raises(ValueError, match="line must be a finite number"):
        Estimate(0, 1, 3).p_above(float("nan"))


def test_a_printed_table_gives_what_paired_values_give():
    rng = np.random.default_rng(5)
    ours, rival = rng.multivariate_normal([0.8, 0.78], [[0.01, 0.006], [0.006, 0.02]], size=40).T
    printed = {"sd": ours.std(ddof=1), "rival_sd": rival.std(ddof=1), "n": 40}
    printed["correlation"] = np.corrcoef(ours, rival)[0, 1]
    wanted = stats.ttest_rel(ours, rival, alternative="greater").pvalue
    assert false_outperformance(ours.mean(), rival.mean(), **printed) == pytest.approx(wanted, rel=1e-9)
    repeats = repeated_estimate(lambda a, b: float(np.mean(a - b)), np.arange(40), np.arange(40), ours, rival)
    assert repeats.p_above(0) == pytest.approx(wanted, rel=1e-9)


def test_equal_means_are_an_even_bet_and_the_two_directions_add_to_one():
    how = {"sd": 0.1, "rival_sd": 0.2, "n": 10, "correlation": 0.3}
    assert false_outperformance(0.7, 0.7, **how) == pytest.approx(0.5)
    swapped = {**how, "sd": 0.2, "rival_sd": 0.1}
    assert false_outperformance(0.8, 0.7, **how) + false_outperformance(0.7, 0.8, **swapped) == pytest.approx(
        1
    )
    closer = [false_outperformance(0.8, 0.7, **{**how, "correlation": r}) for r in (-0.5, 0, 0.5, 0.9)]
    assert closer == sorted(closer, reverse=True)  # the more alike two methods fare, the surer their order


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": 1}, "n must"),
        ({"n": 10**30}, "n must .* number of cases or runs of the table"),
        ({"sd": -1}, "sd must"),
        ({"correlation": 2}, "correlation must"),
        ({"rival_sd": 0.1, "correlation": 1.0}, "no spread of the difference"),
    ],
)
def test_a_table_that_tells_nothing_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        false_outperformance(0.8, 0.7, **{"sd": 0.1, "rival_sd": 0.2, "n": 9, "correlation": 0.5, **change})


@pytest.mark.parametrize("shared", [None, "no", [True], 1])
def test_a_switch_is_true_or_false(shared):
    with pytest.raises(ValueError, match="shared must be one of"):
        repeated_estimate(np.mean, [0, 1], list("ab"), [1, 2], shared=shared)


@pytest.mark.parametrize("statistic", [None, "mean", 3])
def test_a_statistic_is_a_function(statistic):
    with pytest.raises(ValueError, match="statistic must be a function"):
        repeated_estimate(statistic, [0, 1], list("ab"), [1, 2])
