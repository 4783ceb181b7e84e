"""Names of a room that are imported on first use, so that importing the room costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def load(package: str, homes: Mapping[str, str], name: str) -> Any:
    """The object `name` of a package, from the module that `homes` says, relative to the package."""
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {sorted(homes)}")
    return getattr(importlib.import_module(f".{homes[name]}", package), name)
