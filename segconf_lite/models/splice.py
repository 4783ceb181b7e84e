"""Logits from an altered activation, without running twice what did not change.

Our own `UNet` is cut in two at its bottleneck; any other model is run again with the output of a named
module replaced. Both give the same logits; the cut is faster.
Shape letters: N cases, C classes, F features, H rows, W columns; h, w those of the activation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.models.batches import checked_logits, network_input
from segconf_lite.models.device import device_of
from segconf_lite.models.taps import Taps
from segconf_lite.models.unet import UNet


class Splice(Protocol):
    """A model opened at one activation; `splice` makes one.

    Example:
        >>> opened = splice(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)), "0")
        >>> opened.activation(np.zeros((3, 1, 8, 8))).shape
        torch.Size([3, 4, 8, 8])
    """

    def read(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Unaltered logits (N, C, H, W), the activation (N, F, h, w), and the rest, see `rest`."""

    def activation(self, images: Tensor | np.ndarray) -> Tensor:
        """The activation alone, by the shortest computation."""

    def rest(self, images: Tensor | np.ndarray) -> list[Tensor]:
        """What `logits` needs of these images beside an activation."""

    def logits(self, activation: Tensor, rest: list[Tensor]) -> Tensor:
        """Logits (N, C, H, W) from an activation, altered or not; gradients flow to the activation."""


def splice(model: nn.Module, module: str = "bottleneck") -> Splice:
    """`DecoderSplice` for the bottleneck of our `UNet`, `TapSplice` for anything else.

    Args:
        model: A network that maps images (N, channels, H, W) to logits; it says how many channels it takes.
        module: Name of the module whose output is opened, as ``model.named_modules()`` spells it.

    Raises:
        ValueError: If the model has no module of that name (near ones are listed).

    Example:
        >>> opened = splice(UNet(n_classes=2, channels=(4, 8)).eval())
        >>> logits, activation, rest = opened.read(np.zeros((1, 1, 8, 8)))
        >>> activation.shape, torch.allclose(opened.logits(activation, rest), logits)
        (torch.Size([1, 8, 4, 4]), True)
    """
    if isinstance(model, UNet) and module == "bottleneck":
        return DecoderSplice(model)
    return TapSplice(model, module)


class DecoderSplice:
    """Our `UNet`, cut behind its bottleneck.

    The first convolution of a decoder block reads the skip features beside the upsampled ones. A convolution
    is linear, so the part of its output that comes from the skip is computed once in `read` and serves every
    activation. Concatenating the two, a third of the decoder's time, is not needed at all.

    Args:
        unet: The network.

    Example:
        >>> opened = DecoderSplice(UNet(n_classes=2, channels=(4, 8, 16)).eval())
        >>> [tuple(part.shape) for part in opened.rest(np.zeros((1, 1, 8, 8)))]
        [(1, 8, 4, 4), (1, 4, 8, 8)]
    """

    def __init__(self, unet: UNet) -> None:
        self.unet = unet
        self._blocks: list[Any] = [*unet.decoder, unet.penultimate]  # coarse to fine

    def read(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits, activation, and the parts that come from the skips."""
        skips, activation = self.unet.encode(images)
        parts = self._from_skips(skips)
        return self.logits(activation, parts), activation, parts

    def activation(self, images: Tensor | np.ndarray) -> Tensor:
        """The bottleneck; the decoder does not run."""
        return self.unet.encode(images)[1]

    def rest(self, images: Tensor | np.ndarray) -> list[Tensor]:
        """Per decoder block, the part of its first convolution that comes from the skip, if there is one."""
        return self._from_skips(self.unet.encode(images)[0])

    def _from_skips(self, skips: Sequence[Tensor]) -> list[Tensor]:
        return [
            nn.functional.conv2d(skip, _weight(block)[:, : skip.shape[1]], padding=1)
            for skip, block in zip(reversed(skips), self._blocks, strict=False)
        ]

    def logits(self, activation: Tensor, rest: list[Tensor]) -> Tensor:
        """Logits (N, C, H, W)."""
        features = activation
        plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled(activation.device.type)
        for depth, block in enumerate(self._blocks):
            features = self.unet.upsample(features)
            weight = _weight(block)[:, -features.shape[1] :]  # those of the upsampled features
            features = nn.functional.conv2d(features, weight, padding=1)
            if plain and isinstance(block[1].adn.N, nn.BatchNorm2d) and not block.training:
                features = _finish_in_place(block, features, rest[depth] if rest else None)
            else:
                features = block[1](block[0].adn(features + rest[depth] if rest else features))
        return self.unet.head(features)


def _finish_in_place(block: Any, features: Tensor, from_skip: Tensor | None) -> Tensor:
    """The rest of a block without gradients, in place, with the second norm inside its convolution.

    In eval mode a batch norm is a scale and a shift.
    """
    if from_skip is not None:
        features.add_(from_skip)
    features = block[0].adn.N(features).relu_()
    convolution, norm = block[1].conv, block[1].adn.N
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = convolution.weight * scale[:, None, None, None]
    shift = norm.bias - norm.running_mean * scale
    return nn.functional.conv2d(features, weight, shift, padding=1).relu_()


def _weight(block: Any) -> Tensor:
    return block[0].conv.weight  # (F_out, F_skip + F_up, 3, 3), without bias


class TapSplice:
    """Any model, with the output of one module replaced in a second pass.

    Args:
        model: A network that maps images to logits.
        module: Name of the module, as ``model.named_modules()`` spells it; its output must be (N, F, h, w).

    Raises:
        ValueError: If the model has no such module; in a pass, if activation or logits have another shape.

    Example:
        >>> opened = TapSplice(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)), "0")
        >>> opened.logits(torch.zeros(1, 4, 8, 8), [torch.zeros(1, 1, 8, 8)]).shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, model: nn.Module, module: str) -> None:
        Taps(model, spliced=module)  # is there such a module?
        self.model, self.module = model, module

    def read(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits, activation, and the images themselves."""
        inputs = network_input(images, self.model)
        with Taps(self.model, spliced=self.module) as taps:
            logits = self.model(inputs.clone())  # a model may work in place; the images serve `logits`, too
            activation = taps["spliced"]
        if activation.ndim != 4:
            name, got = f"the output of module {self.module!r}", tuple(activation.shape)
            raise check.refuse(name, "(N, F, h, w)", got, "choose a convolution block")
        return checked_logits(logits, inputs, self.model), activation, [inputs]

    def activation(self, images: Tensor | np.ndarray) -> Tensor:
        """The activation; the whole model runs."""
        return self.read(images)[1]

    def rest(self, images: Tensor | np.ndarray) -> list[Tensor]:
        """The images, where and as the model takes them."""
        return [network_input(images, self.model)]

    def logits(self, activation: Tensor, rest: list[Tensor]) -> Tensor:
        """Logits (N, C, H, W)."""
        with (
            Taps(self.model, spliced=self.module) as taps,
            taps.replacing(spliced=activation.to(rest[0].dtype)),
        ):
            return checked_logits(self.model(rest[0].clone()), rest[0])


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits of the SHA-256 over names and values of a model's parameters and buffers.

    Args:
        model: Any module.

    Example:
        >>> weights_fingerprint(nn.BatchNorm2d(1))
        '106e077f8d188981'
    """
    device_of(model)  # refuses what is no module
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(to_numpy(value.detach().cpu().contiguous().float()).tobytes())
    return digest.hexdigest()[:16]
