"""What breaks a segmentation: corruptions, windows, attacks; and baselines that learn nothing.

Whatever draws at random takes a generator or a seed; whatever runs a network leaves it, its modes and torch's
random state as they were.

Devices: images come from anywhere and are never changed; the network may lie on any device, also one
without double precision, since the arithmetic of attacks is done on the CPU; results are on the CPU.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
