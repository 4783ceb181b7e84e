"""Sizes and step counts that the chapters share, for a laptop (`LITE`) and for a GPU (`FULL`)."""

from __future__ import annotations

import dataclasses
from typing import Any

from segconf_lite import check


@dataclasses.dataclass(frozen=True)
class Profile:
    """Sizes of one way to run the series.

    Attributes:
        name: ``"lite"`` or ``"full"``.
        size: Rows and columns of a slice in pixels.
        n_train: Number of phantom slices for training (six per subject).
        n_test: Number of phantom slices per scanner for testing.
        steps: Optimiser steps of the phantom U-Net that the chapters share.
        steps_real: Optimiser steps of a U-Net on the spinal-cord cohort.
        channels: Features per U-Net level.
        seeds: Seeds of the stored tables of chapter 1.

    Example:
        >>> LITE.steps, FULL.steps
        (200, 666)
    """

    name: str
    size: int
    n_train: int
    n_test: int
    steps: int
    steps_real: int
    channels: tuple[int, ...]
    seeds: tuple[int, ...]


#: For a laptop with two cores.
LITE = Profile("lite", 96, 480, 120, 200, 133, (16, 32, 64, 96), (0, 1, 2))
#: For a graphics card.
FULL = Profile("full", 192, 960, 240, 666, 400, (32, 64, 128, 192), tuple(range(10)))


def profile_named(name: str, **changes: int) -> Profile:
    """`LITE` or `FULL` by name.

    Args:
        name: Name of the profile.
        **changes: Sizes that replace the profile's, e.g. ``n_train=60``; 0 keeps the profile's size.

    Raises:
        ValueError: If there is no such profile.

    Example:
        >>> profile_named("lite", n_train=60).n_train
        60
    """
    for profile in (LITE, FULL):
        if profile.name == name:
            changed: dict[str, Any] = {size: n for size, n in changes.items() if n}
            return dataclasses.replace(profile, **changed)
    raise check.refuse("profile", "'lite' (2 CPU cores) or 'full' (a GPU)", repr(name))
