"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .decomposition import Decomposition as Decomposition
from .decomposition import decompose as decompose
from .head import HeadSearch as HeadSearch
from .head import check_closed_form as check_closed_form
from .maps import FragilityMap as FragilityMap
from .mask_search import MaskSearch as MaskSearch
from .mask_search import geometry_ring as geometry_ring
from .mask_search import penalty_set as penalty_set
from .mask_search import search_masks as search_masks
from .optimum import polish as polish
from .pixel_search import PixelSearch as PixelSearch
from .pixel_search import search_pixels as search_pixels
from .pixel_search import stratified_pixels as stratified_pixels
from .tangent import TangentSearch as TangentSearch
from .weight_noise import WeightNoise as WeightNoise

__all__ = [
    "Decomposition",
    "FragilityMap",
    "HeadSearch",
    "MaskSearch",
    "PixelSearch",
    "TangentSearch",
    "WeightNoise",
    "check_closed_form",
    "decompose",
    "geometry_ring",
    "penalty_set",
    "polish",
    "search_masks",
    "search_pixels",
    "stratified_pixels",
]
