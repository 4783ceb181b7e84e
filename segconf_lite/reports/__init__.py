"""Tables to read before one trusts a network with a cohort: what matters, what fails, what is foreign.

Devices: arrays and tensors come from anywhere, results are tables.
"""

from segconf_lite.reports.assumptions import check_input_assumptions, input_properties
from segconf_lite.reports.failures import FailureReport, failure_report
from segconf_lite.reports.sensitivity import sensitivity_report

__all__ = [
    "FailureReport", "check_input_assumptions", "failure_report", "input_properties", "sensitivity_report",
]  # fmt: skip
