"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .assumptions import check_input_assumptions as check_input_assumptions
from .assumptions import input_properties as input_properties
from .failures import FailureReport as FailureReport
from .failures import failure_report as failure_report
from .sensitivity import sensitivity_report as sensitivity_report

__all__ = [
    "FailureReport",
    "check_input_assumptions",
    "failure_report",
    "input_properties",
    "sensitivity_report",
]
