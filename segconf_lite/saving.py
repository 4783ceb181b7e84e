"""Fitted methods on disk, and weights of networks from elsewhere.

A method is saved as a folder: ``method.json`` says what it is, ``arrays.safetensors`` has its arrays, each
network that it learned has a file of its own, and ``SHA256SUMS`` has the sums of all of them. The evaluated
network is not in the folder, only a fingerprint of its weights. Nothing in the folder can carry code. Arrays
come back with their order in memory, so that a loaded method computes the same numbers to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from segconf_lite import __version__, artefacts, check
from segconf_lite.arrays import to_numpy
from segconf_lite.models.device import device_of
from segconf_lite.models.splice import weights_fingerprint
from segconf_lite.resources import write_whole

_VERSION = f"segconf_lite {__version__}, format 2"
_SUMS, _RECORD, _ARRAYS = "SHA256SUMS", "method.json", "arrays.safetensors"
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>\w[\w.]*)")
_NOT_SAVED = ("validation",)  # cases that chose a state in a training, which is over
_NESTED = (
    "state_dict",
    "model_state_dict",
    "network_weights",
    "model",
    "network",
)  # where others keep weights
_PLAIN_MODULE = frozenset(vars(nn.Module()))
Network = TypeVar("Network", bound=nn.Module)


class Savable:
    """Base of all methods that can be fitted: they can be saved and loaded.

    Example:
        >>> import tempfile
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.confidence import PredictiveEntropy
        >>> from segconf_lite.models import UNet
        >>> cohort, unet = phantom.cohort(2, size=16), UNet(n_classes=4, channels=(4, 8))
        >>> method = PredictiveEntropy(region="foreground").fit(unet, cohort)
        >>> folder = method.save(Path(tempfile.mkdtemp()) / "entropy")
        >>> again = PredictiveEntropy.load(folder, unet)
        >>> bool((again.uncertainty(cohort.images) == method.uncertainty(cohort.images)).all())
        True
    """

    @property
    def unet(self) -> nn.Module:
        """The evaluated network; every method has it after `fit`."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write the fitted method into a new folder; the evaluated network is not written.

        Args:
            folder: A folder that does not exist, or is empty.

        Returns:
            The folder.

        Raises:
            ValueError: If the method is not fitted, the folder holds something, or the method has a part that
                cannot be written, such as a network of another package.
        """
        folder, network = Path(folder), self.unet
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise check.refuse("folder", "new or empty", f"{folder}, which holds something", "name another")
        writer = _Writer(network)
        record = {
            "class": artefacts.class_name(self),
            "version": _VERSION,
            "network": weights_fingerprint(network),
            "device": writer.device.type,
            "state": writer.fields(vars(self), type(self).__name__),
        }
        files = {f"{name}.safetensors": artefacts.artefact(n, name) for name, n in writer.networks.values()}
        files[_ARRAYS] = safetensors.torch.save(writer.arrays)
        files[_RECORD] = json.dumps(record, indent=1).encode()
        if writer.has_images:
            what = f"{type(self).__name__} needs training images, so they are in {folder} too"
            warnings.warn(f"{what}; pass it on only to those who may see them", stacklevel=2)
        for name, content in files.items():
            write_whole(folder / name, content)
        lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
        write_whole(folder / _SUMS, "".join(lines))  # last: a folder without it is not complete
        return folder

    @classmethod
    def load(cls, folder: str | Path, network: nn.Module) -> Self:
        """Read a method that `save` has written; no cohort is needed.

        Args:
            folder: The folder.
            network: The network to which the method was fitted, with the same weights.

        Returns:
            The fitted method. Its learned parts lie on the device of the network.

        Raises:
            ValueError: If the folder is incomplete or damaged, was written by another version, or holds a
                method of another class; if the network has other weights, or lies on another device than
                the CPU while the method was fitted on the CPU.
            FileNotFoundError: If there is no saved method.
        """
        device = device_of(network)
        files = _checked_files(Path(folder))
        record = json.loads(files[_RECORD])
        if record["version"] != _VERSION:
            fix = "fit it again, or install that version"
            raise check.refuse(f"the method in {folder}", f"of {_VERSION}", record["version"], fix)
        kind = artefacts.class_of(record["class"], Savable)
        if not issubclass(kind, cls):
            fix = f"use {kind.__name__}.load, or segconf_lite.confidence.load"
            raise check.refuse(f"the method in {folder}", f"a {cls.__name__}", kind.__name__, fix)
        if (found := weights_fingerprint(network)) != record["network"]:
            expected, fix = (
                f"the one of the fit (weights {record['network']})",
                "load those weights, or fit again",
            )
            raise check.refuse("network", expected, f"one with other weights ({found})", fix)
        if record["device"] == "cpu" != device.type:
            fix = "move the network there, or fit the method on its device"
            raise check.refuse("network", "on the CPU, as in the fit", f"on {device}", fix)
        method = kind.__new__(kind)
        vars(method).update(_Reader(network, files).fields(record["state"]))
        assert isinstance(method, cls)
        return method


def load(folder: str | Path, network: nn.Module) -> Any:
    """Read a fitted method of any class that its `save` has written, see `Savable.load`.

    Args:
        folder: The folder.
        network: The network to which the method was fitted, with the same weights.

    Returns:
        The fitted method.

    Raises:
        ValueError: As `Savable.load`.
        FileNotFoundError: If there is no saved method.

    Example:
        >>> load("no_such_folder", nn.Conv2d(1, 2, 1))
        Traceback (most recent call last):
        FileNotFoundError: there is no saved method in no_such_folder: it has no SHA256SUMS
    """
    return Savable.load(folder, network)


def load_weights(network: Network, path: str | Path) -> Network:
    """Read the weights of a checkpoint into a network of your own, without running code from the file.

    A checkpoint of PyTorch (``.pt``, ``.pth``, ``.ckpt``) is a pickle, and a pickle can run any code when it
    is read. PyTorch's own reader for weights only is used here, and what it refuses is refused.

    Args:
        network: A network of the architecture that was trained; it is changed.
        path: ``.safetensors``, or a checkpoint of PyTorch that holds a state dictionary, alone or under one
            of the usual names. The prefix ``module.`` of parallel training is taken off.

    Returns:
        The network, in eval mode.

    Raises:
        ValueError: If the file is damaged or holds more than weights, a weight is not finite, or names or
            shapes are not those of the network; then the network is not changed.

    Example:
        >>> import tempfile
        >>> trained, path = nn.Linear(2, 1), Path(tempfile.mkdtemp()) / "weights.pt"
        >>> torch.save({"state_dict": trained.state_dict()}, path)
        >>> bool((load_weights(nn.Linear(2, 1), path).weight == trained.weight).all())
        True
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load(path.read_bytes())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fix = "where it was trained, write its weights alone: torch.save(network.state_dict(), 'weights.pt')"
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        got = f"Python objects{f' ({found[1]})' if found else ''}, and reading those can run any code"
        raise check.refuse(str(path), "a file of weights only", got, fix) from error
    except (safetensors.SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise check.refuse(str(path), "a whole checkpoint", f"{type(error).__name__}: {error}") from error
    while isinstance(state, dict) and (
        inner := [state[key] for key in _NESTED if isinstance(state.get(key), dict)]
    ):
        state = inner[0]
    if not (isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values())):
        got = str(list(state)[:9]) if isinstance(state, dict) else type(state).__name__
        raise check.refuse(str(path), f"a state dictionary, alone or under one of {_NESTED}", got)
    consume_prefix_in_state_dict_if_present(state, "module.")
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in state.items()}
    if own != there:
        odd = sorted(name for name in own.keys() | there.keys() if own.get(name) != there.get(name))
        told = ", ".join(f"{n} {there.get(n, 'missing')} for {own.get(n, 'none')}" for n in odd[:3])
        expected = f"of the network's {len(own)} tensors"
        raise check.refuse(str(path), expected, f"{len(there)}; {len(odd)} differ, first: {told}")
    if bad := [name for name, value in state.items() if not value.isfinite().all()]:
        raise check.refuse(str(path), "weights that are finite", f"NaN or infinity in {bad[:3]}")
    network.load_state_dict(state)
    return network.eval()


def _checked_files(folder: Path) -> dict[str, bytes]:
    """Content of the files of a saved method, each compared with its sum."""
    try:
        lines = (folder / _SUMS).read_bytes().decode(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no saved method in {folder}: it has no {_SUMS}") from None
    files = {}
    for match in map(_LINE.fullmatch, lines):
        content = (
            (folder / match["name"]).read_bytes() if match and (folder / match["name"]).is_file() else None
        )
        if match is None or content is None or hashlib.sha256(content).hexdigest() != match["digest"]:
            what = match["name"] if match else _SUMS
            raise check.refuse(
                f"{what} in {folder}", "as it was written", "damaged or missing", "save it again"
            )
        files[match["name"]] = content
    if not {_RECORD, _ARRAYS} <= files.keys():
        raise check.refuse(
            str(folder), f"a folder with {_RECORD} and {_ARRAYS}", sorted(files), "save it again"
        )
    return files


class _Writer:
    """Describes values as JSON, and collects the arrays and networks in them."""

    def __init__(self, network: nn.Module) -> None:
        self.parts = {id(module): name for name, module in network.named_modules()}
        self.device = device_of(network)
        self.arrays: dict[str, Tensor] = {}
        self.networks: dict[int, tuple[str, nn.Module]] = {}
        self.has_images = False

    def fields(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        self.has_images |= "images" in values
        return {k: None if k in _NOT_SAVED else self.node(v, f"{where}.{k}") for k, v in values.items()}

    def node(self, value: Any, where: str) -> Any:
        match value:
            case np.generic():
                return self.node(value.item(), where)
            case None | bool() | int() | float() | str():
                return value
            case list():
                return [self.node(part, where) for part in value]
            case tuple() if not hasattr(value, "_fields"):
                return {"tuple": self.node(list(value), where)}
            case dict():
                return {
                    "dict": [[self.node(k, where), self.node(v, f"{where}[{k!r}]")] for k, v in value.items()]
                }
            case torch.device():
                return {"device": value.type}
            case np.ndarray() if value.dtype.kind == "U":
                return {"texts": value.tolist(), "dtype": value.dtype.str}
            case np.ndarray() if value.dtype.kind in "biuf":
                return self.array(torch.from_numpy(value.copy("K"))) | {"numpy": True}
            case Tensor():
                return self.array(value.detach()) | {"beside_network": value.device == self.device}
            case nn.Module():
                return self.module(value, where)
        return self.instance(value, where)

    def array(self, value: Tensor) -> dict[str, Any]:
        order = sorted(range(value.ndim), key=value.stride, reverse=True)  # from far to near in memory
        name = f"array_{len(self.arrays)}"
        self.arrays[name] = value.cpu().permute(order).contiguous().clone()
        return {"array": name, "order": order}

    def module(self, value: nn.Module, where: str) -> dict[str, Any]:
        if id(value) in self.parts:
            return {"part": self.parts[id(value)]}
        if hasattr(value, "config") and artefacts.class_name(value).startswith("segconf_lite."):
            name, _ = self.networks.setdefault(id(value), (f"network_{len(self.networks)}", value))
            return {"network": name}
        if value._parameters or value._buffers:
            expected = "networks of this package beside the evaluated one"
            raise check.refuse(where, expected, artefacts.class_name(value), "fit the method anew with yours")
        own = {k: v for k, v in vars(value).items() if k not in _PLAIN_MODULE}
        return self.instance(value, where, own | dict(value.named_children()))

    def instance(self, value: Any, where: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        kind = artefacts.class_name(value)
        if values is None:
            values = getattr(value, "_asdict", lambda: getattr(value, "__dict__", None))()
        if values is None or not kind.startswith("segconf_lite."):
            expected = "numbers, text, arrays, networks, and settings of this package"
            raise check.refuse(where, expected, kind, "a method with this part cannot be saved")
        return {"class": kind, "fields": self.fields(values, where)}


class _Reader:
    """The values that a `_Writer` has described."""

    def __init__(self, network: nn.Module, files: dict[str, bytes]) -> None:
        self.parts, self.device = dict(network.named_modules()), device_of(network)
        self.arrays = safetensors.torch.load(files[_ARRAYS])
        self.files = files
        self.networks: dict[str, nn.Module] = {}

    def fields(self, nodes: dict[str, Any]) -> dict[str, Any]:
        return {name: self.value(node) for name, node in nodes.items()}

    def value(self, node: Any) -> Any:
        match node:
            case list():
                return [self.value(part) for part in node]
            case {"tuple": parts}:
                return tuple(self.value(parts))
            case {"dict": pairs}:
                return {self.value(key): self.value(part) for key, part in pairs}
            case {"device": _}:
                return self.device
            case {"texts": texts, "dtype": dtype}:
                return np.array(texts, dtype=dtype)
            case {"array": name, "order": order}:
                value = self.arrays[name].permute([order.index(axis) for axis in range(len(order))])
                return (
                    to_numpy(value)
                    if "numpy" in node
                    else value.to(self.device if node["beside_network"] else "cpu")
                )
            case {"part": name}:
                return self.parts[name]
            case {"network": name}:
                if name not in self.networks:
                    network = artefacts.restored(self.files[f"{name}.safetensors"], name)
                    self.networks[name] = network.eval().to(self.device)
                return self.networks[name]
            case {"class": name, "fields": nodes}:
                return self.instance(artefacts.class_of(name, object), self.fields(nodes))
        return node

    def instance(self, kind: type[Any], values: dict[str, Any]) -> Any:
        if issubclass(kind, tuple):
            return kind(**values)
        value = object.__new__(kind)
        if isinstance(value, nn.Module):
            nn.Module.__init__(value)
            for name, part in values.items():
                setattr(value, name, part)
            return value.eval()
        vars(value).update(values)
        return value
