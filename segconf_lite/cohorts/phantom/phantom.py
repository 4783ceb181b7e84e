"""The cohort: random subjects, seen by one scanner, drawn by some raters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from segconf_lite.cohorts._checks import check_whole
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.cohorts.phantom.anatomy import CLASS_NAMES, FIELD_OF_VIEW_MM, Anatomy, draw
from segconf_lite.cohorts.phantom.raters import draw_labels, reference_labels
from segconf_lite.cohorts.phantom.scanner import Scanner, acquire, scanner_named
from segconf_lite.cohorts.phantom.subjects import (
    SLICES_PER_SUBJECT,
    SliceShapes,
    draw_subject,
    stack_subjects,
)

__all__ = ["Block", "blocks", "cohort", "slice_streams"]

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

    Anatomy, scan and raters have random streams of their own: equal seeds show the same hearts
    on every scanner, and the first cases of a larger cohort are the cases of a smaller one.
    Equal arguments give equal bytes.

    Args:
        n_cases: number of slices, >= 1; six neighbouring slices, base to apex, are one subject.
        scanner: name of a built-in scanner (`SCANNERS`) or a `Scanner`.
        size: rows and columns, >= 16; the field of view is always 192 mm.
        seed: which subjects, >= 0.
        n_raters: independent raters who draw each slice, 0 for none.
        jitter: scale of the variation *within* the scanner; 0 = every scan alike, 1 = usual.

    Returns:
        A cohort with classes background, right ventricle, myocardium, left ventricle.

    Raises:
        ValueError: If the scanner is unknown, or a number is out of range.
    """
    device = scanner_named(scanner) if isinstance(scanner, str) else scanner
    _check(n_cases, device, size, seed, n_raters, jitter)
    images = np.empty((n_cases, 1, size, size), np.float32)
    labels = np.empty((n_cases, size, size), np.int64)
    raters = np.empty((n_cases, n_raters, size, size), np.int64) if n_raters else None
    subjects: list[str] = []
    for cases, numbers, diseases, shapes, anatomy in blocks(n_cases, size=size, seed=seed):
        for number, disease in zip(numbers, diseases, strict=True):
            subjects += [f"s{seed}-{number:04d}-{disease}"] * SLICES_PER_SUBJECT
        scan_rngs = slice_streams(seed, numbers, _SCAN)
        kept = slice(0, cases.stop - cases.start)
        scans = acquire(anatomy.fractions, device, jitter, scan_rngs, FIELD_OF_VIEW_MM / size)
        images[cases, 0] = scans[kept]
        labels[cases] = reference_labels(anatomy.inside_mm)[kept]
        if raters is not None:
            rater_rngs = slice_streams(seed, numbers, _RATERS)
            drawn_labels = draw_labels(anatomy.inside_mm, shapes.level, _habits_mm(n_raters), rater_rngs)
            raters[cases] = drawn_labels[kept]
    return Cohort(
        images=images,
        labels=labels,
        raters=raters,
        domains=np.full(n_cases, device.name),
        subjects=np.array(subjects[:n_cases]),
        spacing_mm=np.full((n_cases, 2), FIELD_OF_VIEW_MM / size),
        class_names=CLASS_NAMES,
    )


class Block(NamedTuple):
    """The slices of a few whole subjects, which are drawn together."""

    cases: slice  # of the cohort; may end before the block's last slices do
    numbers: range  # of the subjects
    diseases: list[str]
    shapes: SliceShapes
    anatomy: Anatomy


def blocks(n_cases: int, *, size: int, seed: int) -> Iterator[Block]:
    """The anatomy of a cohort, a few subjects at a time; arguments as in `cohort`."""
    n_subjects = -(-n_cases // SLICES_PER_SUBJECT)
    for start in range(0, n_subjects, _SUBJECTS_PER_BLOCK):
        numbers = range(start, min(start + _SUBJECTS_PER_BLOCK, n_subjects))
        drawn = [draw_subject(_stream(seed, number, _ANATOMY)) for number in numbers]
        shapes = stack_subjects([s for _, s in drawn])
        cases = slice(start * SLICES_PER_SUBJECT, min((numbers[-1] + 1) * SLICES_PER_SUBJECT, n_cases))
        yield Block(cases, numbers, [disease for disease, _ in drawn], shapes, draw(shapes, size))


def slice_streams(seed: int, numbers: range, *purpose: int) -> list[np.random.Generator]:
    """One generator per slice of the numbered subjects, for one purpose."""
    return [g for k in numbers for g in _stream(seed, k, *purpose).spawn(SLICES_PER_SUBJECT)]


def _stream(seed: int, subject: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, subject, *purpose])


def _habits_mm(n_raters: int) -> np.ndarray:
    """(R, 3) the same raters in every cohort: rater r has the same habit for any n_raters."""
    return np.stack([np.random.default_rng([r, _RATERS]).normal(0, 0.7, 3) for r in range(n_raters)])


def _check(n_cases: int, scanner: object, size: int, seed: int, n_raters: int, jitter: float) -> None:
    if not isinstance(scanner, Scanner):
        raise ValueError(f"scanner must be a name or a phantom.Scanner, got {type(scanner).__name__}")
    for name, value, least in (
        ("n_cases", n_cases, 1),
        ("size", size, 16),
        ("seed", seed, 0),
        ("n_raters", n_raters, 0),
    ):
        check_whole(name, value, least)
    if not 0 <= jitter <= 10:
        raise ValueError(f"jitter must lie in 0..10 (1 = usual variation within a scanner), got {jitter}")
