import numpy as np
import pytest
import torch

from segconf_lite.confidence import (
    DeepEnsemble,
    MaximumProbability,
    MCDropout,
    PredictiveEntropy,
    ScoreAgreement,
    SoftDiceConfidence,
    soft_dice_confidence,
)
from segconf_lite.confidence.baselines import one_pass_columns, sampled_columns
from segconf_lite.evaluation import case_table, dice_per_case
from segconf_lite.models.unet import predict_probabilities


def test_one_pass_columns_equal_the_methods(make_unet, cohort):
    unet = make_unet()
    columns = one_pass_columns(predict_probabilities(unet, cohort.images))
    assert list(columns) == [
        "entropy, image",
        "entropy, foreground",
        "entropy, boundary",
        "probability, foreground",
        "soft Dice",
        "small prediction",
    ]
    np.testing.assert_allclose(
        columns["soft Dice"], SoftDiceConfidence().fit(unet, cohort).uncertainty(cohort.images), atol=1e-6
    )
    for region in ("image", "foreground", "boundary"):
        method = PredictiveEntropy(region=region).fit(unet, cohort)
        np.testing.assert_allclose(
            columns[f"entropy, {region}"], method.uncertainty(cohort.images), rtol=1e-5
        )
    method = MaximumProbability(region="foreground").fit(unet, cohort)
    np.testing.assert_allclose(
        columns["probability, foreground"], method.uncertainty(cohort.images), rtol=1e-5
    )


def test_soft_dice_by_hand():
    certain = np.zeros((2, 3, 2, 2))
    certain[0, 0, 0], certain[0, 1, 1, 0], certain[0, 2, 1, 1] = 1, 1, 1
    certain[1, 0] = 1  # nothing predicted
    assert soft_dice_confidence(certain).tolist() == [1, 0]
    half = np.array([[[[0.5, 0.2]], [[0.3, 0.7]], [[0.2, 0.1]]]])  # class 2 is not predicted
    assert soft_dice_confidence(half)[0] == pytest.approx((2 * 0.7 / (1.0 + 1) + 0) / 2)


def test_soft_dice_is_the_expected_dice_of_labels_drawn_from_the_probabilities():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 64, 64, generator=generator)
    probabilities = logits.softmax(dim=1)
    labels = probabilities.argmax(dim=1).numpy()
    drawn = (torch.rand(400, 64, 64, generator=generator) < probabilities[0, 1]).long().numpy()
    dice = dice_per_case(np.repeat(labels, 400, axis=0), drawn, n_classes=2, empty="zero")
    assert soft_dice_confidence(probabilities)[0] == pytest.approx(dice.mean(), abs=2e-3)


def test_soft_dice_bounds_and_invariances():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(5, 4, 9, 7, generator=generator).softmax(dim=1)
    found = soft_dice_confidence(probabilities)
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(soft_dice_confidence(probabilities.flip(-1)), found)
    torch.testing.assert_close(soft_dice_confidence(probabilities[:, [0, 3, 1, 2]]), found)
    for dtype in (torch.float64, torch.float16):
        torch.testing.assert_close(soft_dice_confidence(probabilities.to(dtype)), found, atol=2e-3, rtol=0)
    sharper = (probabilities**3) / (probabilities**3).sum(dim=1, keepdim=True)
    assert (soft_dice_confidence(sharper) > found).all()
    with pytest.raises(ValueError, match=r"with C >= 2, got \(1, 1, 2, 2\)"):
        soft_dice_confidence(np.ones((1, 1, 2, 2)))
    with pytest.raises(ValueError, match="SoftDiceConfidence is not fitted"):
        SoftDiceConfidence().uncertainty(np.zeros((1, 1, 8, 8)))


def test_a_smaller_prediction_is_more_suspicious():
    probabilities = torch.zeros(2, 2, 8, 8)
    probabilities[:, 0] = 1
    probabilities[0, :, 2:6, 2:6] = torch.tensor([0.0, 1.0])[:, None, None]
    small = one_pass_columns(probabilities)["small prediction"]
    assert small.tolist() == [-0.25, 0.0]


def test_sampled_columns_equal_the_methods(make_unet, cohort):
    unet = make_unet()
    samplers = {"passes": MCDropout(n_samples=4), "networks": DeepEnsemble(members=[make_unet(1)])}
    for sampler in samplers.values():
        sampler.fit(unet, cohort)
    columns = sampled_columns(samplers, cohort.images)
    assert len(columns) == 8
    for name, sampler in samplers.items():
        sampler.region = "foreground"
        np.testing.assert_allclose(columns[f"{name}: entropy"], sampler.uncertainty(cohort.images), rtol=1e-5)
        for suffix, empty in ((": agreement", "one"), (": agreement, strict", "zero")):
            method = ScoreAgreement(sampler, empty=empty).fit(unet, cohort)
            np.testing.assert_allclose(columns[name + suffix], method.uncertainty(cohort.images), atol=1e-6)
    two = ScoreAgreement(MCDropout(n_samples=2)).fit(unet, cohort)
    np.testing.assert_allclose(
        columns["passes, 2 answers: agreement"], two.uncertainty(cohort.images), atol=1e-6
    )


def test_logits_are_refused(cohort):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\] with sum 1 .*; apply softmax over axis 1"):
        one_pass_columns(torch.full((1, 2, 4, 4), 3.0))
    with pytest.raises(ValueError, match=r"must be in \[0, 1\] .* apply softmax"):
        case_table(np.full((6, 3, 16, 16), -2.0), cohort, empty="skip")
    with pytest.raises(ValueError, match="with sum 1 over the classes"):
        case_table(np.full((6, 3, 16, 16), 0.5), cohort, empty="skip")


def test_a_masked_array_is_refused():
    masked = np.ma.masked_array(np.full((1, 2, 4, 4), 0.5), mask=False)
    for act in (one_pass_columns, soft_dice_confidence):
        with pytest.raises(ValueError, match=r"probabilities must be .*, got .*[Mm]asked"):
            act(masked)
