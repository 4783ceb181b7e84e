"""A second layout of each figure, for a page as narrow as a telephone.

The figures of the book are laid out for a page of about 800 pixels. On 350 pixels, two panels stand beside
each other, grids of slices may exchange rows and columns, a table writes the names of its rows above their
fields, and long names are broken. Nothing is left out, and the data are the same: `figures.js` changes the
layout where the figure's box is narrow, and back.
"""

import base64
import copy
import math
import re
import struct
import textwrap
from typing import Any

__all__ = ["BOX_PX", "narrow_figure"]

BOX_PX = 350  # width for which the second layout is made; it stretches from there
LETTER_PX = 6.2  # mean width of a letter of 12 pixels


def narrow_figure(figure: dict[str, Any]) -> dict[str, Any]:
    """What changes in a figure on a narrow page.

    Args:
        figure: A plotly figure as stored in a notebook's output.

    Returns:
        ``layout``: the parts of the layout that are replaced; ``trace``: attributes of every trace;
        ``captions``: captions of a slider's steps, broken into lines (empty without a slider).
    """
    kept = {k: v for k, v in figure.get("layout", {}).items() if k not in ("template", "meta", "width")}
    layout = copy.deepcopy(kept)
    steps = [step for slider in layout.pop("sliders", []) for step in slider["steps"]]
    layout = {"height": 450, "margin": {}, "legend": {}} | layout | {"dragmode": False}
    data, panels, notes = figure.get("data", []), _panels(figure), layout.get("annotations", [])
    kinds = {trace.get("type", "scatter") for trace in data}
    for key in {key for panel in panels for key in panel}:
        layout.setdefault(key, {})
    found: dict[str, Any] = {"layout": layout, "trace": {}, "captions": []}
    if "heatmap" in kinds and all(isinstance(data[0].get(axis), list) for axis in "xy"):
        found["trace"] = _table(layout, data[0])
    elif steps and "image" in kinds and all("title.text" in step["args"][1] for step in steps):
        found["captions"] = _slider(layout, data, steps)
    elif "image" in kinds and not steps:
        found["trace"] = _grid(layout, data)
    elif len(panels) > 1 or any(_is_title(note, layout, panel) for note in notes for panel in panels):
        _facets(layout, data, panels)
    else:
        _single(layout, data)
    for key, axis in layout.items():
        if re.fullmatch(r"[xy]axis\d*", key):
            axis["fixedrange"] = True  # a finger on a figure scrolls the page
    return found


def _panels(figure: dict[str, Any]) -> list[tuple[str, str]]:
    """Layout keys of the axes of each panel that holds a trace, in the order of reading."""
    layout, found = figure.get("layout", {}), {}
    for trace in figure.get("data", []):
        x, y = (trace.get(f"{axis}axis", axis) for axis in "xy")
        found[f"xaxis{x[1:]}", f"yaxis{y[1:]}"] = True
    return sorted(found, key=lambda keys: (-_domain(layout, keys[1])[0], _domain(layout, keys[0])[0]))


def _domain(layout: dict[str, Any], key: str) -> list[float]:
    return layout.get(key, {}).get("domain", [0.0, 1.0])


def _broken(text: object, width: float) -> str:
    plain = re.sub(r"\s*<br>\s*", " ", str(text))
    return "<br>".join(textwrap.wrap(plain, max(int(width), 6), break_long_words=False))


def _n_lines(texts: list[str]) -> int:
    return max((text.count("<br>") + 1 for text in texts if text), default=0)


def _legend_lines(data: list[dict[str, Any]], width: float) -> int:
    """Lines of a legend whose entries stand beside each other."""
    names = [t["name"] for t in data if t.get("name") and t.get("showlegend", True)]
    lines, used = (1 if names else 0), 0.0
    for name in dict.fromkeys(names):
        need = 45 + LETTER_PX * len(name)
        if used and used + need > width:
            lines, used = lines + 1, 0.0
        used += need
    return lines


def _categories(layout: dict[str, Any], data: list[dict[str, Any]], axis: str) -> list[str]:
    """Names on the axes "x" or "y" of a figure; none where they are numbers."""
    keys = [key for key in layout if re.fullmatch(rf"{axis}axis\d*", key)]
    named = [layout[key] for key in keys if layout[key].get("categoryarray")]
    if named:
        return [str(name) for name in named[0]["categoryarray"]]
    if not any(layout[key].get("type") == "category" for key in keys):
        return []
    values = [value for trace in data for value in _listed(trace.get(axis)) if isinstance(value, str)]
    return list(dict.fromkeys(values))


def _listed(values: Any) -> list[Any]:
    """Values as stored, where they are a list and no coded array."""
    return values if isinstance(values, list) else []


def _single(layout: dict[str, Any], data: list[dict[str, Any]]) -> None:
    """One panel: titles of axes in lines, long names turned, more room for the legend."""
    for key, width in (("xaxis", 40), ("yaxis", 38)):
        title = layout.get(key, {}).get("title", {})
        if title.get("text"):
            title["text"] = _broken(title["text"], width)
    axis = layout.get("xaxis", {})
    texts = axis.get("ticktext") or []
    needed = sum(max(map(len, text.split("<br>"))) + 1 for text in texts) * LETTER_PX
    if needed > BOX_PX - 80:
        axis |= {"ticktext": [_broken(text, 22) for text in texts], "tickangle": -90}
        layout["height"] += 80
    if axis.get("type") == "log" and len(axis.get("tickvals") or []) > 6:
        axis["tickvals"] = axis["tickvals"][::2]
    lines = _legend_lines(data, BOX_PX - 70)
    layout["height"] += 20 * max(lines - 2, 0)


def _facets(layout: dict[str, Any], data: list[dict[str, Any]], panels: list[tuple[str, str]]) -> None:
    """Panels beside and below each other: two in each row."""
    notes = layout.get("annotations", [])
    titles = {panel: note for panel in panels for note in notes if _is_title(note, layout, panel)}
    names = _categories(layout, data, "y")
    texts = [_broken(name, 20) for name in names]
    left = 14 + round(5.3 * max(len(line) for text in texts for line in text.split("<br>"))) if texts else 60
    n_columns = min(len(panels), 2)
    width = (BOX_PX - left - 10) / n_columns
    for note in titles.values():
        note["text"] = _broken(note["text"], width / LETTER_PX)
    inner = layout["height"] - sum(layout["margin"].get(side, 40) for side in "tb")
    tall = inner * min(b - a for a, b in (_domain(layout, y) for _, y in panels))
    turned = [name for name in _categories(layout, data, "x") if len(name) * len(titles) > 6]
    below = 26 + round(5.6 * max(map(len, turned))) if turned else 22
    shared = any("matches" in layout[x] for x, _ in panels)
    n_rows = math.ceil(len(panels) / n_columns)
    if names:
        tall = max(tall, (12 * _n_lines(texts) + 6) * len(names))
    elif n_columns > 1:
        tall = min(tall, 190 if n_rows < 5 else 140)
    gap = 15 * _n_lines([note["text"] for note in titles.values()]) + 8 + (0 if shared else below)
    common = [note for note in notes if not any(note is title for title in titles.values())]
    for note in common:
        note["text"] = _broken(note["text"], 44)
        if note.get("textangle") != -90:
            middle = (BOX_PX / 2 - left) / (BOX_PX - left - 10)
            note |= {"x": middle, "xanchor": "center", "yanchor": "top", "yshift": -below}
    bottom = below + 12 + 15 * _n_lines([n["text"] for n in common if n.get("textangle") != -90])
    lines = _legend_lines(data, BOX_PX - left - 10)
    above = 15 * _n_lines([note["text"] for note in titles.values()]) + 8
    top = above + 20 * lines + (12 if lines else 4)
    plot = n_rows * tall + (n_rows - 1) * gap
    layout |= {"height": round(plot + top + bottom)}
    layout["margin"] = {"l": left, "r": 10, "t": top, "b": bottom}
    layout["legend"] |= {"y": 1 + (above + 4) / plot}
    for key, axis in layout.items():
        if re.fullmatch(r"[xy]axis\d*", key) and not any(key in panel for panel in panels):
            axis["visible"] = False
    half = 7 / (BOX_PX - left - 10)  # half of the space between two columns
    columns = [[0, 0.5 - half], [0.5 + half, 1]] if n_columns == 2 else [[0, 1]]
    free = not any("matches" in layout[y] for _, y in panels)
    for k, (x, y) in enumerate(panels):
        row, column = divmod(k, n_columns)
        high = 1 - row * (tall + gap) / plot
        layout[x]["domain"], layout[y]["domain"] = columns[column], [max(high - tall / plot, 0), high]
        lowest = k + n_columns >= len(panels)
        layout[x] |= {"showticklabels": lowest or not shared, "nticks": 4, "tickangle": -90 if turned else 0}
        layout[y] |= {"showticklabels": column == 0 or free, "automargin": False}
        if names:
            layout[y] |= {"tickvals": names, "ticktext": texts, "tickfont": {"size": 10}}
        if (x, y) in titles:
            titles[x, y] |= {"x": sum(columns[column]) / 2, "y": high}


def _is_title(note: dict[str, Any], layout: dict[str, Any], panel: tuple[str, str]) -> bool:
    (x0, x1), (_, y1) = (_domain(layout, key) for key in panel)
    placed = abs(note.get("x", -1) - (x0 + x1) / 2) < 1e-6 and abs(note.get("y", -1) - y1) < 1e-6
    return placed and note.get("yanchor") == "bottom"


def _grid(layout: dict[str, Any], data: list[dict[str, Any]]) -> dict[str, Any]:
    """Slices in rows and columns, which are exchanged where that makes the slices larger."""
    pictures = [trace for trace in data if trace.get("type") == "image"]
    cells = [(f"xaxis{t.get('xaxis', 'x')[1:]}", f"yaxis{t.get('yaxis', 'y')[1:]}") for t in pictures]
    across = sorted({tuple(_domain(layout, x)) for x, _ in cells})
    down = sorted({tuple(_domain(layout, y)) for _, y in cells}, reverse=True)
    places = [
        (down.index(tuple(_domain(layout, y))), across.index(tuple(_domain(layout, x)))) for x, y in cells
    ]
    notes = layout.get("annotations", [])
    over = {_nearest(across, note["x"]): note for note in notes if not note.get("textangle")}
    beside = {_nearest(down, note["y"]): note for note in notes if note.get("textangle")}
    n_rows, n_columns = len(down), len(across)
    if n_rows < n_columns and n_columns > 3 and n_rows < 5:
        places, over, beside = [(column, row) for row, column in places], beside, over
        n_rows, n_columns = n_columns, n_rows
    side = 30 if beside else 4
    plot = BOX_PX - 8 - side
    tile = min(plot / n_columns, 140)
    tall = tile * max(_aspect(trace) for trace in pictures)
    for note in over.values():
        note["text"] = _broken(note["text"], tile / 5.6)
    for note in beside.values():
        note["text"] = _broken(note["text"], max(tall / 5.6, 12))
    above = 13 * _n_lines([note["text"] for note in over.values()]) + 4
    scaled = next((trace["marker"] for trace in data if trace.get("marker", {}).get("showscale")), None)
    lines = _legend_lines(data, plot)
    top, bottom = above + 20 * lines + 8, 62 if scaled else 8
    height = n_rows * (tall + 3)
    layout["margin"] = {"l": side + 4, "r": 4, "t": top, "b": bottom}
    layout["height"] = round(height + top + bottom)
    layout["legend"] |= {"y": 1 + (above + 2) / height, "x": 0}
    start = (1 - n_columns * tile / plot) / 2
    rows = [
        [max(1 - (row + 1) * (tall + 3) / height + 3 / height, 0), 1 - row * (tall + 3) / height]
        for row in range(n_rows)
    ]
    columns = [[start + k * tile / plot, start + ((k + 1) * tile - 3) / plot] for k in range(n_columns)]
    for (x, y), (row, column) in zip(cells, places, strict=True):
        layout[x]["domain"], layout[y]["domain"] = columns[column], rows[row]
    for k, note in over.items():
        look = {"x": sum(columns[k]) / 2, "xanchor": "center", "y": 1, "yanchor": "bottom", "textangle": 0}
        note |= look | {"font": {"size": 10}}
    for k, note in beside.items():
        look = {"x": columns[0][0] - 3 / plot, "xanchor": "right", "y": sum(rows[k]) / 2, "yanchor": "middle"}
        note |= look | {"textangle": -90, "font": {"size": 10}}
    return {"marker": scaled | {"colorbar": _bar(scaled["colorbar"])}} if scaled else {}


def _nearest(spans: list[tuple[float, ...]], value: float) -> int:
    return min(range(len(spans)), key=lambda k: abs(sum(spans[k]) / 2 - value))


def _aspect(trace: dict[str, Any]) -> float:
    """Height of a picture by its width, from the head of its PNG."""
    head = base64.b64decode(trace["source"].partition(",")[2][:64])
    width, height = struct.unpack(">II", head[16:24])
    return height / width


def _slider(layout: dict[str, Any], data: list[dict[str, Any]], steps: list[dict[str, Any]]) -> list[str]:
    """One picture as wide as the page, its caption in lines above it, the slider close below."""
    captions = [_broken_caption(step["args"][1]["title.text"]) for step in steps]
    top = 20 * _n_lines(captions) + 20 * _legend_lines(data, BOX_PX - 20) + 24
    tall = (BOX_PX - 20) * _aspect(next(trace for trace in data if trace.get("type") == "image"))
    layout["title"] |= {"text": captions[0], "font": {"size": 12}, "y": 1 - 10 / (tall + top + 90)}
    layout["margin"] = {"l": 10, "r": 10, "t": top, "b": 90}
    layout["height"] = round(tall + top + 90)
    layout["legend"] |= {"y": 1 + 6 / tall}
    return captions


def _broken_caption(caption: str) -> str:
    return "<br>".join(_broken(line, 50) for line in caption.split("<br>"))


def _table(layout: dict[str, Any], trace: dict[str, Any]) -> dict[str, Any]:
    """Numbers in fields as wide as the page; the name of each row stands above its fields."""
    rows, columns = [str(name) for name in trace["y"]], [str(name) for name in trace["x"]]
    wide = len(columns) <= 5
    field = (BOX_PX - 20) / len(columns)
    names = [_broken(name, field / 5.4) if wide else _broken(name, 22) for name in columns]
    longest = max(len(line) for name in names for line in name.split("<br>"))
    top = 13 * _n_lines(names) + 16 if wide else round(5.4 * longest) + 16
    pitch, gap = 44, 19
    title = layout["xaxis"].get("title", {})
    if title.get("text"):
        title["text"] = _broken(title["text"], 50)
        top += 18 * _n_lines([title["text"]]) + 6
    ticks = {
        "tickvals": columns,
        "ticktext": names,
        "tickangle": 0 if wide else -90,
        "tickfont": {"size": 10},
    }
    layout["xaxis"] |= ticks | {"automargin": False}
    ends = [len(rows) - 0.5, -0.5 - 0.3]  # room for the name of the first row
    layout["yaxis"] |= {"showticklabels": False, "automargin": False, "title": {"text": ""}}
    layout["yaxis"] |= {"autorange": False, "range": ends}
    shift = {
        "xref": "paper",
        "yref": "y",
        "x": 0,
        "xanchor": "left",
        "yshift": pitch / 2 - 1,
        "showarrow": False,
    }
    label = {"font": {"size": 11}, "yanchor": "middle"} | shift
    layout["annotations"] = [label | {"y": name, "text": name} for name in rows]
    axis = layout.setdefault("coloraxis", {})
    axis["colorbar"] = _bar(axis.get("colorbar", {}))
    layout["margin"] = {"l": 10, "r": 10, "t": top, "b": 76}
    layout["height"] = round(pitch * (len(rows) + 0.3)) + top + 76
    return {"xgap": 2, "ygap": gap, "textfont": {"size": 11 if field >= 32 else 10}}


def _bar(bar: dict[str, Any]) -> dict[str, Any]:
    """A colour bar below the figure."""
    title = bar.get("title", "")
    text = title.get("text", "") if isinstance(title, dict) else title
    look = {"orientation": "h", "thickness": 10, "len": 1, "x": 0.5, "y": 0, "yanchor": "top", "ypad": 8}
    return look | {"title": {"text": _broken(text, 60), "side": "top"}}
