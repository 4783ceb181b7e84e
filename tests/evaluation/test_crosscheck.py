"""The same numbers as other well-kept libraries, wherever one has the quantity (extra `crosscheck`)."""

import numpy as np
import pytest
from scipy import stats

from segconf_lite.evaluation import (
    aurc,
    auroc,
    brier_score,
    dice_per_class,
    expected_calibration_error,
    iou_per_class,
    linear_correlation,
    negative_log_likelihood,
    rank_correlation,
    reliability_table,
    risk_coverage,
)

SEEDS = pytest.mark.parametrize("seed", range(3))


def pixels(seed, n=4000, n_classes=4):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, n_classes))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return chances, rng.integers(0, n_classes, n)


def pairs(seed, n=200):
    rng = np.random.default_rng(seed)
    risk = rng.random(n)
    return risk, np.round(risk + rng.normal(0, 0.5, n), 1)  # with ties


@SEEDS
def test_auroc_against_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    familiar, target = rng.normal(0, 1, 60).round(1), rng.normal(0.5, 1, 40).round(1)
    truth = np.repeat([0, 1], [60, 40])
    expected = metrics.roc_auc_score(truth, np.concatenate([familiar, target]))
    assert auroc(familiar, target) == pytest.approx(expected)


@SEEDS
def test_brier_and_likelihood_against_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    chances, labels = pixels(seed)
    assert negative_log_likelihood(chances, labels).mean() == pytest.approx(metrics.log_loss(labels, chances))
    two, truth = pixels(seed, n_classes=2)
    # scikit-learn's binary Brier score counts one class, ours both
    assert brier_score(two, truth).mean() == pytest.approx(2 * metrics.brier_score_loss(truth, two[:, 1]))


@SEEDS
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_against_scikit_learn(seed, strategy):
    calibration = pytest.importorskip("sklearn.calibration")
    chances, labels = pixels(seed)
    right = labels == chances.argmax(axis=1)
    accuracy, confidence = calibration.calibration_curve(
        right, chances.max(axis=1), n_bins=10, strategy=strategy
    )
    ours = reliability_table(chances, labels, n_bins=10, binning="width" if strategy == "uniform" else "mass")
    # equal-mass edges fall between two pixels here and on one of them there
    tolerance = 1e-6 if strategy == "uniform" else 0.01
    assert ours["confidence"].to_numpy() == pytest.approx(confidence, abs=tolerance)
    assert ours["accuracy"].to_numpy() == pytest.approx(accuracy, abs=tolerance)


@SEEDS
@pytest.mark.parametrize("n_bins", [5, 15, 20])
def test_calibration_error_against_torchmetrics(seed, n_bins):
    classification = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    chances, labels = pixels(seed)
    expected = classification.multiclass_calibration_error(
        torch.tensor(chances), torch.tensor(labels), num_classes=4, n_bins=n_bins, norm="l1"
    )
    assert expected_calibration_error(chances, labels, n_bins=n_bins) == pytest.approx(
        expected.item(), abs=1e-5
    )


@SEEDS
def test_calibration_error_against_mapie(seed):
    # its metrics package imports a module that it does not install; the functions themselves need none
    calibration = pytest.importorskip("mapie.metrics.calibration", exc_type=ImportError)
    chances, labels = pixels(seed)
    right = (labels == chances.argmax(axis=1)).astype(int)
    # MAPIE takes num_bins *edges* from 0 to 1, so its 16 are 15 bins
    expected = calibration.expected_calibration_error(right, chances, num_bins=16, split_strategy="uniform")
    assert expected_calibration_error(chances, labels) == pytest.approx(expected, abs=1e-6)


@SEEDS
def test_correlations_against_scipy_and_torchmetrics(seed):
    risk, uncertainty = pairs(seed)
    rank, linear = (
        rank_correlation(risk, uncertainty).estimate,
        linear_correlation(risk, uncertainty).estimate,
    )
    assert rank == pytest.approx(stats.spearmanr(risk, uncertainty).statistic)
    assert linear == pytest.approx(stats.pearsonr(risk, uncertainty).statistic)
    regression = pytest.importorskip("torchmetrics.functional.regression")
    import torch

    both = torch.tensor(uncertainty), torch.tensor(risk)
    assert rank == pytest.approx(regression.spearman_corrcoef(*both).item(), abs=1e-5)
    assert linear == pytest.approx(regression.pearson_corrcoef(*both).item(), abs=1e-5)


@SEEDS
def test_area_under_risk_coverage_against_a_plain_mean_and_a_trapezoid(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    risk, _ = pairs(seed)
    uncertainty = np.random.default_rng(seed).permutation(len(risk))  # no ties: here the rules must meet
    ordered = risk[np.argsort(uncertainty)]
    assert aurc(risk, uncertainty) == pytest.approx(np.mean([ordered[:k].mean() for k in range(1, 201)]))
    curve = risk_coverage(risk, uncertainty)
    trapezoid = metrics.auc(curve["coverage"], curve["selective_risk"])
    ends = (curve["selective_risk"].iloc[0] + curve["selective_risk"].iloc[-1]) / (2 * len(risk))
    assert aurc(risk, uncertainty) == pytest.approx(trapezoid + ends)


@SEEDS
def test_overlap_against_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, 3, (2, 8, 8)) for _ in range(2))
    dice = dice_per_class(one, other, n_classes=3, empty="zero")
    iou = iou_per_class(one, other, n_classes=3, empty="zero")
    for case in range(2):
        flat = other[case].ravel(), one[case].ravel()
        options = {"labels": [1, 2], "average": None, "zero_division": 0}
        assert dice[case] == pytest.approx(metrics.f1_score(*flat, **options))
        assert iou[case] == pytest.approx(metrics.jaccard_score(*flat, **options))
