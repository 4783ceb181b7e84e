"""What a chapter lets its reader change, read from the chapter's `parameters` cell.

The cell itself is the declaration. Each parameter is one assignment with Colab's form syntax behind it, so
that Colab shows a form, and with its meaning in the comment above::

    # Wanted mean fall of the predicted Dice.
    effect_size = 0.1  # @param {type:"number", min:0.01, max:0.5}
    # Scanner of the training cases.
    source_scanner = "A"  # @param ["A", "B", "C", "D", "E", "F"]

Colab reads `type` and ignores the rest; here, `min`, `max`, `unit`, `letters` (a text of some of these, each
at most once) and `also` (one more allowed value outside of the range) count too.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import math
import re
import tokenize
from pathlib import Path
from typing import Any

from segconf_lite import resources

__all__ = ["Parameter", "notebook_source", "read"]

TYPES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    Attributes:
        name: Name of the variable.
        default: Value in the cell; its source text if that is not a literal.
        source: Source text of the default.
        meaning: What the parameter does, from the comment above it.
        unit: Unit of the value, empty if it has none.
        choices: All allowed values; empty if a range or a type decides.
        low: Lowest allowed number, None for no limit.
        high: Highest allowed number, None for no limit.
        also: Values that are allowed outside of the range.
        letters: Letters that a text may be made of, each at most once; empty for any text.
        declared: Whether the cell states what is allowed (`@param`).
        literal: Whether the default is a literal, so that its type is known.
    """

    name: str
    default: Any
    source: str
    meaning: str = ""
    unit: str = ""
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    also: tuple[Any, ...] = ()
    letters: str = ""
    declared: bool = False
    literal: bool = True

    @property
    def allowed(self) -> str:
        """The allowed values in words, e.g. "0, or 24 to 960"."""
        if self.choices:
            words = "one of " + ", ".join(map(str, self.choices))
        elif self.letters:
            words = f"letters out of {self.letters}, each once"
        elif self.low is not None and self.high is not None:
            words = f"{self.low:g} to {self.high:g}"
        elif self.low is not None or self.high is not None:
            words = f"at least {self.low:g}" if self.high is None else f"at most {self.high:g}"
        else:
            words = TYPES.get(type(self.default), "any value") if self.literal else "any value"
        also = ", or ".join(repr(value) if isinstance(value, str) else f"{value:g}" for value in self.also)
        return (f"{also}, or {words}" if also else words) + (f" {self.unit}" if self.unit else "")

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is among the allowed ones."""
        if value in self.also:
            return True
        if self.choices:
            return value in self.choices
        if self.letters:
            return bool(value) and len(set(value)) == len(value) and set(value) <= set(self.letters)
        if isinstance(value, float) and self.declared and not math.isfinite(value):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def notebook_source(chapter: str) -> Path:
    """The file with the source of a chapter such as "04_adversarial_confidence", in checkout or wheel.

    Raises:
        FileNotFoundError: If it is not there.
    """
    path = resources.notebooks_folder() / f"{chapter}.py"
    if not path.is_file():
        raise FileNotFoundError(f"expected the source of chapter {chapter} at {path}, which is not there")
    return path


def read(path: str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, by name, in the order of its cell.

    Args:
        path: A `.py` (percent format) or `.ipynb` notebook.

    Raises:
        ValueError: If not exactly one cell is tagged `parameters`, or a declaration cannot be read.
    """
    tagged = _tagged_cells(Path(path))
    if len(tagged) != 1:
        raise ValueError(f"expected one cell tagged 'parameters' in {path}, got {len(tagged)}")
    lines, found = tagged[0].splitlines(), dict[str, Parameter]()
    tokens = tokenize.generate_tokens(io.StringIO(tagged[0]).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    for node in ast.parse(tagged[0]).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                first = node.lineno
                while first > 1 and lines[first - 2].startswith("#"):
                    first -= 1
                above = " ".join(comments[k] for k in range(first, node.lineno))
                behind = comments.get(node.end_lineno or node.lineno, "")
                found[target.id] = _parameter(target.id, value, above, behind)
    return found


def _tagged_cells(path: Path) -> list[str]:
    """Sources of the cells tagged `parameters`."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = [c for c in json.loads(text)["cells"] if "parameters" in c["metadata"].get("tags", [])]
        return ["".join(cell["source"]) for cell in cells]
    parts = re.split(r"^# %%(.*)$", text, flags=re.MULTILINE)[1:]
    heads = {k: re.search(r"tags=\[(.*?)\]", parts[k]) for k in range(0, len(parts), 2)}
    return [
        parts[k + 1].strip("\n") + "\n" for k, tags in heads.items() if tags and '"parameters"' in tags[1]
    ]


def _parameter(name: str, node: ast.expr, above: str, behind: str) -> Parameter:
    source = ast.unparse(node)
    try:
        given: dict[str, Any] = {"default": ast.literal_eval(node)}
    except ValueError:
        given = {"default": source, "literal": False}
    plain, mark, form = behind.partition("@param")
    given["meaning"] = above or plain.strip()
    if mark:
        given |= {"declared": True} | _form(name, form.strip())
    return Parameter(name=name, source=source, **given)


def _form(name: str, text: str) -> dict[str, Any]:
    """Choices and limits from Colab's form syntax: a list, an object with bare keys, or both."""
    match = re.fullmatch(r"(\[.*?\])?\s*(\{.*\})?", text)
    try:
        if match is None:
            raise ValueError
        options = json.loads(re.sub(r"([{,]\s*)(\w+)\s*:", r'\1"\2":', match[2] or "{}"))
        choices = tuple(json.loads(match[1] or "[]"))
    except ValueError:
        raise ValueError(
            f'parameter {name}: expected @param [...] or {{type:"number", ...}}, got {text}'
        ) from None
    found = {"low": options.get("min"), "high": options.get("max"), "unit": options.get("unit", "")}
    also = options.get("also")
    return {
        **found,
        "choices": choices,
        "also": () if also is None else (also,),
        "letters": options.get("letters", ""),
    }
