"""What the command line knows of a chapter's parameters: `--help` of a chapter, and `segconf sweep`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["add_sweep", "chapter_command"]


class _ChapterHelp(argparse.Action):
    """``--help`` that also lists the parameters of the chapter, where one is named before it."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        from segconf_lite import notebook, parameters

        parser.print_help()
        if named := getattr(namespace, "notebook", None):
            try:
                path = notebook.find_notebook(named)
                print(f"\nparameters of {path.stem}:\n{parameters.listing(parameters.read(path))}")
            except ValueError as error:
                parser.exit(1, f"{parser.prog}: {error}\n")
        parser.exit()


def chapter_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A command whose first argument names a chapter, and whose help lists the parameters of that chapter."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        add_help=False,
        epilog=f"`segconf {name} 04 --help` lists the parameters of chapter 4.",
    )
    # Python before 3.14 takes the value -1e-5 for an option.
    command._negative_number_matcher = re.compile(r"-\.?\d.*")
    command.add_argument("-h", "--help", nargs=0, action=_ChapterHelp, help="this text, and the parameters")
    command.add_argument("notebook", help="its number, e.g. 01, or a path to a .py or .ipynb notebook")
    return command


def add_sweep(commands: Any) -> None:
    """Add `segconf sweep`."""
    sweep = chapter_command(commands, "sweep", "run one notebook at all combinations of some parameters")
    sweep.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "VALUES"),
        help="values of one parameter, separated by commas, e.g. -p seed 0,1; may be repeated",
    )
    sweep.add_argument("--out", metavar="FOLDER", help="where tables go (default: under _build/sweeps/)")
    sweep.add_argument(
        "--jobs", type=int, default=2, help="notebooks at a time, one thread each (default: 2)"
    )
    sweep.set_defaults(act=lambda given: _sweep(given.notebook, given.parameter, given.out, given.jobs))


def _sweep(name: str, pairs: Sequence[tuple[str, str]], out: str | None, jobs: int) -> int:
    from segconf_lite import grid, notebook

    path = notebook.find_notebook(name)
    outcome = grid.sweep(path, pairs, folder=out or Path("_build/sweeps") / path.stem, jobs=jobs)
    print("\n".join(outcome.lines))
    if outcome.table:
        print(f"{path.stem}: {len(outcome.lines) - outcome.failed} tables joined -> {outcome.table}")
    return 1 if outcome.failed else 0
