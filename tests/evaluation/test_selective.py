"""Laws of risk against coverage: bounds, ties, permutations, known answers."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from segconf_lite.evaluation import selective

# eighths are exact in binary: no answer hangs on rounding
RISKS = st_numpy.arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 8).map(lambda k: k / 8))


def draw_order(data, risk):
    return data.draw(st_numpy.arrays(np.float64, risk.shape, elements=st.integers(0, 6).map(float)))


@settings(deadline=None)
@given(RISKS, st.data())
def test_never_negative_and_independent_of_the_order_of_cases(risk, data):
    uncertainty = draw_order(data, risk)
    shuffled = data.draw(st.permutations(range(risk.size)))
    value = selective.excess_aurc(risk, uncertainty)
    assert value >= 0
    assert selective.excess_aurc(risk[shuffled], uncertainty[shuffled]) == pytest.approx(value, abs=1e-12)
    assert selective.aurc(risk, uncertainty) <= risk.max() + 1e-12


@settings(deadline=None)
@given(RISKS)
def test_the_perfect_order_has_no_excess_also_under_ties(risk):
    assert selective.excess_aurc(risk, risk) == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(RISKS, st.data())
def test_only_the_order_counts(risk, data):
    uncertainty = draw_order(data, risk)
    for measure in (selective.aurc, selective.excess_aurc, selective.augrc):
        assert measure(risk, np.exp(uncertainty)) == pytest.approx(measure(risk, uncertainty))


def test_ties_count_as_the_mean_over_all_ways_to_break_them():
    risk, uncertainty = np.array([0.1, 0.8, 0.4, 0.2]), np.array([0.0, 1.0, 1.0, 1.0])
    ways = [selective.aurc(risk[[0, *way]], np.arange(4.0)) for way in itertools.permutations((1, 2, 3))]
    assert selective.aurc(risk, uncertainty) == pytest.approx(np.mean(ways))


def test_known_answers():
    risk, uncertainty = [0.1, 0.2, 0.4, 0.8], [0.3, 0.1, 0.2, 0.9]
    assert selective.excess_aurc(risk, uncertainty) == pytest.approx(0.0625)  # as published code gives
    assert selective.aurc(risk, np.zeros(4)) == pytest.approx(np.mean(risk))
    assert selective.augrc(risk, np.zeros(4)) == pytest.approx(np.mean(risk) * 5 / 8)  # mean of k/n
    assert selective.aurc([0.3], [5.0]) == 0.3
    assert selective.risk_at_coverage(risk, uncertainty, 0.5) == pytest.approx(0.3)
    assert selective.risk_at_coverage(risk, uncertainty, 1.0) == pytest.approx(np.mean(risk))


@settings(deadline=None)
@given(RISKS, st.data())
def test_curve_ends_at_the_mean_risk_and_averages_to_its_areas(risk, data):
    assume(risk.size > 1)
    uncertainty = draw_order(data, risk)
    curve = selective.risk_coverage(risk, uncertainty)
    assert curve["coverage"].iloc[-1] == 1
    assert curve["selective_risk"].iloc[-1] == pytest.approx(risk.mean())
    assert curve["selective_risk"].mean() == pytest.approx(selective.aurc(risk, uncertainty))
    assert curve["generalised_risk"].mean() == pytest.approx(selective.augrc(risk, uncertainty))
    assert (np.diff(curve["generalised_risk"]) >= -1e-12).all()  # keeping more never lets less pass


def test_interval_is_quick_and_holds_the_estimate():
    rng = np.random.default_rng(0)
    risk = rng.uniform(size=2000)
    uncertainty, subjects = risk + rng.normal(size=2000), np.arange(2000) // 6
    start = time.perf_counter()
    interval = selective.excess_aurc_interval(risk, uncertainty, subjects)
    assert time.perf_counter() - start < 5  # about 0.2 s on two quiet cores
    assert interval.low <= interval.estimate <= interval.high
    assert np.isnan(selective.excess_aurc_interval(risk, uncertainty, np.zeros(2000)).low)  # one subject


@pytest.mark.parametrize(
    ("risk", "uncertainty", "message"),
    [
        ([], [], r"one non-empty shape \(n_cases,\)"),
        ([0.1], [0.1, 0.2], r"got \(1,\) and \(2,\)"),
        ([0.1, np.nan], [0.1, np.inf], "risk has 1 and uncertainty 1 non-finite values"),
        ([[0.1]], [[0.1]], "one non-empty shape"),
    ],
)
def test_bad_input_is_refused(risk, uncertainty, message):
    for measure in (selective.aurc, selective.excess_aurc, selective.augrc, selective.risk_coverage):
        with pytest.raises(ValueError, match=message):
            measure(risk, uncertainty)


def test_bad_coverage_is_refused():
    for coverage in (0, 1.2, -1):
        with pytest.raises(ValueError, match="coverage must lie above 0"):
            selective.risk_at_coverage([0.1], [0.2], coverage)
