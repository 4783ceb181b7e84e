"""The quizzes of the book: read from ``book/quizzes``, shown as HTML, exported in the GIFT format of Moodle.

A question has one right choice, and every choice has feedback that is shown when the choice is opened. The
HTML needs no script: each choice is a ``details`` element, which a keyboard and a screen reader can open.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from segconf_lite import check, resources

STYLE = """<style>
.quiz details { border: 1px solid; border-radius: 0.3rem; margin: 0.4rem 0; overflow-wrap: anywhere; }
.quiz-question { margin-top: 1.5rem; }
.quiz summary { cursor: pointer; padding: 0.5rem 0.7rem; }
.quiz summary:focus-visible { outline: 3px solid; outline-offset: 2px; }
.quiz details p { border-top: 1px solid; margin: 0; padding: 0.5rem 0.7rem; }
</style>"""
_GIFT = str.maketrans({mark: f"\\{mark}" for mark in "\\~=#{}:"})


@dataclass(frozen=True)
class Choice:
    """One possible answer: its text, whether it is right, and the feedback to whoever chooses it.

    Example:
        >>> Choice("19", True, "The new case is the twentieth.").right
        True
    """

    text: str
    right: bool
    feedback: str


@dataclass(frozen=True)
class Question:
    """A question of a quiz.

    ``claim`` names the claim on which the right choice rests, ``verdict`` the verdict that this choice needs,
    and ``groups`` the verdicts of single groups of the claim, such as scanners.

    Example:
        >>> choices = (Choice("Yes.", False, "It seems so."), Choice("No.", True, "It is not."))
        >>> Question("sure", 1, "Is it?", choices, "A sure network is right.").right.text
        'No.'
    """

    name: str
    chapter: int
    text: str
    choices: tuple[Choice, ...]
    misconception: str
    claim: str = ""
    verdict: str = ""
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def right(self) -> Choice:
        """The right choice."""
        return next(choice for choice in self.choices if choice.right)


def chapters() -> list[int]:
    """Numbers of the chapters that have a quiz.

    Example:
        >>> chapters()[:3]
        [1, 2, 3]
    """
    folder = resources.claims_registry().parent / "quizzes"
    return sorted(int(path.stem) for path in folder.glob("[0-9][0-9].yml"))


def read(chapter: int) -> list[Question]:
    """The questions of a chapter, in the order of its file.

    The choices of a question are in an order that depends on their texts only, so that the right one has no
    fixed place and every edition shows the same order.

    Args:
        chapter: Number of the chapter, e.g. 2.

    Raises:
        ValueError: If the chapter has no quiz, or a question lacks a part.

    Example:
        >>> question = read(1)[0]
        >>> question.misconception
        'The softmax probability is the probability that the segmentation is right.'
        >>> question.right.text
        'How sure the network is of the classes that it predicts, and nothing more.'
    """
    import yaml

    check.one_of("chapter", chapter, chapters())
    path = resources.claims_registry().parent / "quizzes" / f"{chapter:02d}.yml"
    return [_question(chapter, entry) for entry in yaml.safe_load(path.read_text("utf-8"))]


def as_html(questions: Iterable[Question]) -> str:
    """The questions as HTML without a script. To open a choice shows its feedback.

    Only one choice of a question is open at a time, where the browser supports it.

    Args:
        questions: Questions, e.g. from `read`.

    Example:
        >>> page = as_html(read(1))
        >>> page.count("<details"), page.count("<strong>Right.</strong>")
        (18, 6)
    """
    parts = [STYLE, '<div class="quiz">']
    for number, question in enumerate(questions, start=1):
        name = html.escape(f"quiz-{question.chapter}-{question.name}")
        parts.append(f'<div role="group" aria-labelledby="{name}" class="quiz-question">')
        parts.append(f'<p id="{name}"><strong>{number}.</strong> {html.escape(question.text)}</p>')
        for choice in question.choices:
            word = "Right." if choice.right else "Not quite."
            parts.append(f'<details name="{name}"><summary>{html.escape(choice.text)}</summary>')
            parts.append(f"<p><strong>{word}</strong> {html.escape(choice.feedback)}</p></details>")
        parts.append("</div>")
    return "\n".join([*parts, "</div>"])


def as_gift(questions: Iterable[Question]) -> str:
    r"""The questions in GIFT, the text format for questions that Moodle and other learning platforms import.

    Args:
        questions: Questions, e.g. from `read`.

    Example:
        >>> choices = (Choice("{0}", True, "Yes: it is."), Choice("~1", False, "No."))
        >>> print(as_gift([Question("set", 1, "Which x has x = 0?", choices, "")]))
        ::1 set:: Which x has x \= 0? {
                =\{0\} #Yes\: it is.
                ~\~1 #No.
        }
    """
    parts = []
    for question in questions:
        lines = [f"::{question.chapter} {question.name}:: {_gift(question.text)} {{"]
        for choice in question.choices:
            mark = "=" if choice.right else "~"
            lines.append(f"\t{mark}{_gift(choice.text)} #{_gift(choice.feedback)}")
        parts.append("\n".join([*lines, "}"]))
    return "\n\n".join(parts)


def _gift(text: str) -> str:
    return " ".join(text.split()).translate(_GIFT)


def _question(chapter: int, entry: dict[str, Any]) -> Question:
    known = {"id", "misconception", "claim", "verdict", "groups", "question", "right", "wrong"}
    needed = {"id", "misconception", "question", "right", "wrong"}
    if not needed <= set(entry) <= known:
        raise check.refuse(f"question of chapter {chapter}", f"the parts {sorted(needed)}", sorted(entry))
    choices = [Choice(entry["right"]["choice"], True, entry["right"]["because"])]
    choices += [Choice(wrong["choice"], False, wrong["because"]) for wrong in entry["wrong"]]
    return Question(
        name=entry["id"],
        chapter=chapter,
        text=entry["question"],
        choices=tuple(sorted(choices, key=lambda choice: hashlib.sha256(choice.text.encode()).digest())),
        misconception=entry["misconception"],
        claim=entry.get("claim", ""),
        verdict=entry.get("verdict", ""),
        groups=entry.get("groups", {}),
    )
