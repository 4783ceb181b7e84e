"""Your own cohort, network and predictions: what is written comes back, what is wrong is named."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segconf_lite import own
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.predictions import from_predictions
from segconf_lite.readers import describe_folder

CODE = "from torch import nn\n\n\ndef build():\n    return nn.Conv2d(1, 4, 3, padding=1)\n\n\nnumber = 3\n"


@pytest.fixture(scope="module")
def hearts():
    made = phantom.cohort(18, size=24, seed=1)
    names = [f"A/{text.split('-')[1]}" for text in made.subjects]
    return dataclasses.replace(made, subjects=names, sessions=names)


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "my_network.py"
    path.write_text(CODE, "utf-8")
    return path


def test_a_cohort_comes_back_from_the_layout_of_nnunet(tmp_path, hearts):
    own.write_nnunet(tmp_path, hearts)
    again = own.read_cohort("folder", tmp_path, domain=r"/(\w)-\d+_0000")
    assert np.array_equal(again.labels, hearts.labels)
    assert np.abs(again.images - hearts.images).max() < 0.01  # half of 1/200, and the z-score after it
    assert again.class_names == hearts.class_names
    assert again.domain_names == ("A",)
    assert again.subjects.tolist() == [own.case_name(name) for name in hearts.subjects]
    assert np.array_equal(again.spacing_mm, hearts.spacing_mm)
    assert describe_folder(tmp_path, progress=False).problems == ()


def test_settings_of_the_reader_are_passed_on(tmp_path, hearts):
    own.write_nnunet(tmp_path, hearts)
    reading = (
        '{"size": 16, "limit": 2, "subject": "(A)-", "labels": {"0": "out", "1": "in", "2": "in", "3": "in"}}'
    )
    got = own.read_cohort("folder", tmp_path, reading=reading)
    assert got.images.shape == (12, 1, 16, 16)
    assert got.class_names == ("out", "in")
    assert set(got.subjects) == {"A"}


def test_predictions_come_back_to_the_last_bit(tmp_path, hearts):
    scores = torch.randn(18, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    probabilities = scores.softmax(dim=1)
    own.write_predictions(tmp_path / "stored", hearts, probabilities)
    own.write_nnunet(tmp_path / "images", hearts)
    found = from_predictions(
        tmp_path / "stored", references=tmp_path / "images/labelsTr", images=tmp_path / "images/imagesTr"
    )
    assert found.class_names == hearts.class_names
    for session in ("A/0000", "A/0002"):
        case, mine = found.read(own.case_name(session)), hearts.sessions == session
        assert np.array_equal(case.slices, probabilities[mine].numpy())
        assert np.array_equal(case.labels, probabilities[mine].argmax(dim=1).numpy())
        assert np.array_equal(case.reference, hearts.labels[mine])
        assert np.abs((case.image - 1000) / 200 - hearts.images[mine, 0]).max() < 0.003
        assert case.spacing_mm == (10.0, *hearts.spacing_mm[0])


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_network_is_loaded_from_its_file_and_a_checkpoint(tmp_path, code, ending):
    trained, weights = own.load_network(f"{code}:build"), tmp_path / f"weights.{ending}"
    assert not trained.training
    save = save_file if ending == "safetensors" else torch.save
    save(trained.state_dict(), weights)
    again = own.load_network(f"{code}:build", weights)
    assert torch.equal(again.weight, trained.weight)
    assert not torch.equal(own.load_network(f"{code}:build").weight, trained.weight)


@pytest.mark.parametrize(
    "source", ["{code}:nothing", "{code}:number", "{code}", "no/such/file.py:build", ":build", ""]
)
def test_a_network_that_is_not_there_is_named(code, source):
    source = source.format(code=code)
    with pytest.raises(ValueError, match=re.escape("FILE.py:NAME or PACKAGE.MODULE:NAME")):
        own.load_network(source)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"name": "acdd"}, "cohort must be one of"),
        ({"reading": "[1]"}, "settings as JSON"),
        ({"reading": '{"sise": 12}'}, "settings of the reader of folder"),
        ({"domain": "(A"}, "domain must be a regular expression"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, hearts, how, message):
    own.write_nnunet(tmp_path, hearts)
    with pytest.raises(ValueError, match=message):
        own.read_cohort(how.pop("name", "folder"), tmp_path, **how)


def test_slices_nearer_than_pixels_and_equal_names_are_refused(tmp_path, hearts):
    with pytest.raises(ValueError, match="slice_mm must be more than a pixel"):
        own.write_nnunet(tmp_path, hearts, slice_mm=2.0)
    twice = np.where(hearts.sessions == "A/0001", "A-0000", hearts.sessions)
    with pytest.raises(ValueError, match="sessions"):
        own.write_nnunet(tmp_path, dataclasses.replace(hearts, subjects=twice, sessions=twice))
    with pytest.raises(ValueError, match="probabilities"):
        own.write_predictions(tmp_path, hearts, np.full((3, 4, 24, 24), 0.25))


def test_a_module_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match=r"network must be FILE.py:NAME or PACKAGE.MODULE:NAME, got no.such"):
        own.load_network("no.such.module:build")


@pytest.mark.parametrize("labels", ['["heart"]', '{"heart": 1}'])
def test_labels_that_are_no_mapping_of_numbers_are_refused(labels):
    with pytest.raises(ValueError, match="reading must be labels as a mapping of numbers to names"):
        own.read_cohort("folder", "nowhere", reading=f'{{"labels": {labels}}}')


def two_scanners(n_slices=36, seeds=(1, 2)):
    parts = [phantom.cohort(n_slices, scanner=s, size=16, seed=k) for s, k in zip("AD", seeds, strict=True)]
    return Cohort.concatenate(parts)


def test_a_divided_cohort_shares_no_subject_and_keeps_the_limits():
    cohort = two_scanners()
    found = own.divide(cohort, n_train=10, n_test=5)
    assert found.domains == ["A", "D"]
    people = [name for part in found[1:] for name in set(part.subjects)]
    assert len(people) == len(set(people))
    assert (len(found.train), len(found.familiar)) == (10, 5)
    assert found.test.domains.tolist() == ["A"] * 5 + ["D"] * 5
    assert set(found.train.domains) == {"A"}
    again = own.divide(cohort, n_train=10, n_test=5)
    assert np.array_equal(found.test.images, again.test.images)
    assert own.divide(cohort, source="D", n_train=99, n_test=99).domains == ["D", "A"]


def test_a_cohort_that_cannot_be_divided_is_refused():
    cohort = two_scanners()
    for cases, source, message in (
        (cohort.where(domain="A"), "", r"cohort must be of at least two domains, got \['A'\]; say where"),
        (cohort, "B", r"source must be one of .*'A', 'D'.* got 'B'"),
        (two_scanners(12), "", r"subjects of A must be at least three, got 2"),
        (two_scanners(seeds=(1, 1)), "", "subjects must be seen in A or elsewhere, not in both, got"),
    ):
        with pytest.raises(ValueError, match=message):
            own.divide(cases, source=source, n_train=9, n_test=9)
