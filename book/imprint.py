"""Who wrote the book, which version it is, and of when: what the foot of every page says."""

import datetime
import html
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from segconf_lite import __version__

__all__ = ["authors", "imprint", "with_imprint"]


def authors(citation: str) -> str:
    """The authors that a citation file names, as one line.

    Args:
        citation: Text of a ``CITATION.cff``.
    """
    known = yaml.safe_load(citation)["authors"]
    return ", ".join(
        each.get("name") or f"{each.get('given-names', '')} {each['family-names']}".strip() for each in known
    )


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], text=True, capture_output=True, check=True)
    return done.stdout.strip()


def imprint(root: Path) -> str:
    """Version, commit and date, as HTML.

    The date is that of the commit, or the one in ``SOURCE_DATE_EPOCH``: two builds of one state are equal.
    Outside of a git checkout there is no commit, and perhaps no date.

    Args:
        root: Folder of the checkout, or of the unpacked sources.
    """
    parts, seconds = [f"Version {html.escape(__version__)}"], os.environ.get("SOURCE_DATE_EPOCH")
    try:
        if (root / ".git").exists():  # else git would take a repository around this folder for ours
            commit, committed = _git(root, "log", "-1", "--format=%h %ct").split()
            changed = " with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
            parts.append(f"commit {commit}{changed}")
            seconds = seconds or committed
    except (OSError, subprocess.CalledProcessError, ValueError):
        pass  # no git here, or no commit yet
    if seconds:
        day = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).date()
        parts.append(f'<time datetime="{day}">{day.day} {day:%B %Y}</time>')
    return ", ".join(parts) + "."


def with_imprint(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """The book's configuration with its authors, and with the imprint at the foot of a page."""
    foot = f"{imprint(root)} {config['html']['extra_footer']}"
    named = {"author": authors((root / "CITATION.cff").read_text("utf-8"))}
    return config | named | {"html": config["html"] | {"extra_footer": foot}}
