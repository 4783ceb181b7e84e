"""The description of a folder, and the command that prints it."""

import re
import shutil

import numpy as np
import pytest

from segconf_lite import cli
from segconf_lite.readers import describe_folder, from_folder

QUIET = {"progress": False}


def problems(folder, **how):
    return "\n".join(describe_folder(folder, **how, **QUIET).problems)


def test_a_good_folder_is_described_and_nothing_is_wrong(tmp_path, write):
    report = describe_folder(write.nnunet(tmp_path, ["p1_ED", "p1_ES", "p2_ED"]), **QUIET)
    assert report.problems == ()
    assert report.cases["subject"].tolist() == ["p1", "p1", "p2"]
    assert report.cases[["slices", "size", "spacing_mm", "plane", "labels"]].iloc[0].tolist() == [
        "5",
        "36x40",
        "1x1",
        "axial",
        "0 1",
    ]
    _, drawn = write.ball()
    assert report.labels.to_dict("list") == {
        "value": [0, 1],
        "name": ["background", "ball"],
        "pixels": [3 * int((drawn == 0).sum()), 3 * int(drawn.sum())],
        "cases": [3, 3],
    }
    said = str(report)
    assert "cases: 3, subjects: 2, domains: 1" in said
    assert "3 cases of 2 subjects, whose names end before _ED" in said
    assert said.endswith("Nothing looks wrong.")


def test_what_it_describes_is_what_is_read(tmp_path, write):
    write.bids(tmp_path, raters=("ann", "bob"))
    report = describe_folder(tmp_path, domain="site", **QUIET)
    got = from_folder(tmp_path, domain="site", **QUIET)
    assert report.cases["slices"].astype(int).sum() == len(got)
    assert set(report.cases["subject"]) == set(got.subjects)
    assert set(report.cases["domain"]) == set(got.domains)
    assert report.cases["raters"].tolist() == ["ann bob"] * 2


def test_damaged_and_missing_files_are_told_beside_the_others(tmp_path, write):
    write.nnunet(tmp_path, ["p1", "p2", "p3"])
    (tmp_path / "imagesTr/p2_0000.nii.gz").write_bytes(b"nothing")
    (tmp_path / "imagesTr/p3_0000.nii.gz").unlink()
    report = describe_folder(tmp_path, **QUIET)
    assert len(report.problems) == 2
    assert "p2_0000.nii.gz must be a whole" in report.problems[0]
    assert "p3_0000.nii.gz must be a file" in report.problems[1]
    assert report.cases["size"].tolist() == ["36x40", "", ""]
    assert str(report).count("p2_0000") == 1


def test_values_without_a_name_and_mixed_masks_are_told(tmp_path, write):
    write.pictures(tmp_path, ["a", "b"])
    write.pictures(tmp_path, ["b"], value=1, rows=False)
    assert "masks of 0 and 255 beside masks of 0 and 1: (0, 255) in 1 case (a.png)" in problems(tmp_path)
    names = {0: "background", 255: "square"}
    assert "label values without a name: (0, 1) in 1 case (b.png)" in problems(tmp_path, labels=names)
    report = describe_folder(tmp_path, labels=names | {1: "square"}, **QUIET)
    assert report.problems == ()
    assert any("state no spacing" in note for note in report.notes)


def test_people_in_two_splits_and_images_under_two_names_are_told(tmp_path, write):
    write.nnunet(tmp_path, ["p1_ED", "p2"])
    write.nnunet(tmp_path, ["p1_ES"], end="Ts")
    shutil.copy(tmp_path / "imagesTr/p2_0000.nii.gz", tmp_path / "imagesTs/p1_ES_0000.nii.gz")
    said = problems(tmp_path)
    assert "subject p1 is in the splits test and train" in said
    assert "the images of p2 and p1_ES are equal" in said


def test_planes_and_channels_that_differ_are_told_and_sizes_only_noted(tmp_path, write):
    write.nnunet(tmp_path, ["p1", "p2"])
    image, drawn = write.ball(shape=(36, 8, 30), spacing=(1, 4, 1), centre=(17, 4, 15), seed=5)
    write.nifti(tmp_path / "imagesTr/p2_0000.nii.gz", image, spacing=(1, 4, 1))
    write.nifti(tmp_path / "labelsTr/p2.nii.gz", drawn, spacing=(1, 4, 1))
    report = describe_folder(tmp_path, **QUIET)
    assert report.problems == (
        "plane differs: axial in 1 case (p1), coronal in 1 case (p2); choose one with plane=",
    )
    assert any("size differs" in note for note in report.notes)


def test_images_without_labels_and_cases_without_foreground_are_noted(tmp_path, write):
    write.nnunet(tmp_path, ["p1", "p2"])
    (tmp_path / "labelsTr/p2.nii.gz").unlink()
    _, drawn = write.ball()
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", np.zeros_like(drawn))
    notes = "\n".join(describe_folder(tmp_path, **QUIET).notes)
    assert "1 image files without a label file, e.g. p2_0000.nii.gz" in notes
    assert "no foreground" in notes


def test_limit_opens_a_few_of_each_domain(tmp_path, write):
    write.nnunet(tmp_path, ["a1", "a2", "a3", "b3"])
    report = describe_folder(tmp_path, limit=2, domain=re.compile(r"/(.)\d"), **QUIET)
    assert report.cases["case"].tolist() == ["a1", "a2", "b3"]


# -- the command --------------------------------------------------------------------------------------------


def test_the_command_prints_the_report_and_exits_with_zero(tmp_path, write, capsys):
    write.pictures(tmp_path)
    words = ["cohort", str(tmp_path), "--labels", "0=background,255=square", "--domain", r"(\w)\.png"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "cases: 2, subjects: 2, domains: 2" in said
    assert "square" in said
    assert "Nothing looks wrong." in said


def test_the_command_exits_with_two_if_something_looks_wrong(tmp_path, write, capsys):
    write.nnunet(tmp_path, ["p1", "p2"])
    (tmp_path / "imagesTr/p2_0000.nii.gz").unlink()
    assert cli.main(["cohort", str(tmp_path)]) == 2
    caught = capsys.readouterr()
    assert "What looks wrong" in caught.out
    assert caught.err == "segconf cohort: problems found: 1, see the end of the report\n"


@pytest.mark.parametrize(
    "words",
    [
        ["no/such/folder"],
        ["."],
        [".", "--layout", "dicom"],
        [".", "--labels", "background"],
        [".", "--domain", "("],
        [".", "--limit", "0"],
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cohort", *words]) == 2
    message = capsys.readouterr().err
    assert message.startswith("segconf cohort: ")
    assert message.count("\n") == 1
