"""Data sets from mirrors, broken connections and archives: what is kept is the published file, or nothing."""

import hashlib
import http.server
import threading
import zipfile

import pytest

from segconf_lite import cli, datasets
from segconf_lite.cohorts import download

CONTENT = bytes(range(256)) * 2000
FILES = {"README.md": b"a small data set\n", "sub-1/x.nii.gz": CONTENT}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers in the way that the first part of the path says, and records what was asked."""

    def do_GET(self):
        _, way, path = self.path.split("/", 2)
        wanted = self.headers.get("Range")
        self.server.asked.append((way, path, wanted))
        content, start = FILES[path], 0
        if way == "busy":
            self.send_error(503)
            return
        if way == "wrong":
            content = b"<html>log in first</html>"
        if wanted and way in ("good", "cut"):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if way == "endless":
            self.end_headers()
            while not self.server.stopped:
                try:
                    self.wfile.write(bytes(2**16))
                except OSError:  # the reader has left
                    return
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: len(body) // 2] if way == "cut" and len(body) > 100 else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        httpd.asked, httpd.stopped = [], False
        httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield httpd
        httpd.stopped = True
        httpd.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """`gm_challenge` with the registry of FILES, on a computer without data."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    monkeypatch.setattr(download, "registry", lambda name: digests)
    monkeypatch.delenv("SEGCONF_DATA", raising=False)
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "data" / "gm_challenge"


def fetch(server, *ways):
    return download.fetch("gm_challenge", base_url=[f"{server.url}/{way}" for way in ways])


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("ways", [("busy", "good"), ("wrong", "good"), ("busy", "wrong", "cut", "good")])
def test_mirrors_are_tried_in_order_until_one_has_the_file(server, home, ways):
    assert fetch(server, *ways) == home
    assert contents(home) == FILES
    assert [way for way, path, _ in server.asked if path == "sub-1/x.nii.gz"] == list(ways)


def test_a_cut_off_download_goes_on_where_it_was_in_this_call_and_in_the_next(server, home):
    chunk = 2**16
    half = len(CONTENT) // 2 // chunk * chunk  # whole chunks of what arrives
    with pytest.raises(
        ConnectionError, match=r"/cut/sub-1/x\.nii\.gz: could not be downloaded .*1 of 2 files"
    ):
        fetch(server, "cut")
    assert contents(home) == {"README.md": FILES["README.md"], "sub-1/.x.nii.gz.part": CONTENT[:half]}
    fetch(server, "cut", "good")
    ranges = [(way, wanted) for way, path, wanted in server.asked if path == "sub-1/x.nii.gz"]
    rest = half + (len(CONTENT) - half) // 2 // chunk * chunk
    assert ranges == [("cut", None), ("cut", f"bytes={half}-"), ("good", f"bytes={rest}-")]
    assert contents(home) == FILES


@pytest.mark.parametrize("way", ["plain", "good"])
@pytest.mark.parametrize("part", [b"of another file", CONTENT, CONTENT + b"longer"])
def test_a_part_that_is_of_no_use_costs_only_a_new_download(server, home, way, part):
    (home / "sub-1").mkdir(parents=True)
    (home / "sub-1/.x.nii.gz.part").write_bytes(part)
    fetch(server, way, way)  # the first may find that the sum is another
    assert contents(home) == FILES


def test_an_endless_answer_is_stopped_and_not_kept(server, home, monkeypatch):
    monkeypatch.setattr(download, "_MOST_BYTES", 10**6)
    with pytest.raises(ConnectionError, match=r"stopped at 1\d+ bytes: the file is too large or too slow"):
        fetch(server, "endless")
    assert contents(home) == {}


def test_when_no_mirror_has_it_all_are_named_with_the_steps_by_hand(server):
    with pytest.raises(
        ConnectionError, match=r"/wrong/README.* and .*/busy/README.*503.*By hand: run `git cl"
    ):
        fetch(server, "wrong", "busy")
    with pytest.raises(ValueError, match=r"/busy/README.* and .*/wrong/README.*got another content"):
        fetch(server, "busy", "wrong")


# -- the command --------------------------------------------------------------------------------------------


def test_get_check_and_mend_from_the_command_line(server, home, monkeypatch, capsys):
    monkeypatch.setitem(download.SOURCES, "gm_challenge", (f"{server.url}/good", "git clone"))
    for words in (["get", "gm_challenge", "--mirror", f"{server.url}/busy"], ["gm_challenge"]):
        assert cli.main(["data", *words]) == 0
        assert capsys.readouterr().out == f"gm_challenge is at {home}\n"
    assert cli.main(["data", "check", "gm_challenge"]) == 0
    assert capsys.readouterr().out == f"gm_challenge is at {home}; 2 files are as published\n"
    (home / "README.md").write_text("altered")
    (home / "sub-1/x.nii.gz").unlink()
    assert cli.main(["data", "check", "gm_challenge"]) == 1
    said = capsys.readouterr().out
    assert "0 files are as published\n  missing: sub-1/x.nii.gz\n  altered: README.md\n" in said
    assert cli.main(["data", "get", "gm_challenge"]) == 0
    assert contents(home) == FILES


def test_what_is_behind_a_registration_has_its_steps(capsys):
    assert cli.main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    for name, page in (
        ("acdc", "creatis"),
        ("mnms", "ub.edu/mnms "),
        ("mnms2", "mnms-2"),
        ("lidc_nodules", "LIDC"),
    ):
        assert f"  {name} " in listed
        assert page in download.BY_HAND[name]
    assert cli.main(["data", "check", "acdc"]) == 1
    assert "register at https://www.creatis.insa-lyon.fr" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get"], "get needs the name of a data set"),
        (["fetch", "gm_challenge"], "expected list, get NAME or check NAME, got fetch gm_challenge"),
        (["check", "liver"], "name must be one of"),
    ],
)
def test_bad_words_say_what_is_expected(words, message, capsys):
    assert cli.main(["data", *words]) == 2
    assert message in capsys.readouterr().err


# -- from an archive ----------------------------------------------------------------------------------------


def archive(path, files):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return str(path)


def test_registered_files_are_taken_from_anywhere_in_an_archive(home, tmp_path, capsys):
    files = {f"repository-dfa78f7/{name}": content for name, content in FILES.items()}
    path = archive(tmp_path / "a.zip", files | {"repository-dfa78f7/other.txt": b"other"})
    assert cli.main(["data", "get", "gm_challenge", "--archive", path]) == 0
    assert contents(home) == FILES


def test_an_archive_that_lacks_a_file_or_has_another_one_is_refused(home, tmp_path):
    path = archive(tmp_path / "a.zip", FILES | {"sub-1/x.nii.gz": b"another"})
    with pytest.raises(ValueError, match=r"none of this content for 1 of them, first: sub-1/x\.nii\.gz"):
        datasets.from_archive("gm_challenge", path)
    assert contents(home) == {"README.md": FILES["README.md"]}
    with pytest.raises(ValueError, match="must be a relative path inside of the folder"):
        datasets.from_archive("acdc", archive(tmp_path / "b.zip", {"../evil": b"evil"}))


def test_an_archive_of_what_is_fetched_by_hand_is_unpacked(tmp_path, home):
    path = archive(tmp_path / "a.zip", {"training/patient001/Info.cfg": b"ED: 1"})
    folder = datasets.from_archive("acdc", path)
    assert folder == home.with_name("acdc") == download.find("acdc")
    assert contents(folder) == {"training/patient001/Info.cfg": b"ED: 1"}
