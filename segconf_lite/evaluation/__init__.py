"""Whether trust was deserved: quality of a segmentation, order of an uncertainty, and intervals."""

from segconf_lite.evaluation.correlation import (
    linear_correlation,
    rank_correlation,
    rank_correlation_difference,
)
from segconf_lite.evaluation.detection import auroc, detection_rate, detection_threshold
from segconf_lite.evaluation.intervals import Interval, bootstrap_interval, mean_interval
from segconf_lite.evaluation.quality import (
    dice_per_case,
    dice_per_class,
    iou_per_case,
    iou_per_class,
    pairwise_dice,
)
from segconf_lite.evaluation.selective import (
    augrc,
    aurc,
    excess_aurc,
    excess_aurc_interval,
    risk_at_coverage,
    risk_coverage,
)
from segconf_lite.evaluation.surfaces import (
    hausdorff95_per_case,
    hausdorff95_per_class,
    mean_surface_distance_per_case,
    mean_surface_distance_per_class,
    surface_dice_per_case,
    surface_dice_per_class,
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
    "hausdorff95_per_case",
    "hausdorff95_per_class",
    "iou_per_case",
    "iou_per_class",
    "linear_correlation",
    "mean_interval",
    "mean_surface_distance_per_case",
    "mean_surface_distance_per_class",
    "pairwise_dice",
    "rank_correlation",
    "rank_correlation_difference",
    "risk_at_coverage",
    "risk_coverage",
    "surface_dice_per_case",
    "surface_dice_per_class",
]
