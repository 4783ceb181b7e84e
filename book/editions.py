"""The exercises in editions for students, for the book, for teachers and for nbgrader (`make editions`).

There is one source: in the notebooks, cells tagged `exercise` state a task, cells tagged `solution` solve it,
and cells tagged `check` check it. The wrong answers that teachers see stand in ``exercises.yml``. In the
edition for students, the body of each function and the value of each variable of a solution is a blank.
"""

import ast
import contextlib
import copy
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml

from segconf_lite import exercises, resources

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
OUT = ROOT / "_build" / "teaching"
BOX = re.compile(r"^:::\{admonition\} ([^\n]+)\n(:class: dropdown\n)?(.*?)\n:::$", re.MULTILINE | re.DOTALL)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def kind_of(cell: Any) -> str:
    """The tag that says what a cell is to an exercise; empty for all other cells."""
    tags = set(cell.metadata.get("tags", [])) & {"exercise", "solution", "check"}
    return tags.pop() if tags else ""


def name_of(source: str) -> str:
    """The name that a solution defines first: that of the exercise."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            return node.name
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return node.targets[0].id
    raise ValueError(f"expected a solution that defines a function or a variable, got {source!r}")


def blanked(source: str) -> str:
    """A solution with blanks: `...` for the body of each function and for the value of each variable."""
    return _replaced(source, lambda indent, _: [f"{indent}..."])


def marked(source: str) -> str:
    """A solution with the marks between which nbgrader puts its blank."""
    return _replaced(source, lambda indent, lines: [f"{indent}{BEGIN}", *lines, f"{indent}{END}"], whole=True)


def _replaced(source: str, change: Callable[[str, list[str]], list[str]], *, whole: bool = False) -> str:
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef):
            inside = node.body[1:] if ast.get_docstring(node) else node.body
            first, last = inside[0].lineno - 1, node.end_lineno
            lines[first:last] = change(" " * inside[0].col_offset, lines[first:last])
        elif isinstance(node, ast.Assign):
            first, last = node.lineno - 1, node.end_lineno
            value = ast.unparse(node.targets[0])
            lines[first:last] = change("", lines[first:last]) if whole else [f"{value} = ..."]
    return "\n".join(lines)


def outcome(setup: str, answer: str, check: str) -> tuple[bool, str]:
    """Whether a check accepts an answer, and what it says."""
    said = io.StringIO()
    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(said):
        exec(f"{setup}\n{answer}", space)
        try:
            exec(check, space)
        except exercises.NotYetError as error:
            return False, str(error)
    return True, said.getvalue().strip()


def in_jupyter(text: str, *, solutions: bool) -> str:
    """Markdown with the boxes of the book as Jupyter shows them; solutions in boxes may be left out."""

    def box(found: re.Match[str]) -> str:
        title, folded, body = found[1], found[2], found[3].strip()
        if title.startswith("Solution") and not solutions:
            return ""
        if folded:
            return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
        return f"**{title}.** {body}"

    return re.sub(r"\n{3,}", "\n\n", BOX.sub(box, text)).strip()


def student(notebook: Any) -> Any:
    """Blanks for the solutions, hints that open, and what nbgrader wants to know of each cell."""
    notebook = _with_boxes(notebook, solutions=False)
    for cell in notebook.cells:
        if kind_of(cell) == "solution":
            cell.source = blanked(cell.source)
    return _for_nbgrader(notebook)


def book(notebook: Any) -> Any:
    """The solutions folded."""
    notebook = _with_boxes(notebook, solutions=True)
    for cell in notebook.cells:
        if kind_of(cell) == "solution":
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def instructor(notebook: Any) -> Any:
    """The solutions open; after each check what it prints, and what it says to common wrong answers."""
    wrong = yaml.safe_load((BOOK / "exercises.yml").read_text("utf-8"))
    notebook = _with_boxes(notebook, solutions=True)
    setup = setup_of(notebook)
    cells, solution = [], ""
    for cell in notebook.cells:
        cells.append(cell)
        if kind_of(cell) == "solution":
            solution = cell.source
        elif kind_of(cell) == "check":
            lines = ["**For teachers.** The check prints:", f"> {outcome(setup, solution, cell.source)[1]}"]
            for entry in wrong[name_of(solution)]:
                said = outcome(setup, entry["answer"], cell.source)[1]
                lines.append(f"A common wrong answer. {entry['why']}")
                lines.append(f"```python\n{entry['answer'].strip()}\n```")
                lines.append(f"> Not yet: {said}")
            cells.append(nbformat.v4.new_markdown_cell("\n\n".join(lines)))
    notebook.cells = cells
    return notebook


def assignment(notebook: Any) -> Any:
    """The exercises alone, with solutions between the marks of nbgrader: for its `generate_assignment`."""
    notebook = _with_boxes(notebook, solutions=False)
    notebook.cells = [cell for cell in notebook.cells if kind_of(cell)]
    for cell in notebook.cells:
        if kind_of(cell) == "solution":
            cell.source = marked(cell.source)
    return _for_nbgrader(notebook)


EDITIONS = {"student": student, "book": book, "instructor": instructor, "assignments": assignment}


def setup_of(notebook: Any) -> str:
    """The code that the exercises of a notebook share: nothing else of the notebook has to run for them."""
    code = [c.source for c in notebook.cells if c.cell_type == "code" and kind_of(c) == "exercise"]
    return "\n".join(code)


def _with_boxes(notebook: Any, *, solutions: bool) -> Any:
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = in_jupyter(cell.source, solutions=solutions)
    notebook.cells = [cell for cell in notebook.cells if cell.source]  # a solution may have been all of it
    return notebook


def _for_nbgrader(notebook: Any) -> Any:
    """Solutions can be edited, checks are locked and worth a point, tasks are locked."""
    name, tasks = "", 0
    for cell in notebook.cells:
        kind = kind_of(cell)
        facts: dict[str, Any] = {
            "schema_version": 3,
            "task": False,
            "grade": kind == "check",
            "solution": kind == "solution",
        }
        facts |= {"locked": kind != "solution"}
        if kind == "solution":
            facts["grade_id"] = name = name_of(cell.source)
        elif kind == "check":
            facts |= {"grade_id": f"check_{name}", "points": 1}
        elif kind:
            tasks += 1
            facts["grade_id"] = f"task_{tasks}"
        if kind:
            cell.metadata["nbgrader"] = facts
    return notebook


def main() -> int:
    """Write all editions of the chapters that have exercises, and return the exit code."""
    for source in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        if '"solution"' not in source.read_text("utf-8"):
            continue
        notebook = jupytext.read(source)
        for edition, make in EDITIONS.items():
            resources.write_whole(OUT / edition / f"{source.stem}.ipynb", nbformat.writes(make(notebook)))
    print(f"editions: {', '.join(EDITIONS)} in {OUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
