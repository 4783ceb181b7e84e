"""The file format of trained networks: weights, and what the network is, in one file that cannot carry code.

A file is in the format of safetensors. Its header says the class and the configuration of the network, its
history, where it was trained, its own name and a checksum. Only classes of this package are restored.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy

Kind = TypeVar("Kind")
_OURS = re.compile(r"segconf_lite\.[\w.]+:\w+")  # module and name of a class


def artefact(network: nn.Module, name: str, **more: object) -> bytes:
    """The content of a file with a network of this package.

    Args:
        network: A network of this package, with a ``config`` such that ``type(network)(**network.config)``
            has the same architecture.
        name: Name of the file without its ending; a file of another name is refused when it is read.
        **more: What else the record says, as JSON can hold it.

    Raises:
        ValueError: If the network is of another package, or has no ``config``.

    Example:
        >>> from segconf_lite.models import UNet
        >>> content = artefact(UNet(n_classes=2, channels=(4, 8)), "mine")
        >>> restored(content, "mine").config["channels"]
        [4, 8]
    """
    kind = class_name(network)
    if not (hasattr(network, "config") and _OURS.fullmatch(kind)):
        raise ValueError(f"only networks of segconf_lite with a config attribute can be restored, not {kind}")
    # safetensors takes contiguous memory only, and channels_last weights are not.
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    about = {
        "name": name,
        "class": kind,
        "config": network.config,
        "frozen": [key for key, parameter in network.named_parameters() if not parameter.requires_grad],
        "history": getattr(network, "history", []),
        "made": vars(network).get("made"),
        **more,
    }
    record = json.dumps(about, default=float)  # numbers of numpy in a history
    return safetensors.torch.save(state, {"record": record, "sha256": checksum(state, record)})


def restored(content: bytes, name: str) -> nn.Module:
    """The network of a file, on the CPU, as frozen and as precise as it was.

    Args:
        content: What `artefact` has returned.
        name: Name of the file without its ending.

    Raises:
        Exception: Of any kind, if the content is damaged, or is that of another file.

    Example:
        >>> restored(b"", "mine")
        Traceback (most recent call last):
        json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
    """
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    record, state = json.loads(metadata["record"]), safetensors.torch.load(content)
    if checksum(state, metadata["record"]) != metadata["sha256"]:
        raise ValueError("the checksum does not match")
    if record["name"] != name:
        raise ValueError(f"it is a copy of {record['name']}")
    network = class_of(record["class"], nn.Module)(**record["config"])
    floating = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    network.to(floating).load_state_dict(state)
    for parameter in record["frozen"]:
        network.get_parameter(parameter).requires_grad_(False)
    vars(network).update(history=record["history"], made=record["made"])
    return network


def record_of(path: Path) -> dict[str, Any]:
    """What the header of a file says of its network; the weights are not read.

    Args:
        path: The file.

    Raises:
        Exception: Of any kind, if it is no such file.

    Example:
        >>> import tempfile
        >>> from segconf_lite.models import UNet
        >>> path = Path(tempfile.mkdtemp()) / "mine.safetensors"
        >>> _ = path.write_bytes(artefact(UNet(n_classes=2, channels=(4, 8)), "mine"))
        >>> record_of(path)["class"]
        'segconf_lite.models.unet:UNet'
    """
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["record"])


def checksum(state: dict[str, Tensor], record: str) -> str:
    """SHA-256 (hex) over a record, and the names, types, shapes and values of tensors.

    Args:
        state: Tensors by name.
        record: The record as text.

    Example:
        >>> checksum({}, "")[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256(record.encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(to_numpy(value.reshape(-1).view(torch.uint8)).tobytes())
    return digest.hexdigest()


def class_name(value: object) -> str:
    """Module and name of the class of a value.

    Args:
        value: Any value.

    Example:
        >>> class_name(nn.Identity())
        'torch.nn.modules.linear:Identity'
    """
    return f"{type(value).__module__}:{type(value).__qualname__}"


def class_of(name: str, base: type[Kind]) -> type[Kind]:
    """The class of that name, if it is one of this package; nothing else is imported.

    Args:
        name: Module and name, as `class_name` gives them.
        base: The class must be a subclass of it.

    Raises:
        ValueError: If it is no such class.

    Example:
        >>> class_of("os:system", nn.Module)
        Traceback (most recent call last):
        ValueError: 'os:system' is not a network of this package
    """
    module, _, attribute = name.partition(":")
    kind = getattr(importlib.import_module(module), attribute, None) if _OURS.fullmatch(name) else None
    if not (isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module):
        what = "network" if base is nn.Module else "class"
        raise ValueError(f"{name!r} is not a {what} of this package")
    return kind
