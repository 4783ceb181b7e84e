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
# # Which eAURC?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/segconf-lite/segconf_lite/blob/main/notebooks/90_which_eaurc.ipynb)
#
# **The question.** The excess AURC (eAURC) is a common number for "does this uncertainty rank cases by their risk?". It is
# defined in one line. Do the programs that compute it compute the same thing? If not, a number from one paper cannot be
# compared with a number from another, and a hospital could choose a method because of the program that measured it.
#
# **You will be able to** compute an eAURC by hand; name the three choices that its definition leaves open; and find
# mistakes of a program with three tiny tests.
#
# **You need** the section *Risk and coverage* of chapter 2.
#
# **Time:** about 0.3 min on two CPU cores. No network is trained here.

# %% tags=["hide-input"]
import sys

if "google.colab" in sys.modules:  # elsewhere nothing is installed
    # %pip install -q "segconf-lite @ git+https://github.com/segconf-lite/segconf_lite@v0.1.0"
    pass

from segconf_lite import colab

colab.welcome("0.1.0")

# %% tags=["parameters"]
# Number of cases; small on purpose, since many test sets are.
n_cases = 50  # @param {type:"integer", min:5, max:5000}
# Orders of the file that are tried.
n_shuffles = 200  # @param {type:"integer", min:2, max:10000}
# Seed of all random draws.
seed = 0  # @param {type:"integer", min:0}
# Second shape parameter of the Beta distribution of the risks; the larger, the fewer bad cases.
beta_shape = 3.0  # @param {type:"number", min:0.2, max:50}
# Standard deviation of the noise in the uncertainty with four levels.
noise = 0.15  # @param {type:"number", min:0, max:2}
# A case with a risk above this counts as wrong in the formula for 0/1 risks.
wrong_above = 0.3  # @param {type:"number", min:0.01, max:0.99}

# %% tags=["hide-input"]
from segconf_lite import parameters

as_in_book = parameters.checked("90_which_eaurc", globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from segconf_lite.evaluation import excess_aurc
from segconf_lite import show

rng = np.random.default_rng(seed)

# %% [markdown]
# ## An eAURC by hand
#
# Take two cases. A network segments the first one well and the second one badly: their **risks** (1 − Dice, say) are
# $0.1$ and $0.5$. An uncertainty puts them in an order, the most trusted case first.
#
# * *In the right order* the risk of the first case is $0.1$, and the mean risk of both is $0.3$. These two numbers are the
#   risk-coverage curve. It shows the mean risk of the first $k$ of $n$ cases (the **selective risk**) against the
#   **coverage** $k/n$. The area under it, the AURC, is the mean of its values: $(0.1 + 0.3)/2 = 0.2$.
# * *In the wrong order* the two numbers are $0.5$ and $0.3$, and the AURC is $0.4$.
#
# The right order has the smallest area that is possible with these risks. The **excess** is the area of an order minus this
# smallest one. So the eAURC is $0$ for the right order and $0.4 - 0.2 = 0.2$ for the wrong one.
#
# ## Three choices that the definition leaves open
#
# That was one way to compute it. Programs choose differently in three places, and the same two cases show each.
#
# 1. **How is the area computed?** Instead of the mean, some programs take the trapezoid rule: the area under straight lines
#    between the points. The points lie at coverage $1/2$ and $1$, so the width is $1/2$. The right order gets
#    $1/2 \cdot (0.1 + 0.3)/2 = 0.1$ instead of $0.2$. Some programs then divide by the width.
# 2. **How is the smallest area computed?** By the same rule, by another one, or by a formula for risks that are only 0 or 1.
#    With the trapezoid for the given order and the mean for the best one, the *right* order gets $0.1 - 0.2 = -0.1$. It seems
#    to be better than the best.
# 3. **What happens to ties?** Cases are tied if they have the same uncertainty. Suppose that both cases are. If they are taken
#    *as they come* in the file, the eAURC is $0$ or $0.2$, depending on which row is the first. If they *share* their mean risk,
#    both count as $0.3$. Then the curve is $0.3$ and $0.3$, and the eAURC is $0.3 - 0.2 = 0.1$ in both files.
#
# So each choice changes the number, although the network and its uncertainty are the same.
#
# ## Five rules in published code, and ours
#
# Which choices do programs make? Here are five rules that we read in published code, reduced to their formulas. The first column
# has the name of the function below that computes the rule, and the next three have its choices.
#
# | rule | area of the given order | area of the best order | ties | read in |
# |---|---|---|---|---|
# | `mean_rule` | mean | mean | as they come | midl25, isbi26 |
# | `mixed_rule` | trapezoid | mean | as they come | ValUES, SD 2023 |
# | `trapezoid_rule` | trapezoid | trapezoid | as they come | segmentation_failures |
# | `widened_rule` | trapezoid, divided by its width | the same | as they come | torch-uncertainty |
# | `formula_rule` | mean, of risks cut into 0 and 1 | formula | as they come | fd-shifts |
# | `excess_aurc` | mean | mean | share | this book |
#
# :::{admonition} Which files and versions did we read?
# :class: dropdown
# | name | code, with the version that we read |
# |---|---|
# | midl25 | [MedVisBonn/midl25](https://github.com/MedVisBonn/midl25), commit 5f04e05, `src/utils.py` |
# | isbi26 | [MedVisBonn/isbi26-implementation](https://github.com/MedVisBonn/isbi26-implementation), `utils.py` (version not noted) |
# | ValUES | [IML-DKFZ/values](https://github.com/IML-DKFZ/values), commit 1294593, `evaluation/metrics/aurc.py` |
# | SD 2023 | [MedVisBonn/Segmentation-Distortion](https://github.com/MedVisBonn/Segmentation-Distortion), commit 0884e51, `src/eval/eaurc.py` |
# | segmentation_failures | [mzenk/segmentation_failures_benchmark](https://github.com/mzenk/segmentation_failures_benchmark), `metrics.py` (version not noted) |
# | torch-uncertainty | [torch-uncertainty](https://github.com/torch-uncertainty/torch-uncertainty), commit 77c6cd5, `risk_coverage.py` |
# | fd-shifts | [IML-DKFZ/fd-shifts](https://github.com/IML-DKFZ/fd-shifts), commit 29d7d9b, `fd_shifts/analysis/metrics.py` |
#
# Versions change, so check before you quote. Of torch-uncertainty only the area is from the library; the excess is taken here.
# :::
#
# We first write the parts that the rules share: the curve, and the trapezoid rule.


# %%
def running_means(risk):
    return risk.cumsum() / np.arange(1, len(risk) + 1)


def in_file_order(risk, uncertainty):
    return risk[np.argsort(uncertainty, kind="stable")]  # ties: as they come


def trapezoid(curve):
    return np.trapezoid(curve, dx=1 / len(curve))  # from coverage 1/n to 1


def width(risk):
    return 1 - 1 / len(risk)


# %% [markdown]
# They give the two areas that we have computed by hand:

# %%
toy_curve = running_means(np.array([0.1, 0.5]))
print(f"mean {toy_curve.mean():.2f}, trapezoid {trapezoid(toy_curve):.2f}")

# %% [markdown]
# Each rule is now one difference: the area of the given order minus that of the best one. (The other rules are folded.)


# %%
def curves(risk, uncertainty):
    ordered = running_means(in_file_order(risk, uncertainty))
    return ordered, running_means(np.sort(risk))


def mean_rule(risk, uncertainty):
    curve, best = curves(risk, uncertainty)
    return curve.mean() - best.mean()


# %% tags=["hide-input"]
def mixed_rule(risk, uncertainty):
    curve, best = curves(risk, uncertainty)
    return trapezoid(curve) - best.mean()


def trapezoid_rule(risk, uncertainty):
    curve, best = curves(risk, uncertainty)
    return trapezoid(curve) - trapezoid(best)


# %% tags=["hide-input"]
def widened_rule(risk, uncertainty):
    """Only the area is in the library; the excess is taken by its own rule here."""
    return trapezoid_rule(risk, uncertainty) / width(risk)


def formula_rule(risk, uncertainty):
    """The best order of 0/1 risks with mean m has an area of about m + (1 - m) log(1 - m)."""
    wrong = (risk > wrong_above).astype(float)
    best = wrong.mean() + (1 - wrong.mean()) * np.log(1 - wrong.mean())
    return running_means(in_file_order(wrong, uncertainty)).mean() - best


# %% tags=["hide-input"]
rules = {
    "means, ties as they come (midl25, isbi26)": mean_rule,
    "trapezoid minus means (ValUES, SD 2023)": mixed_rule,
    "trapezoid for both (segmentation_failures)": trapezoid_rule,
    "trapezoid over its width (torch-uncertainty)": widened_rule,
    "formula for 0/1 risks (fd-shifts)": formula_rule,
    "means, ties share (this book)": excess_aurc,
}

# %% [markdown]
# ## Three tests
#
# Two cases are too few to see how much this matters. We draw 50 cases, most of them with a small risk, and test every rule:
#
# 1. **A perfect order:** the uncertainty equals the risk. The eAURC must be 0.
# 2. **A constant:** all cases are tied. The eAURC must not depend on the order of the rows in the file.
# 3. **Four levels** only, as when a person sorts cases into four groups, so many cases are tied. Again, shuffling the
#    rows must change nothing.
#
# The last two are tried in 200 different orders of the file. We also add the mean eAURC of 200 **random** uncertainties,
# which know nothing about the risk. It says how large an eAURC is when the order is worthless.
#
# **Predict:** which rules give exactly 0 to the perfect order? Which give one value to the constant, whatever the order of
# the file?

# %%
risk = rng.beta(1.2, beta_shape, n_cases)
perfect, constant = risk.copy(), np.zeros(n_cases)
four_levels = np.digitize(risk + rng.normal(0, noise, n_cases), [0.15, 0.3, 0.5])
orders = [rng.permutation(n_cases) for _ in range(n_shuffles)]


def over_orders(rule, uncertainty):
    found = [rule(risk[order], uncertainty[order]) for order in orders]
    return min(found), max(found)


# %%
rows, ranges = [], []
for name, rule in rules.items():
    random = np.mean([rule(risk, rng.random(n_cases)) for _ in range(n_shuffles)])
    rows.append((name, rule(risk, perfect), random))
    for test, uncertainty in (("constant", constant), ("four levels", four_levels)):
        low, high = over_orders(rule, uncertainty)
        ranges.append((name, test, (low + high) / 2, low, high))
found = pd.DataFrame(rows, columns=["method", "perfect order", "random (scale)"])
spread = pd.DataFrame(ranges, columns=["method", "test", "estimate", "low", "high"])
found.set_index("method").round(4)

# %% [markdown]
# *eAURC of a perfect order, which must be 0, and mean eAURC of random uncertainties, for scale; rules in the order above.*
#
# The next figure has the other two tests. Each bar should have no length.

# %% tags=["hide-input"]
show.method_intervals(
    spread,
    by="test",
    axis="eAURC, lowest to highest",
    alt="Ranges of eAURC over orders of the file, one bar per rule, in one panel for the constant and one for the uncertainty with four levels.",
)

# %% [markdown]
# *Bars run from the lowest to the highest eAURC that the same 50 cases give when the rows of the file are shuffled. One panel
# per uncertainty, one bar per rule.*
#
# Compare this with your guess, one question after the other.
#
# **Which rules give exactly 0 to the perfect order?** Those that compute both areas in the same way: the mean rule, the trapezoid
# rule, the widened rule, and that of this book. A perfect order *is* the best order, so they subtract a number from itself.
# The other two rules compute the best area in another way:
#
# * The *mixed rule* puts the perfect order below zero, as in the example with two cases.
# * The *formula rule* cuts the risks at `wrong_above` into right and wrong first, and so asks another question. Even then
#   the perfect order does not get exactly 0, because the formula holds only approximately for so few cases.
#
# Why does it matter? Such an error depends on the rule and on the number of cases. If two methods are compared by different rules,
# or on test sets of different sizes, it can hide a small difference between them, or invent one. How large is it? Compare it
# with the column *random*, which is what an uncertainty gets that knows nothing.
#
# **Which rules give one value to the constant?** Only that of this book does so. All others take ties as they come, so the
# order of the file decides. For example, if you sort your table by risk before you save it, the constant gets the same value as the
# perfect order. The uncertainty with four levels has the same problem.
#
# :::{admonition} For the researcher: the newer fd-shifts
# :class: dropdown
# The newer fd-shifts (October 2024) keeps the formula for risks of 0 and 1, and takes the
# trapezoid for both curves of a Dice. In an outside check of November 2026 it passed all three tests.
# :::
#
# ## The rule of this book
#
# How does this book avoid both errors? It takes the plain mean over $k$ for both curves, and tied cases share their mean risk.
# Sharing equals the average over all possible orders of the tied cases. We can check this on the 200 shuffled files of the test:
# their mean by the mean rule must be close to the value with shared ties.

# %%
broken = []
for order in orders:
    broken.append(mean_rule(risk[order], four_levels[order]))
shared = excess_aurc(risk, four_levels)
print(
    f"shared ties {shared:.4f}; mean over {n_shuffles} ways to break them {np.mean(broken):.4f}"
)

# %% tags=["remove-cell"]
# FACTS
exact = set(found.loc[found["perfect order"].abs() < 1e-12, "method"])
moves = set(spread.loc[(spread["high"] - spread["low"]) > 1e-12, "method"])
print("perfect is 0, and the order of the file is irrelevant:", sorted(exact - moves))
if as_in_book:
    ours = {"means, ties share (this book)"}
    print("of these rules, only by that of this book:", exact - moves == ours)

# %% [markdown]
# ## What to take home
#
# * The programs do not all compute the same thing. They differ in the area, in the best area, and in the ties.
# * Before you compare a number with one from a paper, run three tests on its code: a perfect order must give 0, a constant
#   must give one value, and shuffling the rows must change nothing.
# * Two programs that pass can still compute the area differently, so numbers from different rules should not share a table.
#
# :::{admonition} Exercise
# At what number of cases does the mixed rule's error on a perfect order fall below 0.001? Why does it shrink?
# :::
#
# :::{admonition} Solution
# :class: dropdown
# The trapezoid from $1/n$ to $1$ leaves out half of the first and half of the last value, divided by $n$: about
# $(r_{(1)} + \bar r)/2n$. With a mean risk of 0.3 that is below 0.001 from about 150 cases on. Change `n_cases` and see.
# :::
#
# ## Limits
#
# * The rules are our reading of codes at one point in time, reduced to a line; libraries move on. What matters is that such rules
#   occur in published code.
# * Ties are simplified. ValUES and SD 2023 add a point to the curve only after the first case of a group with equal values. Which
#   case that is still depends on the order of the file.
