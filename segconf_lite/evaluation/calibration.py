"""Whether probabilities mean what they say: of the pixels called 80 % sure, are 80 % right?

Pixels are counted into histograms, so memory does not grow with the number of cases. Calibration is about
pixels, not cases: background is easy, plentiful and sure, so a useless segmentation can be well calibrated.
Shape letters: N cases, C classes, "..." pixels (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import optimize

from segconf_lite.arrays import to_numpy
from segconf_lite.evaluation.quality import check_probabilities

__all__ = [
    "CalibrationCounter",
    "apply_temperature",
    "brier_score",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability_table",
]

BINNINGS = ("width", "mass")
SMALLEST = 1e-12  # a probability of 0 for what happened costs -log(1e-12) = 27.6 nats, not infinity
_CELLS = 2**16  # fine histogram from which equal-mass bins are joined
_CHUNK = 32  # cases at a time


class CalibrationCounter:
    """Counts of confidence and correctness; feed it case by case, read it at any time.

    Args:
        n_bins: bins of confidence, >= 1.
        class_wise: count every class against the rest, in place of the winning class only.

    Raises:
        ValueError: If ``n_bins < 1``.
    """

    def __init__(self, *, n_bins: int = 15, class_wise: bool = False) -> None:
        if n_bins < 1:
            raise ValueError(f"n_bins must be >= 1, got {n_bins}")
        self.n_bins, self.class_wise = n_bins, class_wise
        self._per_bin = max(_CELLS // n_bins, 1)
        self._sums = np.zeros((0, 3, n_bins * self._per_bin))  # per class: pixels, right ones, confidence

    def update(self, probabilities: Any, labels: Any) -> Self:
        """Count (N, C, ...) probabilities against (N, ...) labels; errors as `expected_calibration_error`."""
        for chances, truth in _chunks(probabilities, labels):
            if self.class_wise:
                pairs = [(chances[:, c], truth == c) for c in range(chances.shape[1])]
            else:
                winner = chances.argmax(axis=1)
                pairs = [(np.take_along_axis(chances, winner[:, None], axis=1)[:, 0], winner == truth)]
            if len(self._sums) == 0:
                self._sums = np.zeros((len(pairs), *self._sums.shape[1:]))
            for sums, (confidence, right) in zip(self._sums, pairs, strict=True):
                self._count(sums, confidence.ravel(), right.ravel())
        return self

    def _count(self, sums: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> None:
        n_cells = sums.shape[1]
        # bins are open below and closed above, as Guo et al. have them; 0 joins the first
        cells = np.maximum(np.ceil(confidence * np.float32(n_cells)).astype(np.int32) - 1, 0)
        np.minimum(cells, n_cells - 1, out=cells)
        sums[0] += np.bincount(cells, minlength=n_cells)
        sums[1] += np.bincount(cells[right], minlength=n_cells)
        sums[2] += np.bincount(cells, weights=confidence, minlength=n_cells)

    def table(self, *, binning: str = "width") -> pd.DataFrame:
        """The reliability diagram as a table, see `reliability_table`.

        Raises:
            ValueError: If nothing was counted, or the binning is unknown.
        """
        if binning not in BINNINGS:
            raise ValueError(f"binning must be one of {BINNINGS}, got {binning!r}")
        if len(self._sums) == 0:
            raise ValueError("nothing was counted yet; call update(probabilities, labels) first")
        parts = [self._bins(sums, binning).assign(class_index=k) for k, sums in enumerate(self._sums)]
        return pd.concat(parts, ignore_index=True)

    def error(self, *, binning: str = "width") -> float:
        """The expected calibration error of everything counted, in [0, 1]."""
        bins = self.table(binning=binning)
        gap = (bins["accuracy"] - bins["confidence"]).abs()
        return float((gap * bins["share"]).sum() / len(self._sums))

    def _bins(self, sums: np.ndarray, binning: str) -> pd.DataFrame:
        n_cells = sums.shape[1]
        if binning == "width":
            owner = np.arange(n_cells) // self._per_bin
        else:
            # a cell belongs to the bin in which the middle of its pixels falls
            middle = (sums[0].cumsum() - sums[0] / 2) / sums[0].sum()
            owner = np.minimum((middle * self.n_bins).astype(int), self.n_bins - 1)
        total, right, confidence = (np.bincount(owner, weights=s, minlength=self.n_bins) for s in sums)
        seen = np.flatnonzero(total)
        low = np.array([np.flatnonzero(owner == k)[0] for k in seen]) / n_cells
        high = np.array([np.flatnonzero(owner == k)[-1] + 1 for k in seen]) / n_cells
        return pd.DataFrame({
            "bin_low": low, "bin_high": high, "confidence": confidence[seen] / total[seen],
            "accuracy": right[seen] / total[seen], "share": total[seen] / total.sum(),
        })  # fmt: skip


def expected_calibration_error(
    probabilities: Any, labels: Any, *, n_bins: int = 15, binning: str = "width", class_wise: bool = False
) -> float:
    """Mean distance between confidence and accuracy over bins of confidence, weighted by pixels.

    Args:
        probabilities: (N, C, ...) float, summing to 1 over C; numpy or torch.
        labels: (N, ...) whole numbers in 0..C-1.
        n_bins: bins of confidence.
        binning: ``"width"``: equal steps of confidence (Naeini et al., AAAI 2015); ``"mass"``: equal
            numbers of pixels, joined from cells of at most 1/65,536 (Nixon et al., 2019); where more
            pixels than one bin holds share a cell, e.g. at confidence 1, they stay together.
        class_wise: the mean over all classes, background included, of each class against the rest
            (Kull et al., NeurIPS 2019), in place of the winning class (Guo et al., ICML 2017).

    Returns:
        In [0, 1], lower is better.

    Raises:
        ValueError: If shapes do not fit, labels are out of range, or probabilities are negative, above
            1 (logits?), not finite, or do not sum to 1.
    """
    counter = CalibrationCounter(n_bins=n_bins, class_wise=class_wise).update(probabilities, labels)
    return counter.error(binning=binning)


def reliability_table(
    probabilities: Any, labels: Any, *, n_bins: int = 15, binning: str = "width"
) -> pd.DataFrame:
    """One row per filled bin: bin_low, bin_high, confidence, accuracy, share of pixels, class_index (0).

    Arguments and errors as in `expected_calibration_error`.
    """
    return CalibrationCounter(n_bins=n_bins).update(probabilities, labels).table(binning=binning)


def brier_score(probabilities: Any, labels: Any) -> np.ndarray:
    """(N,) mean over pixels of the squared distance to the truth, summed over classes (Brier 1950).

    In [0, 2], lower is better; arguments and errors as in `expected_calibration_error`.
    """
    found = []
    for chances, truth in _chunks(probabilities, labels):
        of_truth = np.take_along_axis(chances, truth[:, None], axis=1)[:, 0]
        distance = np.square(chances, dtype=np.float64).sum(axis=1) - 2.0 * of_truth + 1
        found.append(distance.reshape(len(truth), -1).mean(axis=1))
    return np.concatenate(found)


def negative_log_likelihood(probabilities: Any, labels: Any) -> np.ndarray:
    """(N,) mean over pixels of -log of the probability given to the truth, in nats, lower is better.

    Probabilities below 1e-12 count as 1e-12. Arguments and errors as in `expected_calibration_error`.
    """
    found = []
    for chances, truth in _chunks(probabilities, labels):
        of_truth = np.take_along_axis(chances, truth[:, None], axis=1)[:, 0]
        cost = -np.log(np.maximum(of_truth, SMALLEST, dtype=np.float64))
        found.append(cost.reshape(len(truth), -1).mean(axis=1))
    return np.concatenate(found)


def fit_temperature(logits: Any, labels: Any) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T).

    Fit it on in-domain validation cases (Guo et al., ICML 2017); it cannot know other scanners.

    Args:
        logits: (N, C, ...) float; logarithms of probabilities are logits too.
        labels: (N, ...) whole numbers in 0..C-1.

    Returns:
        T in [0.05, 20]; above 1 = the network was too sure.

    Raises:
        ValueError: If shapes do not fit, labels are out of range, or a logit is NaN.
    """
    values, truth = _as_arrays(logits, labels)
    if np.isnan(values).any():
        raise ValueError("logits must not be NaN; look for cases that the network could not process")

    def cost(log_temperature: float) -> float:
        total = 0.0
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            chances = apply_temperature(values[part], float(np.exp(log_temperature)))
            of_truth = np.take_along_axis(chances, truth[part, None], axis=1)
            total -= float(np.log(np.maximum(of_truth, SMALLEST, dtype=np.float64)).sum())
        return total / truth.size

    best = optimize.minimize_scalar(
        cost, bounds=np.log([0.05, 20.0]), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(best.x))


def apply_temperature(logits: Any, temperature: float) -> np.ndarray:
    """softmax(logits / T) over axis 1; the winning class never changes.

    Raises:
        ValueError: If the temperature is not > 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    values = to_numpy(logits)
    scaled = np.exp((values - values.max(axis=1, keepdims=True)) / temperature)  # log 0 = -inf gives 0
    return scaled / scaled.sum(axis=1, keepdims=True)


def _chunks(probabilities: Any, labels: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    chances, truth = _as_arrays(probabilities, labels)
    for start in range(0, len(truth), _CHUNK):
        part = chances[start : start + _CHUNK]
        check_probabilities(part)
        yield part, truth[start : start + _CHUNK]


def _as_arrays(values: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    chances, truth = to_numpy(values), to_numpy(labels)
    if chances.ndim < 2 or chances.size == 0 or chances.shape[:1] + chances.shape[2:] != truth.shape:
        raise ValueError(
            f"expected non-empty (N, C, ...) and labels (N, ...), got {chances.shape} and {truth.shape}"
        )
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= chances.shape[1]:
        raise ValueError(
            f"labels must be whole numbers in 0..{chances.shape[1] - 1}, got {truth.dtype} "
            f"{truth.min()}..{truth.max()}"
        )
    return chances, truth
