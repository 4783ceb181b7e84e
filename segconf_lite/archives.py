"""Zip archives from others, read without trust.

Nothing is written outside of a folder, nothing that is no plain file is accepted, and sizes have limits, so
that a small archive cannot fill a disk.
"""

from __future__ import annotations

import contextlib
import functools
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from segconf_lite import check
from segconf_lite.resources import write_whole

MOST_BYTES = 2**34  # of all files together, unpacked: 16 GB
MOST_BYTES_OF_A_FILE = 2**28  # 256 MB


@contextlib.contextmanager
def opened(path: str | Path, *, allowed: str = r".*") -> Iterator[dict[str, Callable[[], bytes]]]:
    r"""The files in a zip archive, all of them checked before the first is read.

    Args:
        path: The archive.
        allowed: Regular expression that every name must match.

    Yields:
        Name -> function that reads the content.

    Raises:
        ValueError: If it is no whole zip archive; a name is absolute, leads out of the folder, comes twice or
            does not match; an entry is a link, a device or encrypted; or the files are too large.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "evil.zip"
        >>> with zipfile.ZipFile(path, "w") as archive:
        ...     archive.writestr("../evil.txt", "evil")
        >>> with opened(path) as files:
        ...     pass
        Traceback (most recent call last):
        ValueError: '../evil.txt' in evil.zip must be a relative path inside of the folder, ...
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            total, seen = 0, set[str]()
            for entry in entries:
                total += entry.file_size
                _check_entry(entry, path.name, allowed, total, seen)
            yield {entry.filename: functools.partial(archive.read, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise check.refuse(str(path), "a whole zip archive", f"{type(error).__name__}: {error}") from error


def unpack(path: str | Path, folder: str | Path) -> list[Path]:
    """Unpack a zip archive into a folder; files that are already there are kept.

    Each file appears under its name only when it is whole.

    Args:
        path: The archive.
        folder: Where the files go; it is made if it does not exist.

    Returns:
        The files that were written.

    Raises:
        ValueError: As `opened`, or if a link in the folder leads out of it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        ...     archive.writestr("sub/a.txt", "content")
        >>> [file.name for file in unpack(folder / "a.zip", folder)], unpack(folder / "a.zip", folder)
        (['a.txt'], [])
    """
    root, written = Path(folder).resolve(), []
    with opened(path) as files:
        for name, read in files.items():
            target = root / name
            if not target.parent.resolve().is_relative_to(root):
                raise check.refuse(str(target), f"inside {root}", "behind a link that leads out of it")
            if not target.exists():
                written.append(write_whole(target, read()))
    return written


def _check_entry(entry: zipfile.ZipInfo, archive: str, allowed: str, total: int, seen: set[str]) -> None:
    name, what = entry.filename, f"{entry.filename!r} in {archive}"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or re.search(r"[\\:\0-\x1f]", name):
        raise check.refuse(what, "a relative path inside of the folder", "another path")
    if not re.fullmatch(allowed, name):
        raise check.refuse(what, f"of a name that matches {allowed}", "another name")
    if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
        raise check.refuse(what, "a plain file", "a link, a device, or an encrypted file")
    if entry.file_size > MOST_BYTES_OF_A_FILE or total > MOST_BYTES:
        expected = f"at most {MOST_BYTES_OF_A_FILE} bytes, and {MOST_BYTES} with all others"
        raise check.refuse(what, expected, f"{entry.file_size}, and {total}")
    if name.casefold() in seen:
        raise check.refuse(what, "there once", "twice")
    seen.add(name.casefold())
