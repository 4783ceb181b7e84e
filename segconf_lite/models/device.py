"""Where to compute and in which precision, and how to leave the random state alone.

The contract for devices is stated in `segconf_lite.arrays`; `segconf_lite.models.batches` brings inputs to a
network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn

from segconf_lite import check

DEVICES = ("auto", "cpu", "cuda", "mps")
# What "auto" takes if it is there. Not MPS: it has no double precision, and no test has run on it yet.
PREFERRED = ("cuda",)


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name, if it is available.

    Args:
        name: ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``) or ``"mps"``. ``"auto"`` takes the device named by
            the environment variable ``SEGCONF_DEVICE``, or else CUDA where it is available, or else the CPU.

    Raises:
        ValueError: If the name is unknown, or the device is not available.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    wanted, fix = name, "use device='auto' or 'cpu'"
    if name == "auto" and (wanted := os.environ.get("SEGCONF_DEVICE", "")):
        fix = "it comes from the environment variable SEGCONF_DEVICE: unset that, or set it to 'cpu'"
    if wanted in ("", "auto"):
        wanted = next((kind for kind in PREFERRED if _is_available(torch.device(kind))), "cpu")
    device = _parsed(wanted, fix)
    if not _is_available(device):
        raise ValueError(f"device {wanted!r} is not available here; {fix}")
    return device


def _parsed(name: str | torch.device, fix: str = "") -> torch.device:
    with suppress(RuntimeError, TypeError):
        if (device := torch.device(name)).type in {*DEVICES, *PREFERRED}:
            return device
    raise check.refuse("device", f"one of {DEVICES}, or numbered as 'cuda:1'", repr(name), fix)


def _is_available(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "mps":
        return torch.backends.mps.is_available()
    module = torch.get_device_module(device.type)
    return module.is_available() and (device.index is None or device.index < module.device_count())


def device_of(network: nn.Module) -> torch.device:
    """The one device on which a network's parameters and buffers lie; the CPU if it has none.

    Args:
        network: Any module of PyTorch.

    Raises:
        ValueError: If it is no module, or its parts lie on several devices.

    Example:
        >>> device_of(nn.Linear(1, 1))
        device(type='cpu')
    """
    if not isinstance(network, nn.Module):
        fix = "wrap a function of images in a torch.nn.Module"
        raise check.refuse("the network", "a torch.nn.Module", type(network).__name__, fix)
    devices = {value.device for value in (*network.parameters(), *network.buffers())}
    if len(devices) > 1:
        parts, fix = ", ".join(sorted(map(str, devices))), "move all of it with network.to(device)"
        raise ValueError(f"the network must lie on one device, got parts on {parts}; {fix}")
    return devices.pop() if devices else torch.device("cpu")


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside: eval mode, and no parameter requires a gradient. Afterwards: as before.

    Args:
        network: Any module.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with frozen(layer):
        ...     print(layer.training, layer.weight.requires_grad)
        False False
        >>> layer.training, layer.weight.requires_grad
        (True, True)
    """
    device_of(network)  # refuses what is no module
    modes = [(module, module.training) for module in network.modules()]
    required = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.eval()
    try:
        for parameter, _ in required:  # scripted modules have no requires_grad_
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, before in required:
            parameter.requires_grad_(before)


def check_same_device(network: nn.Module, **fitted: nn.Module | torch.device) -> None:
    """Refuse a network that was moved after a method had been fitted to it.

    Args:
        network: The segmentation network.
        **fitted: What a method learned beside it, or the device on which it was learned; the keyword is its
            name in the message.

    Raises:
        ValueError: If one of them lies on another device.

    Example:
        >>> check_same_device(nn.Linear(1, 1), autoencoder=torch.device("meta"))
        Traceback (most recent call last):
        ValueError: the autoencoder lies on meta and the network on cpu; move the network back, or call
        .fit(network, source_cohort) again
    """
    here = device_of(network)
    for name, part in fitted.items():
        there = device_of(part) if isinstance(part, nn.Module) else part
        empty = isinstance(part, nn.Module) and not [*part.parameters(), *part.buffers()]
        if there != here and not empty:  # what has no parameters lies nowhere
            fix = "move the network back, or call .fit(network, source_cohort) again"
            raise ValueError(f"the {name} lies on {there} and the network on {here}; {fix}")


def in_double_precision(values: Tensor) -> Tensor:
    """The values in float64, on their own device, or on the CPU if it has no float64 (Apple's MPS).

    Example:
        >>> in_double_precision(torch.ones(2))
        tensor([1., 1.], dtype=torch.float64)
    """
    try:
        return values.double()
    except TypeError:
        return values.cpu().double()


def bf16_pays(device: torch.device | str = "cpu") -> bool:
    """Whether bfloat16 autocast is faster than float32 on a device, because its hardware computes in it.

    Emulated bfloat16 also "works", at a fraction of the float32 speed, so it does not count.

    Args:
        device: A device, or its name.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> bf16_pays("mps")  # no test has run on it yet
        False
    """
    device = _parsed(device)
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported() is also True for the emulation on a T4; Ampere (8.0) is not.
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Private names, so they may go: then float32, which is slower but never wrong.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
    return False


@contextmanager
def kept_random_state(device: torch.device | str = "cpu") -> Iterator[None]:
    """Afterwards torch's global generators of the CPU and of `device` are as before.

    Weight initialisation and dropout take no generator, so they use the global one, which is then restored.

    Args:
        device: The device whose generator is restored beside the CPU's.

    Example:
        >>> before = torch.get_rng_state()
        >>> with kept_random_state():
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    device, numbers = torch.device(device), []
    if device.type not in ("cpu", "mps"):
        module = torch.get_device_module(device)
        numbers = [module.current_device() if device.index is None else device.index]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=numbers, device_type=device.type))
        if device.type == "mps":  # fork_rng passes a device number, which MPS does not take
            stack.callback(torch.mps.set_rng_state, torch.mps.get_rng_state())
        yield


@contextmanager
def isolated_random_state(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """`kept_random_state`, with the generators of the CPU and of `device` seeded inside.

    ``torch.manual_seed`` would also reset devices that are not in use.

    Args:
        seed: Seed of both generators.
        device: The device whose generator is seeded beside the CPU's.

    Raises:
        ValueError: If the seed is no integer that torch takes.

    Example:
        >>> with isolated_random_state(0):
        ...     print(torch.rand(1))
        tensor([0.4963])
    """
    device = torch.device(device)
    seed = check.integer("seed", seed, low=-(2**63), high=2**64 - 1)
    with kept_random_state(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        elif device.type != "cpu":
            module = torch.get_device_module(device)
            with module.device(device):
                module.manual_seed(seed)
        yield
