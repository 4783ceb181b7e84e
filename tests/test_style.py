"""How the text of the book reads; book/style.yml has the limits of each chapter and page."""

import pytest
import style

PAGES = style.pages()


@pytest.fixture
def page(tmp_path):
    def written(text):
        path = tmp_path / "page.md"
        path.write_text(text, "utf-8")
        return path

    return written


def kinds(path):
    return [finding.kind for finding in style.findings(path)[0]]


@pytest.mark.parametrize("path", PAGES, ids=style.name_of)
def test_a_page_is_within_its_limits(path):
    """What is counted, with its place: `python book/style.py list FILE`."""
    assert style.beyond(path) == []


def test_every_limit_belongs_to_a_page_and_all_chapters_are_among_them():
    names = {style.name_of(path) for path in PAGES}
    assert {*style.settings()["limits"]} - {"all"} <= names
    assert len([name for name in names if name.isdigit()]) >= 11


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("We draw one point a slice.", ["a_per"]),
        ("It takes three seconds a network.", ["a_per"]),
        ("It takes three seconds per network, and a slice has six.", []),
        ("The Dice falls to .83 on D, from 0.9.", ["bare_decimals"]),
        ("The **chances** are high.", ["private_words"]),
        ("The claim is [undecided](evidence:uncertainty-knows-more-than-size/D?undecided).", []),
        ("First by force, and then again.", ["without_verb"]),
        ("Both networks fail.", []),
        (f"It is {'so ' * 45}long.", ["long_sentences"]),
        (f"It is {'so ' * 25}long; it is {'so ' * 25}long.", []),
        ("# First by force", []),
        ("*One slice of three scanners, with the borders.*", []),
        ("| seconds a network |\n|---|\n| .5 |", ["a_per", "bare_decimals"]),
        ("```python\nx = .5\n```\n\n`.5` and $.5$ are code.", []),
    ],
)
def test_what_is_counted(page, text, found):
    assert kinds(page(text)) == found


@pytest.mark.parametrize(
    ("word", "n"), [("cat", 1), ("made", 1), ("scanner", 2), ("little", 2), ("segmentation", 4)]
)
def test_syllables(word, n):
    assert style.syllables(word) == n


def test_length_and_ease_are_those_of_whole_sentences(page):
    """Six syllables in six words: 206.835 − 1.015 · 6 − 84.6."""
    counts = style.counts(
        page("# A heading\n\nThe cat sat on the mat. The cat sat on the mat.\n\n| a | table |")
    )
    assert counts.words_per_sentence == 6
    assert counts.reading_ease == pytest.approx(116.1, abs=0.1)


def test_a_count_beyond_its_limit_is_named(page, monkeypatch):
    monkeypatch.setattr(style, "name_of", lambda path: "page.md")
    assert style.beyond(page("The cat sat on the mat.")) == []
    (line,) = style.beyond(page("The doubts are large, and the cat sat on the mat."))
    assert line == "page.md: private words 1, at most 0"
