"""A cardiac phantom: random anatomy, MR physics, raters. Needs no download."""

from segconf_lite.cohorts.phantom.annotators import (
    Annotators,
    annotated_cohort,
    annotation_entropy,
    one_rater_each,
)
from segconf_lite.cohorts.phantom.phantom import cohort
from segconf_lite.cohorts.phantom.scanner import CAUSES, SCANNERS, Scanner

__all__ = [
    "CAUSES",
    "SCANNERS",
    "Annotators",
    "Scanner",
    "annotated_cohort",
    "annotation_entropy",
    "cohort",
    "one_rater_each",
]
