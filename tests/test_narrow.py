"""The second layout of a figure fits a telephone, and holds all that the first one holds."""

import json
import re

import numpy as np
import pandas as pd
import plotly.io
import pytest
from narrow import BOX_PX, narrow_figure

from segconf_lite import show

IMAGE = np.linspace(0, 1, 64).reshape(8, 8)
METHODS = ["entropy, foreground", "dropout, 2 answers: agreement", "small prediction"]


def stored(figure):
    """A figure as a notebook keeps it."""
    return json.loads(plotly.io.to_json(figure, validate=False))


def intervals():
    rows = [(scanner, method, 0.5, 0.2, 0.8) for scanner in "ABCDEF" for method in METHODS]
    table = pd.DataFrame(rows, columns=["domain", "method", "estimate", "low", "high"])
    return show.method_intervals(table, axis="Spearman with risk (higher is better)", alt="a")


def curves(n_panels=5):
    rows = [(f"p{k}", x, 0.1 * x, name) for k in range(n_panels) for x in range(4) for name in METHODS]
    table = pd.DataFrame(rows, columns=["panel", "x", "y", "line"])
    axes = ("fraction of cases kept", "risk")
    return show.line_panels(table, x="x", y="y", line="line", panel="panel", axes=axes, alt="a", columns=3)


def grid(n_rows, n_columns):
    titles = {
        "column_titles": [f"c{k}" for k in range(n_columns)],
        "row_titles": [f"r{k}" for k in range(n_rows)],
    }
    return show.picture_grid([[IMAGE] * n_columns] * n_rows, **titles, alt="a")


def table(n_columns):
    values = np.full((3, n_columns), 0.5)
    columns = [f"corruption {k}" for k in range(n_columns)]
    return show.number_table(
        pd.DataFrame(values, index=["one", "two", "three"], columns=columns),
        title="Dice",
        limits=(0, 1),
        alt="a",
    )


def slider():
    picture = show.draw_borders(IMAGE)
    captions = [f"{k}: " + "a long caption of many words " * 3 for k in range(2)]
    look = {"control": "case", "class_names": ("background", "heart"), "height": 400}
    return show.picture_slider([picture] * 2, captions, steps=["1", "2"], alt="a", **look)


FIGURES = {
    "intervals": intervals(),
    "curves": curves(),
    "one panel": curves(1),
    "grid": grid(2, 6),
    "high grid": grid(6, 2),
    "table": table(3),
    "wide table": table(10),
    "slider": slider(),
    "boxes": show.quality_by_domain(
        pd.DataFrame({"domain": list("AABB"), "subject": list("abcd"), "quality": 0.5}), alt="a"
    ),
}


def axes_of(layout, letter):
    return {key: axis for key, axis in layout.items() if re.fullmatch(rf"{letter}axis\d*", key)}


def places_of(figure):
    """For each panel with a trace where it begins and ends across and down."""
    layout = figure["layout"] | narrow_figure(figure)["layout"]
    found = {}
    for trace in figure["data"]:
        x, y = (f"{axis}axis" + trace.get(f"{axis}axis", axis)[1:] for axis in "xy")
        found[x] = (*layout[x].get("domain", [0, 1]), *layout[y].get("domain", [0, 1]))
    return list(found.values())


@pytest.mark.parametrize("name", FIGURES)
def test_panels_lie_within_the_figure_and_do_not_overlap(name):
    figure = stored(FIGURES[name])
    before = json.dumps(figure, sort_keys=True)
    layout = narrow_figure(figure)["layout"]
    assert json.dumps(figure, sort_keys=True) == before, "the figure itself is not changed"
    places = places_of(figure)
    assert all(-1e-9 <= end <= 1 + 1e-9 for place in places for end in place)
    for i, (a0, a1, b0, b1) in enumerate(places):
        for c0, c1, d0, d1 in places[:i]:
            assert min(a1, c1) - max(a0, c0) < 1e-9 or min(b1, d1) - max(b0, d0) < 1e-9
    assert layout["height"] > sum(layout["margin"].get(side, 0) for side in "tb") + 40


@pytest.mark.parametrize("name", FIGURES)
def test_every_word_of_the_figure_is_still_there(name):
    def words(layout):
        notes = [note.get("text") or "" for note in layout.get("annotations", [])]
        titles = [axis.get("title", {}).get("text") or "" for axis in axes_of(layout, "[xy]").values()]
        return " ".join([*notes, *titles]).replace("<br>", " ").split()

    first = stored(FIGURES[name])["layout"]
    assert set(words(first)) <= set(words(narrow_figure(stored(FIGURES[name]))["layout"]))


@pytest.mark.parametrize(
    ("name", "n_columns"), [("intervals", 2), ("curves", 2), ("grid", 2), ("high grid", 2)]
)
def test_columns_are_few_enough_for_a_narrow_page(name, n_columns):
    starts = {round(place[0], 6) for place in places_of(stored(FIGURES[name]))}
    assert len(starts) == n_columns


def test_rows_and_places_of_slices_are_exchanged_together_with_their_titles():
    layout = narrow_figure(stored(FIGURES["grid"]))["layout"]
    turned = {note["text"]: note["textangle"] for note in layout["annotations"]}
    assert {turned[f"c{k}"] for k in range(6)} == {-90}
    assert {turned[f"r{k}"] for k in range(2)} == {0}
    first, second = layout["xaxis"]["domain"], layout["xaxis2"]["domain"]
    assert first == second, "slices that stood beside each other stand below each other"


def test_a_table_names_each_row_above_its_fields():
    found = narrow_figure(stored(FIGURES["wide table"]))
    assert [note["text"] for note in found["layout"]["annotations"]] == ["one", "two", "three"]
    assert found["layout"]["yaxis"]["showticklabels"] is False
    assert found["trace"]["ygap"] > 12


def test_captions_of_a_slider_are_broken():
    captions = narrow_figure(stored(FIGURES["slider"]))["captions"]
    assert len(captions) == 2
    assert max(len(line) for caption in captions for line in caption.split("<br>")) * 6.2 < BOX_PX


def test_a_figure_of_another_kind_keeps_its_layout():
    for figure in ({"data": []}, {"data": [{"type": "heatmap", "z": [[1]]}], "layout": {"height": 300}}):
        assert narrow_figure(figure)["layout"]["height"] == figure.get("layout", {}).get("height", 450)
