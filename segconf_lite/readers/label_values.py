"""What the numbers in label files stand for.

Nothing is guessed: a file of 0 and 255 is a mask for one person and a list of unnamed classes for another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from segconf_lite import check
from segconf_lite.readers.stored import damaged


@dataclasses.dataclass(frozen=True)
class Labels:
    """Names of label values, in the order of classes.

    Attributes:
        values: Values as files store them, sorted.
        classes: The class of each of them.
        names: Names of the classes, background first.
    """

    values: tuple[int, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: Mapping[int, str], name: str = "labels") -> Labels:
        """From a mapping of values to names.

        Args:
            labels: Value -> name. Values of one name become one class. The class of value 0 comes first, the
                others in the order of the mapping; without a value 0, the first one is the background.
            name: Name of the argument, for the message.

        Raises:
            ValueError: If a value is no integer, a name is missing, or there is a single class.

        Example:
            >>> Labels.of({0: "background", 2: "cavity", 1: "muscle", 3: "muscle"})
            Labels(values=(0, 1, 2, 3), classes=(0, 2, 1, 2), names=('background', 'cavity', 'muscle'))
        """
        expected = "a mapping of integers to names such as {0: 'background', 1: 'organ'}"
        if not isinstance(labels, Mapping) or not labels:
            raise check.refuse(name, expected, repr(labels))
        pairs = {check.integer(f"a value of {name}", value): text for value, text in labels.items()}
        texts = check.names(name, list(pairs.values())).tolist()
        first = [pairs[0]] if 0 in pairs else []
        names = tuple(dict.fromkeys([*map(str, first), *texts]))
        if len(names) < 2:
            raise check.refuse(name, "of at least two classes, background first", repr(dict(labels)))
        sorted_pairs = sorted(zip(pairs, texts, strict=True))
        classes = tuple(names.index(text) for _, text in sorted_pairs)
        return cls(tuple(value for value, _ in sorted_pairs), classes, names)

    def unknown(self, found: tuple[int, ...]) -> tuple[int, ...]:
        """The values that have no name.

        Example:
            >>> Labels.of({0: "background", 1: "organ"}).unknown((0, 255))
            (255,)
        """
        return tuple(value for value in found if value not in self.values)

    def to_classes(self, stored: np.ndarray) -> np.ndarray:
        """Classes as int64, of values that all have a name.

        Example:
            >>> Labels.of({0: "background", 255: "organ"}).to_classes(np.array([0.0, 255.0])).tolist()
            [0, 1]
        """
        return np.array(self.classes)[np.searchsorted(self.values, stored.astype(np.int64))]


def counted(stored: np.ndarray, path: str) -> dict[int, int]:
    """Label value -> number of pixels.

    Args:
        stored: Labels as a file holds them, of any type, any shape.
        path: The file, for the message.

    Raises:
        DamagedCaseError: If a value is no integer.

    Example:
        >>> counted(np.array([0.0, 1.0, 1.0]), "a.nii.gz")
        {0: 1, 1: 2}
    """
    values, counts = np.unique(stored, return_counts=True)
    if (values != np.round(values)).any() or np.abs(values).max() >= 2**53:
        fix = "these are probabilities or were interpolated: write integers, e.g. argmax or a threshold"
        raise damaged(
            path, "integers", f"{len(values)} values such as {values[values != np.round(values)][:3]}", fix
        )
    return dict(zip(values.astype(np.int64).tolist(), counts.tolist(), strict=True))


def grouped(of_case: Mapping[str, object]) -> str:
    """Cases that share something, in words, the most frequent first.

    Args:
        of_case: Name of a case -> what it has.

    Example:
        >>> grouped({"a": "{0, 1}", "b": "{0, 1}", "c": "{0, 255}"})
        '{0, 1} in 2 cases (a, b), {0, 255} in 1 case (c)'
    """
    cases: dict[str, list[str]] = {}
    for case, what in of_case.items():
        cases.setdefault(str(what), []).append(case)
    texts = []
    for what, names in sorted(cases.items(), key=lambda item: -len(item[1])):
        listed = ", ".join([*names[:5], *["..."] * (len(names) > 5)])
        texts.append(f"{what} in {len(names)} case{'s' * (len(names) > 1)} ({listed})")
    return ", ".join(texts)
