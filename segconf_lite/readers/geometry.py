"""From volumes to slices on one grid: the plane, whether image and labels lie on each other, and the crop.

Shape letters: C channels, R raters, S slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np

from segconf_lite.cohorts.localise import crop
from segconf_lite.readers.stored import Stored, damaged
from segconf_lite.readers.volumes import corner_distance

#: Planes into which volumes can be cut; "coarsest" is the one in which most scans are acquired.
PLANES = ("coarsest", "axial", "coronal", "sagittal", "stored")
_NORMALS = ("sagittal", "coronal", "axial")  # of the axes left, back and head


def check_same_grid(path: str, labels: Stored, image: Stored, *, of: str = "its image") -> None:
    """Refuse labels that do not lie on the grid of their image, voxel by voxel.

    Corners of the two grids may be a quarter of the smallest voxel apart, because headers are rounded.

    Args:
        path: The file of the labels (or of a further channel), for the message.
        labels: What it holds.
        image: What the image holds.
        of: What the second one is, for the message.

    Raises:
        DamagedCaseError: Naming both grids.

    Example:
        >>> check_same_grid("b.png", Stored(np.zeros((1, 1, 4, 6))), Stored(np.zeros((1, 1, 6, 4))))
        Traceback (most recent call last):
        segconf_lite.readers.stored.DamagedCaseError: b.png must be on the grid of its image (4 x 6 ...
    """
    same = labels.values.shape[1:] == image.values.shape[1:]
    same &= (labels.affine is None) == (image.affine is None)
    if same and image.affine is not None and labels.affine is not None:
        shape = image.values.shape[:0:-1]  # columns, rows, slices, as the affine takes them
        most_mm = 0.25 * nibabel.affines.voxel_sizes(image.affine).min()
        same = corner_distance(image.affine, labels.affine, shape) <= most_mm
    if not same:
        fix = "resample one onto the other with the tool that wrote them; it is not guessed here"
        raise damaged(path, f"on the grid of {of} ({image.grid})", labels.grid, fix)


def plane_of(image: Stored, asked: str) -> str:
    """The plane in which a volume is cut: as asked, or normal to its coarsest axis.

    A volume without one (isotropic to 10 %, or with two equally coarse axes) is cut into axial slices.

    Args:
        image: The volume.
        asked: One of `PLANES`.

    Returns:
        ``"axial"``, ``"coronal"``, ``"sagittal"``, ``"stored"``, or the empty text for a picture, whose
        slices are as stored.

    Example:
        >>> plane_of(Stored(np.zeros((1, 8, 8, 3)), np.diag([-4.0, -1.0, 1.0, 1.0])), "coarsest")
        'sagittal'
    """
    if image.affine is None:
        return ""
    if asked != "coarsest":
        return asked
    lengths = image.values.shape[:0:-1]
    if lengths.count(1) == 1:  # a single slice, whose thickness few tools write
        return _NORMALS[lengths.index(1)]
    sizes = nibabel.affines.voxel_sizes(image.affine)
    order = np.argsort(sizes)
    return _NORMALS[order[2]] if sizes[order[2]] > 1.1 * sizes[order[1]] else "axial"


def in_plane(stored: Stored, plane: str) -> np.ndarray:
    """Values (C, S, H, W) cut along a plane, as a radiologist looks at them.

    The top row is the front (axial) or the head, and the left column the patient's right (axial, coronal) or
    the front (sagittal). Slices run from foot to head, front to back, or right to left.

    Args:
        stored: Image or labels.
        plane: As of `plane_of`.

    Example:
        >>> in_plane(Stored(np.zeros((1, 5, 4, 3)), np.eye(4)), "sagittal").shape
        (1, 3, 5, 4)
    """
    if plane in ("", "axial", "stored"):
        return stored.values
    from_head = stored.values[:, ::-1]  # (C, Z, Y, X)
    return from_head.transpose((0, 2, 1, 3) if plane == "coronal" else (0, 3, 1, 2))


def spacing_in_plane(stored: Stored, plane: str) -> tuple[float, float] | None:
    """Row and column spacing in millimetres of the slices of `in_plane`; None where nothing states it.

    Example:
        >>> spacing_in_plane(Stored(np.zeros((1, 5, 4, 3)), np.diag([1.0, 2.0, 3.0, 1.0])), "sagittal")
        (3.0, 2.0)
    """
    if stored.affine is None:
        return stored.spacing_mm
    # float32, as headers are: 1.2 is not 1.2000000476837158
    x, y, z = (float(f"{size:.7g}") for size in nibabel.affines.voxel_sizes(stored.affine))
    return {"axial": (y, x), "stored": (y, x), "coronal": (z, x), "sagittal": (z, y)}[plane]


def on_grid(
    image: np.ndarray,
    labels: Sequence[np.ndarray],
    *,
    n_classes: int,
    spacing_mm: tuple[float, float],
    size: int,
    new_spacing_mm: float | None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A slice and its labels at the same points: a square about the middle of the image.

    The middle is that of the image and never that of an object, because a network could learn where the label
    lies. With a new spacing, `segconf_lite.cohorts.localise.crop` interpolates the intensities and each class
    linearly about the same middle. Without, pixels are cut off or added and not changed; of an odd number,
    one more is cut off (or added) at the bottom and at the right. What lies outside of the image is its
    smallest intensity and background.

    Args:
        image: (C, H, W) finite intensities.
        labels: (H, W) classes in ``0 .. n_classes - 1``, of each rater.
        n_classes: Number of classes.
        spacing_mm: Row and column spacing in millimetres.
        size: Rows and columns of the result.
        new_spacing_mm: Spacing of the result in millimetres; None keeps the pixels.

    Returns:
        (C, size, size) float64, and (size, size) int64 per rater.

    Example:
        >>> image, labels = np.arange(16.0).reshape(1, 4, 4), [np.ones((4, 4), int)]
        >>> settings = {"n_classes": 2, "spacing_mm": (1.0, 1.0), "size": 2}
        >>> on_grid(image, labels, new_spacing_mm=None, **settings)[0].tolist()
        [[[5.0, 6.0], [9.0, 10.0]]]
        >>> on_grid(image, labels, new_spacing_mm=1.0, **settings)[0].tolist()
        [[[5.0, 6.0], [9.0, 10.0]]]
    """
    lowest = image.min(axis=(1, 2), keepdims=True)
    above = image - lowest  # so that 0, which both ways put outside, is the smallest intensity
    if new_spacing_mm is None:
        planes, classes = [_cut(plane, size) for plane in above], [_cut(plane, size) for plane in labels]
    else:
        grid: Any = {"n_classes": n_classes, "spacing_mm": spacing_mm, "size": size}
        centre = (np.array(image.shape[1:]) - 1) / 2
        planes, classes = [], []
        for k in range(max(len(image), len(labels))):  # each call gives one channel and one rater
            pair = above[min(k, len(image) - 1)], labels[min(k, len(labels) - 1)]
            plane, drawn = crop(*pair, centre, new_spacing_mm=new_spacing_mm, **grid)
            planes, classes = [*planes, plane], [*classes, drawn]
        planes, classes = planes[: len(image)], classes[: len(labels)]
    return np.stack(planes) + lowest, classes


def _cut(plane: np.ndarray, size: int) -> np.ndarray:
    """(size, size) about the middle; 0 beyond the edges."""
    for axis, length in enumerate(plane.shape):
        before = (length - size) // 2  # < 0: to be added
        if before >= 0:
            plane = plane.take(range(before, before + size), axis)
        else:
            widths = [(0, 0), (0, 0)]
            widths[axis] = (-before, size - length + before)
            plane = np.pad(plane, widths)
    return plane
