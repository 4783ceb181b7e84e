"""Where to compute and in which precision, and how to leave the random state alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["bf16_pays", "isolated_random_state", "pick_device"]

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: If the name is unknown, or that device is not there.
    """
    if name not in DEVICES:
        raise ValueError(f"device must be one of {DEVICES}, got {name!r}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, available in there.items() if available)
    if not there[name]:
        raise ValueError(f"device {name!r} is not available here; use device='auto' or 'cpu'")
    return torch.device(name)


def bf16_pays(device: torch.device | str = "cpu") -> bool:
    """Whether bfloat16 autocast is faster than fp32 there: the hardware has the instructions.

    Emulated bfloat16 also "works", at a fraction of the fp32 speed, so support alone is not asked.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported() is also True for the emulation on a T4; Ampere (8.0) is not.
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Private names, so they may go: then fp32, which is slower but never wrong.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
    return False


@contextmanager
def isolated_random_state(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside: torch's global generators of CPU and `device` start at `seed`. After: as before.

    Weight initialisation and dropout take no generator argument, so their global one is lent
    out and put back. ``torch.manual_seed`` would also reset devices that are not in use here.
    """
    backend = {"cuda": torch.cuda, "mps": torch.mps}.get(torch.device(device).type)
    cpu_state = torch.get_rng_state()
    device_state = backend.get_rng_state() if backend else None
    try:
        torch.default_generator.manual_seed(seed)
        if backend:
            backend.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(cpu_state)
        if backend and device_state is not None:
            backend.set_rng_state(device_state)
