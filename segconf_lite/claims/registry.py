"""The register of claims, ``book/claims.yml``: what is claimed, before anything is run for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segconf_lite import check, resources
from segconf_lite.claims.runs import SEEDS_OF
from segconf_lite.claims.statistics import STATISTICS

DIRECTIONS = ("greater", "less", "equivalent")
_ID = re.compile(r"(?=.{1,100}\Z)[a-z0-9]+(-[a-z0-9]+)*")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One registered statement.

    Attributes:
        id: Short name in lower case, with ``-`` between words; also the name of the file of its verdict.
        sentence: The claim in words.
        source: The paper and table that it is from, or who expected it and why.
        chapter: Number of the notebook that measures it.
        statistic: A key of `STATISTICS`.
        columns: Name of each argument of the statistic -> column of the table of cases.
        direction: ``"greater"`` or ``"less"`` than `threshold`, or ``"equivalent"``: within `margin` of it.
        seeds: Smallest number of seeds on which it may be judged.
        registered: Day of the registration (ISO).
        cases: Column -> list of allowed values; all other cases are left out.
        each: A column whose every value is judged alone; the claim holds only if it holds for each.
        within: A column, e.g. the network; the statistic is taken within each of its values, then averaged.
        threshold: Where the line is, in units of the statistic.
        margin: Largest distance from the threshold that counts as equivalent, in units of the statistic.
        subjects: ``"drawn"`` if each seed draws subjects of its own, ``"shared"`` if equal names in two seeds
            are the same person, as in a real cohort.
        runs: Name of the runs that judge it, a key of `segconf_lite.claims.runs.SEEDS_OF`; None for those of
            its chapter.
        display: The claim in today's words, where those of `sentence` need what stands around them, or have
            changed. It decides nothing, and `sentence` stays as it was registered.
        between: Lowest and highest value that a case can have in `columns`, where they are known. They bound
            what a repeated measurement may give, and do not decide the verdict.

    Raises:
        ValueError: If a field is not as above.

    Example:
        >>> columns = {"value": "dice"}
        >>> claim = Claim("good", "Dice is high.", "us", 1, "mean", columns, "greater", 5, "2026-01-01")
        >>> claim.digest()
        '...'
    """

    id: str
    sentence: str
    source: str
    chapter: int
    statistic: str
    columns: Mapping[str, str]
    direction: str
    seeds: int
    registered: str
    cases: Mapping[str, list[Any]] = dataclasses.field(default_factory=dict)
    each: str | None = None
    within: str | None = None
    threshold: float = 0.0
    margin: float | None = None
    subjects: str = "drawn"
    between: list[float] | None = None
    runs: str | None = None
    display: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            expected = "at most 100 lower-case letters and digits, with single '-' between words"
            raise check.refuse("id of a claim", expected, reprlib.repr(self.id), "it becomes a file's name")
        where = f"claim {self.id}: "
        for name in ("sentence", "source", "registered", "each", "within", "display"):
            value = getattr(self, name)
            if not (_is_text(value) or (value is None and name in ("each", "within", "display"))):
                raise check.refuse(where + name, "text", reprlib.repr(value))
        check.integer(where + "chapter", self.chapter, low=0, high=99)
        check.integer(where + "seeds", self.seeds, low=2)
        check.one_of(where + "statistic", self.statistic, STATISTICS)
        check.one_of(where + "direction", self.direction, DIRECTIONS)
        check.one_of(where + "subjects", self.subjects, ("drawn", "shared"))
        check.one_of(where + "runs", self.runs, (*SEEDS_OF, None))
        check.number(where + "threshold", self.threshold)
        if self.margin is not None:
            check.number(where + "margin", self.margin, low=0, open_low=True)
        if self.between is not None:
            low, high = check.array(where + "between", self.between, "2", dtype=np.float64)
            check.number(where + "between[1]", high, low=low, open_low=True)
        if (self.direction == "equivalent") != (self.margin is not None):
            raise ValueError(f"{where}margin goes with 'equivalent', and only with it")
        expected_columns = STATISTICS[self.statistic].columns
        if not _maps(self.columns, _is_text) or set(self.columns) != set(expected_columns):
            expected = f"the columns {list(expected_columns)} of {self.statistic}, each with a name"
            raise check.refuse(where + "columns", expected, reprlib.repr(self.columns))
        if not _maps(self.cases, _is_flat_list):
            expected = "for each column a list of allowed values, which are text or numbers"
            raise check.refuse(where + "cases", expected, reprlib.repr(self.cases))

    @property
    def words(self) -> str:
        """The claim as it is shown: in today's words where there are any, else as it was registered."""
        return self.display or self.sentence

    @property
    def judged_on(self) -> int | str:
        """The chapter, or the name of the runs, whose cases judge it."""
        return self.runs or self.chapter

    def digest(self) -> str:
        """12 hexadecimal digits of all that decides the verdict; a claim changed later has others."""
        # Fields that came later are silent at their default, so that older claims keep their digests.
        later = {"within": None, "subjects": "drawn", "runs": None}
        silent = [
            "sentence",
            "source",
            "chapter",
            "between",
            "display",
            *(k for k, v in later.items() if getattr(self, k) == v),
        ]
        fixed = {k: v for k, v in dataclasses.asdict(self).items() if k not in silent}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=float).encode()).hexdigest()[:12]


def read_claims(path: str | Path | None = None) -> dict[str, Claim]:
    """All registered claims by id.

    Args:
        path: The register. The default is that of the book, in a checkout or inside the installed package.

    Raises:
        ValueError: If the file is no list of claims, or an id comes twice.
        FileNotFoundError: If there is no register.

    Example:
        >>> read_claims()["near-but-harmful"].sentence
        'On scanner F, which looks near to A, mean Dice falls below 0.75.'
    """
    if path is not None and not isinstance(path, str | Path):
        raise check.refuse("path", "a path", reprlib.repr(path), "give it as text or as a pathlib.Path")
    source = Path(path) if path else resources.claims_registry()
    try:
        entries = yaml.load(source.read_text("utf-8"), _PlainYaml)
    except _NO_YAML as error:
        raise check.refuse(str(source), "a list of claims in YAML", " ".join(str(error).split())) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise check.refuse(str(source), "a list of claims, each with its fields", reprlib.repr(entries))
    claims: dict[str, Claim] = {}
    for entry in entries:
        try:
            claim = Claim(**{**entry, "registered": str(entry.get("registered", ""))})
        except TypeError as error:  # a field is missing or unknown
            name = entry.get("id", reprlib.repr(entry))
            raise ValueError(f"{source}: {name} is not a claim: {error}") from None
        if claim.id in claims:
            raise ValueError(f"{source}: claim {claim.id} is registered twice; rename one of them")
        claims[claim.id] = claim
    return claims


class _PlainYaml(yaml.SafeLoader):
    """YAML without aliases, a few of which can stand for millions of entries; 010 is ten, 1:30 no number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias (*name); write each claim out")
        return super().compose_node(parent, index)


_PlainYaml.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
# What PyYAML raises for a text that is no YAML, an unreadable date, or too many brackets.
_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_flat_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value)


def _maps(value: Any, fits: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_text(k) and fits(v) for k, v in value.items())
