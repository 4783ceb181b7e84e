"""A small network and a cohort for it."""

import numpy as np
import pytest
import torch

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.unet import UNet


def _unet(seed=0, dropout=0.3, n_classes=3):
    """A small network with dropout; not trained, since laws hold for any weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet(n_classes=n_classes, channels=(4, 6, 8), dropout=dropout).eval()
        for parameter in unet.parameters():  # far from the almost constant answer of a fresh network
            parameter.data.add_(0.4 * torch.randn_like(parameter))
    return unet


@pytest.fixture
def make_unet():
    return _unet


@pytest.fixture
def cohort():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (6, 16, 16))
    return Cohort(
        images=rng.normal(size=(6, 1, 16, 16)).astype(np.float32),
        labels=labels,
        domains=np.repeat("A", 6),
        subjects=np.array([f"s{k // 2}" for k in range(6)]),
        spacing_mm=np.tile([2.0, 1.0], (6, 1)),
        class_names=("background", "one", "two"),
    )
