"""The verdicts in the book are those that the stored tables of cases give."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from segconf_lite.claims import Claim, judge, ledger, read_claims, runs

RESULTS = Path(__file__).parents[2] / "book" / "results"
KNOWN = read_claims(RESULTS.parent / "claims.yml")


@pytest.mark.parametrize("name", KNOWN)
def test_stored_verdict_is_what_the_stored_cases_say(name):
    claim = KNOWN[name]
    stored = ledger.read_record(RESULTS, name, "lite")
    judged = runs.judged_cases(RESULTS, claim.judged_on, "lite")
    if stored is None:
        assert claim.registered > ledger._LAST_EARLY, "registered, but never run: `make claims`"
        seeds = [] if judged is None else sorted(judged[0]["seed"].unique())
        assert seeds != list(runs.seeds_of(claim.judged_on)), "not judged: `segconf claims judge`"
        return
    samples, origin = judged
    assert stored["registered_as"] == claim.digest(), "the claim was changed after its run: run it again"
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
    for path in [*RESULTS.glob("chapter_*_cases.json"), *RESULTS.glob("runs*/*/*.json")]:
        origin = json.loads(path.read_text("utf-8"))
        for run in origin.get("runs", [origin]):
            assert {"commit", "profile", "seed", "device", "versions", "day"} <= set(run)
            assert "dirty" not in run["commit"]


def test_claims_were_registered_before_their_seeds_were_run():
    """The commit of a run holds, in its register, the very claim that is judged on it."""
    shallow = git("rev-parse", "--is-shallow-repository").strip()
    if shallow != "false":
        pytest.skip("the history is not here")
    registers = {}
    for name, claim in KNOWN.items():
        record = ledger.read_record(RESULTS, name, "lite")
        if record is None or record["seeds"] != list(runs.seeds_of(claim.judged_on)):
            continue
        for commit in {run["commit"] for run in record["runs"]}:
            if commit not in registers:
                entries = yaml.safe_load(git("show", f"{commit}:book/claims.yml"))
                registers[commit] = {entry["id"]: entry for entry in entries}
            entry = registers[commit].get(name)
            assert entry is not None, f"{name} was not registered at {commit}, where it was run"
            then = Claim(**{**entry, "registered": str(entry["registered"])})
            assert then.digest() == claim.digest(), f"{name} was another claim at {commit}, where it was run"


def git(*arguments):
    shown = subprocess.run(["git", *arguments], cwd=RESULTS, capture_output=True, text=True, check=False)
    return shown.stdout
