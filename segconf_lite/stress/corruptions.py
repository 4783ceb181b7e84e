"""Images spoiled far beyond what a training set shows, while the truth stays known.

Shape letters: B cases, H rows, W columns.
"""

from __future__ import annotations

import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
)
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from segconf_lite.models.augment import Augmentation, make_augmentation

__all__ = ["AUGMENTATIONS", "StrongCorruption", "ghost", "make_any_augmentation"]

AUGMENTATIONS = (None, "mild", "strong")


class StrongCorruption:
    """Grey-level curve, shading, blur, ghosts and noise, each drawn on its own for each case.

    In this order, each with probability `probability`: gamma 0.3 to 3 of the grey values, shading by a
    polynomial of third degree, Gaussian blur of sigma 0.5 to 2 pixels, ghosts from a sinusoidal phase error
    of up to 1.5 radians, noise of standard deviation up to 0.5. Mean and standard deviation of each image
    are then put back, as z-scoring would. Nothing moves, so labels stay true.

    Args:
        seed: of this object's own random state; equal seeds give equal sequences of batches.
        probability: of each change, in [0, 1]; 0 leaves images bit for bit.
        share: of the images that are spoiled at all, in [0, 1].

    Raises:
        ValueError: If the probability or the share is out of its range.
    """

    def __init__(self, seed: int, *, probability: float = 0.5, share: float = 1.0) -> None:
        if not (0 <= probability <= 1 and 0 <= share <= 1):
            raise ValueError(f"probability and share must lie in [0, 1], got {probability} and {share}")
        self.probability, self.share = probability, share
        self._generator = torch.Generator().manual_seed(seed)
        self._before = Compose([
            RandAdjustContrast(prob=probability, gamma=(0.3, 3.0)),
            RandBiasField(prob=probability, degree=3, coeff_range=(-0.4, 0.4)),
            RandGaussianSmooth(prob=probability, sigma_x=(0.5, 2.0), sigma_y=(0.5, 2.0)),
        ])  # fmt: skip
        self._after = Compose([RandGaussianNoise(prob=probability, std=0.5)])
        for seeded, part in enumerate((self._before, self._after)):
            part.set_random_state(seed + seeded)

    def __call__(self, images: Tensor) -> Tensor:
        """Spoiled copies of images (B, 1, H, W) float32, on the CPU."""
        images = images.detach().cpu()
        chance = torch.rand(len(images), generator=self._generator)
        spoiled = (chance < self.share).tolist()
        return torch.stack([self._one(i) if s else i for i, s in zip(images, spoiled, strict=True)])

    def _one(self, image: Tensor) -> Tensor:
        if self.probability == 0:
            return image.clone()
        low = image.min()
        bright = _plain(self._before(image - low))  # shading multiplies, so darkness must be 0
        strength, period, start, chance = torch.rand(4, generator=self._generator).tolist()
        if chance < self.probability:
            bright = ghost(bright, strength=1.5 * strength, period=3 + 6 * period, start=6.28 * start)
        noisy = _plain(self._after(bright / bright.std().clamp(min=1e-6)))
        centred = (noisy - noisy.mean()) / noisy.std().clamp(min=1e-6)
        return centred * image.std() + image.mean()


def ghost(image: Tensor, *, strength: float, period: float, start: float = 0.0) -> Tensor:
    """Copies of the organ along the rows, from a phase error that swings during the acquisition.

    Args:
        image: (..., H, W), zero where there is nothing.
        strength: amplitude of the error in radians, >= 0; 0 leaves the image as it is.
        period: of the swing, in k-space lines, > 0.
        start: its phase in radians.
    """
    if strength == 0:
        return image
    lines = torch.fft.fftfreq(image.shape[-2], device=image.device) * image.shape[-2]
    error = strength * torch.sin(2 * torch.pi * lines / period + start)
    k_space = torch.fft.fft2(image) * torch.polar(torch.ones_like(error), error)[:, None]
    return torch.fft.ifft2(k_space).abs()


def make_any_augmentation(name: str | None, seed: int) -> Augmentation | None:
    """`segconf_lite.models.augment.make_augmentation`, or ``"strong"``: three quarters of the images spoiled.

    Raises:
        ValueError: If the name is none of these.
    """
    if name != "strong":
        return make_augmentation(name, seed)
    corrupt = StrongCorruption(seed, share=0.75)
    return lambda images, labels: (corrupt(images), labels)


def _plain(image: object) -> Tensor:
    return convert_to_tensor(image, track_meta=False)
