"""Randomised smoothing: labels that provably do not change under any small enough change of the image.

Certified is the *smoothed* network: the majority vote of a network under Gaussian noise. Where the vote is
not clear enough it abstains. Fischer, Baader & Vechev, "Scalable Certified Segmentation via Randomized
Smoothing" (ICML 2021), on the theorem of Cohen et al. (ICML 2019). Shape letters: N cases, C classes, H rows,
W columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom, norm
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.models.device import device_of, kept_random_state
from segconf_lite.models.unet import predict_probabilities
from segconf_lite.stress.inputs import LARGEST, MOST, Images, checked_generator, of_type, to_images

CORRECTIONS = ("holm", "bonferroni")


class Certified(NamedTuple):
    """Certified labels and the length of a change that they withstand.

    Attributes:
        labels: Labels (N, H, W) int64; -1 where the smoothed network abstains.
        radius: L2 length of a change of the whole image, all channels together, in intensities.
        p_values: P values (N, H, W) float64, one per pixel, not corrected.

    Example:
        >>> certified = Certified(torch.tensor([[[1, -1]]]), 0.17, torch.tensor([[[1e-9, 0.4]]]))
        >>> (certified.labels >= 0).float().mean()  # fraction of certified pixels
        tensor(0.5000)
    """

    labels: Tensor
    radius: float
    p_values: Tensor


def certified_segmentation(
    network: nn.Module,
    images: Images,
    *,
    sigma: float,
    generator: torch.Generator,
    n_samples: int = 100,
    n_choose: int = 10,
    alpha: float = 0.001,
    tau: float = 0.75,
    correction: str = "holm",
    batch_size: int = 64,
) -> Certified:
    r"""Label of each pixel under noise, certified where its probability is surely above tau (SegCertify).

    `n_choose` noisy copies of an image elect a label per pixel, and `n_samples` others test it: one-sided
    binomial test, H0: the probability of the label is at most tau. The tests of all pixels of an image are
    corrected together. For each image, with probability >= 1 - alpha over the noise: none of its labels (-1
    aside) changes in the smoothed network under any change of the image shorter than

    .. math:: R = \sigma\,\Phi^{-1}(\tau).

    This is algorithm 2 of Fischer et al. It certifies neither that a label is right nor the network itself.

    Args:
        network: Network that maps (N, channels, H, W) to logits (N, C, H, W); in eval mode meanwhile, modes
            are restored.
        images: Images (N, channels, H, W), finite, in any units; noise is added to every channel without
            clipping.
        sigma: Standard deviation of the noise, in intensities, > 0.
        generator: Random generator of the noise.
        n_samples: Noisy copies per image that test the labels, >= 1.
        n_choose: Noisy copies per image that elect the labels, >= 1.
        alpha: Largest allowed probability of a false certificate anywhere in an image, in (0, 1).
        tau: Probability that a certified label must exceed, in [0.5, 1); a higher one certifies a larger
            radius, and fewer pixels.
        correction: ``"holm"``, or ``"bonferroni"``, which rejects no more.
        batch_size: Copies per pass; the noise is drawn copy by copy, so it does not change the result.

    Raises:
        ValueError: If an argument is invalid, `n_samples` could not certify a single pixel, or logits are not
            finite.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # above 0 is class 1
        >>> images = torch.tensor([[[[3.0, 0.0, -3.0]]]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> certified = certified_segmentation(network, images, sigma=1.0, generator=generator)
        >>> certified.labels.tolist(), round(certified.radius, 3)
        ([[[1, -1, 0]]], 0.674)
    """
    clean = to_images(images, channels=None)
    sigma = check.number("sigma", sigma, low=0, high=LARGEST, open_low=True)
    of_type("network", network, nn.Module)
    checked_generator(generator)
    n_samples = check.integer("n_samples", n_samples, low=1, high=MOST)
    n_choose = check.integer("n_choose", n_choose, low=1, high=MOST)
    batch_size = check.integer("batch_size", batch_size, low=1)
    alpha = check.number("alpha", alpha, low=0, high=1, open_low=True, open_high=True)
    tau = check.number("tau", tau, low=0.5, high=1, open_high=True)
    check.one_of("correction", correction, CORRECTIONS)
    pixels = clean[0, 0].numel()  # each has one label, however many channels it has
    needed = math.ceil(math.log(alpha / pixels) / math.log(tau))  # all copies agree: p = tau ** n_samples
    if n_samples < needed:
        fix = "with fewer no pixel can be certified, even if all agree; or take a lower tau"
        raise check.refuse("n_samples", f">= {needed} for {pixels} pixels", n_samples, fix)
    p_of_count = torch.from_numpy(binom.sf(np.arange(n_samples + 1) - 1, n_samples, tau))  # P(X >= count)
    labels, p_values = [], []
    for image in clean:
        votes = _noisy_labels(network, image, sigma, n_choose, generator, batch_size)
        tests = _noisy_labels(network, image, sigma, n_samples, generator, batch_size)
        elected = votes.mode(dim=0).values  # (H, W); the lowest of equally frequent labels
        p_values.append(p_of_count[(tests == elected).sum(dim=0)])
        sure = rejected(p_values[-1], alpha=alpha, correction=correction)
        labels.append(torch.where(sure, elected, -1))
    return Certified(torch.stack(labels), float(sigma * norm.ppf(tau)), torch.stack(p_values))


def rejected(p_values: Tensor, *, alpha: float, correction: str) -> Tensor:
    """Hypotheses that are rejected, bool, with family-wise error rate at most alpha.

    Args:
        p_values: P values of one family, of any shape, in [0, 1].
        alpha: Largest allowed probability of any false rejection, in (0, 1).
        correction: ``"holm"`` (Holm 1979): the k-th smallest of m is compared to alpha / (m - k + 1), until
            one stays. ``"bonferroni"``: all are compared to alpha / m.

    Returns:
        As `p_values`, on the CPU; True where the hypothesis is rejected.

    Raises:
        ValueError: If an argument is invalid.

    Example:
        >>> rejected(torch.tensor([0.01, 0.02, 0.04]), alpha=0.05, correction="holm")
        tensor([True, True, True])
        >>> rejected(torch.tensor([0.01, 0.02, 0.04]), alpha=0.05, correction="bonferroni")
        tensor([ True, False, False])
    """
    check.one_of("correction", correction, CORRECTIONS)
    alpha = check.number("alpha", alpha, low=0, high=1, open_low=True, open_high=True)
    p_values = of_type("p_values", p_values, Tensor).cpu()
    flat = p_values.flatten()
    if not len(flat) or not flat.is_floating_point() or not ((flat >= 0) & (flat <= 1)).all():
        raise check.refuse("p_values", "numbers in [0, 1]", p_values)
    if correction == "bonferroni":
        return p_values <= alpha / len(flat)
    ordered, order = flat.sort()
    passes = ordered <= alpha / torch.arange(len(flat), 0, -1, dtype=flat.dtype)
    falls = torch.zeros_like(flat, dtype=torch.bool)
    falls[order] = passes.cummin(dim=0).values  # none after the first that stays
    return falls.reshape(p_values.shape)


def _noisy_labels(
    network: nn.Module, image: Tensor, sigma: float, count: int, generator: torch.Generator, batch_size: int
) -> Tensor:
    """Labels (count, H, W) of noisy copies of an image (channels, H, W)."""
    labels = []
    for first in range(0, count, batch_size):
        noise = [
            torch.randn(image.shape, generator=generator, device=generator.device).cpu()
            for _ in range(min(batch_size, count - first))
        ]
        copies = image + sigma * torch.stack(noise)
        with kept_random_state(device_of(network)):  # the network may draw, too
            labels.append(predict_probabilities(network, copies, batch_size=batch_size).argmax(dim=1))
    return torch.cat(labels)
