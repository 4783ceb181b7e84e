"""Whether trust was deserved: quality of a segmentation, and intervals around it."""

from segconf_lite.evaluation.intervals import Interval, mean_interval
from segconf_lite.evaluation.quality import dice_per_case, dice_per_class
from segconf_lite.evaluation.table import case_table

__all__ = ["Interval", "case_table", "dice_per_case", "dice_per_class", "mean_interval"]
