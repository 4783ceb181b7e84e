"""One case of a folder: its files, whose it is, and what is in them once they are opened."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segconf_lite import check
from segconf_lite.readers import files, geometry
from segconf_lite.readers.label_values import counted
from segconf_lite.readers.stored import Stored, damaged

#: How a name is found in the path of an image: a pattern (its first group), or a function of the path.
FromPath = re.Pattern[str] | Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Case:
    """The files of one image, a volume or a picture, and the names that belong to it.

    Attributes:
        name: Unique in the folder.
        images: One file per channel, or one file with all of them.
        labels: Rater -> file.
        subject: The person.
        domain: The scanner or site.
        split: "train", "test" or another word of the folder; "" where it has none.
        spacing_mm: Row and column spacing where a table states it.
        frame: Which of the channels of image and labels is the case, where they are frames of a film.

    Example:
        >>> Case("p1_ED", (Path("p1_ED.nii"),), {"": Path("p1_ED_gt.nii")}, subject="p1", domain="A").split
        ''
    """

    name: str
    images: tuple[Path, ...]
    labels: dict[str, Path]
    subject: str
    domain: str
    split: str = ""
    spacing_mm: tuple[float, float] | None = None
    frame: int | None = None


@dataclasses.dataclass(frozen=True)
class Naming:
    """How cases get their names; see `segconf_lite.readers.from_folder` for each of them.

    Raises:
        ValueError: If a value is of another kind.

    Example:
        >>> Naming(domain="site").label_suffix
        'dseg'
    """

    subject: FromPath | None = None
    domain: FromPath | str | None = None
    channels: Sequence[int | str] | None = None
    label_suffix: str = "dseg"

    def __post_init__(self) -> None:
        for name, is_text in (("subject", False), ("domain", isinstance(self.domain, str))):
            value = getattr(self, name)
            if not (value is None or is_text or callable(value) or isinstance(value, re.Pattern)):
                expected = "a compiled pattern or a function of the path"
                raise check.refuse(name, expected, repr(value), r"e.g. re.compile(r'site-(\w+)')")
        if self.channels is not None:
            if isinstance(self.channels, str) or not len(self.channels):
                raise check.refuse(
                    "channels", "a list of numbers, or of suffixes (BIDS)", repr(self.channels)
                )
            for channel in self.channels:
                if not isinstance(channel, str):
                    check.integer("channels", channel, low=0)


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes:
        layout: "nnunet", "bids" or "table".
        cases: The cases, in the order of their names or of the table.
        labels: Label value -> name, where the folder states it.
        notes: What was left out, and by which rule names were made.

    Example:
        >>> Found("table", (), None, ()).layout
        'table'
    """

    layout: str
    cases: tuple[Case, ...]
    labels: dict[int, str] | None
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """What the files of a case hold, cut along its plane; R raters, of which only those present are listed.

    Attributes:
        image: (C, S, H, W) as stored.
        labels: Rater -> (S, H, W) label values as stored.
        counts: Label value -> number of pixels, over all raters.
        spacing_mm: Row and column spacing, or None where nothing states it.
        plane: "axial", "coronal" or "sagittal", or "" for pictures.
        notes: What is odd, but harmless.

    Example:
        >>> image, labels = np.zeros((1, 2, 4, 4)), {"ann": np.zeros((2, 4, 4), int)}
        >>> Opened(image, labels, {0: 32}, (1.0, 1.0), "axial", ()).counts
        {0: 32}
    """

    image: np.ndarray
    labels: dict[str, np.ndarray]
    counts: dict[int, int]
    spacing_mm: tuple[float, float] | None
    plane: str
    notes: tuple[str, ...]


def open_case(case: Case, *, plane: str, channels: Sequence[int] | None, most_bytes: int) -> Opened:
    """Read the files of a case, and check that they lie on each other.

    Args:
        case: The case.
        plane: One of `geometry.PLANES`.
        channels: Numbers of the channels to keep, in this order; None keeps all.
        most_bytes: Largest size of the values of a file as float32.

    Raises:
        DamagedCaseError: If a file is missing or damaged, or does not lie on the first one; if a label is no
            integer, or a channel shows no contrast.

    Example:
        >>> case = Case("a", (Path("a.png"),), {"": Path("a_mask.png")}, subject="a", domain="A")
        >>> open_case(case, plane="axial", channels=None, most_bytes=2**30)
        Traceback (most recent call last):
        segconf_lite.readers.stored.DamagedCaseError: a.png must be a file, got none; ...
    """
    limits: Any = {"most_bytes": most_bytes, "turned": plane != "stored"}
    stored = [_frame(case, path, files.read(path, role="image", **limits)) for path in case.images]
    image = stored[0]
    for path, other in zip(case.images[1:], stored[1:], strict=True):
        geometry.check_same_grid(str(path), other, image)
    plane = geometry.plane_of(image, plane)
    cut = np.concatenate([geometry.in_plane(each, plane) for each in stored])  # (C, S, H, W)
    if channels is not None:
        if max(channels) >= len(cut):
            got = f"{len(cut)} channels"
            raise damaged(case.images[0], f"an image with channel {max(channels)}", got, "change channels=")
        cut = cut[list(channels)]
    flat = [number for number, channel in enumerate(cut) if channel.min() == channel.max()]
    if flat:
        raise damaged(case.images[0], "an image", f"one constant value in channel {flat[0]}", "leave it out")
    labels, counts, notes = {}, dict[int, int](), [note for each in stored for note in each.notes]
    for rater, path in case.labels.items():
        drawn = _frame(case, path, files.read(path, role="labels", **limits))
        geometry.check_same_grid(str(path), drawn, image)
        if len(drawn.values) != 1:
            fix = "one file per case and rater, of one number per pixel"
            raise damaged(path, "labels without channels", f"{len(drawn.values)} channels", fix)
        for value, n_pixels in counted(drawn.values, str(path)).items():
            counts[value] = counts.get(value, 0) + n_pixels
        labels[rater] = geometry.in_plane(drawn, plane)[0]
        notes += drawn.notes
    spacing = case.spacing_mm or geometry.spacing_in_plane(image, plane)
    return Opened(cut, labels, counts, spacing, plane, tuple(dict.fromkeys(notes)))


def _frame(case: Case, path: Path, stored: Stored) -> Stored:
    """One frame of a film."""
    if case.frame is None:
        return stored
    if not 0 <= case.frame < len(stored.values):
        got = f"{len(stored.values)} frames"
        raise damaged(path, f"a film with frame {case.frame} (the first is 0)", got, "look at the table")
    return dataclasses.replace(stored, values=stored.values[case.frame : case.frame + 1])


def name_from_path(kind: str, path: str, how: FromPath) -> str:
    r"""A name out of the path of an image.

    Args:
        kind: What it names, for the message: "subject" or "domain".
        path: The path below the folder, with ``/``.
        how: A compiled pattern, whose first group (or whole match) is the name, or a function.

    Raises:
        ValueError: If the pattern does not match, or the name is empty.

    Example:
        >>> name_from_path("domain", "site-A/case_01.nii", re.compile(r"site-(\w+)/"))
        'A'
    """
    if isinstance(how, re.Pattern):
        found = how.search(path)
        if found is None:
            raise check.refuse(kind, f"a pattern that is found in every path, as {how.pattern!r}", path)
        name = found[1] if how.groups else found[0]
    else:
        name = how(path)
    return str(check.names(kind, [name], length=1)[0])


def overlaps(cases: Sequence[Case]) -> list[str]:
    """What would let a person be in a training and in a test part at once, as sentences.

    Args:
        cases: The cases of a folder.

    Example:
        >>> one = Case("a", (), {}, subject="p1", domain="A", split="train")
        >>> overlaps([one, dataclasses.replace(one, name="b", split="test")])
        ['subject p1 is in the splits test and train']
    """
    splits: dict[str, set[str]] = {}
    spellings: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.subject, set()).add(case.split)
        spellings.setdefault(case.subject.lower(), set()).add(case.subject)
    doubled = [
        f"subject {subject} is in the splits {' and '.join(sorted(found))}"
        for subject, found in splits.items()
        if len(found) > 1
    ]
    return doubled + [
        f"subjects {' and '.join(sorted(found))} differ in capital letters only"
        for found in spellings.values()
        if len(found) > 1
    ]
