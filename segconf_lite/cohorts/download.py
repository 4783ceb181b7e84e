"""Public data sets: where they lie, how they get there, and whether a file is the published one.

Files are compared with SHA-256 sums that ship with the package (``registry/NAME.txt``, the format of
``sha256sum``), when they are downloaded and whenever they are read. A file that was cut short, altered or
replaced is therefore never read as data. Files that no registry names, such as a cohort of your own in the
same layout, have nothing to be compared with.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import filelock
import pooch

from segconf_lite import check, transfer
from segconf_lite.resources import user_folder

_MOST_BYTES = 2**28  # of one file, packed and unpacked: 256 MB, ten times the largest published file
_MOST_SECONDS = 600.0  # for the download of one file

_REGISTRY = resources.files("segconf_lite.cohorts") / "registry"
_GM_COMMIT = "dfa78f751953eaafcf62e77fbc2f7ec6df668e14"

#: Name of a data set -> (address under which every file lies, how a person gets the same files).
SOURCES: dict[str, tuple[str, str]] = {
    "gm_challenge": (
        f"https://raw.githubusercontent.com/sct-pipeline/gm-challenge-data/{_GM_COMMIT}/",
        "git clone https://github.com/sct-pipeline/gm-challenge-data gm_challenge && "
        f"git -C gm_challenge checkout {_GM_COMMIT}",
    )
}

#: Name of a data set -> how a person gets it, where no address has every file as it is read here.
BY_HAND: dict[str, str] = {
    name: " ".join((_REGISTRY / f"{name}_by_hand.txt").read_text("utf-8").split())
    for name in ("retina_chase_hrf", "published_results", "acdc", "mnms", "mnms2", "lidc_nodules")
}


def data_folder() -> Path:
    """Folder of downloads: ``$SEGCONF_HOME/data``, else ``data`` in the user's cache folder.

    Example:
        >>> data_folder().name
        'data'
    """
    return user_folder() / "data"


def find(name: str, root: Path | str | None = None) -> Path:
    """The folder of a data set on this computer; nothing is downloaded.

    Without a `root`, looks in ``$SEGCONF_DATA/name`` (if the variable is set), then in the folder
    ``data_folder()/name``.

    Args:
        name: Name of the data set, a key of `SOURCES` or `BY_HAND`.
        root: The folder, if the caller knows it.

    Raises:
        ValueError: If there is no such data set, or `root` is no path.
        FileNotFoundError: If there is no such folder; the message says how to get the data.

    Example:
        >>> find("liver")
        Traceback (most recent call last):
        ValueError: name must be one of ('gm_challenge', 'retina_chase_hrf', ...), got 'liver'
    """
    check.one_of("name", name, (*SOURCES, *BY_HAND))
    if root is not None:
        folder = _path("root", root).expanduser()
        if not folder.is_dir():
            fix = f"give the folder of {name}, or no root to have it looked for"
            raise FileNotFoundError(f"root must be a folder, got {root}; {fix}")
        return folder
    parent = os.environ.get("SEGCONF_DATA")
    folders = [Path(parent).expanduser() / name] if parent else []
    if not (folders and folders[0].is_dir()):  # a user without a home folder has no folder of downloads
        folders.append(data_folder() / name)
    if folders[-1].is_dir():
        return folders[-1]
    command = (
        f"Get it with `segconf data get {name}` (in Python: segconf_lite.cohorts.download.fetch({name!r}))"
    )
    how = f"It has to be fetched by hand: {BY_HAND[name]}" if name in BY_HAND else command
    raise FileNotFoundError(
        f"data set {name!r} is not on this computer; looked in {' and '.join(map(str, folders))}. "
        f"{how}, or set SEGCONF_DATA to the folder that holds {name}/"
        + ("" if parent else " (SEGCONF_DATA is not set now)")
    )


def registry(name: str) -> dict[str, str]:
    """Relative path -> SHA-256 (hex) of every file of a data set.

    Args:
        name: Name of the data set, a key of `SOURCES`.

    Raises:
        ValueError: If there is no such data set (the message lists those that are), or it has to be
            fetched by hand (the message says how).

    Example:
        >>> len(registry("gm_challenge"))
        37
    """
    check.one_of("name", name, (*SOURCES, *BY_HAND))
    if name in BY_HAND:
        raise ValueError(f"data set {name!r} has to be fetched by hand: {BY_HAND[name]}, in {data_folder()}")
    text = (_REGISTRY / f"{name}.txt").read_text("utf-8")
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {path: digest for digest, path in pairs}


def read(name: str, folder: Path, path: Path, *, unzip: bool = False) -> bytes:
    """The bytes of one file of a data set, compared with the registry if that names the file.

    Args:
        name: Name of the data set.
        folder: The folder of the data set.
        path: The file, inside `folder`.
        unzip: Whether to return what gzip has packed in it.

    Returns:
        The bytes, at most 256 MB.

    Raises:
        ValueError: If the file is not the published one, is no whole gzip file, or is too large.
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "mine.json").write_text("{}")
        >>> read("gm_challenge", folder, folder / "mine.json")
        b'{}'
    """
    check.one_of("name", name, (*SOURCES, *BY_HAND))
    folder, path = _path("folder", folder), _path("path", path)
    if not path.is_relative_to(folder):
        raise check.refuse("path", f"inside {folder}", path)
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    registered = registry(name) if name in SOURCES else {}
    expected = registered.get(path.relative_to(folder).as_posix())
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        fix = f"it was cut short, altered or replaced: delete it and run `segconf data get {name}`"
        raise check.refuse(str(path), f"the published file (SHA-256 {expected})", "another content", fix)
    if unzip:
        try:
            with gzip.open(io.BytesIO(content)) as packed:  # to its end, where gzip compares its own sum
                content = packed.read(_MOST_BYTES + 1)
        except Exception as error:  # gzip and zlib share no class of errors for damaged files
            raise damaged(path, "a whole gzip file", error) from error
    if len(content) > _MOST_BYTES:
        got = f"more, {'un' if unzip else ''}packed"
        raise check.refuse(str(path), f"a file of at most {_MOST_BYTES} bytes", got, "fetch the data again")
    return content


def damaged(path: Path, expected: str, error: Exception, fix: str = "") -> ValueError:
    """The error for a file that cannot be decoded.

    Args:
        path: The file.
        expected: What it must be, to read after "must be".
        error: What the decoder raised.
        fix: The likely remedy; by default, to fetch the data again.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> str(damaged(Path("a.json"), "JSON", KeyError("x"), fix="complete it"))
        "a.json must be JSON, got KeyError: 'x'; complete it"
    """
    fix = fix or "the file is cut short or damaged: delete it and fetch the data again"
    return check.refuse(str(path), expected, f"{type(error).__name__}: {error}", fix)


def fetch(
    name: str, *, base_url: str | Sequence[str] | None = None, folder: Path | str | None = None
) -> Path:
    """Download what is missing of a data set, and say where it lies.

    Each file is written under a temporary name, checked, then renamed: an interrupted call keeps
    what it finished, and the next call goes on from there, also within a file where the server allows it. A
    file that was altered is replaced.

    Args:
        name: A key of `SOURCES`, e.g. ``"gm_challenge"`` (37 files, 14 MB, CC0).
        base_url: Other http(s) addresses that hold the same files (mirrors of a course, say), tried in
            order for each file; the SHA-256 sums stay the same.
        folder: Folder to write into; by default ``data_folder()/name``.

    Returns:
        The folder that holds the data set.

    Raises:
        ValueError: If the data set is unknown, the address is none, or a file arrives with another content
            than expected (it is not kept).
        ConnectionError: If a file cannot be downloaded, is larger than 256 MB or takes longer than ten
            minutes. The message gives the steps by hand.
        OSError: If the folder cannot be written.

    Example:
        >>> fetch("gm_challenge", base_url="mirror")
        Traceback (most recent call last):
        ValueError: base_url must be an address that begins with http:// or https://, got 'mirror'
    """
    digests = registry(name)
    given = base_url if isinstance(base_url, list | tuple) else [base_url]
    urls = [str(url or SOURCES[name][0]) for url in given]
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise check.refuse("base_url", "an address that begins with http:// or https://", repr(url))
    target = _path("folder", folder) if folder is not None else data_folder() / name
    sums = {path: f"sha256:{digest}" for path, digest in digests.items()}
    options = {"path": target, "registry": sums, "retry_if_failed": 2 if base_url is None else 0}
    stores = [pooch.create(base_url=url.rstrip("/") + "/", **options) for url in urls]
    target.parent.mkdir(parents=True, exist_ok=True)
    logger, level = pooch.get_logger(), pooch.get_logger().level
    logger.setLevel("WARNING")  # it would announce every single file
    try:
        with filelock.FileLock(target.with_name(f".{target.name}.lock")):  # two would mix their parts
            for n_done, path in enumerate(digests):
                _fetch_one(stores, path, _by_hand(name, target, n_done, len(digests)))
    finally:
        logger.setLevel(level)
    return target


def _path(name: str, value: Path | str) -> Path:
    if not isinstance(value, str | Path):
        raise check.refuse(name, "a path", repr(value), "give the folder as text or as a pathlib.Path")
    return Path(value)


def _fetch_one(stores: list[pooch.Pooch], path: str, by_hand: str) -> None:
    """Download one file unless it is there and whole; say what failed and what to do."""
    for store in stores:
        try:
            store.fetch(path, downloader=_download)
            return
        except (OSError, ValueError) as error:  # every error of requests is the first, some are both
            # A full disk or a read-only folder is not the network's fault; requests sets no errno.
            if getattr(error, "errno", None) is not None:
                raise
            last = error
    urls = " and ".join(store.get_url(path) for store in stores)
    if isinstance(last, OSError):
        what = f"{urls}: could not be downloaded ({type(last).__name__}: {last}). {by_hand}"
        raise ConnectionError(what) from last
    raise ValueError(
        f"{urls}: expected SHA-256 {stores[0].registry[path].removeprefix('sha256:')}, "
        f"got another content (the upstream file changed, or a proxy answered in its place); "
        f"it was not kept. {by_hand}"
    ) from last


def _download(url: str, output_file: str, _: pooch.Pooch) -> None:
    transfer.download(url, output_file, most_bytes=_MOST_BYTES, most_seconds=_MOST_SECONDS)


def _by_hand(name: str, target: Path, n_done: int, n_files: int) -> str:
    return (
        f"{n_done} of {n_files} files are already in {target} and are kept: call again to go on. "
        f"By hand: run `{SOURCES[name][1]}` where there is a connection, and either copy that folder "
        f"to {target} or set SEGCONF_DATA to the folder that holds {name}/"
    )
