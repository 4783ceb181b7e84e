"""Four architectures in one class, with the norm layer as an argument of its own.

Comparisons of architectures often compare norm layers without saying so: MONAI's U-Net has batch norm, its
Attention U-Net mixes batch with instance norm (the convolutions that merge), its UNETR has instance norm.
Shape letters: N cases, C classes, D slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.unet import UNet as StridedUNet
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from segconf_lite import check
from segconf_lite.models.batches import checked_size, network_input
from segconf_lite.models.unet import UNet, check_divisible, checked_channels

KINDS = ("unet", "residual", "attention", "unetr")
SEGMENTER_NORMS = ("batch", "instance")
_PATCH = 16  # side of a token of MONAI's UNETR, fixed there, as are its 12 layers
_HEADS = 4


class Segmenter(nn.Module):
    """Logits per pixel or voxel of one of four architectures, with the same kind of norm throughout.

    Every norm layer over feature maps is of the chosen kind, and learns a scale and a shift per channel.
    Only the layer norms inside the transformer of ``"unetr"`` stay: they act on each token by itself and
    use no statistics of batch or image.

    The network itself is ``segmenter.network``. With the default channels, C = 2, and one CPU thread for
    200 steps of 8 windows, batch / instance norm:

    =============  ==========  =============  ===========
    kind           parameters  side 32        side 96
    =============  ==========  =============  ===========
    ``unet``       0.12 M      3.4 / 3.9 s    26 / 30 s
    ``attention``  0.12 M      3.8 / 3.8 s    30 / 28 s
    ``unetr``      0.48 M      5.8 / 6.2 s    22 / 22 s
    =============  ==========  =============  ===========

    ``residual`` has 0.10 M parameters and takes less than a third of ``unet``, since it halves at once.

    Args:
        kind: ``"unet"`` (`UNet`; for volumes, MONAI's `UNet` without residual units), ``"residual"``
            (MONAI's `UNet` with two residual units per level, whose shortcuts bypass the norms),
            ``"attention"`` (MONAI's `AttentionUnet`; Oktay et al., "Attention U-Net", 2018) or ``"unetr"``
            (MONAI's `UNETR`; Hatamizadeh et al., WACV 2022), all made small.
        n_classes: Number of classes C, background included; >= 2.
        norm: ``"batch"`` (statistics of the training set) or ``"instance"`` (of the window itself); for
            ``"attention"`` also ``"mixed"``, as MONAI makes it: instance where paths merge, batch elsewhere.
        channels: Number of features per level, fine to coarse. ``"unetr"`` reads the first one only:
            ``channels[0] // 2`` features on its finest level, tokens of ``3 * channels[0]`` numbers.
        size: Side of the training window in pixels. ``"unetr"`` needs it, a multiple of 16, and takes no
            other size; the others ignore it and take every H and W (and D) divisible by
            ``2**(len(channels) - 1)``; with instance norm, not all of them equal to it.
        spatial_dims: Number of spatial axes, 2 for slices, 3 for volumes.
        in_channels: Number of image channels, >= 1. The network takes images of this number of channels only;
            `segconf_lite.models.adapt` with ``channels=...`` makes others fit.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> segmenter = Segmenter(kind="attention", n_classes=2, channels=(4, 8))
        >>> segmenter(np.zeros((3, 1, 8, 8))).shape
        torch.Size([3, 2, 8, 8])
    """

    def __init__(
        self,
        *,
        kind: str,
        n_classes: int,
        norm: str = "batch",
        channels: Sequence[int] = (16, 32, 64),
        size: int | None = None,
        spatial_dims: int = 2,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        axes = check.integer("spatial_dims", spatial_dims, low=2, high=3, fix="2 for slices, 3 for volumes")
        check.one_of("kind", kind, KINDS)
        check.one_of("norm", norm, (*SEGMENTER_NORMS, "mixed") if kind == "attention" else SEGMENTER_NORMS)
        self.n_classes = checked_size("n_classes", n_classes, low=2, fix="the background counts as a class")
        channels = checked_channels(channels)
        size = None if size is None else checked_size("size", size)
        self.config: dict[str, Any] = {  # JSON-able; Segmenter(**config) has the same architecture
            "kind": kind,
            "n_classes": self.n_classes,
            "norm": norm,
            "channels": list(channels),
            "size": size,
            "spatial_dims": axes,
            "in_channels": checked_size("in_channels", in_channels),
        }
        self.history: list[dict[str, float]] = []  # filled by training; plain, not in the state dict
        network: nn.Module
        halvings: dict[str, Any] = {"channels": channels, "strides": [2] * (len(channels) - 1)}
        if kind == "unetr":
            _check_unetr(channels, size)
            first = channels[0]
            sizes = {"feature_size": first // 2, "hidden_size": 3 * first, "mlp_dim": 6 * first}
            network = UNETR(in_channels, self.n_classes, size, spatial_dims=axes, num_heads=_HEADS, **sizes)
        elif kind == "attention":
            network = AttentionUnet(axes, in_channels, self.n_classes, **halvings)
        elif kind == "residual" or axes == 3:
            halvings["num_res_units"] = 2 if kind == "residual" else 0
            network = StridedUNet(axes, in_channels, self.n_classes, **halvings)
        else:
            network = UNet(n_classes=self.n_classes, in_channels=in_channels, channels=channels, norm=norm)
        if norm != "mixed":
            _set_norms(network, getattr(nn, f"{norm.title()}Norm{axes}d"))  # nn.BatchNorm2d and so on
        self.network = network
        if norm == "instance":  # a third faster so on a CPU; the U-Net's channels_last pays with batch norm
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Logits (N, C, H, W) of images (N, in_channels, H, W), numpy or torch; volumes have D before H.

        Args:
            images: Images of any real type; they are converted to the device and type of the parameters.

        Raises:
            ValueError: If the shape does not fit the kind, see the class.
        """
        inputs = network_input(images, self, copy=False)
        size, axes = self.config["size"], self.config["spatial_dims"]
        unetr = self.config["kind"] == "unetr"
        multiple = 1 if unetr else 2 ** (len(self.config["channels"]) - 1)
        check_divisible(inputs, self.config["in_channels"], multiple, axes=axes)
        sides = tuple(inputs.shape[2:])
        if self.config["norm"] != "batch" and sides == (multiple,) * axes:
            expected = f"larger than {multiple} (an instance norm needs two pixels on the coarsest level)"
            raise check.refuse("sides of images", expected, sides, "use larger images or fewer levels")
        if unetr and sides != (size,) * axes:
            expected = f"{' x '.join([str(size)] * axes)} pixels only (a unetr learns one position per token)"
            fix = "cut windows with segconf_lite.stress.windows, or pass size="
            raise check.refuse("images of this unetr", expected, sides, fix)
        return self.network(inputs)


def _set_norms(network: nn.Module, layer: type[nn.Module]) -> None:
    """Replace every batch and instance norm, in place, by one of a kind, with scale and shift."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _NormBase):
                setattr(parent, name, layer(child.num_features, affine=True))


def _check_unetr(channels: Sequence[int], size: int | None) -> None:
    if size is None or size % _PATCH:
        expected = f"a multiple of {_PATCH}, the side of its tokens"
        fix = f"e.g. size={max(1, (size or 0) // _PATCH) * _PATCH}"
        raise check.refuse("size of a unetr", expected, size, fix)
    if channels[0] % _HEADS:
        raise check.refuse("channels[0] of a unetr", f"divisible by {_HEADS}, its heads", channels[0])
