"""What the pages for teaching are made of: quizzes, misconceptions, times; the GIFT file (`make quizzes`)."""

import re
import sys
from pathlib import Path

from segconf_lite import quizzes, resources

ROOT = Path(__file__).resolve().parents[1]
GIFT = ROOT / "_build" / "teaching" / "quizzes.gift"


def with_teaching(page: str) -> str:
    """A page with its marks replaced by all quizzes, the table of misconceptions, or that of the times."""
    if "<!-- quizzes -->" in page:
        page = page.replace("<!-- quizzes -->", "\n\n".join(map(quiz_markdown, quizzes.chapters())))
    if "<!-- misconceptions -->" in page:
        page = page.replace("<!-- misconceptions -->", misconceptions_markdown())
    if "<!-- times -->" in page:
        page = page.replace("<!-- times -->", times_markdown())
    return page


def quiz_markdown(chapter: int) -> str:
    """The section of a chapter: a heading with a target for links, the questions, links to their claims."""
    name, title = chapter_title(chapter)
    questions = quizzes.read(chapter)
    claims = dict.fromkeys(
        f"[{question.claim}](#{question.claim})" for question in questions if question.claim
    )
    rests = f"The right answers rest on these claims: {', '.join(claims)}." if claims else ""
    head = f"(quiz-{chapter})=\n## Chapter {chapter}: {title}\n\n[To the chapter](notebooks/{name}.ipynb)"
    return f"{head}\n\n```{{raw}} html\n{quizzes.as_html(questions)}\n```\n\n{rests}"


def misconceptions_markdown() -> str:
    """A table: what people think, and what to answer, from the right choices of the quizzes."""
    lines = ["| chapter | misconception | answer |", "|---|---|---|"]
    for chapter in quizzes.chapters():
        for question in quizzes.read(chapter):
            answer = " ".join(question.right.feedback.split()).replace("|", "\\|")
            lines.append(f"| [{chapter}](#quiz-{chapter}) | {question.misconception} | {answer} |")
    return "\n".join(lines)


def times_markdown() -> str:
    """A table of the chapters and of the time that the header of each notebook states."""
    lines = ["| chapter | time, as its notebook states it |", "|---|---|"]
    for chapter in [0, *quizzes.chapters()]:  # 0 is the notebook before all chapters
        name, title = chapter_title(chapter)
        text = (ROOT / "notebooks" / f"{name}.py").read_text("utf-8").replace("\n# ", " ")
        stated = re.search(r"\*\*Time:\*\* (.+?\.)(?: |\n)", text)
        lines.append(
            f"| [{chapter or ''} {title}](../notebooks/{name}.ipynb) | {stated[1] if stated else '–'} |"
        )
    return "\n".join(lines)


def quiz_link(notebook: str) -> str:
    """What the page of a chapter says at its end; empty for a notebook without a quiz."""
    number = int(notebook[:2])
    if number not in quizzes.chapters():
        return ""
    return f"## Quiz\n\n[Six questions about this chapter](#quiz-{number}), with feedback on every answer."


def chapter_title(chapter: int) -> tuple[str, str]:
    """Name of a chapter's notebook, and its title."""
    (path,) = (ROOT / "notebooks").glob(f"{chapter:02d}_*.py")
    title = re.search(r"^# # (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return path.stem, title[1] if title else path.stem


def main() -> int:
    """Write the GIFT file and return the exit code."""
    parts = []
    for chapter in quizzes.chapters():
        parts.append(f"$CATEGORY: segconf_lite/Chapter {chapter}")
        parts.append(quizzes.as_gift(quizzes.read(chapter)))
    resources.write_whole(GIFT, "\n\n".join(parts) + "\n")
    print(f"quizzes: {GIFT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
