"""Figures of foreign scanners: where activations lie, what flags them, how methods order their cases.

Each takes a tidy table. Figures 3 and 4 of Lennartz & Schultz (2023) are `correlation_boxes`,
`detection_bars` and `quality_boxes`.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from segconf_lite.show.figures import DOMAIN_COLOURS, SYMBOLS, require_columns
from segconf_lite.show.pictures import break_lines, described, finish

__all__ = ["correlation_boxes", "detection_bars", "projection_scatter", "quality_boxes"]

_PATTERNS = ("", "/", "x", ".", "\\", "-", "+", "|")


def projection_scatter(table: pd.DataFrame, *, alt: str, axes: tuple[str, str]) -> go.Figure:
    """Cases as points in a plane, a colour and a symbol per domain.

    Args:
        table: columns domain, x, y.
        alt: text for readers who cannot see the figure.
        axes: names of the two axes.
    """
    require_columns(table, ["domain", "x", "y"])
    figure = go.Figure()
    for k, (domain, rows) in enumerate(table.groupby("domain", sort=False)):
        look = k % len(SYMBOLS)
        marker = {"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 6, "opacity": 0.6}
        figure.add_trace(
            go.Scatter(x=rows["x"], y=rows["y"], mode="markers", name=str(domain), marker=marker)
        )
    figure.update_xaxes(title=axes[0], zeroline=False)
    figure.update_yaxes(title=axes[1], zeroline=False)
    return finish(figure, alt=alt, height=440)


def correlation_boxes(table: pd.DataFrame, *, alt: str, axis: str, points: bool = True) -> go.Figure:
    """A box per domain and method over repeats (figure 3 of the paper).

    Args:
        table: columns domain, method, estimate; one row per repeat.
        alt: text for readers who cannot see the figure.
        axis: what is shown, with its direction.
        points: also draw every repeat; wise for few.
    """
    require_columns(table, ["domain", "method", "estimate"])
    figure = go.Figure()
    for k, (method, rows) in enumerate(table.groupby("method", sort=False)):
        look = k % len(SYMBOLS)
        figure.add_trace(
            go.Box(
                x=rows["domain"], y=rows["estimate"], name=str(method), offsetgroup=str(method),
                boxpoints="all" if points else "outliers", pointpos=0, jitter=0.2,
                marker={"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 6},
                line={"width": 1}, hovertemplate=f"{method}, %{{x}}: %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": "#999999", "width": 1, "dash": "dot"})
    figure.update_xaxes(title="scanner")
    figure.update_yaxes(title=axis)
    finish(figure, alt=alt, height=480, boxmode="group")
    return figure.update_layout(meta=described(alt, min_width=640))


def detection_bars(table: pd.DataFrame, *, alt: str, axis: str = "share of slices flagged") -> go.Figure:
    """Share of each domain that each method flags (figure 4 of the paper, left).

    Args:
        table: columns domain, method, flagged in [0, 1]; several rows a bar (repeats) are averaged, and
            their lowest and highest value drawn as a line.
        alt: text for readers who cannot see the figure.
        axis: name of the vertical axis.
    """
    require_columns(table, ["domain", "method", "flagged"])
    domains = list(dict.fromkeys(table["domain"]))
    figure = go.Figure()
    for k, (method, rows) in enumerate(table.groupby("method", sort=False)):
        spread = rows.groupby("domain")["flagged"].agg(["mean", "min", "max"]).reindex(domains)
        bars = {"type": "data", "symmetric": False, "array": spread["max"] - spread["mean"],
                "arrayminus": spread["mean"] - spread["min"], "color": "#222222"}  # fmt: skip
        look = k % len(_PATTERNS)
        figure.add_trace(
            go.Bar(
                x=domains, y=spread["mean"], name=str(method), error_y=bars,
                marker={"color": DOMAIN_COLOURS[(look + 1) % len(DOMAIN_COLOURS)],
                        "pattern": {"shape": _PATTERNS[look], "fgcolor": "#222222"}},
                hovertemplate=f"{method}, %{{x}}: %{{y:.0%}}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=0.05, line={"color": "#999999", "width": 1, "dash": "dot"})
    figure.update_xaxes(title="scanner")
    figure.update_yaxes(title=axis, tickformat=".0%", range=[0, 1.05])
    finish(figure, alt=alt, height=400, barmode="group")
    return figure.update_layout(meta=described(alt, min_width=560))


def quality_boxes(table: pd.DataFrame, *, alt: str, quality: str = "Dice") -> go.Figure:
    """How the quality of cases is distributed in each domain (figure 4 of the paper, right).

    Args:
        table: columns domain, quality in [0, 1] (NaN left out), and answer, which sets boxes side by side.
        alt: text for readers who cannot see the figure.
        quality: name of the axis.
    """
    require_columns(table, ["domain", "quality", "answer"])
    figure = go.Figure()
    for k, (answer, rows) in enumerate(table.groupby("answer", sort=False)):
        figure.add_trace(
            go.Box(
                x=[break_lines(str(name)) for name in rows["domain"]], y=rows["quality"], name=str(answer),
                offsetgroup=str(answer), boxmean=True, boxpoints="outliers", line={"width": 1.5},
                marker={"color": DOMAIN_COLOURS[k + 1], "symbol": SYMBOLS[k], "size": 3},
            )
        )  # fmt: skip
    figure.update_xaxes(title="scanner")
    figure.update_yaxes(title=f"{quality} per slice (higher is better)", range=[-0.03, 1.03])
    return finish(figure, alt=alt, height=420, boxmode="group")
