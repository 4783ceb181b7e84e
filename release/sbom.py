"""A software bill of materials of the tested set, in the format CycloneDX 1.6, from constraints.lock.

    python release/sbom.py dist/sbom.cdx.json

It names the package itself and every locked file of constraints.lock with version and SHA-256. It holds
neither time nor random number, so that two of them from one commit have equal bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<digest>[0-9a-f]{64})")


def bill() -> dict[str, Any]:
    """The content of the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locked = map(LINE.fullmatch, (ROOT / "constraints.lock").read_text("utf-8").splitlines())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(project["name"], project["version"], kind="application")},
        "components": [component(m["name"], m["version"], m["digest"]) for m in locked if m],
    }


def component(name: str, version: str, digest: str = "", kind: str = "library") -> dict[str, Any]:
    """One package."""
    place = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    found = {"type": kind, "bom-ref": place, "name": name, "version": version, "purl": place}
    return found | ({"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {})


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(bill(), indent=1) + "\n", "utf-8")
