"""Whether trust was deserved: quality of a segmentation, and intervals around it."""

from segconf_lite.evaluation.intervals import Interval, mean_interval
from segconf_lite.evaluation.quality import dice_per_case, dice_per_class

__all__ = ["Interval", "dice_per_case", "dice_per_class", "mean_interval"]
