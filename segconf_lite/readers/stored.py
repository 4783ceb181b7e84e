"""What one file of a folder holds, and the error for a file that cannot be used.

Shape letters: C channels, S slices, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import nibabel
import numpy as np


class DamagedCaseError(ValueError):
    """A file is missing, damaged, too large, or contradicts itself or its image; the others may be good."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """The values of one file, and where they lie.

    Attributes:
        values: (C, S, H, W). Of a volume on LPS axes, slices run from foot to head, rows from front to back
            and columns from the patient's right to left.
        affine: (4, 4) from (column, row, slice) to millimetres in the world of NIfTI (right, front, head), or
            None, where a file states no place (PNG, TIFF, NPZ).
        spacing_mm: Row and column spacing of a file without affine, where it states one.
        notes: What is odd about the file, but harmless.

    Example:
        >>> stored = Stored(np.zeros((1, 2, 4, 6)), np.diag([-1.5, -1.0, 3.0, 1.0]))
        >>> stored.grid
        '6 x 4 x 2 voxels of 1.5 x 1 x 3 mm, LPS, first voxel at (0, 0, 0) mm'
    """

    values: np.ndarray
    affine: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> str:
        """The grid in words: its size, and where the file states them, its spacing, axes and origin."""
        n_slices, height, width = self.values.shape[1:]
        if self.affine is None:
            return f"{width} x {height}" + (f" x {n_slices}" if n_slices > 1 else "") + " pixels"
        sizes = " x ".join(f"{size:.4g}" for size in nibabel.affines.voxel_sizes(self.affine))
        origin = ", ".join(f"{value:.4g}" for value in self.affine[:3, 3])
        axes = "".join(nibabel.orientations.aff2axcodes(self.affine))
        return f"{width} x {height} x {n_slices} voxels of {sizes} mm, {axes}, first voxel at ({origin}) mm"


def damaged(path: Path | str, expected: str, got: object, fix: str = "") -> DamagedCaseError:
    """The error for a file that cannot be used.

    Args:
        path: The file, or another name of what is wrong.
        expected: What it must be, to read after "must be".
        got: What it is, as text, or what its decoder raised.
        fix: The likely remedy; by default, to copy the file again.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> str(damaged("a.nii", "3-D", "2-D", fix="leave it out"))
        'a.nii must be 3-D, got 2-D; leave it out'
    """
    if isinstance(got, Exception):
        got = f"{type(got).__name__}: {got}"
    fix = fix or "it is cut short or damaged: copy it again, or leave it out with skip_damaged=True"
    return DamagedCaseError(f"{path} must be {expected}, got {got}; {fix}")


def check_size(path: Path, shape: tuple[int, ...], most_bytes: int) -> None:
    """Refuse what a header claims before memory is taken for it.

    Args:
        path: The file.
        shape: The shape in its header.
        most_bytes: Largest size of the values as float32.

    Raises:
        DamagedCaseError: If an axis is empty, or the values are more than that.

    Example:
        >>> check_size(Path("a.nii"), (9999, 9999, 9999), 2**30)
        Traceback (most recent call last):
        segconf_lite.readers.stored.DamagedCaseError: a.nii must be of at most 1.07 GB as float32, ...
    """
    n_bytes = 4 * math.prod(shape)
    if min(shape, default=0) < 1 or n_bytes > most_bytes:
        expected = f"of at most {most_bytes / 1e9:.3g} GB as float32, no axis empty"
        got = f"a header that claims the shape {tuple(shape)}, {n_bytes / 1e9:.3g} GB"
        raise damaged(path, expected, got, "if it is whole, raise most_bytes=")
