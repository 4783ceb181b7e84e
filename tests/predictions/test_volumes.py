"""Laws of volumes: the formulas of slices over all voxels, and nothing predicted is not uncertain."""

import numpy as np
import pytest
import torch

from segconf_lite.confidence import pixels, soft_dice_confidence
from segconf_lite.confidence.agreement import pairwise_agreement
from segconf_lite.confidence.sampling import summarise_samples
from segconf_lite.evaluation import (
    apply_temperature,
    dice_per_class,
    fit_temperature,
    hausdorff95_per_case,
    mean_surface_distance_per_case,
    surface_dice_per_case,
)
from segconf_lite.predictions import (
    PredictedCase,
    pooled_uncertainty,
    slice_table,
    volume_quality,
    volume_table,
    volume_uncertainty,
)

from .conftest import SPACING, labels_of, probabilities_of


def case_of(members=1, reference=None, spacing=SPACING, seed=0):
    rng = np.random.default_rng(seed)
    logits = 3 * np.log(probabilities_of(labels_of(), 0.8))[None] + rng.normal(
        0, 1.5, (members, 3, 4, 12, 14)
    )
    samples = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    samples[:, :, 3] = np.array([0.9, 0.05, 0.05])[:, None, None]  # nothing is predicted on the last slice
    samples = samples.astype(np.float32)
    labels = samples.mean(axis=0).argmax(axis=0)
    return PredictedCase("one", "p", "A", samples, labels, spacing, reference=reference)


def test_uncertainties_of_a_volume_are_the_formulas_over_all_voxels():
    case = case_of(members=3)
    found, mean = volume_uncertainty(case), torch.from_numpy(case.probabilities)
    entropy = pixels.entropy(mean.movedim(0, 1)).numpy()
    assert found["entropy, image"] == pytest.approx(entropy.mean(), abs=1e-5)
    assert found["entropy, foreground"] == pytest.approx(entropy[case.labels > 0].mean(), abs=1e-5)
    overlaps = [
        2 * mean[k].numpy()[case.labels == k].sum() / (mean[k].numpy().sum() + (case.labels == k).sum())
        for k in (1, 2)
    ]
    assert found["soft Dice"] == pytest.approx(1 - np.mean(overlaps), abs=1e-5)
    summary = summarise_samples(torch.from_numpy(case.samples).movedim(2, 1))
    inside = torch.from_numpy(case.labels > 0)
    expected = float(summary.mutual_information[inside].mean())
    assert found["ensemble: mutual information"] == pytest.approx(expected, abs=1e-5)
    members = case.samples.argmax(axis=1)
    pairs = [
        dice_per_class(members[a][None], members[b][None], n_classes=3, empty="one").mean()
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert found["ensemble: agreement"] == pytest.approx(1 - np.mean(pairs), abs=1e-5)


def test_one_member_and_equal_members_agree():
    case = case_of()
    twice = PredictedCase("two", "p", "A", case.samples.repeat(2, axis=0), case.labels, None)
    one, two = volume_uncertainty(case), volume_uncertainty(twice)
    assert {name: two[name] for name in one} == pytest.approx(one, abs=1e-6)
    assert [two[f"ensemble: {name}"] for name in ("agreement", "mutual information")] == pytest.approx(
        [0, 0], abs=1e-6
    )


def test_methods_for_slices_take_stored_slices():
    case = case_of(members=2)
    assert soft_dice_confidence(case.slices).shape == (4,)
    members = case.samples.argmax(axis=1).swapaxes(0, 1)  # (S, M, H, W)
    assert pairwise_agreement(members, n_classes=3, empty="one")[3] == 1
    temperature = fit_temperature(case.logits, labels_of())
    assert apply_temperature(case.logits, 1.0) == pytest.approx(case.slices, abs=1e-5)
    assert temperature > 0


def test_a_slice_without_prediction_has_no_uncertainty_and_weights_give_the_volume():
    case = case_of()
    table = slice_table(case)
    assert table.loc[3].drop(["slice", "predicted"]).isna().all()
    assert table.loc[:2].notna().all(axis=None)
    joined = pooled_uncertainty(
        table["entropy, foreground"], ["one"] * 4, rule="weighted", sizes=table["predicted"]
    )
    assert joined["one"] == pytest.approx(volume_uncertainty(case)["entropy, foreground"], abs=1e-5)


def test_pooling_rules_leave_out_what_is_not_defined():
    values, groups = [0.2, 0.6, np.nan, np.nan], ["a", "a", "a", "b"]
    assert pooled_uncertainty(values, groups, rule="mean")["a"] == pytest.approx(0.4)
    assert pooled_uncertainty(values, groups, rule="worst")["a"] == 0.6
    assert np.isnan(pooled_uncertainty(values, groups, rule="worst")["b"])
    assert np.isnan(pooled_uncertainty(values, groups, rule="mean")["b"])
    with pytest.raises(ValueError, match="rule must be one of"):
        pooled_uncertainty(values, groups, rule="median")
    with pytest.raises(ValueError, match="sizes must be given with rule='weighted', and only then"):
        pooled_uncertainty(values, groups, rule="weighted")
    with pytest.raises(ValueError, match="uncertainty must be finite"):
        pooled_uncertainty([np.inf], ["a"], rule="mean")


def test_a_volume_without_prediction_has_no_uncertainty_but_those_of_the_whole_image():
    samples = np.zeros((1, 3, 4, 12, 14), np.float32)
    samples[:, 0] = 1
    case = PredictedCase("one", "p", "A", samples, np.zeros((4, 12, 14), int), None)
    row = volume_table([case]).loc[0]
    assert row["absent"] == "1 2"
    assert np.isnan(row["soft Dice"])
    assert row["entropy, image"] == 0


def test_distances_are_in_three_dimensions():
    labels = np.zeros((8, 9, 9), int)
    labels[2:5, 3:6, 3:6] = 1
    samples = np.stack([1 - labels, labels]).astype(np.float32)[None]
    case = PredictedCase(
        "one", "p", "A", samples, labels, (5.0, 1.5, 1.0), reference=np.roll(labels, 1, axis=0)
    )
    found = volume_quality(case, empty="skip", tolerance_mm=4.9)
    assert found["quality"] == pytest.approx(2 / 3)  # two of three slices overlap
    assert found["hausdorff95_mm"] == 5.0
    assert 0 < found["surface_distance_mm"] < 5.0
    assert volume_quality(case, empty="skip", tolerance_mm=5.0)["surface_dice"] == 1.0


def test_the_box_changes_no_measure():
    rng = np.random.default_rng(0)
    reference = labels_of(shift=2)
    reference[3, 11, 13] = 1  # at the end of the array
    case = case_of(reference=reference)
    labels = np.where(rng.random(case.labels.shape) < 0.02, 1, case.labels)
    case = PredictedCase("one", "p", "A", case.samples, labels, SPACING, reference=reference)
    pair, options = (labels[None], reference[None]), {"n_classes": 3, "empty": "skip"}
    expected = {
        "quality": dice_per_class(*pair, **options).mean(),
        "hausdorff95_mm": hausdorff95_per_case(*pair, spacing_mm=SPACING, **options)[0],
        "surface_distance_mm": mean_surface_distance_per_case(*pair, spacing_mm=SPACING, **options)[0],
        "surface_dice": surface_dice_per_case(*pair, spacing_mm=SPACING, tolerance_mm=1.6, **options)[0],
    }
    assert volume_quality(case, empty="skip", tolerance_mm=1.6) == pytest.approx(expected, abs=1e-6)


def test_empty_conventions_are_those_of_slices():
    empty = np.zeros((4, 12, 14), int)
    samples = np.zeros((1, 3, 4, 12, 14), np.float32)
    samples[:, 0] = 1
    case = PredictedCase("one", "p", "A", samples, empty, SPACING, reference=empty)
    assert np.isnan(volume_quality(case, empty="skip")["quality"])
    assert volume_quality(case, empty="one") == {"quality": 1, "hausdorff95_mm": 0, "surface_distance_mm": 0}
    assert volume_quality(case, empty="zero")["quality"] == 0


def test_millimetres_need_a_spacing_and_quality_a_reference():
    with pytest.raises(ValueError, match="spacing of one must be known where mm matter, got none"):
        volume_quality(case_of(reference=labels_of(), spacing=None), empty="skip", tolerance_mm=1.0)
    assert list(volume_quality(case_of(reference=labels_of(), spacing=None), empty="skip")) == ["quality"]
    with pytest.raises(ValueError, match="reference of one must be there"):
        volume_quality(case_of(), empty="skip")
