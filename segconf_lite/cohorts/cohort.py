"""The one type in which every source returns its cases.

Shape letters: N cases (2-D slices), C channels, R raters, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from segconf_lite import check
from segconf_lite.arrays import to_numpy

_Names = str | Sequence[str] | None
_NAMES = ("domains", "subjects", "sessions")
_ARRAYS = ("images", "labels", "raters", "spacing_mm")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Cohort:
    """Slices with reference labels, and the scanner and the person they came from.

    Images may be arrays or tensors of any real type, and become float32. Labels may be of any type if their
    values are integers, and become int64.

    Attributes:
        images: (N, C, H, W) float32, finite intensities, normally z-scored per slice. C is 1 but for colours
            or several MR sequences; the methods take any C, corruptions and attacks a single channel.
        labels: (N, H, W) int64 reference in ``0 .. len(class_names) - 1``; 0 is background.
        domains: (N,) text, the scanner or scanner group of each case.
        subjects: (N,) text, the person of each case. Splits never divide a subject.
        spacing_mm: (N, 2) float64, row and column spacing in millimetres, > 0; (2,) counts for all cases.
        class_names: One name per label value, background first.
        raters: (N, R, H, W) int64 labels of R independent raters, or None. -1 at every pixel of a slice
            stands for a rater who did not segment it.
        sessions: (N,) text, the scan session of each case; defaults to the subject.

    Raises:
        ValueError: On construction, if a shape, label, name or value is not as above. The message says what
            was expected, what came, and how to mend it.

    Example:
        >>> images = np.zeros((4, 1, 8, 8), np.float32)
        >>> labels = np.zeros((4, 8, 8), np.int64)
        >>> people = {"domains": ["A", "A", "B", "B"], "subjects": [1, 1, 2, 2]}
        >>> Cohort(images, labels, **people, spacing_mm=(1.0, 1.0), class_names=("background", "organ"))
        Cohort(4 slices of 8x8 from 2 subjects; domains {A: 2, B: 2}; classes background, organ)
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
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            images = to_numpy(check.image_batch(self.images, channels=None)).astype(np.float32, copy=False)
        n, _, height, width = check.finite("images", images, fix="scale them to the range of float32").shape
        class_names = tuple(check.names("class_names", self.class_names, unique=True).tolist())
        fields: dict[str, Any] = {"images": images, "class_names": class_names}
        labels_as: dict[str, Any] = {"n_classes": len(class_names), "shape": (n, height, width)}
        fields["labels"] = check.label_map("labels", self.labels, **labels_as)
        if self.raters is not None:
            raters = check.array("raters", self.raters, "N R H W")
            labels_as["shape"] = (n, raters.shape[1], height, width)
            fields["raters"] = check.label_map("raters", raters, **labels_as, ignore=-1)
            missing = (fields["raters"] == -1).mean(axis=(2, 3))
            if not np.isin(missing, (0, 1)).all():
                raise check.refuse(
                    "raters", "-1 on a whole slice or nowhere on it", "-1 on a part of a slice"
                )
        fields["spacing_mm"] = np.array(check.spacing(self.spacing_mm, length=n))
        for name in _NAMES:
            values = self.subjects if name == "sessions" and self.sessions is None else getattr(self, name)
            fields[name] = check.names(name, values, length=n)
        subject_of: dict[str, str] = {}
        for session, subject in zip(fields["sessions"].tolist(), fields["subjects"].tolist(), strict=True):
            if subject_of.setdefault(session, subject) != subject:
                got = f"of '{subject_of[session]}' and of '{subject}'"
                fix = f"make session names unique, e.g. '{subject}-{session}'"
                raise check.refuse(f"session '{session}'", "of one subject", got, fix)
        for name, value in fields.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        per_domain = ", ".join(
            f"{name}: {np.count_nonzero(self.domains == name)}" for name in self.domain_names
        )
        raters = "" if self.raters is None else f", {self.raters.shape[1]} raters"
        return (
            f"Cohort({len(self)} slices of {height}x{width} from {len(set(self.subjects))} subjects; "
            f"domains {{{per_domain}}}; classes {', '.join(self.class_names)}{raters})"
        )

    @property
    def domain_names(self) -> tuple[str, ...]:
        """Domains in order of first appearance."""
        return tuple(dict.fromkeys(self.domains.tolist()))

    def take(self, index: np.ndarray) -> Cohort:
        """The cases at ``index``, in that order.

        Args:
            index: (n,) integers in ``-N .. N - 1``, or an (N,) boolean mask that is true at least once.

        Raises:
            ValueError: If the index is neither.
        """
        n, index = len(self), check.array("index", index, "n_cases", fix="take at least one case")
        if index.dtype.kind == "b":
            if len(index) != n or not index.any():
                raise check.refuse("index", f"a mask of {n} cases, one of them true", f"{len(index)} values")
        elif index.dtype.kind == "f" or index.min() < -n or index.max() >= n:
            got = f"{index.min()}..{index.max()} ({index.dtype})"
            raise check.refuse("index", f"integers in {-n}..{n - 1}", got)
        taken: dict[str, Any] = {
            name: None if values is None else values[index] for name, values in self._per_case().items()
        }
        return Cohort(**taken, class_names=self.class_names)

    def where(self, *, domain: _Names = None, subject: _Names = None, session: _Names = None) -> Cohort:
        """The cases that match every stated name (or any name of a list).

        Args:
            domain: One or several domains; None takes all.
            subject: One or several subjects; None takes all.
            session: One or several sessions; None takes all.

        Raises:
            ValueError: If a name is not in the cohort (the message lists those that are), or no case matches.
        """
        keep = np.ones(len(self), dtype=bool)
        criteria = {"domain": domain, "subject": subject, "session": session}
        for kind, names in criteria.items():
            if names is None:
                continue
            column = getattr(self, kind + "s")
            chosen = check.names(kind, [names] if isinstance(names, str) else names)
            missing = sorted(set(chosen.tolist()) - set(column.tolist()))
            if missing:
                raise check.refuse(kind, f"in {list(dict.fromkeys(column.tolist()))}", missing)
            keep &= np.isin(column, chosen)
        if not keep.any():
            raise ValueError(f"no case of this cohort matches all of {criteria}; loosen one of them")
        return self.take(keep)

    def split(self, fractions: Sequence[float], *, by: str = "subject", seed: int = 0) -> tuple[Cohort, ...]:
        """Random disjoint parts that share no subject, because slices of one heart are near copies.

        Args:
            fractions: Fractions of the *subjects*, each > 0, sum at most 1. Every part gets at least one
                subject; what is left over is dropped.
            by: ``"subject"``. Splitting by session or slice would leak test data, so no other unit is taken.
            seed: Seed of the random order of subjects; equal seeds give equal parts.

        Returns:
            One cohort per fraction.

        Raises:
            ValueError: If the fractions are not as above, or there are fewer subjects than parts.
        """
        if not isinstance(by, str) or by != "subject":
            fix = "slices of one subject are near copies; dividing them would leak the test set into training"
            raise check.refuse("by", "'subject'", repr(by), fix)
        parts = check.array("fractions", fractions, "n_parts")
        parts = np.array([check.number("fractions", part, low=0, open_low=True) for part in parts])
        if parts.sum() > 1 + 1e-9:
            raise check.refuse("fractions", "numbers > 0 whose sum is at most 1", parts.tolist())
        names = np.array(sorted(set(self.subjects)))
        if len(names) < len(parts):
            raise ValueError(f"{len(parts)} parts need at least as many subjects, got {len(names)}")
        order = np.random.default_rng(check.integer("seed", seed, low=0)).permutation(names)
        ends = _part_ends(parts, len(names))
        owners = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(self.take(np.isin(self.subjects, subjects)) for subjects in owners)

    @staticmethod
    def concatenate(cohorts: Sequence[Cohort]) -> Cohort:
        """One cohort of all cases, in order.

        Args:
            cohorts: At least one cohort; all with the same classes, image size and number of raters.

        Raises:
            ValueError: If classes or image sizes differ, or only some have raters.
        """
        is_list = isinstance(cohorts, list | tuple) and all(isinstance(cohort, Cohort) for cohort in cohorts)
        if not is_list or not cohorts:
            raise check.refuse("cohorts", "a list of at least one Cohort", reprlib.repr(cohorts))
        kinds = {(c.class_names, c.images.shape[1:], c.raters is None or c.raters.shape[1]) for c in cohorts}
        if len(kinds) != 1:
            expected = "cohorts that agree in class_names, image size and number of raters"
            raise check.refuse("cohorts", expected, "; ".join(map(str, kinds)))
        columns = [cohort._per_case() for cohort in cohorts]
        joined: dict[str, Any] = {
            name: None if values is None else np.concatenate([column[name] for column in columns])
            for name, values in columns[0].items()
        }
        return Cohort(**joined, class_names=cohorts[0].class_names)

    def _per_case(self) -> dict[str, np.ndarray | None]:
        """Every field that has one entry per case."""
        return {name: getattr(self, name) for name in (*_ARRAYS, *_NAMES)}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content: equal cohorts, and only those, share it."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for name in _ARRAYS:
            array = getattr(self, name)
            digest.update(f"{name}{None if array is None else (array.shape, array.dtype.str)}".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        for name in _NAMES:
            digest.update("\0".join([name, *getattr(self, name)]).encode())
        return digest.hexdigest()


def _part_ends(fractions: np.ndarray, n_subjects: int) -> list[int]:
    """Numbers of subjects at which parts end: rounded fractions, every part non-empty."""
    ends = np.rint(np.cumsum(fractions) * n_subjects).astype(int)
    for part in range(len(ends)):
        first_possible = ends[part - 1] + 1 if part else 1
        last_possible = n_subjects - (len(ends) - 1 - part)
        ends[part] = min(max(ends[part], first_possible), last_possible)
    return ends.tolist()
