"""Figures of predicted quality and of the adversary that tests it.

Shape letters: H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from segconf_lite.arrays import to_numpy
from segconf_lite.show.figures import DOMAIN_COLOURS, SYMBOLS, require_columns
from segconf_lite.show.fragile import draw_zone
from segconf_lite.show.pictures import described, finish

__all__ = ["draw_change", "draw_errors", "draw_signed", "drop_curves", "prediction_scatter"]


def draw_signed(values: np.ndarray, *, highest: float) -> np.ndarray:
    """(3H, 3W, 3) uint8 picture of an (H, W) map: blue below 0, white at 0, red above; full at `highest`."""
    share = np.clip(to_numpy(values) / highest, -1, 1) / 2 + 0.5
    colours = [
        [int(float(part)) for part in colour[4:-1].split(",")]
        for colour in sample_colorscale("RdBu_r", np.linspace(0, 1, 257))
    ]
    rgb = np.array(colours, np.uint8)[np.rint(256 * share).astype(int)]
    return rgb.repeat(3, axis=0).repeat(3, axis=1)


def draw_errors(image: np.ndarray, labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(3H, 3W, 3) uint8 picture of a slice with the borders of `labels`, and wrong pixels in red."""
    return draw_zone(image, labels, to_numpy(labels) != to_numpy(reference))


def draw_change(
    before: np.ndarray, after: np.ndarray, answers: tuple[np.ndarray, np.ndarray], reference: np.ndarray
) -> np.ndarray:
    """(3H, 9W, 3) uint8 picture of a slice: answer before, signed change, answer after; errors red.

    Args:
        before, after: (H, W) images; the change is drawn in full colour at 1 unit of the image.
        answers: the two (H, W) labels.
        reference: (H, W) reference labels.
    """
    sides = [draw_errors(i, a, reference) for i, a in zip((before, after), answers, strict=True)]
    change = draw_signed(to_numpy(after) - to_numpy(before), highest=1.0)
    return np.concatenate([sides[0], change, sides[1]], axis=1)


def drop_curves(history: pd.DataFrame, *, alt: str) -> go.Figure:
    """What the adversary did over a training: its size above, what came of it below.

    Args:
        history: columns step, alpha, predicted_drop, true_drop; as a quality network's ``history``.
        alt: text for readers who cannot see the figure.
    """
    require_columns(history, ["step", "alpha", "predicted_drop", "true_drop"])
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.35, 0.65])
    rows = (
        ("alpha", "size of the step α", 1, "solid"), ("predicted_drop", "fall of the prediction", 2, "solid"),
        ("true_drop", "fall of the true Dice", 2, "dash"),
    )  # fmt: skip
    for k, (column, name, row, dash) in enumerate(rows):
        look = {"color": DOMAIN_COLOURS[k], "dash": dash}
        marker = {"symbol": SYMBOLS[k], "size": 7}
        figure.add_trace(
            go.Scatter(x=history["step"], y=history[column], name=name, mode="lines+markers", line=look,
                       marker=marker, hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>"),
            row=row, col=1,
        )  # fmt: skip
    figure.update_xaxes(title="optimiser step", row=2, col=1)
    figure.update_yaxes(title="α (Dice)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="mean fall (Dice)", row=2, col=1)
    return finish(figure, alt=alt, height=440)


def prediction_scatter(table: pd.DataFrame, *, alt: str, quality: str = "Dice") -> go.Figure:
    """Predicted against true quality, a panel per method, on a diagonal that is right.

    Args:
        table: columns domain, method, predicted, quality; cases without a quality are left out.
        alt: text for readers who cannot see the figure.
        quality: name of what is predicted.
    """
    require_columns(table, ["domain", "method", "predicted", "quality"])
    table = table[table["quality"].notna()]
    methods, domains = (list(dict.fromkeys(table[name])) for name in ("method", "domain"))
    figure = make_subplots(
        1, len(methods), shared_yaxes=True, subplot_titles=methods, horizontal_spacing=0.03
    )
    for column, method in enumerate(methods, start=1):
        right = {"color": "#999999", "dash": "dot"}
        diagonal = go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", line=right, showlegend=False, hoverinfo="skip"
        )
        figure.add_trace(diagonal, row=1, col=column)
        for k, domain in enumerate(domains):
            rows = table[(table["method"] == method) & (table["domain"] == domain)]
            marker = {"color": DOMAIN_COLOURS[k % len(DOMAIN_COLOURS)], "symbol": SYMBOLS[k % len(SYMBOLS)],
                      "size": 5, "opacity": 0.6}  # fmt: skip
            figure.add_trace(
                go.Scatter(
                    x=rows["quality"], y=rows["predicted"], mode="markers", name=str(domain), marker=marker,
                    legendgroup=str(domain), showlegend=column == 1,
                    hovertemplate=f"{domain}: true %{{x:.2f}}, predicted %{{y:.2f}}<extra></extra>",
                ),
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title=f"true {quality}", range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title=f"predicted {quality}", col=1)
    finish(figure, alt=alt, height=400)
    figure.update_layout(margin={"t": 80}, legend={"y": 1.12})
    return figure.update_layout(meta=described(alt, min_width=180 * len(methods)))
