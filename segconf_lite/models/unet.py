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

from segconf_lite import check
from segconf_lite.models.batches import checked_logits, checked_size, in_batches, joined, network_input
from segconf_lite.models.device import device_of, frozen

NORMS = ("batch", "instance", "group")


class UNet(nn.Module):
    """Logits per pixel, by an encoder and a decoder that can be called separately.

    The submodules below keep their names, so that a forward hook finds them:

    ========================  ======================  ==========================================
    name                      output shape            what it is
    ========================  ======================  ==========================================
    ``encoder.0``             (N, F0, H, W)           features of level 0, before pooling (a skip)
    ``encoder.{L-1}``         (N, F, H/2^(L-1), ...)  features of the last level with a skip
    ``bottleneck``            (N, FL, H/2^L, W/2^L)   the coarsest features
    ``decoder.0``             (N, F, H/2^(L-1), ...)  first decoder block (L - 1 of them, coarse to fine)
    ``penultimate``           (N, F0, H, W)           last feature block: input of the head
    ``head``                  (N, C, H, W)            1x1 convolution to logits
    ========================  ======================  ==========================================

    Args:
        n_classes: Number of classes C, background included; >= 2.
        in_channels: Number of image channels, >= 1. The network takes images of this number of channels only;
            `segconf_lite.models.adapt` with ``channels=...`` makes others fit.
        channels: Number of features per level, fine to coarse; the last one belongs to the bottleneck.
            Four entries are three halvings. The default has 0.39 M parameters.
        norm: ``"batch"`` (statistics of the training scanner, the one that breaks under domain
            shift), ``"instance"`` or ``"group"`` (statistics of the slice itself).
        skips: Whether there are skip connections. Without them the decoder sees the bottleneck only, and
            its blocks take fewer channels.
        dropout: Probability, 0 <= dropout < 1, of one ``torch.nn.Dropout`` in the second
            convolution of each block next to the bottleneck: the last encoder block, the
            bottleneck, and the first decoder block. Noise there changes shapes, not single
            pixels (Kendall et al., "Bayesian SegNet", 2015, drop the central blocks too).
            0 puts no Dropout module anywhere.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> unet = UNet(n_classes=3, channels=(4, 8))
        >>> unet(np.zeros((2, 1, 16, 16), np.float32)).shape
        torch.Size([2, 3, 16, 16])
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
        self.n_classes = checked_size("n_classes", n_classes, low=2, fix="the background counts as a class")
        channels = checked_channels(channels)
        dropout = check.number("dropout", dropout, low=0, high=1, open_high=True)
        self.config: dict[str, Any] = {  # JSON-able; UNet(**unet.config) has the same architecture
            "n_classes": self.n_classes,
            "in_channels": checked_size("in_channels", in_channels),
            "channels": list(channels),
            "norm": check.one_of("norm", norm, NORMS),
            "skips": check.one_of("skips", skips, (True, False)),
            "dropout": dropout,
        }
        self.levels, self.has_skips = len(channels) - 1, skips
        self.history: list[dict[str, float]] = []  # filled by fit_unet; plain, not in the state dict

        levels = range(self.levels)
        fan_in = [self.config["in_channels"], *channels[:-1]]
        fan_up = [channels[i + 1] + (channels[i] if skips else 0) for i in levels]
        rates = [dropout if i == levels[-1] else 0.0 for i in levels]
        self.encoder = nn.ModuleList(_block(fan_in[i], channels[i], norm, rates[i]) for i in levels)
        self.bottleneck = _block(fan_in[-1], channels[-1], norm, dropout)
        up = [_block(fan_up[i], channels[i], norm, rates[i]) for i in reversed(levels)]
        self.decoder = nn.ModuleList(up[:-1])
        self.penultimate = up[-1]
        self.head = nn.Conv2d(channels[0], self.n_classes, kernel_size=1)
        self.pool = nn.MaxPool2d(2)
        # align_corners=False keeps pixel centres of all levels on one grid: no drift with depth.
        self.upsample = UpSample(2, mode="nontrainable", interp_mode="bilinear", align_corners=False)
        # A third faster on a CPU. Set here, so that a network read from disk computes bit for bit
        # as the trained one did; state dicts and copies keep it.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, images: Tensor | np.ndarray) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features of images on every level, fine to coarse.

        Args:
            images: Images (N, in_channels, H, W), numpy or torch, of any real type; H and W divisible by
                ``2**levels``. They are converted to the device and type of the parameters. NaN and infinite
                values are not looked for: they give NaN.

        Returns:
            ``skips``: one (N, F, H/2^i, W/2^i) tensor per level, fine to coarse; empty if
            ``skips=False``. ``bottleneck``: (N, F, H/2^L, W/2^L).

        Raises:
            ValueError: If the shape is another. Where only the number of channels is, the message names the
                call of `segconf_lite.models.adapt` that helps.
        """
        features = network_input(images, self, copy=False)
        check_divisible(features, self.config["in_channels"], 2**self.levels)
        skips = []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
            features = self.pool(features)
        return (tuple(skips) if self.has_skips else ()), self.bottleneck(features)

    def decode(self, skips: Sequence[Tensor], bottleneck: Tensor) -> Tensor:
        """Logits (N, C, H, W) from what `encode` returned, or from an altered copy of it.

        Args:
            skips: Features (N, F, H/2^i, W/2^i) per level, fine to coarse; none if ``skips=False``.
            bottleneck: Features (N, FL, H/2^L, W/2^L).

        Raises:
            ValueError: If the number of skips is not that of `encode`.
        """
        expected = self.levels if self.has_skips else 0
        got = len(skips) if isinstance(skips, list | tuple) else type(skips).__name__
        if got != expected:
            fix = "pass on the skips that encode returned"
            raise check.refuse("skips", f"{expected} tensors, one per level", got, fix)
        features = bottleneck
        for depth, block in enumerate([*self.decoder, self.penultimate]):
            features = self.upsample(features)
            if self.has_skips:
                _keep_gradient_dense(features)
                features = torch.cat([skips[-1 - depth], features], dim=1)
            features = block(features)
        return self.head(features)

    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Logits (N, C, H, W) of images (N, in_channels, H, W); ``decode(*encode(images))``."""
        return self.decode(*self.encode(images))


def predict_probabilities(
    unet: nn.Module, images: Tensor | np.ndarray, *, batch_size: int | None = None
) -> Tensor:
    r"""Class probabilities of every pixel: softmax of the logits, in eval mode and float32.

    .. math:: p_c = \exp(z_c) / \sum_k \exp(z_k)

    Args:
        unet: Any module that maps images (N, channels, H, W) to logits (N, C, H, W). Its train and eval
            modes are restored afterwards, also if an image is refused.
        images: Images (N, channels, H, W) with as many channels as the network takes, numpy or torch, on any
            device; never changed.
        batch_size: Cases per pass; it bounds the memory and does not change the result. None: 64, on a CPU
            16.

    Returns:
        Probabilities (N, C, H, W), float32 on the CPU; each pixel sums to 1 over C.

    Raises:
        ValueError: If images are no finite batch, batch_size < 1, or the network's output is no finite
            logits.
        BatchTooLargeError: If a batch does not fit into memory; it keeps what was computed.

    Example:
        >>> network = nn.Conv2d(1, 2, 1)
        >>> predict_probabilities(network, np.zeros((3, 1, 8, 8))).sum(dim=1).unique()
        tensor([1.])
    """
    check.image_batch(images, channels=None)
    if batch_size is None:  # the features of 16 slices still fit a CPU's cache: a third faster than 64
        batch_size = 16 if device_of(unet).type == "cpu" else 64

    def probabilities(batch: Tensor) -> Tensor:
        return checked_logits(unet(batch), batch, unet).float().softmax(dim=1).cpu()

    with frozen(unet), torch.no_grad():
        return joined(in_batches(probabilities, images, unet, batch_size=batch_size))


def _block(n_in: int, n_out: int, norm: str, dropout: float) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by norm, dropout (the second only) and ReLU."""
    options = {"instance": {"affine": True}, "group": {"num_groups": math.gcd(8, n_out)}}
    # A norm follows and brings its own shift, so the convolutions need no bias.
    shared: dict[str, Any] = {"norm": (norm, options.get(norm, {})), "act": "relu", "bias": False}
    first = Convolution(2, n_in, n_out, kernel_size=3, **shared)
    return nn.Sequential(
        first, Convolution(2, n_out, n_out, kernel_size=3, dropout=dropout or None, **shared)
    )


def _keep_gradient_dense(features: Tensor) -> None:
    # The gradient of one part of a concatenation is a view with gaps. The backward pass of the upsampling is
    # six times slower on such a view, 13 % of a training step.
    if features.requires_grad:
        features.register_hook(Tensor.clone)  # dense, in the same order of axes


def check_divisible(images: Tensor, in_channels: int, multiple: int, *, axes: int = 2) -> None:
    """Refuse images whose sides a network cannot halve as often as it has levels.

    Only the shape is read, so that a CUDA graph can be made of the forward pass.

    Args:
        images: Images (N, in_channels, H, W), or (N, in_channels, D, H, W).
        in_channels: Expected number of channels.
        multiple: What each side must be divisible by.
        axes: Number of spatial axes, 2 or 3.

    Raises:
        ValueError: If the shape is another. Where only the number of channels is, the message names the call
            of `segconf_lite.models.adapt` that helps.

    Example:
        >>> check_divisible(torch.zeros(1, 1, 16, 18), 1, 4)
        Traceback (most recent call last):
        ValueError: H, W of images must be divisible by 4 (the network halves them 2 times), got (16, 18);
        pad or crop, e.g. to (16, 20)
        >>> check_divisible(torch.zeros(1, 3, 16, 16), 1, 4)
        Traceback (most recent call last):
        ValueError: images must be non-empty (N, 1, H, W), got (1, 3, 16, 16); write adapt(network,
        channels=(0,))
    """
    shape, sides = tuple(images.shape), ("D, H, W", "H, W")[3 - axes]
    if images.ndim != axes + 2 or shape[1] != in_channels or 0 in shape:
        fix = f"a stack (N, {sides}) becomes one with images[:, None]"
        if images.ndim == axes + 2 and 0 not in shape:  # another number of channels
            fix = f"write adapt(network, channels={tuple(i % shape[1] for i in range(in_channels))})"
        raise check.refuse("images", f"non-empty (N, {in_channels}, {sides})", shape, fix)
    if any(side % multiple for side in shape[2:]):
        fits = tuple(-(-side // multiple) * multiple for side in shape[2:])
        times = f"(the network halves them {multiple.bit_length() - 1} times)"
        fix = f"pad or crop, e.g. to {fits}"
        raise check.refuse(f"{sides} of images", f"divisible by {multiple} {times}", shape[2:], fix)


def checked_channels(channels: Sequence[int]) -> tuple[int, ...]:
    """Numbers of features per level, two or more.

    Args:
        channels: Number of features per level, fine to coarse, each >= 1.

    Raises:
        ValueError: If there are fewer than two, or one is no integer >= 1.

    Example:
        >>> checked_channels([np.int64(4), 8])
        (4, 8)
    """
    if len(check.array("channels", channels, "n_levels")) < 2:
        raise check.refuse("channels", "two or more integers, one per level", tuple(channels))
    return tuple(checked_size(f"channels[{i}]", number) for i, number in enumerate(channels))
