# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Real scanners
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/segconf-lite/segconf_lite/blob/main/notebooks/11_real_scanners.ipynb)
#
# **The question.** Nearly everything in this book was shown on a simulated heart. A patient is no simulation, and a hospital
# that trusts a confidence because it worked on simulated hearts may let a wrong segmentation pass. What of the book survives
# on real scanners and real people?
#
# **You will be able to** compare statements about the phantom with their counterparts on real scans
# without choosing only those that agree; test a network with one scanner left out at a time; give intervals over people rather than over
# slices; and estimate how many labelled people of your own it takes to choose a method.
#
# :::{admonition} In short (this gives away the predictions below)
# :class: dropdown
# * **What transfers?** Nine pairs of claims say the same of the phantom and of real scans. Six pairs are
#   undecided on one side at least, five of them with at most five real people. Three pairs agree, and no pair disagrees. The three are about
#   patients with lung nodules. For
#   example, the soft Dice confidence ranks better than the size of the
#   prediction, on [simulated hearts](evidence:soft-dice-ranks-better-than-size?holds) and on
#   [these patients](evidence:nodule-soft-dice-ranks-better-than-size?holds).
# * **The order of the methods** on the lung nodules is similar to that on the phantom. On the four volunteers of the cord, the
#   similarity varies from site to site.
# * **Intervals.** With three people drawn from the patients, both bootstrap intervals contain
#   the true mean much less often than they promise; a t interval comes closer.
# * **Labels of your own.** In a trial on the nodules, a choice from 3 to 48 labelled patients had a larger
#   mean regret than the advice from the phantom.
# :::
#
# **You need** chapters 1 and 2. Three terms from there return all the time:
#
# * The **eAURC** says how far a ranking by uncertainty is from the best possible one (0 is perfect, lower is better).
# * The **soft Dice confidence** is a Dice that needs no reference, computed from the probabilities of one network.
# * The **size of the prediction** is the simple rival: the smaller the segmentation, the more uncertain.
#
# Some sections use stored results of chapter 10. You can follow
# without it if you take the names of the methods as names. All terms are on the page [Definitions](../definitions.md).
#
# **Time:** about 2 min on two CPU cores from scratch, under 1 min when the trained networks are stored or without the real
# scans. The way from the first section to *What to take home* is the chapter; the further questions at the end can wait.

# %% tags=["hide-input"]
import sys

if "google.colab" in sys.modules:  # elsewhere nothing is installed
    # %pip install -q "segconf-lite @ git+https://github.com/segconf-lite/segconf_lite@v0.1.0"
    pass

from segconf_lite import colab

colab.welcome("0.1.0")

# %% tags=["parameters"]
# Sizes of the live part: "lite" for two CPU cores, "full" for a GPU.
profile = "lite"  # @param ["lite", "full"]
# Seed of the live part (initial weights of the networks), and of the draws of people.
seed = 0  # @param {type:"integer", min:0}
# Optimiser steps of each of the six networks of the live part (0: 66 in "lite", 200 in "full").
n_steps = 0  # @param {type:"integer", min:5, max:5000, also:0}
# Scanners of the phantom from which advice is taken, three at least, e.g. CDF.
scanners = "BCDEF"  # @param {type:"string", letters:"BCDEF"}
# People per draw, where the coverage of intervals is measured.
n_people = 6  # @param {type:"integer", min:3, max:60}
# Draws of people per setting.
n_draws = 400  # @param {type:"integer", min:20, max:2000}
# Difference of eAURC from which on a choice counts as harmful.
harmful = 0.01  # @param {type:"number", min:0, max:0.2}
# If set, the table of cases of the live part is written to this file (a sweep does that).
cases_out = ""  # @param {type:"string"}

# %% tags=["hide-input"]
from segconf_lite import parameters

as_in_book = parameters.checked("11_real_scanners", globals())

# %% tags=["hide-input"]
import warnings

import numpy as np
import pandas as pd
import scipy.stats

import segconf_lite.evaluation as ev
from segconf_lite import show
from segconf_lite.arrays import to_numpy
from segconf_lite.claims import ledger, read_claims
from segconf_lite.cohorts import gm_challenge
from segconf_lite.confidence import PooledMahalanobis
from segconf_lite.confidence.baselines import one_pass_columns
from segconf_lite.evaluation import case_table
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import profile_named

# %% tags=["hide-input"]
warnings.filterwarnings("ignore", message=".*the covariance rests on shrinkage")
pd.set_option("display.max_colwidth", 90)


def written(interval, digits=3):
    low, high = f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
    return f"{interval.estimate:.{digits}f} [{low}, {high}]".replace("-", "−")


def over_repeats(values):
    """Mean of independent numbers with a 95 % t interval."""
    values = np.asarray(values, float)
    return ev.repeated_estimate(
        np.mean, range(len(values)), range(len(values)), values
    ).interval()


# %% [markdown]
# ## Who is in the real cohorts?
#
# How many people stand behind a result? We count them before we look at any result, because an interval over people is narrow and
# reliable only if there are many. The book has three real cohorts: magnetic resonance images of the
# spinal *cord*, photographs of *retinas*, and CT slices with *lung nodules*.

# %% tags=["hide-input"]
nodules = ledger.stored_cases("lidc").query("domain != 'GE'")
cord_stored = ledger.stored_cases(2).query("cohort == 'cord'")
retina_stored = ledger.stored_cases(5).query("cohort == 'retina'")
phantom_stored = ledger.stored_cases(2).query("cohort == 'phantom' and domain != 'A'")
tested = {
    "simulated hearts": phantom_stored,
    "spinal cords": cord_stored,
    "retinas": retina_stored,
    "lung nodules": nodules,
}

# %% tags=["hide-input"]
counted = {}
for name, table in tested.items():
    drawn_anew = name == "simulated hearts"
    first = table[table["seed"] == table["seed"].min()]
    row = {"scanners, sites or vendors": first["domain"].nunique()}
    per_scanner = first.groupby("domain")["subject"].nunique()
    row["fewest people on one"] = per_scanner.min()
    row["people per seed"] = first["subject"].nunique()
    row["people in all"] = (
        table.groupby("seed" if drawn_anew else "cohort")["subject"].nunique().sum()
    )
    row["slices per seed"] = len(first)
    counted[name] = row | {"seeds": table["seed"].nunique()}
pd.DataFrame(counted).T

# %% [markdown]
# *Unseen scanners, people and slices behind the stored tables. For the retinas, a slice is a tile of a photograph. The simulated
# hearts are drawn anew for each seed; the real people are the same ones in every seed.*
#
# Remember the second column, the fewest people on one scanner. On the spinal cord, every site scanned **one** volunteer. If a network
# does badly at a site, nobody can say whether the scanner or the volunteer is the reason. More networks only tell us more
# exactly how well *this* volunteer is segmented. So the answer is: only the lung nodules have many people.
#
# ## What transfers?
#
# Does a statement about the phantom also hold on real scans? A list of
# what carries over is easily made to look good: one picks the results that agree. So
# our list has a rule. It takes **every** statement of the book that has a registered claim about the phantom *and* one
# about a real cohort. (A registered claim is a sentence with a measure and a limit, written down before the
# runs that judge it; see [What held up](../claims.md).)
#
# The rule has a weak point: which claims belong together was decided by hand, and for most pairs after both had been judged. So it keeps
# us from leaving pairs out, but not from pairing them conveniently.
#
# Two verdicts can *agree* (both hold, or both fail) or *disagree*. If one of them is undecided or not yet run, the pair says nothing
# about transfer. The statements use names from chapters 3 to 5; if one stops you, open the box.
#
# :::{admonition} Names that you may not have met
# :class: dropdown
# * A *predictor* (chapter 4) is a second network that predicts the Dice of a segmentation. An *adversary* changes its training
#   images such that the predicted Dice falls; a *plain* predictor is trained without one.
# * *Mask search* (chapter 5) gives a map of the pixels whose labels flip easily when the weights of the network change.
#   The *boundary band* is its simple rival: a map that is high near the predicted border.
# * A map *follows people* if it correlates with where they disagree.
# * *The distance* (chapter 3, pair 1) belongs to an image: how unlike the training slices the activations inside the network are.
# * *The distance to the border* (pairs 7 to 9) is something else. It belongs to a pixel: how far it is from
#   the predicted border. So 1 over this distance is another simple map that is high near the border.
# :::
#
# **Predict:** there are nine pairs. How many agree, how many disagree, and how many are undecided on
# one side or the other?

# %% tags=["hide-input"]
PAIRS = [
    ("distance-flags-every-foreign-scanner", "distance-flags-every-real-site"),
    ("near-but-harmful", "same-vendor-collapse"),
    ("adversary-orders-better-than-plain", "adversary-orders-better-on-real-scanners"),
    ("adversary-orders-better-than-plain", "nodule-adversary-ranks-better-than-plain"),
    ("soft-dice-ranks-better-than-size", "nodule-soft-dice-ranks-better-than-size"),
]

# %% tags=["hide-input"]
REAL = {"cord": "spinal cord", "retina": "retinas", "lidc": "lung nodules"}
FOLLOWS = "-follows-annotators-better-than-"
PAIRS += [
    (
        f"mask-search{FOLLOWS}{rival}",
        f"mask-search-follows-observers-better-than-{rival}",
    )
    for rival in ("the-ring", "distance")
]
on_nodules = "nodule-entropy-follows-radiologists-better-than-distance"
PAIRS += [(f"entropy{FOLLOWS}distance", on_nodules)]
PAIRS += [("entropy-adds-to-distance", "nodule-entropy-adds-to-distance")]

# %% tags=["hide-input"]
STATEMENTS = [
    "the distance flags at least 95 % of the slices of each unseen scanner",
    "a scanner that seems near to the training scanner can do harm",
    "a predictor with an adversary ranks better than a plain one",
    "a predictor with an adversary ranks better than a plain one",
    "the soft Dice confidence ranks better than the size of the prediction",
    "the mask search follows people better than a boundary band",
    "the mask search follows people better than 1 / distance to the border",
    "the entropy follows people better than 1 / distance to the border",
    "the entropy follows people beyond what this distance knows",
]

# %% tags=["hide-input"]
register = read_claims()
found = ledger.overview().query("profile == 'lite'").groupby("id", sort=False)


# %% tags=["hide-input"]
def outcome(name):
    """Verdict of a claim, and in words its estimate and the people behind it."""
    rows, shared = found.get_group(name), register[name].subjects == "shared"
    verdict, seeds = rows.iloc[0][["verdict", "seeds"]]
    low, high = rows["estimate"].min(), rows["estimate"].max()
    value = f"{low:.2f}" if len(rows) == 1 else f"{low:.2f} to {high:.2f}"
    people = rows["people"].sum() if shared else rows["people"].max()
    kind = ("person" if people == 1 else "people") if shared else "hearts"
    words = f"{verdict}: {value}; {people} {kind}, {seeds} seeds"
    return verdict, words.replace("-", "−") if seeds else verdict


# %%
def compared(first, second):
    """In words, what two verdicts say together."""
    if "not run" in (first, second):
        return "not run"
    if "undecided" in (first, second):
        return "undecided"
    return "agree" if first == second else "disagree"


# %% tags=["hide-input"]
rows = []
for number, (simulated, real) in enumerate(PAIRS, start=1):
    (here, told), (there, told_there) = outcome(simulated), outcome(real)
    row = {"pair": number, "statement": STATEMENTS[number - 1], "phantom": told}
    row["cohort"] = REAL[register[real].cases["cohort"][0]]
    rows.append(row | {"real": told_there, "together": compared(here, there)})
transfers = pd.DataFrame(rows).set_index("pair")
transfers

# %% [markdown]
# *Every pair of claims, with the verdict on the phantom and on the real cohort. After each verdict: the estimate (its measure is named in the box below; smallest to largest
# if it is about several scanners), the number of different people or simulated hearts per claim, and the number of seeds.*
#
# Begin with the last column. In six of the nine pairs, one side at least is undecided. In other words, for most statements of this
# list **we do not know yet** whether they survive on real scanners. In five of these six, the real scans are of at most five people. (In the
# other one, pair 4, there are 143 patients, and the claim about the phantom is undecided too.) More networks do not help. For example, ten
# networks were tested at Juntendo (pair 2), and the claim of a collapse there is still
# [undecided](evidence:same-vendor-collapse?undecided), because all ten segmented the same volunteer.
#
# Three pairs are decided on both sides, and agree. **Pair 5** says that the soft Dice confidence ranks better than the size of the prediction.
# [On the phantom](evidence:soft-dice-ranks-better-than-size?holds), its eAURC is lower by
# [0.012 [0.010, 0.014]](evidence:soft-dice-ranks-better-than-size?minus).
# [On the lung nodules](evidence:nodule-soft-dice-ranks-better-than-size?holds) of 143 patients, it is lower by
# [0.046 [0.021, 0.072]](evidence:nodule-soft-dice-ranks-better-than-size?minus).
#
# **Pairs 8 and 9** ask where people disagree. They compare the entropy of one network with a simple rival, 1 over the distance of a
# pixel to the predicted border. In pair 8, the entropy correlates with the disagreement better than the rival,
# [on the phantom](evidence:entropy-follows-annotators-better-than-distance?holds) (scanner A) and
# [on the lung nodules](evidence:nodule-entropy-follows-radiologists-better-than-distance?holds). In pair 9, the entropy still
# correlates with the disagreement when the rival is held fixed,
# [on the phantom](evidence:entropy-adds-to-distance?holds) and [on the lung nodules](evidence:nodule-entropy-adds-to-distance?holds).
#
# How much do three agreements say? Pairs 8 and 9 measure the same map against the same
# rival, so they are not independent. And all three pairs are about one real cohort: the only one with more than five people in the tests.
# Besides, the book judges many claims, so some may hold by chance. **Holm's correction** is a stricter limit, which allows for the
# number of claims ([Definitions](../definitions.md)). After this correction, only pair 9 still stands on both sides.
#
# So the answer is: what is decided agrees, but it is little, and it comes from one cohort.

# %% tags=["hide-input", "hide-output"]
of_real = [c.id for c in register.values() if c.cases.get("cohort", [""])[0] in REAL]
alone = [name for name in of_real if name not in [real for _, real in PAIRS]]
print(transfers["together"].value_counts().to_string())
print(f"{len(of_real)} claims are about real cohorts, {len(PAIRS)} of them in a pair")
pd.set_option("display.max_colwidth", None)
pd.DataFrame(
    [{"claim": register[n].words, "verdict": outcome(n)[0]} for n in alone]
).set_index("claim")

# %% [markdown]
# *Folded: the number of pairs per outcome, and the claims about real cohorts that have no counterpart on the phantom.*
#
# :::{admonition} For the researcher: the claims of each pair, and what they measure
# :class: dropdown
# | pair | statement | phantom | real scans | measure |
# |---|---|---|---|---|
# | 1 | The distance of the activations flags at least 95 % of the slices of each unseen scanner | [scanners B to F](#distance-flags-every-foreign-scanner) | [sites of the cord](#distance-flags-every-real-site) | fraction of the slices flagged |
# | 2 | A scanner that seems near to the training scanner can do harm | [scanner F](#near-but-harmful) | [Juntendo](#same-vendor-collapse) | phantom: mean Dice; real: Dice of the grey matter |
# | 3 | A predictor with an adversary ranks better than a plain one | [scanners B to F](#adversary-orders-better-than-plain) | [sites of the cord](#adversary-orders-better-on-real-scanners) | difference of eAURC (negative is better) |
# | 4 | The same | [scanners B to F](#adversary-orders-better-than-plain) | [lung nodules](#nodule-adversary-ranks-better-than-plain) | difference of eAURC (negative is better) |
# | 5 | The soft Dice confidence ranks better than the size of the prediction | [scanners B to F](#soft-dice-ranks-better-than-size) | [lung nodules](#nodule-soft-dice-ranks-better-than-size) | difference of eAURC (negative is better) |
# | 6 | The mask search follows people better than a boundary band | [simulated annotators](#mask-search-follows-annotators-better-than-the-ring) | [retinas](#mask-search-follows-observers-better-than-the-ring) | difference of correlations |
# | 7 | The mask search follows people better than 1 over the distance to the predicted border | [simulated annotators](#mask-search-follows-annotators-better-than-distance) | [retinas](#mask-search-follows-observers-better-than-distance) | difference of correlations |
# | 8 | The entropy follows people better than 1 over the distance to the predicted border | [simulated annotators](#entropy-follows-annotators-better-than-distance) | [lung nodules](#nodule-entropy-follows-radiologists-better-than-distance) | difference of correlations |
# | 9 | The entropy follows people beyond what the distance to the predicted border knows | [simulated annotators](#entropy-adds-to-distance) | [lung nodules](#nodule-entropy-adds-to-distance) | partial correlation |
#
# A claim about several scanners has one estimate for each of them; the table of verdicts shows the smallest and the largest. In the
# second pair the two claims have different measures, so even two decided verdicts would say little. In pair 8, the difference of the correlations is
# [0.026 [0.003, 0.048]](evidence:entropy-follows-annotators-better-than-distance) on the phantom, and
# [0.05 [0.03, 0.08]](evidence:nodule-entropy-follows-radiologists-better-than-distance) on the lung nodules.
# :::
#
# :::{admonition} For the researcher: what the undecided pairs still say
# :class: dropdown
# An undecided pair can contain a result of one side. For example, on the phantom the distance of the activations flags
# [0.99](evidence:distance-flags-every-foreign-scanner/D,F/lowest) of the slices of D and F, but only
# [0.27](evidence:distance-flags-every-foreign-scanner/B,C,E/lowest) to
# [0.43](evidence:distance-flags-every-foreign-scanner/B,C,E/highest) of those of B, C and E, so the claim about *each* scanner
# [fails](evidence:distance-flags-every-foreign-scanner?fails). On the cord it flags at
# most [0.41](evidence:distance-flags-every-real-site/highest) of the slices of a site (mean over ten networks), and the claim is still
# [undecided](evidence:distance-flags-every-real-site?undecided), because each site is one volunteer. And pair 7 is undecided on both sides,
# although the estimates are positive: [0.02 [−0.01, 0.05]](evidence:mask-search-follows-annotators-better-than-distance?undecided) on the
# phantom and [0.07 [−0.00, 0.15]](evidence:mask-search-follows-observers-better-than-distance?undecided) on the retinas.
# :::
#
# ## Does the order of the methods carry over?
#
# Are the methods that rank well on the phantom also those that rank well on real scans? This question is softer than a
# verdict: it describes an *order*, and judges no method.
#
# Chapter 10 has stored the eAURC of its methods on each scanner, site and vendor. These values cannot be
# compared between cohorts, because a cohort with more failures has larger ones. So we take the mean over the scanners of a cohort,
# and divide it by the same mean of *no ranking*, where all slices get the same uncertainty. Then 0 is a perfect ranking, and 1 is no ranking.
#
# **Predict:** sort the methods by their values on simulated hearts. Will the same order sort them on the cord, and on the lung nodules?

# %% tags=["hide-input"]
stored = ledger.stored_table("chapter_10_head_to_head.csv").query(
    "question == 'ranking'"
)
ORIGIN = {"phantom": "phantom", "cord": "spinal cord", "lung nodules": "lung nodules"}
in_advice = stored["scanner"].isin(list(scanners)) | (stored["cohort"] != "phantom")
stored = stored[in_advice & stored["cohort"].isin(list(ORIGIN))]


def relative(table):
    """Mean over scanners and seeds per method, over that of no ranking."""
    means = table.pivot_table(index="method", columns="scanner", values="value").mean(
        axis=1
    )
    return means.drop("no ranking") / means["no ranking"]


of_cohort = {
    name: relative(part) for name, part in stored.groupby("cohort", sort=False)
}

# %% tags=["hide-input"]
on_phantom = of_cohort["phantom"].rename("phantom")
pairs = [
    pd.concat([on_phantom, of_cohort[name].rename("real")], axis=1, join="inner")
    .rename_axis("method")
    .reset_index()
    .assign(cohort=words)
    for name, words in ORIGIN.items()
    if name != "phantom"
]
pairs = pd.concat(pairs, ignore_index=True)


# %% tags=["hide-input"]
def as_dots(cohort):
    """One row per method, in the order of the phantom; no interval is drawn."""
    values = of_cohort[cohort].reindex(on_phantom.sort_values().index).dropna()
    values = values[values.index.isin(pairs["method"])]
    dots = {"domain": ORIGIN[cohort], "method": values.index, "estimate": values}
    return pd.DataFrame(dots).reset_index(drop=True)


dots = pd.concat([as_dots(name) for name in ORIGIN], ignore_index=True)
dots[["low", "high"]] = np.nan


# %% tags=["hide-input"]
show.method_intervals(
    dots,
    axis="eAURC / no ranking (lower is better)",
    alt="eAURC over that of no ranking, one row per method, in three panels: the phantom, where the rows are sorted, the spinal cord, and the lung nodules.",
)

# %% [markdown]
# *eAURC of each method, divided by that of no ranking (0: perfect, 1: no ranking), as a mean over the
# unseen scanners of the phantom (left, by which the rows are sorted), the sites of the cord (middle, four volunteers) and the vendors of the lung
# nodules (right, 143 patients). Ten networks on the phantom and on the cord, five on the nodules. A row without a point was not measured on that cohort.*
#
# If the order carried over perfectly, the points of each panel would run from the top row to the bottom row without any zigzag, as in
# the left panel. **Spearman's correlation** says how nearly they do so. It correlates the ranks of the methods on the phantom with their ranks
# elsewhere: 1 means the same order, and 0 no relation.


# %% tags=["hide-input"]
def spearman_per_seed(part):
    """Over methods, with the means on the phantom; and the number of methods."""
    seeds = [relative(one).rename("there") for _, one in part.groupby("seed")]
    both = [pd.concat([on_phantom, s], axis=1, join="inner") for s in seeds]
    return [b.corr("spearman").iloc[0, 1] for b in both], len(both[0])


# %% tags=["hide-input"]
rows = {}
on_real = stored.query("cohort != 'phantom'")
for (cohort, place), part in on_real.groupby(["cohort", "scanner"], sort=False):
    each, n_methods = spearman_per_seed(part)
    people = tested["spinal cords" if cohort == "cord" else "lung nodules"]
    row = {"people": people[people["domain"] == place]["subject"].nunique()}
    row |= {"methods": n_methods, "Spearman": written(over_repeats(each), 2)}
    rows[ORIGIN[cohort], place.split(" (")[0]] = row
for words, part in pairs.groupby("cohort"):
    value = part[["phantom", "real"]].corr("spearman").iloc[0, 1]
    rows[words, "values of the figure"] = {"Spearman": f"{value:.2f}"}
similar = pd.DataFrame(rows).T.fillna("")
similar.loc[list(dict.fromkeys(pairs["cohort"]))]

# %% [markdown]
# *Spearman's correlation, over methods, of the eAURC at a site or vendor with the mean eAURC on the phantom, with 95 % intervals over ten
# networks on the cord and five on the nodules. "Methods" counts those that were measured on both. The intervals say nothing about other people.
# The last rows average over sites or vendors and over networks first, as the figure does; so they can lie above all rows of their cohort.*
#
# On the lung nodules, the order of the methods in this table is similar to that on the phantom, and nearly equally so for each vendor. At
# the sites of the cord the correlations differ a lot; at Milan, the order is hardly similar. (Do not compare the
# two cohorts by these numbers, because more methods were measured on the cord.)
#
# Why do the sites differ so much? The scanners may be different. Or one volunteer is too little to measure an
# order at all, and what we see is mostly noise. With one volunteer per site, we cannot tell. So the answer is: on the
# lung nodules the order is similar, and on the cord the question stays open.
#
# ## How do you test on real scanners? Leave one scanner out
#
# How can every scanner be an unseen one? The chapters before trained on two fixed sites of the cord
# and tested on the four others. That is one split, and somebody chose
# it. **Leave one scanner out** uses the data better: train on all sites but one, test on the site that was left out, and do this for
# each of the six sites in turn. Now we do so ourselves.
#
# Nothing may leak, that is, the training must not know anything of the test. First, the person who is tested must not be among those who
# train; here this is automatic, because each site has a volunteer of its own. Second, nothing may be tuned on the site that is left out: the
# number of steps is fixed beforehand.

# %%
sizes = profile_named(profile)
crop = 2 * sizes.size // 3  # pixels of 0.5 mm in "lite": 32 mm around the cord
try:
    cord = gm_challenge.cohort(size=crop, spacing_mm=32 / crop, group_by="site")
    print(cord)
except FileNotFoundError as reason:
    cord = None
    print(f"{reason}\nBelow, the stored run of this chapter is shown.")

# %% [markdown]
# **Predict:** the segmentation at one site (Juntendo) collapsed in chapter 1, with two training sites. Will it still be the worst one
# with five? And which of these ranks the slices within a site best: the soft Dice confidence, the entropy over the predicted
# foreground, the distance, or simply the size of the prediction? (The *distance* is that of chapter 3: how unlike the training slices the activations
# inside the network are.)

# %%
training = {"steps": n_steps or sizes.steps_real // 2, "channels": sizes.channels}
training |= {"batch_size": 16, "augmentation": "mild", "seed": 10 * seed}


# %%
def left_out(site):
    """Cases of a site, judged by a network that has seen the other sites only."""
    rest = cord.where(domain=[d for d in cord.domain_names if d != site])
    unet = fitted(fit_unet, rest, validation=rest, **training)
    test = cord.where(domain=site)
    probabilities = predict_probabilities(unet, test.images)
    distance = PooledMahalanobis(pooling="published").fit(unet, rest)
    columns = one_pass_columns(probabilities)
    columns["distance"] = to_numpy(distance.uncertainty(test.images))
    return case_table(probabilities, test, empty="skip").assign(**columns)


# %%
if cord is not None:
    live = pd.concat([left_out(site) for site in cord.domain_names], ignore_index=True)
    live["risk"] = 1 - live["quality"]
else:
    live = ledger.stored_table("chapter_11_left_out.csv")

# %% tags=["hide-input"]
show.quality_by_domain(
    live.sort_values("domain"),
    alt="Dice per slice at each of six sites of the spinal cord, each from a network that was trained on the other five. Diamonds are the means of the sites.",
)

# %% [markdown]
# *Dice of white and grey matter (mean of both, higher is better) at the site that was left out: one dot per slice, diamonds are means. Six networks,
# one volunteer per site, so there is no interval to draw.*

# %%
QUICK = ["soft Dice", "entropy, foreground", "distance", "small prediction"]
by_site = pd.DataFrame(
    {
        site: {name: 1000 * ev.excess_aurc(part["risk"], part[name]) for name in QUICK}
        for site, part in live.groupby("domain")
    }
)

# %% tags=["hide-input"]
of_all = {name: written(over_repeats(by_site.loc[name]), 1) for name in QUICK}
by_site.round(1).assign(**{"mean over six people [95 %]": pd.Series(of_all)}).T

# %% [markdown]
# *eAURC × 1000 within each left-out site (lower is better), and the mean over the six sites with a 95 % t interval. Each row
# is one site, one person and one network, so the intervals of the last row are over people, scanners and networks at once.*
#
# The segmentation of the volunteer at Juntendo collapses again. In the stored run, of one
# network per site, the mean Dice is [0.23](evidence:chapter_11_left_out/quality/estimate?domain=Juntendo) there, the lowest of the six;
# at Milan, for example, it is [0.81](evidence:chapter_11_left_out/quality/estimate?domain=Milan). So it collapses not only with the
# two training sites of chapter 1. Is the scanner the reason, or the volunteer? This cannot be said.
#
# And the ranking? In the stored run, the mean eAURC × 1000 over the sites is lowest for the soft Dice confidence,
# [13.3](evidence:chapter_11_left_out/excess_aurc/soft+Dice/estimate?each=domain&x1000), and highest for the distance,
# [27.3](evidence:chapter_11_left_out/excess_aurc/distance/estimate?each=domain&x1000). But look at the intervals in the last row before
# you name a winner. They are wide because there are six people; all four overlap, and we have not tested the differences. So these
# six networks show how to test, and are no evidence about the methods.
#
# :::{admonition} For the researcher: overlap, and a handicap of the distance
# :class: dropdown
# Overlap would not settle it anyway: the four are measured at the same sites, and a difference can be sure although two intervals
# overlap. The covariance of the distance comes from little more than a hundred training slices, for 768 numbers per slice.
# :::
#
# ## What if every slice were a person? Three intervals
#
# What goes wrong if we treat every *slice* as a person? We take the number that a
# clinic asks for first, the mean Dice on an unseen scanner, and give it three intervals:
#
# * a bootstrap over the slices: it draws from the slices with replacement, many times;
# * a bootstrap over the people;
# * a t interval over the people's means: it is the mean plus and minus a multiple of its standard error, and with fewer people this multiple is larger.
#
# **Predict:** how many times wider than the first will the last one be?

# %%
people_means = live.groupby("subject")["quality"].mean()
each_slice = np.arange(len(live))
intervals = {
    "bootstrap over slices": ev.mean_interval(live["quality"], each_slice),
    "bootstrap over people": ev.mean_interval(live["quality"], live["subject"]),
    "t over people": over_repeats(people_means),
}

# %% tags=["hide-input"]
widths = pd.DataFrame(intervals, index=["mean Dice", "low", "high"]).T
widths["width"] = widths["high"] - widths["low"]
widths["times that over slices"] = widths["width"] / widths["width"].iloc[0]
widths.round(3)

# %% [markdown]
# *Mean Dice on the sites that were left out, with three 95 % intervals. In the first two, people with more slices count more; in the
# last one, all people count the same.*
#
# Which of the three should be believed? The first one answers a question that hardly anybody asks: how would the mean change if
# the *same six people* had other slices? A clinic asks about the next person, so the interval must be over people. But the two
# intervals over people have different widths as well.
#
# ## Does the interval hold what it promises?
#
# How often does each interval contain the true mean? With the six volunteers we cannot check this, because we do not
# know the true mean. With the lung nodules we can play a game. We declare the 143 patients
# to be the whole world, so that we know the true mean. Then we draw a few of them as if that were all we had, compute the interval, and
# look whether it contains the mean of the world.
#
# The fraction of the draws in which it does is the *coverage* of the interval. (In
# chapter 2, the word meant the fraction of the cases that are kept.) An honest 95 % interval does so in 95 of 100 draws.
#
# **Predict:** how often does each of the three intervals contain the truth, with six patients?

# %%
one_run = nodules[nodules["seed"] == nodules["seed"].min()]
world = [part["quality"].to_numpy() for _, part in one_run.groupby("subject")]
truth = np.mean([slices.mean() for slices in world])


def drawn_people(n, rng):
    return [world[k] for k in rng.integers(len(world), size=n)]


# %% tags=["hide-input"]
def bootstrapped(values, rng, n_resamples=200):
    chosen = rng.integers(len(values), size=(n_resamples, len(values)))
    return np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])


def three_intervals(n, rng):
    """Bootstrap over slices, bootstrap over people, t over people, for one draw."""
    people = drawn_people(n, rng)
    means = np.array([slices.mean() for slices in people])
    half = scipy.stats.t.ppf(0.975, n - 1) * means.std(ddof=1) / np.sqrt(n)
    by_t = means.mean() - half, means.mean() + half
    return bootstrapped(np.concatenate(people), rng), bootstrapped(means, rng), by_t


# %% tags=["hide-input"]
kinds = list(intervals)
rng, held = np.random.default_rng(seed), []
for n in sorted({3, n_people, 12, 24, 48}):
    for _ in range(n_draws):
        ends = three_intervals(n, rng)
        inside = [bool(low <= truth <= high) for low, high in ends]
        held.append({"people": n, **dict(zip(kinds, inside, strict=True))})
coverage = pd.DataFrame(held).groupby("people").mean()
coverage.round(2)

# %% tags=["hide-input"]
long = coverage.reset_index().melt("people", var_name="interval", value_name="coverage")
show.scatter(
    long,
    x="people",
    y="coverage",
    by="interval",
    log="x",
    axes=("patients per draw", "fraction of intervals with the true mean"),
    alt="Fraction of 95 % intervals that contain the mean of all 143 patients, against the number of patients per draw, for three kinds of interval.",
)

# %% [markdown]
# *Fraction of 95 % intervals of the mean Dice that contain the mean over all 143 patients, for draws of 3 to 48 patients; one
# network (the stored run of seed 21).*
#
# With three people, none of the three keeps its promise, and the bootstraps miss it by far:
#
# * The bootstrap over slices takes the slices of one patient for independent facts.
# * The bootstrap over people never meets anybody who is
#   more unusual than the few people that it has, so its interval is too narrow.
# * The t interval is wide by design where people are few. In the table,
#   it covers more than the other two in every row up to twelve people. From six people on, however, its difference from the bootstrap over
#   slices is so small that it may be the chance of 400 draws.
#
# Why is this difference so small? A patient of this cohort has at most four slices. A volunteer of the cord has 14 to 40, and
# at Juntendo most of them are bad. The more slices a person has, and the more they resemble each other, the more harm it
# does to treat slices as people (Exercise 4). So the answer is: with few people, take the t interval, and do not
# trust even this one blindly.
#
# :::{admonition} For the researcher: the t interval
# :class: dropdown
# The t interval falls a little short of its promise as well. A likely reason is that the Dice of the patients is skewed: most
# segmentations are fairly good, and a few are very bad. This book judges claims about real people by a t interval, with seeds and people as two sources of
# variance (the rule is in the [ledger](../claims.md)).
# :::
#
# ## How many labelled people of your own?
#
# "Test it on your own cases" is easy advice. How many people does it take? Again the lung nodules can play the world. We draw a few
# of the 143 patients as the labelled ones of a hospital, choose the method with the lowest eAURC on *them*, and look how it does on all the
# *other* patients. The rival is the phantom's advice, which needs no labelled patient: the soft Dice confidence. In
# chapter 10 it has the lowest mean eAURC on the phantom of the nine methods that compete here.
#
# The **regret** of a choice is its eAURC on the other patients minus that of
# the method that is best there. So 0 is the best that one can do.
#
# :::{admonition} For the researcher: a method that does not take part
# :class: dropdown
# The agreement of four networks has a lower mean eAURC on the phantom. The difference of eAURC × 1000 is
# [0.8 [−0.4, 2.0]](evidence:chapter_10_head_to_head/mean_difference/soft+Dice~ensemble:+agreement,+strict?question=ranking&cohort=phantom&scanner=B&scanner=C&scanner=D&scanner=E&scanner=F&wide=method&across&x1000),
# and its interval contains 0.
# :::
#
# **Predict:** with 6 patients, is the hospital's own choice better than the phantom's advice? And with 48?

# %%
OWN = ["soft Dice", "entropy, foreground", "probability, foreground", "Beta"]
OWN += [
    "entropy, boundary",
    "dropout: agreement, strict",
    "adversary",
    "plain",
    "small prediction",
]


# %%
def own_choice(run, labelled):
    """Regret of the method that is best on the labelled people, and of the soft Dice confidence."""
    mine = run["subject"].isin(labelled)
    inside, outside = run[mine], run[~mine]
    here = {n: ev.excess_aurc(inside["risk"], inside[n]) for n in OWN}
    there = {n: ev.excess_aurc(outside["risk"], outside[n]) for n in OWN}
    best, chosen = min(there.values()), min(here, key=here.get)
    return there[chosen] - best, there["soft Dice"] - best


# %% tags=["hide-input"]
rng, own = np.random.default_rng(seed), []
runs = [run for _, run in nodules.groupby("seed")]
everybody = np.unique(nodules["subject"])
for n in (3, 6, 12, 24, 48):
    for k in range(n_draws // 2):
        labelled = rng.choice(everybody, size=n, replace=False)
        mine, advised = own_choice(runs[k % len(runs)], labelled)
        own.append({"people": n, "own choice": mine, "soft Dice": advised})
own = pd.DataFrame(own)

# %% tags=["hide-input"]
summary = own.groupby("people").mean()
summary["own choice is harmful"] = (
    (own["own choice"] > harmful).groupby(own["people"]).mean()
)
gap = own["own choice"] - own["soft Dice"]
summary["better than the advice"] = (gap < 0).groupby(own["people"]).mean()
summary["worse than the advice"] = (gap > 0).groupby(own["people"]).mean()
summary.round(3)

# %% [markdown]
# *Mean regret in eAURC on the patients that were not labelled (0 is best), of the method that is best on the labelled ones and of the soft Dice
# confidence; fraction of draws (200 per row) in which the own choice has a regret above 0.01 ("harmful"), and in which it is better or worse than the
# advice (in the others, both are the same method). Nine methods, five networks, vendors together.*
#
# In the table above, the own choice has the larger mean regret in every row, and in more draws it is the worse of the two.
# With three patients, it is harmful in more than a third of the draws. A likely reason is that nine methods compete,
# and that one of them looks best on a few people by chance.
#
# So the answer is: in this trial, even 48 patients were not enough. But all draws are from the same 143 patients and five networks, so the table has no
# interval for another cohort. And we knew beforehand, from chapter 10, that the advice is good on *this* cohort; elsewhere it may not be.
#
# ## What to take home
#
# * Count the people before you read a result. Where each site scanned one volunteer, nobody can tell the scanner from the volunteer.
# * Compare statements by a rule, say when the rule was made, and count what is undecided as undecided.
# * Leave one scanner out, and with it every person who was scanned there.
# * Give intervals over people. With few of them, take a t interval: it is wide because it has to be.
# * On the lung nodules, the phantom's advice had a lower mean regret than a choice from up to 48 patients. That is one cohort. Label
#   people of your own to learn how large the Dice is, and whether the advice fails on them.

# %% [markdown] tags=["exercise"]
# ## Exercises with a check
#
# Each exercise has hints, and a check that says what is wrong with a solution. Write or change what is asked for, and
# then run the check. In the book, the solution is folded below the exercise. In the notebooks for students, which
# `make editions` writes, a blank stands in its place.

# %% tags=["exercise", "hide-input"]
import numpy as np
from scipy import stats

from segconf_lite import exercises

# %% [markdown] tags=["exercise"]
# ### Exercise 1: write an interval over people
#
# Write a function of the values of $N$ slices and of the person of each slice. It computes the mean of each person, and returns the
# mean of these means with the two ends of its 95 % t interval: `(estimate, low, high)`.
#
# :::{admonition} Hint 1
# :class: dropdown
# `np.array([values[people == p].mean() for p in np.unique(people)])` are the means of the people.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# The half width is $t \cdot s / \sqrt n$ with $n$ people, the sample standard deviation $s$ (`ddof=1`), and
# `t = stats.t.ppf(0.975, n - 1)`.
# :::


# %% tags=["hide-input", "solution"]
def my_interval(values, people):
    means = np.array([values[people == p].mean() for p in np.unique(people)])
    n = len(means)
    half = stats.t.ppf(0.975, n - 1) * means.std(ddof=1) / np.sqrt(n)
    return means.mean(), means.mean() - half, means.mean() + half


# %% tags=["check"]
exercises.check_interval_over_people(my_interval)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: write a split that does not leak
#
# Some people were scanned at several sites. Write a function of the site and the person of each slice, and of the site that is left
# out. It returns which slices may be used for *training*, as an array of truth values: none of the site, and none of a person who was scanned there.
#
# :::{admonition} Hint 1
# :class: dropdown
# Who is tested? `people[sites == left_out]`.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# `np.isin(people, tested)` finds all slices of these people, at whatever site.
# :::


# %% tags=["hide-input", "solution"]
def my_training(sites, people, left_out):
    tested = people[sites == left_out]
    return ~np.isin(people, tested)


# %% tags=["check"]
exercises.check_training(my_training)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: change the number of people
#
# The mean Dice of a person has a standard deviation of 0.1 between people. What is the smallest number of people with which
# the half width of the 95 % t interval of the mean is at most 0.05? Set `my_people`.
#
# :::{admonition} Hint 1
# :class: dropdown
# The half width is $t_{n-1} \cdot 0.1 / \sqrt n$. The quantile of the t distribution depends on $n$ as well, so try numbers.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# With 1.96 in place of the quantile one gets a number that is a little too small.
# :::

# %% tags=["hide-input", "solution"]
my_people = next(
    n for n in range(2, 100) if stats.t.ppf(0.975, n - 1) * 0.1 / np.sqrt(n) <= 0.05
)

# %% tags=["check"]
exercises.check_people(my_people)

# %% [markdown] tags=["exercise"]
# ### Exercise 4: break the interval over slices
#
# Invent a study in which the t interval over *slices* contains the true mean in less than half of the repeats, although it promises 95 %.
# Give four numbers: how many people, how many slices per person, the standard deviation between people, and the standard
# deviation between slices of one person. At least 5 people and at most 40 slices per person are allowed. The check repeats your study
# 500 times.
#
# :::{admonition} Hint 1
# :class: dropdown
# When are ten slices of one person as good as ten people? When people do not differ.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# So let people differ a lot and slices of one person hardly at all, with many slices per person.
# :::

# %% tags=["hide-input", "solution"]
my_study = (10, 30, 0.1, 0.05)

# %% tags=["check"]
exercises.check_study(my_study)

# %% [markdown]
# ## Further questions
#
# A first reader can stop here. Two questions remain: do the confidences only detect what is hard for people, too; and is a real cohort a
# better adviser than a simulated one?
#
# ### When people disagree
#
# On the phantom the right segmentation is known exactly. On a real scan, "right" means: what a person drew. Four radiologists
# segmented every lung nodule, and where they disagree, the
# [risk is higher](evidence:nodule-risk-goes-with-disagreement?holds). Could it be that the confidences rank well only because they detect what is hard for
# *everybody*?
#
# We split the slices of each vendor at the median disagreement, into a half on which the radiologists agree more and
# a half on which they agree less, and rank within each half.
#
# **Predict:** in which half do the confidences rank better, compared with no ranking at all?


# %% tags=["hide-input"]
def halves(table):
    by_vendor = table.groupby(["seed", "domain"])["rater disagreement"]
    more = table["rater disagreement"] > by_vendor.transform("median")
    return {"people agree": table[~more], "people disagree": table[more]}


def relative_eaurc(risk, uncertainty, vendor):
    """Mean eAURC over vendors, divided by that of no ranking."""
    parts = [(risk[vendor == v], uncertainty[vendor == v]) for v in np.unique(vendor)]
    reached = [ev.excess_aurc(r, u) for r, u in parts]
    return np.mean(reached) / np.mean(
        [ev.excess_aurc(r, np.zeros(len(r))) for r, _ in parts]
    )


# %% tags=["hide-input"]
ON_NODULES = ["soft Dice", "entropy, foreground", "Beta", "small prediction"]
by_half = {}
for half, table in halves(nodules).items():
    who = table["seed"], table["subject"]
    row = {
        "patients": table["subject"].nunique(),
        "Dice": table["quality"].mean().round(2),
    }
    vendor = pd.factorize(table["domain"])[0]
    for name in ON_NODULES:
        given = table["risk"], table[name], vendor
        found = ev.repeated_estimate(relative_eaurc, *who, *given, shared=True)
        row[name] = written(found.interval(), 2)
    by_half[half] = row

# %% tags=["hide-input"]
pd.DataFrame(by_half).T

# %% [markdown]
# *Lung nodules of three unseen vendors: number of patients with slices in this half (a patient can have slices in both), mean Dice, and eAURC
# divided by that of no ranking (0: perfect, 1: as no ranking; *Beta* is a second
# network that predicts the Dice, chapter 4), with 95 % intervals over five networks and over
# the patients, who are the same for each network.*
#
# All four means of the table are lower, that is, better, in the half where the radiologists agree more.
# But for each method the two intervals overlap, and we have not tested the difference.
#
# The soft Dice confidence and the entropy rank slices in both halves: even where people disagree more, their intervals lie below
# 1, the value of no ranking. So they do not *only* detect in which half a slice is. Within a half the disagreement still varies,
# so a part of the ranking may come from it. A registered claim tests this in another way: within each vendor, the soft Dice confidence
# [correlates more with the risk than with the disagreement](evidence:nodule-soft-dice-sees-risk-rather-than-disagreement?holds).
#
# ### Is a real cohort a better adviser than the phantom?
#
# If the order of the methods is similar, advice from one cohort should be of use on another. We leave each cohort out in turn, choose
# the method with the lowest mean on one of the others, or on both, and look at its regret on the cohort that was left out. The regret is
# a fraction of the eAURC of no ranking. Only methods that were measured on all three cohorts take part.
#
# **Predict:** which is the better adviser for the lung nodules: the phantom alone, the cord alone, or both together?

# %%
common = pd.concat(of_cohort, axis=1).dropna().rename(columns=ORIGIN)
advisers = [[a] for a in common] + [list(common)]
tried = {}
for target in common:
    for names in advisers:
        used = [name for name in names if name != target or len(names) == 1]
        if used != [target]:
            chosen = common[used].mean(axis=1).idxmin()
            lost = common.loc[chosen, target] - common[target].min()
            tried[target, " + ".join(used)] = {"chosen": chosen, "regret": lost}

# %% tags=["hide-input"]
size = {t: common.loc["small prediction", t] - common[t].min() for t in common}
table = pd.DataFrame(tried).T.rename_axis(["left out", "chosen on"])
table["best there"] = [common[t].idxmin() for t, _ in table.index]
table["regret"] = table["regret"].astype(float).round(3)
table["regret of the size"] = [round(size[t], 3) for t, _ in table.index]
table

# %% [markdown]
# *Regret as a fraction of the eAURC of no ranking (0: the chosen method has the best mean there), for a method that was chosen on
# one of the other cohorts, or on both. Last column: the regret of always taking the size of the prediction.*
#
# In this one table, the phantom and the four volunteers give the same advice: both choose the soft Dice confidence. Its regret is
# small on the lung nodules, and far below that of the size. The lung nodules choose another method, the
# entropy of dropout, and this advice has the larger regret on the cord and on the phantom. So in this table,
# real data do not give better advice merely because they are real. Three
# cohorts cannot say why: they differ in the number of people, in the number of scanners and in the task. (The best method of a cohort is
# found on the very cases on which it is judged, so the regrets
# are a little too large on average.)
#
# How much does such a table depend on single people? Leave out one volunteer of the cord, and compute the regret of the
# phantom's choice on the three others:

# %% tags=["hide-input"]
from_phantom = common["phantom"].idxmin()
sites = stored.query("cohort == 'cord'").pivot_table(
    index="method", columns="scanner", values="value"
)
sites = sites.loc[[*common.index, "no ranking"]]
without = {"all four volunteers": sites.mean(axis=1)}
for site in sites:
    without[f"without {site.split(' (')[0]}"] = sites.drop(columns=site).mean(axis=1)
one_less = {}
for who, mean in without.items():
    kept = (mean / mean["no ranking"]).drop("no ranking")
    row = {f"regret of {from_phantom}": kept[from_phantom] - kept.min()}
    row["regret of the size"] = kept["small prediction"] - kept.min()
    one_less[who] = row | {"best method": kept.idxmin()}

# %% tags=["hide-input"]
pd.DataFrame(one_less).T.infer_objects().round(3)

# %% [markdown]
# *Regret on the cord as a fraction of the eAURC of no ranking, with all volunteers and without one of them.*
#
# One person decides. Over all four volunteers, the phantom's choice is the best method. Without the volunteer of Juntendo, another method is
# the best one, and the regret of the phantom's choice is large, though still below that of the size. Without any one of the other
# three, its regret is about zero. A result that rests so much on one person should be reported with this table.

# %% [markdown]
# ## Limits
#
# * The cord has one volunteer per site, so everything about its sites is about six people. The retinas are of five people,
#   all from one camera in the stored tables.
# * The three pairs that agree are about one real cohort, and two of them about one map.
# * Different methods were measured on the cord and on the lung nodules, so their correlations with the phantom are not comparable.
# * The live part is one run: six networks with one seed each and few steps. It is an example.
# * In two sections the lung nodules stand for the whole world. A draw from them is easier than reality, because its patients and the
#   "rest of the world" have the same vendors and the same radiologists. The coverage of the intervals was measured with one network.
# * On a cohort other than the lung nodules, the advice of the phantom may have the larger regret.
# * The ensemble has no stored values on the lung nodules, so it takes no part in leaving out cohorts, and with three cohorts we give no interval.

# %% tags=["remove-cell"]
if cases_out:
    ledger.save_cases(live.assign(cohort="cord"), cases_out, profile=profile, seed=seed)

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    together = transfers["together"]
    undecided = transfers[together == "undecided"]
    real = undecided["real"].str.extract(r"; (\d+) p")[0].astype(int)
    print("three pairs agree:", [*together.index[together == "agree"]] == [5, 8, 9])
    print("the other six are undecided:", len(undecided) == 6 == len(PAIRS) - 3)
    print("few people in five:", [*real.index[real <= 5]] == [1, 2, 3, 6, 7])
    print("pair 4 has 143 patients:", len(real) == 6 and real[4] == 143)
    on_nodules = transfers.loc[[5, 8, 9], "cohort"] == "lung nodules"
    print("those that agree are of the nodules:", bool(on_nodules.all()))
    both = transfers.loc[4, ["phantom", "real"]].str.startswith("undecided")
    print("pair 4 is undecided on both sides:", both.all())

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    lead = summary["own choice"] > summary["soft Dice"]
    print("the own choice has the larger mean regret:", lead.all())
    often = summary["worse than the advice"] > summary["better than the advice"]
    print("more often worse than better:", often.all())
    print("soft Dice is the phantom's choice:", on_phantom[OWN].idxmin() == "soft Dice")
    harm = summary["own choice is harmful"]
    print("three patients: harmful in over a third:", harm[3] > 1 / 3)

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    few = coverage.loc[:12]
    others = few[kinds[:2]].max(axis=1)
    print("t covers most up to twelve people:", (few["t over people"] > others).all())
    gap = (coverage["t over people"] - coverage["bootstrap over slices"]).loc[6:]
    print("from six on its lead is small:", gap.abs().max() < 0.03)
    print("none keeps its promise with three:", (few.loc[3] < 0.95).all())
    print("bootstraps over three fail:", (few.loc[3, kinds[:2]] < 0.85).all())
    means = np.array([slices.mean() for slices in world])
    print("skewed to low Dice:", scipy.stats.skew(means) < -0.5)
    print("at most four slices:", max(map(len, world)) <= 4)

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    per_site = live.groupby("domain")["quality"].agg(["mean", "size"])
    worst = per_site["mean"].idxmin()
    print("Juntendo is the worst:", worst.startswith("Juntendo"))
    print("14 to 40 slices:", [*per_site["size"].agg(["min", "max"])] == [14, 40])
    ends = [over_repeats(by_site.loc[name]) for name in QUICK]
    overlap = max(e.low for e in ends) < min(e.high for e in ends)
    print("four intervals overlap:", overlap)
    middle = live.loc[live["domain"] == worst, "quality"].median()
    print("most slices of Juntendo are bad:", middle < 0.3)

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    bare = str.maketrans("[],", "   ")
    rows = {half: row.items() for half, row in by_half.items()}
    ends = {
        (half, n): [float(x) for x in text.translate(bare).split()]
        for half, row in rows.items()
        for n, text in row
        if n in ON_NODULES
    }
    agree, disagree = by_half
    below = [ends[disagree, n][2] < 1 for n in ON_NODULES[:2]]
    print("both rank where people disagree more:", all(below))

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    lower = [ends[agree, n][0] < ends[disagree, n][0] for n in ON_NODULES]
    print("means are lower where people agree:", all(lower))
    overlap = [ends[agree, n][2] > ends[disagree, n][1] for n in ON_NODULES]
    print("the intervals overlap:", all(overlap))

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    lost = table["regret"].loc["lung nodules"]
    size_there = table["regret of the size"].loc["lung nodules"]
    advised = {*table["chosen"].loc["lung nodules"]}
    print("all advise the same there:", advised == {"soft Dice"})
    print("far below the size:", bool((lost < size_there / 5).all()))
    for target in ("spinal cord", "phantom"):
        lost, chosen = table["regret"].loc[target], table["chosen"].loc[target]
        from_nodules = chosen["lung nodules"]
        print("the nodules choose dropout:", from_nodules == "dropout: entropy")
        others = lost.drop("lung nodules")
        print("and have the larger regret:", lost["lung nodules"] > others.max())

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    without = pd.DataFrame(one_less).T
    best, lost = without["best method"], without.iloc[:, 0].astype(float)
    print("one person decides:", best["without Juntendo"] != best.iloc[0])
    print("with all it is the best:", best.iloc[0] == from_phantom == "soft Dice")
    print("large without Juntendo:", lost["without Juntendo"] > 0.05)
    print("about zero without another:", lost.drop("without Juntendo").max() < 0.02)
    of_size = without["regret of the size"].astype(float)
    print("below the size:", bool((lost < of_size).all()))

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    first = similar["Spearman"].str.split(" ").str[0].astype(float)
    cord_values, nodule_values = first["spinal cord"], first["lung nodules"]
    single = cord_values.drop("values of the figure")
    print("means agree more:", cord_values["values of the figure"] > single.max())
    vendors = nodule_values.drop("values of the figure")
    print("vendors are alike:", vendors.min() > 0.7 and np.ptp(vendors) < 0.05)
    print("sites are lower and differ:", single.max() < 0.7 and np.ptp(single) > 0.3)

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    at_milan = similar.loc[("spinal cord", "Milan"), "Spearman"]
    print("hardly similar at Milan:", float(at_milan.split(" ")[0]) < 0.2)
    counts = pd.to_numeric(similar["methods"], errors="coerce").groupby(level=0).max()
    print("more methods on the cord:", counts["spinal cord"] > counts["lung nodules"])
