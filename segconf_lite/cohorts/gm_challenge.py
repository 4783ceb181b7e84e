"""The spinal-cord grey-matter challenge: a real cohort of three scanner groups and six sites.

Axial T2*-weighted slices of the neck, in which one rater segmented the cord and its grey matter.

Source: Spinal Cord Gray Matter Imaging Challenge, 5th Spinal Cord Workshop 2018;
https://github.com/sct-pipeline/gm-challenge-data (CC0 1.0), first runs of 8 sessions of 6 people.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from pathlib import Path

import nibabel
import numpy as np

from segconf_lite import check
from segconf_lite.cohorts import download
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.cohorts.localise import cord_line, crop

_NAME = "gm_challenge"
_CLASS_NAMES = ("background", "white matter", "grey matter")
_MOST_VOXELS = 2**25  # of a volume: ten times the largest published one, 268 MB as float64


@dataclasses.dataclass(frozen=True, eq=False)
class _Scan:
    """One session: S slices from foot to head, H rows from front to back, W columns from right to left."""

    session: str
    image: np.ndarray  # (S, H, W) float64
    labels: np.ndarray  # (S, H, W) int8 in 0..2
    kept: np.ndarray  # (n,) slices with both cord and grey matter
    spacing_mm: tuple[float, float]
    scanner: str
    site: str  # institution and scanner


def cohort(
    root: str | Path | None = None,
    *,
    size: int = 96,
    spacing_mm: float = 0.5,
    center: str = "image",
    group_by: str = "scanner",
) -> Cohort:
    """Slices of real cervical cords, each cropped around the cord on one grid for image and label.

    The published files give 143 slices of 6 people in 8 sessions. A slice is kept only if both cord and grey
    matter are segmented on it: sub-9604 has grey matter on 15 slices and cord on 14, the fifteenth being one
    stray voxel, so 14 of its slices are kept. White matter is cord minus grey matter.

    Every slice is z-scored over its own crop. Published code for such data z-scores each *domain*, which
    reads statistics of the whole test set, although a clinic has a slice alone.

    Args:
        root: Folder of the data set. By default ``$SEGCONF_DATA/gm_challenge``, then the download
            folder (see `download.find`). Nothing is ever downloaded from here.
        size: Rows and columns of a crop in pixels. What lies outside the scan is 0 before z-scoring.
        spacing_mm: Pixel spacing of the crop in millimetres, 0.01 to 100 and the same for all scanners
            (they have 0.42 to 0.78 mm). That of a scan is taken from its affine.
        center: What the middle of the crop is computed from.
            ``"image"``: where a bright blob of the dural sac's size (radius 10 mm, two constants, no
            training) runs straight through the volume, see `localise.cord_line`. It reads no label, but all
            slices of the volume. Measured on the published files: the whole cord lies inside, with 4 pixels
            to spare, on 143 of 143 slices (failure rate 0); the middle is 2.9 mm off the cord's on average,
            6.6 mm at worst. The constants were set with these sessions in sight: on another cohort, measure
            again.
            ``"label"``: the centre of mass of the reference cord, to the sub-pixel. For teaching
            only: it LEAKS the test label, since a network may learn where the cord always lies.
        group_by: Meaning of a domain: ``"scanner"`` ("Siemens 3T", "Philips 3T", "Siemens 1.5T") or
            ``"site"`` (institution and scanner, e.g. "CEITEC (Siemens 3T)").

    Returns:
        images (N, 1, size, size) float32, mean 0 and standard deviation 1 each; labels 0 background,
        1 white matter, 2 grey matter. Top row anterior, left column the patient's right. Subjects are
        people ("sub-10062"), sessions are scans of them ("sub-10062Ses1"). One rater only: raters is
        None. Order: sessions by name, slices from foot to head. Equal files and arguments give equal bytes.

    Raises:
        FileNotFoundError: If the data set, or one file of a session, is not there.
        ValueError: If an argument is out of range or ``root`` is not the data set; if a file is cut short or
            not the published one, or image and labels differ in shape or position, or labels are not 0 and 1,
            or a session has no slice with both cord and grey matter.

    Example:
        >>> cohort(size=0)
        Traceback (most recent call last):
        ValueError: size must be an integer in [1, 4096], got 0; e.g. size=96 pixels
    """
    size = check.integer("size", size, low=1, high=4096, fix="e.g. size=96 pixels")
    spacing_mm = check.between("spacing_mm", spacing_mm, 0.01, 100, fix="e.g. 0.5 mm")
    check.one_of("center", center, ("image", "label"))
    check.one_of("group_by", group_by, ("scanner", "site"))
    crop_at = functools.partial(crop, n_classes=len(_CLASS_NAMES), size=size, new_spacing_mm=spacing_mm)
    images, labels, scans = [], [], []
    for scan in _scans(root):
        centres = _label_centres(scan) if center == "label" else _image_centres(scan)
        for k in scan.kept:
            image, label = crop_at(scan.image[k], scan.labels[k], centres[k], spacing_mm=scan.spacing_mm)
            if np.ptp(image) <= 1e-9 * np.abs(image).max():  # constant up to the rounding of interpolation
                raise check.refuse(f"{scan.session} slice {k}", "an image", "a constant crop")
            images.append(((image - image.mean()) / image.std()).astype(np.float32))
            labels.append(label)
            scans.append(scan)
    return Cohort(
        images=np.stack(images)[:, None],
        labels=np.stack(labels),
        domains=np.array([scan.scanner if group_by == "scanner" else scan.site for scan in scans]),
        # One person may come in several sessions; only the person may be divided into parts.
        subjects=np.array([re.sub(r"Ses\d+$", "", scan.session) for scan in scans]),
        sessions=np.array([scan.session for scan in scans]),
        spacing_mm=np.array([spacing_mm, spacing_mm]),
        class_names=_CLASS_NAMES,
    )


def _image_centres(scan: _Scan) -> np.ndarray:
    """(S, 2) row and column without labels; rounded, so that the last bit of a sum cannot matter."""
    return np.round(cord_line(scan.image, spacing_mm=scan.spacing_mm), 3)


def _label_centres(scan: _Scan) -> dict[int, np.ndarray]:
    """Kept slice -> (2,) centre of mass of the reference cord in pixels."""
    return {k: np.argwhere(scan.labels[k] > 0).mean(axis=0) for k in scan.kept}


def _scans(root: str | Path | None) -> list[_Scan]:
    """Every session of the folder, by name. All are read before any is used: a fault loses nothing."""
    folder = download.find(_NAME, root)
    images = sorted(folder.glob("sub-*/anat/sub-*_run-1_T2starw.nii.gz"))
    if not images:
        there = sorted(entry.name for entry in folder.iterdir())[:5]
        expected = f"a folder of {_NAME}, with sub-*/anat/sub-*_run-1_T2starw.nii.gz in it"
        fix = "give the folder that holds participants.tsv and derivatives/"
        raise check.refuse(str(folder), expected, there or "an empty folder", fix)
    return [_read(folder, image) for image in images]


def _read(folder: Path, image_path: Path) -> _Scan:
    session, stem = image_path.parts[-3], image_path.name.removesuffix(".nii.gz")
    mask_folder = folder / "derivatives/labels" / session / "anat"
    mask_paths = [mask_folder / f"{stem}_{kind}-manual.nii.gz" for kind in ("seg", "gmseg")]
    sidecar = image_path.with_name(f"{stem}.json")
    absent = [str(path) for path in (sidecar, *mask_paths) if not path.is_file()]
    if absent:
        raise FileNotFoundError(f"expected {' and '.join(absent)}, got no file; fetch the data again")
    scanner, institution = _read_sidecar(folder, sidecar)
    image, affine = _read_nifti(folder, image_path)
    cord, grey = (_read_mask(folder, path, image.shape, affine) for path in mask_paths)
    with_cord, with_grey = cord.any(axis=(1, 2)), grey.any(axis=(1, 2))  # (S,) each
    kept = np.flatnonzero(with_cord & with_grey)
    if kept.size == 0:
        got = f"cord on {with_cord.sum()}, grey matter on {with_grey.sum()} and both on none"
        fix = "check its two masks, or leave the session out"
        raise check.refuse(session, "a session with slices that show both cord and grey matter", got, fix)
    labels = np.where(grey, 2, np.where(cord, 1, 0)).astype(np.int8)
    # Not from the header's pixdim, which some tools leave behind when they write another affine.
    width_mm, height_mm, _ = nibabel.affines.voxel_sizes(affine).astype(np.float32).tolist()
    for name, value in (("row", height_mm), ("column", width_mm)):
        check.between(f"{name} spacing of {image_path} in mm", value, 0.01, 100, fix="mend its affine")
    return _Scan(
        session, image, labels, kept, (height_mm, width_mm), scanner, site=f"{institution} ({scanner})"
    )


def _read_sidecar(folder: Path, path: Path) -> tuple[str, str]:
    """Scanner ("Siemens 3T") and institution, as the site wrote them."""
    content = download.read(_NAME, folder, path)
    try:
        fields = json.loads(content.decode("utf-8"))
        field_t = check.number("MagneticFieldStrength", fields["MagneticFieldStrength"], low=0.01, high=30)
        both = [fields["Manufacturer"], fields["InstitutionName"]]
        manufacturer, institution = check.names("Manufacturer and InstitutionName", both).tolist()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        expected = "JSON with Manufacturer, MagneticFieldStrength (tesla) and InstitutionName"
        fix = "complete the file, or delete it and fetch the data again"
        raise download.damaged(path, expected, error, fix) from error
    return f"{manufacturer} {field_t:g}T", institution


def _read_mask(folder: Path, path: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """(S, H, W) bool on the grid of the image."""
    mask, mask_affine = _read_nifti(folder, path)
    if mask.shape != shape:
        raise check.refuse(str(path), f"of the image's shape {shape}", mask.shape, "segment it again")
    corners = np.array(np.meshgrid(*([0, n - 1] for n in shape[::-1]), [1])).reshape(4, -1)
    shift_mm = np.linalg.norm(((affine - mask_affine) @ corners)[:3], axis=0).max()
    # Headers are rounded (up to 0.06 mm apart in the published files): a quarter of a fine pixel.
    if not shift_mm <= 0.1:
        raise check.refuse(str(path), "on the image's affine", f"one up to {shift_mm:.2f} mm off it")
    if not np.isin(mask, (0, 1)).all():
        raise check.refuse(str(path), "0 and 1", np.unique(mask)[:6], "binarise the mask")
    return mask > 0


def _read_nifti(folder: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(S, H, W) float64 in the radiological view, and the affine of (W, H, S) indices."""
    axes = nibabel.orientations
    content = download.read(_NAME, folder, path, unzip=True)
    try:
        stored = nibabel.nifti1.Nifti1Image.from_bytes(content)
        shape, dtype, n_voxels = stored.shape, stored.get_data_dtype(), math.prod(stored.shape)
        if len(shape) != 3 or not 0 < n_voxels <= _MOST_VOXELS or dtype.kind not in "iuf":
            raise ValueError(f"the header states the shape {shape} of {dtype}")
        if n_voxels * dtype.itemsize > len(content):  # before memory is taken for what is not there
            raise ValueError(f"{len(content)} bytes cannot hold the shape {shape} of {dtype}")
        turn = axes.ornt_transform(axes.io_orientation(stored.affine), axes.axcodes2ornt("LPS"))
        turned = stored.as_reoriented(turn)  # axes towards the patient's left, back and head
        values = np.asarray(turned.dataobj, dtype=np.float64).transpose(2, 1, 0)
    except Exception as error:  # nibabel has no common class of errors for damaged files
        raise download.damaged(path, "a whole 3-D NIfTI of real numbers", error) from error
    return check.finite(f"intensities of {path}", values, fix="fetch the data again"), turned.affine
