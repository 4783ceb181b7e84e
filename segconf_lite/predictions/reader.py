"""A folder of stored predictions, or several of them: folds of nnU-Net, or samples of one network.

In a folder, a case has a segmentation ``CASE.nii.gz`` (or another format that `segconf_lite.readers` knows)
and its probabilities: ``CASE.npz`` with an array ``probabilities`` (class, z, y, x), as nnU-Net v2 writes it;
or ``CASE_probabilities.nii.gz`` (also ``_prob``, ``_probs``, ``_softmax``) with the classes as fourth axis;
or one file per class, ``CASE_probabilities_0.nii.gz`` and so on; or ``CASE.nii.gz`` itself has four axes.
Pickled files (``CASE.pkl``) are never opened, because a pickle can run any program.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segconf_lite import check
from segconf_lite.predictions.cases import CaseFiles, PredictedCase, open_case
from segconf_lite.readers.cases import FromPath, name_from_path
from segconf_lite.readers.files import stem
from segconf_lite.readers.label_values import Labels
from segconf_lite.readers.nnunet import described_in, label_names, subject_of
from segconf_lite.readers.stored import DamagedCaseError

_PROBABILITY = re.compile(r"(.+?)_(?:prob|probs|probabilities|softmax)(?:_(\d+))?", re.IGNORECASE)
_MEMBER = re.compile(r"(?:fold|sample|member|model|seed)[_-]?\d+", re.IGNORECASE)
_LOOKED = (
    "a folder with predictions (CASE.nii.gz and CASE.npz, or CASE_probabilities.nii.gz), or with such "
    "folders fold_0, fold_1, ..."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Stored predictions. Cases are read when they are asked for, one at a time.

    Attributes:
        folders: One folder per member.
        cases: Files of the cases, by name.
        labels: Names of label values, or None until a case was opened.
        canonical: See `open_case`.
        is_ct: Whether dataset.json calls the first channel CT, so that intensities have a unit.
        skip_damaged: Whether iterating leaves damaged cases out.
        most_bytes: Largest size of one file's values as float32.
        skipped: Name -> what is wrong, of the cases that iterating has left out.

    Example:
        >>> len(Predictions((), (), None))
        0
    """

    folders: tuple[Path, ...]
    cases: tuple[CaseFiles, ...]
    labels: Labels | None
    canonical: bool = False
    is_ct: bool = False
    skip_damaged: bool = False
    most_bytes: int = 2**31
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[PredictedCase]:
        """The cases one after another; with `skip_damaged`, a warning at the end counts those left out."""
        self.skipped.clear()
        for case in self.cases:
            try:
                yield self.read(case)
            except DamagedCaseError as error:
                if not self.skip_damaged:
                    raise
                self.skipped[case.name] = " ".join(str(error).split())
        if self.skipped:
            told = "; ".join(self.skipped.values())
            warnings.warn(
                f"{len(self.skipped)} of {len(self)} cases are left out as damaged: {told}", stacklevel=2
            )

    def read(self, case: CaseFiles | str) -> PredictedCase:
        """One case, by its name or its files.

        Args:
            case: One of `cases`, or its name.

        Raises:
            ValueError: If there is no such case.
            DamagedCaseError: (a ValueError) If its files cannot be used.
        """
        if isinstance(case, str):
            check.one_of("case", case, [each.name for each in self.cases])
            case = next(each for each in self.cases if each.name == case)
        found, names = open_case(
            case, labels=self.labels, canonical=self.canonical, most_bytes=self.most_bytes
        )
        object.__setattr__(self, "labels", names)  # the dataclass is frozen; all cases have the same classes
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        if self.labels is None:
            self.read(self.cases[0])
        assert self.labels is not None
        return self.labels.names


def from_predictions(
    folders: Path | str | Sequence[Path | str],
    *,
    images: Path | str | None = None,
    references: Path | str | None = None,
    labels: Mapping[int, str] | None = None,
    domain: FromPath | None = None,
    subject: FromPath | None = None,
    skip_damaged: bool = False,
    most_bytes: int = 2**31,
) -> Predictions:
    """Stored predictions of a folder, without the network that made them.

    Args:
        folders: The folder; or several, one per member (fold, network or sample), with the same cases. A
            folder that has only folders such as ``fold_0`` or ``sample_3`` stands for these.
        images: Folder of their images, ``CASE_0000.nii.gz`` or ``CASE.nii.gz``; the first channel is shown.
        references: Folder of segmentations by a person, ``CASE.nii.gz``, of all cases or some.
        labels: Label value -> name of its class, the background first. None takes dataset.json in the folder
            or above it, and without one ``class 1`` and so on. Probabilities are in the order of the values.
        domain: Where the scanner or site is found in the name of a case: a compiled pattern, or a function.
        subject: The same for the person; by default the name of the case without its phase (``_ED``).
        skip_damaged: Leave out cases whose files are missing, damaged or contradictory, with a warning that
            counts and names them. By default the first one is an error.
        most_bytes: Largest size of one file's values as float32; a header that claims more is not believed.

    Returns:
        The predictions, by name. Nothing is opened but dataset.json and plans.json.

    Raises:
        ValueError: If no prediction is found (the message says what was looked for, and what was found), or
            members have different cases.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.savez(folder / "p1_ED.npz", probabilities=np.full((2, 3, 4, 4), 0.5, np.float32))
        >>> found = from_predictions(folder)
        >>> case = found.read("p1_ED")
        >>> case.subject, case.samples.shape, found.class_names
        ('p1', (1, 2, 3, 4, 4), ('background', 'class 1'))
    """
    members = _members(folders)
    per_member = [_files(folder) for folder in members]
    names = sorted(per_member[0])
    for folder, found in zip(members[1:], per_member[1:], strict=True):
        if odd := sorted(set(found) ^ set(names)):
            got = f"{folder} and {members[0]}, of which one alone has {', '.join(odd[:5])} ({len(odd)} cases)"
            fix = "folds of a cross-validation predict different cases each: they are no members"
            raise check.refuse("members", "predictions of the same cases", got, fix)
    described = described_in(_beside(members[0], "dataset.json"))
    named = label_names(described) if labels is None else labels
    channels = described.get("channel_names", described.get("modality", {}))
    beside = {
        role: _of_cases(role, folder, names) if folder is not None else {}
        for role, folder in (("images", images), ("references", references))
    }
    cases = [
        CaseFiles(
            name,
            tuple(found[name] for found in per_member),
            subject=subject_of(name) if subject is None else name_from_path("subject", name, subject),
            domain="all" if domain is None else name_from_path("domain", name, domain),
            image=beside["images"].get(name),
            reference=beside["references"].get(name),
        )
        for name in names
    ]
    plans = described_in(_beside(members[0], "plans.json"))
    return Predictions(
        members,
        tuple(cases),
        None if named is None else Labels.of(dict(sorted(named.items()))),
        # this reader of nnU-Net turns images to the axes right, front, head, and keeps its arrays so
        canonical=plans.get("image_reader_writer") == "NibabelIOWithReorient",
        is_ct=isinstance(channels, Mapping) and str(next(iter(channels.values()), "")).upper() == "CT",
        skip_damaged=bool(check.one_of("skip_damaged", skip_damaged, (True, False))),
        most_bytes=check.integer("most_bytes", most_bytes, low=1),
    )


def images_in(folder: Path | str, role: str = "images") -> dict[str, Path]:
    """Name without ending -> file, of all files of a folder that can be read.

    Args:
        folder: A folder of images or of segmentations.
        role: Name of the argument, for the message.

    Raises:
        ValueError: If it is no folder.

    Example:
        >>> images_in("no/such/folder")
        Traceback (most recent call last):
        ValueError: images must be a folder, got no/such/folder
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise check.refuse(role, "a folder", folder)
    return {stem(path): path for path in sorted(root.iterdir()) if stem(path)}


def _of_cases(role: str, folder: Path | str, names: Sequence[str]) -> dict[str, Path]:
    """Case -> its file; of an image with several channels, the first."""
    there = images_in(folder, role)
    found = {name: there.get(f"{name}_0000", there.get(name)) for name in names}
    kept = {name: path for name, path in found.items() if path is not None}
    if not kept:
        expected = f"a folder with files of the cases, such as {names[0]}.nii.gz"
        got = f"{folder} with {', '.join(list(there)[:5]) or 'no file that can be read'}"
        raise check.refuse(role, expected, got, "name the folder that holds them, e.g. imagesTs or labelsTs")
    return kept


def _members(folders: Path | str | Sequence[Path | str]) -> tuple[Path, ...]:
    """Folders with predictions."""
    listed = [folders] if isinstance(folders, str | Path) else list(folders)
    roots = [Path(each).expanduser() for each in listed]
    if not roots:
        raise check.refuse("folders", _LOOKED, "none")
    for root in roots:
        if not root.is_dir():
            raise check.refuse("folders", _LOOKED, root, "there is no such folder")
    if len(roots) == 1 and not _files(roots[0]):
        roots = [each for each in _inside(roots[0]) if _MEMBER.fullmatch(each.name)] or roots
    for root in roots:
        if not _files(root):
            entries = sorted(each.name for each in root.iterdir())
            more = f" and {len(entries) - 8} more" if len(entries) > 8 else ""
            got = f"{root} with {', '.join(entries[:8]) or 'nothing'}{more} in it"
            near = [str(each) for each in (*_inside(root), root.parent) if _files(each)]
            raise check.refuse("folders", _LOOKED, got, f"{near[0]} looks like one" if near else "")
    return tuple(roots)


def _inside(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir())


def _beside(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder.parent / name) if path.is_file()), None)


def _files(folder: Path) -> dict[str, tuple[Path | None, tuple[Path, ...]]]:
    """Name of a case -> its segmentation, and its probabilities by class."""
    segmentations: dict[str, Path] = {}
    probabilities: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path) if path.is_file() else ""
        match = _PROBABILITY.fullmatch(name)
        if match:
            probabilities.setdefault(match[1], {})[int(match[2] or 0)] = path
        elif name and path.suffix.lower() == ".npz":
            probabilities.setdefault(name, {})[0] = path
        elif name:
            segmentations[name] = path
    found: dict[str, tuple[Path | None, tuple[Path, ...]]] = {}
    for name in {**segmentations, **probabilities}:
        of_class = probabilities.get(name, {})
        if sorted(of_class) != list(range(len(of_class))):
            got = ", ".join(of_class[k].name for k in sorted(of_class))
            raise check.refuse(f"probabilities of {name} in {folder}", "of the classes 0, 1, ...", got)
        paths = tuple(of_class[k] for k in sorted(of_class))
        found[name] = (segmentations.get(name), paths) if paths else (None, (segmentations[name],))
    return found
