"""What turns an executed notebook into a page that works without a kernel and without a network."""

import html
import json
import re
from typing import Any

import nbformat
import plotly.io
from narrow import narrow_figure

__all__ = [
    "BookError",
    "figure_html",
    "finish_page",
    "with_captions",
    "rewrite_markdown",
    "rewrite_notebook",
    "rewrite_outputs",
]

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "This control is live in Jupyter; the figure below it works here."
# Figures are drawn while the page is still being laid out, so they are fitted once more at its end.
LOAD_PLOTLY = """<script>window.PlotlyConfig = {{MathJaxConfig: "local"}};
window.addEventListener("load", () => window.dispatchEvent(new Event("resize")));</script>
<script src="{}/plotly.min.js"></script>
"""
BADGE = re.compile(r"\[!\[([^\]]*)\]\(https://colab\.research\.google\.com/assets/[^)]*\)\]\(([^)]*)\)")
EXTERNAL_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*https?://|<img[^>]+src=[\"']https?://", re.IGNORECASE)
# Tags that make a browser fetch something, as opposed to plain links.
EXTERNAL_RESOURCE = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=[\"'](?:https?:)?//[^\"']+"
    r"|<link\b(?=[^>]*\brel=[\"'](?:stylesheet|preload|preconnect|icon|shortcut icon)[\"'])[^>]*"
    r"\bhref=[\"'](?:https?:)?//[^\"']+",
    re.IGNORECASE,
)
UNWANTED = re.compile(
    r"<script[^>]*>\s*(?:const THEBE_JS_URL|kernelName =|thebe_)[^<]*</script>"
    r"|<script[^>]*sphinx-thebe\.js[^>]*></script>|<script type=\"text/x-thebe-config\">.*?</script>"
    r"|<link rel=\"preload\" as=\"font\"[^>]*>",
    re.DOTALL,
)
# A paragraph in italics right below a cell is the caption of what the cell shows.
CAPTION = re.compile(r"</div>\n</div>\n<p><em>((?:(?!</p>).)*)</em></p>", re.DOTALL)
EQUATION = re.compile(r"^\$\$(?:(?!\$\$).)*\\tag\{([\d.]+)\}", re.DOTALL | re.MULTILINE)
MENTIONED = re.compile(r"(?i:equation)\s\((\d+\.\d+)\)")
OUTPUT = '<div class="cell_output docutils container">'
WORDS = re.compile(r"<td>(?=[^<]{25,}</td>)")  # a sentence in a table of numbers
TOGGLE = '<summary><span class="toctree-toggle"'  # the theme gives this button no name
VARIABLES = 'Variables<span class="colon">'  # Sphinx's word for the attributes of a class


class BookError(Exception):
    """The book cannot be built as it is; the message says what to change and where."""


def figure_html(figure: dict[str, Any], name: str) -> str:
    """HTML of one plotly figure, without the library, readable by a screen reader.

    Args:
        figure: The figure as stored in a notebook's output: data, layout, maybe frames.
        name: Unique in its page; becomes the element's id.

    Raises:
        BookError: If the figure has no text alternative in ``layout.meta["alt"]``.
    """
    layout = dict(figure.get("layout", {}))
    meta: dict[str, Any] = layout["meta"] if isinstance(layout.get("meta"), dict) else {}
    alt = str(meta.get("alt", "")).strip()
    if not alt:
        raise BookError('a figure has no text alternative: fig.update_layout(meta={"alt": "what it shows"})')
    width = layout.pop(
        "width", None
    )  # the page decides; a wide figure has a second layout, or scrolls in its box
    least = int(meta.get("min_width") or min(width or 0, 560))
    body = plotly.io.to_html(
        {"data": figure.get("data", []), "layout": layout, "frames": figure.get("frames", [])},
        config={"responsive": True, "displayModeBar": False},  # on touch screens the bar hides titles
        include_plotlyjs=False,
        full_html=False,
        auto_play=False,
        default_width="100%",
        default_height=f"{layout.get('height', 450)}px",
        validate=False,
        div_id=name,
    )
    held = json.dumps(narrow_figure(figure), ensure_ascii=False).replace("<", "\\u003c")
    second = f'<script type="application/json" class="book-narrow">{held}</script>'
    label = html.escape(alt, quote=True)
    return (
        f'<div class="book-figure" tabindex="0"><div role="img" aria-label="{label}" '
        f'style="min-width: {least}px">{body}{second}</div></div>\n'
        f'<noscript><p class="book-noscript">Without JavaScript this figure is empty. It shows: {label}</p>'
        "</noscript>"
    )


def rewrite_outputs(cell: Any, name: str) -> int:
    """Replace plotly and widget outputs of a code cell in place; return how many figures there were."""
    outputs, figures, noted = [], 0, False
    for output in cell.outputs:
        data = output.get("data", {})
        if PLOTLY in data:
            output = nbformat.v4.new_output(
                "display_data", {"text/html": figure_html(data[PLOTLY], f"{name}-{figures}")}
            )
            figures += 1
        elif WIDGET in data:
            if noted:
                continue
            output = nbformat.v4.new_output(
                "display_data", {"text/html": f'<p class="book-widget">{WIDGET_NOTE}</p>'}
            )
            noted = True
        outputs.append(output)
    cell.outputs = outputs
    return figures


def rewrite_notebook(notebook: Any, name: str, static: str = "../_static") -> Any:
    """A copy of an executed notebook whose outputs work on a static page.

    Args:
        notebook: As papermill left it.
        name: The notebook's name, for ids and messages.
        static: Where the site's static files are, seen from the page.

    Raises:
        BookError: If a figure lacks its text alternative, or an image comes from another host.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata.pop("widgets", None)
    loaded = False
    for number, cell in enumerate(notebook.cells):
        try:
            if cell.cell_type == "markdown":
                cell.source = rewrite_markdown(cell.source)
            elif cell.cell_type == "code" and rewrite_outputs(cell, f"fig-{number}") and not loaded:
                first = next(out for out in cell.outputs if "book-figure" in _html_of(out))
                first.data["text/html"] = LOAD_PLOTLY.format(static) + first.data["text/html"]
                loaded = True
        except BookError as error:
            raise BookError(f"{name}, cell {number}: {error}") from None
    return notebook


def _html_of(output: Any) -> str:
    return str(output.get("data", {}).get("text/html", ""))


def rewrite_markdown(text: str) -> str:
    """Markdown with the Colab badge as a plain link, and mentions of numbered equations as links to them.

    Raises:
        BookError: If an image, as the badge would, comes from another host.
    """
    text = BADGE.sub(r"[\1](\2)", text)
    text = EQUATION.sub(lambda found: f'<div id="{_anchor(found)}"></div>\n\n{found[0]}', text)
    text = MENTIONED.sub(lambda found: f'<a href="#{_anchor(found)}">{found[0]}</a>', text)
    if EXTERNAL_IMAGE.search(text):
        raise BookError("an image comes from another host; put it into book/_static")
    return text


def _anchor(found: re.Match[str]) -> str:
    return f"equation-{found[1].replace('.', '-')}"


def finish_page(page: str) -> str:
    """A built page without what the theme adds for live kernels (from another host) and for font preloading.

    Raises:
        BookError: If the page would still make a browser ask another host; plain links do not count.
    """
    page = UNWANTED.sub("", page).replace(VARIABLES, VARIABLES.replace("Variables", "Attributes"))
    page = WORDS.sub('<td class="book-words">', page)
    page = page.replace(TOGGLE, TOGGLE.replace("<summary", '<summary aria-label="pages below this one"'))
    if found := EXTERNAL_RESOURCE.findall(page):
        raise BookError(f"the page would load from another host: {found}")
    return page


def with_captions(page: str, chapter: str = "") -> str:
    """A built page whose captions are numbered, and tied to their figures and tables for a screen reader.

    Args:
        page: HTML. The output of a cell with its caption becomes a `figure` with a `figcaption`.
        chapter: Stands before the number, e.g. "6" for "Figure 6.1"; may be empty.
    """
    counts, parts, end = {"Figure": 0, "Table": 0}, [], 0
    for match in CAPTION.finditer(page):
        start = page.rfind(OUTPUT, end, match.start())
        output = page[start + len(OUTPUT) : match.start()]
        kind = (
            "Figure" if re.search("book-figure|<svg|<img", output) else "Table" if "<table" in output else ""
        )
        if start < 0 or not kind or '<div class="cell ' in output or "<section" in output:
            continue
        counts[kind] += 1
        number = f"{chapter}.{counts[kind]}" if chapter else str(counts[kind])
        label = f'<span class="book-number">{kind} {number}.</span> <em>{match[1]}</em>'
        name = f"{kind.lower()}-{number.replace('.', '-')}"
        parts += [page[end:start], OUTPUT.replace("div", "figure", 1), output]
        parts += [f'<figcaption id="{name}"><p>{label}</p></figcaption></figure>\n</div>\n']
        end = match.end()
    return "".join([*parts, page[end:]])
