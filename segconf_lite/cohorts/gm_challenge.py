"""The spinal-cord grey-matter challenge: a real cohort of three scanner groups and six sites.

Axial T2*-weighted slices of the neck, with the cord and its grey matter drawn by one rater.

Source: Spinal Cord Gray Matter Imaging Challenge, 5th Spinal Cord Workshop 2018;
https://github.com/sct-pipeline/gm-challenge-data (CC0 1.0), first runs of 8 sessions of 6 people.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np

from segconf_lite.cohorts import download
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.cohorts.localise import cord_line, crop

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cohort", "localisation_error_mm"]

_NAME = "gm_challenge"
_CLASS_NAMES = ("background", "white matter", "grey matter")
_CHOICES = {"center": ("image", "label"), "group_by": ("scanner", "site")}
_CROP_MM, _MARGIN_MM = 48.0, 2.0  # 96 pixels of 0.5 mm, 4 pixels: what `localisation_error_mm` judges


@dataclasses.dataclass(frozen=True, eq=False)
class _Scan:
    """One session: S slices from foot to head, H rows from front to back, W columns from right to left."""

    session: str
    image: np.ndarray  # (S, H, W) float64
    labels: np.ndarray  # (S, H, W) int8 in 0..2
    kept: np.ndarray  # (n,) slices with both cord and grey matter
    spacing_mm: tuple[float, float]
    scanner: str
    institution: str


def cohort(
    root: str | Path | None = None,
    *,
    size: int = 96,
    spacing_mm: float = 0.5,
    center: str = "image",
    group_by: str = "scanner",
) -> Cohort:
    """Slices of real cervical cords, each cropped around the cord on one grid for image and label.

    The published files give 143 slices of 6 people in 8 sessions. A slice is kept only if both
    cord and grey matter are drawn on it: sub-9604 has grey matter on 15 slices and cord on 14,
    the fifteenth being one stray voxel, so 14 of it are kept. White matter is cord minus grey matter.

    Every slice is z-scored over its own crop. Published code for such data z-scores each *domain*,
    which reads statistics of the whole test set; a slice alone is all that a clinic has.

    Args:
        root: the data set's folder. By default ``$SEGCONF_DATA/gm_challenge``, then the download
            folder (see `download.find`). Nothing is ever downloaded from here.
        size: rows and columns of a crop in pixels. What lies outside the scan is 0 before z-scoring.
        spacing_mm: pixel spacing of the crop in millimetres, the same for all scanners
            (they have 0.42 to 0.78 mm).
        center: where the crop's middle lies.
            ``"image"``: where a bright blob of the dural sac's size (radius 10 mm, two constants,
            no training) runs straight through the volume, see `localise.cord_line`. It reads no
            label, but all slices of the volume. Measured by `localisation_error_mm` on the published
            files: the whole cord lies inside, with 4 pixels to spare, on 143 of 143 slices (failure
            rate 0); the middle is 2.9 mm off the cord's on average, 6.6 mm at worst. The constants
            were set with these sessions in sight: on another cohort, measure again.
            ``"label"``: the centre of mass of the reference cord, to the sub-pixel. For teaching
            only: it LEAKS the test label, since a network may learn where the cord always lies.
        group_by: what a domain is: ``"scanner"`` ("Siemens 3T", "Philips 3T", "Siemens 1.5T") or
            ``"site"`` (institution and scanner, e.g. "CEITEC (Siemens 3T)").

    Returns:
        images (N, 1, size, size) float32, mean 0 and standard deviation 1 each; labels 0 background,
        1 white matter, 2 grey matter. Top row anterior, left column the patient's right. Subjects are
        people ("sub-10062"), sessions are scans of them ("sub-10062Ses1"). One rater only: raters is
        None. Order: sessions by name, slices from foot to head. Equal files and arguments give equal bytes.

    Raises:
        FileNotFoundError: If the data set, or one file of a session, is not there.
        ValueError: If an argument is out of range or ``root`` is not the data set; if a file is cut
            short, or image and labels differ in shape or place, or labels are not 0 and 1, or a
            session has no slice with both cord and grey matter.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"size must be a whole number of pixels > 0, got {size!r}; e.g. 96")
    if not (math.isfinite(spacing_mm) and spacing_mm > 0):
        raise ValueError(f"spacing_mm must be finite and > 0 mm, got {spacing_mm!r}; e.g. 0.5")
    for name, value in (("center", center), ("group_by", group_by)):
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {_CHOICES[name]}, got {value!r}")

    crop_at = functools.partial(crop, n_classes=3, size=int(size), new_spacing_mm=float(spacing_mm))
    images, labels, domains, sessions = [], [], [], []
    for scan in _scans(root):
        centres = _label_centres(scan) if center == "label" else _image_centres(scan)
        for k in scan.kept:
            image, label = crop_at(scan.image[k], scan.labels[k], centres[k], spacing_mm=scan.spacing_mm)
            if np.ptp(image) <= 1e-9 * np.abs(image).max():  # constant up to the rounding of interpolation
                raise ValueError(f"{scan.session} slice {k}: expected an image, got a constant crop")
            images.append(((image - image.mean()) / image.std()).astype(np.float32))
            labels.append(label)
        domain = scan.scanner if group_by == "scanner" else f"{scan.institution} ({scan.scanner})"
        domains += [domain] * len(scan.kept)
        sessions += [scan.session] * len(scan.kept)
    return Cohort(
        images=np.stack(images)[:, None],
        labels=np.stack(labels),
        domains=np.array(domains),
        # One person may come in several sessions; only the person may be divided into parts.
        subjects=np.array([re.sub(r"Ses\d+$", "", session) for session in sessions]),
        sessions=np.array(sessions),
        spacing_mm=np.full((len(images), 2), float(spacing_mm)),
        class_names=_CLASS_NAMES,
    )


def localisation_error_mm(root: str | Path | None = None) -> pd.DataFrame:
    """How far ``center="image"`` lies from the reference cord, one row per kept slice.

    Args:
        root: as in `cohort`.

    Returns:
        session; slice (from foot to head, 0 first); error_mm, distance in the slice from the crop's
        middle to the cord's centre of mass, >= 0; inside, whether the whole cord lies in a crop of
        96 x 96 pixels of 0.5 mm with at least 4 pixels to spare on every side.

    Raises:
        FileNotFoundError, ValueError: As `cohort`.
    """
    import pandas as pd

    rows = []
    for scan in _scans(root):
        found, true = _image_centres(scan), _label_centres(scan)
        for k in scan.kept:
            # Half a pixel more: a pixel has a width, and all of it has to fit.
            reach_mm = (np.abs(np.argwhere(scan.labels[k] > 0) - found[k]) + 0.5) * scan.spacing_mm
            error_mm = np.hypot(*((found[k] - true[k]) * scan.spacing_mm))
            inside = reach_mm.max() <= _CROP_MM / 2 - _MARGIN_MM
            rows.append((scan.session, int(k), float(error_mm), bool(inside)))
    return pd.DataFrame(rows, columns=["session", "slice", "error_mm", "inside"])


def _image_centres(scan: _Scan) -> np.ndarray:
    """(S, 2) row and column without labels; rounded, so that the last bit of a sum cannot matter."""
    return np.round(cord_line(scan.image, spacing_mm=scan.spacing_mm), 3)


def _label_centres(scan: _Scan) -> dict[int, np.ndarray]:
    """Kept slice -> (2,) centre of mass of the reference cord in pixels."""
    return {k: np.argwhere(scan.labels[k] > 0).mean(axis=0) for k in scan.kept}


def _scans(root: str | Path | None) -> list[_Scan]:
    """Every session of the folder, by name. All are read before any is used: a fault loses nothing."""
    folder = download.find(_NAME) if root is None else Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"expected a folder, got {folder}; give the folder of {_NAME}, or no root to have it looked for"
        )
    images = sorted(folder.glob("sub-*/anat/sub-*_run-1_T2starw.nii.gz"))
    if not images:
        there = sorted(entry.name for entry in folder.iterdir())[:5]
        raise ValueError(
            f"{folder} is not the data set: expected sub-*/anat/sub-*_run-1_T2starw.nii.gz in it, got "
            f"{there or 'an empty folder'}; give the folder that holds participants.tsv and derivatives/"
        )
    return [_read(folder, image) for image in images]


def _read(folder: Path, image_path: Path) -> _Scan:
    session, stem = image_path.parts[-3], image_path.name.removesuffix(".nii.gz")
    sidecar, drawn_in = image_path.with_name(f"{stem}.json"), folder / "derivatives/labels" / session / "anat"
    mask_paths = [drawn_in / f"{stem}_{kind}-manual.nii.gz" for kind in ("seg", "gmseg")]
    absent = [str(path) for path in (sidecar, *mask_paths) if not path.is_file()]
    if absent:
        raise FileNotFoundError(f"expected {' and '.join(absent)}, got no file; fetch the data again")
    scanner, institution = _read_sidecar(sidecar)
    image, affine, spacing_mm = _read_nifti(image_path)
    masks = []
    for path in mask_paths:
        mask, mask_affine, _ = _read_nifti(path)
        if mask.shape != image.shape:
            raise ValueError(f"{path}: expected the image's shape {image.shape}, got {mask.shape}; redraw it")
        ends = np.array(np.meshgrid(*([0, n - 1] for n in image.shape[::-1]), [1])).reshape(4, -1)
        shift_mm = np.linalg.norm(((affine - mask_affine) @ ends)[:3], axis=0).max()
        # Headers are rounded (up to 0.06 mm apart in the published files): a quarter of a fine pixel.
        if shift_mm > 0.1:
            raise ValueError(f"{path}: expected the image's affine, got one up to {shift_mm:.2f} mm off it")
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(f"{path}: expected 0 and 1, got {np.unique(mask)[:6]}; binarise the mask")
        masks.append(mask > 0)
    cord, grey = masks
    drawn = cord.any(axis=(1, 2)), grey.any(axis=(1, 2))  # (S,) each
    kept = np.flatnonzero(drawn[0] & drawn[1])
    if kept.size == 0:
        raise ValueError(
            f"{session}: expected slices with both cord and grey matter, got cord on {drawn[0].sum()}, grey "
            f"matter on {drawn[1].sum()} and both on none; check its two masks, or leave the session out"
        )
    labels = np.where(grey, 2, np.where(cord, 1, 0)).astype(np.int8)
    return _Scan(session, image, labels, kept, spacing_mm, scanner, institution)


def _read_sidecar(path: Path) -> tuple[str, str]:
    """Scanner ("Siemens 3T") and institution, as the site wrote them."""
    try:
        fields = json.loads(path.read_text("utf-8"))
        field_t = float(fields["MagneticFieldStrength"])
        return f"{fields['Manufacturer']} {field_t:g}T", str(fields["InstitutionName"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected JSON with Manufacturer, MagneticFieldStrength (tesla) and InstitutionName, "
            f"got {type(error).__name__}: {error}; complete the file, or delete it and fetch the data again"
        ) from error


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """(S, H, W) float64 in the radiological view; affine of (W, H, S) indices; row and column spacing."""
    axes = nibabel.orientations
    try:
        # Whole, so that gzip's own check sum is compared; nibabel alone stops before it.
        stored = nibabel.nifti1.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        turn = axes.ornt_transform(axes.io_orientation(stored.affine), axes.axcodes2ornt("LPS"))
        turned = stored.as_reoriented(turn)  # axes towards the patient's left, back and head
        values = np.asarray(turned.dataobj, dtype=np.float64).transpose(2, 1, 0)
    except Exception as error:  # gzip, zlib and nibabel share no class of errors for damaged files
        raise ValueError(
            f"{path}: expected a whole 3-D NIfTI, got {type(error).__name__}: {error}; the file is cut "
            "short or damaged: delete it and fetch the data again"
        ) from error
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite values, got NaN or infinity; fetch the data again")
    zooms = turned.header.get_zooms()
    return values, turned.affine, (float(zooms[1]), float(zooms[0]))
