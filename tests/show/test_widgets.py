"""Sliders have a frame for each step; live controls draw into one picture and take captions as text."""

import numpy as np
import pytest

from segconf_lite import show

TILE = np.zeros((3, 3, 3), np.uint8)


def slider(pictures, captions, steps):
    options = {"control": "case", "class_names": ("background", "heart"), "height": 300, "alt": "cases"}
    return show.picture_slider(pictures, captions, steps=steps, **options)


def test_slider_has_a_frame_for_each_step():
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (6, 6, 3), dtype=np.uint8) for _ in range(3)]
    figure = slider(pictures, ["first<br>line", "second", "third"], list("abc"))
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["a", "b", "c"]
    sources = [step.args[0]["source"][0] for step in steps]
    assert len(set(sources)) == 3
    assert figure.data[0].source == sources[0]
    assert [trace.name for trace in figure.data if trace.name] == ["heart"]


@pytest.mark.parametrize(
    ("pictures", "captions", "steps", "message"),
    [
        ([TILE] * 2, ["one"], ["1", "2"], "captions must be a list of 2, got 1 entries"),
        ([TILE] * 2, ["one", "two"], "12", "steps must be a list, got str"),
        ([], [], [], "pictures must be a list of one or more, got 0 entries"),
        ([TILE.astype(float)], ["one"], ["1"], "picture must be uint8"),
    ],
)
def test_ragged_parts_are_refused(pictures, captions, steps, message):
    with pytest.raises(ValueError, match=message):
        slider(pictures, captions, steps)


def test_slider_opens_on_the_frame_that_is_asked_for():
    look = {"control": "case", "class_names": ("background",), "height": 300, "alt": "cases"}
    pictures = [TILE, TILE + 1]
    figure = show.picture_slider(pictures, ["one", "two"], steps=["1", "2"], start=1, **look)
    slider = figure.layout.sliders[0]
    assert (slider.active, figure.layout.title.text) == (1, "two")
    sources = [step.args[0]["source"][0] for step in slider.steps]
    assert figure.data[0].source == sources[1] != sources[0]
    with pytest.raises(ValueError, match="start"):
        show.picture_slider(pictures, ["one", "two"], steps=["1", "2"], start=2, **look)


def test_more_than_six_classes_have_a_legend():
    names = [f"class {k}" for k in range(9)]
    options = {"steps": ["1"], "control": "x", "class_names": names, "height": 300, "alt": "a"}
    figure = show.picture_slider([TILE], ["one"], **options)
    assert [trace.name for trace in figure.data if trace.name] == names[1:]


def test_live_controls_redraw_into_one_picture():
    pytest.importorskip("ipywidgets")
    seen = []

    def draw(values):
        seen.append(values)
        return np.full((3, 3, 3), round(100 * values["noise"]), np.uint8), f"noise {values['noise']}"

    box = show.live_picture(draw, {"noise": (0, 1, 0.1, 0.2), "scanner": ["A", "B"], "case": (0, 3, 1, 0)})
    controls, picture = box.children
    before = picture.value
    controls.children[0].value = 0.7
    assert [values["noise"] for values in seen] == [0.2, 0.7]
    assert picture.value != before
    assert "noise 0.7" in picture.value
    controls.children[1].value = "B"
    controls.children[2].value = 2
    assert seen[-1] == {"noise": 0.7, "scanner": "B", "case": 2}
    assert isinstance(seen[-1]["case"], int)
    assert len(box.children) == 2  # nothing piled up


def test_captions_are_text_and_no_html():
    pytest.importorskip("ipywidgets")
    caption = 'Dice < 0.5<br><script>alert("x")</script> " onerror="y'
    value = show.live_picture(lambda _: (TILE, caption), {"noise": (0, 1, 0.1, 0)}).children[1].value
    assert "<script" not in value
    assert "Dice &lt; 0.5<br>&lt;script&gt;" in value
    assert value.count('"') == 6  # of the three attributes of the image


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({}, "controls must be a mapping"),
        ({"noise": (0, 1, 0, 0)}, r"controls\['noise'\] must be \(lowest value"),
        ({"noise": (0, 1, 0.1, 2)}, r"controls\['noise'\] must be \(lowest value"),
        ({"noise": (0, 1, np.nan, 0)}, r"controls\['noise'\] must be finite"),
        ({"noise": (0, 1)}, r"controls\['noise'\] must be non-empty \(4,\)"),
        ({"scanner": ["A", None]}, r"controls\['scanner'\] must be text or integers"),
    ],
)
def test_controls_without_a_meaning_are_refused(controls, message):
    pytest.importorskip("ipywidgets")
    with pytest.raises(ValueError, match=message):
        show.live_picture(lambda _: (TILE, ""), controls)
