"""Data sets on this computer: whether their files are the published ones, and how an archive becomes one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from segconf_lite import archives, check
from segconf_lite.cohorts import download
from segconf_lite.resources import write_whole


class FileState(NamedTuple):
    """Relative paths of the files of a data set.

    Example:
        >>> FileState(["a.nii.gz"], [], []).altered
        []
    """

    whole: list[str]  # as published
    missing: list[str]
    altered: list[str]


def compare(name: str, root: Path | str | None = None) -> FileState:
    """Compare all files of a data set with their SHA-256 sums; nothing is changed.

    Args:
        name: A key of `cohorts.download.SOURCES`; data sets that are fetched by hand have no published sums.
        root: The folder; by default where `cohorts.download.find` finds it.

    Raises:
        ValueError: If there is no such data set, or it has no published sums.
        FileNotFoundError: If it is not on this computer.

    Example:
        >>> import tempfile
        >>> len(compare("gm_challenge", tempfile.mkdtemp()).missing)
        37
    """
    digests, state = download.registry(name), FileState([], [], [])
    folder = download.find(name, root)
    for path, digest in digests.items():
        file = folder / path
        if not file.is_file():
            state.missing.append(path)
        else:
            with file.open("rb") as content:
                same = hashlib.file_digest(content, "sha256").hexdigest() == digest
            (state.whole if same else state.altered).append(path)
    return state


def report(name: str) -> tuple[list[str], bool]:
    """What `compare` finds, in lines for people, and whether all files are as published.

    Args:
        name: Name of the data set; one that is fetched by hand has no published sums, and passes.

    Raises:
        ValueError: If there is no such data set.
        FileNotFoundError: If it is not on this computer.

    Example:
        >>> import os, tempfile
        >>> from segconf_lite.notebook import environment
        >>> with environment({"SEGCONF_DATA": tempfile.mkdtemp()}):
        ...     (Path(os.environ["SEGCONF_DATA"]) / "acdc").mkdir()
        ...     report("acdc")
        (['acdc is at ... (0 files); there are no published sums to compare it with'], True)
    """
    folder = download.find(name)
    if name in download.BY_HAND:
        n_files = sum(path.is_file() for path in folder.rglob("*"))
        what = f"({n_files} files); there are no published sums to compare it with"
        return [f"{name} is at {folder} {what}"], True
    state = compare(name, folder)
    lines = [f"{name} is at {folder}; {len(state.whole)} files are as published"]
    lines += [f"  missing: {path}" for path in state.missing] + [f"  altered: {p}" for p in state.altered]
    if len(lines) > 1:
        lines.append(f"`segconf data get {name}` gets what is missing, and replaces what was altered")
    return lines, len(lines) == 1


def from_archive(name: str, path: Path | str, *, folder: Path | str | None = None) -> Path:
    """Take a data set out of a zip archive that a person has downloaded, or got from a teacher.

    Of a data set with published sums, the registered files are taken, wherever they lie in the archive, if
    their content is the published one. Of a data set that is fetched by hand, all files are unpacked.

    Args:
        name: Name of the data set, a key of `cohorts.download.SOURCES` or of `BY_HAND` there.
        path: The archive.
        folder: Folder to write into; by default ``data_folder()/name``.

    Returns:
        The folder that holds the data set.

    Raises:
        ValueError: If the archive is refused, see `archives.opened`, or lacks a registered file.

    Example:
        >>> from_archive("liver", "liver.zip")
        Traceback (most recent call last):
        ValueError: name must be one of ('gm_challenge', ...), got 'liver'
    """
    check.one_of("name", name, (*download.SOURCES, *download.BY_HAND))
    target = download.data_folder() / name if folder is None else Path(folder)
    if name in download.BY_HAND:
        archives.unpack(path, target)
        return target
    target.mkdir(parents=True, exist_ok=True)
    state, digests = compare(name, target), download.registry(name)
    wanted = {*state.missing, *state.altered}
    with archives.opened(path) as files:
        for inside, read in files.items():
            for part in [p for p in wanted if f"/{inside}".endswith(f"/{p}")]:
                content = read()
                if hashlib.sha256(content).hexdigest() == digests[part]:
                    write_whole(target / part, content)
                    wanted.remove(part)
    if wanted:
        got = f"none of this content for {len(wanted)} of them, first: {min(wanted)}"
        raise check.refuse(str(path), f"an archive with the {len(digests)} files of {name}", got)
    return target
