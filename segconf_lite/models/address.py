"""The address of a training in the store: what was asked, and the code that answers.

A call such as ``fit_unet(cohort, steps=200)`` is described completely by its arguments and by the code that
it runs. The address is a hash of both. Nobody writes it by hand, so that no edit can return an old network.
Comments and docstrings of the package do not count.
"""

from __future__ import annotations

import ast
import dataclasses
import dis
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

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.splice import weights_fingerprint

PACKAGE = __name__.partition(".")[0]
SILENT = ("progress", "device")  # arguments that do not decide what is learned
READS_A_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
NOT_OF_A_NETWORK = ("training", "history", "made")  # attributes that do not decide what it computes


def address(fit: Callable[..., object], arguments: Mapping[str, object]) -> str:
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
    return _hash(json.dumps([_token(fit, "fit", ()), content], sort_keys=True).encode())[:16]


def near_address(fit: Callable[..., object], arguments: Mapping[str, object]) -> tuple[str, list[float]]:
    """The address but for the intensities of the cohorts, and one number per image that stands for them.

    Two processors simulate the same images with other last digits, and no hash can bear that. The numbers are
    sums of all intensities of an image with random signs, over the root of their count: where they agree
    within a tolerance, no pixel differs by more than the tolerance times the root of that count, unless
    differences cancel.

    Args:
        fit: As of `address`.
        arguments: As of `address`.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> where, numbers = near_address(address, {"cohort": phantom.cohort(3, size=16)})
        >>> len(numbers)
        3
    """
    cohorts = {name: value for name, value in arguments.items() if isinstance(value, Cohort)}
    blank = {n: dataclasses.replace(c, images=np.zeros_like(c.images)) for n, c in cohorts.items()}
    numbers = []
    for cohort in cohorts.values():
        size = cohort.images[0].size
        signs = np.random.default_rng(0).integers(0, 2, size) * 2.0 - 1
        numbers += [float(image.ravel() @ signs) / math.sqrt(size) for image in cohort.images]
    return address(fit, {**arguments, **blank}), numbers


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
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            first, last = node.body[0].lineno, int(node.body[0].end_lineno or 0)
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _token(value: object, where: str, inside: tuple[int, ...]) -> object:
    """Something that JSON can spell in one way. `inside` are the objects that are being described."""
    if id(value) in inside:
        return "itself"
    deeper = (*inside, id(value))
    for describe in (_plain, _content, _behaviour):
        token = describe(value, where, deeper)
        if token is not None:
            return token
    kinds = "a cohort, network, dataclass, function, array, number or text"
    fix = "pass such a value, or make it inside the function"
    raise check.refuse(where, f"something whose content can be read: {kinds}", type(value).__name__, fix)


def _plain(value: object, where: str, inside: tuple[int, ...]) -> object:
    """Numbers, texts and names; None for anything else."""
    match value:
        case None:
            return ["nothing"]
        case bool() | int() | str():
            return value
        case np.generic():
            return _token(value.item(), where, inside)
        case float():
            return ["float", value.hex() if math.isfinite(value) else str(value)]
        case range() | slice() | bytes() | Path() | torch.dtype() | torch.device() | torch.Size():
            return [type(value).__name__, str(value)]
        case ModuleType():
            return ["module", value.__name__]
    return None


def _content(value: object, where: str, inside: tuple[int, ...]) -> object:
    """Cohorts, networks, arrays and containers; None for anything else."""
    within = lambda part, name: _token(part, f"{where}.{name}", inside)  # noqa: E731
    match value:
        case Cohort():
            return ["cohort", value.fingerprint()]
        case nn.Module():
            return _network(value, where, inside)
        case np.ndarray() if value.dtype.kind == "O":
            return ["array of objects", list(value.shape), within(value.ravel().tolist(), "items")]
        case Tensor() | np.ndarray():
            array = to_numpy(value)
            return ["array", str(array.dtype), list(array.shape), _hash(array.tobytes())]
        case Mapping():
            return ["dict", *([within(k, "key"), within(v, str(k))] for k, v in value.items())]  # in order
        case list() | tuple():
            return ["list", *(within(part, str(index)) for index, part in enumerate(value))]
        case set() | frozenset():
            return ["set", sorted(json.dumps(within(part, "item")) for part in value)]
    return None


def _behaviour(value: object, where: str, inside: tuple[int, ...]) -> object:
    """Functions, classes and objects that can be called; None for anything else."""
    within = lambda part, name: _token(part, f"{where}.{name}", inside)  # noqa: E731
    match value:
        case functools.partial():
            keywords = dict(sorted(value.keywords.items()))
            return ["partial", *(within(part, "of") for part in (value.func, value.args, keywords))]
        case MethodType():
            return ["method", value.__name__, within(value.__self__, "self")]
        case FunctionType() | type() if not _is_ours(value.__module__):
            return ["library", f"{value.__module__}.{value.__qualname__}"]
        case FunctionType():
            return _function(value, where, inside)
        case type():
            return _class(value, where, inside)
    fields = getattr(value, "__dict__", None) if callable(value) else None
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if fields is not None:
        return ["object", within(type(value), "class"), within(fields, "fields")]
    if callable(value) and hasattr(value, "__qualname__"):
        owner = getattr(value, "__self__", None)  # {1: 2}.get is another function than {1: 3}.get
        return ["library", str(value.__module__), value.__qualname__, within(owner, "self")]
    return None


def _network(network: nn.Module, where: str, inside: tuple[int, ...]) -> object:
    """Weights, and of each module its class, its plain attributes and what is frozen."""
    modules = []
    for name, module in network.named_modules():
        kept = (
            key for key in sorted(vars(module)) if not key.startswith("_") and key not in NOT_OF_A_NETWORK
        )
        plain = {key: value for key in kept if _is_plain(value := getattr(module, key))}
        tokens = {key: _token(value, f"{where}.{name}.{key}", inside) for key, value in plain.items()}
        if isinstance(module, torch.jit.ScriptModule):  # one class for all of them
            tokens["code"] = getattr(module, "code", "")
        modules.append([name, _token(type(module), where, inside), tokens])
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    return ["network", modules, frozen, weights_fingerprint(network)]


def _is_plain(value: object) -> bool:
    """Numbers, texts, and containers of them, which a network's `forward` may read."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value.keys(), *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _function(function: FunctionType, where: str, inside: tuple[int, ...]) -> object:
    within = lambda part, name: _token(part, f"{where}.{name}", inside)  # noqa: E731
    cells = [within(cell.cell_contents, "closure") for cell in function.__closure__ or ()]
    defaults = [within(function.__defaults__, "defaults"), within(function.__kwdefaults__, "defaults")]
    if function.__module__.startswith(f"{PACKAGE}."):
        return ["package", function.__qualname__, _package_code(function.__module__), cells, defaults]
    codes = _codes(function.__code__)
    names = {name for code in codes for name in code.co_names}  # attributes, too
    reads = (i for code in codes for i in dis.get_instructions(code) if i.opname in READS_A_GLOBAL)
    used = sorted({i.argval for i in reads} & set(function.__globals__))
    tokens = {name: _global(function.__globals__[name], where, name, names, inside) for name in used}
    return ["own", _own_lines(function), tokens, cells, defaults]


def _class(kind: type, where: str, inside: tuple[int, ...]) -> object:
    if kind.__module__.startswith(f"{PACKAGE}."):
        return ["package", kind.__qualname__, _package_code(kind.__module__)]
    body = {}
    for name, part in sorted(
        vars(kind).items()
    ):  # of a static method, class method or property, the function
        part = getattr(part, "__func__", None) or (part.fget if isinstance(part, property) else part)
        if isinstance(part, FunctionType) or not name.startswith("__"):
            body[name] = _token(part, f"{where}.{name}", inside)
    return ["own", kind.__qualname__, body, [_token(base, where, inside) for base in kind.__bases__]]


def _global(value: object, where: str, name: str, names: set[str], inside: tuple[int, ...]) -> object:
    """A global name that a function of a notebook uses; of a module that is ours, what is taken from it."""
    if not isinstance(value, ModuleType):
        return _token(value, f"{where} -> {name}", inside)
    if id(value) in inside or not _is_ours(value.__name__):
        return ["module", value.__name__]
    taken = {part: getattr(value, part) for part in sorted(names) if hasattr(value, part)}
    return {part: _global(found, where, part, names, (*inside, id(value))) for part, found in taken.items()}


def _codes(code: CodeType) -> list[CodeType]:
    """The code of a function and of all functions inside it."""
    return [code, *(c for part in code.co_consts if isinstance(part, CodeType) for c in _codes(part))]


def _own_lines(function: FunctionType) -> str:
    """A function's lines. A lambda has its code besides: two of them may stand on one line."""
    code = function.__code__
    try:
        lines = inspect.getsource(code)  # of the code: a decorator's wrapper has lines of its own
    except (OSError, TypeError):  # typed into a console that keeps no lines
        lines = ""
    return lines + (_code_hash(code) if not lines or function.__name__ == "<lambda>" else "")


def _code_hash(code: CodeType) -> str:
    constants = [_code_hash(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return _hash(repr([code.co_code, code.co_names, code.co_varnames, constants]).encode())


def _is_ours(module: str) -> bool:
    """Whether a module is of the package or of the user, and not of an installed library."""
    if module.partition(".")[0] == PACKAGE or module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or {"site-packages", "dist-packages"} & set(Path(file).parts):
        return False
    return not Path(file).is_relative_to(Path(json.__file__).parents[1])  # Python's own


@functools.cache
def _package_code(module: str) -> str:
    """SHA-256 over a module of the package and all that it imports from the package, directly or not."""
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            spec = importlib.util.find_spec(name)
            source = Path(str(spec.origin)).read_text(encoding="utf-8") if spec else ""
            seen[name] = code_text(source)
            waiting += _imports_of(source)
    return _hash("\n".join(f"{name}\n{seen[name]}" for name in sorted(seen)).encode())


def _imports_of(source: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            found += [_home_of(str(node.module), alias.name) for alias in node.names]
    return [name for name in found if name.partition(".")[0] == PACKAGE]


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
