"""Numbers in the text as links to what they come from.

In a notebook or a page, a result is written as ``[0.97 [0.94, 1.01]](evidence:ADDRESS)``. The text holds one
number (the estimate), three (the estimate and its 95 % interval), two (smallest and largest over seeds), or
none. An address is one of

  CLAIM/GROUP/FIELD?WORDS              the stored verdict of a claim; a group may be cut, or be several: B,C
  TABLE/COLUMN/FIELD?KEY=VALUE&WORDS   a column of book/results/TABLE.csv, in the rows of the keys
  chapter_02_cases/STATISTIC/A~B?...   a statistic of columns of the cases on which the claims are judged; the
                                       cases of runs beside the chapters are those of lidc_cases

for example entropy-is-silent-on-failures/D?fails or chapter_01_cases/quality?cohort=phantom&domain=D.

Group and field may be left out. Fields: estimate, low, high, min and max (over seeds), lowest and highest
(over the groups of a claim), seeds, people, cases. A mean over several seeds has a t interval. Statistics are
those of the claims, and excess_aurc; the column risk need not be named. each=domain takes the statistic
within each scanner and averages; wide=method makes a column of value per method. A space is written +, a % is
%25, a + is %2B. A key may come twice: domain=D&domain=F. A value that no row has stands for those that begin
with it: domain=CEITEC.

Words: holds, fails, undecided (the verdict on which the sentence relies); above, below, across (where the
interval lies to 0); minus (the text gives the negative, as in "lower by 0.05"); x1000; shared (the people are
the same in every seed and count as a second source of variance). A % in the text stands for a factor of 100.
An integer may be a word: ``over [five](evidence:CLAIM/seeds) seeds``. A link without a number names the
verdict or the side: ``[the claim](evidence:CLAIM?holds)``.

  check    lists every link that does not resolve, or whose number or verdict is not the stored one
  update   writes the stored numbers; lists the sentences whose verdict changed, to be read again
  bare     lists the results and comparisons that are no link, in the chapters that are converted: they stand
           in book/bare_numbers.yml, with the numbers that may stay and the reason
"""

import argparse
import functools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

import numpy as np
import pandas as pd
import yaml

from segconf_lite.claims import ledger, read_claims, runs
from segconf_lite.claims.statistics import STATISTICS, columns_of
from segconf_lite.evaluation import excess_aurc, repeated_estimate

BOOK = Path(__file__).resolve().parent
RESULTS = BOOK / "results"
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(evidence:([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)")
NUMBER = re.compile(r"(?<![\w.])[+−]?\d+(?:,\d{3})*(?:\.\d+)?")
INTEGERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
SCALED = ("estimate", "low", "high", "min", "max", "lowest", "highest")
FIELDS = (*SCALED, "seeds", "people", "cases")
OF_TEXT = {0: (), 1: ("estimate",), 2: ("min", "max"), 3: ("estimate", "low", "high")}
OTHERS: dict[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "excess_aurc": (excess_aurc, ("risk", "uncertainty"))
}
VERDICTS, SIDES = {"holds", "fails", "undecided"}, {"above", "below", "across"}
# Words of addresses -> what the stored tables and claims call it.
PUBLIC = {
    "uncertainty-knows-more-than-size": "doubt-knows-more-than-size",
    "good-slices-are-flagged": "alarm-rings-for-good-slices",
    "epistemic-part-detects-unseen-anatomy": "epistemic-part-notices-unseen-anatomy",
    "no-confidence-detects-attacks": "no-confidence-notices-attacks",
    "adaptive-attack-is-not-detected": "quiet-attack-is-not-noticed",
    ": flagged": ": rings",
    "effect size 0.": "effect size .",
    "severity scale": "ladder",
    "detection of attacks": "notice",
    "adaptive PGD": "quiet",
}
MIRRORED = {
    "low": "high",
    "high": "low",
    "min": "max",
    "max": "min",
    "lowest": "highest",
    "highest": "lowest",
}

# What the gate takes for a result: a decimal or a percentage outside of what follows here.
NO_PROSE = re.compile(
    r"```.*?```|``.*?``|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\{[\w:]+\}`[^`]*`|\]\([^)]*\)|https?://\S+"
    r"|(?i:equation)\s\(\d+\.\d\)|9[05]\s%\s+(?:bootstrap\s+)?intervals?",
    re.DOTALL,
)
RESULT = re.compile(r"(?<![\w.])\d+\.\d+(?: ?%)?|(?<![\w.])\d+ ?%")
COMPARES = re.compile(
    r"\b(?:outperforms?|beats|leads?|wins|(?:is|are) ahead of|ranks? (?:above|below)"
    r"|(?:better|worse|higher|lower) than)\b(?!\s(?:it|they)\s(?:is|are)\b)(?![^.!?]*\?)"
)
# A paragraph that says so is about the figure or table beside it, and not about the repeats.
RUN_ONLY = re.compile(
    r"\b(?:in this run|(?:one|two|three|this) (?:run|network)s?)\b|\*\*Predict", re.IGNORECASE
)


class Evidence(NamedTuple):
    """What an address leads to: its fields, the verdict and side that are true, and the section or file."""

    fields: dict[str, float]
    true: set[str]
    target: str
    field: str = ""  # that the address names
    relied_on: frozenset[str] = frozenset()  # verdict and side that the address names


def sources() -> list[Path]:
    """The files that may hold links: notebooks in their percent format, and the pages of the book."""
    return [*sorted((BOOK.parent / "notebooks").glob("*.py")), *sorted(BOOK.glob("*.md"))]


@functools.cache
def resolve(address: str) -> Evidence:
    """What an address leads to, with the signs and the scale of its words.

    Raises:
        ValueError: If it leads to nothing; the message says what there is.
    """
    path, _, query = address.partition("?")
    parts, chosen = [_stored(unquote_plus(part)) for part in path.split("/")], dict[str, list[str]]()
    for key, value in parse_qsl(query, keep_blank_values=True):
        chosen.setdefault(key, []).append(_stored(value))
    words = {key for key, values in chosen.items() if values == [""]}
    if unknown := words - VERDICTS - SIDES - {"minus", "x1000", "shared"}:
        raise ValueError(f"unknown words {sorted(unknown)}")
    is_claim = parts[0] in _claims()
    field = parts.pop() if len(parts) > (1 if is_claim else 2) and parts[-1] in FIELDS else ""
    keys = {key: values for key, values in chosen.items() if key not in words}
    found = _claim(*parts) if is_claim else _table(parts[0], parts[1:], keys, shared="shared" in words)
    fields = found.fields
    if "low" in fields:
        found.true.add("above" if fields["low"] > 0 else "below" if fields["high"] < 0 else "across")
    if "minus" in words:
        fields = {MIRRORED.get(k, k): -v if k in SCALED else v for k, v in fields.items()}
    if "x1000" in words:
        fields = {k: 1000 * v if k in SCALED else v for k, v in fields.items()}
    relied_on = frozenset(words & (VERDICTS | SIDES))
    return found._replace(fields=fields, field=field, relied_on=relied_on)


def _stored(name: str) -> str:
    """A name of an address as it is stored."""
    return functools.reduce(lambda text, public: text.replace(public, PUBLIC[public]), PUBLIC, name)


@functools.cache
def _claims() -> set[str]:
    return set(read_claims(BOOK / "claims.yml"))


def _claim(name: str, *group: str) -> Evidence:
    record = ledger.read_record(RESULTS, name, "lite")
    if record is None or len(group) > 1:
        raise ValueError(f"claim {name} was never judged" if record is None else f"no field {group[1]!r}")
    groups = record["groups"]
    names = [] if group else list(groups)
    for wanted in group[0].split(",") if group else ():
        fit = [g for g in groups if g == wanted] or [g for g in groups if g.startswith(wanted)]
        if len(fit) != 1:
            raise ValueError(f"claim {name} has the groups {list(groups)}, got {wanted!r}")
        names += fit
    estimates = [groups[g]["estimate"] for g in names]
    fields = {"lowest": min(estimates), "highest": max(estimates)}
    fields |= {"seeds": len(record["seeds"]), "cases": record["n_cases"]}
    if len(names) == 1:
        mine, by_seed = groups[names[0]], record["by_seed"][names[0]].values()
        fields |= {key: mine[key] for key in ("estimate", "low", "high", "people")}
        fields |= {"min": min(by_seed), "max": max(by_seed)}
    verdicts = {groups[g]["verdict"] for g in names} if group else {record["verdict"]}
    return Evidence(fields, verdicts if len(verdicts) == 1 else set(), f"#{name}")


@functools.cache
def _frame(name: str) -> tuple[pd.DataFrame, str]:
    """The table, and its file in the folder of the book."""
    if cases := re.fullmatch(rf"chapter_(\d\d)_cases|({'|'.join(runs.SEEDS_OF)})_cases", name):
        chapter = cases[2] or int(cases[1])
        judged = runs.judged_cases(RESULTS, chapter, "lite")
        if judged is None:
            raise ValueError(f"chapter {chapter} has no stored cases")
        first = runs.seeds_of(chapter)[0]
        path = runs.run_path(RESULTS, chapter, first)
        if isinstance(chapter, int) and first not in set(judged[0]["seed"]):
            path = runs.table_path(RESULTS, chapter, "lite")
        return judged[0], path.relative_to(BOOK).as_posix()
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise ValueError(f"no claim and no table of results has the name {name!r}")
    return pd.read_csv(path, low_memory=False), path.relative_to(BOOK).as_posix()


def _table(name: str, parts: list[str], keys: dict[str, list[str]], *, shared: bool) -> Evidence:
    table, target = _frame(name)
    each = keys.pop("each", [""])[0]
    statistic, columns = ("mean", *parts) if len(parts) == 1 else parts
    taken = columns.split("~")
    of, named = STATISTICS[statistic][:2] if statistic in STATISTICS else OTHERS[statistic]
    if len(taken) < len(named) and named[0] == "risk":
        taken = ["risk", *taken]
    if statistic in STATISTICS:
        taken = columns_of(statistic, dict(zip(named, taken, strict=True)))
    wide = keys.pop("wide", [""])[0]
    table = _chosen(table, keys, name)
    if wide:
        table = table.pivot_table("value", "seed", wide).reset_index()
    if missing := {*taken} - {*table}:
        raise ValueError(f"{name} has no column {sorted(missing)}; it has {list(table)}")
    table = table.dropna(subset=taken)
    if table.empty or ("seed" not in table and len(table) > 1):
        raise ValueError(f"{len(table)} rows of {name} have {keys}")
    group = pd.factorize(table[each])[0] if each else np.zeros(len(table))

    def averaged(groups: np.ndarray, *arrays: np.ndarray) -> float:
        rows = [groups == value for value in np.unique(groups)]
        return float(np.mean([of(*(array[row] for array in arrays)) for row in rows]))

    seeds = table["seed"] if "seed" in table else pd.Series(0, table.index)
    people = table["subject"] if "subject" in table else pd.Series(range(len(table)), table.index)
    arrays = [group, *(table[column].to_numpy(float) for column in taken)]
    by_seed = [averaged(*(array[seeds == seed] for array in arrays)) for seed in seeds.unique()]
    fields = {"min": min(by_seed), "max": max(by_seed), "seeds": len(by_seed), "cases": len(table)}
    fields |= {"estimate": float(np.mean(by_seed)), "people": people.nunique()}
    if len(by_seed) > 1:
        _, low, high = repeated_estimate(
            averaged, list(seeds), list(people), *arrays, shared=shared
        ).interval()
        fields |= {"low": low, "high": high}
    return Evidence(fields, set(), target)


def _chosen(table: pd.DataFrame, keys: dict[str, list[str]], name: str) -> pd.DataFrame:
    """The rows that the keys choose."""
    for key, values in keys.items():
        if key not in table:
            raise ValueError(f"{name} has no column {key!r}; it has {list(table)}")
        texts = table[key].map(_text)
        exact = texts.isin(values)
        table = table[exact if exact.any() else texts.str.startswith(tuple(values))]
    return table


def _text(value: Any) -> str:
    """A key's value as an address writes it; integers that stand in a column of floats are integers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def mended(text: str, address: str) -> tuple[str, str]:
    """The text of a link with the stored numbers, at its precision; and what a person must look at.

    Raises:
        ValueError: If the address leads to nothing, or the text has not as many numbers.
    """
    found = resolve(address)
    is_word = text.lower() in INTEGERS
    printed = [text] if is_word else NUMBER.findall(text)
    wanted = (found.field,) if found.field else OF_TEXT.get(len(printed), ())
    if len(printed) != len(wanted):
        raise ValueError(f"{len(printed)} numbers in the text, expected {wanted or 'one, two or three'}")
    if missing := [name for name in wanted if not math.isfinite(found.fields.get(name, math.nan))]:
        raise ValueError(f"it has no {', '.join(missing)}, but {sorted(found.fields)}")
    if not printed and not found.relied_on:
        raise ValueError("a link without a number names the verdict or side on which it relies: ?holds")
    wrong = found.relied_on - found.true
    said = f"the sentence relies on {sorted(wrong)}, stored is {sorted(found.true)}" if wrong else ""
    numbers = [found.fields[name] * (100 if "%" in text else 1) for name in wanted]
    if is_word:
        word = INTEGERS[round(numbers[0])] if numbers[0] < len(INTEGERS) else str(round(numbers[0]))
        return word.capitalize() if text[0].isupper() else word, said
    return NUMBER.sub(lambda match: _as_printed(numbers.pop(0), match[0]), text), said


def _as_printed(value: float, printed: str) -> str:
    digits = len(printed.partition(".")[2])
    if math.isclose(
        value, float(printed.replace("−", "-").replace(",", "")), rel_tol=0, abs_tol=0.50001 * 10**-digits
    ):
        return printed
    size = f"{abs(value):{',' if ',' in printed else ''}.{digits}f}"
    sign = "" if not float(size.replace(",", "")) else "−" if value < 0 else "+" if printed[0] == "+" else ""
    return sign + size


def problems(path: Path, *, write: bool = False) -> list[str]:
    """One line per link of a file that is not as stored; with `write`, numbers are mended and not listed."""
    text, found = path.read_text("utf-8"), []

    def mend(link: re.Match[str]) -> str:
        try:
            new, said = mended(link[1], link[2])
        except (ValueError, TypeError, KeyError) as error:
            new, said = link[1], f"{error}"
        if new != link[1] and not write:
            said = f"stored is {new}; {said}".removesuffix("; ")
        if said:
            line = text.count("\n", 0, link.start()) + 1
            found.append(f"{path.parent.name}/{path.name}:{line}: [{link[1]}](evidence:{link[2]}): {said}")
        return f"[{new}](evidence:{link[2]})"

    mended_text = LINK.sub(mend, text)
    if text.count("](evidence:") != len(LINK.findall(text)):
        found.append(
            f"{path.name}: {text.count('](evidence:')} links begin, {len(LINK.findall(text))} are whole"
        )
    if write and mended_text != text:
        path.write_text(mended_text, "utf-8")
    return found


def with_targets(text: str, up: str = "") -> str:
    """Markdown whose links lead to the ledger, or to the table (from a page below the book: ``up="../"``)."""

    def link(match: re.Match[str]) -> str:
        target = resolve(match[2]).target
        return f"[{match[1]}]({target if target[0] == '#' else up + target})"

    return LINK.sub(link, text)


def prose(path: Path) -> list[tuple[int, str, bool]]:
    """(line, paragraph, whether comparisons need a link) of a notebook's Markdown and text alternatives."""
    cells = re.split(r"^(?=# %%)", path.read_text("utf-8"), flags=re.MULTILINE)
    line, found = 1, []
    for cell in cells:
        if cell.startswith("# %% [markdown]"):
            text = re.sub(r"^# ?", "", cell, flags=re.MULTILINE)
            text = re.sub(r"```.*?```", _blank, text, flags=re.DOTALL)
            start = line
            for part in re.split(r"(\n\n+|\n(?=\* |\d\. |\|))", text):
                if part.strip():
                    found.append((start, part, True))
                start += part.count("\n")
        else:
            alts = re.finditer(r"\balt ?= ?f?\"(.*)\"", cell)
            found += [(line + cell.count("\n", 0, alt.start()), alt[1], False) for alt in alts]
        line += cell.count("\n")
    return found


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def bare(path: Path, allowed: dict[str, str]) -> list[str]:
    """Results of a notebook's prose that are no links, and comparisons without a link in their paragraph."""
    found, unused = [], set(allowed)
    for line, paragraph, linked in prose(path):
        rest = NO_PROSE.sub(_blank, LINK.sub(_blank, paragraph))
        for phrase in allowed:
            words = r"\s+".join(map(re.escape, phrase.split()))
            rest, n = re.subn(rf"(?<![\w.]){words}(?!\.?\d)", _blank, rest)
            unused -= {phrase} if n else set()
        open_to = linked and "](evidence:" not in paragraph and not RUN_ONLY.search(rest)
        for match in (*RESULT.finditer(rest), *(COMPARES.finditer(rest) if open_to else ())):
            kind = "is no link" if match.re is RESULT else "is a comparison without a link"
            around = " ".join(rest[max(0, match.start() - 40) : match.end() + 40].split())
            here = line + rest.count("\n", 0, match.start())
            found.append(f"{path.name}:{here}: {match[0]!r} {kind}: ... {around} ...")
    return found + [f"{path.name}: {phrase!r} is allowed and not used" for phrase in sorted(unused)]


def exceptions() -> dict[str, dict[str, str]]:
    """Converted chapter -> literal that may stand in its prose -> reason."""
    return yaml.safe_load((BOOK / "bare_numbers.yml").read_text("utf-8"))


def main() -> int:
    """Run one of the three commands; 1 if something is listed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("check", "update", "bare"))
    parser.add_argument("files", nargs="*", type=Path, help="default: all notebooks and pages")
    given = parser.parse_args()
    if given.command == "bare":
        found = []
        for chapter, allowed in exceptions().items():
            found += bare(next((BOOK.parent / "notebooks").glob(f"{chapter}_*.py")), allowed)
    else:
        files = [path.resolve() for path in given.files] or sources()
        found = [line for path in files for line in problems(path, write=given.command == "update")]
    print(*(found or ["nothing to list"]), sep="\n")
    if given.command == "update":
        print("then: make notebooks")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
