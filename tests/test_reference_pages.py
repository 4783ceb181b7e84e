"""The reference of the package: every public name on one page, and every page in the book."""

import functools
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from reference_pages import MARK, contents, linked, reference_markdown, with_reference

import segconf_lite

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "book/api").glob("*.md"))}
LISTED = {page: MARK.findall(text) for page, text in PAGES.items() if page != "index"}
ROOMS = [name for name in segconf_lite.__all__ if name != "__version__"]
# What the command `segconf` does: its help says how to use it.
COMMAND = {"cli", "doctor", "grid", "notebook", "resources"}


@functools.cache
def documented():
    """Name in its room, or module and name -> how often the pages document it, as directives for Sphinx."""
    text = "\n".join(with_reference(text) for text in PAGES.values())
    return Counter(
        re.findall(r"^\.\. auto(?:class|function|data):: segconf_lite\.(\S+)$", text, re.MULTILINE)
    )


def test_a_room_has_one_page_and_a_page_has_one_mark():
    assert all(len(marks) == 1 for marks in LISTED.values())
    assert sorted(marks[0] for page, marks in LISTED.items() if page != "tools") == sorted(ROOMS)
    assert all(marks == [page] for page, marks in LISTED.items() if page != "tools")


def test_a_module_beside_the_rooms_has_its_place():
    beside = {path.stem for path in (ROOT / "segconf_lite").glob("[a-z]*.py")}
    beside |= {path.parent.name for path in (ROOT / "segconf_lite").glob("[a-z]*/__init__.py")} - set(ROOMS)
    assert sorted(LISTED["tools"][0].split()) == sorted(beside - COMMAND)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_on_exactly_one_page(room):
    for name in getattr(segconf_lite, room).__all__:
        if name in contents(room):  # a module, public as a whole: it has a section
            continue
        where = {"FragilityMap": "fragility", "load": "saving"}.get(name, room)  # `confidence` passes them on
        modules = r"\w+\." if name.isupper() else ""  # Sphinx finds constants where they are defined only
        found = [path for path in documented() if re.fullmatch(rf"{where}\.{modules}{name}", path)]
        assert len(found) == 1, name


def test_nothing_is_documented_twice():
    assert [path for path, times in documented().items() if times > 1] == []


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_page_documents_is_there(room):
    for paths in contents(room).values():
        for path in paths:
            value = segconf_lite
            for part in path.split(".")[1:]:
                value = getattr(value, part)
            assert value.__doc__


def test_every_page_is_in_the_table_of_contents_after_the_chapters():
    parts = yaml.safe_load((ROOT / "book/_toc.yml").read_text("utf-8"))["parts"]
    assert parts[-1]["caption"] == "Reference"
    entry = next(entry for entry in parts[-1]["chapters"] if entry["file"] == "api/index")
    assert sorted(section["file"] for section in entry["sections"]) == [
        f"api/{page}" for page in sorted(LISTED)
    ]


@pytest.mark.parametrize(
    "page", [page for page in LISTED if page not in ("readers", "predictions")]
)  # which no chapter has
def test_a_page_leads_to_chapters_that_use_it(page):
    before = MARK.split(PAGES[page])[0]
    chapters = re.findall(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", before)
    assert chapters
    names = LISTED[page][0].replace(" ", "|")
    for chapter in chapters:
        text = (ROOT / "notebooks" / f"{chapter}.py").read_text("utf-8")
        assert re.search(rf"^(from|import) segconf_lite\b.*\b({names})\b", text, re.MULTILINE), chapter


def test_names_of_the_package_become_links_and_other_code_does_not():
    assert linked("use `compare_methods`.") == (
        "use {py:obj}`compare_methods <segconf_lite.evaluation.compare_methods>`."
    )
    assert "segconf_lite.cohorts.phantom.cohort>`" in linked("`phantom.cohort`")
    for text in ("`my_share`", "[`aurc`](x.md)", "{cite:p}`aurc`", "``aurc``", "```\naurc\n```", "aurc"):
        assert linked(text) == text


def test_a_class_has_its_methods_and_a_constant_is_named_where_it_is_defined():
    text = reference_markdown("stress")
    assert ".. autoclass:: segconf_lite.stress.Attacked\n   :members:" in text
    assert ".. autodata:: segconf_lite.stress.corruptions.LADDERS" in text
    assert ".. autofunction:: segconf_lite.stress.pgd" in text
