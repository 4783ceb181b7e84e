"""Where the files of the book are: tables of results, the register of claims, the notebooks.

In a checkout they lie beside the package. A wheel carries a copy of them, made when it is built (see
``setup.py``), so that a notebook also runs where only the package is installed.
"""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

__all__ = [
    "claims_registry",
    "copy_notebooks",
    "is_installed",
    "notebooks_folder",
    "results_folder",
    "table_file",
]

_PACKAGE = Path(str(resources.files("segconf_lite")))
_INSTALLED = _PACKAGE / "_series"  # holds book/ and notebooks/, as a checkout does


def claims_registry() -> Path:
    """The register of claims, ``book/claims.yml``.

    The checkout in which one works comes first, because its claims may be newer than those of the installed
    package. Then follow the checkout that holds the package, and the copy inside the wheel.

    Raises:
        FileNotFoundError: If none of them is there.
    """
    here = Path.cwd()
    return _first_root(here, *here.parents, *_own_roots()) / "book" / "claims.yml"


def results_folder() -> Path:
    """The folder of stored results beside the register of claims.

    Raises:
        FileNotFoundError: If there is no register.
    """
    return claims_registry().parent / "results"


def table_file(name: str) -> Path:
    """The file of a stored table. Inside a wheel it is compressed, which pandas reads in the same way.

    Args:
        name: Its file name in ``book/results``, e.g. ``"chapter_02_lite_cases.csv"``.

    Raises:
        FileNotFoundError: If there is no such table. The message names those that are there.
    """
    folder = results_folder()
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    known = sorted(path.name.removesuffix(".gz") for path in folder.glob("*.csv*"))
    raise FileNotFoundError(f"expected a stored table, got {name!r}: not in {folder} (there: {known})")


def notebooks_folder() -> Path:
    """The notebooks that belong to this package: those of its checkout, or the copy inside the wheel.

    Raises:
        FileNotFoundError: If neither is there.
    """
    return _first_root(*_own_roots()) / "notebooks"


def is_installed(path: str | Path) -> bool:
    """Whether a file or folder is part of the installed package, where nothing should be written."""
    return Path(path).resolve().is_relative_to(_INSTALLED.resolve())


def copy_notebooks(folder: str | Path, *, force: bool = False) -> list[Path]:
    """Copy the series into a folder: the ``.py`` and the ``.ipynb`` file of each notebook.

    Args:
        folder: Where the copies go. It is made if it does not exist.
        force: Whether files of the same name and another content are replaced.

    Returns:
        The paths of the copies.

    Raises:
        FileExistsError: If a file of the same name has another content. Nothing has been copied then.
    """
    target = Path(folder)
    wanted = {target / path.name: path.read_bytes() for path in _notebook_files(notebooks_folder())}
    changed = [path.name for path, text in wanted.items() if path.exists() and path.read_bytes() != text]
    if changed and not force:
        raise FileExistsError(
            f"{target} holds other versions of {', '.join(changed)}; nothing was copied. "
            "Choose another folder, or replace them with --force"
        )
    target.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_bytes(text)
    return list(wanted)


def _notebook_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("[0-9]*")) if path.suffix in {".py", ".ipynb"})


def _own_roots() -> tuple[Path, Path]:
    return _PACKAGE.parent, _INSTALLED


def _first_root(*folders: Path) -> Path:
    for folder in folders:
        if (folder / "book" / "claims.yml").is_file():
            return folder
    raise FileNotFoundError(
        f"the files of the book (book/claims.yml) are neither in or above {folders[0]} nor in the package at "
        f"{_PACKAGE}; install segconf-lite from a wheel or with pip, or work in a clone of the project"
    )
