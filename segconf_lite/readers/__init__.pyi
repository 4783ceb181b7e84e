"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from . import acdc as acdc
from . import brains as brains
from . import decathlon as decathlon
from . import heart as heart
from . import mnms as mnms
from . import prostate as prostate
from . import refuge as refuge
from .describe import FolderReport as FolderReport
from .describe import describe_folder as describe_folder
from .folder import from_folder as from_folder
from .stored import DamagedCaseError as DamagedCaseError

__all__ = [
    "DamagedCaseError",
    "FolderReport",
    "acdc",
    "brains",
    "decathlon",
    "describe_folder",
    "from_folder",
    "heart",
    "mnms",
    "prostate",
    "refuge",
]
