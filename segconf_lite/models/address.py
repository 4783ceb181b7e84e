"""The address of a training in the store: what was asked, and the code that answers.

A call such as ``fit_unet(cohort, steps=200)`` is described completely by its arguments and by the code that
it runs. The address is a hash of both. Nobody writes it by hand, so that no edit can return an old network.
Comments and docstrings of the package do not count.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import io
import json
import math
import sys
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.splice import weights_fingerprint

PACKAGE = __name__.partition(".")[0]
SILENT = ("progress", "device")  # arguments that do not decide what is learned


def address(fit: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 over a function's code and its arguments.

    What enters: cohorts by their content; networks by class, configuration and weights; dataclasses by class
    and fields; arrays and tensors by their values; functions and classes by their code, which for the package
    is their module with all modules of the package that it imports, and for a notebook their own lines with
    everything that these lines name; numbers, texts, and lists or dictionaries of all these.

    Args:
        fit: A function of the package or of a notebook.
        arguments: Values by the name of the parameter; `progress` and `device` do not count.

    Returns:
        The address, equal in every process and on every machine with the same code.

    Raises:
        ValueError: If an argument is of a kind whose content cannot be read, such as a generator.

    Example:
        >>> address(address, {"fit": 1}) == address(address, {"fit": 1, "device": "cpu"})
        True
    """
    content = {name: _token(value, name, ()) for name, value in arguments.items() if name not in SILENT}
    text = json.dumps([_token(fit, "fit", ()), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_text(source: str) -> str:
    r"""Python source without comments, docstrings and blank lines.

    Example:
        >>> code_text("def f(x):  # a comment\n    'What it does.'\n\n    return x")
        'def f(x):\n    return x'
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            text = node.body[0]
            first, last = text.lineno, int(text.end_lineno or text.lineno)
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _token(value: Any, where: str, inside: tuple[int, ...]) -> Any:
    """Something that JSON can spell in one way. `inside` are the objects that are being described."""
    if id(value) in inside:
        return "itself"
    deeper = (*inside, id(value))
    within = lambda part, name: _token(part, f"{where}.{name}", deeper)  # noqa: E731
    match value:
        case None | bool() | int() | str():
            return value
        case np.generic():
            return within(value.item(), "value")
        case float() if math.isfinite(value):
            return ["float", value.hex()]
        case float():
            return ["float", str(value)]
        case Cohort():
            return ["cohort", value.fingerprint()]
        case nn.Module():
            config = within(getattr(value, "config", None), "config")
            return ["network", _token(type(value), where, deeper), config, weights_fingerprint(value)]
        case Tensor() | np.ndarray():
            array = to_numpy(value)
            return [
                "array",
                str(array.dtype),
                list(array.shape),
                _hash(np.ascontiguousarray(array).tobytes()),
            ]
        case Mapping():
            return ["dict", {str(k): [type(k).__name__, within(v, str(k))] for k, v in value.items()}]
        case list() | tuple():
            return [within(part, str(index)) for index, part in enumerate(value)]
        case set() | frozenset():
            return ["set", sorted(json.dumps(within(part, "")) for part in value)]
        case range() | Path() | torch.dtype() | torch.device() | torch.Size():
            return [type(value).__name__, str(value)]
        case functools.partial():
            return ["partial", *(within(part, "of") for part in (value.func, value.args, value.keywords))]
        case MethodType():
            return ["method", value.__name__, within(value.__self__, "self")]
        case FunctionType():
            return _function(value, where, deeper)
        case type():
            return _class(value, where, deeper)
        case _ if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return ["object", _token(type(value), where, deeper), within(fields, "fields")]
        case _ if callable(value) and _is_ours(type(value).__module__) and hasattr(value, "__dict__"):
            return ["object", _token(type(value), where, deeper), within(vars(value), "fields")]
        case _ if callable(value) and not _is_ours(getattr(value, "__module__", None) or ""):
            return ["library", f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"]
    raise check.refuse(
        where,
        "something whose content can be read: a cohort, network, dataclass, function, array, number or text",
        f"{type(value).__name__}",
        "pass such a value, or make it inside the function",
    )


def _function(function: FunctionType, where: str, inside: tuple[int, ...]) -> Any:
    within = lambda part, name: _token(part, f"{where}.{name}", inside)  # noqa: E731
    cells = [within(cell.cell_contents, "closure") for cell in function.__closure__ or ()]
    defaults = [within(function.__defaults__, "defaults"), within(function.__kwdefaults__, "defaults")]
    if not _is_ours(function.__module__):
        return ["library", f"{function.__module__}.{function.__qualname__}"]
    if function.__module__.startswith(f"{PACKAGE}."):
        return ["package", function.__qualname__, _package_code(function.__module__), cells, defaults]
    names = _names_in(function.__code__)
    used = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    tokens = {name: _global(value, where, name, names, inside) for name, value in used.items()}
    return ["own", _own_lines(function), tokens, cells, defaults]


def _class(kind: type, where: str, inside: tuple[int, ...]) -> Any:
    if kind.__module__.startswith(f"{PACKAGE}."):
        return ["package", kind.__qualname__, _package_code(kind.__module__)]
    if not _is_ours(kind.__module__):
        return ["library", f"{kind.__module__}.{kind.__qualname__}"]
    parts = {name: part for name, part in vars(kind).items() if isinstance(part, FunctionType)}
    methods = {name: _function(part, f"{where}.{name}", inside) for name, part in parts.items()}
    return ["own", _own_lines(kind), methods, [_token(base, where, inside) for base in kind.__bases__]]


def _global(value: Any, where: str, name: str, names: set[str], inside: tuple[int, ...]) -> Any:
    """A global name that a function of a notebook uses; of a module of the package, what is taken from it."""
    if not isinstance(value, ModuleType):
        return _token(value, f"{where} -> {name}", inside)
    if value.__name__.partition(".")[0] != PACKAGE:
        return ["module", value.__name__]
    taken = {part: getattr(value, part) for part in sorted(names) if hasattr(value, part)}
    return {part: _global(found, where, part, names, inside) for part, found in taken.items()}


def _names_in(code: CodeType) -> set[str]:
    """Global names and attributes that a function uses, those of functions inside it, too."""
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*(_names_in(part) for part in inner))


def _own_lines(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):  # typed into a console that keeps no lines
        code = getattr(thing, "__code__", None)
        return _hash(code.co_code + repr(code.co_consts).encode()) if code else thing.__qualname__


def _is_ours(module: str) -> bool:
    """Whether a module is of the package or of the user, and not of an installed library."""
    if module.partition(".")[0] == PACKAGE or module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return (
        file is not None
        and not {"site-packages", "dist-packages"} & set(Path(file).parts)
        and (not Path(file).is_relative_to(Path(json.__file__).parents[1]))
    )


@functools.cache
def _package_code(module: str) -> str:
    """SHA-256 over a module of the package and all that it imports from the package, directly or not."""
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        spec = importlib.util.find_spec(name)
        source = Path(str(spec.origin)).read_text(encoding="utf-8") if spec else ""
        seen[name] = code_text(source)
        waiting += _imports_of(source)
    return _hash("\n".join(f"{name}\n{seen[name]}" for name in sorted(seen)).encode())


def _imports_of(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] == PACKAGE]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            found += [_home_of(str(node.module), alias.name) for alias in node.names]
    return found


def _home_of(module: str, name: str) -> str:
    """The module that ``from module import name`` reads: a room hands names on from its modules."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return module
    if importlib.util.find_spec(f"{module}.{name}"):
        return f"{module}.{name}"
    home = getattr(getattr(importlib.import_module(module), name), "__module__", module)
    return home if home.partition(".")[0] == PACKAGE else module


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
