"""Figures and widgets: they draw results, and compute nothing that is a result.

Arrays and tensors may come from any device. Importing this room loads neither plotly nor pandas; the
first use of a name does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
