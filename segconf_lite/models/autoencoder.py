"""An autoencoder of activations, trained to preserve what a frozen network computes from them.

Lennartz & Schultz, "Segmentation Distortion" (UNSURE 2023), equations 1 to 3: L = L_seg + L_mse, with
L_seg = ||U(I) - U∘r(x)||² on logits and L_mse = ||x - r(x)||², both as means here; x is the activation of the
image I, r the autoencoder. Shape letters: N cases, F features, H rows, W columns, Z numbers of the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.models.batches import checked_size, network_input

VARIANTS = ("plain", "denoising", "variational")
SMALLEST_SIDE = 3  # a side is halved while at least this much is left


class ActivationAutoencoder(nn.Module):
    """U-shaped convolutional autoencoder without skips: everything passes through a code of Z numbers.

    Blocks are 3x3 convolution, LayerNorm over (F, H, W) with a weight per feature, LeakyReLU. Each level has
    `depth` of them and halves the sides while doubling the features; a 1x1 convolution and a dense layer lead
    to the code; the decoder mirrors it. Activations are centred and scaled inside, as `set_scale` measured.

    Args:
        shape: Shape (F, H, W) of the activations. The sides are halved at most twice, as far as they allow.
        code: Number Z of numbers in the code; 64 or 128 in the paper.
        width: Number of features of the first level.
        depth: Number of blocks per level, 1 to 100; 3 in the paper.
        variant: ``"plain"``; ``"denoising"``, which adds noise to its input in train mode; or
            ``"variational"``, whose code is sampled in train mode (Kingma & Welling 2014).
        noise: Standard deviation of the noise of the denoising variant, in units of the activations' own.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> coder = ActivationAutoencoder(shape=(8, 6, 6), code=5, width=4, depth=1)
        >>> coder.encode(torch.zeros(2, 8, 6, 6)).shape
        torch.Size([2, 5])
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        shape: Sequence[int],
        code: int = 64,
        width: int = 48,
        depth: int = 2,
        variant: str = "plain",
        noise: float = 0.3,
    ) -> None:
        super().__init__()
        if len(check.array("shape", shape, "axes")) != 3:
            raise check.refuse("shape", "three integers (F, H, W)", tuple(shape))
        features, *sides = (checked_size(f"shape[{i}]", side) for i, side in enumerate(shape))
        code, width = checked_size("code", code), checked_size("width", width)
        depth = check.integer("depth", depth, low=1, high=100, fix="deeper networks do not learn")
        self.config: dict[str, Any] = {
            "shape": [features, *sides],
            "code": code,
            "width": width,
            "depth": depth,
            "variant": check.one_of("variant", variant, VARIANTS),
            "noise": check.number("noise", noise, low=0),
        }
        self.shape, self.variant, self.noise = (features, *sides), variant, self.config["noise"]
        self.history: list[dict[str, float]] = []  # filled by fit_autoencoder
        self.register_buffer("centre", torch.zeros(features, 1, 1))
        self.register_buffer("scale", torch.ones(()))

        self._sides = [tuple(sides)]
        while len(self._sides) < 3 and min(self._sides[-1]) >= 2 * SMALLEST_SIDE - 1:
            self._sides.append(tuple(-(-side // 2) for side in self._sides[-1]))
        widths = [width * 2**level for level in range(len(self._sides))]
        self.down = nn.ModuleList()
        for n_in, n_out in pairwise([features, *widths]):
            first = _block(n_in, n_out, stride=2 if len(self.down) else 1)
            self.down.append(nn.Sequential(first, *(_block(n_out, n_out) for _ in range(depth - 1))))
        self.up = nn.ModuleList(_Up(n_in, n_out, depth) for n_in, n_out in pairwise(reversed(widths)))
        deepest = width * math.prod(self._sides[-1])
        n_code = 2 * code if variant == "variational" else code
        self.squeeze = nn.Sequential(_block(widths[-1], width, kernel=1), nn.Flatten())
        self.to_code, self.from_code = nn.Linear(deepest, n_code), nn.Linear(code, deepest)
        self.widen = _block(width, widths[-1], kernel=1)
        self.last = nn.Conv2d(width, features, kernel_size=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def set_scale(self, activations: Tensor) -> None:
        """Learn the centre of each feature and one common scale from activations.

        Args:
            activations: Activations (N, F, H, W) of the training cases.

        Raises:
            ValueError: If a value is not finite, or the number of features is another.
        """
        check.image_batch(activations, "activations", channels=self.shape[0])
        self.centre.copy_(activations.mean(dim=(0, 2, 3))[:, None, None])
        spread = (activations - self.centre).square().mean().sqrt()
        self.scale.copy_(spread if spread > 0 else torch.ones_like(spread))

    def encode(self, activations: Tensor) -> Tensor:
        """Code (N, Z); for the variational variant, the mean of its distribution.

        Args:
            activations: Activations (N, F, H, W).

        Raises:
            ValueError: If they are not finite, or have another shape than the autoencoder was made for.
        """
        check.image_batch(activations, "activations", channels=None)
        return self.moments(network_input(activations, self, copy=False))[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Activations (N, F, H, W) from codes (N, Z).

        Raises:
            ValueError: If the codes are no tensor of that shape.
        """
        if not isinstance(codes, Tensor) or codes.shape[1:] != (self.config["code"],):
            raise check.refuse("codes", f"a tensor (N, {self.config['code']})", getattr(codes, "shape", None))
        features = self.from_code(codes).unflatten(1, (-1, *self._sides[-1]))
        features = self.widen(features.contiguous(memory_format=torch.channels_last))
        for block, sides in zip(self.up, reversed(self._sides[:-1]), strict=True):
            features = block(features, sides)
        return self.last(features) * self.scale + self.centre

    def forward(self, activations: Tensor) -> Tensor:
        """Reconstruction (N, F, H, W); random in train mode for two of the variants."""
        return self.reconstruct(activations)[0]

    def reconstruct(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction, and the Kullback-Leibler divergence of the code from a standard normal.

        The divergence is a mean over cases and numbers of the code, in nats; it is 0 unless the variant is
        variational.
        """
        mean, log_variance = self.moments(activations)
        if self.variant != "variational":
            return self.decode(mean), mean.new_zeros(())
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        if self.training:
            mean = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decode(mean), divergence

    def moments(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (N, Z) of the code's distribution; the latter is 0 unless variational.

        `encode` also refuses what is not finite, and converts. This is for activations of a network.

        Args:
            activations: Activations (N, F, H, W), of the parameters' type and on their device.

        Raises:
            ValueError: If they have another shape than the autoencoder was made for.
        """
        if not isinstance(activations, Tensor) or tuple(activations.shape[1:]) != self.shape:
            fix = "crop or pad the images to the size it was fitted on, or fit another one"
            name, expected = "activations of this autoencoder", f"(N, F, H, W) with (F, H, W) = {self.shape}"
            raise check.refuse(name, expected, tuple(getattr(activations, "shape", ())), fix)
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
    """Double the sides, by a transposed convolution that also reaches odd sizes, then further blocks."""

    def __init__(self, n_in: int, n_out: int, depth: int) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(n_in, n_out, kernel_size=3, stride=2, padding=1)
        self.rest = nn.Sequential(*_norm_act(n_out), *(_block(n_out, n_out) for _ in range(depth - 1)))

    def forward(self, features: Tensor, sides: Sequence[int]) -> Tensor:
        return self.rest(self.grow(features, output_size=list(sides)))


def _block(n_in: int, n_out: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(convolution, *_norm_act(n_out))


def _norm_act(n_features: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(1, n_features), nn.LeakyReLU(0.01)  # one group is LayerNorm over (F, H, W)
