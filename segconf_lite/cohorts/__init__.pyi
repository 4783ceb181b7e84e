"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from . import download as download
from . import gm_challenge as gm_challenge
from . import lidc as lidc
from . import phantom as phantom
from . import published as published
from . import retina as retina
from . import textures as textures
from .appearance import appearance_distance as appearance_distance
from .appearance import appearance_features as appearance_features
from .balls import ball_cohort as ball_cohort
from .balls import ball_volumes as ball_volumes
from .cohort import Cohort as Cohort
from .textures import null_cohort as null_cohort
from .textures import texture_cohort as texture_cohort
from .textures import texture_divergence as texture_divergence

__all__ = [
    "Cohort",
    "appearance_distance",
    "appearance_features",
    "ball_cohort",
    "ball_volumes",
    "download",
    "gm_challenge",
    "lidc",
    "null_cohort",
    "phantom",
    "published",
    "retina",
    "texture_cohort",
    "texture_divergence",
    "textures",
]
