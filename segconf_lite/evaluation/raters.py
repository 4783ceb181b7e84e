"""How far people agree on a border, and whether an uncertainty map knows where they do not.

The field's definitions differ, so each is written out at its function. Shape letters: N cases, R raters,
S samples of a model, C classes, H rows, W columns.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy import ndimage

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.quality import mean_of_defined, pairwise_dice

__all__ = [
    "boundary_band",
    "generalized_energy_distance",
    "map_agreement",
    "rater_dice",
    "rater_disagreement",
]

MEASURES = ("pearson", "soft_dice")
KINDS = ("entropy", "minority")


def rater_dice(raters: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean Dice over all pairs of raters: a ceiling that no method can be asked to pass.

    Args:
        raters: (N, R, H, W) whole-number labels, R >= 2, 0 is background.
        n_classes: number of classes C, background included.
        empty: policy for a class that both of a pair lack, see `segconf_lite.evaluation.dice_per_case`.

    Returns:
        (N,) in [0, 1], higher = more agreement; NaN only with ``empty="skip"``.

    Raises:
        ValueError: If the shape is not as above, or a rater is missing (negative labels).
    """
    drawn = _raters(raters)
    first, second = np.array(list(itertools.combinations(range(drawn.shape[1]), 2))).T
    return mean_of_defined(pairwise_dice(drawn, drawn, n_classes=n_classes, empty=empty)[:, first, second])


def generalized_energy_distance(samples: Any, raters: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Squared distance between what a model says and what raters say, as distributions.

    ``2 E[d(S, Y)] - E[d(S, S')] - E[d(Y, Y')]`` with d = 1 - IoU, averaged over foreground classes
    (Szekely & Rizzo 2013; Kohl et al., NeurIPS 2018). Expectations run over *all* pairs, a sample with itself
    included: then a perfect model has 0. Codes that leave such pairs out can fall below 0.

    Args:
        samples: (N, S, H, W) labels drawn from the model, S >= 1.
        raters: (N, R, H, W) labels of the raters, R >= 1.
        n_classes: number of classes C, background included.
        empty: ``"one"`` or ``"zero"``: what IoU counts where both of a pair lack a class.

    Returns:
        (N,) >= 0 with ``"one"``, lower is better, 0 = the same distribution.

    Raises:
        ValueError: If shapes do not fit, a rater is missing, or ``empty="skip"``.
    """
    if empty not in ("one", "zero"):
        raise ValueError(f"empty must be 'one' or 'zero' (every pair needs a distance), got {empty!r}")
    said, drawn = _raters(samples, fewest=1), _raters(raters, fewest=1)
    between, within_model, within_raters = (
        _mean_distance(a, b, n_classes, empty) for a, b in ((said, drawn), (said, said), (drawn, drawn))
    )
    return 2 * between - within_model - within_raters


def rater_disagreement(raters: Any, *, n_classes: int, kind: str = "entropy") -> np.ndarray:
    """Where raters disagree, pixel by pixel.

    Args:
        raters: (N, R, H, W) labels, R >= 2.
        n_classes: number of classes C.
        kind: ``"entropy"`` of the shares of raters per class, divided by its highest value for R
            raters and C classes, log min(R, C); or ``"minority"``, the share of raters who do not
            name the most named class.

    Returns:
        (N, H, W) in [0, 1], 0 = all agree.

    Raises:
        ValueError: If the shape or the kind is not as above, a rater is missing, or raters use more
            classes than there are.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    drawn = _raters(raters)
    if drawn.max() >= n_classes:
        raise ValueError(
            f"raters use the label {drawn.max()}, but n_classes={n_classes} allows 0 .. {n_classes - 1}; "
            "merge their classes as the network was taught, e.g. np.minimum(raters, n_classes - 1)"
        )
    shares = np.stack([(drawn == c).mean(axis=1) for c in range(n_classes)], axis=1)  # (N, C, H, W)
    if kind == "minority":
        return 1 - shares.max(axis=1)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.abs((shares * logs).sum(axis=1)) / np.log(min(drawn.shape[1], n_classes))


def map_agreement(
    uncertainty_map: Any, disagreement: Any, *, measure: str, band_mm: float | None = None,
    reference: Any = None, spacing_mm: Any = None,
) -> np.ndarray:  # fmt: skip
    """Whether a map is high where raters disagree, case by case.

    Args:
        uncertainty_map: (N, H, W) in [0, 1], higher = worse.
        disagreement: (N, H, W) in [0, 1], e.g. `rater_disagreement`.
        measure: ``"pearson"``, the correlation over pixels; or ``"soft_dice"``, ``2 sum(u d) /
            (sum(u^2) + sum(d^2))``: with squares (Milletari et al., 3DV 2016) equal maps score 1,
            with plain sums, another custom of the field, only if they are binary.
        band_mm: if given, only pixels in the `boundary_band` of `reference` count. Over the whole image
            every map that is low far from borders agrees well, which says little.
        reference: (N, H, W) labels, required with `band_mm`.
        spacing_mm: (2,) or (N, 2), required with `band_mm`.

    Returns:
        (N,) Pearson in [-1, 1], NaN where a map is constant (raters agree everywhere, say); soft Dice
        in [0, 1], NaN where both maps are 0. Higher is better.

    Raises:
        ValueError: If shapes differ, a map leaves [0, 1], or an argument is missing or unknown.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {MEASURES}, got {measure!r}")
    maps = [to_numpy(x, dtype=np.float64) for x in (uncertainty_map, disagreement)]
    if maps[0].ndim != 3 or maps[0].shape != maps[1].shape:
        raise ValueError(f"maps must share one shape (N, H, W), got {maps[0].shape} and {maps[1].shape}")
    for name, values in zip(("uncertainty_map", "disagreement"), maps, strict=True):
        if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):  # also catches NaN
            raise ValueError(
                f"{name} must lie in [0, 1], got {values.min():.4g} to {values.max():.4g}; divide an "
                "entropy by log(n_classes)"
            )
    inside = np.ones(maps[0].shape, dtype=bool)
    if band_mm is not None:
        if reference is None or spacing_mm is None:
            raise ValueError("band_mm needs reference labels and spacing_mm, got at least one None")
        inside = boundary_band(reference, band_mm=band_mm, spacing_mm=spacing_mm)
    compare = _pearson if measure == "pearson" else _soft_dice
    return np.array([compare(u[k], d[k]) for u, d, k in zip(*maps, inside, strict=True)])


def boundary_band(labels: Any, *, band_mm: float, spacing_mm: Any) -> np.ndarray:
    """Pixels whose centre lies within `band_mm` of the centre of a pixel of another class.

    Args:
        labels: (N, H, W) whole numbers.
        band_mm: width on each side of a border, > 0. A band of one pixel spacing holds the two
            rows of pixels along the border.
        spacing_mm: row and column spacing, (2,) or (N, 2), in mm.

    Returns:
        (N, H, W) boolean; all False for a case with a single class.

    Raises:
        ValueError: If a shape or a number is not as above.
    """
    drawn = to_numpy(labels)
    spacing = to_numpy(spacing_mm, dtype=np.float64)
    if drawn.ndim != 3 or spacing.shape not in ((2,), (len(drawn), 2)) or not (spacing > 0).all():
        raise ValueError(
            f"expected labels (N, H, W) and spacing_mm (2,) or (N, 2) > 0, got {drawn.shape} and "
            f"{spacing.shape}"
        )
    if not band_mm > 0:
        raise ValueError(f"band_mm must be > 0 mm, got {band_mm}")
    band = np.zeros(drawn.shape, dtype=bool)
    for case, sampling in enumerate(np.broadcast_to(spacing, (len(drawn), 2))):
        present = np.unique(drawn[case])
        for value in present if len(present) > 1 else ():
            distance = ndimage.distance_transform_edt(drawn[case] == value, sampling=sampling)
            band[case] |= (distance > 0) & (distance <= band_mm * (1 + 1e-9))
    return band


def _mean_distance(first: np.ndarray, second: np.ndarray, n_classes: int, empty: str) -> np.ndarray:
    """(N,) mean over pairs and foreground classes of 1 - IoU."""
    per_class = []
    for value in range(1, n_classes):
        a, b = ((x == value).astype(np.int64) for x in (first, second))
        dice = pairwise_dice(a, b, n_classes=2, empty=empty)
        per_class.append((1 - dice / (2 - dice)).mean(axis=(1, 2)))
    return np.mean(per_class, axis=0)


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _soft_dice(first: np.ndarray, second: np.ndarray) -> float:
    total = np.square(first).sum() + np.square(second).sum()
    return float(2 * (first * second).sum() / total) if total > 0 else float("nan")


def _raters(values: Any, *, fewest: int = 2) -> np.ndarray:
    drawn = to_numpy(values)
    if drawn.ndim != 4 or drawn.shape[1] < fewest or drawn.size == 0:
        raise ValueError(f"expected labels (N, R, H, W) with R >= {fewest}, got {drawn.shape}")
    if not np.issubdtype(drawn.dtype, np.integer) or drawn.min() < 0:
        missing = np.unique(np.nonzero(~(drawn >= 0))[0]).tolist() if drawn.dtype.kind in "if" else "?"
        raise ValueError(
            f"expected whole-number labels >= 0 from every rater, got {drawn.dtype}, missing in cases "
            f"{missing}; leave these cases or that rater out"
        )
    return drawn
