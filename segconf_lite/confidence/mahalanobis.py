"""How far an activation lies from those of the training scanner, in units of their own spread.

Lee et al., "A simple unified framework for detecting out-of-distribution samples" (NeurIPS 2018); pooled
for segmentation networks by Gonzalez et al. (MICCAI 2021), and compared with by Lennartz & Schultz (2023).
Shape letters: B cases, F features, H rows, W columns, D numbers after pooling.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.autoencoder_training import fit_autoencoder
from segconf_lite.models.batches import in_batches, joined
from segconf_lite.models.device import check_same_device
from segconf_lite.models.splice import frozen, splice
from segconf_lite.models.store import fitted

__all__ = ["GaussianFit", "LatentMahalanobis", "PooledMahalanobis", "fit_gaussian", "pool_activations"]

POOLINGS = ("channels_and_space", "space")
MOST_NUMBERS = 10_000  # the published ceiling; the covariance has its square


class GaussianFit(NamedTuple):
    """Mean and inverse covariance of (n, D) vectors, the covariance shrunk as Ledoit & Wolf (2004) do."""

    mean: np.ndarray  # (D,)
    precision: np.ndarray  # (D, D)

    def distance(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) Mahalanobis distance, >= 0; not squared."""
        off = to_numpy(vectors, np.float64) - self.mean
        return np.sqrt(np.maximum(np.einsum("nd,de,ne->n", off, self.precision, off, optimize=True), 0))


def fit_gaussian(vectors: np.ndarray) -> GaussianFit:
    """Fit to (n, D) vectors; with fewer vectors than numbers shrinkage keeps it finite, and it warns.

    The shrinkage pulls towards the mean variance times the identity, so it follows a common unit of all
    numbers, and a number that never varies gets a share of the others' variance.

    Raises:
        ValueError: If there are fewer than two vectors, all are alike, or a value is not finite.
    """
    from sklearn.covariance import LedoitWolf

    values = to_numpy(vectors, np.float64)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"expected finite vectors (n, D) with n >= 2, got {values.shape}")
    if len(values) <= values.shape[1]:
        warnings.warn(
            f"{len(values)} training vectors for {values.shape[1]} numbers: the covariance rests "
            "on shrinkage; pool more, or train on more slices",
            stacklevel=2,
        )
    if not values.std(axis=0).any():
        raise ValueError("the training vectors are all alike, so no distance can be measured in their spread")
    unit = values.std()  # numbers near 1 keep the inverse well conditioned
    found = LedoitWolf().fit(values / unit)
    return GaussianFit(values.mean(axis=0), found.precision_ / unit**2)


def pool_activations(activation: Tensor, *, pooling: str = "channels_and_space") -> Tensor:
    """(B, D) float32: averages over 2 x 2 (x 2 channels) blocks, again and again until D <= 10,000.

    Args:
        activation: (B, F, H, W).
        pooling: ``"channels_and_space"``, blocks of 2 in channels, rows and columns (the published
            3-D pooling), or ``"space"``, which keeps channels apart.

    Raises:
        ValueError: If the shape or the pooling is not as above.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
    if activation.ndim != 4:
        raise ValueError(f"activation must be (B, F, H, W), got {tuple(activation.shape)}")
    block = (2, 2, 2) if pooling == "channels_and_space" else (1, 2, 2)
    pooled = activation.float()[:, None]  # channels become the depth of a volume
    while pooled[0].numel() > MOST_NUMBERS:
        kernel = tuple(min(b, side) for b, side in zip(block, pooled.shape[2:], strict=True))
        pooled = torch.nn.functional.avg_pool3d(pooled, kernel)
    return pooled.flatten(1)


class _ActivationDistance:
    """Mahalanobis distance of some vector made of one activation; subclasses say which."""

    n_passes = 1

    def __init__(self, *, module: str, squared: bool, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.module, self.squared, self.batch_size = module, squared, batch_size
        self._unet: nn.Module | None = None
        self._fit: GaussianFit | None = None
        self._shape: tuple[int, ...] = ()

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Fit mean and covariance to the source cohort's slices. Returns the method itself."""
        self._unet, self._shape = unet, ()
        self._fit = fit_gaussian(self._vectors(source_cohort.images))
        return self

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 distance, >= 0, higher = further from the source cohort.

        Raises:
            ValueError: If it is not fitted, or the activations have another shape than in `fit`.
        """
        if self._fit is None:
            raise ValueError(f"{type(self).__name__} is not fitted: call .fit(unet, source_cohort) first")
        distance = self._fit.distance(self._vectors(images))
        return torch.from_numpy((distance**2 if self.squared else distance).astype(np.float32))

    def _vector(self, activation: Tensor) -> Tensor:
        """(B, D) from (B, F, H, W)."""
        raise NotImplementedError

    def _vectors(self, images: Tensor | np.ndarray) -> np.ndarray:
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"images must be non-empty (B, 1, H, W), got {tuple(images.shape)}")
        assert self._unet is not None
        opened = splice(self._unet, self.module)

        def vectors(batch: Tensor) -> Tensor:
            activation = opened.activation(batch)
            shape = tuple(activation.shape[1:])
            if self._shape and shape != self._shape:
                raise ValueError(
                    f"activations must have the shape of those in fit, {self._shape}, got {shape}; "
                    "crop or pad the images to the size of the source cohort"
                )
            self._shape = shape
            return self._vector(activation).float().cpu()

        with frozen(self._unet), torch.no_grad():
            found = in_batches(vectors, images, self._unet, batch_size=self.batch_size)
            return to_numpy(joined(found))


class PooledMahalanobis(_ActivationDistance):
    """Distance of the pooled bottleneck activation from those of the source cohort.

    Args:
        module: name of the module whose output is taken; ``"bottleneck"`` of our `UNet`.
        pooling: see `pool_activations`.
        squared: give the squared distance, as the published code does; the order is the same.
        batch_size: cases per pass.
    """

    def __init__(
        self, *, module: str = "bottleneck", pooling: str = "channels_and_space", squared: bool = False,
        batch_size: int = 64,
    ) -> None:  # fmt: skip
        super().__init__(module=module, squared=squared, batch_size=batch_size)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
        self.pooling = pooling

    def _vector(self, activation: Tensor) -> Tensor:
        return pool_activations(activation, pooling=self.pooling)


class LatentMahalanobis(_ActivationDistance):
    """Distance of the autoencoder's code from those of the source cohort (Lennartz & Schultz 2023).

    Args:
        module, squared, batch_size: as of `PooledMahalanobis`.
        autoencoder: a fitted one of that module; None fits one in `fit`, through the store.
        training: arguments of `fit_autoencoder` for that.
        validation: passed on to `fit_autoencoder`.
    """

    def __init__(
        self, *, module: str = "bottleneck", autoencoder: ActivationAutoencoder | None = None,
        training: Mapping[str, Any] | None = None, validation: Cohort | None = None,
        squared: bool = False, batch_size: int = 64,
    ) -> None:  # fmt: skip
        super().__init__(module=module, squared=squared, batch_size=batch_size)
        self.autoencoder, self._given = autoencoder, autoencoder
        self.training, self.validation = dict(training or {}), validation

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Fit the autoencoder if there is none, then mean and covariance of its codes."""
        self.autoencoder = self._given
        if self.autoencoder is None:
            self.autoencoder = fitted(
                fit_autoencoder,
                unet,
                source_cohort,
                validation=self.validation,
                module=self.module,
                **self.training,
            )
        return super().fit(unet, source_cohort)

    def _vector(self, activation: Tensor) -> Tensor:
        assert self.autoencoder is not None
        assert self._unet is not None
        check_same_device(self._unet, autoencoder=self.autoencoder)
        return self.autoencoder.encode(activation)
