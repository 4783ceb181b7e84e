"""Render the book: executed notebooks and the pages of this folder become a site in _build/html.

The ledger of claims becomes a page, the docstrings become the pages of the reference, and the live figures
get their networks. Three more things happen on the way, so that a page works without a kernel and without a
network connection: plotly figures become HTML with one local copy of plotly.js, live widgets become a short
note, and MathJax with its fonts is copied into the site. Nothing on a page may come from another host.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import live_page
import nbformat
import plotly
import yaml
from bench_page import with_measurements
from evidence import with_targets
from imprint import with_imprint
from ledger_page import filled
from live_figures import with_live
from multiplicity import dagger_note, with_daggers
from networks_page import with_networks
from predict import with_prompts
from reference_pages import linked, with_reference
from rewrite import BookError, finish_page, rewrite_notebook, with_captions
from teaching_pages import quiz_link, with_teaching

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
EXECUTED = ROOT / "_build" / "executed"
SOURCE = ROOT / "_build" / "src"
SITE = ROOT / "_build" / "html"


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
    shutil.copytree(BOOK, SOURCE, ignore=shutil.ignore_patterns("*.py", "__pycache__", "live"))
    config = SOURCE / "_config.yml"
    named = with_imprint(yaml.safe_load(config.read_text("utf-8")), ROOT)
    config.write_text(yaml.safe_dump(named, allow_unicode=True), "utf-8")
    page = SOURCE / "claims.md"
    page.write_text(filled(page.read_text("utf-8"), BOOK), "utf-8")
    page = SOURCE / "networks.md"
    page.write_text(with_networks(page.read_text("utf-8"), BOOK / "results/networks.csv"), "utf-8")
    page = SOURCE / "benchmarks.md"
    page.write_text(with_measurements(page.read_text("utf-8"), BOOK / "results"), "utf-8")
    for page in SOURCE.rglob("*.md"):
        up = "../" * (len(page.relative_to(SOURCE).parts) - 1)
        text = with_daggers(linked(with_teaching(page.read_text("utf-8"))))
        text = f"{with_targets(text, up)}\n\n{dagger_note(text, up)}"
        page.write_text(with_reference(text), "utf-8")
    (SOURCE / "notebooks").mkdir()
    for name in names:
        notebook = nbformat.read(EXECUTED / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = with_live(with_targets(with_daggers(linked(cell.source)), "../"))
        whole = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        if note := dagger_note(whole, "../"):
            notebook.cells.append(nbformat.v4.new_markdown_cell(note))
        if note := quiz_link(name):
            notebook.cells.append(nbformat.v4.new_markdown_cell(note))
        nbformat.write(rewrite_notebook(notebook, name), SOURCE / "notebooks" / f"{name}.ipynb")


def add_libraries(static: Path) -> None:
    """Copy plotly.js and MathJax into the site; in the sources, every page would load all of their files."""
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static)
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise BookError('sphinx-mathjax-offline is not installed: pip install -e ".[book]"')
    mathjax = Path(spec.origin).parent / "static" / "mathjax"
    (static / "mathjax").mkdir(exist_ok=True)
    shutil.copy(mathjax / "tex-mml-chtml.js", static / "mathjax")
    for part in ("output/chtml/fonts/woff-v2", "input/tex/extensions", "a11y"):
        shutil.copytree(mathjax / part, static / "mathjax" / part)


def main() -> int:
    """Build the site and return the exit code."""
    try:
        names = chapters(yaml.safe_load((BOOK / "_toc.yml").read_text("utf-8")))
        prepare(names)
        shutil.rmtree(SITE, ignore_errors=True)
        command = [
            sys.executable,
            "-c",
            "from jupyter_book.cli.main import main; main()",
            "build",
            str(SOURCE),
        ]
        built = subprocess.run(
            [*command, "--path-output", str(ROOT), "-W", "--keep-going", "--all", "-q"],
            text=True,
            capture_output=True,
            check=False,
        )
        if built.returncode:
            raise BookError(f"jupyter-book stopped:\n{built.stdout[-6000:]}\n{built.stderr[-6000:]}")
        add_libraries(SITE / "_static")
        live_page.write(SITE / "_static" / "live")
        for name in names:  # the download button gives the executed notebook, not its rewritten copy
            shutil.copy(EXECUTED / f"{name}.ipynb", SITE / "_sources" / "notebooks")
        for path in sorted(SITE.rglob("*.html")):
            page = finish_page(path.read_text("utf-8"))
            if path.stem in names:
                page = with_captions(page, path.stem[:2].lstrip("0") if path.stem < "90" else "")
            path.write_text(with_prompts(page, path.stem), "utf-8")
    except BookError as error:
        (SITE / "index.html").unlink(missing_ok=True)  # make must not take a half-built site for a book
        print(f"book: {error}", file=sys.stderr)
        return 1
    print(f"book: {len(names)} chapters in {(SITE / 'index.html').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
