"""What becomes a cohort and what is refused: layouts, names, label values, raters, channels, damage."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest

from segconf_lite.readers import DamagedCaseError, from_folder

NAMES = {0: "background", 255: "square"}
PICTURES = {"labels": NAMES, "unstated_spacing_mm": 0.5, "progress": False}
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def _no_unexpected_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# -- layouts and names --------------------------------------------------------------------------------------


def test_nnunet_gives_cases_in_order_with_the_names_of_its_json(tmp_path, write):
    got = from_folder(write.nnunet(tmp_path, ["p2", "p1"]), **QUIET)
    assert got.sessions.tolist() == ["p1"] * 5 + ["p2"] * 5
    assert got.class_names == ("background", "ball")
    assert got.domain_names == ("Balls",)
    assert got.images.shape == (10, 1, 36, 40)
    assert np.allclose(got.images.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(got.images.std(axis=(1, 2, 3)), 1, atol=1e-5)
    assert got.raters is None


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "ball"}, {"background": 0, "ball": 1, "ignore": 2}]
)
def test_both_versions_of_the_json_are_read(tmp_path, write, labels):
    got = from_folder(write.nnunet(tmp_path, ["p1"], labels=labels), **QUIET)
    assert got.class_names == ("background", "ball")


def test_regions_of_nnunet_are_refused(tmp_path, write):
    write.nnunet(tmp_path, ["p1"], labels={"background": 0, "whole": [1, 2]})
    with pytest.raises(ValueError, match=r"integers with names, got 'whole': .*pass labels="):
        from_folder(tmp_path, **QUIET)


def test_phases_of_one_heart_are_one_subject(tmp_path, write):
    write.nnunet(tmp_path, ["001_SA_ED", "001_SA_es", "p2_frame01", "p2_frame12", "p3"])
    got = from_folder(tmp_path, slices="labelled", **QUIET)
    assert set(got.subjects) == {"001_SA", "p2", "p3"}
    assert len(set(got.sessions)) == 5
    train, test = got.split((0.5, 0.5))
    assert not set(train.subjects) & set(test.subjects)


def test_capital_letters_and_hidden_files_do_not_matter(tmp_path, write):
    write.nnunet(tmp_path, ["Case_01"])
    for old, new in (("imagesTr", "ImagesTr"), ("labelsTr", "LABELSTR")):
        (tmp_path / old).rename(tmp_path / new)
    (tmp_path / "ImagesTr/Case_01_0000.nii.gz").rename(tmp_path / "ImagesTr/CASE_01_0000.NII.GZ")
    (tmp_path / "LABELSTR/._Case_01.nii.gz").write_bytes(b"a fork of a Mac")
    assert set(from_folder(tmp_path, **QUIET).subjects) == {"Case_01"}


def test_the_decathlon_has_one_file_per_image(tmp_path, write):
    write.nnunet(tmp_path, ["la_003"])
    (tmp_path / "imagesTr/la_003_0000.nii.gz").rename(tmp_path / "imagesTr/la_003.nii.gz")
    assert set(from_folder(tmp_path, **QUIET).subjects) == {"la_003"}


def test_bids_reads_sessions_raters_domains_and_names(tmp_path, write):
    write.bids(tmp_path, sessions=("1", "2"), raters=("ann", "bob"))
    got = from_folder(tmp_path, domain="site", **QUIET)
    assert set(got.subjects) == {"sub-01", "sub-02"}
    assert set(got.sessions) == {f"sub-0{s}_ses-{k}_T1w" for s in (1, 2) for k in (1, 2)}
    assert got.domain_names == ("south", "north")
    assert got.class_names == ("background", "ball")
    assert got.raters.shape == (20, 2, 36, 40)
    assert np.array_equal(got.raters[:, 0], got.labels)


def test_bids_sequences_are_channels(tmp_path, write):
    write.bids(tmp_path, suffixes=("T1w", "FLAIR"))
    with pytest.raises(ValueError, match=r"suffixes out of \['FLAIR', 'T1w'\]"):
        from_folder(tmp_path, **QUIET)
    got = from_folder(tmp_path, channels=("T1w", "FLAIR"), normalise=None, **QUIET)
    assert got.images.shape == (10, 2, 36, 40)
    assert np.allclose(got.images[:, 1], 2 * got.images[:, 0])
    (tmp_path / "sub-02/anat/sub-02_FLAIR.nii.gz").unlink()
    with pytest.raises(DamagedCaseError, match=r"sub-02_FLAIR.nii.gz must be a file, got none"):
        from_folder(tmp_path, channels=("T1w", "FLAIR"), **QUIET)


def test_two_segmentations_of_one_rater_or_of_two_images_are_refused(tmp_path, write):
    write.bids(tmp_path)
    folder = tmp_path / "derivatives/manual/sub-01/anat"
    shutil.copy(folder / "sub-01_dseg.nii.gz", folder / "sub-01_space-orig_dseg.nii.gz")
    with pytest.raises(ValueError, match="the only one of its rater"):
        from_folder(tmp_path, **QUIET)
    (folder / "sub-01_space-orig_dseg.nii.gz").unlink()
    anat = tmp_path / "sub-01/anat"
    shutil.copy(anat / "sub-01_T1w.nii.gz", anat / "sub-01_run-2_T1w.nii.gz")
    with pytest.raises(ValueError, match="the segmentation of one image"):
        from_folder(tmp_path, **QUIET)


def test_a_table_names_files_subjects_and_domains(tmp_path, write):
    got = from_folder(write.pictures(tmp_path), **PICTURES)
    assert got.subjects.tolist() == ["subject a", "subject b"]
    assert got.domains.tolist() == ["scanner a", "scanner b"]
    assert got.class_names == ("background", "square")
    assert np.allclose(got.spacing_mm, 0.5)
    assert got.labels.sum(axis=(1, 2)).tolist() == [30, 30]
    assert from_folder(tmp_path / "files.csv", **PICTURES).fingerprint() == got.fingerprint()


def test_columns_of_a_table_may_have_capital_letters_and_paths_be_those_of_windows(tmp_path, write):
    write.pictures(tmp_path / "in", rows=False)
    rows = ["in\\a.png, in\\a_mask.png ,p1,0.25"]
    write.table(tmp_path, rows, columns="Image,LABEL,Subject,spacing_mm")
    got = from_folder(tmp_path, labels=NAMES, **QUIET)
    assert np.allclose(got.spacing_mm, 0.25)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (["a.png,a_mask.png"], "image,label", "none called .*subject"),
        (["a.png,a_mask.png,"], "image,label,subject", "subject in .* an empty cell in row 2"),
        (["a.png,a_mask.png,p1", "a.png,b_mask.png,p1"], "image,label,subject", "one row per rater"),
        (
            ["a.png,a_mask.png,p1,x", "a.png,b_mask.png,p2,y"],
            "image,label,subject,rater",
            "of one subject, got",
        ),
        (["a.png,,p1"], "image,label,subject", "segmented by a rater"),
        (["a.png;b.png,a_mask.png,p1,0"], "image,label,subject,spacing_mm", "> 0"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(tmp_path, write, rows, columns, message):
    write.pictures(tmp_path, rows=False)
    write.table(tmp_path, rows, columns)
    with pytest.raises(ValueError, match=message):
        from_folder(tmp_path / "files.csv", layout="table", **PICTURES)


def test_a_wrong_root_says_what_was_looked_for_and_what_was_found(tmp_path, write):
    write.nnunet(tmp_path / "Task01")
    (tmp_path / "notes.txt").write_text("")
    message = (
        r"labelsTr \(nnunet\); sub-.*\(bids\); one CSV .*got .*Task01, notes.txt in it; .*Task01 looks like"
    )
    with pytest.raises(ValueError, match=message):
        from_folder(tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"got the file .*notes.txt"):
        from_folder(tmp_path / "notes.txt", **QUIET)
    with pytest.raises(ValueError, match="it does not exist"):
        from_folder(tmp_path / "nothing", **QUIET)
    with pytest.raises(ValueError, match=r"sub-.*\(bids\), got"):
        from_folder(tmp_path / "Task01", layout="bids", **QUIET)


def test_names_come_from_patterns_and_functions_of_the_path(tmp_path, write):
    write.nnunet(tmp_path, ["siteA_p1_x", "siteB_p1_y"])
    got = from_folder(
        tmp_path,
        domain=re.compile(r"(site.)_"),
        subject=lambda path: path.split("/")[1].rsplit("_", 2)[0],
        **QUIET,
    )
    assert got.domain_names == ("siteA", "siteB")
    assert set(got.subjects) == {"siteA_p1", "siteB_p1"}
    with pytest.raises(ValueError, match="a pattern that is found in every path"):
        from_folder(tmp_path, domain=re.compile("scanner"), **QUIET)
    with pytest.raises(ValueError, match="compiled pattern or a function"):
        from_folder(tmp_path, subject="p1", **QUIET)


def test_a_subject_in_two_splits_is_refused_even_if_one_is_read(tmp_path, write):
    write.nnunet(tmp_path, ["p1_ED", "p2_ED"])
    write.nnunet(tmp_path, ["p1_ES"], end="Ts")
    with pytest.raises(ValueError, match="subject p1 is in the splits test and train"):
        from_folder(tmp_path, split="train", **QUIET)
    (tmp_path / "imagesTs/p1_ES_0000.nii.gz").rename(tmp_path / "imagesTs/p3_ES_0000.nii.gz")
    (tmp_path / "labelsTs/p1_ES.nii.gz").rename(tmp_path / "labelsTs/p3_ES.nii.gz")
    assert set(from_folder(tmp_path, split="test", **QUIET).subjects) == {"p3"}
    with pytest.raises(ValueError, match=r"split must be one of \('test', 'train', None\)"):
        from_folder(tmp_path, split="Train", **QUIET)


def test_subjects_that_differ_in_capital_letters_are_refused(tmp_path, write):
    write.pictures(tmp_path, rows=False)
    write.table(tmp_path, ["a.png,a_mask.png,p1,A", "b.png,b_mask.png,P1,A"])
    with pytest.raises(ValueError, match="subjects P1 and p1 differ in capital letters only"):
        from_folder(tmp_path, **PICTURES)


def test_limit_counts_cases_of_each_domain(tmp_path, write):
    write.nnunet(tmp_path, ["A1", "A2", "A3", "B1"])
    got = from_folder(tmp_path, domain=re.compile(r"/(.)\d"), limit=2, **QUIET)
    assert sorted(set(got.sessions)) == ["A1", "A2", "B1"]


# -- label values -------------------------------------------------------------------------------------------


def test_labels_without_names_are_refused_with_what_to_write(tmp_path, write):
    write.nnunet(tmp_path, ["p1"], described=False)
    with pytest.raises(ValueError, match=r"for example labels=\{0: 'background', 1: 'class 1'\}"):
        from_folder(tmp_path, **QUIET)


def test_mixed_conventions_are_refused_with_the_names_of_the_cases(tmp_path, write):
    write.pictures(tmp_path, ["a", "b", "c"])
    write.pictures(tmp_path, ["c"], value=1, rows=False)
    message = r"got \(0, 1\) in 1 case \(c.png\), beside \(0, 255\) in 2 cases \(a.png, b.png\)"
    with pytest.raises(ValueError, match=message):
        from_folder(tmp_path, **PICTURES)
    got = from_folder(tmp_path, **{**PICTURES, "labels": NAMES | {1: "square"}})
    assert got.labels.max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_labels_of_any_type_are_read_if_they_are_whole(tmp_path, write, dtype):
    expected = from_folder(write.nnunet(tmp_path, ["p1"]), **QUIET)
    _, drawn = write.ball()
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn.astype(dtype))
    assert np.array_equal(from_folder(tmp_path, **QUIET).labels, expected.labels)
    if dtype != np.int16:
        write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn.astype(dtype) * 0.7)
        with pytest.raises(DamagedCaseError, match=r"p1.nii.gz must be integers, got 2 values such as"):
            from_folder(tmp_path, **QUIET)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "a mapping of integers to names"),
        ({0: "background"}, "at least two classes"),
        ({0.5: "half", 1: "one"}, "must be an integer, got 0.5"),
        ({0: "background", 255: ""}, "none missing"),
        ("square", "a mapping of integers to names"),
    ],
)
def test_bad_names_of_labels_are_refused(tmp_path, write, labels, message):
    with pytest.raises(ValueError, match=message):
        from_folder(write.pictures(tmp_path), **{**PICTURES, "labels": labels})


def test_masks_of_one_bit_are_zeros_and_ones(tmp_path, write):
    expected = from_folder(write.pictures(tmp_path, ["a"]), **PICTURES)
    write.png(tmp_path / "a_mask.png", expected.labels[0] > 0)
    got = from_folder(tmp_path, **{**PICTURES, "labels": {0: "background", 1: "square"}})
    assert np.array_equal(got.labels, expected.labels)


def test_palettes_are_labels_and_colours_are_not(tmp_path, write):
    from PIL import Image

    expected = from_folder(write.pictures(tmp_path, ["a"]), **PICTURES)
    path = tmp_path / "a_mask.png"
    grey = np.asarray(Image.open(path))
    palette = Image.fromarray((grey > 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 200, 30, 30])
    palette.save(path)
    got = from_folder(tmp_path, **{**PICTURES, "labels": {0: "background", 1: "square"}})
    assert np.array_equal(got.labels, expected.labels)
    write.png(path, np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(from_folder(tmp_path, **PICTURES).labels, expected.labels)
    palette.convert("RGB").save(path)
    with pytest.raises(DamagedCaseError, match="one number per pixel, got 3 different colour channels"):
        from_folder(tmp_path, **PICTURES)


# -- raters and channels ------------------------------------------------------------------------------------


def test_a_rater_who_is_missing_is_minus_one(tmp_path, write):
    write.pictures(tmp_path, ["a", "b"], rows=False)
    rows = ["a.png,a_mask.png,p1,bob", "a.png,b_mask.png,p1,ann", "b.png,b_mask.png,p2,bob", "b.png,,p2,ann"]
    write.table(tmp_path, rows, "image,label,subject,rater")
    got = from_folder(tmp_path, reference="bob", **PICTURES)
    assert got.raters.shape == (2, 2, 20, 24)  # ann, bob
    assert (got.raters[1, 0] == -1).all()
    assert (got.raters[0] >= 0).all()
    assert np.array_equal(got.raters[:, 1], got.labels)
    with pytest.raises(DamagedCaseError, match=r"by the reference rater 'ann', got no label.*'bob'"):
        from_folder(tmp_path, **PICTURES)
    with pytest.raises(ValueError, match=r"reference must be one of \('ann', 'bob', None\)"):
        from_folder(tmp_path, reference="eve", **PICTURES)


def test_colours_and_sequences_are_channels(tmp_path, write):
    write.pictures(tmp_path / "rgb", colours=True)
    assert from_folder(tmp_path / "rgb", **PICTURES).images.shape == (2, 3, 20, 24)
    green = from_folder(tmp_path / "rgb", channels=[1], **PICTURES)
    assert np.array_equal(green.images[:, 0], from_folder(tmp_path / "rgb", **PICTURES).images[:, 1])
    got = from_folder(write.nnunet(tmp_path / "two", channels=2), size=32, spacing_mm=1.1, **QUIET)
    assert got.images.shape == (10, 2, 32, 32)
    with pytest.raises(DamagedCaseError, match="an image with channel 5, got 2 channels"):
        from_folder(tmp_path / "two", channels=[5], **QUIET)
    (tmp_path / "two/imagesTr/p2_0000.nii.gz").unlink()
    with pytest.raises(DamagedCaseError, match=r"p2_0000.nii.gz must be a file"):
        from_folder(tmp_path / "two", **QUIET)


def test_different_numbers_of_channels_are_refused(tmp_path, write):
    write.pictures(tmp_path, ["a", "b"])
    write.pictures(tmp_path, ["b"], colours=True, rows=False)
    with pytest.raises(ValueError, match=r"one number of channels, got 1 in 1 case \(a.png\), 3 in 1 case"):
        from_folder(tmp_path, **PICTURES)


def test_four_axes_of_a_nifti_are_channels(tmp_path, write):
    image, _ = write.ball()
    write.nnunet(tmp_path, ["p1"])
    write.nifti(tmp_path / "imagesTr/p1_0000.nii.gz", np.stack([image, 3 * image], axis=-1), axes="RAS")
    got = from_folder(tmp_path, normalise=None, **QUIET)
    assert np.allclose(got.images[:, 1], 3 * got.images[:, 0])


# -- intensities --------------------------------------------------------------------------------------------


def test_source_statistics_come_from_the_source_alone(tmp_path, write):
    write.nnunet(tmp_path, ["A1", "B1"])
    raw = from_folder(tmp_path, domain=re.compile(r"/(.)\d"), normalise=None, **QUIET)
    got = from_folder(tmp_path, domain=re.compile(r"/(.)\d"), normalise="source", source="A", **QUIET)
    own = got.where(domain="A").images
    assert abs(own.mean()) < 1e-5
    assert abs(own.std() - 1) < 1e-5
    known = raw.where(domain="A").images
    assert np.allclose(got.images, (raw.images - known.mean()) / known.std(), atol=1e-4)
    with pytest.raises(ValueError, match="source must be one of"):
        from_folder(tmp_path, normalise="source", source="A", **QUIET)
    for wrong in ({"normalise": "source"}, {"source": "A"}):
        with pytest.raises(ValueError, match="if and only if normalise='source'"):
            from_folder(tmp_path, **wrong, **QUIET)


def test_slices_without_contrast_are_left_out_and_counted(tmp_path, write):
    write.nnunet(tmp_path, ["p1"])
    image, drawn = write.ball()
    image[..., -1] = drawn[..., -1] = 0
    write.nifti(tmp_path / "imagesTr/p1_0000.nii.gz", image)
    with pytest.raises(DamagedCaseError, match="slice 4 with labels where its image is constant"):
        from_folder(tmp_path, **QUIET)
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn)
    with pytest.warns(UserWarning, match=r"without contrast are left out, 1 of 5 \(in 1 case\)"):
        assert len(from_folder(tmp_path, **QUIET)) == 4
    write.nifti(tmp_path / "imagesTr/p1_0000.nii.gz", np.full_like(image, 7))
    with pytest.raises(DamagedCaseError, match="must be an image, got one constant value in channel 0"):
        from_folder(tmp_path, **QUIET)


def test_sizes_that_differ_are_refused_with_what_to_give(tmp_path, write):
    write.pictures(tmp_path, ["a", "b"])
    write.pictures(tmp_path, ["b"], size=(30, 30), rows=False)
    with pytest.raises(ValueError, match=r"one size, got 20 x 24 pixels in 1 case \(a.png\), .*give size="):
        from_folder(tmp_path, **PICTURES)
    assert from_folder(tmp_path, size=26, **PICTURES).images.shape == (2, 1, 26, 26)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be an integer in"),
        ({"spacing_mm": 1.0}, "size must be given with spacing_mm"),
        ({"spacing_mm": 0, "size": 8}, "spacing_mm must be a number in"),
        ({"plane": "oblique"}, "plane must be one of"),
        ({"slices": "some"}, "slices must be one of"),
        ({"normalise": "domain"}, "normalise must be one of"),
        ({"layout": "dicom"}, "layout must be one of"),
        ({"limit": 0}, "limit must be"),
        ({"channels": "T1w"}, "channels must be a list"),
        ({"channels": ["T1w"]}, "suffixes are for BIDS"),
        ({"unstated_spacing_mm": None}, "the spacing of a.png must be stated by its file"),
    ],
)
def test_bad_settings_are_refused(tmp_path, write, settings, message):
    with pytest.raises(ValueError, match=message):
        from_folder(write.pictures(tmp_path), **{**PICTURES, **settings})


def test_equal_folders_give_equal_bytes_and_files_are_not_changed(tmp_path, write):
    write.nnunet(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    one, other = (from_folder(tmp_path, size=32, spacing_mm=0.9, **QUIET) for _ in range(2))
    assert one.fingerprint() == other.fingerprint()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_damaged_files_are_left_out_only_when_asked_and_counted(tmp_path, write):
    write.nnunet(tmp_path, ["p1", "p2", "p3"])
    content = (tmp_path / "imagesTr/p2_0000.nii.gz").read_bytes()
    (tmp_path / "imagesTr/p2_0000.nii.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "imagesTr/p3_0000.nii.gz").unlink()
    with pytest.raises(DamagedCaseError, match=r"p2_0000.nii.gz must be a whole .gz file, got EOFError"):
        from_folder(tmp_path, **QUIET)
    with pytest.warns(UserWarning, match=r"2 of 3 cases are left out as damaged: .*p2_0000.*p3_0000"):
        got = from_folder(tmp_path, skip_damaged=True, **QUIET)
    assert set(got.subjects) == {"p1"}


def test_json_that_is_none_is_refused(tmp_path, write):
    write.nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset.json must be JSON"):
        from_folder(tmp_path, **QUIET)
    (tmp_path / "dataset.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="must be a JSON object"):
        from_folder(tmp_path, **QUIET)
