"""Retinal vessels: photographs of two cameras, and two observers who segmented the same vessels.

Sources: CHASE_DB1, https://researchdata.kingston.ac.uk/96/ (Fraz et al., IEEE Trans Biomed Eng 59:2538,
2012; CC BY 4.0), both eyes of 14 British school children, handheld camera, 30 degrees, two observers. HRF,
https://www5.cs.fau.de/research/data/fundus-images/ (Budai et al., Int J Biomed Imaging 2013:154860;
CC BY 4.0), healthy eyes (``_h``), diabetic retinopathy (``_dr``) and glaucoma (``_g``), 45 degrees.
"""

from __future__ import annotations

import dataclasses
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from segconf_lite import check
from segconf_lite.cohorts import download
from segconf_lite.cohorts.cohort import Cohort

#: Millimetres of retina per degree of visual angle, in an average adult eye; nominal.
MM_PER_DEGREE = 0.3
_NAME = "retina_chase_hrf"
_CAMERAS = {"chase": ("Nidek NM-200-D", 30.0), "hrf": ("Canon CR-1", 45.0)}  # domain, degrees across
_DARK = 20  # of 255, in the red channel: the retina is brighter, what surrounds it is not
_MOST_PIXELS = 2**26  # of a photograph: eight times those of HRF


@dataclasses.dataclass(frozen=True, eq=False)
class _Photo:
    """One photograph in its own pixels."""

    session: str
    camera: str
    green: np.ndarray  # (H, W) float32, 0..255
    field: np.ndarray  # (H, W) bool, the field of view
    vessels: list[np.ndarray]  # (H, W) bool for each observer

    def square(self) -> tuple[int, np.ndarray]:
        """Side in pixels, and (2,) centre, of the smallest square around the field of view."""
        extents = [np.flatnonzero(self.field.any(axis=axis)) for axis in (1, 0)]
        side = int(max(np.ptp(extent) for extent in extents)) + 1
        return side, np.array([(extent[0] + extent[-1]) / 2 for extent in extents])


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
    """Photographs of the retina with the vessels segmented, whole or as tiles.

    The image is the green channel, where vessels stand out most: blood absorbs green, while red is near
    saturation and blue mostly noise. It is z-scored over the visible part of the field of view, and 0
    outside. HRF ships that field as a mask. For CHASE_DB1 it is the largest part whose red channel exceeds 20
    of 255, holes filled (a full disc to within 1 % on all 28).

    Segmentations are resized with their *area* kept: of all pixels, those that vessel covers most, as many as
    the segmented area fills. The usual rule, covered by half, would keep 18 % less vessel of CHASE_DB1 at 96
    pixels and 64 % less of HRF, whose vessels are thinner there. Measured on the published files: vessel
    fills 0.100 (observer 1), 0.096 (observer 2) and 0.093 (HRF) of the field as segmented, and at 96 (HRF
    0.094) and 192 pixels. The observers' Dice, mean over images, is 0.777 as segmented, 0.793 at 96 (the
    thinnest vessels are gone) and 0.776 at 192. In 32 tiles of 96 per image it is 0.781 pooled; one tile in
    26 has no vessel.

    Args:
        root: Folder with ``CHASE_DB1`` and ``HRF`` or ``HRF_quarter``. By default
            ``$SEGCONF_DATA/retina_chase_hrf``, then the download folder. Nothing is downloaded.
        size: Rows and columns in pixels.
        camera: ``"chase"``, ``"hrf"``, or None for both. HRF is read from ``HRF`` (3504 x 2336) if every
            case of the two folders is complete there, or there is no ``HRF_quarter`` (876 x 584, derived);
            else from ``HRF_quarter``. The two are never mixed.
        view: ``"resized"``: the square around the field of view, smoothed against aliasing (a pixel of HRF is
            then a larger angle); ``"tiles"``: squares whose centres are drawn evenly from the field of view.
        tiles_per_image: Number of tiles per photograph, for tiles, >= 1.
        degrees_per_pixel: Visual angle of a pixel, for tiles, e.g. 0.06 to give both cameras the same.
            None keeps the photograph's pixels: 0.033 for CHASE_DB1, 0.055 or 0.014 for HRF.
        seed: Seed of the positions of tiles; each photograph has its own stream, whatever others there are.

    Returns:
        images (N, 1, size, size) float32; labels 0 background, 1 vessel, by observer 1, outside the field
        too. Domains "Nidek NM-200-D" and "Canon CR-1". Subjects are children ("chase-01"), sessions
        their eyes ("chase-01-L"), so no split divides a child; in HRF each image stands for itself
        ("hrf-01_h"). raters (N, 2, size, size) only with ``camera="chase"``: HRF has one observer, so with
        ``"hrf"`` and with None raters is None. spacing_mm is NOMINAL, 0.3 mm of retina per degree (about that
        of an average adult eye, Drasdo & Fowler 1974, Bengtsson & Krakau 1992) and the camera's stated angle
        over the field's width; no eye was measured, children's are shorter. CHASE_DB1 comes
        before HRF, each by name. Equal files and arguments give equal bytes.

    Raises:
        FileNotFoundError: If the data set, a folder, or one file of a photograph is not there.
        ValueError: If an argument is out of range; if a file is damaged or too large, a photograph is not in
            colour, has no field of view or no contrast, or a mask is not two-valued or of another shape.

    Example:
        >>> cohort(camera="pinhole")
        Traceback (most recent call last):
        ValueError: camera must be one of ('chase', 'hrf', None), got 'pinhole'
    """
    size = check.integer("size", size, low=1, high=4096)
    tiles_per_image = check.integer("tiles_per_image", tiles_per_image, low=1, high=10**6)
    seed = check.integer("seed", seed, low=0)
    check.one_of("camera", camera, (*_CAMERAS, None))
    check.one_of("view", view, ("resized", "tiles"))
    angle = degrees_per_pixel
    if angle is not None:
        angle = check.number("degrees_per_pixel", angle, low=0, high=45, open_low=True)
        if view != "tiles":
            raise check.refuse("degrees_per_pixel", "None unless view='tiles'", angle)

    parts = []  # one cohort per photograph
    for photo in _photos(root, camera):
        domain, degrees_across = _CAMERAS[photo.camera]
        width, middle = photo.square()
        degrees = degrees_across / width  # of one pixel of the photograph
        side, centres = width, middle[None]  # (n_cuts, 2)
        if view == "tiles":
            side = size if angle is None else round(size * angle / degrees)
            centres = _tile_centres(photo, side, width, tiles_per_image, seed)
        cuts = [_cut(photo, centre, side, size) for centre in centres]
        raters = np.stack([labels for _, labels in cuts])  # (n_cuts, R, size, size)
        part = Cohort(
            images=np.stack([image for image, _ in cuts])[:, None],
            labels=raters[:, 0].copy(),
            domains=np.repeat(domain, len(cuts)),
            subjects=np.repeat(re.sub(r"-[LR]$", "", photo.session), len(cuts)),
            sessions=np.repeat(photo.session, len(cuts)),
            spacing_mm=np.full(2, MM_PER_DEGREE * degrees * side / size),
            class_names=("background", "vessel"),
            raters=raters if camera == "chase" else None,
        )
        parts.append(part)
    return Cohort.concatenate(parts)


def _tile_centres(photo: _Photo, side: int, width: int, n_tiles: int, seed: int) -> np.ndarray:
    """(n_tiles, 2) random pixels of the field of view."""
    if not 1 <= side <= width:
        expected = f"within the field of view of {photo.session}, 1 to {width} of its pixels"
        raise check.refuse("tiles", expected, side, "change size or degrees_per_pixel, or use view='resized'")
    rng = np.random.default_rng([seed, zlib.crc32(photo.session.encode())])
    return rng.choice(np.argwhere(photo.field), n_tiles)


def _cut(photo: _Photo, centre: np.ndarray, side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A square of the photograph: image (size, size) float32, vessels (R, size, size) int64."""
    top, left = np.ceil(centre - side / 2).astype(int).tolist()
    field = _window(photo.field, top, left, side).astype(np.float32)
    cover = _resize(field, size)
    inside = cover >= 0.5
    # The mean over the part of a pixel in the field of view: the dark frame never bleeds in.
    green = _resize(_window(photo.green, top, left, side) * field, size)[inside] / cover[inside]
    if green.size == 0 or np.ptp(green) <= 1e-3:  # of 255
        raise check.refuse(photo.session, "of some contrast", f"a constant square of {side} pixels")
    image = np.zeros((size, size), dtype=np.float32)
    image[inside] = (green - green.mean(dtype=np.float64)) / green.std(dtype=np.float64)
    covers = [_resize(_window(mask, top, left, side).astype(np.float32), size) for mask in photo.vessels]
    return image, np.stack([_most_covered(cover) for cover in covers]).astype(np.int64)


def _window(plane: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """(side, side) of a plane; 0 beyond its edges."""
    visible = plane[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    before = max(-top, 0), max(-left, 0)
    return np.pad(visible, [(n, side - n - length) for n, length in zip(before, visible.shape, strict=True)])


def _resize(plane: np.ndarray, size: int) -> np.ndarray:
    """A square float32 plane with ``size`` rows: local means where it shrinks, itself where it does not."""
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.HAMMING))


def _most_covered(cover: np.ndarray) -> np.ndarray:
    """The pixels that vessel covers most, as many (but for ties) as the covered area would fill."""
    n = round(float(cover.sum(dtype=np.float64)))
    if n < 1:
        return np.zeros(cover.shape, dtype=bool)
    threshold = np.sort(cover, axis=None)[-min(n, cover.size)]
    with_ties, without_ties = cover >= threshold, cover > threshold
    too_many, too_few = with_ties.sum() - n, n - without_ties.sum()
    return with_ties if too_many <= too_few else without_ties


def _photos(root: str | Path | None, camera: str | None) -> Iterator[_Photo]:
    """One photograph after the other: the originals of HRF would fill the memory."""
    folder = download.find(_NAME, root)
    if camera != "hrf":
        for image in _images(folder / "CHASE_DB1", "Image_*[LR].jpg"):
            masks = [image.with_name(f"{image.stem}_{observer}HO.png") for observer in ("1st", "2nd")]
            yield _read(folder, image, masks, None, f"chase-{image.stem[6:-1]}-{image.stem[-1]}", "chase")
    if camera != "chase":
        for image, mask, field in _hrf_files(folder):
            yield _read(folder, image, [mask], field, f"hrf-{image.stem}", "hrf")


def _hrf_files(folder: Path) -> list[tuple[Path, Path, Path]]:
    """Image, vessels and field of view of every case, by the rule of `cohort`."""
    cases = {}
    for name, end, field_end in (("HRF", ".tif", "_mask.tif"), ("HRF_quarter", ".png", ".png")):
        part = folder / name
        cases[name] = [
            (image, part / f"manual1/{image.stem}{end}", part / f"mask/{image.stem}{field_end}")
            for image in _images(part / "images", must=False)
        ]
    whole, quarter = cases["HRF"], cases["HRF_quarter"]
    if not whole and not quarter:
        _images(folder / "HRF/images")  # says what is missing
    complete = {case[0].stem for case in whole if all(path.is_file() for path in case)}
    return whole if not quarter or complete >= {case[0].stem for case in whole + quarter} else quarter


def _images(folder: Path, pattern: str = "*.[jJ][pP][gG]", *, must: bool = True) -> list[Path]:
    paths = sorted(folder.glob(pattern), key=lambda path: path.stem)
    if must and not paths:
        raise FileNotFoundError(
            f"expected {pattern} in {folder}, got none; {download.BY_HAND[_NAME]}. With only one of the two "
            "sets, name it: camera='chase' or camera='hrf'"
        )
    return paths


def _read(
    folder: Path, image: Path, masks: list[Path], field: Path | None, session: str, camera: str
) -> _Photo:
    absent = [str(path) for path in (*masks, field) if path and not path.is_file()]
    if absent:
        raise FileNotFoundError(f"expected {', '.join(absent)}, got no file; fetch it, or drop {image.name}")
    colours = _pixels(folder, image)  # (H, W, 3)
    vessels = [_mask(folder, path, colours.shape[:2]) for path in masks]
    for path, mask in zip(masks, vessels, strict=True):
        if mask.mean() > 0.5:
            fix = "0 is background: invert the mask"
            raise check.refuse(str(path), "vessel on less than half of the image", f"{mask.mean():.2f}", fix)
    field_of_view = _mask(folder, field, colours.shape[:2]) if field else _bright(image, colours[..., 0])
    return _Photo(session, camera, colours[..., 1].astype(np.float32), field_of_view, vessels)


def _bright(path: Path, red: np.ndarray) -> np.ndarray:
    """The field of view where no mask states it: the largest bright part, holes filled."""
    parts, n_parts = ndimage.label(red > _DARK)
    if not n_parts:
        raise check.refuse(str(path), "of a bright field of view", f"red <= {red.max()} of 255 everywhere")
    return ndimage.binary_fill_holes(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))


def _mask(folder: Path, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    values = _pixels(folder, path, grey=True)
    if values.shape != shape:
        raise check.refuse(str(path), f"of the photograph's shape {shape}", values.shape, "segment it again")
    levels = np.unique(values)
    if len(levels) != 2 or levels[0] != 0:
        raise check.refuse(str(path), "0 and one other value", levels[:6], "binarise the mask")
    return values > 0


def _pixels(folder: Path, path: Path, *, grey: bool = False) -> np.ndarray:
    """(H, W, 3) colours, or (H, W) grey levels, in 0..255."""
    content = download.read(_NAME, folder, path)
    try:
        with Image.open(io.BytesIO(content)) as opened:  # the header alone
            n_images, n_pixels = getattr(opened, "n_frames", 1), opened.width * opened.height
            if n_images > 1 or n_pixels > _MOST_PIXELS:
                raise ValueError(f"{n_images} images of {n_pixels} pixels")
            if not grey and opened.mode != "RGB":
                raise ValueError(f"the colour mode {opened.mode}, not RGB")
            return np.asarray(opened.convert("L") if grey else opened)
    except Exception as error:  # Pillow's decoders share no class of errors for damaged files
        raise download.damaged(path, "a whole image", error) from error
