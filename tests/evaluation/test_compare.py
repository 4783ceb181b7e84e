import numpy as np
import pandas as pd
import pytest

from segconf_lite.evaluation import compare_methods, excess_aurc, rank_correlation


@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    risk = rng.random(40)
    return pd.DataFrame(
        {"domain": np.repeat(["B", "A"], 20), "subject": np.arange(40) // 4, "risk": risk, "good": risk,
         "noisy": risk + rng.normal(0, 0.3, 40), "flat": 0.0}
    )  # fmt: skip


def test_each_group_and_method_alone(cases):
    table = compare_methods(cases, ["good", "noisy"], statistic="rank_correlation")
    assert list(table["domain"]) == ["B", "B", "A", "A"]
    assert table.loc[table["method"] == "good", "estimate"].to_list() == pytest.approx([1, 1])
    part = cases[cases["domain"] == "A"]
    expected = rank_correlation(part["risk"], part["noisy"], subjects=part["subject"])
    assert tuple(table.iloc[3][["estimate", "low", "high"]]) == pytest.approx(tuple(expected))
    assert table["n_cases"].to_list() == [20] * 4
    assert table["n_subjects"].to_list() == [5] * 4


def test_a_flat_uncertainty_orders_nothing_but_has_an_area(cases):
    assert compare_methods(cases, ["flat"], statistic="rank_correlation")["estimate"].isna().all()
    areas = compare_methods(cases, ["flat", "good"], statistic="excess_aurc")
    part = cases[cases["domain"] == "B"]
    assert areas.iloc[0]["estimate"] == pytest.approx(excess_aurc(part["risk"], part["flat"]))
    assert areas.iloc[1]["estimate"] == 0


def test_undefined_risks_are_left_out(cases):
    cases.loc[0, "risk"] = np.nan
    assert compare_methods(cases, ["noisy"], statistic="linear_correlation")["n_cases"].to_list() == [19, 20]


def test_bad_input(cases):
    with pytest.raises(ValueError, match=r"statistic must be one of .*'excess_aurc'.*got 'auroc'"):
        compare_methods(cases, ["good"], statistic="auroc")
    with pytest.raises(ValueError, match=r"lacks the columns \['better'\]"):
        compare_methods(cases, ["better"], statistic="excess_aurc")
