"""Trained networks on disk: trained once, read back ever after, never trusted when damaged.

An artefact is two files, ``<kind>-<address>.safetensors`` (the state dict) and ``.json`` (the
record: class, config, history, checksum). Neither can carry code, as a pickle can.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib
import json
import math
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import safetensors.torch
import torch

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.device import pick_device
from segconf_lite.resources import user_folder

__all__ = ["artefact_address", "code_fingerprint", "load_or_fit", "store_folder"]

# The address holds a hash of the sources that decide what training yields, not a number to bump:
# a number is forgotten once, and from then on old weights answer for new code. The price, one
# training after a changed comment, is small.
_TRAINING_SOURCES = ("unet.py", "fit.py", "case_reader.py", "augment.py", "device.py")
_ALLOWED_MODULE = re.compile(r"segconf_lite\.(models|confidence)(\.[a-z_0-9]+)+")


def store_folder() -> Path:
    """Where artefacts lie: ``$SEGCONF_HOME/store``, else ``store`` in the user's cache folder."""
    return user_folder() / "store"


def load_or_fit(
    kind: str,
    config: Mapping[str, Any],
    cohort: Cohort,
    fit: Callable[[], torch.nn.Module],
    *,
    device: str = "auto",
    wait: bool = True,
) -> torch.nn.Module:
    """The stored network for these arguments, or a newly fitted one, which is then stored.

    One process fits while others that ask for the same wait. A damaged file is reported with a
    warning and replaced; a folder that cannot be written costs the storing, not the result.

    Args:
        kind: what it is, part of the file name: lower case letters, digits and ``_``.
        config: every setting that decides the result (sizes, steps, seed, precision). Texts,
            numbers, booleans, None, and lists or dicts of them.
        cohort: the training cases; only its fingerprint is used here.
        fit: takes nothing and returns a module of this package with a ``config`` such that
            ``type(module)(**module.config)`` has the same architecture.
        device: where the module is moved to, see `pick_device`.
        wait: for another process that fits the same; see `segconf_lite.models.members` for more than one.

    Returns:
        The module in eval mode. A read one computes exactly as the fitted one did.

    Raises:
        ValueError: If kind or config is not as above, or `fit` returns another kind of object.
        TimeoutError: If another process holds it, and `wait` is False.
    """
    stem = f"{kind}-{artefact_address(kind, config, cohort)}"
    place = pick_device(device)
    tensors_path, record_path = (store_folder() / f"{stem}.{end}" for end in ("safetensors", "json"))
    with _only_one_process(tensors_path.with_suffix(".lock"), wait):
        module = _load(tensors_path, record_path)
        if module is None:
            module = fit()
            _check_storable(module)
            _save(module, tensors_path, record_path)
    return module.eval().to(place)


def artefact_address(kind: str, config: Mapping[str, Any], cohort: Cohort) -> str:
    """16 hex digits of the SHA-256 over kind, config, cohort content and training code.

    Raises:
        ValueError: If kind or config is not as `load_or_fit` takes them.
    """
    if not re.fullmatch(r"[a-z0-9_]+", kind):
        raise ValueError(f"kind must be lower case letters, digits and '_', got {kind!r}")
    content = [kind, _canonical(dict(config)), cohort.fingerprint(), _training_version()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def code_fingerprint(*modules: ModuleType) -> str:
    """16 hex digits of the SHA-256 over modules' sources: part of the config of what they train."""
    sources = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def _training_version() -> str:
    folder = Path(__file__).parent
    sources = "".join((folder / name).read_text(encoding="utf-8") for name in _TRAINING_SOURCES)
    return hashlib.sha256(sources.encode()).hexdigest()


def _canonical(value: Any) -> str:
    """JSON with one spelling per value; refuses what JSON would change or merge without a word."""
    _check_plain(value, "config")
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"keys of {where} must be text, got {key!r} ({type(key).__name__})")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value}; use None for 'not set'")
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        raise ValueError(
            f"{where} must be text, a number, a boolean, None, or a list or dict of them, got "
            f"{type(value).__name__}; turn it into one, e.g. int(value) or str(value)"
        )


@contextlib.contextmanager
def _only_one_process(path: Path, wait: bool) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except filelock.Timeout:  # an OSError, too
        raise
    except (OSError, NotImplementedError):
        pass  # no lock (read-only folder, file system that has none): two may train, slow but not wrong
    try:
        yield
    finally:
        lock.release()  # does nothing where it is not held


def _load(tensors_path: Path, record_path: Path) -> torch.nn.Module | None:
    """The stored module on the CPU; None if there is none, or (with a warning) it is damaged."""
    if not (tensors_path.exists() or record_path.exists()):
        return None
    try:
        signed = json.loads(record_path.read_text(encoding="utf-8"))
        record, tensors = signed["record"], tensors_path.read_bytes()
        for what, content, expected in (
            (record_path.name, _canonical(record).encode(), signed["sha256"]),
            (tensors_path.name, tensors, record["tensors_sha256"]),
        ):
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f"the checksum of {what} does not match")
        kind = _class_of(record["class"])
        if record["class_source"] != _source_of(kind):
            return None  # sound, but written by other code: fitted again without alarm
        module = kind(**record["config"])
        module.load_state_dict(safetensors.torch.load(tensors))
        module.history = record["history"]
        return module
    except Exception as error:  # whatever is wrong with a file, training again mends it
        warnings.warn(
            f"stored artefact {tensors_path.stem} in {tensors_path.parent} is damaged "
            f"({type(error).__name__}: {error}); it is fitted again and replaced",
            stacklevel=3,
        )
        return None


def _save(module: torch.nn.Module, tensors_path: Path, record_path: Path) -> None:
    # safetensors takes contiguous memory only, and channels_last weights are not.
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    tensors = safetensors.torch.save(state)
    record = {
        "class": _name_of(type(module)),
        "class_source": _source_of(type(module)),
        "config": module.config,
        "history": getattr(module, "history", []),
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
    }
    signed = {"record": record, "sha256": hashlib.sha256(_canonical(record).encode()).hexdigest()}
    try:
        _replace(tensors_path, tensors)
        _replace(record_path, json.dumps(signed, indent=1).encode())
    except OSError as error:
        warnings.warn(
            f"the fitted {record['class']} could not be stored in {tensors_path.parent} ({error}); it is "
            "used now and fitted again next time. Set SEGCONF_HOME to a folder with room and write access",
            stacklevel=3,
        )


def _replace(path: Path, content: bytes) -> None:
    """Written beside and renamed, so that no reader ever meets half a file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)  # atomic, also where the path exists
    finally:
        temporary.unlink(missing_ok=True)


def _check_storable(module: Any) -> None:
    name = _name_of(type(module))
    if not (isinstance(module, torch.nn.Module) and hasattr(module, "config") and _is_ours(name)):
        raise ValueError(
            "fit must return a torch.nn.Module of segconf_lite.models or segconf_lite.confidence with a "
            f"config attribute, got {name}; the store restores no other class"
        )


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _is_ours(name: str) -> bool:
    module, _, attribute = name.partition(":")
    return bool(_ALLOWED_MODULE.fullmatch(module)) and attribute.isidentifier()


def _class_of(name: str) -> type[Any]:
    """The class of a record, if it is a network of this package; nothing else is imported."""
    if not _is_ours(name):
        raise ValueError(f"class {name!r} is not of this package")
    module, _, attribute = name.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module) and kind.__module__ == module):
        raise ValueError(f"{name!r} is not a network of this package")
    return kind


def _source_of(kind: type) -> str:
    """SHA-256 of the file that defines a class: the address knows the training of U-Nets only."""
    return hashlib.sha256(Path(str(sys.modules[kind.__module__].__file__)).read_bytes()).hexdigest()
