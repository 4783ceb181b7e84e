"""Checks of the exercises in chapters 6 to 8; they work as those of `exercises` do.

A check of a function tries it on a small case and compares the result with those of common mistakes. A check
of a setting computes what follows from it. An exercise that asks the reader to break something has a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from segconf_lite.claims import ledger
from segconf_lite.exercises.answers import (
    Function,
    NotYetError,
    _number,
    _numbers,
    _over_runs,
    _trial,
)


def check_forward(forward: Function) -> None:
    """Check a function that makes the forward pass of a U-Net of two levels, with its skip connection.

    Args:
        forward: Function of an image (C, H, W) and of three functions of such arrays: encoder, bottleneck and
            decoder. The bottleneck works at half the resolution. The decoder gets the features of the encoder
            first, and then, as further channels, what comes from the bottleneck.

    Raises:
        NotYetError: If the function is not right; the message says what it does instead.

    Example:
        >>> check_forward(lambda x, encoder, bottleneck, decoder: decoder(encoder(x)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the bottleneck is not used...
    """
    image = np.arange(16.0).reshape(1, 4, 4) ** 2

    def encoder(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, 2 * x])

    def bottleneck(x: np.ndarray) -> np.ndarray:
        return np.sqrt(x)

    def decoder(x: np.ndarray) -> np.ndarray:
        return np.tensordot(1.0 + np.arange(len(x)), x, 1)

    features = encoder(image)
    halved = features.reshape(2, 2, 2, 2, 2).max(axis=(2, 4))
    deep = bottleneck(halved).repeat(2, axis=1).repeat(2, axis=2)
    wrong = {
        "the skip connection is missing: the decoder also gets the features of the encoder": decoder(deep),
        "the bottleneck is not used: the decoder sees the features of the encoder alone": decoder(features),
        "you added the features: a U-Net joins them as further channels": decoder(features + deep),
        "the image is handed over: the skip connection carries the features of the encoder": decoder(
            np.concatenate([image, deep])
        ),
        "the order is wrong: the channels of the encoder come first": decoder(
            np.concatenate([deep, features])
        ),
        "the bottleneck works at half the resolution: halve before it, and double after it": decoder(
            np.concatenate([features, bottleneck(features)])
        ),
    }
    right = decoder(np.concatenate([features, deep]))
    _trial(forward, (image, encoder, bottleneck, decoder), right, wrong)
    print("Right: the decoder sees what is fine (from the encoder) and what is coarse (from the bottleneck).")


def check_explained(explained: Function) -> None:
    """Check a function that computes the fraction of the variance that lies between the levels of a factor.

    Args:
        explained: Function of values (N,) and of the level (N,) of each. It returns a number from 0 to 1.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_explained(lambda values, levels: 0.5)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: expected 0.9..., got 0.5
    """
    values, levels = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.85]), np.array(list("bbiiii"))
    means = {level: values[levels == level].mean() for level in "bi"}
    each = np.array([means[level] for level in levels])
    share = each.var() / values.var()
    wrong = {
        "that is the fraction *within* the levels: subtract it from 1": 1 - share,
        "each level counts once here: a level with more values must count more": np.var([*means.values()])
        / values.var(),
        "that is a ratio of standard deviations: the variance is their square": each.std() / values.std(),
        "divide by the variance of all values: a fraction has no unit": each.var(),
        "that is the difference of the best and the worst level, the range of the chapter": np.ptp(each),
    }
    _trial(explained, (values, levels), share, wrong)
    print(f"Right: the two levels explain {share:.0%} of the variance of these six numbers.")


def check_noise_level(sigma: float) -> None:
    """Check a noise level that halves the contrast of an image that is z-scored before and after.

    Args:
        sigma: Standard deviation of the noise, in standard deviations of the image.

    Raises:
        NotYetError: If another part of the contrast is left; the message says how much.

    Example:
        >>> check_noise_level(1.0)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: with this noise, 71% of the contrast is left...
    """
    level = _number(sigma)
    drawn = np.random.default_rng(0).normal(size=200_000)
    half = np.arange(len(drawn)) % 2 > 0  # object and background, of equal size
    noisy = np.where(half, 1.0, -1.0) + level * drawn
    left = (noisy[half].mean() - noisy[~half].mean()) / noisy.std() / 2
    if abs(left - 0.5) > 0.01:
        raise NotYetError(
            f"with this noise, {left:.0%} of the contrast is left after z-scoring, and not a half; "
            "variances add up, and standard deviations do not"
        )
    print(f"Right: the standard deviation becomes {noisy.std():.2f}, and {left:.0%} of the contrast is left.")


def check_blind_mask(references: np.ndarray, mask: np.ndarray, *, limit: float) -> None:
    """Score one mask that is used for every image: a segmentation that ignores its input.

    Args:
        references: (N, H, W) true masks.
        mask: (H, W) the mask of the reader, boolean.
        limit: Mean Dice that has to be reached.

    Raises:
        NotYetError: If the mask depends on the image, or its mean Dice is below the limit.

    Example:
        >>> check_blind_mask(np.eye(4, dtype=bool)[None], np.ones((4, 4), bool), limit=0.8)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the mean Dice is 0.40, and 0.80 has to be reached...
    """
    drawn = _numbers(mask)
    if drawn.shape == references.shape:
        raise NotYetError("you have a mask for each image: a blind segmentation has one mask for all of them")
    if drawn.shape != references.shape[1:] or not np.isin(drawn, (0, 1)).all():
        raise NotYetError(f"one boolean mask of shape {references.shape[1:]} is asked for")
    shared = (drawn * references).sum(axis=(1, 2))
    dice = (2 * shared / (drawn.sum() + references.sum(axis=(1, 2)))).mean()
    if dice < limit:
        often = references.mean(axis=0)[drawn > 0]
        lowest = f"some of its pixels are object in {often.min():.0%} of the images" if often.size else ""
        raise NotYetError(
            f"the mean Dice is {dice:.2f}, and {limit:.2f} has to be reached; {lowest or 'it is empty'}"
        )
    print(f"Right: a mean Dice of {dice:.2f} on {len(references)} images, none of which was looked at.")


def check_field(field: Function) -> None:
    """Check a function that computes the receptive field of convolutions and poolings, in pixels.

    Args:
        field: Function of a list of pairs (kernel, stride), one per layer, in the order of the forward pass.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_field(lambda layers: sum(kernel for kernel, stride in layers))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you added the kernels...
    """
    _trial(field, ([(3, 1)],), 3, {"one layer with a kernel of 3 sees 3 pixels: begin with 1": 2})
    wrong = {
        "you added the kernels: neighbouring kernels overlap, so a layer adds its kernel minus 1": 16,
        "the strides are not used: behind a stride of 2, one step is two pixels of the image": 12,
        "the stride of a layer acts on the layers behind it, and not on the layer itself": 25,
        "you multiplied the kernels: a layer adds to the field": 270,
        "the field of a layer alone does not count: sum over all layers": 9,
    }
    _trial(field, ([(5, 1), (3, 2), (3, 1), (2, 2), (3, 1)],), 21, wrong)
    print("Right: five layers see 21 pixels of the image; without the two strides they would see 12.")


def check_ratios(ratios: Function) -> None:
    """Check a function that computes the foreground ratio of each window of a grid without overlap.

    Args:
        ratios: Function of a mask (H, W) and of the edge of a window. Both sides are multiples of the edge.
            It returns one ratio per window, row by row.

    Raises:
        NotYetError: If the function is not right; the message says what it computes instead.

    Example:
        >>> check_ratios(lambda mask, window: mask.mean())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that is the ratio of the whole image...
    """
    mask = np.zeros((4, 6), bool)
    mask[0, :3] = mask[1, 1:3] = mask[2, 4:] = True
    counts = np.array([3.0, 2, 0, 0, 0, 2])
    wrong = {
        "that is the ratio of the whole image: each window has its own": mask.mean(),
        "you divided by the area of the object: divide by the area of the window": counts / counts.sum(),
        "you divided by the area of the image: divide by that of the window": counts / mask.size,
        "those are numbers of pixels: divide by the area of a window": counts,
        "those say whether a window holds any object, and not how much": counts > 0,
        "the windows come column by column: go through the first row first": counts[[0, 3, 1, 4, 2, 5]] / 4,
    }
    _trial(ratios, (mask, 2), counts / 4, wrong)
    print("Right: the six windows have 0.75, 0.50 and 0.00, and then 0.00, 0.00 and 0.50 of object.")


def check_radius(radius: int, *, size: int, window: int) -> None:
    """Check the smallest radius of a centred disc that leaves no window of a grid empty.

    Args:
        radius: The radius, in pixels.
        size: Edge of the image.
        window: Edge of a window; the windows do not overlap.

    Raises:
        NotYetError: If some window is empty, or a smaller disc fills all of them, too.

    Example:
        >>> check_radius(10, size=96, window=32)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: a disc with a radius of 10 leaves 8 of 9 windows empty...
    """
    edge = _number(radius)
    away = np.abs(np.arange(size) - (size - 1) / 2).reshape(-1, window).min(axis=1)
    nearest = np.hypot.outer(away, away)  # distance of each window from the centre of the disc
    empty = int((nearest > edge).sum())
    if edge != round(edge):
        raise NotYetError("give the radius as an integer, as the parameters cell does")
    if empty:
        raise NotYetError(
            f"a disc with a radius of {edge:.0f} leaves {empty} of {nearest.size} windows empty; "
            "the windows in the corners are the farthest"
        )
    if (nearest <= edge - 1).all():
        raise NotYetError(f"a radius of {edge:.0f} leaves no window empty, and neither does a smaller one")
    print(f"Right: the nearest pixels of the corner windows are {nearest.max():.1f} pixels from the centre.")


def check_breaks(dice_with: Function, breaks: Any, *, trained: tuple[int, float], limit: float) -> None:
    """Score the smallest change that breaks each norm: in size for instance norm, in contrast for batch norm.

    Args:
        dice_with: Function of the norm, the radius and the contrast that returns the Dice.
        breaks: The largest radius (an integer) at which instance norm fails, and the largest contrast (to two
            decimals) at which batch norm fails.
        trained: Radius and contrast of the training image; both changes begin there, and go down.
        limit: Dice below which a segmentation has failed.

    Raises:
        NotYetError: If a change does not break the segmentation, or a smaller one does so, too.

    Example:
        >>> def dice_with(norm, radius, contrast):
        ...     return radius / 30 if norm == "instance" else contrast
        >>> check_breaks(dice_with, (20, 0.3), trained=(30, 1.0), limit=0.7)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: batch norm: a smaller change breaks it, too...
    """
    found = _numbers(breaks)
    if found.shape != (2,):
        raise NotYetError("give two numbers: a radius for instance norm, and a contrast for batch norm")
    radius, contrast = found
    tries: list[tuple[str, Callable[[float], float], float, float]] = [
        ("instance norm", lambda r: dice_with("instance", r, trained[1]), radius, 1.0),
        ("batch norm", lambda c: dice_with("batch", trained[0], c), contrast, 0.01),
    ]
    for name, dice, value, step in tries:
        if dice(value) >= limit:
            raise NotYetError(
                f"{name}: with {value:g}, the Dice is {dice(value):.2f}, and that is no failure"
            )
        if dice(value + step) < limit:
            raise NotYetError(f"{name}: a smaller change breaks it, too, for example {value + step:g}")
    rows = "cohort == 'balls' and domain == 'below' and norm == "
    small = {name: _of_rows(7, f"{rows}'{name}'", "quality") for name in ("instance", "batch")}
    others = dice_with("batch", radius, trained[1]), dice_with("instance", trained[0], contrast)
    print(
        f"Right: at these changes, the other norm has a Dice of {others[0]:.2f} (batch norm, radius "
        f"{radius:g}) and of {others[1]:.2f} (instance norm, contrast {contrast:g}). On discs below the "
        f"training range, the mean Dice of the networks of the chapter is {small['instance']} with instance "
        f"norm and {small['batch']} with batch norm."
    )


def check_fgsm(step: Function) -> None:
    """Check a function that makes the step of the fast gradient sign method, x + ε sign(g).

    Args:
        step: Function of the image x (H, W), the gradient g (H, W) of the loss, and ε.

    Raises:
        NotYetError: If the function is not right; the message says what it does instead.

    Example:
        >>> check_fgsm(lambda x, gradient, epsilon: x - epsilon * np.sign(gradient))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you went downhill...
    """
    x, g, eps = np.array([[-1.5, 0.2], [0.9, 2.0]]), np.array([[-0.5, 0.1], [3.0, 0.0]]), 0.25
    wrong = {
        "you went downhill: an attack raises the loss": x - eps * np.sign(g),
        "you added ε g: the size of a pixel's gradient does not count here, only its sign": x + eps * g,
        "that has the length ε in the L2 norm: here every pixel may change by ε": x
        + eps * g / np.linalg.norm(g),
        "the result was clipped to [0, 1]: a z-scored image has no such bounds": np.clip(
            x + eps * np.sign(g), 0, 1
        ),
        "that is the change alone: add it to the image": eps * np.sign(g),
        "a pixel with a gradient of 0 must stay: use `np.sign`": x + eps * np.where(g < 0, -1, 1),
    }
    _trial(step, (x, g, eps), x + eps * np.sign(g), wrong)
    print("Right: a pixel with a gradient of 0.1 moves as far as one with a gradient of 3.0.")


def check_projection(projection: Function) -> None:
    """Check a function that takes an image back to the nearest one within ε of the clean image.

    Args:
        projection: Function of the clean image (H, W), the moved image (H, W), and ε, for the L∞ norm.

    Raises:
        NotYetError: If the function is not right; the message says what it does instead.

    Example:
        >>> check_projection(lambda clean, moved, epsilon: np.clip(moved, -epsilon, epsilon))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you clipped the image itself...
    """
    clean, change, eps = np.array([[1.0, -2.0, 0.5]]), np.array([[0.5, -0.1, -0.3]]), 0.2
    moved = clean + change
    wrong = {
        "you clipped the image itself: clip its change from the clean image": np.clip(moved, -eps, eps),
        "you scaled the whole change: only the pixels beyond ε have to go back": clean + 0.4 * change,
        "that is the nearest image in the L2 norm: here the largest change of a pixel counts": clean
        + eps * change / np.linalg.norm(change),
        "that is the change alone: add it to the clean image": np.clip(change, -eps, eps),
        "every pixel lies on the border now: those within ε must stay": clean + eps * np.sign(change),
    }
    _trial(projection, (clean, moved, eps), clean + np.clip(change, -eps, eps), wrong)
    print("Right: two pixels go back to the border, and the one within ε stays.")


def check_flips(flips: Function) -> None:
    """Check a function that counts the fewest wrong pixels that lower a perfect Dice to a given one.

    Args:
        flips: Function of the area of the object in pixels, and of a Dice, that returns an integer.

    Raises:
        NotYetError: If the function is not right; the message says what it counts instead.

    Example:
        >>> check_flips(lambda area, dice: round(area * (1 - dice)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: that lowers the sensitivity...
    """
    wrong = {
        "that lowers the sensitivity to this value, and the Dice less": 30,
        "those are added around the object: it takes fewer pixels if they are missed inside": 86,
        "you rounded down: the Dice is still above the given one": 46,
        "the missed pixels also make the sum of both areas smaller, so fewer are enough": 60,
        "an integer is asked for: round up": 60 / 1.3,
    }
    _trial(flips, (100, 0.7), 47, wrong)
    _trial(flips, (1000, 0.5), 667, {})
    print("Right: 47 missed pixels of 100 lower the Dice to 0.69; around the object it would take 86.")


def check_sigma(sigma: float, *, epsilon: float, pixels: int, fraction: float) -> None:
    """Check the smallest noise of a smoothing certificate that covers a change of ε in every pixel.

    Args:
        sigma: Standard deviation of the noise, to two decimals.
        epsilon: Change of each pixel, in the same unit.
        pixels: Number of pixels.
        fraction: Fraction of the votes that the certificate asks for.

    Raises:
        NotYetError: If the certified length is too short, or longer than it has to be.

    Example:
        >>> check_sigma(0.25, epsilon=0.01, pixels=9216, fraction=0.75)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the certified length is 0.169...
    """
    level, length = _number(sigma), epsilon * math.sqrt(pixels)
    certified = level * norm.ppf(fraction)
    if certified < length:
        raise NotYetError(
            f"the certified length is {certified:.3f}, and the change has a length of {length:.3f}: "
            "a certificate of this noise does not cover it"
        )
    if (level - 0.01) * norm.ppf(fraction) >= length:
        raise NotYetError(
            f"the certified length is {certified:.3f}, which is more than {length:.3f} asks for"
        )
    print(
        f"Right: noise of {level:.2f} standard deviations in each pixel, to certify a change of {epsilon:g}."
    )


def check_epsilon(dice_under: Function, epsilon: float, *, limit: float) -> None:
    """Score the smallest size of an attack that takes the Dice below a limit.

    What it prints for comparison is read from the stored runs of chapter 8.

    Args:
        dice_under: Function of the size ε that returns the Dice under the attack.
        epsilon: The size, to two decimals.
        limit: The limit of the Dice.

    Raises:
        NotYetError: If the Dice is not below the limit, or a smaller attack takes it there, too.

    Example:
        >>> check_epsilon(lambda epsilon: 1 - epsilon, 0.5, limit=0.7)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: a smaller attack does it, too: at 0.49, the Dice is 0.51...
    """
    size = _number(epsilon)
    if (dice := dice_under(size)) >= limit:
        raise NotYetError(f"at {size:g}, the Dice is {dice:.2f}, which is not below {limit:g}")
    if (dice := dice_under(size - 0.01)) < limit:
        raise NotYetError(f"a smaller attack does it, too: at {size - 0.01:.2f}, the Dice is {dice:.2f}")
    cases = ledger.stored_cases(8).query("cohort == 'attack'")
    runs = cases.groupby(["seed", "eps"])["worst"].mean().unstack()
    crossed = pd.Series([np.interp(-limit, -row, runs.columns) for row in runs.to_numpy()], runs.index)
    print(
        f"Right: an attack of {size:.2f} standard deviations. For the U-Net of the chapter, under the worst "
        f"of five attacks and interpolated between their sizes, it is {_over_runs(crossed)}."
    )


def _of_rows(chapter: int, rows: str, column: str) -> str:
    """Mean and interval over the stored runs of a chapter: what a lecturer can expect of a class."""
    return _over_runs(ledger.stored_cases(chapter).query(rows).groupby("seed")[column].mean())
