"""Figures that judge a confidence: risk against coverage, comparisons, reliability, maps.

Each takes a tidy table. Colours and dashes or symbols both tell methods apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from segconf_lite.evaluation.ranking import risk_coverage
from segconf_lite.show.figures import DOMAIN_COLOURS, SYMBOLS, require_columns
from segconf_lite.show.pictures import break_lines, described, draw_borders, draw_map, finish, picture_source

__all__ = ["cost_scatter", "map_grid", "method_intervals", "reliability_diagram", "risk_coverage_curves"]

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def risk_coverage_curves(
    cases: pd.DataFrame, methods: Sequence[str], *, alt: str, risk_name: str = "1 − Dice"
) -> go.Figure:
    """Mean risk of the cases kept against the share kept; buttons choose the domain.

    Args:
        cases: columns domain, risk, and one of uncertainty per method.
        methods: the columns to draw.
        alt: text for readers who cannot see the figure.
        risk_name: name of the risk on the axis.
    """
    require_columns(cases, ["domain", "risk", *methods])
    figure, domains = go.Figure(), list(dict.fromkeys(cases["domain"]))
    curves = ["best possible order", "no order at all", *methods]
    for domain in domains:
        part = cases[(cases["domain"] == domain) & cases["risk"].notna()]
        for k, name in enumerate(curves):
            order = {0: part["risk"], 1: np.zeros(len(part))}.get(k)
            curve = risk_coverage(part["risk"], part[name] if order is None else order)
            dash = ("solid", "dot")[k] if k < 2 else _DASHES[(k - 1) % 5]
            colour = "#999999" if k < 2 else DOMAIN_COLOURS[(k - 2) % len(DOMAIN_COLOURS)]
            figure.add_trace(
                go.Scatter(
                    x=curve["coverage"], y=curve["selective_risk"], name=name, mode="lines",
                    visible=domain == domains[0],
                    line={"color": colour, "width": 2, "dash": dash},
                    hovertemplate=f"{name}<br>keep %{{x:.0%}}: mean {risk_name} %{{y:.3f}}<extra></extra>",
                )
            )  # fmt: skip
    buttons = [
        {"label": str(domain), "method": "update",
         "args": [{"visible": [shown == domain for shown in domains for _ in curves]}]}
        for domain in domains
    ]  # fmt: skip
    figure.update_xaxes(title="coverage: share of cases kept, the most trusted first", tickformat=".0%")
    figure.update_yaxes(title=f"mean risk of those kept ({risk_name}; lower is better)", rangemode="tozero")
    finish(figure, alt=alt, height=520)
    menu = {"type": "dropdown", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1.32, "yanchor": "top"}
    return figure.update_layout(updatemenus=[menu], margin={"t": 150})


def method_intervals(
    table: pd.DataFrame, *, alt: str, axis: str, by: str = "domain", zero: bool = True
) -> go.Figure:
    """A dot with its interval for each method, one panel per group.

    Args:
        table: columns `by`, method, estimate, low, high; as `segconf_lite.evaluation.compare_methods`.
        alt: text for readers who cannot see the figure.
        axis: what is shown, with its direction, e.g. ``"Spearman (higher is better)"``.
        by: the groups.
        zero: draw a line at 0.
    """
    require_columns(table, [by, "method", "estimate", "low", "high"])
    groups, methods = list(dict.fromkeys(table[by])), list(dict.fromkeys(table["method"]))
    titles = [break_lines(str(group), 16) for group in groups]
    figure = make_subplots(1, len(groups), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.02)
    for column, group in enumerate(groups, start=1):
        rows = table[table[by] == group].set_index("method").reindex(methods)
        for k, name in enumerate(methods):
            row, look = rows.loc[name], k % len(SYMBOLS)
            bars = {"type": "data", "symmetric": False, "array": [row["high"] - row["estimate"]],
                    "arrayminus": [row["estimate"] - row["low"]], "color": "#555555"}  # fmt: skip
            figure.add_trace(
                go.Scatter(
                    x=[row["estimate"]], y=[name], mode="markers", showlegend=False, error_x=bars,
                    marker={"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 9},
                    hovertemplate=f"{group}, {name}: {row['estimate']:.3f} "
                    f"({row['low']:.3f} to {row['high']:.3f})<extra></extra>",
                ),
                row=1, col=column,
            )  # fmt: skip
    if zero:
        figure.add_vline(x=0, line={"color": "#999999", "width": 1, "dash": "dot"})
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(nticks=4, tickangle=0)
    n_lines = max(title.count("<br>") for title in titles)
    finish(figure, alt=alt, height=120 + 18 * n_lines + 27 * len(methods))
    figure.update_annotations(font_size=12)
    caption = {"text": axis, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0, "yshift": -45,
               "showarrow": False}  # fmt: skip
    figure.add_annotation(caption)
    figure.update_layout(margin={"t": 40 + 16 * n_lines, "b": 60})
    return figure.update_layout(meta=described(alt, min_width=120 + 85 * len(groups)))


def reliability_diagram(tables: Mapping[str, pd.DataFrame], *, alt: str) -> go.Figure:
    """Accuracy of the pixels in each bin of confidence; on the diagonal, probabilities mean what they say.

    Args:
        tables: name -> `segconf_lite.evaluation.reliability_table`.
        alt: text for readers who cannot see the figure.
    """
    figure = go.Figure(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line={"color": "#999999", "dash": "dot"}
        )
    )
    for k, (name, bins) in enumerate(tables.items()):
        require_columns(bins, ["confidence", "accuracy", "share"])
        look = k % len(SYMBOLS)
        figure.add_trace(
            go.Scatter(
                x=bins["confidence"], y=bins["accuracy"], mode="lines+markers", name=name,
                line={"color": DOMAIN_COLOURS[look], "width": 1},
                marker={"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 9},
                customdata=bins["share"],
                hovertemplate=f"{name}<br>confidence %{{x:.3f}}<br>right %{{y:.3f}}"
                "<br>%{customdata:.2%} of all pixels<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(
        title="mean confidence of the bin (probability of the winning class)", range=[0.2, 1.02]
    )
    figure.update_yaxes(title="share of its pixels that are right", range=[0, 1.03])
    return finish(figure, alt=alt, height=440)


def cost_scatter(table: pd.DataFrame, *, quality: str, alt: str) -> go.Figure:
    """What a method costs against what it gives, a labelled point a method.

    Args:
        table: columns method, n_passes, quality.
        quality: name of the vertical axis with its direction.
        alt: text for readers who cannot see the figure.
    """
    require_columns(table, ["method", "n_passes", "quality"])
    figure = go.Figure()
    for k, row in enumerate(table.itertuples()):
        look = k % len(SYMBOLS)
        figure.add_trace(
            go.Scatter(
                x=[row.n_passes], y=[row.quality], mode="markers", name=row.method,
                marker={"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 12},
                hovertemplate=f"{row.method}: %{{x}} passes, %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="passes of a network per case", type="log", tickvals=[1, 2, 4, 5, 8, 15])
    figure.update_yaxes(title=quality)
    return finish(figure, alt=alt, height=460).update_layout(margin={"t": 110})


def map_grid(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[np.ndarray]],
    *,
    column_titles: Sequence[str],
    alt: str,
) -> go.Figure:
    """Slices with their borders in the top row, and a row of maps in [0, 1] for each name below.

    Args:
        images, labels: one (H, W) slice and its drawn labels per column.
        maps: name -> one (H, W) map per column, all on one colour scale from 0 to 1.
        column_titles: one per column.
        alt: text for readers who cannot see the figure.
    """
    names, n_columns = list(maps), len(images)
    figure = make_subplots(
        1 + len(names), n_columns, horizontal_spacing=0.006, vertical_spacing=0.01,
        column_titles=[break_lines(t, 18) for t in column_titles],
        row_titles=["answer", *names],
    )  # fmt: skip
    for column in range(n_columns):
        tiles = [draw_borders(images[column], labels[column])]
        tiles += [draw_map(maps[name][column]) for name in names]
        for row, tile in enumerate(tiles, start=1):
            figure.add_trace(go.Image(source=picture_source(tile), hoverinfo="skip"), row=row, col=column + 1)
    bar = {"title": "value", "len": 0.6, "thickness": 12}
    scale = {"colorscale": "Cividis", "cmin": 0, "cmax": 1, "color": [0], "showscale": True, "colorbar": bar}
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=scale, showlegend=False))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_annotations(font_size=12)
    finish(figure, alt=alt, height=round(620 / n_columns) * (1 + len(names)) + 70)
    return figure.update_layout(margin={"t": 60}, meta=described(alt, min_width=110 * n_columns))
