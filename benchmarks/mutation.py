"""Mutation testing of a room: small faults are put into its code, and its tests must detect them.

    python benchmarks/mutation.py --room evaluation --n 300 --seed 1    # hours; goes on where it stopped

A mutant is the package with one operator, constant, condition or statement changed. It is killed if a test
or a docstring example of the room fails, or if the tests take ten times as long as without it. A random
sample of all mutants is run, each in a process that is forked after the libraries are loaded, so that a
mutant costs only the tests themselves. Some survivors are equivalent: no test can detect them, because the
code does the same. Text of error messages is not mutated. One row per mutant goes to
``book/results/mutation_ROOM.csv``. The interval of the killed fraction is Wilson's at 95 %.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import csv
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("room", "seed", "module", "line", "operator", "before", "after", "outcome", "seconds", "commit")
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
OPTIONS += ["-k", "not is_quick"]  # a time limit fails where the machine is busy
COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}


class Mutant(NamedTuple):
    """One change of one module."""

    module: str  # path relative to the package's parent
    line: int
    operator: str
    before: str
    after: str
    source: str  # of the whole changed module


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Name of the operator, and the node that replaces this one."""
    new = copy.deepcopy(node)
    match new:
        case ast.Compare(ops=[first, *_]):
            new.ops[0] = COMPARISONS[type(first)]()
            yield "comparison", new
        case ast.BinOp() | ast.AugAssign() if type(new.op) in ARITHMETIC:
            new.op = ARITHMETIC[type(new.op)]()
            yield "arithmetic", new
        case ast.BoolOp():
            new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
            yield "and/or", new
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield "sign or negation", new.operand
        case ast.Constant(value=bool()):
            yield "constant", ast.Constant(not new.value)
        case ast.Constant(value=int() | float()):
            yield "constant", ast.Constant(new.value + 1)
        case ast.If() | ast.IfExp():
            new.test = ast.UnaryOp(ast.Not(), new.test)
            yield "condition", new
        case ast.Return(value=ast.expr()):
            yield "return None", ast.Return(ast.Constant(None))
        case ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield "statement left out", ast.Pass()


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node that may change: parent, field, index in a list, and the node; no annotation or message."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(
            tree, ast.JoinedStr | ast.Raise
        ):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield tree, field, index, child
                if not (isinstance(child, ast.Call) and ast.unparse(child.func).endswith("refuse")):
                    yield from places(child)


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module."""
    tree, found = ast.parse(path.read_text("utf-8")), []
    for parent, field, index, node in places(tree):
        for operator, new in variants(node):
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            put(parent, field, index, new)
            source = ast.unparse(ast.fix_missing_locations(tree))
            put(parent, field, index, node)
            before, after = (ast.unparse(n).splitlines()[0][:80] for n in (node, new))
            found.append(Mutant(str(path.relative_to(ROOT)), line, operator, before, after, source))
    return found


def put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another source than its file has."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = mutant.module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self.mutant = mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, ROOT / self.mutant.module, loader=self)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(compile(self.mutant.source, self.mutant.module, "exec"), vars(module))


def tests_of(room: str, module: str) -> list[str]:
    """The tests that must detect a fault in this module, the likeliest first."""
    files = sorted((ROOT / "tests" / room).glob("test_*.py"))
    files.sort(key=lambda path: Path(module).stem not in path.stem)
    example = ".".join(Path(module).with_suffix("").parts[1:])
    found = [str(path) for path in files]
    return [
        *found[:1],
        f"{ROOT}/tests/test_examples.py::test_examples_print_what_they_say[{example}]",
        *found[1:],
    ]


def run(mutant: Mutant | None, tests: list[str], limit: float) -> tuple[str, float]:
    """Outcome of the tests (killed, survived, timeout) and seconds; without a mutant they may print."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        with Path(os.devnull).open("w") as nothing:
            for number in (1, 2) if mutant else ():
                os.dup2(nothing.fileno(), number)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp()
        if mutant:
            sys.meta_path.insert(0, Changed(mutant))
        import pytest

        code = 1
        with contextlib.suppress(BaseException):
            code = pytest.main([*OPTIONS, *tests])
        os._exit(int(code))
    while time.monotonic() - start < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return ("survived" if status == 0 else "killed"), time.monotonic() - start
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", time.monotonic() - start


def interval(killed: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a fraction at 95 %."""
    z, p = 1.96, killed / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--room", default="evaluation", help="folder of the package")
    parser.add_argument("--n", type=int, default=300, help="number of mutants in the sample")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random sample")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after that many minutes")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:] = [
        place for place in sys.path if Path(place).resolve() != ROOT / "benchmarks"
    ]  # has a coverage.py
    modules = sorted((ROOT / "segconf_lite" / chosen.room).glob("*.py"))
    everything = [mutant for path in modules if path.stem != "__init__" for mutant in mutants(path)]
    sample = random.Random(chosen.seed).sample(everything, min(chosen.n, len(everything)))
    print(f"{len(everything)} mutants of {chosen.room}, a sample of {len(sample)} with seed {chosen.seed}")

    # What every test loads; not the package, which each mutant loads anew.
    import torch  # noqa: F401

    out = ROOT / "book" / "results" / f"mutation_{chosen.room}.csv"
    rows = list(csv.DictReader(out.open(encoding="utf-8"))) if out.is_file() else []
    rows = [row for row in rows if row["seed"] == str(chosen.seed)]
    key = ("module", "line", "operator", "before", "after")
    known = {tuple(row[k] for k in key) for row in rows}
    outcome, alone = run(None, tests_of(chosen.room, sample[0].module), 3600)
    if outcome != "survived":
        sys.exit("the tests fail without a mutant")
    print(f"the tests take {alone:.0f} s without a mutant")
    start = time.monotonic()
    for mutant in sample:
        if tuple(str(getattr(mutant, k)) for k in key) in known:
            continue
        if time.monotonic() - start > 60 * chosen.minutes:
            break
        outcome, seconds = run(mutant, tests_of(chosen.room, mutant.module), 10 * alone + 60)
        row = {**mutant._asdict(), "room": chosen.room, "seed": str(chosen.seed), "outcome": outcome}
        row |= {"seconds": f"{seconds:.1f}", "commit": commit()}
        rows.append({k: row[k] for k in COLUMNS})
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(*(row[k] for k in COLUMNS[2:9]), sep="  ", flush=True)
    killed = sum(row["outcome"] != "survived" for row in rows)
    if rows:
        low, high = interval(killed, len(rows))
        print(f"killed {killed} of {len(rows)}: {killed / len(rows):.3f} (95 %: {low:.3f} to {high:.3f})")


def commit() -> str:
    import subprocess

    answer = subprocess.run(
        ["git", "describe", "--always"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
