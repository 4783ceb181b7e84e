"""From opened cases to the slices of a cohort.

Shape letters: N slices of the cohort, n slices of a case, C channels, R raters, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers.cases import Case, Opened
from segconf_lite.readers.geometry import on_grid
from segconf_lite.readers.label_values import Labels, grouped
from segconf_lite.readers.settings import Reading
from segconf_lite.readers.stored import damaged


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The slices of one case.

    Attributes:
        case: Whose they are.
        images: (n, C, H, W) float32, z-scored or as stored; n may be 0.
        labels: Rater -> (n, H, W) classes.
        reference: The rater whose labels are the reference.
        spacing_mm: Row and column spacing.
        plane: The plane of the slices, "" for pictures.
        notes: What was left out.

    Example:
        >>> case, image = Case("a", (), {}, subject="1", domain="A"), np.zeros((2, 1, 4, 4), np.float32)
        >>> len(Part(case, image, {"": np.zeros((2, 4, 4), int)}, "", (1.0, 1.0), "axial", ()).images)
        2
    """

    case: Case
    images: np.ndarray
    labels: dict[str, np.ndarray]
    reference: str
    spacing_mm: tuple[float, float]
    plane: str
    notes: tuple[str, ...]


def slices_of(case: Case, opened: Opened, named: Labels, reading: Reading) -> Part:
    """The slices of a case on the asked grid.

    Args:
        case: The case.
        opened: What its files hold; every label value has a name.
        named: The names.
        reading: The settings, with the name of the reference rater.

    Raises:
        DamagedCaseError: If the reference rater has not segmented the case, a slice without contrast has
            labels, or no slice has any contrast.
        ValueError: If nothing states the spacing.

    Example:
        >>> image, labels = np.arange(16.0).reshape(1, 1, 4, 4), {"": np.eye(4, dtype=int)[None]}
        >>> opened = Opened(image, labels, {0: 12, 1: 4}, (1.0, 1.0), "", ())
        >>> case, named = Case("a", (), {}, subject="1", domain="A"), Labels.of({0: "background", 1: "line"})
        >>> slices_of(case, opened, named, Reading(size=2, reference="")).images.shape
        (1, 1, 2, 2)
    """
    reference = str(reading.reference)
    if reference not in opened.labels:
        fix = f"name another with reference=, out of {sorted(opened.labels)}, or leave the case out"
        raise damaged(f"case {case.name}", f"segmented by the reference rater {reference!r}", "no label", fix)
    spacing = opened.spacing_mm
    if spacing is None:
        if reading.unstated_spacing_mm is None:
            fix = "pass unstated_spacing_mm= (1.0 counts pixels), or a column spacing_mm of a table"
            raise check.refuse(f"the spacing of {case.name}", "stated by its file", "none", fix)
        spacing = (reading.unstated_spacing_mm, reading.unstated_spacing_mm)
    classes = {rater: named.to_classes(values) for rater, values in opened.labels.items()}  # (S, H, W) each
    raters, images, labels, n_flat = list(classes), [], [], 0
    for number in range(opened.image.shape[1]):
        image = opened.image[:, number].astype(np.float64)  # (C, H, W)
        drawn = [classes[rater][number] for rater in raters]
        if reading.size is not None:
            grid: Any = {"spacing_mm": spacing, "size": reading.size, "new_spacing_mm": reading.spacing_mm}
            image, drawn = on_grid(image, drawn, n_classes=len(named.names), **grid)
        spread = np.ptp(image, axis=(1, 2))
        labelled = bool(drawn[raters.index(reference)].any())
        # Constant up to the rounding of interpolation; a z-score would blow that up to an image.
        if (spread <= 1e-9 * np.abs(image).max(axis=(1, 2))).any():
            if labelled:
                got = f"slice {number} with labels where its image is constant"
                raise damaged(f"case {case.name}", "of images that show what is labelled", got, "look at it")
            n_flat += 1
        elif labelled or reading.slices == "all":
            if reading.normalise == "per_image":
                image -= image.mean(axis=(1, 2), keepdims=True)
                image /= image.std(axis=(1, 2), keepdims=True)
            images.append(image.astype(np.float32))
            labels.append(drawn)
    if not images and reading.slices == "all":
        raise damaged(f"case {case.name}", "an image", f"{n_flat} slices without contrast", "leave it out")
    notes = [f"slices without contrast are left out, {n_flat} of {opened.image.shape[1]}"] * bool(n_flat)
    before_mm2 = np.count_nonzero(classes[reference]) * spacing[0] * spacing[1]
    new_mm2 = spacing[0] * spacing[1] if reading.spacing_mm is None else reading.spacing_mm**2
    after_mm2 = sum(map(np.count_nonzero, (drawn[raters.index(reference)] for drawn in labels))) * new_mm2
    if after_mm2 < 0.9 * before_mm2:
        notes.append(
            "more than a tenth of what is segmented is lost to the crop or to coarse pixels; "
            "change size= or spacing_mm="
        )
    return Part(
        case,
        images=np.array(images),
        labels={rater: np.array([drawn[k] for drawn in labels]) for k, rater in enumerate(raters)},
        reference=reference,
        spacing_mm=spacing,
        plane=opened.plane,
        notes=tuple(notes),
    )


def joined(parts: Sequence[Part], named: Labels, raters: Sequence[str], reading: Reading) -> Cohort:
    """The cohort of all slices.

    Args:
        parts: The slices of each case.
        named: Names of the classes.
        raters: Names of all raters, in order.
        reading: The settings.

    Raises:
        ValueError: If no slice is left, or planes, channels or sizes differ; the message names the cases.

    Example:
        >>> joined([], Labels.of({0: "background", 1: "organ"}), [""], Reading())
        Traceback (most recent call last):
        ValueError: the folder must be of at least one slice, got none; ...
    """
    parts = [part for part in parts if len(part.images)]
    if not parts:
        fix = "look at it with describe_folder; slices='labelled' keeps only those with a label"
        raise check.refuse("the folder", "of at least one slice", "none", fix)
    for what, fix, values in (
        (
            "plane",
            "choose one: plane='axial', or 'stored' for oblique stacks",
            [part.plane for part in parts],
        ),
        ("number of channels", "choose with channels=", [part.images.shape[1] for part in parts]),
        ("size", "give size=, and spacing_mm= if the pixels differ", [_told(part) for part in parts]),
    ):
        if len(set(values)) > 1:
            got = grouped({part.case.name: value for part, value in zip(parts, values, strict=True)})
            raise check.refuse("cases", f"of one {what}", got, fix)
    images = np.concatenate([part.images for part in parts])  # (N, C, H, W)
    owner = np.repeat(np.arange(len(parts)), [len(part.images) for part in parts])
    if reading.normalise == "source":
        known = images[np.array([part.case.domain == reading.source for part in parts])[owner]]
        mean, deviation = (getattr(known, of)((0, 2, 3), np.float64, keepdims=True) for of in ("mean", "std"))
        images = ((images - mean) / deviation).astype(np.float32)
    drawn = None
    if len(raters) > 1:
        drawn = np.full((len(images), len(raters), *images.shape[2:]), -1)
        for number, part in enumerate(parts):
            for rater, labels in part.labels.items():
                drawn[owner == number, list(raters).index(rater)] = labels
    return Cohort(
        images=images,
        labels=np.concatenate([part.labels[part.reference] for part in parts]),
        domains=np.array([part.case.domain for part in parts])[owner],
        subjects=np.array([part.case.subject for part in parts])[owner],
        sessions=np.array([part.case.name for part in parts])[owner],
        spacing_mm=np.array([_new_spacing(part, reading) for part in parts])[owner],
        class_names=named.names,
        raters=drawn,
    )


def _told(part: Part) -> str:
    return f"{part.images.shape[2]} x {part.images.shape[3]} pixels"


def _new_spacing(part: Part, reading: Reading) -> tuple[float, float]:
    return part.spacing_mm if reading.spacing_mm is None else (reading.spacing_mm, reading.spacing_mm)
