"""The rewriting that makes an executed notebook a static page."""

import re
import shutil
import subprocess

import nbformat
import pytest
import yaml
from build import BOOK, chapters
from imprint import authors, imprint, with_imprint
from predict import with_prompts
from rewrite import (
    WIDGET_NOTE,
    BookError,
    figure_html,
    finish_page,
    rewrite_markdown,
    rewrite_notebook,
    with_captions,
)

from segconf_lite import __version__
from segconf_lite.claims import STATISTICS

FIGURE = {
    "data": [{"type": "scatter", "y": [1, 2]}],
    "layout": {"meta": {"alt": 'Two points, the "second" higher'}, "width": 900, "height": 300},
}
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebook(*outputs, markdown="Text"):
    code = [nbformat.v4.new_code_cell("show()", outputs=list(outputs)) for _ in range(2)]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(markdown), *code])
    made.metadata["widgets"] = {"state": {}}
    return made


def shown(data):
    return nbformat.v4.new_output("display_data", data)


def pages(rewritten):
    return [out.data["text/html"] for cell in rewritten.cells[1:] for out in cell.outputs]


def test_figure_is_html_with_its_text_alternative_and_without_the_library():
    page = figure_html(FIGURE, "fig-1")
    assert 'role="img" aria-label="Two points, the &quot;second&quot; higher"' in page
    assert '"responsive": true' in page
    assert "Plotly.newPlot" in page
    assert "<noscript>" in page
    assert len(page) < 5_000


def test_fixed_width_becomes_a_least_width():
    page = figure_html(FIGURE, "fig-1")
    assert '"width":900' not in page.replace(" ", "").replace('"width":"100%"', "")
    assert "min-width: 560px" in page
    wide = {**FIGURE, "layout": {**FIGURE["layout"], "meta": {"alt": "x", "min_width": 800}}}
    assert "min-width: 800px" in figure_html(wide, "fig-1")


@pytest.mark.parametrize("meta", [None, {}, {"alt": "  "}, "text"])
def test_figure_without_text_alternative_is_refused_with_its_place(meta):
    silent = {"data": [], "layout": {"meta": meta}}
    with pytest.raises(BookError, match=r"09_x, cell 1: a figure has no text alternative: fig.update_layout"):
        rewrite_notebook(notebook(shown({PLOTLY: silent})), "09_x")


def test_library_is_loaded_once_and_only_where_there_are_figures():
    with_figures = "".join(pages(rewrite_notebook(notebook(shown({PLOTLY: FIGURE})), "x")))
    assert with_figures.count("plotly.min.js") == 1
    assert with_figures.count("Plotly.newPlot") == 2
    assert 'id="fig-1-0"' in with_figures
    assert 'id="fig-2-0"' in with_figures
    table = shown({"text/html": "<table></table>"})
    assert "plotly" not in "".join(pages(rewrite_notebook(notebook(table), "x")))


def test_widgets_become_one_note_a_cell():
    widget = shown({WIDGET: {"model_id": "1"}, "text/plain": "IntSlider()"})
    rewritten = rewrite_notebook(notebook(widget, widget), "x")
    assert [WIDGET_NOTE in page for page in pages(rewritten)] == [True, True]
    assert "widgets" not in rewritten.metadata


def test_the_executed_notebook_is_not_changed():
    executed = notebook(shown({PLOTLY: FIGURE}))
    rewrite_notebook(executed, "x")
    assert PLOTLY in executed.cells[1].outputs[0].data


def test_badge_becomes_a_plain_link():
    badge = (
        "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://c.org/x.ipynb)"
    )
    assert rewrite_markdown(f"a {badge} b") == "a [Open In Colab](https://c.org/x.ipynb) b"


def test_equations_have_numbers_and_mentions_lead_to_them():
    made = rewrite_markdown("By equation (4.1):\n\n$$a,\nb \\tag{4.1}$$\n\n$$c$$\n\nText")
    assert made.startswith(
        'By <a href="#equation-4-1">equation (4.1)</a>:\n\n<div id="equation-4-1"></div>\n\n$$a,'
    )
    assert made.count("<div") == 1


@pytest.mark.parametrize(
    "path", sorted((BOOK.parent / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem[:2]
)
def test_displayed_equations_are_numbered_through_a_chapter(path):
    text = path.read_text("utf-8")
    numbers = re.findall(r"\\tag\{([^}]+)\}", text)
    assert numbers == [f"{int(path.stem[:2])}.{k + 1}" for k in range(text.count("$$") // 2)]
    assert {*re.findall(r"(?i:equation)\s(?:# )?\(([\d.]+)\)", text)} <= {*numbers}


@pytest.mark.parametrize("image", ["![x](https://a.org/b.png)", "<img src='http://a.org/b.png'>"])
def test_image_from_another_host_is_refused(image):
    with pytest.raises(BookError, match="another host"):
        rewrite_markdown(image)


@pytest.mark.parametrize(
    "tag",
    [
        '<script async src="https://a.org/x.js"></script>',
        '<link href="//a.org/x.css" rel="stylesheet">',
        '<img alt="" src="http://a.org/x.png">',
    ],
)
def test_page_that_loads_from_another_host_is_refused(tag):
    with pytest.raises(BookError, match="load from another host"):
        finish_page(f"<html>{tag}</html>")


def test_links_and_local_files_are_kept():
    page = '<a href="https://a.org">a</a><script src="_static/x.js"></script><link rel="next" href="//a.org">'
    assert finish_page(page) == page


def test_sentences_in_a_table_have_room():
    assert (
        finish_page(f"<td>1</td><td>{25 * 'a'}</td>") == f'<td>1</td><td class="book-words">{25 * "a"}</td>'
    )


def test_live_kernel_scripts_are_removed():
    page = '<p>a</p><script>const THEBE_JS_URL = "https://unpkg.com/x"</script><p>b</p>'
    assert finish_page(page) == "<p>a</p><p>b</p>"


def cell(output, below):
    shown = f'<div class="cell_output docutils container">{output}</div>'
    return f'<div class="cell docutils container"><div class="cell_input"></div>{shown}\n</div>\n{below}\n'


def test_captions_are_numbered_and_tied_to_what_is_above_them():
    figure, table = '<div class="book-figure"></div>', "<div><table></table></div>"
    page = cell(figure, "<p><em>One <b>bar</b></em></p>") + cell(table, "<p><em>Rows</em></p><p>Text</p>")
    page += cell(figure, "<p><em>Two</em> and more</p>") + cell("<pre>1</pre>", "<p><em>Print</em></p>")
    page += cell(figure, "<p><em>Three</em></p>")
    made = with_captions(page, "6")
    assert re.findall(r'<figcaption id="([^"]+)"><p><span[^>]*>([^<]+)</span> <em>(.*?)</em>', made) == [
        ("figure-6-1", "Figure 6.1.", "One <b>bar</b>"),
        ("table-6-1", "Table 6.1.", "Rows"),
        ("figure-6-2", "Figure 6.2.", "Three"),
    ]
    assert made.count("<figure class=") == made.count("</figcaption></figure>\n</div>") == 3
    assert made.count("<div") - made.count("</div") == page.count("<div") - page.count("</div") == 0
    assert "<p><em>Two</em> and more</p>" in made
    assert "Figure 1." in with_captions(cell(figure, "<p><em>A</em></p>"))


def prompt(words="", question="which?"):
    return f"<p><strong>Predict{words}:</strong> {question}</p>\n"


SILENT = '<div class="cell docutils container">\n<div class="cell_input">a = 1</div>\n</div>\n'


def test_what_answers_a_prompt_can_be_folded_to_the_end_of_its_section():
    page = f"<section>\n{prompt()}{SILENT}{cell('<pre>42</pre>', '<p>It is 42.</p>')}</section>\n"
    made = with_prompts(page, "01_a")
    opened, closed = made.index("<details"), made.index("</details>")
    assert opened > made.index("a = 1"), "code stands above the fold"
    assert made.index("which?") < opened < made.index("42") < made.index("It is 42.") < closed
    assert closed < made.index("</section>")
    assert '<details class="book-result" id="result-1" open>' in made, "open without JavaScript"
    assert re.search(r'<div class="book-predict" data-guess="01_a/[0-9a-f]{8}" data-result="result-1">', made)
    assert made.count("<div") == made.count("</div")
    assert re.search(r"</div>\n<details", made)
    assert made.count('"cell docutils container"') == page.count('"cell docutils container"') + 1


@pytest.mark.parametrize(
    "page",
    [
        f"{prompt()}{SILENT}</section>{cell('<pre>of the next section</pre>', '')}",
        f"{prompt()}{SILENT}<section>{cell('<pre>of the next section</pre>', '')}",
        f"{prompt()}{SILENT}{prompt(' before you read on')}{cell('<pre>what is to be judged</pre>', '')}",
        f'{prompt()}<div class="admonition-exercise-1 admonition">{cell("<pre>1</pre>", "")}</div>',
    ],
)
def test_a_prompt_without_a_result_has_a_place_for_a_guess_only(page):
    made = with_prompts(page, "x")
    assert made.count('class="book-predict"') == made.count('<p id="predict-') == page.count("Predict")
    assert "book-result" not in made
    assert "data-result" not in made


def test_each_of_two_prompts_folds_its_own_result_and_words_make_the_key():
    one = (
        prompt()
        + cell("<pre>1</pre>", "")
        + prompt(question="and now?")
        + cell("<pre>2</pre>", "")
        + "</section>"
    )
    made = with_prompts(one, "x")
    assert made.index("</details>") < made.index("and now?")
    assert len({*re.findall(r'data-guess="([^"]+)"', made)}) == made.count("</details>") == 2
    assert re.findall(r'id="(result-\d|predict-\d)"', made) == [
        "predict-1",
        "result-1",
        "predict-2",
        "result-2",
    ]
    assert (
        with_prompts("<p>Nobody <em>predicts</em> here.</p>\n", "x")
        == "<p>Nobody <em>predicts</em> here.</p>\n"
    )


def test_chapters_are_the_notebooks_of_the_table_of_contents():
    toc = {
        "root": "intro",
        "chapters": [{"file": "a", "sections": [{"file": "notebooks/02_b"}]}],
        "parts": [{"chapters": [{"file": "notebooks/01_a"}]}],
    }
    assert sorted(chapters(toc)) == ["01_a", "02_b"]


def test_every_chapter_of_the_book_exists_and_every_notebook_is_in_it():
    listed = chapters(yaml.safe_load((BOOK / "_toc.yml").read_text("utf-8")))
    there = [path.stem for path in sorted((BOOK.parent / "notebooks").glob("[0-9]*.py"))]
    assert sorted(listed) == there
    for name in listed:
        assert f"notebooks/{name}.ipynb" in (BOOK / "intro.md").read_text("utf-8"), (
            f"{name} is not in intro.md"
        )


def test_every_statistic_of_a_claim_has_words_for_the_columns_that_it_takes():
    for statistic in STATISTICS.values():
        assert set(re.findall(r"\{(\w+)\}", statistic.words)) == set(statistic.columns)
        assert statistic.smallest_effect > 0


def test_references_are_there_once_and_every_citation_has_one():
    keys = re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text("utf-8"), re.MULTILINE)
    assert len(keys) == len(set(keys))
    pages = [*(BOOK.parent / "notebooks").glob("[0-9]*.py"), *BOOK.glob("*.md")]
    cited = re.findall(r"\{cite:\w\}`([^`]+)`", "".join(page.read_text("utf-8") for page in pages))
    cited = {key.strip() for keys_of_one in cited for key in keys_of_one.split(",")}
    assert cited <= set(keys)
    assert len(cited) > 10


def test_authors_are_those_of_the_citation_file():
    people = "authors:\n- {family-names: Müller, given-names: Ada}\n- name: The others\n"
    assert authors(people) == "Ada Müller, The others"
    config = with_imprint(yaml.safe_load((BOOK / "_config.yml").read_text("utf-8")), BOOK.parent)
    assert config["author"] == authors((BOOK.parent / "CITATION.cff").read_text("utf-8"))
    assert config["html"]["extra_footer"].startswith(f"Version {__version__}")
    assert "CC BY 4.0" in config["html"]["extra_footer"]
    assert config["html"]["home_page_in_navbar"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_page_names_the_commit_and_a_date_that_can_be_made_again(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert imprint(tmp_path) == f"Version {__version__}."

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *arguments], check=True, text=True, capture_output=True
        )
        return done.stdout.strip()

    git("init", "-q")
    assert imprint(tmp_path) == f"Version {__version__}.", "no commit yet"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-03-04T23:30:00Z")
    git("commit", "-qm", "one")
    commit = git("log", "-1", "--format=%h")
    dated = '<time datetime="2026-03-04">4 March 2026</time>.'
    assert imprint(tmp_path) == f"Version {__version__}, commit {commit}, {dated}"
    (tmp_path / "a").write_text("2")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert f"commit {commit} with changes, " in imprint(tmp_path)
    assert "2 January 1970" in imprint(tmp_path)
