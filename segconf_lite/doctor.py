"""What `segconf doctor` prints: what is installed, on what hardware, and where data and networks are."""

import os
import platform
import re
import shutil
import sys
from importlib import metadata

from segconf_lite import __version__, resources

_OPTIONAL = ("jupyterlab", "ipykernel", "ipywidgets", "jupytext", "papermill", "jupyter-book")


def report() -> int:
    """Print the whole report, and return 1 if a required package is missing, else 0.

    Example:
        >>> code = report()  # doctest: +ELLIPSIS
        segconf_lite ...
        >>> code
        0
    """
    print(f"segconf_lite {__version__} on Python {platform.python_version()}, {platform.system()}")
    missing = _print_packages()
    sections = {
        "Hardware": _print_hardware,
        "Data (the built-in phantom needs none)": print_data_sets,
        "Trained models": _print_store,
    }
    for title, section in sections.items():
        print(f"\n{title}")
        try:
            section()
        except ImportError as error:
            print(f"  not available: {error}")
    if missing:
        print(f"\nMissing and required: {', '.join(missing)}.", file=sys.stderr)
        print(f"Install them with: {advice()}", file=sys.stderr)
        return 1
    print("\nAll required packages are there.")
    return 0


def advice() -> str:
    """How to install everything: from the checkout that holds this package, or with pip alone.

    Example:
        >>> advice().startswith("pip install")
        True
    """
    try:
        installed = resources.is_installed(resources.notebooks_folder())
    except FileNotFoundError:
        installed = True
    return 'pip install "segconf-lite[all]"' if installed else 'pip install -c constraints.txt -e ".[all]"'


def print_data_sets() -> None:
    """Print where each public data set is, or how to get it.

    Example:
        >>> print_data_sets()  # doctest: +ELLIPSIS
          SEGCONF_DATA  ...
          gm_challenge ...
    """
    print(f"  SEGCONF_DATA  {os.environ.get('SEGCONF_DATA') or 'not set'}")
    from segconf_lite.cohorts import download

    for name in (*download.SOURCES, *download.BY_HAND):
        try:
            print(f"  {name:<20}{download.find(name)}")
        except FileNotFoundError:
            how = (
                "by hand, see: segconf data get"
                if name in download.BY_HAND
                else "get it with: segconf data get"
            )
            print(f"  {name:<20}missing; {how} {name}")


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
        print(f"  {name:<14}{_version(name) or f'not installed ({advice()})'}")
    return missing


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _print_hardware() -> None:
    import torch

    from segconf_lite.models import device as devices

    device = devices.pick_device()
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    print(f"  device        {device}{name}")
    print(f"  threads       {torch.get_num_threads()} of {os.cpu_count()} CPU cores")
    print(f"  bf16 pays     {'yes' if devices.bf16_pays(device) else 'no (fp32 is used)'}")


def _print_store() -> None:
    folder = resources.user_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    print(f"  folder        {folder / 'store'} (set SEGCONF_HOME to move it)")
    print(f"  free disk     {free_gb:.1f} GB{'  LOW: the series needs about 1 GB' if free_gb < 1 else ''}")
