"""Uncertainty maps beside several annotators, boundaries and errors.

How far annotators (raters) agree, whether an uncertainty map is high where they do not, and whether it leads
a proofreader to the errors. The field's definitions differ, so each is written out at its function.

Shape letters: N cases, R raters, S samples of a model, C classes, H rows, W columns.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy import ndimage, special

from segconf_lite import check
from segconf_lite.evaluation.bootstrap import unit_scale
from segconf_lite.evaluation.quality import mean_of_defined, pairwise_dice


def rater_dice(raters: Any, *, n_classes: int, empty: str) -> np.ndarray:
    """Mean Dice over all pairs of raters: a ceiling that no method can be expected to pass.

    Args:
        raters: (N, R, H, W) integer labels, R >= 2, 0 is background.
        n_classes: Number of classes C, background included.
        empty: Policy for a class that both of a pair lack, see `segconf_lite.evaluation.dice_per_class`.

    Returns:
        (N,) in [0, 1], higher = more agreement; NaN only with ``empty="skip"``.

    Raises:
        ValueError: If the shape is another, a label is out of range, or a rater is missing (label -1).

    Example:
        >>> raters = np.array([[[[1, 1, 0]], [[1, 0, 0]]]])  # one case, two raters, one row of pixels
        >>> rater_dice(raters, n_classes=2, empty="skip").round(2)
        array([0.67])
    """
    labels = _raters("raters", raters, n_classes, at_least=2)
    first, second = np.array(list(itertools.combinations(range(labels.shape[1]), 2))).T
    return mean_of_defined(pairwise_dice(labels, labels, n_classes=n_classes, empty=empty)[:, first, second])


def generalized_energy_distance(samples: Any, raters: Any, *, n_classes: int, empty: str) -> np.ndarray:
    r"""Squared distance between the distribution of a model's samples and that of the raters.

    .. math:: D^2 = 2\,E[d(S, Y)] - E[d(S, S')] - E[d(Y, Y')], \qquad d = 1 - \text{IoU}

    IoU is averaged over foreground classes (Szekely & Rizzo 2013; Kohl et al., NeurIPS 2018). Expectations
    run over *all* pairs, a sample with itself included, so that a perfect model has 0. Implementations that
    leave such pairs out can fall below 0.

    Args:
        samples: (N, S, H, W) labels drawn from the model, S >= 1.
        raters: (N, R, H, W) labels of the raters, R >= 1.
        n_classes: Number of classes C, background included.
        empty: ``"one"`` or ``"zero"``: the IoU where both of a pair lack a class. Every pair needs a
            distance, so ``"skip"`` is refused.

    Returns:
        (N,) >= 0 with ``"one"``, lower is better, 0 = the same distribution.

    Raises:
        ValueError: If shapes do not fit, a label is out of range, a rater is missing, or ``empty="skip"``.

    Example:
        >>> raters = np.array([[[[1, 1, 0]], [[1, 0, 0]]]])
        >>> generalized_energy_distance(raters[:, :1], raters, n_classes=2, empty="one").round(2)
        array([0.25])
    """
    check.one_of("empty", empty, ("one", "zero"))
    model = _raters("samples", samples, n_classes, at_least=1)
    human = _raters("raters", raters, n_classes, at_least=1)
    between, within_model, within_human = (
        _mean_distance(a, b, n_classes, empty) for a, b in ((model, human), (model, model), (human, human))
    )
    return 2 * between - within_model - within_human


def rater_disagreement(raters: Any, *, n_classes: int, kind: str = "entropy") -> np.ndarray:
    """Disagreement of raters at each pixel.

    Args:
        raters: (N, R, H, W) labels, R >= 2.
        n_classes: Number of classes C, background included.
        kind: ``"entropy"`` of the fractions of raters per class, divided by its highest value for R raters
            and C classes, log min(R, C); or ``"minority"``, the fraction of raters who do not name the
            most named class.

    Returns:
        (N, H, W) in [0, 1], 0 = all agree.

    Raises:
        ValueError: If the shape or the kind is another, a rater is missing, or a label is out of range.

    Example:
        >>> votes = np.array([0, 0, 1, 1]).reshape(1, 4, 1, 1)  # one pixel, four raters
        >>> rater_disagreement(votes, n_classes=2), rater_disagreement(votes, n_classes=2, kind="minority")
        (array([[[1.]]]), array([[[0.5]]]))
    """
    check.one_of("kind", kind, ("entropy", "minority"))
    labels = _raters("raters", raters, n_classes, at_least=2)
    fractions = np.stack([(labels == c).mean(axis=1) for c in range(n_classes)], axis=1)  # (N, C, H, W)
    if kind == "minority":
        return 1 - fractions.max(axis=1)
    logs = np.log(fractions, out=np.zeros_like(fractions), where=fractions > 0)
    return np.abs((fractions * logs).sum(axis=1)) / np.log(min(labels.shape[1], n_classes))


def map_agreement(
    uncertainty_map: Any,
    disagreement: Any,
    *,
    measure: str,
    band_mm: float | None = None,
    reference: Any = None,
    spacing_mm: Any = None,
) -> np.ndarray:
    """Whether an uncertainty map is high where raters disagree, case by case.

    Args:
        uncertainty_map: (N, H, W) in [0, 1], higher = worse.
        disagreement: (N, H, W) in [0, 1], for example `rater_disagreement`.
        measure: ``"pearson"``, the correlation over pixels; or ``"soft_dice"``, ``2 sum(u d) / (sum(u^2) +
            sum(d^2))``. With squares (Milletari et al., 3DV 2016) equal maps have the value 1; with plain
            sums, another custom of the field, only binary maps have.
        band_mm: Only pixels in the `boundary_band` of `reference` with this width count. None takes the
            whole image, where every map that is low far from boundaries agrees well, which says little.
        reference: (N, H, W) labels, required with `band_mm`.
        spacing_mm: (2,) or (N, 2) row and column spacing in mm, required with `band_mm`.

    Returns:
        (N,) Pearson in [-1, 1], NaN where a map is constant (raters agree everywhere, say); soft Dice in
        [0, 1], NaN where both maps are 0. Higher is better.

    Raises:
        ValueError: If shapes differ, a map is not in [0, 1], or an argument is missing or unknown.

    Example:
        >>> uncertainty, disagreement = np.array([[[0.0, 0.5, 1.0]]]), np.array([[[0.0, 0.0, 1.0]]])
        >>> map_agreement(uncertainty, disagreement, measure="pearson").round(2)
        array([0.87])
    """
    compare = _COMPARE[check.one_of("measure", measure, _COMPARE)]
    uncertainties = _unit_map("uncertainty_map", uncertainty_map, "N H W")
    disagreements = _unit_map("disagreement", disagreement, " ".join(map(str, uncertainties.shape)))
    inside = np.ones(uncertainties.shape, dtype=bool)
    if band_mm is not None:
        if reference is None or spacing_mm is None:
            raise check.refuse("reference and spacing_mm", "given with band_mm", "at least one None")
        reference = check.label_map("reference", reference, shape=inside.shape)
        inside = boundary_band(reference, band_mm=band_mm, spacing_mm=spacing_mm)
    return np.array(
        [compare(u[k], d[k]) for u, d, k in zip(uncertainties, disagreements, inside, strict=True)]
    )


def errors_found(uncertainty_map: Any, wrong: Any, *, fraction: float, where: Any = None) -> np.ndarray:
    """Number of wrong pixels among the most uncertain pixels of all cases together.

    Pixels that tie at the threshold count in proportion, as if some of them were drawn at random.

    Args:
        uncertainty_map: (N, H, W), higher = worse; only the order counts.
        wrong: (N, H, W) boolean, pixels whose label is wrong.
        fraction: Fraction of all pixels that a proofreader looks at, in (0, 1).
        where: (N, H, W) boolean, the pixels that take part; the fraction is of these. None takes all.

    Returns:
        (N,) wrong pixels among those looked at in each case, >= 0; divide sums by sums to get the fraction
        of the errors.

    Raises:
        ValueError: If shapes differ, a number is not finite, or the fraction is not in (0, 1).

    Example:
        >>> uncertainty = np.array([[[0.1, 0.2, 0.8, 0.9]]])
        >>> errors_found(uncertainty, wrong=uncertainty > 0.85, fraction=0.5)
        array([1.])
    """
    values = check.array("uncertainty_map", uncertainty_map, "N H W", dtype=np.float64)
    errors = check.label_map("wrong", wrong, n_classes=2, shape=values.shape).astype(bool)
    looked = np.ones(values.shape, bool)
    if where is not None:
        looked = check.label_map("where", where, n_classes=2, shape=values.shape).astype(bool)
    fraction = check.number("fraction", fraction, low=0, high=1, open_low=True, open_high=True)
    if not np.isfinite(values[looked]).all():
        fix = "for infinite flip costs use 1 / (1 + cost)"
        raise check.refuse("uncertainty_map", "finite", "NaN or infinity", fix)
    n_looked = int(fraction * looked.sum())
    if n_looked == 0:
        return np.zeros(len(values))
    threshold = np.partition(values[looked], -n_looked)[-n_looked]
    above, level = looked & (values > threshold), looked & (values == threshold)
    part = (n_looked - above.sum()) / level.sum()
    return (errors & above).sum(axis=(1, 2)) + part * (errors & level).sum(axis=(1, 2))


def boundary_band(labels: Any, *, band_mm: float, spacing_mm: Any) -> np.ndarray:
    """Pixels whose centre lies within a distance of the centre of a pixel of another class.

    Args:
        labels: (N, H, W) integers >= 0.
        band_mm: Width on each side of a boundary, > 0. A band of one pixel spacing holds the two rows of
            pixels along the boundary.
        spacing_mm: Row and column spacing, (2,) or (N, 2), in mm.

    Returns:
        (N, H, W) boolean; all False for a case with a single class.

    Raises:
        ValueError: If a shape or a number is not as above.

    Example:
        >>> boundary_band(np.array([[[0, 0, 0, 1, 1, 1]]]), band_mm=1, spacing_mm=(1, 1)).astype(int)
        array([[[0, 0, 1, 1, 0, 0]]])
    """
    classes = check.label_map("labels", labels)
    spacing = check.spacing(spacing_mm, length=len(classes))
    band_mm = check.number("band_mm", band_mm, low=0, open_low=True)
    return _boundary_distance(classes, spacing) <= band_mm * (1 + 1e-9)


def boundary_distance_px(labels: Any) -> np.ndarray:
    """Distance of each pixel's centre to that of the nearest pixel with another label.

    Args:
        labels: (N, H, W) integers >= 0.

    Returns:
        (N, H, W) in pixels, >= 1; infinite in a case with one label.

    Raises:
        ValueError: If labels are not (N, H, W) integers.

    Example:
        >>> boundary_distance_px(np.array([[[0, 0, 0, 2, 2]]]))
        array([[[3., 2., 1., 1., 2.]]])
    """
    classes = check.label_map("labels", labels)
    return _boundary_distance(classes, np.ones((len(classes), 2)))


def geometric_maps(
    labels: Any, *, n_classes: int, blurs_px: tuple[float, ...] = (1.0, 1.5, 2.0)
) -> dict[str, np.ndarray]:
    """Maps of a prediction's shape alone, the null models of every uncertainty map.

    They know no image and no network. A map that follows annotators or finds errors no better than these
    has shown only that both lie at borders.

    Args:
        labels: (N, H, W) predicted labels.
        n_classes: Number of classes C, background included, 2 .. 10,000.
        blurs_px: Standard deviations of the Gaussian blur, in pixels, > 0.

    Returns:
        Name -> (N, H, W) in [0, 1], higher = nearer to a border: ``"1 / distance"``, of each pixel's centre
        to the nearest pixel with another label, and ``"blurred mask, S px"``, the entropy of the blurred
        one-hot labels over log C.

    Raises:
        ValueError: If labels are not (N, H, W) integers below `n_classes`, or a blur is not positive.

    Example:
        >>> maps = geometric_maps(np.array([[[0, 0, 0, 1, 1]]]), n_classes=2, blurs_px=(1.0,))
        >>> for name, values in maps.items():
        ...     print(name, values.round(2).tolist())
        1 / distance [[[0.33, 0.5, 1.0, 1.0, 0.5]]]
        blurred mask, 1 px [[[0.04, 0.32, 0.88, 0.88, 0.32]]]
    """
    n_classes = check.integer("n_classes", n_classes, low=2, high=10_000)
    classes = check.label_map("labels", labels, n_classes=n_classes)
    maps = {"1 / distance": 1 / boundary_distance_px(classes)}
    check.array("blurs_px", blurs_px, "n_blurs", empty=True)
    one_hot = (classes[..., None] == np.arange(n_classes)).astype(np.float64)
    for k, blur in enumerate(blurs_px):
        sigma = check.number(f"blurs_px[{k}]", blur, low=0, open_low=True)
        blurred = ndimage.gaussian_filter(one_hot, (0, sigma, sigma, 0), mode="nearest")
        maps[f"blurred mask, {sigma:g} px"] = special.entr(blurred).sum(axis=-1) / np.log(n_classes)
    return maps


def _boundary_distance(labels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """(N, H, W) distance to the nearest pixel of another class, in units of the (N, 2) spacing."""
    distance = np.full(labels.shape, np.inf)
    for case, sampling in enumerate(spacing):
        present = np.unique(labels[case])
        for value in present if len(present) > 1 else ():
            inside = labels[case] == value
            to_others = ndimage.distance_transform_edt(inside, sampling=sampling)
            distance[case][inside] = to_others[inside]
    return distance


def _mean_distance(first: np.ndarray, second: np.ndarray, n_classes: int, empty: str) -> np.ndarray:
    """(N,) mean over pairs and foreground classes of 1 - IoU."""
    per_class = []
    for value in range(1, n_classes):
        a, b = ((x == value).astype(np.int64) for x in (first, second))
        dice = pairwise_dice(a, b, n_classes=2, empty=empty)
        per_class.append((1 - dice / (2 - dice)).mean(axis=(1, 2)))
    return np.mean(per_class, axis=0)


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 2 or first.min() == first.max() or second.min() == second.max():
        return float("nan")
    return float(np.corrcoef(unit_scale(first)[0], unit_scale(second)[0])[0, 1])


def _soft_dice(first: np.ndarray, second: np.ndarray) -> float:
    total = np.square(first).sum() + np.square(second).sum()
    return float(2 * (first * second).sum() / total) if total > 0 else float("nan")


_COMPARE = {"pearson": _pearson, "soft_dice": _soft_dice}


def _unit_map(name: str, values: Any, shape: str) -> np.ndarray:
    """(N, H, W) float64 in [0, 1]."""
    numbers = check.finite(name, check.array(name, values, shape, dtype=np.float64))
    if numbers.min() < -1e-6 or numbers.max() > 1 + 1e-6:
        got = f"{numbers.min():.4g} to {numbers.max():.4g}"
        raise check.refuse(name, "in [0, 1]", got, "divide an entropy by log(n_classes)")
    return numbers


def _raters(name: str, labels: Any, n_classes: int, at_least: int) -> np.ndarray:
    """(N, R, H, W) labels of at least so many raters, none of them missing."""
    n_classes = check.integer("n_classes", n_classes, low=2, high=65_536)
    values = check.label_map(name, labels, n_classes=n_classes, shape="N R H W", ignore=-1)
    if values.shape[1] < at_least:
        raise check.refuse(name, f"(N, R, H, W) with R >= {at_least}", values.shape)
    missing = np.unique(np.nonzero(values < 0)[0])
    if len(missing):
        got = f"label -1 (a missing rater) in cases {missing.tolist()}"
        raise check.refuse(name, "labels >= 0 from every rater", got, "leave these cases or that rater out")
    return values
