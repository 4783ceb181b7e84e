"""A cardiac phantom: random anatomy, MR physics, raters. Needs no download."""

from segconf_lite.cohorts.phantom.annotators import Annotators as Annotators
from segconf_lite.cohorts.phantom.annotators import annotated_cohort as annotated_cohort
from segconf_lite.cohorts.phantom.annotators import annotation_entropy as annotation_entropy
from segconf_lite.cohorts.phantom.annotators import one_rater_each as one_rater_each
from segconf_lite.cohorts.phantom.phantom import cohort as cohort
from segconf_lite.cohorts.phantom.scanner import CAUSES as CAUSES
from segconf_lite.cohorts.phantom.scanner import SCANNERS as SCANNERS
from segconf_lite.cohorts.phantom.scanner import Scanner as Scanner
