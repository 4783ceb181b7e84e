"""Corrupted images whose true labels stay valid: thirteen severity scales, and a strong random corruption.

Every severity scale (`LADDERS`) works on images mapped to [0, 1] by their own minimum and maximum, and the
result is mapped back. Intensities are therefore fractions of an image's range, whatever its units; darkness
is 0, as everything that multiplies needs; nothing is clipped. No mask is taken: a corruption that knew the
organ could leak the truth.

Shape letters: B cases, H rows, W columns, S spots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from monai.networks.layers.convutils import gaussian_1d
from monai.networks.layers.simplelayers import separable_filtering
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
)
from monai.utils.type_conversion import convert_to_tensor
from numpy.polynomial.legendre import legvander
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.models.augment import Augmentation, make_augmentation
from segconf_lite.stress.inputs import Images, checked_generator, to_images

AUGMENTATIONS = (None, "mild", "strong")
CONTRAST_NOISE_SD = 0.02  # fraction of the intensity range
_N_SPOTS, _SPOT_EDGE_PIXELS = 5, 1.0
_TINY = 1e-6  # fraction of the range; below it a standard deviation is rounding, not signal
_Apply = Callable[[Tensor, float, Generator], Tensor]


class StrongCorruption:
    """Random gamma, bias field, blur, ghosts and noise, each drawn on its own for each case.

    They come in this order, each with probability `probability`: gamma 0.3 to 3 of the intensities, a bias
    field (polynomial of third degree), Gaussian blur of sigma 0.5 to 2 pixels, ghosts from a sinusoidal phase
    error of up to 1.5 radians, noise of standard deviation up to 0.5. Mean and standard deviation of each
    image are then restored, as z-scoring would. Nothing moves, so labels stay true.

    Args:
        seed: Seed of this object's own random state, >= 0; equal seeds give equal sequences of batches.
        probability: Probability of each change, in [0, 1]; 0 leaves images bit for bit.
        fraction: Probability of an image to be corrupted at all, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> images = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
        >>> corrupted = StrongCorruption(seed=0, probability=1.0)(images)
        >>> torch.equal(corrupted, images), round(abs(float(corrupted.std() - images.std())), 4)
        (False, 0.0)
    """

    def __init__(self, seed: int, *, probability: float = 0.5, fraction: float = 1.0) -> None:
        seed = check.integer("seed", seed, low=0, high=2**63 - 2)
        self.probability = check.between("probability", probability)
        self.fraction = check.between("fraction", fraction)
        self._generator = torch.Generator().manual_seed(seed)
        self._before = Compose(
            [
                RandAdjustContrast(prob=self.probability, gamma=(0.3, 3.0)),
                RandBiasField(prob=self.probability, degree=3, coeff_range=(-0.4, 0.4)),
                RandGaussianSmooth(prob=self.probability, sigma_x=(0.5, 2.0), sigma_y=(0.5, 2.0)),
            ]
        )
        self._after = Compose([RandGaussianNoise(prob=self.probability, std=0.5)])
        self._before.set_random_state(seed)
        self._after.set_random_state(seed + 1)

    def __call__(self, images: Images) -> Tensor:
        """Corrupted copies (B, C, H, W) float32 on the CPU; all channels of an image change alike.

        Args:
            images: Images (B, C, H, W), numpy or torch.

        Raises:
            ValueError: If the images are invalid.
        """
        clean = to_images(images, channels=None)
        chosen = torch.rand(len(clean), generator=self._generator) < self.fraction
        pairs = zip(clean, chosen.tolist(), strict=True)
        return _finite(torch.stack([self._one(image) if change else image for image, change in pairs]))

    def _one(self, image: Tensor) -> Tensor:
        if self.probability == 0:
            return image
        low = image.min()
        bright = _plain(self._before(image - low))  # a bias field multiplies, so darkness must be 0
        strength, period, start, chance = torch.rand(4, generator=self._generator).tolist()
        if chance < self.probability:
            bright = _ghost(bright, strength=1.5 * strength, period=3 + 6 * period, start=6.28 * start)
        noisy = _plain(self._after(bright / bright.std().clamp(min=_TINY)))
        centred = (noisy - noisy.mean()) / noisy.std().clamp(min=_TINY)
        return centred * image.std() + image.mean()


def make_any_augmentation(name: str | None, seed: int) -> Augmentation | None:
    """Training augmentation by name: that of `make_augmentation`, or ``"strong"``.

    Args:
        name: None, ``"mild"``, or ``"strong"``: `StrongCorruption` of three quarters of the images.
        seed: Seed of the augmentation's own random state, >= 0.

    Raises:
        ValueError: If the name is none of these.

    Example:
        >>> images, labels = torch.ones(4, 1, 8, 8), torch.zeros(4, 8, 8, dtype=torch.long)
        >>> make_any_augmentation("strong", 0)(images, labels)[0].shape
        torch.Size([4, 1, 8, 8])
    """
    check.one_of("name", name, AUGMENTATIONS)
    if name != "strong":
        return make_augmentation(name, seed)
    corrupt_some = StrongCorruption(seed, fraction=0.75)
    return lambda images, labels: (corrupt_some(images), labels)


@dataclass(frozen=True)
class Ladder:
    """Severity scale of one corruption: its physical magnitude at severities 1 to 5.

    Attributes:
        name: Key in `LADDERS`.
        parameter: What the magnitude is, in words.
        unit: Unit of the magnitude; the range of an image is its maximum minus its minimum.
        values: Five magnitudes, each more harmful than the one before.
        apply: Function of images (B, 1, H, W) in [0, 1], a magnitude and a generator; it draws alike at any
            magnitude.

    Example:
        >>> blur = LADDERS["blur"]
        >>> blur.unit, blur.values
        ('pixels', (0.5, 1.0, 1.5, 2.5, 4.0))
    """

    name: str
    parameter: str
    unit: str
    values: tuple[float, ...]
    apply: _Apply


#: Name of a corruption -> its severity scale.
LADDERS: dict[str, Ladder] = {}


def corrupt(
    images: Images,
    name: str,
    severity: int,
    *,
    generator: Generator | None = None,
    standardise: bool = False,
) -> Tensor:
    """Images with one corruption at one severity; nothing moves, so labels stay true.

    Equal generator states give equal results, each case has random numbers of its own, and severities are
    paired: the noise of severity 2 is that of severity 1 made larger. Severity 0 draws nothing and gives the
    images bit for bit. A constant image has no range to take a fraction of, and stays as it is.

    Each channel is corrupted as an image of its own, so that magnitudes are fractions of its own range, and
    all of them with the same random numbers. Shading, ghosts and reflections therefore lie at one place, and
    the noise of one channel is that of another, times the ratio of their ranges: a network cannot average it
    away over the channels.

    Args:
        images: Images (B, channels, H, W), numpy or torch, finite, in any units.
        name: Name of the corruption, a key of `LADDERS`.
        severity: Severity 0 (none) to 5 (worst); `ladder_table` says what each level means.
        generator: Random generator on the CPU, advanced by the draws of one channel, which depend on the
            whole batch. None takes a fresh one seeded 0, so that every call gives the same.
        standardise: Whether to restore mean and standard deviation of each channel, as z-scoring afterwards
            would.

    Returns:
        Images (B, channels, H, W) float32 on the CPU, in the units of the input, always in new memory.

    Raises:
        ValueError: If the images, the name, the severity or the generator are invalid.

    Example:
        >>> point = torch.zeros(1, 1, 5, 5)
        >>> point[0, 0, 2, 2] = 1
        >>> corrupt(point, "blur", 1)[0, 0, 2].round(decimals=2)  # sigma 0.5 pixels
        tensor([0.0000, 0.0800, 0.6300, 0.0800, 0.0000])
    """
    clean = to_images(images, channels=None)
    check.one_of("name", name, LADDERS)
    check.one_of("standardise", standardise, (True, False))
    fix = "it is a level of the severity scale, not a magnitude: see ladder_table()"
    severity = check.integer("severity", severity, low=0, high=5, fix=fix)
    if generator is not None and checked_generator(generator).device.type != "cpu":
        raise check.refuse("generator", "on the CPU", generator.device)
    if severity == 0:
        return clean
    draws, each = generator or torch.Generator().manual_seed(0), []
    state = draws.get_state()
    for channel in clean.split(1, dim=1):
        draws.set_state(state)
        each.append(_corrupted(channel, LADDERS[name], severity, draws, standardise))
    return torch.cat(each, dim=1)


def _corrupted(
    clean: Tensor, ladder: Ladder, severity: int, draws: torch.Generator, standardise: bool
) -> Tensor:
    """One channel, (B, 1, H, W)."""
    low = clean.amin(dim=(2, 3), keepdim=True)  # (B, 1, 1, 1), as all statistics of an image below
    extent = clean.amax(dim=(2, 3), keepdim=True) - low
    unit = (clean - low) / torch.where(extent > 0, extent, 1.0)
    corrupted = ladder.apply(unit, ladder.values[severity - 1], draws)
    if standardise:
        scale = _standard_deviation(unit) / _standard_deviation(corrupted).clamp(min=_TINY)
        corrupted = _mean(unit) + scale * (corrupted - _mean(corrupted))
    return _finite((low + extent * corrupted).float())


def ladder_table() -> pd.DataFrame:
    """Severity scales of all corruptions, a row per corruption and severity.

    Returns:
        Columns corruption, severity (1 to 5), parameter (in words), unit, value; in the order of `LADDERS`.

    Example:
        >>> table = ladder_table()
        >>> len(table), table.loc[table.corruption == "gamma", "value"].tolist()
        (65, [1.2, 1.5, 2.0, 2.8, 4.0])
    """
    rows = [
        (ladder.name, severity, ladder.parameter, ladder.unit, value)
        for ladder in LADDERS.values()
        for severity, value in enumerate(ladder.values, start=1)
    ]
    return pd.DataFrame(rows, columns=["corruption", "severity", "parameter", "unit", "value"])


def _ladder(parameter: str, unit: str, *values: float) -> Callable[[_Apply], _Apply]:
    """Enters a function of (images in [0, 1], magnitude, generator) into `LADDERS`, under its name."""

    def enter(apply: _Apply) -> _Apply:
        name = apply.__name__.lstrip("_")
        LADDERS[name] = Ladder(name, parameter, unit, values, apply)
        return apply

    return enter


@_ladder("standard deviation of added noise", "fraction of range", 0.02, 0.04, 0.08, 0.12, 0.2)
def _gaussian_noise(unit: Tensor, sd: float, generator: Generator) -> Tensor:
    return unit + sd * _normal(unit, generator)


@_ladder("standard deviation of noise per complex channel", "fraction of range", 0.02, 0.04, 0.08, 0.12, 0.2)
def _rician_noise(unit: Tensor, sd: float, generator: Generator) -> Tensor:
    # Magnitude of a complex signal with noise in both channels: darkness turns grey, by sd * sqrt(pi / 2).
    return torch.hypot(unit + sd * _normal(unit, generator), sd * _normal(unit, generator))


@_ladder("pixels set to minimum or maximum", "fraction of pixels", 0.005, 0.01, 0.02, 0.05, 0.1)
def _salt_and_pepper(unit: Tensor, fraction: float, generator: Generator) -> Tensor:
    chance, coin = torch.rand(2, *unit.shape, generator=generator, dtype=unit.dtype)
    return torch.where(chance < fraction, (coin < 0.5).float(), unit)


@_ladder("variance of n in x + x * n", "1", 0.001, 0.003, 0.01, 0.03, 0.1)
def _speckle(unit: Tensor, variance: float, generator: Generator) -> Tensor:
    return unit + unit * variance**0.5 * _normal(unit, generator)


@_ladder("sigma of a Gaussian", "pixels", 0.5, 1.0, 1.5, 2.5, 4.0)
def _blur(unit: Tensor, sigma_pixels: float, _: Generator) -> Tensor:
    # MONAI's default kernel is wider than asked (0.57 for 0.5); its discrete Gaussian has the stated sigma.
    # Edges are repeated, since zeros beyond them would darken the border.
    kernel = gaussian_1d(torch.tensor(sigma_pixels), approx="scalespace", normalize=True)
    return separable_filtering(unit, [kernel, kernel], mode="replicate")


@_ladder("factor of averaging, then back up", "1", 1.5, 2.0, 3.0, 4.0, 6.0)
def _resolution(unit: Tensor, factor: float, _: Generator) -> Tensor:
    size = tuple(unit.shape[-2:])
    small = interpolate(unit, size=[max(1, round(n / factor)) for n in size], mode="area")
    return interpolate(small, size=size, mode="bilinear", align_corners=False)


@_ladder("b in exp(b f), f a cubic in [-1, 1]", "1", 0.1, 0.2, 0.4, 0.7, 1.0)
def _bias_field(unit: Tensor, amplitude: float, generator: Generator) -> Tensor:
    # Not MONAI's RandBiasField: in 2D that has no term in columns alone, and an amplitude left to chance.
    grids = (np.linspace(-1, 1, n) for n in unit.shape[-2:])
    rows, columns = (torch.from_numpy(legvander(grid, 3)).float() for grid in grids)  # (H, 4) and (W, 4)
    at_most_cubic = torch.ones(4, 4).triu().flip(1).to(unit)  # where the two degrees sum to 3 or less
    weights = torch.randn(len(unit), 4, 4, generator=generator, dtype=unit.dtype) * at_most_cubic
    field = torch.einsum("hi,bij,wj->bhw", rows, weights, columns)[:, None]  # (B, 1, H, W)
    field = field - field.amin(dim=(2, 3), keepdim=True)
    field = 2 * field / field.amax(dim=(2, 3), keepdim=True).clamp(min=_TINY) - 1
    return unit * torch.exp(amplitude * field)


@_ladder(
    f"factor on differences from the mean, then noise of {CONTRAST_NOISE_SD} of the range",
    "1",
    *(0.8, 0.6, 0.4, 0.25, 0.15),
)
def _contrast(unit: Tensor, factor: float, generator: Generator) -> Tensor:
    # Z-scoring alone would undo a loss of contrast. What an acquisition really loses is the ratio to its
    # noise, so noise that does not shrink with the contrast is added after it.
    mean = _mean(unit)
    return mean + factor * (unit - mean) + CONTRAST_NOISE_SD * _normal(unit, generator)


@_ladder("exponent", "1", 1.2, 1.5, 2.0, 2.8, 4.0)
def _gamma(unit: Tensor, exponent: float, _: Generator) -> Tensor:
    return unit**exponent


@_ladder("k-space cut off from its corner", "fraction of radius", 0.3, 0.45, 0.6, 0.7, 0.8)
def _gibbs(unit: Tensor, fraction: float, _: Generator) -> Tensor:
    # As MONAI's GibbsNoise, whose disc is half a line off the centre of k-space when H or W is even.
    rows, columns = (torch.fft.fftfreq(n) for n in unit.shape[-2:])  # cycles per pixel
    kept = torch.hypot(rows[:, None], columns) <= (1 - fraction) * 0.5**0.5  # the corner lies at sqrt(1/2)
    return torch.fft.ifft2(torch.fft.fft2(unit) * kept).real


@_ladder("height of one spike, real part kept", "fraction of k-space maximum", 0.1, 0.2, 0.4, 0.7, 1.0)
def _k_space_spike(unit: Tensor, fraction: float, generator: Generator) -> Tensor:
    # One spike, real part kept, is a plane wave. The k-space maximum of an image >= 0 is its sum, at the
    # centre, so a spike of a fraction of that is a wave whose amplitude is the same fraction of the mean.
    radius, angle, start = torch.rand(3, len(unit), 1, 1, 1, generator=generator, dtype=unit.dtype)
    radius, angle = 0.1 + 0.3 * radius, 2 * torch.pi * angle  # cycles per pixel: neither shading nor Nyquist
    n_rows, n_columns = unit.shape[-2:]
    along_rows = torch.round(radius * angle.sin() * n_rows) * torch.arange(n_rows)[:, None] / n_rows
    along_columns = torch.round(radius * angle.cos() * n_columns) * torch.arange(n_columns) / n_columns
    wave = torch.cos(2 * torch.pi * (along_rows + along_columns + start))
    return unit + fraction * _mean(unit) * wave


@_ladder("amplitude of phase error", "radians", 0.2, 0.4, 0.7, 1.0, 1.5)
def _motion_ghost(unit: Tensor, radians: float, generator: Generator) -> Tensor:
    draws = torch.rand(len(unit), 2, generator=generator, dtype=unit.dtype).tolist()
    ghosts = (
        _ghost(image, strength=radians, period=3 + 6 * period, start=2 * torch.pi * start)
        for image, (period, start) in zip(unit, draws, strict=True)
    )
    return torch.stack(list(ghosts))


@_ladder(
    "saturated area of bright spots, Gaussian edges of 1 pixel beyond it",
    "fraction of image area",
    *(0.002, 0.005, 0.01, 0.02, 0.04),
)
def _specular_reflection(unit: Tensor, fraction: float, generator: Generator) -> Tensor:
    n_rows, n_columns = unit.shape[-2:]
    n_saturated = max(1, round(fraction * n_rows * n_columns))
    draws = torch.rand(len(unit), 3, _N_SPOTS, 1, 1, generator=generator, dtype=unit.dtype)
    corrupted = []
    for image, (row, column, size) in zip(unit, draws, strict=True):  # one by one: (S, H, W) is large
        size = 0.5 + size  # radii relative to each other
        rows = torch.arange(n_rows)[:, None] + 0.5 - row * n_rows
        distance = torch.hypot(rows, torch.arange(n_columns) + 0.5 - column * n_columns)  # (S, H, W)
        # Spots grow until they cover just the stated fraction, whatever they overlap or lose at the border.
        growth = (distance / size).amin(dim=0).flatten().kthvalue(n_saturated).values
        outside = (distance - growth * size).amin(dim=0).clamp(min=0)  # (H, W) pixels to the nearest spot
        opacity = torch.exp(-0.5 * (outside / _SPOT_EDGE_PIXELS) ** 2)
        corrupted.append(image + opacity * (1 - image))
    return torch.stack(corrupted)


def _ghost(image: Tensor, *, strength: float, period: float, start: float = 0.0) -> Tensor:
    """Motion ghosts: copies of an image (..., H, W) along its rows, from a sinusoidal phase error.

    `strength` is the amplitude of the error in radians, `period` its period in k-space lines, `start` its
    phase in radians.
    """
    lines = torch.fft.fftfreq(image.shape[-2]) * image.shape[-2]
    error = strength * torch.sin(2 * torch.pi * lines / period + start)
    k_space = torch.fft.fft2(image) * torch.polar(torch.ones_like(error), error)[:, None]
    return torch.fft.ifft2(k_space).abs()


def _finite(corrupted: Tensor) -> Tensor:
    fix = "the images are too large for float32; scale them to standard deviation 1"
    check.finite("the corrupted images", to_numpy(corrupted), fix=fix)
    return corrupted


def _mean(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3), keepdim=True)


def _standard_deviation(images: Tensor) -> Tensor:
    return images.std(dim=(2, 3), keepdim=True, correction=0)


def _normal(unit: Tensor, generator: Generator) -> Tensor:
    return torch.randn(unit.shape, generator=generator, dtype=unit.dtype)


def _plain(image: object) -> Tensor:
    return convert_to_tensor(image, track_meta=False)
