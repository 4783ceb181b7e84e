"""Laws of the Cohort: what it refuses, and that subjects never straddle a split."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.cohorts import Cohort


def build(n=6, size=8, **changes):
    fields = {
        "images": np.random.default_rng(0).normal(size=(n, 1, size, size)).astype(np.float32),
        "labels": np.arange(n * size * size).reshape(n, size, size) % 3,
        "domains": np.array(["A", "B"] * n)[:n],
        "subjects": np.array([f"s{k // 2}" for k in range(n)]),
        "spacing_mm": np.full((n, 2), 2.0),
        "class_names": ("background", "left", "right"),
    }
    return Cohort(**{**fields, **changes})


def test_repr_says_how_many_of_what():
    assert repr(build()) == (
        "Cohort(6 slices of 8x8 from 3 subjects; domains {A: 3, B: 3}; classes background, left, right)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((6, 8, 8), np.float32)}, r"\(N, C, H, W\), got \(6, 8, 8\).*images\[:, None\]"),
        (
            {"images": np.zeros((6, 1, 8, 8), "U1")},
            "dense tensor of real numbers, got numpy.ndarray",
        ),
        (
            {"images": np.zeros((6, 1, 8, 8)).tolist()},
            "dense tensor .*got builtins.list; pass np",
        ),
        (
            {"images": np.full((6, 1, 8, 8), 1e39)},
            "must be finite, got NaN or infinity.*range of float32",
        ),
        ({"images": np.full((6, 1, 8, 8), np.nan, np.float32)}, "got NaN or infinity in 6 cases"),
        ({"labels": np.full((6, 8, 8), 3)}, r"labels must be in 0\.\.2 .*got 3\.\.3"),
        ({"labels": np.full((6, 8, 8), -1)}, r"got -1\.\.-1"),
        ({"labels": np.full((6, 8, 8), 0.5)}, "labels must be integers, got fractions"),
        ({"labels": np.zeros((6, 8, 9), int)}, r"labels must be of shape \(6, 8, 8\), got \(6, 8, 9\)"),
        ({"subjects": np.array(["s"])}, "subjects must be 6 names, one per case, got 1"),
        ({"spacing_mm": np.zeros((6, 2))}, r"spacing_mm must be .*\(6, 2\), finite and > 0 mm"),
        ({"spacing_mm": np.ones(6)}, r"spacing_mm must be \(2,\) or \(6, 2\)"),
        ({"raters": np.zeros((6, 8, 8), int)}, r"raters must be non-empty \(N, R, H, W\), got \(6, 8, 8\)"),
        ({"raters": np.full((6, 2, 8, 8), 7)}, r"raters must be in 0\.\.2"),
        (
            {"sessions": np.array(["x"] * 6)},
            "session 'x' must be of one subject, got of 's0' and of 's1'; make",
        ),
    ],
)
def test_bad_content_is_refused_with_the_fix(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_where_selects_and_names_what_there_is():
    cohort = build()
    assert set(cohort.where(domain="A").domains) == {"A"}
    assert len(cohort.where(domain=["A", "B"])) == 6
    assert set(cohort.where(subject="s1").subjects) == {"s1"}
    with pytest.raises(ValueError, match=r"domain must be in \['A', 'B'\], got \['Z'\]"):
        cohort.where(domain="Z")
    lone = build(subjects=np.array([f"s{k}" for k in range(6)]))
    with pytest.raises(ValueError, match="no case of this cohort matches all of"):
        lone.where(domain="A", subject="s1")


@settings(max_examples=40, deadline=None)
@given(
    n_subjects=st.integers(2, 12),
    shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_split_never_divides_a_subject_and_never_leaves_a_part_empty(n_subjects, shares, seed):
    cohort = build(2 * n_subjects, subjects=np.repeat([f"s{k}" for k in range(n_subjects)], 2))
    fractions = np.array(shares) / sum(shares)
    if n_subjects < len(fractions):
        with pytest.raises(ValueError, match="need at least as many subjects"):
            cohort.split(fractions, seed=seed)
        return
    parts = cohort.split(fractions, seed=seed)
    owners = [set(part.subjects) for part in parts]
    assert all(owners)
    assert sum(map(len, owners)) == len(set.union(*owners)) == n_subjects
    assert sum(map(len, parts)) == len(cohort)


def test_two_sessions_of_one_subject_stay_together():
    cohort = build(sessions=np.array(["s0-1", "s0-2", "s1-1", "s1-1", "s2-1", "s2-2"]))
    for seed in range(5):
        first, second = cohort.split([0.5, 0.5], seed=seed)
        assert not set(first.subjects) & set(second.subjects)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fractions": [0.5, 0.6]}, "sum is at most 1, got"),
        ({"fractions": []}, "fractions must be non-empty"),
        ({"fractions": 0.5}, r"fractions must be non-empty \(n_parts,\)"),
        ({"fractions": [0.5, np.nan]}, "fractions must be a finite number > 0, got"),
        ({"fractions": [True]}, "fractions must be a finite number > 0, got"),
        ({"fractions": [0.5], "seed": None}, "seed must be an integer >= 0, got None"),
        ({"fractions": [0.5, 0]}, "fractions must be a number > 0, got 0"),
        ({"fractions": [0.5], "by": np.zeros(2)}, "by must be 'subject'"),
        ({"fractions": [0.5], "by": "slice"}, "by must be 'subject', got 'slice'.*leak"),
    ],
)
def test_bad_splits_say_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        build().split(**arguments)


def test_fingerprint_follows_content_and_nothing_else():
    cohort = build()
    assert cohort.fingerprint() == build().fingerprint()
    copies = {
        "images": cohort.images + 1,
        "labels": (cohort.labels + 1) % 3,
        "domains": np.array(["C"] * 6),
        "subjects": np.array([f"t{k // 2}" for k in range(6)]),
        "spacing_mm": cohort.spacing_mm * 2,
        "class_names": ("background", "l", "r"),
        "raters": np.zeros((6, 1, 8, 8), int),
    }
    prints = {dataclasses.replace(cohort, sessions=None, **{k: v}).fingerprint() for k, v in copies.items()}
    assert len(prints | {cohort.fingerprint()}) == len(copies) + 1


def test_concatenate_is_the_inverse_of_where():
    cohort = build()
    joined = Cohort.concatenate([cohort.where(domain="A"), cohort.where(domain="B")])
    assert joined.take(np.argsort([0, 2, 4, 1, 3, 5])).fingerprint() == cohort.fingerprint()
    with pytest.raises(ValueError, match="that agree in class_names"):
        Cohort.concatenate([cohort, build(class_names=("b", "c", "d"))])


@pytest.mark.parametrize("field", ["domains", "subjects", "sessions"])
@pytest.mark.parametrize(
    "names",
    [
        pd.Series(["a", "b", None, None, "c", "d"]),
        ["a", "b", float("nan"), float("nan"), "c", "d"],
        [1, "1", 2, "2", 3, "3"],
        ["a", "", "b", "c", "d", "e"],
        "abcdef",
        {"a", "b", "c", "d", "e", "f"},
    ],
    ids=["missing", "NaN", "mixed", "empty", "letters", "set"],
)
def test_names_that_would_make_strangers_one_person_are_refused(field, names):
    with pytest.raises(ValueError, match=f"{field} must be "):
        build(**{field: names})


@pytest.mark.parametrize("class_names", [{"bg", "left", "right"}, "abc", ["a", "b", "b"], ["a", None]])
def test_class_names_have_an_order_and_differ(class_names):
    with pytest.raises(ValueError, match="class_names must be "):
        build(class_names=class_names)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.from_numpy(x).to(memory_format=torch.channels_last),
    ],
    ids=["float64", "big-endian", "negative strides", "gradient", "channels last"],
)
def test_the_same_images_in_another_type_make_the_same_cohort(convert):
    cohort = build()
    again = build(images=convert(cohort.images), labels=torch.from_numpy(cohort.labels).to(torch.uint8))
    assert again.images.dtype == np.float32
    assert again.labels.dtype == np.int64
    assert again.fingerprint() == cohort.fingerprint()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_become_float32(dtype):
    images = torch.ones(6, 1, 8, 8, dtype=dtype)
    assert build(images=images).images.dtype == np.float32


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([6], r"index must be integers in -6\.\.5, got 6\.\.6"),
        ([0.0, 1.0], r"index must be integers in -6\.\.5, got .*float64"),
        (np.zeros(6, bool), "index must be a mask of 6 cases, one of them true"),
        (np.ones(5, bool), "index must be a mask of 6 cases, .*got 5 values"),
        ([], "index must be non-empty"),
        (slice(2), "index must be real numbers"),
    ],
)
def test_cases_that_are_not_there_cannot_be_taken(index, message):
    with pytest.raises(ValueError, match=message):
        build().take(index)
    assert build().take([-1, 0]).sessions.tolist() == ["s2", "s0"]


@pytest.mark.parametrize("cohorts", [[], None, 3, [None]])
def test_concatenate_takes_a_list_of_cohorts(cohorts):
    with pytest.raises(ValueError, match="cohorts must be a list of at least one Cohort"):
        Cohort.concatenate(cohorts)


@pytest.mark.parametrize("criteria", [{"domain": 3}, {"subject": [None]}, {"session": {"s0"}}])
def test_where_takes_names(criteria):
    with pytest.raises(ValueError, match=f"{next(iter(criteria))} must be "):
        build().where(**criteria)


def test_several_channels_and_missing_raters_are_kept():
    images = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    raters = np.zeros((6, 2, 8, 8), int)
    raters[4:, 1] = -1
    got = build(images=images, raters=raters).take([5, 0])
    assert got.images.shape == (2, 3, 8, 8)
    assert (got.raters[0, 1] == -1).all()
    raters[0, 0, 0, 0] = -1
    with pytest.raises(ValueError, match="raters must be -1 on a whole slice or nowhere on it"):
        build(raters=raters)
