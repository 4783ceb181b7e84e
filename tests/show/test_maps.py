"""Maps end at their highest colour, marks lie where they should, tables write their numbers."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite import show


def test_signed_maps_are_white_at_zero_and_mirror_their_sign():
    picture = show.draw_map(np.array([[0.0, 1.0], [-1.0, -9.0]]), signed=True)
    assert picture.shape == (6, 6, 3)
    assert picture[0, 0].min() > 240
    red, blue = picture[0, 3].astype(int), picture[3, 0].astype(int)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert (picture[3, 3] == blue).all()


def test_a_map_ends_at_its_highest_colour():
    drawn = show.draw_map(np.array([[0.0, 0.5, 2.0]]), highest=0.5)
    assert drawn.shape == (3, 9, 3)
    assert (drawn[:, 3:6] == drawn[:, 6:9]).all()
    assert (drawn[:, :3] != drawn[:, 3:6]).any()
    np.testing.assert_array_equal(show.draw_map(np.array([[False, True]])), show.draw_map(np.array([[0, 1]])))


@pytest.mark.parametrize(
    ("values", "highest", "message"),
    [
        ([[np.nan]], 1.0, "values must be finite"),
        ([[1.0]], 0.0, "highest must be a number > 0"),
        ([[1.0]], np.nan, "highest must be a finite number"),
        ([1.0], 1.0, r"values must be non-empty \(H, W\)"),
    ],
)
def test_maps_without_a_colour_are_refused(values, highest, message):
    with pytest.raises(ValueError, match=message):
        show.draw_map(np.array(values), highest=highest)


def test_zone_is_red_and_the_rest_as_before():
    image, labels = np.zeros((4, 4)), np.zeros((4, 4), int)
    zone = np.zeros((4, 4), bool)
    zone[1, 2] = True
    picture, plain = show.draw_zone(image, labels, zone), show.draw_borders(image, labels)
    changed = (picture != plain).any(axis=-1)
    np.testing.assert_array_equal(changed, zone.repeat(3, axis=0).repeat(3, axis=1))
    assert (picture[changed][:, 0] > picture[changed][:, 2]).all()
    with pytest.raises(ValueError, match=r"zone must be in 0\.\.1"):
        show.draw_zone(image, labels, np.full((4, 4), 2))
    with pytest.raises(ValueError, match=r"zone must be of shape \(4, 4\)"):
        show.draw_zone(image, labels, zone[:2])


def test_change_shows_both_predictions_around_the_signed_step_and_errors_in_red():
    image, labels = np.random.default_rng(0).random((8, 8)).astype(np.float32), np.zeros((8, 8), int)
    wrong = labels.copy()
    wrong[1:3, 1:3] = 1
    picture = show.draw_change(image, image + 1, (labels, wrong), labels)
    assert picture.shape == (24, 72, 3)
    np.testing.assert_array_equal(picture[:, :24], show.draw_borders(image, labels))
    np.testing.assert_array_equal(picture[:, 24:48], show.draw_map(np.ones((8, 8)), signed=True))
    np.testing.assert_array_equal(picture[:, 48:], show.draw_zone(image + 1, wrong, wrong != labels))
    with pytest.raises(ValueError, match=r"after must be non-empty \(8, 8\)"):
        show.draw_change(image, image[:4], (labels, wrong), labels)
    with pytest.raises(ValueError, match="predictions must be a list of 2"):
        show.draw_change(image, image, (labels,), labels)


@pytest.mark.parametrize("place", [(0, 0), (3, 3), (1, 2)])
def test_the_frame_surrounds_the_pixel_and_stays_in_the_picture(place):
    image, labels = np.full((4, 4), 0.5), np.zeros((4, 4), int)
    image[0, 0] = 1
    picture, plain = show.draw_pixel(image, labels, *place), show.draw_borders(image, labels)
    assert picture.shape == plain.shape
    changed = np.argwhere((picture != plain).any(axis=-1))
    centre = 3 * np.array(place) + 1
    assert 0 < np.abs(changed - centre).max() <= 3


@pytest.mark.parametrize("place", [(4, 0), (0, -1), (0.5, 0), (True, 0)])
def test_a_pixel_outside_the_slice_is_refused(place):
    with pytest.raises(ValueError, match=r"(row|column) must be an integer in \[0, 3\]"):
        show.draw_pixel(np.zeros((4, 4)), np.zeros((4, 4), int), *place)


def test_maps_share_one_scale():
    tile = np.zeros((8, 8))
    options = {"column_titles": ["one", "two"], "alt": "a"}
    images, labels = [tile + np.arange(8)] * 2, [tile.astype(int)] * 2
    figure = show.map_grid(images, labels, {"entropy": [tile, tile + 1]}, **options)
    assert len(figure.data) == 5  # four pictures and the carrier of the colour bar
    scale = figure.data[-1].marker
    assert (scale.cmin, scale.cmax) == (0, 1)
    assert figure.data[1].source != figure.data[3].source
    assert scale.colorbar.title.text == "entropy"
    many = show.map_grid(images, labels, {name: [tile, tile] for name in ("a", "b", "c")}, **options)
    title = many.data[-1].marker.colorbar.title.text.replace("<br>", " ")
    assert title == "value of each map"  # three names would be wider than the figure on a telephone
    named = show.map_grid(images, labels, {"entropy": [tile, tile]}, scale="probability", **options)
    assert named.data[-1].marker.colorbar.title.text == "probability"
    with pytest.raises(ValueError, match="scale must be"):
        show.map_grid(images, labels, {"entropy": [tile, tile]}, scale="", **options)
    for wrong in ([tile], {"entropy": [tile]}, {"entropy": tile[0, 0]}):
        with pytest.raises(ValueError, match=r"maps\S* must be a (mapping|list)"):
            show.map_grid(images, labels, wrong, **options)


def test_tables_write_their_numbers_and_leave_unknown_fields_empty():
    table = pd.DataFrame([[0.123, np.nan], [1, 0]], index=["a", "b"], columns=["c", "d"])
    fields = show.number_table(table, alt="a", title="Dice", limits=(0, 1)).data[0]
    np.testing.assert_array_equal(fields.z, table.to_numpy())
    assert (list(fields.x), list(fields.y)) == (["c", "d"], ["a", "b"])


def test_numbers_stand_out_from_their_fields_and_each_is_written_once():
    table = pd.DataFrame(np.linspace(-0.2, 1.2, 60).reshape(6, 10))
    fields, *texts = show.number_table(table, alt="a", title="Dice", limits=(0, 1)).data
    assert fields.texttemplate is None
    written = np.stack([np.isfinite(trace.z) for trace in texts])
    assert (written.sum(axis=0) == 1).all()
    for trace, there in zip(texts, written, strict=True):
        assert trace.texttemplate == "%{z:.2f}"
        ink = {"white": 1.0, "black": 0.0}[trace.textfont.color]
        for value in table.to_numpy()[there]:
            lighter, darker = sorted([luminance(value), ink], reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) > 4.5
    alone = show.number_table(pd.DataFrame([[1.0]]), alt="a", title="Dice", limits=(0, 1))
    assert [trace.textfont.color for trace in alone.data[1:]] == ["black"]


def luminance(value):
    """Of the colour of a value from 0 to 1 as `draw_map` draws it (WCAG 2)."""
    parts = show.draw_map(np.array([[max(value, 0.0)]]))[0, 0] / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((2, 2)), "table must be a pandas table of numbers, got ndarray"),
        (pd.DataFrame(), r"table must be non-empty \(rows, columns\)"),
        (pd.DataFrame([["x"]]), "table must be real numbers"),
        (pd.DataFrame([[np.inf]]), "table must be finite"),
        (pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), "labels of rows and columns must be different"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        show.number_table(table, alt="a", title="t", limits=(0, 1))


@pytest.mark.parametrize("limits", [(0,), (0, np.nan), "01", (1, 0)])
def test_limits_are_two_numbers_in_order(limits):
    with pytest.raises(ValueError, match="limits must be"):
        show.number_table(pd.DataFrame([[0.5]]), alt="a", title="t", limits=limits)


@pytest.mark.parametrize("wrong", [3, None, ["mean"]])
def test_titles_are_text_and_marks_need_labels(wrong):
    tile, labels = np.zeros((4, 4)), np.zeros((4, 4), int)
    with pytest.raises(ValueError, match="title must be a str"):
        show.number_table(pd.DataFrame([[1.0]]), title=wrong, limits=(0, 1), alt="a")
    with pytest.raises(ValueError, match="borders must be a str"):
        show.map_grid([tile], [labels], {"m": [tile]}, column_titles=["A"], alt="a", borders=wrong)
    for call in (lambda: show.draw_zone(tile, wrong, labels), lambda: show.draw_pixel(tile, wrong, 1, 1)):
        with pytest.raises(ValueError, match="labels must be"):
            call()
