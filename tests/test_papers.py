"""The papers of the house: what they name exists, what they promise about size and rights is so."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from segconf_lite import __version__, notebook
from segconf_lite.claims import read_claims

ROOT = Path(__file__).parents[1]
DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FIELDS = ("Status", "Why", "Evidence", "Where")
INSTALLS = re.compile(r"\b(pip|make|conda|uv|npm|py|python)\b")

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def entries(path):
    """Title -> field -> text of a file of decisions."""
    _, *parts = re.split(r"^### ", path.read_text("utf-8"), flags=re.MULTILINE)
    found = {}
    for part in parts:
        title, _, body = part.partition("\n")
        assert title not in found, f"{title!r} stands twice"
        body = re.split(r"^## ", body, flags=re.MULTILINE)[0]
        fields = re.findall(r"^- \*\*(\w+):\*\* (.*?)(?=^- \*\*|\Z)", body, re.MULTILINE | re.DOTALL)
        found[title] = {name: " ".join(text.split()) for name, text in fields}
        assert [name for name, _ in fields] == list(FIELDS), f"{path.name}, {title!r}: the form is {FIELDS}"
    return found


def anchor(title):
    """The address that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


ALL = {(path.name, title): fields for path in DECISIONS for title, fields in entries(path).items()}


# -- decisions ----------------------------------------------------------------------------------------------


def test_every_path_of_a_decision_exists():
    named = {name: re.findall(r"`([^`]+)`", fields["Where"]) for name, fields in ALL.items()}
    assert [name for name, paths in named.items() if not paths] == []
    assert [
        (*name, path) for name, paths in named.items() for path in paths if not (ROOT / path).exists()
    ] == []


def test_every_decision_has_a_status_and_a_date():
    dated = r"(accepted, 2\d{3}-\d\d-\d\d\b|superseded by \[.+\]\(.+\), 2\d{3}-\d\d-\d\d\b)"
    assert [name for name, fields in ALL.items() if not re.match(dated, fields["Status"])] == []


def test_a_status_that_names_another_decision_leads_there():
    for name, fields in ALL.items():
        for title, file, place in re.findall(r"\[([^\]]+)\]\(([^#)]+)#([^)]+)\)", fields["Status"]):
            assert (file, title) in ALL, name
            assert (file, title) != name
            assert place == anchor(title)


def test_reasons_are_sentences_and_numbers_have_their_zero():
    for name, fields in ALL.items():
        for text in (fields["Why"], fields["Evidence"]):
            assert text.endswith("."), name
            assert not re.search(r"(?<![\w.])\.\d", text), f"{name}: 0.83, not .83"


def test_the_index_counts_the_entries():
    index = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[([^\]]+)\]\(\1\) \| .+ \| (\d+) \|$", index, re.MULTILINE)
    assert {file: int(n) for file, n in rows} == {path.name: len(entries(path)) for path in DECISIONS}


def test_contributing_is_short():
    assert (ROOT / "CONTRIBUTING.md").stat().st_size <= 4_800


def test_the_changelog_has_a_line_for_this_version():
    headings = re.findall(
        r"^## \[([^\]]+)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", headings[1][1])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/decisions/README.md"])
def test_links_between_the_papers_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", (ROOT / name).read_text("utf-8"))
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


# -- the picture --------------------------------------------------------------------------------------------


def test_the_picture_is_small_and_loads_nothing():
    picture = ROOT / "docs/picture.svg"
    assert picture.stat().st_size < 150_000
    addresses = [
        value
        for element in ET.parse(picture).iter()
        for key, value in element.attrib.items()
        if key.endswith("href")
    ]
    assert len(addresses) == 6
    assert all(address.startswith("data:image/png;base64,") for address in addresses)


# -- workflows ----------------------------------------------------------------------------------------------


@every_workflow
def test_actions_are_pinned_by_commit_with_their_version_beside_it(path):
    for line in re.findall(r"^.*\buses:.*$", path.read_text("utf-8"), re.MULTILINE):
        assert re.search(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*$", line), line


def test_an_action_has_one_commit_everywhere():
    pins = {}
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: (\S+)@(.+)", path.read_text("utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert {action: pin for action, pin in pins.items() if len(pin) > 1} == {}


@every_workflow
def test_a_job_may_write_or_install_never_both(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120
        if "write" in job.get("permissions", {}).values():
            assert not [step["run"] for step in job["steps"] if INSTALLS.search(step.get("run", ""))], name
            assert not [step for step in job["steps"] if "setup-" in step.get("uses", "")], name
        for step in job["steps"]:
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_check_runs_on_every_python_that_is_supported_and_series_on_one():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]
    assert jobs["check"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert [job["steps"][-1]["run"] for job in jobs.values()] == ["make check", "make series"]
    assert "strategy" not in jobs["series"]


# -- make ---------------------------------------------------------------------------------------------------


def recipe(target):
    """What make does for a target of the Makefile."""
    found = re.search(rf"^{target}:(.*)\n((?:\t.*\n)*)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return found.group(1), re.findall(r"\$\(MAKE\) --no-print-directory (\w+)", found.group(2))


def test_check_and_series_together_are_the_test():
    needs, then = recipe("test")
    assert needs.split("##")[0].split() == ["check"]
    assert then == ["series"]
    assert recipe("series")[1] == ["pretend", "run", "facts", "nbval", "recheck", "render", "gates"]


def test_the_recheck_of_the_tests_takes_a_chapter_of_four_minutes():
    minutes = re.search(r"^RECHECK_MINUTES \?= (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert float(minutes.group(1)) <= 4
    chapters = {claim.chapter for claim in read_claims().values()}
    paths = [notebook.find_notebook(f"{n:02d}", ROOT / "notebooks") for n in chapters]
    assert min(map(notebook.stated_minutes, paths)) <= float(minutes.group(1))
