"""Trained networks on disk: trained once, read back afterwards, never trusted when damaged.

An artefact is one file, ``<function>-<address>.safetensors``, see `segconf_lite.artefacts`. Processors round
differently, so the simulated images of two computers may differ in their last digits. Therefore a network of
the same training on images that are equal but for rounding is taken, too.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import inspect
import platform
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import filelock
import numpy as np
import torch
from torch import nn

from segconf_lite.artefacts import artefact, record_of, restored
from segconf_lite.models.address import address, near_address
from segconf_lite.models.device import device_of, pick_device
from segconf_lite.models.training import Training
from segconf_lite.resources import note_use, user_folder, write_whole

Network = TypeVar("Network", bound=nn.Module)
Data = tuple[object, ...]
ROUNDING = 3e-5  # of the numbers that stand for images


def store_folder() -> Path:
    """Where artefacts lie: ``$SEGCONF_HOME/store``, else ``store`` in the user's cache folder.

    Example:
        >>> store_folder().name
        'store'
    """
    return user_folder() / "store"


def fitted(fit: Callable[..., Network], *data: object, **settings: object) -> Network:
    """``fit(*data, **settings)``, read from the store if it holds this very call, and else stored there.

    The call is the address: all arguments by their content, the fields of `Training` one by one, and the code
    of `fit` with what it uses (`segconf_lite.models.address`). One process trains while others that ask for
    the same wait. A damaged file is reported with a warning and replaced. A folder that cannot be written
    costs the storing, not the result.

    Args:
        fit: A function that returns a network of this package, which has a ``config`` such that
            ``type(network)(**network.config)`` has the same architecture.
        *data: Arguments of `fit`, such as the training cohort.
        **settings: Further arguments of `fit`. `device` and `progress` do not change the address.

    Returns:
        The network in eval mode. A stored one computes exactly as it did when it was trained.
        ``network.made`` says where that was: device, precision, number of threads, versions.

    Raises:
        ValueError: If `fit` refuses an argument, an argument has no content that can be read, or `fit`
            returns something else.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import fit_unet
        >>> unet = fitted(fit_unet, phantom.cohort(12, size=16), steps=1, channels=(4, 8))
        >>> len(unet.history)
        1
    """
    return _fitted(fit, data, settings, wait=True)


def fitted_each(
    fit: Callable[..., Network], *data: object, seeds: Iterable[int], **settings: object
) -> list[Network]:
    """`fitted` for each seed, several processes training them side by side.

    Chapters that run at the same time need the same networks. What another process is training at the moment
    is left to it, and networks that nobody trains come first.

    Args:
        fit: A function as of `fitted`, with a `seed` among its arguments or in its `training`.
        *data: Arguments of `fit`.
        seeds: Seeds of the networks.
        **settings: Further arguments of `fit`, equal for all networks.

    Returns:
        The networks in the order of the seeds.

    Raises:
        ValueError: As `fitted`.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import fit_unet
        >>> cohort = phantom.cohort(12, size=16)
        >>> len(fitted_each(fit_unet, cohort, seeds=[0, 1], steps=1, channels=(4, 8)))
        2
    """
    order, done = list(seeds), dict[int, Network]()
    for wait in (False, True):
        for seed in order:
            if seed not in done:
                with contextlib.suppress(TimeoutError):
                    done[seed] = _fitted(fit, data, {**settings, "seed": seed}, wait=wait)
    return [done[seed] for seed in order]


def artefact_path(fit: Callable[..., object], *data: object, **settings: object) -> Path:
    """The file in which the store keeps ``fit(*data, **settings)``, whether or not it is there.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import fit_unet
        >>> cohort = phantom.cohort(12, size=16)
        >>> whole = artefact_path(fit_unet, cohort, training=Training(steps=9))
        >>> artefact_path(fit_unet, cohort, steps=9) == whole
        True
    """
    name = getattr(fit, "__name__", type(fit).__name__)
    return store_folder() / f"{name}-{address(fit, _arguments(fit, data, settings))}.safetensors"


def _fitted(fit: Callable[..., Network], data: Data, settings: dict[str, object], *, wait: bool) -> Network:
    arguments = _arguments(fit, data, settings)
    here = _device(arguments)
    training = arguments.get("training")
    precision = "bf16" if isinstance(training, Training) and training.uses_bf16(here) else "fp32"
    path = artefact_path(fit, *data, **settings)
    with _only_one_process(path, wait):
        network = _load(path)
        if network is None:
            near = near_address(fit, arguments)
            used = _nearest(path, *near)
            network = None if used is None else _load(used)
            path = path if network is None or used is None else used
        if network is None:
            network = fit(*data, **settings)
            if not isinstance(network, nn.Module):
                raise ValueError(f"fit must return a network, got {type(network).__name__}")
            here = device_of(network)
            made = {"device": here.type, "precision": precision, "threads": torch.get_num_threads()}
            made |= {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]}
            made["machine"] = _machine()
            made["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            vars(network)["made"] = made
            _save(network, path, near)
    note_use(path.name)
    made = vars(network)["made"]
    if (made["device"], made["precision"]) != (here.type, precision):
        there = f"{path.stem} was trained on {made['device']} in {made['precision']}"
        would = f"trained here it would be on {here.type} in {precision}"
        warnings.warn(f"{there}; {would}, and its numbers would differ a little", stacklevel=3)
    return cast(Network, network.eval().to(here))  # the address has the function, so it is its network


def _arguments(fit: Callable[..., object], data: Data, settings: dict[str, object]) -> dict[str, Any]:
    """All arguments by name, defaults too; single settings of the training are put into it."""
    signature = inspect.signature(fit)
    try:
        bound = signature.bind(*data, **settings)
    except TypeError as error:
        raise ValueError(f"{getattr(fit, '__name__', fit)} cannot be called like this: {error}") from None
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, parameter in signature.parameters.items():  # 1 and 1.0 are one call where a float is expected
        if "float" in str(parameter.annotation) and type(arguments[name]) is int:
            arguments[name] = float(arguments[name])
    if isinstance(arguments.get("training"), Training):
        arguments["training"] = arguments["training"].changed(**arguments.pop("settings", {}))
    return arguments


def _device(arguments: dict[str, Any]) -> torch.device:
    """Where a training works: as it is told, or beside the network that it is given."""
    network = next((value for value in arguments.values() if isinstance(value, nn.Module)), nn.Identity())
    return pick_device(arguments["device"]) if "device" in arguments else device_of(network)


@contextlib.contextmanager
def _only_one_process(path: Path, wait: bool) -> Iterator[None]:
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except (OSError, NotImplementedError) as error:  # without a lock two may train, slow but not wrong:
        if isinstance(error, filelock.Timeout):  # the folder is read-only, or its file system has no locks
            raise
    try:
        yield
    finally:
        lock.release()  # does nothing where it is not held


def _load(path: Path) -> nn.Module | None:
    """The stored network on the CPU; None if there is none, or (with a warning) it cannot be trusted."""
    what = "cannot be read"
    try:
        content = path.read_bytes()
        what = "is damaged"
        return restored(content, path.stem)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever is wrong with a file, training again mends it
        what += f" ({type(error).__name__}: {error})"
        warnings.warn(f"{path.stem} in {path.parent} {what}; it is trained again and replaced", stacklevel=4)
        return None


def _nearest(path: Path, near: str, sketch: list[float]) -> Path | None:
    """The artefact of the same training on images that are equal but for rounding, if there is one.

    Only one of another computer: on this one, equal images have equal bits, so others are other images.
    """
    pattern = f"{path.stem.rpartition('-')[0]}-*.safetensors"
    for other in sorted({*path.parent.glob(pattern)} - {path}) if sketch else []:
        with contextlib.suppress(Exception):  # a damaged file, or one of an older version
            record = record_of(other)
            known, elsewhere = record["near"], record["made"]["machine"] != _machine()
            if elsewhere and known[0] == near and np.allclose(known[1], sketch, rtol=0, atol=ROUNDING):
                return other
    return None


def _machine() -> str:
    """This computer, as a short hash that does not tell which one it is."""
    return hashlib.sha256(str(uuid.getnode()).encode()).hexdigest()[:8]


def _save(network: nn.Module, path: Path, near: tuple[str, list[float]]) -> None:
    """Write an artefact. What cannot be written is reported, and the training is not lost."""
    try:
        write_whole(path, artefact(network, path.stem, near=near))
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        what = f"the trained {type(network).__name__} could not be stored in {path.parent} ({error}). "
        what += "Set SEGCONF_HOME to a folder with room and write access. " * isinstance(error, OSError)
        warnings.warn(f"{what}It is used now and trained again next time", stacklevel=4)
