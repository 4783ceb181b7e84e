"""What a tissue sends back: proton density, T1 and T2, and the bSSFP signal made of them.

Relaxation times depend on the field strength. Sources, per tissue, for 1.5 T and 3 T:

* blood, myocardium, skeletal muscle, liver: Stanisz et al., Magn Reson Med 54:507-512 (2005),
  table 1 (their "heart" is the myocardium here).
* fat: de Bazelaire et al., Radiology 230:652-659 (2004), table 2 (subcutaneous fat).
* scar: assumed, myocardium with T1 and T2 raised by 15 %; native T1 does rise in infarction,
  but by an amount that studies dispute. Nothing in the book rests on its exact value.
* lung: assumed, water of low density; its T2* decay is folded into the proton density.

Proton densities are relative to water: water mass fraction times mass density, from Woodard &
White, Br J Radiol 59:1209-1218 (1986), rounded to 0.05; fat counts its visible lipid protons.
"""

from __future__ import annotations

import numpy as np

__all__ = ["TISSUES", "bssfp_signal", "relaxation_ms"]

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


def relaxation_ms(field_t: float) -> tuple[np.ndarray, np.ndarray]:
    """T1 and T2 of every tissue at a field strength.

    A power law through the values at 1.5 T and 3 T; outside 0.5-7 T it is an extrapolation
    nobody measured, and refused.

    Args:
        field_t: main field in tesla, 0.5 to 7.

    Returns:
        T1 and T2 in milliseconds, each (n_tissues,) in the order of `TISSUES`.
    """
    if not 0.5 <= field_t <= 7:
        raise ValueError(f"field_t must lie in 0.5..7 tesla, got {field_t}")
    _, t1_low, t2_low, t1_high, t2_high = np.array(list(_TABLE.values())).T
    octaves = np.log2(field_t / 1.5)
    return t1_low * (t1_high / t1_low) ** octaves, t2_low * (t2_high / t2_low) ** octaves


def bssfp_signal(field_t: float, flip_deg: float, tr_ms: float) -> np.ndarray:
    """Steady-state signal of every tissue in a balanced SSFP sequence, on resonance.

    ``PD sin(a) (1 - E1) / (1 - (E1 - E2) cos(a) - E1 E2) * exp(-TE / T2)`` with
    ``E = exp(-TR / T)`` and ``TE = TR / 2`` (Scheffler & Lehnhardt, Eur Radiol 13:2409, 2003).
    Inflow of blood and banding off resonance are left out.

    Args:
        field_t: main field in tesla.
        flip_deg: flip angle in degrees, 0 to 180 (exclusive).
        tr_ms: repetition time in milliseconds, > 0.

    Returns:
        (n_tissues,) signal relative to fully relaxed water, in the order of `TISSUES`.
    """
    if not 0 < flip_deg < 180:
        raise ValueError(f"flip_deg must lie between 0 and 180 degrees, got {flip_deg}")
    if not tr_ms > 0:
        raise ValueError(f"tr_ms must be > 0 ms, got {tr_ms}")
    t1_ms, t2_ms = relaxation_ms(field_t)
    proton_density = np.array([row[0] for row in _TABLE.values()])
    e1, e2, flip = np.exp(-tr_ms / t1_ms), np.exp(-tr_ms / t2_ms), np.deg2rad(flip_deg)
    steady_state = np.sin(flip) * (1 - e1) / (1 - (e1 - e2) * np.cos(flip) - e1 * e2)
    return proton_density * steady_state * np.exp(-tr_ms / 2 / t2_ms)
