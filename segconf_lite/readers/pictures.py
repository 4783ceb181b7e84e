"""Pictures (PNG, JPEG, BMP, TIFF) and arrays (NPZ): files that state no place in the patient.

Shape letters: C channels, S slices, H rows, W columns.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segconf_lite import check
from segconf_lite.readers.stored import Stored, check_size, damaged

# Pillow's modes that hold one number per pixel, or colours, without loss.
_MODES = ("1", "L", "P", "I", "F", "RGB", "LA", "RGBA", "I;16", "I;16B", "I;16L")


def read_picture(path: Path, *, role: str, most_bytes: int) -> Stored:
    """A PNG, JPEG or BMP file.

    Args:
        path: The file.
        role: ``"image"``: colours are channels, and a palette becomes its colours; ``"labels"``: a palette
            stays the numbers it stores, and colours must be three times the same grey.
        most_bytes: Largest size of the values as float32.

    Returns:
        One slice.

    Raises:
        DamagedCaseError: If it is too large, has several pages, varies in transparency, or, for labels, is
            colourful or was compressed with loss. What the decoder raises passes through.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
        >>> read_picture(path, role="image", most_bytes=1000).values.shape
        (3, 1, 4, 6)
    """
    with Image.open(path) as opened:  # the header alone
        check_size(path, (opened.height, opened.width, len(opened.getbands())), most_bytes)
        if opened.mode not in _MODES or getattr(opened, "n_frames", 1) > 1:
            got = f"{getattr(opened, 'n_frames', 1)} pages of mode {opened.mode}"
            raise damaged(path, f"one page of a mode in {_MODES}", got, "convert it to PNG or TIFF")
        if role == "labels" and opened.format == "JPEG":
            raise damaged(
                path, "a label file without loss (PNG)", "JPEG, which changes values", "export it anew"
            )
        values = np.asarray(opened.convert("RGB") if opened.mode == "P" and role == "image" else opened)
    channels = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    if len(channels) in (2, 4):
        if np.ptp(channels[-1]):
            fix = "flatten the transparency, or store what it means as a file of its own"
            raise damaged(path, "of one transparency", "an alpha channel that varies", fix)
        channels = channels[:-1]
    return Stored(_one_number(path, channels[:, None], role))


def read_tiff(path: Path, *, role: str, most_bytes: int) -> Stored:
    """A TIFF file: pages are slices, colours or an axis C are channels.

    Args:
        path: The file.
        role: ``"image"`` or ``"labels"``, as of `read_picture`.
        most_bytes: Largest size of the values as float32.

    Returns:
        The slices.

    Raises:
        DamagedCaseError: If it is too large, holds several series or further axes, or labels are colourful.
            What the decoder raises passes through.

    Example:
        >>> import tempfile, tifffile
        >>> path = Path(tempfile.mkdtemp()) / "a.tif"
        >>> tifffile.imwrite(path, np.zeros((5, 4, 6), np.uint8), photometric="minisblack")
        >>> read_tiff(path, role="image", most_bytes=1000).values.shape
        (1, 5, 4, 6)
    """
    import tifffile  # comes with scikit-image

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        names = ["C" if axis in "CS" else axis if axis in "YX" else "Z" for axis in series.axes]
        if len(file.series) != 1 or len(set(names)) < len(names) or not {"Y", "X"} <= set(names):
            got = f"{len(file.series)} series, the first with axes {series.axes} {series.shape}"
            raise damaged(
                path, "one series with at most one axis of slices and one of channels", got, "split it"
            )
        check_size(path, series.shape, most_bytes)
        values = series.asarray()
    for axis in ("Z", "C"):
        if axis not in names:
            names, values = [axis, *names], values[None]
    return Stored(_one_number(path, values.transpose([names.index(axis) for axis in "CZYX"]), role))


def read_npz(path: Path, *, role: str, most_bytes: int) -> Stored:
    """An array from an NPZ file: (H, W), (S, H, W), or for images (C, S, H, W).

    Args:
        path: The file. It holds one array, or one named as the role: ``image`` or ``labels``. An array
            ``spacing_mm`` (2,) is taken for row and column spacing.
        role: ``"image"``, ``"labels"`` or ``"probabilities"``, which must be named so.
        most_bytes: Largest size of the values as float32.

    Returns:
        The slices.

    Raises:
        DamagedCaseError: If no array is named so, or it has other axes, is no array of real numbers, or is
            too large. What the decoder raises passes through.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, image=np.zeros((5, 4, 6)), labels=np.ones((5, 4, 6), int), spacing_mm=[0.5, 0.5])
        >>> read_npz(path, role="labels", most_bytes=1000).spacing_mm
        (0.5, 0.5)
    """
    with zipfile.ZipFile(path) as members:
        headers = {name.removesuffix(".npy"): _header(members, name) for name in members.namelist()}
    arrays = [name for name in headers if name != "spacing_mm"]
    alone = len(arrays) == 1 and role != "probabilities"
    name = role if role in headers else arrays[0] if alone else ""
    if not name:
        expected = f"with {'an array' if role == 'probabilities' else 'one array, or one'} named {role!r}"
        raise damaged(path, expected, f"arrays {arrays}", "name it so")
    shape, dtype = headers[name]
    if len(shape) not in (2, 3, 4) or (len(shape) == 4 and role == "labels") or dtype.kind not in "biuf":
        expected = "real numbers (H, W), (S, H, W) or an image (C, S, H, W)"
        raise damaged(f"{name} in {path}", expected, f"{shape} of {dtype}", "reshape it")
    check_size(path, shape, most_bytes)
    with np.load(path, allow_pickle=False) as loaded:
        values, spacing = loaded[name], None
        if "spacing_mm" in headers:
            spacing = check.spacing(loaded["spacing_mm"], length=1, name=f"spacing_mm in {path}")[0].tolist()
    return Stored(
        values.reshape((1,) * (4 - values.ndim) + values.shape), spacing_mm=spacing and tuple(spacing)
    )


def _header(members: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that one array of an NPZ file claims; what it has not got, it must not claim."""
    with members.open(name) as file:
        major = np.lib.format.read_magic(file)[0]
        read: Any = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if np.prod(shape, dtype=float) * dtype.itemsize > members.getinfo(name).file_size:
        raise ValueError(f"array {name} claims {shape} of {dtype}, which its bytes cannot hold")
    return shape, dtype


def _one_number(path: Path, channels: np.ndarray, role: str) -> np.ndarray:
    """Labels (1, S, H, W) from equal channels; images as they are."""
    if role == "image" or len(channels) == 1:
        return channels
    if not (channels == channels[:1]).all():
        fix = "export the label numbers as greys or with a palette"
        raise damaged(path, "one number per pixel", f"{len(channels)} different colour channels", fix)
    return channels[:1]
