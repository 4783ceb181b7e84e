"""Every method, every question: the tables of chapter 10, computed from the stored tables of other chapters.

    python benchmarks/head_to_head.py            # under a minute; nothing is trained
    python benchmarks/head_to_head.py --costs    # also the table of costs

``chapter_10_head_to_head.csv`` has one row per question, cohort, scanner (or site), method and seed:
``value`` with its ``direction`` (which is better), ``n`` (slices), and ``source``, the chapters or the table
that it is from. ``chapter_10_costs.csv`` has one row per method: passes, networks, what it needs,
milliseconds per slice where they were measured, the code that runs it, and the claims about it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segconf_lite.claims.joined import joined_cases
from segconf_lite.claims.runs import stored_cases, stored_table
from segconf_lite.evaluation import auroc, excess_aurc

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book/results"
FAILED_BELOW = 0.7  # Dice
FEWEST = 5  # failures, and cases that did not fail, for an AUROC
NOTHING, HOME_MEAN = "no ranking", "mean Dice on A"  # two null models
DIRECTIONS = {
    "ranking": "lower", "absolute error": "lower", "failures": "higher", "scanner": "higher",
    "far errors": "higher", "annotators": "higher", "attack": "higher", "adaptive attack": "higher",
    "false alarms": "lower",
}  # fmt: skip
SAMPLED = [f"{sampler}: {what}" for sampler in ("dropout", "test-time", "ensemble")
           for what in ("entropy", "agreement", "agreement, strict")]  # fmt: skip
SAMPLED += ["dropout, 2 answers: agreement"]
ONE_PASS = ["entropy, image", "entropy, foreground", "entropy, boundary", "probability, foreground"]
ONE_PASS += ["soft Dice", "small prediction"]
OTHERS = ["distortion", "distortion, foreground", "distortion, Dice", "distance", "code distance"]
PREDICTORS = ["plain", "noise", "adversary", "Beta", "Beta, plain", "point"]
RANKED = [*ONE_PASS, *SAMPLED, *OTHERS, *PREDICTORS]
STATED = [name for name in SAMPLED if "agreement" in name] + ["soft Dice", *PREDICTORS]  # 1 - it is a Dice
# Names of chapters 5 and 8 -> names of this one.
MAPS = {"entropy": "entropy", "dropout": "dropout", "test time": "test-time", "five networks": "ensemble",
        "weight noise": "weight noise", "last layer": "last layer", "decoder": "decoder", "ring": "ring",
        "distance": "1 / distance"}  # fmt: skip
FOLLOWED = {"entropy": "entropy", "dropout, total": "dropout", "test time, total": "test-time",
            "ensemble, total": "ensemble, three networks", "weight noise, total": "weight noise",
            "last layer": "last layer", "search, total": "mask search", "ring": "ring",
            "1 / distance": "1 / distance", "blurred mask, 1 px": "blurred mask"}  # fmt: skip
ATTACKED = {"entropy": "entropy, foreground", "dropout": "dropout, 4 answers: agreement",
            "five networks": "ensemble: agreement", "distance": "distance", "distortion": "distortion, Dice",
            "Beta predictor": "Beta", "last layer": "last layer"}  # fmt: skip
ATTACKS = {"PGD 0.2": "attack", "quiet 0.2": "adaptive attack", "clean": "false alarms"}

Rows = Iterator[dict[str, Any]]


def with_nulls(cases: pd.DataFrame) -> pd.DataFrame:
    """The joined cases with the null models: one value for all, and the mean Dice of A as a prediction."""
    cases = cases[cases["risk"].notna()].assign(**{NOTHING: 0.0})
    if "A" in set(cases["domain"]):
        home = cases[cases["domain"] == "A"].groupby("seed")["risk"].mean()
        cases = cases.assign(**{HOME_MEAN: cases["seed"].map(home)})
    return cases


def case_rows(cases: pd.DataFrame, cohort: str, source: str) -> Rows:
    """Ranking, absolute error, failures and detection of the scanner, for each seed and scanner."""
    usable = [name for name in [NOTHING, *RANKED] if name in cases and cases[name].notna().all()]
    stated = [name for name in [HOME_MEAN, *STATED] if name in cases and cases[name].notna().all()]
    for (seed, scanner), part in cases.groupby(["seed", "domain"]):
        head = {"cohort": cohort, "scanner": scanner, "seed": seed, "n": len(part), "source": source}
        failed = (part["risk"] > 1 - FAILED_BELOW).to_numpy()
        home = cases[(cases["seed"] == seed) & (cases["domain"] == "A")]
        for name in usable:
            values = part[name].to_numpy()
            yield {**head, "question": "ranking", "method": name, "value": excess_aurc(part["risk"], values)}
            if FEWEST <= failed.sum() <= len(part) - FEWEST:
                found = auroc(values[~failed], values[failed])
                yield {**head, "question": "failures", "method": name, "value": found}
            if len(home) and scanner != "A":
                yield {**head, "question": "scanner", "method": name, "value": auroc(home[name], values)}
        for name in stated:
            error = (part[name].clip(0, 1) - part["risk"]).abs().mean()
            yield {**head, "question": "absolute error", "method": name, "value": error}


def nodule_rows() -> Rows:
    """As `case_rows`, on unseen vendors; without the ensemble, whose five networks all seeds share."""
    cases = stored_cases("lidc").query("domain != 'GE'")
    shared = [name for name in cases if name.startswith("ensemble")]
    yield from case_rows(with_nulls(cases.drop(columns=shared)), "lung nodules", "lidc")


def soft_dice_rows(seeds: set[int]) -> Rows:
    """Soft Dice confidence of chapters whose cases do not have it yet: networks trained again, alike."""
    table = stored_table("chapter_02_soft_dice.csv").query("method == 'soft Dice'")
    names = {"eAURC x 1000": ("ranking", 1000), "absolute error": ("absolute error", 1)}
    for row in table[table["seed"].isin(seeds)].itertuples():
        question, scale = names[row.statistic]
        head = {"cohort": "phantom", "scanner": row.scanner, "seed": row.seed, "n": 120}
        yield {**head, "question": question, "method": "soft Dice", "value": row.value / scale,
               "source": "chapter_02_soft_dice"}  # fmt: skip


def pixel_rows() -> Rows:
    """Fraction of the wrong pixels beyond 2 pixels of a predicted border that a map finds."""
    cases = stored_cases(5).query("cohort == 'phantom'")
    for (seed, scanner), part in cases.groupby(["seed", "domain"]):
        total = part["far errors"].sum()
        head = {
            "question": "far errors",
            "cohort": "phantom",
            "scanner": scanner,
            "seed": seed,
            "source": "5",
        }
        for old, new in MAPS.items():
            if total >= 20:
                found = part[f"far found: {old}"].sum() / total
                yield {**head, "method": f"map: {new}", "n": len(part), "value": found}


def annotator_rows() -> Rows:
    """Mean correlation of a map with the annotators, within 6 mm of a border on the phantom."""
    cases, shapes = stored_cases(5), stored_table("chapter_05_geometry.csv")
    for cohort, name in (("raters", "phantom, annotated"), ("retina", "retina")):
        for (seed, domain), part in cases[cases["cohort"] == cohort].groupby(["seed", "domain"]):
            head = {"question": "annotators", "cohort": name, "scanner": domain, "seed": seed, "n": len(part)}
            for old, new in FOLLOWED.items():
                if old in part and part[old].notna().all():
                    yield {**head, "method": f"map: {new}", "value": part[old].mean(), "source": "5"}
    if "1 / distance" in cases:
        return
    for row in shapes.query("region == 'band' and scanner == 'A'").itertuples():
        if row.map in ("1 / distance", "blurred mask, 1 px"):
            yield {"question": "annotators", "cohort": "phantom, annotated", "scanner": "A", "seed": row.seed,
                   "n": 24, "method": f"map: {FOLLOWED[row.map]}", "value": row.correlation,
                   "source": "chapter_05_geometry"}  # fmt: skip


def attack_rows() -> Rows:
    """Fraction of slices flagged: attacked, attacked by somebody who keeps the entropy low, and untouched."""
    cases = stored_cases(8).query("cohort == 'notice'")
    for (seed, images, method), part in cases.groupby(["seed", "images", "method"]):
        if images in ATTACKS and method in ATTACKED:
            yield {"question": ATTACKS[images], "cohort": "phantom, attacked", "scanner": "A", "seed": seed,
                   "n": len(part), "method": ATTACKED[method], "value": part["flagged"].mean(),
                   "source": "8"}  # fmt: skip


def head_to_head() -> pd.DataFrame:
    """All rows, with the direction of each question."""
    rows: list[dict[str, Any]] = []
    phantom = with_nulls(joined_cases((2, 3, 4)))
    print(f"phantom: {len(phantom)} cases joined, {phantom.attrs.get('left_out', 0)} left out")
    rows += case_rows(phantom, "phantom", "2+3+4")
    if "soft Dice" not in phantom:
        rows += soft_dice_rows(set(phantom["seed"]))
    rows += case_rows(with_nulls(joined_cases((2, 3, 4), cohort="cord")), "cord", "2+3+4")
    rows += nodule_rows()
    maps = ["last layer, boundary", "decoder, boundary", "weight noise, boundary"]
    few = with_nulls(joined_cases((2, 3, 4, 5)))
    for (seed, scanner), part in few.groupby(["seed", "domain"]):
        for name in [NOTHING, "small prediction", "entropy, foreground", "entropy, boundary", "adversary",
                     "Beta", "ensemble: entropy", *maps]:  # fmt: skip
            rows.append({"question": "ranking", "cohort": "phantom, 30 slices", "scanner": scanner,
                         "seed": seed, "n": len(part), "method": name, "source": "2+3+4+5",
                         "value": excess_aurc(part["risk"], part[name])})  # fmt: skip
    for found in (pixel_rows, annotator_rows, attack_rows):
        rows += found()
    table = pd.DataFrame(rows)
    table["direction"] = table["question"].map(DIRECTIONS)
    columns = ["question", "direction", "cohort", "scanner", "method", "seed", "value", "n", "source"]
    return table[columns]


ASKED = "from segconf_lite.models import predict_probabilities\n"
BASELINES = "from segconf_lite.confidence.baselines import one_pass_columns\n"
DISTORTED = "from segconf_lite.confidence.distortion import distortion_columns\n"
SHAPES = ASKED + "from segconf_lite.evaluation import geometric_maps\n"
DETECTS = "image-entropy-tells-scanners-apart-better-than-soft-dice"
SHAPE = "predict_probabilities(network, images).argmax(dim=1), n_classes=4"
CHAPTER_10 = "soft-dice-ranks-better-than-size soft-dice-is-near-the-best-one-pass"


def methods() -> dict[str, dict[str, Any]]:
    """Name -> what it needs; `build` makes the method whose passes are asked for."""
    from segconf_lite import confidence as c
    from segconf_lite.fragility import FragilityMap, MaskSearch, TangentSearch, WeightNoise
    from segconf_lite.models import Training

    names = {"c": c, "FragilityMap": FragilityMap, "WeightNoise": WeightNoise, "Training": Training}
    names |= {"TangentSearch": TangentSearch, "MaskSearch": MaskSearch}
    names |= {name: getattr(c, name) for name in c.__all__}
    training = {"steps": 20, "seed": 0}

    def of(
        code: str, imports: str, needs: str = "nothing", *, claims: str = "", **more: Any
    ) -> dict[str, Any]:
        build: Callable[[], Any] = lambda: eval(code, {**names, "training": training})  # noqa: E731
        row = {
            "networks": 1,
            "labels": False,
            "null": False,
            "code": code,
            "imports": imports,
            "needs": needs,
        }
        return {**row, "claims": claims, "build": build, **more}

    def one(code: str, claims: str = "") -> dict[str, Any]:
        name = code.split("(")[0]
        return of(code, f"from segconf_lite.confidence import {name}\n", claims=claims)

    def null(code: str, imports: str = "", **more: Any) -> dict[str, Any]:
        return of(code, imports, null=True, build=None, **{"passes": 1, **more})

    found = {
        NOTHING: null("np.zeros(len(images))", "import numpy as np\n", passes=0),
        HOME_MEAN: null(
            "np.full(len(images), dice_on_a)",
            "import numpy as np\n",
            passes=0,
            labels=True,
            needs="labels of new cases of the training scanner",
        ),
        "small prediction": null(
            'one_pass_columns(predict_probabilities(network, images))["small prediction"]',
            ASKED + BASELINES,
            claims=f"doubt-knows-more-than-size {CHAPTER_10.split()[0]} size-adds-to-soft-dice",
        ),
        "entropy, image": one("PredictiveEntropy()", f"image-entropy-hardly-orders {DETECTS}"),
        "entropy, foreground": one(
            'PredictiveEntropy(region="foreground")',
            "foreground-mean-beats-image-mean doubt-knows-more-than-size",
        ),
        "entropy, boundary": one('PredictiveEntropy(region="boundary", band_px=2)'),
        "probability, foreground": one('MaximumProbability(region="foreground")'),
        "soft Dice": one(
            "SoftDiceConfidence()",
            "soft-dice-orders-better-than-entropy soft-dice-orders-as-four-networks " + CHAPTER_10,
        ),
    }
    samplers = {
        "dropout": ("MCDropout(n_samples=15{})", "a network trained with dropout", "fifteen-passes-beat-two"),
        "test-time": ("TestTimeAugmentation({})", "nothing", ""),
        "ensemble": (
            "DeepEnsemble(n_members=4, training=training{})",
            "training cases with labels",
            "ensemble-agreement-beats-one-pass ensemble-agreement-beats-dropout-agreement",
        ),
    }
    for name, (code, needs, claims) in samplers.items():
        line = f"from segconf_lite.confidence import {code.split('(')[0]}\n"
        paired = f"from segconf_lite.confidence import {code.split('(')[0]}, ScoreAgreement\n"
        many = {"networks": 4, "labels": True} if name == "ensemble" else {}
        plain = code.format("")
        region = code.format(', region="foreground"').replace("(, ", "(")
        found |= {
            f"{name}: entropy": of(region, line, needs, claims=claims, **many),
            f"{name}: agreement": of(f"ScoreAgreement({plain})", paired, needs, claims=claims, **many),
            f"{name}: agreement, strict": of(
                f'ScoreAgreement({plain}, empty="zero")', paired, needs, claims=claims, **many
            ),
            f"map: {name}": of(plain.replace("15", "6"), line, needs, **many),
        }
    for n, claims in ((2, "fifteen-passes-beat-two"), (4, "no-confidence-notices-attacks")):
        found[f"dropout, {n} answers: agreement"] = of(
            f"ScoreAgreement(MCDropout(n_samples={n}))",
            "from segconf_lite.confidence import MCDropout, ScoreAgreement\n",
            "a network trained with dropout",
            claims=claims,
        )
    images = "images of the training scanner"
    coded = "from segconf_lite.confidence import SegmentationDistortion\n"
    about = "distortion-beats-distance distortion-beats-foreground-entropy"
    found |= {
        "distortion": of("SegmentationDistortion()", coded, images, claims=about),
        "distortion, foreground": of(
            'SegmentationDistortion(region="foreground")', coded, images, claims=about
        ),
        "distortion, Dice": of(
            "distortion_columns(*SegmentationDistortion().fit(network, train)"
            '.both_probabilities(images))["distortion, Dice"]',
            coded + DISTORTED,
            images,
            claims="distortion-as-dice-orders-better",
            build=lambda: c.SegmentationDistortion(),
        ),
        "distance": of(
            "PooledMahalanobis()",
            "from segconf_lite.confidence import PooledMahalanobis\n",
            images,
            claims="distance-flags-every-foreign-scanner distortion-beats-distance",
        ),
        "code distance": of(
            "LatentMahalanobis()",
            "from segconf_lite.confidence import LatentMahalanobis\n",
            images,
            claims="distortion-beats-code-distance",
        ),
    }
    labels = {"needs": "training cases with labels", "labels": True}
    settings = ', training=Training(steps=200, learning_rate=2e-3, weight_decay=1e-3, augmentation="{}")'
    kinds = {
        "plain": (
            "QualityPredictor.published(adversary=None{})",
            "mild",
            "adversary-orders-better-than-plain",
        ),
        "noise": (
            'QualityPredictor.published(adversary=Adversary(direction="random"){})',
            "mild",
            "adversary-beats-noise",
        ),
        "adversary": (
            "QualityPredictor.published(adversary=Adversary(effect_size=0.1){})",
            "mild",
            "adversary-orders-better-than-plain adversary-predicts-nearer",
        ),
        "Beta": (
            "BetaQualityPredictor(adversary=Adversary(effect_size=0.1){})",
            "strong",
            "beta-orders-better-than-point beta-needs-its-adversary five-networks-beat-the-predictor",
        ),
        "Beta, plain": ("BetaQualityPredictor(adversary=None{})", "strong", "beta-needs-its-adversary"),
        "point": (
            "QualityPredictor(adversary=Adversary(effect_size=0.1){})",
            "strong",
            "beta-orders-better-than-point",
        ),
    }
    for name, (code, images_seen, claims) in kinds.items():
        kind = code.split("(")[0].split(".")[0]
        lines = f"from segconf_lite.confidence import Adversary, {kind}\n".replace(
            "Adversary, " if "Adversary(" not in code else "\0", ""
        )
        found[name] = of(
            code.format(settings.format(images_seen)),
            lines + "from segconf_lite.models import Training\n",
            claims=claims,
            **labels,
        )
    fragile = "from segconf_lite.fragility import FragilityMap{}\n"
    far = "decoder-finds-more-far-errors-than-entropy decoder-finds-more-far-errors-than-distance"
    masks = "mask-search-follows-annotators-better-than-distance"
    for kind in ("last layer", "last layer, boundary", "map: last layer"):
        region = 'region="boundary", band_px=2' if kind.endswith("boundary") else ""
        claims = (
            "fragile-boundary-orders-cases-better-than-entropy"
            if region
            else "fragility-finds-more-errors-than-entropy"
        )
        found[kind] = of(f"FragilityMap({region})", fragile.format(""), claims=claims, **labels)
    edge = 'region="boundary", band_px=2'
    found |= {
        "decoder, boundary": of(
            f"FragilityMap(search=TangentSearch(n_draws=6, n_slices=48), {edge})",
            fragile.format(", TangentSearch"),
            **labels,
        ),
        "weight noise, boundary": of(
            f"WeightNoise(budget=2e-3, n_samples=6, {edge})",
            "from segconf_lite.fragility import WeightNoise\n",
            **labels,
        ),
    }
    found |= {
        "map: entropy": one("PredictiveEntropy()", "entropy-follows-annotators-better-than-distance"),
        "map: decoder": of(
            "FragilityMap(search=TangentSearch(n_draws=6, n_slices=48))",
            fragile.format(", TangentSearch"),
            claims=far,
            **labels,
        ),
        "map: mask search": of(
            "FragilityMap(search=MaskSearch())", fragile.format(", MaskSearch"), claims=masks, **labels
        ),
        "map: weight noise": of(
            "WeightNoise(budget=2e-3, n_samples=6)",
            "from segconf_lite.fragility import WeightNoise\n",
            claims="mask-search-follows-annotators-better-than-noise",
            **labels,
        ),
        "map: ensemble, three networks": of(
            "DeepEnsemble(n_members=3, training=training)",
            "from segconf_lite.confidence import DeepEnsemble\n",
            claims="ensemble-follows-annotators-better-than-distance",
            networks=3,
            **labels,
        ),
        "map: ring": null(
            f"geometry_ring({SHAPE})",
            ASKED + "from segconf_lite.fragility import geometry_ring\n",
            claims="mask-search-follows-annotators-better-than-the-ring",
        ),
        "map: 1 / distance": null(
            f'geometric_maps({SHAPE})["1 / distance"]',
            SHAPES,
            claims=f"{far.split()[1]} entropy-follows-annotators-better-than-distance",
        ),
        "map: blurred mask": null(
            f'geometric_maps({SHAPE})["blurred mask, 1 px"]',
            SHAPES,
            claims="mask-search-follows-annotators-better-than-a-blurred-mask",
        ),
    }
    return found


def costs() -> pd.DataFrame:
    """One row per method of the head-to-head table; passes are those that the fitted classes state."""
    speed = pd.read_csv(ROOT / "benchmarks/speed.csv").set_index("what")["value"]
    fragile = stored_table("chapter_05_speed.csv").set_index("what")["value"]
    one = speed["inference, 96x96, fp32"]
    measured = dict.fromkeys([*ONE_PASS, "map: entropy"], one)
    measured |= dict.fromkeys(OTHERS[:3], one * speed["distortion, decoder cut open"])
    measured |= dict.fromkeys(PREDICTORS[:3], one * speed["predicted quality, one level"])
    measured |= dict.fromkeys(PREDICTORS[3:], one * speed["predicted quality, three levels"])
    heads = ("last layer", "last layer, boundary", "map: last layer")
    measured |= dict.fromkeys(heads, fragile["flip-cost map, last layer"].max())
    rows = []
    for name, row in methods().items():
        build = row.pop("build")
        passes = row.pop("passes", None)
        passes = getattr(build(), "n_passes", np.nan) if build else passes
        rows.append({"method": name, "passes": passes, "ms": measured.get(name, np.nan), **row})
    columns = ["method", "passes", "networks", "labels", "needs", "null", "ms", "claims", "code", "imports"]
    return pd.DataFrame(rows)[columns].assign(
        imports=lambda t: t["imports"].str.strip().str.replace("\n", "; ")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--costs", action="store_true", help="write the table of costs, too")
    if parser.parse_args().costs:
        costs().to_csv(
            RESULTS / "chapter_10_costs.csv", index=False, float_format="%.4g", lineterminator="\n"
        )
    table = head_to_head()
    table.to_csv(
        RESULTS / "chapter_10_head_to_head.csv", index=False, float_format="%.5g", lineterminator="\n"
    )
    shown = table.groupby(["question", "cohort"]).agg(rows=("value", "size"), methods=("method", "nunique"))
    print(shown.to_string())


if __name__ == "__main__":
    main()
