"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .assumptions import check_input_assumptions as check_input_assumptions
from .assumptions import compare_properties as compare_properties
from .assumptions import input_properties as input_properties
from .failures import FailureReport as FailureReport
from .failures import failure_report as failure_report
from .recommend import Recommendation as Recommendation
from .recommend import choose as choose
from .recommend import leave_one_scanner_out as leave_one_scanner_out
from .recommend import recommend_method as recommend_method
from .recommend import seed_means as seed_means
from .sensitivity import sensitivity_report as sensitivity_report
from .trust_card import trust_card_text as trust_card_text
from .trust_card import trust_cards as trust_cards

__all__ = [
    "FailureReport",
    "Recommendation",
    "check_input_assumptions",
    "choose",
    "compare_properties",
    "failure_report",
    "input_properties",
    "leave_one_scanner_out",
    "recommend_method",
    "seed_means",
    "sensitivity_report",
    "trust_card_text",
    "trust_cards",
]
