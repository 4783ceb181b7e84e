"""Whether trust was deserved: quality of a segmentation, order of an uncertainty, and intervals.

Devices: arrays and tensors come from anywhere, results are numpy arrays, tables and numbers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
