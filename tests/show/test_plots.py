"""Figures of tables name their axes, carry a text alternative, and draw every row that they were given."""

import numpy as np
import pandas as pd
import pytest

from segconf_lite import show
from segconf_lite.evaluation import compare_methods, reliability_table, risk_coverage
from segconf_lite.show import plots

AXES = ("x (unit)", "y (higher is better)")
CASES = pd.DataFrame(
    {
        "domain": ["A"] * 4 + ["B"] * 4,
        "subject": list("aabbccdd"),
        "quality": np.linspace(0, 0.7, 8),
        "confidence": 0.9,
    }
)


@pytest.fixture
def cases():
    risk = np.random.default_rng(0).random(24)
    table = pd.DataFrame({"domain": np.repeat(["A", "B"], 12), "subject": np.arange(24) // 3, "risk": risk})
    return table.assign(good=risk, bad=-risk)


@pytest.fixture
def falls():
    rows = [
        {"level": s, "dice": 1 - 0.1 * s * k, "network": f"net {k}", "set": name, "low": 0.0, "high": 1.0}
        for name in ("one", "two", "three")
        for k in (1, 2)
        for s in range(4)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def repeats():
    rng = np.random.default_rng(0)
    rows = [(d, m, seed) for d in "ABC" for m in ("one", "two") for seed in range(3)]
    frame = pd.DataFrame(rows, columns=["domain", "method", "seed"])
    return frame.assign(estimate=rng.uniform(-1, 1, len(frame)), flagged=rng.random(len(frame)))


def lines(table, **more):
    return show.line_panels(table, x="level", y="dice", line="network", axes=AXES, alt="a", **more)


def points(table, **more):
    return show.scatter(table, **{"x": "x", "y": "y", "by": "domain", "axes": AXES, "alt": "a"} | more)


@pytest.mark.parametrize(
    "figure",
    [
        show.quality_by_domain(CASES, alt="a"),
        points(CASES, x="confidence", y="quality"),
        points(CASES.iloc[[0, 4]].assign(low=0.0, high=1.0), x="confidence", y="quality"),
        show.boxes(CASES, y="quality", by="subject", axis="y", alt="a"),
        show.line_panels(CASES, x="confidence", y="quality", line="domain", axes=AXES, alt="a", log="y"),
        show.detection_bars(CASES.assign(method="m", flagged=0.5), alt="a"),
        show.reliability_diagram({"a": CASES.assign(accuracy=0.5, share=0.125)}, alt="a"),
    ],
)
def test_every_figure_has_axis_titles_and_alternative_text(figure):
    assert figure.layout.meta["alt"]
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text


def test_panels_have_a_line_each_and_the_legend_names_each_once(falls):
    figure = lines(falls, panel="set", columns=2)
    assert len(figure.data) == 6
    assert [trace.showlegend for trace in figure.data].count(True) == 2
    assert {tuple(np.round(t.y, 9)) for t in figure.data if t.name == "net 2"} == {(1, 0.8, 0.6, 0.4)}
    assert figure.data[0].error_y.array is not None
    assert len({(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in figure.data}) == 2
    texts = [note.text for note in figure.layout.annotations]
    assert {"one", "two", "three", *AXES} <= set(texts)
    assert figure.layout.meta["alt"] == "a"


def test_one_panel_has_its_axes_named_and_no_bars_without_limits(falls):
    figure = lines(falls[falls["set"] == "one"].drop(columns=["low", "high"]))
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == AXES
    assert figure.data[0].error_y.array is None


def test_symbols_mark_the_points_of_short_lines_only():
    for n_points, mode in ((20, "lines+markers"), (21, "lines")):
        table = pd.DataFrame({"level": range(n_points), "dice": 0.5, "network": "n"})
        assert lines(table).data[0].mode == mode


def test_a_line_that_a_panel_lacks_is_left_out(falls):
    figure = lines(falls[(falls["set"] != "one") | (falls["network"] == "net 1")], panel="set")
    assert len(figure.data) == 5
    assert {trace.name for trace in figure.data if trace.showlegend} == {"net 1", "net 2"}


def test_text_positions_keep_their_order_even_if_they_look_like_numbers(falls):
    figure = lines(falls.assign(level=falls["level"].map({0: "10", 1: "2", 2: "30", 3: "4"})))
    assert figure.layout.xaxis.type == "category"
    assert list(figure.layout.xaxis.categoryarray) == ["10", "2", "30", "4"]


def test_the_axis_shows_the_unit_interval_or_grows_with_its_values(falls):
    assert tuple(lines(falls).layout.yaxis.range) == (-0.03, 1.03)
    assert lines(falls.assign(dice=95.0)).layout.yaxis.range is None


def test_a_logarithmic_axis_has_a_floor_and_leaves_out_infinity():
    table = pd.DataFrame({"level": [1, 2, 3], "dice": [np.inf, 0.1, -0.2], "network": "head"})
    figure = lines(table, log="y")
    assert np.isnan(figure.data[0].y[0])
    assert figure.data[0].y[2] == plots.FLOOR
    assert figure.layout.yaxis.type == "log"
    with pytest.raises(ValueError, match="dice must be finite, got infinity in 1 cases"):
        lines(table)
    ticks = lines(
        pd.DataFrame({"level": [1, 2], "dice": [0.04, 1.9], "network": "n"}), log="y"
    ).layout.yaxis.tickvals
    assert {0.05, 0.1, 0.2, 0.5, 1, 2} <= set(np.round(ticks, 12))


def test_points_on_a_diagonal_share_one_range():
    table = pd.DataFrame({"domain": ["A", "D", "D"], "x": [1e-3, 1e-2, np.inf], "y": [2e-3, 1e-2, 1.0]})
    figure = points(table, log="xy", diagonal="equal")
    assert [trace.name for trace in figure.data] == ["A", "D", "equal"]
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert (figure.layout.yaxis.scaleanchor, figure.layout.yaxis.constrain) == ("x", "domain")
    with pytest.raises(ValueError, match="log must be '' or 'xy' where there is a diagonal, got 'x'"):
        points(table, log="x", diagonal="equal")
    with pytest.raises(ValueError, match="log must be one of"):
        points(table, log="z")


def test_panels_of_points_show_every_case_and_name_each_group_once():
    rows = [(d, m, 0.5, q) for d in "AB" for m in ("x", "y") for q in (0.4, np.nan)]
    table = pd.DataFrame(rows, columns=["domain", "method", "y", "x"])
    figure = points(table, panel="method", diagonal="exact")
    assert sum(np.isfinite(trace.x).sum() for trace in figure.data if trace.mode == "markers") == 4
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(shown) == ["A", "B", "exact"]


def test_groups_differ_by_colour_and_symbol_and_single_points_are_large():
    table = pd.DataFrame({"domain": list("ABC"), "x": 1.0, "y": [1.0, 2, 3]})
    figure = points(table)
    assert [trace.name for trace in figure.data] == ["A", "B", "C"]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    assert figure.data[0].marker.size > points(pd.concat([table] * 2)).data[0].marker.size


def test_boxes_hold_every_repeat_of_a_method(repeats):
    figure = show.boxes(repeats, y="estimate", by="method", axis="Spearman (higher is better)", alt="boxes")
    assert [trace.name for trace in figure.data] == ["one", "two"]
    assert list(figure.data[0].y) == list(repeats.loc[repeats["method"] == "one", "estimate"])
    assert figure.layout.yaxis.title.text == "Spearman (higher is better)"
    assert figure.data[0].boxpoints == "all"
    many = show.boxes(pd.concat([repeats] * 5), y="flagged", by="method", axis="y", alt="a")
    assert many.data[0].boxpoints == "outliers"
    assert len({trace.marker.symbol for trace in many.data}) == 2


def test_bars_are_means_with_the_range_of_the_repeats(repeats):
    figure = show.detection_bars(repeats, alt="bars")
    part = repeats[(repeats["method"] == "two") & (repeats["domain"] == "B")]["flagged"]
    bar = figure.data[1]
    assert bar.y[1] == pytest.approx(part.mean())
    assert bar.y[1] + bar.error_y.array[1] == pytest.approx(part.max())
    assert bar.y[1] - bar.error_y.arrayminus[1] == pytest.approx(part.min())
    assert len({trace.marker.pattern.shape for trace in figure.data}) == 2  # not by colour alone


def test_intervals_have_one_panel_a_group_and_one_row_a_method(cases):
    table = compare_methods(cases, ["good", "bad"], statistic="rank_correlation")
    figure = show.method_intervals(table, axis="Spearman", alt="a")
    assert len(figure.data) == 4
    first = figure.data[0]
    assert list(first.x) == [pytest.approx(1)]
    assert first.error_x.array[0] == pytest.approx(0, abs=1e-9)
    texts = [note.text for note in figure.layout.annotations]
    assert {"A", "B", "Spearman"} <= set(texts)


def test_quality_figure_shows_the_mean_of_each_domain():
    figure = show.quality_by_domain(CASES, alt="a")
    means = [t.y[0] for t in figure.data if t.marker.symbol == "diamond"]
    assert means == pytest.approx(CASES.groupby("domain")["quality"].mean().tolist())
    assert sum(len(t.y) for t in figure.data if t.marker.symbol != "diamond") == len(CASES)
    lost = show.quality_by_domain(
        CASES.assign(quality=CASES["quality"].where(CASES["domain"] == "A")), alt="a"
    )
    assert len([t for t in lost.data if t.marker.symbol == "diamond"]) == 1
    assert list(lost.layout.xaxis.ticktext) == ["A", "B"]


def test_risk_coverage_has_the_best_and_no_order_in_a_panel_per_domain(cases):
    figure = show.risk_coverage_curves(cases, ["good", "bad"], alt="what it shows")
    assert len(figure.data) == 8
    of = {(t.name, t.xaxis): np.asarray(t.y) for t in figure.data}
    first = figure.data[0].xaxis
    best, none = of["best possible order", first], of["no order at all", first]
    assert best.tolist() == of["good", first].tolist()
    assert len(set(np.round(none, 12))) == 1
    assert np.all(of["bad", first] >= best - 1e-12)
    part = cases[cases["domain"] == "A"]
    known = risk_coverage(part["risk"], part["bad"])["selective_risk"].tolist()
    assert any(known == y.tolist() for (name, _), y in of.items() if name == "bad")
    assert {"A", "B"} <= {note.text for note in figure.layout.annotations}
    assert figure.layout.meta["alt"] == "what it shows"


def test_a_domain_whose_risk_is_unknown_is_named(cases):
    lost = cases.assign(risk=cases["risk"].where(cases["domain"] == "A"))
    with pytest.raises(ValueError, match=r"risk must be defined .* got only NaN for 'B'"):
        show.risk_coverage_curves(lost, ["good"], alt="a")


def test_reliability_keeps_the_fractions(cases):
    probabilities = np.stack([np.full((4, 3, 3), 0.8), np.full((4, 3, 3), 0.2)], axis=1)
    bins = reliability_table(probabilities, np.zeros((4, 3, 3), int))
    figure = show.reliability_diagram({"net": bins}, alt="a")
    assert list(figure.data[0].y) == [1]
    assert list(figure.data[0].hovertext) == ["100.00% of all pixels"]
    for wrong in ({}, [bins]):
        with pytest.raises(ValueError, match="tables must be a mapping"):
            show.reliability_diagram(wrong, alt="a")


def test_rows_without_a_group_are_kept_and_numbers_are_names():
    sites = CASES.assign(domain=[1, 1, 1, 1, 2, 2, 2, None])
    figure = show.quality_by_domain(sites, alt="a")
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "no name"]
    assert sum(len(t.y) for t in figure.data if t.marker.symbol != "diamond") == len(sites)
    assert [t.name for t in points(sites, x="confidence", y="quality").data] == ["1", "2", "no name"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": [1] * 4 + ["1"] * 4}, "domain must be all text or all integers"),
        ({"quality": list("abcdefgh")}, "quality must be real numbers"),
        ({"quality": [np.inf] + [0.5] * 7}, "quality must be finite, got infinity in 1 cases"),
        ({"subject": [None, *"abbccdd"]}, "subject must be text or integers, none missing"),
    ],
)
def test_columns_that_hold_something_else_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        show.quality_by_domain(CASES.assign(**change), alt="a")


def test_missing_columns_empty_tables_and_missing_texts_are_named():
    calls = {
        "confidence": lambda t: points(t, x="confidence", y="quality"),
        "method": lambda t: show.method_intervals(t.assign(low=0.0, high=1.0), axis="x", alt="a"),
        "high": lambda t: show.method_intervals(t.assign(low=0.0), axis="x", alt="a"),
        "risk": lambda t: show.risk_coverage_curves(t, ["quality"], alt="a"),
        "flagged": lambda t: show.detection_bars(t.assign(method="m"), alt="a"),
        "dice": lambda t: lines(t.assign(level=1, network="n")),
        "estimate": lambda t: show.boxes(t, y="estimate", by="subject", axis="x", alt="a"),
    }
    for column, call in calls.items():
        with pytest.raises(ValueError, match=f"none called .*'{column}'"):
            call(CASES.drop(columns="confidence"))
    with pytest.raises(ValueError, match="a table with rows"):
        show.quality_by_domain(CASES.iloc[:0], alt="a")
    for alt in ("", "  ", None):
        with pytest.raises(ValueError, match=r"alt must be a text, .* say in words"):
            show.quality_by_domain(CASES, alt=alt)
    with pytest.raises(ValueError, match="axes"):
        points(CASES, x="confidence", y="quality", axes=("one",))


def test_groups_and_switches_that_are_none_are_refused(repeats):
    bounds = repeats.assign(low=-1.0, high=1.0)
    assert show.boxes(
        bounds, y="estimate", by="method", axis="y", alt="a"
    ).data  # bounds are no error bars here
    calls = {
        "by must be a str": [
            lambda: points(CASES, x="confidence", y="quality", by=None),
            lambda: show.boxes(CASES, y="quality", by=None, axis="y", alt="a"),
            lambda: show.method_intervals(bounds, by=None, axis="y", alt="a"),
        ],
        "axis must be": [lambda: show.boxes(CASES, y="quality", by="domain", axis=np.zeros(2), alt="a")],
        "zero must be one of": [lambda: show.method_intervals(bounds, axis="y", alt="a", zero=np.zeros(2))],
    }
    for message, each in calls.items():
        for call in each:
            with pytest.raises(ValueError, match=message):
                call()


def test_more_groups_than_colours_are_told_apart():
    table = pd.DataFrame({"prediction": [f"p {k}" for k in range(20)], "domain": "A", "quality": 0.5})
    figure = show.boxes(table, y="quality", by="prediction", axis="y", alt="a")
    assert len({(t.marker.color, t.marker.symbol) for t in figure.data}) == 20


def test_a_bar_of_one_repeat_or_of_equal_ones_has_no_error_bar():
    table = pd.DataFrame({"domain": list("AABBC"), "method": "m", "flagged": [0.1, 0.3, 0.5, 0.5, 1.0]})
    bars = show.detection_bars(table, alt="a").data[0]
    np.testing.assert_allclose(bars.error_y.array, [0.1, np.nan, np.nan])
    np.testing.assert_allclose(bars.error_y.arrayminus, [0.1, np.nan, np.nan])


@pytest.mark.parametrize("wrong", [3, b"a", [3], "", "a\0b"])
def test_a_name_that_is_no_text_is_refused_under_its_own_name(cases, falls, wrong):
    calls = {
        "x": lambda: points(CASES, x=wrong, y="quality"),
        "y": lambda: show.boxes(CASES, y=wrong, by="domain", axis="y", alt="a"),
        "line": lambda: show.line_panels(falls, x="level", y="dice", line=wrong, axes=AXES, alt="a"),
        "panel": lambda: lines(falls, panel=wrong),
        "quality": lambda: show.quality_by_domain(CASES, quality=wrong, alt="a"),
        "risk_name": lambda: show.risk_coverage_curves(cases, ["good"], alt="a", risk_name=wrong),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name} must be (a str|text)"):
            call()


@pytest.mark.parametrize("change", [lambda t: None, lambda t: t[:0], lambda t: t[["risk"]], lambda t: "text"])
def test_the_table_of_risk_coverage_curves_is_called_cases(cases, change):
    with pytest.raises(ValueError, match=r"^cases must be a (pandas )?table with (rows|columns \['domain')"):
        show.risk_coverage_curves(change(cases), ["good"], alt="a")
