import numpy as np
import pandas as pd
import pytest

from segconf_lite.show import fragile
from segconf_lite.show.pictures import draw_borders


def test_zone_is_red_and_the_rest_as_before():
    image, labels = np.zeros((4, 4)), np.zeros((4, 4), int)
    zone = np.zeros((4, 4), bool)
    zone[1, 2] = True
    picture, plain = fragile.draw_zone(image, labels, zone), draw_borders(image, labels)
    changed = (picture != plain).any(axis=-1)
    np.testing.assert_array_equal(changed, zone.repeat(3, axis=0).repeat(3, axis=1))
    assert (picture[changed][:, 0] > picture[changed][:, 2]).all()


@pytest.mark.parametrize("place", [(0, 0), (3, 3), (1, 2)])
def test_the_frame_surrounds_the_pixel_and_stays_in_the_picture(place):
    image, labels = np.full((4, 4), 0.5), np.zeros((4, 4), int)
    image[0, 0] = 1
    picture, plain = fragile.draw_pixel(image, labels, *place), draw_borders(image, labels)
    assert picture.shape == plain.shape
    changed = np.argwhere((picture != plain).any(axis=-1))
    centre = 3 * np.array(place) + 1
    assert 0 < np.abs(changed - centre).max() <= 3


def test_curves_and_scatter_show_every_finite_cost():
    curves = fragile.cost_curves({"head": np.array([np.inf, 0.1, -0.2])}, alt="a")
    assert np.isnan(curves.data[0].y[0])
    assert curves.data[0].y[2] == fragile.LOWEST
    table = pd.DataFrame(
        {"kind": ["A", "D", "D"], "first": [1e-3, 1e-2, np.inf], "second": [2e-3, 1e-2, 1.0]}
    )
    figure = fragile.cost_scatter(table, alt="a", axes=("x", "y"))
    assert [trace.name for trace in figure.data] == ["equal", "A", "D"]
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    with pytest.raises(ValueError, match="missing"):
        fragile.cost_scatter(table[["kind", "first"]], alt="a", axes=("x", "y"))
