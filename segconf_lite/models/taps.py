"""Read or replace an activation of any torch model, by the name of the module that makes it.

So a method that looks inside a network runs on any network, unchanged and untrained again.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

__all__ = ["Taps"]

Replacement = Tensor | Callable[[Tensor], Tensor]


class Taps:
    """Named places in a model whose output can be read, or replaced, while the taps are open.

    Example::

        with Taps(model, bottleneck="encoder.4", penultimate="decoder.2") as taps:
            logits = model(images)
            features = taps["bottleneck"]                # (N, F, H, W)
            with taps.replacing(bottleneck=features.mean(0, keepdim=True).expand_as(features)):
                altered = model(images)

    The model itself is never changed: on leaving, also by an exception, the hooks are gone. Taps on
    the same model may be nested; the inner ones see what the outer ones replaced.

    Args:
        model: any module.
        **places: tap name = module name, as ``model.named_modules()`` spells it.

    Raises:
        ValueError: If there is no place, or the model has no module of that name (near ones are listed).
    """

    def __init__(self, model: nn.Module, **places: str) -> None:
        if not places:
            raise ValueError(
                "expected at least one place, e.g. Taps(model, bottleneck='encoder.4'), got none"
            )
        known = dict(model.named_modules())
        for name in places.values():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or list(known)[1:6]
                raise ValueError(f"the model has no module {name!r}; near names: {near}")
        self.model, self.places = model, places
        self._modules = {tap: known[name] for tap, name in places.items()}
        self._handles: list[Any] = []
        self._seen: dict[str, Tensor] = {}
        self._replacements: dict[str, Replacement] = {}

    def __enter__(self) -> Self:
        if self._handles:
            raise ValueError("these taps are open already; make another Taps for a nested use")
        self._seen = {}
        for tap, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(tap)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._replacements = [], {}

    def __getitem__(self, tap: str) -> Tensor:
        """What the module gave in the last pass, before any replacement; with its gradient history.

        Raises:
            ValueError: If there is no such tap, or its module was not called since the taps were opened.
        """
        if tap not in self.places:
            raise ValueError(f"no tap {tap!r}; there are {list(self.places)}")
        if tap not in self._seen:
            raise ValueError(
                f"module {self.places[tap]!r} (tap {tap!r}) was not called: run the model inside the with "
                "block, and check that its forward pass uses that module"
            )
        return self._seen[tap]

    @contextmanager
    def replacing(self, **replacements: Replacement) -> Iterator[Self]:
        """Inside, the named modules give these tensors, or these functions of what they would give.

        Raises:
            ValueError: If a tap is unknown or the taps are not open; in the pass, if the shape differs.
        """
        unknown = sorted(set(replacements) - set(self.places))
        if unknown or not self._handles:
            raise ValueError(f"expected open taps out of {list(self.places)}, got {unknown or 'closed taps'}")
        before = dict(self._replacements)
        self._replacements.update(replacements)
        try:
            yield self
        finally:
            self._replacements = before

    def _hook(self, tap: str) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if not isinstance(output, torch.Tensor):
                raise ValueError(
                    f"module {self.places[tap]!r} must give one tensor, got {type(output).__name__}; tap a "
                    "module inside it"
                )
            self._seen[tap] = output
            if tap not in self._replacements:
                return None
            wanted = self._replacements[tap]
            new = wanted if isinstance(wanted, torch.Tensor) else wanted(output)
            if new.shape != output.shape:
                raise ValueError(
                    f"a replacement for {tap!r} must have the shape {tuple(output.shape)}, "
                    f"got {tuple(new.shape)}"
                )
            return new

        return hook
