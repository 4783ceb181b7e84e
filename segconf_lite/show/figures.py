"""Figures of tables: each takes a tidy DataFrame, one row a case, and names every axis.

Colours and symbols both tell groups apart, so the figures survive a grey printer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from segconf_lite.evaluation.bootstrap import mean_interval
from segconf_lite.show.pictures import break_lines, finish

__all__ = [
    "DOMAIN_COLOURS", "SYMBOLS", "confidence_scatter", "distance_scatter", "learning_curve",
    "quality_by_domain", "quality_heatmap", "require_columns",
]  # fmt: skip

DOMAIN_COLOURS = ("#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
SYMBOLS = ("circle", "square", "diamond", "x", "triangle-up", "star", "cross", "triangle-down")


def require_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table without rows or without one of the columns."""
    missing = [name for name in names if name not in table.columns]
    if missing or table.empty:
        raise ValueError(f"the table needs rows and the columns {list(names)}; missing {missing}")


def learning_curve(history: pd.DataFrame, *, alt: str) -> go.Figure:
    """Training and validation loss over steps (columns step, train_loss, validation_loss)."""
    require_columns(history, ["step", "train_loss", "validation_loss"])
    figure = go.Figure()
    for column, name, dash in (("train_loss", "training", "dot"), ("validation_loss", "held-out", "solid")):
        figure.add_trace(
            go.Scatter(x=history["step"], y=history[column], name=name, line={"dash": dash}, mode="lines")
        )
    figure.update_xaxes(title="optimiser step")
    figure.update_yaxes(
        title="loss (1 − Dice + cross-entropy)", type="log", tickvals=[0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    )
    return finish(figure, alt=alt, height=320)


def quality_by_domain(table: pd.DataFrame, *, quality: str = "Dice", alt: str) -> go.Figure:
    """Every case as a dot, and the mean per domain with its interval over subjects.

    Args:
        table: columns domain, subject, quality (in [0, 1], higher is better; NaN left out).
        quality: name of the axis.
        alt: text for readers who cannot see the figure.
    """
    require_columns(table, ["domain", "subject", "quality"])
    figure = go.Figure()
    wobble = np.random.default_rng(0)
    for k, (domain, rows) in enumerate(table.groupby("domain", sort=False)):
        colour = DOMAIN_COLOURS[k % len(DOMAIN_COLOURS)]
        mean = mean_interval(rows["quality"], rows["subject"])
        figure.add_trace(
            go.Scatter(
                x=k + wobble.uniform(-0.3, 0.3, len(rows)), y=rows["quality"], mode="markers",
                marker={"color": colour, "size": 4, "opacity": 0.35}, showlegend=False,
                text=rows["subject"],
                hovertemplate=f"{domain}<br>%{{text}}<br>{quality} %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[k], y=[mean.estimate], mode="markers", showlegend=False,
                marker={"color": colour, "size": 13, "symbol": "diamond",
                        "line": {"color": "white", "width": 1}},
                error_y=_error_bar(mean.low, mean.estimate, mean.high),
                hovertemplate=f"{domain}: mean {quality} {mean.estimate:.3f} "
                f"({mean.low:.3f} to {mean.high:.3f})<extra></extra>",
            )
        )  # fmt: skip
    names = list(dict.fromkeys(table["domain"]))
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=[break_lines(n) for n in names], title="scanner"
    )
    figure.update_yaxes(title=f"{quality} per slice (higher is better)", range=[-0.03, 1.03])
    return finish(figure, alt=alt, height=400)


def _error_bar(low: float, estimate: float, high: float) -> dict | None:
    if not np.isfinite([low, high]).all():
        return None  # one subject: no interval to draw
    return {"type": "data", "symmetric": False, "array": [high - estimate], "arrayminus": [estimate - low],
            "width": 8, "thickness": 2.5, "color": "#222222"}  # fmt: skip


def confidence_scatter(table: pd.DataFrame, *, alt: str) -> go.Figure:
    """Mean probability of the predicted foreground against the true quality, case by case.

    Args:
        table: columns domain, confidence, quality, both in [0, 1].
        alt: text for readers who cannot see the figure.
    """
    require_columns(table, ["domain", "confidence", "quality"])
    figure = go.Figure()
    for k, (domain, rows) in enumerate(table.groupby("domain", sort=False)):
        look = k % len(SYMBOLS)
        marker = {"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 6, "opacity": 0.6}
        figure.add_trace(
            go.Scatter(
                x=rows["confidence"], y=rows["quality"], mode="markers", name=str(domain), marker=marker,
                hovertemplate=f"{domain}<br>probability %{{x:.3f}}<br>Dice %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="mean probability of the predicted foreground")
    figure.update_yaxes(title="Dice per slice (higher is better)", range=[-0.03, 1.03])
    return finish(figure, alt=alt, height=420)


def distance_scatter(table: pd.DataFrame, *, alt: str) -> go.Figure:
    """One point a domain: how foreign its pictures look against how well they are segmented.

    Args:
        table: columns domain, distance (>= 0, in source standard deviations), quality, low, high.
        alt: text for readers who cannot see the figure.
    """
    require_columns(table, ["domain", "distance", "quality", "low", "high"])
    figure = go.Figure()
    for k, row in enumerate(table.itertuples()):
        look = k % len(SYMBOLS)
        figure.add_trace(
            go.Scatter(
                x=[row.distance], y=[row.quality], mode="markers+text", text=[f"  {row.domain}"],
                textposition="middle right", showlegend=False, textfont={"size": 15},
                marker={"color": DOMAIN_COLOURS[look], "symbol": SYMBOLS[look], "size": 13},
                error_y=_error_bar(row.low, row.quality, row.high),
                hovertemplate=f"{row.domain}: distance %{{x:.2f}}, mean Dice %{{y:.3f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(
        title="distance from the source (standard deviations)", range=[0, 1.15 * table["distance"].max()]
    )
    figure.update_yaxes(title="mean Dice (higher is better)", range=[0, 1.03])
    return finish(figure, alt=alt, height=400)


def quality_heatmap(table: pd.DataFrame, *, alt: str) -> go.Figure:
    """Mean quality for every pair of row and column, written in each field.

    Args:
        table: rows = causes, columns = scanners, values in [0, 1], higher is better.
        alt: text for readers who cannot see the figure.
    """
    if table.empty:
        raise ValueError("the table needs at least one row and one column")
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(), x=[str(c) for c in table.columns], y=[str(r) for r in table.index],
            zmin=0, zmax=1, colorscale="Cividis", texttemplate="%{z:.2f}", colorbar={"title": "Dice"},
            hovertemplate="%{y} of %{x}: Dice %{z:.3f}<extra></extra>", xgap=2, ygap=2,
        )
    )  # fmt: skip
    figure.update_xaxes(title="taken from scanner", side="top", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return finish(figure, alt=alt, height=80 + 48 * len(table))
