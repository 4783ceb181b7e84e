"""Position of the spinal cord in an axial neck volume, and the crop around it.

Shape letters: S slices, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segconf_lite import check

# The dural sac (cord and the fluid around it) is about 20 mm across. Fluid and cord are both
# brighter than the bone and ligament around them on T2*-weighted images, so the sac is ONE bright
# blob in every protocol, while the cord in it may be darker or brighter than the rest of the sac.
_SAC_RADIUS_MM = 10.0
# The operator centres the field of view on the neck. Weak on purpose: at 30 mm off the centre a
# response still counts for 61 % of what it would count for there.
_CENTRE_PRIOR_MM = 30.0
_WORKING_SPACING_MM = 2.0  # speed only: a blob of radius 10 mm needs no finer grid


def cord_line(volume: np.ndarray, *, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Cord position in every slice, as a straight line through the volume.

    1. Bright blobs of the sac's size: minus the Laplacian of a Gaussian of sigma ``10 mm / sqrt(2)``
       (Lindeberg 1998: the scale that responds most to a disc of radius 10 mm), negative responses cut to
       zero, each slice divided by its own maximum.
    2. The mean over slices, times a Gaussian of sigma 30 mm about the centre of the image, has its maximum
       where a blob stays from slice to slice: a first column.
    3. The strongest response of each slice within 10 mm of that column, and the straight line through them by
       least squares: the neck bends less than the response wavers.

    No label is read, and no other volume.

    Args:
        volume: (S, H, W) axial slices in order, any finite intensities and scale.
        spacing_mm: Row and column spacing in millimetres.

    Returns:
        (S, 2) float64 row and column in pixels (pixel centres are integers).

    Raises:
        ValueError: If a slice shows no bright blob at all (it is empty or constant), or an argument is not as
            above.

    Example:
        >>> rows, columns = np.mgrid[:31, :31]
        >>> disc = np.hypot(rows - 14, columns - 17) < 5
        >>> cord_line(np.stack([disc, disc]), spacing_mm=(2.0, 2.0)).tolist()
        [[14.0, 17.0], [14.0, 17.0]]
    """
    slices = check.finite("volume", check.array("volume", volume, "S H W", dtype=np.float64))
    spacing = _spacing(spacing_mm)
    blobs, factors = _blob_response(slices, spacing)
    step_mm = spacing * factors
    height, width = blobs.shape[1:]
    rows_mm = (np.arange(height) - (height - 1) / 2) * step_mm[0]
    columns_mm = (np.arange(width) - (width - 1) / 2) * step_mm[1]
    off_centre_mm2 = rows_mm[:, None] ** 2 + columns_mm[None] ** 2
    column_response = blobs.mean(axis=0) * np.exp(-off_centre_mm2 / (2 * _CENTRE_PRIOR_MM**2))
    row, column = np.unravel_index(column_response.argmax(), (height, width))
    near = (rows_mm[:, None] - rows_mm[row]) ** 2 + (columns_mm[None] - columns_mm[column]) ** 2
    allowed = near <= _SAC_RADIUS_MM**2
    peaks = np.where(allowed, blobs, -1.0).reshape(len(blobs), -1).argmax(axis=1)  # (S,)
    per_slice = np.stack(np.unravel_index(peaks, (height, width)), axis=1)  # (S, 2) of the coarse grid
    return _straight(per_slice) * factors + (factors - 1) / 2


def _spacing(spacing_mm: tuple[float, float]) -> np.ndarray:
    """(2,) row and column spacing; beyond these limits a blur would ask for any amount of memory."""
    spacing = check.spacing(spacing_mm, length=1)[0]
    return np.array([check.between("spacing_mm", value, 0.01, 100) for value in spacing])


def _blob_response(volume: np.ndarray, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, h, w) response in 0..1 on a grid coarser by integer factors (2,)."""
    factors = np.maximum(1, np.floor(_WORKING_SPACING_MM / spacing_mm)).astype(int)
    n_slices, height, width = volume.shape
    rows, columns = height // factors[0], width // factors[1]
    if rows == 0 or columns == 0:
        rows, columns, factors = height, width, np.ones(2, dtype=int)
    blocks = volume[:, : rows * factors[0], : columns * factors[1]]
    coarse = blocks.reshape(n_slices, rows, factors[0], columns, factors[1]).mean(axis=(2, 4))
    sigma = _SAC_RADIUS_MM / np.sqrt(2) / (spacing_mm * factors)
    # The cut-off Gaussian responds to a constant too: without its mean, an offset of a slice does nothing.
    response = np.maximum([-ndimage.gaussian_laplace(image - image.mean(), sigma) for image in coarse], 0.0)
    check.finite("blobs in volume", response, fix="scale the intensities")
    strongest = response.max(axis=(1, 2), keepdims=True)
    # Relative to the size of the intensities: rounding leaves a constant slice a "blob" of 1e-16.
    empty = strongest.ravel() <= 1e-9 * np.abs(coarse).max(axis=(1, 2))
    if empty.any():
        got = f"{empty.sum()} without any bright blob (first: slice {int(empty.argmax())})"
        raise check.refuse("volume", "an image in every slice", got, "leave empty slices out")
    return response / strongest, factors


def _straight(points: np.ndarray) -> np.ndarray:
    """(S, 2) points on the least-squares line through (S, 2) points, S as the abscissa."""
    index = np.arange(len(points)) - (len(points) - 1) / 2
    slope = index @ points / max(float(index @ index), 1.0)
    return points.mean(axis=0) + index[:, None] * slope


def crop(
    image: np.ndarray,
    labels: np.ndarray,
    centre: np.ndarray,
    *,
    n_classes: int,
    spacing_mm: tuple[float, float],
    size: int,
    new_spacing_mm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and labels at the same points: a square grid of ``new_spacing_mm`` about ``centre``.

    Intensities are interpolated linearly, after a blur where the grid gets coarser (antialiasing). So is
    every class, as an image of its own; then the class with the largest weight wins. Nearest-neighbour labels
    beside linear intensities would lie up to half an old pixel off them.

    Args:
        image: (H, W) intensities, any scale. Outside of it lies 0 (air).
        labels: (H, W) integers in ``0 .. n_classes - 1``. Outside lies 0 (background).
        centre: (2,) row and column in pixels of ``image``; it becomes the middle of the grid, which for an
            even ``size`` lies between the four middle pixels.
        n_classes: Number of label values.
        spacing_mm: Row and column spacing of ``image`` in millimetres.
        size: Rows and columns of the result, 1 to 4096.
        new_spacing_mm: Spacing of the result in millimetres, 0.01 to 100, as is that of `image`.

    Returns:
        (size, size) float64 and (size, size) int64.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> image = np.arange(16.0).reshape(4, 4)
        >>> grid = {"n_classes": 2, "spacing_mm": (1, 1), "size": 2, "new_spacing_mm": 1}
        >>> crop(image, image > 9, (1.5, 1.5), **grid)[0].tolist()
        [[5.0, 6.0], [9.0, 10.0]]
    """
    image = check.finite("image", check.array("image", image, "H W", dtype=np.float64))
    n_classes = check.integer("n_classes", n_classes, low=2, high=256)
    labels = check.label_map("labels", labels, n_classes=n_classes, shape=image.shape)
    centre = check.finite("centre", check.array("centre", centre, "2"))
    size = check.integer("size", size, low=1, high=4096)
    new_spacing_mm = check.between("new_spacing_mm", new_spacing_mm, 0.01, 100)
    step = new_spacing_mm / _spacing(spacing_mm)  # (2,) old pixels per new pixel
    offsets = np.arange(size) - (size - 1) / 2
    grid = np.stack(np.meshgrid(*(centre[axis] + offsets * step[axis] for axis in (0, 1)), indexing="ij"))
    blur = np.maximum(0.0, (step - 1) / 2)  # (2,) sigma that stands for averaging over a wider pixel

    def sample(plane: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(plane, blur, mode="nearest") if blur.any() else plane
        return ndimage.map_coordinates(smooth, grid, order=1, mode="grid-constant", cval=0.0)

    weights = [sample((labels == value).astype(np.float64)) for value in range(1, n_classes)]
    # What no other class claims is background, outside of the image too.
    winner = np.argmax([1.0 - np.sum(weights, axis=0), *weights], axis=0)
    return sample(image), winner.astype(np.int64)
