"""The spinal-cord grey-matter challenge: a real cohort of three scanner groups and six sites.

Axial T2*-weighted slices of the neck with the cord and its grey matter drawn by one rater.

Source: Prados et al., "Spinal cord grey matter segmentation challenge", NeuroImage 152 (2017);
data of https://github.com/sct-pipeline/gm-challenge-data (CC0 1.0), 8 sessions of 6 people.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from segconf_lite.cohorts import download
from segconf_lite.cohorts._bids import Scan, read_scan
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.cohorts.localise import cord_line

if TYPE_CHECKING:
    import pandas as pd
