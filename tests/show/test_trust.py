import numpy as np
import pandas as pd
import pytest

from segconf_lite.evaluation import compare_methods, reliability_table
from segconf_lite.show import trust


@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    risk = rng.random(24)
    return pd.DataFrame({"domain": np.repeat(["A", "B"], 12), "subject": np.arange(24) // 3, "risk": risk,
                         "good": risk, "bad": -risk})  # fmt: skip


def test_risk_coverage_has_the_best_and_no_order_and_a_choice_of_domains(cases):
    figure = trust.risk_coverage_curves(cases, ["good", "bad"], alt="what it shows")
    assert len(figure.data) == 8
    assert [trace.visible for trace in figure.data] == [True] * 4 + [False] * 4
    best, none, good, bad = figure.data[:4]
    assert list(best.y) == list(good.y)
    assert len(set(np.round(none.y, 12))) == 1
    assert np.all(np.asarray(bad.y) >= np.asarray(best.y) - 1e-12)
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["A", "B"]
    assert figure.layout.meta["alt"] == "what it shows"


def test_intervals_have_one_panel_a_group_and_one_row_a_method(cases):
    table = compare_methods(cases, ["good", "bad"], statistic="rank_correlation")
    figure = trust.method_intervals(table, axis="Spearman", alt="a")
    assert len(figure.data) == 4
    first = figure.data[0]
    assert list(first.x) == [pytest.approx(1)]
    assert first.error_x.array[0] == pytest.approx(0, abs=1e-9)
    texts = [note.text for note in figure.layout.annotations]
    assert {"A", "B", "Spearman"} <= set(texts)


def test_reliability_keeps_the_shares(cases):
    chances = np.stack([np.full((4, 3, 3), 0.8), np.full((4, 3, 3), 0.2)], axis=1)
    bins = reliability_table(chances, np.zeros((4, 3, 3), int))
    figure = trust.reliability_diagram({"net": bins}, alt="a")
    assert list(figure.data[1].y) == [1]
    assert list(figure.data[1].customdata) == [1]


def test_cost_has_a_point_a_method():
    table = pd.DataFrame({"method": ["one", "many"], "n_passes": [1, 15], "quality": [0.7, 0.8]})
    figure = trust.cost_scatter(table, quality="Spearman (higher is better)", alt="a")
    assert [trace.name for trace in figure.data] == ["one", "many"]
    assert figure.layout.yaxis.title.text == "Spearman (higher is better)"


def test_maps_share_one_scale():
    tile = np.zeros((8, 8))
    figure = trust.map_grid(
        [tile + np.arange(8)] * 2, [tile.astype(int)] * 2, {"entropy": [tile, tile + 1]},
        column_titles=["one", "two"], alt="a",
    )  # fmt: skip
    assert len(figure.data) == 5  # four pictures and the carrier of the colour bar
    scale = figure.data[-1].marker
    assert (scale.cmin, scale.cmax) == (0, 1)
    assert figure.data[1].source != figure.data[3].source


def test_missing_columns():
    with pytest.raises(ValueError, match="needs rows and the columns"):
        trust.method_intervals(pd.DataFrame({"method": ["a"]}), axis="x", alt="a")
