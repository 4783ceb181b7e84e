"""Checks of the first cell of every chapter: the version of the package, and the device in use."""

import sys
import warnings

from segconf_lite import __version__


def welcome(written_for: str) -> None:
    """Compare the package with the notebook and, on Colab, print on which device the notebook will run.

    Elsewhere than on Colab nothing is printed, and another version is only a warning.

    Args:
        written_for: The version of ``segconf_lite`` for which the notebook was written, e.g. ``"0.1.0"``.

    Raises:
        RuntimeError: On Colab, if another version is loaded. The message says what to do.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     welcome("9.9")
        >>> print(str(caught[0].message)[:44])
        this notebook was written for segconf_lite 9
    """
    on_colab = "google.colab" in sys.modules
    if __version__ != written_for:
        message = f"this notebook was written for segconf_lite {written_for}, but {__version__} is loaded"
        if on_colab:
            raise RuntimeError(
                f"{message}. Choose Runtime > Restart session, then run the first cell again: "
                "it installs the right version"
            )
        warnings.warn(
            f"{message}; `segconf notebooks FOLDER` copies the notebooks of the installed version",
            stacklevel=2,
        )
    if on_colab:
        print(_device())


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"CUDA: {torch.cuda.get_device_name()}"
    return "No GPU: this runs on the CPU; to change that: Runtime > Change runtime type"
