"""Figures of tidy tables: one row is one point, and columns tell groups and panels apart.

Groups are text or integers. Rows whose group is missing are drawn under the name "no name", so that no row
vanishes silently. NaN stands for an undefined value and is not drawn; infinity is refused, except on a
logarithmic axis, where it is not drawn either. A vertical axis whose values all lie in [0, 1] shows this
range; any other fits its values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from segconf_lite import check
from segconf_lite.evaluation import mean_interval, risk_coverage
from segconf_lite.show.pictures import break_lines, finish, looks, title_text

FLOOR = 1e-6  # a logarithmic axis has no 0: smaller values and those below 0 are drawn here
_GREY = {"color": "#999999", "width": 1, "dash": "dot"}
_UNIT = (-0.03, 1.03)  # symbols at 0 and 1 are whole
_LOGS = ("", "x", "y", "xy")
_PATTERNS = ("", "/", "x", ".", "\\", "-", "+", "|")


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
    log: str = "",
    diagonal: str | None = None,
    hover: str | None = None,
) -> go.Figure:
    """A line for each value of one column, in a panel for each value of another.

    Symbols mark the points of lines that have at most 20.

    Args:
        table: One row per point. Columns ``low`` and ``high``, where there are any, become error bars.
        x: Column of the horizontal axis; text gives named positions in order of appearance.
        y: Column of the vertical axis; NaN leaves a gap.
        line: Column that tells lines apart, by colour, symbol and dash.
        panel: Column that tells panels apart; None draws one.
        axes: Names of both axes, with units and direction.
        alt: What the figure shows, for readers who cannot see it.
        columns: Largest number of panels beside each other.
        log: The logarithmic axes, "", "x", "y" or "xy", with `FLOOR` at their lower end.
        diagonal: Name of a line on which x and y are equal; both axes then have one range. None draws none.
        hover: Column whose value is shown, too, when a reader points at a point.

    Raises:
        ValueError: If the table is empty, or a column is missing or holds something else.

    Example:
        >>> table = pd.DataFrame({"noise": [0, 1, 0, 1], "dice": [0.9, 0.5, 0.8, 0.7]})
        >>> table["network"] = list("uuvv")
        >>> axes = ("noise (standard deviations)", "Dice (higher is better)")
        >>> figure = line_panels(table, x="noise", y="dice", line="network", axes=axes, alt="u falls more.")
        >>> [(trace.name, trace.y.tolist()) for trace in figure.data]
        [('u', [0.9, 0.5]), ('v', [0.8, 0.7])]
    """
    check.names("axes", axes, length=2)
    is_number = pd.api.types.is_numeric_dtype(check.columns(table, check.names("x", [x]))[x])
    groups, numbers = {"by": title_text("line", line), "panel": panel, "hover": hover}, {"y": y}
    (numbers if is_number else groups)["x"] = x
    tidy = _tidy(table, groups, numbers, check.one_of("log", log, _LOGS), bars="y")
    columns = check.integer("columns", columns, low=1)
    few = tidy.groupby([key for key in ("by", "panel") if key in tidy]).size().max() <= 20
    figure = px.line(tidy, **_options(tidy, "symbol", "line_dash", columns=columns))
    figure.update_traces(marker_size=7, mode="lines+markers" if few else "lines").update_xaxes(
        type=None if is_number else "category"
    )
    return _with_scales(_with_axes(figure, tidy, axes, alt, columns), tidy, log, diagonal)


def scatter(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    panel: str | None = None,
    axes: tuple[str, str],
    alt: str,
    log: str = "",
    diagonal: str | None = None,
) -> go.Figure:
    """Points of two columns; large ones where each group has a single point.

    Args:
        table: One row per point. Columns ``low`` and ``high``, where there are any, become error bars of `y`.
        x: Column of the horizontal axis; points with NaN are not drawn.
        y: Column of the vertical axis; points with NaN are not drawn.
        by: Column that tells groups apart, by colour and symbol.
        panel: Column that tells panels beside each other apart; None draws one.
        axes: Names of both axes, with units and direction.
        alt: What the figure shows, for readers who cannot see it.
        log: The logarithmic axes, "", "x", "y" or "xy", with `FLOOR` at their lower end.
        diagonal: Name of a line on which x and y are equal; both axes then have one range. None draws none.

    Raises:
        ValueError: If the table is empty, or a column is missing or holds something else.

    Example:
        >>> table = pd.DataFrame({"scanner": list("AD"), "distance": [0.1, 2], "dice": [0.95, 0.6]})
        >>> axes = ("distance from scanner A", "mean Dice (higher is better)")
        >>> figure = scatter(table, x="distance", y="dice", by="scanner", axes=axes, alt="D is far.")
        >>> [(trace.name, trace.x.tolist(), trace.y.tolist()) for trace in figure.data]
        [('A', [0.1], [0.95]), ('D', [2.0], [0.6])]
    """
    check.names("axes", axes, length=2)
    check.one_of("log", log, _LOGS)
    tidy = _tidy(table, {"by": by, "panel": panel}, {"x": x, "y": y}, log, bars="y")
    few = tidy["by"].value_counts().max() == 1
    figure = px.scatter(tidy, **_options(tidy, "symbol"))
    figure.update_traces(marker={"size": 13, "opacity": 1} if few else {"size": 6, "opacity": 0.6})
    return _with_scales(_with_axes(figure, tidy, axes, alt), tidy, log, diagonal)


def boxes(table: pd.DataFrame, *, y: str, by: str, axis: str, alt: str) -> go.Figure:
    """A box from the first to the third quartile, per scanner and group.

    With at most 12 rows per box each row is drawn, too; with more only the outliers, and the mean as a line.

    Args:
        table: Columns domain (the scanner), `y` and `by`; one row per case or per repeat.
        y: Column of the vertical axis; NaN is left out.
        by: Column that tells boxes beside each other apart, by colour and symbol.
        axis: Name of the vertical axis, with its direction.
        alt: What the figure shows, for readers who cannot see it.

    Raises:
        ValueError: If the table is empty, or a column is missing or holds something else.

    Example:
        >>> table = pd.DataFrame({"domain": list("AADD"), "dice": [0.9, 0.8, 0.5, 0.6], "network": "U-Net"})
        >>> figure = boxes(table, y="dice", by="network", axis="Dice (higher is better)", alt="D is low.")
        >>> figure.data[0].name, figure.data[0].y.tolist()
        ('U-Net', [0.9, 0.8, 0.5, 0.6])
    """
    tidy = _tidy(table, {"x": "domain", "by": by}, {"y": y})
    few = tidy.groupby(["x", "by"]).size().max() <= 12
    figure = px.box(tidy, **_options(tidy), points="all" if few else "outliers")
    figure.update_traces(marker_size=6 if few else 3, boxmean=not few, pointpos=0, jitter=0.2, line_width=1)
    for name, (_, symbol, _) in looks(tidy["by"]).items():
        figure.update_traces(marker_symbol=symbol, selector={"name": name})
    if tidy["y"].min() < 0:
        figure.add_hline(y=0, line=_GREY)
    return _with_axes(figure, tidy, ("scanner", axis), alt).update_xaxes(type="category")


def detection_bars(
    table: pd.DataFrame, *, alt: str, axis: str = "fraction of slices flagged", pass_rate: float = 0.95
) -> go.Figure:
    """Fraction of cases that each method flags, per scanner (Lennartz and Schultz 2023, figure 4, left).

    Args:
        table: Columns domain (the scanner), method, and flagged in [0, 1]. Several rows per bar (repeats) are
            averaged, and a line runs from their lowest to their highest value, unless both are equal.
        alt: What the figure shows, for readers who cannot see it.
        axis: Name of the vertical axis.
        pass_rate: Fraction of in-distribution cases that the threshold was set to pass; the dotted line is at
            1 − `pass_rate`.

    Raises:
        ValueError: If the table is empty, or a column is missing or holds something else.

    Example:
        >>> table = pd.DataFrame({"domain": list("ADD"), "method": "entropy", "flagged": [0.05, 0.5, 0.75]})
        >>> detection_bars(table, alt="D is flagged.").data[0].y.tolist()
        [0.05, 0.625]
    """
    tidy = _tidy(table, {"x": "domain", "by": "method"}, {"y": "flagged"})
    bars = tidy.groupby(["x", "by"], sort=False)["y"].agg(["mean", "min", "max"]).reset_index()
    bars = bars.assign(y=bars["mean"], up=bars["max"] - bars["mean"], down=bars["mean"] - bars["min"])
    bars.loc[bars["min"] == bars["max"], ["up", "down"]] = np.nan  # no cap on a bar of one repeat
    patterns = {name: _PATTERNS[k % 8] for k, name in enumerate(dict.fromkeys(bars["by"]))}
    figure = px.bar(bars, **_options(bars), barmode="group", pattern_shape="by", pattern_shape_map=patterns)
    figure.update_traces(error_y_color="#777777")
    figure.add_hline(y=1 - check.between("pass_rate", pass_rate), line=_GREY)
    _with_axes(figure, bars, ("scanner", axis), alt).update_xaxes(type="category")
    return figure.update_yaxes(tickformat=".0%", hoverformat=".0%")


def method_intervals(
    table: pd.DataFrame, *, alt: str, axis: str, by: str = "domain", zero: bool = True
) -> go.Figure:
    """A point with its interval for each method, in one panel per group.

    Args:
        table: Columns `by`, method, estimate, low and high, as of `segconf_lite.evaluation.compare_methods`.
        alt: What the figure shows, for readers who cannot see it.
        axis: Name of the horizontal axis, with its direction, for example ``"Spearman (higher is better)"``.
        by: Column that tells panels apart.
        zero: Whether a line at 0 is drawn.

    Raises:
        ValueError: If the table is empty, or a column is missing or holds something else.

    Example:
        >>> row = {"domain": "D", "method": "entropy", "estimate": 0.5, "low": 0.3, "high": 0.6}
        >>> figure = method_intervals(pd.DataFrame([row]), axis="Spearman", alt="0.5 on D.")
        >>> figure.data[0].name, figure.data[0].x.tolist()
        ('entropy', [0.5])
    """
    check.columns(table, [title_text("by", by), "low", "high"])
    check.one_of("zero", zero, (True, False))
    tidy = _tidy(table, {"by": "method", "panel": by, "y": "method"}, {"x": "estimate"}, bars="x")
    options = _options(tidy, "symbol") | {"facet_col_spacing": 0.02}
    figure = px.scatter(tidy, **options).update_traces(marker_size=9, error_x_color="#555555")
    if zero:
        figure.add_vline(x=0, line=_GREY)
    _with_axes(figure, tidy, (axis, ""), alt).update_xaxes(nticks=3).update_yaxes(type="category")
    n_lines = max(note.text.count("<br>") for note in figure.layout.annotations if note.text)
    height, min_width = 120 + 18 * n_lines + 27 * tidy["by"].nunique(), 120 + 85 * tidy["panel"].nunique()
    finish(figure, alt=alt, height=height, min_width=min_width).update_traces(showlegend=False)
    return figure.update_layout(margin={"t": 40 + 16 * n_lines, "l": 10})


def quality_by_domain(table: pd.DataFrame, *, quality: str = "Dice", alt: str) -> go.Figure:
    """Every case as a dot, and the mean of each scanner with its 95 % interval over subjects as a diamond.

    Args:
        table: Columns domain (the scanner), subject, and quality in [0, 1], higher is better. Cases with NaN
            are left out; a scanner with a single subject has no interval.
        quality: Name of the quality, for the vertical axis.
        alt: What the figure shows, for readers who cannot see it.

    Raises:
        ValueError: If the table is empty, or a column is missing or holds something else.

    Example:
        >>> table = pd.DataFrame({"domain": list("AADD"), "subject": list("abcd")})
        >>> table["quality"] = [0.9, 0.8, 0.5, 0.5]
        >>> figure = quality_by_domain(table, alt="D is poorer than A.")
        >>> [trace.y.round(2).tolist() for trace in figure.data if trace.marker.symbol == "diamond"]
        [[0.85], [0.5]]
    """
    tidy = _tidy(table, {"by": "domain", "hover": "subject"}, {"y": "quality"})
    subjects = check.names("subject", table["subject"])  # none missing: an interval is over people
    random, means = np.random.default_rng(0), []
    for k, (domain, rows) in enumerate(tidy.groupby("by", sort=False)):
        tidy.loc[rows.index, "x"] = k + random.uniform(-0.3, 0.3, len(rows))
        if rows["y"].notna().any():
            mean = mean_interval(rows["y"], subjects[rows.index])
            up, down = mean.high - mean.estimate, mean.estimate - mean.low
            means.append({"by": domain, "x": k, "y": mean.estimate, "up": up, "down": down, "hover": "mean"})
    figure = px.scatter(tidy, **_options(tidy)).update_traces(marker={"size": 4, "opacity": 0.35})
    if means:
        outlined = {"size": 13, "symbol": "diamond", "line": {"color": "white", "width": 1}}
        bar = {"color": "#222222", "width": 8, "thickness": 2.5}
        diamonds = px.scatter(pd.DataFrame(means), **_options(pd.DataFrame(means)))
        figure.add_traces(diamonds.update_traces(marker=outlined, error_y=bar).data)
    names = [break_lines(name) for name in dict.fromkeys(tidy["by"])]
    axis = f"{title_text('quality', quality)} per slice (higher is better)"
    _with_axes(figure, tidy, ("scanner", axis), alt).update_traces(showlegend=False)
    return figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names)


def risk_coverage_curves(
    cases: pd.DataFrame, methods: Sequence[str], *, alt: str, risk_name: str = "1 − Dice"
) -> go.Figure:
    """Mean risk of the cases that are kept against their fraction, in one panel per scanner.

    The best possible order and no order at all are drawn in grey.

    Args:
        cases: Columns domain (the scanner), risk, and one of uncertainty per method. Cases without a risk
            (NaN) are left out.
        methods: The columns of uncertainty.
        alt: What the figure shows, for readers who cannot see it.
        risk_name: Name of the risk, for the vertical axis.

    Raises:
        ValueError: If the table is empty, a column is missing or holds something else, or a scanner has no
            case with a risk.

    Example:
        >>> cases = pd.DataFrame({"domain": "A", "risk": [0.1, 0.3], "entropy": [0.2, 0.8]})
        >>> figure = risk_coverage_curves(cases, ["entropy"], alt="The entropy ranks as well as possible.")
        >>> [(trace.name, trace.y.round(2).tolist()) for trace in figure.data]
        [('best possible order', [0.1, 0.2]), ('no order at all', [0.2, 0.2]), ('entropy', [0.1, 0.2])]
    """
    numbers = {"risk": "risk"} | {f"of {name}": name for name in check.names("methods", methods, unique=True)}
    check.columns(cases, ["domain", *map(str, numbers.values())], "cases")
    tidy = _tidy(cases, {"domain": "domain"}, numbers)
    tidy.insert(2, "of no order at all", 0.0)
    tidy.insert(2, "of best possible order", tidy["risk"])
    curves = []
    for domain, part in tidy.groupby("domain", sort=False):
        kept = part[part["risk"].notna()]
        if kept.empty:
            raise check.refuse("risk", "defined for a case of every scanner", f"only NaN for {domain!r}")
        for column in tidy.columns[2:]:
            curve = risk_coverage(kept["risk"], kept[column])
            curves.append(curve.assign(scanner=domain, order=column.removeprefix("of ")))
    vertical = f"mean risk of those kept ({title_text('risk_name', risk_name)})"
    names = ("fraction of cases kept, the most trusted first", vertical)
    table = pd.concat(curves)
    return line_panels(
        table, x="coverage", y="selective_risk", line="order", panel="scanner", columns=3, axes=names, alt=alt
    )


def reliability_diagram(tables: Mapping[str, pd.DataFrame], *, alt: str) -> go.Figure:
    """Accuracy of the pixels in each bin of confidence; on the diagonal both are equal.

    Args:
        tables: For each name a table as `segconf_lite.evaluation.reliability_table` returns.
        alt: What the figure shows, for readers who cannot see it.

    Raises:
        ValueError: If there is no table, or a table is empty or lacks a column.

    Example:
        >>> bins = pd.DataFrame({"confidence": [0.6, 0.9], "accuracy": [0.5, 0.9], "share": [0.25, 0.75]})
        >>> figure = reliability_diagram({"scanner A": bins}, alt="Nearly calibrated.")
        >>> [(trace.name, [float(y) for y in trace.y]) for trace in figure.data]
        [('scanner A', [0.5, 0.9]), ('calibrated', [0.0, 1.0])]
    """
    if not isinstance(tables, Mapping) or not tables:
        raise check.refuse("tables", "a mapping from names to tables", repr(tables))
    wanted = ["confidence", "accuracy", "share"]
    parts = [
        check.columns(each, wanted, f"tables[{name!r}]").assign(name=name) for name, each in tables.items()
    ]
    bins = pd.concat(parts)
    fractions = check.array("share", bins["share"], "n_bins")
    bins["size"] = [f"{fraction:.2%} of all pixels" for fraction in fractions]
    axes = ("mean maximum softmax probability of the bin", "fraction of its pixels that are right")
    return line_panels(
        bins,
        x="confidence",
        y="accuracy",
        line="name",
        hover="size",
        diagonal="calibrated",
        axes=axes,
        alt=alt,
    )


def _tidy(
    table: pd.DataFrame, groups: dict[str, str | None], numbers: dict[str, str], log: str = "", bars: str = ""
) -> pd.DataFrame:
    """Columns of a table under fixed names: groups as text, numbers as float64, error bars up and down."""
    given = (each for each in groups.items() if each[1] is not None or each[0] not in ("panel", "hover"))
    names = {new: title_text(new, old) for new, old in given}
    check.columns(table, [*names.values(), *(title_text(new, old) for new, old in numbers.items())])
    tidy = pd.DataFrame(index=range(len(table)))
    for new, old in names.items():
        there = table[old].notna().to_numpy()
        tidy[new] = "no name"
        tidy.loc[there, new] = check.names(old, table.loc[there, old])
    for new, old in numbers.items():
        values = check.array(old, table[old], "n_rows", dtype=np.float64)
        if new in log:
            values = np.clip(np.where(np.isinf(values), np.nan, values), FLOOR, None)
        tidy[new] = check.finite(old, values, missing=True)
    if bars and {"low", "high"} <= set(table.columns):
        limits = _tidy(table, {}, {"low": "low", "high": "high"})
        tidy["up"], tidy["down"] = limits["high"] - tidy[bars], tidy[bars] - limits["low"]
    return tidy


def _options(tidy: pd.DataFrame, *marks: str, columns: int = 0) -> dict[str, object]:
    """What plotly express is told of a tidy table: axes, groups and their looks, panels, error bars."""
    look = looks(tidy["by"])
    text = [key for key in ("by", "panel", "x", "y") if key in tidy and tidy[key].dtype.kind != "f"]
    options: dict[str, object] = {"x": "x", "y": "y", "color": "by"}
    options["color_discrete_map"] = {name: colour for name, (colour, _, _) in look.items()}
    options["category_orders"] = {key: list(tidy[key].unique()) for key in text}
    for k, mark in enumerate(("symbol", "line_dash"), start=1):
        if mark in marks:
            options |= {mark: "by", f"{mark}_map": {name: each[k] for name, each in look.items()}}
    if "panel" in tidy:
        options |= {"facet_col": "panel", "facet_col_wrap": columns, "facet_col_spacing": 0.03}
    if "up" in tidy:
        axis = "x" if "y" in text else "y"
        options |= {f"error_{axis}": "up", f"error_{axis}_minus": "down"}
    return options | ({"hover_name": "hover"} if "hover" in tidy else {})


def _log_axis(values: pd.Series) -> dict[str, object]:
    """A logarithmic axis: ticks at 1, 2 and 5 if it is short, at powers of ten if it is long."""
    if values.isna().all():
        return {"type": "log", "range": None}
    low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"type": "log", "exponentformat": "power", "range": None, "tickvals": ticks}


def _with_scales(figure: go.Figure, tidy: pd.DataFrame, log: str, diagonal: str | None) -> go.Figure:
    """Logarithmic axes; a line of equal values in every panel, and then one range for both axes."""
    if "x" in log:
        figure.update_xaxes(_log_axis(tidy["x"]))
    if "y" in log:
        figure.update_yaxes(_log_axis(tidy["y"]))
    if diagonal is None:
        return figure
    if log in ("x", "y"):
        raise check.refuse("log", "'' or 'xy' where there is a diagonal", repr(log))
    values = pd.concat([tidy["x"], tidy["y"]])
    ends = [min(0.0, values.min()), max(1.0, values.max())]
    span = [ends[0] - 0.03, ends[1] + 0.03]
    if log:
        ends = [values.min(), values.max()]
        span = [math.log10(ends[0]) - 0.3, math.log10(ends[1]) + 0.3]
    for k in range(tidy["panel"].nunique() if "panel" in tidy else 1):
        line = go.Scatter(x=ends, y=ends, name=diagonal, mode="lines", line=_GREY, hoverinfo="skip")
        figure.add_trace(line.update(legendgroup=diagonal, showlegend=k == 0), row=1, col=k + 1)
    if "panel" not in tidy:  # where both axes are as long, the line rises by 45 degrees
        figure.update_yaxes(scaleanchor="x", constrain="domain").update_xaxes(constrain="domain")
    return figure.update_xaxes(range=span).update_yaxes(range=span)


def _with_axes(
    figure: go.Figure, tidy: pd.DataFrame, axes: Sequence[str], alt: str, columns: int = 0
) -> go.Figure:
    """Names of the axes (one for all panels), titles of panels, and the legend above them."""
    axes = [title if isinstance(title, str) and not title else title_text("axis", title) for title in axes]
    more = "%{hovertext}<br>" if "hover" in tidy else ""
    figure.update_traces(hovertemplate=f"%{{fullData.name}}<br>{more}%{{x}}: %{{y}}<extra></extra>")
    if tidy["y"].dtype.kind == "f" and (tidy["y"].isna() | tidy["y"].between(0, 1)).all():
        figure.update_yaxes(range=_UNIT)
    if "panel" not in tidy:
        figure.update_xaxes(title=axes[0]).update_yaxes(title=axes[1])
        min_width = None if tidy["x"].dtype.kind == "f" else 100 * tidy["x"].nunique()
        return finish(figure, alt=alt, height=430, min_width=min_width)
    n_panels, n_lines = tidy["panel"].nunique(), math.ceil(tidy["by"].nunique() / 4)
    n_columns = min(columns or n_panels, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    height, top = (270 if n_rows == 1 else 190) * n_rows + 110 + 20 * n_lines, 50 + 20 * n_lines
    for note in figure.layout.annotations:
        note.update(text=break_lines((note.text or "").removeprefix("panel="), 20), font_size=12)
    figure.update_xaxes(title="").update_yaxes(title="")
    if n_panels % n_columns:  # panels above an empty place
        figure.update_xaxes(showticklabels=True)
    common = {"xref": "paper", "yref": "paper", "showarrow": False}
    figure.add_annotation(text=axes[0], x=0.5, y=0, yshift=-48, **common)
    figure.add_annotation(text=axes[1], x=0, y=0.5, xshift=-52, textangle=-90, **common)
    finish(figure, alt=alt, height=height, min_width=90 + 165 * n_columns)
    return figure.update_layout(margin={"t": top, "b": 62, "l": 62}, legend_y=1 + 30 / (height - top - 62))
