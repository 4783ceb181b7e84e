"""Laws of the cohort of lung nodules, on a miniature of its layout, and its facts, on the published files."""

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segconf_lite.cohorts import download, lidc

# (patient, nodule, slice, vendor, pixel spacing): the rows of a patient need not stand together, nor in order
ROWS = [
    ("LIDC-IDRI-0007", 0, 10, "Philips", 0.5),
    ("LIDC-IDRI-0004", 0, 2, "GE", 0.822266),
    ("LIDC-IDRI-0004", 0, 10, "GE", 0.822266),
    ("LIDC-IDRI-0009", 3, 1, "Toshiba", 0.9),
    ("LIDC-IDRI-0012", 1, 1, "GE", 0.742188),
    ("LIDC-IDRI-0005", 0, 4, "Siemens", 0.6),
    ("LIDC-IDRI-0004", 0, 1, "GE", 0.822266),
]
NAMES = [f"{patient}_n{nodule}_s{number}.png" for patient, nodule, number, *_ in ROWS]
IN_ORDER = [NAMES[k] for k in (6, 1, 2, 4, 5, 0, 3)]  # by vendor, patient, and slices by number
VICTIM = NAMES[1]


def crop(seed):
    """(128, 128) uint8 crop stretched to 0..255, and bits of four raters: squares around the middle."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(1, 255, (128, 128)).astype(np.uint8)
    grey[0, :2] = 0, 255
    bits = np.zeros((128, 128), np.uint8)
    for rater in range(4):
        half = 2 + rater
        bits[64 - half : 64 + half, 63 - half : 63 + half + rater] |= 1 << rater
    return grey, bits


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, format="PNG")


def write(folder):
    for seed, name in enumerate(NAMES):
        grey, bits = crop(seed)
        save(folder / "images" / name, grey)
        save(folder / "raters" / name, bits)
    table = pd.DataFrame(ROWS, columns=["patient", "nodule", "slice", "vendor", "pixel_spacing_mm"])
    table.insert(0, "file", NAMES)
    table.insert(5, "model", "LightSpeed Pro 16")
    table.assign(slice_thickness_mm=2.5, contrast=False).to_csv(folder / "cases.csv", index=False)
    return folder


def edit(folder, change):
    """Change the text of the table."""
    path = folder / "cases.csv"
    path.write_text(change(path.read_text("utf-8")), "utf-8")


# -- what the cohort says -----------------------------------------------------------------------------------


def test_vendors_are_domains_and_patients_are_subjects_in_a_fixed_order(tmp_path):
    got = lidc.cohort(write(tmp_path))
    assert got.images.shape == (7, 1, 96, 96)
    assert got.raters.shape == (7, 4, 96, 96)
    assert got.domain_names == lidc.VENDORS == ("GE", "Siemens", "Philips", "Toshiba")
    assert got.subjects.tolist() == [name.partition("_")[0] for name in IN_ORDER]
    assert got.sessions.tolist() == got.subjects.tolist()
    assert got.class_names == ("background", "nodule")
    assert got.spacing_mm[:, 0].tolist() == got.spacing_mm[:, 1].tolist()
    assert got.spacing_mm[:, 0].tolist() == [0.822266] * 3 + [0.742188, 0.6, 0.5, 0.9]


def test_raters_are_the_bits_in_order_and_the_majority_is_two_of_four(tmp_path):
    got = lidc.cohort(write(tmp_path))
    sizes = [(4 + 2 * rater) * (4 + 3 * rater) for rater in range(4)]
    assert got.raters.sum(axis=(2, 3)).tolist() == [sizes] * 7
    np.testing.assert_array_equal(got.labels, got.raters.sum(axis=1) >= 2)
    for rater in range(4):
        alone = lidc.cohort(tmp_path, label=rater)
        np.testing.assert_array_equal(alone.labels, got.raters[:, rater])
        np.testing.assert_array_equal(alone.images, got.images)
        assert not np.shares_memory(alone.labels, alone.raters)


def test_a_vendor_alone_is_its_part_of_the_whole(tmp_path):
    whole = lidc.cohort(write(tmp_path))
    for vendor in lidc.VENDORS:
        alone = lidc.cohort(tmp_path, vendor=vendor)
        assert alone.fingerprint() == whole.where(domain=vendor).fingerprint()


@pytest.mark.parametrize("seed", range(5))
def test_no_split_divides_a_patient(tmp_path, seed):
    train, test = lidc.cohort(write(tmp_path)).split((0.6, 0.4), seed=seed)
    assert not set(train.subjects) & set(test.subjects)
    assert len(train) + len(test) == 7


# -- windows and intensities --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 40, 96])
def test_image_and_segmentations_are_cut_from_one_window(tmp_path, size):
    got = lidc.cohort(write(tmp_path), size=size, seed=3)
    for case, name in enumerate(IN_ORDER):
        grey, bits = crop(NAMES.index(name))
        outline = np.argwhere(bits > 0)[0] - np.argwhere(got.raters[case].any(axis=0))[0]
        top, left = outline
        window = grey[top : top + size, left : left + size].astype(np.float64)
        np.testing.assert_allclose(
            got.images[case, 0], (window - window.mean()) / window.std(), rtol=1e-5, atol=1e-6
        )
        for rater in range(4):
            expected = bits[top : top + size, left : left + size] >> rater & 1
            np.testing.assert_array_equal(got.raters[case, rater], expected)


def test_every_slice_is_z_scored_alone(tmp_path):
    got = lidc.cohort(write(tmp_path))
    np.testing.assert_allclose(got.images.mean(axis=(1, 2, 3), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(got.images.std(axis=(1, 2, 3), dtype=np.float64), 1, atol=1e-6)
    save(tmp_path / "images" / VICTIM, crop(99)[0] // 2)  # another slice changes, and no other image
    changed = lidc.cohort(tmp_path)
    same = (changed.images == got.images).all(axis=(1, 2, 3))
    assert same.tolist() == [name != VICTIM for name in IN_ORDER]


def test_windows_follow_the_seed_and_each_slice_has_its_own_stream(tmp_path):
    first = lidc.cohort(write(tmp_path / "a"))
    assert first.fingerprint() == lidc.cohort(tmp_path / "a").fingerprint()
    assert first.fingerprint() != lidc.cohort(tmp_path / "a", seed=1).fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for part in ("images", "raters"):
        (tmp_path / "b" / part / VICTIM).unlink()
    edit(tmp_path / "b", lambda text: "".join(line for line in text.splitlines(True) if VICTIM not in line))
    fewer = lidc.cohort(tmp_path / "b")
    keep = [name != VICTIM for name in IN_ORDER]
    np.testing.assert_array_equal(fewer.images, first.images[keep])


def test_all_positions_that_hold_the_nodule_are_drawn_equally_often(tmp_path):
    write(tmp_path)
    corners = []
    for seed in range(120):
        labels = lidc.cohort(tmp_path, size=90, seed=seed).raters[:, 3]
        corners += [tuple(np.argwhere(label)[0]) for label in labels]
    for axis in (0, 1):  # 39 positions, 840 draws
        counts = np.bincount([corner[axis] for corner in corners])[-39:]
        assert len(counts) == 39
        assert ((counts - 840 / 39) ** 2).sum() / (840 / 39) < 70  # chi-squared, 38 degrees: p = 0.001
    assert abs(np.corrcoef(np.transpose(corners))[0, 1]) < 0.12


def test_a_nodule_at_the_edge_stays_whole(tmp_path):
    bits = np.zeros_like(crop(1)[1])
    bits[100:111, 5] = 15
    save(write(tmp_path) / "raters" / VICTIM, bits)
    for seed in range(10):
        assert lidc.cohort(tmp_path, seed=seed).labels[IN_ORDER.index(VICTIM)].sum() == 11


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 15}, r"size must be an integer in \[16, 96\], got 15"),
        ({"size": 128}, r"size must be an integer in \[16, 96\], got 128; a larger window has the nodule"),
        ({"size": 96.0}, r"size must be .*got 96\.0"),
        ({"label": "mean"}, r"label must be one of \('majority', 0, 1, 2, 3\), got 'mean'"),
        ({"label": 4}, r"label must be .*got 4"),
        ({"label": True}, r"label must be .*got True"),
        ({"vendor": "Canon"}, r"vendor must be one of \('GE', .*'Toshiba', None\), got 'Canon'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_an_argument_out_of_range_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        lidc.cohort(write(tmp_path), **arguments)


def test_a_window_smaller_than_a_nodule_is_refused(tmp_path):
    bits = crop(1)[1]
    bits[50:70, 64] |= 1
    save(write(tmp_path) / "raters" / VICTIM, bits)
    with pytest.raises(ValueError, match=rf"size must be >= 20, to hold the nodule of {VICTIM}, got 19"):
        lidc.cohort(tmp_path, size=19)
    assert len(lidc.cohort(tmp_path, size=20)) == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",GE,", ",Canon,", rf"vendor of {VICTIM} in .*cases\.csv must be one of \('GE', .* got 'Canon'"),
        ("0.822266", "nan", rf"pixel_spacing_mm of {VICTIM} in .* must be a finite number .*got nan; mend"),
        ("0.822266", "82", r"pixel_spacing_mm of .* must be a number in \[0\.1, 10\], got 82"),
        ("png,LIDC-IDRI-0004", "png,LIDC-IDRI-0005", r"row .* must be a file named PATIENT_n.*mend the row"),
        (VICTIM, f"../{VICTIM}", r"row of .* must be a file named PATIENT_nNODULE_sSLICE\.png .*got .*\.\./"),
        ("file,patient", "name,patient", r"cases\.csv must be a table with columns .*none called \['file'\]"),
        ("LightSpeed Pro 16", "", r"cases\.csv must be a full row for every image, got empty cells"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, old, new, message):
    edit(write(tmp_path), lambda text: text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        lidc.cohort(tmp_path)


def test_a_row_twice_and_a_vendor_without_slices_are_refused(tmp_path):
    edit(write(tmp_path), lambda text: text + text.splitlines(True)[-1])
    with pytest.raises(ValueError, match=r"files of .*cases\.csv must be different from each other, got"):
        lidc.cohort(tmp_path)
    write(tmp_path)
    edit(tmp_path, lambda text: text.replace("Toshiba", "Philips"))
    with pytest.raises(ValueError, match=r"vendor must be of a slice in .*cases\.csv, got 'Toshiba'"):
        lidc.cohort(tmp_path, vendor="Toshiba")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.9, 0.97])
def test_a_table_cut_short_is_refused(tmp_path, fraction):
    edit(write(tmp_path), lambda text: text[: int(len(text) * fraction)])
    with pytest.raises(ValueError, match=r"cases\.csv"):
        lidc.cohort(tmp_path)


@pytest.mark.parametrize("part", ["images", "raters"])
def test_a_file_that_is_missing_cut_short_or_of_another_form_is_named(tmp_path, part):
    path = write(tmp_path) / part / VICTIM
    content = path.read_bytes()
    for share in (0.0, 0.02, 0.5):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ValueError, match=rf"{VICTIM} must be a whole PNG of 128 x 128 grey pixels, got"):
            lidc.cohort(tmp_path)
    for values in (np.zeros((128, 127), np.uint8), np.zeros((128, 128, 3), np.uint8)):
        save(path, values)
        with pytest.raises(ValueError, match=rf"{VICTIM} must be a whole PNG .*got ValueError: 128 x 12"):
            lidc.cohort(tmp_path)
    Image.new("L", (9_000, 9_000)).save(path)  # refused before it is decoded
    with pytest.raises(ValueError, match="9000 x 9000 pixels of mode L"):
        lidc.cohort(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected .*{VICTIM}, got no file; fetch it, or drop"):
        lidc.cohort(tmp_path)


def test_a_constant_image_and_segmentations_that_are_not_four_bits_are_refused(tmp_path):
    grey, bits = crop(1)
    save(write(tmp_path) / "raters" / VICTIM, bits & 7)
    with pytest.raises(ValueError, match=rf"{VICTIM} must be of 4 bits, each set somewhere, got values"):
        lidc.cohort(tmp_path)
    save(tmp_path / "raters" / VICTIM, bits | 16)
    with pytest.raises(ValueError, match=r"must be of 4 bits.* got values \[16, .*leave the slice out"):
        lidc.cohort(tmp_path)
    save(tmp_path / "raters" / VICTIM, bits)
    save(tmp_path / "images" / VICTIM, np.full_like(grey, 7))
    with pytest.raises(ValueError, match=rf"{VICTIM} must be an image, got a constant window"):
        lidc.cohort(tmp_path)


def test_folders_that_are_not_there_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"root must be a folder, got .*nowhere"):
        lidc.cohort(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected .*cases\.csv, got no file; clone https://github"):
        lidc.cohort(tmp_path / "other")
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=r"by hand: clone https://github\.com/periclesanfe/Pulmoseg"):
        lidc.cohort()
    with pytest.raises(ValueError, match=r"'lidc_nodules' has to be fetched by hand: clone"):
        download.fetch("lidc_nodules")
    write(tmp_path / "own/lidc_nodules")
    assert len(lidc.cohort()) == 7


def test_the_steps_by_hand_name_every_column(tmp_path):
    columns = (write(tmp_path) / "cases.csv").read_text("utf-8").splitlines()[0].split(",")
    assert [column for column in columns if column not in download.BY_HAND["lidc_nodules"]] == []


# -- the published files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_root():
    own = os.environ.get("SEGCONF_DATA")
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = (Path(own) if own else beside) / "lidc_nodules"
    if not root.is_dir():
        pytest.skip("needs the crops in SEGCONF_DATA/lidc_nodules, see download.BY_HAND")
    return root


@pytest.fixture(scope="module")
def real(real_root):
    return lidc.cohort(real_root)


def centres(cohort):
    """(N, 2) row and column of the middle of each reference."""
    return np.array([np.argwhere(label).mean(axis=0) for label in cohort.labels])


def test_real_cohort_has_the_stated_slices_patients_and_spacings(real):
    counts = {v: (len(p), len(set(p.subjects))) for v in lidc.VENDORS if (p := real.where(domain=v))}
    assert counts == {"GE": (361, 150), "Siemens": (177, 74), "Philips": (106, 38), "Toshiba": (74, 31)}
    assert real.images.shape == (718, 1, 96, 96)
    assert len(set(real.subjects)) == 293
    assert np.unique(real.subjects, return_counts=True)[1].max() == 4
    assert (real.spacing_mm.min().round(2), real.spacing_mm.max().round(2)) == (0.46, 0.98)


def test_real_raters_are_the_bits_of_the_files_and_agree_as_stated(real_root, real):
    assert real.raters.any(axis=(2, 3)).all()
    np.testing.assert_array_equal(real.labels, real.raters.sum(axis=1) >= 2)
    table = pd.read_csv(real_root / "cases.csv").set_index("file")
    stored = {name: np.asarray(Image.open(real_root / "raters" / name)) for name in table.index}
    areas = [[(bits >> k & 1).sum() for k in range(4)] for bits in stored.values()]
    # Windows cut nothing off, so every slice keeps its four areas.
    assert sorted(real.raters.sum(axis=(2, 3)).tolist()) == sorted(np.array(areas).tolist())
    pairs = list(itertools.combinations(range(4), 2))
    a, b = (real.raters[:, [pair[k] for pair in pairs]] for k in (0, 1))
    dice = (2 * (a & b).sum(axis=(2, 3)) / (a + b).sum(axis=(2, 3))).mean(axis=1)
    means = [dice[real.domains == vendor].mean() for vendor in lidc.VENDORS]
    assert means == pytest.approx([0.785, 0.767, 0.706, 0.812], abs=0.001)
    median = [np.median(real.where(domain=v).labels.sum(axis=(1, 2))) for v in lidc.VENDORS]
    assert median == [74, 63, 51.5, 148.5]


def test_real_crops_were_stretched_one_by_one(real_root):
    """Why no fixed window in Hounsfield units is possible."""
    ends = {Image.open(path).getextrema() for path in (real_root / "images").glob("*.png")}
    assert ends == {(0, 255)}


@pytest.mark.parametrize("seed", range(2))
def test_real_splits_share_no_patient(real, seed):
    source = real.where(domain="GE")
    train, test = source.split((0.7, 0.3), seed=seed)
    assert not set(train.subjects) & set(test.subjects)
    assert len(train) + len(test) == 361
    assert not set(source.subjects) & set(real.where(domain=lidc.VENDORS[1:]).subjects)


def test_the_place_of_a_real_nodule_gives_nothing_away(real_root, real):
    places, others = centres(real), centres(lidc.cohort(real_root, seed=1))
    # A uniform shift by 0..32 has a standard deviation of 9.5 pixels; the crops alone have 2 and 5.
    assert (places.std(axis=0) > 9).all()
    assert (np.abs(places - others).max(axis=1) > 0).mean() > 0.99
    for axis in (0, 1):
        assert abs(np.corrcoef(places[:, axis], others[:, axis])[0, 1]) < 0.35
        counts = np.histogram(places[:, axis], bins=4, range=(32, 65))[0]
        assert counts.max() < 1.35 * counts.min()
