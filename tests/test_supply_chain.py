"""What is installed, built and released: locked files, least rights, pinned actions, equal builds."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "constraints.lock").read_text("utf-8")
LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", LOCK, re.M))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "release" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_tested_version_is_locked_with_a_hash_and_no_host_is_named():
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    assert {name: LOCKED[name.replace("_", "-")].partition("+")[0] for name in tested} == tested
    assert len(LOCKED) == LOCK.count("--hash=") == LOCK.count("\n") - 2
    assert "://" not in LOCK


def test_a_lock_lists_what_pip_would_install_but_not_this_package():
    package = {"metadata": {"name": "Some_Thing", "version": "1.0"}}
    package["download_info"] = {"archive_info": {"hashes": {"sha256": "ab"}}}
    own = {"metadata": {"name": "segconf_lite", "version": "1"}, "download_info": {}}
    assert script("lock").lock([package, own]).splitlines()[-1] == "some-thing==1.0 --hash=sha256:ab"


def test_the_bill_of_materials_names_every_locked_file():
    bill = script("sbom").bill()
    assert {part["name"]: part["version"] for part in bill["components"]} == LOCKED
    assert all(re.fullmatch("[0-9a-f]{64}", part["hashes"][0]["content"]) for part in bill["components"])
    assert json.dumps(bill) == json.dumps(script("sbom").bill())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_jobs_that_install_may_only_read(path):
    content = yaml.safe_load(path.read_text("utf-8"))
    assert content["permissions"] == {"contents": "read"}
    for name, job in content["jobs"].items():
        steps = job["steps"]
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step), (
            name
        )
        commands = " ".join(step.get("run", "") for step in steps)
        if re.search(r"\b(pip|pipx|make|conda)\b", commands):
            assert set(job.get("permissions", {"contents": "read"}).values()) == {"read"}, name
        for step in steps:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_a_source_distribution_has_equal_bytes_whoever_packed_it_and_when(tmp_path):
    build = script("build")
    for k, (owner, minute) in enumerate([("1000", "00"), ("0", "59")]):
        folder = tmp_path / str(k)
        (folder / "a-1").mkdir(parents=True)
        for name in ("z.txt", "a.txt")[:: 1 - 2 * k]:
            (folder / "a-1" / name).write_text("content")
        command = ["tar", "czf", "a.tar.gz", "--owner", owner, "--mtime", f"2026-01-01 00:{minute}", "a-1"]
        subprocess.run(command, cwd=folder, check=True)
        build.normalise(folder / "a.tar.gz", 1_700_000_000)
    first, second = (tmp_path / str(k) / "a.tar.gz" for k in (0, 1))
    assert build.sums([first]) == build.sums([second])
