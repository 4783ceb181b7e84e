"""Build the source distribution and the wheel twice, and refuse them if their bytes differ.

    python release/build.py dist

Every build starts from a fresh copy of the committed files. The time in the archives is that of the commit
(SOURCE_DATE_EPOCH), owners and permissions are the same for everybody, and so anybody can build the bytes
that were released, with the setuptools of constraints.lock.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def git(*arguments: str) -> bytes:
    """What git answers."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def build(folder: Path) -> list[Path]:
    """A source distribution and a wheel of what is committed."""
    seconds = git("log", "-1", "--format=%ct").decode().strip()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
            archive.extractall(source, filter="data")
        for path in source.rglob("*"):  # a umask is not part of a release
            path.chmod(0o755 if path.is_dir() else 0o644)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": seconds, "PYTHONHASHSEED": "0"}
        for kind in ("build_sdist", "build_wheel"):
            command = [sys.executable, "-c", BUILD, kind, str(folder.resolve())]
            subprocess.run(command, cwd=source, check=True, env=environment, stdout=subprocess.DEVNULL)
    for path in folder.glob("*.tar.gz"):
        normalise(path, int(seconds))
    return sorted(folder.iterdir())


def normalise(path: Path, seconds: int) -> None:
    """Write a source distribution again, in the order of names, with one time and no owner."""
    written = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as new:
        for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = seconds, 0, 0, "", ""
            entry.mode, entry.pax_headers = 0o755 if entry.isdir() else 0o644, {}
            new.addfile(entry, old.extractfile(entry) if entry.isfile() else None)
    path.write_bytes(gzip.compress(written.getvalue(), mtime=seconds))


def sums(files: list[Path]) -> dict[str, str]:
    """SHA-256 of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Build twice, compare, and copy."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    with tempfile.TemporaryDirectory() as name:
        first = build(Path(name) / "first")
        second = build(Path(name) / "second")
        if sums(first) != sums(second):
            sys.exit(f"two builds differ: {sums(first)} and {sums(second)}")
        target.mkdir(parents=True, exist_ok=True)
        for path in first:
            shutil.copy(path, target)
            print(f"{sums([path])[path.name]}  {path.name}")


if __name__ == "__main__":
    main()
