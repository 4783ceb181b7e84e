"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .bootstrap import Interval as Interval
from .bootstrap import bootstrap_interval as bootstrap_interval
from .bootstrap import cluster_interval as cluster_interval
from .bootstrap import crossed_interval as crossed_interval
from .bootstrap import mean_interval as mean_interval
from .calibration import CalibrationCounter as CalibrationCounter
from .calibration import apply_temperature as apply_temperature
from .calibration import brier_score as brier_score
from .calibration import expected_calibration_error as expected_calibration_error
from .calibration import fit_temperature as fit_temperature
from .calibration import negative_log_likelihood as negative_log_likelihood
from .calibration import reliability_table as reliability_table
from .comparison import RankComparison as RankComparison
from .comparison import block_ranks as block_ranks
from .comparison import compare_ranks as compare_ranks
from .comparison import critical_difference as critical_difference
from .comparison import mean_ranks_within as mean_ranks_within
from .comparison import pareto_front as pareto_front
from .conformal import DensityRatio as DensityRatio
from .conformal import LowerBound as LowerBound
from .conformal import Martingale as Martingale
from .conformal import conformal_quantile as conformal_quantile
from .conformal import density_ratio as density_ratio
from .conformal import effective_sample_size as effective_sample_size
from .conformal import exchangeability_martingale as exchangeability_martingale
from .conformal import false_negative_rates as false_negative_rates
from .conformal import quality_lower_bound as quality_lower_bound
from .conformal import risk_controlling_threshold as risk_controlling_threshold
from .conformal import smallest_calibration_size as smallest_calibration_size
from .conformal import weighted_quantile as weighted_quantile
from .quality import case_table as case_table
from .quality import dice_per_case as dice_per_case
from .quality import dice_per_class as dice_per_class
from .quality import hausdorff95_per_case as hausdorff95_per_case
from .quality import hausdorff95_per_class as hausdorff95_per_class
from .quality import iou_per_case as iou_per_case
from .quality import iou_per_class as iou_per_class
from .quality import mean_surface_distance_per_case as mean_surface_distance_per_case
from .quality import mean_surface_distance_per_class as mean_surface_distance_per_class
from .quality import pairwise_dice as pairwise_dice
from .quality import surface_dice_per_case as surface_dice_per_case
from .quality import surface_dice_per_class as surface_dice_per_class
from .ranking import augrc as augrc
from .ranking import aurc as aurc
from .ranking import auroc as auroc
from .ranking import compare_methods as compare_methods
from .ranking import detection_rate as detection_rate
from .ranking import detection_threshold as detection_threshold
from .ranking import excess_aurc as excess_aurc
from .ranking import excess_aurc_interval as excess_aurc_interval
from .ranking import linear_correlation as linear_correlation
from .ranking import rank_correlation as rank_correlation
from .ranking import rank_correlation_difference as rank_correlation_difference
from .ranking import risk_at_coverage as risk_at_coverage
from .ranking import risk_coverage as risk_coverage
from .ranking import variance_explained as variance_explained
from .raters import boundary_band as boundary_band
from .raters import boundary_distance_px as boundary_distance_px
from .raters import errors_found as errors_found
from .raters import generalized_energy_distance as generalized_energy_distance
from .raters import geometric_maps as geometric_maps
from .raters import map_agreement as map_agreement
from .raters import rater_dice as rater_dice
from .raters import rater_disagreement as rater_disagreement
from .repeats import Estimate as Estimate
from .repeats import false_outperformance as false_outperformance
from .repeats import repeated_estimate as repeated_estimate

__all__ = [
    "CalibrationCounter",
    "DensityRatio",
    "Estimate",
    "Interval",
    "LowerBound",
    "Martingale",
    "RankComparison",
    "apply_temperature",
    "augrc",
    "aurc",
    "auroc",
    "block_ranks",
    "bootstrap_interval",
    "boundary_band",
    "boundary_distance_px",
    "brier_score",
    "case_table",
    "cluster_interval",
    "compare_methods",
    "compare_ranks",
    "conformal_quantile",
    "critical_difference",
    "crossed_interval",
    "density_ratio",
    "detection_rate",
    "detection_threshold",
    "dice_per_case",
    "dice_per_class",
    "effective_sample_size",
    "errors_found",
    "excess_aurc",
    "excess_aurc_interval",
    "exchangeability_martingale",
    "expected_calibration_error",
    "false_negative_rates",
    "false_outperformance",
    "fit_temperature",
    "generalized_energy_distance",
    "geometric_maps",
    "hausdorff95_per_case",
    "hausdorff95_per_class",
    "iou_per_case",
    "iou_per_class",
    "linear_correlation",
    "map_agreement",
    "mean_interval",
    "mean_ranks_within",
    "mean_surface_distance_per_case",
    "mean_surface_distance_per_class",
    "negative_log_likelihood",
    "pairwise_dice",
    "pareto_front",
    "quality_lower_bound",
    "rank_correlation",
    "rank_correlation_difference",
    "rater_dice",
    "rater_disagreement",
    "reliability_table",
    "repeated_estimate",
    "risk_at_coverage",
    "risk_controlling_threshold",
    "risk_coverage",
    "smallest_calibration_size",
    "surface_dice_per_case",
    "surface_dice_per_class",
    "variance_explained",
    "weighted_quantile",
]
