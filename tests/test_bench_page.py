"""Tables of the page on costs, from what the benchmarks store."""

import json

import pytest
from bench_page import TARGETS, with_measurements

RECORD = {
    "question": "What?",
    "commit": "abc",
    "device": "a processor",
    "threads": 2,
    "versions": {"torch": "2"},
    "day": "2026-01-01",
    "runs": 5,
    "slopes": {"slow": 1.0},
    "rows": [
        {"what": "pass", "size": "1 x 8", "n": 8, "seconds": 0.002, "ratio": 1},
        {"what": "slow", "size": "1 x 8", "n": 8, "seconds": 0.003, "ratio": 1.5},
        {"what": "pass", "size": "2 x 8", "n": 16, "seconds": 0.004, "ratio": 1},
        {"what": "slow", "size": "2 x 8", "n": 16, "seconds": 0.1, "ratio": 25.04},
        {"what": "other", "size": "3 cases", "n": 3, "seconds": 12.0, "ratio": 0.00001},
    ],
}


def stored(folder, name, record):
    (folder / "bench").mkdir(exist_ok=True)
    (folder / "bench" / f"{name}.json").write_text(json.dumps(record), "utf-8")


def test_ratios_stand_by_size_and_the_reference_shows_its_time(tmp_path):
    stored(tmp_path, "passes", RECORD)
    page = with_measurements("Before.\n\n<!-- measured: passes -->\n\nAfter.", tmp_path)
    assert page.startswith("Before.")
    assert page.endswith("After.")
    assert "| What? | 1 × 8 | 2 × 8 | exponent |" in page
    assert "| pass | *2 ms* | *4 ms* |  |" in page
    assert "| slow | 1.5 | 25 | 1.00 |" in page
    assert "| other | 0.00001 |  |" in page  # another kind of size is another table
    assert "a processor, 2 threads, torch 2, commit abc" in page


def test_more_than_four_sizes_are_two_tables(tmp_path):
    rows = [{"what": "pass", "size": f"{n} x 8", "n": n, "seconds": 0.001, "ratio": 1} for n in range(1, 6)]
    stored(tmp_path, "many", RECORD | {"rows": rows})
    heads = [
        line
        for line in with_measurements("<!-- measured: many -->", tmp_path).splitlines()
        if "What?" in line
    ]
    assert len(heads) == 2
    assert max(head.count("|") for head in heads) <= 6


def test_targets_are_met_or_missed(tmp_path):
    for question in {target.question for target in TARGETS}:
        rows = [
            {
                "what": t.what,
                "size": t.size,
                "n": 1,
                "seconds": t.limit,
                "ratio": t.limit * (1 + 0.1 * (k == 0)),
            }
            for k, t in enumerate(TARGETS)
            if t.question == question
        ]
        stored(tmp_path, question, RECORD | {"rows": rows})
    lines = with_measurements("<!-- measured: targets -->", tmp_path).splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == ["missed", *["met"] * (len(TARGETS) - 1)]


def test_a_mark_without_measurements_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'nothing'; there are"):
        with_measurements("<!-- measured: nothing -->", tmp_path)


def test_what_was_not_measured_is_said_to_be_so(tmp_path):
    assert with_measurements("<!-- measured: series -->", tmp_path) == "*Not measured yet: series.csv.*"
    assert with_measurements("<!-- measured: mutation -->", tmp_path) == "*Not measured yet: mutation.*"


def test_faults_that_were_detected_have_an_interval(tmp_path):
    rows = "".join(f"evaluation,{'survived' if k < 3 else 'killed'}\n" for k in range(30))
    (tmp_path / "mutation_evaluation.csv").write_text("room,outcome\n" + rows, "utf-8")
    page = with_measurements("<!-- measured: mutation -->", tmp_path)
    assert "| evaluation | 30 | 27 | 90 % [74, 97] |" in page  # Wilson, by hand: 0.744 to 0.965
