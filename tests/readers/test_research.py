"""Readers of prostates, brains, retinas and the Decathlon, and recipes for two more, on miniatures."""

import inspect
import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segconf_lite import own
from segconf_lite.readers import brains, decathlon, from_folder, prostate, refuge

PART = {"progress": False, "whole": False}
SMALL = {"size": 40, "spacing_mm": 1.0, **PART}
SITES = ("RUNMC", "BMC", "I2CVB", "UCL", "BIDMC", "HK")


def write_prostate(root, write, n_cases=2):
    """Each site counts from Case00; BMC has a capital S; RUNMC draws two zones; voxels are 1 x 1 x 4 mm."""
    for site in SITES:
        for number in range(n_cases):
            image, labels = write.ball(seed=number)
            if site == "RUNMC":
                labels[:18][labels[:18] > 0] = 2
            end = "_Segmentation" if site == "BMC" else "_segmentation"
            write.nifti(root / site / f"Case{number:02d}.nii.gz", image)
            write.nifti(root / site / f"Case{number:02d}{end}.nii.gz", labels)
    return root


def write_brains(root, write, domains=("GE_15", "Philips_3", "Siemens_3")):
    """Volumes of all domains beside their masks, which lie in folders of other names; voxels of 1 mm."""
    for number, domain in enumerate(domains):
        name = f"CC{number:04d}_{domain.lower()}_{50 + number}_M"
        image, labels = write.ball(shape=(20, 24, 22), centre=(9, 12, 11), radius=6, spacing=(1, 1, 1))
        grid = {"axes": "PSR", "spacing": (1.0, 1.0, 1.0)}
        write.nifti(root / "Original" / domain / f"{name}.nii.gz", image, **grid)
        write.nifti(root / "Silver-standard" / domain.lower() / f"{name}_ss.nii.gz", labels, **grid)
    return root


def smooth_disc(size, centre, radius):
    """A mask of 0 and 255 with grey edges, as an image program leaves it."""
    rows, columns = np.indices(size)
    away = np.hypot(rows - centre[0], columns - centre[1])
    return (255 * np.clip(radius - away + 0.5, 0, 1)).astype(np.uint8)


def write_refuge(root, n_cases=2, swapped=False):
    """Seven drawings each of disc and cup, the radii of which grow with the number of the rater."""
    size = (64, 72)
    for part in ("Training-400", "Test-400"):
        for number in range(n_cases):
            name = f"{number + (900 if part == 'Test-400' else 1):04d}"
            folder = root / part / name
            folder.mkdir(parents=True)
            rng = np.random.default_rng(number)
            Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{name}.jpg")
            for rater in range(1, 8):
                disc, cup = (smooth_disc(size, (30, 38), r + rater) for r in (12, 3))
                for kind, mask in (
                    (("disc", cup), ("cup", disc)) if swapped else (("disc", disc), ("cup", cup))
                ):
                    Image.fromarray(mask).save(folder / f"{name}_seg_{kind}_{rater}.png")
    return root


def write_decathlon(root, write, n_cases=2, stated=None):
    """Two sequences in the fourth axis, lists with ./, macOS's hidden twins, tests without labels."""
    listed = []
    for number in range(n_cases):
        name = f"prostate_{number:02d}.nii.gz"
        image, labels = write.ball(seed=number)
        write.nifti(root / "imagesTr" / name, np.stack([image, 2 * image + 1], axis=-1))
        write.nifti(root / "labelsTr" / name, labels * 2)
        (root / "imagesTr" / f"._{name}").write_bytes(b"\0\5\26\7")
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    described = {
        "name": "PROSTATE",
        "tensorImageSize": "4D",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": n_cases if stated is None else stated,
        "numTest": 1,
        "training": listed,
        "test": ["./imagesTs/prostate_77.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def test_two_zones_are_one_prostate_and_every_site_has_a_case_of_the_same_number(tmp_path, write):
    got = prostate.cohort(write_prostate(tmp_path, write), **SMALL)
    assert got.domain_names == SITES
    assert got.class_names == ("background", "prostate")
    assert len(set(got.subjects)) == 12
    areas = [np.count_nonzero(got.labels[got.domains == site]) for site in SITES]
    assert len(set(areas)) == 1 < areas[0]  # the capital letter and the zones change nothing


def test_prostates_are_resampled_in_plane_and_not_across_slices(tmp_path, write):
    got = prostate.cohort(write_prostate(tmp_path, write, n_cases=1), size=96, spacing_mm=0.5, **PART)
    assert len(got) == 6 * 5  # slices as stored
    row, column = np.argwhere(got.labels[2]).mean(axis=0)
    assert (row, column) == pytest.approx(((20.6 - 17.5) / 0.5 + 47.5, (17.3 - 19.5) / 0.5 + 47.5), abs=0.5)


def test_a_site_with_other_than_its_published_cases_is_refused_or_read_on_request(tmp_path, write):
    root = write_prostate(tmp_path, write, n_cases=1)
    with pytest.raises(ValueError, match=r"as many as published, got 1 of 30 RUNMC, .*; .*whole=False"):
        prostate.cohort(root, progress=False)
    (root / "BMC/Case00_Segmentation.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"BMC/Case00_segmentation.nii.gz must be a file, got none"):
        prostate.cohort(root, **SMALL)
    with pytest.warns(UserWarning, match="1 of 6 cases are left out as damaged"):
        assert len(set(prostate.cohort(root, skip_damaged=True, **SMALL).subjects)) == 5


def test_a_prostate_that_nobody_segmented_is_refused(tmp_path, write):
    root = write_prostate(tmp_path, write, n_cases=1)
    write.nifti(root / "HK/Case00_segmentation.nii.gz", np.zeros((40, 36, 5), np.uint8))
    with pytest.raises(ValueError, match=r"segmented, each of them, got no label in \['HK_Case00'\]"):
        prostate.cohort(root, **SMALL)


def test_brains_get_their_scanner_and_their_mask(tmp_path, write):
    got = brains.cohort(write_brains(tmp_path, write), size=24, **PART)
    assert got.domain_names == ("GE_15", "Philips_3", "Siemens_3")
    assert list(dict.fromkeys(got.subjects)) == ["CC0000", "CC0001", "CC0002"]
    assert len(got) == 3 * 22  # axial, whatever the order of the axes in the file
    assert all(got.images[:, 0][got.labels == 1] > 0)  # mask on the bright ball
    assert brains.cohort(tmp_path, size=24, limit=1, **PART).class_names == ("background", "brain")


def test_brains_are_counted_where_all_domains_are_there_and_a_mask_is_of_one_volume(tmp_path, write):
    every = [f"{vendor}_{tesla}" for vendor in ("GE", "Philips", "Siemens") for tesla in (15, 3)]
    root = write_brains(tmp_path, write, every)
    with pytest.raises(ValueError, match=r"as many as published, got 6 of 359;"):
        brains.cohort(root, progress=False)
    mask = next(root.rglob("*_ss.nii.gz"))
    write.nifti(root / "Silver-standard/again" / mask.name, np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="must be the only mask of its volume"):
        brains.cohort(root, **PART)
    with pytest.raises(ValueError, match=r"root must be a folder with Original/GE_15"):
        brains.cohort(root / "Original", **PART)


def test_seven_raters_of_disc_and_cup(tmp_path):
    root = write_refuge(tmp_path)
    got = refuge.cohort(root, size=64, spacing_mm=1.0, **PART)
    assert got.images.shape == (4, 3, 64, 64)
    assert got.raters.shape == (4, 7, 64, 64)
    assert got.class_names == refuge.CLASS_NAMES
    assert got.domain_names == ("Zeiss Visucam 500", "Canon CR-2")
    for structure, radius, values in (("disc", 12, (1, 2)), ("cup", 3, (2,))):
        areas = np.isin(got.raters[0], values).sum(axis=(1, 2))
        assert areas == pytest.approx(np.pi * (radius + np.arange(1, 8)) ** 2, rel=0.06, abs=10)
        assert np.isin(got.labels[0], values).sum() == areas[3]  # four of seven contain the fourth
        alone = refuge.cohort(root, structure=structure, size=64, spacing_mm=1.0, split="test", **PART)
        assert (alone.labels == np.isin(got.labels[2:], values)).all()
        assert alone.class_names == ("background", f"optic {structure}")


def test_refuge_without_a_rater_or_with_swapped_structures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the cup must be inside the disc, got 4 where it is not"):
        refuge.cohort(write_refuge(tmp_path / "a", swapped=True), size=64, spacing_mm=1.0, **PART)
    root = write_refuge(tmp_path / "b", n_cases=1)
    with pytest.raises(ValueError, match=r"got 1 of 400 train, 1 of 400 test"):
        refuge.cohort(root, progress=False)
    (root / "Training-400/0001/0001_seg_cup_7.png").unlink()
    with pytest.raises(ValueError, match=r"0001_seg_cup_7.png must be a file, got none"):
        refuge.cohort(root, structure="cup", **PART)
    with pytest.raises(ValueError, match="structure must be one of"):
        refuge.cohort(root, structure="macula")


def test_a_task_of_the_decathlon_is_read_as_its_list_says(tmp_path, write):
    root = write_decathlon(tmp_path, write)
    got = decathlon.cohort(root, progress=False)  # whole: as many as the list states
    assert got.images.shape[:2] == (10, 2)
    assert got.class_names == ("background", "PZ", "TZ")
    assert set(np.unique(got.labels)) == {0, 2}
    assert (got.domain_names, set(got.subjects)) == (("PROSTATE",), {"prostate_00", "prostate_01"})
    assert decathlon.cohort(root, channels=[1], progress=False).images.shape[1] == 1


def test_a_decathlon_list_that_does_not_fit_is_refused(tmp_path, write):
    root = write_decathlon(tmp_path, write, stated=32)
    with pytest.raises(ValueError, match=r"as many as published, got 2 of 32 train"):
        decathlon.cohort(root, progress=False)
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "training": [{"image": "a.nii.gz"}]}))
    with pytest.raises(ValueError, match=r"must be a list 'training' of images and labels, got KeyError"):
        decathlon.cohort(root, **PART)
    path.write_text(json.dumps({"training": [], "labels": {"0": "background"}}))
    with pytest.raises(ValueError, match=r"the folder of a task with its dataset.json"):
        decathlon.cohort(root, **PART)


# The two recipes of the page "Research cohorts".
def brats(root):
    patients = sorted(root.glob("BraTS-GLI-*-*"))
    kinds = ("t1n", "t1c", "t2w", "t2f")
    rows = [
        {
            "image": ";".join(f"{p.name}/{p.name}-{kind}.nii.gz" for kind in kinds),
            "label": f"{p.name}/{p.name}-seg.nii.gz",
            "subject": p.name.rpartition("-")[0],
        }
        for p in patients
    ]
    pd.DataFrame(rows).to_csv(root / "files.csv", index=False)
    names = {0: "background", 1: "necrotic core", 2: "edema", 3: "enhancing tumour"}
    return from_folder(root / "files.csv", labels=names, size=240)


def qubiq(root, task="task01"):
    rows = [
        {
            "image": f"{mask.parent.name}/image.nii.gz",
            "label": f"{mask.parent.name}/{mask.name}",
            "subject": mask.parent.name,
            "rater": mask.name[10:12],
        }
        for mask in sorted(root.glob(f"case*/{task}_seg*.nii.gz"))
    ]
    pd.DataFrame(rows).to_csv(root / "files.csv", index=False)
    names = {0: "background", 1: "structure"}
    return from_folder(root / "files.csv", labels=names, plane="stored")


@pytest.mark.parametrize("recipe", [brats, qubiq])
def test_the_page_shows_the_recipes_that_are_tested(recipe):
    page = Path(__file__).parents[2] / "book/cohorts.md"
    assert inspect.getsource(recipe) in page.read_text("utf-8")


def test_the_recipe_for_brats_reads_four_sequences_and_two_visits_of_one_person(tmp_path, write):
    for name in ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"):
        image, labels = write.ball(shape=(24, 24, 6), centre=(12, 12, 3), radius=6, spacing=(1, 1, 1))
        labels[:10][labels[:10] > 0] = 3
        for kind in ("t1n", "t1c", "t2w", "t2f", "seg"):
            values = labels if kind == "seg" else image
            write.nifti(tmp_path / name / f"{name}-{kind}.nii.gz", values, spacing=(1.0, 1.0, 1.0))
    got = brats(tmp_path)
    assert got.images.shape[1:] == (4, 240, 240)
    assert set(got.subjects) == {"BraTS-GLI-00000", "BraTS-GLI-00002"}
    assert set(np.unique(got.labels)) == {0, 1, 3}


def save_2d(path, values):
    """QUBIQ stores most of its images with two axes."""
    nibabel.save(nibabel.Nifti1Image(values[..., 0], np.eye(4)), path)


def test_the_recipe_for_qubiq_keeps_every_rater_and_marks_the_one_that_is_missing(tmp_path, write):
    for case in ("case01", "case02"):
        image, labels = write.ball(shape=(24, 20, 1), centre=(12, 10, 0), radius=6, spacing=(1, 1, 1))
        (tmp_path / case).mkdir()
        save_2d(tmp_path / case / "image.nii.gz", image)
        for rater in range(1, 6 if case == "case02" else 7):
            save_2d(tmp_path / case / f"task01_seg{rater:02d}.nii.gz", labels)
            save_2d(tmp_path / case / f"task02_seg{rater:02d}.nii.gz", 0 * labels)
    got = qubiq(tmp_path)
    assert got.raters.shape[:2] == (2, 6)
    assert (got.raters[1, 5] == -1).all()
    assert (got.raters[0] == 1).any(axis=(1, 2)).all()


def test_chapter_12_reads_them_by_their_names(tmp_path, write):
    roots = {
        "prostate": write_prostate(tmp_path / "p", write),
        "brains": write_brains(tmp_path / "b", write),
        "refuge": write_refuge(tmp_path / "r"),
        "decathlon": write_decathlon(tmp_path / "d", write),
    }
    for name, root in roots.items():
        got = own.read_cohort(name, root, reading='{"size": 64, "spacing_mm": 1.0, "whole": false}')
        assert got.images.shape[-2:] == (64, 64), name
