"""Cohorts of your own: folders of images and segmentations, read as a `Cohort` or described first.

Devices: a cohort holds numpy arrays, so nothing here lies on a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
