"""The verdicts in the book are those that the stored tables of cases give."""

import json
from pathlib import Path

import pandas as pd
import pytest

from segconf_lite.claims import judge, ledger, read_claims

RESULTS = Path(__file__).parents[2] / "book" / "results"
KNOWN = read_claims(RESULTS.parent / "claims.yml")


@pytest.mark.parametrize("name", KNOWN)
def test_stored_verdict_is_what_the_stored_cases_say(name):
    claim = KNOWN[name]
    stored = ledger.read_record(RESULTS, name, "lite")
    assert stored is not None, "registered, but never run: `make claims`"
    assert stored["registered_as"] == claim.digest(), "the claim was changed after its run: run it again"
    path = ledger.table_path(RESULTS, claim.chapter, "lite")
    samples = pd.read_csv(path, low_memory=False)
    origin = json.loads(path.with_suffix(".json").read_text("utf-8"))
    again = ledger.as_record(judge.judge(name, samples, claims=KNOWN), samples, origin)
    assert {k: v for k, v in again.items() if k != "groups"} == {
        k: v for k, v in stored.items() if k != "groups"
    }
    for group, numbers in again["groups"].items():
        kept = stored["groups"][group]
        assert numbers["verdict"] == kept["verdict"]
        for key in ("estimate", "low", "high", "p_holds", "p_fails"):
            assert numbers[key] == pytest.approx(kept[key], rel=1e-3, abs=1e-6)


def test_every_run_says_where_it_comes_from():
    for path in RESULTS.glob("chapter_*_cases.json"):
        for run in json.loads(path.read_text("utf-8"))["runs"]:
            assert {"commit", "profile", "seed", "device", "versions", "day"} <= set(run)
            assert "dirty" not in run["commit"]
