"""Test-time augmentation: change the image, take the change back from the answer, compare.

Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image
segmentation with convolutional neural networks" (Neurocomputing 338, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segconf_lite.confidence.sampling import SampledUncertainty

__all__ = ["TRANSFORMS", "TestTimeAugmentation"]

_Change = Callable[[Tensor], Tensor]


def _same(values: Tensor) -> Tensor:
    return values


def _turned(degrees: int) -> tuple[_Change, _Change]:
    quarters = degrees // 90
    return (lambda x: torch.rot90(x, quarters, (2, 3))), (lambda x: torch.rot90(x, -quarters, (2, 3)))


def _grey(change: _Change) -> tuple[_Change, _Change]:
    return change, _same  # grey values do not move borders: nothing to take back


# name -> (change of the image, its exact inverse for the answer)
TRANSFORMS: dict[str, tuple[_Change, _Change]] = {
    "identity": (_same, _same),
    "flip_rows": (lambda x: x.flip(2), lambda x: x.flip(2)),
    "flip_columns": (lambda x: x.flip(3), lambda x: x.flip(3)),
    "rotate_90": _turned(90),
    "rotate_180": _turned(180),
    "rotate_270": _turned(270),
    # Images are z-scored, so these are tenths of their own standard deviation, or 20 % contrast.
    "brighter": _grey(lambda x: x + 0.2),
    "darker": _grey(lambda x: x - 0.2),
    "more_contrast": _grey(lambda x: 1.2 * x),
    "less_contrast": _grey(lambda x: x / 1.2),
}


class TestTimeAugmentation(SampledUncertainty):
    """The disagreement of one network's answers to changed versions of an image.

    Args:
        transforms: two or more names out of `TRANSFORMS`. All are undone exactly, without
            interpolation. The default is the mild grey-value set, which any network should bear.
            Flips and turns are only fair to a network that was trained with them, or for organs
            that look alike when turned: the heart does not.
        measure, **aggregation: see `SampledUncertainty`. Nothing here is random.

    Raises:
        ValueError: If a transform is unknown or there are fewer than two; on use, if a quarter turn
            meets images that are not square.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[str] = ("identity", "brighter", "darker", "more_contrast", "less_contrast"),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        unknown = sorted(set(transforms) - set(TRANSFORMS))
        if unknown or len(transforms) < 2:
            raise ValueError(f"transforms must be two or more of {list(TRANSFORMS)}, got {list(transforms)}")
        self.transforms = tuple(transforms)
        self.n_passes = len(self.transforms)

    def _views(self) -> Sequence[nn.Module]:
        return [_Changed(self.unet, *TRANSFORMS[name]) for name in self.transforms]


TestTimeAugmentation.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test


class _Changed(nn.Module):
    """The network behind a change of its input, with the change taken back from its output."""

    def __init__(self, network: nn.Module, change: _Change, undo: _Change) -> None:
        super().__init__()
        self.network, self.change, self.undo = network, change, undo

    def forward(self, images: Tensor) -> Tensor:
        changed = self.change(images)
        if changed.shape != images.shape:
            raise ValueError(
                f"quarter turns need square images, got {tuple(images.shape[2:])}; leave "
                "rotate_90 and rotate_270 out, or pad"
            )
        return self.undo(self.network(changed))
