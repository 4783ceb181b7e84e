"""The layout of nnU-Net: imagesTr, labelsTr and dataset.json.

Images are named ``CASE_0000.nii.gz``, one file per channel, and labels ``CASE.nii.gz``; the Medical
Segmentation Decathlon has one image ``CASE.nii.gz`` with all channels. Source: Isensee et al., Nat Methods
18:203, 2021, and the format of its dataset.json, versions 1 and 2.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from segconf_lite import check
from segconf_lite.readers.cases import Case, Found, Naming, name_from_path
from segconf_lite.readers.files import stem

#: What this layout has, for messages.
LOOKS = "imagesTr and labelsTr"
_SPLITS = {"tr": "train", "ts": "test"}
# One person is scanned at several phases: ACDC has patient001_frame01, M&Ms-2 has 001_SA_ED.
_PHASE = re.compile(r"[_-](ed|es|frame\d+|phase\d+|time\d+|slice\d+|sl\d+)$", re.IGNORECASE)


def is_here(root: Path) -> bool:
    """Whether a folder has this layout.

    Example:
        >>> is_here(Path("no/such/folder"))
        False
    """
    folders = _folders(root)
    return "imagestr" in folders and "labelstr" in folders


def find(root: Path, naming: Naming) -> Found:
    """The cases with a label file; those of imagesTs too, where there is a folder labelsTs.

    Args:
        root: The folder.
        naming: How cases get their names. By default the subject is the name of the case without its phase
            (``_ED``, ``_frame01``, ...), and the domain the name of the data set.

    Returns:
        The cases, training cases first.

    Raises:
        ValueError: If dataset.json is no JSON, or two files are of one case.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("imagesTr/p1_ED_0000.nii.gz", "labelsTr/p1_ED.nii.gz"):
        ...     (root / name).parent.mkdir()
        ...     (root / name).touch()
        >>> [(case.name, case.subject, case.split) for case in find(root, Naming()).cases]
        [('p1_ED', 'p1', 'train')]
    """
    folders = _folders(root)
    described = described_in(folders.get("dataset.json"))
    cases: list[Case] = []
    notes: list[str] = []
    for end, split in _SPLITS.items():
        if f"images{end}" not in folders or f"labels{end}" not in folders:
            continue
        images, labels = _by_stem(folders[f"images{end}"]), _by_stem(folders[f"labels{end}"])
        used: set[str] = set()
        channels_of = _channels(labels, images)
        most = max(map(len, channels_of.values()), default=0)
        for name, label in labels.items():
            paths = channels_of[name]
            used.update(paths)
            files = [images[path] for path in paths]
            if not files or (len(files) < most and name not in paths):  # found missing when it is opened
                there = {path[-4:] for path in paths}
                lost = next(f"{k:04d}" for k in range(most + 1) if f"{k:04d}" not in there)
                files += [folders[f"images{end}"] / f"{stem(label)}_{lost}{label.name[len(stem(label)) :]}"]
            cases.append(_case(root, stem(label), files, label, split, naming, described))
        without = sorted(set(images) - used)
        if without:
            notes.append(f"{len(without)} image files without a label file, e.g. {images[without[0]].name}")
    names = [case.name for case in cases]
    if names:
        check.names("cases", names, unique=True)
    if naming.subject is None and any(_PHASE.search(name) for name in names):
        people = len({case.subject for case in cases})
        notes.append(
            f"{len(cases)} cases of {people} subjects, whose names end before _ED, _frame01 and the like"
        )
    return Found("nnunet", tuple(cases), label_names(described), tuple(notes))


def _folders(root: Path) -> dict[str, Path]:
    """Small name -> path of the folders in a folder, and of its dataset.json."""
    entries = sorted(root.iterdir()) if root.is_dir() else []
    kept = [entry for entry in entries if entry.is_dir() or entry.name.lower() == "dataset.json"]
    return {entry.name.lower(): entry for entry in kept}


def _by_stem(folder: Path) -> dict[str, Path]:
    """Small name without its ending -> file, by name."""
    paths = sorted(path for path in folder.iterdir() if stem(path))
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(stem(path).lower(), path)
        if other != path:
            raise check.refuse(
                str(path), "the only file of its case", f"{other.name} beside it", "rename one"
            )
    return found


def _channels(labels: dict[str, Path], images: dict[str, Path]) -> dict[str, list[str]]:
    """Name of a label file -> names of the image files of its case, channel by channel."""
    numbered: dict[str, list[str]] = {}
    for image in images:
        if found := re.fullmatch(r"(.+)_\d{4}", image):
            numbered.setdefault(found[1], []).append(image)
    return {name: numbered.get(name) or [image for image in (name,) if image in images] for name in labels}


def _case(
    root: Path,
    name: str,
    images: list[Path],
    label: Path,
    split: str,
    naming: Naming,
    described: dict[str, Any],
) -> Case:
    where, subject = images[0].relative_to(root).as_posix(), subject_of(name)
    if naming.subject is not None:
        subject = name_from_path("subject", where, naming.subject)
    domain = str(described.get("name") or root.resolve().name)
    if isinstance(naming.domain, str):
        fix = "nnU-Net has no columns: give re.compile(...) or a function of the path"
        raise check.refuse("domain", "a pattern or a function for this layout", repr(naming.domain), fix)
    if naming.domain is not None:
        domain = name_from_path("domain", where, naming.domain)
    return Case(name, tuple(images), {"": label}, subject=subject, domain=domain, split=split)


def subject_of(case: str) -> str:
    """The name of a case without its phase.

    Example:
        >>> subject_of("patient001_frame01"), subject_of("001_SA_ED")
        ('patient001', '001_SA')
    """
    while _PHASE.search(case):
        case = _PHASE.sub("", case)
    return case


def described_in(path: Path | None) -> dict[str, Any]:
    """The content of dataset.json; nothing where there is none.

    Args:
        path: The file.

    Raises:
        ValueError: If it is no JSON object.

    Example:
        >>> described_in(None)
        {}
    """
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise check.refuse(
            str(path), "JSON", f"{type(error).__name__}: {error}", "mend or remove it"
        ) from error
    if not isinstance(content, dict):
        raise check.refuse(str(path), "a JSON object", type(content).__name__, "mend or remove it")
    return content


def label_names(described: dict[str, Any]) -> dict[int, str] | None:
    """Value -> name, from {"0": "background"} (version 1) or {"background": 0} (version 2).

    Args:
        described: The content of dataset.json.

    Returns:
        The names, or None where it states none.

    Raises:
        ValueError: If a label is no integer (a region, say).

    Example:
        >>> label_names({"labels": {"background": 0, "organ": 1, "ignore": 2}})
        {0: 'background', 1: 'organ'}
    """
    labels = described.get("labels")
    if not isinstance(labels, dict):
        return None
    found: dict[int, str] = {}
    for key, value in labels.items():
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if not str(number).isdigit() or not isinstance(name, str):
            fix = "pass labels=; regions such as [1, 2] and the label 'ignore' have no place in a cohort"
            raise check.refuse("labels in dataset.json", "integers with names", f"{key!r}: {value!r}", fix)
        if name != "ignore":
            found[int(number)] = name
    return found
