"""Laws of the way from a volume to slices: where things are, whatever the order in the file."""

import re
import warnings

import nibabel
import numpy as np
import pytest

from segconf_lite.cohorts import download, gm_challenge
from segconf_lite.readers import DamagedCaseError, from_folder
from segconf_lite.readers.geometry import in_plane, on_grid, plane_of, spacing_in_plane
from segconf_lite.readers.stored import Stored

AXES = ["LPS", "RAS", "LAS", "SPL", "PIR", "ASR", "RSP", "ILA"]
QUIET = {"progress": False}


def centroid(plane):
    """(2,) row and column of the centre of mass."""
    plane = plane.astype(float)
    return np.array([(index * plane).sum() for index in np.indices(plane.shape)]) / plane.sum()


@pytest.mark.parametrize("axes", AXES)
def test_the_order_of_axes_in_the_file_never_shows(tmp_path, write, axes):
    expected = from_folder(write.nnunet(tmp_path / "a"), **QUIET)
    got = from_folder(write.nnunet(tmp_path / "b", axes=axes), **QUIET)
    assert got.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("axes", AXES[:4])
@pytest.mark.parametrize(("spacing_mm", "size"), [(None, None), (None, 31), (0.7, 48), (1.3, 29)])
def test_a_ball_lies_where_it_was_put_in_image_and_labels(tmp_path, write, axes, spacing_mm, size):
    centre = (17.3, 20.6, 2.0)  # columns, rows, slices
    write.nnunet(tmp_path, ["p1"], axes=axes, centre=centre)
    got = from_folder(tmp_path, size=size, spacing_mm=spacing_mm, normalise=None, **QUIET)
    side_mm, middle = spacing_mm or 1.0, np.array([17.5, 19.5])  # of 36 rows and 40 columns
    new_middle = (np.array(got.labels.shape[1:]) - 1) / 2
    if (
        spacing_mm is None and size is not None
    ):  # pixels are kept, so of an odd number one more goes at the end
        new_middle = middle - np.array([(36 - size) // 2, (40 - size) // 2])
    expected = new_middle + (np.array(centre[1::-1]) - middle) / side_mm
    image, labels = got.images[2, 0] - got.images[2, 0].min(), got.labels[2]
    image[image < 0.05 * image.max()] = 0  # the noise around it
    assert np.abs(centroid(image) - expected).max() < 0.1
    assert np.abs(centroid(labels) - centroid(image)).max() < 0.1


@pytest.mark.parametrize("old", [(0.6, 0.6), (1.0, 1.3), (1.4, 0.8)])
@pytest.mark.parametrize(("new", "size"), [(None, 31), (None, 40), (0.7, 46), (1.0, 33), (1.2, 32)])
def test_image_and_labels_are_never_apart(old, new, size):
    # A staircase tells a fifth of a pixel of where its disc is; the mean of many discs tells the rest.
    rng = np.random.default_rng(0)
    rows, columns = np.indices((36, 41))
    grid = {"n_classes": 2, "spacing_mm": old, "size": size, "new_spacing_mm": new}
    apart = []
    for centre in np.array([17.5, 20]) + rng.uniform(-1, 1, (60, 2)):
        away = np.hypot((rows - centre[0]) * old[0], (columns - centre[1]) * old[1])
        image = np.clip((6 - away) / 1.4 + 0.5, 0, 1)
        (plane,), (drawn,) = on_grid(image[None], [(away <= 6).astype(int)], **grid)
        apart.append(centroid(plane) - centroid(drawn))
    assert np.abs(np.mean(apart, axis=0)).max() < 0.08
    assert np.abs(apart).max() < 0.6


def test_the_crop_never_looks_at_the_labels(tmp_path, write):
    grid = {"size": 24, "spacing_mm": 0.9}
    expected = from_folder(write.nnunet(tmp_path, ["p1"]), **grid, **QUIET)
    _, elsewhere = write.ball(centre=(22.0, 14.0, 3.0), radius=4)
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", elsewhere)
    got = from_folder(tmp_path, **grid, **QUIET)
    assert np.array_equal(got.images, expected.images)
    assert not np.array_equal(got.labels, expected.labels)


def test_a_crop_that_cuts_the_object_is_told(tmp_path, write):
    write.nnunet(tmp_path, ["p1", "p2"], centre=(29.0, 20.0, 2.0))
    with pytest.warns(
        UserWarning, match=r"more than a tenth of what is segmented is lost to the crop.*\(in 2 cases\)"
    ):
        from_folder(tmp_path, size=24, **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_folder(tmp_path, size=44, spacing_mm=0.9, **QUIET)


def test_cords_have_the_area_that_their_own_reader_finds():
    try:
        root = download.find("gm_challenge")
    except FileNotFoundError:
        pytest.skip("the data set is not on this computer")
    names = {"label_suffix": "seg-manual", "labels": {0: "background", 1: "cord"}}
    got = from_folder(
        root, subject=re.compile(r"sub-\d+"), limit=3, size=128, spacing_mm=0.5, **names, **QUIET
    )
    own = gm_challenge.cohort(root, center="label").where(
        session=["sub-10062Ses1", "sub-10062Ses2", "sub-9418"]
    )
    assert set(got.subjects) == {"sub-10062", "sub-9418"} == set(own.subjects)
    # Its own reader leaves out slices without grey matter, a hundredth of the cord.
    assert np.count_nonzero(got.labels) == pytest.approx(np.count_nonzero(own.labels), rel=0.02)


def test_what_is_outside_is_the_smallest_intensity_so_that_units_do_not_matter():
    image, grid = np.random.default_rng(0).normal(size=(1, 9, 9)), {"n_classes": 2, "spacing_mm": (1.0, 1.0)}
    for new_spacing_mm in (None, 0.8):
        grid |= {"size": 16, "new_spacing_mm": new_spacing_mm}
        plain, (drawn,) = on_grid(image, [np.ones((9, 9), int)], **grid)
        shifted, _ = on_grid(3 * image - 1000, [np.ones((9, 9), int)], **grid)
        assert np.allclose(shifted, 3 * plain - 1000)
        assert plain[0, 0, 0] == image.min()
        assert drawn[0, 0] == 0


def test_without_a_new_spacing_pixels_are_kept():
    image = np.arange(35.0).reshape(1, 5, 7)
    grid = {"n_classes": 2, "spacing_mm": (1.0, 2.0), "new_spacing_mm": None}
    (got,), _ = on_grid(image, [np.zeros((5, 7), int)], size=3, **grid)
    assert np.array_equal(got, image[0, 1:4, 2:5])
    (got,), _ = on_grid(image, [np.zeros((5, 7), int)], size=9, **grid)
    assert np.array_equal(got[2:7, 1:8], image[0])


def test_slices_are_seen_as_a_radiologist_sees_them():
    x, y, z = (np.arange(n) for n in (3, 4, 5))  # towards left, back, head
    values = (x[None, None] + 10 * y[None, :, None] + 100 * z[:, None, None])[None]  # (C, S, H, W)
    stored = Stored(values, np.diag([-1.0, -2.0, 3.0, 1.0]))
    axial, coronal, sagittal = (in_plane(stored, plane)[0] for plane in ("axial", "coronal", "sagittal"))
    assert axial[0].tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert coronal[0][0].tolist() == [400, 401, 402]  # head at the top, right at the left
    assert coronal[1][4].tolist() == [10, 11, 12]
    assert sagittal[0][0].tolist() == [400, 410, 420, 430]  # head at the top, front at the left
    assert [spacing_in_plane(stored, plane) for plane in ("axial", "coronal", "sagittal")] == [
        (2.0, 1.0),
        (3.0, 1.0),
        (3.0, 2.0),
    ]


@pytest.mark.parametrize(
    ("sizes", "shape", "plane"),
    [
        ((1, 1, 4), (8, 8, 8), "axial"),
        ((1, 4, 1), (8, 8, 8), "coronal"),
        ((4, 1, 1), (8, 8, 8), "sagittal"),
        ((1, 1.05, 1), (8, 8, 8), "axial"),
        ((1, 3, 3), (8, 8, 8), "axial"),
        ((1, 1, 1), (8, 1, 8), "coronal"),
    ],
)
def test_volumes_are_cut_normal_to_their_coarsest_axis(sizes, shape, plane):
    image = Stored(np.zeros((1, *shape[::-1])), np.diag([-sizes[0], -sizes[1], sizes[2], 1.0]))
    assert plane_of(image, "coarsest") == plane
    assert plane_of(image, "axial") == "axial"


def test_mixed_planes_are_refused_with_the_cases_and_one_can_be_chosen(tmp_path, write):
    write.nnunet(tmp_path, ["p1"])
    image, drawn = write.ball(shape=(36, 8, 36), spacing=(1, 4, 1), centre=(17, 4, 17), seed=5)
    write.nifti(tmp_path / "imagesTr/p2_0000.nii.gz", image, spacing=(1, 4, 1))
    write.nifti(tmp_path / "labelsTr/p2.nii.gz", drawn, spacing=(1, 4, 1))
    with pytest.raises(ValueError, match=r"one plane, got axial in 1 case \(p1\), coronal in 1 case \(p2\)"):
        from_folder(tmp_path, size=32, **QUIET)
    got = from_folder(tmp_path, size=32, spacing_mm=1.0, plane="axial", **QUIET)
    assert len(got) == 5 + 36


def test_labels_on_another_grid_are_refused_and_both_are_told(tmp_path, write):
    write.nnunet(tmp_path, ["p1"])
    _, drawn = write.ball()
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn, origin=(5.0, -7.0, 12.5))
    message = r"grid of its image \(40 x 36 x 5 voxels of 1 x 1 x 4 mm, LPS, .*\(5, -7, 11\) mm\), got .*12.5"
    with pytest.raises(DamagedCaseError, match=message):
        from_folder(tmp_path, **QUIET)
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn[:, :-1])
    with pytest.raises(DamagedCaseError, match="got 40 x 35 x 5 voxels"):
        from_folder(tmp_path, **QUIET)
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn, origin=(5.1, -7.0, 11.0))  # rounding of a header
    assert len(from_folder(tmp_path, **QUIET)) == 5


def test_labels_may_be_stored_along_other_axes_than_their_image(tmp_path, write):
    expected = from_folder(write.nnunet(tmp_path), **QUIET)
    _, drawn = write.ball()
    write.nifti(tmp_path / "labelsTr/p1.nii.gz", drawn, axes="SRA")
    assert from_folder(tmp_path, **QUIET).fingerprint() == expected.fingerprint()


def test_oblique_stacks_that_lie_closest_to_different_planes_can_be_read_as_stored(tmp_path, write):
    image, drawn = write.ball()
    for name, angle in (("p1", 0.6), ("p2", 1.0)):
        turned = nibabel.eulerangles.euler2mat(x=angle) @ np.diag([-1.0, -1.0, 4.0])
        for folder, values in ((f"imagesTr/{name}_0000", image), (f"labelsTr/{name}", drawn)):
            (tmp_path / folder).parent.mkdir(exist_ok=True)
            affine = nibabel.affines.from_matvec(turned, [1, 2, 3])
            nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"{folder}.nii.gz")
    names = {"labels": {0: "background", 1: "ball"}, "size": 36}
    with pytest.raises(ValueError, match=r"one plane, got .*or 'stored' for oblique stacks"):
        from_folder(tmp_path, **names, **QUIET)
    got = from_folder(tmp_path, plane="stored", **names, **QUIET)
    assert np.array_equal(got.labels[:5], got.labels[5:])
    assert np.allclose(got.spacing_mm, 1.0)


def test_an_oblique_volume_is_cut_along_its_own_axes(tmp_path, write):
    image, drawn = write.ball()
    turned = nibabel.eulerangles.euler2mat(z=0.3, y=0.2, x=0.1) @ np.diag([-1.0, -1.0, 4.0])
    affine = nibabel.affines.from_matvec(turned, [1, 2, 3])
    for folder, values in (("imagesTr/p1_0000", image), ("labelsTr/p1", drawn)):
        (tmp_path / folder).parent.mkdir()
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"{folder}.nii.gz")
    got = from_folder(tmp_path, labels={0: "background", 1: "ball"}, **QUIET)
    assert np.allclose(got.spacing_mm, 1.0)
    assert np.array_equal(got.labels, drawn.transpose(2, 1, 0))
