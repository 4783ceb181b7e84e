"""What readers of single data sets share: their settings, and whether a data set is whole and labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers.cases import Case, Found, Naming
from segconf_lite.readers.folder import cohort_of, numbers_of
from segconf_lite.readers.settings import Reading


class Options(TypedDict, total=False):
    """Settings that every reader of a single data set takes; see `segconf_lite.readers.from_folder` for each.

    ``whole=False`` reads a folder in which cases of the data set are missing, which is refused otherwise.

    Example:
        >>> sorted(Options.__annotations__)[:4]
        ['channels', 'limit', 'normalise', 'plane']
    """

    size: int | None
    spacing_mm: float | None
    plane: str
    channels: Sequence[int] | None
    slices: str
    normalise: str | None
    source: str | None
    reference: str | None
    split: str | None
    limit: int | None
    skip_damaged: bool
    progress: bool | None
    whole: bool


def read(
    cases: Iterable[Case],
    labels: Mapping[int, str],
    published: Mapping[str, int],
    *,
    root: Path | str,
    where: str,
    defaults: Mapping[str, Any],
    **options: Unpack[Options],
) -> Cohort:
    """The cohort of a data set, if its cases are as many as published and every one of them has a label.

    Args:
        cases: The cases in the folder.
        labels: Label value -> name of its class; values of one name become one class.
        published: Name of a split or a domain -> its number of subjects. Those that are not in the folder at
            all are not missed: one site alone may be read. The empty text stands for all cases together.
        root: The folder, for messages.
        where: What it must be, to read after "root must be".
        defaults: Settings of this data set where `options` has none.
        **options: What the caller asked for.

    Raises:
        ValueError: If there is no case, a number is another than published, a case has no label, or a
            setting is out of range.

    Example:
        >>> settings = {"root": "no/such/folder", "where": "the folder of the challenge", "defaults": {}}
        >>> read([], {0: "background"}, {}, **settings)
        Traceback (most recent call last):
        ValueError: root must be the folder of the challenge, got no/such/folder; unpack the archive there
    """
    settings: dict[str, Any] = {**defaults, **options}
    whole, progress = settings.pop("whole", True), settings.pop("progress", None)
    numbers = numbers_of(Naming(channels=settings.pop("channels", None)), "table")
    reading, cases = Reading(**settings), tuple(cases)
    if not cases:
        raise check.refuse("root", where, root, "unpack the archive there")
    found = {
        name: len({case.subject for case in cases if name in ("", case.split, case.domain)})
        for name in published
    }
    other = [
        f"{found[name]} of {n} {name}".rstrip() for name, n in published.items() if found[name] not in (0, n)
    ]
    if whole and other:
        fix = "unpack the archive again, or pass whole=False and report how many you used"
        raise check.refuse(f"the subjects in {root}", "as many as published", ", ".join(other), fix)
    every = Found("table", cases, dict(labels), ())
    cohort = cohort_of(every, None, reading, numbers=numbers, progress=progress)
    sessions = np.asarray(cohort.sessions)
    labelled = set(sessions[cohort.labels.any(axis=(1, 2))].tolist())
    if empty := sorted(set(sessions.tolist()) - labelled):
        fix = "look at its label file, and at the table that says which frame is segmented"
        raise check.refuse("cases", "segmented, each of them", f"no label in {empty[:5]}", fix)
    return cohort
