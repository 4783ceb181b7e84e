"""Labels that provably hold against any change of an image up to a length, and no label where they do not.

The certified network is the *smoothed* one: what the given network says under Gaussian noise, by majority.
Fischer, Baader & Vechev, "Scalable Certified Segmentation via Randomized Smoothing" (ICML 2021), on the
theorem of Cohen et al. (ICML 2019). Shape letters: N cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom, norm
from torch import Tensor, nn

from segconf_lite.models.device import device_of, kept_random_state
from segconf_lite.models.unet import predict_probabilities
from segconf_lite.stress._reach import Images, to_images

__all__ = ["Certified", "certified_segmentation", "rejected"]

CORRECTIONS = ("holm", "bonferroni")


class Certified(NamedTuple):
    """Labels, and how far they hold."""

    labels: Tensor  # (N, H, W) int64; -1 where it abstains
    radius: float  # L2 length of a change of the whole image, in grey values
    p_values: Tensor  # (N, H, W) float64, one per pixel, not corrected


def certified_segmentation(
    network: nn.Module, images: Images, *, sigma: float, generator: torch.Generator, n_samples: int = 100,
    n_choose: int = 10, alpha: float = 0.001, tau: float = 0.75, correction: str = "holm",
    batch_size: int = 64,
) -> Certified:  # fmt: skip
    """Label of each pixel under noise, kept where it is sure to have a probability above tau.

    `n_choose` noisy copies of an image elect a label per pixel, and `n_samples` others test it: one-sided
    binomial, H0: its probability is at most tau. The tests of all pixels of an image are corrected together.
    So, for each image, with probability >= 1 - alpha over the noise: none of its labels (-1 aside) changes in
    the smoothed network under any change of the image shorter than `radius` = sigma * Phi^-1(tau).

    Algorithm 2 (SegCertify) there. Neither a label that is right nor the given network itself is certified.

    Args:
        network: maps (N, 1, H, W) to logits (N, C, H, W); in eval mode meanwhile, modes are put back.
        images: (N, 1, H, W), finite, any grey values; noise is added without a clamp.
        sigma: standard deviation of the noise, in grey values, > 0.
        generator: of the noise.
        n_samples, n_choose: noisy copies per image, >= 1.
        alpha: greatest probability of a false label anywhere in an image, in (0, 1).
        tau: in [0.5, 1); higher certifies a longer radius, and fewer pixels.
        correction: ``"holm"``, or ``"bonferroni"``, which rejects no more.
        batch_size: copies per pass; the noise is drawn copy by copy, so it does not change the result.

    Raises:
        ValueError: If an argument is out of its range, or `n_samples` could not certify a single pixel.
    """
    centre = to_images(images)
    if next(network.parameters(), None) is None:
        raise ValueError(
            "the network has no parameters; give one an nn.Parameter, which says where it computes"
        )
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be finite and > 0, got {sigma}")
    if min(n_samples, n_choose, batch_size) < 1:
        raise ValueError(f"expected counts >= 1, got {n_samples}, {n_choose} and {batch_size}")
    if not (0 < alpha < 1 and 0.5 <= tau < 1):
        raise ValueError(f"expected alpha in (0, 1) and tau in [0.5, 1), got {alpha} and {tau}")
    _check_correction(correction)
    pixels = centre[0].numel()
    needed = math.ceil(math.log(alpha / pixels) / math.log(tau))  # all copies agree: p = tau ** n_samples
    if n_samples < needed:
        raise ValueError(
            f"{n_samples} samples cannot certify any of {pixels} pixels at alpha {alpha} and tau {tau}, even "
            f"if all agree; take n_samples >= {needed}, or a lower tau"
        )
    p_of_count = torch.from_numpy(binom.sf(np.arange(n_samples + 1) - 1, n_samples, tau))  # P(X >= count)
    labels, p_values = [], []
    for image in centre:
        votes = _noisy_labels(network, image, sigma, n_choose, generator, batch_size)
        tests = _noisy_labels(network, image, sigma, n_samples, generator, batch_size)
        elected = votes.mode(dim=0).values  # (H, W); the lowest of equally frequent labels
        p_values.append(p_of_count[(tests == elected).sum(dim=0)])
        sure = rejected(p_values[-1], alpha=alpha, correction=correction)
        labels.append(torch.where(sure, elected, -1))
    return Certified(torch.stack(labels), float(sigma * norm.ppf(tau)), torch.stack(p_values))


def rejected(p_values: Tensor, *, alpha: float, correction: str) -> Tensor:
    """Which hypotheses fall, bool, if no true one among them all may fall with a probability above alpha.

    Args:
        p_values: of any shape, one family.
        alpha: the probability of any false rejection.
        correction: ``"holm"`` (Holm 1979): the k-th smallest of m is compared to alpha / (m - k + 1), until
            one stays. ``"bonferroni"``: all to alpha / m.

    Raises:
        ValueError: If the correction is neither.
    """
    _check_correction(correction)
    p_values = p_values.cpu()
    flat = p_values.flatten()
    if correction == "bonferroni":
        return p_values <= alpha / len(flat)
    ordered, order = flat.sort()
    passes = ordered <= alpha / torch.arange(len(flat), 0, -1, dtype=flat.dtype)
    falls = torch.zeros_like(flat, dtype=torch.bool)
    falls[order] = passes.cummin(dim=0).values  # none after the first that stays
    return falls.reshape(p_values.shape)


def _check_correction(correction: str) -> None:
    if correction not in CORRECTIONS:
        raise ValueError(f"correction must be one of {CORRECTIONS}, got {correction!r}")


def _noisy_labels(
    network: nn.Module, image: Tensor, sigma: float, count: int, generator: torch.Generator, batch_size: int
) -> Tensor:
    """Labels (count, H, W) of noisy copies of an image (1, H, W)."""
    found = []
    for first in range(0, count, batch_size):
        noise = [
            torch.randn(image.shape, generator=generator, device=generator.device).cpu()
            for _ in range(min(batch_size, count - first))
        ]
        copies = image + sigma * torch.stack(noise)
        with kept_random_state(device_of(network)):  # the network may draw, too
            chances = predict_probabilities(network, copies, batch_size=batch_size)
        expected = (len(copies), *image.shape[1:])
        if chances.ndim != 4 or (len(chances), *chances.shape[2:]) != expected:
            raise ValueError(
                f"expected logits (N, C, H, W) for images {tuple(copies.shape)}, got {tuple(chances.shape)}"
            )
        if not torch.isfinite(chances).all():
            raise ValueError(
                "the network answers NaN on noisy copies, which certifies nothing; lower sigma or look for "
                "NaN among its weights"
            )
        found.append(chances.argmax(dim=1))
    return torch.cat(found)
