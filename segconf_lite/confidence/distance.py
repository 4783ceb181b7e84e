"""Mahalanobis distance of an activation from those of the training scanner.

Lee et al., "A simple unified framework for detecting out-of-distribution samples" (NeurIPS 2018); pooled
for segmentation networks by Gonzalez et al. (MICCAI 2021), and a baseline of Lennartz & Schultz (2023).
Shape letters: B cases, F features, H rows, W columns, D numbers after pooling.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence.pixels import check_fit_arguments
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.autoencoder_training import fit_autoencoder
from segconf_lite.models.batches import as_tensor, in_batches, joined, network_input
from segconf_lite.models.device import check_same_device, device_of, frozen
from segconf_lite.models.splice import splice
from segconf_lite.models.store import fitted
from segconf_lite.models.training import Training, as_settings
from segconf_lite.saving import Savable

POOLINGS = ("channels_and_space", "space", "published")
MOST_NUMBERS = 10_000  # the published ceiling


class GaussianFit(NamedTuple):
    r"""Mean and covariance of vectors, the covariance shrunk as Ledoit & Wolf (2004) do.

    The covariance is held by its directions :math:`v_k` and their variances :math:`\lambda_k`; every
    direction that they leave out has one and the same variance :math:`r`. So a hundred vectors of 10,000
    numbers need a hundred directions, and no square matrix.

    Example:
        >>> GaussianFit(np.zeros(2), np.eye(2), np.array([1.0, 4.0])).distance(np.array([[3.0, 8.0]]))
        array([5.])
    """

    mean: np.ndarray  # (D,)
    directions: np.ndarray  # (K, D), orthonormal rows, K <= D
    variances: np.ndarray  # (K,)
    rest: float = 0.0  # variance along each of the D - K other directions; 0: such a part is ignored

    def distance(self, vectors: np.ndarray) -> np.ndarray:
        r"""Mahalanobis distance (n,), >= 0, not squared.

        .. math:: d(x)^2 = (x - \mu)^\top \Sigma^{-1} (x - \mu)
            = \sum_k \frac{p_k^2}{\lambda_k} + \frac{\|x - \mu\|^2 - \sum_k p_k^2}{r},
            \qquad p_k = v_k^\top (x - \mu)

        Args:
            vectors: Vectors (n, D).

        Raises:
            ValueError: If they have another shape, or a value is not finite.
        """
        difference = _vectors(vectors, length=len(self.mean)) - self.mean
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # an overflow is refused
            along = difference @ self.directions.T
            squares = (along**2 / self.variances).sum(axis=1)
            if len(self.directions) < len(self.mean) and self.rest:
                beside = difference - along @ self.directions  # not a difference of squares, which cancels
                squares += (beside**2).sum(axis=1) / self.rest
        return check.finite("distance", np.sqrt(squares), fix="scale the vectors")


def fit_gaussian(vectors: np.ndarray) -> GaussianFit:
    """Fit mean and shrunk covariance to vectors; with fewer vectors than numbers it warns.

    The shrinkage pulls the covariance towards the mean variance times the identity, so it follows a common
    unit of all numbers, and a number that never varies gets a part of the others' variance.

    Args:
        vectors: Vectors (n, D) of the training cases, n >= 2.

    Raises:
        ValueError: If there are fewer than two vectors, all are alike, or a value is not finite.

    Example:
        >>> fit_gaussian(np.array([[0.0], [2.0], [4.0]])).mean
        array([2.])
    """
    values = _vectors(vectors)
    if len(values) < 2:
        raise check.refuse("vectors", "(n, D) with n >= 2", values.shape)
    if len(values) <= values.shape[1]:
        warnings.warn(
            f"{len(values)} training vectors for {values.shape[1]} numbers: the covariance rests "
            "on shrinkage; pool more, or train on more slices",
            stacklevel=2,
        )
    with np.errstate(over="ignore", invalid="ignore"):
        unit = values.std()  # numbers near 1 keep the shrinkage within float64
        if not values.std(axis=0).any():
            raise check.refuse("vectors", "different from each other", "all alike, which have no covariance")
        if not 1e-150 < unit < 1e150:
            fix = "scale them; their squares leave float64"
            raise check.refuse("vectors", "of a standard deviation in (1e-150, 1e150)", unit, fix)
    centred = (values - values.mean(axis=0)) / unit
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    spread = lengths**2 / len(values)  # eigenvalues of the covariance that are not zero
    shrinkage = _shrinkage(centred, spread)
    rest = shrinkage * spread.sum() / centred.shape[1]  # the mean variance of all numbers
    variances = ((1 - shrinkage) * spread + rest) * unit**2
    kept = variances > 0
    return GaussianFit(values.mean(axis=0), directions[kept], variances[kept], float(rest * unit**2))


def _shrinkage(centred: np.ndarray, spread: np.ndarray) -> float:
    """Ledoit & Wolf (2004), lemmas 3.2 to 3.4, from eigenvalues; scikit-learn's takes D^2 steps a vector."""
    n, d = centred.shape
    squares = (spread**2).sum()  # of all entries of the covariance
    distance = squares - spread.sum() ** 2 / d  # of the covariance from the mean variance times the identity
    error = (((centred**2).sum(axis=1) ** 2).sum() / n - squares) / n
    return float(np.clip(error / distance, 0, 1)) if distance > 0 else 1.0


def _vectors(vectors: np.ndarray, *, length: int | None = None) -> np.ndarray:
    axes = "n D" if length is None else f"n {length}"
    return check.finite("vectors", check.array("vectors", vectors, axes, dtype=np.float64))


def pool_activations(activation: Tensor, *, pooling: str = "channels_and_space") -> Tensor:
    """Averages over 2 x 2 (x 2 channels) blocks, repeated until at most 10,000 numbers per case remain.

    Args:
        activation: Activations (B, F, H, W), numpy or torch.
        pooling: ``"channels_and_space"``, blocks of 2 in channels, rows and columns; ``"space"``, which
            keeps channels apart; or ``"published"``, as the first, and once more in every case, as the code
            of Lennartz & Schultz (2023) does.

    Returns:
        (B, D) float32, D <= 10,000; with ``"published"``, about an eighth of what the first gives.

    Raises:
        ValueError: If the shape or the pooling is another, a value is not finite, or there are more than
            10,000 channels to keep apart.

    Example:
        >>> pool_activations(torch.ones(2, 96, 24, 24)).shape
        torch.Size([2, 6912])
        >>> pool_activations(torch.ones(2, 96, 24, 24), pooling="published").shape
        torch.Size([2, 864])
    """
    check.one_of("pooling", pooling, POOLINGS)
    check.image_batch(activation, "activation", channels=None)
    return _pooled(as_tensor("activation", activation), pooling).cpu()


def _pooled(activation: Tensor, pooling: str) -> Tensor:
    block = (1, 2, 2) if pooling == "space" else (2, 2, 2)
    pooled = activation.float()[:, None]  # channels become the depth of a volume

    def halved(pooled: Tensor) -> Tensor:
        kernel = tuple(min(b, side) for b, side in zip(block, pooled.shape[2:], strict=True))
        if kernel == (1, 1, 1) and pooled[0].numel() > MOST_NUMBERS:
            fix = "use pooling='channels_and_space', or another module"
            expected = f"one of at most {MOST_NUMBERS} channels"
            raise check.refuse("activation", expected, pooled.shape[2], fix)
        return torch.nn.functional.avg_pool3d(pooled, kernel)

    while pooled[0].numel() > MOST_NUMBERS:
        pooled = halved(pooled)
    if pooling == "published":
        pooled = halved(pooled)
    return pooled.flatten(1)


class _ActivationDistance(Savable):
    """Mahalanobis distance of some vector made of one activation; subclasses say which."""

    n_passes = 1

    def __init__(self, *, module: str, squared: bool, batch_size: int) -> None:
        if not isinstance(module, str):
            raise check.refuse("module", "the name of a module", repr(module), "e.g. 'bottleneck'")
        self.module, self.squared = module, check.one_of("squared", squared, (True, False))
        self.batch_size = check.integer("batch_size", batch_size, low=1)
        self._unet: nn.Module | None = None
        self._fit: GaussianFit | None = None
        self._shape: tuple[int, ...] = ()

    @property
    def unet(self) -> nn.Module:
        """The evaluated network.

        Raises:
            ValueError: If the method is not fitted to a network yet.
        """
        check.fitted(self, self._fit)
        return check.fitted(self, self._unet)

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Fit mean and covariance to the activations of the source cohort. Returns the method itself.

        Args:
            unet: Network from images (B, channels, H, W) to logits (B, C, H, W).
            source_cohort: The cases that the network was trained on.

        Raises:
            ValueError: If the network has no such module, or its output is not finite.
        """
        check_fit_arguments(unet, source_cohort)
        self._unet, self._shape, self._fit = unet, (), None  # a fit that fails leaves nothing half done
        self._fit = fit_gaussian(self._vectors(source_cohort.images))
        return self

    def fit_features(self, features: Tensor | np.ndarray) -> Self:
        """Fit mean and covariance to stored activations, where no network is at hand.

        Args:
            features: Activations (n, F, H, W) of the training cases.

        Raises:
            ValueError: If there are fewer than two cases, or a value is not finite.
        """
        check.image_batch(features, "features", channels=None)
        self._unet, self._shape = None, tuple(features.shape[1:])
        self._fit = fit_gaussian(to_numpy(self._vector(as_tensor("features", features))))
        return self

    def uncertainty(self, images: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 distance, >= 0, higher = further from the source cohort.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If it is not fitted to a network, an image or an activation is not finite, or the
                activations have another shape than in `fit`.
        """
        check.fitted(self, self._unet)
        return self._distance(self._vectors(images))

    def uncertainty_of_features(self, features: Tensor | np.ndarray) -> Tensor:
        """`uncertainty` from stored activations.

        Args:
            features: Activations (B, F, H, W) of the cases.

        Raises:
            ValueError: If it is not fitted, a value is not finite, or the shape is another than in the fit.
        """
        check.fitted(self, self._fit)
        check.image_batch(features, "features", channels=None)
        self._check_shape(features)
        return self._distance(to_numpy(self._vector(as_tensor("features", features))))

    def _distance(self, vectors: np.ndarray) -> Tensor:
        assert self._fit is not None
        distance = self._fit.distance(vectors)
        with np.errstate(over="ignore"):  # an overflow is refused below
            values = (distance**2 if self.squared else distance).astype(np.float32)
        return torch.from_numpy(check.finite("distance in float32", values, fix="scale the images"))

    def _vector(self, activation: Tensor) -> Tensor:
        """(B, D) from (B, F, H, W)."""
        raise NotImplementedError

    def _check_shape(self, activation: Tensor | np.ndarray) -> None:
        shape = tuple(activation.shape[1:])
        if self._shape and shape != self._shape:
            fix = "crop or pad the images to the size of the source cohort"
            raise check.refuse("activations", f"of the shape of those in fit, {self._shape}", shape, fix)

    def _vectors(self, images: Tensor | np.ndarray) -> np.ndarray:
        check.image_batch(images, channels=None)
        assert self._unet is not None
        opened = splice(self._unet, self.module)

        def vectors(batch: Tensor) -> Tensor:
            activation = opened.activation(batch)
            self._check_shape(activation)
            self._shape = tuple(activation.shape[1:])
            return self._vector(activation).float().cpu()

        with frozen(self._unet), torch.no_grad():
            parts = in_batches(vectors, images, self._unet, batch_size=self.batch_size)
            return to_numpy(joined(parts))


class PooledMahalanobis(_ActivationDistance):
    """Distance of the pooled bottleneck activation from those of the source cohort.

    Args:
        module: Name of the module whose output is used; ``"bottleneck"`` of our `UNet`.
        pooling: ``"channels_and_space"``, ``"space"`` or ``"published"``, see `pool_activations`.
        squared: Whether the distance is squared, as in the published code; the ranks are the same.
        batch_size: Cases per pass; it bounds the memory.

    Example:
        >>> features = torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> method = PooledMahalanobis().fit_features(features)
        >>> near, far = method.uncertainty_of_features(torch.stack([features.mean(dim=0), features[0] + 9]))
        >>> round(float(near), 3), bool(far > 10)
        (0.0, True)
    """

    def __init__(
        self,
        *,
        module: str = "bottleneck",
        pooling: str = "channels_and_space",
        squared: bool = False,
        batch_size: int = 64,
    ) -> None:
        super().__init__(module=module, squared=squared, batch_size=batch_size)
        self.pooling = check.one_of("pooling", pooling, POOLINGS)

    def _vector(self, activation: Tensor) -> Tensor:
        return _pooled(activation, self.pooling)


class LatentMahalanobis(_ActivationDistance):
    """Distance of the autoencoder's code from those of the source cohort (Lennartz & Schultz 2023).

    Args:
        module: Name of the module whose output is coded; ``"bottleneck"`` of our `UNet`.
        autoencoder: A fitted autoencoder of that module; None fits one in `fit`, through the store.
        training: Arguments of `fit_autoencoder` for that.
        validation: Validation cohort for `fit_autoencoder`.
        squared: Whether the distance is squared; the ranks are the same.
        batch_size: Cases per pass; it bounds the memory.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> coder = ActivationAutoencoder(shape=(3, 4, 4), code=2, width=4, depth=1).eval()
        >>> features = torch.randn(9, 3, 4, 4)
        >>> method = LatentMahalanobis(autoencoder=coder).fit_features(features)
        >>> method.uncertainty_of_features(features).shape
        torch.Size([9])
    """

    def __init__(
        self,
        *,
        module: str = "bottleneck",
        autoencoder: ActivationAutoencoder | None = None,
        training: Training | Mapping[str, Any] | None = None,
        validation: Cohort | None = None,
        squared: bool = False,
        batch_size: int = 64,
    ) -> None:
        super().__init__(module=module, squared=squared, batch_size=batch_size)
        if autoencoder is not None:
            device_of(autoencoder)  # refuses what is no module
        self.autoencoder, self._passed = autoencoder, autoencoder
        self.training, self.validation = as_settings(training), validation

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train the autoencoder, unless one was passed, then fit mean and covariance of its codes.

        Args:
            unet: Network from images (B, channels, H, W) to logits (B, C, H, W).
            source_cohort: The cases that the network was trained on.
        """
        check_fit_arguments(unet, source_cohort)
        self.autoencoder = self._passed
        if self.autoencoder is None:
            options: dict[str, Any] = {"validation": self.validation, "module": self.module, **self.training}
            self.autoencoder = fitted(fit_autoencoder, unet, source_cohort, **options)
        return super().fit(unet, source_cohort)

    def _vector(self, activation: Tensor) -> Tensor:
        if self.autoencoder is None:
            raise check.refuse("autoencoder", "a fitted one for fit_features", None, "pass autoencoder=")
        if self._unet is not None:
            check_same_device(self._unet, autoencoder=self.autoencoder)
        with torch.no_grad():
            return self.autoencoder.moments(network_input(activation, self.autoencoder, copy=False))[0]
