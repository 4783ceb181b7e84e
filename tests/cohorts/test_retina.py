"""Laws of the retina cohort, on small synthetic photographs, and its facts, on the published files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segconf_lite.cohorts import download, retina

H, W, RADIUS, WIDTH = 60, 66, 27.0, 54
MIDDLE = (29.5, 32.5)


def disc(radius=RADIUS, middle=MIDDLE, shape=(H, W)):
    rows, columns = np.indices(shape)
    return np.hypot(rows - middle[0], columns - middle[1]) <= radius


def photograph(seed=0, field=None):
    """(H, W, 3) uint8 colours and the first observer's (H, W) drawing: two dark vessels on a bright disc."""
    field = disc() if field is None else field
    rng = np.random.default_rng(seed)
    vessel = np.zeros(field.shape, dtype=bool)
    vessel[:, 20:24] = vessel[40:42] = True
    vessel &= field
    green = 120 - 50 * vessel + rng.integers(0, 20, field.shape)
    colours = np.stack([np.full(field.shape, 200), green, rng.integers(0, 255, field.shape)], axis=-1)
    return (colours * field[..., None]).astype(np.uint8), vessel


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = {"quality": 100, "subsampling": 0} if path.suffix.lower() == ".jpg" else {}
    Image.fromarray(values).save(path, **quality)


def write_chase(folder, names=("01L", "01R", "02L", "02R", "03L")):
    for seed, name in enumerate(names):
        colours, vessel = photograph(seed)
        save(folder / f"CHASE_DB1/Image_{name}.jpg", colours)
        save(folder / f"CHASE_DB1/Image_{name}_1stHO.png", vessel)
        save(folder / f"CHASE_DB1/Image_{name}_2ndHO.png", np.roll(vessel, 1, axis=1))
    return folder


def write_hrf(folder, names=("01_dr", "01_h", "02_g"), quarter=False):
    """The field of view is cut off above and below, as in the published files."""
    part = folder / ("HRF_quarter" if quarter else "HRF")
    scale = 1 if quarter else 2
    for seed, name in enumerate(names):
        field = disc()[10:50]
        colours, vessel, field = (
            plane.repeat(scale, axis=0).repeat(scale, axis=1) for plane in (*photograph(seed, field), field)
        )
        save(part / f"images/{name}.{'jpg' if seed or quarter else 'JPG'}", colours)
        end, mask_end = (".png", ".png") if quarter else (".tif", "_mask.tif")
        save(part / f"manual1/{name}{end}", vessel.astype(np.uint8) * 255)
        save(part / f"mask/{name}{mask_end}", field[..., None].repeat(3, axis=2).astype(np.uint8) * 255)
    return folder


def write(folder):
    return write_hrf(write_chase(folder))


# -- what the cohort says -----------------------------------------------------------------------------------


def test_two_cameras_are_two_domains_and_eyes_are_sessions_of_a_child(tmp_path):
    got = retina.cohort(write(tmp_path), size=32)
    assert got.images.shape == (8, 1, 32, 32)
    assert got.domain_names == ("Nidek NM-200-D", "Canon CR-1")
    assert got.subjects.tolist() == [
        "chase-01",
        "chase-01",
        "chase-02",
        "chase-02",
        "chase-03",
        "hrf-01_dr",
        "hrf-01_h",
        "hrf-02_g",
    ]
    assert got.sessions.tolist()[:5] == ["chase-01-L", "chase-01-R", "chase-02-L", "chase-02-R", "chase-03-L"]
    assert got.sessions.tolist()[5:] == got.subjects.tolist()[5:]
    assert got.class_names == ("background", "vessel")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("view", ["resized", "tiles"])
def test_no_split_divides_a_child(tmp_path, seed, view):
    a, b = retina.cohort(write_chase(tmp_path), size=16, camera="chase", view=view).split(
        (0.5, 0.5), seed=seed
    )
    assert not set(a.subjects) & set(b.subjects)
    assert len(a) + len(b) == 5 * (4 if view == "tiles" else 1)


def test_raters_are_both_observers_in_order_where_every_image_has_two(tmp_path):
    write(tmp_path)
    chase = retina.cohort(tmp_path, size=WIDTH, camera="chase")
    assert chase.raters.shape == (5, 2, WIDTH, WIDTH)
    np.testing.assert_array_equal(chase.raters[:, 0], chase.labels)
    np.testing.assert_array_equal(chase.raters[:, 1, :, 1:], chase.labels[:, :, :-1])  # one column further
    assert retina.cohort(tmp_path, size=16, camera="hrf").raters is None
    assert retina.cohort(tmp_path, size=16).raters is None


@pytest.mark.parametrize("kind", [{}, {"view": "tiles"}, {"view": "tiles", "degrees_per_pixel": 1.3}])
def test_both_cameras_together_are_the_two_one_after_the_other(tmp_path, kind):
    write(tmp_path)
    both = retina.cohort(tmp_path, size=16, **kind)
    for camera, domain in (("chase", "Nidek NM-200-D"), ("hrf", "Canon CR-1")):
        alone = retina.cohort(tmp_path, size=16, camera=camera, **kind)
        np.testing.assert_array_equal(both.where(domain=domain).images, alone.images)
        np.testing.assert_array_equal(both.where(domain=domain).labels, alone.labels)


def test_only_the_green_channel_is_read_inside_the_field(tmp_path):
    write_chase(tmp_path / "a", names=("01L",))
    path = tmp_path / "b/CHASE_DB1/Image_01L.png"
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with Image.open(path.with_suffix(".jpg")) as opened:
        colours = np.array(opened)
    for folder, blue in (("a", 0), ("b", 255)):
        changed = colours.copy()
        changed[..., 2] = blue
        Image.fromarray(changed).save(tmp_path / folder / "CHASE_DB1/Image_01L.jpg", format="PNG")
    a, b = (retina.cohort(tmp_path / folder, size=32, camera="chase") for folder in "ab")
    assert a.fingerprint() == b.fingerprint()


# -- pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, WIDTH, 80])
def test_images_are_z_scored_inside_the_field_and_0_outside(tmp_path, size):
    got = retina.cohort(write(tmp_path), size=size)
    centre = (size - 1) / 2
    for domain, cut in (("Nidek NM-200-D", 1.0), ("Canon CR-1", 40 / WIDTH)):
        part = got.where(domain=domain)
        sure_in = disc(size * 0.47, (centre, centre), (size, size))
        rows = np.abs(np.arange(size) - centre)
        sure_out = ~disc(size * 0.53, (centre, centre), (size, size)) | (rows > (cut * size + 3) / 2)[:, None]
        assert (part.images[:, 0][:, sure_in & (rows < (cut * size - 3) / 2)[:, None]] != 0).all()
        assert (part.images[:, 0][:, sure_out] == 0).all()
        for image in part.images:
            inside = image[image != 0].astype(np.float64)
            assert inside.mean() == pytest.approx(0, abs=1e-5)
            assert inside.std() == pytest.approx(1, abs=1e-5)


def test_resizing_to_the_fields_own_width_changes_nothing(tmp_path):
    got = retina.cohort(write_chase(tmp_path), size=WIDTH, camera="chase")
    colours, vessel = photograph(0)
    rows, columns = slice(3, 57), slice(6, 60)
    np.testing.assert_array_equal(got.labels[0], vessel[rows, columns])
    inside = disc()[rows, columns]
    green = colours[rows, columns, 1][inside]
    assert np.corrcoef(green, got.images[0, 0][inside])[0, 1] > 0.98  # JPEG


@pytest.mark.parametrize("size", [12, 24, 48, 96])
@pytest.mark.parametrize("width", [0.7, 2.0, 5.0])
def test_vessels_keep_their_area_at_every_size(tmp_path, size, width):
    write_chase(tmp_path, names=("01L",))
    rows, columns = np.indices((H, W))
    drawn = disc() & (
        (np.abs(rows - 0.63 * columns - 8) < width) | (np.abs(rows + 1.7 * columns - 90) < width)
    )
    save(tmp_path / "CHASE_DB1/Image_01L_1stHO.png", drawn)
    got = retina.cohort(tmp_path, size=size, camera="chase")
    # A straight vessel covers many pixels equally, so a few more or less of them tie.
    assert got.labels.mean() == pytest.approx(drawn.sum() / WIDTH**2, rel=0.03, abs=2 / size**2)


def test_image_and_drawing_stay_aligned_and_upright(tmp_path):
    got = retina.cohort(write(tmp_path), size=44)
    for image, label in zip(got.images[:, 0], got.labels, strict=True):
        inside = image != 0
        assert image[inside & (label == 1)].mean() < image[inside & (label == 0)].mean() - 1
    assert got.labels[0][:, 13].sum() > got.labels[0][:, 30].sum()  # the upright vessel lies at the left
    assert got.labels[0][31].sum() > got.labels[0][13].sum()  # the level one below the middle


def test_a_vessel_outside_the_field_stays_as_drawn(tmp_path):
    write_chase(tmp_path, names=("01L",))
    drawn = np.zeros((H, W), dtype=bool)
    drawn[3:6, 6:9] = True  # a corner of the square around the disc
    save(tmp_path / "CHASE_DB1/Image_01L_1stHO.png", drawn)
    got = retina.cohort(tmp_path, size=WIDTH, camera="chase")
    assert got.labels[0, :3, :3].all()
    assert got.labels.sum() == 9


# -- tiles --------------------------------------------------------------------------------------------------


def test_tiles_have_their_middle_in_the_field_and_follow_the_seed(tmp_path):
    write(tmp_path)
    arguments = {"size": 15, "view": "tiles", "tiles_per_image": 12}
    got = retina.cohort(tmp_path, **arguments)
    assert got.images.shape == (8 * 12, 1, 15, 15)
    assert (got.images[:, 0, 7, 7] != 0).all()
    assert got.fingerprint() == retina.cohort(tmp_path, **arguments).fingerprint()
    assert got.fingerprint() != retina.cohort(tmp_path, **arguments, seed=1).fingerprint()
    assert len(np.unique(got.images.reshape(96, -1), axis=0)) > 80


def test_tiles_at_own_pixels_are_cut_not_resized(tmp_path):
    got = retina.cohort(write_chase(tmp_path), size=9, camera="chase", view="tiles", tiles_per_image=20)
    vessel = np.pad(photograph(0)[1], 9)
    windows = np.lib.stride_tricks.sliding_window_view(vessel, (9, 9)).reshape(-1, 81)
    for label in got.labels[:20]:
        assert (windows == label.ravel()).all(axis=1).any()


def test_fewer_photographs_leave_the_tiles_of_the_others(tmp_path):
    many = retina.cohort(write_chase(tmp_path / "a"), size=9, camera="chase", view="tiles")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b/CHASE_DB1").glob("Image_01L*"):
        path.unlink()
    few = retina.cohort(tmp_path / "b", size=9, camera="chase", view="tiles")
    np.testing.assert_array_equal(few.images, many.images[4:])


def test_spacing_follows_the_angle_of_a_pixel(tmp_path):
    write(tmp_path)
    whole = retina.cohort(tmp_path, size=20)
    np.testing.assert_allclose(whole.spacing_mm[0], 0.3 * 30 / 20)
    np.testing.assert_allclose(whole.spacing_mm[-1], 0.3 * 45 / 20)
    own = retina.cohort(tmp_path, size=20, view="tiles")
    np.testing.assert_allclose(own.spacing_mm[0], 0.3 * 30 / WIDTH)
    np.testing.assert_allclose(own.spacing_mm[-1], 0.3 * 45 / (2 * WIDTH))
    same = retina.cohort(tmp_path, size=20, view="tiles", degrees_per_pixel=1.0)
    np.testing.assert_allclose(same.spacing_mm, 0.3, rtol=0.02)  # to whole pixels of the photograph


# -- HRF's two sizes ----------------------------------------------------------------------------------------


def test_complete_originals_win_and_the_two_sizes_are_never_mixed(tmp_path):
    tiles = {"size": 8, "camera": "hrf", "view": "tiles"}
    spacing_of = lambda: set(retina.cohort(tmp_path, **tiles).spacing_mm[:, 0].round(4))  # noqa: E731
    quarter, original = round(0.3 * 45 / WIDTH, 4), round(0.3 * 45 / (2 * WIDTH), 4)
    write_hrf(tmp_path, quarter=True)
    assert spacing_of() == {quarter}
    write_hrf(tmp_path, names=("01_dr",))
    assert spacing_of() == {quarter}
    write_hrf(tmp_path)
    assert spacing_of() == {original}
    (tmp_path / "HRF/manual1/02_g.tif").unlink()
    assert spacing_of() == {quarter}
    shutil.rmtree(tmp_path / "HRF_quarter")
    with pytest.raises(FileNotFoundError, match=r"expected .*02_g\.tif, got no file.*drop 02_g\.jpg"):
        spacing_of()


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"size must be an integer in \[1, 4096\], got 0"),
        ({"size": 96.0}, r"size must be .*got 96\.0"),
        ({"size": True}, r"size must be .*got True"),
        ({"tiles_per_image": 0, "view": "tiles"}, r"tiles_per_image must be an integer in \[1, .*, got 0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"camera": "canon"}, r"camera must be one of \('chase', 'hrf', None\), got 'canon'"),
        ({"view": "crop"}, r"view must be one of \('resized', 'tiles'\), got 'crop'"),
        ({"degrees_per_pixel": 0.1}, r"None unless view='tiles', got 0\.1"),
        (
            {"degrees_per_pixel": 0.0, "view": "tiles"},
            r"must be a number in \(0, 45\], got 0\.0",
        ),
        ({"degrees_per_pixel": float("nan"), "view": "tiles"}, r"degrees_per_pixel must be .*got nan"),
        (
            {"size": 55, "view": "tiles"},
            r"tiles must be .* chase-01-L, 1 to 54 of its pixels, got 55; change",
        ),
        ({"size": 1}, "must be of some contrast, got a constant square"),
    ],
)
def test_an_argument_out_of_range_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        retina.cohort(write(tmp_path), **arguments)


CHASE = [f"CHASE_DB1/Image_02L{end}" for end in (".jpg", "_1stHO.png", "_2ndHO.png")]
HRF = ["HRF/images/01_h.jpg", "HRF/manual1/01_h.tif", "HRF/mask/01_h_mask.tif"]


@pytest.mark.parametrize("name", CHASE[1:] + HRF[1:])
def test_a_missing_file_is_named(tmp_path, name):
    path = write(tmp_path) / name
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected .*{path.name}, got no file; fetch it, or drop"):
        retina.cohort(tmp_path)


@pytest.mark.parametrize("name", CHASE + HRF)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_a_file_cut_short_is_named(tmp_path, name, share):
    path = write(tmp_path) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"{path.name} must be a whole image, got .*delete it and fetch"):
        retina.cohort(tmp_path)


@pytest.mark.parametrize("name", CHASE[1:] + HRF[1:])
def test_masks_of_another_shape_or_with_other_than_two_values_are_refused(tmp_path, name):
    path = write(tmp_path) / name
    values = np.zeros((80, 132) if name in HRF else (H, W), dtype=np.uint8)
    save(path, values[:-1])
    with pytest.raises(ValueError, match=rf"{path.name} must be of the photograph's shape .*got \("):
        retina.cohort(tmp_path)
    save(path, values)
    with pytest.raises(ValueError, match=rf"{path.name} must be 0 and one other value, got \[0\]; binarise"):
        retina.cohort(tmp_path)
    values[3, 3], values[4, 4] = 90, 255
    save(path, values)
    with pytest.raises(ValueError, match=r"must be 0 and one other value, got \[ *0 +90 +255\]; binarise"):
        retina.cohort(tmp_path)


def test_a_photograph_that_is_grey_dark_or_flat_is_refused(tmp_path):
    path = write_chase(tmp_path, names=("01L",)) / "CHASE_DB1/Image_01L.jpg"
    save(path, np.full((H, W), 99, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"must be a whole image, got .*colour mode L, not RGB"):
        retina.cohort(tmp_path, camera="chase")
    save(path, np.zeros((H, W, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="must be of a bright field of view, got red <= 0 of 255"):
        retina.cohort(tmp_path, camera="chase")
    save(path, np.full((H, W, 3), 99, dtype=np.uint8))
    with pytest.raises(ValueError, match="chase-01-L must be of some contrast, got a constant square"):
        retina.cohort(tmp_path, camera="chase")


def test_an_inverted_mask_and_a_file_of_several_images_are_refused(tmp_path):
    path = write_chase(tmp_path, names=("01L",)) / "CHASE_DB1/Image_01L_2ndHO.png"
    save(path, ~photograph()[1])
    with pytest.raises(ValueError, match=r"2ndHO\.png must be vessel on less than half .*invert the mask"):
        retina.cohort(tmp_path, camera="chase")
    two = Image.fromarray(photograph()[1].astype(np.uint8) * 255)
    two.save(path, format="TIFF", save_all=True, append_images=[two])
    with pytest.raises(ValueError, match=r"2ndHO\.png must be a whole image, got .*2 images of 3960 pixels"):
        retina.cohort(tmp_path, camera="chase")


def test_a_small_file_with_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    path = write_chase(tmp_path, names=("01L",)) / "CHASE_DB1/Image_01L_1stHO.png"
    Image.new("1", (9_000, 9_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"1stHO\.png must be a whole image, got .*of 81000000 pixels"):
        retina.cohort(tmp_path, camera="chase")


def test_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root must be a folder, got .*nowhere"):
        retina.cohort(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"in .*CHASE_DB1, got none; unpack .*camera='hrf'"):
        retina.cohort(write_hrf(tmp_path / "a"))
    with pytest.raises(FileNotFoundError, match=r"in .*HRF/images, got none; unpack .*camera='chase'"):
        retina.cohort(write_chase(tmp_path / "b"))
    assert len(retina.cohort(tmp_path / "a", size=8, camera="hrf")) == 3
    assert len(retina.cohort(tmp_path / "b", size=8, camera="chase")) == 5


def test_no_data_set_anywhere_gives_the_steps_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=r"by hand: unpack CHASE_DB1 \(https://researchdata.*fau\.de"):
        retina.cohort()
    with pytest.raises(ValueError, match=r"'retina_chase_hrf' has to be fetched by hand: unpack"):
        download.fetch("retina_chase_hrf")
    assert list(tmp_path.iterdir()) == []


# -- the published files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_root():
    own = os.environ.get("SEGCONF_DATA")
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = (Path(own) if own else beside) / "retina_chase_hrf"
    if not root.is_dir():
        pytest.skip("needs CHASE_DB1 and HRF in SEGCONF_DATA/retina_chase_hrf, see download.BY_HAND")
    return root


@pytest.fixture(scope="module")
def real(real_root):
    return retina.cohort(real_root, camera="chase", size=192)


def observer_dice(cohort):
    a, b = (cohort.raters[:, r] > 0 for r in (0, 1))
    return (2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2)))).mean()


def test_real_cohort_has_the_stated_children_eyes_and_observers(real):
    assert real.images.shape == (28, 1, 192, 192)
    assert real.raters.shape == (28, 2, 192, 192)
    assert set(real.subjects) == {f"chase-{child:02d}" for child in range(1, 15)}
    assert len(set(real.sessions)) == 28


def test_real_observers_agree_as_in_the_originals(real_root, real):
    assert observer_dice(real) == pytest.approx(0.776, abs=0.003)
    assert observer_dice(retina.cohort(real_root, camera="chase")) == pytest.approx(0.793, abs=0.003)
    near = retina.cohort(real_root, camera="chase", size=384)
    assert observer_dice(near) == pytest.approx(0.777, abs=0.005)


def test_real_vessel_shares_are_those_of_the_docstring(real_root, real):
    field = real.images[:, 0] != 0
    assert field.mean() == pytest.approx(np.pi / 4, rel=0.01)  # full discs
    shares = [real.raters[:, r][field].mean() for r in (0, 1)]
    assert shares == pytest.approx([0.100, 0.096], abs=0.001)
    hrf = retina.cohort(real_root, camera="hrf")
    assert len(hrf) >= 42
    assert hrf.labels[hrf.images[:, 0] != 0].mean() == pytest.approx(0.094, abs=0.002)


def test_real_cohort_is_the_same_twice(real_root):
    first, second = (retina.cohort(real_root, size=48, view="tiles").fingerprint() for _ in range(2))
    assert first == second
