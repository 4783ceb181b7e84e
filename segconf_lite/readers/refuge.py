"""REFUGE with all raters: photographs of the retina, optic disc and cup as seven experts drew them.

Sources: Orlando et al., Med Image Anal 59:101570, 2020 (REFUGE, https://refuge.grand-challenge.org); Fang et
al., "REFUGE2 Challenge", 2022; the drawings of single raters are distributed as REFUGE-MultiRater.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

import numpy as np

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import research
from segconf_lite.readers.cases import Case

#: Names of the classes of ``structure="both"``, background first.
CLASS_NAMES = ("background", "optic disc", "optic cup")
_SPLITS = {"Training-400": "train", "Validation-400": "validation", "Test-400": "test"}
_CAMERAS = {"train": "Zeiss Visucam 500", "validation": "Canon CR-2", "test": "Canon CR-2"}
_RATERS = tuple("1234567")
_DEFAULTS = {"size": 256, "spacing_mm": 8.0, "unstated_spacing_mm": 1.0}
_INSIDE = 130  # edges of the masks are smoothed; the published loader takes values above this


def cohort(root: Path | str, *, structure: str = "both", **options: Unpack[research.Options]) -> Cohort:
    """Photographs of REFUGE in three colour channels, with the segmentation of each of seven raters.

    The labels are the majority of the raters, as in the published experiments. Unlike there, the crop is
    about the middle of the photograph: a crop about the disc that was *drawn* tells a network where it lies.

    Args:
        root: Folder with ``Training-400/0826/0826.jpg``, and beside it ``0826_seg_disc_1.png`` to ``_7.png``
            and ``0826_seg_cup_1.png`` to ``_7.png``; if you like, also ``Validation-400`` and ``Test-400``.
        structure: "disc" (with the cup in it) or "cup", against everything else, or "both", as two classes.
        **options: Settings of `segconf_lite.readers.from_folder`; by default 256 x 256 pixels. As the files
            state no millimetres, `spacing_mm` counts pixels of the photograph, by default 8. The cameras of
            the training and of the test photographs resolve differently, so that discs differ in size.

    Returns:
        ``raters`` (N, 7, H, W). Domains are the cameras, which differ between the splits "train" and "test".

    Raises:
        ValueError: If an argument is out of range, the folder is another, a split has not 400 photographs, a
            file cannot be used, a rater is missing, or a cup is not inside its disc.

    Example:
        >>> cohort("no/such/folder", structure="cup")
        Traceback (most recent call last):
        ValueError: root must be a folder with Training-400/0826/0826.jpg and so on, got no/such/folder; ...
    """
    check.one_of("structure", structure, ("both", "disc", "cup"))
    drawn = {
        name: _read(root, name, options)
        for name in (("disc", "cup") if structure == "both" else (structure,))
    }
    first = next(iter(drawn.values()))
    if structure != "both":
        return _by_majority(first, first.raters, first.class_names)
    disc, cup = (np.asarray(cohort.raters) for cohort in drawn.values())
    if disc.shape != cup.shape:
        raise check.refuse("disc and cup", "readable for the same photographs", f"{len(disc)} and {len(cup)}")
    outside = [(cup > disc)[k].sum() / max(1, cup[k].sum()) for k in range(len(cup))]
    if wrong := np.asarray(first.sessions)[np.array(outside) > 0.05].tolist():
        fix = "the files of disc and cup are swapped: look at them"
        raise check.refuse("the cup", "inside the disc", f"{len(wrong)} where it is not: {wrong[:5]}", fix)
    return _by_majority(first, np.where(cup == 1, 2, disc), CLASS_NAMES)


def _read(root: Path | str, structure: str, options: research.Options) -> Cohort:
    """Photographs with one structure against everything else."""
    labels = {value: f"optic {structure}" if value > _INSIDE else "background" for value in range(256)}
    cases, published = _cases(Path(root).expanduser(), structure), dict.fromkeys(_SPLITS.values(), 400)
    where = "a folder with Training-400/0826/0826.jpg and so on"
    return research.read(cases, labels, published, root=root, where=where, defaults=_DEFAULTS, **options)


def _cases(folder: Path, structure: str) -> Iterator[Case]:
    for part, split in _SPLITS.items():
        for image in sorted((folder / part).glob("*/*.jpg")):
            name = image.stem
            labels = {rater: image.with_name(f"{name}_seg_{structure}_{rater}.png") for rater in _RATERS}
            yield Case(name, (image,), labels, subject=name, domain=_CAMERAS[split], split=split)


def _by_majority(cohort: Cohort, raters: np.ndarray | None, class_names: tuple[str, ...]) -> Cohort:
    """The cohort with the majority of raters as its labels; classes lie inside those before them."""
    votes = [(np.asarray(raters) >= k).mean(axis=1) >= 0.5 for k in range(1, len(class_names))]
    labels = np.asarray(np.sum(votes, axis=0, dtype=np.int64))
    return dataclasses.replace(cohort, labels=labels, raters=raters, class_names=class_names)
