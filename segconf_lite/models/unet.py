"""A small 2-D U-Net whose parts can be run, hooked and replaced one by one.

Shape letters: N cases, C classes, F features, H rows, W columns, L levels (= halvings).
Ronneberger et al., "U-Net" (MICCAI 2015), with padded convolutions, a norm after every
convolution, and bilinear upsampling in place of transposed convolutions (no checkerboard).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.blocks.upsample import UpSample
from torch import Tensor, nn

from segconf_lite.models.batches import checked_logits, in_batches, joined
from segconf_lite.models.device import device_of

__all__ = ["UNet", "predict_probabilities"]

NORMS = ("batch", "instance", "group")


class UNet(nn.Module):
    """Logits per pixel, by way of an encoder and a decoder that can be called apart.

    The submodules below keep their names, so that a forward hook finds them:

    ========================  ======================  ==========================================
    name                      output shape            what it is
    ========================  ======================  ==========================================
    ``encoder.0``             (N, F0, H, W)           features of level 0, before pooling (a skip)
    ``encoder.{L-1}``         (N, F, H/2^(L-1), ...)  features of the last level with a skip
    ``bottleneck``            (N, FL, H/2^L, W/2^L)   the coarsest features
    ``decoder.0``             (N, F, H/2^(L-1), ...)  first decoder block (L - 1 of them, coarse to fine)
    ``penultimate``           (N, F0, H, W)           last feature block: what the head reads
    ``head``                  (N, C, H, W)            1x1 convolution to logits
    ========================  ======================  ==========================================

    Args:
        n_classes: C, background included; >= 2.
        in_channels: image channels.
        channels: features per level, fine to coarse; the last one is the bottleneck's.
            Four entries are three halvings. The default has 0.39 M parameters.
        norm: ``"batch"`` (statistics of the training scanner, the one that breaks under domain
            shift), ``"instance"`` or ``"group"`` (statistics of the slice itself).
        skips: False removes every skip connection: the decoder sees the bottleneck only, and
            its blocks take fewer channels.
        dropout: probability, 0 <= dropout < 1, of one ``torch.nn.Dropout`` in the second
            convolution of each block next to the bottleneck: the last encoder block, the
            bottleneck, and the first decoder block. Noise there changes shapes, not single
            pixels (Kendall et al., "Bayesian SegNet", 2015, drop the central blocks too).
            0 puts no Dropout module anywhere.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 96),
        norm: str = "batch",
        skips: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_arguments(n_classes, in_channels, channels, norm, dropout)
        self.n_classes = n_classes
        self.config: dict[str, Any] = {  # JSON-able; UNet(**unet.config) has the same architecture
            "n_classes": n_classes, "in_channels": in_channels, "channels": [int(c) for c in channels],
            "norm": norm, "skips": bool(skips), "dropout": float(dropout),
        }  # fmt: skip
        self.levels = len(channels) - 1
        self.has_skips = bool(skips)
        self.history: list[dict[str, float]] = []  # filled by fit_unet; plain, not in the state dict

        fan_in = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(
            _block(fan_in[i], channels[i], norm, dropout if i == self.levels - 1 else 0.0)
            for i in range(self.levels)
        )
        self.bottleneck = _block(fan_in[-1], channels[-1], norm, dropout)
        up = [
            _block(
                channels[i + 1] + (channels[i] if skips else 0),
                channels[i], norm, dropout if i == self.levels - 1 else 0.0,
            )
            for i in reversed(range(self.levels))
        ]  # fmt: skip
        self.decoder = nn.ModuleList(up[:-1])
        self.penultimate = up[-1]
        self.head = nn.Conv2d(channels[0], n_classes, kernel_size=1)
        self.pool = nn.MaxPool2d(2)
        # align_corners=False keeps pixel centres of all levels on one grid: no drift with depth.
        self.upsample = UpSample(2, mode="nontrainable", interp_mode="bilinear", align_corners=False)
        # A third faster on a CPU. Set here, so that a network read from disk computes bit for bit
        # as the trained one did; state dicts and copies keep it.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, images: Tensor | np.ndarray) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features of images, before anything is decided.

        Args:
            images: (N, in_channels, H, W), numpy or torch, any float dtype; H and W divisible by
                ``2**levels``. Converted to the device and dtype of the parameters.

        Returns:
            ``skips``: one (N, F, H/2^i, W/2^i) tensor per level, fine to coarse; empty if
            ``skips=False``. ``bottleneck``: (N, F, H/2^L, W/2^L).

        Raises:
            ValueError: If the shape is not as above.
        """
        features = _to_input(images, self)
        _check_images(features, self.config["in_channels"], 2**self.levels)
        skips = []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
            features = self.pool(features)
        return (tuple(skips) if self.has_skips else ()), self.bottleneck(features)

    def decode(self, skips: Sequence[Tensor], bottleneck: Tensor) -> Tensor:
        """Logits (N, C, H, W) from what `encode` returned, or from an altered copy of it.

        Raises:
            ValueError: If the number of skips is not that of `encode`.
        """
        expected = self.levels if self.has_skips else 0
        if len(skips) != expected:
            raise ValueError(
                f"decode expects {expected} skips (skips={self.has_skips}, {self.levels} levels), "
                f"got {len(skips)}; pass on the skips that encode returned"
            )
        features = bottleneck
        blocks = [*self.decoder, self.penultimate]
        for depth, block in enumerate(blocks):
            features = self.upsample(features)
            if self.has_skips:
                _keep_gradient_dense(features)
                features = torch.cat([skips[-1 - depth], features], dim=1)
            features = block(features)
        return self.head(features)

    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Logits (N, C, H, W); ``decode(*encode(images))``."""
        return self.decode(*self.encode(images))


def predict_probabilities(
    unet: nn.Module, images: Tensor | np.ndarray, *, batch_size: int | None = None
) -> Tensor:
    """Class probabilities of every pixel, softmax of the logits, in eval mode and fp32.

    Args:
        unet: any module that maps (N, 1, H, W) to logits (N, C, H, W). Its train/eval modes are
            put back afterwards, also if an image is refused.
        images: (N, 1, H, W), numpy or torch, on any device; never changed.
        batch_size: cases per pass; bounds the memory, does not change the result. None: 64, on a CPU 16.

    Returns:
        (N, C, H, W) float32 on the CPU, each pixel sums to 1 over C.

    Raises:
        ValueError: If images are not (N, 1, H, W) with N >= 1, or batch_size < 1.
        BatchTooLargeError: If a batch does not fit into memory; it keeps what was computed.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be non-empty (N, 1, H, W), got {tuple(images.shape)}")
    if batch_size is None:  # the features of 16 slices still fit a CPU's cache: a third faster than 64
        batch_size = 16 if device_of(unet).type == "cpu" else 64

    def probabilities(batch: Tensor) -> Tensor:
        return checked_logits(unet(batch), batch, unet).float().softmax(dim=1).cpu()

    modes = [(module, module.training) for module in unet.modules()]
    unet.eval()
    try:
        with torch.no_grad():
            return joined(in_batches(probabilities, images, unet, batch_size=batch_size))
    finally:
        for module, training in modes:  # one by one: MC dropout leaves parts in different modes
            module.training = training


def _block(n_in: int, n_out: int, norm: str, dropout: float) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by norm, dropout (the second only) and ReLU."""
    norms: dict[str, Any] = {
        "batch": "batch",
        "instance": ("instance", {"affine": True}),
        "group": ("group", {"num_groups": math.gcd(8, n_out)}),
    }
    # A norm follows and brings its own shift, so the convolutions need no bias.
    shared: dict[str, Any] = {"kernel_size": 3, "norm": norms[norm], "act": "relu", "bias": False}
    return nn.Sequential(
        Convolution(2, n_in, n_out, **shared),
        Convolution(2, n_out, n_out, dropout=dropout or None, **shared),
    )


def _keep_gradient_dense(features: Tensor) -> None:
    # Of a part of a concatenation it has gaps, with which the way back through upsampling takes six times as
    # long: 13 % of a training step.
    if features.requires_grad:
        features.register_hook(Tensor.clone)  # dense, in the same order of axes


def _to_input(images: Tensor | np.ndarray, module: nn.Module) -> Tensor:
    if isinstance(images, np.ndarray):  # copied: torch refuses flipped views, warns of read-only ones
        images = torch.from_numpy(np.array(images, dtype=images.dtype.newbyteorder("="), order="C"))
    like = next(module.parameters())
    return images.to(device=like.device, dtype=like.dtype)


def _check_images(images: Tensor, in_channels: int, multiple: int, *, axes: int = 2) -> None:
    shape, sides = tuple(images.shape), ("D, H, W", "H, W")[3 - axes]
    if images.ndim != axes + 2 or shape[1] != in_channels or 0 in shape:
        raise ValueError(
            f"images must be non-empty (N, {in_channels}, {sides}), got {shape}; "
            f"a stack (N, {sides}) becomes one with images[:, None]"
        )
    if any(side % multiple for side in shape[2:]):
        fits = tuple(-(-side // multiple) * multiple for side in shape[2:])
        raise ValueError(
            f"{sides} must be divisible by {multiple} (the network halves them "
            f"{multiple.bit_length() - 1} times), got {shape[2:]}; pad or crop, e.g. to {fits}"
        )


def _check_arguments(
    n_classes: int, in_channels: int, channels: Sequence[int], norm: str, dropout: float
) -> None:
    if n_classes < 2:
        raise ValueError(f"n_classes counts the background and must be >= 2, got {n_classes}")
    if in_channels < 1:
        raise ValueError(f"in_channels must be >= 1, got {in_channels}")
    if len(channels) < 2 or min(channels) < 1:
        raise ValueError(f"channels needs two or more entries, each >= 1, got {tuple(channels)}")
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
