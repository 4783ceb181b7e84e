"""Laws of the Cohort: what it refuses, and that subjects never straddle a split."""

import dataclasses

import numpy as np
import pytest
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
        ({"images": np.zeros((6, 8, 8), np.float32)}, r"\(N, 1, H, W\), got \(6, 8, 8\).*images\[:, None\]"),
        ({"images": np.zeros((6, 1, 8, 8), np.int16)}, "float32 numpy array, got int16"),
        ({"images": np.full((6, 1, 8, 8), np.nan, np.float32)}, "got NaN or infinity in 6 cases"),
        ({"labels": np.full((6, 8, 8), 3)}, r"labels must lie in 0\.\.2 .*got 3\.\.3"),
        ({"labels": np.full((6, 8, 8), -1)}, r"got -1\.\.-1"),
        ({"labels": np.zeros((6, 8, 8))}, "labels must be an int64 numpy array, got float64"),
        ({"labels": np.zeros((6, 8, 9), int)}, r"expected shape \(6, 8, 8\), got \(6, 8, 9\)"),
        ({"subjects": np.array(["s"])}, r"subjects must have one entry per case, expected shape \(6,\)"),
        ({"spacing_mm": np.zeros((6, 2))}, "spacing_mm must be finite and > 0"),
        ({"spacing_mm": np.ones(6)}, r"expected shape \(6, 2\)"),
        ({"raters": np.zeros((6, 8, 8), int)}, r"raters must be \(N, R, H, W\)"),
        ({"raters": np.full((6, 2, 8, 8), 7)}, r"raters\[:, 0\] must lie in 0\.\.2"),
        ({"sessions": np.array(["x"] * 6)}, "session 'x' belongs to two subjects"),
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
    with pytest.raises(ValueError, match=r"no domain \['Z'\] in this cohort; it has \['A', 'B'\]"):
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
        ({"fractions": [0.5, 0.6]}, "sum to at most 1"),
        ({"fractions": []}, "fractions must"),
        ({"fractions": [0.5, 0]}, "each be > 0"),
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
    with pytest.raises(ValueError, match="must agree in class_names"):
        Cohort.concatenate([cohort, build(class_names=("b", "c", "d"))])
