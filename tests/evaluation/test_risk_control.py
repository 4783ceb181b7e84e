"""benchmarks/risk_control.py in miniature: thresholds that reject as promised, rules counted right."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite.cohorts import phantom

PROGRAM = "risk_control"


@pytest.mark.parametrize("n_bad", [1, 19, 20, 40, 137])
def test_a_threshold_rejects_the_promised_fraction_and_is_the_highest_that_does(program, n_bad):
    values = np.random.default_rng(n_bad).normal(size=200)
    bad = np.arange(200) < n_bad
    limit = program.threshold(values, bad)
    assert (values[bad] >= limit).mean() >= 0.95
    higher = np.sort(values[bad])
    higher = higher[higher > limit]
    assert not len(higher) or (values[bad] >= higher[0]).mean() < 0.95


def test_without_a_bad_case_there_is_no_threshold_and_nothing_is_rejected(program):
    assert np.isnan(program.threshold([0.1, 0.2], [False, False]))
    names = {key: [0.1, 0.9] for key in program.BY_THRESHOLD}
    cases = pd.DataFrame({"quality": [0.9, 0.7], **names})
    found = program.rejected(cases, cases.assign(quality=1.0), [0.0, 0.06])
    assert found["rejected: soft Dice"].tolist() == [0, 0]
    assert found["wrong: soft Dice"].tolist() == [0, 1]
    assert found["rejected: Beta"].tolist() == [0, 1]
    assert found["wrong: Beta"].tolist() == [0, 0]


def test_a_rejected_good_case_and_a_kept_bad_one_are_wrong(program):
    names = {key: [0.1, 0.9, 0.1, 0.9] for key in program.BY_THRESHOLD}
    cases = pd.DataFrame({"quality": [0.9, 0.9, 0.7, 0.7], **names})
    validation = pd.DataFrame({"quality": [0.5, 0.95], **{key: [0.5, 0.0] for key in program.BY_THRESHOLD}})
    found = program.rejected(cases, validation, [0.05, 0.5, 0.0, 1.0])
    for rule in program.RULES:
        assert found[f"rejected: {rule}"].tolist() == [0, 1, 0, 1]
        assert found[f"wrong: {rule}"].tolist() == [0, 1, 1, 0]


def test_corrupted_cases_keep_their_labels_and_subjects_and_differ_between_draws(program):
    cohort = phantom.cohort(12, size=32, seed=3)
    found = program.corrupted(cohort, 5, n_draws=2)
    assert len(found) == 24
    assert (found.labels[:12] == cohort.labels).all()
    assert (found.subjects[12:] == cohort.subjects).all()
    assert np.abs(found.images[:12] - found.images[12:]).max() > 0.1
    again = program.corrupted(cohort, 5, n_draws=2)
    assert (again.images == found.images).all()


def test_a_value_that_is_no_number_is_refused(program):
    with pytest.raises(ValueError, match="uncertainty"):
        program.threshold([np.nan, 0.2], [True, False])
