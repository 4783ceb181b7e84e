"""How a scanner turns anatomy into a picture: contrast, coil, k-space, post-processing.

Each field of `Scanner` is one physical cause, so a reader can set one alone and ask which of
them broke the network. Shape letters: n slices, T tissues, H rows (phase encoding), W columns
(frequency encoding).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import fft

from segconf_lite.cohorts.phantom.tissues import TISSUES, bssfp_signal

__all__ = ["CAUSES", "SCANNERS", "Scanner", "acquire", "scanner_named", "smooth_field"]

# what a reader can take from another scanner, one at a time
CAUSES: dict[str, tuple[str, ...]] = {
    "contrast": ("field_t", "flip_deg", "tr_ms", "fat_signal"),
    "coil": ("bias",),
    "resolution": ("pixel_mm", "partial_fourier", "blur_mm"),
    "motion": ("ghost",),
    "noise": ("noise",),
    "post-processing": ("gamma", "clip_percentile"),
}

_LIMITS: dict[str, tuple[float, float]] = {
    "fat_signal": (0, 2), "bias": (-5, 5), "pixel_mm": (0.1, 20), "partial_fourier": (0.55, 1),
    "blur_mm": (0, 20), "ghost": (0, 3), "noise": (0, 5), "gamma": (0.1, 10), "clip_percentile": (50, 100),
}  # fmt: skip
# how much one scan differs from the next on the same scanner, as a standard deviation of the logarithm
_SPREAD = {"flip_deg": 0.03, "noise": 0.08, "bias": 0.12, "blur_mm": 0.06, "ghost": 0.2, "gamma": 0.03}


@dataclasses.dataclass(frozen=True)
class Scanner:
    """One scanner with its protocol.

    Attributes:
        name: shown as the domain of its slices.
        field_t: main field in tesla; sets T1 and T2.
        flip_deg: flip angle in degrees.
        tr_ms: repetition time in milliseconds; the echo is read at half of it.
        fat_signal: fat signal relative to the model: 0 = perfect fat suppression, 1 = none; more
            than 1 = brighter, as in fast echo trains (Henkelman et al., JMRI 4:533, 1994).
        bias: receive-coil shading, log-intensity slope per 100 mm towards the chest wall.
        pixel_mm: acquired pixel, millimetres; what is finer is not measured (Gibbs ringing).
        partial_fourier: share of the phase-encoding lines measured, 0.55 to 1.
        blur_mm: standard deviation of a Gaussian point spread, millimetres.
        ghost: amplitude in radians of the periodic phase error between lines (breathing).
        noise: standard deviation of the complex noise, as a share of the blood signal of
            scanner A in one acquired pixel.
        gamma: exponent of the vendor's grey-level curve, 1 = linear.
        clip_percentile: grey values above this percentile of the slice are saturated.

    Raises:
        ValueError: If a value is out of its range.
    """

    name: str = "custom"
    field_t: float = 1.5
    flip_deg: float = 60.0
    tr_ms: float = 3.2
    fat_signal: float = 1.0
    bias: float = 0.3
    pixel_mm: float = 2.2
    partial_fourier: float = 1.0
    blur_mm: float = 0.6
    ghost: float = 0.0
    noise: float = 0.04
    gamma: float = 1.0
    clip_percentile: float = 99.8

    def __post_init__(self) -> None:
        bssfp_signal(self.field_t, self.flip_deg, self.tr_ms)  # checks its own three
        for field, (low, high) in _LIMITS.items():
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"{field} must lie in {low}..{high}, got {getattr(self, field)}")

    def with_cause(self, cause: str, other: Scanner) -> Scanner:
        """This scanner, with one cause (a key of `CAUSES`) taken from another scanner.

        Raises:
            ValueError: If the cause is unknown; the message lists the known ones.
        """
        if cause not in CAUSES:
            raise ValueError(f"cause must be one of {list(CAUSES)}, got {cause!r}")
        taken = {field: getattr(other, field) for field in CAUSES[cause]}
        return dataclasses.replace(self, name=f"{self.name} + {cause} of {other.name}", **taken)


# A is the source; B to D lie ever further off. E is far but harmless: sharp detail, fat and noise
# are all unlike A, yet blood, muscle and the bright rim of fat keep their order. F is near but
# harmful: its pictures are about as close to A as B's, since its grey-level curve makes up for the
# flip angle, but fat suppression leaves the fat around the heart as dark as muscle.
SCANNERS: dict[str, Scanner] = {
    scanner.name: scanner
    for scanner in (
        Scanner("A"),
        Scanner("B", field_t=3.0, flip_deg=45, tr_ms=3.4, bias=0.8, noise=0.065, gamma=0.8, ghost=0.15),
        Scanner("C", flip_deg=70, pixel_mm=3.0, partial_fourier=0.65, blur_mm=1.4, noise=0.018, gamma=1.3),
        Scanner("D", field_t=3.0, flip_deg=35, bias=1.6, noise=0.10, ghost=0.5, gamma=0.7),
        Scanner("E", fat_signal=1.6, bias=0.25, pixel_mm=2.6, partial_fourier=0.7, blur_mm=0.9,
                ghost=0.15, noise=0.009, gamma=1.2, clip_percentile=98.5),
        Scanner("F", flip_deg=27, fat_signal=0.02, bias=0.4, noise=0.05, gamma=1.3, clip_percentile=99.5),
    )
}  # fmt: skip
_BLOOD = TISSUES.index("blood")
_REFERENCE_SIGNAL = float(bssfp_signal(1.5, 60.0, 3.2)[_BLOOD])  # blood on scanner A, the unit of noise


def scanner_named(name: str) -> Scanner:
    """One of the built-in scanners.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    if name not in SCANNERS:
        raise ValueError(
            f"unknown scanner {name!r}; built in are {list(SCANNERS)}, or pass a phantom.Scanner(...)"
        )
    return SCANNERS[name]


def acquire(
    fractions: np.ndarray, scanner: Scanner, jitter: float, rngs: list[np.random.Generator], spacing_mm: float
) -> np.ndarray:
    """Magnitude images of the tissue maps, z-scored per slice.

    Args:
        fractions: (n, T, H, W) float32 tissue shares, summing to 1 per pixel.
        scanner: the physics.
        jitter: scale of the variation between slices on this scanner; 0 = none, 1 = usual.
        rngs: one generator per slice; it alone decides the randomness of that slice.
        spacing_mm: pixel of the grid, millimetres.

    Returns:
        (n, H, W) float32, each slice with mean 0 and standard deviation 1.
    """
    settings = [_setting_of_the_day(scanner, jitter, rng) for rng in rngs]
    column = lambda field: np.array([getattr(s, field) for s in settings], np.float32)  # noqa: E731
    signal = np.stack([_tissue_signal(s) for s in settings]).astype(np.float32)
    image = np.einsum("nthw,nt->nhw", fractions, signal, optimize=True)
    image *= _texture(image.shape, rngs)
    image *= _coil(image.shape, column("bias"), rngs, spacing_mm)
    magnitude = np.abs(through_k_space(image, scanner, column, rngs, spacing_mm))
    return _post_process(magnitude, scanner.clip_percentile, column("gamma"))


def _setting_of_the_day(scanner: Scanner, jitter: float, rng: np.random.Generator) -> Scanner:
    """The scanner as it is today: contrast moves by a few per cent, noise, shading and ghosts more."""
    moved: dict[str, Any] = {}
    for field, spread in _SPREAD.items():
        low, high = _LIMITS.get(field, (1.0, 179.0))  # the flip angle's own limits
        value = getattr(scanner, field) * np.exp(jitter * spread * rng.standard_normal())
        moved[field] = float(np.clip(value, low, high))
    return dataclasses.replace(scanner, **moved)


def _tissue_signal(scanner: Scanner) -> np.ndarray:
    signal = bssfp_signal(scanner.field_t, scanner.flip_deg, scanner.tr_ms)
    signal[TISSUES.index("fat")] *= scanner.fat_signal
    return signal / _REFERENCE_SIGNAL


def smooth_field(n_knots: int, shape: tuple[int, ...], rngs: list[np.random.Generator]) -> np.ndarray:
    """(n, H, W) random fields with about ``n_knots`` waves a side and unit variance at the knots."""
    knots = np.stack([rng.standard_normal((n_knots, n_knots)) for rng in rngs]).astype(np.float32)
    rows, columns = (_interpolation(n_knots, length) for length in shape[1:])
    return rows @ knots @ columns.T


def _interpolation(n_knots: int, length: int) -> np.ndarray:
    """(length, n_knots) weights of a cosine-smoothed linear interpolation."""
    position = np.linspace(0, n_knots - 1, length)
    weight = np.maximum(1 - np.abs(position[:, None] - np.arange(n_knots)), 0)
    return ((1 - np.cos(np.pi * weight)) / 2).astype(np.float32)


def _texture(shape: tuple[int, ...], rngs: list[np.random.Generator]) -> np.ndarray:
    """Proton density is never quite even within a tissue: 4 % over 2 cm and 4 % over 6 mm."""
    return 1 + 0.04 * smooth_field(9, shape, rngs) + 0.04 * smooth_field(32, shape, rngs)


def _coil(
    shape: tuple[int, ...], bias: np.ndarray, rngs: list[np.random.Generator], spacing_mm: float
) -> np.ndarray:
    """Sensitivity of a coil on the chest: log-linear towards the front, with a smooth rest."""
    y = (np.arange(shape[1], dtype=np.float32) - (shape[1] - 1) / 2) * spacing_mm / 100
    slope = -bias[:, None, None] * y[None, :, None]
    rest = 0.2 * np.abs(bias)[:, None, None] * smooth_field(3, shape, rngs)
    return np.exp(slope + rest)


def through_k_space(image, scanner, column, rngs, spacing_mm):  # type: ignore[no-untyped-def]
    """(n, H, W) complex image after sampling: blur, ghosts, noise, truncation, partial Fourier."""
    _n, height, width = image.shape
    phase = 0.3 * smooth_field(3, image.shape, rngs)  # field inhomogeneity makes the image complex
    k_space = fft.fft2(image * np.exp(1j * phase).astype(np.complex64), norm="ortho", workers=-1)
    ky, kx = (np.fft.fftfreq(length, spacing_mm).astype(np.float32) for length in (height, width))
    line = np.round(ky * height * spacing_mm)  # signed index of each phase-encoding line
    spread = 2 * np.pi**2 * column("blur_mm")[:, None] ** 2
    k_space *= np.exp(-spread * ky**2)[:, :, None] * np.exp(-spread * kx**2)[:, None, :]
    period = np.array([rng.uniform(3, 9) for rng in rngs], np.float32)[:, None]
    start = np.array([rng.uniform(0, 2 * np.pi) for rng in rngs], np.float32)[:, None]
    error = column("ghost")[:, None] * np.sin(2 * np.pi * line / period + start)
    k_space *= np.exp(1j * error).astype(np.complex64)[:, :, None]
    noise = np.stack([rng.standard_normal((2, height, width), dtype=np.float32) for rng in rngs])
    k_max = 0.5 / scanner.pixel_mm
    sampled_y, sampled_x = np.abs(ky) <= k_max, np.abs(kx) <= k_max
    # the noise is stated per acquired pixel: whatever the grid, that much is left in the image
    per_sample = column("noise") / np.sqrt(sampled_y.mean() * sampled_x.mean())
    k_space += per_sample[:, None, None] * (noise[:, 0] + 1j * noise[:, 1])
    sampled_y &= ky >= -k_max * (2 * scanner.partial_fourier - 1)
    k_space *= sampled_y[:, None] & sampled_x[None, :]
    return fft.ifft2(k_space, norm="ortho", workers=-1)


def _post_process(magnitude: np.ndarray, clip_percentile: float, gamma: np.ndarray) -> np.ndarray:
    flat = magnitude.reshape(len(magnitude), -1)
    rank = min(int(clip_percentile / 100 * flat.shape[1]), flat.shape[1] - 1)
    top = np.partition(flat, rank, axis=1)[:, rank, None]
    grey = np.clip(flat / np.maximum(top, 1e-12), 0, 1) ** gamma[:, None]
    centred = grey - grey.mean(axis=1, keepdims=True)
    deviation = np.maximum(centred.std(axis=1, keepdims=True), 1e-12)
    return (centred / deviation).astype(np.float32).reshape(magnitude.shape)
