"""How files become slices: the settings of `from_folder` that are passed on whole."""

from __future__ import annotations

import dataclasses

from segconf_lite import check
from segconf_lite.readers import geometry


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become slices; see `from_folder` for each of them.

    Raises:
        ValueError: If a value is out of range, or one is missing that another needs.

    Example:
        >>> Reading(spacing_mm=1.0)
        Traceback (most recent call last):
        ValueError: size must be given with spacing_mm, got None; e.g. size=256 pixels
    """

    plane: str = "coarsest"
    size: int | None = None
    spacing_mm: float | None = None
    unstated_spacing_mm: float | None = None
    slices: str = "all"
    normalise: str | None = "per_image"
    source: str | None = None
    reference: str | None = None
    split: str | None = None
    limit: int | None = None
    skip_damaged: bool = False
    most_bytes: int = 2**30

    def __post_init__(self) -> None:
        check.one_of("plane", self.plane, geometry.PLANES)
        check.one_of("slices", self.slices, ("all", "labelled"))
        check.one_of("normalise", self.normalise, ("per_image", "source", None))
        check.integer("most_bytes", self.most_bytes, low=1)
        if self.size is not None:
            check.integer("size", self.size, low=1, high=4096, fix="e.g. size=256 pixels")
        if self.limit is not None:
            check.integer("limit", self.limit, low=1)
        for name in ("spacing_mm", "unstated_spacing_mm"):
            if getattr(self, name) is not None:
                check.between(name, getattr(self, name), 0.01, 100, fix="in millimetres")
        if self.spacing_mm is not None and self.size is None:
            raise check.refuse("size", "given with spacing_mm", None, "e.g. size=256 pixels")
        if (self.source is None) != (self.normalise != "source"):
            raise check.refuse(
                "source", "the name of a domain if and only if normalise='source'", self.source
            )
