"""Random shapes of hearts, per subject (habitus, disease) and per slice (base to apex).

Every subject has a random stream of its own, so the first subjects of a larger cohort are the
subjects of a smaller one, whatever the scanner. Sizes follow adult short-axis norms in round
numbers (left-ventricular cavity about 48 mm, wall about 9 mm in end-diastole; Kawel-Boehm et
al., J Cardiovasc Magn Reson 22:87, 2020); diseases shift them in the textbook direction.
"""

from __future__ import annotations

import types

import numpy as np

SLICES_PER_SUBJECT = 6
# name: (fraction of subjects, mid-cavity radius in mm, wall in mm)
DISEASES: dict[str, tuple[float, float, float]] = {
    "normal": (0.4, 24.0, 9.0),
    "dilated": (0.2, 31.0, 7.5),
    "hypertrophic": (0.2, 19.0, 16.0),
    "infarcted": (0.2, 27.0, 9.0),
}


class SliceShapes(types.SimpleNamespace):
    """The geometry of n slices: (n,) or (n, ...) float64, millimetres and radians.

    The attributes are named and explained once, in `_draw_subject`. x runs to the patient's left and y to the
    back, from the centre of the image; u and v are the axes of the heart, with the septum towards -u.

    Example:
        >>> draw_subjects([np.random.default_rng(0)])[1].level.round(2).tolist()
        [0.05, 0.22, 0.39, 0.55, 0.72, 0.89]
    """


def draw_subjects(rngs: list[np.random.Generator]) -> tuple[list[str], SliceShapes]:
    """Disease of each random subject, and the slices of all, base first, one subject after the other.

    Args:
        rngs: One generator per subject.

    Example:
        >>> diseases, shapes = draw_subjects([np.random.default_rng(0), np.random.default_rng(1)])
        >>> diseases, shapes.endo.shape
        (['hypertrophic', 'dilated'], (12,))
    """
    subjects = [_draw_subject(rng) for rng in rngs]
    stacked = {
        name: np.concatenate([getattr(shapes, name) for _, shapes in subjects])
        for name in vars(subjects[0][1])
    }
    return [disease for disease, _ in subjects], SliceShapes(**stacked)


def _draw_subject(rng: np.random.Generator) -> tuple[str, SliceShapes]:
    """Disease and the slices of one random subject, base first."""
    n = SLICES_PER_SUBJECT
    disease = str(rng.choice(list(DISEASES), p=[row[0] for row in DISEASES.values()]))
    _, cavity, wall = DISEASES[disease]
    level = np.clip((np.arange(n) + rng.uniform(0.1, 0.9)) / n, 0, 1)

    def near(mean: float, relative: float) -> float:
        return float(mean * np.exp(relative * rng.standard_normal()))

    def point(mean_x: float, mean_y: float, subject_sd: float, slice_sd: float = 1.0) -> np.ndarray:
        """One position per subject that moves a little from slice to slice."""
        fixed = np.array([mean_x, mean_y]) + subject_sd * rng.standard_normal(2)
        return fixed + slice_sd * rng.standard_normal((n, 2))

    def same(value: float) -> np.ndarray:
        return np.full(n, value)

    scale = near(1.0, 0.07)
    taper = np.sqrt(1 - (0.93 * level) ** 2) * (1 - 0.1 * level)
    endo = near(cavity, 0.08) * scale * taper
    thickness = near(wall, 0.08) * scale * (1 - 0.15 * level)
    wall_waves = 0.06 * rng.standard_normal((3, 2)) + 0.02 * rng.standard_normal((n, 3, 2))
    if disease == "hypertrophic":  # the septum (towards -u) is thickest
        wall_waves[:, 0, 0] += 0.12
    epi = endo + thickness
    rv_taper = np.sqrt(np.clip(1 - (level / rng.uniform(0.8, 0.98)) ** 2, 0, None))
    rv_size = near(1.25 if disease == "dilated" else 1.1, 0.1) * scale
    rv_a, rv_b = 25 * rv_size * rv_taper + 0.1, 35 * rv_size * rv_taper + 0.1
    first = rng.uniform(0.6, 1.1)
    has_papillary = (level > 0.2) & (level < 0.8)
    vessels = np.concatenate(
        [rng.uniform(-90, 90, (6, 1)), rng.uniform(-70, 60, (6, 1)), rng.uniform(1, 3.5, (6, 1))], axis=1
    )
    centre = point(14, 0, 8, 0.8)
    return disease, SliceShapes(
        # Left ventricle: level 0 at the base to 1 at the apex, centre (n, 2), radius of the cavity, thickness
        # of the wall, and (n, 3, 2) relative waves of both borders, of order 2 to 4.
        level=level,
        centre=centre,
        angle=same(0.35 + 0.25 * rng.standard_normal()),
        endo=endo,
        wall=thickness,
        endo_waves=0.03 * rng.standard_normal((3, 2)) + 0.015 * rng.standard_normal((n, 3, 2)),
        wall_waves=wall_waves,
        # Infarct, a sector of the wall: 0 or 1, direction, half width.
        has_infarct=same(float(disease == "infarcted")),
        infarct_angle=same(rng.uniform(-2, 2)),
        infarct_width=same(rng.uniform(0.5, 1.0)),
        # Right ventricle: centre (u, v), half axes (a, b), wall; then the fat around the heart.
        rv_u=-(epi + 0.05 * rv_a),
        rv_v=same(3 * rng.standard_normal()),
        rv_a=rv_a,
        rv_b=rv_b,
        rv_wall=same(near(3.0, 0.1)),
        heart_fat=same(near(4.0, 0.4)),
        # Papillary muscles, (n, 2): direction, and radius, which is negative where there is none.
        papillary_angle=np.stack([same(first), same(-first - rng.uniform(0, 0.4))], axis=1),
        papillary_radius=np.where(has_papillary, 1, -1)[:, None] * near(3.6, 0.15) * np.ones((n, 2)),
        # Trabeculae: spokes around the cavity.
        trabecula_count=same(float(rng.integers(9, 16))),
        trabecula_phase=rng.uniform(0, 6.28, n),
        trabecula_depth=near(3.0, 0.25) * (0.5 + level),
        # The chest: centres and radii are (n, 2), vessels of the lung (n, 6, 3) x, y, radius.
        body_centre=point(-5, 28, 4, 0),
        body_radii=np.tile([near(160, 0.06), near(112, 0.05)], (n, 1)),
        skin_fat=same(near(9.0, 0.4)),
        chest_wall=same(near(9.0, 0.2)),
        lung_vessels=np.tile(vessels, (n, 1, 1)),
        liver_centre=point(-70, 78, 8, 0) + np.array([0.0, -22.0]) * level[:, None],
        liver_radii=np.tile([near(60, 0.1), near(42, 0.1)], (n, 1)),
        stomach_centre=point(70, 62, 8, 0) + np.array([0.0, -15.0]) * level[:, None],
        stomach_radii=np.tile([near(30, 0.15), near(22, 0.15)], (n, 1)),
        spine_centre=point(5, 98, 4, 0),
        spine_radii=np.tile([near(20, 0.08), near(18, 0.08)], (n, 1)),
        aorta=point(30, 72, 4, 0.5),
        aorta_radius=same(near(11, 0.12)),
    )
