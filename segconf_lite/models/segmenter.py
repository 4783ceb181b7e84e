"""Four architectures under one roof, with the norm layer as an argument of its own.

Comparisons of architectures often compare norm layers unawares: MONAI's U-Net comes with batch norm, its
Attention U-Net mixes batch with instance norm (the convolutions that merge), its UNETR asks for one.
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

from segconf_lite.models.unet import UNet, _check_images, _to_input
from segconf_lite.models.unet import _check_arguments as _check_as_unet

__all__ = ["KINDS", "SEGMENTER_NORMS", "Segmenter"]

KINDS = ("unet", "residual", "attention", "unetr")
SEGMENTER_NORMS = ("batch", "instance")
_LAYERS = {  # norm and number of axes -> layer
    ("batch", 2): nn.BatchNorm2d, ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d, ("instance", 3): nn.InstanceNorm3d,
}  # fmt: skip
_PATCH = 16  # side of a token of MONAI's UNETR, fixed there, as are its 12 layers
_HEADS = 4


class Segmenter(nn.Module):
    """Logits per pixel or voxel of one of four architectures, with the same kind of norm throughout.

    Every norm layer over feature maps is of the asked kind, and learns a scale and a shift per channel,
    in all. What stays: the layer norms inside the transformer of ``"unetr"``, which act on each token
    by itself and know neither batch nor image.

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
        kind: ``"unet"`` (`UNet`; of volumes, MONAI's `UNet` without residual units), ``"residual"``
            (MONAI's `UNet` with two residual units a level, whose shortcuts pass the norms by),
            ``"attention"`` (MONAI's `AttentionUnet`; Oktay et al., "Attention U-Net", 2018) or ``"unetr"``
            (MONAI's `UNETR`; Hatamizadeh et al., WACV 2022), all made small.
        n_classes: C, background included; >= 2.
        norm: ``"batch"`` (statistics of the training set) or ``"instance"`` (of the window it sees); for
            ``"attention"`` also ``"mixed"``, as MONAI makes it: instance where paths merge, batch elsewhere.
        channels: features per level, fine to coarse, see `UNet`. ``"unetr"`` reads the first one only:
            ``channels[0] // 2`` features on its finest level, tokens of ``3 * channels[0]`` numbers.
        size: side of the training window in pixels. ``"unetr"`` needs it, a multiple of 16, and takes no
            other size; the others ignore it and take every H and W (and D) divisible by
            ``2**(len(channels) - 1)``; with instance norm, not all of them equal to it.
        spatial_dims: 2 for slices, 3 for volumes.

    Raises:
        ValueError: If an argument is out of its range.
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
    ) -> None:
        super().__init__()
        _check_arguments(kind, norm, channels, size, spatial_dims)
        _check_as_unet(n_classes, 1, channels, "batch", 0.0)
        self.config: dict[str, Any] = {  # JSON-able; Segmenter(**config) has the same architecture
            "kind": kind, "n_classes": int(n_classes), "norm": norm,
            "channels": [int(c) for c in channels], "size": None if size is None else int(size),
            "spatial_dims": int(spatial_dims),
        }  # fmt: skip
        self.n_classes = n_classes
        self.history: list[dict[str, float]] = []  # filled by training; plain, not in the state dict
        network: nn.Module
        halvings: dict[str, Any] = {"channels": channels, "strides": [2] * (len(channels) - 1)}
        if kind == "unetr":
            network = UNETR(
                in_channels=1, out_channels=n_classes, img_size=size, spatial_dims=spatial_dims,
                feature_size=channels[0] // 2, hidden_size=3 * channels[0], mlp_dim=6 * channels[0],
                num_heads=_HEADS,
            )  # fmt: skip
        elif kind == "attention":
            network = AttentionUnet(spatial_dims, 1, n_classes, **halvings)
        elif kind == "residual" or spatial_dims == 3:
            units = 2 if kind == "residual" else 0
            network = StridedUNet(spatial_dims, 1, n_classes, **halvings, num_res_units=units)
        else:
            network = UNet(n_classes=n_classes, channels=channels, norm=norm)
        if norm != "mixed":
            _set_norms(network, _LAYERS[norm, spatial_dims])
        self.network = network
        if norm == "instance":  # a third faster so on a CPU; the U-Net's channels_last pays with batch norm
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Logits (N, C, H, W) of images (N, 1, H, W), numpy or torch, any float dtype; volumes have a D.

        Raises:
            ValueError: If the shape does not fit the kind, see the class.
        """
        inputs, size, axes = _to_input(images, self), self.config["size"], self.config["spatial_dims"]
        unetr = self.config["kind"] == "unetr"
        multiple = 1 if unetr else 2 ** (len(self.config["channels"]) - 1)
        _check_images(inputs, 1, multiple, axes=axes)
        if self.config["norm"] != "batch" and tuple(inputs.shape[2:]) == (multiple,) * axes:
            raise ValueError(
                f"an instance norm needs more than one pixel on the coarsest level, got images of "
                f"{tuple(inputs.shape[2:])}, which {multiple.bit_length() - 1} halvings leave one of"
            )
        if unetr and tuple(inputs.shape[2:]) != (size,) * axes:
            raise ValueError(
                f"this unetr takes images of {' x '.join([str(size)] * axes)} pixels only (it learns one "
                f"position per token), got {tuple(inputs.shape[2:])}; cut windows with "
                "segconf_lite.stress.windows, or pass size="
            )
        return self.network(inputs)


def _set_norms(network: nn.Module, layer: type[nn.Module]) -> None:
    """Replaces every batch and instance norm, in place, by one of the asked kind with scale and shift."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _NormBase):
                setattr(parent, name, layer(child.num_features, affine=True))


def _check_arguments(
    kind: str, norm: str, channels: Sequence[int], size: int | None, spatial_dims: int
) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 (slices) or 3 (volumes), got {spatial_dims}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if norm not in SEGMENTER_NORMS and (kind, norm) != ("attention", "mixed"):
        raise ValueError(f"norm must be one of {SEGMENTER_NORMS} (attention: or mixed), got {norm!r}")
    if kind == "unetr" and (size is None or size < _PATCH or size % _PATCH):
        raise ValueError(
            f"a unetr needs size, the side of its window, as a multiple of {_PATCH} (its tokens are "
            f"{_PATCH} x {_PATCH} pixels), got {size}; e.g. size={max(1, (size or 0) // _PATCH) * _PATCH}"
        )
    if kind == "unetr" and channels and channels[0] % _HEADS:
        raise ValueError(
            f"channels[0] of a unetr must be divisible by {_HEADS} (its heads), got {channels[0]}"
        )
