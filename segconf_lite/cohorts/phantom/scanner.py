"""How a scanner turns anatomy into an image: tissue contrast, coil, k-space, post-processing.

Each field of `Scanner` is one physical cause, so a reader can change one alone and ask which of them makes
the network fail. Shape letters: n slices, T tissues, H rows (phase encoding), W columns (frequency encoding).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import fft

from segconf_lite import check

# Relaxation times depend on the field strength. Sources, per tissue, for 1.5 T and 3 T:
# - blood, myocardium, skeletal muscle, liver: Stanisz et al., Magn Reson Med 54:507-512 (2005), table 1
#   (their "heart" is the myocardium here).
# - fat: de Bazelaire et al., Radiology 230:652-659 (2004), table 2 (subcutaneous fat).
# - scar: assumed, myocardium with T1 and T2 raised by 15 %; native T1 does rise in infarction, but studies
#   dispute by how much. Nothing in the book rests on its exact value.
# - lung: assumed, water of low density; its T2* decay is folded into the proton density.
# Proton densities are relative to water: water mass fraction times mass density, from Woodard & White, Br J
# Radiol 59:1209-1218 (1986), rounded to 0.05; fat counts its visible lipid protons.
# name: (proton density, T1 at 1.5 T, T2 at 1.5 T, T1 at 3 T, T2 at 3 T), times in ms
_TABLE: dict[str, tuple[float, float, float, float, float]] = {
    "air": (0.0, 1000.0, 50.0, 1000.0, 50.0),
    "lung": (0.10, 1200.0, 40.0, 1350.0, 35.0),
    "fat": (0.90, 343.0, 58.0, 382.0, 68.0),
    "muscle": (0.80, 1008.0, 44.0, 1412.0, 50.0),
    "liver": (0.75, 576.0, 46.0, 812.0, 42.0),
    "blood": (0.85, 1441.0, 290.0, 1932.0, 275.0),
    "myocardium": (0.80, 1030.0, 40.0, 1471.0, 47.0),
    "scar": (0.80, 1185.0, 46.0, 1692.0, 54.0),
}
TISSUES: tuple[str, ...] = tuple(_TABLE)

#: Cause -> fields of `Scanner`: what a scanner can take over from another one, one cause at a time.
CAUSES: dict[str, tuple[str, ...]] = {
    "contrast": ("field_t", "flip_deg", "tr_ms", "fat_signal"),
    "coil": ("bias",),
    "resolution": ("pixel_mm", "partial_fourier", "blur_mm"),
    "motion": ("ghost",),
    "noise": ("noise",),
    "post-processing": ("gamma", "clip_percentile"),
}

_LIMITS: dict[str, tuple[float, float]] = {
    "field_t": (0.5, 7),
    "flip_deg": (0, 180),
    "tr_ms": (0, 1000),
    "fat_signal": (0, 2),
    "bias": (-5, 5),
    "pixel_mm": (0.1, 20),
    "partial_fourier": (0.55, 1),
    "blur_mm": (0, 20),
    "ghost": (0, 3),
    "noise": (0, 5),
    "gamma": (0.1, 10),
    "clip_percentile": (50, 100),
}
# How much one scan differs from the next on the same scanner: standard deviation of the logarithm of a field
_SCAN_SD = {"flip_deg": 0.03, "noise": 0.08, "bias": 0.12, "blur_mm": 0.06, "ghost": 0.2, "gamma": 0.03}


def relaxation_ms(field_t: float) -> tuple[np.ndarray, np.ndarray]:
    """T1 and T2 of every tissue at a field strength.

    A power law through the values at 1.5 T and 3 T. Outside 0.5 to 7 T it would be an extrapolation that
    nobody measured, so it is refused there.

    Args:
        field_t: Main field in tesla, 0.5 to 7.

    Returns:
        T1 and T2 in milliseconds, each (n_tissues,) in the order of `TISSUES`.

    Raises:
        ValueError: If the field is out of range.

    Example:
        >>> t1_ms, t2_ms = relaxation_ms(3.0)
        >>> t1_ms[TISSUES.index("myocardium")].round()
        np.float64(1471.0)
    """
    field_t = check.between("field_t", field_t, 0.5, 7, fix="it is in tesla")
    _, t1_low, t2_low, t1_high, t2_high = np.array(list(_TABLE.values())).T
    octaves = np.log2(field_t / 1.5)
    return t1_low * (t1_high / t1_low) ** octaves, t2_low * (t2_high / t2_low) ** octaves


def bssfp_signal(field_t: float, flip_deg: float, tr_ms: float) -> np.ndarray:
    r"""Steady-state signal of every tissue in a balanced SSFP sequence, on resonance.

    .. math:: \mathrm{PD} \sin a \, \frac{1 - E_1}{1 - (E_1 - E_2) \cos a - E_1 E_2} \, e^{-TE / T_2},
        \quad E_i = e^{-TR / T_i}, \quad TE = TR / 2

    (Scheffler & Lehnhardt, Eur Radiol 13:2409, 2003). Inflow of blood and banding off resonance are left out.

    Args:
        field_t: Main field in tesla, 0.5 to 7.
        flip_deg: Flip angle a in degrees, 0 to 180 (exclusive).
        tr_ms: Repetition time TR in milliseconds, > 0 and at most 1000.

    Returns:
        (n_tissues,) signal relative to fully relaxed water, in the order of `TISSUES`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> dict(zip(TISSUES, bssfp_signal(1.5, 60, 3.2).round(2).tolist()))["blood"]
        0.18
    """
    flip_deg = check.number("flip_deg", flip_deg, low=0, high=180, open_low=True, open_high=True)
    tr_ms = check.number("tr_ms", tr_ms, low=0, high=1000, open_low=True, fix="it is in milliseconds")
    t1_ms, t2_ms = relaxation_ms(field_t)
    proton_density = np.array([row[0] for row in _TABLE.values()])
    e1, e2, flip = np.exp(-tr_ms / t1_ms), np.exp(-tr_ms / t2_ms), np.deg2rad(flip_deg)
    steady_state = np.sin(flip) * (1 - e1) / (1 - (e1 - e2) * np.cos(flip) - e1 * e2)
    return proton_density * steady_state * np.exp(-tr_ms / 2 / t2_ms)


@dataclasses.dataclass(frozen=True)
class Scanner:
    """One scanner with its protocol.

    Attributes:
        name: Name of the scanner, shown as the domain of its slices.
        field_t: Main field in tesla, 0.5 to 7; sets T1 and T2.
        flip_deg: Flip angle in degrees.
        tr_ms: Repetition time in milliseconds; the echo is read at half of it.
        fat_signal: Fat signal relative to the model, 0 to 2: 0 = perfect fat suppression, 1 = none; more
            than 1 = brighter, as in fast echo trains (Henkelman et al., JMRI 4:533, 1994).
        bias: Receive-coil shading, log-intensity slope per 100 mm towards the chest wall, -5 to 5.
        pixel_mm: Acquired pixel, 0.1 to 20 mm; what is finer is not measured (Gibbs ringing).
        partial_fourier: Fraction of the phase-encoding lines measured, 0.55 to 1.
        blur_mm: Standard deviation of a Gaussian point spread function, 0 to 20 mm.
        ghost: Amplitude in radians of the periodic phase error between lines (breathing), 0 to 3.
        noise: Standard deviation of the complex noise, as a fraction of the blood signal of scanner A in one
            acquired pixel, 0 to 5.
        gamma: Exponent of the vendor's intensity curve, 0.1 to 10; 1 = linear.
        clip_percentile: Intensities above this percentile of the slice are saturated, 50 to 100.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> SCANNERS["A"].with_cause("contrast", SCANNERS["F"]).fat_signal
        0.02
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
        object.__setattr__(self, "name", str(check.names("name", [self.name])[0]))  # frozen
        for field, (low, high) in _LIMITS.items():
            object.__setattr__(self, field, check.between(field, getattr(self, field), low, high))
        bssfp_signal(self.field_t, self.flip_deg, self.tr_ms)  # refuses what is on the edge of its range

    def with_cause(self, cause: str, other: Scanner) -> Scanner:
        """This scanner, with one cause taken from another scanner.

        Args:
            cause: A key of `CAUSES`, e.g. ``"contrast"``.
            other: The scanner from which the cause is taken.

        Raises:
            ValueError: If the cause is unknown (the message lists the known ones), or `other` is no scanner.
        """
        check.one_of("cause", cause, CAUSES)
        if not isinstance(other, Scanner):
            raise check.refuse("other", "a phantom.Scanner", type(other).__name__)
        taken: dict[str, Any] = {field: getattr(other, field) for field in CAUSES[cause]}
        return dataclasses.replace(self, name=f"{self.name} + {cause} of {other.name}", **taken)


_E = Scanner("E", fat_signal=1.6, bias=0.25, pixel_mm=2.6, partial_fourier=0.7, blur_mm=0.9, ghost=0.15)
_ALL = (
    Scanner("A"),
    Scanner("B", field_t=3.0, flip_deg=45, tr_ms=3.4, bias=0.8, noise=0.065, gamma=0.8, ghost=0.15),
    Scanner("C", flip_deg=70, pixel_mm=3.0, partial_fourier=0.65, blur_mm=1.4, noise=0.018, gamma=1.3),
    Scanner("D", field_t=3.0, flip_deg=35, bias=1.6, noise=0.10, ghost=0.5, gamma=0.7),
    dataclasses.replace(_E, noise=0.009, gamma=1.2, clip_percentile=98.5),
    Scanner("F", flip_deg=27, fat_signal=0.02, bias=0.4, noise=0.05, gamma=1.3, clip_percentile=99.5),
)
#: Name -> scanner. A is the training scanner; B to D lie ever further off. E is far but harmless: sharp
#: detail, fat and noise are all unlike A, yet blood, muscle and the bright rim of fat keep their order. F is
#: near but harmful: its images are about as close to A as those of B, because its intensity curve makes up
#: for the flip angle, but fat suppression leaves the fat around the heart as dark as muscle.
SCANNERS: dict[str, Scanner] = {scanner.name: scanner for scanner in _ALL}
_REFERENCE_SIGNAL = float(bssfp_signal(1.5, 60.0, 3.2)[TISSUES.index("blood")])  # on scanner A: unit of noise


def acquire(
    fractions: np.ndarray, scanner: Scanner, jitter: float, rngs: list[np.random.Generator], spacing_mm: float
) -> np.ndarray:
    """Magnitude images of the tissue maps, z-scored per slice.

    Args:
        fractions: (n, T, H, W) float32 tissue fractions, summing to 1 per pixel.
        scanner: The scanner with its protocol.
        jitter: Scale of the variation between slices on this scanner; 0 = none, 1 = usual.
        rngs: One generator per slice; it alone decides the randomness of that slice.
        spacing_mm: Pixel spacing of the grid, millimetres.

    Returns:
        (n, H, W) float32, each slice with mean 0 and standard deviation 1.

    Example:
        >>> air = np.zeros((1, len(TISSUES), 32, 32), np.float32)
        >>> air[:, 0] = 1
        >>> noise = acquire(air, SCANNERS["A"], 1.0, [np.random.default_rng(0)], spacing_mm=6.0)
        >>> noise.shape, noise.std().round(3).item()
        ((1, 32, 32), 1.0)
    """
    settings = [_setting_of_the_day(scanner, jitter, rng) for rng in rngs]
    signal = np.stack([_tissue_signal(setting) for setting in settings]).astype(np.float32)  # (n, T)
    image = np.einsum("nthw,nt->nhw", fractions, signal, optimize=True)
    image *= _texture(image.shape, rngs)
    image *= _coil(image.shape, _values(settings, "bias"), rngs, spacing_mm)
    magnitude = np.abs(_through_k_space(image, settings, rngs, spacing_mm))
    return _post_process(magnitude, scanner.clip_percentile, _values(settings, "gamma"))


def _setting_of_the_day(scanner: Scanner, jitter: float, rng: np.random.Generator) -> Scanner:
    """The scanner as it is today: contrast moves by a few per cent, noise, shading and ghosts more."""
    moved: dict[str, Any] = {}
    for field, scan_sd in _SCAN_SD.items():
        low, high = (1.0, 179.0) if field == "flip_deg" else _LIMITS[field]
        value = getattr(scanner, field) * np.exp(jitter * scan_sd * rng.standard_normal())
        moved[field] = float(np.clip(value, low, high))
    return dataclasses.replace(scanner, **moved)


def _values(settings: list[Scanner], field: str) -> np.ndarray:
    """(n,) values of one field of the scanner, slice by slice."""
    return np.array([getattr(setting, field) for setting in settings], np.float32)


def _tissue_signal(scanner: Scanner) -> np.ndarray:
    signal = bssfp_signal(scanner.field_t, scanner.flip_deg, scanner.tr_ms)
    signal[TISSUES.index("fat")] *= scanner.fat_signal
    return signal / _REFERENCE_SIGNAL


def smooth_field(n_knots: int, shape: tuple[int, ...], rngs: list[np.random.Generator]) -> np.ndarray:
    """Smooth random fields.

    Args:
        n_knots: Knots per side, between which the field is interpolated.
        shape: Shape (n, H, W) of the fields.
        rngs: One generator per field.

    Returns:
        (n, H, W) float32 with mean 0, and variance 1 at the knots.

    Example:
        >>> smooth_field(3, (1, 5, 5), [np.random.default_rng(0)])[0, 0, ::2].astype(float).round(2).tolist()
        [0.13, -0.13, 0.64]
    """
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


def _through_k_space(
    image: np.ndarray, settings: list[Scanner], rngs: list[np.random.Generator], spacing_mm: float
) -> np.ndarray:
    """(n, H, W) complex image after sampling: blur, ghosts, noise, truncation, partial Fourier."""
    _, height, width = image.shape
    phase = 0.3 * smooth_field(3, image.shape, rngs)  # field inhomogeneity makes the image complex
    k_space = fft.fft2(image * np.exp(1j * phase).astype(np.complex64), norm="ortho", workers=-1)
    ky, kx = (np.fft.fftfreq(length, spacing_mm).astype(np.float32) for length in (height, width))
    line = np.round(ky * height * spacing_mm)  # signed index of each phase-encoding line
    decay = 2 * np.pi**2 * _values(settings, "blur_mm")[:, None] ** 2
    k_space *= np.exp(-decay * ky**2)[:, :, None] * np.exp(-decay * kx**2)[:, None, :]
    period = np.array([rng.uniform(3, 9) for rng in rngs], np.float32)[:, None]
    start = np.array([rng.uniform(0, 2 * np.pi) for rng in rngs], np.float32)[:, None]
    error = _values(settings, "ghost")[:, None] * np.sin(2 * np.pi * line / period + start)
    k_space *= np.exp(1j * error).astype(np.complex64)[:, :, None]
    noise = np.stack([rng.standard_normal((2, height, width), dtype=np.float32) for rng in rngs])
    k_max = 0.5 / settings[0].pixel_mm  # the same in every slice
    sampled_y, sampled_x = np.abs(ky) <= k_max, np.abs(kx) <= k_max
    # The noise is stated per acquired pixel: whatever the grid, that much is left in the image
    per_sample = _values(settings, "noise") / np.sqrt(sampled_y.mean() * sampled_x.mean())
    k_space += per_sample[:, None, None] * (noise[:, 0] + 1j * noise[:, 1])
    sampled_y &= ky >= -k_max * (2 * settings[0].partial_fourier - 1)
    k_space *= sampled_y[:, None] & sampled_x[None, :]
    return fft.ifft2(k_space, norm="ortho", workers=-1)


def _post_process(magnitude: np.ndarray, clip_percentile: float, gamma: np.ndarray) -> np.ndarray:
    flat = magnitude.reshape(len(magnitude), -1)
    rank = min(int(clip_percentile / 100 * flat.shape[1]), flat.shape[1] - 1)
    top = np.partition(flat, rank, axis=1)[:, rank, None]
    intensities = np.clip(flat / np.maximum(top, 1e-12), 0, 1) ** gamma[:, None]
    centred = intensities - intensities.mean(axis=1, keepdims=True)
    sd = np.maximum(centred.std(axis=1, keepdims=True), 1e-12)
    return (centred / sd).astype(np.float32).reshape(magnitude.shape)
