"""The tidy table that every chapter starts from: one row a case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.evaluation.quality import check_probabilities, dice_per_class, mean_of_defined

__all__ = ["case_table"]


def case_table(probabilities: Any, cohort: Cohort, *, empty: str) -> pd.DataFrame:
    """Quality of each case beside the network's own probability.

    Args:
        probabilities: (N, C, H, W) class probabilities, summing to 1 over C; numpy or torch.
        cohort: the N cases with their reference.
        empty: policy for classes absent on both sides, see `segconf_lite.evaluation.dice_per_case`.

    Returns:
        One row a case: domain, session, subject, quality (mean foreground Dice in [0, 1], higher
        is better), confidence (mean over the predicted foreground of the winning probability,
        higher = surer; NaN where no foreground is predicted), and one column per foreground
        class, named as the class, with its Dice.

    Raises:
        ValueError: If the probabilities do not fit the cohort, or are none (logits, say).
    """
    chances = to_numpy(probabilities)
    expected = (len(cohort), len(cohort.class_names), *cohort.labels.shape[1:])
    if chances.shape != expected:
        raise ValueError(f"probabilities must be (N, C, H, W) = {expected}, got {chances.shape}")
    check_probabilities(chances)
    predicted, winning = chances.argmax(axis=1), chances.max(axis=1)
    foreground = predicted > 0
    n_foreground = foreground.sum(axis=(1, 2))
    total = np.where(foreground, winning, 0).sum(axis=(1, 2))
    n_classes = len(cohort.class_names)
    per_class = dice_per_class(predicted, cohort.labels, n_classes=n_classes, empty=empty)
    return pd.DataFrame(
        {
            "domain": cohort.domains,
            "session": cohort.sessions,
            "subject": cohort.subjects,
            "quality": mean_of_defined(per_class),
            "confidence": np.where(n_foreground > 0, total / np.maximum(n_foreground, 1), np.nan),
            **dict(zip(cohort.class_names[1:], per_class.T, strict=True)),
        }
    )
