"""Slides and a handout for each chapter, made from its executed notebook (`make slides`).

Each section of a chapter gives one slide with its heading, its first sentence and its question to predict,
and one slide per figure with the first sentence of the caption. The handout is one page for printing: the
question, goals, sections, and what to take home. Both are plain HTML: they open from the disk and load
nothing from another host.
"""

import dataclasses
import html
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from build import add_libraries
from markdown_it import MarkdownIt
from rewrite import LOAD_PLOTLY, PLOTLY, BookError, figure_html

from segconf_lite import resources

ROOT = Path(__file__).resolve().parents[1]
EXECUTED = ROOT / "_build" / "executed"
OUT = ROOT / "_build" / "teaching" / "slides"
# Sections that are for readers at their desks.
LEFT_OUT = {"Check yourself", "Exercises with a check", "Which claims held up", "Limits", "What to take home"}
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
ROLE = re.compile(r"\s?\{[\w:]+\}`[^`]*`")
SENTENCE = re.compile(r"(?<=[^.][.?!])\*{0,2}(?=\s+[A-Z*])")
HIDDEN = {"remove-cell", "remove-output"}
LOOK = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #181818; } }
body { margin: 0; font-family: system-ui, sans-serif; line-height: 1.4; }
body { color: var(--ink); background: var(--paper); }
.book-figure { overflow: auto; max-width: 100%; background: #fff; }
a { color: inherit; }
"""
SLIDES_LOOK = """
html { scroll-snap-type: y proximity; }
section { box-sizing: border-box; min-height: 100vh; padding: 4vh 6vw; scroll-snap-align: start;
  display: flex; flex-direction: column; justify-content: center; font-size: clamp(1rem, 2vw, 1.5rem); }
section h1, section h2 { margin: 0 0 0.6em; }
@media print { section { break-after: page; min-height: 0; } }
"""
HANDOUT_LOOK = """
body { max-width: 48rem; margin: auto; padding: 1rem; font-size: 0.85rem; }
h1 { font-size: 1.3rem; margin: 0 0 0.5em; } h2 { font-size: 1rem; margin: 0.8em 0 0.3em; }
ul { margin: 0; padding-left: 1.2em; }
@media print {
  @page { size: A4; margin: 14mm; }
  body { padding: 0; font-size: 8.5pt; columns: 2; }
  h1 { column-span: all; }
}
"""
KEYS = """<script>
document.addEventListener("keydown", (event) => {
  const way = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 }[event.key];
  if (!way || event.target.closest("input, select, button, .book-figure")) return;
  event.preventDefault();
  const all = [...document.querySelectorAll("section")];
  const tops = all.map((section) => Math.abs(section.getBoundingClientRect().top));
  const next = all[tops.indexOf(Math.min(...tops)) + way];
  if (next) next.scrollIntoView();
});
</script>"""
MATH = """<script>window.MathJax = { tex: { inlineMath: [["$", "$"]] } };</script>
<script src="mathjax/tex-mml-chtml.js" defer></script>"""


@dataclasses.dataclass
class Section:
    """A part of a chapter: heading, paragraphs of prose, and figures, each with its caption."""

    title: str
    prose: list[str] = dataclasses.field(default_factory=list)
    figures: list[tuple[dict[str, Any], str]] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The first sentence; empty if there is no prose."""
        return next((first_sentence(p) for p in self.prose if is_prose(p)), "")

    def after(self, mark: str) -> str:
        """The paragraph that begins with a mark such as ``**Predict``; empty if there is none."""
        return next((p for p in self.prose if p.startswith(mark)), "")

    @property
    def bullets(self) -> list[str]:
        """The items of its lists."""
        lists = [p for p in self.prose if p.startswith("* ")]
        return [
            " ".join(item.split()) for p in lists for item in re.split(r"^\* ", p, flags=re.MULTILINE) if item
        ]


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is running text: no list, table, box, formula, caption, comment or prompt."""
    return not paragraph.startswith(
        ("* ", "- ", "|", ":::", "$$", "<", "```", "**Predict", "**Try it", "1. ")
    ) and not (paragraph.startswith("*") and not paragraph.startswith("**"))


def first_sentence(paragraph: str) -> str:
    """The first sentence of a paragraph."""
    return SENTENCE.split(" ".join(paragraph.split()), maxsplit=1)[0]


def sections(notebook: Any) -> list[Section]:
    """What an executed notebook consists of; first what stands above all headings, titled as the chapter."""
    found = [Section("")]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for paragraph in re.split(r"\n\s*\n", cell.source.strip()):
                text = ROLE.sub("", LINK.sub(r"\1", paragraph))
                heading = re.match(r"(#+) (.+)", text)
                if heading and len(heading[1]) == 1:
                    found[0].title = heading[2]
                elif heading and len(heading[1]) == 2:
                    found.append(Section(heading[2]))
                elif heading is None and text:
                    caption = text.startswith("*") and not text.startswith(("**", "* "))
                    waiting = [k for k, (_, said) in enumerate(found[-1].figures) if not said]
                    if caption and waiting:
                        found[-1].figures[waiting[-1]] = (found[-1].figures[waiting[-1]][0], text.strip("*"))
                    found[-1].prose.append(text)
        elif not HIDDEN & set(cell.metadata.get("tags", [])):
            shown = [out.get("data", {}) for out in cell.outputs]
            found[-1].figures += [(data[PLOTLY], "") for data in shown if PLOTLY in data]
    return found


def as_html(text: str, *, inline: bool = False) -> str:
    """Markdown as HTML."""
    markdown = MarkdownIt("commonmark", {"html": False})
    return str(markdown.renderInline(text) if inline else markdown.render(text))


def page(title: str, look: str, body: str) -> str:
    """A whole page of HTML."""
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'>{MATH}"
    head += f"<title>{html.escape(title)}</title><style>{LOOK}{look}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"


def slides(notebook: Any) -> str:
    """The slides of a chapter, from its executed notebook, as HTML."""
    first, *parts = sections(notebook)
    goals = [first.after("**The question.**"), first.after("**You will be able to**")]
    made = [f"<h1>{html.escape(first.title)}</h1>{''.join(map(as_html, goals))}"]
    plain = [part for part in parts if part.title not in LEFT_OUT]
    for number, part in enumerate(plain):
        heading = f"<h2>{as_html(part.title, inline=True)}</h2>"
        made.append(f"{heading}{as_html(part.sentence)}{as_html(part.after('**Predict'))}")
        for k, (figure, caption) in enumerate(part.figures):
            drawn = figure_html(figure, f"slide-{number}-{k}")
            made.append(f"{heading}{drawn}<p>{as_html(first_sentence(caption), inline=True)}</p>")
    made += [
        f"<h2>{part.title}</h2>{items(part.bullets)}" for part in parts if part.title == "What to take home"
    ]
    body = "\n".join(f"<section>{slide}</section>" for slide in made)
    return page(first.title, SLIDES_LOOK, LOAD_PLOTLY.format(".") + body + KEYS)


def handout(notebook: Any) -> str:
    """One page for printing, from an executed notebook, as HTML."""
    first, *parts = sections(notebook)
    said = [first.after(mark) for mark in ("**The question.**", "**You will be able to**", "**You need**")]
    lines = [f"**{p.title}.** {p.sentence}" for p in parts if p.title not in LEFT_OUT and p.sentence]
    body = f"<h1>{html.escape(first.title)}</h1>{''.join(map(as_html, said))}"
    body += f"<h2>The way through</h2>{items(lines)}"
    for title in ("What to take home", "Limits"):
        body += "".join(f"<h2>{title}</h2>{items(p.bullets)}" for p in parts if p.title == title)
    return page(first.title, HANDOUT_LOOK, body)


def items(texts: list[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{as_html(text, inline=True)}</li>' for text in texts)}</ul>"


def write(executed: Path, out: Path) -> list[str]:
    """Write slides and handout of every executed notebook in a folder, and return the names of the chapters.

    Raises:
        BookError: If nothing is executed, or a figure has no text alternative.
    """
    paths = sorted(executed.glob("[0-9]*.ipynb"))
    if not paths:
        raise BookError("no notebook is executed yet. Run `make run`")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        resources.write_whole(out / f"{path.stem}.html", slides(notebook))
        resources.write_whole(out / f"{path.stem}_handout.html", handout(notebook))
    return [path.stem for path in paths]


def main() -> int:
    """Write everything and return the exit code."""
    try:
        names = write(EXECUTED, OUT)
    except BookError as error:
        print(f"slides: {error}", file=sys.stderr)
        return 1
    add_libraries(OUT)
    print(
        f"slides: slides and a handout for {', '.join(name[:2] for name in names)} in {OUT.relative_to(ROOT)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
