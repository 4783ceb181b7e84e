"""What a zip archive from others may do: write plain files inside of one folder, and nothing else."""

import stat
import zipfile

import pytest

from segconf_lite import archives


def zipped(path, *entries):
    """A zip archive; entries are pairs of a name (or a whole entry) and its content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def special(name, kind):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    return entry


def test_files_arrive_whole_and_those_that_are_there_are_kept(tmp_path):
    path = zipped(tmp_path / "a.zip", ("top/", b""), ("top/a.txt", b"new"), ("b.txt", b"b" * 9999))
    folder = tmp_path / "here"
    (folder / "top").mkdir(parents=True)
    (folder / "top/a.txt").write_bytes(b"mine")
    assert archives.unpack(path, folder) == [folder / "b.txt"]
    assert (folder / "top/a.txt").read_bytes() == b"mine"
    assert (folder / "b.txt").read_bytes() == b"b" * 9999


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("../evil.txt", "relative path inside of the folder"),
        ("a/../../evil.txt", "relative path inside of the folder"),
        ("/tmp/evil.txt", "relative path inside of the folder"),
        ("..\\evil.txt", "relative path inside of the folder"),
        ("C:evil.txt", "relative path inside of the folder"),
        (special("link", stat.S_IFLNK), "must be a plain file, got a link"),
        (special("pipe", stat.S_IFIFO), "must be a plain file, got a link, a device"),
        ("GOOD.txt", "must be there once, got twice"),
    ],
)
def test_one_bad_entry_refuses_the_whole_archive(tmp_path, entry, message):
    path = zipped(tmp_path / "a.zip", ("good.txt", b"good"), (entry, b"/etc/passwd"))
    with pytest.raises(ValueError, match=message):
        archives.unpack(path, tmp_path / "here")
    assert not (tmp_path / "here").exists()
    assert not (tmp_path / "evil.txt").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", ("zeros", bytes(2_000_000)), ("more", bytes(2_000_000)))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(archives, "MOST_BYTES_OF_A_FILE", 1_999_999)
    with pytest.raises(ValueError, match=r"'zeros' in a\.zip must be at most 1999999 bytes"):
        archives.unpack(path, tmp_path / "here")
    monkeypatch.setattr(archives, "MOST_BYTES_OF_A_FILE", 2_000_000)
    monkeypatch.setattr(archives, "MOST_BYTES", 3_999_999)
    with pytest.raises(ValueError, match=r"'more' in a\.zip must be .*got 2000000, and 4000000"):
        archives.unpack(path, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_bomb_that_lies_about_its_size_yields_no_more_than_it_states(tmp_path):
    path = zipped(tmp_path / "a.zip", ("zeros", bytes(2_000_000)))
    content = path.read_bytes()
    assert content.count((2_000_000).to_bytes(4, "little")) == 2  # in both of the headers
    path.write_bytes(content.replace((2_000_000).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"must be a whole zip archive, got BadZipFile: Bad CRC"):
        archives.unpack(path, tmp_path / "here")
    assert not list(tmp_path.glob("here/*"))


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/sub").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ValueError, match=r"must be inside .*here, got behind a link"):
        archives.unpack(zipped(tmp_path / "a.zip", ("sub/evil.txt", b"evil")), tmp_path / "here")
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_a_damaged_archive_is_refused_and_leaves_nothing_half(tmp_path, damage):
    path = zipped(tmp_path / "a.zip", ("a.bin", bytes(range(256)) * 9))
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes({"text": b"no archive", "cut": content[:-30], "flipped": content}[damage])
    with pytest.raises(ValueError, match=r"a\.zip must be a whole zip archive, got "):
        archives.unpack(path, tmp_path / "here")
    assert not list(tmp_path.glob("here/*"))
