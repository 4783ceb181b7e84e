"""Reverse classification accuracy: does a classifier that learns from a prediction work on known cases?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from segconf_lite import check
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.evaluation.quality import dice_per_case

if TYPE_CHECKING:
    from torch import Tensor

_SCALES_PX = (1.0, 2.0, 4.0)
_STEPS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column)


def reverse_classification_accuracy(
    images: Tensor | np.ndarray,
    labels: Any,
    references: Cohort,
    *,
    n_trees: int = 20,
    seed: int = 0,
) -> np.ndarray:
    r"""Predicted quality of segmentations, from the labels of other cases.

    For each case, a classifier of pixels :math:`f` learns from its image and its *predicted* labels alone. It
    then segments the references, whose labels :math:`y_r` are known:

    .. math:: \max_r \mathrm{Dice}(f(x_r), y_r)

    The idea is that what was learned from a good segmentation works on one reference at least. The classifier
    here is a forest of extremely randomised trees on intensities at three scales, gradients, intensities
    around the pixel and the pixel's position (Valindria et al., IEEE TMI 36:1597, 2017, compare a forest, a
    network and registration).

    Args:
        images: Images (N, channels, H, W) of the cases, numpy or torch.
        labels: (N, H, W) predicted labels, numpy or torch.
        references: Cases with known labels, of the same size and channels. They should be like the cases: a
            bright scanner and a dark one do not understand each other.
        n_trees: Trees of each forest, 1 to 10,000.
        seed: Seed of the forests.

    Returns:
        (N,) float64 in [0, 1], higher = better: the largest mean Dice over the foreground classes of a
        reference. 0 for a case without any predicted foreground.

    Raises:
        ValueError: If shapes do not fit, images are not finite, or the references have no foreground.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> cohort, known = phantom.cohort(2, size=32), phantom.cohort(4, size=32, seed=1)
        >>> wrong = np.roll(cohort.labels, 8, axis=2)
        >>> right, shifted = (
        ...     reverse_classification_accuracy(cohort.images, labels, known).mean()
        ...     for labels in (cohort.labels, wrong)
        ... )
        >>> bool(right > shifted)
        True
    """
    from sklearn.ensemble import ExtraTreesClassifier  # takes a second to load

    check.instance("references", references, Cohort)
    check.image_batch(images, channels=references.images.shape[1])
    n_trees = check.integer("n_trees", n_trees, low=1, high=10_000, fix="more trees take minutes per case")
    seed = check.integer("seed", seed, low=0, high=2**32 - 1)
    cases, size = to_numpy(images), references.images.shape[2:]
    n_classes = len(references.class_names)
    predicted = check.label_map("labels", labels, shape="N H W", n_classes=n_classes)
    if cases.shape[2:] != size or predicted.shape != (len(cases), *size):
        fix = "resample the cases, or take other references"
        raise check.refuse("images and labels", f"of the references' size {size}", f"{cases.shape[2:]}", fix)
    useful = (references.labels > 0).any(axis=(1, 2))
    if not useful.any():
        raise check.refuse("references", "cases with foreground", "background only")
    known, truth = features(references.images[useful]), references.labels[useful]
    quality = np.zeros(len(cases))
    for k, (image, mask) in enumerate(zip(cases, predicted, strict=True)):
        if (mask > 0).any():
            forest = ExtraTreesClassifier(n_trees, min_samples_leaf=3, random_state=seed)
            forest.fit(features(image[None]), mask.ravel())
            again = forest.predict(known).reshape(truth.shape)
            quality[k] = np.nanmax(dice_per_case(again, truth, n_classes=n_classes, empty="skip"))
    return quality


def features(images: np.ndarray) -> np.ndarray:
    """What the classifier sees of each pixel.

    Args:
        images: (N, channels, H, W).

    Returns:
        (N * H * W, F) float32: of each channel the intensity, its Gaussian averages and their gradients at
        three scales, and the averages 6 and 12 pixels away in eight directions; then row and column from -1
        to 1.

    Example:
        >>> features(np.zeros((2, 1, 8, 8))).shape
        (128, 25)
    """
    values = np.asarray(images, np.float32)
    count, _, height, width = values.shape
    maps = [values]
    for scale in _SCALES_PX:
        smooth = ndimage.gaussian_filter(values, (0, 0, scale, scale))
        rows, columns = np.gradient(smooth, axis=(2, 3))
        maps += [smooth, np.hypot(rows, columns)]
        if scale > 1:
            maps += [
                ndimage.shift(smooth, (0, 0, 3 * scale * row, 3 * scale * column), order=0, mode="nearest")
                for row, column in _STEPS
            ]
    grid = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.broadcast_to(np.stack(grid)[None], (count, 2, height, width))
    every = np.concatenate([*maps, places], axis=1)
    return np.moveaxis(every, 1, -1).reshape(count * height * width, -1).astype(np.float32)
