"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .adapted import Adapted as Adapted
from .adapted import adapt as adapt
from .autoencoder import ActivationAutoencoder as ActivationAutoencoder
from .autoencoder_training import fit_autoencoder as fit_autoencoder
from .fit import fit_network as fit_network
from .fit import fit_unet as fit_unet
from .probing import Probe as Probe
from .probing import probe as probe
from .segmenter import Segmenter as Segmenter
from .store import fitted as fitted
from .store import fitted_each as fitted_each
from .taps import Taps as Taps
from .training import Training as Training
from .unet import UNet as UNet
from .unet import predict_probabilities as predict_probabilities

__all__ = [
    "ActivationAutoencoder",
    "Adapted",
    "Probe",
    "Segmenter",
    "Taps",
    "Training",
    "UNet",
    "adapt",
    "fit_autoencoder",
    "fit_network",
    "fit_unet",
    "fitted",
    "fitted_each",
    "predict_probabilities",
    "probe",
]
