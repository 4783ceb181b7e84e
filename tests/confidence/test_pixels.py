import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.arrays import to_numpy
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
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    for options, message in (
        (("median", "image", 1), r"aggregation must be one of \('mean', 'l2'\), got 'median'"),
        (("mean", "edge", 1), "region must be one of .*'boundary'.*, got 'edge'"),
        (("mean", "image", 0), "band_px must be an integer >= 1, got 0"),
        (("mean", "image", 1.5), "band_px must be an integer >= 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            summed(torch.zeros(1, 4, 4), labels, *options)
        with pytest.raises(ValueError, match=message):
            pixels.PixelUncertainty(**dict(zip(("aggregation", "region", "band_px"), options, strict=True)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(1, 1, 2, 2), r"probabilities must be non-empty \(N, C, ...\) with C >= 2"),
        (torch.full((1, 2, 2, 2), torch.nan), r"probabilities must be finite, got NaN .* \(first: case 0\)"),
        (torch.full((1, 2, 2, 2), 3.0), r"probabilities must be in \[0, 1\] .*; apply softmax"),
        (torch.zeros(2, 2), "with C >= 2"),
        ([[[0.5], [0.5]]], "probabilities must be a numpy array or a dense tensor .*, got list"),
    ],
)
def test_what_is_no_probability_is_refused(measure, values, message):
    with pytest.raises(ValueError, match=message):
        measure(values)


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_take_every_type_layout_and_number_of_leading_axes(measure):
    probabilities = random_probabilities(0)
    expected = measure(probabilities)
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        found = measure(probabilities.to(dtype))
        assert found.dtype.itemsize >= 4
        torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=0)
    assert torch.equal(measure(probabilities.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(measure(to_numpy(probabilities)[..., ::-1]), expected.flip(-1))
    assert torch.equal(measure(probabilities.clone().requires_grad_()), expected)
    assert torch.equal(measure(probabilities[0]), expected[0])
    assert torch.equal(measure(probabilities[None]), expected[None])


def test_half_precision_maps_are_summed_in_float32():
    ones = torch.ones(1, 300, 300)  # their number does not fit into float16
    labels = torch.ones(1, 300, 300, dtype=torch.uint8)
    assert summed(ones.half(), labels, "mean", "image").item() == 1
    assert summed(ones.bfloat16(), to_numpy(labels), "l2", "foreground").item() == 300
    assert summed(ones, labels, "mean", "boundary", band_px=10**9).item() == 1  # wider than the image


def test_maps_and_labels_that_do_not_fit_are_refused():
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    values = torch.zeros(2, 4, 4)
    for bad_labels, message in (
        (labels[:1], r"labels must be of shape \(2, 4, 4\), got \(1, 4, 4\)"),
        (labels - 1, "labels must be integers >= 0, got -1"),
        (labels + 0.5, "labels must be integers, got fractions"),
    ):
        with pytest.raises(ValueError, match=message):
            summed(values, bad_labels, "mean", "image")
    values[1, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"uncertainty_map must be finite, .* \(first: case 1\)"):
        summed(values, labels, "mean", "image")
