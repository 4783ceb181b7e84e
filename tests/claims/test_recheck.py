"""`segconf claims` and `make claims`: a tiny series with one claim, from register to page."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segconf_lite import cli, resources
from segconf_lite.claims import STATISTICS, Claim, ledger, read_claims, recheck, runs

ROOT = Path(__file__).parents[2]

NOTEBOOK = """# %% [markdown]
# # Tiny
# **Time:** about 0.1 min

# %% tags=["parameters"]
profile = "lite"
seed = 0
cases_out = ""

# %%
import os, numpy as np, pandas as pd
from pathlib import Path
from segconf_lite.claims import ledger
if Path("stop").exists() and seed == 12:
    raise RuntimeError("interrupted")
rng = np.random.default_rng(seed)
table = pd.DataFrame({"subject": np.arange(20) // 2, "x": 1 + 0.1 * rng.normal(size=20)})
if cases_out:
    ledger.save_cases(table, cases_out, profile=profile, seed=seed)
"""
CLAIM = """- id: above-zero
  sentence: The value is above zero.
  source: here
  chapter: 1
  statistic: mean
  columns: {value: x}
  direction: greater
  seeds: 2
  registered: 2026-01-01
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book/claims.yml").write_text(CLAIM)
    (tmp_path / "notebooks/01_tiny.py").write_text(NOTEBOOK)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns(".snakemake"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "SEEDS", (11, 12))
    return tmp_path


def run_cases(project, seed):
    out = runs.run_path(project / "book/results", 1, seed)
    arguments = ["run", "01", "-p", "seed", str(seed), "-p", "cases_out", str(out)]
    assert cli.main([*arguments, "--out", str(project / f"_build/seed_{seed}.ipynb")]) == 0
    return out


def test_seeds_follow_the_register(project):
    assert recheck.seeds_of_chapters() == {1: [11, 12]}


def test_list_before_anything_was_run(project, capsys):
    assert cli.main(["claims"]) == 0
    assert "not run" in capsys.readouterr().out


def test_judge_list_and_recheck(project, capsys):
    for seed in (11, 12):
        run_cases(project, seed)
    assert cli.main(["claims", "judge"]) == 0
    shown = capsys.readouterr().out
    assert "1 hold, 0 fail, 0 undecided" in shown
    assert "holds      The value is above zero." in shown
    assert "above-zero: 1" in shown
    assert cli.main(["claims", "recheck", "--pick", "1"]) == 0
    assert "above-zero, seed 12:" in capsys.readouterr().out
    assert "SEGCONF_HOME" not in os.environ or os.environ["SEGCONF_HOME"]

    source = project / "notebooks/01_tiny.py"
    source.write_text(NOTEBOOK.replace("1 + 0.1", "2 + 0.1"))
    assert cli.main(["claims", "recheck", "--pick", "0"]) == 1
    assert "above-zero, all, seed 11: expected" in capsys.readouterr().err


def test_a_changed_verdict_ends_with_an_error_until_accepted(project, capsys):
    for seed in (11, 12):
        out = run_cases(project, seed)
    assert cli.main(["claims", "judge"]) == 0
    for seed in (11, 12):
        path = out.with_name(f"seed_{seed}.csv.gz")
        text = gzip.decompress(path.read_bytes()).decode()
        path.write_bytes(gzip.compress(text.replace(",1.", ",-1.").replace(",0.", ",-0.").encode()))
    capsys.readouterr()
    assert cli.main(["claims", "judge"]) == 1
    assert "above-zero: holds -> fails" in capsys.readouterr().out
    assert ledger.read_record(project / "book/results", "above-zero", "lite")["verdict"] == "holds"
    assert cli.main(["claims", "judge", "--accept"]) == 0
    assert cli.main(["claims", "judge"]) == 0


def test_recheck_leaves_out_claims_whose_data_are_not_here(project, capsys, monkeypatch):
    monkeypatch.delenv("SEGCONF_DATA", raising=False)
    monkeypatch.setenv("SEGCONF_HOME", str(project / "home"))
    source = project / "notebooks/01_tiny.py"
    source.write_text(NOTEBOOK.replace('"x": 1', '"cohort": "cord", "x": 1'))
    (project / "book/claims.yml").write_text(CLAIM + "  cases: {cohort: [cord]}\n")
    for seed in (11, 12):
        run_cases(project, seed)
    assert cli.main(["claims", "judge"]) == 0
    assert cli.main(["claims", "recheck", "--pick", "0"]) == 1
    assert "and its data here" in capsys.readouterr().err


def test_recheck_needs_something_stored(project, capsys):
    assert cli.main(["claims", "recheck", "--pick", "0"]) == 1
    assert "no claim has a stored lite outcome" in capsys.readouterr().err


def test_only_chapters_that_state_so_few_minutes_are_measured_again(project, capsys, monkeypatch):
    second = CLAIM.replace("above-zero", "in-two").replace("chapter: 1", "chapter: 2")
    (project / "book/claims.yml").write_text(CLAIM + second)
    (project / "notebooks/02_tiny.py").write_text(NOTEBOOK.replace("about 0.1 min", "about 7 min"))
    record = {"seeds": [11, 12], "runs": [{"seed": 11}, {"seed": 12}], "by_seed": {}}
    monkeypatch.setattr(ledger, "read_record", lambda *_: record)
    monkeypatch.setattr(recheck, "_run_again", lambda path, *_: (path.stem, {}))
    monkeypatch.setattr(recheck, "seed_estimates", lambda claim, cases: {claim.id: cases})
    monkeypatch.setattr(recheck, "compare_seed", lambda claim, record, measured, here: [str(measured)])
    picked = {m: {recheck.recompute(f"{k:x}", minutes=m)[0] for k in range(9)} for m in (None, 7, 6.9)}
    assert (
        picked[None] == picked[7] == {f"{c}, seed {s}:" for c in ("above-zero", "in-two") for s in (11, 12)}
    )
    assert picked[6.9] == {"above-zero, seed 11:", "above-zero, seed 12:"}
    assert cli.main(["claims", "recheck", "--minutes", "0.05"]) == 2
    assert "minutes must be at least 0.1, which the quickest chapter states" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--pick", "xyz"), ("--minutes", "nan"), ("--minutes", "-1"), ("--minutes", "x"), ("--profile", "../x")],
)
def test_a_bad_choice_is_one_line_and_exit_code_two(project, capsys, option, value):
    try:
        code = cli.main(["claims", "recheck", option, value])
    except SystemExit as end:  # of the parser of words
        code = end.code
    assert code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert option.strip("-").replace("pick", "choice") in message
    assert value in message


def record(device="cpu x", seeds=(1.0, 1.2)):
    run = {"device": device, "threads": 1, "versions": {"torch": "2"}}
    runs = [{"seed": 11 + k, **run} for k in range(len(seeds))]
    by_seed = {"all": {str(11 + k): value for k, value in enumerate(seeds)}}
    return {"id": "c", "runs": runs, "by_seed": by_seed}


def a_claim(statistic, **options):
    columns = {
        name: "x *" if statistic.startswith("pooled") else "x" for name in STATISTICS[statistic].columns
    }
    return Claim("c", "It is so.", "us", 1, statistic, columns, "greater", 2, "2026-01-01", **options)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_another_machine_cannot_say_what_the_statistic_cannot_be(statistic):
    here = {"seed": 11, "device": "cpu y", "threads": 1, "versions": {"torch": "2"}}
    low, high = STATISTICS[statistic].low, STATISTICS[statistic].high
    stored = record(seeds=(0.5, 0.9, 0.7))
    assert recheck.compare_seed(a_claim(statistic), stored, {"all": {11: 0.6}}, here)
    wrong = [-1.2, 2.3, *(value for value in (low - 1e-6, high + 1e-6) if np.isfinite(value))]
    for value in wrong:
        with pytest.raises(RuntimeError, match=r"expected 0\.5"):
            recheck.compare_seed(a_claim(statistic), stored, {"all": {11: value}}, here)


@pytest.mark.parametrize(
    ("statistic", "wrong"), [("mean", (-0.01, 1.01)), ("mean_difference", (-1.01, 1.01))]
)
def test_a_mean_lies_between_the_lowest_and_the_highest_case(statistic, wrong):
    here = {"seed": 11, "device": "cpu y", "threads": 1, "versions": {"torch": "2"}}
    known, stored = a_claim(statistic, between=[0, 1]), record(seeds=(0.2, 0.9, 0.7))
    assert recheck.compare_seed(known, stored, {"all": {11: 0.6}}, here)
    for value in wrong:
        with pytest.raises(RuntimeError, match=r"expected 0\.2"):
            recheck.compare_seed(known, stored, {"all": {11: value}}, here)
    assert not recheck._can_fail(known, stored)  # 0 to 1 says nothing
    assert recheck._can_fail(known, record(seeds=(0.9, 0.95)))
    assert known.digest() == a_claim(statistic).digest()
    for between in ([1, 0], [0], "01", [0, np.nan]):
        with pytest.raises(ValueError, match=r"claim c: between"):
            a_claim(statistic, between=between)


def test_every_mean_in_the_register_has_a_range():
    without = [c.id for c in read_claims().values() if STATISTICS[c.statistic].spans and c.between is None]
    assert without == ["closed-flip-cost-is-right-where-small"]  # a ratio of costs has no upper bound


def test_only_claims_that_can_fail_are_picked():
    assert recheck._can_fail(a_claim("rank_correlation"), record(seeds=(0.9, 0.95)))
    assert not recheck._can_fail(a_claim("rank_correlation"), record(seeds=(-0.2, 0.3)))
    assert recheck._can_fail(a_claim("mean"), record(seeds=(-20.0, 30.0)))
    results = resources.results_folder()
    known = {name: ledger.read_record(results, name, "lite") for name in read_claims()}
    known = {name: stored for name, stored in known.items() if stored is not None}
    able = [name for name, stored in known.items() if recheck._can_fail(read_claims()[name], stored)]
    assert len(able) > 40, len(able)


def test_a_claim_and_a_seed_by_name(project, capsys):
    for seed in (11, 12):
        run_cases(project, seed)
    assert cli.main(["claims", "judge"]) == 0
    assert cli.main(["claims", "recheck", "above-zero", "--seed", "12"]) == 0
    assert "above-zero, seed 12:" in capsys.readouterr().out
    assert cli.main(["claims", "recheck", "above-zero", "--seed", "13"]) == 2
    assert "seed must be one of (11, 12), got 13" in capsys.readouterr().err
    assert cli.main(["claims", "recheck", "below-zero"]) == 2
    assert cli.main(["claims", "show", "above-zero"]) == 0
    shown = capsys.readouterr().out
    for text in ("The value is above zero.", "mean of x, claimed above 0", "source: here", "by seed 11: "):
        assert text in shown
    assert cli.main(["claims", "show"]) == 2
    assert cli.main(["claims", "show", "below-zero"]) == 2
    assert "ID must be a registered claim, got 'below-zero'" in capsys.readouterr().err
    for option, value in (("--chapter", "2"), ("--cohort", "cord"), ("--verdict", "fails")):
        assert cli.main(["claims", option, value]) == 0
        assert "above-zero" not in capsys.readouterr().out
    assert cli.main(["claims", "--chapter", "1", "--verdict", "holds"]) == 0
    assert "above-zero" in capsys.readouterr().out


def test_the_other_claims_of_the_run_are_compared_too(project, capsys):
    """A new cell had shifted the random stream of one claim, and for days other claims were picked."""
    second = CLAIM.replace("above-zero", "y-is-one").replace("value: x", "value: y")
    (project / "book/claims.yml").write_text(CLAIM + second)
    source = project / "notebooks/01_tiny.py"
    both = NOTEBOOK.replace("if cases_out", 'table["y"] = 1 + rng.random(20)\nif cases_out')
    source.write_text(both)
    for seed in (11, 12):
        run_cases(project, seed)
    assert cli.main(["claims", "judge"]) == 0
    capsys.readouterr()
    assert cli.main(["claims", "recheck", "above-zero", "--seed", "12"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("above-zero, seed 12:") < shown.index("y-is-one, seed 12:")
    source.write_text(both.replace('table["y"]', 'rng.random(3)\ntable["y"]'))
    assert cli.main(["claims", "recheck", "above-zero", "--seed", "12"]) == 1
    assert "y-is-one, all, seed 12: expected" in capsys.readouterr().err


def test_the_same_machine_must_agree_and_another_must_be_like_another_seed():
    here = {"seed": 11, "device": "cpu x", "threads": 1, "versions": {"torch": "2"}}
    mean = a_claim("mean")
    assert recheck.compare_seed(mean, record(), {"all": {11: 1.0005}}, here)
    with pytest.raises(RuntimeError, match=r"c, all, seed 11: expected 1 .*got 1\.01"):
        recheck.compare_seed(mean, record(), {"all": {11: 1.01}}, here)
    for other in ({**here, "device": "cpu y"}, {**here, "threads": 2}):
        assert recheck.compare_seed(
            mean, record(), {"all": {11: 1.75}}, other
        )  # range 1 to 1.2, widened by .6
        with pytest.raises(RuntimeError, match=r"allowed 0\.4 to 1\.8.*got 1\.9"):
            recheck.compare_seed(mean, record(), {"all": {11: 1.9}}, other)


def snakemake(project):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            "workflow/Snakefile",
            "--cores",
            "2",
            "--keep-going",
            "--rerun-triggers",
            "mtime",
            "--quiet",
            "all",
            "--config",
            "only={1: [11, 12]}",
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_interrupted_sweep_goes_on_where_it_stopped(project):
    pytest.importorskip("snakemake")
    (project / "notebooks/stop").touch()
    folder, logs = project / "book/results/runs/chapter_01", project / "_build/claims/lite/chapter_01"
    assert snakemake(project).returncode != 0
    assert (folder / "seed_11.csv.gz").is_file()
    assert not (folder / "seed_12.csv.gz").exists()
    assert "interrupted" in (logs / "seed_12.log").read_text()
    finished = (folder / "seed_11.csv.gz").stat().st_mtime_ns
    (project / "notebooks/stop").unlink()
    again = snakemake(project)
    assert again.returncode == 0, again.stderr
    assert (folder / "seed_12.csv.gz").is_file()
    assert (folder / "seed_11.csv.gz").stat().st_mtime_ns == finished
    assert json.loads((folder / "seed_12.json").read_text())["seed"] == 12
