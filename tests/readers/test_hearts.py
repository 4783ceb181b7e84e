"""Readers of cardiac data sets, on miniatures of their exact layouts."""

import dataclasses

import nibabel
import numpy as np
import pandas as pd
import pytest

from segconf_lite import own
from segconf_lite.cohorts import phantom
from segconf_lite.readers import acdc, heart, mnms

RIGHT, MUSCLE, LEFT = 1, 2, 3
GRID = {"size": 40, "spacing_mm": 1.5, "progress": False, "whole": False}
# Short axes are oblique: this stack lies closest to coronal in one patient and to axial in the next.
OBLIQUE = [nibabel.eulerangles.euler2mat(x=angle) @ np.diag([-1.5, -1.5, 8.0]) for angle in (0.6, 1.0)]


def drawn_heart(seed, size=44, n_slices=3):
    """Image and classes (X, Y, Z): a ring of muscle around the left cavity, the right one beside it."""
    rng = np.random.default_rng(seed)
    x, y = np.indices((size, size)) - np.array([22.0, 21.0])[:, None, None] - rng.uniform(-1, 1, (2, 1, 1))
    away = np.hypot(x, y)
    labels = np.zeros((size, size), np.int16)
    labels[np.hypot(x + 9, y) < 8] = RIGHT
    labels[away < 10] = MUSCLE
    labels[away < 6] = LEFT
    labels = np.repeat(labels[..., None], n_slices, axis=2)
    image = np.array([20.0, 180.0, 90.0, 200.0])[labels] + rng.normal(0, 5, labels.shape)
    return image.astype(np.float32), labels


def save(path, values, which=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = nibabel.affines.from_matvec(OBLIQUE[which % 2], [3.0, 4.0, 5.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def stored_as(labels, values):
    """Labels with other numbers: values[k] stands for class k."""
    return np.array(values, np.int16)[labels]


def write_acdc(root, patients=("001", "002", "101"), ed=4, values=(0, 1, 2, 3)):
    for number, patient in enumerate(patients):
        name = f"patient{patient}"
        folder = root / ("testing" if patient >= "101" else "training") / name
        film = []
        for k, frame in enumerate((ed, 12)):
            image, labels = drawn_heart(10 * number + k)
            film.append(image)
            save(folder / f"{name}_frame{frame:02d}.nii.gz", image, number)
            save(folder / f"{name}_frame{frame:02d}_gt.nii.gz", stored_as(labels, values), number)
        save(folder / f"{name}_4d.nii.gz", np.stack(film, axis=-1), number)
        group = "DCM" if number % 2 else "NOR"
        text = f"ED: {ed}\nES: 12\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        (folder / "Info.cfg").write_text(text)
    return root


def write_mnms(root, codes=("A0S9V9", "B1T2U3"), values=(0, 3, 2, 1), ed=0, es=2):
    """Films of four frames, of which 0 and 2 are segmented."""
    rows = []
    for number, code in enumerate(codes):
        folder = root / ("Testing" if number else "Training/Labeled") / code
        film, drawn = np.zeros((2, 44, 44, 3, 4))
        for frame in range(4):
            image, labels = drawn_heart(10 * number + frame)
            film[..., frame] = image
            drawn[..., frame] = stored_as(labels, values) * (frame in (0, 2))
        save(folder / f"{code}_sa.nii.gz", film.astype(np.float32), number)
        save(folder / f"{code}_sa_gt.nii.gz", drawn.astype(np.int16), number)
        vendor = ("Siemens,A", "Philips,B")[number % 2]
        rows.append(f"{number},{code},{vendor},{number + 1},{ed},{es},50,NOR,F")
    header = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex"
    name = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    (root / name).write_text("\n".join([header, *rows]) + "\n")
    unlabelled = root / "Training/Unlabeled/C9C9C9/C9C9C9_sa.nii.gz"
    save(unlabelled, film.astype(np.float32))
    return root


def write_mnms2(root, values=(0, 3, 2, 1)):
    rows = []
    for number in range(2):
        folder = root / "dataset" / f"{number + 1:03d}"
        for k, phase in enumerate(("ED", "ES")):
            image, labels = drawn_heart(10 * number + k)
            save(folder / f"{folder.name}_SA_{phase}.nii.gz", image, number)
            save(folder / f"{folder.name}_SA_{phase}_gt.nii.gz", stored_as(labels, values), number)
        scanner = ("SIEMENS,SymphonyTim", "GE MEDICAL SYSTEMS,Signa")[number]
        rows.append(f"{number + 1},NOR,{scanner},1.5")
    (root / "dataset_information.csv").write_text(
        "\n".join(["SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD", *rows]) + "\n"
    )
    return root


READERS = {
    "acdc": (write_acdc, acdc.cohort, {}),
    "mnms": (write_mnms, mnms.cohort, {}),
    "mnms2": (write_mnms2, mnms.cohort, {"edition": 2}),
}
every_reader = pytest.mark.parametrize("name", READERS)


@every_reader
def test_labels_have_one_order_whatever_the_files_store(tmp_path, name):
    write, read, how = READERS[name]
    got = read(write(tmp_path), **how, **GRID)
    assert got.class_names == heart.CLASS_NAMES == phantom.cohort(1, size=16).class_names
    means = [got.images[:, 0][got.labels == k].mean() for k in range(4)]
    assert means[0] < means[MUSCLE] < means[RIGHT] < means[LEFT]  # as they were drawn


@every_reader
def test_swapped_labels_are_detected(tmp_path, name):
    write, read, how = READERS[name]
    other = (0, 3, 2, 1) if name == "acdc" else (0, 1, 2, 3)
    with pytest.raises(ValueError, match=r"left ventricle must be inside the myocardium, got .* hearts"):
        read(write(tmp_path, values=other), **how, **GRID)


@every_reader
def test_oblique_stacks_are_read_as_they_are_stored(tmp_path, name):
    write, read, how = READERS[name]
    got = read(write(tmp_path), **how, **GRID)
    n_patients = len(set(got.subjects))
    assert len(got) == n_patients * 2 * 3
    assert {session.rpartition("_")[2] for session in got.sessions} == {"ED", "ES"}
    assert len(read(tmp_path, phases=("ES",), **how, **GRID)) == n_patients * 3


def test_the_end_diastole_of_acdc_is_not_always_frame_1(tmp_path):
    got = acdc.cohort(write_acdc(tmp_path / "database", ed=4), **GRID)
    image, _ = drawn_heart(0)
    first = got.images[got.sessions == "patient001_ED"][0, 0]
    assert np.corrcoef(first.ravel(), image[2:42, 2:42, 0].T.ravel())[0, 1] > 0.999
    assert got.domain_names == ("NOR", "DCM")
    assert set(acdc.cohort(tmp_path, split="test", **GRID).subjects) == {"patient101"}


def test_acdc_without_its_text_file_is_refused(tmp_path):
    write_acdc(tmp_path)
    (tmp_path / "training/patient002/Info.cfg").write_text("ED: 1\n")
    with pytest.raises(ValueError, match="lines 'ED: 1', 'ES: 12' and 'Group: DCM'"):
        acdc.cohort(tmp_path, **GRID)
    with pytest.raises(ValueError, match="root must be the folder that holds training/patient001"):
        acdc.cohort(tmp_path / "training", **GRID)


def test_vendors_centres_and_splits_of_mnms(tmp_path):
    got = mnms.cohort(write_mnms(tmp_path), **GRID)
    assert got.domain_names == ("Siemens", "Philips")
    assert mnms.cohort(tmp_path, domain="Centre", **GRID).domain_names == ("1", "2")
    assert set(mnms.cohort(tmp_path, split="test", **GRID).subjects) == {"B1T2U3"}
    with pytest.raises(ValueError, match="domain must be one of"):
        mnms.cohort(tmp_path, domain="SCANNER", **GRID)


def test_frames_that_are_counted_from_one_are_detected(tmp_path):
    with pytest.raises(
        ValueError, match=r"cases must be segmented, each of them, got no label in .*A0S9V9_ED"
    ):
        mnms.cohort(write_mnms(tmp_path / "a", ed=1, es=3), **GRID)
    with pytest.raises(ValueError, match=r"a film with frame 4 \(the first is 0\), got 4 frames"):
        mnms.cohort(write_mnms(tmp_path / "b", es=4), **GRID)


def test_scanners_of_mnms2(tmp_path):
    got = mnms.cohort(write_mnms2(tmp_path), edition=2, **GRID)
    assert got.domain_names == ("SymphonyTim", "Signa")
    assert set(got.subjects) == {"001", "002"}
    (tmp_path / "dataset_information.csv").unlink()
    with pytest.raises(ValueError, match=r"one table \*information\*.csv"):
        mnms.cohort(tmp_path, edition=2, **GRID)


@pytest.mark.parametrize("seed", range(3))
def test_simulated_hearts_pass_and_swapped_ones_do_not(seed):
    cohort = phantom.cohort(6, size=64, seed=seed)
    assert heart.checked(cohort) is cohort
    swapped = dataclasses.replace(cohort, labels=np.array([0, 3, 2, 1])[cohort.labels])
    with pytest.raises(ValueError, match="their label values are swapped"):
        heart.checked(swapped)


def test_films_without_a_row_or_a_frame_are_refused(tmp_path):
    root = write_mnms(tmp_path)
    path = next(root.glob("*.csv"))
    whole = pd.read_csv(path, index_col=0, dtype=str)
    whole.assign(ED="first").to_csv(path)
    with pytest.raises(ValueError, match=r"ED of .* must be the number of a frame, got 'first'"):
        mnms.cohort(root, edition=1, **GRID)
    whole.iloc[:1].to_csv(path)
    with pytest.raises(ValueError, match="with a row for it"):
        mnms.cohort(root, edition=1, **GRID)
    with pytest.raises(ValueError, match="unpack the archive there"):
        mnms.cohort(_only(path, tmp_path / "empty"), edition=1, **GRID)


@every_reader
def test_chapter_12_reads_it_by_its_name(tmp_path, name):
    write, read, how = READERS[name]
    root = write(tmp_path)
    got = own.read_cohort(name, root, reading='{"size": 40, "spacing_mm": 1.5, "whole": false}')
    assert got.fingerprint() == read(root, **how, **GRID).fingerprint()


def _only(path, folder):
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes())
    return folder
