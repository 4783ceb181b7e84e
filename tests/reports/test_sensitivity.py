"""Laws of the sensitivity report and of intervals over crossed clusters."""

import itertools

import numpy as np
import pandas as pd
import pytest

from segconf_lite.evaluation import cluster_interval, crossed_interval, mean_interval, variance_explained
from segconf_lite.reports import sensitivity_report


def grid(*n_levels, n_repeats=1):
    """A row per cell and repeat: columns a, b, ... and repeat."""
    names = "abcde"[: len(n_levels)]
    rows = itertools.product(*map(range, n_levels), range(n_repeats))
    return pd.DataFrame(rows, columns=[*names, "repeat"])


@pytest.fixture
def two_by_two():
    """Outcome 3 a + b + 2 a b: marginal means differ by 4 and 2, departures from additivity are +-0.5."""
    table = grid(2, 2, n_repeats=3)
    return table.assign(outcome=3.0 * table["a"] + table["b"] + 2 * table["a"] * table["b"])


def report(table, **options):
    options = {"outcome": "outcome", "factors": ["a", "b"], "n_resamples": 50} | options
    return sensitivity_report(table, **options).set_index("factor")


def random_table(seed=0):
    rng = np.random.default_rng(seed)
    table = grid(3, 4, 2, n_repeats=5)
    return table.assign(outcome=rng.normal(size=len(table)) + 0.7 * table["a"])


# -- variance explained -------------------------------------------------------------------------------------


def test_variance_explained_on_known_groups():
    assert variance_explained([0, 0, 4, 4], ["x", "x", "y", "y"]) == 1
    assert variance_explained([0, 4, 0, 4], ["x", "x", "y", "y"]) == 0
    assert variance_explained([0, 2, 2, 4], ["x", "x", "y", "y"]) == pytest.approx(0.5)
    assert np.isnan(variance_explained([0.1, 0.1, 0.1], [1, 2, 2]))


def test_variance_explained_by_shuffled_levels_is_what_chance_gives():
    rng = np.random.default_rng(0)
    outcome, levels = rng.normal(size=30), np.arange(30) % 5
    found = [variance_explained(outcome, rng.permutation(levels)) for _ in range(600)]
    assert np.mean(found) == pytest.approx(4 / 29, abs=0.012)


def test_variance_explained_refuses_bad_input():
    with pytest.raises(ValueError, match=r"one non-empty shape \(n_rows,\), got \(2,\) and \(3,\)"):
        variance_explained([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="outcome must be finite, got 1 values"):
        variance_explained([1, np.nan], [1, 2])


# -- report -------------------------------------------------------------------------------------------------


def test_two_by_two_known_answer(two_by_two):
    found = report(two_by_two, interactions=True)
    # sums of squares of the means 0, 1, 3, 6 around 2.5: 21 = 16 (a) + 4 (b) + 1 (both)
    assert found["share"].to_dict() == pytest.approx({"a": 16 / 21, "b": 4 / 21, "a x b": 1 / 21})
    assert found["range"].to_dict() == pytest.approx({"a": 4, "b": 2, "a x b": 1})
    assert found.loc["a", ["highest", "lowest", "n_levels"]].to_list() == ["1", "0", 2]
    assert {found.loc["a x b", "highest"], found.loc["a x b", "lowest"]} <= {
        "a=0, b=0", "a=1, b=1", "a=0, b=1", "a=1, b=0",
    }  # fmt: skip
    assert (found["design"] == "balanced").all()


def test_main_effects_of_a_balanced_table_are_plain_eta_squared():
    table = random_table()
    found = report(table, factors=["a", "b", "c"])
    for name in ("a", "b", "c"):
        assert found.loc[name, "share"] == pytest.approx(variance_explained(table["outcome"], table[name]))


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_a_balanced_table_sum_to_at_most_one(seed):
    found = report(random_table(seed), factors=["a", "b", "c"], interactions=True)
    assert len(found) == 6
    assert 0 < found["share"].sum() <= 1
    assert found["share"].is_monotonic_decreasing


def test_without_noise_two_factors_and_their_interaction_explain_everything():
    table = grid(3, 4)
    table["outcome"] = np.random.default_rng(0).normal(size=12)
    assert report(table, interactions=True)["share"].sum() == pytest.approx(1)


def test_unit_offset_names_and_order_of_rows_do_not_matter():
    table = random_table()
    other = table.assign(outcome=1e6 - 3 * table["outcome"], a=table["a"].map({0: "z", 1: "y", 2: "x"}))
    expected, found = report(table), report(other.sample(frac=1, random_state=0))
    assert found["share"].to_dict() == pytest.approx(expected["share"].to_dict(), rel=1e-6)
    assert found["range"].to_dict() == pytest.approx((3 * expected["range"]).to_dict(), rel=1e-6)
    assert found.loc["a", "lowest"] == {"0": "z", "1": "y", "2": "x"}[expected.loc["a", "highest"]]


def test_unequal_cells_are_named_and_do_not_mix_factors(two_by_two):
    more = pd.concat([two_by_two, *[two_by_two.query("a == 1 and b == 1")] * 9])
    found = report(more, interactions=True)
    assert (found["design"] == "unequal cells").all()
    assert found["share"].to_dict() == pytest.approx({"a": 16 / 21, "b": 4 / 21, "a x b": 1 / 21})


def test_missing_cells_are_named(two_by_two):
    assert (report(two_by_two.query("a == 0 or b == 0"))["design"] == "missing cells").all()


def test_clusters_that_repeat_exactly_leave_no_doubt_and_one_cluster_says_nothing(two_by_two):
    found = report(two_by_two, clusters="repeat")
    assert found["low"].to_list() == pytest.approx(found["share"].to_list())
    assert found["high"].to_list() == pytest.approx(found["share"].to_list())
    alone = report(two_by_two.assign(repeat=1), clusters="repeat")
    assert alone[["low", "high"]].isna().all(axis=None)


def test_intervals_hold_the_estimate_and_are_wider_over_clusters_that_share_an_effect():
    rng = np.random.default_rng(0)
    table = grid(2, 2, 8, n_repeats=5).rename(columns={"c": "network"})
    slope = rng.normal(1, 1, 8)[table["network"]]  # the effect of a differs between networks
    table["outcome"] = slope * table["a"] + rng.normal(0, 0.3, len(table))
    rows, networks = (report(table, clusters=c, n_resamples=300).loc["a"] for c in (None, "network"))
    for found in (rows, networks):
        assert 0 <= found["low"] <= found["share"] <= found["high"] <= 1
    assert np.ptp(networks[["low", "high"]]) > 1.5 * np.ptp(rows[["low", "high"]])


def test_crossed_clusters_are_taken():
    rng = np.random.default_rng(1)
    table = grid(2, 10, 3).rename(columns={"b": "image", "c": "seed"})
    table["outcome"] = table["a"] + rng.normal(size=len(table))
    found = report(table, factors=["a"], clusters=["image", "seed"]).loc["a"]
    assert found["low"] < found["share"] < found["high"]


def test_equal_seeds_give_equal_reports_and_a_constant_outcome_has_no_shares():
    pd.testing.assert_frame_equal(report(random_table(), seed=3), report(random_table(), seed=3))
    flat = report(random_table().assign(outcome=0.1))
    assert flat[["share", "low", "high"]].isna().all(axis=None)


def test_report_refuses_bad_input(two_by_two):
    with pytest.raises(ValueError, match=r"lacks the columns \['c'\]; it has \['a', 'b'"):
        report(two_by_two, factors=["a", "c"])
    with pytest.raises(ValueError, match="outcome must be finite, got 12 values"):
        report(two_by_two.assign(outcome=np.nan))
    with pytest.raises(ValueError, match=r"'b' needs two levels or more, .*got 1 levels and 0 missing"):
        report(two_by_two.assign(b=1))
    with pytest.raises(ValueError, match=r"fewer than the 12 rows.*got 12 levels"):
        report(two_by_two.assign(b=range(12)))
    with pytest.raises(ValueError, match="got 1 levels and 6 missing: drop or bin"):
        report(two_by_two.assign(b=two_by_two["b"].where(two_by_two["b"] == 0)))


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
    with pytest.raises(ValueError, match=r"share one shape \(n,\), got \(2,\), \(2,\) and \(3,\)"):
        crossed_interval([1, 2], [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="no defined value among 2"):
        crossed_interval([np.nan, np.nan], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        crossed_interval([1, 2], [1, 2], [1, 2], level=95)
    table = pd.DataFrame({"value": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"lacks the columns \['image'\]"):
        cluster_interval(len, table, clusters=["image"])
    with pytest.raises(ValueError, match="clusters must name one column or more"):
        cluster_interval(len, table, clusters=[])
    with pytest.raises(ValueError, match=r"finite or NaN .*, got infinity"):
        crossed_interval([1, np.inf], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="no name on one side"):
        crossed_interval([1, 2], [1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="n_resamples must be >= 1, got 0"):
        crossed_interval([1, 2], [1, 2], [1, 2], n_resamples=0)
    with pytest.raises(ValueError, match="no rows"):
        cluster_interval(len, table[:0], clusters=["value"])


@pytest.mark.parametrize("interactions", [False, True])
def test_share_by_chance_is_that_of_noise(interactions):
    """Whatever the design: rare levels take up more of the noise than their degrees of freedom tell."""
    rng, found = np.random.default_rng(0), []
    lopsided = pd.DataFrame({"a": np.repeat([0, 1], [4, 36]), "b": np.arange(40) % 3})
    for design in (lopsided, grid(2, 3, n_repeats=7)):
        noise = [
            report(
                design.assign(outcome=rng.normal(size=len(design))), interactions=interactions, n_resamples=1
            )
            for _ in range(80)
        ]
        found.append((noise[0]["share_by_chance"], sum(table["share"] for table in noise) / len(noise)))
    for told, measured in found:
        np.testing.assert_allclose(told.sort_index(), measured.sort_index(), rtol=0.25, atol=0.01)
    assert found[0][0]["a"] > 2 / 39  # one degree of freedom in 39 would be half of that


def test_rows_without_a_cluster_are_refused():
    table = pd.DataFrame({"a": [0, 0, 1, 1], "y": [1.0, 2, 3, 4], "subject": ["p", None, "q", "q"]})
    with pytest.raises(ValueError, match="1 rows have no subject"):
        sensitivity_report(table, outcome="y", factors="a", clusters="subject")
