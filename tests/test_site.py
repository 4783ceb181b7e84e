"""The rendered book without a browser: links inside it lead somewhere, and its pages are not heavy."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parents[1] / "_build" / "html"
pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="the book is not built: make book"
)
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
HEAVIEST = 3_000_000  # bytes of a page without plotly.js, which is loaded once for all


class Anchors(HTMLParser):
    """Links and ids of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], {"", "top"}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.ids |= {known[key] for key in ("id", "name") if known.get(key)}
        if tag == "a" and known.get("href"):
            self.links.append(unescape(known["href"]))


@pytest.fixture(scope="module")
def read():
    return {path: Anchors(path) for path in PAGES}


def test_links_inside_the_book_lead_somewhere(read):
    broken = []
    for path, page in read.items():
        for link in set(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(SITE)}: {link}: no such file")
            elif target in read and unquote(parts.fragment) not in read[target].ids:
                broken.append(f"{path.relative_to(SITE)}: {link}: no such place in it")
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_a_page_is_not_heavy_and_loads_plotly_once_at_most(path):
    page = path.read_text("utf-8")
    assert len(page.encode()) <= HEAVIEST
    assert page.count("plotly.min.js") <= 1


def test_every_page_names_who_wrote_it_and_which_version_it_is():
    with_foot = [path for path in PAGES if path != SITE / "index.html"]  # that one leads to the first page
    for path in with_foot:
        page = path.read_text("utf-8")
        assert "By The segconf_lite authors" in page, path
        assert re.search(r"Version \d+\.\d+", page), path


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name == "notebooks"], ids=lambda p: p.stem)
def test_captions_of_a_chapter_are_numbered_in_order(path):
    page = path.read_text("utf-8")
    for kind in ("Figure", "Table"):
        numbers = re.findall(rf'<span class="book-number">{kind} ((?:\d+\.)?)(\d+)\.</span>', page)
        assert [int(n) for _, n in numbers] == list(range(1, len(numbers) + 1))
        assert {chapter for chapter, _ in numbers} <= {f"{int(path.stem[:2])}."} | {""}
    assert page.count("<figcaption") == page.count("</figcaption></figure>") > 0
