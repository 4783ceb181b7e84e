import numpy as np
import pandas as pd
import pytest

from segconf_lite.show import curves


@pytest.fixture
def falls():
    rows = [
        {"level": s, "dice": 1 - 0.1 * s * k, "network": f"net {k}", "set": name, "low": 0.0, "high": 1.0}
        for name in ("one", "two", "three") for k in (1, 2) for s in range(4)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_panels_have_a_line_each_and_the_legend_names_each_once(falls):
    figure = curves.line_panels(
        falls, x="level", y="dice", line="network", panel="set", columns=2,
        axes=("level", "Dice (higher is better)"), alt="a",
    )  # fmt: skip
    assert len(figure.data) == 6
    assert [trace.showlegend for trace in figure.data].count(True) == 2
    assert list(figure.data[1].y) == pytest.approx([1, 0.8, 0.6, 0.4])
    assert figure.data[0].error_y.array is not None
    assert len({(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in figure.data}) == 2
    texts = [note.text for note in figure.layout.annotations]
    assert {"one", "two", "three", "level", "Dice (higher is better)"} <= set(texts)
    assert figure.layout.meta["alt"] == "a"


def test_one_panel_has_its_axes_named_and_no_bars_without_limits(falls):
    one = falls[falls["set"] == "one"].drop(columns=["low", "high"])
    figure = curves.line_panels(one, x="level", y="dice", line="network", axes=("x", "y"), alt="a")
    assert figure.layout.xaxis.title.text == "x"
    assert figure.data[0].error_y.array is None


def test_a_line_that_a_panel_lacks_is_left_out(falls):
    some = falls[(falls["set"] != "one") | (falls["network"] == "net 1")]
    figure = curves.line_panels(
        some, x="level", y="dice", line="network", panel="set", axes=("x", "y"), alt="a"
    )
    assert len(figure.data) == 5
    assert [trace.name for trace in figure.data if trace.showlegend] == ["net 1", "net 2"]


def test_tables_write_their_numbers_and_leave_unknown_fields_empty():
    table = pd.DataFrame([[0.123, np.nan], [1, 0]], index=["a", "b"], columns=["c", "d"])
    figure = curves.number_table(table, alt="a", title="Dice", limits=(0, 1))
    assert figure.data[0].text.tolist() == [["0.12", ""], ["1.00", "0.00"]]


def test_empty_and_missing():
    with pytest.raises(ValueError, match="at least one row"):
        curves.number_table(pd.DataFrame(), alt="a", title="t", limits=(0, 1))
    with pytest.raises(ValueError, match="y"):
        curves.line_panels(pd.DataFrame({"x": [1]}), x="x", y="y", line="l", axes=("x", "y"), alt="a")
