"""The review as one page of HTML that loads nothing from elsewhere, and a table beside it.

Every name from a file is escaped, and the page forbids itself programs and foreign files.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import platform
import string
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from pathlib import Path

import pandas as pd

from segconf_lite import __version__, check
from segconf_lite.evaluation import risk_coverage
from segconf_lite.predictions.review import SHOWN, Review
from segconf_lite.resources import write_whole
from segconf_lite.show.pictures import class_colour

_FIRST = 12
_CHAPTER = "https://segconf-lite.github.io/segconf_lite/notebooks/10_head_to_head.html"
_LIBRARIES = ("numpy", "torch", "monai", "nibabel")
_INPUTS = (  # (column of the table, heading)
    ("property", "property"),
    ("unit", "unit"),
    ("source_low", "training, lowest"),
    ("source_high", "training, highest"),
    ("n_outside", "cases outside"),
    ("farthest", "farthest"),
    ("worst_case", "in case"),
    ("verdict", "verdict"),
)


def write_page(
    review: Review, path: Path | str, *, title: str = "Which predictions to look at first"
) -> Path:
    """Write the page, and ``NAME.csv`` with its table of cases beside it.

    Args:
        review: Of `segconf_lite.predictions.review_predictions`.
        path: The page, ending in ``.html``; it is replaced if it exists.
        title: Heading of the page.

    Returns:
        The path of the table.

    Raises:
        ValueError: If the path does not end in ``.html``, or the first argument is no review.

    Example:
        >>> write_page(None, "review.pdf")
        Traceback (most recent call last):
        ValueError: path must be a file that ends in .html, got review.pdf
    """
    target = Path(path).expanduser()
    if target.suffix.lower() != ".html":
        raise check.refuse("path", "a file that ends in .html", path)
    if not isinstance(review, Review):
        raise check.refuse("review", "a Review", type(review).__name__)
    table = target.with_suffix(".csv")
    write_whole(table, review.cases.to_csv(index=False).encode("utf-8", "replace"))
    write_whole(target, _page(review, title, table.name).encode("utf-8", "replace"))
    return table


def _page(review: Review, title: str, table: str) -> str:
    cards = [_card(review, case) for case in review.cases.to_dict("records")]
    sections = {
        "Look at these first": _cards(cards[:_FIRST]),
        "Does the order work here?": _order(review),
        "Groups": _table(review.groups),
        "The lowest Dice": _cards([_worst(review, name) for name in review.worst]),
        "Are the images like the training images?": _inputs(review),
        f"The other {len(cards) - _FIRST} cases": _cards(cards[_FIRST:]),
    }
    shown = [(f"part{k}", name, part) for k, (name, part) in enumerate(sections.items()) if part]
    advised, versions = next(iter(review.evidence)), [f"segconf_lite {__version__}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    evidence = pd.DataFrame.from_dict(review.evidence, orient="index").reset_index()
    swatch = '<span class="swatch" style="background:{}"></span>{}'
    return _filled(
        "page.html",
        title=escape(title),
        summary=escape(_summary(review)),
        notes=_list(review.notes),
        legend="".join(
            swatch.format(class_colour(k), escape(name)) for k, name in enumerate(review.class_names) if k
        ),
        links=" ".join(f'<a href="#{key}">{name}</a>' for key, name, _ in shown),
        sections="\n".join(
            f'<section id="{key}"><h2>{name}</h2>\n{part}</section>' for key, name, part in shown
        ),
        score=review.score,
        used="advised" if review.score == advised else f"chosen by the user; {advised} is advised",
        chapter=_CHAPTER,
        evidence=_table(evidence.set_axis(["uncertainty", "mean eAURC", "low", "high"], axis=1)),
        table=escape(table),
        date=datetime.date.today(),
        versions=", ".join([*versions, f"Python {platform.python_version()}"]),
    )


def _filled(name: str, **values: object) -> str:
    """A file of this room with values, which are HTML, in its places."""
    text = resources.files("segconf_lite.predictions").joinpath(name).read_text("utf-8")
    return string.Template(text).substitute(values)


def _summary(review: Review) -> str:
    cases = review.cases
    n_empty, n_labelled = int((cases["predicted_voxels"] == 0).sum()), int(cases["quality"].notna().sum())
    text = f"{len(cases)} cases of {cases['subject'].nunique()} people are ranked by "
    text += f"{SHOWN.get(review.score, review.score)}: the higher it is, the earlier a person should look. "
    if n_empty:
        text += f"Cases on which nothing is predicted ({n_empty}) come first, because nothing ranks them. "
    return text + (f"{n_labelled} cases have a reference." if n_labelled else "No case has a reference.")


def _cards(cards: list[str]) -> str:
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _card(review: Review, case: Mapping[str, object]) -> str:
    """The trust card of one case."""
    name, score, ml = str(case["case"]), float(str(case[review.score])), float(str(case["predicted_ml"]))
    volume = f"{case['predicted_voxels']} voxels" if math.isnan(ml) else f"{ml:.3g} ml"
    facts = {
        SHOWN.get(review.score, review.score): "none" if math.isnan(score) else f"{score:.3f}",
        "predicted": volume,
    }
    if not math.isnan(bound := float(str(case["lower_bound"]))):
        facts[f"Dice, {review.level:.0%} bound"] = f"≥ {bound:.2f}" if bound > 0 else "none"
    if not math.isnan(dice := float(str(case["quality"]))):
        facts["Dice (measured)"] = f"{dice:.2f}"
    if (review.cases["domain"] != "all").any():
        facts["domain"] = str(case["domain"])
    reasons = [each for each in str(case["reasons"]).split("; ") if each] or ["only its place in the order"]
    facts_html = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return (
        f'<article class="card"><h3><span class="rank">{case["rank"]}.</span> {escape(name)}</h3>'
        f"{_picture(review.pictures[name], f'Prediction of {name}')}<dl>{facts_html}</dl>"
        f"{_list(reasons, 'why')}</article>\n"
    )


def _picture(source: str, alt: str) -> str:
    return f'<img src="{escape(source)}" alt="{escape(alt)}" loading="lazy">'


def _list(texts: Iterable[str], kind: str = "") -> str:
    rows = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="{kind}">{rows}</ul>' if rows else ""


def _table(table: pd.DataFrame) -> str:
    """A table as HTML; pandas escapes names."""
    text = table.to_html(index=False, border=0, na_rep="", float_format=lambda value: f"{value:.3g}")
    return f'<div class="wide" tabindex="0">{text}</div>'


def _order(review: Review) -> str:
    """The risk-coverage curve of the labelled cases, beside the best order and none."""
    if review.curve is None or review.excess is None:
        return ""
    cases, found = review.cases.dropna(subset="quality"), review.excess
    risk = 1 - cases["quality"]
    curves = {
        "this": review.curve["selective_risk"],
        "best": risk_coverage(risk, risk)["selective_risk"],
        "none": pd.Series(risk.mean(), index=review.curve.index),
    }
    top = 1.05 * max(float(curve.max()) for curve in curves.values()) or 1.0
    across = 60 + 520 * review.curve["coverage"]
    points = {
        name: " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, 300 - 260 * curve / top, strict=True))
        for name, curve in curves.items()
    }
    text = (
        f"Risk-coverage curve of the {len(cases)} labelled cases of {cases['subject'].nunique()} people: the "
        f"mean risk of the most trusted cases. eAURC {found.estimate:.3f}, 95 % bootstrap interval over "
        f"people {found.low:.3f} to {found.high:.3f}; 0 is the best order."
    )
    return _filled("curve.svg", text=text, **points, **{f"y{k}": f"{top * k / 4:.2f}" for k in range(5)})


def _worst(review: Review, name: str) -> str:
    """Prediction and reference of a labelled case, beside each other."""
    dice = float(review.cases.loc[review.cases["case"] == name, "quality"].iloc[0])
    pair = "".join(
        f"<figure>{_picture(source, f'{what} of {name}')}<figcaption>{what}</figcaption></figure>"
        for what, source in zip(("prediction", "reference"), review.worst[name], strict=True)
    )
    title = f'<h3>{escape(name)} <span class="rank">Dice {dice:.2f}</span></h3>'
    return f'<article class="card">{title}<div class="pair">{pair}</div></article>'


def _inputs(review: Review) -> str:
    if review.inputs is None:
        return ""
    text = (
        "Properties of the middle slice of each image, beside the range of the training images. Of n "
        "training images, a new one of the same kind lies outside with probability 2 / (n + 1) per property."
    )
    return (
        f"<p>{text}</p>{_table(review.inputs[[name for name, _ in _INPUTS]].rename(columns=dict(_INPUTS)))}"
    )
