"""Live controls for Jupyter, and their twins that work in a page without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from segconf_lite.show.pictures import CLASS_COLOURS, draw_borders, finish, picture_source

__all__ = ["frame_slider", "live_choice", "live_scanner", "picture_slider"]


def frame_slider(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    steps: Sequence[str],
    control: str,
    class_names: Sequence[str],
    alt: str,
) -> go.Figure:
    """A slider over finished frames: prediction at the left, reference at the right.

    Args:
        images, labels, references: one (H, W) slice, prediction and reference a frame.
        captions: the title of each frame, e.g. its Dice.
        steps: the slider's label of each frame.
        control: what the slider changes, with its unit.
        class_names: background first.
        alt: text for readers who cannot see the figure.

    Raises:
        ValueError: If the sequences differ in length.
    """
    lengths = {len(x) for x in (images, labels, references, captions, steps)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"frames need equal, non-zero numbers of all parts, got lengths {sorted(lengths)}")
    pictures = [
        np.concatenate([draw_borders(i, p), draw_borders(i, r)], axis=1)
        for i, p, r in zip(images, labels, references, strict=True)
    ]
    return picture_slider(
        pictures, captions, steps=steps, control=control, class_names=class_names, height=470, alt=alt
    )


def picture_slider(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    steps: Sequence[str],
    control: str,
    class_names: Sequence[str],
    height: int,
    alt: str,
) -> go.Figure:
    """A slider over finished pictures; works in a page without a kernel.

    Args:
        pictures: (h, w, 3) uint8, one a frame.
        captions: the title of each frame; ``<br>`` breaks a line.
        steps: the slider's label of each frame.
        control: what the slider changes.
        class_names: background first; explained by a legend.
        height: of the figure in pixels.
        alt: text for readers who cannot see the figure.

    Raises:
        ValueError: If the sequences differ in length.
    """
    lengths = {len(pictures), len(captions), len(steps)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"frames need equal, non-zero numbers of all parts, got lengths {sorted(lengths)}")
    sources = [picture_source(picture) for picture in pictures]
    figure = go.Figure(go.Image(source=sources[0], hoverinfo="skip"))
    for k, name in enumerate(class_names[1:], start=1):
        marker = {"color": CLASS_COLOURS[k], "symbol": "square", "size": 11}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker))
    slider_steps = [
        {"method": "update", "label": step, "args": [{"source": [source]}, {"title.text": caption}, [0]]}
        for step, source, caption in zip(steps, sources, captions, strict=True)
    ]
    n_lines = max(caption.count("<br>") for caption in captions)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    title = {"text": captions[0], "x": 0.5, "font": {"size": 15}, "y": 0.97, "yanchor": "top"}
    finish(figure, alt=alt, height=height, title=title)
    slider = {"steps": slider_steps, "currentvalue": {"prefix": f"{control}: "}, "pad": {"t": 10}}
    room = {"x": 0.05, "len": 0.9}  # for half of the first and the last label
    figure.update_layout(margin={"t": 90 + 20 * n_lines, "b": 60}, sliders=[slider | room])
    return figure


def live_scanner(
    segment: Callable[[Mapping[str, float]], tuple[np.ndarray, np.ndarray, str]],
    sliders: Mapping[str, tuple[float, float, float, float]],
) -> Any:  # an ipywidgets box; ipywidgets is optional
    """Sliders for a scanner's settings, with the segmentation following live in Jupyter.

    Args:
        segment: from {setting: value} to a (H, W) slice, its (H, W) labels and a caption.
        sliders: {setting: (low, high, step, start)}.

    Returns:
        An ipywidgets box. It draws into one picture, so nothing piles up below it.

    Raises:
        ImportError: If ipywidgets is missing; the message names the extra.
    """
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise ImportError("live controls need ipywidgets: pip install 'segconf-lite[notebooks]'") from error
    controls = {
        name: widgets.FloatSlider(value=start, min=low, max=high, step=step, description=name,
                                  continuous_update=False, style={"description_width": "110px"})
        for name, (low, high, step, start) in sliders.items()
    }  # fmt: skip
    picture = widgets.HTML()

    def redraw(_: object = None) -> None:
        image, labels, caption = segment({name: control.value for name, control in controls.items()})
        source = picture_source(draw_borders(image, labels))
        shown = f'<img src="{source}" alt="{caption}" width="330">'
        picture.value = f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return widgets.HBox([widgets.VBox(list(controls.values())), picture])


def live_choice(
    draw: Callable[[str, int], tuple[np.ndarray, str]], choices: Mapping[str, int]
) -> Any:  # an ipywidgets box; ipywidgets is optional
    """A group and a number to choose live in Jupyter, and the picture that belongs to them.

    Args:
        draw: from group and number to a (h, w, 3) uint8 picture and its caption (may hold HTML).
        choices: group -> how many members it has.

    Returns:
        An ipywidgets box that draws into one picture.

    Raises:
        ImportError: If ipywidgets is missing; the message names the extra.
    """
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise ImportError("live controls need ipywidgets: pip install 'segconf-lite[notebooks]'") from error
    group = widgets.Dropdown(options=list(choices), description="scanner")
    number = widgets.IntSlider(
        value=0, min=0, max=choices[group.value] - 1, description="case", continuous_update=False
    )
    picture = widgets.HTML()

    def redraw(_: object = None) -> None:
        number.max = choices[group.value] - 1
        rgb, caption = draw(group.value, number.value)
        shown = f'<img src="{picture_source(rgb)}" alt="chosen case" style="max-width:100%">'
        picture.value = f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"

    for control in (group, number):
        control.observe(redraw, names="value")
    redraw()
    return widgets.VBox([widgets.HBox([group, number]), picture])
