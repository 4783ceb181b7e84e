"""An autoencoder of activations, taught to keep what a frozen network makes of them.

Lennartz & Schultz, "Segmentation Distortion" (UNSURE 2023), equations 1 to 3: L = L_seg + L_mse, with
L_seg = ||U(I) - U∘r(x)||² on logits and L_mse = ||x - r(x)||², both as means here; x is the activation of the
image I, r the autoencoder. Shape letters: N cases, F features, H rows, W columns, Z numbers of the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ActivationAutoencoder"]

VARIANTS = ("plain", "denoising", "variational")
SMALLEST_SIDE = 3  # a side is halved while at least this much is left


class ActivationAutoencoder(nn.Module):
    """U-shaped, convolutional, without skips: everything passes through a code of Z numbers.

    Blocks are 3x3 convolution, LayerNorm over (F, H, W) with a weight per feature, LeakyReLU. Each level has
    `depth` of them and halves the sides while doubling the features; a 1x1 convolution and a dense layer lead
    to the code; the decoder mirrors it. Activations are centred and scaled inside, by what `set_scale` saw.

    Args:
        shape: (F, H, W) of the activations; how often the sides are halved (at most twice) follows.
        code: Z; 64 or 128 in the paper.
        width: features of the first level.
        depth: blocks per level; 3 in the paper.
        variant: ``"plain"``; ``"denoising"``, which adds noise to its input in train mode; or
            ``"variational"``, whose code is drawn in train mode (Kingma & Welling 2014).
        noise: standard deviation of the denoising variant's noise, in units of the activations' own.

    Raises:
        ValueError: If an argument is out of its range.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, *, shape: Sequence[int], code: int = 64, width: int = 48, depth: int = 2,
        variant: str = "plain", noise: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        _check(shape, code, width, depth, variant, noise)
        features, *sides = (int(side) for side in shape)
        self.config: dict[str, Any] = {
            "shape": [features, *sides], "code": code, "width": width, "depth": depth, "variant": variant,
            "noise": noise,
        }  # fmt: skip
        self.shape, self.variant, self.noise = (features, *sides), variant, noise
        self.history: list[dict[str, float]] = []  # filled by fit_autoencoder
        self.register_buffer("centre", torch.zeros(features, 1, 1))
        self.register_buffer("scale", torch.ones(()))

        self._sides = [tuple(sides)]
        while len(self._sides) < 3 and min(self._sides[-1]) >= 2 * SMALLEST_SIDE - 1:
            self._sides.append(tuple(-(-side // 2) for side in self._sides[-1]))
        widths = [width * 2**level for level in range(len(self._sides))]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(widths):
            n_in = features if level == 0 else widths[level - 1]
            first = _block(n_in, wide, stride=1 if level == 0 else 2)
            self.down.append(nn.Sequential(first, *(_block(wide, wide) for _ in range(depth - 1))))
        for level in reversed(range(1, len(widths))):
            self.up.append(_Up(widths[level], widths[level - 1], depth))
        deepest = width * math.prod(self._sides[-1])
        n_code = 2 * code if variant == "variational" else code
        self.squeeze = nn.Sequential(_block(widths[-1], width, kernel=1), nn.Flatten())
        self.to_code, self.from_code = nn.Linear(deepest, n_code), nn.Linear(code, deepest)
        self.widen = _block(width, widths[-1], kernel=1)
        self.last = nn.Conv2d(width, features, kernel_size=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def set_scale(self, activations: Tensor) -> None:
        """Centre each feature, and scale all by one number, as in these (N, F, H, W) activations."""
        self.centre.copy_(activations.mean(dim=(0, 2, 3))[:, None, None])
        spread = (activations - self.centre).square().mean().sqrt()
        self.scale.copy_(spread if spread > 0 else torch.ones_like(spread))

    def encode(self, activations: Tensor) -> Tensor:
        """(N, Z) code; of the variational variant, the mean of its distribution.

        Raises:
            ValueError: If the activations do not have the shape that the autoencoder was made for.
        """
        return self._moments(activations)[0]

    def decode(self, codes: Tensor) -> Tensor:
        """(N, F, H, W) activations from (N, Z) codes."""
        features = self.from_code(codes).unflatten(1, (-1, *self._sides[-1]))
        features = self.widen(features.contiguous(memory_format=torch.channels_last))
        for block, sides in zip(self.up, reversed(self._sides[:-1]), strict=True):
            features = block(features, sides)
        return self.last(features) * self.scale + self.centre

    def forward(self, activations: Tensor) -> Tensor:
        """Reconstruction, (N, F, H, W); random in train mode for two of the variants."""
        return self.reconstruct(activations)[0]

    def reconstruct(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction, and the divergence of the code from a standard normal: 0 unless variational.

        The divergence is that of Kullback and Leibler, a mean over cases and numbers of the code, in nat.
        """
        mean, log_variance = self._moments(activations)
        if self.variant != "variational":
            return self.decode(mean), mean.new_zeros(())
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        if self.training:
            mean = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decode(mean), divergence

    def _moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        if activations.ndim != 4 or tuple(activations.shape[1:]) != self.shape:
            raise ValueError(
                f"the autoencoder was made for activations (N, F, H, W) with (F, H, W) = {self.shape}, got "
                f"{tuple(activations.shape)}; crop or pad the images to the size it was fitted on, or fit "
                "another one"
            )
        features = (activations - self.centre) / self.scale
        if self.variant == "denoising" and self.training:
            features = features + self.noise * torch.randn_like(features)
        for block in self.down:
            features = block(features)
        code = self.to_code(self.squeeze(features))
        if self.variant != "variational":
            return code, torch.zeros_like(code)
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)


class _Up(nn.Module):
    """Doubles the sides, by a transposed convolution that hits odd sizes, then further blocks."""

    def __init__(self, n_in: int, n_out: int, depth: int) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(n_in, n_out, kernel_size=3, stride=2, padding=1)
        self.rest = nn.Sequential(*_norm_act(n_out), *(_block(n_out, n_out) for _ in range(depth - 1)))

    def forward(self, features: Tensor, sides: Sequence[int]) -> Tensor:
        return self.rest(self.grow(features, output_size=list(sides)))


def _block(n_in: int, n_out: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2), *_norm_act(n_out)
    )


def _norm_act(n_features: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(1, n_features), nn.LeakyReLU(0.01)  # one group is LayerNorm over (F, H, W)


def _check(shape: Sequence[int], code: int, width: int, depth: int, variant: str, noise: float) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (F, H, W), each >= 1, got {tuple(shape)}")
    for name, value in (("code", code), ("width", width), ("depth", depth)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}, got {variant!r}")
    if noise < 0:
        raise ValueError(f"noise must be >= 0, got {noise}")
