"""Parameters of a chapter: what its `parameters` cell declares, checks, and other settings than the book's.

The cell itself is the declaration. Each parameter is one assignment with Colab's form syntax behind it, so
that Colab shows a form, and with its meaning in the comment above::

    # Intended mean fall of the predicted Dice.
    effect_size = 0.1  # @param {type:"number", min:0.01, max:0.5}
    # Scanner of the training cases.
    source_scanner = "A"  # @param ["A", "B", "C", "D", "E", "F"]

Colab reads `type` and ignores the rest; here, `min`, `max`, `unit`, `letters` (a text of some of these, each
at most once) and `also` (one more allowed value outside of the range) count too.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import io
import json
import math
import re
import textwrap
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segconf_lite import resources

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

    Example:
        >>> Parameter("effect_size", 0.1, "0.1", low=0.01, high=0.5).allowed
        '0.01 to 0.5'
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
        """Whether a value of the right type is among the allowed ones.

        Args:
            value: The value.
        """
        if value in self.also:
            return True
        if self.choices:
            return value in self.choices
        if self.letters:
            return bool(value) and len(set(value)) == len(value) and set(value) <= set(self.letters)
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def notebook_source(chapter: str) -> Path:
    """The file with the source of a chapter, in a checkout or in the installed package.

    Args:
        chapter: Name of the file without ending, e.g. "04_adversarial_confidence".

    Raises:
        FileNotFoundError: If it is not there.

    Example:
        >>> notebook_source("01_domain_shift").name
        '01_domain_shift.py'
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

    Example:
        >>> read(notebook_source("01_domain_shift"))["seed"].default
        0
    """
    tagged = _tagged_cells(Path(path))
    if len(tagged) != 1:
        raise ValueError(f"expected one cell tagged 'parameters' in {path}, got {len(tagged)}")
    lines, declared = tagged[0].splitlines(), dict[str, Parameter]()
    try:
        tree = ast.parse(tagged[0])
        tokens = list(tokenize.generate_tokens(io.StringIO(tagged[0]).readline))
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"expected Python in the parameters cell of {path}, got {error}") from None
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                first = node.lineno
                while first > 1 and lines[first - 2].startswith("#"):
                    first -= 1
                above = " ".join(comments[k] for k in range(first, node.lineno))
                behind = comments.get(node.end_lineno or node.lineno, "")
                declared[target.id] = _parameter(target.id, value, above, behind)
    return declared


def _tagged_cells(path: Path) -> list[str]:
    """Sources of the cells tagged `parameters`."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        try:
            cells = [c for c in json.loads(text)["cells"] if "parameters" in c["metadata"].get("tags", [])]
            return ["".join(cell["source"]) for cell in cells]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"expected a notebook in JSON, got {path}, which is damaged") from None
    parts = re.split(r"^# %%(.*)$", text, flags=re.MULTILINE)[1:]
    tags = {k: re.search(r"tags=\[(.*?)\]", parts[k]) for k in range(0, len(parts), 2)}
    return [parts[k + 1].strip("\n") + "\n" for k, tag in tags.items() if tag and '"parameters"' in tag[1]]


def _parameter(name: str, node: ast.expr, above: str, behind: str) -> Parameter:
    source = ast.unparse(node)
    try:
        default, literal = ast.literal_eval(node), True
    except (ValueError, TypeError):
        default, literal = source, False
    plain, mark, form = behind.partition("@param")
    options = {"declared": True} | _form(name, form.strip()) if mark else {}
    return Parameter(name, default, source, above or plain.strip(), literal=literal, **options)


def _form(name: str, text: str) -> dict[str, Any]:
    """Choices and limits from Colab's form syntax: a list, an object with bare keys, or both."""
    match = re.fullmatch(r"(\[.*?\])?\s*(\{.*\})?", text)
    try:
        if match is None:
            raise ValueError
        options = json.loads(re.sub(r"([{,]\s*)(\w+)\s*:", r'\1"\2":', match[2] or "{}"))
        choices = tuple(json.loads(match[1] or "[]"))
    except ValueError:
        expected = '@param [...] or {type:"number", ...}'
        raise ValueError(f"parameter {name}: expected {expected}, got {text}") from None
    names = {"min": "low", "max": "high", "unit": "unit", "letters": "letters"}
    limits = {names[key]: value for key, value in options.items() if key in names}
    return limits | {"choices": choices, "also": (options["also"],) if "also" in options else ()}


# The text of a chapter holds for any seed and for both profiles, so these do not count as another setting.
_ALWAYS_USUAL = {"profile", "seed", "cases_out"}
_note = ""  # set by `checked`, read by `alt_note`: as a style sheet, it holds for all figures of a process


def check(
    declared: Mapping[str, Parameter], values: Mapping[str, object], *, where: str = "the notebook"
) -> None:
    """Refuse unknown names, values of another type than the default or out of range, and contradictions.

    Args:
        declared: What `read` returned.
        values: Values by name; what is missing has its default.
        where: Name of the notebook, for the message.

    Raises:
        ValueError: Naming the parameter, what is allowed, and what came.

    Example:
        >>> check({"seed": Parameter("seed", 0, "0", low=0)}, {"seed": -1}, where="chapter 1")
        Traceback (most recent call last):
        ValueError: parameter seed of chapter 1: expected at least 0, got -1; choose an allowed value ...
    """
    unknown = sorted(set(values) - set(declared))
    if unknown:
        known = ", ".join(f"{name}={p.source}" for name, p in declared.items()) or "none"
        near = difflib.get_close_matches(unknown[0], declared, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{where} has no parameter {', '.join(unknown)}; it has: {known}{hint}")
    for name, value in values.items():
        parameter = declared[name]
        default, kind = parameter.default, type(parameter.default)
        if not parameter.literal or kind not in TYPES or (value is None and not parameter.declared):
            continue
        if type(value) is not kind and not (kind is float and type(value) is int):
            is_kind = f"parameter {name} of {where} is {kind.__name__} (default {default!r})"
            got = f"{type(value).__name__} {value!r}"
            raise ValueError(f"{is_kind}, got {got}; expected {parameter.allowed}")
        if not parameter.allows(value):
            fix = f"choose an allowed value (the default is {default!r})"
            told = f"parameter {name} of {where}: expected {parameter.allowed}"
            raise ValueError(f"{told}, got {value!r}; {fix}")
    _check_together({name: p.default for name, p in declared.items()} | dict(values), where)


def _check_together(values: Mapping[str, Any], where: str) -> None:
    """Refuse values that are allowed one by one and contradict each other."""
    source = values.get("source_scanner")
    for name in ("unseen_scanner", "unseen_scanners"):
        if source and source in (values.get(name) or ""):
            raise ValueError(
                f"parameter {name} of {where}: expected only scanners that the network has not seen, got "
                f"{values[name]!r} with source_scanner {source!r}; choose others, or another source"
            )
    for low in (name for name in values if name.endswith("_min")):
        high = f"{low.removesuffix('_min')}_max"
        if high in values and values[low] > values[high]:
            raise ValueError(
                f"parameters {low} and {high} of {where}: expected {low} to be no larger, got "
                f"{values[low]!r} and {values[high]!r}; change one of them"
            )


def checked(chapter: str, values: Mapping[str, object]) -> bool:
    """Check a running chapter's parameters, and print a note if they are not those of the book.

    Args:
        chapter: Name of the chapter's file without ending.
        values: The notebook's variables, `globals()`.

    Returns:
        Whether all parameters are as in the book; seed and profile may differ, since the text holds for all.

    Raises:
        ValueError: As `check`, or if a parameter is not defined.

    Example:
        >>> declared = read(notebook_source("90_which_eaurc"))
        >>> checked("90_which_eaurc", {name: p.default for name, p in declared.items()})
        True
    """
    global _note
    declared = read(notebook_source(chapter))
    missing = [name for name in declared if name not in values]
    if missing:
        raise ValueError(f"expected the parameter {missing[0]}, got none; run the parameters cell first")
    check(declared, {name: values[name] for name in declared}, where=chapter)
    differs = [
        f"{name} = {values[name]!r} (in the book: {p.default!r})"
        for name, p in declared.items()
        if name not in _ALWAYS_USUAL and p.literal and values[name] != p.default
    ]
    _note = f"Described as it is at the book's settings; here {', '.join(differs)}. " if differs else ""
    if differs:
        print(
            f"Other settings than the book's: {', '.join(differs)}. "
            "The text, the captions and the stored results speak of the book's settings."
        )
    return not differs


def alt_note() -> str:
    """What stands before a figure's text alternative: nothing, or that the settings are not the book's.

    Example:
        >>> alt_note()
        ''
    """
    return _note


def typed(
    declared: Mapping[str, Parameter], pairs: Iterable[tuple[str, str]], *, where: str
) -> dict[str, object]:
    """Values as typed on the command line, with the types that the notebook declares, and checked.

    Args:
        declared: What `read` returned.
        pairs: Name and text of each value.
        where: Name of the notebook, for messages.

    Raises:
        ValueError: If a name is unknown or comes twice, or a value is not allowed.

    Example:
        >>> typed({"seed": Parameter("seed", 0, "0")}, [("seed", "010")], where="chapter 1")
        {'seed': 10}
    """
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name in texts:
            raise ValueError(f"expected each parameter once, got {name} twice")
        texts[name] = text
    check(declared, {name: text for name, text in texts.items() if name not in declared}, where=where)
    values = {name: value_of(text, declared[name]) for name, text in texts.items()}
    check(declared, values, where=where)
    return values


def value_of(text: str, parameter: Parameter) -> object:
    """A value as typed on the command line, of the type of the parameter's default.

    Where the default is neither a number, a text nor true or false, the value is JSON, or else plain text.

    Args:
        text: What was typed.
        parameter: The parameter that it is for.

    Raises:
        ValueError: If the text is no such value.

    Example:
        >>> value_of("010", Parameter("seed", 0, "0")), value_of("1e-5", Parameter("budget", 0.1, "0.1"))
        (10, 1e-05)
    """
    kind = type(parameter.default) if parameter.literal else None
    plain = text.strip()
    if kind is str:
        return text
    if kind is int and len(plain) < 100 and re.fullmatch(r"[+-]?[0-9]+", plain):
        return int(plain)
    if kind is bool and plain.lower() in {"true", "false"}:
        return plain.lower() == "true"
    if kind is float and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", plain):
        return float(plain)
    if kind in TYPES:
        limits = "" if parameter.allowed == TYPES[kind] else f" ({parameter.allowed})"
        raise ValueError(f"parameter {parameter.name}: expected {TYPES[kind]}{limits}, got {text!r}")
    try:
        return json.loads(plain, parse_constant=str)
    except (ValueError, RecursionError):
        if plain.startswith(("[", "{")):
            raise ValueError(f"parameter {parameter.name}: expected JSON, got {text!r}") from None
        return text


def listing(declared: Mapping[str, Parameter], *, width: int = 110) -> str:
    """The parameters as aligned plain text: name, default, allowed values, meaning.

    Args:
        declared: What `read` returned.
        width: Number of characters per line.

    Example:
        >>> print(listing({"seed": Parameter("seed", 0, "0", "Seed of the random draw.", low=0)}))
          name  default  allowed     meaning
          seed  0        at least 0  Seed of the random draw.
    """
    rows = [("name", "default", "allowed", "meaning")]
    rows += [(p.name, p.source.replace("'", '"'), p.allowed, p.meaning) for p in declared.values()]
    ends = [max(len(row[k]) for row in rows) + 2 for k in range(3)]
    lines = []
    for row in rows:
        start = "  " + "".join(cell.ljust(end) for cell, end in zip(row, ends, strict=False))
        texts = textwrap.wrap(row[3], max(width - len(start), 30)) or [""]
        lines += [(start if k == 0 else " " * len(start)) + text for k, text in enumerate(texts)]
    return "\n".join(line.rstrip() for line in lines)
