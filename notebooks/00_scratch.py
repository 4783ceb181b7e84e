# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Scratch
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/segconf-lite/segconf_lite/blob/main/notebooks/00_scratch.ipynb)
#
# **Time:** about 0.5 min on 2 CPU cores (`profile="lite"`). See {cite:t}`lennartz2023distortion`.

# %% tags=["parameters"]
seed = 0
n = 5
name = "lite"

# %%
import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

# %% [markdown]
# Some maths, $a^2 + b^2 = c^2$, and
#
# $$\mathrm{SD} = \frac{1}{nC}\sum_{i,c} (p_{ic} - \hat p_{ic})^2$$ (eq-sd)
#
# See {eq}`eq-sd`.

# %%
x = np.linspace(0, 6, 100)
fig = make_subplots(1, 3, subplot_titles=["Scanner A, the source of the network", "Scanner B", "Scanner C"])
for i in range(3):
    fig.add_heatmap(z=np.outer(np.sin(x), np.cos(i * x)), row=1, col=1 + i, showscale=False)
fig.update_layout(meta={"alt": "Three waves"}, width=1100, height=350)
fig

# %%
go.Figure(go.Scatter(x=x, y=np.sin(x)), layout={"meta": {"alt": "A sine"}, "title": "Sine of x"})

# %%
slider = widgets.IntSlider(3)
out = widgets.Output()
widgets.VBox([slider, out])

# %%
import pandas as pd

pd.DataFrame(np.random.default_rng(seed).normal(size=(4, 14)), columns=[f"column {i}" for i in range(14)])

# %%
print("a" * 150)
print(seed, n, name)

