"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .describe import FolderReport as FolderReport
from .describe import describe_folder as describe_folder
from .folder import from_folder as from_folder
from .stored import DamagedCaseError as DamagedCaseError

__all__ = ["DamagedCaseError", "FolderReport", "describe_folder", "from_folder"]
