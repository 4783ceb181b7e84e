"""Retinal vessels: photographs of two cameras, and two observers who drew the same vessels.

Sources: CHASE_DB1, https://researchdata.kingston.ac.uk/96/ (Fraz et al., IEEE Trans Biomed Eng 59:2538,
2012; CC BY 4.0), both eyes of 14 British school children, handheld camera, 30 degrees, two observers. HRF,
https://www5.cs.fau.de/research/data/fundus-images/ (Budai et al., Int J Biomed Imaging 2013:154860;
CC BY 4.0), healthy eyes (``_h``), diabetic retinopathy (``_dr``) and glaucoma (``_g``), 45 degrees.
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from segconf_lite.cohorts import download
from segconf_lite.cohorts._checks import check_whole
from segconf_lite.cohorts.cohort import Cohort

__all__ = ["MM_PER_DEGREE", "cohort"]

MM_PER_DEGREE = 0.3  # of retina per degree of visual angle, in an average adult eye; nominal
_NAME = "retina_chase_hrf"
_CAMERAS = {"chase": ("Nidek NM-200-D", 30.0), "hrf": ("Canon CR-1", 45.0)}  # domain, degrees across
_DARK = 20  # of 255, in the red channel: the retina is brighter, what surrounds it is not


@dataclasses.dataclass(frozen=True, eq=False)
class _Photo:
    """One photograph in its own pixels."""

    session: str
    camera: str
    green: np.ndarray  # (H, W) float32, 0..255
    field: np.ndarray  # (H, W) bool, the field of view
    drawings: list[np.ndarray]  # of each observer (H, W) bool


def cohort(
    root: str | Path | None = None,
    *,
    size: int = 96,
    camera: str | None = None,
    view: str = "resized",
    tiles_per_image: int = 4,
    degrees_per_pixel: float | None = None,
    seed: int = 0,
) -> Cohort:
    """Photographs of the retina with the vessels drawn, whole or as tiles.

    The image is the green channel, where vessels stand out most: blood absorbs green, while red is near
    saturation and blue mostly noise. It is z-scored over what the picture shows of the field of view, and 0
    outside. HRF ships that field as a mask. For CHASE_DB1 it is the largest part whose red channel exceeds
    20 of 255, holes filled (a full disc to within 1 % on all 28).

    Drawings are resized with their *area* kept: of all pixels, those that vessel covers most, as many as the
    drawn area fills. The usual rule, covered by half, would keep 18 % less vessel of CHASE_DB1 at 96 pixels
    and 64 % less of HRF, whose vessels are thinner there. Measured on the published files: vessel fills .100
    (observer 1), .096 (observer 2) and .093 (HRF) of the field as drawn, and at 96 (HRF .094) and 192 pixels.
    The observers' Dice, mean over images, is .777 as drawn, .793 at 96 (the thinnest vessels are gone) and
    .776 at 192. In 32 tiles of 96 per image it is .781 pooled; one tile in 26 has no vessel.

    Args:
        root: the folder with ``CHASE_DB1`` and ``HRF`` or ``HRF_quarter``. By default
            ``$SEGCONF_DATA/retina_chase_hrf``, then the download folder. Nothing is downloaded.
        size: rows and columns in pixels.
        camera: ``"chase"``, ``"hrf"``, or None for both. HRF is read from ``HRF`` (3504 x 2336) if every
            case of the two folders is complete there, or there is no ``HRF_quarter`` (876 x 584, derived);
            else from ``HRF_quarter``. The two are never mixed.
        view: ``"resized"``: the square around the field of view, smoothed against aliasing (a pixel of HRF is
            then a larger angle); ``"tiles"``: squares whose centres are drawn evenly from the field of view.
        tiles_per_image: for tiles, how many of each photograph.
        degrees_per_pixel: for tiles, the visual angle of a pixel, e.g. 0.06 to give both cameras the same.
            None keeps the photograph's pixels: .033 for CHASE_DB1, .055 or .014 for HRF.
        seed: for tiles, where they lie; each photograph has its own stream, whatever others there are.

    Returns:
        images (N, 1, size, size) float32; labels 0 background, 1 vessel, by observer 1, outside the field
        as drawn. Domains "Nidek NM-200-D" and "Canon CR-1". Subjects are children ("chase-01"), sessions
        their eyes ("chase-01-L"), so no split divides a child; in HRF each image stands for itself
        ("hrf-01_h"). raters (N, 2, size, size) only with ``camera="chase"``: HRF has one drawing, so with
        ``"hrf"`` and with None raters is None. spacing_mm is NOMINAL, 0.3 mm of retina per degree (about that
        of an average adult eye, Drasdo & Fowler 1974, Bengtsson & Krakau 1992) and the camera's stated angle
        over the field's width; no eye was measured, children's are shorter. CHASE_DB1 comes
        before HRF, each by name. Equal files and arguments give equal bytes.

    Raises:
        FileNotFoundError: If the data set, a folder, or one file of a photograph is not there.
        ValueError: If an argument is out of range; if a file is damaged, a photograph is not in colour, has
            no field of view or no contrast, or a mask is not two-valued or of another shape.
    """
    for name, value, least in (("size", size, 1), ("tiles_per_image", tiles_per_image, 1), ("seed", seed, 0)):
        check_whole(name, value, least)
    if camera is not None and camera not in _CAMERAS:
        raise ValueError(f"camera must be one of {tuple(_CAMERAS)} or None for both, got {camera!r}")
    if view not in ("resized", "tiles"):
        raise ValueError(f"view must be 'resized' or 'tiles', got {view!r}")
    angle = degrees_per_pixel
    if angle is not None and not (view == "tiles" and math.isfinite(angle) and angle > 0):
        raise ValueError(f"degrees_per_pixel must be > 0, and None unless view='tiles', got {angle!r}")

    cuts, names, spacing_mm = [], [], []
    for photo in _photos(root, camera):
        shown = [np.flatnonzero(photo.field.any(axis=axis)) for axis in (1, 0)]
        width = int(max(np.ptp(extent) for extent in shown)) + 1
        degrees = _CAMERAS[photo.camera][1] / width  # of one pixel of the photograph
        side, centres = width, np.array([[(extent[0] + extent[-1]) / 2 for extent in shown]])
        if view == "tiles":
            side = int(size) if angle is None else round(size * angle / degrees)
            if not 1 <= side <= width:
                raise ValueError(
                    f"{photo.session}: expected tiles within its field of view, 1 to {width} of its pixels, "
                    f"got {side}; change size or degrees_per_pixel, or use view='resized'"
                )
            rng = np.random.default_rng([int(seed), zlib.crc32(photo.session.encode())])
            centres = rng.choice(np.argwhere(photo.field), int(tiles_per_image))
        for centre in centres:
            top, left = np.ceil(centre - side / 2).astype(int).tolist()
            cuts.append(_cut(photo, top, left, side, int(size)))
            spacing_mm.append([MM_PER_DEGREE * degrees * side / size] * 2)
        names += [(_CAMERAS[photo.camera][0], photo.session)] * len(centres)
    domains, sessions = np.array(names).T
    subjects = np.array([re.sub(r"-[LR]$", "", session) for session in sessions])
    drawings = np.stack([drawn if camera == "chase" else drawn[:1] for _, drawn in cuts])
    return Cohort(
        images=np.stack([image for image, _ in cuts])[:, None], labels=drawings[:, 0].copy(),
        domains=domains, subjects=subjects, sessions=sessions, spacing_mm=np.array(spacing_mm),
        class_names=("background", "vessel"), raters=drawings if camera == "chase" else None,
    )  # fmt: skip


def _cut(photo: _Photo, top: int, left: int, side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A square of the photograph: image (size, size) float32, drawings (R, size, size) int64."""
    field = _window(photo.field, top, left, side).astype(np.float32)
    cover = _resize(field, size)
    inside = cover >= 0.5
    # The mean over the part of a pixel in the field of view: the dark frame never bleeds in.
    grey = _resize(_window(photo.green, top, left, side) * field, size)[inside] / cover[inside]
    if grey.size == 0 or np.ptp(grey) <= 1e-3:  # of 255
        raise ValueError(f"{photo.session}: expected contrast, got a constant square of {side} pixels")
    image = np.zeros((size, size), dtype=np.float32)
    image[inside] = (grey - grey.mean(dtype=np.float64)) / grey.std(dtype=np.float64)
    shares = [_resize(_window(drawn, top, left, side).astype(np.float32), size) for drawn in photo.drawings]
    return image, np.stack([_most_covered(share) for share in shares]).astype(np.int64)


def _window(plane: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """(side, side) of a plane; 0 beyond its edges."""
    shown = plane[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    before = max(-top, 0), max(-left, 0)
    return np.pad(shown, [(n, side - n - length) for n, length in zip(before, shown.shape, strict=True)])


def _resize(plane: np.ndarray, size: int) -> np.ndarray:
    """A square float32 plane with ``size`` rows: local means where it shrinks, itself where it does not."""
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.HAMMING))


def _most_covered(share: np.ndarray) -> np.ndarray:
    """The pixels that vessel covers most, as many (but for ties) as the covered area would fill."""
    n = round(float(share.sum(dtype=np.float64)))
    if n < 1:
        return np.zeros(share.shape, dtype=bool)
    last = np.sort(share, axis=None)[-min(n, share.size)]
    with_ties, without = share >= last, share > last
    return with_ties if with_ties.sum() - n <= n - without.sum() else without


def _photos(root: str | Path | None, camera: str | None) -> Iterator[_Photo]:
    """One photograph after the other: the originals of HRF would fill the memory."""
    folder = download.find(_NAME) if root is None else Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder, got {folder}; give the one that holds CHASE_DB1 and HRF")
    if camera != "hrf":
        for image in _images(folder / "CHASE_DB1", "Image_*[LR].jpg"):
            drawn = [image.with_name(f"{image.stem}_{observer}HO.png") for observer in ("1st", "2nd")]
            yield _read(image, drawn, None, f"chase-{image.stem[6:-1]}-{image.stem[-1]}", "chase")
    if camera != "chase":
        for image, drawing, mask in _hrf_files(folder):
            yield _read(image, [drawing], mask, f"hrf-{image.stem}", "hrf")


def _hrf_files(folder: Path) -> list[tuple[Path, Path, Path]]:
    """Image, drawing and field of view of every case, by the rule of `cohort`."""
    both = []
    for name, end, mask_end in (("HRF", ".tif", "_mask.tif"), ("HRF_quarter", ".png", ".png")):
        part, images = folder / name, _images(folder / name / "images", must=False)
        both.append([(i, part / f"manual1/{i.stem}{end}", part / f"mask/{i.stem}{mask_end}") for i in images])
    whole, quarter = both
    if not whole and not quarter:
        _images(folder / "HRF/images")  # says what is missing
    complete = {case[0].stem for case in whole if all(path.is_file() for path in case)}
    return whole if not quarter or complete >= {case[0].stem for case in whole + quarter} else quarter


def _images(folder: Path, pattern: str = "*.[jJ][pP][gG]", *, must: bool = True) -> list[Path]:
    found = sorted(folder.glob(pattern), key=lambda path: path.stem)
    if must and not found:
        raise FileNotFoundError(
            f"expected {pattern} in {folder}, got none; {download.BY_HAND[_NAME]}. With only one of the two "
            "sets, name it: camera='chase' or camera='hrf'"
        )
    return found


def _read(image: Path, drawn: list[Path], mask: Path | None, session: str, camera: str) -> _Photo:
    absent = [str(path) for path in (*drawn, mask) if path and not path.is_file()]
    if absent:
        raise FileNotFoundError(f"expected {', '.join(absent)}, got no file; fetch it, or drop {image.name}")
    colours = _pixels(image)
    if colours.ndim != 3 or colours.shape[2] != 3:
        raise ValueError(f"{image}: expected a colour image, got the shape {colours.shape}; fetch it again")
    drawings = [_mask(path, colours.shape[:2]) for path in drawn]
    field = _mask(mask, colours.shape[:2]) if mask else _bright(image, colours[..., 0])
    return _Photo(session, camera, colours[..., 1].astype(np.float32), field, drawings)


def _bright(path: Path, red: np.ndarray) -> np.ndarray:
    """The field of view where no mask says it: the largest bright part, holes filled."""
    parts, n_parts = ndimage.label(red > _DARK)
    if not n_parts:
        raise ValueError(f"{path}: expected a bright field of view, got red <= {red.max()} of 255 everywhere")
    return ndimage.binary_fill_holes(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))


def _mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    values = _pixels(path, "L")
    if values.shape != shape:
        raise ValueError(f"{path}: expected the photograph's shape {shape}, got {values.shape}; redraw it")
    found = np.unique(values)
    if len(found) != 2 or found[0] != 0:
        raise ValueError(f"{path}: expected 0 and one other value, got {found[:6]}; binarise the mask")
    return values > 0


def _pixels(path: Path, mode: str | None = None) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert(mode) if mode else opened)
    except Exception as error:  # Pillow's decoders share no class of errors for damaged files
        raise ValueError(
            f"{path}: expected a whole image, got {type(error).__name__}: {error}; the file is cut short "
            "or damaged: delete it and fetch the data again"
        ) from error
