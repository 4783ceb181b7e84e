"""Laws of the advice: the rule, the test that leaves a scanner out, and programs that run."""

import contextlib
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from segconf_lite import cli, resources
from segconf_lite.claims import read_claims
from segconf_lite.reports import choose, leave_one_scanner_out, recommend_method, seed_means

COSTS = pd.DataFrame(
    {"labels": [False, False, True], "networks": [1, 1, 4], "passes": [1, 15, 4]},
    index=["quick", "slow", "many"],
)


def table(quick, slow, many, noise=0.001, seeds=5):
    rng = np.random.default_rng(0)
    means = {"quick": quick, "slow": slow, "many": many}
    return pd.DataFrame({n: m + noise * rng.normal(size=seeds) for n, m in means.items()}, index=range(seeds))


def test_the_best_wins_where_it_is_clearly_better():
    assert choose(table(0.3, 0.2, 0.1), COSTS) == ["many"]
    assert choose(table(0.3, 0.2, 0.1), COSTS, higher_is_better=True) == ["quick"]


def test_of_those_that_are_level_the_cheapest_wins():
    assert choose(table(0.101, 0.1, 0.1005, noise=0.05), COSTS) == ["quick", "slow", "many"]


def test_of_equally_cheap_ones_the_better_mean_comes_first():
    costs = COSTS.assign(labels=False, networks=1, passes=1)
    values = pd.DataFrame({"quick": [0.2, 0.4], "slow": [0.1, 0.4], "many": [0.3, 0.1]})
    assert choose(values, costs)[0] == "many"


def test_order_of_seeds_and_methods_and_units_do_not_matter():
    values = table(0.11, 0.1, 0.1, noise=0.01)
    advised = choose(values, COSTS)
    assert choose(values.iloc[::-1][["many", "quick", "slow"]], COSTS.iloc[::-1]) == advised
    assert choose(1000 * values, COSTS) == advised
    assert choose(-values, COSTS, higher_is_better=True) == advised


def test_a_null_model_can_win():
    costs = COSTS.assign(null=[True, False, False])
    assert choose(table(0.1, 0.2, 0.2), costs) == ["quick"]


def blocks(**by_scanner):
    """Values of quick, slow and many on each scanner, equal in three seeds."""
    rows = {(seed, s): v for seed in range(3) for s, v in by_scanner.items()}
    wide = pd.DataFrame(rows, index=list(COSTS.index)).T
    return wide.rename_axis(["seed", "scanner"])


def test_advice_from_the_other_scanners_is_wrong_where_this_one_differs():
    values = blocks(B=[0.1, 0.2, 0.3], C=[0.1, 0.2, 0.3], D=[0.5, 0.2, 0.3])
    found = leave_one_scanner_out(values, COSTS).groupby("scanner")[["regret", "wrong"]].mean()
    # The mean over C and D (or B and D) is best for "slow", that over B and C for "quick".
    assert found["regret"].to_dict() == pytest.approx({"B": 0.1, "C": 0.1, "D": 0.3})
    assert found["wrong"].tolist() == [1, 1, 1]
    up = leave_one_scanner_out(-values, COSTS, higher_is_better=True)
    assert up.groupby("scanner")["regret"].mean().tolist() == pytest.approx(found["regret"].tolist())


def test_the_scanner_and_the_seed_that_are_left_out_do_not_change_the_advice():
    values = blocks(B=[0.1, 0.2, 0.3], C=[0.15, 0.2, 0.3], D=[0.5, 0.2, 0.3])
    before = leave_one_scanner_out(values, COSTS).set_index(["seed", "scanner"])["advised"]
    values.loc[(1, "D"), "many"] = -9
    after = leave_one_scanner_out(values, COSTS).set_index(["seed", "scanner"])["advised"]
    assert before[1, "D"] == after[1, "D"]


@pytest.mark.parametrize("want", ["order", "number", "where"])
def test_more_budget_never_has_a_worse_best_mean(want):
    small = recommend_method(want=want, passes=1)
    large = recommend_method(want=want, passes=15, networks=4, labels=True)
    means = seed_means({"order": "ranking", "number": "absolute error", "where": "far errors"}[want])
    sign = -1 if means.attrs["higher_is_better"] else 1
    assert sign * means[large.best].mean() <= sign * means[small.best].mean()
    assert small.method in small.level


def test_every_claim_that_is_named_is_registered():
    costs = pd.read_csv(resources.table_file("chapter_10_costs.csv"))
    named = {name for claims in costs["claims"].dropna() for name in claims.split()}
    assert named <= set(read_claims())
    table = pd.read_csv(resources.table_file("chapter_10_head_to_head.csv"))
    assert set(table["method"]) <= set(costs["method"])
    assert costs["passes"].notna().all()


def test_the_program_of_a_recommendation_runs():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(recommend_method(want="order").code, {})
    assert "tensor" in said.getvalue()


def test_the_command_prints_advice_evidence_claims_and_a_program(capsys):
    assert cli.main(["recommend", "--want", "number", "--labels"]) == 0
    said = capsys.readouterr().out
    for words in ("use: ", "evidence: mean absolute error", "seeds (", "claims: ", "fit(network, train)"):
        assert words in said
    assert said == recommend_method(want="number", labels=True).text() + "\n"


def test_a_bad_option_is_one_line_and_exit_code_two(capsys):
    assert cli.main(["recommend", "--passes", "0"]) == 2
    assert capsys.readouterr().err == "segconf recommend: passes must be an integer >= 1, got 0\n"
    for words in (["--want", "luck"], ["--networks", "x"], ["--label-free"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["recommend", *words])
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_command_does_not_load_torch():
    code = (
        "import sys; from segconf_lite import cli; cli.main(['recommend']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_messages():
    with pytest.raises(ValueError, match="want must be one of"):
        recommend_method(want="luck")
    with pytest.raises(ValueError, match="labels must be one of"):
        recommend_method(labels=1)
    with pytest.raises(ValueError, match="question and scanners must be in the stored table"):
        recommend_method(scanners=["Z"])
    with pytest.raises(ValueError, match=r"costs must be a table of all methods, got none of \['new'\]"):
        choose(table(1, 2, 3).assign(new=1.0), COSTS)
    with pytest.raises(ValueError, match="number of seeds must be an integer >= 2"):
        choose(table(1, 2, 3, seeds=1), COSTS)
    with pytest.raises(ValueError, match="number of scanners must be an integer >= 2"):
        leave_one_scanner_out(blocks(B=[1, 2, 3]), COSTS)


@pytest.mark.parametrize("question", [["ranking"], None, 3])
def test_a_question_that_is_no_text_is_refused(question):
    with pytest.raises(ValueError, match="question must be a str"):
        seed_means(question)
