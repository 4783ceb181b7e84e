"""Figures name their axes, carry a text alternative, and draw what they were given."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite.show import figures, pictures, widgets

CASES = pd.DataFrame(
    {
        "domain": ["A"] * 4 + ["B"] * 4,
        "subject": list("aabbccdd"),
        "quality": np.linspace(0, 0.7, 8),
        "confidence": 0.9,
    }
)


def test_borders_lie_inside_the_object_and_only_there():
    labels = np.zeros((8, 8), int)
    labels[2:6, 2:6] = 1
    plain, drawn = (pictures.draw_borders(np.zeros((8, 8)), x) for x in (None, labels))
    changed = (plain != drawn).any(axis=2)
    assert changed.sum() == 4 * 12 - 4  # the rim of a 12 x 12 square
    assert changed[6:18, 6:18].sum() == changed.sum()


def test_pictures_are_png_data_and_survive_a_constant_slice():
    figure = pictures.picture_grid([[np.zeros((4, 4))]], class_names=("background", "x"), alt="nothing")
    assert figure.data[0].source.startswith("data:image/png;base64,")
    assert figure.layout.meta["alt"] == "nothing"
    assert [t.name for t in figure.data if t.name] == ["x"]


@pytest.mark.parametrize(
    "figure",
    [
        figures.quality_by_domain(CASES, alt="a"),
        figures.confidence_scatter(CASES, alt="a"),
        figures.distance_scatter(
            pd.DataFrame({"domain": ["A"], "distance": [1.0], "quality": [0.5], "low": [0.4], "high": [0.6]}),
            alt="a",
        ),
        figures.learning_curve(
            pd.DataFrame({"step": [1, 2], "train_loss": [1, 0.5], "validation_loss": [1, 0.6]}), alt="a"
        ),
        figures.quality_heatmap(pd.DataFrame({"D": [0.5]}, index=["noise"]), alt="a"),
    ],
)
def test_every_figure_has_axis_titles_and_alternative_text(figure):
    assert figure.layout.meta["alt"]
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text or figure.data[0].type == "heatmap"


def test_quality_figure_shows_the_mean_of_each_domain():
    figure = figures.quality_by_domain(CASES, alt="a")
    means = [t.y[0] for t in figure.data if t.marker.symbol == "diamond"]
    assert means == pytest.approx(CASES.groupby("domain")["quality"].mean().tolist())


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match=r"missing \['confidence'\]"):
        figures.confidence_scatter(CASES.drop(columns="confidence"), alt="a")
    with pytest.raises(ValueError, match="at least one row"):
        figures.quality_heatmap(pd.DataFrame(), alt="a")


def test_slider_has_a_frame_for_each_step_and_refuses_ragged_parts():
    frame = [np.random.default_rng(k).normal(size=(4, 4)) for k in range(3)]
    labels = [np.zeros((4, 4), int)] * 3
    arguments = {"steps": list("abc"), "control": "noise", "class_names": ("b", "x"), "alt": "a"}
    figure = widgets.frame_slider(frame, labels, labels, ["1", "2", "3"], **arguments)
    sources = {step.args[0]["source"][0] for step in figure.layout.sliders[0].steps}
    assert len(sources) == 3
    assert figure.data[0].source in sources
    with pytest.raises(ValueError, match="equal, non-zero numbers"):
        widgets.frame_slider(frame[:2], labels, labels, ["1"], **arguments)


def test_live_control_redraws_into_one_picture():
    pytest.importorskip("ipywidgets")
    seen = []

    def segment(settings):
        seen.append(settings["noise"])
        return np.full((4, 4), settings["noise"]), np.zeros((4, 4), int), f"noise {settings['noise']}"

    box = widgets.live_scanner(segment, {"noise": (0, 1, 0.1, 0.2)})
    controls, picture = box.children
    before = picture.value
    controls.children[0].value = 0.7
    assert seen == [0.2, 0.7]
    assert picture.value != before
    assert "noise 0.7" in picture.value
    assert len(box.children) == 2  # nothing piled up
