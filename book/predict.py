"""The prompts "Predict" of a page: each becomes a place for a guess, and what answers it can be folded."""

import re
import zlib

__all__ = ["with_prompts"]

PROMPT = re.compile(
    r"<p>(?=(?:(?!</p>).)*?<strong>Predict\b([^<]*)</strong>)((?:(?!</p>).)*)</p>\n", re.DOTALL
)
# What answers a prompt ends where something else begins: a section, another prompt, an exercise.
END = re.compile(r'</?section\b|<div class="admonition-exercise|' + PROMPT.pattern, re.DOTALL)
OUTPUT = re.compile(r'<(?:div|figure) class="cell_output ')
LATER = "before you read on"  # these words in the prompt: what follows is not its answer
CELL = '<div class="cell docutils container">\n'
SUMMARY = (
    '<summary><span class="when-closed">Show the result without a guess</span>'
    '<span class="when-open">Result</span></summary>'
)


def with_prompts(page: str, name: str) -> str:
    """A built page whose prompts have a box, and whose answers stand in a `details` element that is open.

    `predict.js` puts a field into the box and folds the answer. Without JavaScript, on paper and for the
    search, all is to be seen. An answer begins with the first output after its prompt, and what cells compute
    before it stays in view. It goes on to the end of its section, because the text below a figure says
    what the figure shows.

    Args:
        page: HTML, with its captions already numbered.
        name: Name of the page. With a checksum of the prompt it is what a guess is kept under, so that a
            prompt that is worded anew does not get an old guess.
    """
    parts, end = [], 0
    for number, match in enumerate(PROMPT.finditer(page), start=1):
        key = f"{name}/{zlib.crc32(match[2].encode()):08x}"
        stop = END.search(page, match.end())
        last = stop.start() if stop else match.end()
        first = OUTPUT.search(page, match.end(), last)
        folded = first is not None and LATER not in match[1]
        result = f' data-result="result-{number}"' if folded else ""
        box = f'<div class="book-predict" data-guess="{key}"{result}>\n<p id="predict-{number}">'
        parts += [page[end : match.start()], f"{box}{match[2]}</p>\n</div>\n"]
        end = match.end()
        if folded and first:
            # The cell is cut in two: its code stays above, and its output begins the answer.
            opened = f'</div>\n<details class="book-result" id="result-{number}" open>\n{SUMMARY}\n{CELL}'
            parts += [page[end : first.start()], opened, page[first.start() : last], "</details>\n"]
            end = last
    return "".join([*parts, page[end:]])
