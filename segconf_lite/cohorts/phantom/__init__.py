"""A cardiac phantom: random anatomy, MR physics, raters. Needs no download."""

from segconf_lite.cohorts.phantom.phantom import cohort
from segconf_lite.cohorts.phantom.scanner import CAUSES, SCANNERS, Scanner

__all__ = ["CAUSES", "SCANNERS", "Scanner", "cohort"]
