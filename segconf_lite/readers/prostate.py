"""Prostate MR of six hospitals (also called SAML or PMRI), T2-weighted, with the whole prostate segmented.

Source: Liu et al., "Shape-aware meta-learning for generalizing prostate MRI segmentation to unseen domains",
MICCAI 2020, https://liuquande.github.io/SAML; the images come from NCI-ISBI 2013, I2CVB and PROMISE12.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import research
from segconf_lite.readers.cases import Case
from segconf_lite.readers.files import stem

# Where the two zones were drawn apart, they are one prostate here, as in the published experiments.
_LABELS = {0: "background", 1: "prostate", 2: "prostate"}
_PUBLISHED = {"RUNMC": 30, "BMC": 30, "I2CVB": 19, "UCL": 13, "BIDMC": 12, "HK": 12}
_DEFAULTS = {"plane": "axial", "size": 384, "spacing_mm": 0.5}
_END = "_segmentation"  # the files of BMC are called _Segmentation


def cohort(root: Path | str, **options: Unpack[research.Options]) -> Cohort:
    """Axial slices of the prostate data set, with the hospital as the domain.

    Every hospital counts its cases from 0, so that a subject is named by both ("BMC_Case03"). Slices are
    resampled in plane; two of the published codes resample the rows and the *slices* instead.

    Args:
        root: Folder with ``RUNMC/Case00.nii.gz`` and ``RUNMC/Case00_segmentation.nii.gz``, and so on for BMC,
            I2CVB, UCL, BIDMC and HK.
        **options: Settings of `segconf_lite.readers.from_folder`; by default 384 x 384 pixels of 0.5 mm, each
            slice z-scored by itself.

    Returns:
        Classes background and prostate. The data set has no splits.

    Raises:
        ValueError: If the folder is another, a hospital has another number of cases than published, a file
            cannot be used, or a case has no label.

    Example:
        >>> cohort("no/such/folder")
        Traceback (most recent call last):
        ValueError: root must be a folder with RUNMC/Case00.nii.gz and so on, got no/such/folder; ...
    """
    where = "a folder with RUNMC/Case00.nii.gz and so on"
    cases = _cases(Path(root).expanduser())
    return research.read(cases, _LABELS, _PUBLISHED, root=root, where=where, defaults=_DEFAULTS, **options)


def _cases(folder: Path) -> Iterator[Case]:
    for site in _PUBLISHED:
        files = {stem(path).lower(): path for path in sorted((folder / site).glob("*")) if stem(path)}
        for name, image in files.items():
            if not name.endswith(_END):
                label = files.get(name + _END, image.with_name(f"{stem(image)}{_END}.nii.gz"))
                subject = f"{site}_{stem(image)}"
                yield Case(subject, (image,), {"": label}, subject=subject, domain=site)
