import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.confidence import pixels


def random_probabilities(seed, shape=(3, 4, 5, 6)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(dim=1)


MEASURES = (pixels.entropy, pixels.max_probability_uncertainty, pixels.margin_uncertainty)


@pytest.mark.parametrize("measure", MEASURES)
def test_certain_is_zero_and_a_tie_is_the_maximum(measure):
    certain = torch.zeros(1, 4, 2, 2)
    certain[:, 1] = 1
    assert (measure(certain) == 0).all()
    even = torch.full((1, 4, 2, 2), 0.25)
    highest = 0.75 if measure is pixels.max_probability_uncertainty else 1.0
    torch.testing.assert_close(measure(even), torch.full((1, 2, 2), highest))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_bounds_and_class_order(seed):
    probabilities = random_probabilities(seed)
    for measure in MEASURES:
        values = measure(probabilities)
        assert values.shape == (3, 5, 6)
        assert ((values >= -1e-6) & (values <= 1 + 1e-6)).all()
        torch.testing.assert_close(measure(probabilities.flip(1)), values)


def test_entropy_of_a_known_pixel():
    pixel = torch.tensor([0.5, 0.25, 0.25, 0.0]).reshape(1, 4, 1, 1)
    expected = (0.5 * math.log(2) + 0.5 * math.log(4)) / math.log(4)
    assert pixels.entropy(pixel).item() == pytest.approx(expected)


def summed(uncertainty, labels, aggregation, region, band_px=1):
    return pixels.aggregate(uncertainty, labels, aggregation=aggregation, region=region, band_px=band_px)


def test_regions_and_aggregations_by_hand():
    labels = torch.zeros(1, 5, 5, dtype=torch.int64)
    labels[0, 2, 2] = 1
    values = torch.arange(25.0).reshape(1, 5, 5) / 25
    assert summed(values, labels, "mean", "image").item() == pytest.approx(12 / 25)
    assert summed(values, labels, "mean", "foreground").item() == pytest.approx(12 / 25)
    assert summed(values, labels, "l2", "foreground").item() == pytest.approx(12 / 25)
    block = values[0, 1:4, 1:4]  # all pixels that touch the foreground pixel, and itself
    assert summed(values, labels, "mean", "boundary").item() == pytest.approx(block.mean().item())
    assert summed(values, labels, "l2", "boundary").item() == pytest.approx(
        block.square().sum().sqrt().item()
    )
    assert summed(values, labels, "mean", "boundary", band_px=2).item() == pytest.approx(12 / 25)


@pytest.mark.parametrize("region", ["foreground", "boundary"])
def test_nothing_found_is_trusted_least(region):
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    labels[0, 1:3, 1:3] = 1
    values = torch.full((2, 4, 4), 0.3)
    assert summed(values, labels, "mean", region).tolist() == pytest.approx([0.3, 1.0])
    l2 = summed(values, labels, "l2", region)
    assert l2[1] == pytest.approx(4.0)
    assert l2[0] < l2[1]


def test_unknown_choices():
    with pytest.raises(ValueError, match=r"aggregation must be one of \('mean', 'l2'\), got 'median'"):
        pixels.check_aggregation("median", "image", 1)
    with pytest.raises(ValueError, match=r"region must be one of .*'boundary'.*, got 'edge'"):
        pixels.check_aggregation("mean", "edge", 1)
    with pytest.raises(ValueError, match="band_px must be >= 1 pixel, got 0"):
        pixels.check_aggregation("mean", "image", 0)
