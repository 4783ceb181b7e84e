"""Whether trust was deserved: quality of a segmentation, order of an uncertainty, and intervals."""

from segconf_lite.evaluation.correlation import (
    linear_correlation,
    rank_correlation,
    rank_correlation_difference,
)
from segconf_lite.evaluation.detection import auroc, detection_rate, detection_threshold
from segconf_lite.evaluation.intervals import Interval, bootstrap_interval, mean_interval
from segconf_lite.evaluation.quality import dice_per_case, dice_per_class
from segconf_lite.evaluation.selective import (
    augrc,
    aurc,
    excess_aurc,
    excess_aurc_interval,
    risk_at_coverage,
    risk_coverage,
)
from segconf_lite.evaluation.table import case_table

__all__ = [
    "Interval",
    "augrc",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "case_table",
    "detection_rate",
    "detection_threshold",
    "dice_per_case",
    "dice_per_class",
    "excess_aurc",
    "excess_aurc_interval",
    "linear_correlation",
    "mean_interval",
    "rank_correlation",
    "rank_correlation_difference",
    "risk_at_coverage",
    "risk_coverage",
]
