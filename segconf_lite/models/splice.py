"""What a network makes of an altered activation, without running twice what did not change.

Our own `UNet` is cut in two at its bottleneck; any other model is run again with the output of a named
module replaced. Both give the same logits; the cut is faster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.models.batches import network_input
from segconf_lite.models.taps import Taps
from segconf_lite.models.unet import UNet

__all__ = ["DecoderSplice", "Splice", "TapSplice", "frozen", "splice", "weights_fingerprint"]


class Splice(Protocol):
    """A model opened at one activation; shapes: N cases, C classes, F features, H rows, W columns."""

    def read(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Any]:
        """Unaltered logits (N, C, H, W), the activation (N, F, h, w), and the rest, see `rest`."""

    def activation(self, images: Tensor | np.ndarray) -> Tensor:
        """The activation alone, at the least cost."""

    def rest(self, images: Tensor | np.ndarray) -> Any:
        """What `logits` needs of these images beside an activation."""

    def logits(self, activation: Tensor, rest: Any) -> Tensor:
        """(N, C, H, W) from an activation, altered or not; gradients flow to the activation."""


def splice(model: nn.Module, module: str = "bottleneck") -> Splice:
    """`DecoderSplice` for the bottleneck of our `UNet`, `TapSplice` for anything else.

    Raises:
        ValueError: If the model has no module of that name (near ones are listed).
    """
    if isinstance(model, UNet) and module == "bottleneck":
        return DecoderSplice(model)
    return TapSplice(model, module)


class DecoderSplice:
    """Our `UNet`, cut behind its bottleneck.

    The first convolution of a decoder block reads the skip beside the upsampled features. A convolution is
    linear, so the skip's share is computed once in `read` and serves every activation; joining the two
    in memory, a third of the decoder's time, is not needed at all.
    """

    def __init__(self, unet: UNet) -> None:
        self.unet = unet
        self._blocks: list[Any] = [*unet.decoder, unet.penultimate]  # coarse to fine

    def read(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits, activation, and the skips' shares."""
        skips, activation = self.unet.encode(images)
        shares = self._shares(skips)
        return self.logits(activation, shares), activation, shares

    def activation(self, images: Tensor | np.ndarray) -> Tensor:
        """The bottleneck; the decoder does not run."""
        return self.unet.encode(images)[1]

    def rest(self, images: Tensor | np.ndarray) -> list[Tensor]:
        """Per decoder block, the skip's share of its first convolution; none without skips."""
        return self._shares(self.unet.encode(images)[0])

    def _shares(self, skips: Sequence[Tensor]) -> list[Tensor]:
        return [
            nn.functional.conv2d(skip, self._weight(block)[:, : skip.shape[1]], padding=1)
            for skip, block in zip(reversed(skips), self._blocks, strict=False)
        ]

    def logits(self, activation: Tensor, rest: list[Tensor]) -> Tensor:
        """(N, C, H, W)."""
        features = activation
        plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled(activation.device.type)
        for depth, block in enumerate(self._blocks):
            features = self.unet.upsample(features)
            own = self._weight(block)[:, -features.shape[1] :]
            features = nn.functional.conv2d(features, own, padding=1)
            if plain and isinstance(block[1].adn.N, nn.BatchNorm2d) and not block.training:
                features = self._in_place(block, features, rest[depth] if rest else None)
            else:
                features = block[1](block[0].adn(features + rest[depth] if rest else features))
        return self.unet.head(features)

    @staticmethod
    def _in_place(block: Any, features: Tensor, share: Tensor | None) -> Tensor:
        """The rest of a block without gradients: no new memory where the old will do, and the second norm
        inside its convolution. In eval mode a batch norm is a scale and a shift.
        """
        if share is not None:
            features.add_(share)
        features = block[0].adn.N(features).relu_()
        convolution, norm = block[1].conv, block[1].adn.N
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = convolution.weight * scale[:, None, None, None]
        shift = norm.bias - norm.running_mean * scale
        return nn.functional.conv2d(features, weight, shift, padding=1).relu_()

    @staticmethod
    def _weight(block: Any) -> Tensor:
        return block[0].conv.weight  # (F_out, F_skip + F_up, 3, 3), without bias


class TapSplice:
    """Any model, with the output of one module replaced in a second pass.

    Args:
        model: maps images to logits.
        module: as ``model.named_modules()`` spells it; its output must be (N, F, h, w).
    """

    def __init__(self, model: nn.Module, module: str) -> None:
        Taps(model, spliced=module)  # is there such a module?
        self.model, self.module = model, module

    def read(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, activation, and the images themselves."""
        inputs = self.rest(images)
        with Taps(self.model, spliced=self.module) as taps:
            logits = self.model(inputs.clone())  # a model may work in place; the images serve `logits`, too
            activation = taps["spliced"]
        if activation.ndim != 4:
            raise ValueError(
                f"module {self.module!r} must give (N, F, h, w), got {tuple(activation.shape)}; "
                "choose a convolution block"
            )
        return logits, activation, inputs

    def activation(self, images: Tensor | np.ndarray) -> Tensor:
        """Second part of `read`; the whole model runs."""
        return self.read(images)[1]

    def rest(self, images: Tensor | np.ndarray) -> Tensor:
        """The images, where and as the model takes them."""
        return network_input(images, self.model)

    def logits(self, activation: Tensor, rest: Tensor) -> Tensor:
        """(N, C, H, W)."""
        with Taps(self.model, spliced=self.module) as taps, taps.replacing(spliced=activation):
            return self.model(rest.clone())


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside: eval mode, and no parameter asks for a gradient. Afterwards: as before."""
    modes = [(module, module.training) for module in model.modules()]
    wants = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        model.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wanted in wants:
            parameter.requires_grad_(wanted)


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the SHA-256 over names and values of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(to_numpy(value.detach().cpu().contiguous().float()).tobytes())
    return digest.hexdigest()[:16]
