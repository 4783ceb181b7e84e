"""The quizzes: their texts, the claims they rest on, the page, the GIFT file, and a keyboard in a browser."""

import json
import re
import shutil

import pytest
import yaml
from build import BOOK, ROOT
from teaching_pages import main, misconceptions_markdown, quiz_link, quiz_markdown, with_teaching

from segconf_lite import quizzes, show
from segconf_lite.claims import ledger, read_claims
from segconf_lite.quizzes import Choice, Question, as_gift, as_html

EVERY = [question for chapter in quizzes.chapters() for question in quizzes.read(chapter)]
CLAIMS = read_claims(BOOK / "claims.yml")

every_question = pytest.mark.parametrize("question", EVERY, ids=lambda q: f"{q.chapter}-{q.name}")


def test_every_chapter_has_six_questions_and_two_misconceptions_or_more():
    assert quizzes.chapters() == list(range(1, 13))
    for chapter in quizzes.chapters():
        mine = quizzes.read(chapter)
        assert len(mine) == 6
        assert sum(bool(question.misconception) for question in mine) >= 2
    assert len({question.name for question in EVERY}) == len(EVERY)


@every_question
def test_every_choice_has_feedback_of_its_own_and_one_is_right(question):
    assert sum(choice.right for choice in question.choices) == 1
    assert len(question.choices) >= 3
    feedback = [choice.feedback for choice in question.choices]
    assert len(set(feedback)) == len(feedback)
    assert all(len(text.split()) >= 15 and text.endswith(".") for text in feedback), "say why, in sentences"


@every_question
def test_a_question_about_a_result_names_a_claim_with_the_verdict_that_the_answer_needs(question):
    told = [text for choice in question.choices for text in (choice.text, choice.feedback)]
    numbers = re.findall(r"[−-]?\b0\.\d+\b", " ".join(told))
    if not question.claim:
        assert not question.verdict
        assert not question.groups
        return
    assert question.claim in CLAIMS
    record = ledger.read_record(BOOK / "results", question.claim, "lite")
    assert record is not None, f"{question.claim} has not been run"
    assert record["verdict"] == question.verdict, "the verdict has changed: read the question again"
    for group, verdict in question.groups.items():
        assert record["groups"][group]["verdict"] == verdict, f"{group} has changed: read the question again"
    stored = [abs(r[key]) for r in record["groups"].values() for key in ("estimate", "low", "high")]
    stated = {
        abs(CLAIMS[question.claim].threshold or 0),
        *(n for n in map(_number, question_numbers(question))),
    }
    for text in numbers:
        assert _number(text) in stated or any(f"{n:.2f}" == f"{_number(text):.2f}" for n in stored), text


def _number(text):
    return abs(float(text.replace("−", "-")))


def question_numbers(question):
    """Numbers of the sentence of a claim, of the question itself and of names of groups are no results."""
    text = f"{CLAIMS[question.claim].sentence} {question.text} {' '.join(question.groups)}"
    return re.findall(r"\d*\.\d+", text)


def test_the_right_choice_cannot_be_told_by_its_length_or_its_place():
    lengths = [[len(c.text) for c in q.choices] for q in EVERY]
    right = [len(q.right.text) for q in EVERY]
    assert sum(r == max(n) for r, n in zip(right, lengths, strict=True)) <= len(EVERY) / 2
    assert sum(r == min(n) for r, n in zip(right, lengths, strict=True)) <= len(EVERY) / 2
    places = [[c.right for c in q.choices].index(True) for q in EVERY]
    assert max(places.count(k) for k in range(3)) <= len(EVERY) / 2


def test_html_escapes_its_texts_and_needs_no_script():
    question = Question("x", 1, "Is <b> & c?", (Choice("<i>", True, "a & b"), Choice("no", False, "n")), "")
    page = as_html([question])
    assert "Is &lt;b&gt; &amp; c?" in page
    assert "<summary>&lt;i&gt;</summary>" in page
    assert "<script" not in page
    assert show.quiz(1).data == as_html(quizzes.read(1))


def test_a_chapter_without_a_quiz_and_a_question_without_a_part_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"chapter must be one of \(1, 2"):
        show.quiz(90)
    (tmp_path / "book/quizzes").mkdir(parents=True)
    (tmp_path / "book/claims.yml").write_text("[]")
    (tmp_path / "book/quizzes/01.yml").write_text(yaml.safe_dump([{"id": "x", "question": "?"}]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"question of chapter 1 must be the parts .*'right'"):
        quizzes.read(1)


def parsed(gift):
    """Questions of a GIFT text, by the rules of Moodle: an escaped mark is text."""
    plain = re.sub(r"\\([~=#{}:\\])", lambda m: f"\0{ord(m[1]):03d}", gift)
    back = lambda text: re.sub(r"\0(\d{3})", lambda m: chr(int(m[1])), text.strip())  # noqa: E731
    for name, text, body in re.findall(r"::([^:]+)::([^{]*)\{([^}]*)\}", plain):
        choices = re.findall(r"([=~])([^#=~]*)#([^=~]*)", body)
        yield back(name), back(text), {(mark == "=", back(a), back(b)) for mark, a, b in choices}


def test_gift_gives_back_every_text():
    odd = Question(
        "odd", 1, r"a ~ b = {c} # d: \e?", (Choice("=1", True, "x:y"), Choice("~0", False, "{}")), ""
    )
    every = [odd, *EVERY]
    read = list(parsed(as_gift(every)))
    assert len(read) == len(every)
    for question, (name, text, choices) in zip(every, read, strict=True):
        assert name == f"{question.chapter} {question.name}"
        assert text == " ".join(question.text.split())
        assert choices == {(c.right, c.text.strip(), " ".join(c.feedback.split())) for c in question.choices}


def test_make_quizzes_writes_all_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("teaching_pages.GIFT", ROOT / "_build" / "teaching" / f"{tmp_path.name}.gift")
    written = ROOT / "_build" / "teaching" / f"{tmp_path.name}.gift"
    try:
        assert main() == 0
        assert len(list(parsed(written.read_text("utf-8")))) == len(EVERY)
        assert written.read_text("utf-8").count("$CATEGORY: segconf_lite/Chapter") == 12
    finally:
        written.unlink(missing_ok=True)


def test_pages_hold_the_quizzes_their_claims_and_the_misconceptions():
    page = with_teaching((BOOK / "quizzes.md").read_text("utf-8"))
    assert page.count("<details ") == sum(len(q.choices) for q in EVERY)
    assert "(quiz-2)=\n## Chapter 2: Measuring trust" in page
    assert "[far-but-harmless](#far-but-harmless)" in quiz_markdown(1)
    assert quiz_link("01_domain_shift").startswith("## Quiz\n\n[Six questions")
    assert quiz_link("90_which_eaurc") == ""
    assert misconceptions_markdown().count("\n") == 1 + len(EVERY)
    assert "quizzes" in (BOOK / "_toc.yml").read_text("utf-8")


# -- the pages for teachers ----------------------------------------------------------------------------------

KIT = {path.stem: path.read_text("utf-8") for path in sorted((BOOK / "teaching").glob("*.md"))}


def test_every_page_for_teachers_is_in_the_book_and_planned_minutes_are_called_so():
    toc = (BOOK / "_toc.yml").read_text("utf-8")
    assert KIT
    for name, page in KIT.items():
        assert f"file: teaching/{name}" in toc
        timed = re.search(r"\d+ min|\d+ minutes|weeks", page)
        assert not timed or "planned" in page, name
    tables = re.findall(r"\| planned minutes \| what .*?\n\n", KIT["plans"], re.DOTALL)
    minutes = [sum(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) for table in tables]
    assert minutes == [90, 180, 720]


def test_times_are_those_of_the_notebooks():
    shown = with_teaching(KIT["index"])
    for path in sorted((ROOT / "notebooks").glob("[01]*.py")):
        minutes = re.search(r"Time:\*\* (about \d+ min)", path.read_text("utf-8"))[1]
        assert re.search(rf"notebooks/{path.stem}\.ipynb\) \| {minutes} on two CPU cores", shown)


def test_what_the_kit_names_is_there():
    named = re.findall(r"^\| (\d+) \| (\*.*\*) \|$", KIT["index"], re.MULTILINE)
    assert len(named) >= 4
    for chapter, titles in named:
        text = next((ROOT / "notebooks").glob(f"{int(chapter):02d}_*.py")).read_text("utf-8")
        for title in re.findall(r"\*([^*]+)\*", titles):
            assert f"# ## {' '.join(title.split())}\n" in text, title
    columns = ledger.stored_table("chapter_02_lite_cases.csv").columns
    assert {"seed", "domain", "risk", "ensemble: agreement", "small prediction"} <= set(columns)
    marks = re.findall(r"^\| [^|]+ \| (\d+) \|$", KIT["assessment"], re.MULTILINE)
    assert sum(map(int, marks)) == 2 * 20
    assert KIT["assessment"].count("| **sum** | **20** |") == 2


# -- in a browser --------------------------------------------------------------------------------------------

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER and DRIVER):
        pytest.skip("chromium and chromedriver are not installed (see CONTRIBUTING.md)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("quiz")
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    )
    head += '<meta name="viewport" content="width=device-width"><title>Quiz</title>'
    (folder / "quiz.html").write_text(head + as_html(EVERY), "utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    size = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    driver.get((folder / "quiz.html").as_uri())
    yield driver
    driver.quit()


def test_a_wrong_answer_chosen_with_the_keyboard_shows_its_feedback(browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    first = EVERY[0]
    at = next(k for k, choice in enumerate(first.choices) if not choice.right)
    shown = browser.find_elements(By.CSS_SELECTOR, ".quiz-question:first-of-type details p")
    assert not any(text.is_displayed() for text in shown)
    keys = ActionChains(browser)
    for _ in range(at + 1):
        keys = keys.send_keys(Keys.TAB)
    keys.send_keys(Keys.ENTER).perform()
    assert [text.is_displayed() for text in shown] == [k == at for k in range(len(shown))]
    assert shown[at].text == f"Not quite. {' '.join(first.choices[at].feedback.split())}"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert not shown[at].is_displayed(), "the same key closes it"


def test_the_quiz_fits_a_telephone_and_can_be_read_in_the_dark(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    look = "getComputedStyle(document.querySelector('.quiz p'))"
    ink = browser.execute_script(f"return {look}.color")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 200, "the ink must follow the dark theme"
    urls = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in urls if m["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:", "chrome:", "about:")) for url in urls)
    assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
