"""How many cases the methods with maps take at a time."""

import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import DeepEnsemble, PredictiveEntropy, pixels
from segconf_lite.models import UNet


@pytest.mark.parametrize(("at_once", "taken"), [(16 * 16 * 5, [5]), (16 * 16 * 2, [2, 2, 1]), (7, [1] * 5)])
def test_large_images_go_in_fewer_at_a_time_with_the_same_result(monkeypatch, at_once, taken):
    cohort, seen = phantom.cohort(5, size=16), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, other = (UNet(n_classes=4, channels=(4, 8)).eval() for _ in range(2))
    methods = [PredictiveEntropy(), DeepEnsemble(members=[other], precision="fp32")]
    whole = [method.fit(one, cohort).uncertainty(cohort.images) for method in methods]
    one.register_forward_hook(lambda module, given, logits: seen.append(len(logits)))
    monkeypatch.setattr(pixels, "PIXELS_AT_ONCE", at_once)
    for method, expected in zip(methods, whole, strict=True):
        seen.clear()
        torch.testing.assert_close(method.uncertainty(cohort.images), expected)
        assert seen == taken
