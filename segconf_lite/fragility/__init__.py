"""How little would it take to flip this pixel? Other models that the training cases allow as well.

Devices: searches run where the network lies; images come from anywhere and are never changed; costs,
histories and the weights of the networks found are returned on the CPU.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
