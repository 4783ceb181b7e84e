"""Annotators whose disagreement is known: their labels together with the probabilities these come from.

Real cohorts have a handful of raters per image, too few to know a probability at every pixel, and so to judge
a learnt "annotation uncertainty". Here each rater of a panel moves each border of the heart outwards by

    habit + sigma(x) * field(x),    sigma(x) = hand_mm * (1 + level) * (1 + ambiguity * (1 - visibility(x)))

millimetres, where `habit` belongs to the rater, `level` runs from 0 at the base to 1 at the apex, and `field`
is smooth along the contour and exactly N(0, 1) at every pixel. Therefore the probability that a border ends
up beyond a pixel is a normal distribution function, and the class probabilities need no sampling. The three
borders move independently, also where two of them touch, and the later covers the earlier, as in
`phantom.reference_labels`.

Shape letters: N cases, n cases of one block, R raters, C classes, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import ndimage, special

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.cohorts.phantom import phantom
from segconf_lite.cohorts.phantom.anatomy import CLASS_NAMES, FIELD_OF_VIEW_MM
from segconf_lite.cohorts.phantom.scanner import Scanner

_HANDS, _HABITS = 3, 4  # purposes of random streams; `phantom` has 0 to 2
_CLEAR_CONTRAST = 1.0  # standard deviations of the slice: the border of the left cavity has 1.4 on scanner A
_STRIP_MM = 4.0  # what is compared on each side of a border: about the right ventricle's wall, and fat's rim
_ALONG_MM = 8.0  # standard deviation of the window in which it is compared
_KNOTS_MM = np.arange(-128, 129, 16)  # beyond the field of view, so that its edges are nothing special
_HAND_LENGTH_MM = 16.0  # two points 2 x 16 mm apart still correlate by exp(-1)
_LIMITS: dict[str, tuple[float, float, str]] = {
    "habit_mm": (0, 100, "it is in millimetres, and 0 makes all raters alike"),
    "hand_mm": (0.001, 100, "it is in millimetres, and 0.001 is a hand that never trembles"),
    "ambiguity": (0, 100, "0 is no effect, and 1 doubles the hand where nothing is seen"),
    "omission": (0, 0.999, "it is a probability, not a percentage"),
}


@dataclasses.dataclass(frozen=True)
class Annotators:
    """A panel of raters with stated properties.

    Attributes:
        n_raters: Number of raters, >= 1. Rater r is the same in a panel of any number.
        habit_mm: Standard deviation, over raters and borders, of how far outside a border a rater always
            segments, millimetres, 0 to 100. Fixed by the rater's number and `seed`, in every cohort.
        hand_mm: Standard deviation of the boundary noise at the base, millimetres, 0.001 to 100; twice that
            at the apex. New for every slice and rater; it correlates over about 3 cm.
        ambiguity: Fraction by which the standard deviation of the hand grows where a border cannot be seen,
            0 to 100; 0 = raters vary alike on clear and on invisible borders.
        omission: Probability, 0 to 0.999, that a rater, independently of the others, leaves out a right
            ventricle that cannot be seen. In general it is ``omission * (1 - v)`` with v the mean visibility
            along its border.
        seed: Seed of the people and their hands, >= 0.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> Annotators(n_raters=2, habit_mm=1.0).habits_mm.round(1).tolist()
        [[2.1, 0.3, 1.5], [1.4, -0.4, 0.5]]
    """

    n_raters: int = 7
    habit_mm: float = 0.7
    hand_mm: float = 0.6
    ambiguity: float = 1.0
    omission: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        n_raters = check.integer("n_raters", self.n_raters, low=1, high=10**6)
        object.__setattr__(self, "n_raters", n_raters)  # the dataclass is frozen
        object.__setattr__(self, "seed", check.integer("seed", self.seed, low=0))
        for name, (low, high, fix) in _LIMITS.items():
            object.__setattr__(self, name, check.between(name, getattr(self, name), low, high, fix=fix))

    @property
    def habits_mm(self) -> np.ndarray:
        """(R, 3) how far outside the RV, epicardial and endocardial border each rater always segments."""
        streams = (np.random.default_rng([self.seed, r, _HABITS]) for r in range(self.n_raters))
        return self.habit_mm * np.stack([rng.standard_normal(3) for rng in streams])


def annotated_cohort(
    n_cases: int,
    *,
    annotators: Annotators,
    scanner: str | Scanner = "A",
    size: int = 96,
    seed: int = 0,
    jitter: float = 1.0,
) -> tuple[Cohort, np.ndarray]:
    """A cohort segmented by a panel, and the true class probabilities of the panel's segmentations.

    The cohort is `phantom.cohort` with the same arguments, byte for byte, except for its raters. The first
    cases of a larger cohort are those of a smaller one, in segmentations and probabilities too.

    Args:
        n_cases: Number of slices, >= 1; six neighbouring slices are one subject.
        annotators: The panel.
        scanner: Name of a built-in scanner or a `Scanner`.
        size: Rows and columns, 16 to 1024.
        seed: Seed of the random subjects, >= 0.
        jitter: Scale of the variation within the scanner, 0 to 10.

    Returns:
        The cohort, its `raters` (N, R, H, W) segmented by the panel, and (N, C, H, W) float32 in [0, 1] that
        sums to 1 over C: the probability of each class at each pixel when a rater of this panel, chosen at
        random, segments this image anew. It is the mean of the raters' probabilities, in closed form.

    Raises:
        ValueError: If `annotators` is not a panel, or an argument of `phantom.cohort` is out of range.

    Example:
        >>> cohort, probabilities = annotated_cohort(2, annotators=Annotators(n_raters=3), size=16)
        >>> cohort.raters.shape, probabilities.shape
        ((2, 3, 16, 16), (2, 4, 16, 16))
    """
    if not isinstance(annotators, Annotators):
        got = type(annotators).__name__
        raise check.refuse("annotators", "a panel", got, "pass phantom.Annotators(n_raters=7)")
    seed = check.integer("seed", seed, low=0)
    plain = phantom.cohort(n_cases, scanner=scanner, size=size, seed=seed, jitter=jitter)
    n_cases, _, size, _ = plain.images.shape
    raters = np.empty((n_cases, annotators.n_raters, size, size), np.int64)
    probability = np.empty((n_cases, len(CLASS_NAMES), size, size), np.float32)
    for cases, numbers, _, shapes, anatomy in phantom.blocks(n_cases, size=size, seed=seed):
        kept = slice(0, cases.stop - cases.start)
        inside_mm, level = anatomy.inside_mm[kept], shapes.level[kept]
        visibility = _border_visibility(plain.images[cases, 0], inside_mm, level)
        sigma_mm, omitted = _difficulty(annotators, inside_mm, level, visibility)
        rngs = phantom.slice_streams(seed, numbers, _HANDS, annotators.seed)[kept]
        raters[cases] = _segment(inside_mm, sigma_mm, omitted, annotators.habits_mm, rngs)
        probability[cases] = _class_probability(inside_mm, sigma_mm, omitted, annotators.habits_mm)
    return dataclasses.replace(plain, raters=raters), probability


def annotation_entropy(true_probability: np.ndarray) -> np.ndarray:
    r"""True annotation uncertainty: Shannon entropy over the classes, divided by its maximum.

    .. math:: -\frac{1}{\log C} \sum_c p_c \log p_c

    The same quantity as `segconf_lite.confidence.pixels.entropy`, so the two can be laid over each other.

    Args:
        true_probability: (N, C, H, W), in [0, 1], summing to 1 over C, from `annotated_cohort`.

    Returns:
        (N, H, W) in [0, 1]; 0 = all raters agree, 1 = every class is equally likely.

    Raises:
        ValueError: If these are no probabilities.

    Example:
        >>> annotation_entropy(np.full((1, 4, 1, 1), 0.25)).item()
        1.0
    """
    p = check.probabilities(true_probability, "true_probability")
    if p.ndim != 4:
        raise check.refuse("true_probability", "(N, C, H, W)", p.shape)
    return special.entr(p).sum(axis=1) / math.log(p.shape[1])


def one_rater_each(cohort: Cohort, *, seed: int) -> Cohort:
    """The cohort as most are published: one label per slice, by a rater chosen at random for that slice.

    Args:
        cohort: A cohort with raters; they and all else are kept, only the labels change.
        seed: Seed of the random choice of a rater per slice, >= 0.

    Returns:
        A cohort whose labels are ``cohort.raters[i, chosen[i]]``; the reference is no longer in it.

    Raises:
        ValueError: If the cohort has no raters, or the seed is not an integer >= 0.

    Example:
        >>> cohort, _ = annotated_cohort(2, annotators=Annotators(n_raters=3), size=16)
        >>> (one_rater_each(cohort, seed=0).labels == cohort.raters[[0, 1], [2, 1]]).all().item()
        True
    """
    seed = check.integer("seed", seed, low=0)
    if not isinstance(cohort, Cohort) or cohort.raters is None:
        got = "none" if isinstance(cohort, Cohort) else type(cohort).__name__
        raise check.refuse(
            "cohort", "a Cohort with raters", got, "make it with phantom.annotated_cohort(...)"
        )
    chosen = np.random.default_rng(seed).integers(cohort.raters.shape[1], size=len(cohort))
    return dataclasses.replace(cohort, labels=cohort.raters[np.arange(len(cohort)), chosen])


def _border_visibility(images: np.ndarray, inside_mm: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Visibility of each border: local contrast across it, less partial volume.

    Contrast is the difference between the mean intensity just inside the border and just outside it (4 mm
    each way, at least a pixel; Gaussian window of 8 mm). From one standard deviation of the slice on, a
    border is clear. Towards the apex the heart's surface is oblique to the slice and up to half is hidden.

    Args:
        images: (n, H, W) intensities, z-scored per slice.
        inside_mm: (n, 3, H, W) signed distances to the borders, millimetres, positive inside.
        level: (n,) 0 at the base to 1 at the apex.

    Returns:
        (n, 3, H, W) float32, ``min(contrast, 1) * (1 - level ** 2 / 2)``: 0 = invisible, 1 = clear. It means
        something near the border only; far away, where there is nothing to compare, it is 0.
    """
    pixel_mm = FIELD_OF_VIEW_MM / images.shape[-1]
    window_px = _ALONG_MM / pixel_mm
    strip_mm = max(_STRIP_MM, pixel_mm)

    def local_mean(strip: np.ndarray) -> np.ndarray:
        parts = (strip * images[:, None], strip.astype(np.float32))
        total, mass = (ndimage.gaussian_filter(x, window_px, truncate=3, axes=(-2, -1)) for x in parts)
        return total / np.maximum(mass, 1e-6)

    within = local_mean((inside_mm > 0) & (inside_mm <= strip_mm))
    beyond = local_mean((inside_mm <= 0) & (inside_mm > -strip_mm))
    clear = np.minimum(np.abs(within - beyond) / _CLEAR_CONTRAST, 1)
    return (clear * (1 - level[:, None, None, None] ** 2 / 2)).astype(np.float32)


def _difficulty(
    panel: Annotators, inside_mm: np.ndarray, level: np.ndarray, visibility: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, H, W) standard deviation of the hand in mm, (n,) probability of no right ventricle."""
    hand_mm = panel.hand_mm * (1 + level[:, None, None, None])
    sigma_mm = hand_mm * (1 + panel.ambiguity * (1 - visibility))
    near = np.abs(inside_mm[:, 0]) <= max(_STRIP_MM, FIELD_OF_VIEW_MM / inside_mm.shape[-1])
    seen = (visibility[:, 0] * near).sum(axis=(1, 2)) / np.maximum(near.sum(axis=(1, 2)), 1)
    return sigma_mm.astype(np.float32), panel.omission * (1 - seen)


def _unit_weights(size: int) -> np.ndarray:
    """(size, n_knots) rows of length 1, which keep a weighted sum of N(0, 1) knots N(0, 1) at each pixel.

    Interpolation between knots, as in `scanner.smooth_field`, would lower the variance between them.
    """
    pixel_mm = ((np.arange(size) + 0.5) / size - 0.5) * FIELD_OF_VIEW_MM
    weight = np.exp(-(((pixel_mm[:, None] - _KNOTS_MM) / _HAND_LENGTH_MM) ** 2) / 2)
    return (weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32)


def _segment(
    inside_mm: np.ndarray,
    sigma_mm: np.ndarray,
    omitted: np.ndarray,
    habits_mm: np.ndarray,
    rngs: list[np.random.Generator],
) -> np.ndarray:
    """(n, R, H, W) labels, one rater after the other, so a larger panel leaves the first ones alone."""
    weights = _unit_weights(inside_mm.shape[-1])
    labels = []
    for habit in habits_mm.astype(np.float32):
        knots = np.stack([rng.standard_normal((3, len(_KNOTS_MM), len(_KNOTS_MM))) for rng in rngs])
        field = weights @ knots.astype(np.float32) @ weights.T  # (n, 3, H, W)
        moved = inside_mm + habit[:, None, None] + sigma_mm * field
        moved[np.array([rng.random() for rng in rngs]) < omitted, 0] = -np.inf
        labels.append(phantom.reference_labels(moved))
    return np.stack(labels, axis=1)


def _class_probability(
    inside_mm: np.ndarray, sigma_mm: np.ndarray, omitted: np.ndarray, habits_mm: np.ndarray
) -> np.ndarray:
    """(n, C, H, W) mean over raters of the probability of what `_segment` returns."""
    total = np.zeros((len(inside_mm), len(CLASS_NAMES), *inside_mm.shape[2:]), np.float32)
    for habit in habits_mm.astype(np.float32):
        beyond = special.ndtr((inside_mm + habit[:, None, None]) / sigma_mm)
        beyond[:, 0] *= (1 - omitted)[:, None, None]
        rv, epi, endo = beyond[:, 0], beyond[:, 1], beyond[:, 2]
        uncovered = (1 - endo) * (1 - epi)  # neither cavity nor wall covers this pixel
        total += np.stack([uncovered * (1 - rv), uncovered * rv, (1 - endo) * epi, endo], axis=1)
    return total / len(habits_mm)
