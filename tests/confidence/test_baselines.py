import numpy as np
import pytest
import torch

from segconf_lite.confidence import (
    DeepEnsemble,
    MaximumProbability,
    MCDropout,
    PredictiveEntropy,
    ScoreAgreement,
)
from segconf_lite.confidence.baselines import one_pass_columns, sampled_columns
from segconf_lite.evaluation import case_table
from segconf_lite.models.unet import predict_probabilities


def test_one_pass_columns_equal_the_methods(make_unet, cohort):
    unet = make_unet()
    columns = one_pass_columns(predict_probabilities(unet, cohort.images))
    assert list(columns) == [
        "entropy, image",
        "entropy, foreground",
        "entropy, boundary",
        "probability, foreground",
        "small prediction",
    ]
    for region in ("image", "foreground", "boundary"):
        method = PredictiveEntropy(region=region).fit(unet, cohort)
        np.testing.assert_allclose(
            columns[f"entropy, {region}"], method.uncertainty(cohort.images), rtol=1e-5
        )
    method = MaximumProbability(region="foreground").fit(unet, cohort)
    np.testing.assert_allclose(
        columns["probability, foreground"], method.uncertainty(cohort.images), rtol=1e-5
    )


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
