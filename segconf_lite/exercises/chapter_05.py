"""Checks of the exercises of chapter 5."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.evaluation import boundary_distance_px, map_agreement, rater_disagreement
from segconf_lite.exercises.answers import Function, NotYetError, _call, _compare, _number, _numbers
from segconf_lite.fragility import geometry_ring


def check_flip_cost(flip_cost: Function) -> None:
    """Check a function that computes the flip cost of a pixel in closed form, m² / (2 fᵀ H⁻¹ f).

    Args:
        flip_cost: Function of the margin m, the features f (D,) and the curvature H (D, D) of two classes.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_flip_cost(lambda m, f, h: m**2 / (f @ np.linalg.solve(h, f)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the factor 2 is missing in the denominator
    """
    margin, features, curvature = 0.6, np.array([1.0, 2.0]), np.array([[0.04, 0.01], [0.01, 0.02]])
    leverage = features @ np.linalg.solve(curvature, features)
    wrong = {
        "the factor 2 is missing in the denominator": margin**2 / leverage,
        "you used H itself: the leverage needs its inverse": margin**2
        / (2 * features @ curvature @ features),
        "the margin is not squared": margin / (2 * leverage),
        "that is the leverage alone: it divides half the squared margin": leverage,
        "you multiplied by the leverage: a pixel with a high leverage flips at a low cost": margin**2
        / 2
        * leverage,
        "you used the diagonal of H alone: its other entries count, too": margin**2
        / (2 * (features**2 / np.diag(curvature)).sum()),
    }
    _compare(_call(flip_cost, margin, features, curvature), margin**2 / (2 * leverage), wrong, tolerance=1e-9)
    print(f"Right: the leverage is {leverage:.0f}, and the cost {margin**2 / (2 * leverage):.5f} nats.")


def check_parts(parts: Function) -> None:
    """Check a function that divides the uncertainty of several models into two parts.

    Args:
        parts: Function of the probabilities (M, C, H, W) of M models. It returns three maps (H, W), in nats:
            the total, the entropy of the mean; the aleatoric part, the mean of the entropies; and the
            epistemic part, what remains.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_parts(lambda p: (p[0, 0], p[0, 0]))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: expected three maps...
    """
    p = np.array([[[[0.9, 0.5]], [[0.1, 0.5]]], [[[0.2, 0.5]], [[0.8, 0.5]]]])

    def entropy(q: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(-(q * np.log(q)).sum(axis=axis))

    total, aleatoric = entropy(p.mean(axis=0), 0), entropy(p, 1).mean(axis=0)
    right = np.stack([total, aleatoric, total - aleatoric])
    wrong = {
        "total and aleatoric part are swapped: the entropy of the mean is the larger one": right[[1, 0, 2]],
        "aleatoric and epistemic part are swapped": right[[0, 2, 1]],
        "the sign of the epistemic part is wrong: the total is never below the aleatoric part": right
        * np.array([1, 1, -1])[:, None, None],
        "you divided by log C: this exercise is in nats": right / np.log(2),
        "you took the variance of the probabilities as epistemic part": np.stack(
            [total, aleatoric, p.var(axis=0).sum(axis=0)]
        ),
    }
    told = _numbers(_call(parts, p.copy()))
    if told.shape != right.shape:
        raise NotYetError(f"expected three maps, an array of shape {right.shape}, got {told.shape}")
    _compare(told, right, wrong)
    print("Right: where the models disagree there is an epistemic part; where all are unsure there is none.")


def check_n_models(n_models: Any) -> None:
    """Check the least number of models whose epistemic part can reach 0.75 log 4, with four classes.

    The part is largest where every model is sure of another class, as far as there are classes.

    Args:
        n_models: Number of models.

    Raises:
        NotYetError: If so many models cannot reach it, or fewer can.

    Example:
        >>> check_n_models(2)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: with 2 the part is 0.50 at most
    """
    n = _number(n_models)
    if n < 1 or n != int(n):
        raise NotYetError(f"expected an integer from 1, got {n:g}")

    def highest(models: int) -> float:
        mean = np.eye(4)[np.arange(models) % 4].mean(axis=0)
        return abs(float((mean * np.log(mean.clip(1e-12))).sum() / np.log(4)))

    if highest(int(n)) < 0.75:
        raise NotYetError(f"with {n:g} the part is {highest(int(n)):.2f} at most")
    if highest(int(n) - 1) >= 0.75:
        raise NotYetError(f"{n:g} models can reach 0.75, but fewer can as well")
    reached = ", ".join(f"{highest(m):.2f} with {m}" for m in (1, 2, 3, 4, 6))
    print(f"Right: the epistemic part can reach at most {reached} models.")


@functools.cache
def _annotated() -> tuple[Cohort, np.ndarray, dict[str, float]]:
    """Hearts with nine raters, of whom the first stands for the prediction, and two rivals."""
    cohort = phantom.cohort(12, scanner="A", size=48, seed=1000, n_raters=9)
    assert cohort.raters is not None
    disagreement = rater_disagreement(cohort.raters[:, 1:], n_classes=4)
    masks = cohort.raters[:, 0]
    rivals = {
        "boundary band": to_numpy(geometry_ring(masks, n_classes=4, reach_px=1)).astype(float),
        "1 over the distance": 1 / boundary_distance_px(masks).clip(1, 1e3),
    }
    return cohort, disagreement, {name: _alike(cohort, found, disagreement) for name, found in rivals.items()}


def _alike(cohort: Cohort, found: np.ndarray, disagreement: np.ndarray) -> float:
    near: dict[str, Any] = {"band_mm": 6.0, "reference": cohort.labels, "spacing_mm": cohort.spacing_mm}
    return float(np.nanmean(map_agreement(found, disagreement, measure="pearson", **near)))


def check_mask_map(mask_map: Function) -> None:
    """Rank a map that the reader makes from a mask alone by how well it follows the disagreement of raters.

    The leaderboard is the mean Pearson correlation within 6 mm of the true borders, on 12 slices of the
    phantom at 48 × 48 pixels. One rater's mask stands for the prediction; eight others segment the slices.

    Args:
        mask_map: Function of masks (N, H, W) with the labels 0 to 3. It returns a map (N, H, W) in [0, 1].

    Raises:
        NotYetError: If the boundary band or 1 over the distance to the border has the higher correlation.

    Example:
        >>> check_mask_map(lambda masks: masks / 3)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: others are ahead...
    """
    cohort, disagreement, board = _annotated()
    assert cohort.raters is not None
    found = _numbers(_call(mask_map, cohort.raters[:, 0].copy()))
    if found.shape != disagreement.shape:
        raise NotYetError(f"expected a map of shape {disagreement.shape}, got {found.shape}")
    if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1:
        raise NotYetError("the map must lie in [0, 1]; divide an entropy by the logarithm of 4")
    if np.ptp(found) == 0:
        raise NotYetError("the map has the same value everywhere, so it points at no pixel")
    mine = _alike(cohort, found, disagreement)
    ranked = sorted({**board, "yours": mine}.items(), key=lambda entry: -entry[1])
    shown = ", ".join(f"{place}. {name} {value:.2f}" for place, (name, value) in enumerate(ranked, 1))
    if ranked[0][0] != "yours":
        raise NotYetError(f"others are ahead, with the higher correlation: {shown}")
    print(f"Right: without any network, yours leads in correlation: {shown}.")
