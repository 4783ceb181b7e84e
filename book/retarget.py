"""Write repository and version into every file that names them, e.g. the first cells of the notebooks.

    python book/retarget.py                        # after a change of the version
    python book/retarget.py organisation/name      # for a copy of the book elsewhere

The repository is stated in book/_config.yml, the version in the package.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from segconf_lite import __version__

__all__ = ["retarget", "rewrite"]

ROOT = Path(__file__).resolve().parents[1]
HOST = "https://github.com/"
PINNED = re.compile(r"(git\+https://github\.com/[\w.-]+/[\w.-]+@v)[\w.]+")
WRITTEN_FOR = re.compile(r'(colab\.welcome\(\\?")[\w.]+')


def rewrite(text: str, old: str, new: str, version: str) -> str:
    """A text with `new` for the repository `old` (both "organisation/name"), and with `version` in cells."""
    text = text.replace(old, new)
    text = PINNED.sub(rf"\g<1>{version}", text)
    return WRITTEN_FOR.sub(rf"\g<1>{version}", text)


def retarget(place: str | None = None) -> list[Path]:
    """Rewrite every tracked file that names the repository or the version; return those that changed.

    Raises:
        ValueError: If `place` is not of the form "organisation/name".
    """
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text("utf-8"))
    old = config["repository"]["url"].removeprefix(HOST)
    new = place or old
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise ValueError(f"expected a repository as organisation/name, got {place!r}")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    changed = []
    for path in (ROOT / name for name in listed.stdout.split("\0") if name):
        if path.suffix not in {".py", ".ipynb", ".md", ".yml", ".cff"} or "tests" in path.parts:
            continue
        before = path.read_text("utf-8")
        after = rewrite(before, old, new, __version__)
        if after != before:
            path.write_text(after, "utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    for changed_path in retarget(*sys.argv[1:]):
        print(changed_path.relative_to(ROOT))
