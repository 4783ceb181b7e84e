"""What can be said about one segmentation, and whether its promise counts: a trust card per case.

A card puts together what chapter 9 of the book measures one by one. It needs no network and no images: the
columns of two tables, one of new cases and one of calibration cases, whose true quality is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.evaluation import conformal_quantile

_ROUNDING = 1e-5  # of a property's range; less is rounding of float32
_ENTRIES = (  # of a card
    *("case", "predicted", "level", "n_calibration", "bound", "low", "high", "risk", "percentiles"),
    *("high_uncertainties", "violated", "promise_counts", "nearest", "distances"),
)


def trust_cards(
    cases: pd.DataFrame,
    calibration: pd.DataFrame,
    *,
    training: pd.DataFrame | None = None,
    uncertainties: Sequence[str] = (),
    properties: Sequence[str] = (),
    features: Sequence[str] = (),
    level: float = 0.9,
    failed_below: float = 0.7,
    high_from: float = 95.0,
    n_nearest: int = 3,
) -> list[dict[str, Any]]:
    """One card per new case.

    Bound and interval are split conformal: the predicted quality minus (and plus) quantiles of the errors of
    the calibration cases, see `segconf_lite.evaluation.conformal_quantile`. They hold at the level if the new
    case is exchangeable with the calibration cases. A property outside their range is a sign that it is not;
    that none is outside does not show that it is.

    Args:
        cases: One row per new case, with ``predicted`` (quality in [0, 1], higher is better) and all columns
            that are named below. The index names the cases.
        calibration: The same columns, and the true ``quality`` in [0, 1]; one row per subject.
        training: Rows among which the nearest cases are sought, with the columns `features`; None takes the
            calibration cases. The index names them.
        uncertainties: Columns in which higher is worse.
        properties: Columns that describe the input, for example those of `input_properties`.
        features: Columns in which distances are measured, for example features of the appearance.
        level: Level of the bound and of the interval, in (0, 1).
        failed_below: Quality below which a segmentation counts as failed, in [0, 1].
        high_from: Percentile among the calibration cases, 0 to 100, from which an uncertainty is called high.
        n_nearest: Number of nearest training cases to name, >= 1.

    Returns:
        One dictionary per case, which JSON can hold:

        - case, predicted, level, n_calibration.
        - bound: at most the true quality, with the frequency `level`.
        - low, high: the interval that holds the true quality with this frequency.
        - risk: ``"low"`` if the bound is not below `failed_below`, ``"high"`` if the upper end of the
          interval is, else ``"medium"``.
        - percentiles: of each uncertainty among the calibration cases, 0 to 100, ties counted half.
        - high_uncertainties: names of those from `high_from` on.
        - violated: names of the properties outside the range of the calibration cases.
        - promise_counts: False if a property is violated.
        - nearest: names of the nearest training cases, nearest first; distances: root mean squared difference
          over the features, in standard deviations of the training cases.

    Raises:
        ValueError: If a column is missing, a value is not finite or out of range, there is no case, or there
            are too few calibration cases for the interval (19 at a level of 0.9).

    Example:
        >>> known = pd.DataFrame({"predicted": np.linspace(0.7, 0.9, 39), "noise": np.linspace(0.1, 0.2, 39)})
        >>> known["quality"] = known["predicted"] - np.linspace(-0.05, 0.05, 39)
        >>> new = pd.DataFrame({"predicted": [0.85], "noise": [0.3]}, index=["new heart"])
        >>> card = trust_cards(new, known, uncertainties=["noise"], properties=["noise"])[0]
        >>> card["risk"], card["percentiles"], card["violated"], card["promise_counts"]
        ('low', {'noise': 100.0}, ['noise'], False)
    """
    for name, listed in (
        ("uncertainties", uncertainties),
        ("properties", properties),
        ("features", features),
    ):
        check.names(name, listed)
    named = list(dict.fromkeys(["predicted", *uncertainties, *properties, *features]))
    source = calibration if training is None else training
    new, old = _numbers("cases", cases, named), _numbers("calibration", calibration, [*named, "quality"])
    known = _numbers("training", source, list(features))
    failed_below = check.number("failed_below", failed_below, low=0, high=1)
    high_from = check.number("high_from", high_from, low=0, high=100)
    n_nearest = check.integer("n_nearest", n_nearest, low=1)
    for name, table in (("cases", new[["predicted"]]), ("calibration", old[["predicted", "quality"]])):
        if table.to_numpy().min() < 0 or table.to_numpy().max() > 1:
            raise check.refuse(f"{name}: predicted and quality", "in [0, 1]", "a value outside")
    too_good = (old["predicted"] - old["quality"]).to_numpy()
    margin = conformal_quantile(too_good, level=level)
    below, above = (conformal_quantile(sign * too_good, level=(1 + level) / 2) for sign in (1, -1))
    wanted = list(properties)
    lowest, highest = old[wanted].min(), old[wanted].max()
    slack = _ROUNDING * (highest - lowest)
    distances = _distances(new, known, list(features))
    cards = []
    for k, (label, row) in enumerate(new.iterrows()):
        bound, low, high = np.clip(row["predicted"] + np.array([-margin, -below, above]), 0, 1).tolist()
        percentiles = {name: _percentile(old[name].to_numpy(), row[name]) for name in uncertainties}
        outside = (row[wanted] < lowest - slack) | (row[wanted] > highest + slack)
        violated = outside.index[outside].tolist()
        nearest = distances[k].argsort(kind="stable")[:n_nearest] if features else []
        cards.append(
            {
                "case": str(label),
                "predicted": float(row["predicted"]),
                "level": float(level),
                "n_calibration": len(old),
                "bound": bound,
                "low": low,
                "high": high,
                "risk": "low" if bound >= failed_below else "high" if high < failed_below else "medium",
                "percentiles": percentiles,
                "high_uncertainties": [name for name, p in percentiles.items() if p >= high_from],
                "violated": violated,
                "promise_counts": not violated,
                "nearest": [str(source.index[i]) for i in nearest],
                "distances": [float(distances[k, i]) for i in nearest],
            }
        )
    return cards


def trust_card_text(card: Mapping[str, Any]) -> str:
    """A card of `trust_cards` in a few lines of plain text.

    Args:
        card: One of the dictionaries of `trust_cards`.

    Raises:
        ValueError: If it is another object.

    Example:
        >>> known = pd.DataFrame({"predicted": np.full(39, 0.8), "quality": np.linspace(0.7, 0.9, 39)})
        >>> print(trust_card_text(trust_cards(known[:1], known)[0]))
        case 0: predicted quality 0.80, 90 % interval 0.71 to 0.89
        risk low, lower bound 0.72 at the level 0.9 (39 calibration cases)
        high uncertainty: none
        violated assumptions: none found, so the promise counts if the case is like the calibration cases
    """
    check.instance("card", card, Mapping)
    if missing := [key for key in _ENTRIES if key not in card]:
        raise check.refuse("card", "one of those that `trust_cards` returns", f"one without {missing}")
    predicted, interval = f"{card['predicted']:.2f}", f"{card['low']:.2f} to {card['high']:.2f}"
    level, high = f"{100 * card['level']:.0f} %", card["high_uncertainties"]
    bound = f"lower bound {card['bound']:.2f} at the level {card['level']:g}"
    counted = "none found, so the promise counts if the case is like the calibration cases"
    broken = f"{', '.join(card['violated'])} out of range, so the promise DOES NOT COUNT"
    lines = [
        f"case {card['case']}: predicted quality {predicted}, {level} interval {interval}",
        f"risk {card['risk']}, {bound} ({card['n_calibration']} calibration cases)",
        "high uncertainty: " + (", ".join(f"{n} ({card['percentiles'][n]:.0f} %)" for n in high) or "none"),
        "violated assumptions: " + (counted if card["promise_counts"] else broken),
    ]
    near = zip(card["nearest"], card["distances"], strict=True)
    if found := ", ".join(f"{name} ({distance:.1f} SD)" for name, distance in near):
        lines.append(f"nearest training cases: {found}")
    return "\n".join(lines)


def _numbers(name: str, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns as finite numbers."""
    check.columns(table, columns, name)
    found = table[columns].astype(np.float64)
    check.finite(name, found.to_numpy(), fix="leave out cases without a value")
    return found


def _percentile(known: np.ndarray, value: float) -> float:
    return float(100 * ((known < value).mean() + (known == value).mean() / 2))


def _distances(new: pd.DataFrame, known: pd.DataFrame, features: list[str]) -> np.ndarray:
    """(n_new, n_known) root mean squared differences in standard deviations of the known cases."""
    if not features:
        return np.zeros((len(new), 0))
    spread = known.std(ddof=0)
    scale = spread.where(spread > 0, 1).to_numpy()
    gaps = (new[features].to_numpy()[:, None] - known.to_numpy()[None]) / scale
    return np.sqrt((gaps**2).mean(axis=2))
