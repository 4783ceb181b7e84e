"""What breaks a segmentation: corruptions, textures, windows, attacks; and baselines that learn nothing.

Whatever draws at random takes a generator or a seed; whatever runs a network leaves it, its modes and torch's
random state as they were.

Devices: images come from anywhere and are never changed; the network may lie on any device, also one
without double precision, since the arithmetic of attacks is done on the CPU; results are on the CPU.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segconf_lite import _lazy

if TYPE_CHECKING:
    from segconf_lite.stress.attacks import (
        Attacked,
        apgd,
        case_loss,
        epsilon_per_image,
        fgsm,
        loss_gradient,
        pgd,
        random_noise,
        segpgd,
        worst_of,
    )
    from segconf_lite.stress.balls import ball_cohort, ball_volumes, crop_around
    from segconf_lite.stress.corruptions import StrongCorruption
    from segconf_lite.stress.gradient_masking import QuantisedInput, masking_report
    from segconf_lite.stress.ladders import LADDERS, corrupt, ladder_table
    from segconf_lite.stress.level_sets import chan_vese_labels, local_fitting_labels
    from segconf_lite.stress.smoothing import certified_segmentation
    from segconf_lite.stress.textures import null_cohort, texture_cohort, texture_divergence
    from segconf_lite.stress.windows import foreground_ratio, window_probabilities, window_starts

__all__ = [
    "LADDERS", "Attacked", "QuantisedInput", "StrongCorruption", "apgd", "ball_cohort", "ball_volumes",
    "case_loss", "certified_segmentation", "chan_vese_labels", "corrupt", "crop_around", "epsilon_per_image",
    "fgsm", "foreground_ratio", "ladder_table", "local_fitting_labels", "loss_gradient", "masking_report",
    "null_cohort", "pgd", "random_noise", "segpgd", "texture_cohort", "texture_divergence",
    "window_probabilities", "window_starts", "worst_of",
]  # fmt: skip

_NAMES = {
    "attacks": (
        "Attacked", "apgd", "case_loss", "epsilon_per_image", "fgsm", "loss_gradient", "pgd", "random_noise",
        "segpgd", "worst_of",
    ),
    "balls": ("ball_cohort", "ball_volumes", "crop_around"),
    "corruptions": ("StrongCorruption",),
    "gradient_masking": ("QuantisedInput", "masking_report"),
    "ladders": ("LADDERS", "corrupt", "ladder_table"),
    "level_sets": ("chan_vese_labels", "local_fitting_labels"),
    "smoothing": ("certified_segmentation",),
    "textures": ("null_cohort", "texture_cohort", "texture_divergence"),
    "windows": ("foreground_ratio", "window_probabilities", "window_starts"),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    return _lazy.load(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
