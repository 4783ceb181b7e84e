"""Calibration of probabilities: of the pixels predicted with 80 % confidence, are 80 % right?

Pixels are counted into histograms, so memory does not grow with the number of cases. Calibration is about
pixels, not cases: background is easy, frequent and confident, so a useless segmentation can be well
calibrated.

Shape letters: N cases, C classes, "..." pixels (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import optimize

from segconf_lite import check

_BINNINGS = ("width", "mass")
_SMALLEST = 1e-12  # a probability of 0 for what happened costs -log(1e-12) = 27.6 nats, not infinity
_CELLS = 2**16  # fine histogram from which equal-mass bins are joined
_BATCH = 32  # cases at a time


class CalibrationCounter:
    """Counts of confidence and correctness for a calibration error over many batches.

    Args:
        n_bins: Number of bins of confidence, in 1 .. 65,536.
        class_wise: Whether every class is counted against the rest, in place of the predicted class only.

    Raises:
        ValueError: If ``n_bins`` is out of range.

    Example:
        >>> counter = CalibrationCounter(n_bins=5)
        >>> for labels in ([[[0, 0]]], [[[0, 1]]]):  # two batches of one case with two pixels
        ...     counter = counter.update(np.full((1, 2, 1, 2), 0.5), labels)
        >>> counter.error()
        0.25
    """

    def __init__(self, *, n_bins: int = 15, class_wise: bool = False) -> None:
        self.n_bins = check.integer("n_bins", n_bins, low=1, high=_CELLS)
        self.class_wise = check.one_of("class_wise", class_wise, (True, False))
        self._per_bin = _CELLS // self.n_bins
        # (classes, 3, cells): number of pixels, of right ones, and sum of confidence
        self._sums = np.zeros((0, 3, self.n_bins * self._per_bin))

    def update(self, probabilities: Any, labels: Any) -> Self:
        """Count (N, C, ...) probabilities and (N, ...) labels; errors as `expected_calibration_error`.

        All batches must have the same classes.
        """
        for batch, truth in _batches(probabilities, labels):
            if self.class_wise:
                pairs = [(batch[:, c], truth == c) for c in range(batch.shape[1])]
            else:
                winner = batch.argmax(axis=1)
                pairs = [(_of_class(batch, winner), winner == truth)]
            if len(self._sums) == 0:
                self._sums = np.zeros((len(pairs), *self._sums.shape[1:]))
            if len(self._sums) != len(pairs):
                raise check.refuse("probabilities", f"of {len(self._sums)} classes, as before", len(pairs))
            for sums, (confidence, right) in zip(self._sums, pairs, strict=True):
                _count(sums, confidence.ravel(), right.ravel())
        return self

    def table(self, *, binning: str = "width") -> pd.DataFrame:
        """The reliability diagram as a table, see `reliability_table`.

        Raises:
            ValueError: If nothing was counted, or the binning is unknown.
        """
        check.one_of("binning", binning, _BINNINGS)
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
            bin_of = np.arange(n_cells) // self._per_bin
        else:
            # a cell belongs to the bin in which the middle of its pixels falls
            middle = (sums[0].cumsum() - sums[0] / 2) / sums[0].sum()
            bin_of = np.minimum((middle * self.n_bins).astype(int), self.n_bins - 1)
        total, right, confidence = (np.bincount(bin_of, weights=s, minlength=self.n_bins) for s in sums)
        filled = np.flatnonzero(total)
        return pd.DataFrame(
            {
                "bin_low": np.searchsorted(bin_of, filled, side="left") / n_cells,
                "bin_high": np.searchsorted(bin_of, filled, side="right") / n_cells,
                "confidence": confidence[filled] / total[filled],
                "accuracy": right[filled] / total[filled],
                "share": total[filled] / total.sum(),
            }
        )


def expected_calibration_error(
    probabilities: Any, labels: Any, *, n_bins: int = 15, binning: str = "width", class_wise: bool = False
) -> float:
    r"""Mean distance between confidence and accuracy over bins of confidence, weighted by pixels (ECE).

    .. math:: \text{ECE} = \sum_b \frac{n_b}{n} \, |\text{accuracy}_b - \text{confidence}_b|

    Args:
        probabilities: (N, C, ...) class probabilities, summing to 1 over C; numpy or torch.
        labels: (N, ...) integers in 0..C-1.
        n_bins: Number of bins of confidence.
        binning: ``"width"``: bins of equal width (Naeini et al., AAAI 2015); ``"mass"``: bins with equal
            numbers of pixels, joined from cells of width 1/65,536 (Nixon et al., 2019). Where more pixels
            than one bin holds share a cell, for example at confidence 1, they stay together.
        class_wise: Whether to take the mean over all classes, background included, of each class against
            the rest (Kull et al., NeurIPS 2019), in place of the predicted class (Guo et al., ICML 2017).

    Returns:
        In [0, 1], lower is better.

    Raises:
        ValueError: If shapes do not fit, labels are out of range, or probabilities are negative, above
            1 (logits?), not finite, or do not sum to 1.

    Example:
        >>> probabilities = np.array([[[0.9, 0.9], [0.1, 0.1]]])  # one case, two classes, two pixels
        >>> round(expected_calibration_error(probabilities, np.array([[0, 1]])), 3)
        0.4
    """
    counter = CalibrationCounter(n_bins=n_bins, class_wise=class_wise).update(probabilities, labels)
    return counter.error(binning=binning)


def reliability_table(
    probabilities: Any, labels: Any, *, n_bins: int = 15, binning: str = "width"
) -> pd.DataFrame:
    """The reliability diagram as a table: confidence and accuracy in each bin that holds a pixel.

    Arguments and errors as in `expected_calibration_error`.

    Returns:
        One row per bin: bin_low, bin_high, confidence and accuracy (means over its pixels), share (the
        fraction of all pixels) and class_index (0).

    Example:
        >>> probabilities = np.array([[[0.9, 0.9], [0.1, 0.1]]])
        >>> table = reliability_table(probabilities, np.array([[0, 1]]), n_bins=5)
        >>> table[["confidence", "accuracy", "share"]]
           confidence  accuracy  share
        0         0.9       0.5    1.0
    """
    return CalibrationCounter(n_bins=n_bins).update(probabilities, labels).table(binning=binning)


def brier_score(probabilities: Any, labels: Any) -> np.ndarray:
    r"""Brier score of each case: squared distance to the truth, summed over classes (Brier 1950).

    .. math:: \frac{1}{\text{pixels}} \sum_\text{pixels} \sum_c (p_c - [c = \text{label}])^2

    Arguments and errors as in `expected_calibration_error`.

    Returns:
        (N,) in [0, 2], lower is better.

    Example:
        >>> brier_score(np.full((1, 2, 2, 2), 0.5), np.zeros((1, 2, 2), int))
        array([0.5])
    """
    scores = []
    for batch, truth in _batches(probabilities, labels):
        distance = np.square(batch, dtype=np.float64).sum(axis=1) - 2.0 * _of_class(batch, truth) + 1
        scores.append(distance.reshape(len(truth), -1).mean(axis=1))
    return np.concatenate(scores)


def negative_log_likelihood(probabilities: Any, labels: Any) -> np.ndarray:
    """Negative log-likelihood of each case: mean over pixels of -log of the true class's probability.

    Probabilities below 1e-12 count as 1e-12. Arguments and errors as in `expected_calibration_error`.

    Returns:
        (N,) in nats, in [0, 27.6], lower is better.

    Example:
        >>> negative_log_likelihood(np.full((1, 2, 2, 2), 0.5), np.zeros((1, 2, 2), int)).round(3)
        array([0.693])
    """
    losses = []
    for batch, truth in _batches(probabilities, labels):
        loss = -np.log(np.maximum(_of_class(batch, truth), _SMALLEST, dtype=np.float64))
        losses.append(loss.reshape(len(truth), -1).mean(axis=1))
    return np.concatenate(losses)


def fit_temperature(logits: Any, labels: Any) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T).

    Fit it on in-distribution validation cases (Guo et al., ICML 2017); it cannot know other scanners.

    Args:
        logits: (N, C, ...) numbers; logarithms of probabilities are logits too, so -infinity (the logarithm
            of 0) is allowed, but not for all classes of a pixel.
        labels: (N, ...) integers in 0..C-1.

    Returns:
        T in [0.05, 20]; above 1 = the network was too confident.

    Raises:
        ValueError: If shapes do not fit, labels are out of range, or a logit is NaN or +infinity.

    Example:
        >>> logits = np.array([[[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]])  # 88 % confident, 75 % right
        >>> round(fit_temperature(logits, np.array([[0, 0, 0, 1]])), 2)
        1.82
    """
    values = _logits(logits)
    truth = check.label_map(
        "labels", labels, n_classes=values.shape[1], shape=(len(values), *values.shape[2:])
    )

    def loss(log_temperature: float) -> float:
        total = 0.0
        for start in range(0, len(values), _BATCH):
            part = slice(start, start + _BATCH)
            probability = _of_class(_softmax(values[part], float(np.exp(log_temperature))), truth[part])
            total -= float(np.log(np.maximum(probability, _SMALLEST, dtype=np.float64)).sum())
        return total / truth.size

    best = optimize.minimize_scalar(
        loss, bounds=np.log([0.05, 20.0]), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(best.x))


def apply_temperature(logits: Any, temperature: float) -> np.ndarray:
    """Probabilities softmax(logits / T) over axis 1; the predicted class never changes.

    Args:
        logits: (N, C, ...) numbers, as for `fit_temperature`.
        temperature: The temperature T, > 0. Above 1 it lowers the confidence.

    Returns:
        (N, C, ...) probabilities, float32 or wider.

    Raises:
        ValueError: If a logit is NaN or +infinity, or the temperature is not > 0.

    Example:
        >>> apply_temperature(np.log([[0.8, 0.2]]), temperature=2).round(2)
        array([[0.67, 0.33]])
    """
    values = _logits(logits)
    return _softmax(values, check.number("temperature", temperature, low=0, open_low=True))


def _softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    with np.errstate(over="ignore"):  # a difference below the smallest float is -infinity, of which exp is 0
        scaled = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return scaled / scaled.sum(axis=1, keepdims=True)


def _logits(logits: Any) -> np.ndarray:
    """(N, C, ...) logits, float32 or wider."""
    values = _n_c_and_pixels("logits", logits)
    if values.shape[1] < 2:
        raise check.refuse(
            "logits", "(N, C, ...) with C >= 2", values.shape, "a logit z becomes [0, z] on axis 1"
        )
    values = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    if np.isnan(values).any() or not np.isfinite(values.max(axis=1)).all():
        bad = np.isnan(values) | np.isposinf(values) | np.isneginf(values).all(axis=1, keepdims=True)
        cases = np.unique(np.nonzero(bad)[0])
        raise check.refuse(
            "logits",
            "below infinity, and finite for one class of each pixel at least",
            f"NaN, infinity or nothing finite in {len(cases)} cases (first: case {cases[0]})",
            "look for cases that the network could not process, or compute logits in float32",
        )
    return values


def _batches(probabilities: Any, labels: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(n, C, pixels...) probabilities and (n, pixels...) labels of at most `_BATCH` cases."""
    values = _n_c_and_pixels("probabilities", probabilities)
    truth = check.label_map(
        "labels", labels, n_classes=values.shape[1], shape=(len(values), *values.shape[2:])
    )
    for start in range(0, len(truth), _BATCH):
        part = slice(start, start + _BATCH)
        name = f"probabilities[{start}:]" if start else "probabilities"
        batch = values[part] if values.ndim > 2 else values[part, :, None]
        batch = check.probabilities(batch, name)
        yield batch, truth[part] if values.ndim > 2 else truth[part, None]


def _n_c_and_pixels(name: str, values: Any) -> np.ndarray:
    """An array with the axes (N, C) and any number of axes of pixels."""
    return check.array(name, values, " ".join(["N", "C", *["pixels"] * (np.ndim(values) - 2)]))


def _of_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, ...) entries of (N, C, ...) probabilities at (N, ...) labels."""
    return np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]


def _count(sums: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> None:
    """Add pixels to the (3, cells) histogram."""
    n_cells = sums.shape[1]
    # bins are open below and closed above, as Guo et al. have them; 0 joins the first
    cells = np.maximum(np.ceil(confidence * np.float32(n_cells)).astype(np.int32) - 1, 0)
    np.minimum(cells, n_cells - 1, out=cells)
    sums[0] += np.bincount(cells, minlength=n_cells)
    sums[1] += np.bincount(cells[right], minlength=n_cells)
    sums[2] += np.bincount(cells, weights=confidence.astype(np.float64, copy=False), minlength=n_cells)
