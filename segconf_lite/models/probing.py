"""Which modules of a network the methods can read: its bottleneck, decoder and penultimate features.

Nothing is known of the network but its modules' outputs in one pass. Shape letters: C classes, F features,
H rows, W columns.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from segconf_lite import check
from segconf_lite.models.batches import check_network, checked_logits, network_input
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
    """

    modules: pd.DataFrame
    n_classes: int
    has_dropout: bool
    closed_form: bool

    def named(self, role: str) -> str | None:
        """Name of the module of a role; None if none was found."""
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
        closed = f"FragilityMap(search=HeadSearch(head={head!r}))" if self.closed_form else ""
        lines["FragilityMap"] = closed or 'FragilityMap(search="mask"): the last layer is no 1x1 convolution'
        dropout = "there is a dropout layer" if self.has_dropout else "refused, there is no dropout layer"
        return {
            **lines,
            "MCDropout": f"MCDropout(): {dropout}",
            "DeepEnsemble": "DeepEnsemble(members=[...])",
        }

    def __str__(self) -> str:
        table = self.modules.to_string(index=False)
        return "\n".join([table, f"\n{self.n_classes} classes; what to write:", *self.arguments().values()])


def probe(network: nn.Module, size: int | tuple[int, int] = 96, *, channels: int = 1) -> Probe:
    """Candidates for the modules that the methods ask for, from one pass over an image of noise.

    The bottleneck is the last module to finish at the smallest size (of more than one pixel per side), the
    decoder the last one after it at the next larger size, the head the last module that returns the logits
    and holds no other module, and the penultimate the last one of the images' size to finish before the head.

    Args:
        network: Any module that the methods take, see `segconf_lite.models.adapt`. It is left as it is.
        size: Rows and columns of the image, or its side, in pixels.
        channels: Number of channels of the image.

    Returns:
        The modules, with a suggestion for each role. Look at it: a network without a bottleneck has one here
        nonetheless.

    Raises:
        ValueError: If the network does not turn such an image into logits, or its modules are compiled.

    Example:
        >>> from segconf_lite.models import UNet
        >>> found = probe(UNet(n_classes=2, channels=(4, 8, 16)), 32)
        >>> [found.named(role) for role in ("bottleneck", "decoder", "penultimate", "head")]
        ['bottleneck', 'decoder.0', 'penultimate', 'head']
        >>> print(found.arguments()["FragilityMap"])
        FragilityMap(search=HeadSearch(head='head'))
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    shape = [check.integer("size", side, low=1) for side in (rows, columns)]
    shape = [1, check.integer("channels", channels, low=1), *shape]
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
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
    inner = [(name, module, output) for name, module, output in seen if name]
    roles = _roles(inner, logits)
    table = [(n, type(m).__name__, *o.shape[1:], roles.get(n, "")) for n, m, o in inner]
    table = list({row[0]: row for row in table}.values())  # a module that is called twice counts once
    head: Any = next((m for n, m, _ in inner if roles.get(n) == "head"), None)
    closed = isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1
    dropout = any(isinstance(m, _DropoutNd) and m.p > 0 for m in network.modules())
    names = ["module", "class", "features", "rows", "columns", "role"]
    return Probe(pd.DataFrame(table, columns=names), logits.shape[1], dropout, closed)


def _roles(seen: list[tuple[str, nn.Module, Tensor]], logits: Tensor) -> dict[str, str]:
    """Name of a module -> its role; `seen` is in the order in which modules finish."""
    roles: dict[str, str] = {}
    leaf = lambda module: not list(module.children())  # noqa: E731
    heads = [k for k, (_, m, o) in enumerate(seen) if leaf(m) and o.shape == logits.shape and o.equal(logits)]
    last = heads[-1] if heads else len(seen)
    if heads:
        roles[seen[last][0]] = "head"
    before = [(name, output) for name, _, output in seen[:last]]
    if heads:  # modules around the head finish after it; all that is left comes before it
        full = [name for name, output in before if output.shape[2:] == logits.shape[2:]]
        roles |= {full[-1]: "penultimate"} if full else {}
    areas = {n: o.shape[-1] * o.shape[-2] for n, o in before if min(o.shape[2:]) > 1}
    small = {n: area for n, area in areas.items() if area < logits[0, 0].numel() and n not in roles}
    if small:
        names = list(small)
        deep = next(n for n in reversed(names) if small[n] == min(small.values()))
        after = {n: small[n] for n in names[names.index(deep) + 1 :]}
        roles[deep] = "bottleneck"
        if after:
            up = [n for n in after if after[n] == min(after.values())][-1]
            roles[up] = "decoder"
    return roles
