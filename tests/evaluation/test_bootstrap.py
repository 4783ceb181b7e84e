"""Laws of bootstrap intervals: over subjects, over seeds and subjects, and over crossed clusters."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite.evaluation import (
    bootstrap_interval,
    cluster_interval,
    crossed_interval,
    hausdorff95_per_case,
    mean_interval,
)


def test_interval_of_a_constant_is_a_point_and_one_subject_has_none():
    assert mean_interval([0.5] * 6, list("aabbcc")) == (0.5, 0.5, 0.5)
    one = mean_interval([0.2, 0.4], ["a", "a"])
    assert one.estimate == pytest.approx(0.3)
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_interval_counts_subjects_not_slices():
    """Copying every slice ten times is no new information."""
    rng = np.random.default_rng(0)
    values, subjects = rng.normal(size=20), np.arange(20)
    once, often = mean_interval(values, subjects), mean_interval(values.repeat(10), subjects.repeat(10))
    assert often == pytest.approx(once)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        subject_means = rng.normal(size=25)
        values = subject_means.repeat(4) + 0.1 * rng.normal(size=100)
        interval = mean_interval(values, np.arange(25).repeat(4), n_resamples=400, seed=trial)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_leaves_undefined_cases_out_and_refuses_nonsense():
    assert mean_interval([1.0, np.nan, 3.0], ["a", "b", "c"]).estimate == 2.0
    for values, subjects, options, message in (
        ([1.0], ["a", "b"], {}, "values and subjects must be of one length, .*, got values 1, subjects 2"),
        ([np.nan], ["a"], {}, "values must be defined for one case at least, got NaN in all 1 cases"),
        ([1.0], ["a"], {"level": 1.0}, r"level must be a number in \(0, 1\), got 1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_interval(values, subjects, **options)


# -- crossed clusters ---------------------------------------------------------------------------------------


def crossed_table(rng, n_images, n_seeds, sd=(1.0, 0.5, 0.7)):
    """(values, image, seed) of mean 0: image effect, seed effect and noise with deviations `sd`."""
    image, seed = (x.ravel() for x in np.indices((n_images, n_seeds)))
    effects = rng.normal(0, sd[0], n_images)[image] + rng.normal(0, sd[1], n_seeds)[seed]
    return effects + rng.normal(0, sd[2], image.size), image, seed


def test_one_constant_side_is_the_one_way_bootstrap():
    rng = np.random.default_rng(0)
    values, names = rng.normal(size=40), np.arange(40) // 4
    expected = mean_interval(values, names, n_resamples=200, seed=5)
    constant = np.zeros(40)
    for sides in ((names, constant), (constant, names)):
        assert tuple(crossed_interval(values, *sides, n_resamples=200, seed=5)) == pytest.approx(
            tuple(expected)
        )


def test_variance_is_that_of_the_pigeonhole_bootstrap():
    """Owen (2007): close to sd_image^2 / R + sd_seed^2 / C + 3 sd_noise^2 / (R C)."""
    widths = []
    for k in range(40):
        found = crossed_interval(*crossed_table(np.random.default_rng(k), 30, 20), n_resamples=300, seed=k)
        widths.append((found.high - found.low) / (2 * 1.96))
    expected = np.sqrt(1.0 / 30 + 0.25 / 20 + 3 * 0.49 / 600)
    assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(expected, rel=0.06)


def test_it_covers_where_rows_drawn_singly_do_not():
    crossed = singly = 0
    for k in range(60):
        values, image, seed = crossed_table(np.random.default_rng(1000 + k), 30, 12)
        found = crossed_interval(values, image, seed, n_resamples=300, seed=k)
        rows = mean_interval(values, np.arange(len(values)), n_resamples=300, seed=k)
        crossed += found.low <= 0 <= found.high
        singly += rows.low <= 0 <= rows.high
    assert crossed >= 0.87 * 60
    assert singly <= 0.6 * 60


def test_with_three_names_on_one_side_it_is_too_narrow_as_its_description_says():
    held = 0
    for k in range(100):
        table = crossed_table(np.random.default_rng(k), 40, 3, sd=(0.5, 0.8, 0.5))
        found = crossed_interval(*table, n_resamples=200, seed=k)
        held += found.low <= 0 <= found.high
    assert 65 <= held <= 88


def test_missing_values_are_left_out_and_order_does_not_matter():
    values, image, seed = crossed_table(np.random.default_rng(0), 8, 5)
    holes = values.copy()
    holes[::7] = np.nan
    kept = np.isfinite(holes)
    expected = crossed_interval(values[kept], image[kept], seed[kept])
    assert crossed_interval(holes, image, seed) == expected
    turned = crossed_interval(holes[::-1], image[::-1], seed[::-1])
    assert tuple(turned) == pytest.approx(tuple(expected))


def test_sides_without_two_names_have_no_interval():
    found = crossed_interval([1.0, 2.0], ["a", "a"], ["s", "s"])
    assert found.estimate == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_draws_that_hold_no_value_are_left_out():
    assert np.isfinite(crossed_interval([1.0, 2.0], ["a", "b"], ["s", "t"], n_resamples=50)).all()


def test_cluster_interval_of_a_mean_is_the_crossed_interval():
    values, image, seed = crossed_table(np.random.default_rng(0), 8, 5)
    table = pd.DataFrame({"value": values, "image": image, "seed": seed})
    options = {"n_resamples": 80, "seed": 2}
    found = cluster_interval(lambda t: t["value"].mean(), table, clusters=["image", "seed"], **options)
    assert tuple(found) == pytest.approx(tuple(crossed_interval(values, image, seed, **options)))
    one_way = cluster_interval(lambda t: t["value"].mean(), table, clusters="image", **options)
    assert tuple(one_way) == pytest.approx(tuple(mean_interval(values, image, **options)))


def test_crossed_refuses_bad_input():
    with pytest.raises(ValueError, match=r"of one length, .*, got values 2, first 2, second 3"):
        crossed_interval([1, 2], [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="defined for one case at least, got NaN in all 2 cases"):
        crossed_interval([np.nan, np.nan], [1, 2], [1, 2])
    with pytest.raises(ValueError, match=r"level must be a number in \(0, 1\), got 95"):
        crossed_interval([1, 2], [1, 2], [1, 2], level=95)
    table = pd.DataFrame({"value": [1.0, 2.0]})
    with pytest.raises(
        ValueError, match=r"table must be a table with columns \['image'\], got none called \['image'\]"
    ):
        cluster_interval(len, table, clusters=["image"])
    with pytest.raises(ValueError, match="clusters must be one column or more, got none"):
        cluster_interval(len, table, clusters=[])
    with pytest.raises(
        ValueError,
        match=r"values must be finite, got infinity in 1 cases \(first: case 1\); count missed structures",
    ):
        crossed_interval([1, np.inf], [1, 2], [1, 2])
    with pytest.raises(
        ValueError, match=r"first must be text or integers, none missing, got nan \(entry 1\)"
    ):
        crossed_interval([1, 2], [1, np.nan], [1, 2])
    with pytest.raises(ValueError, match=r"n_resamples must be an integer in \[1, 1e\+06\], got 0"):
        crossed_interval([1, 2], [1, 2], [1, 2], n_resamples=0)
    with pytest.raises(ValueError, match="table must be a table with rows, got an empty one"):
        cluster_interval(len, table[:0], clusters=["value"])


# -- edges --------------------------------------------------------------------------------------------------


def test_a_subject_with_many_cases_counts_more_in_every_resample():
    """The mean of a resample is a ratio of sums; a mean of subject means would be another number."""
    values, subjects = np.array([1.0, 1, 1, 1, 1, 0]), np.array(list("aaaaab"))
    interval = mean_interval(values, subjects)
    assert interval.estimate == pytest.approx(5 / 6)  # not 1/2
    assert (interval.low, interval.high) == (0, 1)
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(12), np.arange(1, 13))
    values = (subjects >= 6) + rng.normal(0, 0.1, len(subjects))
    expected = bootstrap_interval(np.mean, subjects, values, n_resamples=400, seed=2)
    assert mean_interval(values, subjects, n_resamples=400, seed=2) == pytest.approx(expected)
    means = [values[subjects == k].mean() for k in range(12)]
    unweighted = mean_interval(means, np.arange(12), n_resamples=400, seed=2)
    assert expected.low > unweighted.low + 0.05


def test_missed_structures_are_not_averaged_away():
    reference = np.zeros((3, 10, 10), int)
    reference[:, 3:6, 3:6] = 1
    prediction = reference * np.array([1, 0, 1])[:, None, None]
    distances = hausdorff95_per_case(prediction, reference, n_classes=2, spacing_mm=(1, 1), empty="skip")
    with pytest.raises(ValueError, match=r"values must be finite, got infinity in 1 cases \(first: case 1\)"):
        mean_interval(distances, ["p", "q", "r"])


@pytest.mark.parametrize(
    "names",
    [["p", None, "q"], ["p", float("nan"), "q"], [1, "1", 2], ["p", "", "q"], [b"p", b"q", b"r"], "pqr"],
)
def test_cases_without_a_clear_name_are_refused_everywhere(names):
    values, fine = [0.1, 0.5, 0.3], [1, 2, 3]
    for call in (
        lambda: mean_interval(values, names),
        lambda: bootstrap_interval(np.mean, names, values),
        lambda: crossed_interval(values, fine, names),
    ):
        with pytest.raises(ValueError, match=r"(subjects|seeds|second) must be "):
            call()


def test_one_seed_and_one_subject_have_no_interval_in_any_bootstrap():
    values, one = [0.2, 0.9, 0.4], ["p"] * 3
    table = pd.DataFrame({"value": values, "subject": one})
    for interval in (
        mean_interval(values, one),
        bootstrap_interval(np.mean, one, values),
        crossed_interval(values, one, one),
        cluster_interval(lambda t: t["value"].mean(), table, clusters="subject"),
    ):
        assert interval.estimate == pytest.approx(0.5)
        assert np.isnan([interval.low, interval.high]).all()


def test_huge_and_tiny_values_have_the_interval_of_their_unit():
    values, subjects = np.array([1.0, 2.0, 4.0, 8.0, 3.0]), list("aabbc")
    for unit in (2.0**1019, 2.0**-1000):
        for plain, scaled in (
            (mean_interval(values, subjects), mean_interval(values * unit, subjects)),
            (
                crossed_interval(values, subjects, range(5)),
                crossed_interval(values * unit, subjects, range(5)),
            ),
        ):
            assert scaled == tuple(np.array(plain) * unit)


def test_numbers_of_any_type_give_the_same_interval():
    import torch

    values, subjects = np.array([0.25, 0.5, 1.0, 0.75]), [3, 10, 10, 2]
    expected = mean_interval(values, subjects)
    for same in (
        torch.tensor(values, requires_grad=True),
        torch.tensor(values).bfloat16(),
        values.astype(np.float16),
        values.astype(">f8"),
        values.repeat(2)[::2],
        pd.Series(values, index=[7, 7, 7, 7]),
    ):
        assert mean_interval(same, subjects) == expected
    assert mean_interval(values, torch.tensor(subjects), seed=np.int64(0)) == expected
    for refused in (
        torch.tensor(values).to_sparse(),
        torch.tensor(values).to("meta"),
        values.astype(complex),
    ):
        with pytest.raises(ValueError, match="values must be real numbers"):
            mean_interval(refused, subjects)


@pytest.mark.parametrize("n_resamples", [0, 2.5, True, 10**9, None])
def test_numbers_of_resamples_that_are_none(n_resamples):
    with pytest.raises(ValueError, match=r"n_resamples must be an integer in \[1, 1e\+06\]"):
        mean_interval([1.0, 2.0], ["a", "b"], n_resamples=n_resamples)


def test_a_statistic_that_is_never_defined_has_no_interval():
    interval = bootstrap_interval(lambda x: float("nan"), ["a", "b"], [1.0, 2.0], n_resamples=20)
    assert np.isnan(interval).all()


@pytest.mark.parametrize("returned", [None, "text", [1.0, 2.0], pd.Series([1.0, 2.0])])
def test_a_statistic_that_returns_no_number_is_refused(returned):
    told = f"statistic must be a function .* one number, got one that returns {type(returned).__name__}"
    with pytest.raises(ValueError, match=told):
        bootstrap_interval(lambda x: returned, ["a", "b"], [1, 2])
    with pytest.raises(ValueError, match=told):
        cluster_interval(lambda t: returned, pd.DataFrame({"subject": ["a", "b"]}), clusters="subject")


@pytest.mark.parametrize("subjects", [[], ["a"], list("abcd")])
def test_subjects_of_another_number_are_named(subjects):
    with pytest.raises(ValueError, match=rf"arrays\[0\] must be .* each of the {len(subjects)} subjects"):
        bootstrap_interval(np.mean, subjects, [1, 2])
