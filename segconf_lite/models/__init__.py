"""What segments: a small U-Net, the one training loop, and trained artefacts on disk.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segconf_lite.models.autoencoder import ActivationAutoencoder
    from segconf_lite.models.autoencoder_training import fit_autoencoder, stored_autoencoder
    from segconf_lite.models.fit import fit_unet
    from segconf_lite.models.store import load_or_fit
    from segconf_lite.models.taps import Taps
    from segconf_lite.models.unet import UNet, predict_probabilities

__all__ = [
    "ActivationAutoencoder", "Taps", "UNet", "fit_autoencoder", "fit_unet", "load_or_fit",
    "predict_probabilities", "stored_autoencoder",
]  # fmt: skip

_HOME = {
    "ActivationAutoencoder": "segconf_lite.models.autoencoder",
    "Taps": "segconf_lite.models.taps",
    "UNet": "segconf_lite.models.unet",
    "fit_autoencoder": "segconf_lite.models.autoencoder_training",
    "fit_unet": "segconf_lite.models.fit",
    "load_or_fit": "segconf_lite.models.store",
    "predict_probabilities": "segconf_lite.models.unet",
    "stored_autoencoder": "segconf_lite.models.autoencoder_training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
