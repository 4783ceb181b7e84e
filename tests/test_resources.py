"""Where the files of the book are found, and how the notebooks are copied."""

import gzip
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from segconf_lite import resources

ROOT = Path(__file__).parents[1]


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """As where only a wheel is installed: no checkout around the package, a copy of the book inside it."""
    package = tmp_path / "site-packages" / "segconf_lite"
    inside = package / "_series"
    (inside / "book" / "results").mkdir(parents=True)
    (inside / "book" / "claims.yml").write_text("[]")
    (inside / "book" / "results" / "table.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    (inside / "notebooks").mkdir()
    (inside / "notebooks" / "01_first.py").write_text("one")
    (inside / "notebooks" / "01_first.ipynb").write_text("{}")
    monkeypatch.setattr(resources, "_PACKAGE", package)
    monkeypatch.setattr(resources, "_INSTALLED", inside)
    monkeypatch.chdir(tmp_path)
    return inside


def test_a_checkout_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resources.claims_registry() == ROOT / "book" / "claims.yml"
    assert resources.notebooks_folder() == ROOT / "notebooks"
    assert resources.table_file("chapter_01_full.csv") == ROOT / "book" / "results" / "chapter_01_full.csv"
    assert not resources.is_installed(ROOT / "notebooks")


def test_without_a_checkout_the_copy_in_the_wheel_is_used(wheel):
    assert resources.claims_registry() == wheel / "book" / "claims.yml"
    assert resources.table_file("table.csv") == wheel / "book" / "results" / "table.csv.gz"
    assert resources.is_installed(resources.results_folder())


def test_the_checkout_in_which_one_works_comes_first_for_claims_only(wheel, tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.yml").write_text("[]")
    assert resources.claims_registry() == tmp_path / "book" / "claims.yml"
    assert resources.notebooks_folder() == wheel / "notebooks"


def test_an_unknown_table_is_refused_with_those_that_are_there(wheel):
    with pytest.raises(FileNotFoundError, match=r"got 'nothing\.csv': not in .* \(there: \['table\.csv'\]\)"):
        resources.table_file("nothing.csv")


def test_a_package_without_the_book_says_how_to_get_it(wheel):
    (wheel / "book" / "claims.yml").unlink()
    with pytest.raises(FileNotFoundError, match="install segconf-lite from a wheel"):
        resources.notebooks_folder()


def test_notebooks_are_copied_and_changed_ones_are_kept(wheel, tmp_path):
    target = tmp_path / "mine"
    assert [path.name for path in resources.copy_notebooks(target)] == ["01_first.ipynb", "01_first.py"]
    resources.copy_notebooks(target)  # equal files are no obstacle
    (target / "01_first.py").write_text("changed")
    (target / "01_first.ipynb").unlink()
    with pytest.raises(FileExistsError, match=r"other versions of 01_first\.py; nothing was copied.*--force"):
        resources.copy_notebooks(target)
    assert [path.name for path in target.iterdir()] == ["01_first.py"]
    resources.copy_notebooks(target, force=True)
    assert (target / "01_first.py").read_text() == "one"


# -- writing ------------------------------------------------------------------------------------------------


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_leftovers_of_ended_processes_are_removed_and_those_of_others_are_not(tmp_path):
    ended, here = ended_process(), platform.node()
    gone = [f".out.{ended}.running.ipynb", f".a.csv.{ended}@{here}.tmp", f".a.{10**12}.tmp"]
    stays = [
        f".a.csv.{os.getpid()}@{here}.tmp",
        f".out.ipynb.{os.getppid()}@{here}.running.ipynb",
        f".a.csv.{ended}@another-{here}.tmp",
        f"a.{ended}.tmp",
        f".a.{ended}.txt",
    ]
    for name in (*gone, *stays):
        (tmp_path / name).touch()
    assert {path.name for path in resources.remove_leftovers(tmp_path)} == set(gone)
    assert {path.name for path in tmp_path.iterdir()} == set(stays)


def test_a_killed_write_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path):
    path = resources.write_whole(tmp_path / "it's new" / "table.csv", "old\n")
    code = (
        "import os, pathlib; from segconf_lite import resources;"
        "pathlib.Path.replace = lambda *_: os._exit(9);"
        f"resources.write_whole({str(path)!r}, 'new')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert path.read_text() == "old\n"
    assert len(list(path.parent.iterdir())) == 2
    resources.write_whole(path.with_name("other.csv"), "a\r\n")
    assert sorted(p.name for p in path.parent.iterdir()) == ["other.csv", "table.csv"]
    assert path.with_name("other.csv").read_bytes() == b"a\r\n"


def test_a_write_follows_no_link_that_somebody_laid_for_it(tmp_path):
    path, victim = tmp_path / "table.csv", tmp_path / "victim.txt"
    victim.write_text("mine")
    resources.unfinished_name(path, "tmp").symlink_to(victim)
    assert resources.write_whole(path, b"new").read_bytes() == b"new"
    assert victim.read_text() == "mine"


def test_a_user_without_a_home_folder_has_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    assert resources.user_folder() == tmp_path

    def no_home(_):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("pooch.os_cache", no_home)
    monkeypatch.setattr(Path, "expanduser", no_home)
    for value in ("~/segconf", ""):
        monkeypatch.setenv("SEGCONF_HOME", value)
        assert resources.user_folder().parent == Path(tempfile.gettempdir())
