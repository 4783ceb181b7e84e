"""Your own cohort, network and predictions, as chapters 2 to 4 and 12 take them from their parameters.

Shape letters: N slices of a cohort, C classes, K channels, H rows, W columns.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import nibabel
import numpy as np
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import acdc, brains, decathlon, from_folder, mnms, prostate, refuge
from segconf_lite.saving import load_weights

READERS: dict[str, Any] = {
    "folder": from_folder,
    "acdc": acdc.cohort,
    "mnms": mnms.cohort,
    "mnms2": mnms.cohort,
    "prostate": prostate.cohort,
    "brains": brains.cohort,
    "refuge": refuge.cohort,
    "decathlon": decathlon.cohort,
}


def read_cohort(name: str, root: str | Path, *, domain: str = "", reading: str = "") -> Cohort:
    """A cohort from disk, by the name of its reader.

    Args:
        name: ``"folder"`` for the layouts of nnU-Net and BIDS and for a table of files, or a data set:
            "acdc", "mnms", "mnms2", "prostate", "brains", "refuge", "decathlon".
        root: The folder.
        domain: Where the scanner or site is found. Of a folder, a column of its table, or a pattern whose
            first group is searched in the path of the image; of M&Ms, a column. Empty: as the reader does.
        reading: Further settings of the reader as JSON, e.g. ``{"size": 192, "limit": 20}``; in `labels`, the
            values may be written as text, and `subject` is a pattern.

    Returns:
        The cohort, see `segconf_lite.readers.from_folder`.

    Raises:
        ValueError: If there is no such reader, the settings are no JSON or unknown to it, or it refuses the
            folder.

    Example:
        >>> read_cohort("folder", "no/such/folder", reading="size=192")
        Traceback (most recent call last):
        ValueError: reading must be settings as JSON, got size=192; e.g. {"size": 192, "spacing_mm": 1.25}
    """
    read = READERS[check.one_of("cohort", name, READERS)]
    try:
        settings = dict(json.loads(reading or "{}"))
    except (ValueError, TypeError, RecursionError):
        fix = 'e.g. {"size": 192, "spacing_mm": 1.25}'
        raise check.refuse("reading", "settings as JSON", reading, fix) from None
    if name == "mnms2":
        settings["edition"] = 2
    if domain:
        settings["domain"] = domain if domain.isidentifier() else _pattern("domain", domain)
    if "subject" in settings:
        settings["subject"] = _pattern("subject", settings["subject"])
    if "labels" in settings:
        try:
            settings["labels"] = {int(value): text for value, text in settings["labels"].items()}
        except (AttributeError, ValueError):
            fix = 'e.g. {"labels": {"0": "background", "1": "heart"}}'
            raise check.refuse("reading", "labels as a mapping of numbers to names", reading, fix) from None
    try:
        return read(root, progress=False, **settings)
    except TypeError as error:  # a name that the reader does not know
        known = "those of segconf_lite.readers.from_folder or of the reader of the data set"
        raise check.refuse(
            "reading", f"settings of the reader of {name}", f"{reading} ({error})", known
        ) from None


class Division(NamedTuple):
    """Parts of a cohort, no two of which share a subject.

    Example:
        >>> Division._fields
        ('domains', 'train', 'familiar', 'test')
    """

    domains: list[str]  # the source first
    train: Cohort  # of the source
    familiar: Cohort  # of the source, for thresholds
    test: Cohort  # of all domains, in their order


def divide(cohort: Cohort, *, source: str = "", n_train: int, n_test: int, seed: int = 0) -> Division:
    """Divide a cohort into what one network is trained on, its thresholds, and the test on every domain.

    Of the subjects of the source, 60 % train the network, 20 % set thresholds and 20 % are tested; of the
    other domains all are tested. From a part with more slices than asked for, slices are drawn at random.

    Args:
        cohort: Cases of at least two domains, the source with at least three subjects.
        source: Domain to train on; empty: the one with the most subjects.
        n_train: Most slices to train on.
        n_test: Most slices for thresholds, and to test on in each domain.
        seed: Seed of the division.

    Raises:
        ValueError: If there is no such domain, it is the only one, it has fewer than three subjects, or a
            subject was seen in the source and in another domain.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> both = Cohort.concatenate([phantom.cohort(24, scanner=s, size=16, seed=ord(s)) for s in "AD"])
        >>> divide(both, source="D", n_train=5, n_test=2).test.domains.tolist()
        ['D', 'D', 'A', 'A']
    """
    names = list(cohort.domain_names)
    people = {name: sorted(set(cohort.subjects[cohort.domains == name])) for name in names}
    first = check.one_of("source", source, names) if source else max(names, key=lambda n: len(people[n]))
    if len(names) < 2:
        fix = "say where the scanner stands with domain=, or add cases of another one"
        raise check.refuse("cohort", "of at least two domains", names, fix)
    if len(people[first]) < 3:
        raise check.refuse(
            f"subjects of {first}", "at least three", len(people[first]), "name another source"
        )
    others = [name for name in names if name != first]
    if both := [name for other in others for name in people[other] if name in people[first]]:
        fix = "a network must not be tested on people that it was trained on; leave them out of one domain"
        raise check.refuse("subjects", f"seen in {first} or elsewhere, not in both", both[:3], fix)
    rng = np.random.default_rng(check.integer("seed", seed, low=0))

    def most(part: Cohort, n: int) -> Cohort:
        kept = np.sort(rng.permutation(len(part))[: check.integer("n_train and n_test", n, low=1)])
        return part.take(kept) if len(kept) < len(part) else part

    train, familiar, at_home = cohort.where(domain=first).split([0.6, 0.2, 0.2], seed=seed)
    tested = [at_home, *(cohort.where(domain=name) for name in others)]
    test = Cohort.concatenate([most(part, n_test) for part in tested])
    return Division([first, *others], most(train, n_train), most(familiar, n_test), test)


def load_network(source: str, checkpoint: str | Path = "") -> nn.Module:
    """A network of your own, from the place of its code and a checkpoint.

    The code is run, as any import does it, so trust the file. The checkpoint cannot run code.

    Args:
        source: ``FILE.py:NAME`` or ``PACKAGE.MODULE:NAME``, where NAME is a function without arguments that
            returns the network, or the network itself.
        checkpoint: File of its weights, see `segconf_lite.saving.load_weights`; empty keeps those it has.

    Returns:
        The network in eval mode.

    Raises:
        ValueError: If there is no such file or name, or the checkpoint is refused.

    Example:
        >>> load_network("torch.nn:Identity")
        Identity()
    """
    place, _, name = str(source).rpartition(":")
    found = getattr(_module(place), name, None) if place and name else None
    if not callable(found):
        fix = "e.g. my_network.py:build, a function without arguments that returns the network"
        raise check.refuse("network", "FILE.py:NAME or PACKAGE.MODULE:NAME", source, fix)
    network = found if isinstance(found, nn.Module) else found()
    return load_weights(network, checkpoint) if str(checkpoint) else network.eval()


def write_nnunet(folder: str | Path, cohort: Cohort, *, end: str = "Tr", slice_mm: float = 10.0) -> Path:
    """Write a cohort as volumes in the layout of nnU-Net, one case per session.

    Images are stored as int16, 200 numbers per unit from 1000 on, because scanners store integers.

    Args:
        folder: Where ``imagesTr``, ``labelsTr`` and ``dataset.json`` go; files of the same name are replaced.
        cohort: Cases whose slices are in the order from foot to head, as the readers return them.
        end: ``"Tr"`` or ``"Ts"``, the end of the folders' names.
        slice_mm: Distance of slices in millimetres, which a cohort does not know; more than a pixel.

    Returns:
        The folder.

    Raises:
        ValueError: If a pixel is larger than the distance of slices.

    Example:
        >>> import tempfile
        >>> from segconf_lite.cohorts import phantom
        >>> folder = write_nnunet(tempfile.mkdtemp(), phantom.cohort(6, size=16), slice_mm=20.0)
        >>> sorted(path.name for path in folder.iterdir())
        ['dataset.json', 'imagesTr', 'labelsTr']
    """
    folder = Path(folder)
    for name, case in _cases(cohort):
        stored = np.clip(np.rint(200 * case.images + 1000), -32768, 32767).astype(np.int16)
        for k in range(stored.shape[1]):
            _save(folder / f"images{end}" / f"{name}_{k:04d}.nii.gz", stored[:, k], case, slice_mm)
        _save(folder / f"labels{end}" / f"{name}.nii.gz", case.labels.astype(np.uint8), case, slice_mm)
    described = {"labels": {text: k for k, text in enumerate(cohort.class_names)}, "file_ending": ".nii.gz"}
    described["channel_names"] = {str(k): f"channel {k}" for k in range(cohort.images.shape[1])}
    (folder / "dataset.json").write_text(json.dumps(described), "utf-8")
    return folder


def write_predictions(
    folder: str | Path, cohort: Cohort, probabilities: Tensor | np.ndarray, *, slice_mm: float = 10.0
) -> Path:
    """Write predictions as nnU-Net stores them with ``--save_probabilities``, one case per session.

    Args:
        folder: Where ``CASE.nii.gz``, ``CASE.npz`` and ``dataset.json`` go.
        cohort: The cases; only their names, spacing and classes are used.
        probabilities: (N, C, H, W) class probabilities.
        slice_mm: As of `write_nnunet`.

    Returns:
        The folder, for `segconf_lite.predictions.from_predictions` and ``segconf review``.

    Raises:
        ValueError: If there are not as many probabilities as slices, or the spacing is refused.

    Example:
        >>> import tempfile
        >>> from segconf_lite.cohorts import phantom
        >>> cohort = phantom.cohort(6, size=32)
        >>> folder = write_predictions(tempfile.mkdtemp(), cohort, np.full((6, 4, 32, 32), 0.25))
        >>> sorted(path.suffix for path in folder.iterdir())
        ['.gz', '.json', '.npz']
    """
    values, folder = to_numpy(probabilities).astype(np.float32), Path(folder)
    check.same_length(cohort=cohort, probabilities=values)
    sessions = np.asarray(cohort.sessions)
    for name, case in _cases(cohort):
        mine = values[sessions == np.asarray(case.sessions)[0]].swapaxes(0, 1)  # class, slice, row, column
        _save(folder / f"{name}.nii.gz", mine.argmax(axis=0).astype(np.uint8), case, slice_mm)
        np.savez_compressed(folder / f"{name}.npz", probabilities=mine)
    described = {"labels": {text: k for k, text in enumerate(cohort.class_names)}}
    (folder / "dataset.json").write_text(json.dumps(described), "utf-8")
    return folder


def case_name(session: str) -> str:
    """The name of the files of a session: what file systems may not bear becomes a hyphen.

    Example:
        >>> case_name("site 1/p02")
        'site-1-p02'
    """
    return re.sub(r"[^\w.-]", "-", session)


def _cases(cohort: Cohort) -> list[tuple[str, Cohort]]:
    sessions = list(dict.fromkeys(np.asarray(cohort.sessions).tolist()))
    check.names("sessions", [case_name(session) for session in sessions], unique=True)
    return [(case_name(session), cohort.where(session=session)) for session in sessions]


def _save(path: Path, slices: np.ndarray, case: Cohort, slice_mm: float) -> None:
    """(S, H, W) slices from foot to head; rows go to the back, columns to the patient's left."""
    row_mm, column_mm = case.spacing_mm[0]
    if not slice_mm > max(row_mm, column_mm):
        fix = "the readers take the axis of the largest spacing for that of the slices"
        raise check.refuse("slice_mm", f"more than a pixel ({row_mm:g} x {column_mm:g} mm)", slice_mm, fix)
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    nibabel.save(nibabel.Nifti1Image(slices.T, affine), path)


def _module(place: str) -> ModuleType | None:
    """The module of a file or of a dotted name; None if there is none."""
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError:
            return None
    path = Path(place).expanduser()
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pattern(name: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, TypeError) as error:
        raise check.refuse(name, "a regular expression", text, str(error)) from None
