"""The tested set of packages with the SHA-256 of every file, from constraints.txt, for the system it runs on.

    python release/lock.py    # writes constraints.lock; needs pip and its index

    pip install --require-hashes --no-deps -r constraints.lock    # exactly these files, or nothing

pip resolves all extras within the constraints without installing anything, and reports the files that it
would install. The lock names no host, so it serves with any index that has these files. The tested platform
is Linux on x86-64 with Python 3.11; elsewhere other files belong to the same versions, and constraints.txt
is what to use.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.lock"


def resolved() -> list[dict[str, Any]]:
    """What pip would install for the package with all extras."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "-c", "constraints.txt", ".[all]"]
        subprocess.run(command, cwd=ROOT, check=True)
        return json.loads(report.read_text("utf-8"))["install"]


def lock(packages: list[dict[str, Any]]) -> str:
    """The text of the lock: one line per package, in the order of their names."""
    lines = [
        f"# The tested set for {platform.system()} on {platform.machine()}, Python {sys.version_info[0]}."
        f"{sys.version_info[1]}: python release/lock.py",
        "# torch is the build for CPUs, which PyTorch's own index has.",
    ]
    rows = []
    for package in packages:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        if name.lower().replace("_", "-") == "segconf-lite":
            continue
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        rows.append(f"{name.lower().replace('_', '-')}=={version} --hash=sha256:{digest}")
    return "\n".join([*lines, *sorted(rows)]) + "\n"


if __name__ == "__main__":
    LOCK.write_text(lock(resolved()), "utf-8")
    print(f"{LOCK.name}: {LOCK.read_text('utf-8').count('--hash')} packages")
