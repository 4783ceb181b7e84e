"""Checks of the exercises of chapter 3."""

from __future__ import annotations

from typing import Any

import numpy as np

from segconf_lite.evaluation import rank_correlation
from segconf_lite.exercises.answers import (
    Function,
    NotYetError,
    _call,
    _compare,
    _numbers,
    _over_runs,
    _stored,
)


def check_distance(distance: Function) -> None:
    """Check a function that computes the Mahalanobis distance, √((z − μ)ᵀ Σ⁻¹ (z − μ)).

    Args:
        distance: Function of a vector z (D,), the mean μ (D,) and the covariance Σ (D, D).

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_distance(lambda z, mean, covariance: np.linalg.norm(z - mean))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is the Euclidean distance...
    """
    z, mean, covariance = np.array([3.0, 2.0]), np.array([1.0, 0.5]), np.array([[4.0, 1.0], [1.0, 0.5]])
    step = z - mean
    squared = step @ np.linalg.solve(covariance, step)
    alone = np.sqrt((step**2 / np.diag(covariance)).sum())
    wrong = {
        "that is the Euclidean distance: the covariance is not used": np.linalg.norm(step),
        "the root is missing: that is the squared distance": squared,
        "you multiplied by the covariance: multiply by its inverse": np.sqrt(step @ covariance @ step),
        "you used the variances alone: the correlation of the directions counts, too": alone,
        "the mean is not subtracted": np.sqrt(z @ np.linalg.solve(covariance, z)),
    }
    _compare(_call(distance, z, mean, covariance), np.sqrt(squared), wrong)
    print(f"Right: {np.sqrt(squared):.2f} standard deviations, where the Euclidean distance is 2.50.")


def check_threshold(threshold: Function) -> None:
    """Check a function that sets the threshold of a detector so that 95 % of a new person's slices pass.

    Args:
        threshold: Function of the distances of the slices that were used to fit, and of those of a person who
            was left out, both (N,).

    Raises:
        NotYetError: If the threshold is another one; the message says which.

    Example:
        >>> check_threshold(lambda used, left_out: np.quantile(used, 0.95))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the slices that were used to fit lie near by construction...
    """
    rng = np.random.default_rng(0)
    used, left_out = rng.gamma(9, 1, 100), rng.gamma(30, 1, 40)
    both = np.concatenate([used, left_out])
    wrong = {
        "the slices that were used to fit lie near by construction; let the left-out person set it": used,
        "both groups together still contain the slices that were used to fit": both,
    }
    quantiles = {why: np.quantile(values, 0.95) for why, values in wrong.items()}
    quantiles["that lets 5 % pass: a slice passes if its distance is below"] = np.quantile(left_out, 0.05)
    quantiles["the largest distance lets all slices pass, and one slice decides it"] = left_out.max()
    got = _call(threshold, used, left_out)
    _compare(got, np.quantile(left_out, 0.95), quantiles)
    flagged = (used > np.quantile(used, 0.95)).mean(), (left_out > np.quantile(used, 0.95)).mean()
    print(f"Right: the other threshold would flag {flagged[1]:.0%} of these invented slices.")


def check_distortion(distortion: Function) -> None:
    """Check a function that computes the segmentation distortion, the mean of the squared changes.

    Args:
        distortion: Function of the probabilities from the activation itself and from the reconstructed one,
            both (C, H, W).

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_distortion(lambda p, q: abs(p - q).mean())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you took the absolute values: square the changes
    """
    p = np.array([[[0.9, 0.6]], [[0.1, 0.3]], [[0.0, 0.1]]])
    q = np.array([[[0.9, 0.2]], [[0.1, 0.3]], [[0.0, 0.5]]])
    moved = (p - q) ** 2
    wrong = {
        "you took the absolute values: square the changes": np.abs(p - q).mean(),
        "you summed over the classes: the mean is over pixels and classes": moved.sum(axis=0).mean(),
        "you summed over pixels and classes: divide by the number of both": moved.sum(),
        "you took a root, which the equation does not have": np.sqrt(moved.mean()),
        "you squared the mean: changes of opposite sign cancel before they are squared": (p - q).mean() ** 2,
    }
    _compare(_call(distortion, p, q), moved.mean(), wrong)
    print(f"Right: one of two pixels moves, and the distortion is {moved.mean():.3f}.")


def check_scanners(scanners: Any) -> None:
    """Check two scanners that, pooled in one test set, let the plain distance look good.

    Args:
        scanners: Two letters out of ABCDEF, such as ``"CE"``.

    Raises:
        NotYetError: If Spearman's correlation of the distance with the risk is below 0.8, as a mean over the
            stored runs.

    Example:
        >>> check_scanners("CE")
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: Spearman's correlation of the pooled distance is only 0...
    """
    if scanners is ...:
        _numbers(scanners)
    if not isinstance(scanners, str) or len(set(scanners)) != 2 or set(scanners) - set("ABCDEF"):
        raise NotYetError(f"expected two letters out of ABCDEF, got {scanners!r:.60}")

    def correlation(letters: list[str]) -> np.ndarray:
        runs = _stored(3).query("domain in @letters").groupby("seed")
        return np.array([rank_correlation(run["risk"], run["distance"]).estimate for _, run in runs])

    pooled = correlation(list(scanners))
    alone = " and ".join(f"{correlation([s]).mean():.2f} on {s}" for s in sorted(scanners))
    if pooled.mean() < 0.8:
        raise NotYetError(f"Spearman's correlation of the pooled distance is only {pooled.mean():.2f}")
    print(f"Right: pooled, Spearman's correlation of the distance is {_over_runs(pooled)}; alone, {alone}.")


def check_harmless(activation: Any, weights: np.ndarray) -> None:
    """Check an activation that is far from the training activations and changes no probability.

    The training activations have mean 0 and variance 1 in each direction, so the Mahalanobis distance is the
    length. The autoencoder reconstructs everything as the mean.

    Args:
        activation: The activation of the reader, (D,).
        weights: Weights of the last layer, (C, D); its softmax gives the probabilities.

    Raises:
        NotYetError: If the activation is near, or its distortion is above 0.0001.

    Example:
        >>> check_harmless([9.0, 9.0], np.array([[1.0, 0.0], [0.0, 1.0]]))
        Right: a distance of 12.7, and a distortion of 0.0000.
    """
    z = _numbers(activation)
    if z.shape != (weights.shape[1],):
        raise NotYetError(f"expected {weights.shape[1]} numbers, got an array of shape {z.shape}")
    scores = np.exp(weights @ z - (weights @ z).max())
    moved = float(np.mean((scores / scores.sum() - 1 / len(weights)) ** 2))
    distance = float(np.linalg.norm(z))
    if moved > 1e-4:
        raise NotYetError(
            f"the probabilities change: the distance is {distance:.1f}, the distortion {moved:.4f}"
        )
    if distance < 10:
        raise NotYetError(f"no probability changes, but the distance is only {distance:.1f}, not 10 or more")
    print(f"Right: a distance of {distance:.1f}, and a distortion of {moved:.4f}.")
