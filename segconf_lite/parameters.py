"""Parameters of a chapter: checked before anything runs, listed, and reported where they are not the book's.

What may be changed is declared in the chapter itself, see `segconf_lite.declaration`.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from segconf_lite.declaration import TYPES, Parameter, notebook_source, read

__all__ = ["Parameter", "alt_note", "check", "checked", "listing", "notebook_source", "read", "value_of"]

# The text of a chapter holds for any seed and for both profiles, so these do not count as another setting.
_ALWAYS_USUAL = {"profile", "seed", "cases_out"}
_note = ""  # set by `checked`, read by `alt_note`: as a style sheet, it holds for all figures of a process


def check(
    declared: Mapping[str, Parameter], values: Mapping[str, Any], *, where: str = "the notebook"
) -> None:
    """Refuse unknown names, values of another type than the default or out of range, and contradictions.

    Args:
        declared: What `read` returned.
        values: Values by name; what is missing has its default.
        where: Name of the notebook, for the message.

    Raises:
        ValueError: Naming the parameter, what is allowed, and what came.
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
            raise ValueError(
                f"parameter {name} of {where} is {kind.__name__} (default {default!r}), "
                f"got {type(value).__name__} {value!r}; expected {parameter.allowed}"
            )
        if not parameter.allows(value):
            raise ValueError(
                f"parameter {name} of {where}: expected {parameter.allowed}, got {value!r}; "
                f"choose an allowed value (the default is {default!r})"
            )
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


def checked(chapter: str, values: Mapping[str, Any]) -> bool:
    """Check a running chapter's parameters, and say so if they are not those of the book.

    Args:
        chapter: Name of the chapter's file without ending.
        values: The notebook's variables, `globals()`.

    Returns:
        Whether all parameters are as in the book; seed and profile may differ, since the text holds for all.

    Raises:
        ValueError: As `check`, or if a parameter is not defined.
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
    """What stands before a figure's text alternative: nothing, or that the settings are not the book's."""
    return _note


def value_of(text: str, parameter: Parameter) -> Any:
    """A value as typed on the command line, of the type of the parameter's default.

    >>> value_of("010", Parameter("seed", 0, "0")), value_of("1e-5", Parameter("budget", 0.1, "0.1"))
    (10, 1e-05)

    Raises:
        ValueError: If the text is no such value.
    """
    kind = type(parameter.default) if parameter.literal else None
    if kind is str:
        return text
    if kind is int and re.fullmatch(r"[+-]?\d+", text.strip()):
        return int(text)
    if kind is bool and text.strip().lower() in {"true", "false"}:
        return text.strip().lower() == "true"
    if kind is float:
        try:
            return float(text)
        except ValueError:
            pass  # the message below says more
    if kind in TYPES:
        raise ValueError(
            f"parameter {parameter.name}: expected {TYPES[kind]} ({parameter.allowed}), got {text!r}"
        )
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"parameter {parameter.name}: expected a value in YAML, got {text!r}") from None


def listing(declared: Mapping[str, Parameter], *, width: int = 110) -> str:
    """The parameters as aligned plain text: name, default, allowed values, meaning."""
    rows = [("name", "default", "allowed", "meaning")]
    rows += [(p.name, p.source.replace("'", '"'), p.allowed, p.meaning) for p in declared.values()]
    ends = [max(len(row[k]) for row in rows) + 2 for k in range(3)]
    lines = []
    for row in rows:
        start = "  " + "".join(cell.ljust(end) for cell, end in zip(row, ends, strict=False))
        texts = textwrap.wrap(row[3], max(width - len(start), 30)) or [""]
        lines += [(start if k == 0 else " " * len(start)) + text for k, text in enumerate(texts)]
    return "\n".join(line.rstrip() for line in lines)
