"""Any file of a folder, by the end of its name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segconf_lite.readers import pictures, volumes
from segconf_lite.readers.stored import DamagedCaseError, Stored, damaged

_VOLUMES: dict[str, Any] = {
    ".nii.gz": volumes.read_nifti,
    ".nii": volumes.read_nifti,
    ".mha": volumes.read_itk,
    ".mhd": volumes.read_itk,
    ".nrrd": volumes.read_itk,
}
_PICTURES: dict[str, Any] = {
    ".png": pictures.read_picture,
    ".jpg": pictures.read_picture,
    ".jpeg": pictures.read_picture,
    ".bmp": pictures.read_picture,
    ".tif": pictures.read_tiff,
    ".tiff": pictures.read_tiff,
    ".npz": pictures.read_npz,
}
#: Ends of file names that can be read, in small letters.
ENDINGS = (*_VOLUMES, *_PICTURES)


def stem(path: Path) -> str:
    """The name of a file without its ending, or the empty text if it is hidden or cannot be read.

    Example:
        >>> stem(Path("a/Case_01.NII.GZ")), stem(Path("a/notes.txt")), stem(Path("a/._Case_01.nii"))
        ('Case_01', '', '')
    """
    name = path.name
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), "")
    return name[: -len(ending)] if ending and not name.startswith(".") else ""


def read(path: Path, *, role: str, most_bytes: int, turned: bool = True) -> Stored:
    """The values of one file, and where they lie.

    Args:
        path: The file.
        role: ``"image"`` or ``"labels"``, which differ in how colours are read, or ``"probabilities"`` (NPZ).
        most_bytes: Largest size of the values as float32; a header that claims more is not believed.
        turned: Whether volumes are turned to LPS axes, or left as they are stored.

    Returns:
        Finite values.

    Raises:
        DamagedCaseError: If there is no such file, its format is unknown, or it is damaged, too large,
            contradicts itself or is not finite.

    Example:
        >>> read(Path("nothing.nii.gz"), role="image", most_bytes=2**30)
        Traceback (most recent call last):
        segconf_lite.readers.stored.DamagedCaseError: nothing.nii.gz must be a file, got none; ...
    """
    if not path.is_file():
        raise damaged(path, "a file", "none", "fetch it, or leave it out with skip_damaged=True")
    name = path.name.lower()
    reader: Any = next((reader for end, reader in _VOLUMES.items() if name.endswith(end)), None)
    if reader is None:
        picture: Any = next((reader for end, reader in _PICTURES.items() if name.endswith(end)), None)
        if picture is None:
            raise damaged(path, f"one of {', '.join(ENDINGS)}", path.suffix or "no ending", "convert it")
        reader = partial(picture, role=role)
    else:
        reader = partial(reader, turned=turned)
    try:
        stored: Stored = reader(path, most_bytes=most_bytes)
    except DamagedCaseError:
        raise
    except Exception as error:  # the decoders share no class of errors for damaged files
        raise damaged(path, f"a whole {path.suffix} file", error) from error
    if stored.values.dtype.kind == "f" and not np.isfinite(stored.values).all():
        fix = "replace them, e.g. by the value of air"
        raise damaged(path, "finite", "NaN or infinity in it", fix)
    return stored
