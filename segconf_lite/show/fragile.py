"""Figures of flip costs: what it would take to label pixels otherwise.

Shape letters: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from segconf_lite.arrays import to_numpy
from segconf_lite.show.figures import DOMAIN_COLOURS, SYMBOLS, require_columns
from segconf_lite.show.pictures import draw_borders, finish

__all__ = ["cost_curves", "cost_scatter", "draw_pixel", "draw_zone"]

LOWEST = 1e-6  # nats; lower costs, and those below 0, are drawn there, since the axis is logarithmic
ZONE = np.array([213, 30, 0])


def draw_zone(image: np.ndarray, labels: np.ndarray, zone: np.ndarray) -> np.ndarray:
    """(3H, 3W, 3) uint8 picture of an (H, W) slice with the borders of `labels`; a bool `zone` in red."""
    picture = draw_borders(image, labels)
    inside = to_numpy(zone, bool).repeat(3, axis=0).repeat(3, axis=1)
    picture[inside] = (0.45 * picture[inside] + 0.55 * ZONE).astype(np.uint8)
    return picture


def draw_pixel(image: np.ndarray, labels: np.ndarray, row: int, column: int) -> np.ndarray:
    """(3H, 3W, 3) uint8 picture of a slice with borders, and one pixel in a white and black frame."""
    picture = draw_borders(image, labels)
    for reach, grey in ((3, 255), (2, 0)):  # the outer frame first
        top, left = max(3 * row + 1 - reach, 0), max(3 * column + 1 - reach, 0)
        low, right = 3 * row + 1 + reach, 3 * column + 1 + reach
        picture[top : low + 1, [left, min(right, picture.shape[1] - 1)]] = grey
        picture[[top, min(low, picture.shape[0] - 1)], left : right + 1] = grey
    return picture


def cost_curves(histories: Mapping[str, np.ndarray], *, alt: str) -> go.Figure:
    """The lowest flip cost found so far against the steps of a search.

    Args:
        histories: name -> (steps,) nats a training pixel; infinite before the first flip.
        alt: text for readers who cannot see the figure.
    """
    figure = go.Figure()
    for k, (name, values) in enumerate(histories.items()):
        cost = np.clip(np.where(np.isfinite(values), values, np.nan), LOWEST, None)
        look = {"color": DOMAIN_COLOURS[k], "dash": ("solid", "dash", "dot")[k % 3]}
        steps = 1 + np.arange(len(cost))
        figure.add_trace(go.Scatter(x=steps, y=cost, name=name, mode="lines", line=look))
    figure.update_xaxes(title="step of the search")
    figure.update_yaxes(title="lowest flip cost so far (nats)", type="log", exponentformat="power")
    return finish(figure, alt=alt, height=340)


def cost_scatter(table: pd.DataFrame, *, alt: str, axes: tuple[str, str]) -> go.Figure:
    """Two flip costs of each pixel against each other, both on logarithmic axes, with the diagonal.

    Args:
        table: columns kind, first, second (nats a training pixel).
        alt: text for readers who cannot see the figure.
        axes: what the two costs are.
    """
    require_columns(table, ["kind", "first", "second"])
    values = table[["first", "second"]].replace([np.inf, -np.inf], np.nan).clip(lower=LOWEST)
    low, high = values.min().min() / 2, 2 * values.max().max()
    figure = go.Figure(
        go.Scatter(x=[low, high], y=[low, high], mode="lines", name="equal",
                   line={"color": "#999999", "dash": "dot"}, hoverinfo="skip")
    )  # fmt: skip
    for k, (kind, rows) in enumerate(table.groupby("kind", sort=False)):
        marker = {"color": DOMAIN_COLOURS[k], "symbol": SYMBOLS[k], "size": 8, "opacity": 0.75}
        part = values.loc[rows.index]
        figure.add_trace(
            go.Scatter(x=part["first"], y=part["second"], mode="markers", name=str(kind), marker=marker,
                       hovertemplate=f"{kind}: %{{x:.2g}}, %{{y:.2g}}<extra></extra>")
        )  # fmt: skip
    axis = {"type": "log", "exponentformat": "power", "range": [np.log10(low), np.log10(high)]}
    figure.update_xaxes(title=f"{axes[0]} (nats)", **axis)
    figure.update_yaxes(title=f"{axes[1]} (nats)", **axis)
    return finish(figure, alt=alt, height=420)
