"""Case tables of several chapters, joined row by row where they are about the same network and cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from segconf_lite import check
from segconf_lite.claims.runs import stored_cases

_TOLERANCE = 1e-5  # of the risk: what five stored digits can tell
_MOST_OTHERS = 1e-3  # fraction of rows whose risk may differ, because one pixel did on another machine


def joined_cases(chapters: Sequence[int] = (2, 3, 4), *, cohort: str = "phantom") -> pd.DataFrame:
    """The columns of several chapters beside each other, one row per case.

    Chapters 2 to 5 train the same network on the same cohorts, so the k-th case of a scanner is the same
    slice in each of their tables. This is not taken on trust: subjects must be equal, and the risk must
    agree to five digits.

    Args:
        chapters: Numbers of the chapters; the first one names a column that several have.
        cohort: Value of the column ``cohort``, ``"phantom"`` or ``"cord"``.

    Returns:
        The cases that all chapters have, of the seeds that all have, in the order of the first chapter; with
        ``seed``, ``domain`` and ``row``, the position of the case within both. Rows whose risk differs are
        left out; ``attrs["left_out"]`` is their number.

    Raises:
        ValueError: If an argument is not as above, subjects differ, more than one row in a thousand has
            another risk, or no case is left.
        FileNotFoundError: If a chapter has no stored cases.

    Example:
        >>> cases = joined_cases((2, 3))
        >>> {"entropy, foreground", "distortion"} <= set(cases.columns), cases.attrs["left_out"] < 4
        (True, True)
    """
    check.array("chapters", chapters, "n_chapters", fix="give the numbers of one or more, e.g. (2, 3, 4)")
    check.instance("cohort", cohort, str)
    tables = [_of_cohort(stored_cases(chapter), cohort) for chapter in chapters]
    whole = tables[0]
    agree = pd.Series(True, whole.index)
    for chapter, table in zip(chapters[1:], tables[1:], strict=True):
        shared = whole.index.intersection(table.index, sort=False)
        if shared.empty:
            raise ValueError(f"chapters {chapters[0]} and {chapter} have no case of {cohort!r} in common")
        whole, table, agree = whole.loc[shared], table.loc[shared], agree.loc[shared]
        if not (whole["subject"] == table["subject"]).all():
            raise ValueError(
                f"chapter {chapter} has other subjects than chapter {chapters[0]}: run both again"
            )
        agree &= np.isclose(whole["risk"], table["risk"], rtol=0, atol=_TOLERANCE, equal_nan=True)
        others = int((~agree).sum())
        if others > _MOST_OTHERS * len(agree):
            raise ValueError(
                f"the risk of {others} of {len(agree)} cases of chapter {chapter} is not that of chapter "
                f"{chapters[0]}: their networks differ; run both again on one machine"
            )
        whole = whole.join(table[[name for name in table if name not in whole]])
    cases = whole[agree].reset_index()
    cases.attrs["left_out"] = int((~agree).sum())
    return cases


def _of_cohort(table: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """The rows of a cohort by seed, domain and position, without columns that it does not have."""
    kept = table[table["cohort"] == cohort].dropna(axis=1, how="all")
    if kept.empty:
        raise check.refuse("cohort", f"one of {sorted(table['cohort'].unique())}", repr(cohort))
    return kept.assign(row=kept.groupby(["seed", "domain"]).cumcount()).set_index(["seed", "domain", "row"])
