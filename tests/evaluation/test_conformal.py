"""Laws of the promises: they are kept as often as they say, and refused where nothing can be promised."""

import warnings

import numpy as np
import pytest
from scipy import stats

from segconf_lite.evaluation import conformal
from segconf_lite.evaluation.conformal import (
    DensityRatio,
    conformal_quantile,
    density_ratio,
    effective_sample_size,
    exchangeability_martingale,
    false_negative_rates,
    quality_lower_bound,
    risk_controlling_threshold,
    smallest_calibration_size,
    weighted_quantile,
)


def cases(rng, n, shift=0.0):
    """Predicted and true quality of n cases; a shift makes the predictions too good."""
    quality = rng.beta(8, 2, n)
    return np.clip(quality + rng.normal(shift, 0.05, n), 0, 1), quality


# -- the quantile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "level"), [(9, 0.9), (50, 0.9), (100, 0.8), (99, 0.95)])
def test_coverage_lies_in_its_binomial_interval(n, level):
    rng, repeats = np.random.default_rng(0), 4000
    covered = sum(rng.normal() <= conformal_quantile(rng.normal(size=n), level=level) for _ in range(repeats))
    promised = np.ceil((n + 1) * level - 1e-9) / (n + 1)
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, promised)
    assert low <= covered <= high
    assert level <= promised <= level + 1 / (n + 1)


@pytest.mark.parametrize("seed", range(3))
def test_quantile_rises_with_the_level_and_knows_no_order(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=60)
    levels = np.linspace(0.05, 0.98, 40)
    found = [conformal_quantile(scores, level=level) for level in levels]
    assert (np.diff(found) >= 0).all()
    assert found == [conformal_quantile(rng.permutation(scores), level=level) for level in levels]
    assert conformal_quantile(3 * scores + 1, level=0.9) == pytest.approx(3 * found_at(scores) + 1)


def found_at(scores, level=0.9):
    return conformal_quantile(scores, level=level)


@pytest.mark.parametrize("n", [10, 19, 37, 200])  # MAPIE wants one more than the smallest, 9
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_quantile_is_that_of_mapie(n, level):
    """MAPIE's interval is symmetric, so scores that are absolute residuals have the same quantile."""
    mapie = pytest.importorskip("mapie.regression", exc_type=ImportError)
    dummy = pytest.importorskip("sklearn.dummy")
    residuals = np.random.default_rng(n).normal(size=n)
    x, zero = np.zeros((n, 1)), dummy.DummyRegressor(strategy="constant", constant=0.0)
    model = mapie.SplitConformalRegressor(zero.fit(x, residuals), confidence_level=level, prefit=True)
    _, interval = model.conformalize(x, residuals).predict_interval(x[:1])
    assert interval[0, 1, 0] == pytest.approx(conformal_quantile(abs(residuals), level=level))


def test_smallest_size_is_the_smallest_that_is_accepted():
    for level in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        n = smallest_calibration_size(level)
        assert np.ceil((n + 1) * level - 1e-9) <= n
        assert conformal_quantile(np.arange(n), level=level) == n - 1
        if n > 1:
            with pytest.raises(
                ValueError, match=rf"ceil\(1 / \(1 - level\)\) - 1 = {n} cases, got {n - 1}; add"
            ):
                conformal_quantile(np.arange(n - 1), level=level)


# -- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_equal_weights_are_the_plain_quantile(level):
    rng = np.random.default_rng(1)
    for n in (19, 40, 99):
        scores = rng.normal(size=n).round(1)  # ties
        plain = conformal_quantile(scores, level=level)
        for weight in (1.0, 1e-12, 1e12):
            found = weighted_quantile(scores, np.full(n, weight), np.full(3, weight), level=level)
            np.testing.assert_array_equal(found, plain)


def test_weights_know_no_order_no_scale_and_rise_with_the_level():
    rng = np.random.default_rng(2)
    scores, weights, new = rng.normal(size=80), rng.exponential(size=80), rng.exponential(size=20)
    order = rng.permutation(80)
    plain = weighted_quantile(scores, weights, new, level=0.8)
    np.testing.assert_array_equal(weighted_quantile(scores[order], weights[order], new, level=0.8), plain)
    np.testing.assert_array_equal(weighted_quantile(scores, 7 * weights, 7 * new, level=0.8), plain)
    assert (weighted_quantile(scores, weights, new, level=0.9) >= plain).all()
    assert (weighted_quantile(scores, weights, 2 * new, level=0.8) >= plain).all()
    repeated = np.repeat(scores, 2)  # a case of weight 2 is two cases
    twice = weighted_quantile(repeated, np.ones(160), [1.0], level=0.8)
    np.testing.assert_array_equal(weighted_quantile(scores, np.full(80, 2.0), [1.0], level=0.8), twice)


def test_a_new_case_that_outweighs_all_is_promised_nothing():
    assert weighted_quantile([0.1, 0.2], [1, 1], [100.0], level=0.9).tolist() == [np.inf]
    ratio = DensityRatio(np.ones(60), np.array([1.0, 1e6]), 60.0, 0.5)
    found = quality_lower_bound(np.full(60, 0.9), np.full(60, 0.85), [0.9, 0.9], level=0.9, ratio=ratio)
    assert found.bound.tolist() == [pytest.approx(0.85), 0.0]


def test_effective_size_of_known_weights():
    assert effective_sample_size(np.ones(7)) == pytest.approx(7)
    assert effective_sample_size([1, 0, 0]) == 1
    assert effective_sample_size([1e-200, 1e-200]) == pytest.approx(2)
    rng = np.random.default_rng(0)
    assert 1 <= effective_sample_size(rng.exponential(size=50)) < 50


@pytest.mark.parametrize("shift", [0.5, 0.65])
def test_weighted_coverage_is_within_three_points_where_enough_cases_are_left(shift):
    """Two known densities, N(0, 1) and N(shift, 1); the error grows with x, so plain bounds are too high."""
    rng, level, n = np.random.default_rng(3), 0.9, 250
    plain, exact, fitted, sizes = [], [], [], []
    for _ in range(120):
        old, new = rng.normal(0, 1, n), rng.normal(shift, 1, n)
        scores, new_scores = (np.exp(x) * rng.normal(size=len(x)) for x in (old, new))
        ratio = density_ratio(old[:, None], new[:, None])
        true = [np.exp(shift * x) for x in (old, new)]
        sizes += [ratio.effective_size, effective_sample_size(true[0])]
        plain.append(new_scores <= conformal_quantile(scores, level=level))
        exact.append(new_scores <= weighted_quantile(scores, *true, level=level))
        weights = (ratio.calibration, ratio.new)
        fitted.append(new_scores <= weighted_quantile(scores, *weights, level=level))
    assert min(sizes) >= 50
    assert np.mean(plain) < level - 0.025
    assert abs(np.mean(exact) - level) < 0.03
    assert abs(np.mean(fitted) - level) < 0.03


def test_the_ratio_is_that_of_known_densities():
    rng = np.random.default_rng(4)
    old, new = rng.normal(0, 1, (4000, 1)), rng.normal(0.7, 1, (1500, 1))
    ratio = density_ratio(old, new)
    expected = stats.norm.pdf(old[:, 0], 0.7) / stats.norm.pdf(old[:, 0])
    assert np.corrcoef(np.log(ratio.calibration), np.log(expected))[0, 1] > 0.999
    assert np.median(ratio.calibration / expected) == pytest.approx(1, abs=0.1)
    assert ratio.auroc == pytest.approx(stats.norm.cdf(0.7 / np.sqrt(2)), abs=0.02)
    same = density_ratio(old, rng.normal(0, 1, (4000, 1)))
    assert same.effective_size > 3900
    assert abs(same.auroc - 0.5) < 0.05
    constant = density_ratio(np.hstack([old, np.ones_like(old)]), np.hstack([new, np.ones_like(new)]))
    np.testing.assert_allclose(constant.calibration, ratio.calibration, rtol=1e-4)


# -- bounds -------------------------------------------------------------------------------------------------


def test_the_bound_is_the_prediction_minus_the_margin():
    rng = np.random.default_rng(5)
    (predicted, quality), (new, _) = cases(rng, 60), cases(rng, 30)
    found = quality_lower_bound(predicted, quality, new, level=0.9)
    margin = conformal_quantile(predicted - quality, level=0.9)
    np.testing.assert_allclose(found.bound, np.clip(new - margin, 0, 1))
    assert (found.n_cases == 60).all()
    lower = quality_lower_bound(predicted, quality, new, level=0.95)
    assert (lower.bound <= found.bound).all()
    ratio = DensityRatio(np.ones(60), np.ones(30), 60.0, 0.5)
    np.testing.assert_array_equal(
        quality_lower_bound(predicted, quality, new, level=0.9, ratio=ratio).bound, found.bound
    )


def test_bounds_by_group_are_those_of_each_group_alone():
    rng = np.random.default_rng(6)
    (p0, q0), (p1, q1) = cases(rng, 50), cases(rng, 30, shift=0.3)
    (n0, _), (n1, t1) = cases(rng, 2000), cases(rng, 2000, shift=0.3)
    of_old, of_new = ["A"] * 50 + ["D"] * 30, ["A"] * 2000 + ["D"] * 2000
    old = np.concatenate([p0, p1]), np.concatenate([q0, q1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quality_lower_bound(
            *old, np.concatenate([n0, n1]), level=0.9, groups=of_old, new_groups=of_new
        )
    np.testing.assert_array_equal(found.bound[:2000], quality_lower_bound(p0, q0, n0, level=0.9).bound)
    np.testing.assert_array_equal(found.bound[2000:], quality_lower_bound(p1, q1, n1, level=0.9).bound)
    assert found.n_cases[[0, -1]].tolist() == [50, 30]
    with pytest.warns(UserWarning, match="the bound promises nothing"):
        plain = quality_lower_bound(p0, q0, n1, level=0.9)
    assert (t1 >= plain.bound).mean() < 0.5 < 0.8 < (t1 >= found.bound[2000:]).mean()


def test_visibly_other_cases_are_warned_of_with_the_test():
    rng = np.random.default_rng(7)
    predicted, quality = cases(rng, 60)
    with pytest.warns(
        UserWarning, match=r"differs visibly from predicted \(two-sample Kolmogorov-Smirnov test, p = "
    ):
        quality_lower_bound(predicted, quality, predicted / 2, level=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality_lower_bound(predicted, quality, cases(rng, 60)[0], level=0.9)
        quality_lower_bound(predicted, quality, [0.0], level=0.9)  # one case shows nothing


# -- masks --------------------------------------------------------------------------------------------------

CUTS = np.linspace(0, 1, 51)


def masks(rng, n, sharpness=2.0):
    """Probabilities of a class and its true mask; images differ in how well they are segmented."""
    truth = rng.random((n, 8, 8)) < 0.3
    logit = np.where(truth, 1, -1) * sharpness + rng.normal(0, 1, (n, 1, 1)) + rng.normal(size=truth.shape)
    return 1 / (1 + np.exp(-logit)), truth


def test_false_negative_rates_count_missed_pixels():
    probability, truth = masks(np.random.default_rng(8), 5)
    found = false_negative_rates(probability, truth, CUTS)
    for k, cut in enumerate(CUTS):
        missed = (truth & (probability < cut)).sum(axis=(1, 2)) / truth.sum(axis=(1, 2))
        np.testing.assert_allclose(found[:, k], missed)
    assert (np.diff(found) >= 0).all()
    assert (found[:, 0] == 0).all()


def test_the_risk_of_new_images_is_controlled_on_average_and_per_image():
    rng, means, beyond = np.random.default_rng(9), [], []
    losses = false_negative_rates(*masks(rng, 3000), CUTS)
    for _ in range(400):
        order = rng.permutation(3000)[:140]
        old, new = losses[order[:40]], losses[order[40:]]
        at = np.searchsorted(CUTS, risk_controlling_threshold(old, CUTS, risk=0.1) - 1e-9)
        means.append(new[:, at].mean())
        at = np.searchsorted(CUTS, risk_controlling_threshold(old > 0.2, CUTS, risk=0.1) - 1e-9)
        beyond.append((new[:, at] > 0.2).mean())
    for found in (means, beyond):
        error = np.std(found) / np.sqrt(len(found))
        assert 0.05 < np.mean(found) < 0.1 + 3 * error


def test_a_larger_risk_allows_a_higher_threshold_and_images_have_no_order():
    rng = np.random.default_rng(10)
    losses = false_negative_rates(*masks(rng, 60), CUTS)
    found = [risk_controlling_threshold(losses, CUTS, risk=risk) for risk in (0.05, 0.1, 0.2, 0.5)]
    assert found == sorted(found)
    assert risk_controlling_threshold(rng.permutation(losses), CUTS, risk=0.1) == found[1]
    undefined = np.concatenate([losses, np.full((5, 51), np.nan)])
    assert risk_controlling_threshold(undefined, CUTS, risk=0.1) == found[1]


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.3])
def test_the_threshold_is_that_of_mapie(risk):
    methods = pytest.importorskip("mapie.risk_control.methods", exc_type=ImportError)
    losses = false_negative_rates(*masks(np.random.default_rng(11), 50), CUTS)
    _, upper = methods.get_r_hat_plus(losses, CUTS, "crc", None, None, None)
    expected = methods.find_best_predict_param(CUTS, upper, np.array([risk]))
    assert risk_controlling_threshold(losses, CUTS, risk=risk) == expected[0]


def test_control_per_image_is_a_conformal_quantile():
    """The largest threshold that an image allows is a score like any other."""
    cuts = np.linspace(0, 1, 1001)
    losses = false_negative_rates(*masks(np.random.default_rng(12), 59), cuts)
    allowed = np.array([cuts[np.flatnonzero(row <= 0.1)[-1]] for row in losses])
    expected = -conformal_quantile(-allowed, level=0.9)
    assert risk_controlling_threshold(losses > 0.1, cuts, risk=0.1) == pytest.approx(expected)


# -- a test of exchangeability ------------------------------------------------------------------------------


def test_wealth_reaches_twenty_in_at_most_one_of_twenty_exchangeable_streams():
    rng, repeats = np.random.default_rng(13), 400
    found = [
        exchangeability_martingale(rng.normal(size=30), rng.normal(size=60), seed=k) for k in range(repeats)
    ]
    rung = sum(each.first_above(20) is not None for each in found)
    assert rung <= stats.binom.ppf(0.9995, repeats, 0.05)
    ends = np.array([each.wealth[-1] for each in found])
    assert abs(ends.mean() - 1) < 4 * ends.std() / np.sqrt(repeats)  # a martingale
    p_values = np.concatenate([each.p_values for each in found])
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_ties_are_broken_at_random():
    found = exchangeability_martingale(np.zeros(20), np.zeros(500), seed=1)
    assert stats.kstest(found.p_values, "uniform").pvalue > 1e-3
    assert found.first_above(20) is None


@pytest.mark.parametrize("shift", [1.5, -1.5, 4.0])
def test_wealth_grows_under_a_shift_in_either_direction(shift):
    rng = np.random.default_rng(14)
    at = [
        exchangeability_martingale(rng.normal(size=100), rng.normal(shift, 1, 60)).first_above(20)
        for _ in range(50)
    ]
    assert sum(k is not None for k in at) >= 48
    if abs(shift) > 2:
        assert max(at) <= 15


def test_wealth_is_that_of_mapie():
    module = pytest.importorskip("mapie.exchangeability_testing", exc_type=ImportError)
    rng = np.random.default_rng(15)
    found = exchangeability_martingale(rng.normal(size=40), rng.normal(1, 1, 50), jump=0.02)
    other = module.OnlineMartingaleTest(task="regression", jump_size=0.02, warn=False)
    expected = [other.update_simple_jumper_martingale(p) for p in found.p_values]
    np.testing.assert_allclose(found.wealth, expected)


# -- what is refused ----------------------------------------------------------------------------------------

GOOD = np.linspace(0.5, 0.9, 20)
MASK = np.ones((2, 2, 2), int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal_quantile(GOOD, level=1.0), r"level must be a number in \(0, 1\), got 1"),
        (lambda: conformal_quantile([0.1, np.nan], level=0.5), r"scores must be finite, got NaN .* case 1\)"),
        (lambda: conformal_quantile([], level=0.5), r"scores must be non-empty \(n_cases,\)"),
        (
            lambda: quality_lower_bound(GOOD[:5], GOOD[:5], GOOD, level=0.9),
            "predicted must be at least .* = 9 cases, got 5",
        ),
        (
            lambda: quality_lower_bound(GOOD, GOOD[1:], GOOD, level=0.9),
            "predicted and quality must be of one length",
        ),
        (
            lambda: quality_lower_bound(GOOD, GOOD * np.nan, GOOD, level=0.9),
            "quality must be finite.*leave out cases",
        ),
        (
            lambda: quality_lower_bound(GOOD, GOOD, 100 * GOOD, level=0.9),
            r"new_predicted must be in \[0, 1\], got 50 to 90",
        ),
        (
            lambda: quality_lower_bound(GOOD, GOOD, GOOD, level=0.9, groups=["A"] * 20),
            "given together, got one of them",
        ),
        (
            lambda: quality_lower_bound(
                GOOD, GOOD, GOOD, level=0.9, groups=["A"] * 20, new_groups=["A"] * 19 + ["D"]
            ),
            r"new_groups must be groups of the calibration cases \(A\), got D; label at least 9 cases",
        ),
        (
            lambda: quality_lower_bound(GOOD, GOOD, ["x"], level=0.9),
            "new_predicted must be real numbers",
        ),
        (
            lambda: quality_lower_bound(
                GOOD, GOOD, GOOD, level=0.9, groups=["A"] * 15 + ["D"] * 5, new_groups=["D"] * 20
            ),
            "predicted of group D must be at least .* = 9 cases, got 5; add calibration cases or lower",
        ),
        (
            lambda: quality_lower_bound(
                GOOD,
                GOOD,
                GOOD,
                level=0.9,
                groups=["A"] * 20,
                new_groups=["A"] * 20,
                ratio=DensityRatio(np.ones(20), np.ones(20), 20.0, 0.5),
            ),
            "groups and ratio must be given one at a time, got both",
        ),
        (
            lambda: quality_lower_bound(
                GOOD, GOOD, GOOD, level=0.9, ratio=DensityRatio(np.eye(20)[0] + 1e-9, np.ones(20), 1.0, 1.0)
            ),
            r"ratio must be of an effective sample size of at least 50, got 1\.0 of 20 cases; .* label some",
        ),
        (
            lambda: quality_lower_bound(
                GOOD, GOOD, GOOD, level=0.9, ratio=DensityRatio(np.ones(3), np.ones(20), 3, 0.5)
            ),
            "predicted and ratio.calibration must be of one length",
        ),
        (
            lambda: weighted_quantile([0.1], [0.0], [1.0], level=0.5),
            "weights must be above 0 for at least one case",
        ),
        (lambda: weighted_quantile([0.1], [-1.0], [1.0], level=0.5), "weights must be >= 0, got -1"),
        (lambda: effective_sample_size([0, 0]), "weights must be above 0"),
        (lambda: density_ratio(GOOD, GOOD), r"calibration_features must be .*becomes \(N, 1\) with"),
        (
            lambda: density_ratio(GOOD[:, None], np.ones((5, 2))),
            "of as many features as calibration_features, got 2 and 1",
        ),
        (
            lambda: density_ratio(GOOD[:1, None], GOOD[:, None]),
            "number of cases of each kind must be an integer >= 2",
        ),
        (
            lambda: false_negative_rates(MASK / 2, 0 * MASK, [0.5]),
            "empty mask in every case; a class that no calibration",
        ),
        (lambda: false_negative_rates(MASK / 2, MASK[:1], [0.5]), r"reference must be of shape \(2, 2, 2\)"),
        (lambda: false_negative_rates(MASK / 2, MASK, [2.0]), r"thresholds must be in \[0, 1\], got 2 to 2"),
        (
            lambda: risk_controlling_threshold(np.full((9, 2), np.nan), [0, 1], risk=0.1),
            "defined for at least one",
        ),
        (
            lambda: risk_controlling_threshold(np.zeros((8, 2)), [0, 1], risk=0.1),
            "losses must be at least .* = 9 cases",
        ),
        (
            lambda: risk_controlling_threshold(np.zeros((9, 2)), [1, 0], risk=0.1),
            "increasing and non-decreasing",
        ),
        (
            lambda: risk_controlling_threshold(np.eye(9)[:, :2], [0, 1], risk=0.1),
            "increasing and non-decreasing",
        ),
        (
            lambda: risk_controlling_threshold(np.full((9, 2), 0.5), [0, 1], risk=0.1),
            r"risk must be at least 0\.550 with",
        ),
        (
            lambda: risk_controlling_threshold(np.zeros((9, 3)), [0, 1], risk=0.1),
            r"losses must be non-empty \(n_cases, 2\)",
        ),
        (lambda: exchangeability_martingale(GOOD, []), r"stream must be non-empty"),
        (lambda: exchangeability_martingale(GOOD, GOOD, jump=0), r"jump must be a number in \(0, 1\), got 0"),
        (lambda: exchangeability_martingale(GOOD, GOOD).first_above(1), "wealth must be a number > 1, got 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_stated_limit_of_refusal_is_the_one_used():
    predicted = np.full(100, 0.8)
    weights = np.r_[np.ones(49), np.full(51, 1e-12)]
    ratio = DensityRatio(weights, np.ones(1), 49.0, 0.9)
    with pytest.raises(ValueError, match=f"at least {conformal.LEAST_EFFECTIVE:g}, got 49"):
        quality_lower_bound(predicted, predicted, [0.8], level=0.9, ratio=ratio)
    quality_lower_bound(predicted, predicted, [0.8], level=0.9, ratio=ratio, least_effective=40)


def test_lists_half_precision_and_big_endian_numbers_are_the_same():
    expected = quality_lower_bound(GOOD, GOOD / 2, [0.5], level=0.9).bound
    for other in (GOOD.tolist(), GOOD.astype(">f8"), GOOD[::-1][::-1]):
        np.testing.assert_array_equal(quality_lower_bound(other, GOOD / 2, [0.5], level=0.9).bound, expected)
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(GOOD, requires_grad=True)
    np.testing.assert_array_equal(quality_lower_bound(tensor, GOOD / 2, [0.5], level=0.9).bound, expected)


def test_a_risk_below_what_a_float_can_take_from_one_is_refused():
    with pytest.raises(ValueError, match=r"1 - risk must be a number < 1, got 1.0; allow a larger risk"):
        risk_controlling_threshold(np.zeros((9, 1)), [0.5], risk=1e-300)
