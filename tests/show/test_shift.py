import numpy as np
import pandas as pd
import pytest

from segconf_lite.show import pictures, shift, widgets


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = [(d, m, seed) for d in "ABC" for m in ("one", "two") for seed in range(3)]
    frame = pd.DataFrame(rows, columns=["domain", "method", "seed"])
    frame["estimate"], frame["flagged"] = rng.uniform(-1, 1, len(frame)), rng.random(len(frame))
    return frame.assign(x=1.0, y=2.0, quality=0.5, answer=frame["method"])


def test_boxes_hold_every_repeat_of_a_method(table):
    figure = shift.correlation_boxes(table, axis="Spearman (higher is better)", alt="boxes")
    assert [trace.name for trace in figure.data] == ["one", "two"]
    one = table[table["method"] == "one"]
    assert list(figure.data[0].y) == list(one["estimate"])
    assert figure.layout.yaxis.title.text == "Spearman (higher is better)"


def test_bars_are_means_with_the_range_of_the_repeats(table):
    figure = shift.detection_bars(table, alt="bars")
    part = table[(table["method"] == "two") & (table["domain"] == "B")]["flagged"]
    bar = figure.data[1]
    assert bar.y[1] == pytest.approx(part.mean())
    assert bar.y[1] + bar.error_y.array[1] == pytest.approx(part.max())
    assert bar.y[1] - bar.error_y.arrayminus[1] == pytest.approx(part.min())
    assert len({trace.marker.pattern.shape for trace in figure.data}) == 2  # not by colour alone


def test_points_and_qualities(table):
    scatter = shift.projection_scatter(table, axes=("first", "second"), alt="points")
    assert [trace.name for trace in scatter.data] == ["A", "B", "C"]
    assert len({trace.marker.symbol for trace in scatter.data}) == 3
    assert len(shift.quality_boxes(table, alt="quality").data) == 2


@pytest.mark.parametrize(
    "name", ["correlation_boxes", "detection_bars", "projection_scatter", "quality_boxes"]
)
def test_missing_columns_are_named(name):
    options = {"correlation_boxes": {"axis": "x"}, "projection_scatter": {"axes": ("x", "y")}}
    with pytest.raises(ValueError, match="missing"):
        getattr(shift, name)(pd.DataFrame({"domain": ["A"]}), alt="", **options.get(name, {}))


def test_a_map_ends_at_its_highest_colour():
    drawn = pictures.draw_map(np.array([[0.0, 0.5, 2.0]]), highest=0.5)
    assert drawn.shape == (3, 9, 3)
    assert (drawn[:, 3:6] == drawn[:, 6:9]).all()
    assert (drawn[:, :3] != drawn[:, 3:6]).any()


def test_picture_slider_has_a_frame_a_picture_and_refuses_ragged_parts():
    tiles = [np.zeros((6, 6, 3), np.uint8)] * 2
    options = {"control": "case", "class_names": ("background", "heart"), "height": 300, "alt": "cases"}
    figure = widgets.picture_slider(tiles, ["first<br>line", "second"], steps=["1", "2"], **options)
    assert len(figure.layout.sliders[0].steps) == 2
    with pytest.raises(ValueError, match=r"got lengths \[1, 2\]"):
        widgets.picture_slider(tiles, ["one"], steps=["1", "2"], **options)


def test_live_choice_follows_group_and_number():
    pytest.importorskip("ipywidgets")
    asked = []

    def draw(group, number):
        asked.append((group, number))
        return np.zeros((3, 3, 3), np.uint8), f"{group} {number}"

    box = widgets.live_choice(draw, {"A": 3, "B": 2})
    group, number = box.children[0].children
    number.value = 2
    group.value = "B"  # has two members only
    assert asked[-1] == ("B", 1)
    assert "B 1" in box.children[1].value
