"""What a `Cohort` checks of its arrays, with messages that say how to mend them."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}; try {name}={least}")


def check_images(images: Any) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        got = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"images must be a float32 numpy array, got {got}; normalise, then images.astype('float32')"
        )
    if images.ndim != 4 or images.shape[1] != 1 or 0 in images.shape:
        raise ValueError(
            f"images must be non-empty (N, 1, H, W), got {images.shape}; "
            "a stack of slices (N, H, W) becomes one with images[:, None]"
        )
    if not np.isfinite(images).all():
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        raise ValueError(
            f"images must be finite, got NaN or infinity in {len(bad)} cases (first: case {bad[0]}); "
            "z-scoring a constant slice does this"
        )


def check_labels(name: str, labels: Any, image_shape: tuple[int, ...], n_classes: int) -> None:
    expected = (image_shape[0], *image_shape[2:])
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int64:
        got = getattr(labels, "dtype", type(labels).__name__)
        raise ValueError(f"{name} must be an int64 numpy array, got {got}; use labels.astype('int64')")
    if labels.shape != expected:
        raise ValueError(f"{name} must match images, expected shape {expected}, got {labels.shape}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"{name} must lie in 0..{n_classes - 1} ({n_classes} class_names), "
            f"got {labels.min()}..{labels.max()}; name the extra classes or remap them"
        )


def check_raters(raters: Any, image_shape: tuple[int, ...], n_classes: int) -> None:
    if not isinstance(raters, np.ndarray) or raters.ndim != 4 or raters.shape[1] == 0:
        raise ValueError(f"raters must be (N, R, H, W) with R >= 1, got {getattr(raters, 'shape', raters)}")
    for r in range(raters.shape[1]):
        check_labels(f"raters[:, {r}]", raters[:, r], image_shape, n_classes)
