"""Laws of the check of input assumptions."""

import dataclasses

import numpy as np
import pytest

from segconf_lite.cohorts import phantom
from segconf_lite.reports.assumptions import check_input_assumptions, input_properties

PLACES = ("rows", "columns", "row_spacing", "column_spacing")
GREY = ("lowest", "highest", "mean", "sd", "contrast", "noise")


@pytest.fixture(scope="module")
def source():
    return phantom.cohort(120, size=64)


@pytest.fixture(scope="module")
def other():
    return phantom.cohort(60, size=64, seed=1)


def check(cohort, source, **options):
    return check_input_assumptions(cohort, source, **options).set_index("property")


def test_nothing_of_the_source_is_outside_itself(source):
    report = check(source, source)
    assert (report["n_outside"] == 0).all()
    assert (report["distance"] == 0).all()
    assert report["worst_case"].isna().all()
    assert report["verdict"].isin(["inside", "one value in both", "same"]).all()


def test_other_subjects_of_the_scanner_pass_and_another_scanner_does_not(source, other):
    same = check(other, source)
    assert not same["verdict"].str.contains("OUTSIDE|DIFFERENT").any()
    far = check(phantom.cohort(60, size=64, seed=1, scanner="D"), source)
    assert far.loc["noise", "verdict"] == "OUTSIDE"
    assert far.loc["noise", "share_outside"] > 0.3
    assert far["share_outside"].sum() > 5 * same["share_outside"].sum()


def test_z_scored_means_tell_nothing_and_say_so(source, other):
    report = check(other, source)
    assert report.loc[["mean", "sd"], "verdict"].to_list() == ["one value in both"] * 2


def test_cropped_and_respaced_slices_are_outside_by_a_known_distance(source, other):
    cropped = dataclasses.replace(
        other,
        images=np.ascontiguousarray(other.images[..., 8:-8]),
        labels=np.ascontiguousarray(other.labels[..., 8:-8]),
        spacing_mm=other.spacing_mm * [1.0, 1.5],
    )
    report = check(cropped, source)
    assert report.loc["columns", ["n_outside", "farthest"]].to_list() == [60, 48]
    assert report.loc["columns", "distance"] == pytest.approx(0.25)  # of the only value there is
    assert report.loc["column_spacing", "distance"] == pytest.approx(0.5)
    assert report.loc["column_spacing", "verdict"] == "OUTSIDE: source has one value"
    assert report.loc[["rows", "row_spacing"], "n_outside"].to_list() == [0, 0]


def test_an_image_that_was_not_z_scored_is_found_at_a_finite_distance(source, other):
    images = other.images.copy()
    images[7] = images[7] * 3 + 100
    report = check(dataclasses.replace(other, images=images), source)
    assert np.isfinite(report["distance"]).all()
    assert report.loc["mean", ["worst_case", "n_outside"]].to_list() == [7, 1]
    assert report.loc["mean", "distance"] == pytest.approx(100, rel=1e-5)  # the source's value is 0
    assert report.loc["sd", "farthest"] == pytest.approx(3, rel=1e-5)
    assert report.loc["sharpness", "n_outside"] == check(other, source).loc["sharpness", "n_outside"]


def test_distance_counts_widths_of_the_source_range(source, other):
    known = input_properties(source)["highest"]
    images = other.images.copy()
    images[3, 0, 0, 0] = known.max() + 2 * np.ptp(known)
    report = check(dataclasses.replace(other, images=images), source)
    assert report.loc["highest", "distance"] == pytest.approx(2, rel=1e-5)
    assert report.loc["highest", "worst_case"] == 3


def test_narrower_coverage_leaves_that_share_of_the_source_outside(source):
    report = check(source, source, coverage=0.9)
    assert report.loc["contrast", "n_outside"] == 12
    assert report.loc["contrast", "verdict"] == "OUTSIDE"
    assert check(source, source, coverage=0.9, tolerated=0.1).loc["contrast", "verdict"] == "few outside"


def test_grey_properties_follow_the_unit_of_the_images(other):
    tenfold = input_properties(dataclasses.replace(other, images=10 * other.images))
    plain = input_properties(other)
    for name in GREY:
        assert tenfold[name].to_numpy() == pytest.approx(10 * plain[name].to_numpy(), rel=1e-4, abs=1e-4)
    assert tenfold["sharpness"].to_numpy() == pytest.approx(plain["sharpness"].to_numpy(), rel=1e-4)


def test_noise_is_the_deviation_of_white_noise_and_blind_to_ramps(other):
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(64.0), 3 * np.arange(64.0))
    images = (ramp + rng.normal(0, 0.5, (60, 1, 64, 64))).astype(np.float32)
    found = input_properties(dataclasses.replace(other, images=images))["noise"]
    assert found.mean() == pytest.approx(0.5, rel=0.03)


def test_a_flat_picture_has_no_contrast_and_no_sharpness(other):
    flat = input_properties(dataclasses.replace(other, images=np.zeros_like(other.images)))
    assert (flat[["contrast", "sharpness", "noise"]] == 0).all(axis=None)


def test_labels_do_not_matter_but_their_names_do(source, other):
    blank = dataclasses.replace(other, labels=np.zeros_like(other.labels))
    assert check(blank, source).equals(check(other, source))
    renamed = dataclasses.replace(other, class_names=("background", "left", "right", "wall"))
    report = check(renamed, source)
    assert report.loc["class_names", ["n_outside", "share_outside"]].to_list() == [60, 1]
    assert report.loc["class_names", "verdict"].startswith("DIFFERENT: background, left")


def test_bad_input(source, other):
    for options in ({"coverage": 0}, {"coverage": 1.1}, {"tolerated": 1}, {"tolerated": -0.1}):
        with pytest.raises(
            ValueError, match=r"(coverage must be .* in \(0, 1\]|tolerated must be .* in \[0, 1\)), got"
        ):
            check_input_assumptions(other, source, **options)
    thin = dataclasses.replace(other, images=other.images[:, :, :2].copy(), labels=other.labels[:, :2].copy())
    with pytest.raises(ValueError, match="images must be slices of at least 3 x 3 pixels, got 2 x 64"):
        check_input_assumptions(thin, source)


def test_every_channel_is_measured_and_compared(other):
    images = np.concatenate([other.images, 5 * other.images + 1, other.images], axis=1)
    colours = dataclasses.replace(other, images=images)
    single, several = input_properties(other), input_properties(colours)
    assert list(single) == [*PLACES, *GREY[:-1], "sharpness", "noise"]
    for name in single.columns[len(PLACES) :]:
        assert several[f"{name}, channel 0"].equals(single[name])
        assert several[f"{name}, channel 2"].equals(single[name])
    np.testing.assert_allclose(several["noise, channel 1"], 5 * single["noise"], rtol=1e-4)
    itself = check(colours, colours)
    assert list(itself.index[4:7]) == [f"lowest, channel {k}" for k in range(3)]
    assert (itself["n_outside"] == 0).all()
    alone = check(other, other)
    for name in GREY:
        shown = ["unit", "source_low", "source_high", "verdict"]
        assert itself.loc[f"{name}, channel 0", shown].equals(alone.loc[name, shown])
    images = images.copy()
    images[:, 2] *= 3
    report = check(dataclasses.replace(colours, images=images), colours)
    outside = report.index[report["n_outside"] > 30]
    assert {name.partition(", ")[2] for name in outside} == {"channel 2"}
    assert "noise, channel 2" in outside


def test_cohorts_of_different_channels_are_not_compared(source, other):
    colours = dataclasses.replace(other, images=other.images.repeat(3, axis=1))
    for new, known, numbers in ((colours, source, "1, got 3"), (other, colours, "3, got 1")):
        with pytest.raises(
            ValueError, match=f"cohort must be of the source's number of channels, {numbers};"
        ):
            check_input_assumptions(new, known)
