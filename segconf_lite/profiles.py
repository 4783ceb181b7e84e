"""Every size and step count of the series, for a laptop (`LITE`) and for a GPU (`FULL`)."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["FULL", "LITE", "Profile", "profile_named"]


@dataclasses.dataclass(frozen=True)
class Profile:
    """Sizes of one way to run the series.

    Attributes:
        name: ``"lite"`` or ``"full"``.
        size: rows and columns of a slice.
        n_train: phantom slices to train on (six a subject).
        n_test: phantom slices per scanner to test on.
        steps: optimiser steps of the phantom U-Net.
        steps_real: optimiser steps of a U-Net on the spinal-cord cohort.
        channels: features per U-Net level.
        seeds: seeds of a claim.
    """

    name: str
    size: int
    n_train: int
    n_test: int
    steps: int
    steps_real: int
    channels: tuple[int, ...]
    seeds: tuple[int, ...]


LITE = Profile("lite", 96, 480, 120, 300, 200, (16, 32, 64, 96), (0, 1, 2))
FULL = Profile("full", 192, 960, 240, 1000, 600, (32, 64, 128, 192), tuple(range(10)))


def profile_named(name: str, **changes: int) -> Profile:
    """`LITE` or `FULL` by name.

    Args:
        name: Name of the profile.
        **changes: Sizes that replace the profile's, e.g. ``n_train=60``; 0 keeps the profile's size.

    Raises:
        ValueError: If there is no such profile.
    """
    for profile in (LITE, FULL):
        if profile.name == name:
            changed: dict[str, Any] = {size: n for size, n in changes.items() if n}
            return dataclasses.replace(profile, **changed)
    raise ValueError(f"profile must be 'lite' (2 CPU cores) or 'full' (a GPU), got {name!r}")
