"""A larger cohort, and networks that are not ours."""

import dataclasses

import pytest


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
