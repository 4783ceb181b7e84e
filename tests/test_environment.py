"""environment.yml, pyproject.toml, constraints.txt and what is installed tell the same story."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"pytorch": "torch"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def declared():
    """Bounds by name over the dependencies and every extra but `all`, which only joins the others."""
    lines = list(PROJECT["dependencies"])
    for extra, more in PROJECT["optional-dependencies"].items():
        lines += [] if extra == "all" else more
    return {canonicalize_name(Requirement(line).name): str(Requirement(line).specifier) for line in lines}


def in_conda_file():
    content = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    from_pip = next(entry["pip"] for entry in content if isinstance(entry, dict))
    lines = [entry for entry in content if isinstance(entry, str)] + [e for e in from_pip if e != "-e ."]
    found = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        found[CONDA_NAMES.get(name, name)] = str(requirement.specifier)
    return found


def test_conda_file_has_the_same_packages_and_bounds():
    conda = in_conda_file()
    assert conda.pop("python") == PROJECT["requires-python"]
    assert conda.pop("pip") == ""
    assert conda == declared()


def test_conda_file_installs_the_package_itself():
    content = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    assert "-e ." in next(entry["pip"] for entry in content if isinstance(entry, dict))


def test_extra_all_joins_the_others():
    (line,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(line).extras == set(PROJECT["optional-dependencies"]) - {"all"}


def test_installed_versions_lie_within_the_bounds():
    wrong = [
        f"{name} {version(name)} is not {bounds}"
        for name, bounds in declared().items()
        if not Requirement(f"{name}{bounds}").specifier.contains(version(name), prereleases=True)
    ]
    assert not wrong


def test_every_direct_dependency_is_pinned_within_its_bounds():
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    pinned = {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines}
    for name, bounds in declared().items():
        assert name in pinned, f"{name} is missing in constraints.txt"
        (pin,) = pinned[name]
        assert pin.operator == "=="
        assert Requirement(f"{name}{bounds}").specifier.contains(pin.version)
