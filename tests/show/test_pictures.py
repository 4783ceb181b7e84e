"""Slices are drawn as they are, with any number of classes, and everything has one look."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from segconf_lite import show
from segconf_lite.show import pictures


def test_borders_lie_inside_the_object_and_only_there():
    labels = np.zeros((8, 8), int)
    labels[2:6, 2:6] = 1
    plain, drawn = (show.draw_borders(np.zeros((8, 8)), x) for x in (None, labels))
    changed = (plain != drawn).any(axis=2)
    assert changed.sum() == 4 * 12 - 4  # the rim of a 12 x 12 square
    assert changed[6:18, 6:18].sum() == changed.sum()


def test_pictures_are_png_data_and_survive_a_constant_slice():
    figure = show.picture_grid([[np.zeros((4, 4))]], class_names=("background", "x"), alt="nothing")
    assert figure.data[0].source.startswith("data:image/png;base64,")
    assert figure.layout.meta["alt"] == "nothing"
    assert [t.name for t in figure.data if t.name] == ["x"]


def test_any_number_of_classes_has_colours_that_differ_from_each_other_and_from_black():
    colours = [pictures.class_colour(k) for k in range(40)]
    assert colours[:6] == ["#000000", "#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442"]
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours])
    apart = np.abs(rgb[:, None] - rgb[None]).sum(axis=2) + 999 * np.eye(len(rgb), dtype=int)
    assert apart[:16, :16].min() > 60
    assert apart.min() > 20
    labels = np.zeros((7, 120), int)
    labels[3, 1::3] = np.arange(1, 41)
    drawn = show.draw_borders(np.zeros((7, 120)), labels)
    assert all(drawn[9, 3 * column].sum() > 150 for column in range(1, 120, 3))
    names = [f"class {k}" for k in range(41)]
    figure = show.picture_grid([[np.zeros((7, 120))]], [[labels]], class_names=names, alt="a")
    assert [t.name for t in figure.data if t.name] == names[1:]
    assert "#000000" not in [t.marker.color for t in figure.data if t.name]


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(">f4"),
        lambda a: a.astype(np.float64),
        lambda a: a[::-1].copy()[::-1],
        lambda a: torch.tensor(a, requires_grad=True),
        lambda a: torch.tensor(a).t().contiguous().t(),
        lambda a: a * np.float32(2.0**120),
        lambda a: a.astype(np.float64) * 2.0**1000,
        lambda a: a.astype(np.float64) * 2.0**-1000,
    ],
)
def test_a_slice_is_drawn_the_same_in_every_type_memory_order_and_scale(convert):
    image = np.random.default_rng(0).integers(0, 64, (6, 5)).astype(np.float32)
    labels = torch.tensor((image > 30).astype(np.int64))
    np.testing.assert_array_equal(show.draw_borders(convert(image), labels), show.draw_borders(image, labels))


@pytest.mark.parametrize("kind", [np.float16, np.int16, np.uint8, bool, torch.bfloat16])
def test_narrow_types_are_drawn_without_overflow(kind):
    image = np.arange(30).reshape(5, 6) % 7
    low = torch.tensor(image).to(kind) if isinstance(kind, torch.dtype) else image.astype(kind)
    wide = low.float().numpy() if isinstance(kind, torch.dtype) else low.astype(np.float64)
    np.testing.assert_allclose(
        show.draw_borders(low).astype(int), show.draw_borders(wide).astype(int), atol=1
    )


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (np.full((4, 4), np.nan), None, "image must be finite"),
        (np.full((4, 4), np.inf), None, "image must be finite"),
        (np.zeros((4, 4, 2)), None, r"image must be non-empty \(H, W\)"),
        (np.zeros((0, 4)), None, r"image must be non-empty \(H, W\)"),
        (np.zeros((4, 4), complex), None, "image must be real numbers"),
        (torch.zeros(4, 4, device="meta"), None, "image must be real numbers"),
        (torch.zeros(4, 4).to_sparse(), None, "image must be real numbers"),
        (np.zeros((4, 4)), np.zeros((4, 5), int), r"labels must be of shape \(4, 4\)"),
        (np.zeros((4, 4)), np.full((4, 4), 0.5), "labels must be integers"),
        (np.zeros((4, 4)), np.full((4, 4), np.nan), "labels must be integers"),
        (np.zeros((4, 4)), np.full((4, 4), -1), "labels must be integers >= 0"),
        (np.zeros((4, 4)), np.full((4, 4), "a"), "labels must be real numbers"),
    ],
)
def test_what_is_no_slice_or_no_label_is_refused(image, labels, message):
    with pytest.raises(ValueError, match=message):
        show.draw_borders(image, labels)


def test_three_channels_are_drawn_as_colours_on_one_scale():
    random = np.random.default_rng(0)
    grey, labels = random.random((6, 8)), np.eye(6, 8, dtype=int)
    for convert in (np.asarray, torch.tensor):
        drawn = show.draw_borders(convert(np.stack([grey] * 3)), labels).astype(int)
        # The percentiles of three times as many numbers lie a little elsewhere between two of them.
        np.testing.assert_allclose(drawn, show.draw_borders(grey, labels).astype(int), atol=4)
    colours = random.random((3, 6, 8)) * np.array([1, 2, 3])[:, None, None]
    drawn = show.draw_borders(colours)
    assert drawn.shape == (18, 24, 3)
    np.testing.assert_array_equal(show.draw_borders(colours[::-1])[..., ::-1], drawn)
    scaled = show.draw_borders(7 * colours - 2).astype(int)
    np.testing.assert_allclose(scaled, drawn.astype(int), atol=1)
    assert (np.diff(drawn.mean(axis=(0, 1))) > 20).all()  # the scale is common: red is the darkest
    assert show.draw_zone(colours, labels, labels > 0).shape == drawn.shape
    assert show.draw_pixel(colours, labels, 1, 1).shape == drawn.shape
    figure = show.picture_grid([[colours, drawn]], [[None, None]], alt="twice")
    assert figure.data[0].source == figure.data[1].source
    show.map_grid([colours], [labels], {"map": [grey]}, column_titles=["A"], alt="colours and a map")


def test_of_other_numbers_of_channels_one_has_to_be_chosen():
    for image, name in ((np.zeros((2, 6, 8)), r"\(2, 6, 8\)"), (np.zeros((1, 6, 8)), r"\(1, 6, 8\)")):
        message = rf"image must be non-empty \(H, W\), got {name}; choose a channel, e\.g\. image\[0\]"
        with pytest.raises(ValueError, match=message):
            show.draw_borders(image)
        with pytest.raises(ValueError, match=message):
            show.picture_grid([[image]], alt="nothing")
    three, labels = np.zeros((3, 6, 8)), np.zeros((6, 8), int)
    with pytest.raises(
        ValueError, match=r"before must be non-empty \(H, W\), .*; choose a channel, e\.g\. before"
    ):
        show.draw_change(three, three, (labels, labels), labels)


def test_inputs_stay_as_they_are():
    image, labels = np.random.default_rng(0).random((5, 5)), np.eye(5, dtype=int)
    before = image.copy(), labels.copy()
    show.draw_borders(image, labels)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_grids_refuse_parts_that_do_not_fit_and_write_numbers_as_titles():
    image = np.zeros((4, 4))
    figure = show.picture_grid([[image, image]], column_titles=[3, 4], row_titles=[1.5], alt="a")
    assert [note.text for note in figure.layout.annotations] == ["3", "4", "1.5"]
    above, _, beside = figure.layout.annotations
    assert (beside.x, beside.xanchor, beside.textangle) == (0, "right", -90)
    assert above.textangle is None
    assert figure.layout.margin.l > show.picture_grid([[image]], alt="a").layout.margin.l
    wrong = {
        "images must be a list": {"images": []},
        "each row of images must be a list of 2": {"images": [[image, image], [image]]},
        "labels must be a list of 1": {"labels": []},
        "each row of labels must be a list of 1": {"labels": [[None, None]]},
        "column_titles must be a list of 1": {"column_titles": ["a", "b"]},
        "row_titles must be a list": {"row_titles": "a"},
        "class_names must be a list of names": {"class_names": {"a", "b"}},
        "class_names must be different": {"class_names": ["a", "a"]},
        r"labels must be in 0\.\.1": {"labels": [[np.full((4, 4), 2)]], "class_names": ["a", "b"]},
        "tile_px must be an integer": {"tile_px": 0.5},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message):
            show.picture_grid(**{"images": [[image]], "alt": "a"} | change)


def test_what_is_no_picture_is_refused():
    for wrong in (np.zeros((3, 3, 3)), np.zeros((3, 3), np.uint8), [[1]]):
        with pytest.raises(ValueError, match="picture must be"):
            pictures.picture_source(wrong)


def test_scanners_and_methods_keep_their_look_in_every_figure():
    alone = {name: pictures.looks([name])[name] for name in ("B", "distance", "ensemble: agreement")}
    for names in (["F", "B"], ["distance", "entropy, image"], ["new", "ensemble: agreement", "newer"]):
        found = pictures.looks(names)
        assert all(found[name] == look for name, look in alone.items() if name in found)
        assert len({look[:2] for look in found.values()}) == len(names)
    assert pictures.looks(["scanner B"])["scanner B"] == alone["B"]
    attacked = pictures.looks(["noise", "FGSM", "PGD", "SegPGD", "APGD", "APGD, Dice", "worst"])
    assert len({colour for colour, _, _ in attacked.values()}) == 7
    many = pictures.looks([f"group {k}" for k in range(64)])
    assert len({look[:2] for look in many.values()}) == 64


# What people see who lack one of the three kinds of cones, in linear RGB (Machado et al., 2009).
CONES = {
    "all": np.eye(3),
    "no L": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no M": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no S": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_LMS = [[0.412221, 0.536333, 0.051446], [0.211903, 0.6807, 0.107397], [0.088302, 0.281719, 0.629979]]
TO_LAB = [[0.210454, 0.793618, -0.004072], [1.977998, -2.428592, 0.450594], [0.025904, 0.782772, -0.808676]]
# The filter of the dark pages, invert(1) hue-rotate(180deg), which keeps hues about as they are.
ROTATED = [[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]]


def rgb_of(colours):
    return np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in colours]) / 255


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def nearest(colours, others, cones="all"):
    """Distance of each colour to the nearest other one, in Oklab."""
    seen = [(linear(rgb_of(c)) @ np.transpose(CONES[cones])).clip(0, 1) for c in (colours, others)]
    first, second = (np.cbrt(part @ np.transpose(TO_LMS)) @ np.transpose(TO_LAB) for part in seen)
    apart = np.linalg.norm(first[:, None] - second[None], axis=2)
    return np.where(apart > 0, apart, 1).min(axis=1) if colours == others else apart.min(axis=1)


def test_scanners_differ_from_classes_and_from_each_other_for_every_eye():
    scanners = [pictures.looks([name])[name][0] for name in "ABCDEF"]
    assert nearest(scanners, list(pictures.CLASS_COLOURS[1:])).min() > 0.12
    for cones in CONES:
        assert nearest(scanners, scanners, cones).min() > 0.12  # 0.08 in the palette that methods have


def test_scanners_stand_out_on_white_and_on_a_dark_page():
    scanners = rgb_of(pictures.SCANNER_COLOURS.values())
    luminance = lambda rgb: linear(rgb) @ [0.2126, 0.7152, 0.0722]  # noqa: E731
    assert (1.05 / (luminance(scanners) + 0.05)).min() >= 3
    inverted = ((1 - scanners) @ np.transpose(ROTATED)).clip(0, 1)
    ground = luminance(rgb_of(["#14181E"]))  # the theme's; the figure's own, black, is darker
    assert ((luminance(inverted) + 0.05) / (ground + 0.05)).min() >= 3


@pytest.mark.parametrize(
    "names",
    [
        ["entropy, foreground", "entropy, image", "small prediction"],
        ["distance", "code distance", "entropy, image", "ensemble entropy", "distortion"],
        ["distortion", "distortion, Dice", "entropy, image", "entropy, foreground", "ensemble entropy"],
        ["plain", "adversary", "Beta", "entropy, foreground", "distortion, Dice", "ensemble: agreement"],
        ["plain, as it is", "plain", "noise", "adversary"],
    ],
)
def test_methods_that_are_compared_in_one_figure_differ_in_colour(names):
    assert len({colour for colour, _, _ in pictures.looks(names).values()}) == len(names)


def test_finished_figures_share_one_template():
    figures = [pictures.finish(go.Figure(), alt="a", height=h) for h in (200, 300)]
    assert figures[0].layout.template == figures[1].layout.template
    assert figures[0].layout.template.layout.paper_bgcolor == "white"
