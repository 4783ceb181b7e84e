"""Laws of the failure report."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite.cohorts import phantom
from segconf_lite.evaluation import case_table, mean_interval
from segconf_lite.reports import failure_report


@pytest.fixture
def cases():
    """Domain A: quality 0.00 to 0.19 in steps of 0.01; domain B: 0.80 to 0.99."""
    quality = np.concatenate([np.arange(20) / 100, 0.8 + np.arange(20) / 100])
    return pd.DataFrame(
        {
            "domain": np.repeat(["A", "B"], 20),
            "subject": np.arange(40) // 4,
            "quality": quality,
            "area": np.arange(40)[::-1],
        },
        index=np.arange(40) + 100,
    )


def row(report, stratum):
    return report.summary.set_index("stratum").loc[stratum]


def test_known_answers(cases):
    report = failure_report(cases, threshold=0.1)
    assert report.summary[["kind", "stratum"]].to_numpy().tolist() == [
        ["all", "all"],
        ["domain", "A"],
        ["domain", "B"],
    ]
    assert row(report, "all")["share_below"] == 0.25
    assert row(report, "A")["share_below"] == 0.5  # 0.10 itself did not fail
    assert row(report, "A")["median"] == pytest.approx(0.095)
    assert row(report, "B")["mean"] == pytest.approx(0.895)
    assert row(report, "B")["p05"] == pytest.approx(np.quantile(cases["quality"][20:], 0.05))
    assert report.summary["n_cases"].to_list() == [40, 20, 20]
    assert report.summary["n_subjects"].to_list() == [10, 5, 5]
    assert report.undefined == 0
    assert report.size_edges is None


def test_interval_is_that_of_a_mean_over_subjects(cases):
    report = failure_report(cases, threshold=0.1, n_resamples=300, seed=4)
    expected = mean_interval(cases["quality"] < 0.1, cases["subject"], n_resamples=300, seed=4)
    assert tuple(row(report, "all")[["share_below", "low", "high"]]) == pytest.approx(tuple(expected))


def test_no_failure_seen_does_not_mean_none_possible(cases):
    found = failure_report(cases, threshold=0.5)
    limit = 1 - 0.025 ** (1 / 5)
    assert tuple(row(found, "B")[["share_below", "low", "high"]]) == pytest.approx((0, 0, limit))
    assert tuple(row(found, "A")[["share_below", "low", "high"]]) == pytest.approx((1, 1 - limit, 1))


def test_one_subject_has_no_interval(cases):
    report = failure_report(cases.assign(subject="only"), by=())
    assert report.summary[["low", "high"]].isna().all(axis=None)


def test_worst_cases_keep_their_index_and_columns(cases):
    worst = failure_report(cases.sample(frac=1, random_state=0), n_worst=3).worst
    assert worst.index.to_list() == [100, 101, 102]
    assert list(worst.columns) == list(cases.columns)
    assert failure_report(cases, n_worst=0).worst.empty
    assert len(failure_report(cases, n_worst=99).worst) == 40


def test_undefined_quality_is_counted_and_enters_nothing_else(cases):
    holes = cases.copy()
    holes.loc[[100, 101, 120], "quality"] = np.nan
    report, expected = failure_report(holes), failure_report(holes.dropna())
    assert report.undefined == 3
    assert report.summary["n_undefined"].to_list() == [3, 2, 1]
    pd.testing.assert_frame_equal(
        report.summary.drop(columns="n_undefined"), expected.summary.drop(columns="n_undefined")
    )
    pd.testing.assert_frame_equal(report.worst, expected.worst)


def test_a_stratum_without_defined_quality_is_shown_empty(cases):
    holes = cases.assign(quality=cases["quality"].where(cases["domain"] == "B"))
    gone = row(failure_report(holes), "A")
    assert gone[["n_cases", "n_undefined"]].to_list() == [0, 20]
    assert np.isnan([gone["mean"], gone["share_below"], gone["low"]]).all()


def test_tertiles_of_size_hold_a_third_each_and_order_cases_by_size(cases):
    report = failure_report(cases.iloc[:39], by=(), sizes="area")
    assert report.summary["stratum"].to_list() == ["all", "small", "middle", "large"]
    assert report.summary["n_cases"].to_list() == [39, 13, 13, 13]
    assert row(report, "small")["mean"] > row(report, "large")["mean"]  # area falls as quality rises
    assert report.size_edges == pytest.approx(tuple(np.quantile(np.arange(1, 40), [1 / 3, 2 / 3])))


def test_equal_sizes_stay_together(cases):
    report = failure_report(cases.assign(area=7.0), by=(), sizes="area")
    assert report.summary["stratum"].to_list() == ["all", "small"]


def test_order_of_cases_and_a_missing_stratum_name_do_not_matter(cases):
    cases["domain"] = cases["domain"].where(cases["domain"] == "A")
    report = failure_report(cases, threshold=0.1)
    assert report.summary["stratum"].to_list() == ["all", "A", "nan"]
    shuffled = failure_report(cases.sample(frac=1, random_state=1), threshold=0.1)
    pd.testing.assert_series_equal(row(report, "A"), row(shuffled, "A"))


def test_a_table_of_cases_goes_in_as_it_is():
    cohort = phantom.cohort(12, size=32)
    chances = np.moveaxis(np.eye(4)[np.roll(cohort.labels, 2, axis=1)], -1, 1)
    report = failure_report(case_table(chances, cohort, empty="skip"), n_worst=2)
    assert row(report, "A")["n_subjects"] == 2
    assert len(cohort.take(report.worst.index)) == 2


def test_bad_input(cases):
    with pytest.raises(ValueError, match=r"got none called \['area_mm2'\]; it has \['domain'"):
        failure_report(cases, sizes="area_mm2")
    with pytest.raises(
        ValueError, match="quality must be defined for one case at least, got NaN in all 40 cases"
    ):
        failure_report(cases.assign(quality=np.nan))
    with pytest.raises(
        ValueError, match=r"quality must be finite, got infinity in 40 cases .* take a quality such as Dice"
    ):
        failure_report(cases.assign(quality=np.inf))
    with pytest.raises(
        ValueError,
        match=r"area must be finite, got NaN or infinity in 40 cases .* an empty reference has size 0",
    ):
        failure_report(cases.assign(area=np.nan), sizes="area")
    with pytest.raises(ValueError, match="n_worst must be an integer >= 0, got -1"):
        failure_report(cases, n_worst=-1)


def test_bad_input_of_intervals_is_refused(cases):
    with pytest.raises(
        ValueError, match=r"subject must be text or integers, none missing, got nan \(entry 0\)"
    ):
        failure_report(cases.assign(subject=[np.nan] * 2 + ["x"] * 38))
    mixed = cases.assign(subject=[1] * 3 + ["x"] * 37)
    with pytest.raises(
        ValueError, match=r"subject must be all text or all integers, .* make all of them text"
    ):
        failure_report(mixed)
    assert len(failure_report(mixed.assign(subject=mixed["subject"].astype(str))).summary) > 1
    with pytest.raises(ValueError, match="threshold must be a finite number, got nan"):
        failure_report(cases, threshold=float("nan"))
    with pytest.raises(ValueError, match=r"n_resamples must be an integer in \[1, 1e\+06\], got 0"):
        failure_report(cases, n_resamples=0)


def test_one_stratifying_column_needs_no_list(cases):
    pd.testing.assert_frame_equal(
        failure_report(cases, by="domain").summary, failure_report(cases, by=["domain"]).summary
    )


def test_half_precision_and_categories_of_quality_are_averaged_as_numbers(cases):
    expected = failure_report(cases.assign(quality=cases["quality"].round(1))).summary
    as_categories = failure_report(cases.assign(quality=cases["quality"].round(1).astype("category"))).summary
    pd.testing.assert_frame_equal(as_categories, expected)
    half = failure_report(cases.assign(quality=cases["quality"].astype(np.float16))).summary
    assert half["mean"].to_numpy() == pytest.approx(
        failure_report(cases).summary["mean"].to_numpy(), abs=1e-3
    )


def test_columns_and_numbers_that_are_none(cases):
    for options, message in (
        ({"by": [None]}, r"by must be text or integers, none missing"),
        ({"quality": ["quality"]}, "quality, subject and sizes must be text or integers"),
        ({"n_worst": 1.5}, "n_worst must be an integer >= 0, got 1.5"),
        ({"threshold": "0.5"}, "threshold must be a finite number"),
        ({"subject": "domain", "seed": -1}, "seed must be an integer >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            failure_report(cases, **options)
    with pytest.raises(ValueError, match="cases must be a table with rows"):
        failure_report(cases[:0])
