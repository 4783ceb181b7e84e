"""Stored predictions, without the network: read, measured case by case, and reviewed on one page.

Devices: everything here lies on the CPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
