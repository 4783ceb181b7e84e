"""How little would it take to flip this pixel? Other models that the training cases allow as well.

Devices: searches run where the network lies; images come from anywhere and are never changed; costs,
histories and the weights that were found are returned on the CPU.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segconf_lite import _lazy

if TYPE_CHECKING:
    from segconf_lite.fragility.decomposition import Decomposition, decompose
    from segconf_lite.fragility.maps import FragilityMap
    from segconf_lite.fragility.mask_search import MaskSearch, penalty_set, search_masks
    from segconf_lite.fragility.optimum import polish
    from segconf_lite.fragility.pixel_search import PixelSearch, search_pixels
    from segconf_lite.fragility.quadratic_search import HeadSearch, TangentSearch
    from segconf_lite.fragility.ring import geometry_ring
    from segconf_lite.fragility.strata import stratified_pixels
    from segconf_lite.fragility.weight_noise import WeightNoise

__all__ = [
    "Decomposition", "FragilityMap", "HeadSearch", "MaskSearch", "PixelSearch", "TangentSearch",
    "WeightNoise", "decompose", "geometry_ring", "penalty_set", "polish", "search_masks", "search_pixels",
    "stratified_pixels",
]  # fmt: skip

_HOME = {
    "Decomposition": "decomposition",
    "FragilityMap": "maps",
    "HeadSearch": "quadratic_search",
    "MaskSearch": "mask_search",
    "PixelSearch": "pixel_search",
    "TangentSearch": "quadratic_search",
    "WeightNoise": "weight_noise",
    "decompose": "decomposition",
    "geometry_ring": "ring",
    "penalty_set": "mask_search",
    "polish": "optimum",
    "search_masks": "mask_search",
    "search_pixels": "pixel_search",
    "stratified_pixels": "strata",
}


def __getattr__(name: str) -> Any:
    return _lazy.load(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
