"""Which modules of a network the methods can read: its bottleneck, decoder and penultimate features.

Nothing is known of the network but its modules' outputs in one pass. Shape letters: C classes, F features,
H rows, W columns.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from segconf_lite import check
from segconf_lite.models.batches import check_network, checked_logits, checked_size, network_input
from segconf_lite.models.device import device_of, frozen, kept_random_state
from segconf_lite.models.taps import check_open


@dataclasses.dataclass(frozen=True)
class Probe:
    """Modules of a network, and what to pass to the methods; `probe` makes it.

    Attributes:
        modules: One row per module whose output is (1, F, h, w), in the order in which they finish: its name,
            class, features, rows, columns, and role (``"bottleneck"``, ``"decoder"``, ``"penultimate"``,
            ``"head"``, or nothing).
        n_classes: Number of classes C of the logits.
        has_dropout: Whether there is a dropout layer that `MCDropout` can switch on.
        closed_form: Whether the head is a 1x1 convolution that returns the logits.

    Example:
        >>> from segconf_lite.models import UNet
        >>> found = probe(UNet(n_classes=2, channels=(4, 8)), 16)
        >>> found.n_classes, found.has_dropout, found.closed_form
        (2, False, True)
    """

    modules: pd.DataFrame
    n_classes: int
    has_dropout: bool
    closed_form: bool

    def named(self, role: str) -> str | None:
        """Name of the module of a role; None if none was found.

        Raises:
            ValueError: If there is no such role.
        """
        check.one_of("role", role, ("bottleneck", "decoder", "penultimate", "head"))
        found = self.modules.loc[self.modules["role"] == role, "module"]
        return None if found.empty else str(found.iloc[0])

    def arguments(self) -> dict[str, str]:
        """For each method that reads or changes modules, the line to write, or why there is none."""
        deep, head = self.named("bottleneck"), self.named("head")
        read = [name for role in ("bottleneck", "decoder", "penultimate") if (name := self.named(role))]
        line = f"(module={deep!r})" if deep else ": no module whose output is (N, F, h, w) was found"
        methods = ("PooledMahalanobis", "LatentMahalanobis", "SegmentationDistortion")
        lines = {name: f"{name}{line}" for name in methods}
        lines["QualityPredictor"] = f"QualityPredictor(modules={read})"
        lines["FragilityMap"] = 'FragilityMap(search="mask"): the last layer is no 1x1 convolution'
        if self.closed_form:
            lines["FragilityMap"] = f"FragilityMap(search=HeadSearch(head={head!r}))"
        has = "there is a" if self.has_dropout else "refused, there is no"
        return lines | {"MCDropout": f"MCDropout(): {has} dropout layer"}

    def __str__(self) -> str:
        names = self.modules["module"]
        blocks = [any(other.startswith(f"{name}.") for other in names) for name in names]
        table = self.modules[np.array(blocks, dtype=bool) | (self.modules["role"] != "")]
        rows = f"{len(table)} blocks of {len(names)} modules; {self.n_classes} classes; what to write:"
        return "\n".join([table.to_string(index=False), "", rows, *self.arguments().values()])


def probe(network: nn.Module, size: int | tuple[int, int] = 96, *, channels: int = 1) -> Probe:
    """Candidates for the modules that the methods ask for, from one pass over an image of noise.

    The bottleneck is the last module to finish at the smallest size (of more than one pixel per side), the
    decoder the last one after it at the next larger size, the head the last layer with weights that returns
    the logits, and the penultimate the last one of the images' size to finish before the head.

    Args:
        network: Any module that the methods take, see `segconf_lite.models.adapt`. It is left as it is.
        size: Rows and columns of the image, or its side, in pixels.
        channels: Number of channels of the image, as many as the network takes.

    Returns:
        The modules, with a suggestion for each role. Look at it: a network without a bottleneck has one here
        nonetheless.

    Raises:
        ValueError: If an argument is out of its range, the network does not turn such an image into logits,
            or its modules are compiled.

    Example:
        >>> from segconf_lite.models import UNet
        >>> found = probe(UNet(n_classes=2, channels=(4, 8, 16)), 32)
        >>> [found.named(role) for role in ("bottleneck", "decoder", "penultimate", "head")]
        ['bottleneck', 'decoder.0', 'penultimate', 'head']
        >>> print(found.arguments()["FragilityMap"])
        FragilityMap(search=HeadSearch(head='head'))
    """
    pair = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
    sides = [checked_size("size", side, fix="e.g. size=96 or size=(96, 128)") for side in pair]
    channels = checked_size("channels", channels)
    image = torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(0))
    check_network(network, image)
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def look(name: str, module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and len(output) == 1:
            seen.append((name, module, output))

    inputs, handles = network_input(image, network), []
    with frozen(network), torch.no_grad(), kept_random_state(device_of(network)):
        try:
            for name, module in network.named_modules():
                check_open(network, name)
                handles.append(module.register_forward_hook(partial(look, name)))
            logits = checked_logits(network(inputs.clone()), inputs, network)
        finally:
            for handle in handles:
                handle.remove()
    inner = {name: (module, output) for name, module, output in seen if name}
    roles = _roles(inner, logits)
    table = [(n, type(m).__name__, *o.shape[1:], roles.get(n, "")) for n, (m, o) in inner.items()]
    head: Any = next((m for n, (m, _) in inner.items() if roles.get(n) == "head"), None)
    closed = isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1
    dropout = any(isinstance(m, _DropoutNd) and m.p > 0 for m in network.modules())
    names = ["module", "class", "features", "rows", "columns", "role"]
    return Probe(pd.DataFrame(table, columns=names), logits.shape[1], dropout, closed)


def _roles(seen: dict[str, tuple[nn.Module, Tensor]], logits: Tensor) -> dict[str, str]:
    """Name of a module -> its role; `seen` is in the order in which modules finish."""
    order, outputs = list(seen), {name: output for name, (_, output) in seen.items()}
    leaves = [name for name, (m, _) in seen.items() if list(m.parameters()) and not list(m.children())]
    heads = [n for n in leaves if outputs[n].shape == logits.shape and outputs[n].equal(logits)]
    roles: dict[str, str] = {}
    if heads:  # modules around the head finish after it; what is left comes before it
        roles[heads[-1]], order = "head", order[: order.index(heads[-1])]
        full = [name for name in order if outputs[name].shape[2:] == logits.shape[2:]]
        roles |= {full[-1]: "penultimate"} if full else {}
    areas = {name: outputs[name][0, 0].numel() for name in order if min(outputs[name].shape[2:]) > 1}
    areas = {n: a for n, a in areas.items() if a < logits[0, 0].numel() and not _appends(n, outputs)}
    for role in ("bottleneck", "decoder"):
        if areas:
            found = [name for name, area in areas.items() if area == min(areas.values())][-1]
            roles.setdefault(found, role)
            areas = {name: areas[name] for name in list(areas)[list(areas).index(found) + 1 :]}
    return roles


def _appends(name: str, outputs: dict[str, Tensor]) -> bool:
    """Whether a module appends its input to what a module inside it returns, as a skip connection does."""
    whole = outputs[name]
    inside = [part for inner, part in outputs.items() if inner.startswith(f"{name}.")]
    same = [part for part in inside if part.shape[2:] == whole.shape[2:] and part.shape[1] < whole.shape[1]]
    return any(whole[:, -part.shape[1] :].equal(part) for part in same)
