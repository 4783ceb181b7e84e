"""A small network that was trained a little, and what it learned from. Tests leave both as they are."""

import pytest

from segconf_lite.cohorts import phantom
from segconf_lite.models import fit_unet


@pytest.fixture(scope="session")
def train():
    return phantom.cohort(24, size=32)


@pytest.fixture(scope="session")
def unet(train):
    return fit_unet(train, validation=train, steps=60, channels=(4, 6, 8), batch_size=12, seed=0)
