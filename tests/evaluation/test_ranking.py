"""Laws of risk against coverage, correlation, detection and comparison."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import stats

from segconf_lite.evaluation import ranking
from segconf_lite.evaluation.bootstrap import bootstrap_interval

# eighths are exact in binary: no answer hangs on rounding
RISKS = st_numpy.arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 8).map(lambda k: k / 8))


def draw_order(data, risk):
    return data.draw(st_numpy.arrays(np.float64, risk.shape, elements=st.integers(0, 6).map(float)))


@settings(deadline=None)
@given(RISKS, st.data())
def test_never_negative_and_independent_of_the_order_of_cases(risk, data):
    uncertainty = draw_order(data, risk)
    shuffled = data.draw(st.permutations(range(risk.size)))
    value = ranking.excess_aurc(risk, uncertainty)
    assert value >= 0
    assert ranking.excess_aurc(risk[shuffled], uncertainty[shuffled]) == pytest.approx(value, abs=1e-12)
    assert ranking.aurc(risk, uncertainty) <= risk.max() + 1e-12


@settings(deadline=None)
@given(RISKS)
def test_the_perfect_order_has_no_excess_also_under_ties(risk):
    assert ranking.excess_aurc(risk, risk) == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(RISKS, st.data())
def test_only_the_order_counts(risk, data):
    uncertainty = draw_order(data, risk)
    for measure in (ranking.aurc, ranking.excess_aurc, ranking.augrc):
        assert measure(risk, np.exp(uncertainty)) == pytest.approx(measure(risk, uncertainty))


def test_ties_count_as_the_mean_over_all_ways_to_break_them():
    risk, uncertainty = np.array([0.1, 0.8, 0.4, 0.2]), np.array([0.0, 1.0, 1.0, 1.0])
    ways = [ranking.aurc(risk[[0, *way]], np.arange(4.0)) for way in itertools.permutations((1, 2, 3))]
    assert ranking.aurc(risk, uncertainty) == pytest.approx(np.mean(ways))


def test_known_answers():
    risk, uncertainty = [0.1, 0.2, 0.4, 0.8], [0.3, 0.1, 0.2, 0.9]
    assert ranking.excess_aurc(risk, uncertainty) == pytest.approx(0.0625)  # as published code gives
    assert ranking.aurc(risk, np.zeros(4)) == pytest.approx(np.mean(risk))
    assert ranking.augrc(risk, np.zeros(4)) == pytest.approx(np.mean(risk) * 5 / 8)  # mean of k/n
    assert ranking.aurc([0.3], [5.0]) == 0.3
    assert ranking.risk_at_coverage(risk, uncertainty, 0.5) == pytest.approx(0.3)
    assert ranking.risk_at_coverage(risk, uncertainty, 1.0) == pytest.approx(np.mean(risk))


@settings(deadline=None)
@given(RISKS, st.data())
def test_curve_ends_at_the_mean_risk_and_averages_to_its_areas(risk, data):
    assume(risk.size > 1)
    uncertainty = draw_order(data, risk)
    curve = ranking.risk_coverage(risk, uncertainty)
    assert curve["coverage"].iloc[-1] == 1
    assert curve["selective_risk"].iloc[-1] == pytest.approx(risk.mean())
    assert curve["selective_risk"].mean() == pytest.approx(ranking.aurc(risk, uncertainty))
    assert curve["generalised_risk"].mean() == pytest.approx(ranking.augrc(risk, uncertainty))
    assert (np.diff(curve["generalised_risk"]) >= -1e-12).all()  # keeping more never lets less pass


def test_interval_is_quick_and_holds_the_estimate():
    rng = np.random.default_rng(0)
    risk = rng.uniform(size=2000)
    uncertainty, subjects = risk + rng.normal(size=2000), np.arange(2000) // 6
    start = time.perf_counter()
    interval = ranking.excess_aurc_interval(risk, uncertainty, subjects)
    assert time.perf_counter() - start < 5  # about 0.2 s on two quiet cores
    assert interval.low <= interval.estimate <= interval.high
    assert np.isnan(ranking.excess_aurc_interval(risk, uncertainty, np.zeros(2000)).low)  # one subject


@pytest.mark.parametrize(
    ("risk", "uncertainty", "message"),
    [
        ([], [], r"risk must be non-empty \(n_cases,\), got \(0,\)"),
        ([0.1], [0.1, 0.2], "of one length, one entry per case, got risk 1, uncertainty 2"),
        (
            [0.1, np.nan],
            [0.1, np.inf],
            r"risk must be finite, got NaN or infinity in 1 cases \(first: case 1\); leave",
        ),
        ([[0.1]], [[0.1]], r"risk must be non-empty \(n_cases,\), got \(1, 1\)"),
    ],
)
def test_bad_input_is_refused(risk, uncertainty, message):
    for measure in (ranking.aurc, ranking.excess_aurc, ranking.augrc, ranking.risk_coverage):
        with pytest.raises(ValueError, match=message):
            measure(risk, uncertainty)


def test_bad_coverage_is_refused():
    for coverage in (0, 1.2, -1):
        with pytest.raises(ValueError, match=r"coverage must be a number in \(0, 1\], got"):
            ranking.risk_at_coverage([0.1], [0.2], coverage)


# -- correlation ---------------------------------------------------------------------

RNG = np.random.default_rng(0)
RISK = RNG.uniform(size=60)
UNCERTAINTY = RISK + RNG.normal(size=60)
SUBJECTS = np.arange(60) // 3


def plain_spearman(a, b):
    if min(np.ptp(a), np.ptp(b)) == 0:
        return np.nan
    return np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]


def test_agrees_with_scipy_also_under_ties():
    tied = np.round(UNCERTAINTY)
    for values in (UNCERTAINTY, tied):
        assert ranking.rank_correlation(RISK, values).estimate == pytest.approx(
            stats.spearmanr(RISK, values).statistic
        )
        assert ranking.linear_correlation(RISK, values).estimate == pytest.approx(
            stats.pearsonr(RISK, values).statistic
        )


def test_only_the_order_counts_and_the_sign_turns():
    same = ranking.rank_correlation(RISK, np.exp(3 * UNCERTAINTY)).estimate
    assert same == pytest.approx(ranking.rank_correlation(RISK, UNCERTAINTY).estimate)
    assert ranking.rank_correlation(RISK, RISK).estimate == pytest.approx(1)
    assert ranking.rank_correlation(RISK, -RISK).estimate == pytest.approx(-1)


def test_interval_is_over_subjects_and_repeats():
    first = ranking.rank_correlation(RISK, UNCERTAINTY, subjects=SUBJECTS)
    assert first.low < first.estimate < first.high
    assert first == ranking.rank_correlation(RISK, UNCERTAINTY, subjects=SUBJECTS)
    copied = ranking.rank_correlation(RISK.repeat(5), UNCERTAINTY.repeat(5), subjects=SUBJECTS.repeat(5))
    assert (copied.low, copied.high) == pytest.approx((first.low, first.high), abs=1e-9)


@pytest.mark.parametrize("n_subjects", [2, 7, 40])
def test_all_draws_at_once_give_the_interval_of_one_draw_after_the_other(n_subjects):
    rng = np.random.default_rng(n_subjects)
    subjects = rng.integers(n_subjects, size=60).astype(str)  # of unequal size, in no order
    risk, uncertainty = np.round(4 * RISK), np.round(UNCERTAINTY, 1)
    if n_subjects == 2:
        risk[subjects == "0"] = 1.0  # draws of that subject alone have no correlation
    at_once = ranking.rank_correlation(risk, uncertainty, subjects=subjects, n_resamples=200, seed=3)
    in_turn = bootstrap_interval(
        lambda a, b: plain_spearman(a, b),
        subjects,
        risk,
        uncertainty,
        n_resamples=200,
        seed=3,
    )
    np.testing.assert_allclose(at_once, in_turn, rtol=0, atol=1e-12)


def test_differences_too_are_those_of_one_draw_after_the_other():
    second = np.round(UNCERTAINTY[::-1])
    in_turn = bootstrap_interval(
        lambda r, a, b: plain_spearman(r, a) - plain_spearman(r, b),
        SUBJECTS,
        RISK,
        UNCERTAINTY,
        second,
        n_resamples=200,
        seed=3,
    )
    options = {"subjects": SUBJECTS, "n_resamples": 200, "seed": 3}
    at_once = ranking.rank_correlation_difference(RISK, UNCERTAINTY, second, **options)
    np.testing.assert_allclose(at_once, in_turn, rtol=0, atol=1e-12)


def test_subjects_that_mix_text_and_numbers_are_refused():
    names = np.array([1, "1", 2] * 20, dtype=object)
    with pytest.raises(
        ValueError, match=r"subjects must be all text or all integers, .* make all of them text"
    ):
        ranking.rank_correlation(RISK, UNCERTAINTY, subjects=names)


def test_partial_by_domain_ignores_what_the_domains_explain():
    domains = np.arange(200) % 2
    rng = np.random.default_rng(1)
    risk, uncertainty = (5 * domains + rng.normal(size=200) for _ in range(2))
    assert ranking.rank_correlation(risk, uncertainty).estimate > 0.6
    assert abs(ranking.rank_correlation(risk, uncertainty, domains=domains).estimate) < 0.2
    one = ranking.rank_correlation(RISK, UNCERTAINTY, domains=np.zeros(60))
    assert one.estimate == pytest.approx(ranking.rank_correlation(RISK, UNCERTAINTY).estimate)


def test_paired_difference_is_narrower_than_the_two_intervals():
    near_twin = UNCERTAINTY + 0.05 * RNG.normal(size=60)
    alone = ranking.rank_correlation(RISK, UNCERTAINTY, subjects=SUBJECTS)
    paired = ranking.rank_correlation_difference(RISK, UNCERTAINTY, near_twin, subjects=SUBJECTS)
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    same = ranking.rank_correlation_difference(RISK, UNCERTAINTY, UNCERTAINTY, subjects=SUBJECTS)
    assert same == (0, 0, 0)


@pytest.mark.parametrize(
    ("risk", "uncertainty", "message"),
    [
        ([1, 2], [3, 3], "uncertainty must be different between cases, got one value for all 2 cases"),
        ([1, 1], [3, 4], "risk must be different between cases, got one value for all 2 cases"),
        ([1], [1], "risk must be different between cases, got one value for all 1 cases"),
        ([1, np.nan], [1, 2], r"risk must be finite, got NaN or infinity in 1 cases \(first: case 1\)"),
    ],
)
def test_undefined_correlations_say_why(risk, uncertainty, message):
    with pytest.raises(ValueError, match=message):
        ranking.rank_correlation(risk, uncertainty)


def test_threshold_passes_at_least_the_stated_share_and_no_lower_one_does():
    for n in (6, 20, 21, 100):
        familiar = np.random.default_rng(n).normal(size=n)
        threshold = ranking.detection_threshold(familiar)
        assert (familiar <= threshold).mean() >= 0.95
        assert (familiar < threshold).mean() < 0.95
    assert ranking.detection_threshold(np.arange(6)) == 5  # too few for 95 %: all must pass


def test_detection_known_answers():
    familiar = np.arange(100.0)
    assert ranking.detection_rate(familiar, familiar) == pytest.approx(0.05)
    assert ranking.detection_rate(familiar, familiar + 1000) == 1
    assert ranking.detection_rate(familiar, familiar - 1000) == 0
    assert ranking.auroc(familiar, familiar) == 0.5
    assert ranking.auroc([0, 1], [2, 3]) == 1
    assert ranking.auroc([0, 1, 1], [1]) == pytest.approx(2 / 3)


def test_detection_refuses_nonsense():
    with pytest.raises(ValueError, match="in_distribution_uncertainty must be non-empty"):
        ranking.detection_rate([], [1])
    with pytest.raises(ValueError, match="target_uncertainty must be finite, got NaN or infinity in 1 cases"):
        ranking.auroc([1, 2], [np.nan])
    with pytest.raises(ValueError, match=r"pass_rate must be a number in \(0, 1\], got 0"):
        ranking.detection_threshold([1], pass_rate=0)


# -- variance explained ---------------------------------------------------------------------


def test_variance_explained_on_known_groups():
    assert ranking.variance_explained([0, 0, 4, 4], ["x", "x", "y", "y"]) == 1
    assert ranking.variance_explained([0, 4, 0, 4], ["x", "x", "y", "y"]) == 0
    assert ranking.variance_explained([0, 2, 2, 4], ["x", "x", "y", "y"]) == pytest.approx(0.5)
    assert np.isnan(ranking.variance_explained([0.1, 0.1, 0.1], [1, 2, 2]))


def test_variance_explained_by_shuffled_levels_is_what_chance_gives():
    rng = np.random.default_rng(0)
    outcome, levels = rng.normal(size=30), np.arange(30) % 5
    found = [ranking.variance_explained(outcome, rng.permutation(levels)) for _ in range(600)]
    assert np.mean(found) == pytest.approx(4 / 29, abs=0.012)


def test_variance_explained_refuses_bad_input():
    with pytest.raises(ValueError, match=r"of one length, .*, got outcome 2, factor_levels 3"):
        ranking.variance_explained([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="outcome must be finite, got NaN or infinity in 1 cases"):
        ranking.variance_explained([1, np.nan], [1, 2])


# -- comparison ---------------------------------------------------------------------


@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    risk = rng.random(40)
    return pd.DataFrame(
        {
            "domain": np.repeat(["B", "A"], 20),
            "subject": np.arange(40) // 4,
            "risk": risk,
            "good": risk,
            "noisy": risk + rng.normal(0, 0.3, 40),
            "flat": 0.0,
        }
    )


def test_each_group_and_method_alone(cases):
    table = ranking.compare_methods(cases, ["good", "noisy"], statistic="rank_correlation")
    assert list(table["domain"]) == ["B", "B", "A", "A"]
    assert table.loc[table["method"] == "good", "estimate"].to_list() == pytest.approx([1, 1])
    part = cases[cases["domain"] == "A"]
    expected = ranking.rank_correlation(part["risk"], part["noisy"], subjects=part["subject"])
    assert tuple(table.iloc[3][["estimate", "low", "high"]]) == pytest.approx(tuple(expected))
    assert table["n_cases"].to_list() == [20] * 4
    assert table["n_subjects"].to_list() == [5] * 4


def test_a_flat_uncertainty_orders_nothing_but_has_an_area(cases):
    assert ranking.compare_methods(cases, ["flat"], statistic="rank_correlation")["estimate"].isna().all()
    areas = ranking.compare_methods(cases, ["flat", "good"], statistic="excess_aurc")
    part = cases[cases["domain"] == "B"]
    assert areas.iloc[0]["estimate"] == pytest.approx(ranking.excess_aurc(part["risk"], part["flat"]))
    assert areas.iloc[1]["estimate"] == 0


def test_undefined_risks_are_left_out(cases):
    cases.loc[0, "risk"] = np.nan
    assert ranking.compare_methods(cases, ["noisy"], statistic="linear_correlation")["n_cases"].to_list() == [
        19,
        20,
    ]


def test_bad_comparisons(cases):
    with pytest.raises(ValueError, match=r"statistic must be one of .*'excess_aurc'.*got 'auroc'"):
        ranking.compare_methods(cases, ["good"], statistic="auroc")
    with pytest.raises(
        ValueError, match=r"cases must be a table with columns .*, got none called \['better'\]"
    ):
        ranking.compare_methods(cases, ["better"], statistic="excess_aurc")


# -- edges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coverage", "n_kept"),
    [(1e-12, 1), (0.2, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.6, 3), (0.99, 4), (1, 4)],
)
def test_the_number_of_kept_cases_is_rounded_up(coverage, n_kept):
    risk = np.array([0.1, 0.2, 0.4, 0.9])
    assert ranking.risk_at_coverage(risk, np.arange(4), coverage) == pytest.approx(risk[:n_kept].mean())


@pytest.mark.parametrize("unit", [1e80, 1e-81, 1e200, 1e-200, 1e300, 1e-300])
def test_the_unit_of_risk_and_uncertainty_never_matters(unit):
    for correlate in (ranking.linear_correlation, ranking.rank_correlation):
        expected = correlate(RISK, UNCERTAINTY, subjects=SUBJECTS, n_resamples=50)
        for pair in (
            (RISK * unit, UNCERTAINTY),
            (RISK, UNCERTAINTY * unit),
            (RISK * unit, UNCERTAINTY * unit),
        ):
            assert correlate(*pair, subjects=SUBJECTS, n_resamples=50) == pytest.approx(expected)
        within = correlate(RISK * unit, UNCERTAINTY / unit, domains=SUBJECTS % 2)
        assert within.estimate == pytest.approx(correlate(RISK, UNCERTAINTY, domains=SUBJECTS % 2).estimate)
    for area in (ranking.aurc, ranking.excess_aurc, ranking.augrc):
        assert area(RISK * unit, UNCERTAINTY) / unit == pytest.approx(area(RISK, UNCERTAINTY))
    explained = ranking.variance_explained(RISK * unit, SUBJECTS)
    assert explained == pytest.approx(ranking.variance_explained(RISK, SUBJECTS))


def test_sums_beyond_the_largest_float_are_no_trouble():
    risk = np.array([1.5, 0.5, 1.0]) * 1e308
    assert ranking.aurc(risk, [3, 1, 2]) / 1e308 == pytest.approx((0.5 + 0.75 + 1) / 3)
    assert ranking.linear_correlation(risk * [1, -1, 1], risk).estimate == pytest.approx(
        np.corrcoef([1.5, -0.5, 1], [1.5, 0.5, 1])[0, 1]
    )


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12, unique=True))
def test_a_correlation_never_leaves_its_range(values):
    for other in (values, [-v for v in values], [3 * v + 1 for v in values]):
        if min(other) < max(other):
            assert -1 <= ranking.linear_correlation(values, other).estimate <= 1


def test_resamples_of_one_repeated_value_have_no_correlation():
    """The mean of 0.1, 0.1, 0.1 is not 0.1, so that a plain formula would say 1 or -1."""
    risk, uncertainty = [0.1, 0.1, 0.1, 0.7, 0.7, 0.7], [0.3, 0.3, 0.3, 0.1, 0.1, 0.1]
    interval = ranking.linear_correlation(risk, uncertainty, subjects=list("aaabbb"), n_resamples=50)
    assert tuple(interval) == pytest.approx((-1, -1, -1))
    with pytest.raises(ValueError, match="must be different between cases of a domain"):
        ranking.linear_correlation(risk, uncertainty, domains=list("aaabbb"))


def test_no_group_and_no_case_vanishes_from_a_comparison(cases):
    cases.loc[cases["domain"] == "A", "risk"] = np.nan
    table = ranking.compare_methods(cases, ["noisy"], statistic="excess_aurc")
    assert table[["domain", "n_cases", "n_subjects"]].to_numpy().tolist() == [["B", 20, 5], ["A", 0, 0]]
    assert table["estimate"].isna().to_list() == [False, True]
    for column, message in (
        ("domain", r"cases\['domain'\] must be named for every case, got 3 missing"),
        ("subject", r"cases\['subject'\] must be text or integers, none missing"),
    ):
        holes = cases.copy()
        holes[column] = holes[column].astype(object)
        holes.loc[:2, column] = None
        with pytest.raises(ValueError, match=message):
            ranking.compare_methods(holes, ["noisy"], statistic="excess_aurc")
    with pytest.raises(ValueError, match="risk must be finite, got infinity in 1 cases"):
        ranking.compare_methods(cases.assign(risk=[np.inf] + [0.5] * 39), ["noisy"], statistic="excess_aurc")
    with pytest.raises(ValueError, match="methods must be a list of names"):
        ranking.compare_methods(cases, "noisy", statistic="excess_aurc")
    with pytest.raises(ValueError, match=r"by must be different from each other, got \['method'\]"):
        ranking.compare_methods(cases.assign(method="x"), ["noisy"], statistic="excess_aurc", by="method")
