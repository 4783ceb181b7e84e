"""Laws of the download: what is kept is whole, what was interrupted goes on, what fails says what to do."""

import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from segconf_lite.cohorts import download

FILES = {
    "README.md": b"a small data set\n",
    "sub-1/anat/sub-1_T2starw.json": b"{}",
    "sub-2/x.nii.gz": bytes(99),
}


@pytest.fixture
def server(tmp_path):
    """A folder behind a local address: .folder to write into, .url, .asked (paths requested so far)."""
    folder = tmp_path / "upstream"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def do_GET(self):
            asked.append(self.path.lstrip("/"))
            super().do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        httpd.folder, httpd.asked = folder, asked
        httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield httpd
        httpd.shutdown()


@pytest.fixture
def small(monkeypatch):
    """`gm_challenge` with the registry of FILES, and no variable of the caller's environment."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    monkeypatch.setattr(download, "registry", lambda name: digests)
    for name in ("SEGCONF_DATA", "SEGCONF_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("small")
def test_every_file_arrives_byte_for_byte_and_nothing_else(server, tmp_path):
    target = download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    found = {str(p.relative_to(target).as_posix()): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == FILES


@pytest.mark.usefixtures("small")
def test_default_place_is_the_one_that_find_looks_in(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path / "nothing-here"))
    target = download.fetch("gm_challenge", base_url=server.url + "/")
    assert target == tmp_path / "home" / "data" / "gm_challenge" == download.find("gm_challenge")


@pytest.mark.usefixtures("small")
def test_second_call_asks_for_nothing(server, tmp_path):
    for _ in range(2):
        download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    assert sorted(server.asked) == sorted(FILES)


@pytest.mark.usefixtures("small")
def test_interrupted_download_keeps_finished_files_and_goes_on(server, tmp_path):
    missing = server.folder / "sub-2/x.nii.gz"
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(
        ConnectionError, match=r"x\.nii\.gz: could not be downloaded.*404.*2 of 3 files are already"
    ):
        download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    missing.write_bytes(content)
    server.asked.clear()
    download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    assert server.asked == ["sub-2/x.nii.gz"]


@pytest.mark.usefixtures("small")
def test_altered_local_file_is_replaced(server, tmp_path):
    target = download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    (target / "README.md").write_bytes(b"altered")
    download.fetch("gm_challenge", base_url=server.url, folder=target)
    assert (target / "README.md").read_bytes() == FILES["README.md"]


@pytest.mark.usefixtures("small")
def test_wrong_content_is_refused_and_not_kept(server, tmp_path):
    (server.folder / "sub-2/x.nii.gz").write_bytes(b"<html>log in first</html>")
    with pytest.raises(ValueError, match=r"x\.nii\.gz: expected SHA-256 .*got another content.*git clone"):
        download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    left = sorted(path.name for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert left == ["README.md", "sub-1_T2starw.json"]


@pytest.mark.usefixtures("small")
def test_no_connection_gives_the_steps_by_hand(tmp_path):
    with pytest.raises(ConnectionError, match=r"0 of 3 files.*By hand: run `git clone https.*SEGCONF_DATA"):
        download.fetch("gm_challenge", base_url="http://127.0.0.1:9", folder=tmp_path / "here")


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be_made_is_not_blamed_on_the_network(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file") as caught:
        download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "file" / "here")
    assert not isinstance(caught.value, ConnectionError)


def test_unknown_data_set_lists_those_that_are():
    with pytest.raises(
        ValueError, match=r"name must be one of \('gm_challenge', .*'lidc_nodules'\), got 'gm'"
    ):
        download.fetch("gm")


def test_shipped_registry_has_whole_sums_and_stays_inside_its_folder():
    digests = download.registry("gm_challenge")
    assert len(digests) == 37
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests.values())
    assert not any(Path(path).is_absolute() or ".." in Path(path).parts for path in digests)
    volumes = [path for path in digests if path.endswith(".nii.gz")]
    assert len(volumes) == 3 * 8  # image, cord and grey matter of eight sessions


def test_nothing_there_says_where_was_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path / "own"))
    with pytest.raises(
        FileNotFoundError, match=r"own/gm_challenge and .*home/data/gm_challenge.*segconf data get gm_ch"
    ):
        download.find("gm_challenge")
    monkeypatch.delenv("SEGCONF_DATA")
    with pytest.raises(FileNotFoundError, match=r"fetch\('gm_challenge'\).*SEGCONF_DATA is not set now"):
        download.find("gm_challenge")


def test_own_folder_goes_before_the_downloaded_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path / "own"))
    for place in ("own/gm_challenge", "home/data/gm_challenge"):
        (tmp_path / place).mkdir(parents=True)
    assert download.find("gm_challenge") == tmp_path / "own" / "gm_challenge"


# -- what is read -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_what_is_read_is_the_published_file_or_one_that_no_registry_names(tmp_path):
    for path, content in {**FILES, "mine/notes.txt": b"mine"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
        assert download.read("gm_challenge", tmp_path, tmp_path / path) == content
    altered = tmp_path / "sub-2/x.nii.gz"
    altered.write_bytes(bytes(98) + b"1")
    with pytest.raises(ValueError, match=r"gz must be the published .*got another content; .*delete"):
        download.read("gm_challenge", tmp_path, altered)


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(10_000)))
    assert len(download.read("gm_challenge", tmp_path, path, unzip=True)) == 10_000
    monkeypatch.setattr(download, "_MOST_BYTES", 9_999)
    with pytest.raises(ValueError, match=r"bomb\.gz must be a file of at most 9999 bytes, got more, unp"):
        download.read("gm_challenge", tmp_path, path, unzip=True)
    monkeypatch.setattr(download, "_MOST_BYTES", 10)
    with pytest.raises(ValueError, match=r"at most 10 bytes, got more, packed"):
        download.read("gm_challenge", tmp_path, path)


@pytest.mark.parametrize(
    "content", [b"", b"plain text", gzip.compress(bytes(999), mtime=0)[:-4]], ids=["empty", "text", "short"]
)
def test_a_damaged_gzip_file_is_refused(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    if content:
        with pytest.raises(ValueError, match=r"x\.gz must be a whole gzip file, got "):
            download.read("gm_challenge", tmp_path, tmp_path / "x.gz", unzip=True)
    else:  # gzip takes nothing for an archive of nothing
        assert download.read("gm_challenge", tmp_path, tmp_path / "x.gz", unzip=True) == b""


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("limit", "value"), [("_MOST_BYTES", 20), ("_MOST_SECONDS", -1)])
def test_a_download_without_end_is_stopped_and_not_kept(server, tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(download, limit, value)
    with pytest.raises(ConnectionError, match=r"stopped at \d+ bytes: .*too large or too slow"):
        download.fetch("gm_challenge", base_url=server.url, folder=tmp_path / "here")
    left = {path.name for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert left <= {"README.md", "sub-1_T2starw.json"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("url", ["mirror.org/data", "file:///etc", "ftp://mirror.org", 3])
def test_an_address_that_is_none_is_not_blamed_on_the_files(tmp_path, url):
    with pytest.raises(ValueError, match="base_url must be an address that begins with http"):
        download.fetch("gm_challenge", base_url=url, folder=tmp_path)
    with pytest.raises(ConnectionError, match="could not be downloaded"):
        download.fetch("gm_challenge", base_url="http://", folder=tmp_path)


def test_own_data_are_found_without_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path))
    monkeypatch.setattr(download, "data_folder", lambda: pytest.fail("looked for a home folder"))
    (tmp_path / "gm_challenge").mkdir()
    assert download.find("gm_challenge") == tmp_path / "gm_challenge"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("folder", [3, b"here", ["here"]])
def test_a_folder_is_a_path(folder):
    with pytest.raises(ValueError, match="folder must be a path, got "):
        download.fetch("gm_challenge", base_url="http://127.0.0.1:9", folder=folder)
    with pytest.raises(ValueError, match="folder must be a path, got "):
        download.read("gm_challenge", folder, "x")
    with pytest.raises(ValueError, match="root must be a path, got "):
        download.find("gm_challenge", folder)


def test_nothing_outside_of_the_data_set_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"path must be inside .*here"):
        download.read("gm_challenge", tmp_path / "here", tmp_path / "x")
