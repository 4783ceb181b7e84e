"""Claims are shown in today's words, and what they compare has a plain name."""

import pytest

from segconf_lite.claims import read_claims, report
from segconf_lite.claims.words import plain_name, plain_statistic

CLAIMS = read_claims()
SAID_AS_THEY_ARE = {"method", "network", "corruption"}


def test_the_registered_sentence_stands_below_todays_words():
    told = report.show("distance-flags-every-real-site").splitlines()
    assert told[0].endswith(": " + CLAIMS["distance-flags-every-real-site"].display)
    assert told[2] == (
        "registered sentence: The same on the spinal cord, with a threshold that a volunteer left out of the "
        "fit has set."
    )
    assert "value = distance: rings" in report.show("distance-flags-every-real-site")
    assert "registered sentence" not in report.show("near-but-harmful")
    assert CLAIMS["distance-flags-every-real-site"].display in report.table(chapter=3)


def test_claims_that_lean_on_the_one_before_have_words_of_their_own():
    leaning = ("The same", "It ", "that slope", ", its rank", "the same bound", "equation 4,")
    for claim in CLAIMS.values():
        assert not any(words in claim.words for words in leaning), claim.id
        assert (claim.display is None) == (claim.words == claim.sentence), claim.id


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_every_column_of_a_claim_has_a_plain_name(claim):
    for column in claim.columns.values():
        assert plain_name(column, claim.chapter) != column or column in SAID_AS_THEY_ARE
    words = plain_statistic(claim)
    assert not any(
        mark in words for mark in ("_", "*", ": ", "rings", "norm code", "domain", "{", "mean of mean")
    )


def test_a_name_that_means_something_else_in_another_chapter():
    assert plain_name("noise", 4) == "the predictor trained with noise"
    assert plain_name("noise", 8) == "Dice under noise"
    assert plain_name("entropy", 5) == "correlation of the entropy with the annotators"
    assert plain_name("far found: distance", 5).endswith("by the distance to the border")
    assert plain_name("an unknown column", 1) == "an unknown column"
