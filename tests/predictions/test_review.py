"""The review: the order, its reasons, and a page that is whole, harmless and alone."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from segconf_lite import cli
from segconf_lite.predictions import from_predictions, review_predictions, write_page

from .conftest import describe, labels_of, probabilities_of, save_case, save_volume

EVIL = '<script>alert("1")<img src=x onerror=alert(1)>&'


class Page(HTMLParser):
    """What a page holds: tags, addresses that a browser would load, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.text, self.alts = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"a program in {name}"
            if name in ("src", "srcset", "data", "poster", "background") or (
                tag == "link" and name == "href"
            ):
                self.loads.append(value)
            if name == "alt":
                self.alts.append(value)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Twenty-four people on two sites, a third of them without a reference; the surer, the better."""
    root = tmp_path_factory.mktemp("study")
    describe(root / "predictions", {"background": 0, "ring": 1, EVIL: 2})
    rng = np.random.default_rng(0)
    for number in range(24):
        name, labels = f"site{'XY'[number % 2]}_p{number:02d}", labels_of(number)
        shift, sure = number // 8, 0.95 - 0.02 * number
        chances = probabilities_of(np.roll(labels, shift, 2), sure)
        if number == 3:
            name += EVIL
        if number == 4:
            chances[:], chances[0] = 0, 1
        save_case(root / "predictions", name, chances.argmax(0), chances)
        if number % 3:
            save_volume(root / f"labels/{name}.nii.gz", labels)
        image = rng.normal(100 + 50 * labels, 5 + 40 * (number == 6)).astype(np.float32)
        save_volume(root / f"images/{name}_0000.nii.gz", image)
        save_volume(
            root / f"training/t{number}_0000.nii.gz", rng.normal(100 + 50 * labels, 5).astype(np.float32)
        )
    return root


@pytest.fixture(scope="module")
def words(study):
    options = {"predictions": "predictions", "images": "images", "labels": "labels", "training": "training"}
    listed = [part for name, folder in options.items() for part in (f"--{name}", str(study / folder))]
    return ["review", *listed, "--domain", r"^(site\w)_"]


@pytest.fixture(scope="module")
def page(study, words):
    target = study / "out/page.html"
    assert cli.main([*words, "--out", str(target)]) == 0
    return Page(target.read_text("utf-8")), pd.read_csv(target.with_suffix(".csv"))


def test_the_order_is_that_of_the_advised_uncertainty_and_empty_predictions_come_first(page):
    _, cases = page
    assert cases["rank"].tolist() == list(range(1, 25))
    assert cases["case"][0] == "siteX_p04"
    assert cases["reasons"][0].startswith("nothing is predicted: right if nothing is there")
    assert cases["soft Dice"][1:].is_monotonic_decreasing
    assert cases["case"][1].startswith("siteY_p23")


def test_reasons_name_high_uncertainties_and_images_unlike_the_training(page):
    _, cases = page
    reasons = cases.set_index("case")["reasons"].fillna("")
    assert "noise" in reasons["siteX_p06"]
    assert "is far outside of the training images" in reasons["siteX_p06"]
    assert "high entropy, foreground (number 1 of 24)" in reasons["siteY_p23"]
    assert reasons["siteX_p00"] == "" or "far outside" not in reasons["siteX_p00"]


def test_bounds_are_given_to_cases_without_a_reference_only(page):
    _, cases = page
    is_new = cases["quality"].isna()
    assert is_new.sum() == 8
    assert cases.loc[is_new, "lower_bound"].between(0, 1).all()
    assert cases.loc[~is_new, "lower_bound"].isna().all()
    assert (cases.loc[is_new, "lower_bound"] <= 1 - cases.loc[is_new, "soft Dice"] + 0.2).all()


def test_the_page_loads_nothing_and_runs_nothing(page, study):
    found, _ = page
    assert found.loads
    assert all(address.startswith("data:image/png;base64,") for address in found.loads)
    assert not set(found.tags) & {"script", "link", "iframe", "object", "embed", "base", "form"}
    text = (study / "out/page.html").read_text("utf-8")
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text


def test_names_are_escaped_wherever_they_stand(page):
    found, cases = page
    name = f"siteY_p03{EVIL}"
    assert name in set(cases["case"])
    assert found.text.count(EVIL) >= 2  # in a card, and in the legend of classes
    assert f"Prediction of {name}" in found.alts


def test_every_case_has_a_card_and_the_sections_are_there(page):
    found, cases = page
    assert found.tags.count("article") == len(cases) + 8
    for title in (
        "Look at these first",
        "Does the order work here?",
        "Groups",
        "The lowest Dice",
        "Are the images like the training images?",
        "The other 12 cases",
        "What this page promises",
    ):
        assert title in found.text
    assert re.search(r"Risk-coverage curve of the 16 labelled cases of 16 people", found.text)
    assert "The lower bounds of the Dice rest on 15 labelled cases, one per person" in found.text
    assert "siteX" in found.text
    assert "svg" in found.tags


def test_only_predictions_are_enough(folder, tmp_path):
    found = review_predictions(from_predictions(folder))
    assert found.score == "soft Dice"
    assert found.cases["case"].tolist() == ["a_ES", "b_ED", "a_ED"]
    assert found.cases["subject_worst"].nunique() == 2
    write_page(found, tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert "No case has a reference." in text
    assert "Does the order work here?" not in text


def test_members_bring_their_agreement_and_it_can_give_the_order(tmp_path):
    for fold in range(3):
        for name, spread in (("agreed", 0), ("split", 2)):
            labels = labels_of(shift=spread * fold)
            save_case(
                tmp_path / f"fold_{fold}",
                name,
                labels,
                probabilities_of(labels, 0.9 - 0.3 * (name == "agreed")),
            )
    found = review_predictions(from_predictions(tmp_path), score="ensemble: agreement, strict")
    assert found.cases["case"].tolist() == ["split", "agreed"]
    assert next(iter(found.evidence)) == "ensemble: agreement, strict"
    assert "soft Dice" in found.evidence
    with pytest.raises(ValueError, match="score must be one of"):
        review_predictions(from_predictions(tmp_path), score="risk")


def test_damaged_cases_are_counted_on_the_page(folder, tmp_path, capsys):
    (folder / "a_ED.npz").write_bytes(b"no archive")
    words = ["review", "--predictions", str(folder), "--out", str(tmp_path / "page.html")]
    assert cli.main(words) == 2
    assert "a_ED.npz must be a whole .npz file" in capsys.readouterr().err
    assert cli.main([*words, "--skip-damaged"]) == 0
    assert "1 of 3 cases are left out as damaged" in capsys.readouterr().out
    assert "1 of 3 cases are left out as damaged: " in Page((tmp_path / "page.html").read_text("utf-8")).text


def test_too_few_labelled_people_are_told(study):
    found = from_predictions(study / "predictions", references=study / "labels")
    reviewed = review_predictions(found, level=0.99, n_worst=1)
    assert reviewed.cases["lower_bound"].isna().all()
    assert (
        "A lower bound of the Dice at level 0.99 needs labelled cases of 99 people; there are 15."
        in reviewed.notes
    )


def test_training_needs_images(folder):
    with pytest.raises(ValueError, match="training must be given together with images"):
        review_predictions(from_predictions(folder), training=folder)


def test_a_note_says_that_only_the_first_of_several_channels_is_looked_at(folder, tmp_path):
    told = "Of images with several channels, the first alone is shown and compared."
    for channel in (0, 1):
        for seed, name in enumerate(("a_ED", "a_ES", "b_ED")):
            save_volume(tmp_path / f"images/{name}_000{channel}.nii.gz", labels_of(seed).astype(np.float32))
        found = review_predictions(from_predictions(folder, images=tmp_path / "images"))
        assert (told in found.notes) == (channel == 1)
