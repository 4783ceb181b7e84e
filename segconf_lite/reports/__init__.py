"""Tables to read before one trusts a network with a cohort: what matters, what fails, what is outside.

Devices: arrays and tensors come from anywhere, results are tables.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
