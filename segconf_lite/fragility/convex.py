"""The true flip cost of the last layer, by a convex solver: what the closed form is checked against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize, special
from torch import nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.fragility.flip_cost import accumulate_fisher, find_head, head_pass, head_terms
from segconf_lite.models.batches import network_input
from segconf_lite.models.splice import frozen

__all__ = ["ConvexCheck", "check_closed_form"]


class ConvexCheck(NamedTuple):
    """Flip costs of n pixels over the last layer, in nats a training pixel."""

    closed: np.ndarray  # (n,) by the closed form
    exact: np.ndarray  # (n,) by the solver


def check_closed_form(
    unet: nn.Module, train: Cohort, images: np.ndarray, pixels: np.ndarray, *, n_training: int = 12000,
    seed: int = 0,
) -> ConvexCheck:  # fmt: skip
    """Flip costs by the closed form, and by sequential quadratic programming on the loss itself.

    The loss is the mean Kullback-Leibler divergence, over training pixels, of the altered answers from the
    network's own, as in `HeadSearch` without its gradient; convex in the weights of the last layer. Both
    costs are for the rival that the closed form finds cheapest.

    Args:
        unet: with a 1x1 convolution named ``head``. It is not changed.
        train: training cases.
        images: (B, 1, H, W).
        pixels: (n, 3) case, row, column.
        n_training: training pixels, drawn evenly from all cases; the solver passes over them many times.
        seed: of that draw.
    """
    head, rng = find_head(unet), np.random.default_rng(seed)
    with frozen(unet):
        parts = []
        for image in train.images:
            features, logits = head_pass(unet, head, network_input(image[None], unet))
            chosen = torch.from_numpy(rng.permutation(logits[0, 0].numel())[: -(-n_training // len(train))])
            parts.append([v[0].flatten(1).T.cpu()[chosen].double() for v in (features, logits)])
        rows, told = (torch.cat(values)[:n_training] for values in zip(*parts, strict=True))
        asked, asked_logits = head_pass(unet, head, network_input(images, unet))
    case, row, column = torch.from_numpy(np.array(to_numpy(pixels))).T
    vectors, scores = (v.cpu()[case, :, row, column].double() for v in (asked, asked_logits))
    fisher = accumulate_fisher(_image(rows), _image(told), told.argmax(dim=1)[None, None])
    inverse = fisher._replace(gradient=0 * fisher.gradient).inverse(told.shape[1])
    closed, rival = head_terms(_image(vectors), _image(scores), inverse).cost()[0, :, 0].min(dim=0)
    own = scores.argmax(dim=1)
    given, answers = to_numpy(rows), to_numpy(told)
    exact = [
        _solve(given, answers, to_numpy(vectors[n]), to_numpy(scores[n]), int(own[n]), int(rival[n]))
        for n in range(len(own))
    ]
    return ConvexCheck(to_numpy(closed), np.array(exact))


def _image(rows: torch.Tensor) -> torch.Tensor:
    return rows.T[None, :, None]


def _solve(
    rows: np.ndarray, told: np.ndarray, vector: np.ndarray, scores: np.ndarray, own: int, rival: int
) -> float:
    """Least mean divergence over the changes of the weights that make up the lead of one class."""
    shape = told.shape[1], rows.shape[1]
    chances, offset = special.softmax(told, axis=1), special.logsumexp(told, axis=1)
    direction = np.zeros(shape)
    direction[own], direction[rival] = vector, -vector

    def divergence(flat: np.ndarray) -> tuple[float, np.ndarray]:
        moved = rows @ flat.reshape(shape).T
        after = told + moved
        rise = special.logsumexp(after, axis=1) - offset - (chances * moved).sum(axis=1)
        slope = (special.softmax(after, axis=1) - chances).T @ rows / len(rows)
        return float(rise.mean()), slope.ravel()

    plane = optimize.LinearConstraint(direction.ravel()[None], -np.inf, scores[rival] - scores[own])
    start = np.zeros(direction.size)
    found = optimize.minimize(
        divergence, start, jac=True, method="SLSQP", constraints=[plane], tol=1e-12, options={"maxiter": 200}
    )
    return float(found.fun)
