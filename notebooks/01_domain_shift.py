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
# # A new scanner
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/segconf-lite/segconf_lite/blob/main/notebooks/01_domain_shift.ipynb)
#
# **The question.** A network learns to segment the heart on the images of one scanner. Tomorrow the
# hospital buys another scanner. Will the segmentations still be right, and will anything tell us when they
# are not?
#
# **You will be able to** say what a scanner changes in an image; measure what that does to a
# segmentation, with an honest interval; find out which physical cause broke a network; and say how far an unusual
# appearance, or a low probability of the network, answers the question *can I trust this one?*
#
# **You need** some Python (numpy and pandas), and the idea of a neural network that is trained by gradient
# descent on a loss. You need no medicine and no physics. All terms are on the page [Definitions](../definitions.md).
#
# **Time:** about 4 min on two CPU cores from scratch, under a minute when the trained
# networks are stored. Every choice can be changed in the *parameters* cell.

# %% tags=["hide-input"]
import sys

if "google.colab" in sys.modules:  # elsewhere nothing is installed
    # %pip install -q "segconf-lite @ git+https://github.com/segconf-lite/segconf_lite@v0.1.0"
    pass

from segconf_lite import colab

colab.welcome("0.1.0")

# %% tags=["parameters"]
# Sizes: "lite" for two CPU cores, "full" for a GPU.
profile = "lite"  # @param ["lite", "full"]
# Seed of the subjects and of the initial weights of the network.
seed = 0  # @param {type:"integer", min:0}
# Scanner of the training cases.
source_scanner = "A"  # @param ["A", "B", "C", "D", "E", "F"]
# Unseen scanners to test, e.g. DF; empty means all except the source scanner.
unseen_scanners = ""  # @param {type:"string", letters:"ABCDEF", also:""}
# Training slices, six per subject (0: 480 in "lite", 960 in "full").
n_train = 0  # @param {type:"integer", min:24, max:2000, also:0}
# Test slices per scanner (0: 120 in "lite", 240 in "full").
n_test = 0  # @param {type:"integer", min:12, max:1000, also:0}
# Optimiser steps of each network (0: 200 in "lite", 666 in "full"; on the spinal cord 133 and 400).
n_steps = 0  # @param {type:"integer", min:10, max:10000, also:0}
# Fraction of the features that dropout sets to zero while the network learns.
dropout = 0.1  # @param {type:"number", min:0, max:0.9}
# How much scans on one scanner differ: 1 is usual, 0 is none at all.
jitter = 1.0  # @param {type:"number", min:0, max:10}
# A slice with a Dice below this counts as failed.
failed_below = 0.7  # @param {type:"number", min:0.05, max:0.99}
# If set, the table of cases is written to this file (a sweep does that).
cases_out = ""  # @param {type:"string"}

# %% tags=["hide-input"]
from segconf_lite import parameters

as_in_book = parameters.checked("01_domain_shift", globals())

# %% tags=["hide-input"]
import dataclasses

import numpy as np
import pandas as pd
from IPython.display import display
from scipy import ndimage

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import Cohort, gm_challenge, phantom
from segconf_lite.cohorts.appearance import appearance_features
from segconf_lite.claims import ledger
from segconf_lite.evaluation import case_table, dice_per_case, mean_interval
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import profile_named
from segconf_lite import show

# %% tags=["hide-input"]
# The source scanner comes first, then those that the network has not seen.
tested = source_scanner + (unseen_scanners or "ABCDEF".replace(source_scanner, ""))
harmful = [s for s in "DF" if s in tested[1:]] or [tested[-1]]

# %% [markdown]
# ## A heart that we made
#
# To **segment** an image means to give every pixel a class, for example "left ventricle" or "background". How good is
# a segmentation? To say so, we must know the right one, and on real hearts nobody does: the border is blurred, and
# two experts draw it differently. So we begin with a *phantom*, that is, with computed hearts whose borders are known
# exactly. Each subject is six slices across the heart, from its base to its tip (the *apex*). A slice shows three
# structures that the network has to segment: the **right ventricle** and the **left ventricle** (two pumps full of
# blood) and the **myocardium** (the muscle around the left one).
#
# The image itself is made the way a scanner for magnetic resonance imaging (**MRI**) makes it. The patient lies in a strong
# magnetic field. A radio pulse excites the tissues, and each of them sends back a radio signal. That of blood is strong, so
# blood is bright; muscle is darker. An antenna, the *receive coil*, picks up more of the signal from tissue that is near. The
# signal is noisy, and only a limited amount of detail is measured, so the image has grain and is never perfectly sharp. Each of
# these steps is a place where two scanners can differ.
#
# :::{admonition} The physics, for those who want it
# :class: dropdown
# In the usual sequence for the beating heart (balanced steady-state free precession) a tissue of
# proton density $PD$ and relaxation times $T_1$, $T_2$ sends the signal
#
# $$S = PD\,\sin\alpha\,\frac{1-E_1}{1-(E_1-E_2)\cos\alpha-E_1E_2}\,e^{-T_R/(2T_2)},
# \qquad E_k = e^{-T_R/T_k}, \tag{1.1}$$
#
# where the flip angle $\alpha$ and the repetition time $T_R$ are set by the protocol. The relaxation times
# depend on the field strength; they come from {cite:t}`stanisz2005relaxation` (blood, heart, muscle, liver) and
# {cite:t}`debazelaire2004relaxation` (fat), the water content from {cite:t}`woodard1986composition`. The
# magnitude of a complex, noisy image follows the Rician law {cite:p}`gudbjartsson1995rician`.
# Every value and its source stand in `segconf_lite/cohorts/phantom/scanner.py`.
# :::
#
# The function `make` below computes a *cohort*, that is, a set of slices with their true segmentations. How many slices there
# are and how many pixels a slice has depends on the parameter `profile`, and is stored in `sizes`. (Even two scans on one
# scanner are never quite alike; `jitter` says how much they differ.)

# %%
sizes = profile_named(profile, n_train=n_train, n_test=n_test)


def make(scanner, n_cases=sizes.n_test, first_subject=1000):
    options = {"size": sizes.size, "seed": seed + first_subject, "jitter": jitter}
    return phantom.cohort(n_cases, scanner=scanner, **options)


# %% [markdown]
# We make one cohort to train on, and one to test on for each scanner. The last line prints what is in the training
# cohort: its slices, its subjects, its scanner (here called *domain*) and the classes.

# %%
train = make(source_scanner, sizes.n_train, first_subject=0)
test = {name: make(name) for name in tested}  # the same new hearts on every scanner
train

# %%
slices = range(6, 12)  # the six slices of the second subject
show.picture_grid(
    [[train.images[k, 0] for k in slices]] * 2,
    [[None] * 6, [train.labels[k] for k in slices]],
    column_titles=["base", "", "", "", "", "apex"],
    class_names=train.class_names,
    alt="Six slices of one heart on scanner A from base to apex, plain above and with the true borders below.",
)

# %% [markdown]
# *One subject on scanner A, from the base to the apex. First the image, then the same image with the true borders. A pixel is
# 2 mm wide in the profile `lite`.*
#
# Blood is bright, and muscle is dark. The dark dots in the left ventricle are papillary muscles; by convention they
# count as part of the ventricle. Towards the apex everything shrinks, and the right ventricle disappears.
#
# ## The same hearts elsewhere
#
# Scanners differ in field strength, in how they excite the tissue, in coil, resolution, motion, noise,
# and in what the vendor does to the intensities of the pixels. Here are two hearts on six scanners.
#
# **Predict before you read on:** the network will be trained on A alone. Rank the other five by how
# well you think it will do there. Write your ranking down.

# %%
names = list(test)
show.picture_grid(
    [[test[name].images[k, 0] for name in names] for k in (2, 22 % sizes.n_test)],
    column_titles=[f"scanner {name}" for name in names],
    alt="Two hearts, one per row, as scanners A to F show them; the images differ in noise, shading, blur and intensities.",
)

# %% [markdown]
# *The same two hearts on the six scanners. A is the source of all training images.*
#
# A scanner on which a network has been trained is called *in-distribution*; the others are *unseen*, or
# *out-of-distribution*. That the images change while the task stays the same is called a **domain shift**.
#
# ## Train on A
#
# The network is a small U-Net {cite:p}`ronneberger2015unet` of 0.39 million parameters. Its *encoder* shrinks the
# image step by step and collects features, its *decoder* enlarges them again, and *skip connections* hand fine detail
# from the encoder to the decoder. For each pixel the last layer computes one score per class, and the **softmax**
# turns these scores into probabilities: positive numbers that add up to 1. The predicted class is the one with the
# highest probability.

# %% tags=["hide-input"]
show.diagram("unet")

# %% [markdown]
# *The U-Net. Each blue box is a block of two convolutions; the bottleneck sees the image at an eighth of its size.*
#
# The network sees only scanner A. Some *subjects* (never single slices, because two slices of one heart are nearly
# copies of each other) are held out as a *validation set*, on which we see when to stop the training. In every
# training step, *dropout* sets a random tenth of some features to zero. Chapter 2 makes use of dropout, and all
# chapters that follow use this same network.

# %%
training = {"steps": n_steps or sizes.steps, "channels": sizes.channels}
training |= {"dropout": dropout, "seed": 10 * seed}
unet = fitted(fit_unet, train, **training)

# %% [markdown]
# Has the network learned something that generalises to new subjects? To see this, we compare the loss on the held-out
# slices with the loss on the training slices. The loss is 1 − Dice plus the **cross-entropy**. (The Dice measures overlap;
# the next section has its formula. The cross-entropy is high where the true class got a low probability.)

# %%
losses = {"train_loss": "training", "validation_loss": "held-out"}
history = pd.DataFrame(unet.history).rename(columns=losses)
curves = history.melt(
    "step", list(losses.values()), var_name="slices", value_name="loss"
)
axes = ("optimiser step", "loss (1 − Dice + cross-entropy)")
alt = "Two curves, the training and the held-out loss, over the optimiser steps."
show.line_panels(curves, x="step", y="loss", line="slices", log="y", axes=axes, alt=alt)

# %% [markdown]
# *Loss on training and on held-out slices of scanner A over the optimiser steps; lower is better, logarithmic axis.*
#
# Both curves fall together. So the network has not merely memorised its training slices: it generalises to other hearts
# from scanner A. The held-out loss may even lie lower, because dropout disturbs the network in training only.
#
# ## How good is it, and where?
#
# How well does the predicted area overlap the true one? Take a toy image of eight pixels in a row. The prediction has four of
# them, the *reference* (the right segmentation) has six, and they share three. The **Dice** is twice the area that prediction $P$ and
# reference $R$ have in common, divided by the sum of both areas: here $2\cdot3\,/\,(4+6)=0.6$, and in general
# $2\,|P\cap R|\,/\,(|P|+|R|)$. It is 1 where the prediction is perfect, and 0 where nothing overlaps. The function of the
# package finds the same number:

# %%
prediction, reference = {1, 2, 3, 4}, {2, 3, 4, 5, 6, 7}  # numbers of pixels
by_hand = 2 * len(prediction & reference) / (len(prediction) + len(reference))
row = np.arange(8)[None, None]
masks = [np.isin(row, list(pixels)).astype(int) for pixels in (prediction, reference)]
by_package = dice_per_case(*masks, n_classes=2, empty="skip")[0]
print(f"by hand {by_hand:.2f}, by the package {by_package:.2f}")

# %% [markdown]
# In a slice of the heart, the Dice is computed for each of the three structures and averaged. A structure that neither the
# reference nor the prediction contains (the right ventricle at the apex) is left out of the slice's mean. This choice is the
# `empty="skip"` below, and papers differ in it.
#
# Other hearts would give another mean. How far could it move? The interval around each mean shows this. It is a
# **bootstrap** interval. We draw as many *subjects* as there are, with replacement: of subjects 1, 2 and 3, one draw may be
# 3, 1, 3. We compute the mean of the draw, and repeat this many times. The middle 95 % of these means are the
# interval. We draw subjects, not slices, because the slices of one heart resemble each other.


# %%
def judge(cohort, network=unet):
    return case_table(
        predict_probabilities(network, cohort.images), cohort, empty="skip"
    )


table = pd.concat([judge(cohort) for cohort in test.values()], ignore_index=True)
show.quality_by_domain(
    table,
    alt="Dice per slice on scanners A to F with the mean and its interval: small dots and a diamond per scanner.",
)

# %% [markdown]
# *Dice per slice (higher is better) on each scanner. Small dots are slices, diamonds their mean with a 95 % interval
# over subjects; one network.*
#
# How did your ranking do? On F, blood and muscle stand out well, while E is blurred, with ripples beside the edges
# (called *ringing*). Yet F does harm, and E does hardly any.


# %%
def summary(cases):
    rows = {}
    for domain, part in cases.groupby("domain", sort=False):
        mean = mean_interval(part["quality"], part["subject"])
        rows[domain] = {"mean Dice": mean.estimate, "low": mean.low, "high": mean.high}
        failed = (part["quality"] < failed_below).mean()
        rows[domain][f"fraction of slices below {failed_below}"] = failed
    return pd.DataFrame(rows).T.rename_axis("scanner").round(3)


# %% [markdown]
# The table has one row per scanner; "low" and "high" are the ends of the interval around the mean.

# %%
by_scanner = summary(table)
by_scanner

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    dice = by_scanner["mean Dice"]
    print("mean Dice on A at least 0.95:", bool(dice["A"] >= 0.95))
    print(
        "mean Dice on another scanner at least 0.90:",
        bool(dice.drop("A").max() >= 0.90),
    )
    print("lowest mean Dice at most 0.70:", bool(dice.min() <= 0.70))
    harmless = bool(dice["E"] > dice["F"] + 0.1)
    print("far but harmless E above near but harmful F:", harmless)

# %% [markdown]
# These are means of *one* network. Would another one fail on the same scanners? We repeated everything
# [ten](evidence:chapter_01_cases/quality/seeds?cohort=phantom) times, each time with other hearts and another network. On D
# the mean Dice of these runs is [0.612 [0.588, 0.637]](evidence:chapter_01_cases/quality?cohort=phantom&domain=D), and on F it
# is [0.537 [0.475, 0.599]](evidence:near-but-harmful?holds). The table at the end of the next section has all six scanners.
#
# ## Is unusual the same as bad?
#
# Which scanners *look* unusual? And is it on those that the network fails? For the first question we need the images alone, and
# no network. We describe each image by numbers, its *features*: how dark and bright its pixels are (17 quantiles of the
# intensities), and how much coarse and fine detail it has. Then we ask, feature by feature, how far a scanner lies from A:
#
# 1. take the mean of the feature over the images of the scanner, and subtract the mean on A;
# 2. divide by the standard deviation on A, so that the shift has no unit;
# 3. the *distance* is the root of the mean square of the shifts of all features.
#
# Here is a toy with two features. The shifts are 1 and 7 standard deviations, so the distance is $\sqrt{(1^2+7^2)/2}=5$.


# %%
def distance_from_a(features, features_of_a):
    shift = features.mean(axis=0) - features_of_a.mean(axis=0)
    shift = shift / features_of_a.std(axis=0)  # in standard deviations of A
    return np.sqrt(np.mean(shift**2))


toy_a = np.array([[1.0, 10.0], [3.0, 30.0]])  # two images, two features
toy_other = np.array([[3.0, 90.0], [3.0, 90.0]])
distance_from_a(toy_other, toy_a)

# %% [markdown]
# **Predict:** now we take the images of the six scanners. If an unusual appearance were what breaks the network, what would the
# next figure show?

# %%
of_a = appearance_features(train.images)
appearance = by_scanner.rename(columns={"mean Dice": "quality"})
appearance = appearance.rename_axis("domain").reset_index()
appearance["distance"] = [
    distance_from_a(appearance_features(test[name].images), of_a)
    for name in appearance["domain"]
]

# %% tags=["hide-input"]
distance = "distance of the images from those of A (standard deviations)"
axes = (distance, "mean Dice (higher is better)")
alt = "Six points, one per scanner: mean Dice against the distance of its images from those of scanner A."
show.scatter(appearance, x="distance", y="quality", by="domain", axes=axes, alt=alt)

# %% [markdown]
# *Each point is a scanner: its mean Dice (higher is better) against the distance of its images from those of A.*
#
# If an unusual appearance did the damage, the points would fall along a line from the upper left to the lower right.
# They do not. **E** is far but harmless, and so is C. E is blurred, with ringing and bright fat, but blood, muscle
# and the bright rim of fat keep their order of brightness. **F** is near but harmful. By intensities and detail it is
# about as close to A as B is. Why it does harm, we shall see below.
#
# Is it so in other runs? The distances in the next table are means over
# [three](evidence:chapter_01_lite/distance/seeds?experiment=phantom&domain=F) stored runs, and the Dice is the mean over the
# [ten](evidence:chapter_01_cases/quality/seeds?cohort=phantom) runs of the section before. The 95 % intervals in this table say
# how far the mean moves from run to run; those of the figure said how far it moves from heart to heart.
#
# | scanner | distance from A | mean Dice over ten runs |
# |---|---|---|
# | A (training) | – | [0.971 [0.969, 0.973]](evidence:chapter_01_cases/quality?cohort=phantom&domain=A) |
# | F | [1.1](evidence:chapter_01_lite/distance/estimate?experiment=phantom&domain=F) | [0.537 [0.475, 0.599]](evidence:near-but-harmful?holds) |
# | B | [1.2](evidence:chapter_01_lite/distance/estimate?experiment=phantom&domain=B) | [0.942 [0.935, 0.950]](evidence:chapter_01_cases/quality?cohort=phantom&domain=B) |
# | D | [1.7](evidence:chapter_01_lite/distance/estimate?experiment=phantom&domain=D) | [0.612 [0.588, 0.637]](evidence:chapter_01_cases/quality?cohort=phantom&domain=D) |
# | E | [3.7](evidence:chapter_01_lite/distance/estimate?experiment=phantom&domain=E) | [0.938 [0.934, 0.943]](evidence:far-but-harmless?holds) |
# | C | [6.0](evidence:chapter_01_lite/distance/estimate?experiment=phantom&domain=C) | [0.918 [0.902, 0.933]](evidence:chapter_01_cases/quality?cohort=phantom&domain=C) |
#
# The rows are sorted by distance, and the Dice does not follow.
#
# Telling scanners such as E and F apart is what this book is about. A test that looks only for a *new scanner* would reject C and E,
# on which most segmentations are good, and it would flag F no more than the harmless B. D, at distance
# [1.7](evidence:chapter_01_lite/distance/estimate?experiment=phantom&domain=D), lies between B and E; there, a fraction of
# [0.49 [0.44, 0.54]](evidence:chapter_01_cases/failed?cohort=phantom&domain=D) of the slices has a Dice below 0.7 over ten runs.
#
# ## Does the network report its failures?
#
# The look of the images did not tell. Does the network know by itself? It gives a probability for each pixel, and one would
# hope that it is low where the segmentation is wrong. For each slice, we take the pixels that are predicted as heart (the
# predicted *foreground*) and average the probability of their predicted class. This is the *mean maximum softmax probability*, or mean probability for short.
#
# **Predict:** among the slices with Dice below 0.7, what mean probability does the network report?

# %% tags=["hide-input"]
probability = "mean probability of the predicted foreground"
axes = (probability, "Dice per slice (higher is better)")
alt = "Dice per slice against the mean probability of the predicted foreground, one point per slice, coloured by scanner, with a dotted line at the Dice below which a slice has failed."
figure = show.scatter(
    table, x="confidence", y="quality", by="domain", axes=axes, alt=alt
)
figure.add_hline(y=failed_below, line={"color": "#555555", "dash": "dot"})

# %% [markdown]
# *Each point is a slice, coloured by its scanner; one network. Slices below the dotted line count as failed (Dice below 0.7).*
#
# How many slices have failed, and what does the network report for them? A slice in which it predicts no heart at all has
# no mean probability, so it is left out here.

# %%
with_heart = table[table["confidence"].notna()]
failed = with_heart.loc[with_heart["quality"] < failed_below, "confidence"]
fine = with_heart.loc[with_heart["quality"] >= failed_below, "confidence"]
print(f"{len(failed)} of {len(with_heart)} slices have Dice below {failed_below}.")
print(f"Mean probability there: {failed.mean():.2f}; on the rest: {fine.mean():.2f}.")
print(f"{(failed > 0.9).mean():.0%} of the failures still have more than 0.90.")
needed = failed.quantile(0.95)
print(f"To flag 95 % of the failures, the threshold must be {needed:.2f}, and then")
print(f"{(fine < needed).mean():.0%} of the slices that are fine are flagged, too.")

# %% [markdown]
# The probability is not useless: where the Dice is lower, the probability is lower, too. But it falls by little, and
# a reader who sees 0.8 will hardly expect that the segmentation has failed. Before we repeated the run, we wrote down a
# claim: the mean probability of the failures on D and F is above 0.8. ([What held up](../claims.md) explains how claims are
# judged.) Over [ten](evidence:failures-sound-sure/seeds) other runs, it is
# [0.832 [0.819, 0.844]](evidence:failures-sound-sure), so the claim [holds](evidence:failures-sound-sure?holds).
#
# A threshold at the right height would help, at the price of false alarms, but we could only choose it because we know
# which slices failed. Chapter 2 will measure such trade-offs properly.
#
# What does a confident failure look like? A slice just below the limit is hardly a failure, so we are stricter here: we take
# slices whose Dice is below `failed_below - 0.2`, and among them those with the highest mean probability.


# %% tags=["hide-input"]
on_harmful = with_heart[with_heart["domain"].isin(harmful)]
clear = on_harmful[on_harmful["quality"] < failed_below - 0.2]
clear = clear if len(clear) else on_harmful.nsmallest(3, "quality")  # none is clear
surest = clear.sort_values("confidence").groupby("domain").tail(3)
# Row k of the table is slice k % n_test of its scanner, because all have n_test slices.
cases = [test[row.domain].take([k % sizes.n_test]) for k, row in surest.iterrows()]
predicted = [
    to_numpy(predict_probabilities(unet, c.images).argmax(1)[0]) for c in cases
]

# %% tags=["hide-input"]
show.picture_grid(
    [[c.images[0, 0] for c in cases]] * 2,
    [predicted, [c.labels[0] for c in cases]],
    row_titles=["prediction", "reference"],
    column_titles=[
        f"scanner {row.domain}, Dice {row.quality:.2f}, probability {row.confidence:.2f}"
        for row in surest.itertuples()
    ],
    class_names=train.class_names,
    alt="Clear failures with the highest mean probability on D and F: predicted borders above, true borders below.",
)

# %% [markdown]
# *The three most confident clear failures on each of D and F, from the lowest to the highest mean probability. First the
# predicted borders, then the true ones. Titles: scanner, Dice and mean probability of the slice.*
#
# ## Which cause broke it?
#
# Scanner F differs from A in many ways at once. Which of them matters? The phantom can do what no hospital can: change **one**
# physical cause and leave the rest as on scanner A. There are six causes:
#
# | cause | what it is |
# |---|---|
# | contrast | how bright each tissue is: field strength, flip angle (how strong a pulse is), repetition time (from pulse to pulse), fat suppression |
# | coil | the coil receives more signal from near tissue than from far tissue, so brightness drifts across the image |
# | resolution | fine detail is not measured: blur, and ringing beside edges |
# | motion | breathing during the scan leaves shifted copies, called ghosts |
# | noise | random grain |
# | post-processing | the vendor bends the curve of intensities and clips the brightest values |
#
# In the figure below, each cell is scanner A with a single cause (its row) taken from another scanner (its column).
#
# **Predict:** on D almost everything is worse. Which single cause does the damage? And on F?

# %%
a = phantom.SCANNERS[source_scanner]
n_few = min(60, sizes.n_test)


def dice_with(cause, scanner):
    mixed = make(a.with_cause(cause, scanner), n_cases=n_few)
    return judge(mixed)["quality"].mean()


# %% [markdown]
# We repeat this for each cause and each of the other scanners.

# %%
others = [phantom.SCANNERS[name] for name in tested[1:]]
causes = pd.DataFrame(
    {s.name: {c: dice_with(c, s) for c in phantom.CAUSES} for s in others}
)
replaced = causes.rename_axis(columns="taken from scanner")
alt = "Mean Dice of scanner A with one cause replaced, causes as rows and scanners as columns; dark cells have a low Dice."
show.number_table(replaced, title="mean Dice", limits=(0, 1), alt=alt)

# %% [markdown]
# *Mean Dice of scanner A with one cause replaced (rows: the cause; columns: the scanner that it is taken from). Dark
# cells have a low Dice. One network, 60 slices per cell.*

# %% tags=["hide-input"]
culprit = causes.idxmin()
for name in causes:
    print(
        f"{name}: {culprit[name]} alone lowers the Dice to {causes[name].min():.2f}; all causes together "
        f"to {by_scanner.loc[name, 'mean Dice']:.2f}."
    )

# %% [markdown]
# Read each printed line: if its two numbers are nearly equal, one cause explains the loss. Then the scanner can be
# understood, and perhaps repaired. Where all causes together do more harm than each of them alone (D), their harms add up. And
# where all together do *less* harm than the worst one alone (F, and C), they *compensate* each other.
#
# **On F, the contrast does the damage.** In [three](evidence:chapter_01_lite/mean_dice/seeds?experiment=cause&domain=F&cause=contrast)
# stored runs, it alone leaves a mean Dice of [0.35 to 0.44](evidence:chapter_01_lite/mean_dice?experiment=cause&domain=F&cause=contrast). F
# suppresses fat, so the bright rim outside the muscle is gone, and its flip angle is lower. The slider below removes the fat alone: much of the loss appears, but not all. Over the five networks of
# exercise 6, the mean Dice without fat is [0.69](evidence:chapter_01_knobs/dice?knob=fat_signal&value=0), while on F it was
# [0.54](evidence:near-but-harmful/estimate) over ten other networks.
#
# **Why, then, did F lie near A?** *Our* distance ignores where in the image an intensity lies.
# Pixel by pixel, fat suppression is a large change: [0.92](evidence:chapter_01_knobs/moved?knob=fat_signal&value=0) standard deviations
# of the image (exercise 6), which is not the unit of the distance.
#
# ## Turn the knob yourself
#
# Now that you have met the six scanners, each can have a name. All chapters use the letters, so come back to this line when
# you need it: **A** (training), **B** (almost A), **C** (bright fat), **D** (everything worse), **E** (blurred, harmless) and
# **F** (fat suppressed). What makes an image from A look more like F? Move the slider of the figure, which takes the fat away.
#
# In Jupyter the sliders below are live: the scan and its segmentation follow. In the browser, [A first look](../first_look.md)
# has six knobs of a scanner to turn.


# %% tags=["hide-input"]
def scan_and_segment(settings):
    one = make(dataclasses.replace(a, name="custom", **settings), n_cases=3)
    chances = predict_probabilities(unet, one.images[2:])
    dice = case_table(chances, one.take(np.array([2])), empty="skip")["quality"][0]
    both = (to_numpy(chances.argmax(1)[0]), one.labels[2])
    sides = [show.draw_borders(one.images[2, 0], labels) for labels in both]
    picture = np.concatenate(sides, axis=1)
    return picture, f"prediction (left): Dice {dice:.2f}, reference (right)"


# %% tags=["hide-input"]
show.live_picture(
    scan_and_segment,
    {
        "flip_deg": (15, 90, 5, a.flip_deg),
        "fat_signal": (0, max(1.5, a.fat_signal), 0.1, a.fat_signal),
        "bias": (-1, 3, 0.1, a.bias),
        "noise": (0, 0.3, 0.01, a.noise),
        "ghost": (0, 1.2, 0.1, a.ghost),
        "blur_mm": (0, 4, 0.2, a.blur_mm),
    },
)

# %% tags=["hide-input"]
steps = [1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.0]
parts = [scan_and_segment({"fat_signal": fat}) for fat in steps]
show.picture_slider(
    [picture for picture, _ in parts],
    [caption for _, caption in parts],
    steps=[f"{fat:.0%}" for fat in steps],
    control="remaining fat signal",
    class_names=train.class_names,
    height=470,
    alt="A slider over the fat signal. Left the predicted, right the true borders: the title gives the Dice.",
)

# %% [markdown]
# *One heart while the signal of fat is reduced from 100 % (scanner A) to 0 % (complete fat suppression); nothing else
# changes. Left: predicted borders. Right: true borders. This figure works
# without Python: move the slider here on the page.*

# %% [markdown]
# ## Real scanners
#
# A phantom proves that something *can* happen. Does it happen on real scanners? For the spinal-cord grey-matter
# challenge {cite:p}`gmchallenge2018`, volunteers were scanned at several sites. In a slice of the neck the cord is a
# disc about 10 mm wide; its **grey matter** is a butterfly a few pixels wide inside the **white matter**.
#
# The slices are cropped around the cord by a fixed rule that never uses the reference. A crop
# centred with the help of the true border would give the network half of the solution.
#
# (The scans are not part of the book. Where they are not on the disk, `cord` is `None`: the cells that need them do nothing,
# and the table below is the mean of stored runs.)

# %%
try:
    cord = gm_challenge.cohort(
        size=sizes.size, spacing_mm=0.5 * 96 / sizes.size, group_by="site"
    )
    print(cord)
except FileNotFoundError as reason:
    cord = None
    print(f"{reason}\nBelow, only the stored measurement is shown.")

# %% tags=["hide-input"]
if cord is not None:
    sites = cord.domain_names
    middle = [
        np.flatnonzero(cord.domains == site)[(cord.domains == site).sum() // 2]
        for site in sites
    ]
    figure = show.picture_grid(
        [[cord.images[k, 0] for k in middle], [cord.images[k, 0] for k in middle]],
        [[None] * len(middle), [cord.labels[k] for k in middle]],
        column_titles=sites,
        class_names=cord.class_names,
        alt="One slice of the spinal cord per site, plain above and with the borders of white and grey matter below.",
    )
    figure.show()

# %% [markdown]
# *The middle slice of each site; below, with the borders that the rater drew.*
#
# Two of the six volunteers are for training: one was scanned twice at CEITEC, one at North-West University, both on Siemens
# scanners of 3 T (T stands for tesla, the unit of the field strength). The other four sites are unseen.
#
# How do we test at the two training sites without cheating? A slice of a volunteer that the network has seen is not a
# fair test. So we train three networks:
#
# | trained on | tested on |
# |---|---|
# | both volunteers | the four unseen sites |
# | the volunteer of CEITEC | the volunteer of North-West University, and the four unseen sites |
# | the volunteer of North-West University | the volunteer of CEITEC, and the four unseen sites |
#
# A network that has learned from one person has seen less than one that has learned from two. Therefore the last two are
# tested at the unseen sites as well, so that like is compared with like.
#
# **Predict:** which is worse for the network, another vendor, another field strength, or another
# site with the same vendor and the same field?

# %%
source_sessions = ["sub-9584", "sub-10062Ses1", "sub-10062Ses2"]
real = training | {"steps": n_steps or sizes.steps_real, "batch_size": 16}
real["augmentation"] = "mild"


def fit_cord(part):
    """Too few volunteers to spare one for early stopping: a fixed number of steps."""
    return fitted(fit_unet, part, validation=part, **real)


# %%
if cord is not None:
    source = cord.where(session=source_sessions)
    sites = [site for site in cord.domain_names if site not in source.domains]
    elsewhere = cord.where(domain=sites)
    people = sorted(set(source.subjects))
    judged = [judge(elsewhere, fit_cord(source)).assign(training="both volunteers")]

# %% [markdown]
# The loop trains the two networks of one volunteer.

# %%
if cord is not None:
    for person in people:
        rest = source.where(subject=[p for p in people if p != person])
        not_seen = Cohort.concatenate([source.where(subject=person), elsewhere])
        judged.append(judge(not_seen, fit_cord(rest)).assign(training="one volunteer"))
    cord_table = pd.concat(judged, ignore_index=True)

# %% [markdown]
# What is the mean Dice of the grey matter at each site?

# %%
if cord is not None:
    scanner = cord_table["domain"].str.extract(r"\((.*)\)")[0].rename("scanner")
    groups = cord_table.groupby([scanner, "domain", "training"])["grey matter"]
    shown = groups.mean().unstack()
else:
    stored = ledger.stored_cases(1).query("cohort == 'cord'")
    groups = stored.groupby(["domain", "training"])["grey matter"]
    shown = groups.mean().unstack()
shown.round(2)

# %% [markdown]
# *Mean Dice of the grey matter per site, for networks trained on both volunteers or on one; higher is better. The
# source sites have no number under "both volunteers", because that network was trained there.*

# %% tags=["remove-cell"]
if cases_out:
    kept = ["domain", "subject", "quality", "confidence"]
    parts = [table[kept].assign(cohort="phantom")]
    if cord is not None:
        more = [*kept, "grey matter", "training"]
        parts.append(cord_table[more].assign(cohort="cord"))
    both = pd.concat(parts)
    both["failed"] = (both["quality"] < failed_below).astype(int)
    ledger.save_cases(both, cases_out, profile=profile, seed=seed)

# %% tags=["hide-input"]
if cord is not None:
    is_source = cord_table["domain"].isin(source.domains)
    drawn = cord_table[is_source | (cord_table["training"] == "both volunteers")]
    drawn = drawn.assign(quality=drawn["grey matter"]).sort_values("domain")
    show.quality_by_domain(
        drawn,
        quality="grey-matter Dice",
        alt="Grey-matter Dice per slice at six sites, with a diamond for the mean of each site.",
    ).show()

# %% [markdown]
# *Dice of the grey matter (higher is better): one dot per slice, diamonds are means. Source sites: networks trained
# on one volunteer; other sites: the network trained on both. Each site scanned one volunteer, so there is no interval
# to draw: slices of one person cannot tell how the next person will fare.*
#
# **At one site, the segmentation collapses.** Juntendo, with its one volunteer, has the vendor and the field strength of the
# training sites. Nobody who read "Siemens 3 T" on the label could have foreseen the collapse. Over
# [ten](evidence:same-vendor-collapse/seeds) other networks, the grey-matter Dice of this volunteer is
# [0.12 (interval over networks: 0.08 to 0.16)](evidence:same-vendor-collapse). But ten networks
# saw the *same* person. So we know this volunteer well, but not how another person at that site would fare: the claim that
# networks fail at this site is [undecided](evidence:same-vendor-collapse?undecided).
#
# **At the other unseen sites, little is lost.** Networks trained on one volunteer are hardly better at the *training* sites
# than at the other three unseen ones. (Each is tested at the training site of the other, so that site is new to it, too.)
# The means of these networks over [ten](evidence:same-vendor-collapse/seeds) other runs are:
#
# | site | a training site? | grey-matter Dice |
# |---|---|---|
# | CEITEC | yes | [0.740](evidence:chapter_01_cases/grey+matter?training=one+volunteer&domain=CEITEC) |
# | North-West University | yes | [0.744](evidence:chapter_01_cases/grey+matter?training=one+volunteer&domain=North) |
# | CHUM | no | [0.702](evidence:chapter_01_cases/grey+matter?training=one+volunteer&domain=CHUM) |
# | University College London | no | [0.716](evidence:chapter_01_cases/grey+matter?training=one+volunteer&domain=University) |
# | Milan | no | [0.783](evidence:chapter_01_cases/grey+matter?training=one+volunteer&domain=Milan) |
#
# With one volunteer per site, we cannot tell an effect of the scanner from one of the person who lies in it.
#
# **Why Juntendo?** Look at its image again, at the cord and the fluid around it. We measure how much brighter the cord is
# than its surroundings (a band from 1 to 3 mm outside the cord), in standard deviations of the slice.


# %% tags=["hide-input"]
def step_from_fluid(image, labels, spacing_mm):
    distance_mm = ndimage.distance_transform_edt(labels == 0, sampling=spacing_mm)
    ring = (distance_mm > 1) & (distance_mm <= 3)
    return image[labels > 0].mean() - image[ring].mean()


if cord is not None:
    steps = [
        step_from_fluid(cord.images[k, 0], cord.labels[k], cord.spacing_mm[k])
        for k in range(len(cord))
    ]
    contrast = pd.Series(steps).groupby(cord.domains, sort=False).mean()
    by_site = drawn.groupby("domain")[["quality", "confidence"]].mean()
    by_site.columns = ["grey-matter Dice", "mean probability"]
    display(by_site.assign(**{"cord minus surround": contrast}).round(2))

# %% [markdown]
# *Means per site. "Cord minus surround" is in standard deviations of the slice; a negative value is a cord that is
# darker than its surround.*
#
# The cord is darker at every site except Juntendo, where it is brighter. What differs is again **contrast**, as on
# scanner F of the phantom. The vendor and the field strength are the same. Presumably the sequence was set differently, but
# we have only measured the contrast. That the contrast alone breaks the network can only be tested on the phantom, where
# nothing else changes.
#
# **Does the mean probability report the collapse?** In this run, it is lower at Juntendo than at every other site, so
# here a threshold would have flagged it. At CEITEC it is otherwise: some slices fail completely, and yet the mean
# probability of the site is only a little lower than at most others (see the table).

# %% [markdown]
# ## One network is one sample
#
# The figures above came from one random start of the training. How far apart do other starts end? And does a larger network
# help? The table below was measured with `benchmarks/chapter_01.py`. At the size of this page (`lite`) it has three seeds, which
# are not those of the ten runs above, and on images of 192 by 192 pixels (`full`) it has ten. The `full` networks are larger,
# and were trained longer and without dropout.

# %% tags=["hide-input"]
runs = pd.concat([ledger.stored_table(f"chapter_01_{p}.csv") for p in ("lite", "full")])
runs = runs.query("experiment == 'phantom'")
spread = runs.groupby(["domain", "profile"])["mean_dice"].agg(["mean", "min", "max"])
spread = spread.rename_axis(["scanner", "profile"])
spread.unstack().swaplevel(axis=1)[["lite", "full"]].round(2)

# %% [markdown]
# *Mean Dice per scanner: mean, smallest and largest over seeds.*
#
# In every run of this table, A, B, C and E lie above D and F. How low the Dice on D and F is depends on the start, so the number of
# a single network there should not be quoted.
#
# The `full` networks are larger and see finer images. One might hope that they are less confident where they fail. But the
# mean probability of their failures on D and F is
# [0.927 [0.920, 0.934]](evidence:chapter_01_full/confidence_of_failures?experiment=phantom&domain=D&domain=F), which is
# higher than the [0.832](evidence:failures-sound-sure/estimate) of the `lite` networks. Because
# four things were changed at once, we cannot tell which of them is responsible.

# %% [markdown]
# ## What to take home
#
# * A scanner is a bundle of physical causes. Each can be set alone. On F, for example, the contrast alone does the damage.
# * On this phantom, and by this distance, how unusual a scanner looks did not tell how well it was segmented. E and F were
#   chosen to show that this can happen.
# * The network's own probability falls where the quality falls, but by little: the failures on D and F still have a
#   mean probability of [0.832 [0.819, 0.844]](evidence:failures-sound-sure) over
#   [ten](evidence:failures-sound-sure/seeds) runs, and those of the `full` networks one of
#   [0.927 [0.920, 0.934]](evidence:chapter_01_full/confidence_of_failures?experiment=phantom&domain=D&domain=F) over
#   [ten](evidence:chapter_01_full/confidence_of_failures/seeds?experiment=phantom&domain=D).
# * Slices of one subject resemble each other. Split, and compute intervals, by subject.
#
# ## Check yourself
#
# :::{admonition} Exercise 1
# At what noise level does the mean Dice on the phantom fall below 0.90, if nothing else
# changes? The level is the standard deviation of the noise as a fraction of the blood signal of scanner A; on A it is
# `0.04`. Guess, then search in steps of 0.02. Write your answer into the first line of the second cell below, and run both.
# :::


# %%
def dice_at(noise):
    noisy = dataclasses.replace(a, name="custom", noise=noise)
    return judge(make(noisy, n_cases=n_few))["quality"].mean()


# %%
my_noise = 0.06  # your answer: the first level, in steps of 0.02, with Dice below 0.90
below, before = dice_at(my_noise), dice_at(my_noise - 0.02)
verdict = "right!" if below < 0.90 <= before else "not yet."
earlier = f"and {before:.3f} one step earlier"
print(f"Dice {below:.3f} at {my_noise:.2f}, {earlier}: {verdict}")

# %% [markdown]
# :::{admonition} Solution
# :class: dropdown
# ```python
# [(noise, dice_at(noise)) for noise in np.arange(0.04, 0.2, 0.02).round(2)]
# ```
# The level depends on the random start of the network. So a noise level that one network withstands is a property of
# that network, not of the method.
# :::
#
# :::{admonition} Exercise 2
# Take scanner D and reset *one* cause to its value on A. Which repair raises the Dice most? Is it the same cause that
# did most harm alone?
# :::
#
# :::{admonition} Solution
# :class: dropdown
# ```python
# d = phantom.SCANNERS["D"]
# {cause: judge(make(d.with_cause(cause, a), n_cases=60))["quality"].mean() for cause in phantom.CAUSES}
# ```
# :::

# %% [markdown] tags=["exercise"]
# ## Exercises with a check
#
# Each exercise has hints, and a check that says what is wrong with a solution. Write the function, and then run
# the check. In the book, the solution is folded below the exercise. In the notebooks for students, which
# `make editions` writes, a blank stands in its place.

# %% tags=["exercise", "hide-input"]
import numpy as np

from segconf_lite import exercises

# %% [markdown] tags=["exercise"]
# ### Exercise 3: write the Dice
#
# A prediction and a reference are boolean masks of one shape. Write a function that returns their Dice,
# $2\,|P\cap R|\,/\,(|P|+|R|)$. The areas are numbers of pixels.
#
# :::{admonition} Hint 1
# :class: dropdown
# `prediction & reference` is the mask of the pixels that both contain, and `.sum()` counts the pixels of a mask.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# The denominator is the sum of two areas. The pixels that both masks contain are counted twice in it, and this is why
# the numerator has the factor 2.
# :::


# %% tags=["hide-input", "solution"]
def my_dice(prediction, reference):
    shared = (prediction & reference).sum()
    return 2 * shared / (prediction.sum() + reference.sum())


# %% tags=["check"]
exercises.check_dice(my_dice)

# %% [markdown] tags=["exercise"]
# ### Exercise 4: change the bootstrap
#
# The function below draws single slices with replacement. But slices of one heart resemble each other, so it gives an
# interval that is too narrow. Change it so that it draws as many whole *subjects* as there are, with replacement, and
# returns the indices of all of their slices, from 0. A subject that is drawn twice comes twice.
#
# :::{admonition} Hint 1
# :class: dropdown
# `np.unique(subjects)` lists the subjects. `rng.choice(people, size=len(people))` draws among them with replacement.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# `np.flatnonzero(subjects == person)` has the indices of all slices of one person.
# :::
#
# :::{admonition} Hint 3
# :class: dropdown
# Join the indices of each drawn person with `np.concatenate`. A test such as `np.isin(subjects, drawn)` would count a
# person once who was drawn twice.
# :::


# %% tags=["exercise"]
def draw_slices(subjects, rng):
    return rng.integers(len(subjects), size=len(subjects))


# %% tags=["hide-input", "solution"]
def my_resample(subjects, rng):
    people = np.unique(subjects)
    drawn = rng.choice(people, size=len(people))
    return np.concatenate([np.flatnonzero(subjects == one) for one in drawn])


# %% tags=["check"]
exercises.check_resample(my_resample)

# %% [markdown] tags=["exercise"]
# ### Exercise 5: change the number of test slices
#
# With `n_test = 120`, there are six slices of each of 20 subjects on every scanner, and the interval around the mean
# Dice on scanner D has a certain width. Which `n_test` makes it half as wide? The check takes the standard
# deviation over subjects from ten stored runs of this chapter, and computes both widths from it: the second is a calculation, and
# was not measured.
#
# :::{admonition} Hint 1
# :class: dropdown
# The slices of one subject resemble each other, so what counts is the number of subjects.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# The width of the interval is proportional to $1/\sqrt{n}$ with $n$ subjects. By which factor must $n$ grow?
# :::

# %% tags=["hide-input", "solution"]
my_n_test = 480

# %% tags=["check"]
exercises.check_n_test(my_n_test)

# %% [markdown] tags=["exercise"]
# ### Exercise 6: break the network with the smallest single change
#
# Take scanner A and change *one* setting, so that the mean Dice over ten hearts falls below 0.7. The image should
# change as little as possible; the size of a change is the root of the mean squared change of the pixels, in standard
# deviations of the image. Your answer is the name of the setting and its value. The check tells you the Dice and the size
# of each try.
#
# | setting | on A | measured from | to |
# |---|---|---|---|
# | `bias` (shading by the coil) | `0.3` | `0.3` | `3` |
# | `blur_mm` | `0.6` | `0.6` | `6` |
# | `fat_signal` | `1` | `0` | `1` |
# | `flip_deg` (flip angle) | `60` | `10` | `90` |
# | `noise` | `0.04` | `0.04` | `0.3` |
#
# The check reads the Dice from a stored table of five networks (`benchmarks/exercises.py`) and interpolates between
# the measured values. It says whether a smaller change would do, and accepts every setting that comes within a tenth of the
# smallest change.
#
# :::{admonition} Hint 1
# :class: dropdown
# The heat map above shows by how much each cause lowers the Dice. It does not show how far the cause moves the image.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# Shading and fat change the intensity of large areas. Look for a setting that acts on the borders of the heart, or on
# the contrast between blood and muscle.
# :::
#
# :::{admonition} Hint 3
# :class: dropdown
# Approach the Dice of 0.7 from above, in small steps. The check says how far you are.
# :::

# %% tags=["hide-input", "solution"]
my_change = ("blur_mm", 2.95)

# %% tags=["check"]
exercises.check_smallest_change(my_change)

# %% [markdown]
# ## Limits
#
# * The phantom has healthy hearts and hearts with one of three diseases (a wide left ventricle, thick walls, or an
#   infarct), and no other pathology; it has no blood flow and no banding (dark stripes that real scans of this kind can
#   show). It does what its authors think that a scanner does. E and F were *chosen* to make their point; the phantom
#   cannot tell how common such scanners are.
# * The images and most numbers are of one network. The table over seeds shows how far they vary.
# * No augmentation was used, on purpose: it hides the causes. Later chapters switch it on.
# * The real cohort is small: six volunteers, one rater, so its intervals are wide or missing.
# * The crop around the cord is computed by a rule whose two constants were chosen while looking at these sessions.
