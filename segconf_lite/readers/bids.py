"""The layout of BIDS: sub-01/anat/sub-01_T1w.nii.gz, and segmentations under derivatives/.

A segmentation belongs to the image whose entities (sub, ses, acq, run, ...) it repeats. Those which describe
the segmentation itself (desc, label, space, res, rater, ...) are passed over. Source: Brain Imaging Data
Structure 1.10, "Imaging data derived by segmentation"; https://bids-specification.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from segconf_lite import check
from segconf_lite.readers.cases import Case, Found, Naming, name_from_path
from segconf_lite.readers.files import stem

#: What this layout has, for messages.
LOOKS = "sub-*/**/anat and derivatives/"
_OF_LABELS = ("desc", "label", "space", "res", "den", "rater", "atlas", "seg", "hemi")


def is_here(root: Path) -> bool:
    """Whether a folder has this layout.

    Example:
        >>> is_here(Path("no/such/folder"))
        False
    """
    return root.is_dir() and any(entry.is_dir() for entry in root.glob("sub-*"))


def find(root: Path, naming: Naming) -> Found:
    """The images of one suffix (or of several, as channels) that have a segmentation.

    Args:
        root: The folder.
        naming: How cases get their names. `channels` are suffixes such as ("T1w",); without them there must
            be a single suffix. Raters are told apart by the entity ``rater-``, else ``desc-``, else by the
            folder below derivatives. By default the domain is the name of the folder; a text is a column of
            participants.tsv.

    Returns:
        The cases in the order of names.

    Raises:
        ValueError: If there are several suffixes to choose from, a segmentation fits two images, or two
            segmentations are of one rater; if the domain is no column of participants.tsv.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("sub-1/anat/sub-1_T1w.nii.gz", "derivatives/sub-1/anat/sub-1_desc-ann_dseg.nii.gz"):
        ...     (root / name).parent.mkdir(parents=True)
        ...     (root / name).touch()
        >>> [(case.name, case.subject, *case.labels) for case in find(root, Naming()).cases]
        [('sub-1_T1w', 'sub-1', 'ann')]
    """
    inside = [path for path in sorted(root.rglob("sub-*_*")) if stem(path)]
    drawn = [path for path in inside if _suffix(path) == naming.label_suffix]
    images = [path for path in inside if path.parent.name == "anat" and _is_raw(path, root)]
    images = [path for path in images if path not in set(drawn)]
    if not drawn:
        suffixes = sorted({_suffix(path) for path in inside})
        fix = "give label_suffix="
        raise check.refuse(f"label_suffix in {root}", f"one of {suffixes}", repr(naming.label_suffix), fix)
    wanted = _wanted(images, naming)
    others = {suffix: [path for path in images if _suffix(path) == suffix] for suffix in wanted}
    labels_of = _labels_of(root, others[wanted[0]], drawn)
    columns = _participants(root, naming)
    cases = []
    for image, labels in labels_of.items():
        key, files = _entities(image), [image]
        for suffix in wanted[1:]:
            same = [path for path in others[suffix] if _entities(path) == key]
            files += same or [image.with_name(image.name.replace(wanted[0], suffix))]  # opened, it is missing
        where, subject = image.relative_to(root).as_posix(), f"sub-{key['sub']}"
        domain = root.resolve().name
        if isinstance(naming.domain, str):
            domain = columns[subject]
        elif naming.domain is not None:
            domain = name_from_path("domain", where, naming.domain)
        if naming.subject is not None:
            subject = name_from_path("subject", where, naming.subject)
        cases.append(Case(stem(image), tuple(files), labels, subject=subject, domain=domain))
    n_without = len(others[wanted[0]]) - len(cases)
    notes = [f"{n_without} images of suffix {wanted[0]} without a segmentation"] if n_without else []
    return Found("bids", tuple(cases), _label_names(root), tuple(notes))


def _suffix(path: Path) -> str:
    return stem(path).rpartition("_")[2]


def _entities(path: Path) -> dict[str, str]:
    """Entity -> value, of sub-01_ses-2_T1w: {"sub": "01", "ses": "2"}."""
    return dict(part.split("-", 1) for part in stem(path).split("_") if "-" in part)


def _is_raw(path: Path, root: Path) -> bool:
    return path.relative_to(root).parts[0].startswith("sub-")


def _wanted(images: list[Path], naming: Naming) -> tuple[str, ...]:
    """The suffixes that become channels."""
    there = sorted({_suffix(path) for path in images})
    if naming.channels is None and len(there) == 1:
        return (there[0],)
    given = naming.channels or ()
    if not given or not set(given) <= set(there):
        fix = f"for example channels=({there[0]!r},)" if there else "there is no image below sub-*/anat"
        raise check.refuse("channels", f"suffixes out of {there}", naming.channels, fix)
    return tuple(map(str, given))


def _labels_of(root: Path, images: list[Path], drawn: Iterable[Path]) -> dict[Path, dict[str, Path]]:
    """Image -> rater -> segmentation, for the images that have one."""
    found: dict[Path, dict[str, Path]] = {}
    for path in drawn:
        mine = _entities(path)
        of = {key: value for key, value in mine.items() if key not in _OF_LABELS}
        fitting = [image for image in images if of.items() <= _entities(image).items()]
        if len(fitting) > 1:
            names = [image.name for image in fitting]
            raise check.refuse(
                str(path), "the segmentation of one image", f"{names}", "add run- or acq- to it"
            )
        parts = path.relative_to(root).parts
        folder = parts[1] if parts[0] == "derivatives" and not parts[1].startswith("sub-") else ""
        rater = mine.get("rater") or mine.get("desc") or folder
        for image in fitting:
            other = found.setdefault(image, {}).setdefault(rater, path)
            if other != path:
                fix = "tell them apart with rater- or desc-"
                raise check.refuse(str(path), "the only one of its rater", f"{other} beside it", fix)
    return {image: found[image] for image in images if image in found}


def _participants(root: Path, naming: Naming) -> dict[str, str]:
    """Subject -> what the column of participants.tsv says, if the domain is a column."""
    if not isinstance(naming.domain, str):
        return {}
    path = root / "participants.tsv"
    if not path.is_file():
        raise check.refuse("domain", "a pattern or a function, without participants.tsv", repr(naming.domain))
    table = pd.read_csv(path, sep="\t", dtype=str)
    check.columns(table, ["participant_id", naming.domain], str(path))
    names = check.names(f"{naming.domain} in {path}", table[naming.domain])
    column = dict(zip(table["participant_id"], names.tolist(), strict=True))
    people = {entry.name for entry in root.glob("sub-*") if entry.is_dir()}
    if not people <= set(column):
        missing = sorted(people - set(column))[:5]
        raise check.refuse(str(path), "a row for every folder sub-*", f"none for {missing}", "complete it")
    return column


def _label_names(root: Path) -> dict[int, str] | None:
    """Value -> name, from the tables ``*dseg.tsv``, which must agree."""
    found: dict[int, str] = {}
    for path in sorted(root.rglob("*dseg.tsv")):
        table = check.columns(pd.read_csv(path, sep="\t"), ["index", "name"], str(path))
        for value, name in zip(table["index"].tolist(), table["name"].tolist(), strict=True):
            if found.setdefault(value, name) != name:
                got = f"{found[value]!r} in another table"
                raise check.refuse(f"value {value} in {path}", f"{name!r} in all tables", got, "pass labels=")
    if found and 0 not in found:
        found = {0: "background"} | found  # BIDS leaves it out: 0 is reserved for it
    return found or None
