"""Write repository and version into every file that names them, e.g. the first cells of the notebooks.

    python book/retarget.py                        # after a change of book/_config.yml or of the version
    python book/retarget.py organisation/name      # for a copy of the book elsewhere

The repository is stated in book/_config.yml, the version in the package; the rest is written from there.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from segconf_lite import __version__

__all__ = ["WRITTEN", "addresses", "retarget", "rewrite"]

ROOT = Path(__file__).resolve().parents[1]
HOST = "https://github.com/"
WRITTEN = {".py", ".ipynb", ".md", ".yml", ".cff", ".toml"}
PINNED = re.compile(r"(git\+https://github\.com/[\w.-]+/[\w.-]+@v)[\w.]+")
WRITTEN_FOR = re.compile(r'(colab\.welcome\(\\?")[\w.]+')
CITED = re.compile(r"^(cff-version: .*?^version: )[\w.]+", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"[\w.-]+/[\w.-]+")


def rewrite(text: str, old: str, new: str, version: str) -> str:
    """A text with `new` for the repository `old` (both "organisation/name"), and with `version` in cells.

    Addresses on GitHub and Colab are replaced, the folder that a clone makes, and the site on GitHub Pages.
    """
    (old_owner, old_name), (owner, name) = old.split("/"), new.split("/")
    text = re.sub(rf"(\bgithub\.com/|\.com/github/){re.escape(old)}(?![\w-])", rf"\g<1>{new}", text)
    text = re.sub(
        rf"\b{re.escape(old_owner)}\.github\.io/{re.escape(old_name)}(?![\w-])",
        f"{owner}.github.io/{name}",
        text,
    )
    text = re.sub(rf"(git clone {HOST}{re.escape(new)}\n\s*cd )\S+", rf"\g<1>{name}", text)
    text = PINNED.sub(rf"\g<1>{version}", text)
    text = CITED.sub(rf"\g<1>{version}", text)
    return WRITTEN_FOR.sub(rf"\g<1>{version}", text)


def addresses(root: Path) -> tuple[str, str]:
    """The repository that book/_config.yml states, and the one for which the files were last written."""
    config = yaml.safe_load((root / "book" / "_config.yml").read_text("utf-8"))
    cited = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    return config["repository"]["url"].removeprefix(HOST), cited["repository-code"].removeprefix(HOST)


def retarget(place: str | None = None, *, root: Path = ROOT) -> list[Path]:
    """Rewrite every tracked file that names the repository or the version; return those that changed.

    Args:
        place: The repository as "organisation/name". By default the one that book/_config.yml states.
        root: The checkout.

    Raises:
        ValueError: If `place` is not of the form "organisation/name".
    """
    stated, written = addresses(root)
    new = place or stated
    if not NAME.fullmatch(new):
        raise ValueError(f"expected a repository as organisation/name, got {place!r}")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    changed = []
    for path in (root / name for name in listed.stdout.split("\0") if name):
        if path.suffix not in WRITTEN or "tests" in path.relative_to(root).parts:
            continue
        before = path.read_text("utf-8")
        after = before
        for old in {stated, written}:
            after = rewrite(after, old, new, __version__)
        if after != before:
            path.write_text(after, "utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    for changed_path in retarget(*sys.argv[1:]):
        print(changed_path.relative_to(ROOT))
