"""What segments: a small U-Net, the one training loop, and trained artefacts on disk.

Devices: a network is trained on the device that `pick_device` chooses and stays there, and so do the
tensors inside a computation. `predict_probabilities` takes images from anywhere, copies them to the
network, and returns probabilities on the CPU.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
