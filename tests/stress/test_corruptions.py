import itertools
import math

import numpy as np
import pytest
import torch
from monai.transforms.intensity.array import GibbsNoise
from monai.utils.misc import get_seed

from segconf_lite.cohorts import phantom
from segconf_lite.stress import corruptions
from segconf_lite.stress.corruptions import (
    AUGMENTATIONS,
    CONTRAST_NOISE_SD,
    LADDERS,
    StrongCorruption,
    corrupt,
    ladder_table,
    make_any_augmentation,
)

NAMES = [
    "gaussian_noise",
    "rician_noise",
    "salt_and_pepper",
    "speckle",
    "blur",
    "resolution",
    "bias_field",
    "contrast",
    "gamma",
    "gibbs",
    "k_space_spike",
    "motion_ghost",
    "specular_reflection",
]
DRAWN = [name for name in NAMES if name not in {"blur", "resolution", "gamma", "gibbs"}]
SEVERITIES = range(1, 6)


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(phantom.cohort(4, scanner="A", size=48, seed=0).images)


@pytest.fixture(scope="module")
def ramp():
    """(1, 1, 128, 256): grey values from 0 to 1 along the columns, so its range is 1 and darkness is 0."""
    return torch.linspace(0, 1, 256).expand(1, 1, 128, 256).clone()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def value(name, severity):
    return LADDERS[name].values[severity - 1]


def test_there_are_thirteen_scales_of_five_levels_each_worse_than_the_one_before():
    assert list(LADDERS) == NAMES
    for name, ladder in LADDERS.items():
        assert ladder.name == name
        assert len(ladder.values) == 5
        steps = np.diff(ladder.values)
        assert (steps < 0).all() if name == "contrast" else (steps > 0).all()


def offenders(law, *choices):
    """Arguments, out of all combinations of the choices, for which a law does not hold."""
    return [chosen for chosen in itertools.product(*choices) if not law(*chosen)]


def close(found, expected, **tolerance):
    return torch.allclose(found, expected, **tolerance)


def test_severity_0_is_the_identity_bit_for_bit_in_new_memory(images):
    def law(name):
        generator = seeded()
        before = generator.get_state()
        same = corrupt(images, name, 0, generator=generator, standardise=True)
        untouched = torch.equal(generator.get_state(), before)
        return torch.equal(same, images) and same.data_ptr() != images.data_ptr() and untouched

    assert not offenders(law, NAMES)


def test_result_is_new_finite_float32_and_the_input_stays(images):
    kept = images.clone()

    def law(name, severity):
        found = corrupt(images, name, severity)
        plain = type(found) is torch.Tensor and found.dtype == torch.float32 and found.shape == images.shape
        changed = torch.isfinite(found).all() and not torch.equal(found, images)
        return plain and changed and torch.equal(images, kept)

    assert not offenders(law, NAMES, SEVERITIES)


def test_equal_generators_give_equal_images_and_none_is_seed_0(images):
    def law(name):
        first, again = (corrupt(images, name, 3, generator=seeded(7)) for _ in range(2))
        default = corrupt(images, name, 3)
        return torch.equal(first, again) and torch.equal(
            default, corrupt(images, name, 3, generator=seeded(0))
        )

    assert not offenders(law, NAMES)


def test_another_seed_and_the_next_call_give_other_images(images):
    def law(name):
        generator = seeded(0)
        first, following = (corrupt(images, name, 3, generator=generator) for _ in range(2))
        other = corrupt(images, name, 3, generator=seeded(1))
        return not torch.equal(first, following) and not torch.equal(first, other)

    assert not offenders(law, DRAWN)


def test_global_random_states_are_left_alone(images):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), get_seed()  # noqa: NPY002

    def law(name):
        corrupt(images, name, 3)
        same = torch.equal(torch.get_rng_state(), before[0]) and get_seed() == before[2]
        return same and (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002

    assert not offenders(law, NAMES)


def test_each_case_has_draws_of_its_own(images):
    def law(name):
        twins = corrupt(images[:1].repeat(2, 1, 1, 1), name, 3)
        return not torch.equal(twins[0], twins[1])

    assert not offenders(law, DRAWN)


def test_cases_of_a_batch_do_not_mix(images):
    others = torch.cat([images[:1], -5 * images[1:]])

    def law(name):
        found, expected = corrupt(others, name, 3)[0], corrupt(images, name, 3)[0]
        return close(found, expected, rtol=1.3e-6, atol=1e-5)

    assert not offenders(law, NAMES)


def test_damage_grows_with_severity(images):
    def law(name, standardise):
        damage = [
            (corrupt(images, name, severity, standardise=standardise) - images).square().mean().item()
            for severity in range(6)
        ]
        return damage[0] == 0 and (np.diff(damage) > 0).all()

    assert not offenders(law, NAMES, [False, True])


def test_severities_draw_alike_so_they_are_paired(images):
    def law(name):
        states = []
        for severity in SEVERITIES:
            generator = seeded()
            corrupt(images, name, severity, generator=generator)
            states.append(generator.get_state())
        return all(torch.equal(state, states[0]) for state in states)

    assert not offenders(law, NAMES)


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle", "k_space_spike"])
def test_what_is_added_at_one_severity_is_that_of_another_made_larger(name, images):
    power = 0.5 if name == "speckle" else 1  # stated as a variance
    weak, strong = (corrupt(images, name, severity) - images for severity in (2, 5))
    larger = (value(name, 5) / value(name, 2)) ** power
    torch.testing.assert_close(strong, larger * weak, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["salt_and_pepper", "specular_reflection"])
def test_pixels_hit_at_one_severity_are_hit_at_the_next(name, ramp):
    hits = [corrupt(ramp, name, severity) != ramp for severity in SEVERITIES]
    for fewer, more in itertools.pairwise(hits):
        assert (more | ~fewer).all()


def test_units_of_the_image_do_not_matter(images):
    def law(name, severity):
        found = corrupt(7 * images + 30, name, severity)
        return close(found, 7 * corrupt(images, name, severity) + 30, rtol=1e-3, atol=1e-3)

    assert not offenders(law, NAMES, SEVERITIES)


def test_standardise_puts_mean_and_standard_deviation_back(images):
    def law(name, severity):
        found = corrupt(images, name, severity, standardise=True)
        means, deviations = ((f(found, (1, 2, 3)), f(images, (1, 2, 3))) for f in (torch.mean, torch.std))
        return close(*means, atol=1e-4, rtol=0) and close(*deviations, atol=1e-4, rtol=0)

    assert not offenders(law, NAMES, SEVERITIES)


def test_constant_images_and_single_pixels_stay_as_they_are():
    flat = [torch.full((2, 1, 9, 12), 0.3), torch.zeros(1, 1, 8, 8), torch.full((1, 1, 1, 1), -2.0)]

    def law(name, standardise):
        return all(torch.equal(corrupt(x, name, 5, standardise=standardise), x) for x in flat)

    assert not offenders(law, NAMES, [False, True])


def test_odd_and_oblong_images_are_fine(images):
    def law(name):
        found = corrupt(images[:, :, :33, :20], name, 5)
        return found.shape == (4, 1, 33, 20) and torch.isfinite(found).all()

    assert not offenders(law, NAMES)


def test_numpy_views_and_tensors_with_gradients_are_taken(images):
    expected = corrupt(images, "blur", 2)
    assert torch.equal(corrupt(images.numpy(), "blur", 2), expected)
    assert torch.equal(corrupt(images.numpy().astype(">f8"), "blur", np.int64(2)), expected)
    assert torch.equal(corrupt(images.clone().requires_grad_(), "blur", 2), expected)
    assert not corrupt(images.clone().requires_grad_(), "blur", 2).requires_grad
    flipped = images.numpy()[:, :, ::-1]
    assert torch.equal(corrupt(flipped, "gamma", 2), corrupt(images, "gamma", 2).flip(2))


# Known answers: what a magnitude says is what is measured.


def test_gaussian_noise_has_the_stated_deviation(ramp):
    for severity in SEVERITIES:
        noise = corrupt(10 * ramp, "gaussian_noise", severity) - 10 * ramp
        sd = 10 * value("gaussian_noise", severity)
        assert noise.std().item() == pytest.approx(sd, rel=0.02)
        assert noise.mean().item() == pytest.approx(0, abs=0.03 * sd)


def test_rician_noise_turns_darkness_grey_by_the_mean_of_rayleigh(ramp):
    for severity in SEVERITIES:
        scene = torch.zeros_like(ramp)
        scene[..., 128:] = 1
        found = corrupt(scene, "rician_noise", severity)
        dark, bright = found[..., :128], found[..., 128:]
        sd = value("rician_noise", severity)
        assert dark.mean().item() == pytest.approx(sd * math.sqrt(math.pi / 2), rel=0.02)
        assert bright.std().item() == pytest.approx(sd, rel=0.03)
        assert bright.mean().item() == pytest.approx(1 + sd**2 / 2, abs=0.005)
        assert found.min() >= 0


def test_salt_and_pepper_hits_the_stated_fraction_with_as_much_of_each(ramp):
    for severity in SEVERITIES:
        grey = ramp.clamp(0.2, 0.8)
        grey[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
        found = corrupt(grey, "salt_and_pepper", severity)
        fraction = value("salt_and_pepper", severity)
        assert (found == 0).float().mean().item() == pytest.approx(fraction / 2, rel=0.2)
        assert (found == 1).float().mean().item() == pytest.approx(fraction / 2, rel=0.2)
        untouched = (found != 0) & (found != 1)
        torch.testing.assert_close(found[untouched], grey[untouched])


def test_speckle_is_stated_as_the_variance_and_spares_darkness(ramp):
    for severity in SEVERITIES:
        scene = ramp.clone()
        scene[:, :, :64] = 0.5  # a constant above a ramp
        found = corrupt(scene, "speckle", severity)
        variance = value("speckle", severity)
        relative = (found - scene)[scene > 0.1] / scene[scene > 0.1]
        assert relative.var().item() == pytest.approx(variance, rel=0.05)
        assert found[:, :, :64].var().item() == pytest.approx(0.25 * variance, rel=0.05)
        assert (found[scene == 0] == 0).all()


def test_blur_of_a_point_has_the_stated_sigma_and_keeps_its_mass():
    for severity in SEVERITIES:
        point = torch.zeros(1, 1, 61, 61)
        point[..., 30, 30] = 1
        found = corrupt(point, "blur", severity)[0, 0]
        places = torch.arange(61) - 30.0
        assert found.sum().item() == pytest.approx(1, abs=1e-5)
        for profile in (found.sum(dim=0), found.sum(dim=1)):
            sigma = (profile * places**2).sum().sqrt().item()
            assert sigma == pytest.approx(value("blur", severity), rel=0.01)


def test_blur_does_not_darken_the_border(ramp):
    found = corrupt(ramp.transpose(2, 3), "blur", 5)
    torch.testing.assert_close(found[..., 0], found[..., 64])


def test_resolution_leaves_as_many_grey_values_as_the_small_image_has(images):
    for severity in SEVERITIES:
        factor = value("resolution", severity)
        small = round(48 / factor)
        found = corrupt(images, "resolution", severity)[0, 0].double()
        rank = torch.linalg.matrix_rank(
            found, atol=1e-3
        )  # interpolation is linear: its rank is that of its input
        assert rank <= small
        again = torch.nn.functional.interpolate(images, size=(small, small), mode="area")
        assert found.max() <= again[0].max() + 1e-5


def test_bias_field_spans_the_stated_amplitude_and_is_smooth():
    for severity in SEVERITIES:
        scene = torch.ones(3, 1, 64, 80)
        scene[:, :, 0, 0] = 0  # gives the image a range
        amplitude = value("bias_field", severity)
        found = corrupt(scene, "bias_field", severity)
        assert (found[:, :, 0, 0] == 0).all()
        field = found[:, :, 1:, 1:].log() / amplitude
        assert field.abs().max().item() == pytest.approx(1, abs=0.01)
        assert field.amax(dim=(1, 2, 3)).min().item() > 0.8  # the corner left out may hold the extreme
        assert field.amin(dim=(1, 2, 3)).max().item() < -0.8
        for axis in (2, 3):  # a cubic in both: fourth differences vanish
            assert torch.diff(field.double(), n=4, dim=axis).abs().max() < 1e-4 / amplitude
            assert (field.std(dim=axis) > 0.05).any()  # and it varies along both
        places = np.linspace(-1, 1, 63)
        for one in field[:, 0]:  # no more than a cubic along the diagonal either: the degree is the total one
            diagonal = one.diagonal().double().numpy()
            cubic = np.polynomial.Polynomial.fit(places, diagonal, 3)
            assert np.abs(cubic(places) - diagonal).max() < 1e-4 / amplitude


def test_contrast_shrinks_by_the_factor_about_the_mean_under_a_noise_that_stays(ramp):
    for severity in SEVERITIES:
        found = corrupt(5 * ramp, "contrast", severity)
        slope, level = np.polyfit(5 * ramp.flatten() - 2.5, found.flatten(), 1)
        assert slope == pytest.approx(value("contrast", severity), abs=0.005)
        assert level == pytest.approx(2.5, abs=0.01)
        residue = found - (level + slope * (5 * ramp - 2.5))
        assert residue.std().item() == pytest.approx(5 * CONTRAST_NOISE_SD, rel=0.02)


def test_standardising_does_not_undo_a_loss_of_contrast(images):
    found = corrupt(images, "contrast", 5, standardise=True)
    assert (found - images).square().mean() > 0.1


def test_gamma_of_a_ramp_is_its_power(ramp):
    for severity in SEVERITIES:
        torch.testing.assert_close(corrupt(ramp, "gamma", severity), ramp ** value("gamma", severity))


def test_gibbs_is_that_of_monai_where_monai_centres_its_disc(images):
    for severity in SEVERITIES:
        odd = images[:, :, :47, :47]
        expected = GibbsNoise(value("gibbs", severity))(odd[:, 0])
        found = corrupt(odd, "gibbs", severity)[:, 0]
        # Even sizes differ: there MONAI's disc is half a line off.
        torch.testing.assert_close(found, expected.as_tensor(), atol=2e-3, rtol=0)


def test_gibbs_removes_frequencies_beyond_the_radius_and_nothing_else(images):
    for severity in SEVERITIES:
        radius = (1 - value("gibbs", severity)) * math.sqrt(0.5)
        frequencies = torch.fft.fftfreq(48)
        inside = torch.hypot(frequencies[:, None], frequencies) <= radius
        before, after = (torch.fft.fft2(x) for x in (images, corrupt(images, "gibbs", severity)))
        torch.testing.assert_close(after, before * inside, atol=1e-2, rtol=0)


def test_k_space_spike_has_the_stated_fraction_of_the_k_space_maximum(images):
    for severity in SEVERITIES:
        dark = images - images.amin(dim=(2, 3), keepdim=True)
        clean = torch.fft.fft2(dark)
        change = (torch.fft.fft2(corrupt(dark, "k_space_spike", severity)) - clean).abs().flatten(1)
        highest = change.sort(dim=1, descending=True).values
        # The real part of one spike is half of it and half of its mirror image.
        expected = value("k_space_spike", severity) * clean.abs().amax(dim=(1, 2, 3)) / 2
        torch.testing.assert_close(highest[:, 0], expected, rtol=1e-3, atol=0)
        torch.testing.assert_close(highest[:, 1], expected, rtol=1e-3, atol=0)
        assert (highest[:, 2] < 1e-3 * expected).all()


def test_motion_ghost_keeps_the_energy_and_moves_a_point_along_its_column_only():
    for severity in SEVERITIES:
        point = torch.zeros(1, 1, 48, 48)
        point[..., 20, 11] = 1
        found = corrupt(point, "motion_ghost", severity)
        assert found.square().sum().item() == pytest.approx(1, rel=1e-4)
        found[..., 11] = 0
        assert found.abs().max() < 1e-5


def test_specular_reflection_saturates_the_stated_fraction_of_the_area():
    for severity in SEVERITIES:
        scene = torch.zeros(6, 1, 96, 96)
        scene[:, :, 0, 0] = 1
        found = corrupt(scene, "specular_reflection", severity)
        saturated = (found == 1).float().mean(dim=(1, 2, 3))
        expected = torch.full((6,), value("specular_reflection", severity))
        torch.testing.assert_close(saturated, expected, atol=4 / 96**2, rtol=0)  # rounding to pixels
        assert found.max() == 1
        assert ((found > 0.01) & (found < 0.99)).flatten(1).any(dim=1).all()  # edges are soft


def test_table_has_a_row_for_every_corruption_and_severity():
    table = ladder_table()
    assert list(table.columns) == ["corruption", "severity", "parameter", "unit", "value"]
    assert list(zip(table.corruption, table.severity, strict=True)) == [
        (name, severity) for name in NAMES for severity in SEVERITIES
    ]
    assert (table.value == [v for name in NAMES for v in LADDERS[name].values]).all()
    assert table.parameter.str.len().min() > 0
    assert table.unit.str.len().min() > 0
    assert "variance" in table.set_index("corruption").loc["speckle", "parameter"].iloc[0]


def test_unknown_corruptions_are_answered_with_those_known(images):
    with pytest.raises(ValueError, match=r"name must be one of \('gaussian_noise', .*\), got 'fog'"):
        corrupt(images, "fog", 1)


@pytest.mark.parametrize("severity", [True, False, 1.0, -1, 6, "2", None])
def test_severity_is_an_integer_from_0_to_5(severity, images):
    message = r"severity must be an integer in \[0, 5\], got .*; it is a level of the severity scale"
    with pytest.raises(ValueError, match=message):
        corrupt(images, "blur", severity)


@pytest.mark.parametrize("severity", [0, 3])
def test_bad_images_are_refused_at_every_severity(severity, images):
    broken = images.clone()
    broken[2, 0, 5, 5] = math.nan
    for bad, message in (
        (images[:, 0], r"images must be non-empty \(N, [1C], H, W\), got \(4, 48, 48\)"),
        (images[:0], r"images must be non-empty"),
        (broken, r"images must be finite, got NaN or infinity in 1 cases \(first: case 2\)"),
        (images.double() * 1e300, r"images must be finite, .* float32 ends at 3.4e38"),
        (images.to_sparse(), r"images must be a numpy array or a dense tensor"),
        (images.to("meta"), r"images must be a numpy array or a dense tensor"),
        (images > 0, r"images must be a numpy array or a dense tensor of real numbers, got .*bool"),
        ([[0.0]], r"images must be a numpy array or a dense tensor of real numbers, got .*list"),
    ):
        with pytest.raises(ValueError, match=message):
            corrupt(bad, "gaussian_noise", severity)
        with pytest.raises(ValueError, match=message):
            StrongCorruption(0)(bad)


def test_strong_corruption_takes_several_channels_and_keeps_mean_and_deviation(images):
    colours = torch.cat([images, 2 * images + 1, -images], dim=1)
    corrupted = StrongCorruption(0, probability=1.0)(colours)
    assert not torch.isclose(corrupted, colours).all(dim=(1, 2, 3)).any()
    for of in (torch.mean, torch.std):
        torch.testing.assert_close(
            of(corrupted, dim=(1, 2, 3)), of(colours, dim=(1, 2, 3)), atol=1e-4, rtol=1e-4
        )


def test_generators_of_other_libraries_are_refused(images):
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator, got Generator"):
        corrupt(images, "blur", 1, generator=np.random.default_rng(0))


def test_every_real_type_is_taken_and_float32_comes_back():
    whole = torch.arange(128.0).reshape(2, 1, 8, 8)
    expected = corrupt(whole, "blur", 3)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int32):
        assert torch.equal(corrupt(whole.to(dtype), "blur", 3), expected)
    channels_last = whole.to(memory_format=torch.channels_last)
    assert torch.equal(corrupt(channels_last, "blur", 3), expected)
    assert torch.equal(corrupt(whole.numpy().astype(">i2"), "blur", 3), expected)
    strong = StrongCorruption(0, probability=1.0)(whole)
    assert torch.equal(StrongCorruption(np.int64(0), probability=1.0)(whole.bfloat16()), strong)


def test_float32_comes_back_whatever_torch_makes_by_default():
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = {name: corrupt(images, name, 3) for name in LADDERS}
    torch.set_default_dtype(torch.float64)
    try:
        found = {name: corrupt(images, name, 3) for name in LADDERS}
    finally:
        torch.set_default_dtype(torch.float32)
    for name in LADDERS:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name])


def test_images_beyond_float32_are_refused():
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 0, 0], images[0, 0, 1, 1] = -3e38, 3e38
    for spoil in (lambda x: corrupt(x, "blur", 1), StrongCorruption(0, probability=1.0)):
        with pytest.raises(ValueError, match=r"corrupted images must be finite, .*too large for float32"):
            spoil(images)


# The strong random corruption.


@pytest.fixture(scope="module")
def eight():
    return torch.from_numpy(phantom.cohort(8, size=48).images)


def test_equal_seeds_give_equal_images_and_others_do_not(eight):
    first, again, other = (StrongCorruption(seed)(eight) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()
    assert first.shape == eight.shape
    assert first.dtype == torch.float32


def test_mean_and_standard_deviation_stay_and_images_change_much(eight):
    spoiled = StrongCorruption(0, probability=1.0)(eight)
    torch.testing.assert_close(spoiled.mean(dim=(1, 2, 3)), eight.mean(dim=(1, 2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(spoiled.std(dim=(1, 2, 3)), eight.std(dim=(1, 2, 3)), atol=1e-4, rtol=0)
    assert (spoiled - eight).square().mean(dim=(1, 2, 3)).sqrt().min() > 0.2  # grey values have deviation 1


def test_probability_zero_is_the_identity_bit_for_bit(eight):
    assert torch.equal(StrongCorruption(0, probability=0)(eight), eight)


def test_ghosts_of_a_point_lie_along_its_column_where_the_period_puts_them():
    image = torch.zeros(32, 32)
    image[8, 5] = 1.0
    found = corruptions._ghost(image, strength=0.2, period=4)
    expected = torch.special.bessel_j1(torch.tensor(0.2))  # first-order sideband of a phase modulation
    assert found[16, 5].item() == pytest.approx(expected.item(), rel=3e-3)  # the third wraps around onto it
    assert found[:, :5].abs().max() < 1e-6
    assert found.square().sum().item() == pytest.approx(1.0, rel=1e-5)  # a phase error moves energy only


def test_the_images_given_are_not_changed(eight):
    kept = eight.clone()
    StrongCorruption(0)(eight)
    assert torch.equal(eight, kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 2}, r"probability must be a number in \[0, 1\], got 2"),
        ({"fraction": -1}, r"fraction must be a number in \[0, 1\], got -1"),
        ({"fraction": math.nan}, "fraction must be a finite number"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"seed": True}, "seed must be an integer"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_bad_use(options, message):
    with pytest.raises(ValueError, match=message):
        StrongCorruption(**{"seed": 0} | options)


def test_augmentations_by_name(eight):
    labels = torch.zeros(8, 48, 48, dtype=torch.long)
    for name in AUGMENTATIONS[1:]:
        first, again = (make_any_augmentation(name, 3)(eight, labels)[0] for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, eight)
    assert make_any_augmentation(None, 3) is None
    with pytest.raises(ValueError, match=r"name must be one of \(None, 'mild', 'strong'\), got 'fog'"):
        make_any_augmentation("fog", 3)


def test_a_fraction_of_the_images_is_spoiled_and_the_others_are_left_bit_for_bit(eight):
    many = eight.repeat(8, 1, 1, 1)
    changed = (StrongCorruption(0, probability=1, fraction=0.75)(many) != many).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.75, abs=0.15)
