"""The live figures inside the chapters: at a marker in a chapter's text, the book's build puts a figure.

In the notebook the marker is an HTML comment, followed by a paragraph that links to the page of the book, so
that a reader in Jupyter or on Colab sees this sentence and no gap::

    <!-- live: review -->
    On [the page of this chapter](https://...) a live figure stands here.
"""

import re

from rewrite import BookError

FIGURES = {"review", "knobs", "flips", "attack", "bound"}  # of live/figures.js
SCRIPTS = ("scanner.js", "measures.js", "live.js", "figures.js")
MARKER = re.compile(r"<!-- live: (\w+) -->\n.+?(?=\n\n|\Z)", re.DOTALL)
BLOCK = """```{{raw}} html
<div id="live-figure" class="live" data-figure="{name}" data-path="{up}_static/live/">
  <button data-live="start" type="button">Start the live figure</button>
  <p data-live="status" role="status"></p>
  <noscript>This figure needs JavaScript.</noscript>
  <div data-live="stage" hidden></div>
</div>
{scripts}
```"""


def with_live(text: str, up: str = "../") -> str:
    """Markdown with each marker and the paragraph at it replaced by the live figure of that name.

    Args:
        text: Markdown of a cell.
        up: The way from the page to the root of the site.

    Raises:
        BookError: If there is no figure of that name.
    """

    def figure(found: re.Match[str]) -> str:
        name = found[1]
        if name not in FIGURES:
            raise BookError(f"there is no live figure {name!r}; there are: {', '.join(sorted(FIGURES))}")
        scripts = "\n".join(f'<script src="{up}_static/live/{file}" defer></script>' for file in SCRIPTS)
        return BLOCK.format(name=name, up=up, scripts=scripts)

    return MARKER.sub(figure, text)
