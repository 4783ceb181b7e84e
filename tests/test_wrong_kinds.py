"""Arguments of another kind than the one asked for are refused by name, wherever a room takes them."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite import check, evaluation
from segconf_lite.cohorts import appearance, phantom
from segconf_lite.confidence import PooledMahalanobis, baselines
from segconf_lite.fragility import HeadSearch, search_pixels
from segconf_lite.models import UNet
from segconf_lite.reports import assumptions, recommend, trust_card
from segconf_lite.stress import corruptions

ONE = np.full((1, 2, 4, 4), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: appearance.appearance_distance(c, "A"), "source must be a Cohort, got str"),
        (lambda c: baselines.sampled_columns([], c.images), "samplers must be a dictionary"),
        (
            lambda c: baselines.sampled_columns({"x": 3}, c.images),
            "must be a fitted sampler, got int",
        ),
        (lambda c: evaluation.case_table(ONE, "cohort", empty="skip"), "cohort must be a Cohort, got str"),
        (lambda c: assumptions.input_properties("cohort"), "cohort must be a Cohort, got str"),
        (lambda c: HeadSearch(head=3), "head must be the name of a module, got 3"),
        (lambda c: corruptions.corrupt(c.images, "blur", 1, generator=3), "generator"),
        (lambda c: phantom.annotation_entropy(ONE[0]), r"true_probability must be"),
        (lambda c: evaluation.bootstrap_interval(np.mean, ["a", "b"]), "arrays must be one array"),
        (lambda c: check.names("names", np.array([["a"]])), "names must be one name per case"),
        (lambda c: search_pixels(UNet(n_classes=4), c.images, [[0, 1, 1]], "A"), "penalty must be a Cohort"),
        (lambda c: assumptions.compare_properties(None, None), "new must be a pandas table"),
        (lambda c: recommend.recommend_method(scanners=3), "scanners must be a list of names"),
        (lambda c: recommend.choose({1}, pd.DataFrame()), "costs must be"),
        (lambda c: recommend.leave_one_scanner_out(3, None), "values must be a pandas table"),
        (lambda c: trust_card.trust_card_text([1]), "card must be a Mapping, got list"),
        (lambda c: trust_card.trust_cards(None, None, features=3), "features must be a list of names"),
        (lambda c: UNet(n_classes=2, skips="no"), "skips must be one of"),
        (lambda c: PooledMahalanobis(module=None), "module must be the name of a module, got None"),
        (lambda c: PooledMahalanobis(squared="no"), "squared must be one of"),
        (lambda c: evaluation.rank_correlation([0, 1], [0, 1], n_resamples=0.5), "n_resamples must be"),
        (lambda c: evaluation.linear_correlation([0, 1], [0, 1], seed=[0, 0]), "seed must be"),
        (lambda c: evaluation.rank_correlation([0, 1], [0, 1], subjects=["a"]), "subjects must be of one"),
        (
            lambda c: evaluation.rank_correlation_difference([0, 1], [0, 1], [], subjects=["a", "b"]),
            "second_uncertainty must be",
        ),
        (lambda c: evaluation.bootstrap_interval("mean", ["a", "b"], [0, 1]), "statistic must be a function"),
        (
            lambda c: evaluation.quality_lower_bound([0.5], [0.5], [0.5], level=0.5, least_effective="x"),
            "least_effective must be",
        ),
    ],
)
def test_another_kind_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(phantom.cohort(2, size=16))


def test_a_search_takes_a_setting_of_its_own_kind():
    cohort = phantom.cohort(2, size=16)
    network = UNet(n_classes=4, channels=(4, 8))
    with pytest.raises(ValueError, match="search must be a PixelSearch or None, got HeadSearch"):
        search_pixels(network, cohort.images, np.array([[0, 1, 1]]), cohort, HeadSearch())
