"""One stored prediction: which files it has, and what they hold once they are opened.

Shape letters: M members (folds or samples), C classes, S slices, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from segconf_lite import check
from segconf_lite.readers import files, geometry, volumes
from segconf_lite.readers.label_values import Labels, counted
from segconf_lite.readers.stored import Stored, damaged

_SAVE = "nnU-Net writes it with nnUNetv2_predict --save_probabilities"


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        name: Its name, the same in every member.
        members: Of each member the segmentation, or None, and the files of its probabilities.
        subject: The person.
        domain: The scanner or site.
        image: Image of the first channel.
        reference: Segmentation by a person.

    Example:
        >>> CaseFiles("a", ((None, (Path("a.npz"),)),), subject="a", domain="all").reference is None
        True
    """

    name: str
    members: tuple[tuple[Path | None, tuple[Path, ...]], ...]
    subject: str
    domain: str
    image: Path | None = None
    reference: Path | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class PredictedCase:
    """The stored prediction of one volume or picture, cut into slices as most scans are acquired.

    Functions that take slices (N, C, H, W) take `slices`; with `as_one`, they measure the volume as a whole,
    because a mean or an overlap over pixels does not depend on where the pixels lie.

    Attributes:
        name: Name of the case.
        subject: The person.
        domain: The scanner or site.
        samples: (M, C, S, H, W) float32 class probabilities of each member.
        labels: (S, H, W) int64 predicted classes: as stored if there is one member, else (and where nothing
            is stored) the most probable class of the mean over members, as nnU-Net joins its folds.
        spacing_mm: Slice, row and column spacing, or None where no file states it.
        image: (S, H, W) intensities of the first channel, or None.
        reference: (S, H, W) int64 classes by a person, or None.
        notes: What is odd, but can be used.

    Example:
        >>> half = np.full((1, 2, 3, 4, 4), 0.5, np.float32)
        >>> case = PredictedCase("a", "a", "all", half, np.zeros((3, 4, 4), int), (3.0, 1.0, 1.0))
        >>> case.slices.shape, case.as_one(case.slices.swapaxes(0, 1)).shape
        ((3, 2, 4, 4), (1, 2, 12, 4))
    """

    name: str
    subject: str
    domain: str
    samples: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float] | None
    image: np.ndarray | None = None
    reference: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def probabilities(self) -> np.ndarray:
        """(C, S, H, W) mean over the members."""
        return self.samples[0] if len(self.samples) == 1 else self.samples.mean(axis=0)

    @property
    def slices(self) -> np.ndarray:
        """(S, C, H, W) probabilities of each slice."""
        return self.probabilities.swapaxes(0, 1)

    @property
    def logits(self) -> np.ndarray:
        """(S, C, H, W) logarithms of the probabilities, whose softmax is the probabilities themselves.

        They serve as logits for `segconf_lite.evaluation.fit_temperature`.
        """
        return np.log(np.maximum(self.slices, np.finfo(np.float32).tiny))

    @staticmethod
    def as_one(values: np.ndarray) -> np.ndarray:
        """(1, ..., S * H, W): the slices of a volume (..., S, H, W) below each other, as one case."""
        return values.reshape(1, *values.shape[:-3], -1, values.shape[-1])


def open_case(
    case: CaseFiles, *, labels: Labels | None, canonical: bool, most_bytes: int
) -> tuple[PredictedCase, Labels]:
    """Read the files of a case, and check that they fit together.

    Args:
        case: The case.
        labels: Names of label values; the k-th class has the k-th probability. None names the classes by
            their numbers.
        canonical: Whether arrays of NPZ files lie on the axes right, front, head, in place of the order that
            the segmentation is stored in.
        most_bytes: Largest size of one file's values as float32.

    Returns:
        The case, and the names that it was read with.

    Raises:
        DamagedCaseError: If a file is missing or damaged, lies on another grid, holds no probabilities, or
            has labels without a name.

    Example:
        >>> open_case(CaseFiles("a", ((Path("a.nii"), (Path("a.npz"),)),), "a", "all"),
        ...           labels=None, canonical=False, most_bytes=2**30)
        Traceback (most recent call last):
        segconf_lite.readers.stored.DamagedCaseError: a.nii must be a file, got none; ...
    """
    members = [
        _member(*paths, canonical=canonical, limits={"most_bytes": most_bytes}) for paths in case.members
    ]
    grid = members[0][0]
    for (_, paths), (other, _) in zip(case.members[1:], members[1:], strict=True):
        geometry.check_same_grid(str(paths[0]), other, grid, of="the first member")
    n_classes = len(grid.values)
    if labels is None:
        labels = Labels.of({0: "background"} | {k: f"class {k}" for k in range(1, n_classes)})
    for (_, paths), (stored, _) in zip(case.members, members, strict=True):
        if len(stored.values) != len(labels.names):
            expected = f"probabilities of {len(labels.names)} classes ({', '.join(labels.names)})"
            raise damaged(paths[0], expected, f"{len(stored.values)}", "correct labels= or dataset.json")
    plane = geometry.plane_of(grid, "coarsest")
    samples = np.stack([geometry.in_plane(stored, plane) for stored, _ in members])
    notes, predicted = [note for stored, _ in members for note in stored.notes], None
    for (path, _), (stored, segmented) in zip(case.members, members, strict=True):
        if segmented is not None:
            drawn = _classes(segmented, str(path), labels)
            if n_different := int((drawn != stored.values.argmax(axis=0)).sum()):
                share = f"{n_different} voxels ({n_different / drawn.size:.2%})"
                notes.append(f"the stored segmentation differs from the most probable class at {share}")
            predicted = geometry.in_plane(dataclasses.replace(segmented, values=drawn[None]), plane)[0]
    if predicted is None or len(members) > 1:
        predicted = samples.mean(axis=0).argmax(axis=0)
    beside: dict[str, np.ndarray | None] = {"image": None, "reference": None}
    for role, beside_it in (("image", case.image), ("reference", case.reference)):
        if beside_it is not None:
            read_as = "image" if role == "image" else "labels"
            there = files.read(beside_it, role=read_as, most_bytes=most_bytes)
            geometry.check_same_grid(str(beside_it), there, grid, of="its prediction")
            values = there.values if role == "image" else _classes(there, str(beside_it), labels)[None]
            beside[role] = geometry.in_plane(dataclasses.replace(there, values=values), plane)[0]
    spacing = None
    if grid.affine is not None:
        sizes = [float(f"{size:.7g}") for size in nibabel.affines.voxel_sizes(grid.affine)]
        in_plane = geometry.spacing_in_plane(grid, plane) or (0.0, 0.0)
        normal = {"sagittal": 0, "coronal": 1}.get(plane, 2)
        spacing = (sizes[normal], *in_plane)
    notes = list(dict.fromkeys(notes))
    found = PredictedCase(
        case.name,
        case.subject,
        case.domain,
        samples,
        predicted.astype(np.int64),
        spacing,
        beside["image"],
        beside["reference"],
        tuple(notes),
    )
    return found, labels


def _member(
    segmentation: Path | None, paths: tuple[Path, ...], *, canonical: bool, limits: dict[str, Any]
) -> tuple[Stored, Stored | None]:
    """Checked probabilities (C, S, H, W) and the segmentation, on the axes of the patient."""
    raw = segmented = None
    if segmentation is not None:
        raw = segmented = files.read(segmentation, role="labels", turned=False, **limits)
        if raw.affine is not None:
            segmented = volumes.on_axes(raw.values.transpose(3, 2, 1, 0), raw.affine, notes=raw.notes)
    if paths[0].suffix.lower() == ".npz":
        values = files.read(paths[0], role="probabilities", **limits).values
        stored = Stored(values)
        if raw is not None and raw.affine is not None:
            affine, axes = raw.affine, nibabel.orientations
            if canonical:
                affine = affine @ axes.inv_ornt_aff(axes.io_orientation(affine), raw.values.shape[:0:-1])
            stored = volumes.on_axes(values.transpose(3, 2, 1, 0), affine)
    else:
        parts = [files.read(path, role="image", **limits) for path in paths]
        for path, part in zip(paths[1:], parts[1:], strict=True):
            geometry.check_same_grid(str(path), part, parts[0], of="the first class")
        stored = dataclasses.replace(parts[0], values=np.concatenate([part.values for part in parts]))
        if len(stored.values) < 2:
            expected = "beside a file of its probabilities, or hold one channel per class"
            raise damaged(paths[0], expected, f"{len(stored.values)} channel and no such file", _SAVE)
    if segmentation is not None and segmented is not None:
        geometry.check_same_grid(str(segmentation), segmented, stored, of="its probabilities")
    values, notes = _checked(stored.values, paths[0])
    return dataclasses.replace(stored, values=values, notes=(*stored.notes, *notes)), segmented


def _checked(values: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Probabilities in float32; voxels outside of nnU-Net's crop, where all are 0, become background."""
    notes: tuple[str, ...] = ()
    outside = ~values.any(axis=0)
    if outside.any() and not outside.all():
        values = values.copy()
        values[0][outside] = 1
        notes = ("voxels whose probabilities are all 0 (outside of nnU-Net's crop) count as background",)
    try:
        return check.probabilities(values[None])[0].astype(np.float32, copy=False), notes
    except ValueError as error:
        sums = np.abs(values.sum(axis=0, dtype=np.float64) - 1)
        got = f"sums up to {sums.max():.3g} away from 1 ({error})"
        fix = "logits need a softmax; sigmoid outputs of regions are no classes, which exclude each other"
        raise damaged(path, "probabilities that sum to 1 over the classes", got, fix) from None


def _classes(stored: Stored, path: str, labels: Labels) -> np.ndarray:
    """Classes (S, H, W) of label values, which must all have a name."""
    if len(stored.values) != 1:
        raise damaged(path, "labels without channels", f"{len(stored.values)} channels", "take one of them")
    if unknown := labels.unknown(tuple(counted(stored.values, path))):
        raise damaged(path, f"of the label values {labels.values}", f"{unknown}", "name them with labels=")
    return labels.to_classes(stored.values[0])
