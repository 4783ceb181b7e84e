"""Where cases come from: a physics phantom that is always there, and real cohorts."""

from segconf_lite.cohorts.cohort import Cohort

__all__ = ["Cohort"]
