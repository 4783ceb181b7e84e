"""Tables of several chapters are joined only where they are about the same cases."""

import pandas as pd
import pytest

from segconf_lite.claims import joined, joined_cases


def cases(chapter, n=4, seeds=(11, 12), **changed):
    rows = [
        {
            "cohort": "phantom",
            "seed": s,
            "domain": d,
            "subject": f"s{s}{k}",
            "risk": 0.1 * k,
            f"method {chapter}": k,
        }
        for s in seeds
        for d in "AB"
        for k in range(n)
    ]
    return pd.DataFrame(rows).assign(**changed)


@pytest.fixture
def stored(monkeypatch):
    tables = {2: cases(2), 3: cases(3)}
    monkeypatch.setattr(joined, "stored_cases", tables.__getitem__)
    return tables


def test_columns_stand_beside_each_other(stored):
    found = joined_cases((2, 3))
    assert (found["method 2"] == found["method 3"]).all()
    assert len(found) == 16
    assert found.attrs["left_out"] == 0


def test_only_shared_seeds_and_cases_stay(stored):
    stored[3] = cases(3, n=2, seeds=(12, 13))
    found = joined_cases((2, 3))
    assert set(found["seed"]) == {12}
    assert len(found) == 4


def test_the_order_of_the_rows_of_other_scanners_does_not_matter(stored):
    stored[3] = stored[3].sort_values("domain", ascending=False, kind="stable")
    assert (joined_cases((2, 3))["method 2"] == joined_cases((2, 3))["method 3"]).all()


def test_another_network_is_refused(stored):
    stored[3] = stored[3].assign(risk=stored[3]["risk"] + 1e-3)
    with pytest.raises(ValueError, match="the risk of 16 of 16 cases of chapter 3 is not that of chapter 2"):
        joined_cases((2, 3))


def test_one_case_in_a_thousand_may_be_left_out(stored):
    stored |= {2: cases(2, n=300), 3: cases(3, n=300)}
    stored[3].loc[7, "risk"] += 1e-3
    found = joined_cases((2, 3))
    assert (len(found), found.attrs["left_out"]) == (1199, 1)
    stored[3].loc[8, "risk"] += 1e-3
    with pytest.raises(ValueError, match="the risk of 2 of 1200 cases"):
        joined_cases((2, 3))


def test_rounding_in_the_sixth_digit_is_no_difference(stored):
    stored[3] = stored[3].assign(risk=stored[3]["risk"] + 4e-6)
    assert len(joined_cases((2, 3))) == 16


def test_other_subjects_or_no_common_case_are_refused(stored):
    stored[3] = cases(3, subject="somebody")
    with pytest.raises(ValueError, match="chapter 3 has other subjects than chapter 2"):
        joined_cases((2, 3))
    stored[3] = cases(3, seeds=(16,))
    with pytest.raises(ValueError, match="chapters 2 and 3 have no case of 'phantom' in common"):
        joined_cases((2, 3))
    with pytest.raises(ValueError, match=r"cohort must be one of \['phantom'\], got 'cord'"):
        joined_cases((2, 3), cohort="cord")
    for chapters in ((), None, 2, {2, 3}):
        with pytest.raises(ValueError, match="chapters must be"):
            joined_cases(chapters)
    with pytest.raises(ValueError, match="cohort must be a str, got list"):
        joined_cases((2, 3), cohort=["phantom"])
