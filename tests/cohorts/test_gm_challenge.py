"""Laws of the spinal-cord cohort, on small synthetic scans, and its facts, on the real files."""

import gzip
import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from segconf_lite.cohorts import gm_challenge
from segconf_lite.cohorts.localise import cord_line, crop

SIDECAR = {"Manufacturer": "Siemens", "MagneticFieldStrength": 1.5, "InstitutionName": "Milan"}
SHAPE, SPACING = (60, 56, 3), (1.0, 1.0, 3.0)  # (W, H, S) in LPS order, mm


def disc(centre, radius, shape=SHAPE[:2], spacing=(1.0, 1.0)):
    x, y = np.meshgrid(*(np.arange(n) * step for n, step in zip(shape, spacing, strict=True)), indexing="ij")
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def synthetic(cord_at=(33.0, 25.0)):
    """Image, cord and grey matter (W, H, S): axes towards left, back, head.

    A bright sac of radius 10 mm around a grey cord of radius 5; fat at the front, less at the right.
    """
    rng = np.random.default_rng(0)
    image = np.zeros(SHAPE)
    image[disc(cord_at, 10)] = 1.0
    image[disc(cord_at, 5)] = 0.7
    image[:, :3] += 0.3
    image[:3] += 0.1
    image += rng.normal(0, 0.01, SHAPE)
    cord = np.repeat(disc(cord_at, 5)[..., None], SHAPE[2], axis=2).astype(float)
    grey = np.repeat(disc(cord_at, 2)[..., None], SHAPE[2], axis=2).astype(float)
    return image, cord, grey


def write(folder, session="sub-1", volumes=None, axes="LPS", sidecar=SIDECAR, spacing=SPACING):
    """One session as a BIDS folder; the volumes come in LPS order and are stored along ``axes``."""
    image, cord, grey = volumes or synthetic()
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    orient = nibabel.orientations
    turn = orient.ornt_transform(orient.axcodes2ornt("LPS"), orient.axcodes2ornt(axes))
    anat, drawn = folder / session / "anat", folder / "derivatives/labels" / session / "anat"
    stem = f"{session}_run-1_T2starw"
    for directory in (anat, drawn):
        directory.mkdir(parents=True, exist_ok=True)
    for path, values in (
        (anat / f"{stem}.nii.gz", image.astype(np.float32)),
        (drawn / f"{stem}_seg-manual.nii.gz", cord),
        (drawn / f"{stem}_gmseg-manual.nii.gz", grey),
    ):
        nibabel.save(nibabel.Nifti1Image(values, affine).as_reoriented(turn), path)
    (anat / f"{stem}.json").write_text(json.dumps(sidecar))
    return folder


def path_of(folder, kind, session="sub-1"):
    """A file of `write`: kind is "image", "json", "seg" or "gmseg"."""
    stem = f"{session}_run-1_T2starw"
    if kind in ("image", "json"):
        return folder / session / "anat" / f"{stem}.{'json' if kind == 'json' else 'nii.gz'}"
    return folder / "derivatives/labels" / session / "anat" / f"{stem}_{kind}-manual.nii.gz"


# -- geometry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["LAS", "LPS", "RAS", "RPI", "SAL", "PIR"])
@pytest.mark.parametrize("center", ["image", "label"])
def test_storage_order_never_shows(tmp_path, axes, center):
    expected = gm_challenge.cohort(write(tmp_path / "a"), size=32, spacing_mm=1.0, center=center)
    got = gm_challenge.cohort(write(tmp_path / "b", axes=axes), size=32, spacing_mm=1.0, center=center)
    assert got.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("axes", ["LAS", "LPS", "RAI"])
def test_front_is_the_top_row_and_the_patients_right_the_left_column(tmp_path, axes):
    image, cord, grey = synthetic(cord_at=(29.5, 27.5))
    image[:, :6] += 5.0  # front
    image[:6] += 2.0  # right
    got = gm_challenge.cohort(
        write(tmp_path, volumes=(image, cord, grey), axes=axes), size=56, spacing_mm=1.0, center="label"
    )
    slice_0 = got.images[0, 0]
    top, bottom, left, right = (
        slice_0[0].mean(),
        slice_0[-1].mean(),
        slice_0[:, 0].mean(),
        slice_0[:, -1].mean(),
    )
    assert top > left > max(bottom, right)


def test_slices_run_from_foot_to_head_with_names_in_order(tmp_path):
    image, cord, grey = synthetic()
    cord[..., 1] *= disc((33, 25), 3)  # the middle slice has the thinnest cord, the top one none
    cord[..., 2] = 0
    for session in ("sub-2", "sub-1"):
        write(tmp_path, session, volumes=(image, cord, grey), axes="LAI")
    got = gm_challenge.cohort(tmp_path, size=32, spacing_mm=1.0)
    areas = (got.labels > 0).sum((1, 2))
    assert got.sessions.tolist() == ["sub-1", "sub-1", "sub-2", "sub-2"]
    assert areas[0] > areas[1] > 0


@pytest.mark.parametrize("old", [(0.42, 0.42), (0.5, 0.78), (0.7, 0.7)])
@pytest.mark.parametrize("new", [0.3, 0.5, 1.0])
def test_image_and_labels_lie_at_the_same_place(old, new):
    # A drawn disc is a staircase, so one disc tells a tenth of a pixel; the mean of many tells the rest.
    rng, shape, n = np.random.default_rng(0), (96, 90), int(30 / new)
    grid = np.indices((n, n)).reshape(2, -1)
    between, off, areas = [], [], []
    for _ in range(40):
        true_mm, middle_mm = rng.uniform(18, 20, 2), rng.uniform(18, 20, 2)
        drawn = disc(true_mm, 7.0, shape, old)
        image, labels = crop(
            drawn.astype(float),
            drawn.astype(int),
            middle_mm / old,
            n_classes=2,
            spacing_mm=old,
            size=n,
            new_spacing_mm=new,
        )
        of_image, of_labels = ((grid * weight.ravel()).sum(1) / weight.sum() for weight in (image, labels))
        between.append(of_image - of_labels)
        off.append(of_labels - (true_mm - middle_mm) / new - (n - 1) / 2)
        areas.append(labels.sum() * new**2)
    assert np.abs(np.mean(between, axis=0)).max() < 0.03  # pixels; the published code has 0.28 to 0.85
    assert np.abs(between).max() < 0.3
    assert np.abs(np.mean(off, axis=0)).max() < 0.05
    assert np.mean(areas) == pytest.approx(np.pi * 7**2, rel=0.01)


def test_crop_on_the_scans_own_grid_changes_nothing_and_outside_is_air():
    rng = np.random.default_rng(0)
    image, labels = rng.normal(size=(8, 8)), rng.integers(0, 3, (8, 8))
    same = {"n_classes": 3, "spacing_mm": (0.5, 0.5), "new_spacing_mm": 0.5}
    got_image, got_labels = crop(image, labels, np.array([3.5, 3.5]), size=8, **same)
    np.testing.assert_allclose(got_image, image, atol=1e-12)
    np.testing.assert_array_equal(got_labels, labels)
    wide_image, wide_labels = crop(image, labels, np.array([3.5, 3.5]), size=12, **same)
    assert not wide_image[:2].any()
    assert not wide_labels[:, -2:].any()


def test_a_coarser_grid_averages_instead_of_picking():
    fine = np.indices((64, 64)).sum(0) % 2  # a checkerboard: picking gives 0 or 1, averaging 0.5
    image, _ = crop(
        fine.astype(float),
        fine,
        np.array([31.5, 31.5]),
        n_classes=2,
        spacing_mm=(0.25, 0.25),
        size=12,
        new_spacing_mm=1.0,
    )
    np.testing.assert_allclose(image, 0.5, atol=0.01)


# -- finding the cord ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cord_value", [0.5, 0.9, 1.2])
@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.8, 0.6)])
def test_cord_line_follows_a_tilted_sac_whatever_the_cords_own_brightness(cord_value, spacing):
    volume, true = [], []
    for k in range(6):
        centre = np.array([40.0 + k, 33.0 - 0.5 * k])
        shape = tuple(int(70 / step) for step in spacing)
        picture = disc(centre, 10, shape, spacing) * 1.0
        picture[disc(centre, 5, shape, spacing)] = cord_value
        volume.append(picture)
        true.append(centre / spacing)
    found = cord_line(np.array(volume), spacing_mm=spacing)
    assert np.hypot(*((found - true) * spacing).T).max() < 2.0


def test_grey_scale_and_offset_do_not_move_the_cord_line():
    volume = synthetic()[0].T
    found = cord_line(volume, spacing_mm=(1.0, 1.0))
    np.testing.assert_allclose(cord_line(300 * volume + 5e4, spacing_mm=(1.0, 1.0)), found)


def test_image_centre_reads_no_label(tmp_path):
    image, cord, grey = synthetic()
    moved = (image, *(np.roll(mask, 4, axis=0) for mask in (cord, grey)))
    a = gm_challenge.cohort(write(tmp_path / "a"), size=32, spacing_mm=1.0)
    b = gm_challenge.cohort(write(tmp_path / "b", volumes=moved), size=32, spacing_mm=1.0)
    np.testing.assert_array_equal(a.images, b.images)
    assert (a.labels != b.labels).any()


def test_label_centre_puts_the_cord_in_the_middle(tmp_path):
    got = gm_challenge.cohort(write(tmp_path), size=32, spacing_mm=0.5, center="label")
    np.testing.assert_allclose(np.argwhere(got.labels[0] > 0).mean(0), 15.5, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_mm": (1e-12, 1.0)}, r"spacing_mm must be a number in \[0\.01, 100\]"),
        ({"spacing_mm": (0.0, 1.0)}, r"spacing_mm must be \(2,\)"),
        ({"new_spacing_mm": 1e9}, r"new_spacing_mm must be a number in \[0\.01, 100\]"),
        ({"centre": (np.nan, 1.0)}, "centre must be finite"),
        ({"image": np.full((8, 8), np.inf)}, "image must be finite"),
        ({"labels": np.full((8, 8), 5)}, r"labels must be in 0\.\.1"),
        ({"size": 10**12}, r"size must be an integer in \[1, 4096\]"),
    ],
)
def test_a_crop_that_would_need_any_amount_of_memory_or_has_no_place_is_refused(changes, message):
    good = {"image": np.ones((8, 8)), "labels": np.zeros((8, 8), int), "centre": (4.0, 4.0), "n_classes": 2}
    good |= {"spacing_mm": (1.0, 1.0), "size": 4, "new_spacing_mm": 1.0}
    assert crop(**good)[0].tolist() == np.ones((4, 4)).tolist()
    with pytest.raises(ValueError, match=message):
        crop(**{**good, **changes})


def test_an_empty_slice_has_no_cord_line():
    with pytest.raises(ValueError, match=r"got 2 without any bright blob \(first: slice 1\)"):
        cord_line(
            np.stack([synthetic()[0][..., 0], np.zeros(SHAPE[:2]), np.full(SHAPE[:2], 7.3)]),
            spacing_mm=(1, 1),
        )


def localisation_error_mm(root):
    """Distance of the estimated from the true centre, and whether the cord is well inside a crop.

    Well inside: in 96 x 96 pixels of 0.5 mm with at least 4 pixels to spare on every side.
    """
    rows = []
    for scan in gm_challenge._scans(root):
        estimated, true = gm_challenge._image_centres(scan), gm_challenge._label_centres(scan)
        for k in scan.kept:
            # Half a pixel more: a pixel has a width, and all of it has to fit.
            reach_mm = (np.abs(np.argwhere(scan.labels[k] > 0) - estimated[k]) + 0.5) * scan.spacing_mm
            error_mm = np.hypot(*((estimated[k] - true[k]) * scan.spacing_mm))
            rows.append((int(k), error_mm, reach_mm.max() <= 48 / 2 - 2))
    return pd.DataFrame(rows, columns=["slice", "error_mm", "inside"])


def test_localisation_error_is_the_distance_to_the_drawn_cord(tmp_path):
    image, cord, grey = synthetic()
    near = localisation_error_mm(write(tmp_path / "a", volumes=(image, cord, grey)))
    assert near["slice"].tolist() == [0, 1, 2]
    assert near.error_mm.max() < 2
    assert near.inside.all()
    far = tuple(np.roll(mask, 20, axis=0) for mask in (cord, grey))
    away = localisation_error_mm(write(tmp_path / "b", volumes=(image, *far)))
    assert away.error_mm.to_numpy() == pytest.approx(20, abs=2)
    assert not away.inside.any()


# -- what the cohort says -----------------------------------------------------------------------------------


def test_names_come_from_sidecar_and_folder(tmp_path):
    for session in ("sub-7Ses1", "sub-7Ses2", "sub-8"):
        write(
            tmp_path, session, sidecar={**SIDECAR, "MagneticFieldStrength": 3 if session == "sub-8" else 1.5}
        )
    got = gm_challenge.cohort(tmp_path, size=32, spacing_mm=1.0, group_by="site")
    assert got.domain_names == ("Milan (Siemens 1.5T)", "Milan (Siemens 3T)")
    assert set(got.subjects) == {"sub-7", "sub-8"}
    assert set(got.sessions) == {"sub-7Ses1", "sub-7Ses2", "sub-8"}
    assert gm_challenge.cohort(tmp_path, size=32).domain_names == ("Siemens 1.5T", "Siemens 3T")


def test_every_image_is_z_scored_alone(tmp_path):
    image, cord, grey = synthetic()
    image = image * np.array([1.0, 50.0, 2000.0]) + np.array([0.0, 7.0, -300.0])
    got = gm_challenge.cohort(write(tmp_path, volumes=(image, cord, grey)), size=32, spacing_mm=1.0)
    assert got.images.dtype == np.float32
    np.testing.assert_allclose(got.images.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(got.images.std((1, 2, 3)), 1, atol=1e-5)


def test_a_stray_grey_voxel_without_cord_is_no_slice_and_beside_the_cord_is_grey_matter(tmp_path):
    image, cord, grey = synthetic()
    cord[..., 2], grey[..., 2] = 0, 0
    grey[10, 10, 2] = 1
    grey[33 + 7 : 33 + 10, 24:27, 0] = 1
    got = gm_challenge.cohort(
        write(tmp_path, volumes=(image, cord, grey)), size=47, spacing_mm=1.0, center="label"
    )
    assert len(got) == 2
    assert (got.labels[0] == 2).sum() == (got.labels[1] == 2).sum() + 9


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"size must be an integer in \[1, 4096\], got 0"),
        ({"size": 96.0}, r"size must be .*got 96\.0"),
        ({"size": True}, r"size must be .*got True"),
        ({"size": 10**9}, r"size must be .*got 1000000000"),
        ({"spacing_mm": 1e-300}, r"spacing_mm must be .*got 1e-300"),
        ({"root": 3}, "root must be a path, got 3"),
        ({"spacing_mm": 0.0}, r"spacing_mm must be a number in \[0\.01, 100\], got 0\.0"),
        ({"spacing_mm": float("nan")}, r"spacing_mm must be .*got nan"),
        ({"center": "middle"}, r"center must be one of \('image', 'label'\), got 'middle'"),
        ({"group_by": "vendor"}, r"group_by must be one of \('scanner', 'site'\), got 'vendor'"),
    ],
)
def test_an_argument_out_of_range_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        gm_challenge.cohort(**{"root": write(tmp_path), **arguments})


@pytest.mark.parametrize("kind", ["json", "seg", "gmseg"])
def test_a_missing_file_is_named(tmp_path, kind):
    path = path_of(write(tmp_path), kind)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected .*{path.name}, got no file; fetch"):
        gm_challenge.cohort(tmp_path)


@pytest.mark.parametrize("kind", ["image", "seg", "gmseg"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.6, 0.99])
def test_a_volume_cut_short_is_named(tmp_path, kind, share):
    path = path_of(write(tmp_path), kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"{path.name} must be a whole .*fetch the data again"):
        gm_challenge.cohort(tmp_path)


def test_a_page_in_place_of_a_volume_and_a_fourth_axis_are_named(tmp_path):
    path = path_of(write(tmp_path), "image")
    path.write_bytes(gzip.compress(b"<html>log in first</html>" * 50))
    with pytest.raises(ValueError, match="must be a whole 3-D NIfTI"):
        gm_challenge.cohort(tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((*SHAPE, 2), np.float32), np.eye(4)), path)
    with pytest.raises(ValueError, match="must be a whole 3-D NIfTI"):
        gm_challenge.cohort(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", "[" * 100_000]
    + [json.dumps({**SIDECAR, "MagneticFieldStrength": x}) for x in ("strong", "3", None, True, -3, 1e999)]
    + [json.dumps({**SIDECAR, name: None}) for name in ("Manufacturer", "InstitutionName")],
)
def test_a_sidecar_that_does_not_say_the_scanner_is_named(tmp_path, content):
    path_of(write(tmp_path), "json").write_text(content)
    with pytest.raises(ValueError, match=r"T2starw\.json must be JSON with Manufacturer, Magnetic"):
        gm_challenge.cohort(tmp_path)


@pytest.mark.parametrize("kind", ["seg", "gmseg"])
def test_masks_on_another_grid_are_refused(tmp_path, kind):
    path = path_of(write(tmp_path), kind)
    mask = nibabel.load(path)
    values, affine = mask.get_fdata(), mask.affine.copy()
    nibabel.save(nibabel.Nifti1Image(values[:-1], affine), path)
    with pytest.raises(ValueError, match=r"must be of the image's shape \(3, 56, 60\), got \(3, 56, 59\)"):
        gm_challenge.cohort(tmp_path)
    affine[0, 3] += 0.5
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    with pytest.raises(ValueError, match=r"must be on the image's affine, got one up to 0\.50 mm off it"):
        gm_challenge.cohort(tmp_path)
    affine[0, 3] -= 0.45  # headers are rounded
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    assert len(gm_challenge.cohort(tmp_path, size=32)) == SHAPE[2]


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0])
def test_mask_values_other_than_0_and_1_are_refused(tmp_path, value):
    image, cord, grey = synthetic()
    cord[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"_seg-manual\.nii\.gz must be 0 and 1, got .*binarise"):
        gm_challenge.cohort(write(tmp_path, volumes=(image, cord, grey)))


def test_a_session_without_grey_matter_is_refused(tmp_path):
    image, cord, grey = synthetic()
    with pytest.raises(ValueError, match=r"sub-1 must be .*got cord on 3, grey matter on 0 and both on none"):
        gm_challenge.cohort(write(tmp_path, volumes=(image, cord, 0 * grey)))


def test_an_image_with_nan_or_without_contrast_is_refused(tmp_path):
    image, cord, grey = synthetic()
    with pytest.raises(ValueError, match="constant crop"):
        gm_challenge.cohort(
            write(tmp_path / "a", volumes=(0 * image + 7, cord, grey)), size=16, center="label"
        )
    image[3, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"T2starw\.nii\.gz must be finite, got NaN or infinity"):
        gm_challenge.cohort(write(tmp_path / "b", volumes=(image, cord, grey)))


def test_a_folder_that_is_not_the_data_set_says_what_is_in_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root must be a folder, got .*nowhere"):
        gm_challenge.cohort(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"must be a folder of gm_challenge, .*got an empty folder"):
        gm_challenge.cohort(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"got \['holiday\.jpg'\]; give the folder that holds"):
        gm_challenge.cohort(tmp_path)


def test_no_data_set_anywhere_is_said_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match="segconf data get gm_challenge"):
        gm_challenge.cohort()
    assert list(tmp_path.iterdir()) == []


# -- headers that do not tell the truth ---------------------------------------------------------------------


def rewrite(path, change):
    """Store a file again; `change` gets the image and returns another one."""
    path.write_bytes(gzip.compress(change(nibabel.load(path)).to_bytes()))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAL"])
def test_spacing_is_that_of_the_affine_whatever_pixdim_says(tmp_path, axes):
    def tripled(stored):
        stored = nibabel.Nifti1Image(np.asarray(stored.dataobj), stored.affine, stored.header)
        stored.header.set_zooms([3 * zoom for zoom in stored.header.get_zooms()])
        stored.header["qform_code"], stored.header["sform_code"] = 0, 1
        return stored

    expected = gm_challenge.cohort(write(tmp_path / "a", axes=axes), size=32, spacing_mm=1.0)
    folder = write(tmp_path / "b", axes=axes)
    for kind in ("image", "seg", "gmseg"):
        rewrite(path_of(folder, kind), tripled)
    assert gm_challenge.cohort(folder, size=32, spacing_mm=1.0).fingerprint() == expected.fingerprint()


def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path):
    path = path_of(write(tmp_path), "image")
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40:48] = np.array([3, 300, 300, 300], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"bytes cannot hold the shape \(300, 300, 300\) of float32"):
        gm_challenge.cohort(tmp_path)
    content[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"the header states the shape \(30000, 30000, 30000\)"):
        gm_challenge.cohort(tmp_path)


def test_complex_intensities_and_a_flat_voxel_are_refused(tmp_path):
    path = path_of(write(tmp_path), "image")
    rewrite(path, lambda image: nibabel.Nifti1Image(image.get_fdata().astype(np.complex64), image.affine))
    with pytest.raises(ValueError, match=r"must be a whole 3-D NIfTI of real numbers, got .*complex64"):
        gm_challenge.cohort(tmp_path)
    write(tmp_path, spacing=(1e-6, 1.0, 3.0))
    with pytest.raises(ValueError, match=r"column spacing of .*must be a number in .*mend its affine"):
        gm_challenge.cohort(tmp_path)


# -- the published files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_root():
    own = os.environ.get("SEGCONF_DATA")
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = (Path(own) if own else beside) / "gm_challenge"
    if not root.is_dir():
        pytest.skip("needs the published scans: segconf data get gm_challenge")
    return root


@pytest.fixture(scope="module")
def real(real_root):
    return gm_challenge.cohort(real_root)


def test_real_cohort_has_the_stated_slices_people_and_scanners(real):
    assert real.images.shape == (143, 1, 96, 96)
    assert {name: int((real.domains == name).sum()) for name in real.domain_names} == {
        "Siemens 3T": 72,
        "Philips 3T": 31,
        "Siemens 1.5T": 40,
    }
    per_session = dict(zip(*np.unique(real.sessions, return_counts=True), strict=True))
    assert per_session == {
        "sub-10062Ses1": 20,
        "sub-10062Ses2": 20,
        "sub-9418": 17,
        "sub-9584": 17,
        "sub-9604": 14,
        "sub-9669": 15,
        "sub-9709Ses1": 20,
        "sub-9709Ses2": 20,
    }
    assert set(real.subjects) == {"sub-10062", "sub-9418", "sub-9584", "sub-9604", "sub-9669", "sub-9709"}
    assert real.raters is None


def test_real_cords_have_the_size_of_cords(real):
    area_mm2 = (real.labels > 0).sum((1, 2)) * 0.25
    grey_share = (real.labels == 2).sum((1, 2)) / (real.labels > 0).sum((1, 2))
    assert area_mm2.min() > 55
    assert area_mm2.max() < 110
    assert 0.08 < grey_share.min() < grey_share.max() < 0.35


def test_real_cohort_is_the_same_twice(real, real_root):
    assert gm_challenge.cohort(real_root).fingerprint() == real.fingerprint()


def test_real_sites_are_named_as_the_sites_wrote_them(real_root):
    assert gm_challenge.cohort(real_root, size=8, group_by="site").domain_names == (
        "CEITEC (Siemens 3T)",
        "University College London (Philips 3T)",
        "North-West University (Siemens 3T)",
        "CHUM (Philips 3T)",
        "Juntendo (Siemens 3T)",
        "Milan (Siemens 1.5T)",
    )


def test_real_localisation_is_as_good_as_its_docstring_states(real_root):
    error = localisation_error_mm(real_root)
    assert len(error) == 143
    assert (~error.inside).sum() == 0
    assert error.error_mm.mean() == pytest.approx(2.9, abs=0.05)
    assert error.error_mm.max() == pytest.approx(6.6, abs=0.05)


def test_shipped_registry_is_of_these_very_files(real_root):
    import hashlib

    from segconf_lite.cohorts import download

    for path, digest in download.registry("gm_challenge").items():
        assert hashlib.sha256((real_root / path).read_bytes()).hexdigest() == digest, path


def test_one_damaged_session_is_named_and_the_others_stay_readable(real_root, tmp_path):
    for session in ("sub-9418", "sub-9604"):
        for part in (session, f"derivatives/labels/{session}"):
            shutil.copytree(real_root / part, tmp_path / part)
    path = path_of(tmp_path, "image", "sub-9604")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"sub-9604_run-1_T2starw\.nii\.gz must be the published file"):
        gm_challenge.cohort(tmp_path)
    shutil.rmtree(tmp_path / "sub-9604")
    assert len(gm_challenge.cohort(tmp_path)) == 17


def test_a_published_session_that_was_altered_is_not_read_and_one_of_your_own_is(real_root, tmp_path):
    for part in ("sub-9604", "derivatives/labels/sub-9604"):
        shutil.copytree(real_root / part, tmp_path / part)
    path = path_of(tmp_path, "gmseg", "sub-9604")
    path.chmod(0o644)
    rewrite(path, lambda mask: nibabel.Nifti1Image(np.flip(mask.get_fdata(), 2), mask.affine, mask.header))
    with pytest.raises(ValueError, match=r"gmseg-manual\.nii\.gz must be the published file .*got another"):
        gm_challenge.cohort(tmp_path)
    for file in sorted(tmp_path.rglob("sub-9604*"), reverse=True):
        file.rename(file.with_name(file.name.replace("sub-9604", "sub-mine")))
    assert set(gm_challenge.cohort(tmp_path, size=16).subjects) == {"sub-mine"}
