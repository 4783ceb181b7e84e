"""One border: what is refused, with messages of one form, and what passes unchanged."""

import numpy as np
import pandas as pd
import pytest
import torch

from segconf_lite import check

IMAGES = np.zeros((3, 1, 4, 4), np.float32)


def spoiled(value):
    images = IMAGES.copy()
    images[1, 0, 2, 2] = value
    return images


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.astype(np.float16),
        IMAGES.astype(">f4"),
        IMAGES.astype(np.int16),
        IMAGES[:, :, ::-1],
        torch.zeros(3, 1, 4, 4, dtype=torch.bfloat16),
        torch.zeros(3, 1, 4, 4, requires_grad=True),
        torch.zeros(3, 1, 4, 4).to(memory_format=torch.channels_last),
    ],
    ids=["half", "big-endian", "integers", "flipped", "bfloat16", "with gradient", "channels last"],
)
def test_every_dense_array_of_real_numbers_passes_as_it_came(images):
    assert check.image_batch(images) is images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (spoiled(np.nan), r"images must be finite, got NaN or infinity in 1 cases \(first: case 1\)"),
        (torch.tensor(spoiled(-np.inf)), r"first: case 1\); look at the file"),
        (IMAGES[:, 0], r"images must be non-empty \(N, 1, H, W\), got \(3, 4, 4\); a stack"),
        (IMAGES[:0], r"got \(0, 1, 4, 4\)"),
        (IMAGES.tolist(), "got builtins.list"),
        (torch.zeros(3, 1, 4, 4).to_sparse(), "dense tensor of real numbers, got torch.Tensor"),
        (torch.zeros(3, 1, 4, 4, device="meta"), "dense tensor"),
        (IMAGES.astype(complex), "got numpy.ndarray of complex128"),
        (IMAGES.astype(object), "got numpy.ndarray of object"),
        (pd.DataFrame(), "got pandas.DataFrame"),
    ],
)
def test_images_that_no_network_should_see(images, message):
    with pytest.raises(ValueError, match=message):
        check.image_batch(images)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_an_integer_may_come_from_any_library(value):
    result = check.integer("seed", value, low=0)
    assert result == 3
    assert type(result) is int


@pytest.mark.parametrize(
    "value", [True, 2.5, 3.0, "3", None, np.nan, -1, [3], np.bool_(True), np.ones(1, int), np.ma.masked]
)
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match=r"^seed must be an integer >= 0, got"):
        check.integer("seed", value, low=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, True, "0.5", None, 1.5, -0.1, 10**400, 0.5j, [0.5]])
def test_what_is_no_fraction_is_refused(value):
    with pytest.raises(ValueError, match=r"^coverage must be a (finite )?number in \[0, 1\], got"):
        check.between("coverage", value)


def test_an_array_without_axes_is_a_number():
    assert check.number("eps", np.array(0.5)) == check.number("eps", torch.tensor(0.5)) == 0.5
    for value in (np.array([0.5]), np.array(True), np.array("0.5"), np.array(None), np.array(np.nan)):
        with pytest.raises(ValueError, match="eps must be a finite number, got array"):
            check.number("eps", value)


def test_open_ends_are_outside():
    assert check.number("eps", np.float32(0.5), low=0, open_low=True) == 0.5
    with pytest.raises(ValueError, match=r"eps must be a number > 0, got 0; no"):
        check.number("eps", 0, low=0, open_low=True, fix="no")
    with pytest.raises(ValueError, match=r"dropout must be a number in \[0, 1\), got 1.0"):
        check.number("dropout", 1.0, low=0, high=1, open_high=True)


@pytest.mark.parametrize("value", ["other", None, 1, np.zeros(3), torch.zeros(3), float("nan")])
def test_a_choice_is_one_of_the_list(value):
    with pytest.raises(ValueError, match=r"norm must be one of \('batch', 'instance'\), got"):
        check.one_of("norm", value, ("batch", "instance"))


def test_true_is_not_the_choice_one():
    assert check.one_of("empty", None, (None, "one")) is None
    with pytest.raises(ValueError, match="n must be one of"):
        check.one_of("n", True, (1, 2))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((1, 2, 2), 3), r"labels must be in 0..2 \(3 classes\), got 3..3"),
        (np.full((1, 2, 2), -1), r"got -1..-1"),
        (np.full((1, 2, 2), 0.5), "labels must be integers, got fractions"),
        (np.full((1, 2, 2), np.nan), "NaN"),
        (np.full((1, 2, 2), "1"), "labels must be real numbers, as an array, tensor or list, got <U1"),
        (np.full((1, 2, 2), "1", object), "got object"),
        (np.full((1, 2, 2), 1 + 0j), "got complex128"),
        (np.ma.masked_array(np.zeros((1, 2, 2), int), True), "a masked array"),
        (np.zeros((2, 2), int), r"non-empty \(N, H, W\), got \(2, 2\)"),
    ],
)
def test_labels_are_integers_in_range(labels, message):
    with pytest.raises(ValueError, match=message):
        check.label_map("labels", labels, n_classes=3)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float16, ">i4"])
def test_labels_of_any_type_become_int64(kind):
    found = check.label_map("labels", np.ones((1, 2, 2)).astype(kind), n_classes=2)
    assert found.dtype == np.int64
    assert (found == 1).all()


def test_a_label_may_stand_for_pixels_without_a_class():
    found = check.label_map("labels", np.array([[[0, 255]]]), n_classes=2, ignore=255)
    assert found.tolist() == [[[0, 255]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None], r"subjects must be text or integers, none missing, got None \(entry 1\)"),
        (["a", np.nan], "entry 1"),
        (pd.Series(["a", pd.NA], dtype="string"), "entry 1"),
        (pd.to_datetime(["2020-01-01", None]), "none missing"),
        (["a", " "], "entry 1"),
        ([1, "1"], "all text or all integers"),
        ([b"a", b"b"], "none missing, got b'a'"),
        (["a\0b"], "none missing"),
        ([True, False], "none missing, got True"),
        ([0.5], "none missing, got 0.5"),
        ("abc", "a list of names in a fixed order, got 'abc'"),
        ({"a", "b"}, "in a fixed order"),
        (3, "in a fixed order"),
    ],
)
def test_a_missing_or_mixed_name_is_no_name(values, message):
    with pytest.raises(ValueError, match=message):
        check.names("subjects", values)


def test_names_that_become_equal_are_refused_where_they_must_differ():
    assert check.names("classes", [1.0, 2], unique=True).tolist() == ["1", "2"]
    with pytest.raises(ValueError, match=r"classes must be different from each other, got \['a'\] more than"):
        check.names("classes", np.array(["a", "b", "a"]), unique=True)
    with pytest.raises(ValueError, match=r"3 names, one per case, got 2"):
        check.names("subjects", ["a", "b"], length=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((1, 1, 2), 1.0), r"C >= 2, got \(1, 1, 2\); a sigmoid p becomes"),
        (np.full((1, 2, 2), 0.4), "with sum 1 over the classes"),
        (np.array([[[1.5], [-0.5]]]), r"got -0.5..1.5; apply softmax"),
        (np.array([[[np.nan], [0.5]]]), "must be finite"),
    ],
)
def test_probabilities_sum_to_one(values, message):
    with pytest.raises(ValueError, match=message):
        check.probabilities(values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_probabilities_in_half_precision_sum_to_one_as_far_as_it_goes(dtype):
    rows = torch.rand(4, 5, 64, generator=torch.Generator().manual_seed(0)).mul(4).softmax(dim=1)
    half = rows.to(dtype)
    assert check.probabilities(half).dtype == np.float32
    with pytest.raises(ValueError, match="with sum 1 over the classes"):
        check.probabilities(1.02 * half)
    with pytest.raises(ValueError, match="with sum 1 over the classes"):
        check.probabilities(1.002 * rows)  # in float32, two thousandths are no rounding


@pytest.mark.parametrize("value", [(0, 1), (np.nan, 1), (1, 1, 1), "1", [[1, 1]] * 3])
def test_spacing_is_two_lengths(value):
    with pytest.raises(ValueError, match="spacing_mm must be"):
        check.spacing(value, length=2)


def test_columns_are_there_and_once():
    table = pd.DataFrame([[1, 2]], columns=["a", "a"])
    for wanted, message in (
        (["b"], r"got none called \['b'\]; it has"),
        (["a"], "one column of each name"),
        ([], r"\['a'\] more than once"),
    ):
        with pytest.raises(ValueError, match=message):
            check.columns(table, wanted)
    with pytest.raises(ValueError, match="a table with rows"):
        check.columns(table[["a"]].iloc[:0, :1], [])
    with pytest.raises(ValueError, match="a pandas table"):
        check.columns([1], ["a"])
    assert len(check.columns(pd.DataFrame({"a": [1]}), np.array(["a"]))) == 1


def test_cases_come_in_one_length_and_arrays_in_one_shape():
    with pytest.raises(ValueError, match=r"risk and subjects must be of one length.*got risk 2, subjects 1"):
        check.same_length(risk=[1, 2], subjects=["a"])
    with pytest.raises(ValueError, match=r"x must be non-empty \(N, 2\), got \(1, 3\)"):
        check.array("x", [[1, 2, 3]], "N 2")
    assert check.array("x", torch.ones(2, dtype=torch.bfloat16), "N", dtype=float).tolist() == [1, 1]
