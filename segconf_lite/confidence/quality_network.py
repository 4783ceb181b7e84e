"""A small network from activations of a frozen segmentation network to the quality of its prediction.

After the predictor of Lennartz & Schultz (MIDL 2025), made small by halving the maps before they are
flattened, and after their follow-up of 2026 where it reads several levels. Shape letters: B cases, F
features, H rows, W columns, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segconf_lite import check


class QualityNetwork(nn.Module):
    """K unbounded numbers per case, from one or several activations.

    Each activation passes 3x3 convolutions of stride 2 until its sides are at most `grid` (one 1x1
    convolution if they already are), and is averaged onto a grid of `grid` x `grid`; the concatenated grids
    pass one more convolution and two dense layers. The convolutions carry batch norm: in eval mode a case's
    result does not depend on its batch, and the strength of an activation stays visible, which a norm over
    one case would remove. Because the sides are halved at once, reading four activations costs a tenth of a
    pass of the segmentation network.

    Args:
        shapes: Shape (F, H, W) of each activation.
        n_outputs: Number of outputs K.
        width: Number of features kept of each activation.
        hidden: Number of features between the two dense layers.
        grid: Side of the grid.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> network = QualityNetwork(shapes=[(8, 16, 16), (4, 32, 32)], n_outputs=3).eval()
        >>> network([torch.zeros(2, 8, 16, 16), torch.zeros(2, 4, 32, 32)]).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        n_outputs: int,
        width: int = 12,
        hidden: int = 96,
        grid: int = 12,
    ) -> None:
        super().__init__()
        numbers = check.array("shapes", shapes, "n_activations 3", fix="(F, H, W) of each activation")
        sides = [[check.integer("shapes", side, low=1) for side in shape] for shape in numbers]
        width = check.integer("width", width, low=1)
        hidden = check.integer("hidden", hidden, low=1)
        grid = check.integer("grid", grid, low=1)
        self.config: dict[str, Any] = {
            "shapes": sides,
            "n_outputs": check.integer("n_outputs", n_outputs, low=1),
            "width": width,
            "hidden": hidden,
            "grid": grid,
        }
        self.history: list[dict[str, float]] = []
        self.shapes = [tuple(shape) for shape in sides]
        self.levels = nn.ModuleList(_level(shape, width, grid) for shape in self.shapes)
        self.join = _block(width * len(self.shapes), width)
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * grid * grid, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(0.01),
            nn.Linear(hidden, self.config["n_outputs"]),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, activations: Sequence[Tensor]) -> Tensor:
        """Outputs (B, K) from one activation (B, F, H, W) per level.

        Raises:
            ValueError: If number or shapes of the activations are not those it was made for.
        """
        shapes = [tuple(activation.shape[1:]) for activation in activations]
        if shapes != self.shapes:
            fix = "crop or pad the images to the size that it was fitted on"
            raise check.refuse("activations", f"of the shapes {self.shapes}", shapes, fix)
        grids = [level(activation) for level, activation in zip(self.levels, activations, strict=True)]
        return self.dense(self.join(torch.cat(grids, dim=1)))


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
