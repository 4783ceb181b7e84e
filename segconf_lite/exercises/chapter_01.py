"""Checks of the exercises of chapter 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from segconf_lite.claims import ledger
from segconf_lite.exercises.answers import (
    Function,
    NotYetError,
    _call,
    _compare,
    _number,
    _numbers,
    _over_runs,
    _stored,
)


def check_dice(dice: Function) -> None:
    """Check a function that computes the Dice of two masks, ``2 |P ∩ R| / (|P| + |R|)``.

    Args:
        dice: Function of a predicted and of a reference mask, boolean arrays of one shape.

    Raises:
        NotYetError: If the function is not right. The message says what it computes instead, if known.

    Example:
        >>> check_dice(lambda p, r: (p & r).sum() / (p | r).sum())
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you divided by the union: that is the Jaccard index...
        >>> check_dice(lambda p, r: 2 * (p & r).sum() / (p.sum() + r.sum()))
        Right: two masks of 4 and of 6 pixels that share 3 have a Dice of 0.60.
    """
    p = np.zeros((4, 5), bool)
    r = p.copy()
    p[0, :4] = r[0, 1:4] = r[1, :3] = True
    both, union = (p & r).sum(), (p | r).sum()
    wrong = {
        "you divided by the union: that is the Jaccard index. Dice divides by the sum of both areas": both
        / union,
        "the factor 2 is missing, so a perfect prediction would have 0.5": both / (p.sum() + r.sum()),
        "you divided by the area of the reference alone: that is the sensitivity": both / r.sum(),
        "you divided by the area of the prediction alone: that is the precision": both / p.sum(),
        "you counted background pixels, too: that is the fraction of right pixels": (p == r).mean(),
    }
    _compare(_call(dice, p, r), 2 * both / (p.sum() + r.sum()), wrong)
    _compare(_call(dice, p, ~p), 0.0, {})
    print("Right: two masks of 4 and of 6 pixels that share 3 have a Dice of 0.60.")


def check_resample(resample: Function) -> None:
    """Check a function that draws the cases of one bootstrap sample by whole subjects.

    Args:
        resample: Function of the subject of each case, an array (N,), and of a numpy generator. It returns
            the numbers of the drawn cases: all cases of each drawn subject, twice if it is drawn twice.

    Raises:
        NotYetError: If the function is not right; the message says what it draws instead.

    Example:
        >>> check_resample(lambda subjects, rng: rng.integers(len(subjects), size=len(subjects)))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: you drew single cases...
    """
    subjects = np.repeat(np.array(["a", "b", "c", "d", "e", "f"]), [3, 1, 2, 4, 2, 3])
    people = np.unique(subjects)
    samples = []
    for seed in range(20):
        drawn = _numbers(_call(resample, subjects, np.random.default_rng(seed)))
        if drawn.ndim != 1 or set(drawn.tolist()) - set(range(len(subjects))):
            raise NotYetError("return the numbers of the drawn cases: integers from 0 to N − 1, in one array")
        times = np.bincount(drawn.astype(int), minlength=len(subjects))
        if any(len(set(times[subjects == one])) > 1 for one in people):
            raise NotYetError("you drew single cases, so a subject can come without some of its cases")
        samples.append(tuple(times[subjects == one][0] for one in people))
    drawn_people = [sum(sample) for sample in samples]
    if set(samples) == {(1,) * len(people)}:
        raise NotYetError("every subject comes exactly once in every sample: draw with replacement")
    if max(map(max, samples)) == 1:
        raise NotYetError("a subject that is drawn twice comes only once: take its cases twice")
    if set(drawn_people) != {len(people)}:
        raise NotYetError(f"you drew {drawn_people[0]} subjects of {len(people)}: draw as many as there are")
    if len(set(samples)) == 1:
        raise NotYetError("every sample is the same: draw with the generator that is handed over")
    print(f"Right: {len(set(samples))} different samples of 6 subjects, each with all of its cases.")


def check_n_test(n_test: Any) -> None:
    """Check the number of test slices with which the interval of a mean is half as wide as with 120.

    The stored runs of chapter 1 have 20 subjects on scanner D, six slices each. The half width is 1.96 times
    the standard deviation over subjects, divided by the root of their number.

    Args:
        n_test: Number of test slices.

    Raises:
        NotYetError: If the interval is too wide, or fewer slices would do.

    Example:
        >>> check_n_test(240)
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: twice the slices make the interval narrower by the root of 2...
    """
    n = _number(n_test)
    if n < 12 or n % 6:
        raise NotYetError(f"expected at least 12 slices, six of each subject, got {n:g}")
    cases = _stored(1).query("domain == 'D'")
    each = cases.groupby(["seed", "subject"])["quality"].mean().groupby("seed")
    before, after = (1.96 * each.std() / np.sqrt(k / 6) for k in (120, n))
    if n == 240:
        raise NotYetError("twice the slices make the interval narrower by the root of 2, so not by half")
    if n < 480:
        raise NotYetError(f"the half width falls from {before.mean():.3f} to {after.mean():.3f} only")
    if n > 480:
        raise NotYetError(
            f"the half width is {after.mean():.3f}, below half of {before.mean():.3f}: fewer do"
        )
    told = _over_runs(before, digits=3), _over_runs(after, digits=3)
    print(f"Right: on D, the half width of the interval falls from {told[0]} to {told[1]}.")


def check_smallest_change(change: Any) -> None:
    """Check and score the smallest change of one setting of scanner A that takes the mean Dice below 0.7.

    "Small" is what it does to the image: the root mean square change of the pixels, in standard deviations of
    the image. Between the values of the stored table (mean of five networks, `benchmarks/exercises.py`), Dice
    and change are interpolated.

    Args:
        change: Name of a setting and its value, such as ``("noise", 0.2)``.

    Raises:
        NotYetError: If the Dice stays above 0.7, or a smaller change would do.

    Example:
        >>> check_smallest_change(("noise", 0.1))
        Traceback (most recent call last):
        segconf_lite.exercises.NotYetError: with noise = 0.1 the mean Dice is still 0...
    """
    table = ledger.stored_table("chapter_01_knobs.csv")
    knobs = sorted(table["knob"].unique())
    if change is ...:
        _numbers(change)
    if not (isinstance(change, tuple) and len(change) == 2 and change[0] in knobs):
        raise NotYetError(f"expected a tuple of a setting and its value; the settings are {', '.join(knobs)}")
    knob, value = change[0], _number(change[1])
    measured = {name: part.sort_values("value") for name, part in table.groupby("knob")}

    def at(name: str, where: Any) -> tuple[Any, Any]:
        known = measured[name]
        return tuple(np.interp(where, known["value"], known[column]) for column in ("dice", "moved"))

    values = measured[knob]["value"]
    if not values.min() <= value <= values.max():
        raise NotYetError(f"{knob} was measured from {values.min():g} to {values.max():g} only")
    dice, moved = at(knob, value)
    if dice >= 0.7:
        said = f"with {knob} = {value:g} the mean Dice is still {dice:.2f}"
        raise NotYetError(f"{said}, and the image changes by {moved:.2f} standard deviations")
    least = {}
    for name, part in measured.items():
        fine = at(name, np.linspace(part["value"].min(), part["value"].max(), 400))
        least[name] = fine[1][fine[0] < 0.7].min(initial=np.inf)
    score = f"the Dice is {dice:.2f}, and the image changes by {moved:.2f} standard deviations"
    if moved > 1.1 * least[knob]:
        raise NotYetError(f"{score}, but a smaller change of {knob} takes the Dice below 0.7 as well")
    if moved > 1.1 * min(least.values()):
        raise NotYetError(f"{score}, but a change of another setting does it with {min(least.values()):.2f}")
    others = ", ".join(f"{name} {size:.2f}" for name, size in least.items() if name != knob and size < np.inf)
    print(f"Right: {score}. The other settings need {others}.")
