"""Random augmentation of training images and labels, so that a network learns more than its scanner.

Shape letters: B cases of a batch, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from monai.transforms.compose import Compose
from monai.transforms.intensity import array as intensity
from monai.transforms.spatial.array import RandSimulateLowResolution
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from segconf_lite import check
from segconf_lite.models.batches import as_tensor

AUGMENTATIONS = (None, "mild", "nnunet")

Augmentation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class MildAugmentation:
    """Small rotations, scales and noise: other anatomy, but still the scanner of the training set.

    Every case of a batch is rotated by up to 15 degrees either way, scaled by 0.9 to 1.1, and
    gets Gaussian noise of standard deviation 0 to 0.1 (in intensities; z-scored images have 1).
    No mirroring. One vectorised pass: 0.2 ms per 96x96 image on one CPU core.

    Args:
        seed: Seed of this object's own random state; equal seeds give equal sequences of batches.

    Example:
        >>> images, labels = torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> changed, _ = MildAugmentation(seed=0)(images, labels)
        >>> changed.shape, bool((changed.abs() < 1).all())
        (torch.Size([2, 1, 8, 8]), True)
    """

    def __init__(self, seed: int) -> None:
        self._generator = _generator(seed)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Changed copies of a batch.

        Args:
            images: Images (B, channels, H, W) of any number of channels, on the CPU.
            labels: Labels (B, H, W) on the CPU.

        Returns:
            Images (B, channels, H, W) float32 and labels (B, H, W) int64.

        Raises:
            ValueError: If an image is not finite, or the shapes do not fit.
        """
        images, labels = _checked_batch(images, labels)
        n = len(images)
        angle = math.radians(15) * self._uniform(n, -1, 1)
        images, labels = _warp(images, labels, angle, self._uniform(n, 0.9, 1.1), torch.ones(n, 2))
        noise = torch.randn(images.shape, generator=self._generator)
        return images + self._uniform(n, 0, 0.1)[:, None, None, None] * noise, labels

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=self._generator)


class NnUNetLikeAugmentation:
    """The augmentation of nnU-Net's second trainer: mirroring, rotation, scale, blur, intensity, resolution.

    Each change is sampled independently for each case, in this order (probability in brackets):
    rotation by any angle (0.2), scale 0.7 to 1.4 (0.2), mirroring of either axis (0.5 each), noise of
    standard deviation 0 to 0.1 (0.1), blur of sigma 0.5 to 1 pixel (0.1), brightness x 0.75 to
    1.25 (0.15), contrast x 0.75 to 1.25 within the old range (0.15), resolution x 0.5 to 1 (0.125),
    gamma 0.7 to 1.5 of the inverted (0.1) and of the plain image (0.3), mean and standard deviation
    kept. About 0.6 ms per 96x96 image on one CPU core.

    Source: Isensee et al., "nnU-Net", Nature Methods 2021, supplement. Differences: no elastic
    deformation (its 2-D default too); blur and resolution carry their two probabilities (per
    case, per channel) multiplied; scale and gamma are sampled from one range, not from two halves.
    nnU-Net calls its noise parameter a variance and uses it as a standard deviation; so do we.

    Args:
        seed: Seed of this object's own random state; equal seeds give equal sequences of batches.

    Example:
        >>> images, labels = torch.zeros(2, 1, 8, 8), torch.ones(2, 8, 8, dtype=torch.int64)
        >>> NnUNetLikeAugmentation(seed=0)(images, labels)[1].unique()
        tensor([1])
    """

    def __init__(self, seed: int) -> None:
        self._generator = _generator(seed)
        changes = [
            intensity.RandGaussianNoise(prob=0.1, std=0.1),
            intensity.RandGaussianSmooth(prob=0.1, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0)),
            intensity.RandScaleIntensity(prob=0.15, factors=0.25),
            intensity.RandScaleIntensityFixedMean(prob=0.15, factors=0.25, preserve_range=True),
            RandSimulateLowResolution(prob=0.125, zoom_range=(0.5, 1.0), upsample_mode="bicubic"),
            intensity.RandAdjustContrast(prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            intensity.RandAdjustContrast(prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        ]
        self._intensity = Compose(changes)
        self._intensity.set_random_state(seed)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Changed copies of a batch, see `MildAugmentation`."""
        images, labels = _checked_batch(images, labels)
        draw = torch.rand(len(images), 6, generator=self._generator)
        angle = torch.where(draw[:, 0] < 0.2, math.pi * (2 * draw[:, 1] - 1), 0.0)
        scale = torch.where(draw[:, 2] < 0.2, 0.7 + 0.7 * draw[:, 3], 1.0)
        mirror = torch.where(draw[:, 4:] < 0.5, -1.0, 1.0)
        # MONAI's own rotation and zoom take 3 to 11 ms per image; one grid for the batch, 0.1.
        images, labels = _warp(images, labels, angle, scale, mirror)
        changed = [convert_to_tensor(self._intensity(image), track_meta=False) for image in images]
        return torch.stack(changed), labels


def make_augmentation(name: str | None, seed: int) -> Augmentation | None:
    """The augmentation of that name with a random state of its own; None for None.

    Args:
        name: None, ``"mild"`` (`MildAugmentation`) or ``"nnunet"`` (`NnUNetLikeAugmentation`).
        seed: Seed of the random state.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> print(make_augmentation(None, seed=0), type(make_augmentation("mild", seed=0)).__name__)
        None MildAugmentation
    """
    check.one_of("augmentation", name, AUGMENTATIONS)
    if name is None:
        return None
    return MildAugmentation(seed) if name == "mild" else NnUNetLikeAugmentation(seed)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(check.integer("seed", seed, low=0, high=2**64 - 1))


def _checked_batch(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    check.image_batch(images, channels=None)
    shape = (len(images), *images.shape[2:])
    if not isinstance(labels, Tensor) or tuple(labels.shape) != shape:
        raise check.refuse("labels", f"a tensor {shape}", tuple(getattr(labels, "shape", ())))
    return as_tensor("images", images).float(), labels.long()


def _warp(
    images: Tensor, labels: Tensor, angle: Tensor, scale: Tensor, mirror: Tensor
) -> tuple[Tensor, Tensor]:
    """Images and labels, rotated about their centre; pixels from outside repeat the edge.

    angle (B,) in radians; scale (B,), > 1 enlarges; mirror (B, 2) of +-1 for columns and rows.
    """
    height, width = images.shape[-2:]
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # The grid counts both axes from -1 to 1; the ratio keeps angles true in oblong images.
    rows = torch.stack([cos, -sin * height / width, sin * width / height, cos], dim=1)  # (B, 4)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, :, :2] = rows.reshape(-1, 2, 2) * mirror[:, None, :]
    grid = F.affine_grid(theta, [len(images), 1, height, width], align_corners=False)
    sample = partial(F.grid_sample, grid=grid, padding_mode="border", align_corners=False)
    moved, masks = sample(images, mode="bilinear"), sample(labels[:, None].float(), mode="nearest")
    # Untouched cases stay so to the last bit.
    still = ((angle == 0) & (scale == 1) & (mirror == 1).all(dim=1))[:, None, None]
    return torch.where(still[:, None], images, moved), torch.where(still, labels, masks[:, 0].long())
