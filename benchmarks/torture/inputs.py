"""Wrong and unusual arguments for every public function, made from the calls in its docstring examples.

    python benchmarks/torture/inputs.py --n 100000    # hours; --room evaluation --n 2000 for a short one

The examples of the docstrings are run, and the arguments with which they call a function of the package are
kept. Then one argument at a time is replaced by something else (`replacements`), of one of three kinds. A
*wrong* value (text for a number, NaN in an image, a masked array, an object of another class) must be
refused. An *equal* value (the same numbers in another memory order, byte order, precision, as a list, as a
tensor with gradient) must give the result of the example, which is the oracle, or be refused. An *odd*
value (huge, negative, empty) may do either. A refusal is clear if it is a ValueError or a TypeError, raised
by the package, and names the argument. Counted as failures are: silent (a wrong value is accepted, an equal
one gives another result, or an argument is changed), unclear (the message does not name the argument), bare
(an error of another class, or of numpy, torch or pandas), and slow (more than ten seconds). Not tried: what
runs programs, downloads or opens notebooks (`OUTSIDE`).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import dataclasses
import doctest
import functools
import importlib
import inspect
import io
import os
import random
import re
import signal
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from common import ROOT, Counts, home
from torch import Tensor

from segconf_lite.arrays import to_numpy

PACKAGE = ROOT / "segconf_lite"
ROOMS = ("cohorts", "models", "stress", "confidence", "fragility", "evaluation", "claims", "reports", "show")
OUTSIDE = {
    "download",
    "published",
    "retina",
    "lidc",
    "gm_challenge",
    "recheck",
    "store",
    "cuda_graph",
    "widgets",
}
SECONDS = 10


class Call(NamedTuple):
    """A call of an example."""

    name: str  # module:qualified name
    arguments: dict[str, Any]


def function_of(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))


def calls_of(module: str) -> list[Call]:
    """The calls of public functions and methods that the examples of a module make."""
    found: dict[str, list[Call]] = {}

    def watch(frame: FrameType, event: str, _: object) -> None:
        back, name = frame.f_back, frame.f_globals.get("__name__", "")
        if event != "call" or back is None or not back.f_code.co_filename.startswith("<doctest"):
            return
        path = frame.f_code.co_qualname
        public = all(not part.startswith("_") or part in ("__init__", "__call__") for part in path.split("."))
        if not (public and name.startswith("segconf_lite.") and "<" not in path):
            return
        room = importlib.import_module(".".join(name.split(".")[:2]))
        shown = set(getattr(room, "__all__", ()))  # names of the room, or whole modules of it
        if len(name.split(".")) > 3 and path.split(".")[0] not in dir(sys.modules[name.rpartition(".")[0]]):
            return  # of a part of the room that shows other names only
        if not shown & {path.split(".")[0], name.rpartition(".")[2]} and not (
            shown & set(name.split(".")[2:])
        ):
            return
        full = f"{name}:{path}"
        if len(found.setdefault(full, [])) < 2:
            with contextlib.suppress(Exception):
                values = {k: v for k, v in frame.f_locals.items() if k != "__class__"}
                if path.endswith("__init__"):
                    values.pop("self")
                found[full].append(Call(full, copy.deepcopy(values)))

    before = sys.getprofile()
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = importlib.import_module(module)
        sys.setprofile(watch)
        try:
            doctest.testmod(loaded, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        finally:
            sys.setprofile(before)
    return [call for calls in found.values() for call in calls if call.arguments.keys() <= parameters(call)]


def parameters(call: Call) -> set[str]:
    """Names of the arguments; of a decorated function they are not those that the frame has."""
    with contextlib.suppress(Exception):
        return set(inspect.signature(function_of(call.name)).parameters)
    return set()


def perform(call: Call, arguments: dict[str, Any]) -> Any:
    """The result of a call, within the time limit."""
    path = call.name.removesuffix(".__init__")
    act = function_of(path)
    names = inspect.signature(function_of(call.name)).parameters
    bound = inspect.BoundArguments(
        inspect.Signature([p for p in names.values() if p.name in arguments]),
        collections.OrderedDict(arguments),
    )
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            result = act(*bound.args, **bound.kwargs)
            return list(result) if isinstance(result, Iterator) else result
    finally:
        signal.alarm(0)


# -- replacements -------------------------------------------------------------------------------------------


def replacements(value: Any, rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """Kind (wrong, equal, odd), description, and what replaces the value."""
    if isinstance(value, bool):
        yield from _all(
            "wrong", {"text for a flag": "no", "None for a flag": None, "a list for a flag": [value]}
        )
    elif isinstance(value, int | float | np.generic):
        yield from numbers(value)
    elif isinstance(value, np.ndarray | Tensor):
        yield from arrays(value, rng)
    elif isinstance(value, str):
        wrong = {
            "a number for text": 3,
            "bytes for text": b"a",
            "None for text": None,
            "a list for text": [3],
        }
        yield from _all("wrong", wrong)
        yield from _all(
            "odd", {"another text": "no such", "no text": "", "NUL": "a\0b", "markup": "<script>"}
        )
    elif isinstance(value, list | tuple | dict | pd.Series | pd.DataFrame) and not hasattr(value, "_fields"):
        yield from collections_of(value)
    elif value is not None:
        wrong = {"text": "text", "a number": 3, "None": None, "another object": object(), "a list": [value]}
        yield from _all("wrong", {f"{what} for an object": other for what, other in wrong.items()})


def _all(kind: str, values: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    yield from ((kind, what, value) for what, value in values.items())


def numbers(value: Any) -> Iterator[tuple[str, str, Any]]:
    wrong = {
        "NaN": float("nan"),
        "text": "1",
        "complex": 1 + 1j,
        "a pair": [value, value],
        "an object": object(),
    }
    wrong |= {"an array": np.array([value, value]), "None": None, "a date": np.datetime64("2026-01-01")}
    if isinstance(value, int | np.integer):
        wrong |= {"a fraction": value + 0.5, "a flag": True}
    yield from _all("wrong", {f"{what} for a number": other for what, other in wrong.items()})
    kind = np.int64 if isinstance(value, int | np.integer) else np.float64
    equal = {"a number of numpy": kind(value), "an array without axes": np.array(value)}
    yield from _all("equal", {**equal, "a tensor without axes": torch.tensor(value, dtype=torch.float64)})
    odd = {
        "infinity": float("inf"),
        "-1": -1,
        "0": 0,
        "huge": 10**30,
        "tiny": 1e-300,
        "-infinity": -float("inf"),
    }
    yield from _all("odd", odd)


def arrays(value: Any, rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    plain = to_numpy(value) if isinstance(value, Tensor) and value.dtype != torch.bfloat16 else value
    if not isinstance(plain, np.ndarray):
        return
    form = (
        (lambda a: torch.from_numpy(np.ascontiguousarray(a))) if isinstance(value, Tensor) else (lambda a: a)
    )
    wrong: dict[str, Any] = {
        "text": "text",
        "a number": 3.0,
        "an object": object(),
        "a dictionary": {0: value},
    }
    wrong |= {"a set": {1, 2}, "None": None, "no axes": form(np.array(1.0))}
    if plain.dtype.kind in "biuf" and plain.size:
        place = np.unravel_index(rng.randrange(plain.size), plain.shape)
        real = plain.astype(plain.dtype if plain.dtype.kind == "f" else np.float64)
        for what, bad in (("NaN", np.nan), ("infinity", np.inf)):
            real = real.copy()
            real[place] = bad
            wrong[what] = form(real)
        wrong |= {"complex": form(plain.astype(complex)), "text in it": plain.astype(str)}
        wrong |= {"masked": np.ma.masked_array(plain, mask=rng.random() < 0.5)}
        wrong |= {"objects in it": np.array([object()] * 2), "dates": plain.astype("datetime64[s]")}
        wrong |= {"sparse": torch.from_numpy(plain.astype(np.float64)).to_sparse()}
        wrong |= {"without content": torch.empty(plain.shape, device="meta")}
        swapped = plain.astype(plain.dtype.newbyteorder(">"))
        strided = np.repeat(plain, 2, axis=0)[::2] if plain.ndim else plain
        frozen = plain.copy()
        frozen.flags.writeable = False
        equal = {"another memory order": form(np.asfortranarray(plain)) if plain.ndim else value}
        equal |= {
            "another byte order": swapped,
            "strides": strided,
            "read-only": frozen,
            "a list": plain.tolist(),
        }
        equal |= {"double precision": form(plain.astype(np.float64)) if plain.dtype.kind == "f" else value}
        if plain.dtype.kind == "f":
            equal["a tensor with gradient"] = torch.from_numpy(plain.copy()).requires_grad_()
        equal |= {"a tensor": torch.from_numpy(plain.copy()) if plain.dtype.kind in "bif" else value}
        yield from _all("equal", {f"{what} for an array": other for what, other in equal.items()})
        huge = plain.astype(np.float64) * 1e30 if plain.dtype.kind == "f" else plain
        odd = {
            "nothing": form(plain[:0]),
            "one more axis": form(plain[None]),
            "one row less": form(plain[:-1]),
        }
        odd |= {"huge": form(huge), "negative": form(-real * 0 - 1) if plain.dtype.kind == "f" else value}
        odd |= {"constant": form(np.full_like(plain, 1)), "booleans": form(plain > 0)}
        odd |= {"half precision": torch.from_numpy(plain.astype(np.float32)).bfloat16()}
        yield from _all("odd", {f"{what} for an array": other for what, other in odd.items()})
    yield from _all("wrong", {f"{what} for an array": other for what, other in wrong.items()})


def collections_of(value: Any) -> Iterator[tuple[str, str, Any]]:
    wrong = {"a number": 3, "None": None, "an object": object()}
    yield from _all("wrong", {f"{what} for a collection": other for what, other in wrong.items()})
    odd: dict[str, Any] = {"text": "text", "nothing": type(value)(), "a set": {1, 2}}
    if isinstance(value, list | tuple) and value:
        odd |= {
            "None in it": [*value[:-1], None],
            "NaN in it": [*value[:-1], float("nan")],
            "longer": [*value, value[0]],
        }
    if isinstance(value, dict):
        odd |= {"a list": list(value), "None in it": {**value, "x": None}}
    if isinstance(value, pd.DataFrame) and len(value):
        odd |= {
            "a column less": value.iloc[:, 1:],
            "no rows": value.iloc[:0],
            "a column twice": value[[*value, value.columns[0]]],
        }
    yield from _all("odd", {f"{what} for a collection": other for what, other in odd.items()})


# -- judging ------------------------------------------------------------------------------------------------


def same(first: Any, second: Any) -> bool:
    """Whether two results are equal up to rounding."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        first, second = (to_numpy(x.float()) if isinstance(x, Tensor) else x for x in (first, second))
    if isinstance(first, np.ndarray | np.generic | float) and not isinstance(first, np.str_):
        with contextlib.suppress(Exception):
            one, other = np.asarray(first), np.asarray(second)
            if one.dtype.kind in "biufc":
                return one.shape == other.shape and np.allclose(
                    one, other, rtol=1e-3, atol=1e-5, equal_nan=True
                )
            return one.shape == other.shape and bool((one == other).all())
    if isinstance(first, pd.DataFrame | pd.Series):
        with contextlib.suppress(AssertionError):
            check = (
                pd.testing.assert_frame_equal
                if isinstance(first, pd.DataFrame)
                else pd.testing.assert_series_equal
            )
            check(first, second, check_dtype=False, rtol=1e-3)
            return True
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.nn.Module):
        return same(dict(first.state_dict()), dict(second.state_dict()))
    if dataclasses.is_dataclass(first) and type(first) is type(second):
        return same(vars(first), vars(second))
    own_form = isinstance(first, types.FunctionType | types.BuiltinFunctionType | functools.partial | type)
    if hasattr(first, "__dict__") and type(first) is type(second) and not own_form:
        return True  # an object without a form of its own; what it does is another call
    return bool(first == second)


def allows(call: Call, name: str, what: str) -> bool:
    """Whether the annotation or the documentation of an argument allows what is otherwise wrong."""
    act = function_of(call.name)
    parameter = inspect.signature(act).parameters[name]
    annotation = str(parameter.annotation)
    with contextlib.suppress(Exception):  # a name of several types, such as Sides, tells which they are
        annotation += f" | {eval(annotation, vars(sys.modules[call.name.partition(':')[0]]))}"
    owner = function_of(call.name.rpartition(".")[0]) if call.name.endswith(("__init__", "__call__")) else act
    text = f"{inspect.getdoc(act) or ''}\n{inspect.getdoc(owner) or ''}"
    found = re.search(rf"^ *\**{name}: .*?(?=^ *\**\w+: |^\w+:$|\Z)", text, re.M | re.S)
    about = found[0].lower() if found else ""
    if what.startswith("None") and ("None" in annotation or parameter.default is None):
        return True
    if any(w in annotation for w in ("object", "Any", "ArrayLike")) or annotation == "inspect._empty":
        return True
    words = {
        "NaN": ("nan", "missing", "of any type"),
        "infinity": ("infinit", "infinite", "of any type"),
        "complex": ("of any type",),
        "a flag": ("bool",),
    }
    if what.startswith("a flag for a number") and "bool" in annotation:
        return True
    if what.startswith("a fraction") and "float" in annotation:
        return True
    if what.startswith("a number for a collection") and re.search(r"\b(int|float)\b", annotation):
        return True
    listed = any(w in annotation for w in ("Sequence", "Iterable", "list", "tuple", "ndarray"))
    if what.startswith(
        ("a pair", "an array", "a list", "text for an array", "a set", "a number for text")
    ) and (listed or "float | " in annotation or "| float" in annotation):
        return True
    if "str" in annotation and what.startswith(("text", "bytes")):
        return True
    # Such as the key of an output or its index, `str | int` in `segconf_lite.models.adapt`.
    if what.startswith("a number for text") and re.search(r"\bint\b", annotation):
        return True
    return any(
        what.startswith(key) and any(w in about for w in found_words) for key, found_words in words.items()
    )


def judged(call: Call, name: str, kind: str, what: str, value: Any, expected: Any) -> str | None:
    """The failure, or None."""
    try:
        arguments = copy.deepcopy(call.arguments)
        arguments[name] = value
        kept = value.copy() if type(value) is np.ndarray and value.dtype.kind in "biuf" else None
    except Exception:
        return None
    try:
        found = perform(call, arguments)
    except TimeoutError:
        return "slow"
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not str(last.filename).startswith(str(PACKAGE)):
            return f"bare: {type(error).__name__} from {Path(last.filename).parent.name}: {str(error)[:90]}"
        names = [*call.arguments, *(("network",) if {"unet", "model"} & call.arguments.keys() else ())]
        stems = [other.rstrip("s").replace("_", "[ _]?") for other in names]  # two may not fit
        clear = any(re.search(rf"\b{stem}", str(error), re.I) for stem in stems)
        return None if clear else f"unclear: {str(error)[:120]}"
    except FileNotFoundError:
        return None
    except Exception as error:
        # What a function of the example raises (a statistic that asks the table for a column that is gone)
        # is the caller's own error, and reaches him as it is.
        if any(frame.filename.startswith("<doctest") for frame in traceback.extract_tb(error.__traceback__)):
            return None
        ours = type(error).__module__.startswith("segconf_lite")
        clear = ours or re.search(name.rstrip("s"), str(error))
        return None if clear else f"bare: {type(error).__name__}: {str(error)[:90]}"
    if kept is not None and not np.array_equal(kept, arguments[name], equal_nan=True):
        return "silent: the argument is changed"
    if kind == "wrong" and not allows(call, name, what):
        return f"silent: {what} is accepted: {str(found)[:60]!r}"
    if kind == "equal" and not same(expected, found):
        return f"silent: {what} gives another result"
    return None


def tried(
    calls: list[Call], n: int, rng: random.Random, counts: Counts, minutes: float = float("inf")
) -> None:
    """Try all replacements of all calls, or a random sample of n, until the time is over."""
    attempts: list[tuple[Call, str, str, str, Any, Any]] = []
    for call in calls:
        try:
            expected = perform(call, copy.deepcopy(call.arguments))
        except BaseException:
            continue  # its files are gone, or it needs what no copy has
        if not same(expected, expected):
            continue
        for name, value in call.arguments.items():
            if name in ("self", "cls", "progress", "device"):
                continue
            kind = inspect.signature(function_of(call.name)).parameters[name].kind
            if kind == inspect.Parameter.VAR_POSITIONAL and value:
                new = ((k, w, (other, *value[1:])) for k, w, other in replacements(value[0], rng))
            elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                continue
            else:
                new = replacements(value, rng)
            attempts += [(call, name, *replacement, expected) for replacement in new]
    print(f"{len({call.name for call in calls})} functions, {len(attempts)} replacements", flush=True)
    chosen = rng.sample(attempts, min(n, len(attempts)))
    start = time.monotonic()
    for call, name, kind, what, value, expected in chosen:
        if time.monotonic() - start > 60 * minutes:
            break
        failure = judged(call, name, kind, what, value, expected)
        room = call.name.split(".")[1].partition(":")[0]
        if failure is not None:
            failure = f"{failure.partition(':')[0]}: {call.name}({name}={what}): {failure}"
        counts.add(f"arguments, {room}", failure)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Calls may take ten seconds, warnings are not shown, and files go to a folder that is removed."""

    def over(*_: object) -> None:
        raise TimeoutError

    before, here = signal.signal(signal.SIGALRM, over), Path.cwd()
    try:
        with home() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.chdir(folder)
            yield
            os.chdir(here)
    finally:
        os.chdir(here)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000, help="number of arguments per room, at most")
    parser.add_argument("--minutes", type=float, default=1e9, help="of all rooms together")
    parser.add_argument("--room", choices=ROOMS, action="append", help="only this room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="write the counts to book/results/torture.csv")
    parser.add_argument("--rounds", type=int, default=1, help="number of seeds, one after the other")
    chosen = parser.parse_args()
    end = time.monotonic() + 60 * chosen.minutes
    counts = Counts("inputs", chosen.seed)  # examples of one room call functions of others, too
    with limited():
        for seed in range(chosen.seed, chosen.seed + chosen.rounds):
            for room in chosen.room or ROOMS:
                paths = sorted((PACKAGE / room).rglob("*.py"))
                names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths]
                modules = [
                    n
                    for n in names
                    if not n.rpartition(".")[2].startswith("_") and n.rpartition(".")[2] not in OUTSIDE
                ]
                calls = [call for module in modules for call in calls_of(module)]
                tried(calls, chosen.n, random.Random(seed), counts, (end - time.monotonic()) / 60)
    raise SystemExit(counts.report(store=chosen.store) > 0)


if __name__ == "__main__":
    main()
