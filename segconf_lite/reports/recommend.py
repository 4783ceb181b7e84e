"""Which method to use within a budget, computed from the stored comparison of all methods.

The rule, for a question and a budget: take the methods that fit the budget; average each over the scanners
of the phantom that the network has not seen, per seed; the best is the one with the best mean over seeds. A
method whose paired difference from the best has a 95 % t interval over seeds that holds 0 counts as level
with it. Of those that are level, the cheapest wins, and among equally cheap ones that with the best mean.
Null models, such as the size of the prediction, take part and can win.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from segconf_lite import check, resources
from segconf_lite.evaluation import Interval, repeated_estimate

#: What somebody wants -> the question of the stored table that measures it.
QUESTIONS = {"order": "ranking", "number": "absolute error", "where": "far errors"}
_MEASURES = {
    "order": ("eAURC", "lower is better", "uncertainty(images)"),
    "number": ("mean absolute error of the Dice", "lower is better", "predicted_quality(images)"),
    "where": (
        "fraction of wrong pixels beyond 2 pixels found",
        "higher is better",
        "uncertainty_map(images)",
    ),
}
_UNSEEN = ("B", "C", "D", "E", "F")
_DATA = """from segconf_lite.cohorts import phantom
from segconf_lite.models import fit_unet, fitted
{imports}

train = phantom.cohort(24, seed=0)
images = phantom.cohort(6, scanner="D", seed=1000).images
training = {{"steps": 20, "dropout": 0.1}}
network = fitted(fit_unet, train, seed=0, **training)
print({call})"""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What to use, and on which evidence.

    Attributes:
        want: ``"order"``, ``"number"`` or ``"where"``.
        method: Name of the method, as in the tables of the book.
        best: Name of the method with the best mean within the budget.
        level: The methods that are level with the best, cheapest first.
        evidence: Mean over seeds of each method in `level`, with its 95 % t interval.
        seeds: The seeds.
        scanners: The scanners.
        claims: Ids of the claims of the book about the method.
        code: A program that runs the method on a small cohort.

    Example:
        >>> recommend_method(want="order", passes=1).want
        'order'
    """

    want: str
    method: str
    best: str
    level: list[str]
    evidence: dict[str, Interval]
    seeds: list[int]
    scanners: list[str]
    claims: list[str]
    code: str

    def text(self) -> str:
        """The recommendation in words, with its evidence and the program.

        Example:
            >>> recommend_method(want="order", passes=1).text().startswith("use: ")
            True
        """
        what, better, _ = _MEASURES[self.want]
        scanners = f"scanners {', '.join(self.scanners)} of the phantom"
        lines = [f"use: {self.method}", f"evidence: {what} ({better}), mean over {scanners}"]
        lines.append(
            f"  {len(self.seeds)} seeds ({self.seeds[0]} to {self.seeds[-1]}), 95 % t intervals over seeds"
        )
        shown = dict.fromkeys([self.method, self.best, *self.level])
        for name in list(shown)[:6]:
            found = self.evidence[name]
            note = " (the best mean)" if name == self.best else ""
            lines.append(f"  {name}: {found.estimate:.4f} [{found.low:.4f}, {found.high:.4f}]{note}")
        if len(shown) > 6:
            lines.append(f"  and {len(shown) - 6} more are level with the best")
        named = ", ".join(self.claims) or "none is about this method alone"
        lines += [f"claims: {named} (segconf claims show ID)", "", "# an example that runs", self.code]
        return "\n".join(lines)


def choose(values: pd.DataFrame, costs: pd.DataFrame, *, higher_is_better: bool = False) -> list[str]:
    """The methods that are level with the best one, by the rule of this module; the first is the advice.

    Args:
        values: One row per seed, one column per method, in the unit of the question.
        costs: Index method; columns labels (bool), networks and passes, compared in this order.
        higher_is_better: Whether a high value is good.

    Returns:
        Names, cheapest first, equally cheap ones by their mean.

    Raises:
        ValueError: If a method has no costs, or there is no method or only one seed.

    Example:
        >>> values = pd.DataFrame({"one pass": [0.2, 0.3], "many": [0.2, 0.28], "bad": [0.9, 0.95]})
        >>> costs = pd.DataFrame({"labels": False, "networks": 1, "passes": [1, 15, 1]}, index=list(values))
        >>> choose(values, costs)
        ['one pass', 'many']
    """
    check.columns(costs, ["labels", "networks", "passes"], "costs")
    check.columns(values, [], "values")
    check.one_of("higher_is_better", higher_is_better, (True, False))
    losses = -values if higher_is_better else values
    check.integer("number of methods", losses.shape[1], low=1)
    check.integer("number of seeds", len(losses), low=2, fix="one seed does not show how seeds differ")
    if missing := set(losses) - set(costs.index):
        raise check.refuse("costs", "a table of all methods", f"none of {sorted(missing)}")
    means = losses.mean()
    best, level = means.idxmin(), []
    for name in losses:
        gap = losses[name] - losses[best]
        if name == best or _over_seeds(gap).low <= 0:
            level.append(name)
    asked = costs.loc[level, ["labels", "networks", "passes"]].astype(float).assign(mean=means[level])
    return asked.sort_values(list(asked)).index.tolist()


def leave_one_scanner_out(
    values: pd.DataFrame, costs: pd.DataFrame, *, higher_is_better: bool = False
) -> pd.DataFrame:
    """What following the advice of `choose` would have cost on a scanner that it had not seen.

    For each seed and scanner, the advice is chosen from all *other* seeds and scanners. It is compared with
    the method that has the best mean over seeds on the scanner that was left out. Nobody could have known
    that method, so the regret is an upper limit of what better advice could gain.

    Args:
        values: Index (seed, scanner), one column per method that fits the budget.
        costs: As in `choose`.
        higher_is_better: Whether a high value is good.

    Returns:
        One row per seed and scanner: seed, scanner, advised, best, wrong (whether they differ), and regret,
        by how much the advised method is worse than the best one in the unit of the values; a single seed's
        may be negative.

    Raises:
        ValueError: As `choose`, or if there are fewer than three seeds or two scanners.

    Example:
        >>> index = pd.MultiIndex.from_product([[1, 2, 3], ["D", "F"]], names=["seed", "scanner"])
        >>> values = pd.DataFrame({"good": 0.1, "bad": [0.5, 0.4] * 3}, index=index)
        >>> costs = pd.DataFrame({"labels": False, "networks": 1, "passes": 1}, index=["good", "bad"])
        >>> leave_one_scanner_out(values, costs)["regret"].tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    check.columns(values, [], "values")
    check.one_of("higher_is_better", higher_is_better, (True, False))
    check.integer("number of scanners", values.index.get_level_values("scanner").nunique(), low=2)
    rows = []
    for seed, scanner in values.index:
        there = values.xs(scanner, level="scanner")
        best = there.mean().idxmax() if higher_is_better else there.mean().idxmin()
        known = values.drop(index=[seed], level="seed").drop(index=[scanner], level="scanner")
        advised = choose(known.groupby(level="seed").mean(), costs, higher_is_better=higher_is_better)[0]
        gap = float(there.loc[seed, advised] - there.loc[seed, best])
        row = {"seed": seed, "scanner": scanner, "advised": advised, "best": best, "wrong": advised != best}
        rows.append({**row, "regret": -gap if higher_is_better else gap})
    return pd.DataFrame(rows)


def recommend_method(
    *,
    want: str = "order",
    passes: int = 1,
    networks: int = 1,
    labels: bool = False,
    scanners: Sequence[str] = _UNSEEN,
) -> Recommendation:
    """The method to use within a budget.

    Args:
        want: ``"order"``: which cases are worse. ``"number"``: the Dice of each case. ``"where"``: wrong
            pixels.
        passes: Passes of a network per case that one can afford, >= 1.
        networks: Segmentation networks that one can train, >= 1.
        labels: Whether training cases with labels are at hand for more than the network itself.
        scanners: Scanners of the phantom to average over.

    Raises:
        ValueError: If an argument is out of its range, or no method fits.
        FileNotFoundError: If the stored tables are missing.

    Example:
        >>> found = recommend_method(want="where", passes=1)
        >>> found.method in found.level, len(found.seeds) >= 5
        (True, True)
    """
    question = QUESTIONS[check.one_of("want", want, tuple(QUESTIONS))]
    passes, networks = check.integer("passes", passes, low=1), check.integer("networks", networks, low=1)
    check.one_of("labels", labels, (True, False))
    costs = pd.read_csv(resources.table_file("chapter_10_costs.csv"), index_col="method")
    fits = (costs["passes"] <= passes) & (costs["networks"] <= networks) & (labels | ~costs["labels"])
    values = seed_means(question, scanners=scanners)
    higher, whole = bool(values.attrs["higher_is_better"]), values.attrs["scanners"]
    values = values[[name for name in values if name in costs.index[fits]]]
    level = choose(values, costs, higher_is_better=higher)
    means = -values.mean() if higher else values.mean()
    row = costs.loc[level[0]]
    claims = str(row["claims"]).split() if isinstance(row["claims"], str) else []
    return Recommendation(
        want=want,
        method=level[0],
        best=str(means.idxmin()),
        level=level,
        evidence={name: _over_seeds(values[name]) for name in level},
        seeds=[int(seed) for seed in values.index],
        scanners=whole,
        claims=claims,
        code=_program(str(row["code"]), str(row["imports"]), want),
    )


def seed_means(question: str, *, scanners: Sequence[str] = _UNSEEN) -> pd.DataFrame:
    """Stored values of a question on the phantom, averaged over scanners.

    Args:
        question: For example ``"ranking"``.
        scanners: Scanners to average over. Scanners on which a seed has no value are left out for all.

    Returns:
        One row per seed and one column per method that has a value everywhere. Its ``attrs`` say which
        scanners are in the mean, and whether ``higher_is_better``.

    Raises:
        ValueError: If nothing is stored for the question and these scanners.

    Example:
        >>> seed_means("ranking", scanners=["D"]).attrs
        {'scanners': ['D'], 'higher_is_better': False}
    """
    check.instance("question", question, str)
    scanners = check.names("scanners", scanners).tolist()
    table = pd.read_csv(resources.table_file("chapter_10_head_to_head.csv"))
    part = table[(table["question"] == question) & (table["cohort"] == "phantom")]
    part = part[part["scanner"].isin(scanners)]
    if part.empty:
        raise check.refuse("question and scanners", "in the stored table", f"{question!r}, {list(scanners)}")
    wide = part.pivot(index=["seed", "scanner"], columns="method", values="value")
    n_seeds = wide.groupby(level="scanner").size()
    whole = [name for name in scanners if n_seeds.get(name) == part["seed"].nunique()]
    wide = wide[wide.index.get_level_values("scanner").isin(whole)].dropna(axis=1)
    means = wide.groupby(level="seed").mean()
    means.attrs = {"scanners": whole, "higher_is_better": bool(part["direction"].iloc[0] == "higher")}
    return means


def _over_seeds(values: pd.Series) -> Interval:
    """Mean with its 95 % t interval; each row is a seed."""
    rows = np.arange(len(values))
    return repeated_estimate(np.mean, rows, rows, values.to_numpy()).interval()


def _program(code: str, imports: str, want: str) -> str:
    """A program that runs the method on a small cohort; `code` builds it, or computes its values at once."""
    is_method = "(images)" not in code and "images)" not in code
    call = f"{code}.fit(network, train).{_MEASURES[want][2]}" if is_method else code
    lines = "" if imports == "nan" else imports.replace("; ", "\n")
    return _DATA.format(imports=lines, call=call)
