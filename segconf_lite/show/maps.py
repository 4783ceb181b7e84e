"""Numbers as colours: maps and marks that are drawn like slices and beside them, and tables.

Shape letters: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from plotly.colors import sample_colorscale, unlabel_rgb

from segconf_lite import check
from segconf_lite.show.pictures import break_lines, draw_borders, finish, listed, picture_grid, slice_values

_ZONE = np.array([213, 30, 0])
_ZOOM = 3


def draw_map(values: np.ndarray, *, highest: float = 1.0, signed: bool = False) -> np.ndarray:
    """Picture of a map, (3H, 3W, 3) uint8.

    Args:
        values: (H, W) finite numbers. Those outside the scale get the colour of its nearer end.
        highest: End of the scale, > 0, in the unit of `values`.
        signed: Whether the scale runs from −`highest` (blue) over 0 (white) to `highest` (red), not from 0
            (dark blue) to `highest` (yellow).

    Raises:
        ValueError: If the map is not (H, W) and finite, or `highest` is not > 0.

    Example:
        >>> draw_map(np.array([[0.0, 0.5]]), highest=0.5)[0, ::3].tolist()
        [[0, 34, 78], [254, 232, 56]]
    """
    check.one_of("signed", signed, (True, False))
    low, n_colours, scale = (-1, 257, "RdBu_r") if signed else (0, 256, "Cividis")
    highest = check.number("highest", highest, low=0, open_low=True)
    relative = np.clip(slice_values("values", values) / highest, low, 1)
    colours = [unlabel_rgb(colour) for colour in sample_colorscale(scale, np.linspace(0, 1, n_colours))]
    index = np.rint((n_colours - 1) * ((relative - low) / (1 - low))).astype(int)
    return np.array(colours).astype(np.uint8)[index].repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def draw_zone(image: np.ndarray, labels: np.ndarray, zone: np.ndarray) -> np.ndarray:
    """Picture of a slice, (3H, 3W, 3) uint8, with borders and with the pixels of a zone in red.

    Args:
        image: (H, W) or (3, H, W) finite intensities, see `draw_borders`.
        labels: (H, W) labels whose borders are drawn.
        zone: (H, W) true or false, for example where the prediction is wrong.

    Raises:
        ValueError: If shapes differ, an intensity is not finite, or a label is no integer >= 0.

    Example:
        >>> labels, reference = np.zeros((4, 4), int), np.eye(4, dtype=int)
        >>> draw_zone(np.zeros((4, 4)), labels, labels != reference)[0, 0].tolist()
        [117, 16, 0]
    """
    picture = draw_borders(image, check.label_map("labels", labels, shape="H W"))
    shape = (picture.shape[0] // _ZOOM, picture.shape[1] // _ZOOM)
    inside = check.label_map("zone", zone, n_classes=2, shape=shape).astype(bool)
    inside = inside.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    picture[inside] = (0.45 * picture[inside] + 0.55 * _ZONE).astype(np.uint8)
    return picture


def draw_change(
    before: np.ndarray,
    after: np.ndarray,
    predictions: tuple[np.ndarray, np.ndarray],
    reference: np.ndarray,
    *,
    highest: float = 1.0,
) -> np.ndarray:
    """Picture of a changed slice, (3H, 9W, 3) uint8: prediction before, change, prediction after.

    Wrong pixels of both predictions are red. The change is blue where intensities fall, red where they rise.

    Args:
        before: (H, W) finite intensities before the change.
        after: (H, W) finite intensities after it.
        predictions: The (H, W) labels predicted before and after.
        reference: (H, W) reference labels.
        highest: Change of intensity that is drawn in full colour, > 0.

    Raises:
        ValueError: If shapes differ, an intensity is not finite, or a label is no integer >= 0.

    Example:
        >>> image, labels = np.zeros((4, 4)), np.zeros((4, 4), int)
        >>> draw_change(image, image + 1, (labels, labels), labels).shape
        (12, 36, 3)
    """
    first = slice_values("before", before)
    second = slice_values("after", after, first.shape)
    truth = check.label_map("reference", reference, shape=first.shape)
    sides = []
    for image, labels in zip((first, second), listed("predictions", predictions, length=2), strict=True):
        predicted = check.label_map("predictions", labels, shape=first.shape)
        sides.append(draw_zone(image, predicted, predicted != truth))
    change = draw_map(second - first, highest=highest, signed=True)
    return np.concatenate([sides[0], change, sides[1]], axis=1)


def draw_pixel(image: np.ndarray, labels: np.ndarray, row: int, column: int) -> np.ndarray:
    """Picture of a slice, (3H, 3W, 3) uint8, with borders and with one pixel in a white and black frame.

    Args:
        image: (H, W) or (3, H, W) finite intensities, see `draw_borders`.
        labels: (H, W) labels whose borders are drawn.
        row: Row of the pixel, from 0.
        column: Column of the pixel, from 0.

    Raises:
        ValueError: If the pixel lies outside the slice, or as for `draw_borders`.

    Example:
        >>> picture = draw_pixel(np.zeros((4, 4)), np.zeros((4, 4), int), 1, 1)
        >>> picture[1, :9, 0].tolist()
        [0, 255, 255, 255, 255, 255, 255, 255, 0]
    """
    picture = draw_borders(image, check.label_map("labels", labels, shape="H W"))
    height, width = picture.shape[:2]
    row = check.integer("row", row, low=0, high=height // _ZOOM - 1)
    column = check.integer("column", column, low=0, high=width // _ZOOM - 1)
    for reach, grey in ((3, 255), (2, 0)):  # the outer frame first
        top, left = max(_ZOOM * row + 1 - reach, 0), max(_ZOOM * column + 1 - reach, 0)
        bottom, right = _ZOOM * row + 1 + reach, _ZOOM * column + 1 + reach
        picture[top : bottom + 1, [left, min(right, width - 1)]] = grey
        picture[[top, min(bottom, height - 1)], left : right + 1] = grey
    return picture


def map_grid(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[np.ndarray]],
    *,
    column_titles: Sequence[str],
    alt: str,
    borders: str = "prediction",
    scale: str | None = None,
) -> go.Figure:
    """Slices with their borders in the top row, and below them a row of maps for each name.

    Args:
        images: One slice per column, (H, W) or (3, H, W) as in `draw_borders`.
        labels: The labels whose borders are drawn, (H, W) per column.
        maps: For each row its name and one (H, W) map per column, all on one colour scale from 0 to 1.
        column_titles: One title per column.
        alt: What the figure shows, for readers who cannot see it.
        borders: What the labels are; the title of the top row.
        scale: Name of the colour bar: what the maps show. None takes the names of one or two maps.

    Raises:
        ValueError: If the parts differ in number, or a slice or map is not finite.

    Example:
        >>> tile = np.zeros((4, 4))
        >>> figure = map_grid([tile], [tile], {"entropy": [tile]}, column_titles=["A"], alt="Nothing.")
        >>> len(figure.data), [note.text for note in figure.layout.annotations]
        (3, ['A', 'prediction', 'entropy'])
    """
    check.instance("borders", borders, str)
    images = listed("images", images)
    if not isinstance(maps, Mapping):
        raise check.refuse("maps", "a mapping from names to maps", type(maps).__name__)
    pairs = zip(images, listed("labels", labels, length=len(images)), strict=True)
    tiles = [[draw_borders(image, drawn) for image, drawn in pairs]]
    for name, row in maps.items():
        tiles.append([draw_map(values) for values in listed(f"maps[{name!r}]", row, length=len(images))])
    titles = [borders, *check.names("maps", list(maps))]
    figure = picture_grid(
        tiles, column_titles=column_titles, row_titles=titles, alt=alt, tile_px=round(620 / len(images))
    )
    named = ", ".join(titles[1:]) if len(titles) <= 3 else "value of each map"
    title = break_lines(named if scale is None else check.names("scale", [scale])[0], 16)
    bar = {"title": title, "len": 0.6, "thickness": 12}
    look = {"colorscale": "Cividis", "cmin": 0, "cmax": 1, "color": [0], "showscale": True, "colorbar": bar}
    return figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=look, showlegend=False))


def number_table(table: pd.DataFrame, *, alt: str, title: str, limits: tuple[float, float]) -> go.Figure:
    """Numbers in coloured fields, written in each: rows against columns.

    Args:
        table: Numbers; index and columns are the labels, and their names the names of the axes. NaN leaves a
            field empty.
        alt: What the figure shows, for readers who cannot see it.
        title: Name of the colour bar: what the numbers are.
        limits: Values of the darkest and of the lightest colour.

    Raises:
        ValueError: If the table is empty, holds anything but numbers, or has one label twice, or the title is
            no text.

    Example:
        >>> table = pd.DataFrame([[0.123, float("nan")]], index=["noise"], columns=["D", "F"])
        >>> number_table(table, title="mean Dice", limits=(0, 1), alt="0.12 on D.").data[0].z.tolist()
        [[0.123, nan]]
    """
    check.instance("title", title, str)
    if not isinstance(table, pd.DataFrame):
        raise check.refuse("table", "a pandas table of numbers", type(table).__name__)
    values = check.array("table", table, "rows columns", dtype=np.float64)
    check.finite("table", values, missing=True)
    rows, columns = ([str(label) for label in each] for each in (table.index, table.columns))
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        fix = "rename them in the table"
        raise check.refuse("labels of rows and columns", "different from each other", [rows, columns], fix)
    low, high = listed("limits", limits, length=2)
    low = check.number("limits", low)
    high = check.number("limits", high, low=low, open_low=True)
    columns = [break_lines(name, max(7, 72 // len(columns))) for name in columns]
    colours = {"zmin": low, "zmax": high, "color_continuous_scale": "Cividis"}
    figure = px.imshow(values, x=columns, y=rows, aspect="auto", **colours)
    figure.update_traces(name="", hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>")
    dark = _is_dark((values - low) / (high - low))
    for ink, fields in (("white", dark), ("black", ~dark)):  # a trace has one colour of text
        written = np.where(fields, values, np.nan)
        if np.isnan(written).all():
            continue
        text = {"texttemplate": "%{z:.2f}", "textfont": {"color": ink}, "hoverinfo": "skip"}
        figure.add_heatmap(z=written, x=columns, y=rows, coloraxis="coloraxis", **text)
    figure.update_traces(xgap=2, ygap=2)
    figure.update_xaxes(type="category", side="top", showgrid=False, title=table.columns.name)
    figure.update_yaxes(type="category", showgrid=False, title=table.index.name)
    finish(figure, alt=alt, height=150 + 34 * len(rows), min_width=160 + 62 * len(columns))
    return figure.update_layout(margin={"t": 90}, coloraxis_colorbar_title=break_lines(title, 12))


def _is_dark(relative: np.ndarray) -> np.ndarray:
    """Whether white stands out more than black on the colour of each value, by the contrast of WCAG 2."""
    filled = np.clip(np.nan_to_num(relative), 0, 1)
    colours = [unlabel_rgb(colour) for colour in sample_colorscale("Cividis", filled.ravel())]
    parts = np.array(colours) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    luminance = (linear @ [0.2126, 0.7152, 0.0722]).reshape(filled.shape)
    return (luminance + 0.05) ** 2 < 1.05 * 0.05
