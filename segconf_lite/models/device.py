"""Where to compute and in which precision, and how to leave the random state alone.

The contract for devices is stated in `segconf_lite.arrays`; `segconf_lite.models.batches` brings inputs to a
network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = [
    "bf16_pays",
    "check_same_device",
    "device_of",
    "in_double_precision",
    "isolated_random_state",
    "kept_random_state",
    "pick_device",
]

DEVICES = ("auto", "cpu", "cuda", "mps")
# What "auto" takes if it is there. Not MPS: it has no double precision, and no test has run on it yet.
PREFERRED = ("cuda",)


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name.

    Args:
        name: ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``), ``"mps"``; ``"auto"`` takes what the environment
            variable ``SEGCONF_DEVICE`` names, or else CUDA where it is there, or else the CPU.

    Raises:
        ValueError: If the name is unknown, or that device is not there.
    """
    asked = os.environ.get("SEGCONF_DEVICE", "") if name == "auto" else name
    fix = "use device='auto' or 'cpu'"
    if name == "auto" and asked:
        fix = "it comes from the environment variable SEGCONF_DEVICE: unset that, or set it to 'cpu'"
    if asked in ("", "auto"):
        asked = next((kind for kind in PREFERRED if _is_there(torch.device(kind))), "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ValueError(
            f"device must be one of {DEVICES}, or numbered as 'cuda:1', got {asked!r}; {fix}"
        ) from None
    if device.type not in {*DEVICES, *PREFERRED}:
        raise ValueError(f"device must be one of {DEVICES}, or numbered as 'cuda:1', got {asked!r}; {fix}")
    if not _is_there(device):
        raise ValueError(f"device {asked!r} is not available here; {fix}")
    return device


def _is_there(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "mps":
        return torch.backends.mps.is_available()
    module = torch.get_device_module(device.type)
    return module.is_available() and (device.index is None or device.index < module.device_count())


def device_of(network: nn.Module) -> torch.device:
    """The one device on which a network's parameters and buffers lie; the CPU if it has none.

    Raises:
        ValueError: If they lie on several devices.
    """
    places = _places(network)
    if len(places) > 1:
        raise ValueError(
            f"the network must lie on one device, got parts on {', '.join(sorted(map(str, places)))}; "
            "move all of it with network.to(device)"
        )
    return places.pop() if places else torch.device("cpu")


def _places(network: nn.Module) -> set[torch.device]:
    return {value.device for value in (*network.parameters(), *network.buffers())}


def check_same_device(network: nn.Module, **fitted: nn.Module | torch.device) -> None:
    """Refuse a network that was moved after a method had been fitted to it.

    Args:
        network: The segmentation network.
        **fitted: What a method learned beside it, or the device on which it did, by the name that the message
            uses.

    Raises:
        ValueError: If one of them lies on another device.
    """
    here = device_of(network)
    for name, part in fitted.items():
        places = _places(part) if isinstance(part, nn.Module) else {part}
        if places - {here}:
            raise ValueError(
                f"the {name} lies on {', '.join(sorted(map(str, places)))} and the network on {here}; "
                "move the network back, or call .fit(network, source_cohort) again"
            )


def in_double_precision(values: Tensor) -> Tensor:
    """The values in float64, on their own device, or on the CPU if it has no float64 (Apple's MPS)."""
    try:
        return values.double()
    except TypeError:
        return values.cpu().double()


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
def kept_random_state(device: torch.device | str = "cpu") -> Iterator[None]:
    """After: torch's global generators of the CPU and of `device` are as before.

    Weight initialisation and dropout take no generator, so the global one is lent out and put back.
    """
    device = torch.device(device)
    if device.type == "mps":  # fork_rng passes a device number, which MPS does not take
        state = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.mps.set_rng_state(state)
    elif device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        index = torch.get_device_module(device).current_device() if device.index is None else device.index
        with torch.random.fork_rng(devices=[index], device_type=device.type):
            yield


@contextmanager
def isolated_random_state(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """As `kept_random_state`; inside, the generators of the CPU and of `device` start at `seed`.

    ``torch.manual_seed`` would also reset devices that are not in use here.
    """
    device = torch.device(device)
    with kept_random_state(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        elif device.type != "cpu":
            module = torch.get_device_module(device)
            with module.device(device):
                module.manual_seed(seed)
        yield
