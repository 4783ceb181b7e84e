"""Laws of the reader: every layout gives the same case, and what does not fit is refused with a reason."""

import json
import re
import shutil

import numpy as np
import pytest

from segconf_lite.predictions import from_predictions
from segconf_lite.readers import DamagedCaseError

from .conftest import SPACING, describe, labels_of, probabilities_of, save_case, save_volume


def test_nnunet_v2_is_read_with_names_people_and_spacing(folder, tmp_path):
    found = from_predictions(folder)
    case = found.read("b_ED")
    assert [each.subject for each in found.cases] == ["a", "a", "b"]
    assert found.class_names == ("background", "ring", "core")
    assert case.spacing_mm == SPACING
    assert (case.labels == labels_of(2)).all()
    assert case.samples[0] == pytest.approx(probabilities_of(labels_of(2), 0.8))
    assert case.notes == ()
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("axes", ["RAS", "ASL", "PIR"])
@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIOWithReorient"])
def test_axes_of_the_file_and_of_the_reader_change_nothing(tmp_path, axes, reader):
    labels = labels_of()
    chances = probabilities_of(labels)
    chances[:, 0, 3, 4] = 0.2, 0.2, 0.6  # a mark, so that a mirrored array would be noticed
    describe(tmp_path, reader=reader)
    save_case(tmp_path, "one", chances.argmax(0), chances, axes)
    if reader == "NibabelIOWithReorient":  # whose arrays lie on the axes right, front, head
        np.savez(tmp_path / "one.npz", probabilities=chances[:, :, ::-1, ::-1])
    case = from_predictions(tmp_path).read("one")
    assert case.notes == ()
    assert case.spacing_mm == SPACING
    assert case.samples[0] == pytest.approx(chances)
    assert (case.labels == chances.argmax(0)).all()


def test_niftis_with_four_axes_or_one_per_class_hold_the_same(folder, tmp_path):
    chances = probabilities_of(labels_of(), 0.95)
    layouts = {
        "beside": {"a_ED.nii.gz": labels_of(), "a_ED_probabilities.nii.gz": chances},
        "per_class": {f"a_ED_prob_{k}.nii.gz": chance for k, chance in enumerate(chances)},
        "alone": {"a_ED.nii.gz": chances},
    }
    expected = from_predictions(folder).read("a_ED")
    for name, files in layouts.items():
        for file, values in files.items():
            save_volume(tmp_path / name / file, values, "RAS")
        case = from_predictions(tmp_path / name).read("a_ED")
        assert case.samples == pytest.approx(expected.samples), name
        assert (case.labels == expected.labels).all(), name
        assert case.spacing_mm == SPACING, name


def test_probabilities_are_in_the_order_of_label_values_not_of_names(folder):
    described = json.loads((folder / "dataset.json").read_text())
    described["labels"] = {"background": 0, "core": 2, "ring": 1}
    (folder / "dataset.json").write_text(json.dumps(described))
    found = from_predictions(folder)
    assert found.read("a_ED").notes == ()
    assert found.class_names == ("background", "ring", "core")


def test_half_precision_and_zeros_outside_of_the_crop_are_read(tmp_path):
    chances = probabilities_of(labels_of(), 0.9)
    chances[:, :, :2] = 0
    save_case(tmp_path, "one", labels_of(), chances, dtype=np.float16)
    case = from_predictions(tmp_path).read("one")
    assert (case.samples[0, 0, :, :2] == 1).all()
    assert "outside of nnU-Net's crop" in case.notes[0]


@pytest.mark.parametrize("as_list", [True, False])
def test_folds_become_members_and_their_mean_decides(tmp_path, as_list):
    labels = labels_of()
    for fold, sure in enumerate((0.9, 0.5, 0.6)):
        save_case(
            tmp_path / f"fold_{fold}",
            "one",
            np.roll(labels, fold, 2),
            probabilities_of(np.roll(labels, fold, 2), sure),
        )
    folders = [tmp_path / f"fold_{fold}" for fold in range(3)] if as_list else tmp_path
    case = from_predictions(folders).read("one")
    assert case.samples.shape == (3, 3, *labels.shape)
    assert (case.labels == case.samples.mean(axis=0).argmax(axis=0)).all()


def test_images_and_references_lie_on_the_prediction(folder, tmp_path):
    save_volume(tmp_path / "images/a_ED_0000.nii.gz", 100.0 * labels_of(), "RAS")
    save_volume(tmp_path / "images/a_ED_0001.nii.gz", 7.0 * labels_of())
    save_volume(tmp_path / "labels/a_ED.nii.gz", labels_of(), "PIR")
    found = from_predictions(folder, images=tmp_path / "images", references=tmp_path / "labels")
    case = found.read("a_ED")
    assert (case.image == 100 * labels_of()).all()
    assert (case.reference == labels_of()).all()
    assert found.read("b_ED").image is None


# -- what does not fit ---------------------------------------------------------------------------------------


def test_a_wrong_root_says_what_was_looked_for_and_found(folder):
    with pytest.raises(
        ValueError,
        match=r"folders must be a folder with predictions \(CASE.nii.gz .*, got .* with "
        rf"predictions in it; {re.escape(str(folder))} looks like one",
    ):
        from_predictions(folder.parent)
    with pytest.raises(ValueError, match="there is no such folder"):
        from_predictions(folder / "nothing")
    with pytest.raises(
        ValueError, match=r"images must be a folder with files of the cases, such as a_ED.nii.gz, got"
    ):
        from_predictions(folder, images=folder.parent)


def test_members_with_other_cases_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other/a_ES.npz").unlink()
    (tmp_path / "other/a_ES.nii.gz").unlink()
    with pytest.raises(
        ValueError, match=r"members must be predictions of the same cases, .* has a_ES \(1 cases\)"
    ):
        from_predictions([folder, tmp_path / "other"])


def without_array(folder):
    np.savez(folder / "a_ED.npz", softmax=np.full((3, 4, 12, 14), 1 / 3, np.float32))


def logits(folder):
    np.savez(folder / "a_ED.npz", probabilities=5 * probabilities_of(labels_of()))


def sigmoids(folder):
    np.savez(folder / "a_ED.npz", probabilities=np.full((3, 4, 12, 14), 0.9, np.float32))


def other_grid(folder):
    save_volume(folder / "a_ED.nii.gz", labels_of()[:, :-1])


def cut_short(folder):
    content = (folder / "a_ED.npz").read_bytes()
    (folder / "a_ED.npz").write_bytes(content[: len(content) // 2])


def two_classes(folder):
    np.savez(folder / "a_ED.npz", probabilities=np.full((2, 4, 12, 14), 0.5, np.float32))


def unnamed_value(folder):
    save_volume(folder / "a_ED.nii.gz", 3 * labels_of())


def no_probabilities(folder):
    (folder / "a_ED.npz").unlink()


FAULTS = {
    without_array: r"a_ED.npz must be with an array named 'probabilities', got arrays \['softmax'\]",
    logits: r"a_ED.npz must be probabilities that sum to 1 over the classes, got sums up to 4 away",
    sigmoids: r"sums up to 1.7 away from 1 .*sigmoid outputs of regions",
    other_grid: r"a_ED.nii.gz must be on the grid of its probabilities \(14 x 12 x 4 .*, got 14 x 11 x 4",
    cut_short: r"a_ED.npz must be a whole .npz file",
    two_classes: r"a_ED.npz must be probabilities of 3 classes \(background, ring, core\), got 2",
    unnamed_value: r"a_ED.nii.gz must be of the label values \(0, 1, 2\), got \(3, 6\)",
    no_probabilities: r"a_ED.nii.gz must be beside a file of its probabilities, .*--save_probabilities",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_case_is_refused_and_left_out_only_when_asked(folder, fault):
    fault(folder)
    with pytest.raises(DamagedCaseError, match=FAULTS[fault]):
        list(from_predictions(folder))
    found = from_predictions(folder, skip_damaged=True)
    with pytest.warns(UserWarning, match="1 of 3 cases are left out as damaged: "):
        assert [case.name for case in found] == ["a_ES", "b_ED"]
    assert list(found.skipped) == ["a_ED"]


def test_a_reference_on_another_grid_is_refused(folder, tmp_path):
    save_volume(tmp_path / "labels/a_ED.nii.gz", labels_of()[1:])
    with pytest.raises(DamagedCaseError, match="on the grid of its prediction"):
        from_predictions(folder, references=tmp_path / "labels").read("a_ED")


def test_a_segmentation_that_contradicts_its_probabilities_is_told_and_counted(folder):
    drawn = labels_of()
    drawn[0, 0, :3] = 2
    save_volume(folder / "a_ED.nii.gz", drawn)
    case = from_predictions(folder).read("a_ED")
    assert case.notes == ("the stored segmentation differs from the most probable class at 3 voxels (0.45%)",)
    assert (case.labels == drawn).all()
