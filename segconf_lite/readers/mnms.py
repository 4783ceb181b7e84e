"""M&Ms and M&Ms-2: cine MR of hearts from several vendors, at end-diastole and end-systole.

Sources: Campello et al., IEEE Trans Med Imaging 40:3543, 2021 (M&Ms, four vendors and six hospitals);
Martin-Isla et al., IEEE J Biomed Health Inform 27:3302, 2023 (M&Ms-2); https://www.ub.edu/mnms and
https://www.ub.edu/mnms-2 (free for research, after a registration).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import heart, research
from segconf_lite.readers.cases import Case

# In the order of classes of `heart`: 1 and 3 are the other way round than in ACDC.
_LABELS = {0: "background", 3: "right ventricle", 2: "myocardium", 1: "left ventricle"}
_SPLITS = {"Training": "train", "Validation": "validation", "Testing": "test"}
_DOMAINS = {1: ("VendorName", "Vendor", "Centre"), 2: ("SCANNER", "VENDOR", "FIELD")}


def cohort(
    root: Path | str,
    *,
    edition: int = 1,
    domain: str | None = None,
    phases: tuple[str, ...] = ("ED", "ES"),
    **options: Unpack[research.Options],
) -> Cohort:
    """Short-axis slices of M&Ms or M&Ms-2 at end-diastole (ED) and end-systole (ES).

    In M&Ms a file is a film, of which two frames are segmented; their numbers, from 0, stand in the table of
    the data set. A frame without any label is refused, because then the numbers mean something else. Every
    slice is z-scored by itself: the published codes z-score each *domain*, which reads the whole test set.

    Args:
        root: Of M&Ms, the folder with the table ``*information*.csv`` and ``Training``, ``Validation`` or
            ``Testing``. Of M&Ms-2, the folder with ``dataset_information.csv`` and ``dataset/001``.
        edition: 1 for M&Ms, 2 for M&Ms-2.
        domain: The column that becomes the domain: of M&Ms "VendorName" (the default), "Vendor" or "Centre";
            of M&Ms-2 "SCANNER" (the default), "VENDOR" or "FIELD".
        phases: "ED", "ES" or both.
        **options: Settings of `segconf_lite.readers.from_folder`; by default 192 x 192 pixels of 1.25 mm. The
            splits of M&Ms are "train", "validation" and "test"; M&Ms-2 comes without.

    Returns:
        Classes in the order of `segconf_lite.readers.heart.CLASS_NAMES` (values 1 and 3 of the files change
        places), checked by `segconf_lite.readers.heart.checked`. Subjects are patients, sessions are phases
        of them ("A0S9V9_ED"). Rows and columns are as stored.

    Raises:
        ValueError: If an argument is out of range, the folder is another, patients of the table are missing,
            a file cannot be used, a frame has no label, or the labels of a heart are not in order.

    Example:
        >>> cohort("no/such/folder")
        Traceback (most recent call last):
        ValueError: root must be a folder with one table *information*.csv, got none in no/such/folder; ...
    """
    check.one_of("edition", edition, (1, 2))
    domain = check.one_of("domain", domain or _DOMAINS[edition][0], _DOMAINS[edition])
    for phase in phases:
        check.one_of("phases", phase, ("ED", "ES"))
    folder = Path(root).expanduser()
    table = _table(folder, edition, domain)
    cases = list((_films if edition == 1 else _volumes)(folder, table, domain, phases))
    unlabelled = {film.name[:-10] for film in folder.rglob("*_sa.nii.gz") if "Unlabeled" in film.parts}
    where = f"a folder with {'Training, Validation or Testing' if edition == 1 else 'dataset/001'}"
    published = {"": len(set(table.index) - unlabelled)}
    return heart.checked(
        research.read(cases, _LABELS, published, root=root, where=where, defaults=heart.DEFAULTS, **options)
    )


def _table(folder: Path, edition: int, domain: str) -> pd.DataFrame:
    """The table of the data set, a row per patient, all text."""
    tables = sorted(folder.glob("*[iI]nformation*.csv"))
    if len(tables) != 1:
        got = f"{[path.name for path in tables] or 'none'} in {folder}"
        raise check.refuse(
            "root", "a folder with one table *information*.csv", got, "unpack the archive there"
        )
    table = pd.read_csv(tables[0], dtype=str, keep_default_na=False, encoding="utf-8-sig")
    columns = ["External code", "ED", "ES"] if edition == 1 else ["SUBJECT_CODE"]
    check.columns(table, [*columns, domain], str(tables[0]))
    check.names(f"{columns[0]} in {tables[0]}", table[columns[0]], unique=True)
    return table.set_index(columns[0])


def _films(folder: Path, table: pd.DataFrame, domain: str, phases: tuple[str, ...]) -> Iterator[Case]:
    """M&Ms: Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz with all frames."""
    for part, split in _SPLITS.items():
        for film in sorted((folder / part).rglob("*_sa.nii.gz")):
            code = film.name.removesuffix("_sa.nii.gz")
            label = film.with_name(f"{code}_sa_gt.nii.gz")
            if not label.is_file() and "Unlabeled" in film.parts:
                continue
            row = _row(table, code)
            for phase in phases:
                names: Any = {"subject": code, "domain": row[domain], "split": split}
                if not row[phase].isdigit():
                    raise check.refuse(f"{phase} of {code}", "the number of a frame", repr(row[phase]))
                yield Case(f"{code}_{phase}", (film,), {"": label}, frame=int(row[phase]), **names)


def _volumes(folder: Path, table: pd.DataFrame, domain: str, phases: tuple[str, ...]) -> Iterator[Case]:
    """M&Ms-2: dataset/001/001_SA_ED.nii.gz, one file per phase."""
    rows = table.set_axis(table.index.str.zfill(3), axis="index")
    for patient in sorted((folder / "dataset").glob("[0-9][0-9][0-9]")):
        for phase in phases:
            stem = f"{patient.name}_SA_{phase}"
            names: Any = {"subject": patient.name, "domain": _row(rows, patient.name)[domain]}
            label = patient / f"{stem}_gt.nii.gz"
            yield Case(f"{patient.name}_{phase}", (patient / f"{stem}.nii.gz",), {"": label}, **names)


def _row(table: pd.DataFrame, code: str) -> pd.Series:
    if code not in table.index:
        raise check.refuse(f"the table of {code}", "with a row for it", f"{len(table)} rows for others")
    return table.loc[code]
