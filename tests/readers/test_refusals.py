"""Folders that say too little, or two things at once: each is refused with what to change."""

import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from segconf_lite.readers import from_folder

BALLS = {"size": 24, "spacing_mm": 1.5, "progress": False}
PICTURES = {"spacing_mm": 1.0, "size": 16, "unstated_spacing_mm": 1.0, "progress": False}
PICTURES |= {"labels": {0: "background", 255: "square"}}


def test_the_root_of_a_folder_is_a_path(tmp_path, write):
    with pytest.raises(ValueError, match="root must be a path, got 3"):
        from_folder(3)
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "ball": 1}}')
    with pytest.raises(ValueError, match="images and their labels"):
        from_folder(tmp_path, **BALLS)


def test_a_bids_suffix_that_no_file_has_is_refused_with_those_that_are_there(tmp_path, write):
    with pytest.raises(ValueError, match=r"label_suffix in .* must be one of \['T1w', 'dseg'\], got 'seg'"):
        from_folder(write.bids(tmp_path), label_suffix="seg", **BALLS)


def test_a_bids_domain_needs_the_table_of_participants_with_everybody_in_it(tmp_path, write):
    root = write.bids(tmp_path)
    rows = (root / "participants.tsv").read_text().splitlines()
    (root / "participants.tsv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"a row for every folder sub-\*.*sub-02"):
        from_folder(root, domain="site", **BALLS)
    (root / "participants.tsv").unlink()
    with pytest.raises(ValueError, match=r"without participants\.tsv"):
        from_folder(root, domain="site", **BALLS)


def test_bids_tables_of_names_that_disagree_are_refused(tmp_path, write):
    root = write.bids(tmp_path)
    (root / "derivatives/other_dseg.tsv").write_text("index\tname\n1\tcube\n")
    with pytest.raises(ValueError, match="in all tables"):
        from_folder(root, **BALLS)


def test_a_bids_subject_can_come_from_the_path(tmp_path, write):
    found = from_folder(write.bids(tmp_path), subject=re.compile(r"sub-(\d+)"), **BALLS)
    assert set(found.subjects) == {"01", "02"}


def test_nnunet_has_no_columns_and_one_file_a_case(tmp_path, write):
    root = write.nnunet(tmp_path)
    with pytest.raises(ValueError, match="nnU-Net has no columns"):
        from_folder(root, domain="site", **BALLS)
    _, drawn = write.ball()
    write.nifti(root / "labelsTr" / "P1.nii.gz", drawn)
    with pytest.raises(ValueError, match="the only file of its case"):
        from_folder(root, **BALLS)


def test_two_tables_and_no_table_are_refused(tmp_path, write):
    write.pictures(tmp_path)
    write.table(tmp_path, ["a.png,a_mask.png,p1"], "image,label,subject", name="more.csv")
    with pytest.raises(ValueError, match=r"more\.csv.*give the path of one"):
        from_folder(tmp_path, layout="table", **PICTURES)
    with pytest.raises(ValueError, match="root must be a folder with"):
        from_folder(tmp_path / "a.png", layout="table", **PICTURES)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "files.csv"
    path.write_bytes("image,label,subject\nä.png,b.png,p\n".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as CSV in UTF-8"):
        from_folder(path, layout="table", **PICTURES)


def test_the_subject_of_a_row_can_come_from_its_file(tmp_path, write):
    write.pictures(tmp_path)
    found = from_folder(tmp_path / "files.csv", subject=lambda path: f"person {path[0]}", **PICTURES)
    assert set(found.subjects) == {"person a", "person b"}
    with pytest.raises(ValueError, match="vendor"):
        from_folder(tmp_path / "files.csv", domain="vendor", **PICTURES)


def test_labels_in_colours_and_images_in_several_series_are_refused(tmp_path, write):
    write.pictures(tmp_path)
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(np.zeros((20, 24), np.uint8))
        file.write(np.ones((9, 9), np.uint8))
    write.table(tmp_path, ["two.tif,a_mask.png,p1,A"], name="two.csv")
    with pytest.raises(ValueError, match="one series with at most one axis of slices"):
        from_folder(tmp_path / "two.csv", **PICTURES)
    pages = [Image.fromarray(np.full((20, 24), value, np.uint8)) for value in (0, 255)]
    pages[0].save(tmp_path / "film.png", save_all=True, append_images=pages[1:])
    write.table(tmp_path, ["film.png,a_mask.png,p1,A"], name="film.csv")
    with pytest.raises(ValueError, match="one page of a mode in"):
        from_folder(tmp_path / "film.csv", **PICTURES)
    np.savez(tmp_path / "rgb.npz", labels=np.zeros((3, 1, 20, 24), np.uint8))
    write.table(tmp_path, ["a.png,rgb.npz,p1,A"], name="rgb.csv")
    with pytest.raises(ValueError, match="labels"):
        from_folder(tmp_path / "rgb.csv", **PICTURES)


def test_an_image_without_contrast_is_refused(tmp_path, write):
    write.pictures(tmp_path)
    write.png(tmp_path / "flat.png", np.full((20, 24), 7, np.uint8))
    write.table(tmp_path, ["flat.png,a_mask.png,p1,A"], name="flat.csv")
    with pytest.raises(ValueError, match="one constant value in channel 0"):
        from_folder(tmp_path / "flat.csv", **PICTURES)
