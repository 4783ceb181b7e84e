"""Volumes: NIfTI, and MHA, MHD or NRRD where SimpleITK is installed.

A volume is turned to the axes that lie closest to the patient's left, back and head (unless the stored order
is asked for), which changes the order of voxels and no value. A header that contradicts itself about the size
or the order of voxels is refused, because the Dice in millimetres and the direction of slices would depend on
who is believed.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from segconf_lite.readers.stored import Stored, check_size, damaged

_ROUNDING = 0.01  # relative: headers hold float32, and tools round to two or three digits
_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_AGREE = "write it anew with one affine, in nibabel: image.set_sform(affine); image.set_qform(affine)"


def read_nifti(path: Path, *, most_bytes: int, turned: bool = True) -> Stored:
    """A NIfTI-1 or NIfTI-2 file, zipped or not; a fourth axis becomes the channels.

    The header is read first and compared with `most_bytes`. Then the whole file is read, because only at its
    end gzip compares the check sum.

    Args:
        path: A file ``.nii`` or ``.nii.gz``.
        most_bytes: Largest size of the values as float32.
        turned: Whether to turn the volume to LPS axes, or to leave it as it is stored.

    Returns:
        The volume.

    Raises:
        DamagedCaseError: If the file is too large, of complex numbers or colours, or its header contradicts
            itself (sform, qform and pixdim). What a decoder raises passes through.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.nii.gz"
        >>> nibabel.save(nibabel.Nifti1Image(np.zeros((6, 4, 2), np.float32), np.eye(4)), path)
        >>> read_nifti(path, most_bytes=1000).values.shape
        (1, 2, 4, 6)
    """
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as file:
        head = file.read(540)
        sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
        kind: Any = nibabel.Nifti2Image if 540 in sizes else nibabel.Nifti1Image
        header = kind.header_class(head[: kind.header_class.sizeof_hdr], check=True)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        if len(shape) not in (2, 3, 4) or dtype.kind not in "iuf" or dtype.itemsize > 8:
            fix = "take one channel or time out of it, as real numbers"
            raise damaged(path, "2-D, 3-D or 4-D (channels last) of real numbers", f"{shape} of {dtype}", fix)
        check_size(path, shape, most_bytes)
        room = int(np.prod(shape)) * dtype.itemsize + 2**24  # and 16 MB of extensions
        content = head + file.read(room)
    values = np.asarray(kind.from_bytes(content).dataobj)
    affine, notes = _affine(path, header, len(shape))
    return on_axes(values.reshape(shape + (1,) * (3 - len(shape))), affine, notes=notes, turned=turned)


def _affine(path: Path, header: Any, n_axes: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The one affine in millimetres that the header agrees on, and what is odd about it."""
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    stated = np.abs(header["pixdim"][1:4].astype(np.float64))
    stated[n_axes:] = 0
    notes: tuple[str, ...] = ()
    if sform is None and qform is None:
        notes = ("the header states no orientation (sform and qform codes are 0)",)
        sform = header.get_base_affine()
    affine = qform if sform is None else sform
    sizes = nibabel.affines.voxel_sizes(affine)
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0):
        raise damaged(path, "with an affine that can be inverted", np.round(affine, 4).tolist(), _AGREE)
    if not np.allclose(sizes[:n_axes], stated[:n_axes], rtol=_ROUNDING, atol=0):
        got = f"{_told(sizes)} mm by its affine and {_told(stated)} mm by pixdim"
        raise damaged(path, "of one voxel size", got, _AGREE)
    if sform is not None and qform is not None:
        axes = ["".join(nibabel.orientations.aff2axcodes(form)) for form in (sform, qform)]
        same_sizes = np.allclose(sizes, nibabel.affines.voxel_sizes(qform), rtol=_ROUNDING, atol=0)
        if axes[0] != axes[1] or not same_sizes:
            got = f"{axes[0]} by its sform and {axes[1]} by its qform"
            raise damaged(path, "of one orientation and voxel size", got, _AGREE)
        if corner_distance(sform, qform, header.get_data_shape()) > 0.25 * sizes.min():
            notes += ("sform and qform place the volume differently; its slices are the same by both",)
    scale = _MM[header.get_xyzt_units()[0]]
    return np.diag([scale, scale, scale, 1.0]) @ affine, notes


def corner_distance(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between the corners of one array under two affines, in their unit.

    Args:
        affine: (4, 4) from index to place.
        other: The other one.
        shape: Lengths of the first three axes; a missing one counts as 1.

    Example:
        >>> corner_distance(np.eye(4), np.diag([2.0, 1.0, 1.0, 1.0]), (5, 1, 1))
        4.0
    """
    lengths = (*shape[:3], 1, 1)[:3]
    corners = np.array(np.meshgrid(*([0, length - 1] for length in lengths), [1])).reshape(4, -1)
    return float(np.linalg.norm(((affine - other) @ corners)[:3], axis=0).max())


def read_itk(path: Path, *, most_bytes: int, turned: bool = True) -> Stored:
    """A file that SimpleITK reads: MHA, MHD or NRRD; several components become the channels.

    Args:
        path: The file.
        most_bytes: Largest size of the values as float32.
        turned: As of `read_nifti`.

    Returns:
        The volume.

    Raises:
        DamagedCaseError: If SimpleITK is not installed (the message says how to get it), or the file is too
            large or not 3-D. What SimpleITK raises passes through.

    Example:
        >>> read_itk(Path("nothing.mha"), most_bytes=1000)
        Traceback (most recent call last):
        segconf_lite.readers.stored.DamagedCaseError: ...
    """
    try:
        import SimpleITK as itk  # large, and few need it
    except ImportError:
        fix = "install it with: pip install SimpleITK, or convert the files to NIfTI"
        raise damaged(
            path, "NIfTI, PNG, TIFF or NPZ where SimpleITK is not installed", path.suffix, fix
        ) from None
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetDimension() != 3:
            raise damaged(path, "3-D", f"{reader.GetDimension()}-D", "convert it to NIfTI")
        check_size(path, (*reader.GetSize(), reader.GetNumberOfComponents()), most_bytes)
        image = reader.Execute()
    except RuntimeError as error:
        raise damaged(path, "a whole file that SimpleITK reads", error) from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    values = itk.GetArrayFromImage(image)  # (S, H, W) or (S, H, W, C)
    return on_axes(np.swapaxes(values, 0, 2), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, turned=turned)


def on_axes(
    values: np.ndarray, affine: np.ndarray, *, notes: tuple[str, ...] = (), turned: bool = True
) -> Stored:
    """A volume on the axes of the patient (left, back, head).

    Args:
        values: (X, Y, Z) or (X, Y, Z, C), in the order of NIfTI.
        affine: (4, 4) from (x, y, z) to millimetres.
        notes: What is odd about the file.
        turned: Whether to turn the volume to LPS axes, or to leave it as it is stored.

    Example:
        >>> on_axes(np.zeros((6, 4, 2)), np.eye(4)).values.shape
        (1, 2, 4, 6)
    """
    axes = nibabel.orientations
    if turned:
        turn = axes.ornt_transform(axes.io_orientation(affine), axes.axcodes2ornt("LPS"))
        affine = affine @ axes.inv_ornt_aff(turn, values.shape[:3])
        values = axes.apply_orientation(values, turn)
    channels = values[None] if values.ndim == 3 else np.moveaxis(values, 3, 0)
    return Stored(channels.transpose(0, 3, 2, 1), affine, notes=notes)


def _told(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
