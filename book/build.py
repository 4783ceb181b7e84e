"""Render the book: executed notebooks and the pages of this folder become a site in _build/html.

Three things happen on the way, so that a page works without a kernel and without a network:
plotly figures become HTML with one local copy of plotly.js, live widgets become a short note, and
MathJax with its fonts is copied into the site. Nothing on a page may come from another host.
"""

import html
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import plotly
import plotly.io
import yaml

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
EXECUTED = ROOT / "_build" / "executed"
SOURCE = ROOT / "_build" / "src"
SITE = ROOT / "_build" / "html"

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "This control is live in Jupyter; the figure below it works here."
BADGE = re.compile(r"\[!\[([^\]]*)\]\(https://colab\.research\.google\.com/assets/[^)]*\)\]\(([^)]*)\)")
EXTERNAL_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*https?://|<img[^>]+src=[\"']https?://", re.IGNORECASE)
# Tags that make a browser fetch something, as opposed to plain links.
EXTERNAL_RESOURCE = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=[\"'](?:https?:)?//[^\"']+"
    r"|<link\b(?=[^>]*\brel=[\"'](?:stylesheet|preload|preconnect|icon|shortcut icon)[\"'])[^>]*"
    r"\bhref=[\"'](?:https?:)?//[^\"']+",
    re.IGNORECASE,
)


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
    meta = layout.get("meta")
    alt = meta.get("alt", "").strip() if isinstance(meta, dict) else ""
    if not alt:
        raise BookError('a figure has no text alternative: fig.update_layout(meta={"alt": "what it shows"})')
    width = layout.pop("width", None)  # the page decides; a wide figure scrolls inside its own box
    least = meta.get("min_width", min(width or 0, 700))
    body = plotly.io.to_html(
        {"data": figure.get("data", []), "layout": layout, "frames": figure.get("frames", [])},
        config={"responsive": True, "displaylogo": False},
        include_plotlyjs=False,
        full_html=False,
        auto_play=False,
        default_width="100%",
        default_height=f"{layout.get('height', 450)}px",
        validate=False,
        div_id=name,
    )
    label = html.escape(alt, quote=True)
    return (
        f'<div class="book-figure" tabindex="0"><div role="img" aria-label="{label}" '
        f'style="min-width: {int(least)}px">{body}</div></div>\n'
        f'<noscript><p class="book-noscript">Without JavaScript this figure stays empty. It shows: {label}</p>'
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
                script = f'<script src="{static}/plotly.min.js"></script>\n'
                first = next(out for out in cell.outputs if "book-figure" in _html_of(out))
                first.data["text/html"] = script + first.data["text/html"]
                loaded = True
        except BookError as error:
            raise BookError(f"{name}, cell {number}: {error}") from None
    return notebook


def _html_of(output: Any) -> str:
    return str(output.get("data", {}).get("text/html", ""))


def rewrite_markdown(text: str) -> str:
    """Markdown with the Colab badge as a plain link: the badge is an image on another host."""
    text = BADGE.sub(r"[\1](\2)", text)
    if EXTERNAL_IMAGE.search(text):
        raise BookError("an image comes from another host; put it into book/_static")
    return text


def chapters(toc: dict[str, Any]) -> list[str]:
    """Names of the notebooks that the table of contents lists, e.g. "01_domain_shift"."""
    entries = [*toc.get("chapters", []), *(c for part in toc.get("parts", []) for c in part["chapters"])]
    entries += [section for entry in entries for section in entry.get("sections", [])]
    return [e["file"].removeprefix("notebooks/") for e in entries if e["file"].startswith("notebooks/")]


def prepare(names: list[str]) -> None:
    """Fill the source folder: pages, rewritten notebooks, and the libraries that pages load."""
    missing = [name for name in names if not (EXECUTED / f"{name}.ipynb").is_file()]
    if missing:
        raise BookError(f"not executed yet: {', '.join(missing)}. Run `make run`, or simply `make book`")
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(BOOK, SOURCE, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (SOURCE / "notebooks").mkdir()
    for name in names:
        notebook = nbformat.read(EXECUTED / f"{name}.ipynb", as_version=4)
        nbformat.write(rewrite_notebook(notebook, name), SOURCE / "notebooks" / f"{name}.ipynb")
    static = SOURCE / "_static"
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static)
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise BookError('sphinx-mathjax-offline is not installed: pip install -e ".[book]"')
    mathjax = Path(spec.origin).parent / "static" / "mathjax"
    (static / "mathjax").mkdir()
    shutil.copy(mathjax / "tex-mml-chtml.js", static / "mathjax")
    for part in ("output/chtml/fonts", "input/tex/extensions", "a11y"):
        shutil.copytree(mathjax / part, static / "mathjax" / part)


def external_resources(page: str) -> list[str]:
    """The tags of an HTML page that would make a browser ask another host; links do not count."""
    return EXTERNAL_RESOURCE.findall(page)


def main() -> int:
    """Build the site and return the exit code."""
    try:
        names = chapters(yaml.safe_load((BOOK / "_toc.yml").read_text("utf-8")))
        prepare(names)
        shutil.rmtree(SITE, ignore_errors=True)
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(SOURCE)]
        built = subprocess.run(
            [*command, "--path-output", str(ROOT), "-W", "--keep-going", "--all", "-q"],
            text=True, capture_output=True, check=False
        )
        if built.returncode:
            raise BookError(f"jupyter-book stopped:\n{built.stdout[-6000:]}\n{built.stderr[-6000:]}")
        for name in names:  # the download button gives the executed notebook, not its rewritten copy
            shutil.copy(EXECUTED / f"{name}.ipynb", SITE / "_sources" / "notebooks")
        for path in sorted(SITE.rglob("*.html")):
            if found := external_resources(path.read_text("utf-8")):
                raise BookError(f"{path.relative_to(SITE)} would load from another host: {found}")
    except BookError as error:
        (SITE / "index.html").unlink(missing_ok=True)  # make must not take a half-built site for a book
        print(f"book: {error}", file=sys.stderr)
        return 1
    print(f"book: {len(names)} chapters in {(SITE / 'index.html').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
