"""Read or replace an activation of any torch model, by the name of the module that computes it.

A method that needs an activation inside a network can thus run on any network, without a change of its code.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from segconf_lite import check
from segconf_lite.models.device import device_of

Replacement = Tensor | Callable[[Tensor], Tensor]


def check_open(model: nn.Module, name: str = "") -> None:
    """Refuse a module that cannot be read or replaced: compiled code does not call hooks, or calls old ones.

    Args:
        model: Any module.
        name: Name of a module inside it.

    Raises:
        ValueError: If it, or a module around it, was scripted, traced or compiled.

    Example:
        >>> check_open(torch.jit.script(nn.Conv2d(1, 2, 1)))
        Traceback (most recent call last):
        ValueError: the network must be made of Python modules, got a RecursiveScriptModule: its modules
        cannot be read or replaced; pass the network that it was made from
    """
    for outer, part in model.named_modules():
        if outer and not f"{name}.".startswith(f"{outer}."):
            continue  # neither the module nor around it
        if isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod"):
            got = f"a {type(part).__name__}: its modules cannot be read or replaced"
            made_from = (
                "network._orig_mod" if hasattr(part, "_orig_mod") else "the network that it was made from"
            )
            raise check.refuse("the network", "made of Python modules", got, f"pass {made_from}")


class Taps:
    """Names for modules of a model whose outputs can be read, or replaced, while the taps are open.

    The model itself is never changed: on leaving, also by an exception, the hooks are gone. Taps on
    the same model may be nested; the inner ones see what the outer ones replaced.

    Args:
        model: Any module.
        **places: Tap name = module name, as ``model.named_modules()`` spells it.

    Raises:
        ValueError: If there is no tap, or the model has no module of that name (near ones are listed).

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
        >>> images = torch.zeros(3, 1, 8, 8)
        >>> with Taps(model, features="1") as taps:
        ...     logits = model(images)
        ...     features = taps["features"]
        ...     with taps.replacing(features=torch.zeros_like):
        ...         altered = model(images)
        >>> features.shape, altered.shape
        (torch.Size([3, 4, 8, 8]), torch.Size([3, 2, 8, 8]))
    """

    def __init__(self, model: nn.Module, **places: str) -> None:
        device_of(model)  # refuses what is no module
        if not places:
            raise check.refuse("taps", "at least one, e.g. Taps(model, deep='encoder.4')", "none")
        known = dict(model.named_modules())
        for name in places.values():
            check_open(model, str(name))
            if not isinstance(name, str) or name not in known:
                near = difflib.get_close_matches(str(name), known, n=5, cutoff=0.4) or list(known)[1:6]
                fix = "segconf_lite.models.probe(network) lists all"
                raise ValueError(f"the model has no module {name!r}; near names: {near}; {fix}")
        self.model, self.places = model, places
        self._modules = {tap: known[name] for tap, name in places.items()}
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, Tensor] = {}
        self._replacements: dict[str, Replacement] = {}

    def __enter__(self) -> Self:
        if self._handles:
            raise ValueError("these taps are open already; make another Taps for a nested use")
        self._seen = {}
        for tap, module in self._modules.items():
            self._handles.append(module.register_forward_hook(partial(self._look, tap)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._replacements = [], {}

    def __getitem__(self, tap: str) -> Tensor:
        """Output of the module in the last pass, before any replacement; with its gradient history.

        Raises:
            ValueError: If there is no such tap, or its module was not called since the taps were opened.
        """
        if tap not in self.places:
            raise ValueError(f"no tap {tap!r}; there are {list(self.places)}")
        if tap not in self._seen:
            fix = "run the model inside the with block, and check that its forward pass uses that module"
            raise ValueError(f"module {self.places[tap]!r} (tap {tap!r}) was not called: {fix}")
        return self._seen[tap]

    @contextmanager
    def replacing(self, **replacements: Replacement) -> Iterator[Self]:
        """Inside, the outputs of the named modules are replaced.

        Args:
            **replacements: Tap name = a tensor, or a function of the module's own output.

        Raises:
            ValueError: If a tap is unknown or the taps are not open; in the pass, if the shape differs.
        """
        unknown = sorted(set(replacements) - set(self.places))
        if unknown or not self._handles:
            raise ValueError(f"expected open taps out of {list(self.places)}, got {unknown or 'closed taps'}")
        before, self._replacements = self._replacements, self._replacements | replacements
        try:
            yield self
        finally:
            self._replacements = before

    def _look(self, tap: str, module: nn.Module, inputs: object, output: object) -> Tensor:
        """The forward hook of a module: keep its output, and hand on what replaces it."""
        if not isinstance(output, Tensor):
            name, got = f"the output of module {self.places[tap]!r}", type(output).__name__
            raise check.refuse(name, "one tensor", got, "tap a module inside it")
        self._seen[tap] = output
        replacement = self._replacements.get(tap, output)
        new = replacement if isinstance(replacement, Tensor) else replacement(output)
        if not isinstance(new, Tensor) or new.shape != output.shape:
            got = f"{tuple(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
            raise check.refuse(f"the replacement for {tap!r}", f"a tensor {tuple(output.shape)}", got)
        return new
