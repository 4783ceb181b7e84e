"""The reference of the package: which public names a page documents, as directives for Sphinx.

The names of a room are those of its stub (``__init__.pyi``), and the mark of a page in ``book/api`` says the
room, or modules beside the rooms. Nothing is imported here: Sphinx does that.
"""

import ast
import functools
import re
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"(?<![`\[}])`([\w.]+)`(?!`)")  # not a role, not the text of a link
CLASS = ["   :members:", "   :inherited-members: Module, dict, tuple, Exception"]
MARK = re.compile(r"<!-- reference: ([\w ]+) -->")


def contents(listed: str) -> dict[str, list[str]]:
    """Module -> whole paths of its public names, for a room, or for modules listed with spaces between.

    What a room exports is documented as the room's: ``segconf_lite.evaluation.dice_per_case``.
    """
    room = f"segconf_lite.{listed}"
    stub = ROOT / room.replace(".", "/") / "__init__.pyi"
    if not stub.is_file():
        return {name: _public(f"segconf_lite.{name}") for name in listed.split()}
    found: dict[str, list[str]] = {}
    whole = []  # modules that are public as a whole
    for node in ast.parse(stub.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if node.module:
                found.setdefault(node.module, []).extend(_path(room, node.module, name) for name in names)
            else:
                whole += names
    for module in whole:
        shown = {path.rpartition(".")[2] for path in found.setdefault(module, [])}
        own = _public(f"{room}.{module}")
        found[module] += [path for path in own if path.rpartition(".")[2] not in shown]
    return dict(sorted(found.items()))


def with_reference(page: str) -> str:
    """A page of ``book/api`` with the reference in the place of its mark."""
    return MARK.sub(lambda mark: reference_markdown(mark[1]), page)


def linked(text: str) -> str:
    """Markdown in which the public names of rooms, written as code, lead to the reference."""
    paths = _rooms_paths()
    return CODE.sub(
        lambda name: f"{{py:obj}}`{name[1]} <{paths[name[1]]}>`" if name[1] in paths else name[0], text
    )


@functools.cache
def _rooms_paths() -> dict[str, str]:
    """What a chapter writes, ``case_table`` or ``phantom.cohort`` -> whole path."""
    rooms = [stub.parent.name for stub in (ROOT / "segconf_lite").glob("*/__init__.pyi")]
    paths = [path for room in rooms for listed in contents(room).values() for path in listed]
    return {path.split(".", 2)[2]: path for path in paths}


def reference_markdown(listed: str) -> str:
    """A table of the names, and a section per module with all of its public names."""
    modules = contents(listed)
    is_room = (ROOT / "segconf_lite" / listed).is_dir()
    room = f"segconf_lite.{listed}" if is_room else "segconf_lite"
    rows = [f"   {path.removeprefix(room + '.')}" for paths in modules.values() for path in paths]
    head = f".. {'automodule' if is_room else 'currentmodule'}:: {room}"
    parts = [_block([head, "", ".. autosummary::", "   :nosignatures:", "", *rows])]
    for module, paths in modules.items():
        lines = [f".. automodule:: {room}.{module}"]
        for path in paths:
            kind = _kind(path.rpartition(".")[2])
            lines += ["", f".. auto{kind}:: {path}", *CLASS * (kind == "class")]
        parts.append(f"## {module}\n\n{_block(lines)}")
    return "\n\n".join(parts)


def _public(module: str) -> list[str]:
    """Paths of a module's functions, classes and constants with a comment; what a package passes on."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = [name for owner, name in ModuleAnalyzer.for_file(str(path), module).find_attr_docs() if not owner]
    found = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom) and path.stem == "__init__":
            found += [_path(module, str(node.module).rpartition(".")[2], alias.name) for alias in node.names]
    return found + [f"{module}.{name}" for name in names if not name.startswith("_")]


def _path(package: str, module: str, name: str) -> str:
    """A constant is found by Sphinx where it is defined only."""
    return f"{package}.{module}.{name}" if _kind(name) == "data" else f"{package}.{name}"


def _kind(name: str) -> str:
    return "data" if name.isupper() else "class" if name[0].isupper() else "function"


def _block(lines: list[str]) -> str:
    return "\n".join(["```{eval-rst}", *lines, "```"])
