"""Laws of correlation and detection: known answers, invariances, agreement with scipy."""

import numpy as np
import pytest
from scipy import stats

from segconf_lite.evaluation import correlation, detection
from segconf_lite.evaluation.intervals import bootstrap_interval

RNG = np.random.default_rng(0)
RISK = RNG.uniform(size=60)
UNCERTAINTY = RISK + RNG.normal(size=60)
SUBJECTS = np.arange(60) // 3


def test_agrees_with_scipy_also_under_ties():
    tied = np.round(UNCERTAINTY)
    for values in (UNCERTAINTY, tied):
        assert correlation.rank_correlation(RISK, values).estimate == pytest.approx(
            stats.spearmanr(RISK, values).statistic
        )
        assert correlation.linear_correlation(RISK, values).estimate == pytest.approx(
            stats.pearsonr(RISK, values).statistic
        )


def test_only_the_order_counts_and_the_sign_turns():
    same = correlation.rank_correlation(RISK, np.exp(3 * UNCERTAINTY)).estimate
    assert same == pytest.approx(correlation.rank_correlation(RISK, UNCERTAINTY).estimate)
    assert correlation.rank_correlation(RISK, RISK).estimate == pytest.approx(1)
    assert correlation.rank_correlation(RISK, -RISK).estimate == pytest.approx(-1)


def test_interval_is_over_subjects_and_repeats():
    first = correlation.rank_correlation(RISK, UNCERTAINTY, subjects=SUBJECTS)
    assert first.low < first.estimate < first.high
    assert first == correlation.rank_correlation(RISK, UNCERTAINTY, subjects=SUBJECTS)
    copied = correlation.rank_correlation(RISK.repeat(5), UNCERTAINTY.repeat(5), subjects=SUBJECTS.repeat(5))
    assert (copied.low, copied.high) == pytest.approx((first.low, first.high), abs=1e-9)


@pytest.mark.parametrize("n_subjects", [2, 7, 40])
def test_all_draws_at_once_give_the_interval_of_one_draw_after_the_other(n_subjects):
    rng = np.random.default_rng(n_subjects)
    subjects = rng.integers(n_subjects, size=60).astype(str)  # of unequal size, in no order
    risk, uncertainty = np.round(4 * RISK), np.round(UNCERTAINTY, 1)
    if n_subjects == 2:
        risk[subjects == "0"] = 1.0  # draws of that subject alone have no correlation
    at_once = correlation.rank_correlation(risk, uncertainty, subjects=subjects, n_resamples=200, seed=3)
    in_turn = bootstrap_interval(
        lambda a, b: correlation._pearson(stats.rankdata(a), stats.rankdata(b)),
        subjects, risk, uncertainty, n_resamples=200, seed=3,
    )  # fmt: skip
    np.testing.assert_allclose(at_once, in_turn, rtol=0, atol=1e-12)


def test_differences_too_are_those_of_one_draw_after_the_other():
    second = np.round(UNCERTAINTY[::-1])
    spearman = lambda a, b: correlation._pearson(stats.rankdata(a), stats.rankdata(b))  # noqa: E731
    in_turn = bootstrap_interval(
        lambda r, a, b: spearman(r, a) - spearman(r, b),
        SUBJECTS, RISK, UNCERTAINTY, second, n_resamples=200, seed=3,
    )  # fmt: skip
    options = {"subjects": SUBJECTS, "n_resamples": 200, "seed": 3}
    at_once = correlation.rank_correlation_difference(RISK, UNCERTAINTY, second, **options)
    np.testing.assert_allclose(at_once, in_turn, rtol=0, atol=1e-12)


def test_subjects_that_mix_text_and_numbers_are_refused():
    names = np.array([1, "1", 2] * 20, dtype=object)
    with pytest.raises(ValueError, match=r"subjects mix text with numbers .* make all of them text"):
        correlation.rank_correlation(RISK, UNCERTAINTY, subjects=names)


def test_partial_by_domain_ignores_what_the_domains_explain():
    domains = np.arange(200) % 2
    rng = np.random.default_rng(1)
    risk, uncertainty = (5 * domains + rng.normal(size=200) for _ in range(2))
    assert correlation.rank_correlation(risk, uncertainty).estimate > 0.6
    assert abs(correlation.rank_correlation(risk, uncertainty, domains=domains).estimate) < 0.2
    one = correlation.rank_correlation(RISK, UNCERTAINTY, domains=np.zeros(60))
    assert one.estimate == pytest.approx(correlation.rank_correlation(RISK, UNCERTAINTY).estimate)


def test_paired_difference_is_narrower_than_the_two_intervals():
    near_twin = UNCERTAINTY + 0.05 * RNG.normal(size=60)
    alone = correlation.rank_correlation(RISK, UNCERTAINTY, subjects=SUBJECTS)
    paired = correlation.rank_correlation_difference(RISK, UNCERTAINTY, near_twin, subjects=SUBJECTS)
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    same = correlation.rank_correlation_difference(RISK, UNCERTAINTY, UNCERTAINTY, subjects=SUBJECTS)
    assert same == (0, 0, 0)


@pytest.mark.parametrize(
    ("risk", "uncertainty", "message"),
    [
        ([1, 2], [3, 3], "uncertainty is the same for all 2 cases"),
        ([1, 1], [3, 4], "risk is the same for all 2 cases"),
        ([1], [1], "at least 2 cases"),
        ([1, np.nan], [1, 2], "risk has 1 non-finite values"),
    ],
)
def test_undefined_correlations_say_why(risk, uncertainty, message):
    with pytest.raises(ValueError, match=message):
        correlation.rank_correlation(risk, uncertainty)


def test_threshold_passes_at_least_the_stated_share_and_no_lower_one_does():
    for n in (6, 20, 21, 100):
        familiar = np.random.default_rng(n).normal(size=n)
        threshold = detection.detection_threshold(familiar)
        assert (familiar <= threshold).mean() >= 0.95
        assert (familiar < threshold).mean() < 0.95
    assert detection.detection_threshold(np.arange(6)) == 5  # too few for 95 %: all must pass


def test_detection_known_answers():
    familiar = np.arange(100.0)
    assert detection.detection_rate(familiar, familiar) == pytest.approx(0.05)
    assert detection.detection_rate(familiar, familiar + 1000) == 1
    assert detection.detection_rate(familiar, familiar - 1000) == 0
    assert detection.auroc(familiar, familiar) == 0.5
    assert detection.auroc([0, 1], [2, 3]) == 1
    assert detection.auroc([0, 1, 1], [1]) == pytest.approx(2 / 3)


def test_detection_refuses_nonsense():
    with pytest.raises(ValueError, match="familiar_uncertainty must be non-empty"):
        detection.detection_rate([], [1])
    with pytest.raises(ValueError, match="target_uncertainty has 1 non-finite"):
        detection.auroc([1, 2], [np.nan])
    with pytest.raises(ValueError, match="pass_rate must lie above 0"):
        detection.detection_threshold([1], pass_rate=0)
