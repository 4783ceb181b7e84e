"""Which layout a folder has, and its cases: nnU-Net, BIDS, or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segconf_lite import check
from segconf_lite.readers import bids, nnunet, table
from segconf_lite.readers.cases import Found, Naming

_ROOMS: dict[str, Any] = {"nnunet": nnunet, "bids": bids, "table": table}
#: How a folder may be laid out.
LAYOUTS = ("auto", *_ROOMS)


def find_cases(root: Path | str, *, layout: str, naming: Naming) -> Found:
    """The cases of a folder. No image is opened.

    Args:
        root: The folder, or the table itself.
        layout: One of `LAYOUTS`; "auto" takes the first that is there.
        naming: How cases get their names.

    Returns:
        At least one case, of all splits.

    Raises:
        ValueError: If there is no such folder, or it has no layout that is known (the message says what was
            looked for, and what was found), contradicts itself, or has no case.

    Example:
        >>> find_cases("no/such/folder", layout="auto", naming=Naming())
        Traceback (most recent call last):
        ValueError: root must be a folder or a table, got no/such/folder; it does not exist
    """
    check.one_of("layout", layout, LAYOUTS)
    if not isinstance(root, str | Path):
        raise check.refuse("root", "a path", repr(root), "give the folder as text or as a pathlib.Path")
    folder = Path(root).expanduser()
    if not folder.exists():
        raise check.refuse("root", "a folder or a table", root, "it does not exist")
    asked = _ROOMS if layout == "auto" else {layout: _ROOMS[layout]}
    fitting = [name for name, room in asked.items() if room.is_here(folder)]
    if not fitting:
        looked = "; ".join(f"{room.LOOKS} ({name})" for name, room in asked.items())
        entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        more = f" and {len(entries) - 8} more" if len(entries) > 8 else ""
        got = f"{folder} with {', '.join(entries[:8]) or 'nothing'}{more} in it"
        got = got if folder.is_dir() else f"the file {folder}"
        near = [str(each) for each in (folder.parent, *_below(folder)) if _fits(each, asked)]
        fix = f"{near[0]} looks like one" if near else "a table (CSV) of the files reads any other layout"
        raise check.refuse("root", f"a folder with {looked}", got, fix)
    found: Found = _ROOMS[fitting[0]].find(folder, naming)
    if not found.cases:
        raise check.refuse("root", "a folder with images and their labels", f"{folder} with no such pair")
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def _fits(folder: Path, asked: dict[str, Any]) -> bool:
    return any(room.is_here(folder) for room in asked.values())
