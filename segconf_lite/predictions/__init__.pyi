"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .cases import PredictedCase as PredictedCase
from .page import write_page as write_page
from .reader import Predictions as Predictions
from .reader import from_predictions as from_predictions
from .review import Review as Review
from .review import review_predictions as review_predictions
from .volumes import pooled_uncertainty as pooled_uncertainty
from .volumes import slice_table as slice_table
from .volumes import volume_quality as volume_quality
from .volumes import volume_table as volume_table
from .volumes import volume_uncertainty as volume_uncertainty

__all__ = [
    "PredictedCase",
    "Predictions",
    "Review",
    "from_predictions",
    "pooled_uncertainty",
    "review_predictions",
    "slice_table",
    "volume_quality",
    "volume_table",
    "volume_uncertainty",
    "write_page",
]
