"""Wrong arguments of the functions of claims are refused under their own names, and nothing is read."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite.claims import ledger, read_claims, report, runs
from segconf_lite.claims.judge import holm, judge, seed_estimates

CASES = pd.DataFrame({"seed": [1, 2], "subject": ["a", "b"], "dice": [0.9, 0.8]})
FLAWED = {  # argument -> wrong values of it
    "results": [None, 3, ["results"], b"results", "", "a\0b"],
    "chapter": [None, True, 2.0, float("nan"), "two", [2], np.array([2, 3]), -1, 100],
    "seed": [None, True, 1.5, "1", [1], -1],
    "profile": [None, 3, ["lite"], "quick"],
    "earlier": [None, "no", [True]],
    "accept": [None, "no", [True]],
    "claim_id": [None, 3, ["near"], b"near"],
    "claims": [3, ["near"], object()],
}
WHOLE = {"results": "no folder", "chapter": 2, "profile": "lite"}
CALLS = [
    (runs.seeds_of, {"chapter": 2}),
    (runs.run_path, {**WHOLE, "seed": 21}),
    (runs.table_path, WHOLE),
    (runs.judged_cases, WHOLE),
    (runs.stored_cases, {"chapter": 2, "profile": "lite"}),
    (runs.record_path, {"results": "no folder", "claim_id": "near", "profile": "lite"}),
    (ledger.read_record, {"results": "no folder", "claim_id": "near", "profile": "lite", "earlier": False}),
    (ledger.settle, {"results": "no folder", "profile": "lite", "accept": False, "claims": None}),
    (judge, {"claim_id": "near", "samples": CASES, "claims": {}}),
]


@pytest.mark.parametrize(("function", "whole"), CALLS, ids=[call[0].__name__ for call in CALLS])
def test_each_argument_is_named(function, whole):
    for name in whole.keys() & FLAWED:
        for wrong in FLAWED[name]:
            with pytest.raises(ValueError, match=rf"^{name} must be"):
                function(**{**whole, name: wrong})


@pytest.mark.parametrize("wrong", [None, 3, ["a"], b"a", "", "a\0b"])
def test_a_table_is_saved_under_a_path_only(wrong):
    with pytest.raises(ValueError, match=r"^path must be a path"):
        runs.save_cases(CASES, wrong, profile="lite", seed=1)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: runs.save_cases(CASES, "cases.csv", profile=["lite"], seed=1), "profile must be one of"),
        (lambda: runs.stored_table(None), "name must be a str"),
        (lambda: runs.as_json({"a", "set"}), "content must be a Mapping"),
        (lambda: ledger.as_record("near", CASES, {}), "verdict must be a Verdict"),
        (lambda: ledger.overview(claims=["near"]), "claims must be a Mapping"),
        (lambda: read_claims(3), "path must be a path"),
        (lambda: seed_estimates("near", CASES), "claim must be a Claim"),
        (lambda: holm(None), "p_values must be"),
        (lambda: holm({0.1, 0.2}), "p_values must be"),
        (lambda: holm([0.1, None]), r"p_values\[1\] must be"),
        (lambda: report.statement(None), "claim must be a Claim"),
        (lambda: report.counts(3), "verdicts must be"),
        (lambda: report.strip(None), "rows must be"),
        (lambda: report.strip(pd.DataFrame()), "rows must be"),
        (lambda: report.summary("text"), "rows must be a DataFrame"),
        (lambda: report.summary(pd.DataFrame({"seeds": [1]})), "rows must be"),
        (lambda: report.show(["near"]), r"claim ID must be a registered claim"),
        (lambda: report.show("near-but-harmful", profile=None), "profile must be one of"),
        (lambda: report.table(chapter=True), "chapter must be an integer"),
        (lambda: report.table(chapter="1"), "chapter must be an integer"),
        (lambda: report.table(cohort=3), "cohort must be a str"),
        (lambda: report.table(verdict="held"), "verdict must be one of"),
        (lambda: report.table(profile=3), "profile must be one of"),
    ],
)
def test_other_wrong_arguments_are_named(call, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        call()
