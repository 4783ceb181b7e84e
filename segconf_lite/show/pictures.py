"""Slices as pictures: grey values with the borders of a segmentation drawn on them.

Shape letters: H rows, W columns. Colours are Okabe and Ito's, which people with any common form
of colour blindness can tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.express as px
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from segconf_lite import parameters
from segconf_lite.arrays import to_numpy

__all__ = [
    "CLASS_COLOURS", "break_lines", "described", "draw_borders", "draw_map", "finish", "picture_grid",
    "picture_source",
]  # fmt: skip

_OKABE_ITO = {
    "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#F0E442",
    "blue": "#0072B2", "vermillion": "#D55E00", "purple": "#CC79A7", "black": "#000000",
}  # fmt: skip
CLASS_COLOURS = ("#000000", "#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442")
_ZOOM = 3  # borders are drawn at this many screen pixels a slice pixel, one of them wide


def draw_borders(image: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """(3H, 3W, 3) uint8 picture of a slice, with the borders of each class in its colour.

    Args:
        image: (H, W) grey values, any scale; the window is the 0.5 to 99.5 percentile.
        labels: (H, W) whole-number labels, or None for the slice alone.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    grey = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    rgb = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    rgb = rgb.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    if labels is None:
        return rgb
    fine = to_numpy(labels).repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    inner = np.pad(fine, 1, mode="edge")
    neighbours = (inner[:-2, 1:-1], inner[2:, 1:-1], inner[1:-1, :-2], inner[1:-1, 2:])
    edge = (fine > 0) & np.any([fine != other for other in neighbours], axis=0)
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in CLASS_COLOURS], np.uint8)
    rgb[edge] = palette[fine[edge] % len(palette)]
    return rgb


def draw_map(values: np.ndarray, *, highest: float = 1.0) -> np.ndarray:
    """(3H, 3W, 3) uint8 picture of an (H, W) map, dark blue at 0 to yellow at `highest` and above."""
    share = np.clip(to_numpy(values) / highest, 0, 1)
    colours = [
        [int(part) for part in colour[4:-1].split(",")]
        for colour in sample_colorscale("Cividis", np.linspace(0, 1, 256))
    ]
    rgb = np.array(colours, np.uint8)[np.rint(255 * share).astype(int)]
    return rgb.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def picture_source(rgb: np.ndarray) -> str:
    """A data address of the picture as PNG, far smaller in a page than numbers."""
    return px.imshow(rgb, binary_string=True, binary_compression_level=9).data[0].source


def picture_grid(
    images: Sequence[Sequence[np.ndarray]],
    labels: Sequence[Sequence[np.ndarray | None]] | None = None,
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    class_names: Sequence[str] = (),
    alt: str,
    tile_px: int | None = None,
) -> go.Figure:
    """Rows and columns of slices, with borders if labels are given.

    Args:
        images: rows of (H, W) slices.
        labels: rows of (H, W) labels or None, shaped as ``images``.
        column_titles, row_titles: one for each column or row, or none at all.
        class_names: background first; given, a legend explains the border colours.
        alt: what the figure shows, for readers who cannot see it.
        tile_px: height of a row; by default what fits six slices beside each other in the book.
    """
    n_rows, n_columns = len(images), len(images[0])
    figure = make_subplots(
        n_rows, n_columns,
        column_titles=[break_lines(t) for t in column_titles] or None, row_titles=list(row_titles) or None,
        horizontal_spacing=0.006, vertical_spacing=0.01,
    )  # fmt: skip
    for row in range(n_rows):
        for column in range(n_columns):
            drawn = None if labels is None else labels[row][column]
            source = picture_source(draw_borders(images[row][column], drawn))
            figure.add_trace(go.Image(source=source, hoverinfo="skip"), row=row + 1, col=column + 1)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    for k, name in enumerate(class_names[1:], start=1):
        marker = {"color": CLASS_COLOURS[k], "symbol": "square", "size": 11}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker))
    figure.update_annotations(font_size=12)
    n_lines = max((break_lines(t).count("<br>") + 1 for t in column_titles), default=0)
    top = 30 + 18 * n_lines
    height = (tile_px or round(690 / n_columns)) * n_rows
    finish(figure, alt=alt, height=height + top + 10)
    figure.update_layout(margin={"t": top}, legend={"y": 1 + (18 * n_lines + 4) / height})
    # on a phone the figure scrolls in its own box rather than shrink to stamps
    return figure.update_layout(meta=described(alt, min_width=95 * n_columns))


def break_lines(name: str, width: int = 14) -> str:
    """A long name on several lines, for titles and ticks that stand side by side."""
    return "<br>".join(textwrap.wrap(name, width, break_long_words=False))


def described(alt: str, **more: Any) -> dict[str, Any]:
    """A figure's `meta`: its text alternative, which says so where the settings are not the book's."""
    return {"alt": f"{parameters.alt_note()}{alt}", **more}


def finish(figure: go.Figure, *, alt: str, height: int, **layout: Any) -> go.Figure:
    """The look shared by every figure: white, wide, legend on top, alternative text."""
    figure.update_layout(
        template="plotly_white", height=height, margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.06, "x": 0},
        meta=described(alt), colorway=[c for n, c in _OKABE_ITO.items() if n != "black"],
        hoverlabel={"align": "left"}, **layout,
    )  # fmt: skip
    return figure
