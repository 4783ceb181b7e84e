"""A store that one computer packs serves another one, without training and without network."""

import dataclasses
import hashlib
import socket
import zipfile

import numpy as np
import pytest
import torch

from segconf_lite import classroom, cli, notebook, resources
from segconf_lite.cohorts import phantom
from segconf_lite.models import fit, fit_unet, fitted, store
from segconf_lite.models.store import artefact_path, store_folder

TRAINING = {"channels": (4, 6), "steps": 2, "batch_size": 4, "precision": "fp32", "device": "cpu"}


@pytest.fixture
def move_in(tmp_path, monkeypatch):
    """Go to the computer of that name: another home, an empty store."""

    def go(name):
        monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / name))

    go("teacher")
    return go


@pytest.fixture
def cohort():
    return phantom.cohort(12, size=16)


@pytest.fixture
def packed(move_in, cohort, tmp_path):
    for seed in (0, 1):
        fitted(fit_unet, cohort, seed=seed, **TRAINING)
    path = tmp_path / "class.zip"
    assert len(classroom.pack(path)) == 2
    return path


def test_an_unpacked_store_is_used_without_training_and_without_network(
    move_in, cohort, packed, monkeypatch, capsys
):
    before = fitted(fit_unet, cohort, **TRAINING).state_dict()
    move_in("student")
    no = lambda *_, **__: pytest.fail("trained, or asked the network")  # noqa: E731
    monkeypatch.setattr(socket, "socket", no)
    assert cli.main(["store", "unpack", str(packed)]) == 0
    assert capsys.readouterr().out.startswith("2 trained networks are new in the store, 0 were")
    monkeypatch.setattr(fit, "optimise", no)
    # A student's computer is another one, and its processor simulates the same images with other last digits.
    monkeypatch.setattr(store, "_machine", lambda: "student")
    noise = np.random.default_rng(0).normal(scale=1e-6, size=cohort.images.shape)
    other = dataclasses.replace(cohort, images=(cohort.images + noise).astype(np.float32))
    for images in (cohort, other):
        after = fitted(fit_unet, images, **TRAINING).state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
    assert cli.main(["store", "unpack", str(packed)]) == 0
    assert "0 trained networks are new in the store, 2 were there before" in capsys.readouterr().out


def test_only_what_a_chapter_used_is_packed(move_in, cohort, packed, tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/01_first.py").write_text("# %%\nseed = 0\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["store", "pack", "one.zip", "--chapters", "01"]) == 2
    assert "chapter 01 must be one that was run with this store" in capsys.readouterr().err
    listed = resources.used_file("01_first")
    resources.write_whole(listed, "")
    with notebook.environment({resources.USED: str(listed)}):
        fitted(fit_unet, cohort, seed=1, **TRAINING)
    assert cli.main(["store", "pack", "one.zip", "--chapters", "01"]) == 0
    with zipfile.ZipFile("one.zip") as archive:
        assert archive.namelist() == ["SHA256SUMS", artefact_path(fit_unet, cohort, seed=1, **TRAINING).name]


def test_damaged_networks_are_not_packed(packed, tmp_path):
    first, second = sorted(store_folder().glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"{first.name} is left out, it cannot be read"):
        assert classroom.pack(tmp_path / "again.zip") == [second.name]
    second.unlink()
    left_out = pytest.warns(UserWarning, match="is left out")
    with left_out, pytest.raises(ValueError, match="the store must be one with networks"):
        classroom.pack(tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()


def rewritten(path, change):
    """The same archive with its files changed: name -> content."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def replace_the_last(files):
    files[list(files)[-1]] = b"other weights"


def add_a_program(files):
    files["run.py"] = b"evil"


def add_an_unlisted_network(files):
    files["fit_unet-0123456789abcdef.safetensors"] = b"evil"


def lose_one(files):
    del files[list(files)[-1]]


@pytest.mark.parametrize(
    ("change", "message", "n_new"),
    [
        (replace_the_last, "must be of SHA-256 .*got another content; copy the archive again", 1),
        (add_a_program, r"'run\.py' in class\.zip must be of a name that matches", 0),
        (add_an_unlisted_network, "networks with their sums in SHA256SUMS, got another list", 0),
        (lose_one, "networks with their sums in SHA256SUMS, got another list", 0),
        (lambda files: files.pop("SHA256SUMS"), "networks with their sums in SHA256SUMS", 0),
    ],
)
def test_what_is_not_as_it_was_packed_does_not_appear(move_in, packed, change, message, n_new):
    rewritten(packed, change)
    move_in("student")
    with pytest.raises(ValueError, match=message):
        classroom.unpack(packed)
    assert len(list(store_folder().glob("*.safetensors"))) == n_new
    assert not [path for path in store_folder().glob("*") if path.suffix != ".safetensors"]


def test_an_archive_of_another_version_says_so(move_in, packed):
    rewritten(
        packed, lambda files: files.update(SHA256SUMS=files["SHA256SUMS"].replace(b"lite ", b"lite 9."))
    )
    move_in("student")
    with pytest.warns(UserWarning, match=r"packed by another version \(# segconf_lite 9\."):
        assert len(classroom.unpack(packed).new) == 2


def test_the_sums_are_those_that_other_tools_compute(packed):
    with zipfile.ZipFile(packed) as archive:
        lines = archive.read("SHA256SUMS").decode().splitlines()[1:]
        assert lines == [
            f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}" for name in archive.namelist()[1:]
        ]
