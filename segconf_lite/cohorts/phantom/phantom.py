"""The cohort: random subjects, imaged by one scanner, segmented by some raters.

A rater moves every border by a habit of their own (segmenting tight or generous) and by a smooth random error
that changes from slice to slice. Borders that are hard to see, towards the apex, move more. The reference is
the border with which the phantom was painted. Raters of whom every probability is known are in `annotators`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.cohorts.phantom.anatomy import CLASS_NAMES, FIELD_OF_VIEW_MM, Anatomy, draw
from segconf_lite.cohorts.phantom.scanner import SCANNERS, Scanner, acquire, smooth_field
from segconf_lite.cohorts.phantom.subjects import SLICES_PER_SUBJECT, SliceShapes, draw_subjects

_SUBJECTS_PER_BLOCK = 8  # bounds the memory of the tissue maps, whatever the cohort's size
_ANATOMY, _SCAN, _RATERS = 0, 1, 2  # independent random streams of one subject; 3 is `annotators`


def cohort(
    n_cases: int,
    *,
    scanner: str | Scanner = "A",
    size: int = 96,
    seed: int = 0,
    n_raters: int = 0,
    jitter: float = 1.0,
) -> Cohort:
    """Cardiac short-axis slices of random subjects on one scanner.

    Anatomy, scan and raters have random streams of their own: equal seeds show the same hearts on every
    scanner, and the first cases of a larger cohort are the cases of a smaller one. Equal arguments give equal
    bytes.

    Args:
        n_cases: Number of slices, >= 1; six neighbouring slices, base to apex, are one subject.
        scanner: Name of a built-in scanner (`SCANNERS`) or a `Scanner`.
        size: Rows and columns, 16 to 1024; the field of view is always 192 mm.
        seed: Seed of the random subjects, >= 0.
        n_raters: Number of independent raters who segment each slice, 0 for none.
        jitter: Scale of the variation *within* the scanner, 0 to 10; 0 = every scan alike, 1 = usual.

    Returns:
        A cohort with classes background, right ventricle, myocardium, left ventricle.

    Raises:
        ValueError: If the scanner is unknown, or a number is out of range.

    Example:
        >>> cohort(8, scanner="B", size=16)
        Cohort(8 slices of 16x16 from 2 subjects; domains {B: 8};
               classes background, right ventricle, myocardium, left ventricle)
    """
    n_cases = check.integer("n_cases", n_cases, low=1, high=10**6)
    n_raters = check.integer("n_raters", n_raters, low=0, high=10**6)
    size, seed = check.integer("size", size, low=16, high=1024), check.integer("seed", seed, low=0)
    jitter = check.between("jitter", jitter, 0, 10, fix="1 is the usual variation within a scanner")
    if isinstance(scanner, str):
        scanner = SCANNERS[check.one_of("scanner", scanner, SCANNERS)]
    if not isinstance(scanner, Scanner):
        raise check.refuse(
            "scanner", f"one of {tuple(SCANNERS)} or a phantom.Scanner", type(scanner).__name__
        )
    images = np.empty((n_cases, 1, size, size), np.float32)
    labels = np.empty((n_cases, size, size), np.int64)
    raters = np.empty((n_cases, n_raters, size, size), np.int64) if n_raters else None
    subjects: list[str] = []
    for cases, numbers, diseases, shapes, anatomy in blocks(n_cases, size=size, seed=seed):
        for number, disease in zip(numbers, diseases, strict=True):
            subjects += [f"s{seed}-{number:04d}-{disease}"] * SLICES_PER_SUBJECT
        scan_rngs = slice_streams(seed, numbers, _SCAN)
        kept = slice(0, cases.stop - cases.start)
        scans = acquire(anatomy.fractions, scanner, jitter, scan_rngs, FIELD_OF_VIEW_MM / size)
        images[cases, 0] = scans[kept]
        labels[cases] = reference_labels(anatomy.inside_mm)[kept]
        if raters is not None:
            rater_rngs = slice_streams(seed, numbers, _RATERS)
            raters[cases] = _segment(anatomy.inside_mm, shapes.level, _habits_mm(n_raters), rater_rngs)[kept]
    return Cohort(
        images=images,
        labels=labels,
        raters=raters,
        domains=np.full(n_cases, scanner.name),
        subjects=np.array(subjects[:n_cases]),
        spacing_mm=np.full((n_cases, 2), FIELD_OF_VIEW_MM / size),
        class_names=CLASS_NAMES,
    )


class Block(NamedTuple):
    """The slices of a few whole subjects, which are made together.

    Example:
        >>> [block.cases for block in blocks(60, size=16, seed=0)]
        [slice(0, 48, None), slice(48, 60, None)]
    """

    cases: slice  # of the cohort; may end before the block's last slices do
    numbers: range  # of the subjects
    diseases: list[str]
    shapes: SliceShapes
    anatomy: Anatomy


def blocks(n_cases: int, *, size: int, seed: int) -> Iterator[Block]:
    """The anatomy of a cohort, a few subjects at a time, so that memory does not grow with the cohort.

    Args:
        n_cases: Number of slices.
        size: Rows and columns.
        seed: Seed of the random subjects.

    Example:
        >>> [block.diseases for block in blocks(12, size=16, seed=0)]
        [['hypertrophic', 'infarcted']]
    """
    n_subjects = -(-n_cases // SLICES_PER_SUBJECT)
    for start in range(0, n_subjects, _SUBJECTS_PER_BLOCK):
        numbers = range(start, min(start + _SUBJECTS_PER_BLOCK, n_subjects))
        diseases, shapes = draw_subjects([_stream(seed, number, _ANATOMY) for number in numbers])
        cases = slice(start * SLICES_PER_SUBJECT, min((numbers[-1] + 1) * SLICES_PER_SUBJECT, n_cases))
        yield Block(cases, numbers, diseases, shapes, draw(shapes, size))


def slice_streams(seed: int, numbers: range, *purpose: int) -> list[np.random.Generator]:
    """One random generator per slice of some subjects, for one purpose.

    Args:
        seed: Seed of the cohort.
        numbers: Numbers of the subjects.
        *purpose: Number of what the generators are for, e.g. the scan.

    Example:
        >>> len(slice_streams(0, range(2), 1))
        12
    """
    return [g for k in numbers for g in _stream(seed, k, *purpose).spawn(SLICES_PER_SUBJECT)]


def reference_labels(inside_mm: np.ndarray) -> np.ndarray:
    """Labels of the painted borders; later classes cover earlier ones.

    1 right ventricle, 2 myocardium, 3 left ventricle; papillary muscles and trabeculae count as
    blood pool, as in the ACDC cohort (Bernard et al., IEEE TMI 37:2514, 2018).

    Args:
        inside_mm: (n, 3, H, W) signed distances to RV, epicardium, endocardium, positive inside.

    Returns:
        (n, H, W) int64.

    Example:
        >>> reference_labels(np.array([1.0, 1.0, -1.0]).reshape(1, 3, 1, 1)).item()
        2
    """
    rv, epi, endo = inside_mm[:, 0], inside_mm[:, 1], inside_mm[:, 2]
    labels = np.where(rv > 0, 1, 0)
    labels = np.where(epi > 0, 2, labels)
    return np.where(endo > 0, 3, labels).astype(np.int64)


def _segment(
    inside_mm: np.ndarray, level: np.ndarray, habits_mm: np.ndarray, rngs: list[np.random.Generator]
) -> np.ndarray:
    """(n, R, H, W) int64 labels of raters who segment (R, 3) millimetres outside each border."""
    n, _, height, width = inside_mm.shape
    hand_mm = (0.6 + 0.6 * level)[:, None, None].astype(np.float32)
    labels = []
    for habit in habits_mm:
        error = [hand_mm * smooth_field(7, (n, height, width), rngs) for _ in range(3)]
        moved = inside_mm + np.stack(error, axis=1) + habit[None, :, None, None].astype(np.float32)
        labels.append(reference_labels(moved))
    return np.stack(labels, axis=1)


def _stream(seed: int, subject: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, subject, *purpose])


def _habits_mm(n_raters: int) -> np.ndarray:
    """(R, 3) the same raters in every cohort: rater r has the same habit for any n_raters."""
    return np.stack([np.random.default_rng([r, _RATERS]).normal(0, 0.7, 3) for r in range(n_raters)])
