"""Laws of the sensitivity report and of intervals over crossed clusters."""

import itertools

import numpy as np
import pandas as pd
import pytest

from segconf_lite.evaluation import variance_explained
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


# -- report -------------------------------------------------------------------------------------------------


def test_two_by_two_known_answer(two_by_two):
    found = report(two_by_two, interactions=True)
    # sums of squares of the means 0, 1, 3, 6 around 2.5: 21 = 16 (a) + 4 (b) + 1 (both)
    assert found["share"].to_dict() == pytest.approx({"a": 16 / 21, "b": 4 / 21, "a x b": 1 / 21})
    assert found["range"].to_dict() == pytest.approx({"a": 4, "b": 2, "a x b": 1})
    assert found.loc["a", ["highest", "lowest", "n_levels"]].to_list() == ["1", "0", 2]
    assert {found.loc["a x b", "highest"], found.loc["a x b", "lowest"]} <= {
        "a=0, b=0",
        "a=1, b=1",
        "a=0, b=1",
        "a=1, b=0",
    }
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
    with pytest.raises(ValueError, match=r"got none called \['c'\]; it has \['a', 'b'"):
        report(two_by_two, factors=["a", "c"])
    with pytest.raises(ValueError, match="outcome must be finite, got NaN or infinity in 12 cases"):
        report(two_by_two.assign(outcome=np.nan))
    with pytest.raises(
        ValueError, match=r"b must be a factor of two levels or more, .*got 1 levels and 0 missing"
    ):
        report(two_by_two.assign(b=1))
    with pytest.raises(ValueError, match=r"fewer than the 12 rows.*got 12 levels"):
        report(two_by_two.assign(b=range(12)))
    with pytest.raises(ValueError, match="got 1 levels and 6 missing; drop or bin"):
        report(two_by_two.assign(b=two_by_two["b"].where(two_by_two["b"] == 0)))


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
    with pytest.raises(
        ValueError, match=r"subject must be text or integers, none missing, got nan \(entry 1\)"
    ):
        sensitivity_report(table, outcome="y", factors="a", clusters="subject")


def test_huge_outcomes_have_the_shares_of_their_unit():
    table = random_table()
    expected, huge = report(table), report(table.assign(outcome=table["outcome"] * 1e200))
    assert huge["share"].to_dict() == pytest.approx(expected["share"].to_dict())
    assert (huge["range"] / 1e200).to_dict() == pytest.approx(expected["range"].to_dict())


def test_levels_without_an_order_are_refused(two_by_two):
    with pytest.raises(ValueError, match=r"factors must be columns of text or of numbers, .* use \.astype"):
        report(two_by_two.assign(b=[object(), 1] * 6))


def test_settings_that_are_none(two_by_two):
    for options, message in (
        ({"factors": ["a", "a"]}, "outcome and factors must be different from each other"),
        ({"factors": []}, "factors must be one column or more"),
        ({"interactions": "no"}, "interactions must be one of"),
        ({"n_resamples": 0}, "n_resamples must be an integer"),
        ({"outcome": "c"}, r"got none called \['c'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            report(two_by_two, **options)
