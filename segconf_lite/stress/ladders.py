"""Ladders of thirteen corruptions: how wrong an image is, in stated physical units, from severity 0 to 5.

Every ladder works on images mapped to [0, 1] by their own minimum and maximum, then mapped back. Intensities
are thus shares of an image's range, whatever its units; darkness is 0, as all that multiplies needs; nothing
is clipped. No mask is taken: a corruption that knew the organ could leak the truth.

Shape letters: B cases, H rows, W columns, S spots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from monai.networks.layers.convutils import gaussian_1d
from monai.networks.layers.simplelayers import separable_filtering
from numpy.polynomial.legendre import legvander
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.stress.corruptions import ghost

__all__ = ["CONTRAST_NOISE_SD", "LADDERS", "Ladder", "corrupt", "ladder_table"]

CONTRAST_NOISE_SD = 0.02  # share of the intensity range
_N_SPOTS, _SPOT_EDGE_PIXELS = 5, 1.0
_TINY = 1e-6  # share of the range; below it a standard deviation is rounding, not signal


@dataclass(frozen=True)
class Ladder:
    """One corruption with its physical magnitude at severities 1 to 5.

    Attributes:
        name: its key in `LADDERS`.
        parameter, unit: of the magnitude, in words; "range" is max - min of the image itself.
        values: 5 magnitudes, each more harmful than the one before.
        apply: from images (B, 1, H, W) in [0, 1], a magnitude and a generator; draws alike at any magnitude.
    """

    name: str
    parameter: str
    unit: str
    values: tuple[float, float, float, float, float]
    apply: Callable[[Tensor, float, Generator], Tensor]


def corrupt(
    images: Tensor | np.ndarray,
    name: str,
    severity: int,
    *,
    generator: Generator | None = None,
    standardise: bool = False,
) -> Tensor:
    """Images with one corruption at one step of its ladder; nothing moves, so labels stay true.

    Equal generator states give equal results, each case has draws of its own, and severities are paired:
    the noise of severity 2 is that of severity 1 made larger. Severity 0 draws nothing and gives the images
    bit for bit. A constant image has no range to take a share of, and stays as it is.

    Args:
        images: (B, 1, H, W) float, finite, any units; not changed.
        name: a key of `LADDERS`.
        severity: 0 (none) to 5 (worst); `ladder_table` says what each step means.
        generator: on the CPU, advanced by the draws, which depend on the whole batch. None: a fresh
            one seeded 0, thus equal at every call.
        standardise: put back mean and standard deviation of each image, as z-scoring afterwards would.

    Returns:
        (B, 1, H, W) float32 on the CPU, in the units of the images, always new memory.

    Raises:
        ValueError: If the images, the name, the severity or the generator are not as above.
    """
    clean = _checked(images)
    if name not in LADDERS:
        raise ValueError(f"name must be one of {', '.join(LADDERS)}; got {name!r}")
    if isinstance(severity, bool) or not isinstance(severity, Integral) or not 0 <= severity <= 5:
        raise ValueError(
            f"severity must be an int in 0..5 (0 changes nothing), got {severity!r}; "
            "it is a step of the ladder, not a magnitude: see ladder_table()"
        )
    if generator is not None and (not isinstance(generator, Generator) or generator.device.type != "cpu"):
        raise ValueError(f"generator must be a torch.Generator() on the CPU or None, got {generator!r}")
    if severity == 0:
        return clean
    low = clean.amin(dim=(2, 3), keepdim=True)  # (B, 1, 1, 1), as all statistics of an image below
    extent = clean.amax(dim=(2, 3), keepdim=True) - low
    if not torch.isfinite(extent).all():
        raise ValueError("images span more than float32 holds; scale them down, e.g. to deviation 1")
    unit = (clean - low) / torch.where(extent > 0, extent, 1.0)
    draws = generator or torch.Generator().manual_seed(0)
    spoiled = LADDERS[name].apply(unit, LADDERS[name].values[severity - 1], draws)
    if standardise:
        scale = _deviation(unit) / _deviation(spoiled).clamp(min=_TINY)
        spoiled = _mean(unit) + scale * (spoiled - _mean(spoiled))
    return (low + extent * spoiled).float()


def ladder_table() -> pd.DataFrame:
    """Columns corruption, severity (1 to 5), parameter (in words), unit and value, ordered as `LADDERS`."""
    rows = [
        (ladder.name, severity, ladder.parameter, ladder.unit, value)
        for ladder in LADDERS.values()
        for severity, value in enumerate(ladder.values, start=1)
    ]
    return pd.DataFrame(rows, columns=["corruption", "severity", "parameter", "unit", "value"])


def _checked(images: Tensor | np.ndarray) -> Tensor:
    """A float32 copy on the CPU, without gradient or metadata."""
    if isinstance(images, Tensor):
        images = to_numpy(images)
    if not isinstance(images, np.ndarray) or not np.issubdtype(images.dtype, np.floating):
        got = getattr(images, "dtype", type(images).__name__)
        raise ValueError(f"images must be a float numpy array or tensor, got {got}; convert them to float32")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        copy = np.array(images, dtype=np.float32, order="C")
    check.image_batch(copy)
    return torch.from_numpy(copy)


def _mean(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3), keepdim=True)


def _deviation(images: Tensor) -> Tensor:
    return images.std(dim=(2, 3), keepdim=True, correction=0)


def _normal(unit: Tensor, generator: Generator) -> Tensor:
    return torch.randn(unit.shape, generator=generator, dtype=unit.dtype)


def _rician(unit: Tensor, sd: float, generator: Generator) -> Tensor:
    # Magnitude of a complex signal with noise in both channels: darkness turns grey, by sd * sqrt(pi / 2).
    return torch.hypot(unit + sd * _normal(unit, generator), sd * _normal(unit, generator))


def _salt_and_pepper(unit: Tensor, share: float, generator: Generator) -> Tensor:
    chance, coin = torch.rand(2, *unit.shape, generator=generator, dtype=unit.dtype)
    return torch.where(chance < share, (coin < 0.5).float(), unit)


def _blur(unit: Tensor, sigma_pixels: float, _: Generator) -> Tensor:
    # MONAI's default kernel is wider than asked (0.57 for 0.5); its discrete Gaussian has the stated sigma.
    # Edges are repeated, since zeros beyond them would darken the border.
    kernel = gaussian_1d(torch.tensor(sigma_pixels), approx="scalespace", normalize=True)
    return separable_filtering(unit, [kernel, kernel], mode="replicate")


def _resolution(unit: Tensor, factor: float, _: Generator) -> Tensor:
    size = tuple(unit.shape[-2:])
    small = interpolate(unit, size=[max(1, round(n / factor)) for n in size], mode="area")
    return interpolate(small, size=size, mode="bilinear", align_corners=False)


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


def _contrast(unit: Tensor, factor: float, generator: Generator) -> Tensor:
    # Z-scoring alone would undo a loss of contrast. What an acquisition really loses is the ratio to its
    # noise, so noise that does not shrink with the contrast is added after it.
    mean = _mean(unit)
    return mean + factor * (unit - mean) + CONTRAST_NOISE_SD * _normal(unit, generator)


def _gibbs(unit: Tensor, share: float, _: Generator) -> Tensor:
    # As MONAI's GibbsNoise, whose disc is half a line off the centre of k-space when H or W is even.
    rows, columns = (torch.fft.fftfreq(n) for n in unit.shape[-2:])  # cycles per pixel
    kept = torch.hypot(rows[:, None], columns) <= (1 - share) * 0.5**0.5  # the corner lies at sqrt(1/2)
    return torch.fft.ifft2(torch.fft.fft2(unit) * kept).real


def _k_space_spike(unit: Tensor, share: float, generator: Generator) -> Tensor:
    # One spike, real part kept, is a plane wave. The k-space maximum of an image >= 0 is its sum, at the
    # centre, so a spike of a share of that is a wave whose amplitude is the same share of the mean.
    radius, angle, start = torch.rand(3, len(unit), 1, 1, 1, generator=generator, dtype=unit.dtype)
    radius, angle = 0.1 + 0.3 * radius, 2 * torch.pi * angle  # cycles per pixel: neither shading nor Nyquist
    n_rows, n_columns = unit.shape[-2:]
    along_rows = torch.round(radius * angle.sin() * n_rows) * torch.arange(n_rows)[:, None] / n_rows
    along_columns = torch.round(radius * angle.cos() * n_columns) * torch.arange(n_columns) / n_columns
    wave = torch.cos(2 * torch.pi * (along_rows + along_columns + start))
    return unit + share * _mean(unit) * wave


def _motion_ghost(unit: Tensor, radians: float, generator: Generator) -> Tensor:
    draws = torch.rand(len(unit), 2, generator=generator, dtype=unit.dtype).tolist()
    return torch.stack([
        ghost(image, strength=radians, period=3 + 6 * period, start=2 * torch.pi * start)
        for image, (period, start) in zip(unit, draws, strict=True)
    ])  # fmt: skip


def _specular_reflection(unit: Tensor, share: float, generator: Generator) -> Tensor:
    n_rows, n_columns = unit.shape[-2:]
    n_saturated = max(1, round(share * n_rows * n_columns))
    draws = torch.rand(len(unit), 3, _N_SPOTS, 1, 1, generator=generator, dtype=unit.dtype)
    spoiled = []
    for image, (row, column, size) in zip(unit, draws, strict=True):  # one by one: (S, H, W) is large
        size = 0.5 + size  # radii relative to each other
        rows = torch.arange(n_rows)[:, None] + 0.5 - row * n_rows
        distance = torch.hypot(rows, torch.arange(n_columns) + 0.5 - column * n_columns)  # (S, H, W)
        # Spots grow until they cover just the stated share, whatever they overlap or lose at the border.
        growth = (distance / size).amin(dim=0).flatten().kthvalue(n_saturated).values
        outside = (distance - growth * size).amin(dim=0).clamp(min=0)  # (H, W) pixels to the nearest spot
        opacity = torch.exp(-0.5 * (outside / _SPOT_EDGE_PIXELS) ** 2)
        spoiled.append(image + opacity * (1 - image))
    return torch.stack(spoiled)


_ALL = (
    Ladder("gaussian_noise", "standard deviation of added noise", "share of range",
           (0.02, 0.04, 0.08, 0.12, 0.2), lambda x, sd, generator: x + sd * _normal(x, generator)),
    Ladder("rician_noise", "standard deviation of noise per complex channel", "share of range",
           (0.02, 0.04, 0.08, 0.12, 0.2), _rician),
    Ladder("salt_and_pepper", "pixels set to minimum or maximum", "share of pixels",
           (0.005, 0.01, 0.02, 0.05, 0.1), _salt_and_pepper),
    Ladder("speckle", "variance of n in x + x * n", "1", (0.001, 0.003, 0.01, 0.03, 0.1),
           lambda x, variance, generator: x + x * variance**0.5 * _normal(x, generator)),
    Ladder("blur", "sigma of a Gaussian", "pixels", (0.5, 1.0, 1.5, 2.5, 4.0), _blur),
    Ladder("resolution", "factor of averaging, then back up", "1", (1.5, 2.0, 3.0, 4.0, 6.0), _resolution),
    Ladder("bias_field", "b in exp(b f), f a cubic in [-1, 1]", "1", (0.1, 0.2, 0.4, 0.7, 1.0), _bias_field),
    Ladder("contrast", f"factor on differences from the mean, then noise of {CONTRAST_NOISE_SD} of the range",
           "1", (0.8, 0.6, 0.4, 0.25, 0.15), _contrast),
    Ladder("gamma", "exponent", "1", (1.2, 1.5, 2.0, 2.8, 4.0), lambda x, exponent, _: x**exponent),
    Ladder("gibbs", "k-space cut off from its corner", "share of radius", (0.3, 0.45, 0.6, 0.7, 0.8), _gibbs),
    Ladder("k_space_spike", "height of one spike, real part kept", "share of k-space maximum",
           (0.1, 0.2, 0.4, 0.7, 1.0), _k_space_spike),
    Ladder("motion_ghost", "amplitude of phase error", "radians", (0.2, 0.4, 0.7, 1.0, 1.5), _motion_ghost),
    Ladder("specular_reflection", "saturated area of bright spots, Gaussian edges of 1 pixel beyond it",
           "share of image area", (0.002, 0.005, 0.01, 0.02, 0.04), _specular_reflection),
)  # fmt: skip
LADDERS: dict[str, Ladder] = {ladder.name: ladder for ladder in _ALL}
