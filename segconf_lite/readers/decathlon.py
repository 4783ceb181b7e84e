"""Medical Segmentation Decathlon: ten tasks in one format, each listed in a ``dataset.json``.

Sources: Antonelli et al., Nat Commun 13:4128, 2022; http://medicaldecathlon.com. The list is read by MONAI's
`load_decathlon_datalist`, so that any list in this format works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.readers import research
from segconf_lite.readers.cases import Case
from segconf_lite.readers.files import stem
from segconf_lite.readers.nnunet import described_in, label_names


def cohort(root: Path | str, **options: Unpack[research.Options]) -> Cohort:
    """Slices of one task of the Medical Segmentation Decathlon, with the task as the only domain.

    Args:
        root: Folder of a task, e.g. ``Task05_Prostate``, with its ``dataset.json``.
        **options: Settings of `segconf_lite.readers.from_folder`. Volumes differ in size: pass `size`, and
            `spacing_mm` where voxels differ, too. Where a task has several sequences ("modality" in
            ``dataset.json``), ``channels=[0]`` reads the first alone.

    Returns:
        Training cases, with the classes of ``dataset.json``; the test cases come without labels. A case is a
        subject: the data set does not say whether two cases are of one person.

    Raises:
        ValueError: If there is no ``dataset.json``, it is of another format, lists another number of training
            cases than it states, or a file cannot be used.

    Example:
        >>> cohort("no/such/folder", size=256)
        Traceback (most recent call last):
        ValueError: root must be the folder of a task with its dataset.json, got no/such/folder; ...
    """
    from monai.data import load_decathlon_datalist  # imports all of MONAI

    folder, where = Path(root).expanduser(), "the folder of a task with its dataset.json"
    path = folder / "dataset.json"
    if not path.is_file():
        raise check.refuse("root", where, root, "unpack the archive there")
    described = described_in(path)
    labels = label_names(described)
    try:
        listed = load_decathlon_datalist(path, is_segmentation=True, data_list_key="training")
        pairs = [
            ([each["image"]] if isinstance(each["image"], str) else each["image"], each["label"])
            for each in listed
        ]
    except (KeyError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise check.refuse(
            str(path), "a list 'training' of images and labels", got, "unpack it anew"
        ) from error
    if labels is None:
        raise check.refuse(str(path), "one that names its labels", "none", "unpack it anew")
    name, stated = str(described.get("name") or folder.name), described.get("numTraining", len(pairs))
    cases = [
        Case(stem(Path(label)), tuple(map(Path, images)), {"": Path(label)}, stem(Path(label)), name, "train")
        for images, label in pairs
    ]
    return research.read(cases, labels, {"train": stated}, root=root, where=where, defaults={}, **options)
