"""The gradient of the loss by the image as a network of its own, for engines that do not differentiate.

Engines in a browser run networks forwards only. For a U-Net of convolutions, batch normalisation, ReLU, max
pooling and bilinear upsampling the backward pass is short enough to be written out; a test compares it with
the automatic differentiation of torch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LossGradient(nn.Module):
    """Probabilities (1, C, H, W), and the gradient (1, 1, H, W) of the mean cross-entropy by the image.

    Args:
        unet: A U-Net with skips and batch normalisation, trained.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.encoder: Any = nn.ModuleList(Folded(block) for block in unet.encoder)
        self.bottleneck = Folded(unet.bottleneck)
        self.decoder: Any = nn.ModuleList(Folded(block) for block in [*unet.decoder, unet.penultimate])
        self.head: Any = unet.head
        self.n_classes: int = unet.head.out_channels

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Both, for an image (1, 1, H, W) and its labels as 0 and 1, (1, C, H, W)."""
        features = image
        pooled: list[Tensor] = []
        kept: list[list[Tensor]] = []  # activations of every block, in order
        for block in self.encoder:
            kept.append(block.forwards(features))
            pooled.append(F.max_pool2d(kept[-1][-1], 2))
            features = pooled[-1]
        kept.append(self.bottleneck.forwards(features))
        features = kept[-1][-1]
        for skip, block in zip(reversed(kept[:-1]), self.decoder, strict=True):
            rows, columns = (_doubling(n) for n in features.shape[2:])
            kept.append(block.forwards(torch.cat([skip[-1], rows @ features @ columns.T], dim=1)))
            features = kept[-1][-1]
        probabilities = self.head(features).softmax(dim=1)

        slope = (probabilities - labels) / (labels.shape[2] * labels.shape[3])
        slope = F.conv_transpose2d(slope, self.head.weight)
        through = []  # gradients of what the skips carry, fine to coarse
        for block, level in zip(reversed(self.decoder), self.encoder, strict=True):
            slope = block.backwards(kept.pop(), slope)
            n_skip = len(level.biases[-1])
            through.append(slope[:, :n_skip])
            rows, columns = (_doubling(n // 2) for n in slope.shape[2:])
            slope = rows.T @ slope[:, n_skip:] @ columns
        slope = self.bottleneck.backwards(kept.pop(), slope)
        for block in reversed(self.encoder):
            # Zeros may tie for the largest of four, but ReLU lets no gradient through them.
            largest = kept[-1][-1] == F.interpolate(pooled.pop(), scale_factor=2.0)
            slope = F.interpolate(slope, scale_factor=2.0) * largest + through.pop()
            slope = block.backwards(kept.pop(), slope)
        return probabilities, slope


class Folded(nn.Module):
    """The convolutions of a block, each with its batch normalisation folded in."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        part: Any
        for part in block.children():
            norm, conv = part.adn.N, part.conv
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            self.weights.append((conv.weight * scale[:, None, None, None]).detach())
            self.biases.append((norm.bias - norm.running_mean * scale).detach())

    def forwards(self, features: Tensor) -> list[Tensor]:
        """What each convolution gives after its ReLU."""
        activations = [features]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            activations.append(F.conv2d(activations[-1], weight, bias, padding=1).relu())
        return activations[1:]

    def backwards(self, activations: list[Tensor], slope: Tensor) -> Tensor:
        """The gradient by the input of the block, from that by its output."""
        for weight, activation in zip(reversed(self.weights), reversed(activations), strict=True):
            slope = F.conv_transpose2d(slope * (activation > 0), weight, padding=1)
        return slope


def _doubling(length: int) -> Tensor:
    """The matrix (2 length, length) of bilinear upsampling along one axis."""
    return F.interpolate(torch.eye(length)[None], scale_factor=2.0, mode="linear", align_corners=False)[0].T
