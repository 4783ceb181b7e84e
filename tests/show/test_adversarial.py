import numpy as np
import pandas as pd
import pytest

from segconf_lite.show import adversarial


def test_signed_maps_are_white_at_zero_and_mirror_their_sign():
    picture = adversarial.draw_signed(np.array([[0.0, 1.0], [-1.0, -9.0]]), highest=1.0)
    assert picture.shape == (6, 6, 3)
    assert picture[0, 0].min() > 240
    red, blue = picture[0, 3].astype(int), picture[3, 0].astype(int)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert (picture[3, 3] == blue).all()


def test_errors_are_red_and_the_rest_is_as_drawn():
    image, labels = np.random.default_rng(0).random((8, 8)), np.zeros((8, 8), int)
    reference = labels.copy()
    reference[2, 2] = 1
    picture = adversarial.draw_errors(image, labels, reference).astype(int)
    plain = adversarial.draw_errors(image, labels, labels).astype(int)
    changed = (picture != plain).any(axis=2)
    assert changed[6:9, 6:9].all()
    assert changed.sum() == 9
    assert (picture[6:9, 6:9, 0] > picture[6:9, 6:9, 2]).all()


def test_curves_and_scatter_show_every_row_and_say_what_they_are():
    history = pd.DataFrame(
        {"step": [1, 2], "alpha": [0.3, 0.2], "predicted_drop": [0, 0.1], "true_drop": [0, 0.05]}
    )
    figure = adversarial.drop_curves(history, alt="words")
    assert [list(trace.y) for trace in figure.data] == [[0.3, 0.2], [0, 0.1], [0, 0.05]]
    assert figure.layout.meta["alt"] == "words"
    rows = [(d, m, 0.5, q) for d in "AB" for m in ("x", "y") for q in (0.4, np.nan)]
    table = pd.DataFrame(rows, columns=["domain", "method", "predicted", "quality"])
    figure = adversarial.prediction_scatter(table, alt="words")
    assert sum(len(trace.x) for trace in figure.data if trace.mode == "markers") == 4
    with pytest.raises(ValueError, match="columns"):
        adversarial.drop_curves(history.drop(columns="alpha"), alt="words")


def test_change_shows_both_answers_around_the_signed_step():
    image, labels = np.zeros((4, 4), np.float32), np.zeros((4, 4), int)
    wrong = labels.copy()
    wrong[1:3, 1:3] = 1
    picture = adversarial.draw_change(image, image + 1, (labels, wrong), labels)
    assert picture.shape == (12, 36, 3)
    np.testing.assert_array_equal(picture[:, :12], adversarial.draw_errors(image, labels, labels))
    np.testing.assert_array_equal(picture[:, 12:24], adversarial.draw_signed(image + 1, highest=1.0))
    np.testing.assert_array_equal(picture[:, 24:], adversarial.draw_errors(image + 1, wrong, labels))
