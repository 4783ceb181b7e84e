"""Which choice an outcome depends on, and how sure that is when runs share images or seeds.

A table of runs has one row per run (or per run and image): choices in columns of categories, and an
outcome. Fractions of variance are those of the analysis of variance (Fisher 1925) for fixed, crossed factors.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.evaluation.bootstrap import cluster_codes, draw_weights, unit_scale

_N_SHUFFLES = 200  # for the share by chance of an unbalanced design: its mean to about a twentieth


def sensitivity_report(
    table: pd.DataFrame,
    *,
    outcome: str,
    factors: str | Sequence[str],
    clusters: str | Sequence[str] | None = None,
    interactions: bool = False,
    n_resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """How much each factor matters for an outcome, most important first.

    Every combination of levels that occurs (a cell) has equal weight, however many rows it holds. With equal
    cells this is the plain analysis of variance, and the fractions of main effects and interactions add up
    to at most 1. With unequal cells it rests on unweighted marginal means. With *missing* cells (a random
    search, say) factors are entangled: a fraction may hold part of another's, and their sum may exceed 1.

    Args:
        table: One row per run or case.
        outcome: Column of finite numbers, any unit.
        factors: Columns of categories, each with two levels or more. Bin continuous settings first.
        clusters: Column (or crossed columns, such as image and seed) whose names are resampled with
            replacement for the interval; None resamples rows. A column that a factor lies within (patients
            within hospitals, for the factor hospital) or that has a handful of names gives a rough interval.
        interactions: Whether to add every pair of factors, ``"a x b"``: what their joint means hold beyond
            both main effects.
        n_resamples: Number of bootstrap resamples.
        seed: Seed of the random draw.

    Returns:
        One row per factor (and pair): factor, share (fraction of variance, in [0, 1]), low and high (its
        95 % bootstrap interval), share_by_chance (its mean if rows were shuffled, by formula if the design
        is balanced, else over 200 shuffles; a share near it says nothing), range (largest minus smallest
        marginal mean, in the unit of the outcome; for a pair, of the departures from additivity), highest
        and lowest (levels with these), n_levels, and design:
        ``"balanced"``, ``"unequal cells"`` or ``"missing cells"``.

        Shares of resampled rows are too large (resampling adds noise to every mean), so the resamples are
        shifted to have the estimate as their mean, then clipped to [0, 1]. Ends are NaN if a cluster column
        has one name, and all shares are if the outcome never varies.

    Raises:
        ValueError: If a column is missing, the outcome is not finite, or a factor has a missing value, one
            level only, or as many levels as rows.

    Example:
        >>> table = pd.DataFrame({"network": list("aabb"), "loss": list("xyxy")})
        >>> table["dice"] = [0.5, 0.6, 0.8, 0.9]
        >>> report = sensitivity_report(table, outcome="dice", factors=["loss", "network"], n_resamples=20)
        >>> report[["factor", "share", "range"]].round(2)
            factor  share  range
        0  network    0.9    0.3
        1     loss    0.1    0.1
    """
    factors = [factors] if isinstance(factors, str) else check.names("factors", factors).tolist()
    if not factors:
        raise check.refuse("factors", "one column or more", "none")
    check.names("outcome and factors", [outcome, *factors], unique=True)
    check.columns(table, [outcome, *factors])
    check.one_of("interactions", interactions, (True, False))
    n_resamples, seed = (
        check.integer("n_resamples", n_resamples, low=1, high=1_000_000),
        check.integer("seed", seed, low=0),
    )
    values = check.array(outcome, table[outcome], "n_rows", dtype=np.float64)
    check.finite(outcome, values, fix="drop or define these rows first")
    values, exponent = unit_scale(values)
    values = values - np.median(values)  # squares of large numbers would round
    cell, sizes, terms = _design(table, factors, interactions)
    n_possible = int(np.prod([len(term.names) for term in terms[: len(factors)]]))
    design = "missing cells" if len(sizes) < n_possible else "unequal cells" if np.ptp(sizes) else "balanced"

    shares, effects = _decompose(values, np.ones(len(values)), cell, terms)
    codes = [np.arange(len(values))] if clusters is None else cluster_codes(table, clusters)
    draws = np.full((n_resamples, len(terms)), np.nan)
    if min(code.max() for code in codes) > 0:
        for k, weights in enumerate(draw_weights(codes, n_resamples, seed)):
            draws[k] = _decompose(values, weights, cell, terms)[0]
    by_chance = _shares_by_chance(values, cell, terms, design, seed)
    intervals = [_shifted_interval(draws[:, k], share) for k, share in enumerate(shares)]
    report = pd.DataFrame(
        {
            "factor": [term.name for term in terms],
            "share": shares,
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
            "share_by_chance": by_chance,
            "range": [float(np.ldexp(np.ptp(effect), exponent)) for effect in effects],
            "highest": [t.names[int(effect.argmax())] for t, effect in zip(terms, effects, strict=True)],
            "lowest": [t.names[int(effect.argmin())] for t, effect in zip(terms, effects, strict=True)],
            "n_levels": [len(term.names) for term in terms],
            "design": design,
        }
    )
    return report.sort_values("share", ascending=False, kind="stable", ignore_index=True)


class _Term(NamedTuple):
    name: str
    names: list[str]  # of its groups
    group: np.ndarray  # (n_cells,) the group of each cell
    parents: tuple[int, ...]  # the two main effects of an interaction
    freedom: int  # degrees of freedom


def _design(
    table: pd.DataFrame, factors: list[str], interactions: bool
) -> tuple[np.ndarray, np.ndarray, list[_Term]]:
    """(n_rows,) cell of each row, (n_cells,) their sizes, and main effects, then interactions."""
    try:
        coded = [pd.factorize(table[name], sort=True) for name in factors]
    except TypeError as error:  # levels without an order
        raise check.refuse(
            "factors", "columns of text or of numbers", str(error), "use .astype(str)"
        ) from None
    for name, (codes, levels) in zip(factors, coded, strict=True):
        if codes.min() < 0 or not 1 < len(levels) < len(table):
            expected = f"a factor of two levels or more, fewer than the {len(table)} rows, and none missing"
            got = f"{len(levels)} levels and {np.count_nonzero(codes < 0)} missing"
            raise check.refuse(name, expected, got, "drop or bin it")
    cells, cell, sizes = np.unique(
        np.stack([codes for codes, _ in coded], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    terms = [
        _Term(name, [str(level) for level in levels], cells[:, k], (), len(levels) - 1)
        for k, (name, (_, levels)) in enumerate(zip(factors, coded, strict=True))
    ]
    for i, j in itertools.combinations(range(len(factors)), 2) if interactions else ():
        pairs, group = np.unique(cells[:, [i, j]], axis=0, return_inverse=True)
        a, b = terms[i], terms[j]
        names = [f"{a.name}={a.names[p]}, {b.name}={b.names[q]}" for p, q in pairs]
        terms.append(_Term(f"{a.name} x {b.name}", names, group.ravel(), (i, j), a.freedom * b.freedom))
    return cell.ravel(), sizes, terms


def _decompose(
    values: np.ndarray, weights: np.ndarray, cell: np.ndarray, terms: list[_Term]
) -> tuple[list[float], list[np.ndarray]]:
    """Share of each term and (n_groups,) its effects, all cells alike; an empty cell is left out."""
    n_cells = len(terms[0].group)
    filled = np.bincount(cell, weights, n_cells)
    used = filled > 0
    means, squares = (
        np.bincount(cell, weights * x, n_cells)[used] / filled[used] for x in (values, values**2)
    )
    total = squares.mean() - means.mean() ** 2
    shares: list[float] = []
    effects: list[np.ndarray] = []
    for term in terms:
        beyond = means - means.mean() - sum(effects[p][terms[p].group[used]] for p in term.parents)
        group = term.group[used]
        n_inside = np.bincount(group, minlength=len(term.names))
        with np.errstate(invalid="ignore"):  # NaN for a level that a resample left out
            effects.append(np.bincount(group, beyond, len(term.names)) / n_inside)
        shares.append(float(np.mean(effects[-1][group] ** 2) / total) if total > 0 else float("nan"))
    return shares, effects


def _shifted_interval(draws: np.ndarray, share: float) -> tuple[float, float]:
    """The 95 % percentile interval of resampled shares, shifted to have the estimate as their mean."""
    usable = draws[np.isfinite(draws)]
    shifted = usable - usable.mean() + share if usable.size else np.full(1, np.nan)
    low, high = np.clip(np.quantile(shifted, [0.025, 0.975]), 0, 1)
    return low, high


def _shares_by_chance(
    values: np.ndarray, cell: np.ndarray, terms: list[_Term], design: str, seed: int
) -> list[float]:
    """Mean share of each term if rows were shuffled; the formula holds only where all cells are alike."""
    if design == "balanced":
        return [term.freedom / (len(values) - 1) for term in terms]
    rng, ones = np.random.default_rng(seed), np.ones(len(values))
    shares = [_decompose(rng.permutation(values), ones, cell, terms)[0] for _ in range(_N_SHUFFLES)]
    return [float(share) for share in np.mean(shares, axis=0)]
