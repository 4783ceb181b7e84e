"""The ledger in words: lines for the terminal and for the page "What held up"."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

import pandas as pd

from segconf_lite import check, resources
from segconf_lite.claims import ledger
from segconf_lite.claims.judge import FEWEST_PEOPLE
from segconf_lite.claims.registry import Claim, read_claims
from segconf_lite.claims.words import plain_statistic

_VERDICTS = ("holds", "fails", "undecided", "not run", "changed since its run")
_SUMMARY = ("seeds", "people", "verdict", "p_holds", "p_fails", "p", "p_holm", "negligible", "wrong")


def table(
    *,
    chapter: int | None = None,
    cohort: str | None = None,
    verdict: str | None = None,
    profile: str = "lite",
) -> str:
    """The ledger as text: a line that counts verdicts, then two lines per claim.

    Args:
        chapter: Only claims of this chapter.
        cohort: Only claims on this cohort, e.g. ``"phantom"`` or ``"cord"``.
        verdict: Only claims with this verdict, e.g. ``"holds"``.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> print(table(chapter=1, verdict="holds"))
        3 hold, 0 fail, 0 undecided
        holds      On scanner E, which looks far from A, mean Dice stays above 0.85.
                   far-but-harmless: 0.9... [0.9..., 0.9...], 10 seeds, chapter 1
        ...
    """
    if chapter is not None:
        check.integer("chapter", chapter, low=0)
    if cohort is not None:
        check.instance("cohort", cohort, str)
    check.one_of("verdict", verdict, (*_VERDICTS, None))
    check.one_of("profile", profile, ledger.PROFILES)
    claims = read_claims()
    shown = ledger.overview(claims=claims).query("profile == @profile")
    kept = [
        rows
        for name, rows in shown.groupby("id", sort=False)
        if (chapter is None or claims[name].chapter == chapter)
        and (cohort is None or cohort in claims[name].cases.get("cohort", []))
        and (verdict is None or rows["verdict"].iloc[0] == verdict)
    ]
    lines = [counts([rows["verdict"].iloc[0] for rows in kept])]
    for rows in kept:
        first = rows.iloc[0]
        claim = claims[first["id"]]
        lines.append(f"{first['verdict']:<11}{claim.words}")
        numbers = f"{first['estimate']:.3g} [{first['low']:.3g}, {first['high']:.3g}]"
        numbers = numbers if len(rows) == 1 else f"{strip(rows)} of {', '.join(rows['group'])}"
        size = f"{first['seeds']} seeds, chapter {claim.chapter}"
        lines.append(f"{'':<11}{claim.id}: {numbers if first['seeds'] else 'not run'}, {size}")
    return "\n".join(lines)


def show(claim_id: str, *, profile: str = "lite") -> str:
    """Everything that is stored about one claim, as text.

    Args:
        claim_id: Id of the claim.
        profile: Profile of the runs, ``"lite"`` or ``"full"``.

    Raises:
        ValueError: If there is no such claim or profile.

    Example:
        >>> print(show("near-but-harmful"))
        near-but-harmful (chapter 1): On scanner F, which looks near to A, mean Dice falls below 0.75.
        holds; ...
    """
    claims = read_claims()
    if not isinstance(claim_id, str) or claim_id not in claims:
        fix = "`segconf claims` lists all of them"
        raise check.refuse("claim ID", "a registered claim", reprlib.repr(claim_id), fix)
    check.one_of("profile", profile, ledger.PROFILES)
    claim = claims[claim_id]
    rows = ledger.overview(claims=claims).query("id == @claim_id and profile == @profile")
    record = ledger.read_record(resources.results_folder(), claim_id, profile) or {"by_seed": {}, "runs": []}
    lines = [f"{claim.id} (chapter {claim.chapter}): {claim.words}", summary(rows)]
    lines += [f"registered sentence: {claim.sentence}"] if claim.display else []
    columns = ", ".join(f"{name} = {column}" for name, column in claim.columns.items())
    lines += [f"statistic: {statement(claim)}", f"columns of the table of cases: {columns}"]
    lines.append(f"source: {claim.source}")
    lines.append(f"registered {claim.registered} for {claim.seeds} seeds; subjects are {claim.subjects}")
    for row in rows.itertuples() if record["runs"] else ():
        lines.append(
            f"  {row.group}: {row.estimate:.3g} [{row.low:.3g}, {row.high:.3g}] {row.group_verdict}"
            f" (people: {row.people})"
        )
        values = ", ".join(f"{seed}: {value:.3g}" for seed, value in record["by_seed"][row.group].items())
        lines.append(f"    by seed {values}")
    before = ledger.read_record(resources.results_folder(), claim_id, profile, earlier=True)
    if before is not None:
        lines.append(f"  on seeds {before['seeds'][0]} to {before['seeds'][-1]} before: {before['verdict']}")
    for run in record["runs"]:
        lines.append(f"  seed {run['seed']}: commit {run['commit']}, {run['day']}, {run['device']}")
    return "\n".join(lines)


def statement(claim: Claim) -> str:
    """The statistic of a claim in words, with what it compares, and the side that is claimed.

    Args:
        claim: The claim.

    Example:
        >>> statement(read_claims()["near-but-harmful"])
        'mean of Dice, claimed below 0.75'
    """
    check.instance("claim", claim, Claim)
    sides = {"greater": f"above {claim.threshold:g}", "less": f"below {claim.threshold:g}"}
    side = sides.get(claim.direction, f"within {claim.margin} of {claim.threshold:g}")
    return f"{plain_statistic(claim)}, claimed {side}"


def counts(verdicts: Iterable[str]) -> str:
    """How many claims hold, fail and are undecided, as text.

    Args:
        verdicts: One per claim.

    Example:
        >>> counts(["holds", "undecided", "holds"])
        '2 hold, 0 fail, 1 undecided'
    """
    listed = check.names("verdicts", verdicts).tolist()
    words = {"holds": "hold", "fails": "fail", "undecided": "undecided"}
    rest = [verdict for verdict in dict.fromkeys(listed) if verdict not in words]
    return ", ".join(f"{listed.count(v)} {words.get(v, v)}" for v in [*words, *rest])


def strip(rows: pd.DataFrame) -> str:
    """One mark per group of a claim: ● holds, ○ undecided, × fails.

    Args:
        rows: The rows of one claim in `segconf_lite.claims.ledger.overview`.

    Example:
        >>> strip(ledger.overview().query("id == 'distortion-beats-entropy'"))
        '○○●○●'
    """
    check.columns(rows, ["group_verdict"], "rows")
    marks = {"holds": "●", "undecided": "○", "fails": "×"}
    return "".join(marks.get(verdict, "?") for verdict in rows["group_verdict"])


def summary(rows: pd.DataFrame) -> str:
    """The verdict of one claim in a sentence, with what multiplicity and size of the effect add.

    Args:
        rows: The rows of one claim and profile in `segconf_lite.claims.ledger.overview`.

    Example:
        >>> summary(ledger.overview().query("id == 'same-vendor-collapse'"))
        'undecided: too few people (1; at least 2)'
    """
    check.instance("rows", rows, pd.DataFrame)
    if rows.empty or not check.columns(rows, _SUMMARY, "rows")["seeds"].iloc[0]:
        return "not run"
    first = rows.iloc[0]
    fewest = rows["people"].min()
    if (rows["p_holds"] + rows["p_fails"] == 2).all():
        return f"{first['verdict']}: too few people ({fewest}; at least {FEWEST_PEOPLE})"
    if first["verdict"] not in ("holds", "fails"):
        return f"{first['verdict']} (p = {first['p']:.2g})"
    kept = "also" if first["p_holm"] <= 0.05 else "not"
    words = ", but by less than the smallest effect of interest" if first["negligible"] else ""
    wrong = f"{first['wrong']:.1%}" if first["wrong"] >= 5e-4 else "below 0.1%"
    return (
        f"{first['verdict']}{words}; {kept} after Holm's correction (p = {first['p']:.2g}, adjusted "
        f"{first['p_holm']:.2g}); probability of the contrary {wrong.replace('%', ' %')}"
    )
