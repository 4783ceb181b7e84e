"""Slices as pictures, and the one look of all figures.

A *picture* is what is drawn of a slice: red, green and blue, (h, w, 3) uint8, with three screen pixels per
pixel of the slice, so that a border is a third of a pixel wide. Colours are Okabe and Ito's, which people
with any common form of colour blindness can tell apart (their yellow is darker where it is a line on white).
Scanners have six others of the kind, so that no scanner looks like a class. Symbols and dashes tell the same
groups apart on a grey printer.

Shape letters: H rows, W columns of a slice.
"""

from __future__ import annotations

import colorsys
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.express as px
import plotly.graph_objects as go
import plotly.io
from plotly.subplots import make_subplots

from segconf_lite import check, parameters

COLOURS = ("#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B3A700")
SYMBOLS = ("circle", "square", "diamond", "x", "triangle-up", "star", "cross", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SCANNER_COLOURS = dict(
    zip("ABCDEF", ("#000000", "#0072B2", "#993300", "#D55E00", "#9977FF", "#663366"), strict=True)
)
CLASS_COLOURS = ("#000000", "#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442")  # background first
_TEMPLATE = go.layout.Template(plotly.io.templates["plotly_white"])
_TEMPLATE.layout.update(colorway=COLOURS[1:], margin={"l": 10, "r": 10, "t": 40, "b": 10})
_TEMPLATE.layout.update(hoverlabel_align="left", xaxis_tickangle=0, xaxis_hoverformat=".4~g")
_TEMPLATE.layout.update(yaxis_hoverformat=".4~g", legend_orientation="h", legend_yanchor="bottom")
_TEMPLATE.layout.update(legend_x=0, legend_y=1.06)
# Methods that keep their look through the whole book. A line has one name per colour, in the order of
# COLOURS, so that the methods that are compared in one figure differ in colour where that is possible.
_METHODS = (
    "entropy, foreground|entropy, image|distance|distortion, Dice|ensemble: agreement|dropout: agreement|"
    "Beta|small prediction",
    "plain, as it is|adversary|plain|dropout: entropy|noise|dropout, 2 answers: agreement|ensemble: entropy",
    "|entropy, boundary|test-time: entropy|last layer, boundary|distortion|code distance|ensemble entropy",
    "test-time: agreement, strict|probability, foreground|soft Dice|Beta, plain|decoder, boundary|"
    "weight noise, boundary",
    "plain, not augmented||||ensemble: agreement, strict|dropout: agreement, strict",
)
_BASELINES = {"best possible order": "solid", "no order at all": "dot"}  # in grey
_ZOOM = 3


def looks(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, symbol and dash of each group of a figure.

    Scanners A to F and the methods of the book have the same look in every figure. Other groups get the looks
    that are left, in their order, and first those in a colour that nobody has.

    Args:
        names: Names of the groups, each once or more often.

    Example:
        >>> looks(["D", "another scanner"])
        {'D': ('#D55E00', 'x', 'dashdot'), 'another scanner': ('#000000', 'circle', 'solid')}
    """
    known = {name: 8 * row + k for row, line in enumerate(_METHODS) for k, name in enumerate(line.split("|"))}
    known |= {scanner: k for k, scanner in enumerate("ABCDEF")}
    names = dict.fromkeys(names)
    found = {name: known[plain] for name in names if (plain := name.removeprefix("scanner ")) in known}
    colours = [k for k in range(8) if k not in {other % 8 for other in found.values()}]
    free = itertools.chain(
        colours, (k for k in itertools.count() if k not in colours and k not in found.values())
    )
    look = {}
    for name in names:
        if name in _BASELINES:
            look[name] = ("#999999", "circle", _BASELINES[name])
        else:
            k = found[name] if name in found else next(free)
            colour = SCANNER_COLOURS.get(name.removeprefix("scanner "), COLOURS[k % 8])
            look[name] = (colour, SYMBOLS[(k + k // 8) % 8], DASHES[k % 6])
    return look


def class_colour(label: int) -> str:
    """Colour of a class, for any number of classes.

    Args:
        label: Label of the class, 0 for the background. From 6 on, hues go round by the golden ratio, in two
            levels of saturation and three of brightness, which keeps the first twenty well apart.

    Example:
        >>> class_colour(1), class_colour(6)
        ('#56B4E9', '#ff33ad')
    """
    label = check.integer("label", label, low=0)
    if label < len(CLASS_COLOURS):
        return CLASS_COLOURS[label]
    extra = (label - len(CLASS_COLOURS)) % 1000
    hue, saturation, value = 0.9 + 0.618034 * extra, (0.8, 0.45)[extra % 2], (1.0, 0.45, 0.7)[extra % 3]
    rgb = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def listed(name: str, values: Iterable[Any], *, length: int | None = None, empty: bool = False) -> list[Any]:
    """The parts of a figure as a list: an array along its first axis, or any other ordered sequence.

    Args:
        name: Name of the argument, for the message.
        values: The parts; no text, set or mapping.
        length: Expected number; None takes any but 0.
        empty: Whether no part at all is allowed, too.

    Raises:
        ValueError: If there is no order, nothing, or another number.

    Example:
        >>> listed("captions", ("first", "second"), length=2)
        ['first', 'second']
    """
    unordered = isinstance(values, str | bytes | set | frozenset | Mapping) or getattr(values, "ndim", 1) == 0
    if unordered or not isinstance(values, Iterable):
        raise check.refuse(name, "a list", type(values).__name__)
    parts = list(values)
    fits = bool(parts) if length is None else len(parts) == length
    if not fits and (parts or not empty):
        raise check.refuse(name, f"a list of {length or 'one or more'}", f"{len(parts)} entries")
    return parts


def title_text(name: str, value: object) -> str:
    """A title that must be text, and not empty.

    Args:
        name: Name of the argument, for the message.
        value: The title.

    Raises:
        ValueError: If it is no text, empty, or holds a character that no page can show.

    Example:
        >>> title_text("quality", "Dice")
        'Dice'
    """
    check.instance(name, value, str)
    return str(check.names(name, [value])[0])


def break_lines(name: object, width: int = 14) -> str:
    """A long name on several lines, for titles and ticks that stand side by side.

    Args:
        name: The name; what is no text is written as text.
        width: Characters per line; longer words stay whole.

    Example:
        >>> break_lines("entropy, foreground")
        'entropy,<br>foreground'
    """
    return "<br>".join(textwrap.wrap(str(name), width, break_long_words=False))


def described(alt: str, *, min_width: int | None = None) -> dict[str, Any]:
    """A figure's `meta`: its text alternative, which says so where the settings are not those of the book.

    Args:
        alt: What the figure shows, for readers who cannot see it.
        min_width: Pixels below which the figure scrolls in its own box on the page, rather than shrink.

    Raises:
        ValueError: If `alt` is no text, or empty.

    Example:
        >>> described("Dice falls with noise.", min_width=400)
        {'alt': 'Dice falls with noise.', 'min_width': 400}
    """
    if not isinstance(alt, str) or not alt.strip():
        raise check.refuse("alt", "a text", repr(alt), "say in words what the figure shows")
    width = {} if min_width is None else {"min_width": min_width}
    return {"alt": f"{parameters.alt_note()}{alt}", **width}


def finish(figure: go.Figure, *, alt: str, height: int, min_width: int | None = None) -> go.Figure:
    """The look that every figure shares (white, wide, legend on top), and its text alternative.

    Args:
        figure: The figure, which is changed.
        alt: What the figure shows, for readers who cannot see it.
        height: Height in pixels.
        min_width: Pixels below which the figure scrolls in its own box on the page.

    Example:
        >>> finish(go.Figure(), alt="Nothing.", height=300).layout.meta
        {'alt': 'Nothing.'}
    """
    meta = described(alt, min_width=min_width)
    return figure.update_layout(template=_TEMPLATE, height=height, meta=meta, legend_title_text="")


def slice_values(name: str, values: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """One finite (H, W) slice or map in float32 or wider; integers and booleans become float64.

    Of several channels, one has to be chosen.

    Args:
        name: Name of the argument, for the message.
        values: Numpy or torch.
        shape: Expected (H, W); None takes any.

    Raises:
        ValueError: If the shape is another, or a value is not finite.

    Example:
        >>> slice_values("image", np.ones((2, 2), np.float16)).dtype
        dtype('float32')
    """
    fix = f"choose a channel, e.g. {name}[0]" if getattr(values, "ndim", 2) == 3 else ""
    axes = "H W" if shape is None else "{} {}".format(*shape)
    found = check.finite(name, check.array(name, values, axes, fix=fix))
    return found.astype(np.result_type(found, np.float32) if found.dtype.kind == "f" else np.float64)


def draw_borders(
    image: np.ndarray, labels: np.ndarray | None = None, *, n_classes: int | None = None
) -> np.ndarray:
    """Picture of a slice, (3H, 3W, 3) uint8, with the border of each class in its colour.

    Args:
        image: (H, W) finite intensities on any scale; black is their 0.5 and white their 99.5 percentile. Or
            (3, H, W), which is drawn as red, green and blue, all on one scale, so that colours stay true.
        labels: (H, W) labels, integers >= 0, or None for the slice alone.
        n_classes: Number of classes, background included; None takes any label.

    Raises:
        ValueError: If shapes differ, an intensity is not finite, or a label is none of the classes.

    Example:
        >>> labels = np.zeros((8, 8), int)
        >>> labels[2:6, 2:6] = 1
        >>> picture = draw_borders(np.zeros((8, 8)), labels)
        >>> picture.shape, int(picture.any(axis=2).sum())
        ((24, 24, 3), 44)
    """
    is_colour = getattr(image, "ndim", 2) == 3 and len(image) == 3
    image = np.stack([slice_values("image", part) for part in (image if is_colour else [image])], axis=2)
    image = np.ldexp(image, -np.frexp(abs(image).max())[1])  # exact; huge and tiny intensities stay finite
    low, high = np.percentile(image, [0.5, 99.5])
    shade = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    rgb = (255 * shade).astype(np.uint8).repeat(1 if is_colour else 3, axis=2)
    rgb = rgb.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    if labels is None:
        return rgb
    labels = check.label_map("labels", labels, n_classes=n_classes, shape=image.shape[:2])
    fine = labels.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    inner = np.pad(fine, 1, mode="edge")
    neighbours = (inner[:-2, 1:-1], inner[2:, 1:-1], inner[1:-1, :-2], inner[1:-1, 2:])
    edge = (fine > 0) & np.any([fine != other for other in neighbours], axis=0)
    for label in np.unique(fine[edge]).tolist():
        rgb[edge & (fine == label)] = np.frombuffer(bytes.fromhex(class_colour(label)[1:]), np.uint8)
    return rgb


def picture_source(rgb: np.ndarray) -> str:
    """A picture as the data address of a PNG, which is far smaller in a page than its numbers.

    Args:
        rgb: (h, w, 3) uint8.

    Raises:
        ValueError: If it is another array.

    Example:
        >>> picture_source(np.zeros((3, 3, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    rgb = check.array("picture", rgb, "h w 3")
    if rgb.dtype != np.uint8:
        raise check.refuse("picture", "uint8", rgb.dtype, "draw it with draw_borders or draw_map")
    return px.imshow(rgb, binary_string=True, binary_compression_level=9).data[0].source


def add_class_legend(figure: go.Figure, class_names: Sequence[str]) -> None:
    """A legend that explains the colours of borders, added to `figure`.

    Args:
        figure: The figure, which is changed.
        class_names: Names of all classes, background first; the background is not listed.

    Example:
        >>> figure = go.Figure()
        >>> add_class_legend(figure, ["background", "heart"])
        >>> figure.data[0].name, figure.data[0].marker.color
        ('heart', '#56B4E9')
    """
    names = check.names("class_names", class_names, unique=True).tolist()
    for label, name in enumerate(names[1:], start=1):
        marker = {"color": class_colour(label), "symbol": "square", "size": 11}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker))


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
    """Rows and columns of slices, with borders where there are labels.

    Args:
        images: Rows of slices, (H, W) or (3, H, W) as in `draw_borders`, or of pictures (h, w, 3) uint8 that
            are shown as they are.
        labels: Rows of (H, W) labels or None, as many as images; None draws no borders.
        column_titles: One title per column, or none at all.
        row_titles: One title per row, at its left, or none at all.
        class_names: Names of all classes, background first; a legend explains the border colours.
        alt: What the figure shows, for readers who cannot see it.
        tile_px: Height of a row in pixels; None takes what fits six columns on a page of the book.

    Raises:
        ValueError: If rows, titles or labels do not fit the images, or a label has no name.

    Example:
        >>> image, labels = np.eye(4), np.eye(4, dtype=int)
        >>> figure = picture_grid([[image]], [[labels]], class_names=["background", "line"], alt="A line.")
        >>> [trace.name for trace in figure.data], figure.layout.height
        ([None, 'line'], 730)
    """
    rows = [listed("each row of images", row) for row in listed("images", images)]
    n_rows, n_columns = len(rows), len(rows[0])
    drawn = [[None] * n_columns] * n_rows if labels is None else listed("labels", labels, length=n_rows)
    above = [break_lines(t) for t in listed("column_titles", column_titles, length=n_columns, empty=True)]
    beside = [str(t) for t in listed("row_titles", row_titles, length=n_rows, empty=True)]
    titles = {"column_titles": above or None, "row_titles": beside or None}
    figure = make_subplots(n_rows, n_columns, **titles, horizontal_spacing=0.006, vertical_spacing=0.01)
    n_classes = len(check.names("class_names", class_names)) or None
    for i, (row, line) in enumerate(zip(rows, drawn, strict=True), start=1):
        line = listed("each row of labels", line, length=n_columns)
        for k, image in enumerate(listed("each row of images", row, length=n_columns), start=1):
            is_picture = getattr(image, "ndim", 2) == 3 and image.shape[2] == 3
            picture = image if is_picture else draw_borders(image, line[k - 1], n_classes=n_classes)
            figure.add_trace(go.Image(source=picture_source(picture), hoverinfo="skip"), row=i, col=k)
    add_class_legend(figure, class_names)
    figure.update_xaxes(visible=False).update_yaxes(visible=False).update_annotations(font_size=12)
    figure.update_annotations({"x": 0, "xanchor": "right", "textangle": -90}, selector={"textangle": 90})
    n_lines = max((title.count("<br>") + 1 for title in above), default=0)
    tile_px = round(690 / n_columns) if tile_px is None else check.integer("tile_px", tile_px, low=1)
    height, top = tile_px * n_rows, 30 + 18 * n_lines
    finish(figure, alt=alt, height=height + top + 10, min_width=95 * n_columns)
    margin = {"t": top, "l": 30 if beside else 10}
    return figure.update_layout(margin=margin, legend_y=1 + (18 * n_lines + 4) / height)
