"""Can you trust this segmentation? Confidence methods, and the means to judge them.

The rooms of the package, in the order in which data passes through them:
`cohorts` -> `models` -> `confidence` -> `fragility` -> `evaluation` -> `claims` -> `reports` -> `show`,
with `readers` beside `cohorts`, `stress` beside `models`, and `predictions` last, where no network is needed.
Rooms are imported on first use, so that ``import segconf_lite`` stays free of torch and MONAI.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = (
    "claims",
    "cohorts",
    "confidence",
    "evaluation",
    "fragility",
    "models",
    "predictions",
    "readers",
    "reports",
    "show",
    "stress",
)

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return sorted(__all__)
