"""The page "What held up": the register of claims and their stored outcomes as Markdown.

Texts of the register and of tables are shown as they are written: HTML in them is escaped.
"""

import html
from pathlib import Path
from typing import Any

import pandas as pd

from segconf_lite.claims import Claim, ledger, read_claims

MARK = "<!-- ledger -->"
_WORDS = {
    "mean": "mean of *{value}*",
    "ratio_of_means": "mean of *{numerator}* over mean of *{denominator}*",
    "mean_difference": "mean of *{first}* minus mean of *{second}*",
    "rank_correlation": "Spearman of risk with *{uncertainty}*",
    "rank_correlation_difference": "Spearman of risk with *{first}* minus that with *{second}*",
    "excess_aurc_difference": "eAURC of *{first}* minus that of *{second}*",
    "rank_correlation_of_means": "Spearman, over *{group}*, of the mean of *{first}* with that of *{second}*",
    "explained_difference": "variance of *{outcome}* explained by *{first}* minus that by *{second}*",
    "pooled_ece_difference": "calibration error (*{first}*) minus calibration error (*{second}*)",
}


def ledger_markdown(book: Path) -> str:
    """The table of verdicts, and a section per claim."""
    claims = read_claims(book / "claims.yml")
    shown = ledger.overview(book / "results", claims=claims)
    parts = [_summary(claims, shown)]
    for chapter in sorted({claim.chapter for claim in claims.values()}):
        parts.append(f"## Chapter {chapter}")
        parts += [_section(c, shown[shown["id"] == c.id]) for c in claims.values() if c.chapter == chapter]
    return "\n\n".join(parts)


def _summary(claims: dict[str, Claim], shown: pd.DataFrame) -> str:
    verdicts = shown.groupby(["id", "profile"], sort=False)["verdict"].first().reset_index()
    lines = ["| verdict | claim |", "|---|---|"]
    for row in verdicts.itertuples():
        profile = "" if row.profile == "lite" else f" ({row.profile} profile)"
        lines.append(f"| **{row.verdict}** | [{_plain(claims[str(row.id)].sentence)}](#{row.id}){profile} |")
    return "\n".join(lines)


def _section(claim: Claim, shown: pd.DataFrame) -> str:
    line = {"greater": f"above {claim.threshold:g}", "less": f"below {claim.threshold:g}"}.get(
        claim.direction, f"within {claim.margin} of {claim.threshold:g}"
    )
    statistic = _WORDS[claim.statistic].format(**{k: _plain(name) for k, name in claim.columns.items()})
    statistic += f", mean over {_plain(claim.within)}s" if claim.within else ""
    origin = f"Source: {_plain(claim.source)}. Registered {_plain(claim.registered)}."
    measured = f"Statistic: {statistic}; claimed: {line}."
    lines = [f"({claim.id})=", f"### {_plain(claim.sentence)}", "", f"{origin} {measured}", ""]
    for profile, rows in shown.groupby("profile", sort=False):
        first = rows.iloc[0]
        lines.append(f"**{first['verdict']}** ({profile} profile, {first['seeds']} seeds)")
        if first["seeds"]:
            lines += ["", "| | estimate | 95 % interval | verdict |", "|---|---|---|---|"]
            lines += [_row(row) for row in rows.itertuples()]
        lines.append("")
    return "\n".join(lines)


def _row(row: Any) -> str:
    name = "all cases" if row.group == "all" else _plain(row.group)
    return f"| {name} | {row.estimate:.3g} | {row.low:.3g} to {row.high:.3g} | {row.group_verdict} |"


def _plain(text: str) -> str:
    """Text without HTML and without the bar that ends a cell of a table."""
    return html.escape(text, quote=False).replace("|", "&#124;")
