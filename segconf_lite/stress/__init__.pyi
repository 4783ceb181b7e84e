"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .attacks import Attacked as Attacked
from .attacks import apgd as apgd
from .attacks import case_loss as case_loss
from .attacks import epsilon_per_image as epsilon_per_image
from .attacks import fgsm as fgsm
from .attacks import loss_gradient as loss_gradient
from .attacks import pgd as pgd
from .attacks import random_noise as random_noise
from .attacks import segpgd as segpgd
from .attacks import worst_of as worst_of
from .corruptions import LADDERS as LADDERS
from .corruptions import StrongCorruption as StrongCorruption
from .corruptions import corrupt as corrupt
from .corruptions import ladder_table as ladder_table
from .level_sets import chan_vese_labels as chan_vese_labels
from .level_sets import local_fitting_labels as local_fitting_labels
from .masking import QuantisedInput as QuantisedInput
from .masking import masking_report as masking_report
from .smoothing import certified_segmentation as certified_segmentation
from .windows import crop_around as crop_around
from .windows import foreground_ratio as foreground_ratio
from .windows import window_probabilities as window_probabilities
from .windows import window_starts as window_starts

__all__ = [
    "Attacked",
    "LADDERS",
    "QuantisedInput",
    "StrongCorruption",
    "apgd",
    "case_loss",
    "certified_segmentation",
    "chan_vese_labels",
    "corrupt",
    "crop_around",
    "epsilon_per_image",
    "fgsm",
    "foreground_ratio",
    "ladder_table",
    "local_fitting_labels",
    "loss_gradient",
    "masking_report",
    "pgd",
    "random_noise",
    "segpgd",
    "window_probabilities",
    "window_starts",
    "worst_of",
]
