"""Calgary-Campinas-359: T1-weighted MR of 359 healthy adults, three vendors at two field strengths.

Source: Souza et al., NeuroImage 170:482, 2018. The masks of the brain are a consensus of programs (a "silver
standard"), and were not drawn by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import research
from segconf_lite.readers.cases import Case
from segconf_lite.readers.files import stem

_DOMAINS = tuple(f"{vendor}_{tesla}" for vendor in ("GE", "Philips", "Siemens") for tesla in ("15", "3"))
_LABELS = {0: "background", 1: "brain"}
_DEFAULTS = {"plane": "axial", "size": 256, "spacing_mm": 1.0}


def cohort(root: Path | str, **options: Unpack[research.Options]) -> Cohort:
    """Slices of Calgary-Campinas-359, with vendor and field strength as the domain ("Siemens_3", "GE_15").

    The published code scales each volume to its smallest and largest intensity and then by two constants;
    here every slice is z-scored by itself, so that a single bright voxel changes nothing.

    Args:
        root: Folder with ``Original/GE_15/NAME.nii.gz`` and ``Silver-standard``, in which each mask is called
            ``NAME_ss.nii.gz``, in whatever folders.
        **options: Settings of `segconf_lite.readers.from_folder`; by default axial slices of 256 x 256 pixels
            of 1 mm. All slices of 359 volumes do not fit into memory: pass `limit`.

    Returns:
        Classes background and brain. Subjects are the first part of a file's name ("CC0001").

    Raises:
        ValueError: If the folder is another, all six domains are there but not 359 subjects, two masks have
            one name, a file cannot be used, or a volume has no label.

    Example:
        >>> cohort("no/such/folder")
        Traceback (most recent call last):
        ValueError: root must be a folder with Original/GE_15 and so on, got no/such/folder; ...
    """
    cases = list(_cases(Path(root).expanduser()))
    published = {"": 359} if len({case.domain for case in cases}) == len(_DOMAINS) else {}
    where = "a folder with Original/GE_15 and so on"
    return research.read(cases, _LABELS, published, root=root, where=where, defaults=_DEFAULTS, **options)


def _cases(folder: Path) -> Iterator[Case]:
    masks: dict[str, Path] = {}
    for path in sorted((folder / "Silver-standard").rglob("*_ss.nii*")):
        other = masks.setdefault(stem(path), path)
        if other != path:
            raise check.refuse(str(path), "the only mask of its volume", f"{other} beside it", "remove one")
    for domain in _DOMAINS:
        for image in sorted((folder / "Original" / domain).glob("*.nii*")):
            name = stem(image)
            lost = folder / "Silver-standard" / domain / f"{name}_ss.nii.gz"  # named when it is opened
            label = masks.get(f"{name}_ss", lost)
            yield Case(name, (image,), {"": label}, subject=name.partition("_")[0], domain=domain)
