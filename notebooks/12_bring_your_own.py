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
# # Bring your own
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/segconf-lite/segconf_lite/blob/main/notebooks/12_bring_your_own.ipynb)
#
# **The question.** You have your own network, or your own images, or only a folder of segmentations that somebody's network
# has made. Some of them may be wrong, and each of them belongs to a patient whose treatment may depend on it. How do you find
# out how far they can be trusted, without writing code that reads your files?
#
# **You will be able to** find faults in a folder of images, and read it as a cohort; load a network that was
# trained elsewhere without running code from its checkpoint; calibrate a lower bound of the Dice for your own scanner; and write a
# page that says which cases to look at first, even if you have stored probabilities alone.
#
# **You need** chapters 1 and 2 for the words (scanners A to F, Dice, entropy, soft Dice confidence), and chapter 9 for the lower
# bound. The code needs nothing but the package. All terms are on the page [Definitions](../definitions.md).
#
# **Time:** about 1 min on two CPU cores, with the training of a small network.
#
# **Where to begin.** Read the chapter once as it stands. It writes a folder of simulated hearts and uses it as if it were yours, so
# that everything runs and the truth is known. It has four steps: check the files, load a network, give its segmentations a lower
# bound, and rank stored predictions for a person to look at. Then set the parameters below, and run it again with your own:
#
# | you have | set | read |
# |---|---|---|
# | images with reference segmentations | `cohort`, `root` | *A folder of images*, *Images and a network* |
# | a network with its weights as well | also `network`, `checkpoint` | *A network from elsewhere*, and the same |
# | nothing but stored predictions, for example those of the program nnU-Net | `predictions` | *Nothing but stored predictions*, and what follows it |
#
# The section *Now with your own data* has the commands for each of them, and for Colab.

# %% tags=["hide-input"]
import sys

if "google.colab" in sys.modules:  # elsewhere nothing is installed
    # %pip install -q "segconf-lite @ git+https://github.com/segconf-lite/segconf_lite@v0.1.0"
    pass

from segconf_lite import colab

colab.welcome("0.1.0")

# %% tags=["parameters"]
# Sizes of the simulated hearts and of the training: "lite" for two CPU cores, "full" for a GPU.
profile = "lite"  # @param ["lite", "full"]
# Seed of the simulated hearts, of the split into parts, and of the training.
seed = 0  # @param {type:"integer", min:0}
# Reader of your images; empty: a folder of simulated hearts, which this notebook writes.
cohort = ""  # @param ["", "folder", "acdc", "mnms", "mnms2", "prostate", "brains", "refuge", "decathlon"]
# Folder of your images (a whole path, from / or ~ on), needed with `cohort`.
root = ""  # @param {type:"string"}
# Where the scanner stands: a pattern with one group for the name of a file, or a column; empty: as the reader does.
domain = ""  # @param {type:"string"}
# Further settings of the reader as JSON, e.g. {"size": 192, "limit": 20}.
reading = ""  # @param {type:"string"}
# Scanner on which the network was trained, or shall be; empty: the first one of the cohort.
source_domain = ""  # @param {type:"string"}
# Your network as FILE.py:NAME or PACKAGE.MODULE:NAME; empty: a small one is trained here.
network = ""  # @param {type:"string"}
# File of its weights (a whole path); empty: the network has them already.
checkpoint = ""  # @param {type:"string"}
# What your network returns, see the section with this name.
output = "auto"  # @param ["auto", "logits", "probabilities", "sigmoid", "upsampled"]
# Folder of stored predictions (a whole path); empty: those of the network above.
predictions = ""  # @param {type:"string"}
# Folder of reference segmentations of some of these predictions (a whole path); empty: there are none.
references = ""  # @param {type:"string"}
# The page that is written at the end (a whole path ending in .html); empty: it is removed with the notebook.
report = ""  # @param {type:"string"}
# Simulated slices of scanner A, six per heart; each unseen scanner has two ninths as many.
n_source = 540  # @param {type:"integer", min:108, max:3000}
# Optimiser steps of the network that is trained here (0: 200 in "lite", 666 in "full").
n_steps = 0  # @param {type:"integer", min:10, max:10000, also:0}

# %% tags=["hide-input"]
from segconf_lite import parameters

as_in_book = parameters.checked("12_bring_your_own", globals())

# %% tags=["hide-input"]
import dataclasses
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import torch
from monai.losses import DiceCELoss
from safetensors.torch import save_file

# %% tags=["hide-input"]
import segconf_lite.evaluation as ev
from segconf_lite import own, show
from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.confidence import PooledMahalanobis, PredictiveEntropy
from segconf_lite.confidence import SoftDiceConfidence, soft_dice_confidence
from segconf_lite.models import adapt, predict_probabilities, probe
from segconf_lite.models.device import pick_device
from segconf_lite.predictions import from_predictions, review_predictions
from segconf_lite.predictions import volume_table, write_page
from segconf_lite.profiles import profile_named
from segconf_lite.readers import describe_folder

pd.set_option("display.max_colwidth", 90)

# %% [markdown]
# ## A folder of images
#
# A colleague sends you a folder of images. What is in it, and are its files sound? To have such a folder, we simulate one:
# phantom hearts on scanner A, on which a network will be trained, and other hearts on B, D and F, which the network will never
# see. Every heart is a stack of six slices, and stands for one patient.

# %%
sizes, level = profile_named(profile, steps=n_steps), 0.9
place = tempfile.TemporaryDirectory()  # it is removed when the notebook ends
folder = Path(place.name)


def hearts(scanner, n_cases, first_subject):
    options = {"scanner": scanner, "size": sizes.size, "seed": seed + first_subject}
    made = phantom.cohort(n_cases // 6 * 6, **options)
    names = [f"{scanner}_{text.split('-')[1]}" for text in made.subjects]
    return dataclasses.replace(made, subjects=names, sessions=names)


# %% [markdown]
# The hearts are written as files in the layout of **nnU-Net** {cite:p}`isensee2021nnunet`, a program for segmentation that many
# groups use:
#
# | folder or file | what it holds |
# |---|---|
# | `imagesTr/CASE_0000.nii.gz` | a training image; 0000 is the number of its channel |
# | `labelsTr/CASE.nii.gz` | its reference segmentation |
# | `imagesTs`, `labelsTs` | the same for the test cases |
# | `dataset.json` | which number stands for which class |
#
# A file of type **NIfTI** (`.nii.gz`) holds the intensities of a volume (a stack of slices; its pixels are called *voxels*). It also
# holds a matrix that says how large a voxel is, and in which direction of the patient each axis runs. The output below shows a few
# of the files, and then the text of `dataset.json`.

# %%
mine = folder / "mine"
own.write_nnunet(mine, hearts("A", n_source, 0), end="Tr")
for k, scanner in enumerate("BDF", start=1):
    own.write_nnunet(mine, hearts(scanner, n_source * 2 // 9, 1000 * k), end="Ts")
for path in [*sorted(mine.glob("*/*"))[::30], mine / "dataset.json"]:
    print(path.relative_to(mine))
print((mine / "dataset.json").read_text())

# %% [markdown]
# ### Look before you read
#
# Before anything is computed, ask what is in the folder. The function `describe_folder`, or the command `segconf cohort FOLDER`, opens
# every file and prints a report. It cannot know where the scanner stands in the names, so we say it with a *pattern*: here a letter
# from A to F, followed by an underscore and a digit, as in `A_0001`. The part in parentheses, the letter, is the name of the
# scanner.
#
# The report is long, because most of its lines describe one case each. You need not read them all. Go through its parts, and compare
# them with what you know of your data:
#
# | part of the report | what it says | what to ask |
# |---|---|---|
# | first line | numbers of cases, of patients (*subjects*) and of scanners (*domains*) | Are there as many subjects as patients? |
# | a line per case, for the first cases only | among others: training or test (*split*), size of the image, millimetres per pixel (`spacing_mm`) | Is the spacing that of your scanner? |
# | counts per domain and per split | how many cases and subjects each has | Did the pattern find every scanner? |
# | *Label values* | for each number in the segmentations: its class, its pixels, its cases | Is a class missing? |
# | last lines | what is worth knowing, and what looks wrong | What has to be mended before you go on? |

# %%
where = Path(root).expanduser() if root else mine
scanner_of = domain or ("" if cohort else r"\b([A-F])_\d")
if cohort in ("", "folder"):
    pattern = re.compile(scanner_of) if "(" in scanner_of else scanner_of or None
    described = str(describe_folder(where, domain=pattern, progress=False))
    print(described.replace(str(folder), "..."))

# %% [markdown]
# The number of **subjects** in the first line matters most. If one patient has two names, a random split can put slices of one
# person into training *and* test. Then the results look better than they are.
#
# The report takes the name of a case for the patient, without a phase of the heartbeat at its end: `_ED` (end of diastole, when the
# heart is widest) or `_ES` (end of systole).
#
# ### Put faults into a folder
#
# Real folders have faults. Let us put five of them into a small copy of the folder, and see which ones are found:
#
# 1. the image of case 0 is cut off, as after an interrupted download;
# 2. the segmentation of case 1 is displaced by 15 mm, as after an export with another origin;
# 3. the segmentation of case 2 has the value 7, which no class has;
# 4. case 3 is a copy of case 4 under another name, as if one patient had been exported twice;
# 5. in case 5, the left and the right ventricle are exchanged, as in data sets that number the classes in another order.
#
# **Predict:** which of the five does the report find?

# %% tags=["hide-input"]
broken = own.write_nnunet(folder / "broken", hearts("A", 48, 5000))
scans = sorted((broken / "imagesTr").iterdir())
drawn = sorted((broken / "labelsTr").iterdir())


def change(path, values=lambda v: v, moved_mm=0.0):
    file = nibabel.load(path)
    found, affine = values(np.asarray(file.dataobj).copy()), file.affine.copy()
    affine[0, 3] += moved_mm
    nibabel.save(nibabel.Nifti1Image(found, affine), path)


# %%
scans[0].write_bytes(scans[0].read_bytes()[:9000])
change(drawn[1], moved_mm=15.0)
change(drawn[2], lambda v: np.where(v == 2, 7, v).astype(np.uint8))
shutil.copy(scans[4], scans[3]), shutil.copy(drawn[4], drawn[3])
change(drawn[5], lambda v: np.array([0, 3, 2, 1], np.uint8)[v])

# %%
names = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
faults = describe_folder(broken, labels=names, progress=False).problems
print("\n\n".join(faults).replace(str(broken), "..."))

# %% [markdown]
# Four faults are found, each with the case in which it is. The fifth is not, because a file in which the classes are
# exchanged is in itself sound. Finding it takes knowledge of the heart, so look at images of your own data. (The readers of the
# cardiac data sets check in every heart that the left ventricle lies inside the myocardium, see [Research cohorts](../cohorts.md).)
# A trained network helps as well: its Dice would be near zero in the exchanged classes only.
#
# So the report tells you whether the files fit together. Whether their classes mean what you think, it cannot tell.
#
# ### Read it
#
# Now the folder becomes a **cohort**: slices with their classes, scanners and patients. The intensities of each slice are scaled to
# a mean of 0 and a standard deviation of 1.

# %%
if bool(cohort) != bool(root):
    raise ValueError("give `cohort` and `root` together, or neither")
options = {"domain": scanner_of, "reading": reading}
whole = own.read_cohort(cohort or "folder", where, **options)
source = source_domain or whole.domain_names[0]
unseen = [name for name in whole.domain_names if name != source]
whole

# %% [markdown]
# Did the reader return what was written? For the simulated hearts we can ask, because we still have them.

# %%
written = hearts("A", 6, 0)
again = whole.where(session=written.sessions[0]) if not cohort else written
print("largest difference of intensities:", np.abs(again.images - written.images).max())
print("different labels:", int((again.labels != written.labels).sum()))

# %% [markdown]
# The labels are equal in every pixel. The intensities differ a little, because scanners store integers, and so does our folder.
#
# Finally, the patients of the training scanner are divided into three parts:
#
# * Half of them **train** the network.
# * Three tenths **calibrate** the bound: we use their references to find out how far the network's statements can be trusted.
# * The rest are for the **test**. In the code, `new` has these patients and all those of the unseen scanners.
#
# If your network was trained elsewhere, its training patients must not be among those of calibration and test. The output has the
# number of patients in each part.

# %%
parts = whole.where(domain=source).split((0.5, 0.3, 0.2), seed=seed)
train, calibration, test = parts
new = Cohort.concatenate([test, *(whole.where(domain=name) for name in unseen)])
print(*(len(set(part.subjects)) for part in (train, calibration, new)), "patients")

# %% [markdown]
# ## A network from elsewhere
#
# Can the methods of this book be used on a network that knows nothing of this package? Such a network consists of two files: the
# code that builds it, and a **checkpoint** with its weights. To have both, we write a file with a U-Net of the library MONAI, and
# train it in a plain loop of PyTorch.

# %% tags=["hide-input"]
shape = f"in_channels={whole.images.shape[1]}, out_channels={len(whole.class_names)}"
code = f"""from monai.networks.nets import UNet


def build():
    widths, strides = (16, 32, 64, 64), (2, 2, 2)
    return UNet(2, {shape}, channels=widths, strides=strides, num_res_units=1, norm="batch")
"""
(folder / "my_network.py").write_text(code)
print(code)


# %% tags=["hide-input"]
def train_it(net, images, labels, n_steps):
    loss = DiceCELoss(False, to_onehot_y=True, softmax=True, batch=True)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    slower = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=n_steps)
    for _ in range(n_steps):
        batch = torch.randint(len(images), (8,))
        optimiser.zero_grad()
        loss(net(images[batch]), labels[batch, None]).backward()
        optimiser.step(), slower.step()


# %%
if not network:
    torch.manual_seed(seed)
    trained = own.load_network(f"{folder}/my_network.py:build").train()
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    train_it(trained, images, labels, sizes.steps)
    save_file(trained.state_dict(), folder / "weights.safetensors")

# %% [markdown]
# ### Load a checkpoint without running it
#
# A checkpoint of PyTorch is often a *pickle*, that is, a file that can run any program when it is opened. Whoever opens the
# checkpoint of a stranger in the usual way trusts the stranger with the computer. Files in the format **safetensors**
# hold numbers and nothing else. `own.load_network` takes both kinds, but refuses whatever is more than weights. Let us save the
# whole network, as many tutorials do it, and see:

# %%
torch.save(own.load_network("torch.nn:Identity"), folder / "whole.pt")
try:
    own.load_network("torch.nn:Identity", folder / "whole.pt")
except ValueError as reason:
    print(str(reason).replace(str(folder), "..."))

# %% [markdown]
# The message says what to write where the network was trained. (The file with the *code* of a network is run, of course. Read it
# first if it is a stranger's.) With weights alone, the network is loaded:

# %%
built_by = network or f"{folder}/my_network.py:build"
weights = checkpoint or ("" if network else folder / "weights.safetensors")
loaded = own.load_network(built_by, weights)
print(sum(p.numel() for p in loaded.parameters()), "numbers in", type(loaded).__name__)

# %% [markdown]
# ### What your network returns
#
# The methods of this book need the **logits** of a network, that is, its values before the softmax. Your network may return something
# else. A softmax at the end is common, for example, and a second softmax over probabilities gives no error: it makes
# every pixel look uncertain. We put one behind our network, to see what happens.

# %%
with_softmax = torch.nn.Sequential(loaded, torch.nn.Softmax(dim=1)).eval()
try:
    SoftDiceConfidence().fit(with_softmax, train)
except ValueError as reason:
    print(reason)

# %% [markdown]
# The network is refused, and the message ends with the line to write. The function `adapt` puts a module around a network that
# turns its output into logits. It can also mend the input, for example pad an image whose sides the network cannot halve often
# enough (`pad_to`); see [Your own network](../networks.md). The parameter `output` of this notebook says what your network returns:
#
# | `output` | what the network returns |
# |---|---|
# | `auto`, `logits` | logits, alone or among other outputs |
# | `probabilities` | values after a softmax, or of a single channel after a sigmoid |
# | `sigmoid` | a single channel *before* the sigmoid; it becomes the logits of two classes |
# | `upsampled` | logits at a lower resolution than the image (a whole fraction of it), which are interpolated |
#
# Does it work? After `adapt`, the network with the softmax behind it must have the same probabilities as the one without.

# %%
model = adapt(loaded, output, pad_to=8).to(pick_device())
mended = adapt(with_softmax, "probabilities", pad_to=8).to(pick_device())
few = test.images[:6]
apart = predict_probabilities(model, few) - predict_probabilities(mended, few)
print(f"largest difference of probabilities: {apart.abs().max():.0e}")

# %% [markdown]
# ### What is inside?
#
# Some methods read an activation inside the network, and therefore need the name of a module. In a network of somebody else, you do
# not know these names. The function `probe`, or the command `segconf probe`, runs the network once, and proposes
# modules by the sizes of their outputs. It prints one line per method: what to write, or why this network does not allow it.

# %%
height_and_width = whole.images.shape[2:]
inside = probe(model, height_and_width, channels=whole.images.shape[1])
print(*inside.arguments().values(), sep="\n")

# %% [markdown]
# Below, we need the first line only. It names the **bottleneck**, the last module at the lowest resolution. Look at a proposal
# before you use it: `probe` can name a bottleneck where there is none.
#
# :::{admonition} For the researcher: what this network does not allow
# :class: dropdown
# The last line refuses dropout (chapter 2), because without a dropout layer there is nothing to switch on. The line
# `FragilityMap` (chapter 5) asks for a search: the last layer is no convolution of size 1 × 1, so the fragility of a pixel has no
# closed form.
# :::
#
# So to use a network from elsewhere, you need its code and its weights, and you must know what it returns. Some methods also need
# the name of a module.
#
# ## Images and a network: three methods and a bound
#
# Now we have a folder and a network. How far can its segmentations be trusted on patients that it has not seen? We take three
# methods, which need nothing but one forward pass per image:
#
# * The **soft Dice confidence** estimates the Dice. It is the Dice between the probabilities and their own prediction.
# * The **entropy over the predicted foreground** says how undecided the probabilities are where something is predicted.
# * The **distance** (Mahalanobis distance of the bottleneck) says how far the activations are from those of the training slices. It
#   therefore needs the training images as well.
#
# Chapter 10 compares them with many others.

# %%
deep = inside.named("bottleneck")  # None where the network has none
alarm = "distance" if deep else "entropy, foreground"
methods = {
    "soft Dice": SoftDiceConfidence(),
    "entropy, foreground": PredictiveEntropy(region="foreground"),
}
if deep:
    methods["distance"] = PooledMahalanobis(module=deep, pooling="published")

# %%
with warnings.catch_warnings(record=True) as messages:
    warnings.simplefilter("always")
    for method in methods.values():
        method.fit(model, train)
print(*(str(each.message) for each in messages), sep="\n")

# %% [markdown]
# The message comes from the distance. It describes a slice by more numbers than there are training slices, so its covariance rests on an
# assumption, the *shrinkage* of chapter 3.
#
# Now one table is made of all slices with their true Dice, for the calibration patients (`old`) and for the new ones (`cases`).
# A slice without any object in reference and prediction has no Dice, and is left out.


# %%
def look_at(part):
    probabilities = predict_probabilities(model, part.images)
    table = ev.case_table(probabilities, part, empty="skip")
    for name, method in methods.items():
        table[name] = to_numpy(method.uncertainty(part.images))
    return table.dropna(subset="quality")


old, cases = look_at(calibration), look_at(new)

# %% [markdown]
# ### From a confidence to a bound
#
# Which Dice can be promised for a new slice? The entropy and the distance can rank slices, but nobody knows what an entropy of 0.2
# means for a patient. The soft Dice confidence is on the scale of the Dice. So on the calibration patients we can ask by how much
# it exceeds the true Dice, and subtract that much from now on.
#
# For example, take these differences of nine patients, sorted:
# −0.05, −0.02, 0.00, 0.01, 0.03, 0.04, 0.06, 0.08, 0.15. For a promise of nine in ten, nine patients are just enough, and the
# *margin* is the largest difference, 0.15. A new slice with a confidence of 0.90 gets the lower bound 0.90 − 0.15 = 0.75.
# With more patients, the margin is a quantile of the differences (the conformal quantile of chapter 9).
#
# We take **one slice per patient**, because slices of one patient resemble each other. Then this is promised: for a new patient
# *of the training scanner*, the Dice of a random slice is at or above the bound with a probability of at least `level`, here nine in
# ten.
#
# In the code, the function `with_bound` gives the cases of one scanner their bound, and keeps the warning, if there is one.
#
# **Predict:** on which of the scanners is the promise kept: on A, on B (nearly A), on D (everything is worse), on F (fat is
# suppressed)?

# %%
one_each = old.sample(frac=1, random_state=seed).drop_duplicates("subject")
enough = len(one_each) >= ev.smallest_calibration_size(level)
print(
    len(one_each), "calibration patients; needed:", ev.smallest_calibration_size(level)
)


# %%
old_stated, old_true = 1 - one_each["soft Dice"], one_each["quality"]


def with_bound(part):
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        now = 1 - part["soft Dice"]
        found = ev.quality_lower_bound(old_stated, old_true, now, level=level)
    return part.assign(
        bound=found.bound, warning="".join(str(w.message) for w in messages)
    )


# %%
cases = cases.assign(bound=np.nan, warning="")
if enough:
    each = [with_bound(part) for _, part in cases.groupby("domain", sort=False)]
    cases = pd.concat(each)
for name, part in cases.groupby("domain", sort=False):
    message = part["warning"].iloc[0] or ("no warning" if enough else "no bound")
    print(f"{name}: {message}\n")

# %% [markdown]
# The output above has one line per scanner. The promise was made for patients of the training scanner. How can a program find out,
# without references, that D is another one? It compares the soft Dice confidences of the new cases with those of the calibration.
# If the two sets of numbers differ too much, it warns. Then the bound promises nothing, because old and new cases are taken as
# not *exchangeable* (chapter 9).
#
# :::{admonition} For the researcher: when does it warn?
# :class: dropdown
# The two sets are compared by the two-sample Kolmogorov-Smirnov test, which compares distributions. The warning comes where
# the p-value is below one in a thousand.
# :::
#
# Was the warning right? Because we know the truth, we can count. In the next table, compare *true Dice* with *stated Dice* (the soft
# Dice confidence), and *kept* with the promise of nine in ten. The last two columns are alarms that need no reference. The warning is
# that of the bound. A slice is *flagged* if its distance exceeds a limit that few calibration slices exceed.

# %% tags=["hide-input"]
limit = np.quantile(old[alarm], 0.95)
cases["warned"] = cases["warning"] != ""
cases["kept"] = (cases["quality"] >= cases["bound"]).where(cases["bound"].notna())
cases["flagged"] = cases[alarm] > limit
cases["stated Dice"] = 1 - cases["soft Dice"]
columns = ["quality", "stated Dice", "kept", "warned", "flagged"]
by_scanner = cases.groupby("domain", sort=False)[columns].mean().astype(float)
by_scanner.rename_axis("scanner").rename(columns={"quality": "true Dice"}).round(2)

# %% [markdown]
# *Per scanner, on patients that the network has not seen: mean true Dice, mean soft Dice confidence, fraction of the slices
# whose Dice is at or above the bound (promised: nine in ten), whether the bound was given with a warning (1) or without (0), and fraction whose distance
# exceeds that of 95 % of the calibration slices. One run.*

# %% tags=["hide-input"]
show.scatter(
    cases,
    x="stated Dice",
    y="quality",
    by="domain",
    axes=("soft Dice confidence", "true Dice (higher is better)"),
    diagonal="stated = true",
    alt="True Dice against the soft Dice confidence per slice, by scanner, with the diagonal.",
)

# %% [markdown]
# *One point per slice of the test. Below the diagonal, the network states more than it reaches.*

# %% tags=["hide-input"]
show.boxes(
    cases.assign(method=alarm),
    y=alarm,
    by="method",
    axis=f"{alarm} (higher is less like the training slices)",
    alt="Boxes of the Mahalanobis distance per slice, one box per scanner.",
)

# %% [markdown]
# *Mahalanobis distance of the bottleneck activation, one box per scanner; the solid line in a box is the
# median, the dotted one the mean.*

# %% [markdown]
# Was your prediction right? Read the table row by row; it is that of a single run.
#
# * **A:** the bound is kept for at least as many slices as promised, and there is no warning. Few distances
#   exceed their limit.
# * **B:** the bound is kept for nearly as many slices as promised, and yet there is a warning. The warning says that nothing is
#   promised, and not that the bound is wrong.
# * **D and F:** on average, the network states more than it reaches, and the bound is broken for most slices. The warning comes on both. The
#   *distance* flags D, but it overlooks F, where few distances exceed the limit.
#
# So in this run the promise is kept where it was made, on A, and the two alarms do not always agree. An alarm that is silent is no
# proof that all is well. Use both alarms, and above all look at some images of each new scanner.
#
# :::{admonition} For the researcher: in chapter 3, the distance did flag F
# :class: dropdown
# There, over [ten](evidence:distance-flags-every-foreign-scanner/seeds) runs, the same kind of distance flagged
# [nearly every slice of F](evidence:distance-flags-every-foreign-scanner/F?holds). But the network
# was another one, and so were its bottleneck and the threshold. We have not tested
# which of these made the difference.
# :::
#
# ## Nothing but stored predictions
#
# What can you do without the network? Suppose a colleague sends a folder in which nnU-Net has stored two files for each case: the
# segmentation (`CASE.nii.gz`), and the probability of each class in each voxel (`CASE.npz`; the option of nnU-Net is
# `--save_probabilities`). We write such a folder, `predictions`, with the predictions of our network, for the calibration patients
# and for the new ones.
#
# A clinic may have more: the images of these cases (in `asked`), references of the calibration patients only (in `known`), and the
# training images (in `source`). The references of the new cases lie in `asked`, too, but are used only at the end.

# %%
stored, asked = folder / "predictions", Cohort.concatenate([calibration, new])
own.write_predictions(stored, asked, predict_probabilities(model, asked.images))
own.write_nnunet(folder / "asked", asked, end="Ts")  # images and references of all
own.write_nnunet(folder / "known", calibration)  # references that we admit to have
own.write_nnunet(folder / "source", train)
print(*(path.name for path in sorted(stored.iterdir())[:5]), sep="\n")

# %% [markdown]
# The function `from_predictions` reads the folder. If you have set `predictions`, yours is read from here on. The names of
# scanners are found by a pattern, as above, or by a function of the name of the case.

# %% tags=["hide-input"]
names = map(own.case_name, asked.sessions)
of_case = dict(zip(names, asked.domains, strict=True))
if predictions:
    options = {"references": references or None}
    options["domain"] = re.compile(domain) if domain else None
else:
    options = {"images": folder / "asked/imagesTs", "domain": of_case.get}
    options["references"] = folder / "known/labelsTr"
found = from_predictions(predictions or stored, **options)
print(len(found), "cases;", *found.class_names, sep=" ")

# %% [markdown]
# The soft Dice confidence and the entropy need the probabilities only. So the numbers must be those that we had with the
# network. Are they?

# %%
one = from_predictions(stored).read(own.case_name(new.sessions[0]))
here = predict_probabilities(model, new.where(session=new.sessions[0]).images)
from_files = to_numpy(soft_dice_confidence(one.slices))
from_network = to_numpy(soft_dice_confidence(here))
differs = float(np.abs(from_files - from_network).max())
print(f"{one.name}: {len(from_files)} slices, largest difference {differs:.0e}")

# %% [markdown]
# They are the same, because the folder stores the probabilities in single precision, as they were. Without the
# network, you lose every method that looks inside it or runs it again. But you keep the soft Dice confidence. On the phantom
# of chapter 10, its eAURC is [near that of the best](evidence:soft-dice-is-near-the-best-one-pass?holds) of four methods of one
# pass.
#
# ## Which cases should a person look at?
#
# You have an hour, which is enough for a few of the volumes. Which ones? The function `review_predictions`, or the command
# `segconf review`, ranks the volumes by their soft Dice confidence, the least confident first. It also gives reasons to look at a
# volume, and writes all of this into one page. It knows the references of the calibration patients only, and the training images.

# %%
training = None if predictions else folder / "source/imagesTr"
reviewed = review_predictions(found, training=training, level=level)
page = Path(report).expanduser() if report else folder / "review.html"
table_of_cases = write_page(reviewed, page)
print(
    f"{page.name}: {page.stat().st_size / 1e6:.1f} MB; {table_of_cases.name} beside it"
)
first = reviewed.cases[reviewed.cases["quality"].isna()].head(6)

# %% tags=["hide-input"]
why = first.assign(**{"first reason": first["reasons"].str.split("; ").str[0]})
why[["rank", "case", "soft Dice", "lower_bound", "first reason"]].round(2)

# %% [markdown]
# *The first six cases without a reference: their rank among all cases, the uncertainty that ranks them (1 − soft Dice
# confidence of the volume), the lower bound of their Dice (explained below), and the first reason to look. A reason that begins with "lowest" or
# "contrast" compares the intensities of the image with those of the training images.*
#
# The page lists all reasons. Set `report` to keep it. It is one file that you can print, or mail to a colleague. But it
# shows images of your cases, so ask first whether these may leave your hospital. Here are the cases that it puts first.
#
# **Predict before you read on:** which of the segmentations below are wrong?


# %% tags=["hide-input"]
def tiles(names, predictions_of=found):
    """Image, prediction, and the name of each case, in the slice with most foreground."""
    for name in names:
        case = predictions_of.read(name)
        k = int((case.labels > 0).sum(axis=(1, 2)).argmax())
        image = case.image if case.image is not None else case.probabilities[1:].sum(0)
        reference = case.reference[k] if case.reference is not None else None
        yield np.asarray(image[k], float), case.labels[k], reference


# %% tags=["hide-input"]
shown = first["case"].tolist() or reviewed.cases["case"].head(6).tolist()
pictures = list(tiles(shown))
show.picture_grid(
    [[image for image, _, _ in pictures]],
    [[labels for _, labels, _ in pictures]],
    column_titles=shown,
    class_names=found.class_names,
    alt="The first cases of the review page, one slice each, with the predicted borders.",
)

# %% [markdown]
# *The slice with most predicted foreground of the first cases of the review page; lines are predicted borders.*
#
# ### Was it right?
#
# A clinic cannot know. We can, because the phantom has references for all cases. First, the next figure has the true borders on
# the same slices. Compare it with the figure above: where the borders clearly differ, the segmentation is wrong. Did you
# pick these slices?

# %% tags=["hide-input"]
all_known = references if predictions else folder / "asked/labelsTs"
truth = from_predictions(
    predictions or stored, **{**options, "references": all_known or None}
)
pictures = list(tiles(shown, truth))
show.picture_grid(
    [[image for image, _, _ in pictures]],
    [[reference for _, _, reference in pictures]],
    column_titles=shown,
    class_names=found.class_names,
    alt="The same slices with the borders of the reference segmentations.",
)

# %% [markdown]
# *The same slices; lines are the borders of the reference segmentations.*
#
# ### Is the order good?
#
# Now we take all new volumes. Say that you have time for one tenth of them. How many of the worst tenth (those with the lowest Dice)
# do you find, if you read the first tenth of the page's order? Two simple rivals take part. One is the size of the prediction, small
# ones first. The other is a random order, which finds a tenth of the worst tenth on average.

# %%
asked_for = reviewed.cases["quality"].isna() | bool(predictions)
measured = volume_table(truth)
measured["quality"] = measured.get("quality", np.nan)
judged = measured[measured["case"].isin(reviewed.cases.loc[asked_for, "case"])]
judged = judged.dropna(subset="quality").copy()
budget = max(1, len(judged) // 10)
print(f"{len(judged)} new volumes with a reference, of which {budget} are read")

# %% tags=["hide-input"]
found_by = {}
if len(judged):
    first_of = judged["soft Dice"].fillna(2)  # where nothing is predicted: first
    judged["soft Dice confidence"] = first_of
    worst = set(judged.nsmallest(budget, "quality")["case"])
    for name in ("soft Dice confidence", "small prediction"):
        read = set(judged.nlargest(budget, name)["case"])
        found_by[name] = len(worst & read)
    found_by["random order"] = budget**2 / len(judged)
pd.Series(found_by, name=f"of the worst {budget}, found", dtype=float).to_frame().round(
    1
)

# %% [markdown]
# *Number of volumes that are among the tenth with the lowest Dice and also among the first tenth of an order; one run.*
#
# The order of the page needs no references, and in this run it finds more of the worst volumes than a random order would. But so
# does the order by size, so compare the two before you praise one.
#
# ### Is the bound kept?
#
# The page has a lower bound for each volume, calibrated anew on the whole volumes of the calibration patients. If the true
# Dice of nearly all of them exceeds the stated one, the margin is negative, and a bound lies above the stated Dice. As above, compare
# *bound kept* with nine in ten:

# %% tags=["hide-input"]
bounds = reviewed.cases.set_index("case")["lower_bound"]
if len(judged):
    judged["bound"] = judged["case"].map(bounds)
    judged["bound kept"] = (judged["quality"] >= judged["bound"]).where(
        judged["bound"].notna()
    )
    columns = ["quality", "bound", "bound kept"]
    means = judged.groupby("domain", sort=False)[columns].mean()
    overview = means.astype(float).round(2)
else:
    overview = reviewed.groups
overview

# %% [markdown]
# *Per scanner, over the new volumes: mean true Dice, mean lower bound, and fraction of the volumes whose Dice is at or above its
# bound. One run; a row rests on about twenty patients. Without references, the groups of the page are shown.*
#
# The bound was calibrated on scanner A. In this run it is kept less often than promised on B, and not once on D and F. The page cannot
# mend this; it prints the warning instead.
#
# What if you need a bound on another scanner? Segment cases of at least nine of its patients by hand, and calibrate on them alone.
# For a bound on slices, one random slice of each patient is enough; for a bound on volumes, segment whole volumes. Chapter 9 shows
# what it costs to calibrate on so few.
#
# So the page gives an order on any scanner, but what it promises about the Dice is a promise for the scanner of the
# calibration only.
#
# ## Now with your own data
#
# How do you do this with your own files? Find what you have below. The command `segconf run` runs this notebook without opening
# it, and writes an executed copy below `_build/runs`. Names of files and folders must be whole paths, because a notebook works in a
# folder of its own.
#
# **You have M&Ms-2 on disk, and a network in a checkpoint.** The file `my_network.py` has a function `build` without arguments that
# returns the network. The name of the scanner is that of the column `SCANNER` in the table of the data set.
#
# ```bash
# segconf run 12 -p cohort mnms2 -p root /data/mnms2 \
#   -p network /home/me/my_network.py:build -p checkpoint /home/me/weights.pt \
#   -p source_domain "SymphonyTim" -p report /home/me/review.html
# ```
#
# The images must be prepared as in the training of your network. For example, if it learned from slices of 256 pixels of 1 mm, add
# `-p reading '{"size": 256, "spacing_mm": 1.0}'`. Begin with a few cases, for example `-p reading '{"limit": 5, "whole": false}'`.
# Without `network`, the small network of this chapter is trained on your images.
#
# **You have nothing but predictions of nnU-Net.** The first command is enough, and needs no notebook. The second does the same with
# this chapter's checks:
#
# ```bash
# segconf review --predictions /data/predictions --out review.html
# segconf run 12 -p predictions /data/predictions -p references /data/labelsTs
# ```
#
# :::{admonition} Other cases: Colab, images without a layout, the data of a paper
# :class: dropdown
# **You have Colab.** Put `my_network.py`, the weights and a zip file with the images into the panel *Files*, unpack it in a cell with
# `!unzip images.zip -d /content/images`, and fill the form of the second cell: `cohort` is `folder`, `root` is
# `/content/images`, `network` is `/content/my_network.py:build`. Do not upload images of patients that must not leave your
# hospital; everything here also runs without a connection.
#
# **Your images have no layout at all.** Write a table `files.csv` with the columns `image`, `label`, `subject` and, if you like, `domain`
# into the folder, and set `cohort` to `folder`. The page [Research cohorts](../cohorts.md) has two such tables as recipes of ten lines.
#
# **You want to repeat the experiments of a paper on its data.** Chapters 2, 3 and 4 have the parameters `cohort`, `root`, `domain`,
# `reading` and `source_domain`, too, and train their network on one scanner of your images: see
# [Research cohorts](../cohorts.md).
# :::
#
# Whatever you have, five questions come before you believe a number:
#
# | before you believe a number, ask | where you see it |
# |---|---|
# | Does each patient have one name? | `subjects` in the report on the folder |
# | Were the training patients of the network kept out of calibration and test? | nowhere: only you know |
# | Are the classes in the order that the network was trained with? | the Dice per class, and the images |
# | Are the intensities prepared as in the training? | `normalise` in `reading`, and `normalise` of `adapt` |
# | Do new cases come from the scanner of the calibration? | the warning of the bound, and the distance |
#
# ## What to take home
#
# * Describe a folder before you read it. What no program can find, such as exchanged classes, you have to look for yourself.
# * Load weights, not programs. If your network returns something else than logits, adapt it; do not guess what it returns.
# * With images and a network, most methods of this book are at hand. With stored probabilities alone, the soft Dice
#   confidence and the entropies still are.
# * A bound is a promise about new patients of the scanner on which it was calibrated. Read the warning and the distance before you
#   read the bound, and look at images: in this run, the distance overlooked scanner F.

# %% [markdown] tags=["exercise"]
# ## Exercises with a check
#
# Each exercise has hints, and a check that says what is wrong with a solution. Write or change what is asked for, and
# then run the check. In the book, the solution is folded below the exercise. In the notebooks for students, which
# `make editions` writes, a blank stands in its place.

# %% tags=["exercise", "hide-input"]
import numpy as np

from segconf_lite import exercises

# %% [markdown] tags=["exercise"]
# ### Exercise 1: write the two classes of a single channel
#
# A colleague's network returns a single channel $z$ before the sigmoid, where $z > 0$ means *object*. Write a function of an array
# (N, 1, H, W) of such values that returns the probabilities (N, 2, H, W) of background and object.
#
# :::{admonition} Hint 1
# :class: dropdown
# The sigmoid of $z$, $1 / (1 + e^{-z})$, is the probability of the object. The two probabilities of a pixel sum to 1.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# `np.concatenate([a, b], axis=1)` puts two arrays behind each other along the axis of the classes. Which class comes first in
# this book?
# :::


# %% tags=["hide-input", "solution"]
def my_two_classes(z):
    p = 1 / (1 + np.exp(-z))
    return np.concatenate([1 - p, p], axis=1)


# %% tags=["check"]
exercises.check_two_classes(my_two_classes)

# %% [markdown] tags=["exercise"]
# ### Exercise 2: write the draw of the calibration slices
#
# Write a function of the patient of each slice (an array of N names) and of a generator `rng`. It returns the indices of one
# random slice of each patient.
#
# :::{admonition} Hint 1
# :class: dropdown
# `np.unique(patients)` has each patient once, and `np.flatnonzero(patients == one)` are the slices of one of them.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# `rng.choice(indices)` draws one of several indices. The first slice of each patient would be quicker to write, but of which
# slices would a bound speak that was calibrated on it?
# :::


# %% tags=["hide-input", "solution"]
def my_one_per_patient(patients, rng):
    people = np.unique(patients)
    return [rng.choice(np.flatnonzero(patients == one)) for one in people]


# %% tags=["check"]
exercises.check_one_per_patient(my_one_per_patient)

# %% [markdown] tags=["exercise"]
# ### Exercise 3: change the pattern
#
# The pattern of this chapter, `\b([A-F])_\d`, finds a letter. (`\d` is a digit, and `\b` is the edge of a word.) Another folder comes from several hospitals, whose names stand at the
# beginning of the file's name, before the patient and the phase: `imagesTr/south-east_p12_ED_0000.nii.gz`. Change the pattern, so
# that its group is the hospital. `exercises.HOSPITALS` has four names of files to try it on.
#
# :::{admonition} Hint 1
# :class: dropdown
# `[^/_]+` means one or more characters, none of which is a slash or an underscore.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# The hospital stands between the slash and the first underscore.
# :::

# %% tags=["hide-input", "solution"]
my_pattern = r"/([^/_]+)_p\d+"

# %% tags=["check"]
exercises.check_pattern(my_pattern)

# %% [markdown] tags=["exercise"]
# ### Exercise 4: break a folder so that nobody sees it
#
# Exchanged ventricles were not found. Invent another fault of the reference segmentations, or the same one in a worse form. Write a function of
# the labels (six slices, rows, columns; classes 0 to 3) that returns others of the same shape. The report on the folder must find nothing,
# and the mean Dice with the right labels must be below 0.5. (A case without any foreground is found.) How far down do you get?
#
# :::{admonition} Hint 1
# :class: dropdown
# Think of a fault that a program makes, and not a person: the axes of an array, the order of its slices, the numbers of the classes.
# :::
#
# :::{admonition} Hint 2
# :class: dropdown
# The heart is not in the middle of the image from left to right. What does `labels[..., ::-1]` do?
# :::


# %% tags=["hide-input", "solution"]
def my_silent_fault(labels):
    exchanged = np.array([0, 2, 3, 1])[labels]
    return exchanged[:, ::-1, ::-1]


# %% tags=["check"]
exercises.check_silent_fault(my_silent_fault)

# %% [markdown]
# ## Limits
#
# * The hearts are simulated and so are their files. None of the readers of research cohorts was run on the real files of a data set
#   ([Research cohorts](../cohorts.md)); the tests run this chapter's functions on miniatures of their layouts.
# * The numbers of this chapter are those of a single run with one seed, on a few patients per scanner. They are examples of what you
#   will see, and no evidence for a method; that is in chapters 2 to 11.
# * Networks and cohorts are handled in slices. The review page handles volumes, but the distance to the next slice is not known
#   after reading, and the millilitres that are computed from our own export assume 10 mm.
# * Everything that is read is kept in memory. For a large data set, begin with `limit`.
# * Region-based networks, whose classes overlap, have no softmax, and are refused.

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    print("four of five faults are found:", len(faults) == 4)
    print("case 5 is not among them:", not any("A_0005" in text for text in faults))
    print("labels come back as written:", bool((again.labels == written.labels).all()))
    print("predictions from files are those of the network:", differs < 1e-5)
    print("an adapted softmax is the network:", bool(apart.abs().max() < 1e-4))
    warned = by_scanner["warned"].eq(1)
    print("warned of B, D and F, not of A:", list(warned) == [False, True, True, True])
    broken_on = by_scanner.loc[["D", "F"], "kept"].max() < 0.5
    print("the bound is broken on most slices of D and F:", bool(broken_on))
    high, low = by_scanner["flagged"][["D", "F"]]
    print("the distance flags D, and overlooks F:", bool(high > 0.9 and low < 0.3))
    print("every new volume has a bound:", bool(judged["bound"].notna().all()))

# %% tags=["remove-cell"]
# FACTS
if as_in_book:
    more = by_scanner["stated Dice"] - by_scanner["quality"]
    print("D and F state more than they reach:", bool((more[["D", "F"]] > 0).all()))
    on_b = by_scanner.loc["B", "kept"]
    print("the bound is nearly kept on B:", bool(level - 0.1 < on_b < level))
    chance = found_by["random order"]
    both = found_by["soft Dice confidence"], found_by["small prediction"]
    print("both orders find more than a random one:", min(both) > 2 * chance)
    kept = overview["bound kept"]
    print("volumes of B keep it less often:", bool(kept["B"] < level - 0.05))
    print("no volume of D and F keeps it:", bool((kept[["D", "F"]] == 0).all()))
    rows = judged["domain"].value_counts()
    print("about twenty patients in a row:", bool(rows.between(15, 25).all()))
