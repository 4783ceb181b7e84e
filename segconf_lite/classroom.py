"""Trained networks for a class: the store of one computer as a file, for the stores of others.

A chapter trains for minutes, and thirty laptops would train for thirty times as long. Networks are found by
the code and the data that made them, so the package must have the same version on all computers.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from segconf_lite import __version__, archives, check, resources

_SUMS = "SHA256SUMS"
_NETWORK = r"\w+-[0-9a-f]{16}\.safetensors"
_LINE = re.compile(rf"(?P<digest>[0-9a-f]{{64}})  (?P<name>{_NETWORK})")


class Unpacked(NamedTuple):
    """Names of the networks of an archive.

    Example:
        >>> Unpacked([], ["fit_unet-0123456789abcdef.safetensors"]).new
        []
    """

    new: list[str]  # written into the store
    kept: list[str]  # were in the store before, and are as they were


def pack(path: str | Path, *, chapters: Iterable[str] | None = None) -> list[str]:
    """Write the networks of the store into a zip archive, with their SHA-256 sums.

    Args:
        path: The archive; an older one is replaced.
        chapters: Numbers of notebooks, whose last runs at their own settings say which networks are needed;
            None takes all networks of the store.

    Returns:
        The names of the networks. Damaged ones are left out, with a warning.

    Raises:
        ValueError: If there is no network, or a chapter has not been run with this store.

    Example:
        >>> import os, tempfile
        >>> from segconf_lite.notebook import environment
        >>> with environment({"SEGCONF_HOME": tempfile.mkdtemp()}):
        ...     pack("class.zip")
        Traceback (most recent call last):
        ValueError: the store must be one with networks, got none in ...
    """
    from segconf_lite import artefacts

    path, folder = Path(path), resources.user_folder() / "store"
    wanted = None if chapters is None else {name for chapter in chapters for name in _used_by(chapter)}
    contents: dict[str, Path] = {}
    lines = [f"# segconf_lite {__version__}: trained networks, for `segconf store unpack`"]
    for file in sorted(folder.glob("*.safetensors")):
        if wanted is None or file.name in wanted:
            content = file.read_bytes()
            try:
                artefacts.restored(content, file.stem)
            except Exception as error:  # whatever is wrong with it, or it is of an older version
                warnings.warn(f"{file.name} is left out, it cannot be read: {error}", stacklevel=2)
                continue
            contents[file.name] = file
            lines.append(f"{hashlib.sha256(content).hexdigest()}  {file.name}")
    if not contents:
        raise check.refuse("the store", "one with networks", f"none in {folder}", "run chapters first")
    with resources.whole_file(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_SUMS), "\n".join(lines) + "\n")
        for name, file in contents.items():
            archive.write(file, name)  # weights do not get smaller by compression
    return list(contents)


def unpack(path: str | Path) -> Unpacked:
    """Put the networks of an archive into the store; what the store has is kept.

    Each file is compared with its SHA-256 sum before it appears in the store, and whole. After an error those
    before the faulty one are there, and a second call goes on.

    Args:
        path: An archive that `pack` has written.

    Raises:
        ValueError: If it is no such archive, see `archives.opened`, or a file is not the one that was packed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "other.zip"
        >>> with zipfile.ZipFile(path, "w") as archive:
        ...     archive.writestr("notes.txt", "other")
        >>> unpack(path)
        Traceback (most recent call last):
        ValueError: 'notes.txt' in other.zip must be of a name that matches ...
    """
    store, result = resources.user_folder() / "store", Unpacked([], [])
    with archives.opened(path, allowed=rf"{_SUMS}|{_NETWORK}") as files:
        read_sums = files.pop(_SUMS, bytes)
        first, *lines = read_sums().decode(errors="replace").splitlines() or [""]
        matches = [_LINE.fullmatch(line) for line in lines]
        digests = {match["name"]: match["digest"] for match in matches if match}
        if not digests or None in matches or digests.keys() != files.keys():
            raise check.refuse(str(path), f"networks with their sums in {_SUMS}", "another list of files")
        if not first.startswith(f"# segconf_lite {__version__}:"):
            what = f"{path} was packed by another version ({first}); this is segconf_lite {__version__}"
            warnings.warn(f"{what}, which may train its own networks all the same", stacklevel=2)
        for name, read in files.items():
            if (store / name).exists():
                result.kept.append(name)
                continue
            content = read()
            if hashlib.sha256(content).hexdigest() != digests[name]:
                fix = "copy the archive again"
                raise check.refuse(f"{name} in {path}", f"of SHA-256 {digests[name]}", "another content", fix)
            resources.write_whole(store / name, content)
            result.new.append(name)
    return result


def _used_by(chapter: str) -> list[str]:
    from segconf_lite import notebook

    run = notebook.find_notebook(chapter).stem
    try:
        return resources.used_file(run).read_text("utf-8").split()
    except FileNotFoundError:
        fix = f"run it: segconf run {chapter}"
        raise check.refuse(f"chapter {chapter}", "one that was run with this store", run, fix) from None
