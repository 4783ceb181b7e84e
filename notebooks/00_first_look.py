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
# # Six cases
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/segconf-lite/segconf_lite/blob/main/notebooks/00_first_look.ipynb)
#
# **The question.** A network has segmented the heart on six images. Which of the six segmentations would you trust?
# You guess, then four methods and one control give their opinion, and then you see the truth.
#
# **You need** ten minutes, and no theory. The page *[A first look](../first_look.md)* does the same without Python: there,
# the network runs in your browser.
#
# **Time:** about 1 min on two CPU cores when the trained networks of chapter 2 are stored. Otherwise it trains them
# first, and chapter 2 will find them.

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
# Seed of the subjects and of the initial weights of the networks.
seed = 0  # @param {type:"integer", min:0}
# Training slices, six per subject (0: 480 in "lite", 960 in "full").
n_train = 0  # @param {type:"integer", min:24, max:2000, also:0}
# Optimiser steps of each network (0: 200 in "lite", 666 in "full").
n_steps = 0  # @param {type:"integer", min:10, max:10000, also:0}
# Predictions per image in Monte Carlo dropout.
n_samples = 15  # @param {type:"integer", min:3, max:100}
# Networks in the ensemble.
n_members = 4  # @param {type:"integer", min:2, max:10}
# A segmentation with a Dice below this value is called wrong.
wrong_below = 0.8  # @param {type:"number", min:0.1, max:0.95}
# Cases out of the six that a person has time to check.
n_reviews = 2  # @param {type:"integer", min:1, max:5}

# %% tags=["hide-input"]
from segconf_lite import parameters

as_in_book = parameters.checked("00_first_look", globals())

# %% tags=["hide-input"]
import dataclasses
import re

import numpy as np
import pandas as pd

from segconf_lite import show
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import DeepEnsemble, MCDropout
from segconf_lite.confidence.baselines import one_pass_columns, sampled_columns
from segconf_lite.evaluation import case_table
from segconf_lite.models import fit_unet, fitted, predict_probabilities
from segconf_lite.profiles import profile_named

# %% [markdown]
# ## The network and the cases
#
# To *segment* an image means to give every pixel a class. Our network, a **U-Net**, knows four: the **left ventricle** (the
# pump that sends blood through the body), the **myocardium** (the muscle around it), the **right ventricle** beside them, and the
# background. For every pixel it computes a probability of each class, and predicts the class with the highest one.
#
# The network has learned from hearts on one scanner, called A. The hearts are *simulated*, that is, the images are computed
# from a drawing, and so their true borders are known exactly. (It is the network of [chapter 2](02_measuring_trust.ipynb),
# so it is trained only once.)

# %%
sizes = profile_named(profile, n_train=n_train)
train = phantom.cohort(sizes.n_train, scanner="A", size=sizes.size, seed=seed)
training = {"steps": n_steps or sizes.steps, "channels": sizes.channels}
training |= {"dropout": 0.1, "seed": 10 * seed}
unet = fitted(fit_unet, train, **training)


# %% [markdown]
# Now the network sees a new heart, imaged on A and on four scanners that it does not know. The six cases are slices of this
# heart. We have chosen them so that the methods below disagree, which makes them good for thinking, and useless as
# statistics. Their order is mixed, so that it gives no hint of the scanner.


# %%
def scan(scanner, n_cases):
    options = {"size": sizes.size, "seed": seed + 1000}
    return phantom.cohort(n_cases, scanner=scanner, **options)


chosen = {"E": [2], "D": [3, 4], "F": [3], "A": [5], "B": [0]}
parts = [scan(name, 6).take(np.array(rows)) for name, rows in chosen.items()]
cases = Cohort.concatenate(parts).take(np.array([0, 1, 3, 4, 2, 5]))
probabilities = predict_probabilities(unet, cases.images)
predicted = to_numpy(probabilities.argmax(dim=1))

# %% tags=["hide-input"]
names = [f"case {k}" for k in range(1, 7)]
show.picture_grid(
    [[image[0] for image in cases.images]] * 2,
    [[None] * 6, list(predicted)],
    column_titles=names,
    class_names=train.class_names,
    alt="Six images of hearts of different brightness and contrast, plain above, and below with the borders that the network predicts: closed curves in most cases, fragments in case 5.",
)

# %% [markdown]
# *Six cases. First the image, then the same image with the borders of the structures that the network predicts. One
# network.*
#
# What should you look for? In a good segmentation, the left ventricle is one round area, the myocardium is a closed ring
# around it, and the right ventricle is one area beside the ring. (Near the tip of the heart, there is no right ventricle.)
#
# And when is a segmentation *wrong*? We compare it with the truth by the **Dice**: twice the area that the two have in
# common, divided by the sum of both areas. Say that the prediction has 4 pixels, the truth has 6, and they share 3. Then
# the Dice is 2 · 3 / (4 + 6) = 0.6. A perfect segmentation has a Dice of 1, and one that shares nothing has 0. The Dice is
# computed for each of the three structures and averaged. Here we call a segmentation wrong if its Dice is below 0.8.
#
# **Predict:** a person has time to check two of the six. Which two would you check? Write their numbers down. In
# Jupyter or on Colab, type them into the next cell and run it.

# %%
my_guess = []  # for example [1, 2]

# %% [markdown]
# ## What the methods think
#
# You looked at the shape of the borders. The methods below do not, and they do not know the truth either. Each computes an *uncertainty* for
# every case: a number that should be high where the segmentation is wrong. The two cases with the highest uncertainty are
# sent to the person. Two of our methods look at the probabilities of the network:
#
# * **entropy**: how evenly the probabilities of a pixel are spread over the four classes, on average over the pixels that
#   are predicted as heart;
# * **soft Dice**: how far the probabilities are from a clear yes or no. For example, a probability of 0.99 for "heart" is near
#   a clear yes, and one of 0.55 is far from it.
#
# Two others ask for several predictions, and look at how little these agree:
#
# * **dropout**: predictions of the same network, while random parts of it are switched off;
# * **ensemble**: predictions of several networks, each trained from other random numbers.
#
# The last one is a control:
#
# * **small prediction**: how small the predicted heart is, and nothing else. A method that does not beat this control has
#   not earned its cost.

# %%
samplers = {"dropout": MCDropout(n_samples=n_samples)}
samplers["ensemble"] = DeepEnsemble(n_members=n_members, training=training)
for sampler in samplers.values():
    sampler.fit(unet, train)
found = one_pass_columns(probabilities) | sampled_columns(samplers, cases.images)

# %%
columns = {"entropy": "entropy, foreground", "soft Dice": "soft Dice"}
columns |= {name: f"{name}: agreement" for name in samplers}
columns |= {"small prediction": "small prediction"}
opinions = pd.DataFrame({k: found[v] for k, v in columns.items()}, index=names)
place = opinions.rank(ascending=False, method="first").astype(int).T
sent = place <= n_reviews
to_person = [", ".join(map(str, np.flatnonzero(row) + 1)) for row in sent.to_numpy()]
place.rename_axis("place, by uncertainty").assign(**{"sent: cases": to_person})

# %% [markdown]
# *The place of each case when the cases are sorted by uncertainty: 1 is the case that a method trusts least, 6 the one that
# it trusts most. Last column: the cases that are sent to the person, which are those in places 1 and 2.*
#
# Read one row from left to right: it is the opinion of one method about the six cases. Read one column from top to bottom:
# it is what five methods think of the same case. They do not agree.
#
# **Predict:** which of the five rows do you trust, and will you change your guess?
#
# ## The truth
#
# In a hospital, nobody would know by now. But our heart is computed, so we can look at the true borders and compute the Dice
# of each case.

# %%
dice = case_table(probabilities, cases, empty="skip")["quality"].to_numpy()
wrong = dice < wrong_below
truth = pd.DataFrame({"scanner": cases.domains, "Dice": dice.round(2)}, index=names)
truth["wrong"] = np.where(wrong, "wrong", "")
truth["your guess"] = ["check" if k in my_guess else "" for k in range(1, 7)]
truth.rename_axis("truth")

# %% tags=["hide-input"]
show.picture_grid(
    [[image[0] for image in cases.images]] * 2,
    [list(predicted), list(cases.labels)],
    column_titles=[
        f"{name}: {value:.2f}" for name, value in zip(names, dice, strict=True)
    ],
    row_titles=["prediction", "truth"],
    class_names=train.class_names,
    alt="The six cases with the predicted borders above and the true borders below: they agree in most cases, case 3 misses parts of the heart, and case 5 has little in common with the truth.",
)

# %% [markdown]
# *The six cases with their Dice. First the predicted borders, then the true ones. One network.*

# %%
score = (sent & wrong).sum(axis=1).astype(object)
score["you"] = wrong[[k - 1 for k in my_guess]].sum() if my_guess else "no guess"
score.to_frame(f"sent, of the {wrong.sum()} wrong cases")

# %% [markdown]
# *How many of the wrong cases each method sent to the person; "you" counts those in your guess, if you typed one in.*
#
# In these six cases the entropy sends none of the two wrong ones, and the ensemble sends both. The control, which looks at
# nothing but the size, sends one. That is one example, chosen by us: on other cases another method may win. To find out how
# *often* a method is right takes many cases, several networks, and a fair way of counting, and that is what
# [chapter 2](02_measuring_trust.ipynb) is about.
#
# ## Make it fail
#
# Can a segmentation fail while the method stays sure? The *soft Dice confidence* is 1 minus the soft Dice uncertainty above,
# so a high value means that the method is sure. This confidence should fall when the Dice falls, and by as much. Try it: the
# slider makes the images darker on one side, as a scanner does whose receive coil (the antenna that picks up the signal of the
# body) lies near the other side of the heart.


# %% tags=["hide-input"]
def scan_and_segment(settings):
    knobs = dataclasses.replace(phantom.SCANNERS["A"], **settings)
    one = scan(knobs, 3).take(np.array([2]))
    chances = predict_probabilities(unet, one.images)
    dice = case_table(chances, one, empty="skip")["quality"][0]
    sure = 1 - one_pass_columns(chances)["soft Dice"][0]
    labels = to_numpy(chances.argmax(dim=1)[0])
    sides = [show.draw_borders(one.images[0, 0], x) for x in (labels, one.labels[0])]
    text = f"prediction (left): Dice {dice:.2f}, soft Dice confidence {sure:.2f}"
    return np.concatenate(sides, axis=1), text


# %% tags=["hide-input"]
steps = [0.3, 0.8, 1.2, 1.6, 2.0]
shaded = [scan_and_segment({"bias": bias}) for bias in steps]
show.picture_slider(
    [picture for picture, _ in shaded],
    [caption for _, caption in shaded],
    steps=[f"{bias:g}" for bias in steps],
    control="shading by the coil",
    class_names=train.class_names,
    height=470,
    alt="A slider over the shading of the image by the coil. Left the predicted, right the true borders of one heart, with Dice and soft Dice confidence in the caption of each step.",
)

# %% [markdown]
# *One heart while the shading by the coil grows from that of scanner A (0.3); nothing else changes. Left: predicted borders.
# Right: true borders. One network. This figure works on the web page, without Python.*
#
# For this heart and this network, both numbers fall as the shading grows, but the Dice falls further. At the last step the
# segmentation is wrong, and a reader who sees only the confidence would not guess how wrong.
#
# In Jupyter and on Colab, the sliders below change six properties of scanner A, so you can look for a worse failure: a low
# Dice with a high confidence.
#
# | slider | what it changes |
# |---|---|
# | `flip_deg` | the flip angle of the radio pulse, which sets the contrast between blood and muscle |
# | `fat_signal` | how bright fat is |
# | `bias` | shading by the coil |
# | `noise` | random grain |
# | `ghost` | copies of the heart, made by motion |
# | `blur_mm` | loss of detail |

# %% tags=["hide-input"]
a = phantom.SCANNERS["A"]
show.live_picture(
    scan_and_segment,
    {
        "flip_deg": (15, 90, 5, a.flip_deg),
        "fat_signal": (0, 1.5, 0.1, a.fat_signal),
        "bias": (-1, 3, 0.1, a.bias),
        "noise": (0, 0.3, 0.01, a.noise),
        "ghost": (0, 1.2, 0.1, a.ghost),
        "blur_mm": (0, 4, 0.2, a.blur_mm),
    },
)

# %% [markdown]
# ## Where to go from here
#
# | You want to know | go to |
# |---|---|
# | why a new scanner breaks a network | [chapter 1](01_domain_shift.ipynb) |
# | how to tell a good confidence from a bad one | [chapter 2](02_measuring_trust.ipynb) |
# | which unusual values inside a network matter | [chapter 3](03_segmentation_distortion.ipynb) |
# | how a network can be taught to predict its own Dice | [chapter 4](04_adversarial_confidence.ipynb) |
# | which pixels deserve a second look | [chapter 5](05_fragility_maps.ipynb) |
# | which parts of a network make it break | [chapter 6](06_architecture_and_noise.ipynb) |
# | why a network finds what is not there | [chapter 7](07_context_and_foreground.ipynb) |
# | how little an image must change to fool a network | [chapter 8](08_attacks.ipynb) |
# | what can be promised about a case | [chapter 9](09_guarantees.ipynb) |
# | which method to use | [chapter 10](10_head_to_head.ipynb) |
# | what of all this survives on real scanners | [chapter 11](11_real_scanners.ipynb) |
# | how to try it on your own images | [chapter 12](12_bring_your_own.ipynb) |

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    caught = (sent & wrong).sum(axis=1)
    print("two of the six cases are wrong:", bool(wrong.sum() == 2))
    print("the entropy sends none of them:", bool(caught["entropy"] == 0))
    print("the ensemble sends both:", bool(caught["ensemble"] == 2))
    print("the control sends one of them:", bool(caught["small prediction"] == 1))
    seen = [re.findall(r"\d\.\d+", caption) for _, caption in shaded]
    (dice_0, sure_0), (dice_1, sure_1) = (map(float, seen[k]) for k in (0, -1))
    print("the Dice falls further:", dice_0 - dice_1 > sure_0 - sure_1 > 0)
    print("wrong at the last step:", dice_1 < wrong_below < 0.9 < dice_0)
