"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from . import judge as judge
from . import ledger as ledger
from . import recheck as recheck
from . import registry as registry
from . import report as report
from . import runs as runs
from .joined import joined_cases as joined_cases
from .judge import Verdict as Verdict
from .registry import Claim as Claim
from .registry import read_claims as read_claims
from .statistics import STATISTICS as STATISTICS

__all__ = [
    "STATISTICS",
    "Claim",
    "Verdict",
    "joined_cases",
    "judge",
    "ledger",
    "read_claims",
    "recheck",
    "registry",
    "report",
    "runs",
]
