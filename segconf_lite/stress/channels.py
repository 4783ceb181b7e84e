"""Corruptions of images with several channels, such as the colours of a photograph or several MR sequences.

Shape letters: B cases, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from segconf_lite.stress.corruptions import corrupt
from segconf_lite.stress.inputs import Images, checked_generator, to_images


def corrupt_channels(
    images: Images,
    name: str,
    severity: int,
    *,
    generator: Generator | None = None,
    standardise: bool = False,
) -> Tensor:
    """Images of any number of channels with one corruption at one severity, see `corrupt`.

    Each channel is corrupted as an image of its own, so that magnitudes are fractions of its own range, and
    all of them with the same random numbers. Shading, ghosts and reflections therefore lie at one place, and
    the noise of one channel is that of another, times the ratio of their ranges: a network cannot average it
    away over the channels.

    Args:
        images: Images (B, channels, H, W), numpy or torch, finite, in any units.
        name: As of `corrupt`.
        severity: As of `corrupt`.
        generator: As of `corrupt`; afterwards it stands where it would stand after a single channel.
        standardise: Whether to restore mean and standard deviation of each channel.

    Returns:
        Images (B, channels, H, W) float32 on the CPU, always in new memory. Those of a single channel are
        bit for bit what `corrupt` returns.

    Raises:
        ValueError: As `corrupt` does.

    Example:
        >>> grey = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> noisy = corrupt_channels(torch.cat([grey, 2 * grey], dim=1), "gaussian_noise", 3)
        >>> torch.allclose(noisy[:, 1], 2 * noisy[:, 0])
        True
    """
    clean = to_images(images, channels=None)
    draws = torch.Generator().manual_seed(0) if generator is None else checked_generator(generator)
    state, corrupted = draws.get_state(), []
    for channel in clean.split(1, dim=1):
        draws.set_state(state)
        corrupted.append(corrupt(channel, name, severity, generator=draws, standardise=standardise))
    return torch.cat(corrupted, dim=1)
