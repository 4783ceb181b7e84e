"""One file: every format gives the same values, and what contradicts itself or is too large is refused."""

import contextlib
import gzip
import sys
import time
import tracemalloc

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from segconf_lite.readers.files import read, stem
from segconf_lite.readers.stored import DamagedCaseError

MOST = 2**24


def load(path, role="image", most_bytes=MOST):
    return read(path, role=role, most_bytes=most_bytes)


def header(path, **changes):
    """Change fields of the header of an unzipped NIfTI file, and write it to `path`."""
    image = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32), np.eye(4))
    image.set_qform(np.eye(4), 1)
    content = bytearray(image.to_bytes())
    fields = nibabel.Nifti1Header(bytes(content[:348]))
    for name, value in changes.items():
        fields[name] = value
    content[:348] = fields.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


# -- formats ------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_slice(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.BMP")
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.savez_compressed(tmp_path / "a.npz", values)
    nibabel.save(nibabel.Nifti1Image(values.T[..., None], np.diag([-1, -1, 1, 1])), tmp_path / "a.nii")
    for name in ("a.png", "a.BMP", "a.tif", "a.npz", "a.nii"):
        assert np.array_equal(load(tmp_path / name).values, values[None, None]), name
        assert np.array_equal(load(tmp_path / name, "labels").values, values[None, None]), name


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_wide_numbers_are_kept(tmp_path, dtype):
    values = (np.random.default_rng(0).random((12, 10)) * 60_000).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert np.array_equal(load(tmp_path / "a.tif").values[0, 0], values)
    if dtype == np.uint16:
        Image.fromarray(values).save(tmp_path / "a.png")
        assert np.array_equal(load(tmp_path / "a.png").values[0, 0], values)


def test_pages_are_slices_and_colours_channels(tmp_path):
    tifffile.imwrite(tmp_path / "pages.tif", np.zeros((5, 12, 10), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((12, 10, 3), np.uint8), photometric="rgb")
    assert load(tmp_path / "pages.tif").values.shape == (1, 5, 12, 10)
    assert load(tmp_path / "rgb.tif").values.shape == (3, 1, 12, 10)


def test_an_archive_holds_image_labels_and_spacing(tmp_path):
    arrays = {"image": np.ones((2, 3, 4, 5)), "labels": np.zeros((3, 4, 5), int), "spacing_mm": [0.5, 0.7]}
    np.savez(tmp_path / "a.npz", **arrays)
    assert load(tmp_path / "a.npz").values.shape == (2, 3, 4, 5)
    assert load(tmp_path / "a.npz", "labels").values.shape == (1, 3, 4, 5)
    assert load(tmp_path / "a.npz").spacing_mm == (0.5, 0.7)
    np.savez(tmp_path / "b.npz", x=np.ones(3), y=np.ones(3))
    with pytest.raises(DamagedCaseError, match="with one array, or one named 'image'"):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", np.array([{}], dtype=object))
    with pytest.raises(DamagedCaseError):
        load(tmp_path / "c.npz")


def test_transparency_is_dropped_if_it_says_nothing(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (12, 10, 4), np.uint8)
    values[..., 3] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    assert load(tmp_path / "a.png").values.shape == (3, 1, 12, 10)
    values[0, 0, 3] = 3
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.raises(DamagedCaseError, match="an alpha channel that varies"):
        load(tmp_path / "a.png")


def test_labels_are_never_read_from_a_format_with_loss(tmp_path):
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(tmp_path / "a.jpg")
    assert load(tmp_path / "a.jpg").values.shape == (1, 1, 12, 10)
    with pytest.raises(DamagedCaseError, match="JPEG, which changes values"):
        load(tmp_path / "a.jpg", "labels")


def test_mha_needs_simpleitk_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    (tmp_path / "a.mha").write_bytes(b"")
    with pytest.raises(DamagedCaseError, match=r"where SimpleITK is not installed.*pip install SimpleITK"):
        load(tmp_path / "a.mha")


def test_mha_is_the_same_as_nifti(tmp_path, write):
    itk = pytest.importorskip("SimpleITK")
    image, _ = write.ball()
    path = write.nifti(tmp_path / "a.nii.gz", image, axes="RSP")
    itk.WriteImage(itk.ReadImage(str(path)), str(tmp_path / "a.mha"))
    expected, got = load(path), load(tmp_path / "a.mha")
    assert np.array_equal(got.values, expected.values)
    assert np.allclose(got.affine, expected.affine, atol=1e-4)
    with pytest.raises(DamagedCaseError, match="at most"):
        load(tmp_path / "a.mha", most_bytes=1000)


def test_names_end_where_the_format_begins(tmp_path):
    assert [stem(tmp_path / name) for name in ("a.b.nii.gz", "A.PNG", "x.dcm", ".a.png")] == [
        "a.b",
        "A",
        "",
        "",
    ]
    (tmp_path / "a.dcm").touch()
    with pytest.raises(DamagedCaseError, match=r"one of .nii.gz, .*got .dcm; convert it"):
        load(tmp_path / "a.dcm")


# -- headers that contradict themselves ---------------------------------------------------------------------


def test_a_header_whose_forms_agree_is_read(tmp_path):
    assert load(header(tmp_path / "a.nii")).notes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pixdim": [1, 2, 1, 1, 1, 1, 1, 1]},
            "of one voxel size, got 1 x 1 x 1 mm by its affine and 2 x 1 x 1",
        ),
        ({"srow_x": [2, 0, 0, 0]}, "of one voxel size"),
        ({"srow_x": [-1, 0, 0, 0]}, "of one orientation .*got LAS by its sform and RAS by its qform"),
        ({"srow_x": [0, 0, 0, 0]}, "with an affine that can be inverted"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "with an affine that can be inverted"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, changes, message):
    with pytest.raises(DamagedCaseError, match=message):
        load(header(tmp_path / "a.nii", **changes))


def test_what_is_harmless_is_told(tmp_path):
    shifted = load(header(tmp_path / "a.nii", srow_x=[1, 0, 0, 40]))
    assert "sform and qform place the volume differently" in shifted.notes[0]
    nowhere = load(header(tmp_path / "a.nii", sform_code=0, qform_code=0))
    assert "states no orientation" in nowhere.notes[0]


def test_metres_are_millimetres_at_last(tmp_path):
    path = header(tmp_path / "a.nii", xyzt_units=1)
    assert np.allclose(nibabel.affines.voxel_sizes(load(path).affine), 1000)


# -- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.png", "a.tif", "a.npz"])
@pytest.mark.parametrize("how", ["empty", "half", "text", "missing"])
def test_damaged_files_are_refused_by_name(tmp_path, name, how):
    values = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    path = tmp_path / name
    if name.endswith((".gz", ".nii")):
        nibabel.save(nibabel.Nifti1Image(values[..., None], np.eye(4)), path)
    elif name.endswith(".npz"):
        np.savez(path, values)
    else:
        Image.fromarray(values).save(path) if name.endswith("png") else tifffile.imwrite(path, values)
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "half": content[: len(content) // 2], "text": b"<html>" * 200}.get(how, b"")
    )
    if how == "missing":
        path.unlink()
    with pytest.raises(DamagedCaseError, match=name):
        load(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tif", "a.npz"])
def test_changed_bytes_are_read_or_refused_and_nothing_else(tmp_path, name):
    rng = np.random.default_rng(0)
    values, path = rng.integers(0, 255, (12, 10), np.uint8), tmp_path / name
    if name.startswith("a.nii"):
        header(path)
    elif name == "a.npz":
        np.savez(path, values)
    else:
        Image.fromarray(values).save(path) if name == "a.png" else tifffile.imwrite(path, values)
    content = path.read_bytes()
    for number in range(40):
        changed = bytearray(content)
        for place in rng.integers(0, min(len(content), 400), 3):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        with contextlib.suppress(DamagedCaseError):
            assert np.isfinite(load(path, ("image", "labels")[number % 2]).values).all()


def test_a_changed_byte_is_found_by_the_check_sum(tmp_path):
    content = bytearray(header(tmp_path / "a.nii.gz").read_bytes())
    content[-6] ^= 1  # of the check sum
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(DamagedCaseError, match="CRC"):
        load(tmp_path / "a.nii.gz")


def test_values_that_are_not_finite_are_refused(tmp_path):
    values = np.ones((4, 4, 2), np.float32)
    values[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DamagedCaseError, match="must be finite, got NaN or infinity"):
        load(tmp_path / "a.nii")


def test_a_header_that_claims_gigabytes_costs_nothing(tmp_path):
    path = header(tmp_path / "a.nii.gz", dim=[3, 20_000, 20_000, 20_000, 1, 1, 1, 1])
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(DamagedCaseError, match="claims the shape"):
        load(path, most_bytes=2**30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert time.perf_counter() - start < 2


def test_zeros_without_end_are_not_unpacked(tmp_path):
    bomb = header(tmp_path / "a.nii")
    content = bomb.read_bytes() + bytes(2**26)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    load(tmp_path / "a.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npz", "a.nii.gz"])
def test_every_format_meets_the_limit_before_it_is_decoded(tmp_path, name):
    path = tmp_path / name
    values = np.zeros((64, 64), np.uint8)
    if name == "a.npz":
        np.savez_compressed(path, values)
    elif name == "a.nii.gz":
        nibabel.save(nibabel.Nifti1Image(values[..., None], np.eye(4)), path)
    else:
        Image.fromarray(values).save(path) if name == "a.png" else tifffile.imwrite(path, values)
    assert load(path, most_bytes=4 * 64 * 64).values.size == 64 * 64
    with pytest.raises(DamagedCaseError, match=r"at most .* GB as float32"):
        load(path, most_bytes=4 * 64 * 64 - 1)
