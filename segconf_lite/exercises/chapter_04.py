"""Checks of the exercises of chapter 4."""

from __future__ import annotations

import numpy as np

from segconf_lite.exercises.answers import (
    Function,
    NotYetError,
    _call,
    _compare,
    _number,
    _numbers,
)


def check_step(step: Function) -> None:
    """Check a function that makes one step of the adversary, x − α g / ‖g‖².

    Args:
        step: Function of the image x (H, W), the gradient g (H, W) of the predicted Dice, and the fall α.

    Raises:
        NotYetError: If the function is not right; the message says what it does instead.

    Example:
        >>> check_step(lambda x, g, alpha: x + alpha * g / (g**2).sum())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you went along the gradient, so the prediction rises...
    """
    x, g, alpha = np.array([[0.2, -1.0], [0.4, 1.5]]), np.array([[3.0, 0.0], [0.0, 4.0]]), 0.5
    wrong = {
        "you went along the gradient, so the prediction rises: go against it": x + alpha * g / 25,
        "you divided by ‖g‖: then the step has the length α. Divide by ‖g‖²": x - alpha * g / 5,
        "you did not divide by ‖g‖²: then the prediction falls by α ‖g‖²": x - alpha * g,
        "you kept the signs of the gradient only: that is the step of FGSM": x - alpha * np.sign(g),
        "that is the change alone: add it to the image": -alpha * g / 25,
    }
    _compare(_call(step, x.copy(), g.copy(), alpha), x - alpha * g / 25, wrong)
    print("Right: a linear prediction falls by 0.50, and the step has the length α / ‖g‖ = 0.10.")


def check_noise(noise: Function) -> None:
    """Check a function that draws a random change as long as a given one: the control of an adversary.

    Args:
        noise: Function of a change (H, W) and of a numpy generator. It returns a change of the same shape and
            length (root of the sum of squares) in a random direction.

    Raises:
        NotYetError: If the length differs, or the direction is not random; the message says which.

    Example:
        >>> check_noise(lambda change, rng: rng.normal(size=change.shape))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: its length is ... and the change has the length 2.00...
    """
    change = np.zeros((32, 32))
    change[10:14, 10:14] = 0.5
    first, second = (_numbers(_call(noise, change.copy(), np.random.default_rng(seed))) for seed in (0, 1))
    if first.shape != change.shape:
        raise NotYetError(f"expected a change of shape {change.shape}, got {first.shape}")
    if np.allclose(first, second):
        raise NotYetError(
            "two generators give the same change: draw it with the generator that is handed over"
        )
    if not np.isclose(np.linalg.norm(first), 2.0):
        length = np.linalg.norm(first)
        raise NotYetError(
            f"its length is {length:.2f}, and the change has the length 2.00: scale what you draw"
        )
    if not first[change == 0].any():
        raise NotYetError(
            "it changes only the pixels that the adversary changed, so it is no random direction"
        )
    if first.mean() > 0.01:
        raise NotYetError(
            "all pixels become brighter: draw numbers of both signs, for example from a normal law"
        )
    print("Right: as long as the change of the adversary, and in another direction each time.")


def check_controller(controller: Function) -> None:
    """Check a controller that adjusts α until the prediction falls by the effect size.

    It is tried on predictors that are not linear: three predictions between 0.8 and 0.95, each the logistic
    function of a linear score, so that a step of size α lowers them by another amount than α.

    Args:
        controller: Function of α, of the mean fall of the prediction with it, and of the effect size. It
            returns the next α.

    Raises:
        NotYetError: If the fall does not settle within 5 % of the effect sizes 0.05, 0.1, 0.2 and 0.3.

    Example:
        >>> check_controller(lambda alpha, fall, effect_size: effect_size)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: with the effect size 0.05 the fall is 0.066 after 300 steps
    """
    predicted = np.array([0.8, 0.9, 0.95])
    slope, score = predicted * (1 - predicted), np.log(predicted / (1 - predicted))

    def fall_of(alpha: float) -> float:
        return float(np.mean(predicted - 1 / (1 + np.exp(np.clip(alpha / slope - score, -50, 50)))))

    settled = {}
    for effect_size in (0.05, 0.1, 0.2, 0.3):
        alpha = 0.3
        for _ in range(300):
            alpha = _number(_call(controller, alpha, fall_of(alpha), effect_size))
            if not 0 < alpha < 1e6:
                break
        settled[effect_size] = (alpha, fall_of(alpha))
    for effect_size, (alpha, fall) in settled.items():
        aim = f"with the effect size {effect_size:g}"
        if alpha <= 0 or (alpha > 10 and fall > effect_size) or alpha >= 1e6:
            raise NotYetError(f"{aim} α runs away to {alpha:.2g}: lower α where the fall is too large")
        if np.isclose(alpha, 0.3, rtol=1e-9):
            raise NotYetError(f"α stays 0.3, so {aim} the prediction falls by {fall:.2f}")
        if abs(fall - effect_size) > 0.05 * effect_size:
            raise NotYetError(f"{aim} the fall is {fall:.3f} after 300 steps")
    told = ", ".join(f"{alpha:.3f} for {aim:g}" for aim, (alpha, _) in settled.items())
    print(f"Right: every fall settles at its effect size, with α = {told}.")


def check_attack(attack: Function) -> None:
    """Check and score a change of the image that lowers the true Dice while the predicted Dice does not fall.

    Args:
        attack: Function of the gradient of the predicted Dice, of that of the true Dice, both (H, W), and of
            the largest length. It returns a change (H, W).

    Raises:
        NotYetError: If the change is too long, the prediction falls, or less than 99 % of the possible fall
            of the true Dice is reached.

    Example:
        >>> check_attack(lambda predicted, true, length: -length * true / np.linalg.norm(true))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: the predicted Dice falls by 0..., so the predictor notices
    """
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(2, 8, 8))
    predicted, true, length = shared / 8, (shared + 0.8 * own) / 8, 0.2
    change = _numbers(_call(attack, predicted.copy(), true.copy(), length))
    if change.shape != true.shape:
        raise NotYetError(f"expected a change of shape {true.shape}, got {change.shape}")
    if np.linalg.norm(change) > 1.001 * length:
        raise NotYetError(
            f"the change has the length {np.linalg.norm(change):.2f}, and {length:.2f} is allowed"
        )
    noticed, harm = -(predicted * change).sum(), -(true * change).sum()
    if noticed > 1e-6:
        raise NotYetError(f"the predicted Dice falls by {noticed:.3f}, so the predictor notices")
    hidden = true - predicted * (true * predicted).sum() / (predicted**2).sum()
    possible = length * np.linalg.norm(hidden)
    if harm < 0:
        raise NotYetError(f"the true Dice rises by {-harm:.3f}: it is the one that must fall")
    if harm < 0.99 * possible:
        raise NotYetError(f"the true Dice falls by {harm:.3f} unnoticed, and {possible:.3f} is possible")
    print(f"Right: the true Dice falls by {harm:.3f} and the predicted one by {max(noticed, 0):.3f}.")
