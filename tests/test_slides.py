"""Slides and handouts: what they take from an executed notebook, and that they need no other host."""

import re

import nbformat
import pytest
import slides
from rewrite import PLOTLY, BookError

TEXT = """# A chapter

[![Open in Colab](https://colab.research.google.com/x.svg)](https://colab.research.google.com/x)

**The question.** Does it work? We do not know.

**You will be able to** say so.

## A section

It is *good*, e.g. for [you](https://a.org). A second sentence {cite:p}`somebody`.

**Predict:** what comes next?"""
CAPTION = """*Two points. One of them is high.*

## Check yourself

Not on a slide.

## What to take home

* One
  thing.
* Another."""


def chapter(meta=None):
    figure = {"data": [{"y": [1, 2]}], "layout": {"meta": {"alt": "Two points"} if meta is None else meta}}
    shown = [nbformat.v4.new_output("display_data", {PLOTLY: figure})]
    hidden = nbformat.v4.new_code_cell("x", outputs=shown, metadata={"tags": ["remove-cell"]})
    cells = [nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell("show()", outputs=shown), hidden]
    return nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_markdown_cell(CAPTION)])


def test_slides_have_headings_first_sentences_questions_and_figures():
    page = slides.slides(chapter())
    parts = re.findall(r"<section>(.*?)</section>", page, re.DOTALL)
    assert len(parts) == 4
    assert "<h1>A chapter</h1>" in parts[0]
    assert "<strong>You will be able to</strong> say so." in parts[0]
    assert parts[1].startswith("<h2>A section</h2><p>It is <em>good</em>, e.g. for you.</p>")
    assert "what comes next?" in parts[1]
    assert 'aria-label="Two points"' in parts[2]
    assert parts[2].endswith("<p>Two points.</p>")
    assert parts[3] == "<h2>What to take home</h2><ul><li>One thing.</li><li>Another.</li></ul>"
    assert page.count("Plotly.newPlot") == 1, "a hidden cell shows nothing"


def test_the_handout_has_the_question_the_sections_and_what_to_take_home():
    page = slides.handout(chapter())
    for text in ("Does it work?", "<strong>A section.</strong> It is", "<li>Another.</li>"):
        assert text in page
    assert "Not on a slide" not in page
    assert "Plotly" not in page


def test_both_are_written_for_every_executed_notebook_and_name_no_host(tmp_path):
    with pytest.raises(BookError, match=r"no notebook is executed yet\. Run `make run`"):
        slides.write(tmp_path, tmp_path / "out")
    nbformat.write(chapter(), tmp_path / "03_x.ipynb")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "02_gone.html").touch()
    assert slides.write(tmp_path, tmp_path / "out") == ["03_x"]
    pages = {path.name: path.read_text("utf-8") for path in (tmp_path / "out").iterdir()}
    assert set(pages) == {"03_x.html", "03_x_handout.html"}
    for text in pages.values():
        assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", text)
        scripts = set(re.findall(r'src="([^"]+)"', text))
        assert scripts <= {"./plotly.min.js", "mathjax/tex-mml-chtml.js"}


def test_a_figure_without_a_text_alternative_is_refused():
    with pytest.raises(BookError, match="no text alternative"):
        slides.slides(chapter(meta={}))
