"""What segments: a small U-Net, the one training loop, and trained artefacts on disk.

Devices: a network is trained on the device that `pick_device` chooses and stays there, and so do the
tensors inside a computation. `predict_probabilities` takes images from anywhere, copies them to the
network, and returns probabilities on the CPU.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segconf_lite import _lazy

if TYPE_CHECKING:
    from segconf_lite.models.autoencoder import ActivationAutoencoder
    from segconf_lite.models.autoencoder_training import fit_autoencoder, stored_autoencoder
    from segconf_lite.models.fit import fit_unet
    from segconf_lite.models.members import stored_unets
    from segconf_lite.models.network_training import fit_network, stored_segmenter
    from segconf_lite.models.segmenter import Segmenter
    from segconf_lite.models.store import load_or_fit
    from segconf_lite.models.taps import Taps
    from segconf_lite.models.unet import UNet, predict_probabilities

__all__ = [
    "ActivationAutoencoder", "Segmenter", "Taps", "UNet", "fit_autoencoder", "fit_network", "fit_unet",
    "load_or_fit", "predict_probabilities", "stored_autoencoder", "stored_segmenter", "stored_unets",
]  # fmt: skip

_HOME = {
    "ActivationAutoencoder": "autoencoder",
    "Segmenter": "segmenter",
    "Taps": "taps",
    "UNet": "unet",
    "fit_autoencoder": "autoencoder_training",
    "fit_network": "network_training",
    "fit_unet": "fit",
    "load_or_fit": "store",
    "predict_probabilities": "unet",
    "stored_autoencoder": "autoencoder_training",
    "stored_segmenter": "network_training",
    "stored_unets": "members",
}


def __getattr__(name: str) -> Any:
    return _lazy.load(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
