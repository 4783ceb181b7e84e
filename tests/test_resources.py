"""Where the files of the book are found, and how the notebooks are copied."""

import gzip
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
