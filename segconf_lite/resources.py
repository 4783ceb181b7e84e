"""Where the tables, claims and notebooks of the book are, where the user's files go, how files are written.

In a checkout the files of the book lie beside the package. A wheel carries a copy of them, made when it is
built (see ``setup.py``), so that a notebook also runs where only the package is installed.
"""

import contextlib
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

USED = "SEGCONF_USED"  # names the list of the networks that a run uses
_PACKAGE = Path(str(resources.files("segconf_lite")))
_INSTALLED = _PACKAGE / "_series"  # holds book/ and notebooks/, as a checkout does
# The file of an unfinished write or run. Older versions did not name the computer.
_UNFINISHED = re.compile(r"\..*\.(?P<process>\d+)(@(?P<computer>.*))?\.(running\.ipynb|tmp)")


def claims_registry() -> Path:
    """The register of claims, ``book/claims.yml``.

    The checkout in which one works comes first, because its claims may be newer than those of the installed
    package. Then follow the checkout that holds the package, and the copy inside the wheel.

    Raises:
        FileNotFoundError: If none of them is there.

    Example:
        >>> claims_registry().name
        'claims.yml'
    """
    here = Path.cwd()
    return _first_root(here, *here.parents, *_own_roots()) / "book" / "claims.yml"


def results_folder() -> Path:
    """The folder of stored results beside the register of claims.

    Raises:
        FileNotFoundError: If there is no register.

    Example:
        >>> results_folder().name
        'results'
    """
    return claims_registry().parent / "results"


def table_file(name: str) -> Path:
    """The file of a stored table. Inside a wheel it is compressed, which pandas reads in the same way.

    Args:
        name: Its file name in ``book/results``, e.g. ``"chapter_02_lite_cases.csv"``.

    Raises:
        FileNotFoundError: If there is no such table. The message names those that are there.

    Example:
        >>> table_file("chapter_02_lite_cases.csv").parent == results_folder()
        True
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

    Example:
        >>> sorted(path.name for path in notebooks_folder().glob("01*.py"))
        ['01_domain_shift.py']
    """
    return _first_root(*_own_roots()) / "notebooks"


def is_installed(path: str | Path) -> bool:
    """Whether a file or folder is part of the installed package, where nothing should be written.

    Args:
        path: The file or folder.

    Example:
        >>> is_installed("my_folder")
        False
    """
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

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(copy_notebooks(folder)[0].name)
        00_first_look.ipynb
    """
    target = Path(folder)
    contents = {target / path.name: path.read_bytes() for path in _notebook_files(notebooks_folder())}
    changed = [path.name for path, text in contents.items() if path.exists() and path.read_bytes() != text]
    if changed and not force:
        raise FileExistsError(
            f"{target} holds other versions of {', '.join(changed)}; nothing was copied. "
            "Choose another folder, or replace them with --force"
        )
    target.mkdir(parents=True, exist_ok=True)
    for path, text in contents.items():
        path.write_bytes(text)
    return list(contents)


def user_folder() -> Path:
    """Where downloads and trained networks go: ``$SEGCONF_HOME``, or the user's cache folder.

    A user without a home folder, as in some containers, has a folder among the temporary files instead.

    Example:
        >>> user_folder().is_absolute()
        True
    """
    if home := os.environ.get("SEGCONF_HOME"):
        with contextlib.suppress(RuntimeError):  # "~" of a user without a home folder
            return Path(home).expanduser().absolute()
    import pooch

    try:
        return Path(pooch.os_cache("segconf_lite"))
    except (RuntimeError, KeyError):
        number = os.getuid() if hasattr(os, "getuid") else 0
        return Path(tempfile.gettempdir()) / f"segconf_lite-{number}"


def note_use(name: str) -> None:
    """Write the name of a stored network into the list that a run of a notebook keeps, if one does.

    Args:
        name: Name of the file in the store.

    Example:
        >>> from segconf_lite.notebook import environment
        >>> listed = Path(tempfile.mkdtemp()) / "used.txt"
        >>> with environment({USED: str(listed)}):
        ...     note_use("fit_unet-0123456789abcdef.safetensors")
        >>> print(listed.read_text(), end="")
        fit_unet-0123456789abcdef.safetensors
    """
    if listed := os.environ.get(USED):
        with contextlib.suppress(OSError), Path(listed).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")


def used_file(run: str) -> Path:
    """The list of the stored networks that the last run of a notebook has used.

    Args:
        run: Name of the executed notebook without its ending.

    Example:
        >>> used_file("01_domain_shift").name
        '01_domain_shift.txt'
    """
    return user_folder() / "store" / "used" / f"{run}.txt"


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write a file that appears under its name only when it is whole; its folder is made.

    Args:
        path: The file. An older one is replaced.
        content: The content; text is written as UTF-8 without change of its line ends.

    Returns:
        The path.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_whole(f"{folder}/new/note.txt", "whole").read_text())
        whole
    """
    with whole_file(path) as unfinished, unfinished.open("xb") as file:  # new: no link laid there is followed
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file to be written that takes its name when the block ends without an error; its folder is made.

    Args:
        path: The file. An older one is replaced.

    Yields:
        Where to write: a name in the same folder, at which nothing is. What killed processes have left there
        unfinished is removed.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(f"{folder}/note.txt") as unfinished:
        ...         _ = unfinished.write_text("whole")
        ...     [path.name for path in Path(folder).iterdir()]
        ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    unfinished = unfinished_name(path, "tmp")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        unfinished.replace(path)  # atomic, also where the path exists
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(path: Path, ending: str) -> Path:
    """A hidden file beside `path`, which tells by its name which process writes it.

    Args:
        path: The file that it will become.
        ending: ``"tmp"`` or ``"running.ipynb"``.

    Example:
        >>> unfinished_name(Path("cases.csv"), "tmp").name.replace(str(os.getpid()), "4711")
        '.cases.csv.4711@...tmp'
    """
    return path.with_name(f".{path.name[:100]}.{os.getpid()}@{platform.node()}.{ending}")


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what killed processes of this computer left unfinished in a folder.

    Args:
        folder: The folder; files of processes that still run, or of other computers, are left alone.

    Returns:
        The files that were removed.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unfinished = unfinished_name(Path(folder) / "cases.csv", "tmp")
        ...     unfinished.touch()
        ...     remove_leftovers(folder)  # this process runs
        []
    """
    removed = []
    for path in Path(folder).glob(".*"):
        name = _UNFINISHED.fullmatch(path.name)
        if name and name["computer"] in (None, platform.node()) and not _is_running(int(name["process"])):
            with contextlib.suppress(OSError):  # another process was quicker, or the file is not ours
                path.unlink()
                removed.append(path)
    return removed


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there, asking would end the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


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
