"""benchmarks/augmented.py in miniature: parts of an eAURC, flags, networks that differ in one thing."""

import dataclasses

import numpy as np
import pytest

from segconf_lite.claims import read_claims
from segconf_lite.claims.statistics import columns_of
from segconf_lite.evaluation import excess_aurc
from segconf_lite.profiles import LITE

PROGRAM = "augmented"
TINY = dataclasses.replace(LITE, size=16, n_train=24, n_test=12, steps=3, channels=(4, 8))


@pytest.fixture(scope="module")
def cases(program, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGCONF_HOME", str(tmp_path_factory.mktemp("store")))
        return program.measured(3, TINY, scanners="AD")


def test_parts_of_two_cases_by_hand(program):
    # Ranks 1 and 2 of two have the weights 1 + 1/2 and 1/2; the worse case is trusted more.
    assert program.excess_parts([0.5, 0.1], [1, 2]) == pytest.approx([0.5, -0.1])
    assert program.excess_parts([0.1, 0.5], [1, 2]) == pytest.approx([0, 0])


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_mean_of_the_parts_is_the_eaurc(program, digits):
    rng = np.random.default_rng(digits)
    risk, uncertainty = rng.random(50).round(digits), rng.normal(size=50).round(digits)
    parts = program.excess_parts(risk, uncertainty)
    order = rng.permutation(50)
    assert parts.mean() == pytest.approx(excess_aurc(risk, uncertainty), abs=1e-12)
    assert program.excess_parts(risk[order], uncertainty[order]) == pytest.approx(parts[order])


@pytest.mark.parametrize("name", ["risk", "uncertainty"])
def test_a_value_that_is_not_finite_is_refused(program, name):
    columns = {"risk": [0.1, 0.2], "uncertainty": [1, 2], name: [0.1, np.nan]}
    with pytest.raises(ValueError, match=name):
        program.excess_parts(**columns)


def test_at_most_one_in_twenty_at_home_is_flagged(program):
    home = np.arange(1, 21)
    assert program.flags(home, home).sum() == 1
    assert program.flags(home, [19, 19.5]).tolist() == [0, 1]


def test_one_row_per_slice_with_the_columns_of_both_networks(program, cases):
    assert cases.groupby("domain").size().to_dict() == {"A": 12, "D": 12}
    assert cases.columns.is_unique
    assert not cases.isna().any().any()
    for ending in program.ARMS:
        assert np.allclose(cases[f"risk{ending}"], 1 - cases[f"quality{ending}"])
        for name in program.METHODS:
            assert set(cases[f"flagged: {name}{ending}"]) <= {0, 1}
            for _, part in cases.groupby("domain"):
                expected = excess_aurc(part[f"risk{ending}"], part[f"{name}{ending}"])
                assert part[f"eAURC: {name}{ending}"].mean() == pytest.approx(expected, abs=1e-9)
    assert (cases["distortion"] != cases["distortion, augmented"]).all()


def test_every_claim_finds_its_columns_and_the_summary_its_rows(program, cases):
    claims = [claim for claim in read_claims().values() if claim.runs == "augmented"]
    assert len(claims) == 6
    for claim in claims:
        assert set(columns_of(claim.statistic, claim.columns)) <= set(cases)
    both = program.pd.concat([cases.assign(seed=seed) for seed in (1, 2)])
    found = program.summary(both).set_index(["scanner", "column"])
    assert found.loc[("D", "quality"), "with"] == pytest.approx(
        cases.query("domain == 'D'")["quality, augmented"].mean()
    )


def test_the_networks_differ_in_the_augmentation_alone(program, monkeypatch):
    calls = []
    monkeypatch.setattr(program, "fitted", lambda *given, **options: calls.append((given, options)))
    for augmentation in program.ARMS.values():
        program.unet_of("slices", augmentation, 7, TINY)
    (given, plain), (same, other) = calls
    assert given == same
    assert plain == {"steps": 3, "channels": (4, 8), "dropout": 0.1, "seed": 70}  # as in chapter 3
    assert other == {**plain, "augmentation": "nnunet"}


def test_subjects_of_the_thresholds_are_not_tested(program):
    test = program.phantom.cohort(6, size=16, seed=1)
    with pytest.raises(ValueError, match="test subjects must be other subjects than those of the thresholds"):
        program.arm({}, test, test)
