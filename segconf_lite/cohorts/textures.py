"""Objects that differ from their background by texture alone, and the divergence of two textures.

After Kamath et al., "Do we really need that skip connection?" (MICCAI 2023), with the textures that ship
with scikit-image, and training and test crops from different parts of the sheets.
Shape letters: N cases, H rows, W columns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from skimage import data
from skimage.feature import local_binary_pattern

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort

TEXTURES = ("brick", "grass", "gravel")  # 512 x 512, 8 bits, inside the wheel: nothing is downloaded
DIRECTIONS = ("foreground", "background")
# Fractions of the rows of a sheet. Gaps of 3 % (15 rows), since the rows next to a cut are near copies.
BANDS = {"train": (0.0, 0.50), "validation": (0.53, 0.69), "test": (0.72, 1.0)}
_POINTS, _RADIUS_PX = 24, 3  # of the local binary patterns; "uniform" gives _POINTS + 2 of them


def texture_cohort(
    n_cases: int,
    *,
    alpha: float = 0.1,
    direction: str = "foreground",
    pair: Sequence[str] = ("brick", "grass"),
    size: int = 64,
    part: str = "train",
    seed: int = 0,
) -> Cohort:
    """One smooth object of one texture on a background of another; alpha makes the two alike.

    The convention, the same everywhere in this package. Direction "foreground": inside the mask the
    image is ``(1 - alpha) * foreground texture + alpha * background texture``. Direction "background":
    outside the mask it is ``(1 - alpha) * background texture + alpha * foreground texture``. The other
    side is its own texture, unmixed. Higher alpha = harder. What is blended in is a second crop of the
    other texture, not the one that is seen beside it.

    Sheets have mean 0 and standard deviation 1, so no texture is brighter as a whole. What still tells the
    sides apart besides texture: a single crop may be brighter than another, and a blend of two independent
    textures has less contrast than either (standard deviation sqrt((1 - alpha)^2 + alpha^2), 0.71 at alpha
    0.5).

    Case i of a seed and part has the same mask and the same crops for every alpha, direction and n_cases:
    results at two alphas are paired.

    Args:
        n_cases: Number of images, >= 1.
        alpha: Fraction blended in, in [0, 1); 0 shows both textures as they are.
        direction: Side that is blended, ``"foreground"`` or ``"background"``.
        pair: Texture of the object and texture of the background; two of `TEXTURES`.
        size: H = W in pixels, from 16 to the rows of the part's band: 256 (train), 82 (validation) or 143
            (test).
        part: ``"train"``, ``"validation"`` or ``"test"``: the band of rows that the crops come from.
        seed: Seed of the random masks and crops, >= 0; equal arguments give equal bytes.

    Returns:
        Cohort of z-scored images; label 1 is the object, about 10 to 36 % of the image; one subject each,
        spacing 1 mm, domain ``"<direction> <alpha>"``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> texture_cohort(2, alpha=0.5, size=16)
        Cohort(2 slices of 16x16 from 2 subjects; domains {foreground 0.5: 2}; classes background, object)
    """
    fix = "at 1 there is no texture edge left: use null_cohort for that"
    alpha = check.number("alpha", alpha, low=0, high=1, open_high=True, fix=fix)
    return _cohort(n_cases, alpha, direction, pair, size, part, seed)


def null_cohort(
    n_cases: int,
    *,
    direction: str = "foreground",
    pair: Sequence[str] = ("brick", "grass"),
    size: int = 64,
    part: str = "train",
    seed: int = 0,
) -> Cohort:
    """The masks of `texture_cohort` with the same texture on both sides: alpha = 1.

    Direction "foreground" leaves two crops of the background texture, "background" two crops of the
    foreground texture. The seam between the crops stays, as does the difference between two patches of
    one sheet: `texture_divergence` of this cohort is the floor to which every alpha is compared.

    Args:
        n_cases: Number of images, >= 1.
        direction: Side whose texture is replaced, ``"foreground"`` or ``"background"``.
        pair: Texture of the object and texture of the background; two of `TEXTURES`.
        size: H = W in pixels, from 16 to the rows of the part's band.
        part: ``"train"``, ``"validation"`` or ``"test"``.
        seed: Seed of the random masks and crops, >= 0.

    Returns:
        Cohort as from `texture_cohort`, with the domain ``"null <direction>"``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> null_cohort(2, size=16).domain_names
        ('null foreground',)
    """
    return _cohort(n_cases, 1.0, direction, pair, size, part, seed)


def texture_divergence(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Divergence of the texture inside the object from that outside, in bits; higher = easier to see.

    .. math:: \mathrm{KL}(p \| q) = \sum_k p_k \log_2 \frac{p_k}{q_k}

    between histograms p (inside) and q (outside) of local binary patterns (24 points at radius 3, 26 uniform
    patterns; Ojala et al., PAMI 2002), which do not change with brightness or contrast. Half a count is
    added to every bin, so that all 26 count and the result is a true divergence; Kamath et al. drop the
    bins that are empty on one side. It does not reach 0 for equal textures, see `null_cohort`: means over
    24 test images of 64 x 64 are 0.28 for brick in grass and 0.10 for gravel in grass, 0.07 for grass in
    grass.

    Args:
        images: (N, 1, H, W) intensities, any scale; rounded to 256 levels per image.
        labels: (N, H, W) integers, > 0 inside.

    Returns:
        (N,) float64, >= 0.

    Raises:
        ValueError: If shapes do not match, an image is not finite, or an object is empty or fills an image.

    Example:
        >>> cohort = texture_cohort(1, alpha=0.0)
        >>> texture_divergence(cohort.images, cohort.labels).round(2).tolist()
        [0.11]
    """
    images = to_numpy(check.image_batch(images), np.float64)
    with np.errstate(over="ignore"):
        check.finite("range of the intensities", np.ptp(images, axis=(1, 2, 3)))
    inside = check.label_map("labels", labels, shape=(len(images), *images.shape[2:])) > 0
    n_inside = inside.sum(axis=(1, 2))
    one_sided = np.flatnonzero((n_inside == 0) | (n_inside == inside[0].size))
    if len(one_sided):
        got = f"cases {one_sided[:5].tolist()} with only one"
        raise check.refuse("labels", "of pixels inside and outside in every case", got, "drop them")
    return np.array([_divergence(image, mask) for image, mask in zip(images[:, 0], inside, strict=True)])


def _divergence(image: np.ndarray, mask: np.ndarray) -> float:
    span = float(np.ptp(image)) or 1.0
    levels = np.rint((image - image.min()) / span * 255).astype(np.uint8)
    patterns = local_binary_pattern(levels, _POINTS, _RADIUS_PX, method="uniform").astype(int)
    p, q = (np.bincount(patterns[side], minlength=_POINTS + 2) + 0.5 for side in (mask, ~mask))
    p, q = p / p.sum(), q / q.sum()
    return max(float(np.sum(p * np.log2(p / q))), 0.0)  # rounding may give -1e-17


def _cohort(
    n_cases: int, alpha: float, direction: str, pair: Sequence[str], size: int, part: str, seed: int
) -> Cohort:
    n_cases, seed = check.integer("n_cases", n_cases, low=1, high=10**6), check.integer("seed", seed, low=0)
    check.one_of("direction", direction, DIRECTIONS)
    names = check.names("pair", pair, length=2, unique=True).tolist()
    for name in names:
        check.one_of("pair", name, TEXTURES)
    first, last = _band_rows(check.one_of("part", part, tuple(BANDS)))
    fix = f"larger crops would take rows of another part than {part}"
    size = check.integer("size", size, low=16, high=last - first, fix=fix)
    cases = [_case(alpha, direction, names, size, part, seed, case) for case in range(n_cases)]
    images = np.stack([image for image, _ in cases])
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    images = centred / centred.std(axis=(1, 2), keepdims=True)
    return Cohort(
        images=images.astype(np.float32)[:, None],
        labels=np.stack([mask for _, mask in cases]).astype(np.int64),
        domains=np.repeat(f"null {direction}" if alpha == 1 else f"{direction} {alpha:g}", n_cases),
        subjects=np.array([f"texture-{seed}-{case}-{part}" for case in range(n_cases)]),
        spacing_mm=np.ones((n_cases, 2)),
        class_names=("background", "object"),
    )


def _band_rows(part: str) -> tuple[int, int]:
    """First row, and the row after the last, of the band of the 512 that a part's crops come from."""
    first, last = (round(fraction * len(_sheet(TEXTURES[0]))) for fraction in BANDS[part])
    return first, last


def _case(
    alpha: float, direction: str, pair: Sequence[str], size: int, part: str, seed: int, case: int
) -> tuple[np.ndarray, np.ndarray]:
    """One image (H, W) and its mask. Every random number is drawn before alpha and direction matter."""
    rng = np.random.default_rng([seed, tuple(BANDS).index(part), case])
    mask = _blob(size, rng)
    foreground, other_foreground = _two_crops(pair[0], size, part, rng)
    background, other_background = _two_crops(pair[1], size, part, rng)
    if direction == "foreground":
        foreground = (1 - alpha) * foreground + alpha * other_background
    else:
        background = (1 - alpha) * background + alpha * other_foreground
    return np.where(mask, foreground, background), mask


def _blob(size: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) mask with a radius of four Fourier terms, wholly inside the image."""
    fraction = rng.uniform(0.10, 0.36)
    orders = np.arange(2, 6)
    heights, phases = rng.uniform(0, 0.3, 4) / orders, rng.uniform(0, 2 * np.pi, 4)  # sum of heights < 0.39
    mean_radius = size * np.sqrt(fraction / (np.pi * (1 + np.sum(heights**2) / 2)))  # gives that area
    reach = min(mean_radius * (1 + heights.sum()), size / 2)
    row, column = rng.uniform(reach, size - reach, 2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    angle = np.arctan2(rows - row, columns - column)
    radius = mean_radius * (1 + np.sum(heights * np.cos(orders * angle[..., None] + phases), axis=-1))
    return np.hypot(rows - row, columns - column) < radius


def _two_crops(name: str, size: int, part: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two crops (H, W) of a band, at least half a crop apart in columns."""
    first, last = _band_rows(part)
    sheet = _sheet(name)[first:last]
    n_rows, n_columns = (side - size + 1 for side in sheet.shape)
    column = int(rng.integers(n_columns))
    apart = int(rng.integers(size // 2, n_columns - size // 2 + 1))
    corners = [(int(rng.integers(n_rows)), c) for c in (column, (column + apart) % n_columns)]
    one, other = (sheet[r : r + size, c : c + size] for r, c in corners)
    return one, other


@functools.cache
def _sheet(name: str) -> np.ndarray:
    """A texture of mean 0 and standard deviation 1."""
    sheet = np.asarray(getattr(data, name)(), dtype=np.float64)
    sheet = (sheet - sheet.mean()) / sheet.std()
    sheet.flags.writeable = False  # shared by all callers
    return sheet
