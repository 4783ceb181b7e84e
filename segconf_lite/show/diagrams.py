"""Diagrams of the book's methods, drawn by code: boxes on a grid of three columns, and arrows between them.

Lines and texts take the colour of the page, so that they can be read on a dark one as well, and three columns
fit a telephone.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

from segconf_lite import check

if TYPE_CHECKING:
    from IPython.display import HTML

_WIDTH, _HEIGHT, _STEP_X, _STEP_Y = 126, 54, 154, 88  # of a box, and from box to box, pixels
_FILLS = {"data": "none", "network": "#0072b2", "result": "#e69f00"}


_TIP = (
    '<defs><marker id="segconf-tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
)


class Arrow(NamedTuple):
    """An arrow from one box to another; `dashed` for what happens only during training or fitting.

    Example:
        >>> Arrow("image", "network").dashed
        False
    """

    start: str
    end: str
    label: str = ""
    dashed: bool = False


class Diagram(NamedTuple):
    """Boxes on a grid, arrows, and a sentence for readers who cannot see them.

    Attributes:
        boxes: Text -> (column, row, kind); columns 0 to 2, rows from the top, halves are allowed; a kind is
            ``"data"``, ``"network"`` or ``"result"``.
        arrows: From box to box, by text.
        alt: What the diagram shows.

    Example:
        >>> sorted(DIAGRAMS["conformal"].boxes)[:2]
        ['bound of the new case', 'calibration cases']
    """

    boxes: dict[str, tuple[float, float, str]]
    arrows: tuple[Arrow, ...]
    alt: str


DIAGRAMS: dict[str, Diagram] = {
    "unet": Diagram(
        {
            "image": (0, 0, "data"),
            "encoder.0": (0, 1, "network"),
            "encoder.1": (0, 2, "network"),
            "encoder.2": (0, 3, "network"),
            "bottleneck": (1, 4, "network"),
            "decoder.0": (2, 3, "network"),
            "decoder.1": (2, 2, "network"),
            "penultimate": (2, 1, "network"),
            "head: one score per class": (2, 0, "result"),
        },
        (
            Arrow("image", "encoder.0"),
            Arrow("encoder.0", "encoder.1", "half the size"),
            Arrow("encoder.1", "encoder.2"),
            Arrow("encoder.2", "bottleneck"),
            Arrow("bottleneck", "decoder.0"),
            Arrow("decoder.0", "decoder.1", "twice the size"),
            Arrow("decoder.1", "penultimate"),
            Arrow("penultimate", "head: one score per class"),
            Arrow("encoder.0", "penultimate", "skip connection"),
            Arrow("encoder.1", "decoder.1", "skip connection"),
            Arrow("encoder.2", "decoder.0", "skip connection"),
        ),
        "The U-Net in the shape of a U. The encoder goes down on the left, from encoder.0 to encoder.2, "
        "and halves the image at each step; the bottleneck is at the bottom; the decoder goes up on the "
        "right, over decoder.0 and decoder.1 to penultimate and the head. Skip connections lead across "
        "from left to right on each level.",
    ),
    "confidence": Diagram(
        {
            "image": (0, 0, "data"),
            "network": (1, 0, "network"),
            "probability of each class, per pixel": (2, 0, "data"),
            "segmentation: the most probable class": (0, 1, "result"),
            "uncertainty per pixel": (2, 1, "data"),
            "one number per case": (2, 2, "result"),
            "cases in order": (1, 2, "result"),
            "a person looks at the first ones": (0, 2, "data"),
        },
        (
            Arrow("image", "network"),
            Arrow("network", "probability of each class, per pixel"),
            Arrow("probability of each class, per pixel", "segmentation: the most probable class"),
            Arrow("probability of each class, per pixel", "uncertainty per pixel", "e.g. entropy"),
            Arrow("uncertainty per pixel", "one number per case", "average"),
            Arrow("one number per case", "cases in order"),
            Arrow("cases in order", "a person looks at the first ones"),
        ),
        "From an image to a decision: the network gives a probability of each class per pixel. The most "
        "probable class is the segmentation; the uncertainty per pixel is averaged to one number per case,"
        " the cases are put in order, and a person looks at the most uncertain ones first.",
    ),
    "distortion": Diagram(
        {
            "image": (0, 0, "data"),
            "encoder": (1, 0, "network"),
            "activation": (2, 0, "data"),
            "autoencoder, fitted to usual activations": (2, 1, "network"),
            "usual activation": (2, 2, "data"),
            "decoder": (1, 1, "network"),
            "second segmentation": (1, 2, "data"),
            "segmentation": (0, 1, "data"),
            "distortion: how much they differ": (0, 2, "result"),
        },
        (
            Arrow("image", "encoder"),
            Arrow("encoder", "activation"),
            Arrow("activation", "decoder"),
            Arrow("activation", "autoencoder, fitted to usual activations"),
            Arrow("autoencoder, fitted to usual activations", "usual activation"),
            Arrow("decoder", "segmentation"),
            Arrow("usual activation", "second segmentation"),
            Arrow("segmentation", "distortion: how much they differ"),
            Arrow("second segmentation", "distortion: how much they differ"),
        ),
        "Segmentation distortion: the encoder turns the image into an activation. The decoder makes a "
        "segmentation of it. An autoencoder, which has seen usual activations only, turns it into a usual "
        "one, of which the same decoder makes a second segmentation. Distortion is the difference between "
        "the two.",
    ),
    "adversary": Diagram(
        {
            "image": (0, 0, "data"),
            "segmentation network, frozen": (1, 0, "network"),
            "predictor": (2, 0, "network"),
            "predicted Dice": (2, 1, "data"),
            "image, changed against the gradient": (0, 1, "data"),
            "Dice with the reference": (1, 1, "data"),
            "error, which training lowers": (1.5, 2, "result"),
        },
        (
            Arrow("image", "segmentation network, frozen"),
            Arrow("segmentation network, frozen", "predictor"),
            Arrow("predictor", "predicted Dice"),
            Arrow("image", "image, changed against the gradient", dashed=True),
            Arrow("image, changed against the gradient", "segmentation network, frozen", dashed=True),
            Arrow("segmentation network, frozen", "Dice with the reference"),
            Arrow("predicted Dice", "error, which training lowers"),
            Arrow("Dice with the reference", "error, which training lowers"),
        ),
        "Training with an adversary: the frozen segmentation network hands activations to the predictor, "
        "which predicts the Dice. The adversary changes the image by a step against the gradient of the "
        "predicted Dice; the changed image passes both networks again. Training lowers the difference "
        "between predicted and true Dice on both.",
    ),
    "flip cost": Diagram(
        {
            "training cases": (0, 0, "data"),
            "trained network": (1, 0, "network"),
            "label of this pixel: heart": (2, 0, "data"),
            "other weights": (1, 1, "network"),
            "label of this pixel: background": (2, 1, "data"),
            "rise of the training loss": (0, 1, "data"),
            "flip cost: the least rise that flips the label": (0, 2, "result"),
        },
        (
            Arrow("training cases", "trained network", dashed=True),
            Arrow("trained network", "label of this pixel: heart"),
            Arrow("trained network", "other weights", "search", dashed=True),
            Arrow("other weights", "label of this pixel: background"),
            Arrow("other weights", "rise of the training loss"),
            Arrow("rise of the training loss", "flip cost: the least rise that flips the label"),
        ),
        "The flip cost of a pixel: among all weights with which the network would give this pixel another "
        "label, take those with which the loss on the training cases rises least. That rise is the flip "
        "cost.",
    ),
    "conformal": Diagram(
        {
            "calibration cases": (0, 0, "data"),
            "estimated and true Dice": (1, 0, "data"),
            "excesses, in order": (2, 0, "data"),
            "the one that 90 % do not exceed": (2, 1, "result"),
            "new case": (0, 2, "data"),
            "estimated Dice": (1, 2, "data"),
            "bound of the new case": (2, 2, "result"),
        },
        (
            Arrow("calibration cases", "estimated and true Dice"),
            Arrow("estimated and true Dice", "excesses, in order"),
            Arrow("excesses, in order", "the one that 90 % do not exceed"),
            Arrow("new case", "estimated Dice"),
            Arrow("estimated Dice", "bound of the new case"),
            Arrow("the one that 90 % do not exceed", "bound of the new case", "subtracted"),
        ),
        "A conformal bound: on calibration cases, the excess is the estimated Dice minus the true Dice. The "
        "excess that 90 % of these cases do not exceed is subtracted from the estimated Dice of a new case; "
        "the result is its bound.",
    ),
}


def diagram(name: str) -> HTML:
    """One of the book's diagrams, as a picture (SVG) for a notebook or a page.

    Blue boxes are networks, orange ones results; dashed arrows happen during training or fitting only.

    Args:
        name: A key of `DIAGRAMS`.

    Raises:
        ValueError: If there is no such diagram.

    Example:
        >>> diagram("unet").data.count("<rect")
        9
    """
    from IPython.display import HTML

    drawn = DIAGRAMS[check.one_of("name", name, DIAGRAMS)]
    width = (max(column for column, _, _ in drawn.boxes.values()) + 1) * _STEP_X
    height = (max(row for _, row, _ in drawn.boxes.values()) + 1) * _STEP_Y
    parts = [_arrow(drawn, arrow) for arrow in drawn.arrows]
    parts += [_box(text, *place) for text, place in drawn.boxes.items()]
    shape = (
        f'viewBox="0 0 {width:g} {height:g}" style="max-width: 100%; width: {1.3 * width:g}px; height: auto"'
    )
    look = 'font-family="sans-serif" font-size="12" fill="currentColor" text-anchor="middle"'
    head = f'<svg role="img" aria-label="{html.escape(drawn.alt)}" {shape} {look}>{_TIP}'
    return HTML(f"{head}{''.join(parts)}</svg>")


def _centre(column: float, row: float) -> tuple[float, float]:
    return (column + 0.5) * _STEP_X, (row + 0.5) * _STEP_Y


def _box(text: str, column: float, row: float, kind: str) -> str:
    x, y = _centre(column, row)
    lines = _wrapped(text)
    written = [
        f'<text x="{x:g}" y="{y + 14 * (k - (len(lines) - 1) / 2) + 4:g}">{html.escape(line)}</text>'
        for k, line in enumerate(lines)
    ]
    rect = f'x="{x - _WIDTH / 2:g}" y="{y - _HEIGHT / 2:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"'
    fill = f'fill="{_FILLS[kind]}" fill-opacity="0.22" stroke="currentColor"'
    return f"<rect {rect} {fill}/>{''.join(written)}"


def _wrapped(text: str, longest: int = 16) -> list[str]:
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= longest else [*lines, word]
    return [line for line in lines if line]


def _arrow(drawn: Diagram, arrow: Arrow) -> str:
    """From border to border, along the line between the centres."""
    (x0, y0), (x1, y1) = (_centre(*drawn.boxes[name][:2]) for name in (arrow.start, arrow.end))
    reach = max(abs(x1 - x0) / (_WIDTH / 2 + 3), abs(y1 - y0) / (_HEIGHT / 2 + 3))
    dx, dy = (x1 - x0) / reach, (y1 - y0) / reach
    dash = ' stroke-dasharray="5 4"' if arrow.dashed else ""
    ends = f'x1="{x0 + dx:g}" y1="{y0 + dy:g}" x2="{x1 - dx:g}" y2="{y1 - dy:g}"'
    line = f'<line {ends} stroke="currentColor"{dash} marker-end="url(#segconf-tip)"/>'
    if not arrow.label:
        return line
    upright = x0 == x1
    x, y = (x0 + x1) / 2 + 5 * upright, (y0 + y1) / 2 + (4 if upright else -6)
    place = f'x="{x:g}" y="{y:g}" font-size="10" text-anchor="{"start" if upright else "middle"}"'
    return f"{line}<text {place}>{arrow.label}</text>"
