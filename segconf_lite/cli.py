"""The command `segconf`: look at the installation, fetch data, run notebooks, keep the ledger of claims."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from segconf_lite import __version__, _commands, doctor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words of the command line after `segconf`; by default those of this process.

    Returns:
        0 if all went well; 1 if something failed or differs from what is stored; 2 if a value is wrong, which
        is then one line on standard error.

    Raises:
        SystemExit: After ``--help`` and ``--version`` (0), and after an unknown word (2).

    Example:
        >>> main(["run", "no_such_chapter"])
        2
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what the next word may be
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(arguments)
    try:
        return int(options.act(options))
    except ValueError as error:
        _complain(options.command, " ".join(str(error).split()))
        return 2
    except (RuntimeError, OSError, ModuleNotFoundError) as error:
        hint = f"; install it with: {doctor.advice()}" if isinstance(error, ModuleNotFoundError) else ""
        _complain(options.command, f"{error}{hint}")
        return 1


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        _complain(self.prog.removeprefix("segconf").strip(), f"{message}; see `{self.prog} --help`")
        raise SystemExit(2)


class _ChapterHelp(argparse.Action):
    """``--help`` that also lists the parameters of the chapter, where one is named before it."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        from segconf_lite import notebook, parameters

        parser.print_help()
        if named := getattr(namespace, "notebook", None):
            try:
                path = notebook.find_notebook(named)
                print(f"\nparameters of {path.stem}:\n{parameters.listing(parameters.read(path))}")
            except ValueError as error:
                parser.error(str(error))
        parser.exit()


def _complain(command: str, message: str) -> None:
    print(f"segconf {command}: {message}" if command else f"segconf: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="segconf", description="Can you trust this segmentation?")
    parser.add_argument("--version", action="version", version=f"segconf_lite {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("doctor", help="what is installed, what is missing, and how to get it")
    command.set_defaults(act=lambda _: doctor.report())

    command = commands.add_parser("data", help="public data sets: list them, get one, check its files")
    text = "list (default), get NAME, or check NAME; a name alone, e.g. gm_challenge, means get"
    command.add_argument("step", nargs="?", default="list", metavar="STEP", help=text)
    command.add_argument("name", nargs="?", metavar="NAME", help="the data set")
    text = "get: an address with the same files, tried before the published one; may be repeated"
    command.add_argument("--mirror", metavar="URL", action="append", default=[], help=text)
    text = "get: a zip archive with the files, which were downloaded by hand"
    command.add_argument("--archive", metavar="FILE", help=text)
    command.set_defaults(act=_commands.data)

    command = commands.add_parser("store", help="the trained networks of this computer, as a file for others")
    text = "write the networks into FILE; put those of FILE into the store of this computer"
    command.add_argument("step", choices=("pack", "unpack"), help=text)
    command.add_argument("file", metavar="FILE", help="a zip archive")
    text = "pack: only what the last runs of these chapters used, e.g. --chapters 01 02 (default: all)"
    command.add_argument("--chapters", nargs="+", metavar="CHAPTER", help=text)
    command.set_defaults(act=_commands.store)

    command = commands.add_parser(
        "cohort", help="what a folder of images and labels holds, and what is wrong"
    )
    command.add_argument("folder", help="nnU-Net, BIDS, or a table (CSV) of files")
    command.add_argument("--layout", default="auto", help="auto (default), nnunet, bids or table")
    text = "names of label values, e.g. --labels 0=background,255=vessel"
    command.add_argument("--labels", metavar="VALUE=NAME,...", help=text)
    text = "pattern in the path of an image, whose group is its scanner, e.g. 'site-(\\w+)'"
    command.add_argument("--domain", metavar="PATTERN", help=text)
    command.add_argument("--limit", type=int, help="open at most so many cases of each domain")
    command.set_defaults(act=_commands.cohort)

    command = commands.add_parser("probe", help="which modules of a network the methods can read")
    text = "a function without arguments that returns the network, or the network itself; it is imported"
    command.add_argument("model", metavar="NETWORK", help=f"FILE.py:NAME or PACKAGE.MODULE:NAME, {text}")
    text = "checkpoint with its weights (safetensors, or of torch.save); a file with pickled code is refused"
    command.add_argument("--weights", metavar="FILE", help=text)
    command.add_argument("--size", type=int, default=96, help="side of the image in pixels (default: 96)")
    command.add_argument("--channels", type=int, default=1, help="channels of the image (default: 1)")
    command.set_defaults(act=_commands.probe)

    command = commands.add_parser("notebooks", help="copy the notebooks of this version into a folder")
    command.add_argument("folder", help="where they go; it is made if it does not exist")
    command.add_argument("--force", action="store_true", help="replace files that were changed")
    command.set_defaults(act=_commands.notebooks)

    command = _chapter_command(commands, "run", "execute one notebook of the series")
    text = "replace a default of the notebook's parameters cell; may be repeated"
    command.add_argument(*_PARAMETER, metavar=("NAME", "VALUE"), help=text, default=[], **_REPEATED)
    command.add_argument(
        "--out", metavar="PATH", help="where the executed copy goes (default: under _build/)"
    )
    command.set_defaults(act=_commands.run)

    command = _chapter_command(commands, "sweep", "run one notebook at all combinations of some parameters")
    text = "values of one parameter, separated by commas, e.g. -p seed 0,1; may be repeated"
    command.add_argument(*_PARAMETER, metavar=("NAME", "VALUES"), help=text, required=True, **_REPEATED)
    command.add_argument("--out", metavar="FOLDER", help="where tables go (default: under _build/sweeps/)")
    command.add_argument("--jobs", type=int, default=2, help="notebooks at a time, on one thread each")
    command.set_defaults(act=_commands.sweep)

    command = commands.add_parser("claims", help="what was claimed, and what came of it")
    text = "list the ledger (default); show one claim; judge finished runs; recheck one claim from scratch"
    steps = ("list", "show", "judge", "recheck")
    command.add_argument("step", nargs="?", choices=steps, default="list", help=text)
    command.add_argument("id", nargs="?", metavar="ID", help="show, recheck: the claim, as the list names it")
    command.add_argument("--chapter", type=int, help="list: only claims of this chapter")
    command.add_argument("--cohort", help="list: only claims on this cohort, e.g. phantom or cord")
    text = "list: only claims with this verdict: holds, fails or undecided"
    command.add_argument("--verdict", choices=("holds", "fails", "undecided", "not run"), help=text)
    command.add_argument("--seed", type=int, help="recheck: which of the claim's stored seeds")
    command.add_argument("--profile", default="lite", help="lite (default) or full", choices=("lite", "full"))
    command.add_argument("--accept", action="store_true", help="judge: replace what is stored and differs")
    command.add_argument("--pick", metavar="HEX", help="recheck: which claim and seed (default: the commit)")
    command.add_argument(
        "--minutes", type=float, help="recheck: only chapters that state no more from scratch"
    )
    command.set_defaults(act=_commands.claims)

    command = commands.add_parser("recommend", help="which method to use within a budget, and the evidence")
    text = "which cases are worse (order, default), the Dice of each case (number), wrong pixels (where)"
    command.add_argument("--want", choices=("order", "number", "where"), default="order", help=text)
    command.add_argument("--passes", type=int, default=1, help="passes of a network per case (default: 1)")
    command.add_argument("--networks", type=int, default=1, help="networks that you can train (default: 1)")
    text = "whether training cases with labels are at hand for more than the network itself (default: no)"
    command.add_argument("--labels", action=argparse.BooleanOptionalAction, default=False, help=text)
    command.set_defaults(act=_commands.recommend)

    command = commands.add_parser("review", help="which stored predictions to look at first, as one page")
    text = (
        "folder with CASE.nii.gz and CASE.npz (nnU-Net), or with fold_0, ...; repeat it for several members"
    )
    command.add_argument("--predictions", metavar="FOLDER", required=True, action="append", help=text)
    command.add_argument("--images", metavar="FOLDER", help="their images, CASE_0000.nii.gz")
    command.add_argument("--labels", metavar="FOLDER", help="segmentations by a person, of all cases or some")
    command.add_argument("--training", metavar="FOLDER", help="training images, to compare the images with")
    text = "pattern in the name of a case, whose group is its scanner, e.g. '^(\\w+?)_'"
    command.add_argument("--domain", metavar="PATTERN", help=text)
    text = "pattern for the person (default: the name without _ED, _frame01 and the like)"
    command.add_argument("--subject", metavar="PATTERN", help=text)
    command.add_argument("--score", help="uncertainty that gives the order (default: the advised one)")
    command.add_argument(
        "--skip-damaged", action="store_true", help="leave damaged cases out, and count them"
    )
    command.add_argument(
        "--out", metavar="FILE.html", required=True, help="the page; FILE.csv lies beside it"
    )
    command.set_defaults(act=_commands.review)
    return parser


_PARAMETER = ("-p", "--parameter")
_REPEATED: dict[str, Any] = {"nargs": 2, "action": "append"}


def _chapter_command(commands: "argparse._SubParsersAction[_Parser]", name: str, text: str) -> _Parser:
    """A command whose first argument names a chapter, and whose help lists the parameters of that chapter."""
    epilog = f"`segconf {name} 04 --help` lists the parameters of chapter 4."
    command: _Parser = commands.add_parser(name, help=text, add_help=False, epilog=epilog)
    # Python before 3.14 takes the value -1e-5 for an option.
    command._negative_number_matcher = re.compile(r"-\.?\d.*")
    command.add_argument("-h", "--help", nargs=0, action=_ChapterHelp, help="this text, and the parameters")
    command.add_argument("notebook", help="its number, e.g. 01, or a path to a .py or .ipynb notebook")
    return command


if __name__ == "__main__":
    sys.exit(main())
