"""Are the promises of chapter 9 kept? A simulation with many subjects of the phantom.

One network (lite profile, scanner A, seed 11, as in chapter 9) segments one random slice of each subject. Of
each slice only the Dice, the soft Dice confidence and the features of its appearance are kept. Then subjects
are drawn from this pool, `DRAWS` times, without replacement within a draw:

- ``home``: n subjects of A calibrate the lower bound of the Dice, and one more subject tests it. With n + 1 a
  multiple of 10, a bound at the level 0.9 must cover exactly 0.9 of the tests, so their number is binomial.
- ``mapie``: the same margin from MAPIE, for the same draws.
- ``mixture``: 200 subjects, a known fraction of which is of B, calibrate; the new cases are a mixture with
  another fraction. Weights are known (ratio of the fractions), or estimated from unlabelled new cases.
- ``scanner``: 200 subjects of A calibrate, and all new cases are of one other scanner.

What was expected, written down before the first run (the verdicts of the table are by these rules):

1. home: the number of covered tests lies in the central 95 % of the binomial distribution, for all four n
   together (98.75 % for each).
2. mapie: no margin differs by more than 1e-9.
3. mixture, known weights: coverage within 0.03 of the level wherever the mean effective sample size is at
   least 50. Estimated from the appearance: the same. Estimated from the predicted quality: no expectation.
4. scanner: no expectation; coverage and effective sample size are reported, whatever they are.

    python benchmarks/guarantees.py     # writes the table

The quick version, on synthetic cases, is tests/evaluation/test_guarantees.py.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from segconf_lite import evaluation as ev
from segconf_lite.claims import ledger

TABLE = Path(__file__).parents[1] / "book/results/chapter_09_coverage.csv"
SEED, LEVEL, DRAWS, CLASSIFIERS, MARGIN, LEAST = 11, 0.9, 1000, 100, 0.03, 50
SIZES, MIXED = (9, 59, 99, 499), 200
SUBJECTS = {"A": 2000, "B": 400, "C": 120, "D": 120, "E": 120, "F": 120}
FRACTIONS = [(b, t) for b in (0.1, 0.3, 0.5) for t in (0.0, 0.5, 1.0)]  # of B: in calibration, in new cases
FEATURES = ("predicted quality", "appearance")


def slices(scanner, numbers, seed, size):
    """One random slice of each subject, as `phantom.cohort` would make it: images and labels."""
    from segconf_lite.cohorts.phantom import SCANNERS, anatomy, phantom, subjects
    from segconf_lite.cohorts.phantom import scanner as physics

    rngs = [np.random.default_rng([seed, number, 0]) for number in numbers]
    _, shapes = subjects.draw_subjects(rngs)
    place = np.random.default_rng([seed, numbers[0], 9]).integers(6, size=len(numbers))
    rows = 6 * np.arange(len(numbers)) + place
    some = subjects.SliceShapes(**{name: values[rows] for name, values in vars(shapes).items()})
    drawn, streams = anatomy.draw(some, size), phantom.slice_streams(seed, numbers, 1)
    streams = [streams[row] for row in rows]
    images = physics.acquire(drawn.fractions, SCANNERS[scanner], 1.0, streams, 192 / size)
    return images[:, None], phantom.reference_labels(drawn.inside_mm)


def pool_of(network, scanner, n_subjects, seed, size):
    """Predicted quality, true Dice and features of one slice of each subject, block by block."""
    from segconf_lite.cohorts.appearance import appearance_features
    from segconf_lite.confidence import soft_dice_confidence
    from segconf_lite.models import predict_probabilities

    parts = []
    for start in range(0, n_subjects, 40):
        images, labels = slices(scanner, range(start, min(start + 40, n_subjects)), seed, size)
        chances = predict_probabilities(network, images)
        dice = ev.dice_per_case(chances.argmax(dim=1), labels, n_classes=4, empty="skip")
        table = pd.DataFrame({"predicted": np.asarray(soft_dice_confidence(chances)), "quality": dice})
        parts.append(table.join(pd.DataFrame(appearance_features(images)).add_prefix("f")))
    return pd.concat(parts, ignore_index=True).dropna()


def excess(pool):
    """How much too good the predicted quality is."""
    return (pool["predicted"] - pool["quality"]).to_numpy()


def mean_and_interval(values):
    """Mean over draws with its 95 % interval."""
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return {"coverage": np.mean(values), "low": np.mean(values) - half, "high": np.mean(values) + half}


def home(pool, rng, draws=DRAWS, sizes=SIZES):
    """Rows of coverage on the training scanner: one test per draw, and all other subjects of the pool."""
    errors = excess(pool)
    for n in sizes:
        hits, lived, bounds = np.zeros(draws), np.zeros(draws), np.zeros(draws)
        for k in range(draws):
            order = rng.permutation(len(errors))
            margin = ev.conformal_quantile(errors[order[:n]], level=LEVEL)
            hits[k] = errors[order[n]] <= margin
            lived[k] = (errors[order[n:]] <= margin).mean()
            bounds[k] = np.clip(pool["predicted"].to_numpy()[order[n]] - margin, 0, 1)
        rank = int(np.ceil(LEVEL * (n + 1) - 1e-9))
        tail = 0.025 / len(sizes)  # of four tests together
        accepted = stats.binom.ppf([tail, 1 - tail], draws, rank / (n + 1)) / draws
        own = stats.binomtest(int(hits.sum()), draws).proportion_ci()
        set_low, set_high = np.quantile(lived, [0.05, 0.95])
        beta_low, beta_high = stats.beta.ppf([0.05, 0.95], rank, n + 1 - rank)
        yield {
            "part": "home",
            "weights": "none",
            "n_calibration": n,
            "tested": "A",
            "draws": draws,
            "coverage": hits.mean(),
            "low": own.low,
            "high": own.high,
            "accepted_low": accepted[0],
            "accepted_high": accepted[1],
            "set_low": set_low,
            "set_high": set_high,
            "beta_low": beta_low,
            "beta_high": beta_high,
            "mean_bound": bounds.mean(),
            "verdict": "kept" if accepted[0] <= hits.mean() <= accepted[1] else "NOT KEPT",
        }


def mapie(pool, rng, draws=100, n=99):
    """The row of the largest difference between our margin and that of MAPIE."""
    from mapie.conformity_scores import AbsoluteConformityScore
    from mapie.regression import SplitConformalRegressor
    from sklearn.linear_model import LinearRegression

    same = LinearRegression(fit_intercept=False).fit([[1.0]], [1.0])  # predicts its input
    differences = []
    for _ in range(draws):
        part = pool.iloc[rng.permutation(len(pool))[:n]]
        x, y = part[["predicted"]].to_numpy(), part["quality"].to_numpy()
        # Two one-sided bounds, each at the level: an interval at 2 · level − 1 that is not symmetric.
        how = {"confidence_level": 2 * LEVEL - 1, "prefit": True}
        score = AbsoluteConformityScore(sym=False)
        model = SplitConformalRegressor(same, conformity_score=score, **how).conformalize(x, y)
        theirs = 0.5 - model.predict_interval(np.array([[0.5]]))[1][0, 0, 0]
        differences.append(theirs - ev.conformal_quantile(excess(part), level=LEVEL))
    largest = np.abs(differences).max()
    verdict = "kept" if largest <= 1e-9 else "NOT KEPT"
    yield {
        "part": "mapie",
        "weights": "none",
        "n_calibration": n,
        "tested": "A",
        "draws": draws,
        "largest_difference": largest,
        "verdict": verdict,
    }


def mixed(pools, fraction, n, rng):
    """n cases, each of B with a probability, otherwise of A; and the positions of the cases left over."""
    n_b = rng.binomial(n, fraction)
    orders = [rng.permutation(len(pools[name])) for name in "AB"]
    drawn = [pools[name].iloc[order[:k]] for name, order, k in zip("AB", orders, (n - n_b, n_b), strict=True)]
    left = [pools[name].iloc[order[k:]] for name, order, k in zip("AB", orders, (n - n_b, n_b), strict=True)]
    return pd.concat(drawn), np.arange(n) >= n - n_b, dict(zip("AB", left, strict=True))


def with_known_weights(pools, b, t, rng, draws):
    """Coverage without and with the true ratio, over all subjects that do not calibrate."""
    weight, share = np.array([(1 - t) / (1 - b), t / b]), np.array([1 - t, t])
    errors, predicted = [[f(pools[s]) for s in "AB"] for f in (excess, lambda p: p["predicted"].to_numpy())]
    found = {"none": [], "known": []}
    for _ in range(draws):
        n_b = rng.binomial(MIXED, b)
        orders = [rng.permutation(len(pools[s])) for s in "AB"]
        old = [e[order[:n]] for e, order, n in zip(errors, orders, (MIXED - n_b, n_b), strict=True)]
        left = [order[n:] for order, n in zip(orders, (MIXED - n_b, n_b), strict=True)]
        scores, weights = np.concatenate(old), np.repeat(weight, [MIXED - n_b, n_b])
        plain = ev.conformal_quantile(scores, level=LEVEL)
        margins = ev.weighted_quantile(scores, weights, weight, level=LEVEL)
        size = ev.effective_sample_size(weights)
        for name, pair, n in (("none", (plain, plain), MIXED), ("known", margins, size)):
            kept = [(e[rest] <= m).mean() for e, rest, m in zip(errors, left, pair, strict=True)]
            high = [np.clip(p[r] - m, 0, 1).mean() for p, r, m in zip(predicted, left, pair, strict=True)]
            found[name].append((share @ kept, n, share @ high))
    return found


def with_estimated_weights(old, new, feature):
    """Coverage of new cases, effective sample size, mean bound and AUROC, weights by a classifier."""
    columns = ["predicted"] if feature == FEATURES[0] else [c for c in new if c.startswith("f")]
    ratio = ev.density_ratio(old[columns], new[columns])
    margin = ev.weighted_quantile(excess(old), ratio.calibration, ratio.new, level=LEVEL)
    bound = np.clip(new["predicted"] - margin, 0, 1)
    return (excess(new) <= margin).mean(), ratio.effective_size, bound.mean(), ratio.auroc


def summary(values, **known):
    """One row of the table from (coverage, effective size, bound, ...) of each draw."""
    kept, size, bound, *auroc = np.transpose(values)
    row = known | {"n_calibration": MIXED, "draws": len(kept), **mean_and_interval(kept)}
    row |= {"effective_size": size.mean(), "mean_bound": bound.mean()}
    row |= {"auroc": auroc[0].mean()} if auroc else {}
    expects = known["part"] == "mixture" and known["weights"] in ("known", "appearance")
    close = "kept" if abs(row["coverage"] - LEVEL) <= MARGIN else "NOT KEPT"
    row["verdict"] = close if expects and size.mean() >= LEAST else "no expectation"
    return row


def mixtures(pools, rng, draws=DRAWS, classifiers=CLASSIFIERS, fractions=FRACTIONS):
    """Rows of coverage where the fraction of scanner B changes by a known amount."""
    for b, t in fractions:
        where = {"part": "mixture", "tested": "A and B", "calibration_b": b, "new_b": t}
        for weights, values in with_known_weights(pools, b, t, rng, draws).items():
            yield summary(values, weights=weights, **where)
        for feature in FEATURES:
            values = []
            for _ in range(classifiers):
                old, _, left = mixed(pools, b, MIXED, rng)
                values.append(with_estimated_weights(old, mixed(left, t, MIXED, rng)[0], feature))
            yield summary(values, weights=feature, **where)


def scanners(pools, rng, classifiers=CLASSIFIERS):
    """Rows of coverage on each unseen scanner, calibrated on A."""
    for name in [name for name in pools if name != "A"]:
        where = {"part": "scanner", "tested": name, "calibration_b": 0.0}
        found = {"none": [], **{feature: [] for feature in FEATURES}}
        for _ in range(classifiers):
            old = pools["A"].iloc[rng.permutation(len(pools["A"]))[:MIXED]]
            new = pools[name].iloc[rng.permutation(len(pools[name]))[:MIXED]]
            margin = ev.conformal_quantile(excess(old), level=LEVEL)
            bound = np.clip(new["predicted"] - margin, 0, 1).mean()
            found["none"].append(((excess(new) <= margin).mean(), MIXED, bound))
            for feature in FEATURES:
                found[feature].append(with_estimated_weights(old, new, feature))
        for weights, values in found.items():
            yield summary(values, weights=weights, **where)


def main():
    from segconf_lite.cohorts import phantom
    from segconf_lite.models import fit_unet, fitted
    from segconf_lite.profiles import LITE

    started, rng = time.process_time(), np.random.default_rng(SEED)
    train = phantom.cohort(LITE.n_train, scanner="A", size=LITE.size, seed=SEED)
    training = {"steps": LITE.steps, "channels": LITE.channels, "dropout": 0.1, "seed": 10 * SEED}
    network = fitted(fit_unet, train, **training)
    print(f"network: {time.process_time() - started:.0f} s of processor time", flush=True)
    pools = {}
    for number, (name, n) in enumerate(SUBJECTS.items()):
        # Seeds of their own, so that no subject is on two scanners or among the training subjects.
        pools[name] = pool_of(network, name, n, SEED + 5000 + number, LITE.size)
        print(f"{name}: {len(pools[name])} subjects, {time.process_time() - started:.0f} s", flush=True)
    rows = [*home(pools["A"], rng), *mapie(pools["A"], rng), *mixtures(pools, rng), *scanners(pools, rng)]
    table = pd.DataFrame(rows)
    pd.options.display.width = 250
    print(table.round(3).to_string(index=False))
    print(f"{time.process_time() - started:.0f} s of processor time")
    origin = ledger.provenance(profile="lite", seed=SEED)
    kept = {name: origin[name] for name in ("seed", "profile", "commit", "device", "day")}
    table = table.assign(level=LEVEL, subjects=len(pools["A"]), **kept)
    table.to_csv(TABLE, index=False, float_format="%.5g", lineterminator="\n")


if __name__ == "__main__":
    main()
