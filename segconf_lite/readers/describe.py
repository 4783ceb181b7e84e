"""What a folder holds and what looks wrong with it, before it becomes a cohort."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.readers.cases import Case, FromPath, Naming, Opened, open_case, overlaps
from segconf_lite.readers.folder import bar, limited, numbers_of
from segconf_lite.readers.label_values import Labels, grouped
from segconf_lite.readers.layouts import find_cases
from segconf_lite.readers.settings import Reading
from segconf_lite.readers.stored import DamagedCaseError


@dataclasses.dataclass(frozen=True, eq=False)
class FolderReport:
    """What `describe_folder` found; ``print`` shows all of it.

    Attributes:
        title: The folder and its layout.
        cases: One row per case: case, subject, domain, split, channels, slices, size (rows x columns in
            pixels), spacing_mm (rows x columns), plane, raters, labels (their values). Of a case that cannot
            be read, what lies in its files is missing.
        labels: One row per label value: value, name, pixels, cases.
        notes: What one should know, and what `from_folder` only needs an argument for.
        problems: What `from_folder` would refuse, or what would make a result wrong. Empty is good.

    Example:
        >>> table = pd.DataFrame({"case": ["a"], "subject": ["1"], "domain": ["A"]})
        >>> print(FolderReport("mine (table)", table, pd.DataFrame(), (), ("a is damaged",)))
        mine (table); cases: 1, subjects: 1, domains: 1
        ...
        What looks wrong
          a is damaged
    """

    title: str
    cases: pd.DataFrame
    labels: pd.DataFrame
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        n_subjects, n_domains = self.cases["subject"].nunique(), self.cases["domain"].nunique()
        lines = [f"{self.title}; cases: {len(self.cases)}, subjects: {n_subjects}, domains: {n_domains}"]
        shown = self.cases.loc[:, (self.cases.astype(str) != "").any()]
        lines += ["", shown.head(20).to_string(index=False)]
        lines += [f"... and {len(shown) - 20} more cases"] * (len(shown) > 20)
        for name in ("domain", "split"):
            if name in self.cases and self.cases[name].nunique() > 1:
                groups = self.cases.groupby(name, sort=False)["subject"].agg(["size", "nunique"])
                groups.columns = pd.Index(["cases", "subjects"])
                lines += ["", groups.to_string()]
        lines += ["", "Label values", self.labels.to_string(index=False) if len(self.labels) else "  none"]
        for title, texts in (("Worth knowing", self.notes), ("What looks wrong", self.problems)):
            lines += ["", title, *(f"  {text}" for text in texts)] if texts else []
        return "\n".join([*lines, *([] if self.problems else ["", "Nothing looks wrong."])])


def describe_folder(
    root: Path | str,
    *,
    layout: str = "auto",
    labels: Mapping[int, str] | None = None,
    plane: str = "coarsest",
    domain: FromPath | str | None = None,
    subject: FromPath | None = None,
    channels: Sequence[int | str] | None = None,
    label_suffix: str = "dseg",
    limit: int | None = None,
    most_bytes: int = 2**30,
    progress: bool | None = None,
) -> FolderReport:
    r"""Which cases, subjects, domains, sizes, spacings and label values a folder has, and what looks wrong.

    Every file is read, so that a damaged one is found now. A case that cannot be read is reported, and the
    others are still described. Beyond what `from_folder` refuses, the report tells images that are equal
    under two names, and cases without any foreground.

    Args:
        root: The folder, or a table of files.
        layout: As of `from_folder`, as are all arguments.
        labels: Value -> name of its class. Without names, values are listed and no value is called unknown.
        plane: The plane in which volumes are cut.
        domain: Where the scanner or site of a case is found.
        subject: Where the person of a case is found.
        channels: Numbers of channels, or suffixes of BIDS.
        label_suffix: Suffix of segmentations in BIDS.
        limit: Open at most so many cases of each domain; overlaps of subjects are looked for in all of them.
        most_bytes: Largest size of one file's values as float32.
        progress: Whether to show a bar.

    Returns:
        The report.

    Raises:
        ValueError: If an argument is out of range, or no layout is found.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "a.png")
        >>> Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / "a_mask.png")
        >>> table = "image,label,subject\na.png,a_mask.png,1\nb.png,b.png,2\n"
        >>> _ = (folder / "files.csv").write_text(table)
        >>> report = describe_folder(folder, progress=False)
        >>> report.labels["pixels"].tolist(), len(report.problems)
        ([56, 8], 1)
    """
    naming = Naming(subject, domain, channels, label_suffix)
    reading = Reading(plane=plane, limit=limit, most_bytes=most_bytes)
    found = find_cases(root, layout=layout, naming=naming)
    named = Labels.of(labels) if labels is not None else Labels.of(found.labels) if found.labels else None
    numbers = numbers_of(naming, found.layout)
    rows, problems, notes = [], overlaps(found.cases), list(found.notes)
    opened_cases: dict[str, dict[str, Any]] = {}
    pixels: Counter[int] = Counter()
    odd: Counter[str] = Counter()
    for case in bar(limited(found.cases, reading.limit), progress):
        row = {"case": case.name, "subject": case.subject, "domain": case.domain, "split": case.split}
        try:
            opened = open_case(case, plane=reading.plane, channels=numbers, most_bytes=reading.most_bytes)
        except DamagedCaseError as error:
            problems.append(" ".join(str(error).split()))
        else:
            opened_cases[case.name] = _facts(case, opened)
            pixels.update(opened.counts)
            odd.update(opened.notes)
            row |= {name: opened_cases[case.name][name] for name in _SHOWN}
        rows.append(row)
    notes += [f"{note} (in {n} case{'s' * (n > 1)})" for note, n in odd.items()]
    more_problems, more_notes = _compared(opened_cases, named)
    return FolderReport(
        title=f"{Path(root)} ({found.layout})",
        cases=pd.DataFrame(rows).fillna(""),
        labels=_label_table(pixels, opened_cases, named),
        notes=tuple(notes + more_notes),
        problems=tuple(problems + more_problems),
    )


_SHOWN = ("channels", "slices", "size", "spacing_mm", "plane", "raters", "labels")


def _facts(case: Case, opened: Opened) -> dict[str, Any]:
    """What the table shows of a case, and what cases are compared by."""
    n_channels, n_slices, height, width = opened.image.shape
    return {
        "channels": str(n_channels),
        "slices": str(n_slices),
        "size": f"{height}x{width}",
        "spacing_mm": "not stated"
        if opened.spacing_mm is None
        else "{:.4g}x{:.4g}".format(*opened.spacing_mm),
        "plane": opened.plane,
        "raters": " ".join(case.labels),
        "labels": " ".join(map(str, sorted(opened.counts))),
        "values": tuple(sorted(opened.counts)),
        "sum": hashlib.sha256(np.ascontiguousarray(opened.image).data).hexdigest(),
    }


def _compared(facts: dict[str, dict[str, Any]], named: Labels | None) -> tuple[list[str], list[str]]:
    """Problems and notes that only a comparison of cases shows."""
    problems: list[str] = []
    notes: list[str] = []
    for name, is_problem, fix in (
        ("plane", True, "choose one with plane="),
        ("channels", True, "choose with channels="),
        ("size", False, "from_folder needs size="),
        ("spacing_mm", False, "from_folder resamples with spacing_mm= and size="),
    ):
        of_case = {case: fact[name] for case, fact in facts.items()}
        if len(set(of_case.values())) > 1:
            (problems if is_problem else notes).append(f"{name} differs: {grouped(of_case)}; {fix}")
    if any(fact["spacing_mm"] == "not stated" for fact in facts.values()):
        notes.append("some files state no spacing; from_folder needs unstated_spacing_mm=")
    values = {case: fact["values"] for case, fact in facts.items()}
    if named is None:
        notes.append("label values have no names; from_folder needs labels={value: name}")
        if {(1 in found, 255 in found) for found in values.values()} >= {(True, False), (False, True)}:
            problems.append(f"masks of 0 and 255 beside masks of 0 and 1: {grouped(values)}")
    elif wrong := {case: found for case, found in values.items() if named.unknown(found)}:
        problems.append(f"label values without a name: {grouped(wrong)}; names are for {named.values}")
    if empty := [case for case, found in values.items() if len(found) < 2]:
        notes.append(f"one label value only, so no foreground: {grouped(dict.fromkeys(empty, 'one value'))}")
    same: dict[str, list[str]] = {}
    for case, fact in facts.items():
        same.setdefault(fact["sum"], []).append(case)
    problems += [
        f"the images of {' and '.join(names)} are equal" for names in same.values() if len(names) > 1
    ]
    return problems, notes


def _label_table(
    pixels: Counter[int], facts: dict[str, dict[str, Any]], named: Labels | None
) -> pd.DataFrame:
    name_of = (
        {} if named is None else dict(zip(named.values, (named.names[k] for k in named.classes), strict=True))
    )
    rows = [
        {
            "value": value,
            "name": name_of.get(value, ""),
            "pixels": pixels[value],
            "cases": sum(value in fact["values"] for fact in facts.values()),
        }
        for value in sorted({*pixels, *name_of})
    ]
    return pd.DataFrame(rows)
