"""How far to trust a segmentation: one method, one class, one interface.

Every method has ``fit(unet, source_cohort)``, which returns the method itself, and
``uncertainty(images)``, (B,), higher = trust less. Methods with an uncertainty per pixel also have
``uncertainty_map(images)``, (B, H, W); those that predict a quality have
``predicted_quality(images)``, (B,) in [0, 1], higher = better. A fitted method can be saved with
``save(folder)``; `load(folder, network)` reads it, without a cohort. ``n_passes`` is the number of passes of
the network per case. No method changes the network, its modes, or torch's random state. Images and logits
that are not finite are refused: NaN has no largest class, so that it would look like a certain prediction.

Devices: a method computes on the device of the network; images may be on any device and are never changed;
what a method returns is on the CPU. After the network has been moved to another device, methods that learned
something beside it have to be fitted again.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

import importlib
from typing import Any

import lazy_loader

_of_this_room, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
# Of a later room, or beside the rooms, so they are looked up when they are asked for.
_ELSEWHERE = {"FragilityMap": "segconf_lite.fragility", "load": "segconf_lite.saving"}
__all__ += list(_ELSEWHERE)


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(_ELSEWHERE[name]), name)
    return _of_this_room(name)


def __dir__() -> list[str]:
    return sorted(__all__)
