"""A cohort from a folder of your own.

Shape letters: N slices of the cohort, C channels, R raters, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers.cases import Case, Found, FromPath, Naming, open_case, overlaps
from segconf_lite.readers.label_values import Labels, grouped
from segconf_lite.readers.layouts import find_cases
from segconf_lite.readers.settings import Reading
from segconf_lite.readers.slices import Part, joined, slices_of
from segconf_lite.readers.stored import DamagedCaseError


def from_folder(
    root: Path | str,
    *,
    layout: str = "auto",
    labels: Mapping[int, str] | None = None,
    size: int | None = None,
    spacing_mm: float | None = None,
    unstated_spacing_mm: float | None = None,
    plane: str = "coarsest",
    slices: str = "all",
    normalise: str | None = "per_image",
    source: str | None = None,
    domain: FromPath | str | None = None,
    subject: FromPath | None = None,
    split: str | None = None,
    channels: Sequence[int | str] | None = None,
    label_suffix: str = "dseg",
    reference: str | None = None,
    limit: int | None = None,
    skip_damaged: bool = False,
    most_bytes: int = 2**30,
    progress: bool | None = None,
) -> Cohort:
    r"""Images and segmentations of a folder, as slices on one grid.

    Run `describe_folder` first (or ``segconf cohort FOLDER``): it prints what is there, and what looks wrong.

    Nothing is guessed that changes a result. Labels without names, values without a name, image and labels on
    different grids, headers that contradict themselves, spacings that nobody states: all are refused, and the
    message says how to mend it.

    Args:
        root: The folder, or a table of files.
        layout: ``"nnunet"``: imagesTr, labelsTr and dataset.json. ``"bids"``: sub-\*/anat with segmentations
            below derivatives. ``"table"``: a CSV with the columns image, label and subject, and if you like
            domain, rater, split and spacing_mm; it reads every other layout. ``"auto"``: the first of these
            that is there. Files are NIfTI, PNG, JPEG (images only), BMP, TIFF, NPZ, and MHA or NRRD where
            SimpleITK is installed.
        labels: Value in the files -> name of its class, e.g. ``{0: "background", 255: "vessel"}``. Values of
            one name become one class, and the class of value 0 comes first. None takes the names of
            dataset.json or of dseg.tsv.
        size: Rows and columns of a slice in pixels, cut off or added evenly about the middle of the image,
            never of an object. None keeps the size, which must then be the same for all.
        spacing_mm: Pixel spacing in millimetres, 0.01 to 100, onto which images are resampled linearly, and
            labels class by class about the same middle. It needs `size`. None keeps the pixels.
        unstated_spacing_mm: Row and column spacing of files that state none (PNG, TIFF, NPZ).
        plane: The plane in which volumes are cut: ``"axial"``, ``"coronal"``, ``"sagittal"``, or
            ``"coarsest"``, normal to the axis of largest spacing, as most scans are acquired (axial if
            isotropic).
        slices: ``"all"``, or ``"labelled"``: only those with a segmented pixel, which must not be done where
            a network has to find out whether there is an object at all.
        normalise: ``"per_image"``: each slice and channel to mean 0 and standard deviation 1, as a clinic can
            do it that has one image alone. ``"source"``: by mean and standard deviation of all slices of the
            domain `source`, per channel, for intensities with a meaning, such as Hounsfield units. Never by
            the statistics of a test domain, which nobody has. None: as stored.
        source: Name of the source domain, for ``normalise="source"``.
        domain: Where the scanner or site of a case is found: a column (of the table or participants.tsv), a
            compiled pattern, whose first group is searched in the path of the image below root, or a function
            of that path. By default the column ``domain``, else the name of the data set or folder for all.
        subject: Where the person of a case is found: a pattern or function. By default the column
            ``subject``, the BIDS subject, or for nnU-Net the name of the case without its phase (``_ED``,
            ``_frame01``). LOOK AT IT: if slices of one person have two names, a split leaks.
        split: Only cases of this split ("train" and "test" in nnU-Net, the column ``split`` of a table).
        channels: Numbers of the channels to keep, or for BIDS the suffixes to read, such as "T1w" and
            "FLAIR". None keeps all channels.
        label_suffix: Suffix of segmentations in BIDS.
        reference: The rater whose segmentation becomes the labels; None takes the first by name.
        limit: Read at most so many cases of each domain, the first ones.
        skip_damaged: Leave out cases whose files are missing, damaged or contradictory, with a warning that
            counts and names them. By default the first one is an error.
        most_bytes: Largest size of one file's values as float32; a header that claims more is not believed.
        progress: Whether to show a bar; None shows it in a terminal unless ``SEGCONF_QUIET`` is set.

    Returns:
        images (N, C, H, W) float32. Labels are classes in the order of `labels`. Sessions are cases (volumes
        or pictures). ``raters`` holds all raters by name if there are several, -1 where one has not segmented
        a slice; with one rater it is None. Slices without contrast (above the head, say) are left out and
        counted in a warning, as are cases of which the crop cuts off more than a tenth of the labels. Order:
        cases by name, or as in the table; slices from foot to head, front to back or right to left. Axial
        slices have the front at the top, others the head, and the patient's right (in sagittal slices the
        front) is at the left. `Cohort.split` divides subjects.

    Raises:
        ValueError: If an argument is out of range, no layout is found, a subject is in two splits, or the
            label values, planes, channels or sizes of cases do not fit together; all cases are then named.
        DamagedCaseError: (a ValueError) If the files of a case cannot be used.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> rng = np.random.default_rng(0)
        >>> for name in ("a", "b"):
        ...     Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{name}.png")
        ...     Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / f"{name}_mask.png")
        >>> table = "image,label,subject,domain\na.png,a_mask.png,1,north\nb.png,b_mask.png,2,south\n"
        >>> _ = (folder / "files.csv").write_text(table)
        >>> names = {0: "background", 255: "line"}
        >>> from_folder(folder, labels=names, unstated_spacing_mm=0.5, progress=False)
        Cohort(2 slices of 8x8 from 2 subjects; domains {north: 1, south: 1}; classes background, line)
    """
    naming = Naming(subject, domain, channels, label_suffix)
    reading = Reading(
        plane=plane,
        size=size,
        spacing_mm=spacing_mm,
        unstated_spacing_mm=unstated_spacing_mm,
        slices=slices,
        normalise=normalise,
        source=source,
        reference=reference,
        split=split,
        limit=limit,
        skip_damaged=skip_damaged,
        most_bytes=most_bytes,
    )
    found = find_cases(root, layout=layout, naming=naming)
    return cohort_of(found, labels, reading, numbers=numbers_of(naming, found.layout), progress=progress)


def cohort_of(
    found: Found,
    labels: Mapping[int, str] | None,
    reading: Reading,
    *,
    numbers: list[int] | None = None,
    progress: bool | None = None,
) -> Cohort:
    """The cohort of cases that were found; readers of a single data set begin here.

    Args:
        found: The cases.
        labels: Label value -> name; None takes the names that were found.
        reading: How they become slices.
        numbers: Numbers of the channels to keep; None keeps all.
        progress: Whether to show a bar.

    Raises:
        ValueError: As of `from_folder`.

    Example:
        >>> case = Case("a", (), {"": Path("a.png")}, subject="1", domain="A", split="train")
        >>> again = dataclasses.replace(case, name="b", split="test")
        >>> cohort_of(Found("table", (case, again), None, ()), None, Reading())
        Traceback (most recent call last):
        ValueError: subjects must be in one split and of one spelling, got subject 1 is in the splits test ...
    """
    if doubled := overlaps(found.cases):  # of all splits, also where one alone is read
        fix = "mend the table or the names, or give subject="
        raise check.refuse("subjects", "in one split and of one spelling", "; ".join(doubled[:5]), fix)
    cases = limited(of_split(found.cases, reading.split), reading.limit)
    raters = sorted({rater for case in found.cases for rater in case.labels})
    check.one_of("reference", reading.reference, (*raters, None))
    if reading.normalise == "source":
        check.one_of("source", reading.source, sorted({case.domain for case in cases}))
    if reading.reference is None:
        reading = dataclasses.replace(reading, reference=raters[0])
    known = found.labels if labels is None else labels
    parts, names, told = _read_all(
        cases, None if known is None else Labels.of(known), reading, numbers, progress
    )
    if told:
        warnings.warn("; ".join(told), stacklevel=3)
    return joined(parts, names, raters, reading)


def _read_all(
    cases: Sequence[Case],
    named: Labels | None,
    reading: Reading,
    numbers: list[int] | None,
    progress: bool | None,
) -> tuple[list[Part], Labels, list[str]]:
    """The slices of every case, and what a warning has to tell; label values are compared over all cases."""
    parts: list[Part] = []
    values: dict[str, tuple[int, ...]] = {}
    skipped: list[str] = []
    odd: Counter[str] = Counter()
    for case in bar(cases if named else cases[:5], progress):
        try:
            opened = open_case(case, plane=reading.plane, channels=numbers, most_bytes=reading.most_bytes)
            values[case.name] = tuple(sorted(opened.counts))
            if named and not named.unknown(values[case.name]):
                parts.append(slices_of(case, opened, named, reading))
                odd.update((*opened.notes, *parts[-1].notes))
        except DamagedCaseError as error:
            if not reading.skip_damaged:
                raise
            skipped.append(" ".join(str(error).split()))
    if named is None or any(map(named.unknown, values.values())):
        raise unnamed(values, named)
    told = [f"{note} (in {n} case{'s' * (n > 1)})" for note, n in odd.items()]
    if skipped:
        told.insert(0, f"{len(skipped)} of {len(cases)} cases are left out as damaged: {'; '.join(skipped)}")
    return parts, named, told


def of_split(cases: Sequence[Case], split: str | None) -> tuple[Case, ...]:
    """The cases of one split.

    Args:
        cases: All cases.
        split: Its name; None takes all cases.

    Raises:
        ValueError: If there is no such split.

    Example:
        >>> of_split([Case("a", (), {}, subject="1", domain="A", split="train")], "test")
        Traceback (most recent call last):
        ValueError: split must be one of ('train', None), got 'test'
    """
    check.one_of("split", split, (*sorted({case.split for case in cases}), None))
    return tuple(case for case in cases if split in (None, case.split))


def unnamed(values: Mapping[str, tuple[int, ...]], named: Labels | None) -> ValueError:
    """The error for label values without a name; it names the cases that have them.

    Args:
        values: Name of a case -> its label values.
        named: The names; None if there are none at all.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> print(unnamed({"a": (0, 1), "b": (0, 255)}, Labels.of({0: "background", 1: "organ"})))
        label values must be those of labels (0, 1), got (0, 255) in 1 case (b), beside (0, 1) in ...
    """
    if named is None:
        seen = sorted({value for found in values.values() for value in found})
        names = {value: "background" if value == 0 else f"class {value}" for value in seen}
        got = f"none, and the folder has no names; values of the first {len(values)} cases: {seen}"
        return check.refuse(
            "labels", "a mapping of label values to names", got, f"for example labels={names}"
        )
    wrong = {case: found for case, found in values.items() if named.unknown(found)}
    good = {case: found for case, found in values.items() if case not in wrong}
    got = grouped(wrong) + (f", beside {grouped(good)}" if good else "")
    fix = "name every value; if one number means two things, bring the files to one convention first"
    return check.refuse("label values", f"those of labels {named.values}", got, fix)


def limited(cases: Iterable[Case], limit: int | None) -> tuple[Case, ...]:
    """The first cases of each domain, in order.

    Args:
        cases: The cases.
        limit: How many; None for all.

    Example:
        >>> cases = [Case(name, (), {}, subject=name, domain=name[0]) for name in ("a1", "a2", "b1")]
        >>> [case.name for case in limited(cases, 1)]
        ['a1', 'b1']
    """
    seen: dict[str, int] = {}
    kept = []
    for case in cases:
        seen[case.domain] = seen.get(case.domain, 0) + 1
        if limit is None or seen[case.domain] <= limit:
            kept.append(case)
    return tuple(kept)


def bar(cases: Sequence[Case], progress: bool | None) -> Iterable[Case]:
    """The cases, with a bar on standard error where it is wanted.

    Args:
        cases: The cases.
        progress: As of `from_folder`.

    Example:
        >>> list(bar([], progress=False))
        []
    """
    quiet = os.environ.get("SEGCONF_QUIET", "0") not in ("", "0")
    disable = not progress if progress is not None else True if quiet else None  # None asks for a terminal
    return tqdm(cases, desc="reading", unit=" cases", disable=disable, leave=False)


def numbers_of(naming: Naming, layout: str) -> list[int] | None:
    """The channels to keep of an opened image; in BIDS they are files, and chosen already.

    Example:
        >>> numbers_of(Naming(channels=(1,)), "table")
        [1]
    """
    if naming.channels is None or layout == "bids":
        return None
    return [check.integer("channels", each, fix="suffixes are for BIDS") for each in naming.channels]
