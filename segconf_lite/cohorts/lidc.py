"""Lung nodules on CT: four vendors, and four radiologists who segmented the same nodules.

Source: the Lung Image Database Consortium image collection (LIDC-IDRI), The Cancer Imaging Archive,
https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX (Armato et al., Med Phys 38:915, 2011; CC BY 3.0). Crops as in
https://github.com/periclesanfe/Pulmoseg (MIT), of which 718 slices of 293 patients are kept.
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from segconf_lite import check
from segconf_lite.cohorts import download
from segconf_lite.cohorts.cohort import Cohort

#: Vendors in the order of the cohort: GE is meant for training, and the other three stay unseen.
VENDORS = ("GE", "Siemens", "Philips", "Toshiba")
_NAME = "lidc_nodules"
_SIDE = 128  # rows and columns of a published crop
_N_RATERS = 4
_FILE = re.compile(r"([\w-]+)_n(\d+)_s(\d+)\.png")  # patient, nodule, slice
_COLUMNS = ("file", "patient", "nodule", "slice", "vendor", "pixel_spacing_mm")


def cohort(
    root: str | Path | None = None,
    *,
    size: int = 96,
    label: str | int = "majority",
    vendor: str | None = None,
    seed: int = 0,
) -> Cohort:
    """Slices through lung nodules, each in a randomly shifted window, with the segmentations of four raters.

    The published crops have 128 x 128 pixels with the nodule in the middle, so a network could learn the
    place and ignore the image. Each slice is therefore read through a smaller window, whose position is
    drawn evenly from all positions that hold the four segmentations whole. At 96 pixels these are all 33 x 33
    positions, except for 12 of the 718 slices, whose nodules are large or lie off the middle. The middle of
    the nodule is then spread over the middle third of the window; the margin is still free of nodules.

    Every slice is z-scored over its own window. The usual fixed window in Hounsfield units is not possible
    here, because each crop was stretched to 0..255 before it was published (all 718 reach both ends) and the
    original intensities are lost. Nothing is learned from other slices, patients or vendors.

    Only slices that all four radiologists segmented are in this subset, so the raters differ in where the
    border is and never in whether there is a nodule. Measured on the published files, the Dice of two raters
    (mean over the six pairs, then over slices) is 0.785 for GE, 0.767 for Siemens, 0.706 for Philips and
    0.812 for Toshiba. Nodules are small (median areas of 74, 63, 52 and 148 pixels), so that a single
    pixel changes the Dice visibly.

    Args:
        root: Folder with ``cases.csv``, ``images`` and ``raters``. By default ``$SEGCONF_DATA/lidc_nodules``,
            then the download folder. Nothing is downloaded.
        size: Rows and columns of the window in pixels, 16 to 96. A larger window would leave the nodule near
            its middle; a window that is smaller than a nodule is refused.
        label: The reference: ``"majority"``, pixels that at least two of the four raters segmented, or one
            rater, 0 to 3. A number is a slot and not a person: rater 0 of one patient need not be rater 0 of
            another.
        vendor: One of `VENDORS`, or None for all.
        seed: Seed of the positions of windows; each slice has its own stream, whatever others there are.

    Returns:
        images (N, 1, size, size) float32, mean 0 and standard deviation 1 each; labels 0 background, 1
        nodule; raters (N, 4, size, size). Domains are vendors in the order of `VENDORS`, subjects are
        patients ("LIDC-IDRI-0004") with up to four slices each, so that `Cohort.split` gives a training and
        a test part that share no patient. spacing_mm is the scan's (0.46 to 0.98 mm), and pixels are not
        resampled. Order: by vendor, then patient, nodule and slice. Equal files and arguments give equal
        bytes.

    Raises:
        FileNotFoundError: If the data set, its table, or a file that the table names is not there.
        ValueError: If an argument is out of range or no slice is of the vendor; if a row of the table does
            not fit its file, names another vendor or has no spacing, or an image has no row; if a file is
            damaged, an image is constant, or one of the four segmentations is empty.

    Example:
        >>> cohort(vendor="Canon")
        Traceback (most recent call last):
        ValueError: vendor must be one of ('GE', 'Siemens', 'Philips', 'Toshiba', None), got 'Canon'
    """
    size = check.integer("size", size, low=16, high=96, fix="a larger window has the nodule near its middle")
    check.one_of("label", label, ("majority", *range(_N_RATERS)))
    check.one_of("vendor", vendor, (*VENDORS, None))
    seed = check.integer("seed", seed, low=0)

    folder = download.find(_NAME, root)
    table = _table(folder)
    if vendor is not None:
        table = table[table["vendor"] == vendor]
        if table.empty:
            raise check.refuse("vendor", f"of a slice in {folder / 'cases.csv'}", repr(vendor))
    slices = [_slice(folder, file, size, seed) for file in table["file"]]
    raters = np.stack([masks for _, masks in slices])  # (N, 4, size, size)
    return Cohort(
        images=np.stack([image for image, _ in slices])[:, None],
        labels=raters.sum(axis=1) >= 2 if label == "majority" else raters[:, int(label)].copy(),
        domains=table["vendor"].to_numpy(),
        subjects=table["patient"].to_numpy(),
        spacing_mm=np.repeat(table[["mm"]].to_numpy(), 2, axis=1),
        class_names=("background", "nodule"),
        raters=raters,
    )


def _table(folder: Path) -> pd.DataFrame:
    """Rows of ``cases.csv`` in the order of the cohort, with the pixel spacing as a number "mm"."""
    path = folder / "cases.csv"
    if not path.is_file():
        raise FileNotFoundError(f"expected {path}, got no file; {download.BY_HAND[_NAME]}")
    content = download.read(_NAME, folder, path)
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False).fillna("")
    except Exception as error:  # a parser's errors and a codec's share no class
        raise download.damaged(path, "a whole table in CSV", error) from error
    check.columns(table, _COLUMNS, str(path))
    places, spacings = [], []
    for file, patient, nodule, number, vendor, spacing in table[list(_COLUMNS)].itertuples(index=False):
        found = _FILE.fullmatch(file)
        if found is None or found.groups() != (patient, nodule, number):
            expected = "a file named PATIENT_nNODULE_sSLICE.png after the columns of its row"
            raise check.refuse(f"a row of {path}", expected, (file, patient, nodule, number), "mend the row")
        check.one_of(f"vendor of {file} in {path}", vendor, VENDORS)
        places.append((VENDORS.index(vendor), patient, int(nodule), int(number)))
        spacings.append(float(pd.to_numeric(spacing, errors="coerce")))
        check.between(f"pixel_spacing_mm of {file} in {path}", spacings[-1], 0.1, 10, fix="mend the row")
    files = set(check.names(f"files of {path}", table["file"], unique=True).tolist())
    unlisted = sorted({image.name for image in (folder / "images").glob("*.png")} - files)
    if unlisted or (table == "").any(axis=None):
        got = f"no row for {unlisted[:3]}" if unlisted else "empty cells"
        raise check.refuse(str(path), "a full row for every image", got, "it was cut short: fetch it again")
    return table.assign(mm=spacings).iloc[sorted(range(len(places)), key=places.__getitem__)]


def _slice(folder: Path, file: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The window of one slice: image (size, size) float32, and segmentations (4, size, size) int64."""
    path = folder / "raters" / file
    grey, bits = _pixels(folder, folder / "images" / file), _pixels(folder, path)
    masks = bits >> np.arange(_N_RATERS)[:, None, None] & 1  # bit k is rater k
    if bits.max() >= 2**_N_RATERS or not masks.any(axis=(1, 2)).all():
        got = f"values {np.unique(bits)[:6].tolist()}"
        raise check.refuse(str(path), f"of {_N_RATERS} bits, each set somewhere", got, "leave the slice out")
    rng = np.random.default_rng([seed, zlib.crc32(file.encode())])
    top, left = (_start(file, np.flatnonzero(bits.any(axis=axis)), size, rng) for axis in (1, 0))
    window = np.s_[..., top : top + size, left : left + size]
    image = grey[window].astype(np.float64)
    if np.ptp(image) == 0:
        raise check.refuse(str(folder / "images" / file), "an image", "a constant window")
    return ((image - image.mean()) / image.std()).astype(np.float32), masks[window].astype(np.int64)


def _start(file: str, segmented: np.ndarray, size: int, rng: np.random.Generator) -> int:
    """A random first row (or column) of a window that holds every segmented one."""
    first, last = int(segmented[0]), int(segmented[-1])
    lowest, highest = max(last - size + 1, 0), min(first, _SIDE - size)
    if lowest > highest:
        raise check.refuse("size", f">= {last - first + 1}, to hold the nodule of {file}", size)
    return int(rng.integers(lowest, highest + 1))


def _pixels(folder: Path, path: Path) -> np.ndarray:
    """(128, 128) uint8 values as stored."""
    if not path.is_file():
        fix = f"fetch it, or drop {path.name} from cases.csv and from both folders"
        raise FileNotFoundError(f"expected {path}, got no file; {fix}")
    content = download.read(_NAME, folder, path)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as opened:  # the header alone
            if opened.size != (_SIDE, _SIDE) or opened.mode != "L":
                raise ValueError(f"{opened.height} x {opened.width} pixels of mode {opened.mode}")
            return np.asarray(opened)
    except Exception as error:  # Pillow's decoders share no class of errors for damaged files
        raise download.damaged(path, f"a whole PNG of {_SIDE} x {_SIDE} grey pixels", error) from error
