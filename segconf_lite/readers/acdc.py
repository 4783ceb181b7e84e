"""ACDC: cine MR of 150 hearts from one hospital, segmented at end-diastole and end-systole.

Source: Bernard et al., IEEE Trans Med Imaging 37:2514, 2018; the Automated Cardiac Diagnosis Challenge,
https://www.creatis.insa-lyon.fr/Challenge/acdc (free for research, after a registration).
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import heart, research
from segconf_lite.readers.cases import Case

_LABELS = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
_SPLITS = {"training": "train", "testing": "test"}
_PUBLISHED = {"train": 100, "test": 50}
_WHERE = "the folder that holds training/patient001, as it comes from the challenge's page"


def cohort(
    root: Path | str,
    *,
    phases: tuple[str, ...] = ("ED", "ES"),
    **options: Unpack[research.Options],
) -> Cohort:
    """Short-axis slices of ACDC at end-diastole (ED) and end-systole (ES).

    Which frame is which phase stands in each patient's ``Info.cfg``: frame 1 is not always the end-diastole.
    Every slice is z-scored by itself, and the labels are checked by `segconf_lite.readers.heart.checked`.

    Args:
        root: Folder with ``training`` (or ``database/training``) and, if you like, ``testing``.
        phases: "ED", "ES" or both.
        **options: Settings of `segconf_lite.readers.from_folder`; by default 192 x 192 pixels of 1.25 mm. The
            splits are "train" (patients 1 to 100) and "test" (101 to 150).

    Returns:
        Classes in the order of `segconf_lite.readers.heart.CLASS_NAMES`. Domains are the diagnoses (DCM, HCM,
        MINF, NOR, RV), because all patients come from one hospital. Subjects are patients, sessions are
        phases of them ("patient001_ED"). Rows and columns are as stored.

    Raises:
        ValueError: If an argument is out of range, the folder is another, patients are missing, a file cannot
            be used, or the labels of a heart are not in order.

    Example:
        >>> cohort("no/such/folder")
        Traceback (most recent call last):
        ValueError: root must be the folder that holds training/patient001, as it comes from ..., got ...
    """
    for phase in phases:
        check.one_of("phases", phase, ("ED", "ES"))
    folder = Path(root).expanduser()
    folder = folder / "database" if (folder / "database").is_dir() else folder
    cases = [
        case
        for part, name in _SPLITS.items()
        for patient in sorted((folder / part).glob("patient[0-9]*"))
        for case in _cases(patient, name, phases)
    ]
    return heart.checked(
        research.read(cases, _LABELS, _PUBLISHED, root=root, where=_WHERE, defaults=heart.DEFAULTS, **options)
    )


def _cases(patient: Path, split: str, phases: tuple[str, ...]) -> list[Case]:
    """The asked phases of one patient."""
    path = patient / "Info.cfg"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    missing = [name for name in (*phases, "Group") if not facts.get(name)]
    if missing or not all(facts[phase].isdigit() for phase in phases):
        fix = "unpack the archive again"
        raise check.refuse(str(path), "lines 'ED: 1', 'ES: 12' and 'Group: DCM'", sorted(facts.items()), fix)
    stems = {phase: patient / f"{patient.name}_frame{int(facts[phase]):02d}" for phase in phases}
    return [
        Case(
            f"{patient.name}_{phase}",
            images=(Path(f"{stem}.nii.gz"),),
            labels={"": Path(f"{stem}_gt.nii.gz")},
            subject=patient.name,
            domain=facts["Group"],
            split=split,
        )
        for phase, stem in stems.items()
    ]
