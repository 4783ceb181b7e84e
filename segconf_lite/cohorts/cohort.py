"""The one type that every source of cases yields.

Shape letters: N cases (2-D slices), R raters, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from segconf_lite.cohorts._checks import check_images, check_labels, check_raters

__all__ = ["Cohort"]

_PER_CASE_TEXT = ("domains", "subjects", "sessions")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Cohort:
    """Slices with reference labels, and who and what they came from.

    Attributes:
        images: (N, 1, H, W) float32, finite; grey values, normally z-scored per slice.
        labels: (N, H, W) int64 reference in ``0 .. len(class_names) - 1``; 0 is background.
        domains: (N,) text, the scanner or scanner group of each case.
        subjects: (N,) text, the person of each case. Splits never divide a subject.
        spacing_mm: (N, 2) float64, row and column spacing in millimetres, > 0.
        class_names: one name per label value, background first.
        raters: (N, R, H, W) int64 labels of R independent raters, or None.
        sessions: (N,) text, the scan session of each case; defaults to the subject.

    Raises:
        ValueError: On construction, if a shape, dtype, label or value is not as above. The
            message says what was expected, what came, and how to mend it.
    """

    images: np.ndarray
    labels: np.ndarray
    domains: np.ndarray
    subjects: np.ndarray
    spacing_mm: np.ndarray
    class_names: tuple[str, ...]
    raters: np.ndarray | None = None
    sessions: np.ndarray | None = None

    def __post_init__(self) -> None:
        set_field = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (frozen)
        if self.sessions is None:
            set_field("sessions", self.subjects)
        for name in _PER_CASE_TEXT:
            set_field(name, np.asarray(getattr(self, name), dtype=str))
        set_field("spacing_mm", np.asarray(self.spacing_mm, dtype=np.float64))
        set_field("class_names", tuple(self.class_names))
        check_images(self.images)
        check_labels("labels", self.labels, self.images.shape, len(self.class_names))
        if self.raters is not None:
            check_raters(self.raters, self.images.shape, len(self.class_names))
        self._check_per_case()

    def _check_per_case(self) -> None:
        n = len(self.images)
        for name in _PER_CASE_TEXT:
            if getattr(self, name).shape != (n,):
                raise ValueError(
                    f"{name} must have one entry per case, expected shape ({n},), "
                    f"got {getattr(self, name).shape}"
                )
        if self.spacing_mm.shape != (n, 2):
            raise ValueError(
                f"spacing_mm must be (row, column) per case, expected shape ({n}, 2), "
                f"got {self.spacing_mm.shape}"
            )
        if not (np.isfinite(self.spacing_mm).all() and (self.spacing_mm > 0).all()):
            raise ValueError("spacing_mm must be finite and > 0 mm; check the image header")
        owner: dict[str, str] = {}
        for session, subject in zip(self.sessions.tolist(), self.subjects.tolist(), strict=True):  # type: ignore[union-attr]
            if owner.setdefault(session, subject) != subject:
                raise ValueError(
                    f"session {session!r} belongs to two subjects, {owner[session]!r} and "
                    f"{subject!r}; make session names unique, e.g. '{subject}-{session}'"
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        per_domain = ", ".join(
            f"{name}: {np.count_nonzero(self.domains == name)}" for name in _ordered_unique(self.domains)
        )
        raters = "" if self.raters is None else f", {self.raters.shape[1]} raters"
        return (
            f"Cohort({len(self)} slices of {height}x{width} from {len(set(self.subjects))} subjects; "
            f"domains {{{per_domain}}}; classes {', '.join(self.class_names)}{raters})"
        )

    @property
    def domain_names(self) -> tuple[str, ...]:
        """Domains in order of first appearance."""
        return _ordered_unique(self.domains)

    def take(self, index: np.ndarray) -> Cohort:
        """The cases at ``index`` ((n,) integers or an (N,) boolean mask), in that order."""
        fields: dict[str, Any] = {
            name: getattr(self, name)[index]
            for name in ("images", "labels", "domains", "subjects", "spacing_mm", "sessions")
        }
        raters = None if self.raters is None else self.raters[index]
        return Cohort(**fields, raters=raters, class_names=self.class_names)

    def where(
        self,
        *,
        domain: str | Sequence[str] | None = None,
        subject: str | Sequence[str] | None = None,
        session: str | Sequence[str] | None = None,
    ) -> Cohort:
        """The cases that match every given name (or any name of a given list).

        Raises:
            ValueError: If a name is not in the cohort; the message lists those that are.
        """
        keep = np.ones(len(self), dtype=bool)
        wanted = {"domain": domain, "subject": subject, "session": session}
        for kind, names in wanted.items():
            if names is None:
                continue
            column = getattr(self, kind + "s")
            chosen = [names] if isinstance(names, str) else [str(name) for name in names]
            missing = sorted(set(chosen) - set(column))
            if missing:
                raise ValueError(
                    f"no {kind} {missing} in this cohort; it has {list(_ordered_unique(column))}"
                )
            keep &= np.isin(column, chosen)
        if not keep.any():
            raise ValueError(f"no case of this cohort matches all of {wanted}; loosen one of them")
        return self.take(keep)

    def split(self, fractions: Sequence[float], *, by: str = "subject", seed: int = 0) -> tuple[Cohort, ...]:
        """Disjoint parts that share no subject (slices of one heart are near copies).

        Args:
            fractions: shares of the *subjects*, each > 0, sum at most 1. Every part gets at
                least one subject; what is left over is dropped.
            by: ``"subject"``. Splitting sessions or slices would leak, so nothing else is taken.
            seed: order of the draw; equal seeds give equal parts.

        Returns:
            One cohort per fraction.

        Raises:
            ValueError: If the fractions are not as above, or there are fewer subjects than parts.
        """
        if by != "subject":
            raise ValueError(
                f"by must be 'subject', got {by!r}: slices or sessions of one subject are near "
                "copies, and dividing them would leak the test set into training"
            )
        shares = list(fractions)
        if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(f"fractions must each be > 0 and sum to at most 1, got {shares}")
        names = np.array(sorted(set(self.subjects)))
        if len(names) < len(shares):
            raise ValueError(f"{len(shares)} parts need at least as many subjects, got {len(names)}")
        order = np.random.default_rng(seed).permutation(names)
        ends = _part_ends(shares, len(names))
        starts = [0, *ends[:-1]]
        return tuple(
            self.take(np.isin(self.subjects, order[start:end]))
            for start, end in zip(starts, ends, strict=True)
        )

    @staticmethod
    def concatenate(cohorts: Sequence[Cohort]) -> Cohort:
        """One cohort of all cases, in order.

        Raises:
            ValueError: If classes or image sizes differ, or only some have raters.
        """
        if not cohorts:
            raise ValueError("concatenate needs at least one cohort, got none")
        kinds = {
            (c.class_names, c.images.shape[1:], None if c.raters is None else c.raters.shape[1])
            for c in cohorts
        }
        if len(kinds) != 1:
            raise ValueError(
                "cohorts must agree in class_names, image size and number of raters, got "
                + "; ".join(map(str, kinds))
            )
        join = lambda name: np.concatenate([getattr(c, name) for c in cohorts])  # noqa: E731
        return Cohort(
            images=join("images"), labels=join("labels"), domains=join("domains"),
            subjects=join("subjects"), sessions=join("sessions"), spacing_mm=join("spacing_mm"),
            class_names=cohorts[0].class_names,
            raters=None if cohorts[0].raters is None else join("raters"),
        )  # fmt: skip

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content: equal cohorts, and only those, share it."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for name in ("images", "labels", "raters", "spacing_mm"):
            array = getattr(self, name)
            digest.update(f"{name}{None if array is None else (array.shape, array.dtype.str)}".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        for name in _PER_CASE_TEXT:
            digest.update("\0".join([name, *getattr(self, name)]).encode())
        return digest.hexdigest()


def _ordered_unique(values: np.ndarray) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value) for value in values))


def _part_ends(shares: Sequence[float], n_subjects: int) -> list[int]:
    """Subject counts at which parts end: rounded shares, every part non-empty."""
    ends = np.rint(np.cumsum(shares) * n_subjects).astype(int)
    for part in range(len(ends)):
        first_possible = ends[part - 1] + 1 if part else 1
        last_possible = n_subjects - (len(ends) - 1 - part)
        ends[part] = min(max(ends[part], first_possible), last_possible)
    return ends.tolist()
