"""The exercises: what the checks say to blanks, wrong answers and right ones; the editions made of them."""

import json
import re
import time

import jupytext
import nbformat
import numpy as np
import pytest
import yaml
from build import BOOK, ROOT
from editions import (
    EDITIONS,
    blanked,
    in_jupyter,
    kind_of,
    main,
    marked,
    name_of,
    outcome,
    setup_of,
)

from segconf_lite import exercises
from segconf_lite.exercises import NotYetError

CHAPTERS = [f"{n:02d}" for n in range(1, 13)]
NOTEBOOKS = {n: jupytext.read(next((ROOT / "notebooks").glob(f"{n}_*.py"))) for n in CHAPTERS}
WRONG = yaml.safe_load((BOOK / "exercises.yml").read_text("utf-8"))


def exercises_of(chapter):
    """Name -> the shared code, the solution and the check."""
    cells = [c for c in NOTEBOOKS[chapter].cells if kind_of(c) in ("solution", "check")]
    setup = setup_of(NOTEBOOKS[chapter])
    return {
        name_of(a.source): (setup, a.source, b.source) for a, b in zip(cells[::2], cells[1::2], strict=True)
    }


EVERY = {name: parts for chapter in CHAPTERS for name, parts in exercises_of(chapter).items()}
every_exercise = pytest.mark.parametrize("name", EVERY)


def test_each_chapter_has_four_exercises_of_three_levels_and_hints():
    assert set(WRONG) == set(EVERY)
    for chapter in CHAPTERS:
        kinds = [kind_of(cell) for cell in NOTEBOOKS[chapter].cells]
        assert kinds.count("solution") == kinds.count("check") == len(exercises_of(chapter)) >= 4
        tasks = [c.source for c in NOTEBOOKS[chapter].cells if c.source.startswith("### Exercise")]
        assert len(tasks) == kinds.count("solution")
        assert all(task.count(":::{admonition} Hint") >= 2 for task in tasks)
        levels = {re.match(r"### Exercise \d+: (\w+)", task)[1] for task in tasks}
        assert {"write", "change"} < levels
        assert levels & {"break", "invent"}


@every_exercise
def test_the_solution_is_short_quick_and_right(name):
    setup, solution, check = EVERY[name]
    assert len(solution.splitlines()) <= 10
    start = time.process_time()
    passed, said = outcome(setup, solution, check)
    assert passed
    assert said.startswith("Right: ")
    assert time.process_time() - start < 1


@every_exercise
def test_the_blank_and_three_wrong_answers_fail_with_messages_of_their_own(name):
    setup, solution, check = EVERY[name]
    answers = [blanked(solution), *(entry["answer"] for entry in WRONG[name])]
    assert len(answers) >= 4
    told = [outcome(setup, answer, check) for answer in answers]
    assert not any(passed for passed, _ in told)
    assert len({said for _, said in told}) == len(told)
    assert "blank" in told[0][1]
    assert not any(said.startswith("expected") for _, said in told), "a known mistake must be named"


@every_exercise
def test_a_function_that_stops_and_a_strange_result_are_explained(name):
    setup, solution, check = EVERY[name]
    if solution.startswith("def"):
        head = solution.splitlines()[0]
        assert outcome(setup, f"{head}\n    return 1 / 0", check)[1].startswith(
            "the function stopped with ZeroD"
        )
        assert outcome(setup, f"{head}\n    return 'x'", check)[1] == "expected numbers, got 'x'"
        assert outcome(setup, f"{name} = 3", check)[1].startswith("the blank is still there")


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (exercises.check_dice, (lambda p, r: (p & r).sum() / r.sum(),), "the sensitivity"),
        (exercises.check_dice, (lambda p, r: 0.6,), r"expected 0\.0, got 0\.6"),
        (exercises.check_resample, (lambda s, rng: [0.5],), "integers from 0 to N"),
        (exercises.check_resample, (lambda s, rng: [],), "got none"),
        (exercises.check_resample, (lambda s, rng: [*range(3), *range(3), 3],), "3 subjects of 6"),
        (exercises.check_resample, (lambda s, rng: [0, 1, 2] * 5 + [3],), "every sample is the same"),
        (exercises.check_selective_risk, (lambda r, u: r[:2],), r"a result of shape \(4,\)"),
        (exercises.check_misleading_numbers, (np.array([0.5, 0.1]), [9, 0]), "between 0 and 1"),
        (exercises.check_misleading_numbers, (np.array([0.5, 0.1]), [0.5]), "2 predictions"),
        (exercises.check_threshold, (lambda a, b: b.max(),), "one slice decides it"),
        (exercises.check_noise, (lambda c, rng: c * 1.0,), "two generators give the same"),
        (exercises.check_noise, (lambda c, rng: rng.random(3),), "a change of shape"),
        (exercises.check_forward, (lambda x, e, b, d: d(e(x)),), "the bottleneck is not used"),
        (exercises.check_noise_level, ([1, 2],), "one number is asked for"),
        (exercises.check_ratios, (lambda m, w: m.mean(axis=1),), r"a result of shape \(6,\)"),
        (exercises.check_fgsm, (lambda x, g, e: e * np.sign(g),), "add it to the image"),
        (exercises.check_quantile, (lambda e, level: np.sort(e)[-1],), "has the index k − 1"),
        (exercises.check_budgets, (np.ones(3, bool), [1.5], (10.0,)), "an integer from 0 to 3"),
        (exercises.check_budgets, (np.ones(3, bool), 2, (10.0,)), "give 1 numbers"),
        (exercises.check_passes, (2.5,), "an integer from 1 to 15"),
        (exercises.check_aggregation, (lambda p: np.nan,), "not finite"),
        (exercises.check_aggregation, (lambda p: 1,), "cases have the same"),
    ],
)
def test_checks_name_further_mistakes(check, arguments, message):
    with pytest.raises(NotYetError, match=message):
        check(*arguments)


ONES, HUNDRED = np.ones(100), np.arange(100.0)
DISC = {"trained": (30, 1.0), "limit": 0.7}
CERTIFICATE = {"epsilon": 0.01, "pixels": 9216, "fraction": 0.75}
PROMISE = {"level": 0.9, "limit": 0.7, "least": 50}


@pytest.mark.parametrize(
    ("check", "arguments", "options", "message"),
    [
        (exercises.check_blind_mask, (np.ones((2, 4, 4)), ONES), {"limit": 0.8}, "one boolean mask"),
        (exercises.check_blind_mask, (np.ones((2, 4, 4)), np.zeros((4, 4))), {"limit": 0.8}, "empty"),
        (exercises.check_radius, (23.5,), {"size": 96, "window": 32}, "as an integer"),
        (exercises.check_breaks, (lambda n, r, c: c, 3), DISC, "two numbers"),
        (exercises.check_sigma, (1.44,), CERTIFICATE, "more than 0.960"),
        (exercises.check_weights, (HUNDRED, HUNDRED, -ONES), PROMISE, "none of them negative"),
    ],
)
def test_checks_of_settings_name_further_mistakes(check, arguments, options, message):
    with pytest.raises(NotYetError, match=message):
        check(*arguments, **options)


def test_what_breaks_has_a_score_that_is_computed_from_the_answer(capsys):
    exercises.check_epsilon(lambda size: 1 - size, 0.31, limit=0.695)
    first = capsys.readouterr().out
    assert "0.31 standard deviations" in first
    exercises.check_epsilon(lambda size: 1 - size, 0.41, limit=0.595)
    second = capsys.readouterr().out
    assert first.split("it is ")[1] != second.split("it is ")[1], "the stored runs are read at this limit"


def test_jupyter_shows_one_sentence():
    assert NotYetError("no")._render_traceback_() == ["Not yet: no"]


# -- editions ------------------------------------------------------------------------------------------------


def test_blanks_and_marks_replace_bodies_and_values_only():
    source = 'def f(a,\n      b=2):\n    """Doc."""\n    c = a\n    return c\n\n\nx = [\n    1,\n]\nprint(x)'
    assert blanked(source) == 'def f(a,\n      b=2):\n    """Doc."""\n    ...\n\n\nx = ...\nprint(x)'
    begin, end = "### BEGIN SOLUTION", "### END SOLUTION"
    assert marked(source).splitlines()[3:7] == [f"    {begin}", "    c = a", "    return c", f"    {end}"]
    assert marked(source).endswith(f"{begin}\nx = [\n    1,\n]\n{end}\nprint(x)")
    with pytest.raises(ValueError, match="defines a function or a variable"):
        name_of("print(1)")


def test_boxes_of_the_book_open_in_jupyter_and_solutions_can_be_left_out():
    task = ":::{admonition} Exercise 1\nDo.\n:::"
    text = f"A\n\n{task}\n\n:::{{admonition}} Solution\n:class: dropdown\nSo.\n:::\n\nB"
    assert in_jupyter(text, solutions=False) == "A\n\n**Exercise 1.** Do.\n\nB"
    assert "<details><summary>Solution</summary>\n\nSo.\n\n</details>" in in_jupyter(text, solutions=True)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_editions_show_what_they_should(chapter):
    made = {name: make(NOTEBOOKS[chapter]) for name, make in EDITIONS.items()}
    text = {name: "\n".join(c.source for c in notebook.cells) for name, notebook in made.items()}
    for name, (_, solution, _) in exercises_of(chapter).items():
        assert blanked(solution) in text["student"]
        assert solution not in text["student"]
        assert solution in text["book"]
        assert solution in text["instructor"]
        assert marked(solution) in text["assignments"]
        for entry in WRONG[name]:
            assert entry["why"] in text["instructor"]
            assert entry["why"] not in text["student"] + text["book"]
    assert "<summary>Hint 1</summary>" in text["student"]
    assert "Solution</summary>" not in text["student"]
    assert ":::" not in text["student"]
    assert len(made["book"].cells) == len(NOTEBOOKS[chapter].cells), "nothing is lost or added"
    folded = [c for c in made["book"].cells if c.metadata.get("jupyter", {}).get("source_hidden")]
    assert len(folded) == len(exercises_of(chapter))


@pytest.mark.parametrize("edition", ["student", "assignments"])
def test_nbgrader_knows_each_cell_of_an_exercise(edition):
    """The rules of its validator for version 3 of the metadata."""
    for notebook in NOTEBOOKS.values():
        cells = [c for c in EDITIONS[edition](notebook).cells if "nbgrader" in c.metadata]
        facts = [cell.metadata["nbgrader"] for cell in cells]
        assert len({f["grade_id"] for f in facts}) == len(facts)
        for cell, f in zip(cells, facts, strict=True):
            assert {"schema_version", "grade", "locked", "solution", "grade_id"} <= set(f)
            assert set(f) <= {"schema_version", "grade", "locked", "solution", "grade_id", "points", "task"}
            assert f["schema_version"] == 3
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", f["grade_id"])
            assert ("points" in f) == f["grade"] == (kind_of(cell) == "check")
            assert f["solution"] == (kind_of(cell) == "solution")
            assert cell.cell_type == "code" or f["locked"]


def test_the_exercises_alone_run_as_a_notebook_does():
    for notebook in NOTEBOOKS.values():
        space = {}
        for cell in EDITIONS["assignments"](notebook).cells:
            if cell.cell_type == "code":
                exec(cell.source, space)


def test_make_editions_writes_valid_notebooks(tmp_path, monkeypatch, capsys):
    out = ROOT / "_build" / tmp_path.name
    monkeypatch.setattr("editions.OUT", out)
    monkeypatch.setattr("editions.jupytext.read", lambda path: NOTEBOOKS[path.stem[:2]])
    try:
        assert main() == 0
        written = sorted(out.rglob("*.ipynb"))
        assert len(written) == len(EDITIONS) * len(CHAPTERS)
        for path in written:
            nbformat.validate(json.loads(path.read_text("utf-8")))
    finally:
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        out.rmdir()
