import pytest
import torch
from torch import nn

from segconf_lite.stress.attacks import case_loss, loss_gradient, pgd
from segconf_lite.stress.masking import QuantisedInput, _reasons, masking_report

SIZE = {"eps": 0.3, "unit": "sd", "bounds": None}


@pytest.fixture
def images():
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def task(make_unet, images):
    """A network and labels that it gets mostly right: an attack has something to spoil."""
    unet = make_unet()
    with torch.no_grad():
        labels = unet(images).argmax(dim=1).cpu()
    labels[:, :2] = 1
    return unet, images, labels


def seeded():
    return torch.Generator().manual_seed(0)


def quantised(unet, **more):
    return QuantisedInput(unet, levels=8, low=-3.0, high=3.0, **more)


def test_plain_network_is_not_suspicious(task):
    unet, images, labels = task
    report = masking_report(unet, images, labels, generator=seeded(), surrogate=unet, **SIZE)
    assert list(report.columns) == ["attack", "loss", "accuracy", "suspicious", "why"]
    assert list(report["attack"]) == ["clean", "random noise", "fgsm", "pgd 1", "pgd 5", "pgd 20", "transfer"]
    assert not report["suspicious"].any()
    assert (report["why"] == "").all()
    by_attack = report.set_index("attack")
    assert by_attack["loss"]["pgd 20"] > by_attack["loss"]["random noise"]
    assert by_attack["loss"]["clean"] == pytest.approx(float(case_loss(unet, images, labels).mean()))
    right = (unet.eval()(images).argmax(dim=1).cpu() == labels).float().mean()
    assert by_attack["accuracy"]["clean"] == pytest.approx(float(right))


def test_rounding_stops_gradient_attacks_and_is_found_out(task):
    unet, images, labels = task
    masked = quantised(unet)
    found = pgd(masked, images, labels, **SIZE)
    assert torch.equal(found.images, images)
    report = masking_report(
        masked, images, labels, generator=seeded(), surrogate=quantised(unet, straight_through=True), **SIZE
    ).set_index("attack")
    assert report["suspicious"].to_dict() == {
        "clean": False,
        "random noise": False,
        "fgsm": True,
        "pgd 1": True,
        "pgd 5": True,
        "pgd 20": True,
        "transfer": True,
    }
    assert report["why"]["fgsm"] == "the gradient is exactly zero in 4 of 4 cases"
    assert report["why"]["pgd 20"] == "no better than random noise of the same norm"
    assert "another network" in report["why"]["transfer"]
    assert report["loss"]["transfer"] > report["loss"]["pgd 20"]


def test_straight_through_gives_the_same_logits_and_a_gradient(task):
    unet, images, labels = task
    masked, open_ = quantised(unet), quantised(unet, straight_through=True)
    assert torch.equal(masked(images), open_(images))
    _, none = loss_gradient(masked, images, labels)
    _, some = loss_gradient(open_, images, labels)
    assert (none == 0).all()
    assert (some != 0).flatten(1).any(dim=1).all()
    # It is the gradient of the network at the rounded image.
    rounded = (((images.clamp(-3, 3) + 3) / (6 / 7)).round() * (6 / 7)) - 3
    _, there = loss_gradient(unet, rounded, labels)
    torch.testing.assert_close(some, there, rtol=1e-3, atol=1e-6)


def test_levels_are_those_asked_for():
    seen = QuantisedInput(nn.Identity(), levels=3, low=-1, high=1)(torch.linspace(-2, 2, 41))
    assert seen.unique().tolist() == [-1, 0, 1]


def test_rules_one_by_one():
    import pandas as pd

    def reasons(*losses, vanished=False):
        names = ["clean", "random noise", "fgsm", "pgd 5", "pgd 20", "transfer"]
        return _reasons(pd.DataFrame({"attack": names, "loss": losses}), torch.tensor([vanished, False]))

    assert reasons(1, 1.1, 2, 3, 3.1, 2) == [""] * 6
    assert reasons(1, 1.1, 2, 3, 2.99, 2.99) == [""] * 6  # within the tolerance
    assert reasons(1, 0.5, 2, 3, 3, 2, vanished=True)[2] == "the gradient is exactly zero in 1 of 2 cases"
    assert reasons(1, 0.2, 2, 1.7, 3, 2)[3].startswith("no better than random noise")  # as far, but downwards
    assert reasons(1, 1.1, 2, 3, 2.5, 2)[4] == "more steps, and yet weaker than pgd 5"
    assert reasons(1, 1.1, 2, 1.5, 2.5, 2)[3] == "more steps, and yet weaker than fgsm"
    assert "another network" in reasons(1, 1.1, 2, 3, 3, 3.5)[5]


def test_ignored_pixels_do_not_count(task):
    unet, images, labels = task
    ignore = torch.zeros(labels.shape, dtype=torch.bool)
    ignore[:, :8] = True
    spoiled = torch.where(ignore, 99, labels)
    one, other = (
        masking_report(unet, images, y, generator=seeded(), ignore=ignore, steps=(2,), **SIZE)
        for y in (labels, spoiled)
    )
    assert one.equals(other)


def test_bad_use(task):
    unet, images, labels = task
    with pytest.raises(ValueError, match="eps must be a number > 0, got 0; attacks of no size"):
        masking_report(unet, images, labels, eps=0, unit="sd", bounds=None, generator=seeded())
    flat = images.clone()
    flat[:2] = 0.1
    with pytest.raises(
        ValueError, match=f"images must be not constant, got 2 of {len(flat)} constant, for which 0.1 sd is 0"
    ):
        masking_report(unet, flat, labels, eps=0.1, unit="sd", bounds=None, generator=seeded())
    for steps, message in (
        ((), "non-empty"),
        ((0, 5), r"an integer in \[1, 1e\+06\], got 0"),
        ((5, 1), "rising"),
        ((5, 5), "rising"),
        ((2.5,), "an integer"),
    ):
        with pytest.raises(ValueError, match=f"steps must be {message}"):
            masking_report(unet, images, labels, generator=seeded(), steps=steps, **SIZE)
    with pytest.raises(ValueError, match=r"levels must be an integer in \[2, 1e\+06\], got 2.5"):
        QuantisedInput(unet, levels=2.5, low=0, high=1)
    with pytest.raises(ValueError, match=r"high must be a number in \(1, 3.*\], got 0"):
        QuantisedInput(unet, levels=4, low=1, high=0)
