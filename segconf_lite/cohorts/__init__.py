"""Where cases come from: a physics phantom that is always there, synthetic objects, and real cohorts.

Devices: a cohort holds numpy arrays, so nothing here lies on a GPU.

Importing this package loads neither torch nor monai.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
