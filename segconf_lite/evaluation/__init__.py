"""Whether trust was deserved: quality of a segmentation, order of an uncertainty, and intervals.

Devices: arrays and tensors come from anywhere, results are numpy arrays, tables and numbers.
"""

from segconf_lite.evaluation.calibration import (
    CalibrationCounter,
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_table,
)
from segconf_lite.evaluation.compare import compare_methods
from segconf_lite.evaluation.correlation import (
    linear_correlation,
    rank_correlation,
    rank_correlation_difference,
    variance_explained,
)
from segconf_lite.evaluation.crossed import cluster_interval, crossed_interval
from segconf_lite.evaluation.detection import auroc, detection_rate, detection_threshold
from segconf_lite.evaluation.error_search import boundary_distance_px, errors_found
from segconf_lite.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    mean_interval,
    nested_bootstrap_interval,
)
from segconf_lite.evaluation.quality import (
    dice_per_case,
    dice_per_class,
    iou_per_case,
    iou_per_class,
    pairwise_dice,
)
from segconf_lite.evaluation.raters import (
    boundary_band,
    generalized_energy_distance,
    map_agreement,
    rater_dice,
    rater_disagreement,
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
    "CalibrationCounter",
    "Interval",
    "apply_temperature",
    "augrc",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "boundary_band",
    "boundary_distance_px",
    "brier_score",
    "case_table",
    "cluster_interval",
    "compare_methods",
    "crossed_interval",
    "detection_rate",
    "detection_threshold",
    "dice_per_case",
    "dice_per_class",
    "errors_found",
    "excess_aurc",
    "excess_aurc_interval",
    "expected_calibration_error",
    "fit_temperature",
    "generalized_energy_distance",
    "hausdorff95_per_case",
    "hausdorff95_per_class",
    "iou_per_case",
    "iou_per_class",
    "linear_correlation",
    "map_agreement",
    "mean_interval",
    "mean_surface_distance_per_case",
    "mean_surface_distance_per_class",
    "negative_log_likelihood",
    "nested_bootstrap_interval",
    "pairwise_dice",
    "rank_correlation",
    "rank_correlation_difference",
    "rater_dice",
    "rater_disagreement",
    "reliability_table",
    "risk_at_coverage",
    "risk_coverage",
    "surface_dice_per_case",
    "surface_dice_per_class",
    "variance_explained",
]
