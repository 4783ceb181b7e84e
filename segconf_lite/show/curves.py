"""Curves in small panels: what falls, and how fast, as something is made worse."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from segconf_lite.show.figures import DOMAIN_COLOURS, SYMBOLS, require_columns
from segconf_lite.show.pictures import break_lines, described, finish

__all__ = ["line_panels", "number_table"]

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def line_panels(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    line: str,
    panel: str | None = None,
    axes: tuple[str, str],
    alt: str,
    columns: int = 4,
    y_range: Sequence[float] | None = (0, 1.03),
    log_x: bool = False,
) -> go.Figure:
    """A line for each value of one column, in a panel for each value of another.

    Args:
        table: tidy, one row a point. Columns ``low`` and ``high``, where there are any, become error bars.
        x, y: columns drawn; a text column `x` gives named positions in order of appearance.
        line: column that tells lines apart: colour, symbol and dash.
        panel: column that tells panels apart; None draws one.
        axes: names of both axes, with units and direction.
        alt: text for readers who cannot see the figure.
        columns: most panels beside each other.
        y_range: of all panels; None fits it.
        log_x: logarithmic horizontal axis.

    Raises:
        ValueError: If a column is missing or the table is empty.
    """
    require_columns(table, [x, y, line, *([panel] if panel else [])])
    if table.empty:
        raise ValueError("the table needs at least one row")
    panels = list(dict.fromkeys(table[panel])) if panel else [None]
    lines = list(dict.fromkeys(table[line]))
    n_columns = min(columns, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    titles = [break_lines(str(name), 20) for name in panels] if panel else None
    figure = make_subplots(
        n_rows, n_columns, subplot_titles=titles, shared_xaxes="all", shared_yaxes="all",
        horizontal_spacing=0.03, vertical_spacing=0.16 / n_rows,
    )  # fmt: skip
    for place, name in enumerate(panels):
        part = table[table[panel] == name] if panel else table
        for k, label in enumerate(lines):
            rows = part[part[line] == label]
            if rows.empty:
                continue
            first = panel is None or name == table.loc[table[line] == label, panel].iloc[0]
            where = "" if name is None else name
            figure.add_trace(
                go.Scatter(
                    x=rows[x], y=rows[y], name=str(label), legendgroup=str(label), mode="lines+markers",
                    showlegend=bool(first),
                    line={"color": DOMAIN_COLOURS[k % len(DOMAIN_COLOURS)], "width": 2,
                          "dash": _DASHES[k % len(_DASHES)]},
                    marker={"symbol": SYMBOLS[k % len(SYMBOLS)], "size": 7}, error_y=_bars(rows, y),
                    hovertemplate=f"{label}<br>%{{x}}: %{{y:.3f}}<extra>{where}</extra>",
                ),
                row=place // n_columns + 1, col=place % n_columns + 1,
            )  # fmt: skip
    if y_range is not None:
        figure.update_yaxes(range=list(y_range))
    figure.update_xaxes(type="log" if log_x else None, tickangle=0)
    return _with_axes(figure, axes, alt, n_rows, n_columns, len(lines))


def number_table(table: pd.DataFrame, *, alt: str, title: str, limits: tuple[float, float]) -> go.Figure:
    """Numbers in coloured fields, written in each: rows against columns.

    Args:
        table: index and columns are the labels; NaN leaves a field empty. Names of index and columns
            name the axes.
        alt: text for readers who cannot see the figure.
        title: of the colour bar: what is shown.
        limits: values of the darkest and the lightest colour.

    Raises:
        ValueError: If the table is empty.
    """
    if table.empty:
        raise ValueError("the table needs at least one row and one column")
    values, width = table.to_numpy(float), max(7, 72 // len(table.columns))
    texts = np.where(np.isfinite(values), np.char.mod("%.2f", values), "")
    figure = go.Figure(
        go.Heatmap(
            z=values, x=[break_lines(str(c), width) for c in table.columns], y=[str(r) for r in table.index],
            zmin=limits[0], zmax=limits[1], colorscale="Cividis", text=texts, texttemplate="%{text}",
            colorbar={"title": break_lines(title, 12)}, xgap=2, ygap=2,
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False, title=table.columns.name, tickangle=0)
    figure.update_yaxes(autorange="reversed", showgrid=False, title=table.index.name, automargin=True)
    finish(figure, alt=alt, height=150 + 34 * len(table))
    figure.update_layout(margin={"t": 90})
    return figure.update_layout(meta=described(alt, min_width=160 + 62 * len(table.columns)))


def _bars(rows: pd.DataFrame, y: str) -> dict | None:
    if not {"low", "high"} <= set(rows):
        return None
    return {"type": "data", "symmetric": False, "array": rows["high"] - rows[y],
            "arrayminus": rows[y] - rows["low"], "thickness": 1, "width": 3}  # fmt: skip


def _with_axes(
    figure: go.Figure, axes: tuple[str, str], alt: str, n_rows: int, n_columns: int, n_lines: int
) -> go.Figure:
    """One name for all horizontal and one for all vertical axes; the legend above the panels' titles."""
    if n_rows == n_columns == 1:
        figure.update_xaxes(title=axes[0])
        figure.update_yaxes(title=axes[1])
        return finish(figure, alt=alt, height=430)
    figure.update_annotations(font_size=12)
    height = (270 if n_rows == 1 else 190) * n_rows + 110 + 20 * math.ceil(n_lines / 4)
    finish(figure, alt=alt, height=height)
    top = 50 + 20 * math.ceil(n_lines / 4)
    common: dict = {"xref": "paper", "yref": "paper", "showarrow": False}
    figure.add_annotation(text=axes[0], x=0.5, y=0, yshift=-48, **common)
    figure.add_annotation(text=axes[1], x=0, y=0.5, xshift=-52, textangle=-90, **common)
    figure.update_layout(
        margin={"t": top, "b": 62, "l": 62}, legend={"y": 1 + 30 / (height - top - 62)},
        meta=described(alt, min_width=90 + 165 * n_columns),
    )  # fmt: skip
    return figure
