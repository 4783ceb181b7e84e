"""Live controls for Jupyter, and their twins that work in a page without a kernel."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from segconf_lite import check
from segconf_lite.show.pictures import add_class_legend, finish, listed, picture_source

if TYPE_CHECKING:
    import ipywidgets


def picture_slider(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    steps: Sequence[str],
    control: str,
    class_names: Sequence[str],
    height: int,
    alt: str,
    start: int = 0,
) -> go.Figure:
    """A slider over pictures, which works in a page without a kernel.

    Args:
        pictures: One (h, w, 3) uint8 picture per frame.
        captions: The title of each frame; ``<br>`` breaks a line.
        steps: The slider's label of each frame.
        control: What the slider changes, with its unit.
        class_names: Names of all classes, background first; a legend explains the border colours.
        height: Height of the figure in pixels.
        alt: What the figure shows, for readers who cannot see it.
        start: Number of the frame that is shown first, from 0.

    Raises:
        ValueError: If the parts differ in number, a picture is no (h, w, 3) uint8 array, or there is no such
            frame.

    Example:
        >>> frames = [np.zeros((3, 3, 3), np.uint8)] * 2
        >>> names = {"steps": ["1", "2"], "control": "case", "class_names": ["background", "heart"]}
        >>> figure = picture_slider(frames, ["first", "second"], **names, height=300, alt="Nothing.")
        >>> [step.args[1]["title.text"] for step in figure.layout.sliders[0].steps]
        ['first', 'second']
    """
    sources = [picture_source(picture) for picture in listed("pictures", pictures)]
    captions = [str(caption) for caption in listed("captions", captions, length=len(sources))]
    steps = [str(step) for step in listed("steps", steps, length=len(sources))]
    start = check.integer("start", start, low=0, high=len(sources) - 1)
    figure = go.Figure(go.Image(source=sources[start], hoverinfo="skip"))
    add_class_legend(figure, class_names)
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    finish(figure, alt=alt, height=check.integer("height", height, low=1))
    slider_steps = [
        {"method": "update", "label": step, "args": [{"source": [source]}, {"title.text": caption}, [0]]}
        for step, source, caption in zip(steps, sources, captions, strict=True)
    ]
    value = {"prefix": f"{control}: "}
    space = {"x": 0.05, "len": 0.9, "pad": {"t": 10}}  # for half of the first and of the last label
    slider = {"steps": slider_steps, "active": start, "currentvalue": value, **space}
    n_lines = max(caption.count("<br>") for caption in captions)
    title = {"text": captions[start], "x": 0.5, "font": {"size": 15}, "y": 0.97, "yanchor": "top"}
    return figure.update_layout(margin={"t": 90 + 20 * n_lines, "b": 60}, title=title, sliders=[slider])


def live_picture(
    draw: Callable[[dict[str, Any]], tuple[np.ndarray, str]],
    controls: Mapping[str, Sequence[str] | tuple[float, float, float, float]],
) -> ipywidgets.HBox:
    """Controls in Jupyter, and a picture that follows them.

    Args:
        draw: Function from {control: value} to a (h, w, 3) uint8 picture and its caption. The caption is
            text, no HTML, except that ``<br>`` breaks a line.
        controls: For each control either a list of names, one of which is chosen, or a slider as a tuple: its
            lowest value, highest value, step and start; integers make a slider of integers.

    Returns:
        A box of the controls and of one picture that is drawn anew, so that nothing piles up below it.

    Raises:
        ImportError: If ipywidgets is missing; the message names the extra.
        ValueError: If a slider does not have lowest <= start <= highest and a step > 0, or a picture is none.

    Example:
        >>> picture = np.zeros((3, 3, 3), np.uint8)
        >>> box = live_picture(lambda v: (picture, f"noise {v['noise']}"), {"noise": (0, 1, 0.1, 0.2)})
        >>> "noise 0.2" in box.children[1].value
        True
    """
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError("live controls need ipywidgets: pip install 'segconf-lite[notebooks]'") from error
    if not callable(draw):
        raise check.refuse("draw", "a function", repr(draw))
    if not isinstance(controls, Mapping) or not controls:
        raise check.refuse("controls", "a mapping from names to choices or sliders", repr(controls))
    made = {name: _control(name, parts) for name, parts in controls.items()}
    picture = ipywidgets.HTML()

    def redraw(_: object = None) -> None:
        rgb, caption = draw({name: control.value for name, control in made.items()})
        words = html.escape(str(caption)).replace("&lt;br&gt;", "<br>")
        look = "max-width: 100%; min-width: 330px"
        image = f'<img src="{picture_source(rgb)}" alt="{words.replace("<br>", " ")}" style="{look}">'
        picture.value = f"<figure>{image}<figcaption>{words}</figcaption></figure>"

    for control in made.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.HBox([ipywidgets.VBox(list(made.values())), picture])


def _control(name: str, parts: Sequence[str] | tuple[float, float, float, float]) -> ipywidgets.Widget:
    import ipywidgets

    look: dict = {"description": str(name), "style": {"description_width": "110px"}}
    argument = f"controls[{name!r}]"
    if isinstance(parts, list):
        return ipywidgets.Dropdown(options=check.names(argument, parts, unique=True).tolist(), **look)
    numbers = check.finite(argument, check.array(argument, parts, "4"))
    low, high, step, start = numbers.tolist()
    if not (low <= start <= high and step > 0):
        raise check.refuse(argument, "(lowest value, highest value, step > 0, start)", parts)
    kind = ipywidgets.FloatSlider if numbers.dtype.kind == "f" else ipywidgets.IntSlider
    return kind(value=start, min=low, max=high, step=step, continuous_update=False, **look)
