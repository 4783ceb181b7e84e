"""Laws of the published tables: what is read is what was printed, and what is wrong says so."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segconf_lite.cohorts import download, published

SKIP = {
    "dataset": "BUSI",
    "network": "U-Net",
    "level": "hardest",
    "seed": 1,
    "image": "a.png",
    "dice": 0.5,
    "hausdorff_px": np.inf,
    "surface_dice_5px": 0.1,
    "mean_surface_distance_px": 3.0,
}


def write(tmp_path, monkeypatch, name="skip_connections_per_image.csv.gz", **changes):
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path))
    folder = tmp_path / "published_results"
    folder.mkdir()
    row = {key: value for key, value in (SKIP | changes).items() if value is not None}
    pd.DataFrame([row]).to_csv(folder / name, index=False)


def test_a_table_is_read_as_it_is_without_further_columns(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, note="mine")
    (row,) = published.skip_connections().to_dict("records")
    assert row == SKIP


def test_missing_column_is_named(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, dice=None, Dice=0.5)
    with pytest.raises(ValueError, match=r"got none called \['dice'\]; it has .*'Dice'"):
        published.skip_connections()


@pytest.mark.parametrize("dice", [50.0, np.nan])
def test_dice_out_of_range_is_refused(tmp_path, monkeypatch, dice):
    write(tmp_path, monkeypatch, dice=dice)
    with pytest.raises(ValueError, match=r"dice must be in \[0, 1\], got (50.0|nan) in row 0 .*percentages"):
        published.skip_connections()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": ""}, "network of .* must be text or integers, none missing"),
        ({"dice": "high"}, "dice of .* must be real numbers"),
        ({"surface_dice_5px": 1.5}, r"surface_dice_5px must be in \[0, 1\], got 1\.5 in row 0"),
        ({"hausdorff_px": -1.0}, r"hausdorff_px must be in \[0, inf\], got -1\.0"),
        ({"hausdorff_px": np.nan}, "hausdorff_px must be in .*, got nan"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path, monkeypatch, changes, message):
    write(tmp_path, monkeypatch, **changes)
    with pytest.raises(ValueError, match=message):
        published.skip_connections()


def test_a_row_that_comes_twice_is_refused(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch)
    path = tmp_path / "published_results/skip_connections_per_image.csv.gz"
    pd.DataFrame([SKIP, SKIP]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"must be one row per dataset, .*got several for .*a\.png"):
        published.skip_connections()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'dice\n1,2\n1,2,3\n"', b"{}"])
def test_a_file_that_is_no_table_is_named(tmp_path, monkeypatch, content):
    write(tmp_path, monkeypatch)
    path = tmp_path / "published_results/skip_connections_per_image.csv.gz"
    for packed in (gzip.compress(content), content + b"no gzip"):
        path.write_bytes(packed)
        with pytest.raises(ValueError, match=r"per_image\.csv\.gz must be a "):
            published.skip_connections()


def test_levels_of_the_repository_are_not_guessed(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, level="lower")
    with pytest.raises(ValueError, match=r"level must be one of .*got \['lower'\]; .*in-domain.*rename"):
        published.skip_connections()


def test_a_folder_without_the_table_says_how_to_make_it(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch)
    with pytest.raises(
        FileNotFoundError, match=r"context_foreground_per_image.*clone https://github.com/amit"
    ):
        published.context_foreground()


def test_no_folder_gives_the_steps_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path))
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=r"by hand: clone https.*to_skip_or_not .*context_vs_fbr"):
        published.skip_connections()
    with pytest.raises(ValueError, match="'published_results' has to be fetched by hand: clone"):
        download.fetch("published_results")


def test_the_steps_by_hand_name_every_column():
    steps = download.BY_HAND["published_results"]
    for name in [
        *published._SKIP_NAMES,
        *published._SKIP_LIMITS,
        *published._CONTEXT_NAMES,
        *published._CONTEXT_LIMITS,
    ]:
        assert name in steps


# -- the published files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_root():
    own = os.environ.get("SEGCONF_DATA")
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(own) if own else beside
    if not (root / "published_results").is_dir():
        pytest.skip("needs the merged tables in SEGCONF_DATA/published_results, see download.BY_HAND")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGCONF_DATA", str(root))
        yield root


@pytest.fixture(scope="module")
def skip(real_root):
    return published.skip_connections()


# the page's docs/data/dice-summary.csv, means over images and three seeds
PRINTED = {
    ("BUSI", "U-Net", "unperturbed"): 0.7626,
    ("BUSI", "U-Net++", "hardest"): 0.1654,
    ("GLaS", "NoSkipU-Net", "harder"): 0.7198,
    ("GLaS", "V-Net", "hardest"): 0.7413,
    ("Heart", "AGU-Net", "harder"): 0.1422,
    ("Heart", "NoSkipV-Net", "easiest"): 0.8544,
    ("Heart", "U-Net", "hardest"): 0.0765,
    ("Spleen", "V-Net", "unperturbed"): 0.9252,
    ("Spleen", "NoSkipU-Net", "easier"): 0.2715,
}


def test_means_are_those_that_were_printed(skip):
    means = skip.groupby(["dataset", "network", "level"])["dice"].mean()
    assert len(means) == 4 * 6 * 5
    for key, printed in PRINTED.items():
        assert means[key] == pytest.approx(printed, abs=5e-4)


def test_every_network_level_and_seed_saw_the_same_images(skip):
    assert len(skip) == 50670
    assert not skip.duplicated(["dataset", "network", "level", "seed", "image"]).any()
    n_runs = skip.groupby(["dataset", "image"]).size()
    assert (n_runs == 6 * 5 * 3).all()
    assert n_runs.groupby("dataset").size().to_dict() == {
        "BUSI": 147,
        "GLaS": 80,
        "Heart": 120,
        "Spleen": 216,
    }


def test_distances_are_infinite_only_where_dice_is_zero(skip):
    infinite = np.isinf(skip["hausdorff_px"])
    assert (skip["dice"][infinite] == 0).all()
    assert (np.isinf(skip["mean_surface_distance_px"]) == infinite).all()


@pytest.mark.parametrize(
    ("dataset", "network", "patch", "dice"),
    [
        ("synthetic", "U-Net", 32, 0.982),
        ("synthetic", "Attention U-Net", 96, 0.778),
        ("spleen", "UNETR", 96, 0.916),
    ],
)
def test_context_means_are_those_recomputed_before(real_root, dataset, network, patch, dice):
    table = published.context_foreground()
    part = table.query("dataset == @dataset and network == @network and patch == @patch")
    assert part["dice"].mean() == pytest.approx(dice, abs=6e-4)


def test_training_ranges_are_ranges_of_shares(real_root):
    table = published.context_foreground()
    assert len(table) == 4950
    assert (table["train_ratio_min"] < table["train_ratio_max"]).all()
    assert (
        table[["train_ratio_min", "train_ratio_max", "test_volume_foreground_ratio"]]
        .stack()
        .between(0, 1)
        .all()
    )
