"""A small network from activations of a frozen segmentation network to the quality of its answer.

After the predictor of Lennartz & Schultz (MIDL 2025), made small by halving the maps before they are
flattened, and after their follow-up of 2026 where it reads several levels. Shape letters: B cases, F
features, H rows, W columns, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["QualityNetwork"]


class QualityNetwork(nn.Module):
    """K unbounded numbers per case, from one or several activations.

    Each activation passes 3x3 convolutions of stride 2 until its sides are at most `grid` (one 1x1
    convolution if they already are), and is averaged onto a `grid` x `grid` raster; the joined rasters pass
    one more convolution and two dense layers. The convolutions carry batch norm: in eval mode a case's result
    does not depend on its batch, and how strong an activation is stays visible, which a norm over one case
    would take away. Halving at once makes reading four activations cost a tenth of a pass of the
    segmentation network.

    Args:
        shapes: (F, H, W) of each activation.
        n_outputs: K.
        width: features kept of each activation.
        hidden: numbers between the two dense layers.
        grid: side of the raster.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self, *, shapes: Sequence[Sequence[int]], n_outputs: int, width: int = 12, hidden: int = 96,
        grid: int = 12,
    ) -> None:  # fmt: skip
        super().__init__()
        if not shapes or any(len(shape) != 3 or min(shape) < 1 for shape in shapes):
            raise ValueError(f"shapes must be one or more (F, H, W), each >= 1, got {list(shapes)}")
        for name, value in (("n_outputs", n_outputs), ("width", width), ("hidden", hidden), ("grid", grid)):
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        self.config: dict[str, Any] = {
            "shapes": [[int(side) for side in shape] for shape in shapes], "n_outputs": n_outputs,
            "width": width, "hidden": hidden, "grid": grid,
        }  # fmt: skip
        self.history: list[dict[str, float]] = []
        self.shapes = [tuple(shape) for shape in self.config["shapes"]]
        self.levels = nn.ModuleList(_level(shape, width, grid) for shape in self.shapes)
        self.join = _block(width * len(self.shapes), width)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(width * grid * grid, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.01),
            nn.Linear(hidden, n_outputs),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, activations: Sequence[Tensor]) -> Tensor:
        """(B, K) from one (B, F, H, W) tensor per level.

        Raises:
            ValueError: If number or shapes of the activations are not those it was made for.
        """
        found = [tuple(activation.shape[1:]) for activation in activations]
        if found != self.shapes:
            raise ValueError(
                f"expected activations of the shapes {self.shapes}, got {found}; crop or pad the images to "
                "the size that it was fitted on"
            )
        rasters = [level(activation) for level, activation in zip(self.levels, activations, strict=True)]
        return self.dense(self.join(torch.cat(rasters, dim=1)))


def _level(shape: Sequence[int], width: int, grid: int) -> nn.Sequential:
    features, *sides = shape
    longest = max(sides)
    blocks: list[nn.Sequential] = []
    while longest > grid:
        blocks.append(_block(width if blocks else features, width, stride=2))
        longest = -(-longest // 2)
    return nn.Sequential(*(blocks or [_block(features, width, kernel=1)]), nn.AdaptiveAvgPool2d(grid))


def _block(n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2),
        nn.BatchNorm2d(n_out),
        nn.LeakyReLU(0.01),
    )
