"""Cardiac short-axis anatomy as soft tissue maps.

Shape letters: n slices of one block, T tissues, H rows (anterior at the top), W columns (the
patient's right at the left). Lengths are millimetres from the image centre. Every structure is
a signed distance (positive inside); a pixel on an edge holds both tissues in proportion.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from segconf_lite.cohorts.phantom.scanner import TISSUES
from segconf_lite.cohorts.phantom.subjects import SliceShapes

CLASS_NAMES = ("background", "right ventricle", "myocardium", "left ventricle")
FIELD_OF_VIEW_MM = 192.0


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Tissue maps of n slices and the borders that a rater would draw.

    Attributes:
        fractions: (n, T, H, W) float32 fraction of each tissue in each pixel, sums to 1.
        inside_mm: (n, 3, H, W) float32 signed distance to the right-ventricular, epicardial and
            endocardial border, positive inside.

    Example:
        >>> from segconf_lite.cohorts.phantom.subjects import draw_subjects
        >>> _, shapes = draw_subjects([np.random.default_rng(0)])
        >>> draw(shapes, 16).inside_mm.shape
        (6, 3, 16, 16)
    """

    fractions: np.ndarray
    inside_mm: np.ndarray


class _Canvas:
    """Paints structures over each other, background first."""

    def __init__(self, shape: tuple[int, int, int], pixel_mm: float) -> None:
        self.fractions = np.zeros((shape[0], len(TISSUES), *shape[1:]), dtype=np.float32)
        self.fractions[:, TISSUES.index("air")] = 1
        self.pixel_mm = pixel_mm

    def paint(self, tissue: str, inside_mm: np.ndarray, opacity: float = 1.0) -> None:
        cover = np.clip(inside_mm / self.pixel_mm + 0.5, 0, 1) * opacity  # partial volume on edges
        # Only rows and columns that the structure touches: most are small.
        rows, columns = (np.flatnonzero((cover > 0).any(axis=axes)) for axes in ((0, 2), (0, 1)))
        if len(rows) == 0:
            return
        window = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        cover = cover[window]
        below = self.fractions[:, :, window[1], window[2]]
        below *= (1 - cover)[:, None]
        below[:, TISSUES.index(tissue)] += cover


def draw(shapes: SliceShapes, size: int) -> Anatomy:
    """Tissue maps of slices on a square grid over the field of view.

    Args:
        shapes: The geometry of n slices.
        size: Rows and columns of the grid.

    Example:
        >>> from segconf_lite.cohorts.phantom.subjects import draw_subjects
        >>> _, shapes = draw_subjects([np.random.default_rng(0)])
        >>> draw(shapes, 16).fractions.sum(axis=1).round(3).max().item()
        1.0
    """
    pixel_mm = FIELD_OF_VIEW_MM / size
    axis = ((np.arange(size) + 0.5) * pixel_mm - FIELD_OF_VIEW_MM / 2).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    canvas = _Canvas((len(shapes.level), size, size), pixel_mm)
    _paint_chest(canvas, shapes, x, y)
    return Anatomy(fractions=canvas.fractions, inside_mm=_paint_heart(canvas, shapes, x, y))


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]  # (n, 1, 1)


def _ellipse(x: np.ndarray, y: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Signed distance to n axis-parallel ellipses, exact on the axes and close elsewhere."""
    u = (x - _column(centre[:, 0])) / _column(radii[:, 0])
    v = (y - _column(centre[:, 1])) / _column(radii[:, 1])
    return (1 - np.sqrt(u * u + v * v)) * _column(radii.min(axis=1))


def _paint_chest(canvas: _Canvas, shapes: SliceShapes, x: np.ndarray, y: np.ndarray) -> None:
    body = _ellipse(x, y, shapes.body_centre, shapes.body_radii)
    canvas.paint("fat", body)
    canvas.paint("muscle", body - _column(shapes.skin_fat))
    canvas.paint("lung", body - _column(shapes.skin_fat + shapes.chest_wall))
    for vessel in range(shapes.lung_vessels.shape[1]):
        spot = shapes.lung_vessels[:, vessel]
        canvas.paint("blood", _ellipse(x, y, spot[:, :2], spot[:, 2:].repeat(2, axis=1)))
    canvas.paint("liver", _ellipse(x, y, shapes.liver_centre, shapes.liver_radii))
    stomach = _ellipse(x, y, shapes.stomach_centre, shapes.stomach_radii)
    canvas.paint("muscle", stomach)
    canvas.paint("air", stomach - 6)
    canvas.paint("muscle", _ellipse(x, y, shapes.spine_centre, shapes.spine_radii))
    canvas.paint("fat", _ellipse(x, y, shapes.spine_centre, 0.7 * shapes.spine_radii), 0.5)  # fatty marrow
    canvas.paint("blood", _ellipse(x, y, shapes.aorta, shapes.aorta_radius[:, None].repeat(2, axis=1)))


def _paint_heart(canvas: _Canvas, shapes: SliceShapes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    dx, dy = x - _column(shapes.centre[:, 0]), y - _column(shapes.centre[:, 1])
    u = dx * _column(np.cos(shapes.angle)) + dy * _column(np.sin(shapes.angle))  # septum lies towards -u
    v = dy * _column(np.cos(shapes.angle)) - dx * _column(np.sin(shapes.angle))
    radius = np.sqrt(u * u + v * v) + np.float32(1e-3)
    harmonics = _harmonics(u / radius, v / radius, 4)
    endo = _column(shapes.endo) * (1 + _series(harmonics, shapes.endo_waves)) - radius
    infarct = _sector(u / radius, v / radius, shapes.infarct_angle, shapes.infarct_width)
    infarct *= _column(shapes.has_infarct)
    wall = _column(shapes.wall) * (1 + _series(harmonics, shapes.wall_waves)) * (1 - 0.5 * infarct)
    epi = endo + wall
    rv_u = (u - _column(shapes.rv_u)) / _column(shapes.rv_a)
    rv_v = (v - _column(shapes.rv_v)) / _column(shapes.rv_b)
    rv_outer = 1 - np.sqrt(rv_u**2 + rv_v**2)
    rv_outer *= _column(np.minimum(shapes.rv_a, shapes.rv_b))
    rv = np.minimum(rv_outer, -epi)

    heart_fat = _column(shapes.heart_fat)
    pericardium = np.maximum(epi + heart_fat, rv_outer + _column(shapes.heart_fat + shapes.rv_wall))
    canvas.paint("fat", pericardium + 2 * _series(harmonics, shapes.endo_waves[:, ::-1]) * heart_fat)
    canvas.paint("myocardium", rv_outer + _column(shapes.rv_wall))
    canvas.paint("blood", rv)
    canvas.paint("myocardium", epi)
    inner_wall = np.minimum(epi, endo + 0.7 * wall)  # infarction starts at the endocardium
    canvas.paint("scar", np.minimum(inner_wall, 6 * (infarct - 0.5)))
    canvas.paint("blood", endo)
    _paint_inner(canvas, shapes, u, v, endo, rv)
    return np.stack([rv, epi, endo], axis=1).astype(np.float32)


def _paint_inner(
    canvas: _Canvas, shapes: SliceShapes, u: np.ndarray, v: np.ndarray, endo: np.ndarray, rv: np.ndarray
) -> None:
    """Papillary muscles and trabeculae: muscle that the reference counts as blood pool."""
    for side in (0, 1):
        offset, angle = shapes.endo * 0.62, shapes.papillary_angle[:, side]
        radius_mm = _column(shapes.papillary_radius[:, side])
        centre_u, centre_v = _column(np.cos(angle) * offset), _column(np.sin(angle) * offset)
        disc = radius_mm - np.hypot(u - centre_u, v - centre_v)
        canvas.paint("myocardium", np.where(radius_mm > 0, np.minimum(disc, endo), -99))
    turns = _column(shapes.trabecula_count)
    spokes = np.cos(turns * np.arctan2(v, u) + _column(shapes.trabecula_phase))
    for cavity, depth in ((endo, shapes.trabecula_depth), (rv, shapes.trabecula_depth * 1.4)):
        ridge = np.minimum(cavity, _column(depth) * (0.5 + 0.5 * spokes) - cavity)
        canvas.paint("myocardium", np.where(cavity > 0, ridge, -1), 0.7)


def _harmonics(cos_1: np.ndarray, sin_1: np.ndarray, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(cos k theta, sin k theta) for k = 2 .. order, by the addition theorem (no arctan)."""
    cos_k, sin_k, harmonics = cos_1, sin_1, []
    for _ in range(2, order + 1):
        cos_k, sin_k = cos_k * cos_1 - sin_k * sin_1, sin_k * cos_1 + cos_k * sin_1
        harmonics.append((cos_k, sin_k))
    return harmonics


def _series(harmonics: list[tuple[np.ndarray, np.ndarray]], waves: np.ndarray) -> np.ndarray:
    """Sum of waves[:, k, 0] cos + waves[:, k, 1] sin over the harmonics."""
    terms = (
        _column(waves[:, k, 0]) * cos_k + _column(waves[:, k, 1]) * sin_k
        for k, (cos_k, sin_k) in enumerate(harmonics)
    )
    return sum(terms, np.zeros((1, 1, 1), np.float32))


def _sector(cos_1: np.ndarray, sin_1: np.ndarray, angle: np.ndarray, width: np.ndarray) -> np.ndarray:
    """1 within an angular sector, falling smoothly to 0 outside it."""
    towards = cos_1 * _column(np.cos(angle)) + sin_1 * _column(np.sin(angle))
    return np.clip(4 * (towards - _column(np.cos(width))) + 0.5, 0, 1)
