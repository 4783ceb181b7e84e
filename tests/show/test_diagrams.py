"""Diagrams: complete, readable, and safe to show."""

import itertools
from xml.etree import ElementTree

import pytest

from segconf_lite import show
from segconf_lite.show.diagrams import _WIDTH, DIAGRAMS, _wrapped


@pytest.mark.parametrize("name", DIAGRAMS)
def test_every_box_is_reached_and_lies_alone(name):
    drawn = DIAGRAMS[name]
    ends = {end for arrow in drawn.arrows for end in (arrow.start, arrow.end)}
    assert ends == set(drawn.boxes)
    for (x0, y0, _), (x1, y1, _) in itertools.combinations(drawn.boxes.values(), 2):
        assert abs(x0 - x1) >= 1 or abs(y0 - y1) >= 1
    assert all(0 <= x <= 2 for x, _, _ in drawn.boxes.values())


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_picture_is_a_whole_document_with_a_text_that_describes_it(name):
    picture = ElementTree.fromstring(show.diagram(name).data)
    assert picture.get("aria-label") == DIAGRAMS[name].alt
    kinds = [element.tag for element in picture.iter()]
    assert kinds.count("rect") == len(DIAGRAMS[name].boxes)
    assert kinds.count("line") == len(DIAGRAMS[name].arrows)


def test_texts_fit_into_their_boxes():
    for drawn in DIAGRAMS.values():
        for text in drawn.boxes:
            assert len(_wrapped(text)) <= 3
            assert all(7.5 * len(line) < _WIDTH for line in _wrapped(text))  # wide letters


def test_an_unknown_diagram_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"name must be one of .*conformal"):
        show.diagram("unett")
