"""How the text of the book reads: counts per chapter and page, held against limits in book/style.yml.

  check   lists every count beyond its limit
  counts  prints all counts
  list    lists each finding with its place (for some files: name them)

Counted are, in prose, captions and text alternatives: "a" where "per" is meant (one point a slice), decimals
without their zero (.83), and private words (style.yml has them, with the word of the field). In whole
paragraphs and list items also: sentences without a verb, sentences of more than 40 words (a semicolon ends
one), the mean length of a sentence, and Flesch's reading ease (higher is easier; 60 is plain English, 30 a
scientific paper). Verbs are found by a list of forms and stems, so the count is a hint, and its limit leaves
room for errors. Links, formulas, code, tables and headings do not count.
"""

import argparse
import functools
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from evidence import BOOK, LINK, NO_PROSE, prose

LONGEST = 40  # words
QUANTITIES = (
    "one|two|three|four|five|six|seven|eight|nine|ten|fifteen|hundred|once|twice|times|seconds|minutes|hours|nats"
    r"|points|ms|\d+"
)
UNITS = (
    "slice|case|pixel|seed|scanner|subject|patient|person|network|image|step|second|minute|hour|day|volume|site"
    "|method|chapter|class|run|heart|window|batch|session|paper|module|page|room|group|voxel"
)
A_PER = re.compile(
    rf"\b(?:{QUANTITIES})\s(?:(?!(?:is|in|as|of|to|than|and|from)\b)[\w-]+\s)?an?\s(?:{UNITS})\b", re.I
)
BARE_DECIMAL = re.compile(r"(?<![\w.])\.\d")
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
SENTENCE_END = re.compile(r"(?<!\bal\.)(?<!\be\.g\.)(?<=[.!?])[\")*\]]*\s+(?=[\"(*\[]*[A-Z0-9])")
NO_SENTENCE = re.compile(r"^\s*(?:#|\||:::|\(|```|<|\[!|---|!\[)|^\s*\*[^*].*\*\s*$", re.DOTALL)
MARKS = re.compile(r"^%% \[markdown\].*\n+|^ *:.*\n?", re.MULTILINE)  # heads of cells and of boxes


class Counts(NamedTuple):
    """What is counted in a page; the limits of all but the reading ease are from above."""

    a_per: int
    bare_decimals: int
    private_words: int
    without_verb: int
    long_sentences: int
    words_per_sentence: float
    reading_ease: float


class Finding(NamedTuple):
    """A place that a count counts."""

    line: int
    kind: str
    text: str


def pages() -> list[Path]:
    """Chapters and pages of the book that people read from top to bottom."""
    written = [*BOOK.glob("*.md"), *(BOOK / "teaching").glob("*.md")]
    left_out = {"LICENSE.md", "references.md", "quizzes.md", "definitions.md", "errata.md"}
    return [
        *sorted((BOOK.parent / "notebooks").glob("[0-9]*.py")),
        *sorted(path for path in written if path.name not in left_out),
    ]


def name_of(path: Path) -> str:
    """A page's key in style.yml: the number of a chapter, or the path of a page."""
    return path.stem[:2] if path.suffix == ".py" else path.relative_to(BOOK).as_posix()


@functools.cache
def settings() -> dict[str, Any]:
    """The private words, the limits and the verbs."""
    return yaml.safe_load((BOOK / "style.yml").read_text("utf-8"))


@functools.cache
def private() -> re.Pattern[str]:
    """All private words as one pattern."""
    return re.compile(rf"\b(?:{'|'.join(settings()['private_words'])})\b", re.IGNORECASE)


@functools.cache
def verbs() -> frozenset[str]:
    """Finite forms of the listed verbs."""
    regular = settings()["regular_verbs"].split()
    forms = {*settings()["irregular_verbs"].split(), *regular}
    for stem in regular:
        ies = stem[:-1] + "i" if stem[-1] == "y" and stem[-2] not in "aeo" else stem
        es = "es" if ies.endswith(("i", "s", "x", "ch", "sh")) else "s"
        forms |= {ies + es, ies + ("d" if ies.endswith("e") else "ed"), stem + stem[-1] + "ed"}
    return frozenset(forms)


def plain(text: str) -> str:
    """Text as it is heard: links by their text, without formulas and marks."""
    text = LINK.sub(lambda link: link[1], text)
    text = re.sub(r"\[([^\[\]]*)\]\((?:[^()]|\([^()]*\))*\)", r"\1", text)
    return re.sub(r"\*\*|(?<!\w)[*_]|[*_](?!\w)", "", NO_PROSE.sub("x", text))


def paragraphs(path: Path) -> list[tuple[int, str, bool]]:
    """(line, paragraph, whether it has whole sentences) of a notebook or a page."""
    if path.suffix == ".py":
        found = prose(path)
    else:
        blank = lambda match: re.sub(r"[^\n]", " ", match[0])  # noqa: E731
        text = re.sub(r"```.*?```|<!--.*?-->", blank, path.read_text("utf-8"), flags=re.DOTALL)
        found, line = [], 1
        for part in re.split(r"(\n\n+|\n(?=\* |\d\. |\|))", text):
            if part.strip():
                found.append((line, part, True))
            line += part.count("\n")
    found = [(line, MARKS.sub("", part), whole) for line, part, whole in found]
    return [(line, part, whole and not NO_SENTENCE.search(part)) for line, part, whole in found]


def sentences(paragraph: str) -> list[str]:
    """Sentences of a paragraph, without the mark of a list item and without leads in bold (**Ties.** ...)."""
    paragraph = re.sub(r"\*\*[^*]+[.:]\*\*", "", paragraph)
    text = re.sub(r"^\s*(?:[*-]|\d+\.)\s+|^\s*:\s+", "", " ".join(plain(paragraph).split()))
    return [one for one in SENTENCE_END.split(text) if one.strip()]


def findings(path: Path) -> tuple[list[Finding], list[str]]:
    """Findings of a page, and its whole sentences."""
    found, whole = [], []
    for line, paragraph, has_sentences in paragraphs(path):
        text = plain(paragraph)
        for kind, pattern in (
            ("a_per", A_PER),
            ("bare_decimals", BARE_DECIMAL),
            ("private_words", private()),
        ):
            for match in pattern.finditer(text):
                around = " ".join(text[max(0, match.start() - 30) : match.end() + 30].split())
                found.append(Finding(line, kind, f"{' '.join(match[0].split())!r} in ... {around} ..."))
        for sentence in sentences(paragraph) if has_sentences else ():
            words = WORD.findall(sentence)
            if len(words) < 3:
                continue
            whole.append(sentence)
            if sentence.rstrip('")*] ').endswith(".") and not verbs() & {word.lower() for word in words}:
                found.append(Finding(line, "without_verb", sentence))
            longest = max(len(WORD.findall(part)) for part in sentence.split(";"))
            if longest > LONGEST:
                found.append(Finding(line, "long_sentences", f"{longest} words: {sentence}"))
    return found, whole


def syllables(word: str) -> int:
    """Syllables of a word, counted by its groups of vowels."""
    word = word.lower()
    count = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith(("e", "es", "ed")) and not word.endswith(("le", "ted", "ded", "ses", "ces", "xes"))
    return max(1, count - silent)


def counts(path: Path) -> Counts:
    """The counts of a page."""
    found, whole = findings(path)
    kinds = [finding.kind for finding in found]
    words = [word for sentence in whole for word in WORD.findall(sentence)]
    length = len(words) / max(1, len(whole))
    ease = 206.835 - 1.015 * length - 84.6 * sum(map(syllables, words)) / max(1, len(words))
    numbers = [*map(kinds.count, Counts._fields[:5]), round(length, 1), round(ease, 1)]
    return Counts._make(numbers)


def beyond(path: Path) -> list[str]:
    """One line per count of a page that is beyond its limit."""
    limits, found = {**settings()["limits"]["all"], **settings()["limits"].get(name_of(path), {})}, []
    for kind, count in counts(path)._asdict().items():
        if count < limits[kind] if kind == "reading_ease" else count > limits[kind]:
            which = "at least" if kind == "reading_ease" else "at most"
            found.append(f"{path.name}: {kind.replace('_', ' ')} {count}, {which} {limits[kind]:g}")
    return found


def main() -> int:
    """Run one of the three commands; 1 if a count is beyond its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("check", "counts", "list"))
    parser.add_argument("files", nargs="*", type=Path, help="default: all chapters and pages")
    given = parser.parse_args()
    files = [path.resolve() for path in given.files] or pages()
    if given.command == "list":
        rows = [
            f"{p.name}:{f.line}: {f.kind.replace('_', ' ')}: {f.text}" for p in files for f in findings(p)[0]
        ]
        print(*(rows or ["nothing to list"]), sep="\n")
        return 0
    if given.command == "counts":
        print(f"{'':26}", *(f"{name.replace('_', ' '):>18}" for name in Counts._fields))
        for path in files:
            print(f"{name_of(path):26}", *(f"{count:18}" for count in counts(path)))
        return 0
    found = [line for path in files for line in beyond(path)]
    print(*(found or ["nothing to list"]), sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
