"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .autoencoder import ActivationAutoencoder as ActivationAutoencoder
from .autoencoder_training import fit_autoencoder as fit_autoencoder
from .autoencoder_training import stored_autoencoder as stored_autoencoder
from .fit import fit_unet as fit_unet
from .members import stored_unets as stored_unets
from .network_training import fit_network as fit_network
from .network_training import stored_segmenter as stored_segmenter
from .segmenter import Segmenter as Segmenter
from .store import load_or_fit as load_or_fit
from .taps import Taps as Taps
from .unet import UNet as UNet
from .unet import predict_probabilities as predict_probabilities

__all__ = [
    "ActivationAutoencoder",
    "Segmenter",
    "Taps",
    "UNet",
    "fit_autoencoder",
    "fit_network",
    "fit_unet",
    "load_or_fit",
    "predict_probabilities",
    "stored_autoencoder",
    "stored_segmenter",
    "stored_unets",
]
