"""A small network with dropout and a cohort for it; not trained, since laws hold for any weights."""

import dataclasses

import numpy as np
import pytest
import torch

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.unet import UNet


def _unet(seed=0, dropout=0.3, n_classes=3):
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


@pytest.fixture
def large_cohort(cohort):
    """The same cases tiled to sides that networks of four halvings take."""
    return dataclasses.replace(
        cohort, images=cohort.images.repeat(2, 2).repeat(2, 3), labels=cohort.labels.repeat(2, 1).repeat(2, 2)
    )


@pytest.fixture
def monai_networks():
    """Networks that are not ours, each with the name of its narrowest module."""
    from monai.networks.nets import AttentionUnet, BasicUNet
    from monai.networks.nets import UNet as MonaiUNet

    options = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    return [
        (MonaiUNet(**options, channels=(4, 8, 16), strides=(2, 2)), "model.1.submodule.1.submodule"),
        (BasicUNet(**options, features=(4, 4, 8, 8, 16, 4)), "down_4"),
        (AttentionUnet(**options, channels=(4, 8, 16), strides=(2, 2)), "model.1.submodule.1.submodule"),
    ]
