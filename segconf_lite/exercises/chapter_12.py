"""Checks of the exercises in chapter 12; they work as those of `exercises` do."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from typing import Any

import numpy as np

from segconf_lite import own
from segconf_lite.cohorts import phantom
from segconf_lite.evaluation import dice_per_case
from segconf_lite.exercises.answers import Function, NotYetError, _call, _numbers, _trial
from segconf_lite.readers import describe_folder

#: File names of a folder in the layout of nnU-Net, and the hospital of each.
HOSPITALS = {
    "imagesTr/north_p07_ED_0000.nii.gz": "north",
    "imagesTr/north_p07_ES_0000.nii.gz": "north",
    "imagesTr/south-east_p12_ED_0000.nii.gz": "south-east",
    "imagesTs/coast3_p30_ES_0000.nii.gz": "coast3",
}


def check_two_classes(two_classes: Function) -> None:
    """Check a function that makes class probabilities of one channel before the sigmoid.

    Args:
        two_classes: Function of an array (N, 1, H, W) that returns the probabilities (N, 2, H, W) of
            background and object.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_two_classes(lambda z: 1 / (1 + np.exp(-z)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is one channel: the methods need the background as well...
    """
    z = np.array([[[[-2.0, 0.5], [0.0, 3.0]]], [[[1.0, -1.0], [4.0, 0.2]]]])
    p = 1 / (1 + np.exp(-z))
    right = np.concatenate([1 - p, p], axis=1)
    wrong: dict[str, Any] = {
        "that is one channel: the methods need the background as well, as the first of two classes": p,
        "a softmax over a single channel is 1 everywhere: every pixel then seems certain": np.ones_like(z),
        "the object is the first class: in this book the background comes first": right[:, ::-1],
        "those are logits: apply the sigmoid, because probabilities are asked for": np.concatenate(
            [-z / 2, z / 2], axis=1
        ),
        "the softmax of −z and z is too sure: between logits that differ by z, the sigmoid lies": (
            np.concatenate([1 / (1 + np.exp(2 * z)), 1 / (1 + np.exp(-2 * z))], axis=1)
        ),
    }
    _trial(two_classes, (z,), right, wrong)
    print("Right: adapt(network, output='sigmoid') makes logits of which the softmax gives these.")


def check_one_per_patient(one_per_patient: Function) -> None:
    """Check a function that draws one calibration slice of each patient.

    Args:
        one_per_patient: Function of the patient (N,) of each slice and of a generator; it returns indices.

    Raises:
        NotYetError: If the function is not right; the message says what it does instead.

    Example:
        >>> check_one_per_patient(lambda patients, rng: np.arange(len(patients)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: patient p1 is drawn 3 times...
    """
    patients = np.array(["p1", "p2", "p1", "p3", "p3", "p1", "p3", "p2"])
    draws = []
    for seed in range(40):
        drawn = _numbers(_call(one_per_patient, patients.copy(), np.random.default_rng(seed)))
        if drawn.ndim != 1 or (drawn % 1).any() or drawn.min() < 0 or drawn.max() >= len(patients):
            raise NotYetError(f"indices from 0 to {len(patients) - 1} are asked for, one per patient")
        index = drawn.astype(int)
        names, counts = np.unique(patients[index], return_counts=True)
        if counts.max() > 1:
            why = "slices of one patient resemble each other, so that they count as one"
            raise NotYetError(f"patient {names[counts.argmax()]} is drawn {counts.max()} times: {why}")
        if len(names) < 3:
            raise NotYetError(f"only {len(names)} of 3 patients are drawn: every patient has one slice")
        draws.append(tuple(sorted(index.tolist())))
    if len(set(draws)) == 1:
        why = "the first slice of a heart is always the same place, and new slices come from all places"
        raise NotYetError(f"every draw is the same: {why}")
    if set(sum(draws, ())) != set(range(len(patients))):
        raise NotYetError("some slices are never drawn: each slice of a patient must have its chance")
    print("Right: with one slice per patient, old and new cases are exchangeable, which the bound needs.")


def check_pattern(pattern: object) -> None:
    """Check a pattern that finds the hospital in the names of files.

    Args:
        pattern: A regular expression with one group.

    Raises:
        NotYetError: If the pattern is not right; the message says what it finds instead.

    Example:
        >>> check_pattern("(north|south)_")
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: in imagesTr/south-east_p12_ED_0000.nii.gz nothing is found...
    """
    if not isinstance(pattern, str):
        raise NotYetError("the blank is still there: give a pattern as text, such as r'([A-F])_'")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise NotYetError(f"that is no regular expression: {error}") from None
    if compiled.groups != 1:
        raise NotYetError(
            f"the pattern has {compiled.groups} groups: put parentheses around the hospital alone"
        )
    for path, hospital in HOSPITALS.items():
        match = compiled.search(path)
        if match is None:
            raise NotYetError(f"in {path} nothing is found, where {hospital} is the hospital")
        if match[1] != hospital:
            got = f"in {path} it finds {match[1]!r}, and the hospital is {hospital!r}"
            hint = "each phase or patient would be a scanner of its own" if hospital in match[1] else ""
            raise NotYetError(f"{got}{': ' * bool(hint)}{hint}")
    print("Right: three hospitals are found in four files, and a split by domain separates hospitals.")


def check_silent_fault(fault: Function) -> None:
    """Check a function that changes a reference segmentation so that no report finds it, and score it.

    Args:
        fault: Function of the labels (S, H, W) of a heart, 0 to 3, that returns others of the same shape.

    Raises:
        NotYetError: If the report finds the fault, or the Dice with the right labels is 0.5 or more.

    Example:
        >>> check_silent_fault(lambda labels: labels)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the Dice of your labels with the right ones is 1.00...
    """
    heart = phantom.cohort(6, size=48, seed=3)
    values = _numbers(_call(fault, heart.labels.copy()))
    if values.shape != heart.labels.shape:
        raise NotYetError(
            f"labels of shape {heart.labels.shape} are asked for, and yours have {values.shape}"
        )
    if (values % 1).any() or values.min() < 0 or values.max() > 3:
        raise NotYetError("the report finds values that no class has: use 0 to 3 only")
    changed = dataclasses.replace(heart, labels=values.astype(np.int64))
    with tempfile.TemporaryDirectory() as folder:
        report = describe_folder(own.write_nnunet(folder, changed), progress=False)
    told = [*report.problems, *(note for note in report.notes if "no foreground" in note)]
    if told:
        raise NotYetError(f"the report finds it: {told[0].splitlines()[0]:.110}")
    dice = float(np.nanmean(dice_per_case(changed.labels, heart.labels, n_classes=4, empty="skip")))
    if dice >= 0.5:
        raise NotYetError(f"the Dice of your labels with the right ones is {dice:.2f}: bring it below 0.5")
    print(f"Right: the report finds nothing, and the mean Dice with the right labels is {dice:.2f}.")
