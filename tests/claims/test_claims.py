import dataclasses
import gzip
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from segconf_lite.claims import Claim, ledger, read_claims, runs
from segconf_lite.claims.judge import holm, judge, seed_estimates
from segconf_lite.claims.statistics import GAP_BINS


def claim(**changes):
    base = {
        "id": "a-claim",
        "sentence": "The value is above zero.",
        "source": "here",
        "chapter": 2,
        "seeds": 3,
        "statistic": "mean",
        "columns": {"value": "x"},
        "direction": "greater",
        "registered": "2026-01-01",
    }
    return Claim(**{**base, **changes})


def table(mean, *, seeds=3, subjects=8, spread=0.1, domains=("A",), random_seed=0):
    rng = np.random.default_rng(random_seed)
    rows = [
        {"seed": seed, "subject": f"s{subject}", "domain": domain, "x": mean + spread * rng.normal()}
        for seed in range(seeds)
        for subject in range(subjects)
        for domain in domains
        for _ in range(2)
    ]
    return pd.DataFrame(rows)


def verdict_of(samples, **changes):
    return judge("a-claim", samples, claims={"a-claim": claim(**changes)})


@pytest.mark.parametrize(
    ("mean", "direction", "margin", "expected"),
    [
        (1.0, "greater", None, "holds"),
        (-1.0, "greater", None, "fails"),
        (0.0, "greater", None, "undecided"),
        (1.0, "less", None, "fails"),
        (-1.0, "less", None, "holds"),
        (0.0, "less", None, "undecided"),
        (0.0, "equivalent", 0.5, "holds"),
        (1.0, "equivalent", 0.5, "fails"),
        (-1.0, "equivalent", 0.5, "fails"),
        (0.5, "equivalent", 0.5, "undecided"),
    ],
)
def test_the_interval_decides(mean, direction, margin, expected):
    samples = table(mean)
    samples["x"] += mean - samples["x"].mean()  # so that the line runs through the middle
    verdict = verdict_of(samples, direction=direction, margin=margin)
    assert verdict.verdict == expected
    assert verdict.seeds == [0, 1, 2]
    assert (verdict.n_subjects, verdict.n_cases) == (24, 48)
    group = verdict.groups["all"]
    assert group["low"] < group["estimate"] < group["high"]
    assert group["estimate"] == pytest.approx(mean)


def test_threshold_moves_the_line():
    assert verdict_of(table(1.0), threshold=0.5).verdict == "holds"
    assert verdict_of(table(1.0), threshold=1.5).verdict == "fails"


def test_each_must_hold_and_one_failure_fails_all():
    samples = table(1.0, domains=("B", "C", "D"))
    assert verdict_of(samples, each="domain").verdict == "holds"
    samples.loc[samples["domain"] == "D", "x"] *= -1
    verdict = verdict_of(samples, each="domain")
    assert verdict.verdict == "fails"
    assert [verdict.groups[name]["verdict"] for name in "BCD"] == ["holds", "holds", "fails"]
    assert verdict_of(samples, each="domain", cases={"domain": ["B", "C"]}).verdict == "holds"


def test_seeds_that_differ_widen_the_interval():
    samples = table(0.0)
    wide = samples.assign(x=samples["x"] + samples["seed"])
    width = lambda t: np.ptp(list(verdict_of(t).groups["all"].values())[1:3])  # noqa: E731
    assert width(wide) > 5 * width(samples)


def test_the_interval_is_students_t_over_seeds():
    samples = table(0.3, seeds=5)
    group = verdict_of(samples).groups["all"]
    by_seed = samples.groupby("seed")["x"].mean()
    expected = stats.ttest_1samp(by_seed, 0).confidence_interval(0.95)
    assert (group["low"], group["high"]) == pytest.approx(tuple(expected))
    assert group["p_holds"] == pytest.approx(stats.ttest_1samp(by_seed, 0, alternative="greater").pvalue)
    assert group["p_fails"] == pytest.approx(1 - group["p_holds"])
    assert group["people"] == 40


def test_shared_people_widen_the_interval_and_one_person_decides_nothing():
    rng = np.random.default_rng(0)
    samples = table(1.0, spread=0.01)
    of_person = dict(zip(samples["subject"].unique(), rng.normal(size=8), strict=True))
    samples["x"] += samples["subject"].map(of_person)
    drawn, shared = verdict_of(samples), verdict_of(samples, subjects="shared")
    width = lambda verdict: np.ptp([verdict.groups["all"][k] for k in ("low", "high")])  # noqa: E731
    assert width(shared) > 10 * width(drawn)
    assert shared.groups["all"]["people"] == 8
    one = verdict_of(samples[samples["subject"] == "s0"].assign(x=lambda t: 5 + t["x"]), subjects="shared")
    assert one.verdict == "undecided"
    assert (one.p_holds, one.p_fails, one.groups["all"]["people"]) == (1, 1, 1)
    assert one.groups["all"]["low"] > 0  # over seeds alone, for this person


def test_one_of_many_scanners_refutes_only_at_the_level_of_as_many_tests():
    def samples(n):
        parts = [table(1.0, seeds=6, domains=(f"D{k}",), random_seed=k) for k in range(n)]
        below = np.repeat([-0.5, -0.1, -0.25, 0.05, -0.45, -0.15], len(parts[0]) // 6)
        return pd.concat([parts[0].assign(x=below), *parts[1:]])

    alone, among = (verdict_of(samples(n), each="domain") for n in (1, 6))
    assert alone.verdict == "fails"
    assert among.verdict == "undecided"
    assert among.groups["D0"]["verdict"] == "fails"
    assert among.p_fails == pytest.approx(6 * alone.p_fails)
    assert among.p_holds == max(group["p_holds"] for group in among.groups.values())


@pytest.mark.parametrize("direction", ["greater", "less", "equivalent"])
@pytest.mark.parametrize("mean", [-1.0, -0.5, -0.4, 0.0, 0.4, 0.5, 1.0])
def test_p_values_and_interval_say_the_same(direction, mean):
    samples = table(mean, spread=0.3)
    verdict = verdict_of(samples, direction=direction, margin=0.5 if direction == "equivalent" else None)
    assert (verdict.p_holds < 0.025) == (verdict.verdict == "holds")
    assert (verdict.p_fails < 0.025) == (verdict.verdict == "fails")


def test_holm_by_hand_and_bounds():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).uniform(size=50)
    assert ((holm(p) >= p) & (holm(p) <= 1)).all()
    assert (holm(p)[np.argsort(p)] == np.sort(holm(p))).all()  # the order stays
    assert holm([0.2]) == [0.2]
    with pytest.raises(ValueError, match=r"p_values\[1\] must be"):
        holm([0.1, 1.1])


def test_paired_statistics_by_hand():
    risk = np.arange(10) / 10
    samples = pd.DataFrame(
        {
            "seed": np.repeat([0, 1, 2], 10),
            "subject": np.tile(np.arange(10), 3),
            "risk": np.tile(risk, 3),
            "good": np.tile(risk, 3),
            "bad": np.tile(-risk, 3),
            "stuck": 0.5,
        }
    )
    columns = {"risk": "risk", "first": "good", "second": "bad"}
    rank = verdict_of(samples, statistic="rank_correlation_difference", columns=columns)
    assert rank.groups["all"]["estimate"] == pytest.approx(2)
    assert rank.verdict == "holds"
    worse = verdict_of(samples, statistic="excess_aurc_difference", columns=columns, direction="less")
    assert worse.groups["all"]["estimate"] < 0
    assert worse.verdict == "holds"
    stuck = {"risk": "risk", "uncertainty": "stuck"}
    flat = verdict_of(samples, statistic="rank_correlation", columns=stuck)
    assert flat.groups["all"]["estimate"] == 0
    assert flat.verdict == "undecided"


def test_pooled_calibration_is_that_of_all_pixels_together():
    from segconf_lite.evaluation import apply_temperature, expected_calibration_error, reliability_table

    rng = np.random.default_rng(0)
    chances, rows = {}, []
    labels = rng.integers(0, 3, (9, 8, 8))
    for k, name in enumerate(("one", "other")):
        chances[name] = apply_temperature((1 + k) * rng.normal(size=(9, 3, 8, 8)), 1.0)
    for case in range(9):
        row = {"seed": 0, "subject": case}
        for name, values in chances.items():
            row |= {f"{name} gap {k}": 0.0 for k in range(GAP_BINS)}
            bins = reliability_table(values[case : case + 1], labels[case : case + 1], n_bins=GAP_BINS)
            gap = (bins["accuracy"] - bins["confidence"]) * bins["share"]
            row |= {f"{name} gap {5 * low:.0f}": g for low, g in zip(bins["bin_low"], gap, strict=True)}
        rows.append(row)
    columns = {"first": "one gap *", "second": "other gap *"}
    found = seed_estimates(claim(statistic="pooled_ece_difference", columns=columns), pd.DataFrame(rows))
    one, other = (expected_calibration_error(chances[n], labels, n_bins=5) for n in ("one", "other"))
    assert found["all"][0] == pytest.approx(one - other)


def test_undefined_cases_are_left_out():
    samples = table(1.0)
    samples.loc[0, "x"] = np.nan
    assert verdict_of(samples).n_cases == 47


# -- what cannot be judged ----------------------------------------------------------------------------------


def test_unregistered():
    with pytest.raises(ValueError, match=r"claim 'other' is not registered; register it first.*'a-claim'"):
        judge("other", table(1.0), claims={"a-claim": claim()})


def test_fewer_seeds_than_registered():
    with pytest.raises(ValueError, match=r"registered for 5 seeds, got 3: \[0, 1, 2\]"):
        verdict_of(table(1.0), seeds=5)


def test_missing_column_cases_or_seed():
    with pytest.raises(ValueError, match=r"none called \['y'\]; it has \['seed'"):
        verdict_of(table(1.0), columns={"value": "y"})
    with pytest.raises(ValueError, match="no case is left"):
        verdict_of(table(1.0), cases={"domain": ["Z"]})
    samples = table(1.0, domains=("B", "C"))
    samples = samples[(samples["domain"] == "B") | (samples["seed"] > 0)]
    with pytest.raises(ValueError, match="C lacks cases in some seeds"):
        verdict_of(samples, each="domain")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statistic": "median"}, r"statistic must be one of .*'mean'.*got 'median'"),
        ({"columns": {"risk": "x"}}, r"columns must be the columns \['value'\] of mean.*got {'risk': 'x'}"),
        ({"columns": ["value"]}, r"columns must be .* got \['value'\]"),
        ({"columns": {"value": 3}}, "columns must be .* got {'value': 3}"),
        ({"subjects": "same"}, r"subjects must be one of .*'shared'.*got 'same'"),
        ({"direction": "up"}, r"direction must be one of .*got 'up'"),
        ({"direction": "equivalent"}, "margin goes with 'equivalent'"),
        ({"margin": 0.1}, "margin goes with 'equivalent'"),
        ({"direction": "equivalent", "margin": 0}, "margin must be a number > 0, got 0"),
        ({"seeds": 1}, "seeds must be an integer >= 2, got 1"),
        ({"seeds": 2.5}, r"seeds must be an integer >= 2, got 2\.5"),
        ({"chapter": 100}, r"chapter must be an integer in \[0, 99\], got 100"),
        ({"threshold": "1e-5"}, "threshold must be a finite number, got '1e-5'"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"each": ["domain"]}, "each must be text"),
        ({"sentence": " "}, "sentence must be text"),
        ({"display": ""}, "display must be text"),
        ({"cases": {"domain": "E"}}, "cases must be for each column a list of allowed values"),
        ({"cases": {"domain": [["A"], ["B"]]}}, "cases must be for each column a list"),
    ],
)
def test_bad_claims(changes, message):
    with pytest.raises(ValueError, match=message):
        claim(**changes)


def test_bad_registry(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text("- {id: half}\n")
    with pytest.raises(ValueError, match=r"half is not a claim: .*missing"):
        read_claims(path)
    entry = json.dumps(dataclasses.asdict(claim()))
    path.write_text(f"- {entry}\n- {entry}\n")
    with pytest.raises(ValueError, match="a-claim is registered twice"):
        read_claims(path)


@pytest.mark.parametrize(
    "name",
    ["../../elsewhere", "a/b", "/etc/name", "A", "a b", "a--b", "-a", "", "a\n", "a.b", "x" * 101, 7, None],
)
def test_an_id_is_a_plain_name_because_it_becomes_a_file(name):
    with pytest.raises(ValueError, match="id of a claim must be at most 100 lower-case letters"):
        claim(id=name)


def test_nested_lists_cannot_keep_the_digest_busy():
    many = ["x"]
    for _ in range(60):  # as text this would have 2**60 entries
        many = [many, many]
    for field in ("cases", "columns", "id", "sentence", "each", "seeds"):
        with pytest.raises(ValueError, match="must be"):
            claim(**{field: {"value": many} if field in ("cases", "columns") else many})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a list of claims, each with its fields, got None"),
        ("word", "a list of claims, each with its fields, got 'word'"),
        ("- word", "a list of claims, each with its fields"),
        ("- {id: a", "a list of claims in YAML, got"),
        ("- {id: @a}", "a list of claims in YAML"),
        ("[" * 5000, "a list of claims in YAML"),
        ("- {registered: 2026-13-45}", "a list of claims in YAML, got month must"),
        ("- {seeds: 1:30}", "a list of claims in YAML, got .*1:30"),
        ("- !!timestamp x", "a list of claims in YAML"),
        ("- !!python/name:os.system x", "a list of claims in YAML"),
        ("- &a {id: x}\n- *a", "write each claim out"),
        ("- &a {id: x}\n- {<<: *a}", "write each claim out"),
        ("- {1: 2}", "is not a claim"),
    ],
)
def test_a_register_that_cannot_be_read_is_one_clear_message(tmp_path, text, message):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_claims(path)
    assert str(path) in str(caught.value)


def test_numbers_of_the_register_are_decimal(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text(f"- {json.dumps(dataclasses.asdict(claim()))}\n".replace('"seeds": 3', '"seeds": 010'))
    assert read_claims(path)["a-claim"].seeds == 10


def test_the_digest_follows_what_decides_and_nothing_else():
    assert claim().digest() == claim(sentence="Otherwise said.").digest()
    assert claim().digest() == claim(display="In today's words.").digest()
    assert claim().digest() != claim(threshold=0.1).digest()
    assert claim().digest() != claim(seeds=4).digest()
    assert claim().digest() != claim(subjects="shared").digest()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("x", np.inf, "column x must be finite, got infinity in 1 cases"),
        ("x", "high", "column x must be real numbers"),
        ("subject", None, "column subject must be text or integers, none missing"),
        ("seed", 0.5, "column seed must be integers"),
        ("domain", None, "column domain must be a value for every case"),
    ],
)
def test_columns_that_decide_are_checked(column, value, message):
    samples = table(1.0)
    samples[column] = samples[column].astype(object)
    samples.loc[3, column] = value
    with pytest.raises(ValueError, match=message):
        verdict_of(samples, each="domain")


def test_a_statistic_without_a_value_is_refused():
    samples = table(1.0).assign(zero=0.0)
    columns = {"numerator": "x", "denominator": "zero"}
    with (
        np.errstate(divide="ignore", invalid="ignore"),
        pytest.raises(ValueError, match="ratio_of_means of all: the statistic of each seed must be finite"),
    ):
        verdict_of(samples, statistic="ratio_of_means", columns=columns)


# -- on disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    tables = [
        ledger.save_cases(part.drop(columns="seed"), tmp_path / f"run_{seed}.csv", profile="lite", seed=seed)
        for seed, part in table(1.0).groupby("seed")
    ]
    runs._store(runs.table_path(tmp_path, 2, "lite"), *runs._joined(tables))
    return tmp_path


def test_settle_writes_a_record_with_its_origin(results):
    known = {"a-claim": claim()}
    assert ledger.settle(results, profile="lite", claims=known) == []
    record = ledger.read_record(results, "a-claim", "lite")
    assert record["verdict"] == "holds"
    assert record["registered_as"] == claim().digest()
    assert set(record["by_seed"]["all"]) == {"0", "1", "2"}
    assert [run["seed"] for run in record["runs"]] == [0, 1, 2]
    assert {"commit", "profile", "device", "versions", "day"} <= set(record["runs"][0])
    shown = ledger.overview(results, claims=known)
    assert shown.loc[0, "verdict"] == "holds"
    assert shown.loc[0, "seeds"] == 3


def measured_again(path, table):
    """Another table under the name of a stored one, with its own SHA-256."""
    table.to_csv(path, index=False)
    origin = json.loads(path.with_suffix(".json").read_text())
    origin["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(origin))


def test_a_changed_byte_of_a_table_is_not_judged(results):
    path = runs.table_path(results, 2, "lite")
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(ValueError, match=r"SHA-256 is not that of its JSON|its seeds are not"):
        ledger.settle(results, profile="lite", claims={"a-claim": claim()})


def test_a_changed_verdict_is_reported_and_not_overwritten(results):
    known = {"a-claim": claim()}
    ledger.settle(results, profile="lite", claims=known)
    path = runs.table_path(results, 2, "lite")
    measured_again(path, pd.read_csv(path).assign(x=lambda t: -t["x"]))
    (line,) = ledger.settle(results, profile="lite", claims=known)
    assert line.startswith("a-claim: holds -> fails")
    assert "- all: {'estimate':" in line
    assert "+ all: {'estimate': -" in line
    assert ledger.read_record(results, "a-claim", "lite")["verdict"] == "holds"
    ledger.settle(results, profile="lite", claims=known, accept=True)
    assert ledger.read_record(results, "a-claim", "lite")["verdict"] == "fails"


def test_a_claim_changed_after_its_run_is_shown_as_such(results):
    ledger.settle(results, profile="lite", claims={"a-claim": claim()})
    moved = {"a-claim": claim(threshold=-1.0), "new": claim(id="new", chapter=9)}
    shown = ledger.overview(results, claims=moved).set_index("id")
    assert shown.loc["a-claim", "verdict"] == "changed since its run"
    assert shown.loc["new", "verdict"] == "not run"


def test_other_numbers_are_reported_and_what_differs_by_rounding_is_not(results):
    known = {"a-claim": claim()}
    ledger.settle(results, profile="lite", claims=known)
    path, stored = runs.table_path(results, 2, "lite"), results / "claims/a-claim.lite.json"
    before, cases = stored.read_bytes(), pd.read_csv(path)
    measured_again(path, cases.assign(x=1.00001 * cases["x"]))
    assert ledger.settle(results, profile="lite", claims=known) == []
    measured_again(path, cases.assign(x=1.1 * cases["x"]))
    (line,) = ledger.settle(results, profile="lite", claims=known)
    assert line.startswith("a-claim: holds\n  - all:")
    assert stored.read_bytes() == before


def test_an_edited_claim_keeps_its_mark_until_accepted(results):
    ledger.settle(results, profile="lite", claims={"a-claim": claim()})
    moved = {"a-claim": claim(threshold=-1.0)}
    (line,) = ledger.settle(results, profile="lite", claims=moved)
    assert line.splitlines()[0] == "a-claim: holds (the claim was changed since its run)"
    assert ledger.overview(results, claims=moved).loc[0, "verdict"] == "changed since its run"
    ledger.settle(results, profile="lite", claims=moved, accept=True)
    assert ledger.overview(results, claims=moved).loc[0, "verdict"] == "holds"


def save_runs(results, value, seeds):
    for seed, (_, part) in zip(seeds, table(value, seeds=len(seeds)).groupby("seed"), strict=True):
        path = runs.run_path(results, 2, seed)
        ledger.save_cases(part.drop(columns="seed"), path, profile="lite", seed=seed)


def test_claims_are_judged_on_all_ten_seeds_or_on_the_earlier_ones(results):
    known = {"a-claim": claim(), "later": claim(id="later", registered="2026-11-27")}
    assert ledger.settle(results, profile="lite", claims=known) == []
    before = ledger.read_record(results, "a-claim", "lite")
    save_runs(results, -2.0, runs.SEEDS[:9])
    assert ledger.settle(results, profile="lite", claims=known, accept=True) == []  # one seed is missing
    assert ledger.read_record(results, "a-claim", "lite") == before
    assert ledger.read_record(results, "later", "lite") is None  # the earlier seeds had been seen
    save_runs(results, -2.0, runs.SEEDS)
    (line,) = ledger.settle(results, profile="lite", claims=known)
    assert line.startswith("a-claim: holds -> fails")
    assert ledger.read_record(results, "a-claim", "lite") == before
    ledger.settle(results, profile="lite", claims=known, accept=True)
    now = ledger.read_record(results, "a-claim", "lite")
    assert now["verdict"] == "fails"
    assert now["seeds"] == list(runs.SEEDS)
    assert ledger.read_record(results, "a-claim", "lite", earlier=True) == before
    assert ledger.read_record(results, "later", "lite")["verdict"] == "fails"
    assert ledger.settle(results, profile="lite", claims=known) == []


def test_claims_with_runs_of_their_own_are_judged_on_these_alone(results):
    known = {"a-claim": claim(runs="lidc", registered="2026-11-27")}
    assert known["a-claim"].digest() != claim().digest()
    for seed, (_, part) in zip(runs.seeds_of("lidc"), table(-2.0, seeds=5).groupby("seed"), strict=True):
        assert ledger.settle(results, profile="lite", claims=known) == []
        assert ledger.read_record(results, "a-claim", "lite") is None  # a seed is missing
        path = runs.run_path(results, "lidc", seed)
        ledger.save_cases(part.drop(columns="seed"), path, profile="lite", seed=seed)
    ledger.settle(results, profile="lite", claims=known)
    record = ledger.read_record(results, "a-claim", "lite")
    assert record["verdict"] == "fails"
    assert record["seeds"] == list(runs.seeds_of("lidc"))


def test_a_compressed_table_is_the_same_file_each_time_and_a_bomb_is_refused(results, monkeypatch):
    save_runs(results, 1.0, runs.SEEDS)
    path = runs.run_path(results, 2, runs.SEEDS[0])
    before = path.read_bytes()
    save_runs(results, 1.0, runs.SEEDS)
    assert path.read_bytes() == before
    assert path.with_name("seed_21.json").is_file()
    path.write_bytes(gzip.compress(b"x" * 10_000))
    monkeypatch.setattr(runs, "_LARGEST", 9_999)
    with pytest.raises(ValueError, match=r"seed_21\.csv\.gz must be .* holds more than 9,999 bytes"):
        runs.judged_cases(results, 2, "lite")
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(
        ValueError, match=r"seed_21\.csv\.gz must be a file that `make claims` wrote, got a dam"
    ):
        runs.judged_cases(results, 2, "lite")


@pytest.mark.parametrize("kept", [0, 10, 200, 600])
def test_a_table_that_is_cut_off_is_never_judged(results, kept):
    path = runs.table_path(results, 2, "lite")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"_cases\.csv must be .* a damaged one: .*; restore it"):
        ledger.settle(results, profile="lite", claims={"a-claim": claim()})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"runs": []}', '{"runs": [3]}', "[" * 10**5, "\xff"]
)
def test_damaged_provenance_and_records_are_named(results, text):
    known = {"a-claim": claim()}
    ledger.settle(results, profile="lite", claims=known)
    for path in (results / "claims/a-claim.lite.json", results / "chapter_02_lite_cases.json"):
        good = path.read_bytes()
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=rf"{path.stem}.*; restore it from git"):
            ledger.settle(results, profile="lite", claims=known)
        path.write_bytes(good)


def test_a_write_that_is_broken_off_leaves_the_old_table(results, monkeypatch):
    path = runs.table_path(results, 2, "lite")
    before = path.read_bytes()

    def broken(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.replace", broken)
    with pytest.raises(OSError, match="no space left"):
        ledger.save_cases(pd.read_csv(path), path, profile="lite", seed=0)
    assert path.read_bytes() == before
    assert [p.name for p in results.iterdir() if p.name.startswith(".")] == []


def test_a_table_without_subjects_or_with_two_equal_columns_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"none called \['subject'\]"):
        ledger.save_cases(pd.DataFrame({"x": [1]}), tmp_path / "x.csv", profile="lite", seed=0)
    twice = pd.DataFrame([["a", 1, 2]], columns=["subject", "x", "x"])
    with pytest.raises(ValueError, match=r"\['x'\] more than once"):
        ledger.save_cases(twice, tmp_path / "x.csv", profile="lite", seed=0)
    with pytest.raises(ValueError, match="profile must be one of"):
        ledger.save_cases(twice.iloc[:, :2], tmp_path / "x.csv", profile="../x", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_provenance_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert ledger.provenance(profile="lite", seed=np.int64(3))["commit"] == "unknown"
    assert runs.commit_hash() == "0"


def test_a_seed_comes_once(results):
    run = results / "run_0.csv"
    with pytest.raises(ValueError, match=r"one table per seed, got seeds \[0, 0\]"):
        runs._joined([run, run])


def test_a_stored_table_and_the_overview_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert {"seed", "risk"} <= set(ledger.stored_table("chapter_02_lite_cases.csv").columns)
    assert {"holds", "fails"} <= set(ledger.overview()["verdict"])


def test_within_averages_the_statistic_over_the_parts_and_old_claims_keep_their_digest():
    rng = np.random.default_rng(0)
    samples = pd.concat([table(1.0).assign(net=k, domain="A") for k in range(2)], ignore_index=True)
    samples["risk"] = rng.random(len(samples))
    samples["a"] = samples["risk"] + 10 * samples["net"]  # a perfect order within each network, not across
    samples["b"] = rng.random(len(samples))
    columns = {"risk": "risk", "first": "a", "second": "b"}
    asked = {"statistic": "excess_aurc_difference", "columns": columns, "direction": "less"}
    pooled, within = (seed_estimates(claim(**asked, within=w), samples)["all"] for w in (None, "net"))
    alone = [seed_estimates(claim(**asked), samples[samples["net"] == k])["all"] for k in range(2)]
    for seed in range(3):
        assert within[seed] == pytest.approx(np.mean([a[seed] for a in alone]))
        assert within[seed] < pooled[seed]
    assert verdict_of(samples, **asked, within="net").verdict == "holds"
    assert claim().digest() == claim(within=None).digest() != claim(within="net").digest()
    with pytest.raises(ValueError, match=r"none called \['nothing'\]"):
        verdict_of(samples, **asked, within="nothing")


def test_ratio_of_means():
    samples = table(2.0).assign(y=4.0)
    columns = {"numerator": "x", "denominator": "y"}
    found = verdict_of(samples, statistic="ratio_of_means", columns=columns, threshold=0.4)
    assert found.groups["all"]["estimate"] == pytest.approx(0.5, abs=0.05)
    assert found.verdict == "holds"


def test_a_group_keeps_its_name_where_whole_numbers_became_floats():
    samples = table(1.0).assign(domain=32)
    wanted = verdict_of(samples, each="domain").groups
    found = verdict_of(samples.assign(domain=32.0), each="domain").groups
    assert list(wanted) == list(found) == ["32"]
