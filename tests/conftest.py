"""A small network and a cohort for it; and ``--pretend-device``, which runs the tests as on a GPU."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models import device
from segconf_lite.models.unet import UNet


def pytest_addoption(parser):
    parser.addoption(
        "--pretend-device", action="store_true", help='networks go to a pretended GPU, where "auto" picks one'
    )


def pytest_configure(config):
    """With ``--pretend-device``, `pick_device` finds a device that refuses what a GPU refuses."""
    config.addinivalue_line(
        "markers", "not_on_the_pretended_device(reason): what the pretended device cannot do"
    )
    if not config.getoption("--pretend-device"):
        return
    path = Path(__file__).with_name("pretend_device.py")
    spec = importlib.util.spec_from_file_location("pretend_device", path)
    pretend_device = sys.modules["pretend_device"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pretend_device)
    if not pretend_device.available:
        pytest.exit(f"torch {torch.__version__} has no hooks for a device written in Python", returncode=0)
    config.pretend_device = pretend_device.PretendDevice()
    device.PREFERRED = (pretend_device.NAME,)


def pytest_collection_modifyitems(config, items):
    for item in items if config.getoption("--pretend-device") else []:
        mark = item.get_closest_marker("not_on_the_pretended_device")
        if mark:
            item.add_marker(pytest.mark.skip(reason=mark.kwargs["reason"]))


@pytest.fixture(scope="session", autouse=True)
def _device_of_the_session(request):
    # On a GPU, laws are tested in the precision in which they are stated.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if not request.config.getoption("--pretend-device"):
        yield
        return
    with request.config.pretend_device:
        yield


def _unet(seed=0, dropout=0.3, n_classes=3):
    """A small network with dropout; not trained, since laws hold for any weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet(n_classes=n_classes, channels=(4, 6, 8), dropout=dropout).eval()
        for parameter in unet.parameters():  # far from the almost constant answer of a fresh network
            parameter.data.add_(0.4 * torch.randn_like(parameter))
    return unet.to(device.pick_device())


@pytest.fixture
def assert_repeats():
    """Two trainings of one seed: equal to the last bit on a CPU, close on a GPU, where sums have no order."""

    def check(first, second):
        for one, other in zip(first, second, strict=True):
            if one.is_cuda:
                torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
            else:
                assert torch.equal(one, other)

    return check


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
