import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.stress.ascent import checkpoints, segpgd_weight
from segconf_lite.stress.attacks import (
    Attacked,
    apgd,
    case_loss,
    epsilon_per_image,
    fgsm,
    loss_gradient,
    pgd,
    random_noise,
    segpgd,
    worst_of,
)

ATTACKS = {"fgsm": fgsm, "pgd": pgd, "segpgd": segpgd, "apgd": apgd}
BOUNDS = [None, "image", (-6.0, 6.0)]


@pytest.fixture
def images():
    return torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.randint(0, 3, (5, 16, 16), generator=torch.Generator().manual_seed(1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(*weights):
    """Each pixel on its own: the logit of class c is weights[c] times the grey value."""
    network = nn.Conv2d(1, len(weights), 1, bias=False)
    network.weight.data = torch.tensor(weights, dtype=torch.float32).reshape(-1, 1, 1, 1)
    return network


def run(name, network, images, labels, *, norm="linf", eps=0.1, unit="sd", bounds=None, steps=6, **more):
    if name == "fgsm":
        return fgsm(network, images, labels, eps=eps, unit=unit, bounds=bounds, **more)
    attack = ATTACKS[name]
    return attack(network, images, labels, eps=eps, unit=unit, bounds=bounds, norm=norm, steps=steps, **more)


def norms(moved, images, norm):
    """Of each change in float64: the largest pixel, or the root mean square."""
    change = (moved.double() - images.double()).flatten(1)
    return change.abs().amax(dim=1) if norm == "linf" else change.square().mean(dim=1).sqrt()


every_attack = pytest.mark.parametrize("name", ATTACKS)
every_norm = pytest.mark.parametrize("norm", ["linf", "l2"])


def test_units_of_eps(images):
    scaled = 3 * images + 7
    sd = images.double().flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(epsilon_per_image(images, 0.5, unit="sd"), 0.5 * sd)
    torch.testing.assert_close(epsilon_per_image(scaled, 0.5, unit="sd"), 1.5 * sd, rtol=1e-6, atol=0)
    extent = torch.tensor([np.ptp(image) for image in images.double().numpy()])
    torch.testing.assert_close(epsilon_per_image(images, 0.5, unit="range"), 0.5 * extent)
    assert epsilon_per_image(images.numpy(), 0.5, unit="absolute").tolist() == [0.5] * 5
    assert epsilon_per_image(torch.ones(2, 1, 4, 4), 0.5, unit="sd").tolist() == [0, 0]


@every_norm
@every_attack
@pytest.mark.parametrize("bounds", BOUNDS)
def test_no_size_is_the_identity_bit_for_bit(name, norm, bounds, make_unet, images, labels):
    found = run(name, make_unet(), images, labels, norm=norm, eps=0.0, bounds=bounds)
    assert torch.equal(found.images, images)
    assert (found.loss == found.loss[0]).all()
    noise = random_noise(images, eps=0.0, unit="sd", bounds=bounds, norm=norm, generator=seeded())
    assert torch.equal(noise.images, images)


@every_norm
@every_attack
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("offset", [0, 1000])  # of CT: float32 is coarse there
def test_never_longer_than_eps_and_never_out_of_bounds(name, norm, bounds, offset, make_unet, images, labels):
    images = images + offset
    bounds = (bounds[0] + offset, bounds[1] + offset) if isinstance(bounds, tuple) else bounds
    found = run(name, make_unet(), images, labels, norm=norm, bounds=bounds)
    assert found.images.dtype == torch.float32
    norm = "linf" if name == "fgsm" else norm
    assert (norms(found.images, images, norm) <= found.eps * (1 + 1e-6)).all()
    if bounds == "image":
        assert (found.images.amax(dim=(1, 2, 3)) <= images.amax(dim=(1, 2, 3))).all()
        assert (found.images.amin(dim=(1, 2, 3)) >= images.amin(dim=(1, 2, 3))).all()
    elif bounds:
        assert (found.images.min() >= bounds[0]) & (found.images.max() <= bounds[1])


@every_norm
@every_attack
def test_loss_is_the_highest_so_far_from_clean_to_that_of_the_images(name, norm, make_unet, images, labels):
    unet = make_unet()
    found = run(name, unet, images, labels, norm=norm, eps=0.2)
    assert found.loss.shape == ((2 if name == "fgsm" else 7), 5)
    assert (found.loss.diff(dim=0) >= 0).all()
    torch.testing.assert_close(found.loss[0], case_loss(unet, images, labels))
    torch.testing.assert_close(found.loss[-1], case_loss(unet, found.images, labels))
    assert (found.loss[-1] > found.loss[0]).all()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
def test_dice_loss_is_raised_too(name, make_unet, images, labels):
    unet = make_unet()
    found = run(name, unet, images, labels, eps=0.2, loss="dice")
    torch.testing.assert_close(found.loss[-1], case_loss(unet, found.images, labels, measure="dice"))
    assert (found.loss[-1] > found.loss[0]).all()


@every_attack
def test_box_of_a_linear_network_is_left_at_its_worst_corner(name, images):
    labels = (torch.rand(5, 16, 16, generator=seeded()) < 0.5).long()
    found = run(name, linear(0.0, 1.0), images, labels, eps=0.3, unit="absolute", steps=12)
    away = torch.where(labels == 1, -1.0, 1.0)[:, None]  # class 1 gains with the grey value
    if name == "segpgd":  # in the end its two weights are equal, but until then only some pixels have moved
        away = away * (found.images != images)
    torch.testing.assert_close(found.images, images + 0.3 * away, atol=1e-6, rtol=0)


def test_sphere_of_a_linear_network_is_left_along_the_gradient(images):
    # The optimum of a smooth loss on a sphere is where the change is parallel to the gradient.
    network, labels = linear(0.0, 1.0), (images[:, 0] > 0).long()
    for attack in (pgd, apgd):
        found = attack(
            network, images, labels, eps=0.3, unit="absolute", bounds=None, norm="l2", steps=60
        ).images
        _, gradient = loss_gradient(network, found, labels)
        cosine = torch.cosine_similarity((found - images).flatten(1), gradient.flatten(1))
        assert cosine.min() > 0.999
        torch.testing.assert_close(
            norms(found, images, "l2"), torch.full((5,), 0.3).double(), rtol=1e-5, atol=0
        )


def test_first_l2_step_is_the_gradient_itself(make_unet, images, labels):
    unet = make_unet()
    found = pgd(
        unet, images, labels, eps=1e-3, unit="absolute", bounds=None, norm="l2", steps=1, step_fraction=0.5
    ).images
    _, gradient = loss_gradient(unet, images, labels)
    assert torch.cosine_similarity((found - images).flatten(1), gradient.flatten(1)).min() > 0.9999
    torch.testing.assert_close(norms(found, images, "l2"), torch.full((5,), 5e-4).double(), rtol=1e-3, atol=0)


@every_norm
@every_attack
def test_ignored_pixels_neither_move_nor_count(name, norm, images, labels):
    ignore = torch.rand(labels.shape, generator=seeded()) < 0.4
    network = linear(0.0, 1.0, -1.0)
    found = run(name, network, images, labels, norm=norm, ignore=ignore)
    assert torch.equal(found.images[ignore[:, None]], images[ignore[:, None]])
    other = torch.where(ignore, 255, labels)  # a label that is no class
    assert torch.equal(run(name, network, images, other, norm=norm, ignore=ignore).images, found.images)


def test_gradient_of_a_case_is_its_own(make_unet, images, labels):
    unet = make_unet()
    _, together = loss_gradient(unet, images, labels)
    _, alone = loss_gradient(unet, images[2:3], labels[2:3])
    torch.testing.assert_close(together[2:3], alone)


@every_attack
def test_modes_flags_gradients_and_random_state_stay(name, make_unet, images, labels):
    unet = make_unet()
    unet.bottleneck.train()
    first, *_ = unet.parameters()
    first.requires_grad_(False)
    unet.head.bias.grad = torch.ones_like(unet.head.bias)
    before = [m.training for m in unet.modules()], [p.requires_grad for p in unet.parameters()]
    weights = {key: value.clone() for key, value in unet.state_dict().items()}
    state = torch.random.get_rng_state()
    with torch.no_grad():  # where the caller stands does not matter
        found = run(name, unet, images, labels)
        assert not torch.is_grad_enabled()
    assert before == ([m.training for m in unet.modules()], [p.requires_grad for p in unet.parameters()])
    assert [p.grad is not None for p in unet.parameters()].count(True) == 1
    assert (unet.head.bias.grad == 1).all()
    assert all(torch.equal(value, weights[key]) for key, value in unet.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(found.images, run(name, unet.eval(), images, labels).images)  # no dropout


@every_norm
@every_attack
def test_same_again_and_in_batches(name, norm, make_unet, images, labels):
    unet = make_unet()
    found = run(name, unet, images, labels, norm=norm)
    assert torch.equal(run(name, unet, images.numpy(), labels.numpy(), norm=norm).images, found.images)
    in_twos = run(name, unet, images, labels, norm=norm, batch_size=2)
    torch.testing.assert_close(in_twos.loss, found.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(in_twos.images, found.images, rtol=1e-4, atol=1e-5)


@every_norm
@pytest.mark.parametrize("random_start", [False, True])
def test_rows_of_a_short_pgd_are_the_first_of_a_long_one(norm, random_start, make_unet, images, labels):
    unet = make_unet()
    short, long = (
        run("pgd", unet, images, labels, norm=norm, steps=n, random_start=random_start, generator=seeded())
        for n in (3, 8)
    )
    assert torch.equal(short.loss, long.loss[:4])
    assert torch.equal(short.loss[0], case_loss(unet, images, labels))
    assert (norms(long.images, images, norm) <= long.eps * (1 + 1e-6)).all()


def test_random_starts_differ_by_seed_only(make_unet, images, labels):
    unet = make_unet()
    one, again, other = (
        run("pgd", unet, images, labels, steps=1, random_start=True, generator=seeded(s)).images
        for s in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_weight_of_wrong_pixels_grows_from_none_to_almost_a_half():
    assert [segpgd_weight(step, 4) for step in (1, 2, 3, 4)] == [0, 0.125, 0.25, 0.375]


def test_first_step_of_segpgd_moves_right_pixels_only(images, labels):
    network = linear(0.0, 1.0, -1.0)
    found = run("segpgd", network, images, labels, steps=1).images
    right = network(images).argmax(dim=1) == labels
    moved = (found != images)[:, 0]
    assert not moved[~right].any()
    assert moved[right].all()
    assert torch.equal(run("pgd", network, images, labels, steps=1, loss="segpgd").images, found)


def test_checkpoints_of_auto_pgd_are_those_of_the_paper():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]  # figure 1 there
    assert checkpoints(1) == [0, 1]


def test_auto_pgd_is_at_least_as_strong_as_one_step_where_there_is_one_optimum(images):
    labels = (torch.rand(5, 16, 16, generator=seeded()) < 0.5).long()
    network = linear(0.0, 2.0)
    one, many = (run(name, network, images, labels, eps=0.3).loss[-1] for name in ("fgsm", "apgd"))
    assert (many >= one - 1e-6).all()


class Hill(nn.Module):
    """The logit of class 0 is highest at grey value 0.07; raised if the label is 1. Remembers its images."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().mean().item())
        return torch.cat([-((images - 0.07) ** 2), torch.zeros_like(images)], dim=1)


@pytest.fixture
def on_hill():
    hill = Hill()
    images, labels = torch.zeros(1, 1, 4, 4), torch.ones(1, 4, 4, dtype=torch.long)
    found = apgd(hill, images, labels, eps=1.0, unit="absolute", bounds=None, steps=100)
    return hill.seen, found.images


def test_auto_pgd_halves_its_step_where_the_first_overshoots(on_hill):
    _, found = on_hill  # steps of 2 eps and no less would jump over the top for ever
    torch.testing.assert_close(found, torch.full_like(found, 0.07), atol=0.02, rtol=0)


def test_auto_pgd_keeps_a_quarter_of_its_last_move(on_hill):
    seen, _ = on_hill
    # To the edge; aim at -1: 1 - .75 * 2 + .25 * 1; aim at 1: -.25 + .75 * 1.25 - .25 * 1.25.
    assert seen[:4] == pytest.approx([0, 1, -0.25, 0.375], abs=1e-6)
    assert len(seen) == 101  # one look at each image, and none at any twice


def test_draws_of_the_network_do_not_reach_the_caller(images, labels):
    class Drawing(nn.Module):
        def forward(self, images):
            return torch.cat([images * torch.rand(1), images, -images], dim=1)

    state = torch.random.get_rng_state()
    run("pgd", Drawing(), images, labels)
    case_loss(Drawing(), images, labels)
    assert torch.equal(torch.random.get_rng_state(), state)


@every_norm
def test_noise_is_as_long_as_eps(norm, images):
    noise = random_noise(images, eps=0.2, unit="range", bounds=None, norm=norm, generator=seeded())
    torch.testing.assert_close(norms(noise.images, images, norm), noise.eps, rtol=2e-6, atol=0)
    assert (norms(noise.images, images, norm) <= noise.eps).all()
    signs = (noise.images - images).sign()
    assert abs(signs.mean()) < 0.1
    assert noise.loss.shape == (0, 5)
    if norm == "linf":
        least = (noise.images - images).abs().flatten(1).amin(dim=1).double()
        torch.testing.assert_close(least, noise.eps, rtol=2e-6, atol=0)
    other = random_noise(images, eps=0.2, unit="range", bounds=None, norm=norm, generator=seeded(1))
    assert not torch.equal(noise.images, other.images)


@pytest.mark.parametrize("by", ["hard_dice", "dice", "cross_entropy", "pixel_error"])
def test_worst_is_no_better_than_any(by, make_unet, images, labels):
    unet = make_unet()
    attempts = [run(name, unet, images, labels, eps=0.3) for name in ATTACKS]
    attempts.append(random_noise(images, eps=3.0, unit="sd", bounds=None, norm="linf", generator=seeded()))
    worst = worst_of(unet, images, labels, attempts, by=by)
    losses = [
        case_loss(unet, a.images, labels, measure=by) for a in (Attacked(images, None, None), *attempts)
    ]
    torch.testing.assert_close(case_loss(unet, worst, labels, measure=by), torch.stack(losses).amax(dim=0))
    assert torch.equal(worst_of(unet, images, labels, [], by=by), images)


def test_case_losses_by_hand():
    images, labels = torch.zeros(1, 1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.long)
    labels[0, 0] = 1  # four of eight pixels
    images[0, 0, 0, :3] = images[0, 0, 1, 0] = 1.0  # predicted as 1: three of them, and another
    network = linear(0.0, 50.0, -50.0)
    network.bias = nn.Parameter(torch.tensor([0.0, -25.0, -25.0]))
    assert case_loss(network, images, labels, measure="pixel_error").item() == pytest.approx(0.25)
    # Class 1: 2 * 3 / (4 + 4); class 2 is neither there nor predicted, and counts 1.
    assert case_loss(network, images, labels, measure="hard_dice").item() == pytest.approx(1 - (0.75 + 1) / 2)
    soft = 1 - ((2 * 3 + 1) / (4 + 4 + 1) + 1) / 2
    assert case_loss(network, images, labels, measure="dice").item() == pytest.approx(soft, abs=1e-5)
    assert case_loss(network, images, labels).item() == pytest.approx(2 * 25 / 8, abs=1e-5)


def test_torchattacks_agrees(make_unet, labels):
    torchattacks = pytest.importorskip("torchattacks")
    unet = make_unet()

    # Its cross-entropy takes logits (N, C, H, W) and labels (N, H, W) as they are.
    images = torch.rand(5, 1, 16, 16, generator=seeded())
    theirs = torchattacks.PGD(unet, eps=0.03, alpha=0.005, steps=8, random_start=False)(images, labels)
    ours = pgd(
        unet, images, labels, eps=0.03, unit="absolute", bounds=(0, 1), steps=8, step_fraction=0.005 / 0.03
    )
    assert (ours.loss[-1] > ours.loss[-2]).all()  # the last image is the best, and theirs is the last
    torch.testing.assert_close(ours.images, theirs.cpu(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": None}, "unit must be one of .*got None"),
        ({"unit": "mm"}, "unit must be one of"),
        ({"eps": -0.1}, r"eps must be a number in \[0, 3.*\], got -0.1"),
        ({"eps": float("nan")}, "eps must be a finite number"),
        ({"eps": True}, "eps must be a finite number .*got True"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"steps": 0}, r"steps must be an integer in \[1, 1e\+06\], got 0"),
        ({"step_fraction": 0.0}, r"step_fraction must be a number in \(0, .*got 0.0"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"random_start": True}, r"generator must be a torch.Generator, got NoneType; .*torch.Generator\(\)"),
        (
            {"bounds": (0.0, 1.0)},
            r"images must be within the bounds \(0.0, 1.0\), got 5 of 5 outside, with intensities -",
        ),
        ({"bounds": (1.0, 0.0)}, "with low < high"),
        ({"bounds": "unit"}, 'bounds must be None, "image" or'),
        ({"images": torch.zeros(5, 16, 16)}, r"images must be non-empty \(N, C, H, W\), got \(5, 16, 16\)"),
        (
            {"images": torch.full((5, 1, 16, 16), torch.nan)},
            "images must be finite, got NaN or infinity in 5 cases",
        ),
        (
            {"labels": torch.zeros(5, 16, 8, dtype=torch.long)},
            r"labels must be non-empty \(5, 16, 16\), got \(5, 16, 8\)",
        ),
        ({"labels": torch.full((5, 16, 16), 0.5)}, "labels must be integers, got fractions"),
        (
            {"labels": torch.full((5, 16, 16), 3)},
            r"labels must be in 0\.\.2, the network.s classes, got 3; pass .* `ignore`",
        ),
        ({"labels": torch.full((5, 16, 16), -1)}, "labels must be integers >= 0, got -1"),
        (
            {"ignore": torch.ones(5, 16, 16, dtype=torch.bool)},
            "ignore must be False somewhere in each case, got a case with all pixels ignored",
        ),
        ({"ignore": torch.zeros(5, 16, 16)}, "ignore must be bool, got float32"),
        (
            {"network": nn.Conv2d(1, 1, 1)},
            r"output must be logits \(5, C, 16, 16\) with C >= 2, got \(5, 1, 16, 16\)",
        ),
        ({"network": nn.Conv2d(1, 3, 3)}, r"output must be logits .*got \(5, 3, 14, 14\)"),
        ({"network": None}, "network must be a torch.Module, got NoneType"),
    ],
)
def test_bad_use_of_pgd(change, message, make_unet, images, labels):
    used = {
        "network": make_unet(),
        "images": images,
        "labels": labels,
        "eps": 0.1,
        "unit": "sd",
        "bounds": None,
    }
    used |= change
    with pytest.raises(ValueError, match=message):
        pgd(used.pop("network"), used.pop("images"), used.pop("labels"), **used)


def test_other_bad_use(make_unet, images, labels):
    unet = make_unet()
    with pytest.raises(ValueError, match="loss must be one of"):
        apgd(unet, images, labels, eps=0.1, unit="sd", bounds=None, loss="segpgd")
    with pytest.raises(ValueError, match="measure must be one of"):
        case_loss(unet, images, labels, measure="iou")
    with pytest.raises(ValueError, match="loss must be one of"):
        loss_gradient(unet, images, labels, loss="hard_dice")
    other = Attacked(images[:2], torch.empty(0, 2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"attempts\[0\] must be Attacked, on images \(5, 1, 16, 16\)"):
        worst_of(unet, images, labels, [other])
    with pytest.raises(ValueError, match="attempts must be a list of results of attacks, got NoneType"):
        worst_of(unet, images, labels, None)
    with pytest.raises(ValueError, match="random_start must be one of"):
        pgd(unet, images, labels, eps=0.1, unit="sd", bounds=None, random_start="no")


def test_eps_needs_a_unit(make_unet, images, labels):
    with pytest.raises(ValueError, match=r"unit must be one of .*got None"):
        pgd(make_unet(), images, labels, eps=0.1, bounds=None)


def test_gradients_switched_off_for_good_are_told(make_unet, images, labels):
    unet = make_unet()
    with torch.no_grad():  # only switched off: the attack switches them on
        found = pgd(unet, images, labels, eps=0.1, unit="sd", bounds=None, steps=2)
    assert (found.loss[-1] > found.loss[0]).all()
    with torch.inference_mode(), pytest.raises(ValueError, match=r"outside torch\.inference_mode"):
        pgd(unet, images, labels, eps=0.1, unit="sd", bounds=None, steps=2)


def test_arrays_that_torch_refuses(make_unet, images, labels):
    unet, usual = make_unet(), {"eps": 0.1, "unit": "sd", "bounds": None}
    expected = fgsm(unet, images, labels, **usual).images
    mirrored = images.numpy()[..., ::-1].copy()[..., ::-1], labels.numpy()[..., ::-1].copy()[..., ::-1]
    swapped = images.numpy().astype(">f4"), labels.numpy().astype(">i4")
    for given in (mirrored, swapped):
        assert torch.equal(fgsm(unet, *given, **usual).images, expected)


class Lost(nn.Module):
    """NaN where the image is bright, as after an overflow."""

    def forward(self, images):
        lost = torch.where(images > 0.9, torch.nan, images)
        return torch.cat([lost, -lost], dim=1)


@pytest.mark.parametrize("measure", ["hard_dice", "pixel_error", "cross_entropy"])
def test_a_network_that_answers_nan_is_not_taken_for_a_good_one(measure):
    images, labels = torch.zeros(3, 1, 6, 6), torch.zeros(3, 6, 6, dtype=torch.long)
    images[1] = 1
    with pytest.raises(
        ValueError, match=r"output must be finite, got NaN or infinity in 1 cases \(first: case 1\)"
    ):
        case_loss(Lost(), images, labels, measure=measure)
    with pytest.raises(
        ValueError, match=r"output must be finite, got NaN or infinity in 1 cases \(first: case 1\)"
    ):
        pgd(Lost(), images, labels, eps=0.1, unit="absolute", bounds=None)


def test_a_gradient_of_nan_is_not_taken_for_robustness():
    class Root(nn.Module):
        def forward(self, images):
            size = images.square().sqrt()  # infinite slope times 0 at 0
            return torch.cat([size, -size], dim=1)

    images, labels = torch.zeros(2, 1, 6, 6), torch.zeros(2, 6, 6, dtype=torch.long)
    with pytest.raises(
        ValueError, match=r"the gradient of the loss must be finite, got NaN or infinity for 2 of 2 images"
    ):
        fgsm(Root(), images, labels, eps=0.1, unit="absolute", bounds=None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 2.5}, r"steps must be an integer in \[1, 1e\+06\], got 2.5"),
        ({"bounds": 5}, "bounds must be"),
    ],
)
def test_odd_arguments_are_named(changed, message):
    given = {"eps": 0.1, "unit": "absolute", "bounds": None} | changed
    with pytest.raises(ValueError, match=message):
        pgd(Lost(), torch.zeros(1, 1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.long), **given)


class Wrapped(nn.Module):
    """Two classes per pixel, by way of a function that may cut the gradient off."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def per_pixel(images):
    return torch.cat([images, -images], dim=1)


CUT_OFF = {
    "no_grad": torch.no_grad()(per_pixel),
    "inference_mode": torch.inference_mode()(per_pixel),
    "detach": lambda images: per_pixel(images.detach()),
    "numpy": lambda images: torch.from_numpy(per_pixel(images.detach()).numpy()),
    "numpy of a tensor with gradient": lambda images: torch.from_numpy(images.numpy()),
    "rounding to integers and back": lambda images: per_pixel(images.long().float()),
    "blind": lambda images: torch.zeros(len(images), 2, *images.shape[2:]),
    "changed in place": lambda images: (
        per_pixel(images.exp().square_().exp().mul_(2)).square().sqrt_().mul_(1)
    ),
}


@pytest.mark.parametrize("kind", CUT_OFF)
def test_a_network_without_a_gradient_is_never_called_robust(kind):
    images, labels = torch.ones(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    size = {"eps": 0.1, "unit": "absolute", "bounds": None}
    network = Wrapped(CUT_OFF[kind])
    for attack in ATTACKS.values():
        with pytest.raises(ValueError, match="network must be differentiable by its images, got"):
            attack(network, images, labels, **size)
    with pytest.raises(ValueError, match="network must be differentiable by its images, got"):
        loss_gradient(network, images, labels)


def test_a_network_that_cannot_be_attacked_can_still_be_measured():
    images, labels = torch.ones(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    for kind in ("no_grad", "inference_mode", "detach", "numpy", "blind"):
        assert torch.isfinite(case_loss(Wrapped(CUT_OFF[kind]), images, labels)).all()


def test_an_infinite_loss_is_refused_before_and_during_an_attack():
    images, labels = torch.ones(2, 1, 4, 4), torch.ones(2, 4, 4, dtype=torch.long)
    images[1] = 2
    size = {"eps": 0.5, "unit": "absolute", "bounds": None}
    huge = Wrapped(lambda x: 2e38 * per_pixel(x.clamp(-1, 1)))  # finite logits whose difference is not
    with pytest.raises(ValueError, match="the loss must be finite, got NaN or infinity for 2 of 2 images"):
        case_loss(huge, images, labels)
    steep = Wrapped(lambda x: per_pixel(torch.where(x > 2.1, torch.inf, x)))
    assert torch.isfinite(case_loss(steep, images, labels)).all()
    with pytest.raises(ValueError, match=r"output must be finite, got NaN or infinity in 1 cases"):
        pgd(steep, images, labels, **size)


def test_every_real_type_of_images_and_labels_is_taken(images):
    whole, labels = (10 * images).round(), (images[:, 0] > 0).long()
    network, size = linear(0.0, 1.0), {"eps": 0.5, "unit": "absolute", "bounds": None}
    expected = fgsm(network, whole, labels, **size).images
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int32):
        assert torch.equal(fgsm(network, whole.to(dtype), labels, **size).images, expected)
    for dtype in (torch.uint8, torch.int32, torch.float32, torch.bool):
        assert torch.equal(fgsm(network, whole, labels.to(dtype), **size).images, expected)
    asks = whole.clone().requires_grad_().contiguous(memory_format=torch.channels_last)
    found = fgsm(network, asks, labels, **size | {"eps": np.float32(0.5)}, batch_size=np.int64(2))
    assert torch.equal(found.images, expected)
    assert not found.images.requires_grad


def test_huge_sizes_end_in_an_error_or_in_finite_images(images, labels):
    network = linear(0.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="eps must be a number in"):
        pgd(network, images, labels, eps=1e300, unit="sd", bounds=None)
    for bounds in ((-np.inf, 6.0), (-9, np.float32(9))):  # one side may be open
        found = pgd(network, images, labels, eps=1e30, unit="sd", bounds=bounds, steps=2, norm="l2")
        assert torch.isfinite(found.images).all()
        assert found.images.max() <= bounds[1]


@pytest.mark.parametrize("bounds", [(0, float("nan")), ("0", "1"), (0, 1, 2), (1j, 2), "12", {0, 1}])
def test_bounds_are_two_numbers(bounds, images, labels):
    with pytest.raises(ValueError, match='bounds must be None, "image" or'):
        random_noise(images, eps=0.1, unit="sd", bounds=bounds, norm="linf", generator=seeded())


def test_a_network_may_work_in_place_on_its_images(images, labels):
    def in_place(x):
        return per_pixel(x.sub_(0.5))

    kept, labels = images.clone(), (labels > 0).long()
    found = pgd(Wrapped(in_place), images, labels, eps=0.1, unit="sd", bounds=None, steps=3)
    expected = pgd(
        Wrapped(lambda x: per_pixel(x - 0.5)), images, labels, eps=0.1, unit="sd", bounds=None, steps=3
    )
    assert torch.equal(images, kept)
    assert torch.equal(found.images, expected.images)
