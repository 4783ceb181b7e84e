"""Where cases come from: a physics phantom that is always there, and real cohorts.

Devices: a cohort holds numpy arrays, so nothing here lies on a GPU.
"""

from segconf_lite.cohorts.cohort import Cohort

__all__ = ["Cohort"]
