"""The command `segconf`: look at the installation, fetch data, run a notebook, keep the ledger of claims."""

import argparse
import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from segconf_lite import __version__, chapter_commands, resources

__all__ = ["main"]

_OPTIONAL = ("jupyterlab", "ipykernel", "ipywidgets", "jupytext", "papermill", "jupyter-book")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (0 fine, 1 failed or incomplete, 2 wrong usage)."""
    parser = argparse.ArgumentParser(prog="segconf", description="Can you trust this segmentation?")
    parser.add_argument("--version", action="version", version=f"segconf_lite {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    doctor = commands.add_parser("doctor", help="what is installed, what is missing, and how to get it")
    doctor.set_defaults(act=lambda _: _doctor())

    data = commands.add_parser("data", help="download a public data set")
    data.add_argument("name", nargs="?", help="the data set, e.g. gm_challenge; without it, all are listed")
    data.set_defaults(act=lambda given: _data(given.name))

    series = commands.add_parser("notebooks", help="copy the notebooks of this version into a folder")
    series.add_argument("folder", help="where they go; it is made if it does not exist")
    series.add_argument("--force", action="store_true", help="replace files that were changed")
    series.set_defaults(act=lambda given: _notebooks(given.folder, given.force))

    run = chapter_commands.chapter_command(commands, "run", "execute one notebook of the series")
    run.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="replace a default of the notebook's parameters cell; may be repeated",
    )
    run.add_argument("--out", metavar="PATH", help="where the executed copy goes (default: under _build/)")
    run.set_defaults(act=lambda given: _run(given.notebook, given.parameter, given.out))

    chapter_commands.add_sweep(commands)

    claims = commands.add_parser("claims", help="what was claimed, and what came of it")
    claims.add_argument(
        "step", nargs="?", choices=("list", "judge", "recheck"), default="list",
        help="list the ledger (default); judge finished runs; recheck one stored claim from scratch",
    )  # fmt: skip
    claims.add_argument("--profile", default="lite", help="lite (default) or full")
    claims.add_argument("--runs", metavar="FOLDER", default="_build/claims", help="judge: finished runs")
    claims.add_argument("--accept", action="store_true", help="judge: replace verdicts that changed")
    claims.add_argument("--pick", metavar="HEX", help="recheck: which claim and seed (default: the commit)")
    claims.add_argument("--minutes", type=float, help="recheck: pick among what takes no longer here")
    claims.set_defaults(act=_claims)

    given = parser.parse_args(arguments)
    try:
        return int(given.act(given))
    except (ValueError, RuntimeError, OSError, ModuleNotFoundError) as error:
        advice = f"; install it with: {_advice()}" if isinstance(error, ModuleNotFoundError) else ""
        print(f"segconf {given.command}: {error}{advice}", file=sys.stderr)
        return 1


# -- doctor -------------------------------------------------------------------------------------------------


def _doctor() -> int:
    print(f"segconf_lite {__version__} on Python {platform.python_version()}, {platform.system()}")
    missing = _print_packages()
    _print_hardware()
    _print_data()
    _print_store()
    if missing:
        print(f"\nMissing and required: {', '.join(missing)}.", file=sys.stderr)
        print(f"Install them with: {_advice()}", file=sys.stderr)
        return 1
    print("\nAll required packages are there.")
    return 0


def _advice() -> str:
    """How to install everything: from the checkout that holds this package, or with pip alone."""
    try:
        installed = resources.is_installed(resources.notebooks_folder())
    except FileNotFoundError:
        installed = True
    return 'pip install "segconf-lite[all]"' if installed else 'pip install -c constraints.txt -e ".[all]"'


def _required_packages() -> list[str]:
    """Distribution names that the package needs at all times, from its own metadata."""
    try:
        lines = metadata.requires("segconf-lite") or []
    except metadata.PackageNotFoundError:
        return ["segconf-lite"]
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def _print_packages() -> list[str]:
    missing = []
    print("\nRequired")
    for name in _required_packages():
        version = _version(name)
        print(f"  {name:<14}{version or 'MISSING'}")
        missing += [] if version else [name]
    print("For notebooks and the book")
    for name in _OPTIONAL:
        print(f"  {name:<14}{_version(name) or f'not installed ({_advice()})'}")
    return missing


def _version(name: str) -> str | None:
    """Installed version, or None if the package is absent or cannot be found by the import system."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return version


def _print_hardware() -> None:
    print("\nHardware")
    try:
        torch: Any = importlib.import_module("torch")
        device_tools: Any = importlib.import_module("segconf_lite.models.device")
        device = device_tools.pick_device()
        bf16 = "yes" if device_tools.bf16_pays(device) else "no (fp32 is used)"
    except ImportError as error:
        print(f"  cannot be asked: {error}")
        return
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    print(f"  device        {device}{name}")
    print(f"  threads       {torch.get_num_threads()} of {os.cpu_count()} CPU cores")
    print(f"  bf16 pays     {bf16}")


def _print_data() -> None:
    print("\nData (the built-in phantom needs none)")
    _print_data_sets()


def _print_data_sets() -> None:
    print(f"  SEGCONF_DATA  {os.environ.get('SEGCONF_DATA') or 'not set'}")
    try:
        download: Any = importlib.import_module("segconf_lite.cohorts.download")
    except ImportError as error:
        print(f"  cannot be asked: {error}")
        return
    for name in (*download.SOURCES, *download.BY_HAND):
        try:
            print(f"  {name:<20}{download.find(name)}")
        except FileNotFoundError:
            how = "by hand, see: segconf data" if name in download.BY_HAND else "get it with: segconf data"
            print(f"  {name:<20}missing; {how} {name}")


def _print_store() -> None:
    print("\nTrained models")
    try:
        store: Any = importlib.import_module("segconf_lite.models.store")
    except ImportError as error:
        print(f"  cannot be asked: {error}")
        return
    folder = Path(store.store_folder())
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    print(f"  folder        {folder} (set SEGCONF_HOME to move it)")
    print(f"  free disk     {free_gb:.1f} GB{'  LOW: the series needs about 1 GB' if free_gb < 1 else ''}")


# -- data and run -------------------------------------------------------------------------------------------


def _data(name: str | None) -> int:
    if name is None:
        print("Data sets, each to be had with: segconf data NAME")
        _print_data_sets()
        return 0
    download: Any = importlib.import_module("segconf_lite.cohorts.download")
    print(f"{name} is at {download.fetch(name)}")
    return 0


def _notebooks(folder: str, force: bool) -> int:
    copied = resources.copy_notebooks(folder, force=force)
    print(f"{len(copied)} notebook files of version {__version__} are in {folder}; try: jupyter lab {folder}")
    return 0


def _run(name: str, pairs: Sequence[tuple[str, str]], out: str | None) -> int:
    from segconf_lite import notebook, parameters

    path = notebook.find_notebook(name)
    declared = parameters.read(path)
    parameters.check(declared, {key: value for key, value in pairs if key not in declared}, where=path.name)
    given = {key: parameters.value_of(value, declared[key]) for key, value in pairs}
    parameters.check(declared, given, where=path.name)
    if given.get("cases_out"):  # a notebook works in its own folder; the caller means this one
        given["cases_out"] = str(Path(given["cases_out"]).resolve())
    target = Path(out) if out else _default_out(path, pairs)
    stated = notebook.stated_minutes(path)
    print(f"{path.stem}: running" + (f", its header states {stated:g} min" if stated else ""), flush=True)
    minutes = notebook.execute(path, target, given) / 60
    note = ""
    if stated:
        note = f" (stated: {stated:g})" if minutes <= 1.5 * stated else f" (stated: {stated:g}; MUCH LONGER)"
    print(f"{path.stem}: done in {minutes:.1f} min{note} -> {target}")
    return 0


def _claims(given: argparse.Namespace) -> int:
    sweep: Any = importlib.import_module("segconf_lite.sweep")
    if given.step == "recheck":
        choice = given.pick or sweep.commit_hash()
        print("\n".join(sweep.recompute(choice, profile=given.profile, minutes=given.minutes)))
        return 0
    changed = []
    if given.step == "judge":
        changed = sweep.settle_runs(given.runs, profile=given.profile, accept=given.accept)
    print(sweep.table())
    if changed:
        print("\nChanged verdicts" + ("" if given.accept else ", NOT stored (--accept stores them)") + ":")
        print("\n".join(changed))
    return 1 if changed and not given.accept else 0


def _default_out(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """Plain runs go where the book looks for them; runs with parameters go elsewhere, named by them."""
    from segconf_lite.grid import label

    if not pairs:
        return Path("_build/executed") / f"{path.stem}.ipynb"
    given = dict(pairs)
    return Path("_build/runs") / f"{path.stem}__{label(given, given)}.ipynb"


if __name__ == "__main__":
    sys.exit(main())
